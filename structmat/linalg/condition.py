"""The condition number: how much a relative error of b may grow in the solution of A x = b.

    cond(A) = s_1 / s_n,  the ratio of the extreme singular values

which is 1 for a unitary matrix, multiplies in Kronecker products, and is at hand where the
singular values are known by structure. Otherwise it takes the singular values of the dense matrix
while that is small; beyond, where systems with A are solved by structure, an estimate by Lanczos
iterations with A and with its inverse; and it says so.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Literal, overload

from torch import Tensor

from structmat.compose import Kronecker, Scaled, Transpose
from structmat.linalg.answer import Answer, like, name, not_an_operator, spread
from structmat.linalg.arpack import largest
from structmat.linalg.implicit import need_finite
from structmat.linalg.inverse import Inverse
from structmat.linalg.plan import structured
from structmat.linalg.singular import svdvals_found, svdvals_of
from structmat.operator import LinearOperator

__all__ = ["cond", "cond_of"]

SMALL = 512
"""Up to this least side the condition number of a matrix without structure is a dense SVD's."""


@overload
def cond(A: LinearOperator, *, return_method: Literal[False] = ...) -> Tensor: ...
@overload
def cond(A: LinearOperator, *, return_method: Literal[True]) -> Answer[Tensor]: ...
def cond(A: LinearOperator, *, return_method: bool = False) -> Tensor | Answer[Tensor]:
    """The 2-norm condition number: infinity for a singular matrix.

    Args:
        A: operator, m x n.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Real tensor of shape batch_shape, as ``torch.linalg.cond``; 1 for an empty matrix.

    Raises:
        TypeError: A is no operator.

    Example:
        >>> import torch, structmat as sm
        >>> sm.cond(sm.kron(sm.Haar(1024), sm.Diagonal(torch.tensor([1.0, -4.0]))))
        tensor(4.)
    """
    if not isinstance(A, LinearOperator):
        not_an_operator("cond", A)
    A._require_numbers()
    need_finite("cond", A)
    to = like(A)
    found = Answer(to.new_ones(()).abs(), "empty") if 0 in A.shape else cond_of(A, to)
    found = Answer(spread(found.value, A, 0), found.method)
    return found if return_method else found.value


@singledispatch
def cond_of(op: LinearOperator, to: Tensor) -> Answer[Tensor]:
    """The rule behind :func:`cond`; register a class of your own for its structure."""
    if svdvals_of(op, to) is None and min(op.shape) > SMALL:
        how = structured(op) if op.shape[0] == op.shape[1] else None
        if how is not None and not how.densified and how.name != "none":
            ends = [largest("cond", a, 1).value[..., 0] for a in (op, Inverse(op))]
            method = f"estimate by Lanczos iterations with A and A^-1 ({how.name})"
            return Answer(ends[0] * ends[1], method)
    found = svdvals_found(op, to)
    ratio = found.value.amax(-1) / found.value.amin(-1)  # 0 / 0: a zero matrix is singular
    return Answer(ratio.nan_to_num(nan=float("inf"), posinf=float("inf")), found.method)


@cond_of.register
def _(op: Transpose, to: Tensor) -> Answer[Tensor]:
    return cond_of(op.children[0], to)


@cond_of.register
def _(op: Scaled, to: Tensor) -> Answer[Tensor]:
    if op.tensors or op.alpha == 0:
        return cond_of.dispatch(LinearOperator)(op, to)
    return cond_of(op.children[0], to)


@cond_of.register
def _(op: Kronecker, to: Tensor) -> Answer[Tensor]:
    if any(m != n for m, n in (c.shape for c in op.children)):
        return cond_of.dispatch(LinearOperator)(op, to)
    parts = [cond_of(c, to) for c in op.children]
    out = parts[0].value
    for p in parts[1:]:
        out = out * p.value
    return Answer(out, name("product of condition numbers", (p.method for p in parts)))
