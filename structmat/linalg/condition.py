"""The condition number: how much a relative error of b may grow in the solution of A x = b.

    cond(A) = |A| |A^-1|,  in the 2-norm s_1 / s_n, the ratio of the extreme singular values

In the 2-norm it is 1 for a unitary matrix, multiplies in Kronecker products, and is at hand where
the singular values are known by structure. Otherwise it takes the singular values of the dense
matrix while that is small; beyond, where systems with A are solved by structure, an estimate by
Lanczos iterations with A and with its inverse; and it says so. For other norms see
:mod:`structmat.linalg.norm` and :mod:`structmat.linalg.inverse_norm`.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any, Literal, overload

from torch import Tensor

from structmat.compose import Kronecker, Scaled, Transpose
from structmat.linalg.answer import Answer, like, name, need_square, not_an_operator, spread
from structmat.linalg.arpack import largest
from structmat.linalg.implicit import need_finite
from structmat.linalg.inverse import Inverse
from structmat.linalg.inverse_norm import exact_norm, inverse_norm
from structmat.linalg.plan import structured
from structmat.linalg.singular import svdvals_found, svdvals_of
from structmat.operator import LinearOperator
from structmat.tracing import whole

__all__ = ["cond", "cond_of"]

SMALL = 512
"""Up to this least side the condition number of a matrix without structure is a dense SVD's."""


ORDERS = (None, 2, 1, math.inf, "fro")


@overload
def cond(
    A: LinearOperator, p: str | float | None = ..., *, return_method: Literal[False] = ...
) -> Tensor: ...
@overload
def cond(
    A: LinearOperator, p: str | float | None = ..., *, return_method: Literal[True]
) -> Answer[Tensor]: ...
@whole
def cond(
    A: LinearOperator, p: str | float | None = None, *, return_method: bool = False
) -> Tensor | Answer[Tensor]:
    """The condition number: infinity for a singular matrix.

    Exact up to rounding where the structure or a small size allows. For large matrices whose
    systems are solved by structure, 2-norms come from Lanczos iterations, which approach the
    extreme singular values from inside, and 1- and inf-norms of the inverse from the estimate of
    Hager and Higham: both are lower bounds, and their method says "estimate". Values of the
    iterations have first derivatives only.

    Args:
        A: operator, m x n; square unless p is 2.
        p: of the norm: None or 2, 1, ``inf``, ``"fro"``.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Real tensor of shape batch_shape, as ``torch.linalg.cond``; 1 for an empty matrix.

    Raises:
        TypeError: A is no operator.
        ValueError: another p; A is not square and p is not 2.

    Source: ``scipy.sparse.linalg.onenormest``.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.kron(sm.Haar(1024), sm.Diagonal(torch.tensor([1.0, -4.0])))
        >>> sm.cond(A), sm.cond(sm.Circulant(torch.tensor([3.0, 1.0])), 1)
        (tensor(4.), tensor(2.))
    """
    if not isinstance(A, LinearOperator):
        not_an_operator("cond", A)
    A._require_numbers()
    if p not in ORDERS:
        raise ValueError(
            f"cond: p = {p!r} is none of None, 2, 1, inf, 'fro'; for others take the singular "
            "values, sm.svdvals(A)"
        )
    need_finite("cond", A)
    to = like(A)
    if p not in (None, 2):
        need_square("cond", A)
    if 0 in A.shape:
        found = Answer(to.new_ones(()).abs(), "empty")
    else:
        found = cond_of(A, to) if p in (None, 2) else _by_norms(A, p, to)
    found = Answer(spread(found.value, A, 0), found.method)
    return found if return_method else found.value


def _by_norms(A: LinearOperator, p: Any, to: Tensor) -> Answer[Tensor]:
    if A.dtype != to.dtype and A.strong_dtype is not None:
        A = A.to(to.dtype)  # inverses of 16 bits are too coarse
    one, other = exact_norm(A, p, to), inverse_norm(A, p, to)
    value = (one.value * other.value).nan_to_num(nan=math.inf, posinf=math.inf)
    return Answer(value, f"norms of A ({one.method}) and of its inverse ({other.method})")


@singledispatch
def cond_of(op: LinearOperator, to: Tensor) -> Answer[Tensor]:
    """The rule behind :func:`cond` for p = 2; register a class of your own for its structure."""
    if svdvals_of(op, to) is None and min(op.shape) > SMALL:
        how = structured(op) if op.shape[0] == op.shape[1] else None
        if how is not None and not how.densified and how.name != "none":
            ends = [largest("cond", a, 1).value[..., 0] for a in (op, Inverse(op))]
            method = f"estimate by Lanczos iterations with A and A^-1 ({how.name})"
            return Answer(ends[0] * ends[1], method)
    found = svdvals_found(op, to)
    ratio = found.value.amax(-1) / found.value.amin(-1)  # 0 / 0: a zero matrix is singular
    return Answer(ratio.nan_to_num(nan=math.inf, posinf=math.inf), found.method)


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
