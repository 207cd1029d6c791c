"""Norms by structure: Frobenius, largest column sum (1), largest row sum (inf), spectral (2).

Frobenius   :mod:`structmat.linalg.frobenius`
1, inf      :mod:`structmat.linalg.column_sums` of A, of A^T
2           the largest singular value where they are known (multiplicative in A (x) B),
otherwise of the dense matrix if it is small, or by a Lanczos iteration
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Literal, overload

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Scaled, Transpose
from structmat.linalg.answer import (
    Answer,
    like,
    multiplied,
    name,
    not_an_operator,
    spread,
)
from structmat.linalg.arpack import largest
from structmat.linalg.column_sums import largest_sum
from structmat.linalg.frobenius import frobenius_of
from structmat.linalg.singular import svdvals_found, svdvals_of
from structmat.linalg.structure import modulus
from structmat.operator import LinearOperator
from structmat.tracing import whole

__all__ = ["norm", "spectral_of"]

ORDERS = ("fro", 1, math.inf, 2)

SMALL = 512
"""Up to this least side the spectral norm of a matrix without structure is a dense SVD's."""


@overload
def norm(
    A: LinearOperator, ord: str | float = ..., *, return_method: Literal[False] = ...
) -> Tensor: ...
@overload
def norm(
    A: LinearOperator, ord: str | float = ..., *, return_method: Literal[True]
) -> Answer[Tensor]: ...
@whole
def norm(
    A: LinearOperator, ord: str | float = "fro", *, return_method: bool = False
) -> Tensor | Answer[Tensor]:
    """A norm of the matrix.

    Args:
        A: operator, m x n.
        ord: ``"fro"``, 1 (largest column sum), ``inf`` (largest row sum), or 2 (largest singular
            value).
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Real tensor of shape batch_shape, as ``torch.linalg.matrix_norm``; 0 for an empty matrix. A
        2-norm by iteration, as its method says, has a first derivative only.

    Raises:
        TypeError: A is no operator.
        ValueError: an unknown order.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.kron(sm.Dense(torch.tensor([[3.0, 4.0]])), sm.Hadamard(4))
        >>> sm.norm(A), sm.norm(A, 1), sm.norm(A, 2)
        (tensor(20.), tensor(16.), tensor(10.))
    """
    if not isinstance(A, LinearOperator):
        not_an_operator("norm", A)
    A._require_numbers()
    if ord not in ORDERS:
        raise ValueError(
            f"norm: ord {ord!r} is none of 'fro', 1, inf, 2; for others take the singular values, "
            "sm.svdvals(A)"
        )
    to = like(A)
    if 0 in A.shape:
        found = Answer(to.new_zeros(()).abs(), "empty")
    elif ord == "fro":
        found = frobenius_of(A, to)
    elif ord == 2:
        found = spectral_of(A, to)
    else:
        found = largest_sum(A.T if ord != 1 else A, to)
    found = Answer(spread(found.value, A, 0), found.method, found.error)
    return found if return_method else found.value


# spectral ---------------------------------------------------------------------------------------


@singledispatch
def spectral_of(op: LinearOperator, to: Tensor) -> Answer[Tensor]:
    """The rule behind ``norm(A, 2)``."""
    known = svdvals_of(op, to)
    if known is None and min(op.shape) <= SMALL:
        known = svdvals_found(op, to)
    if known is not None:
        return Answer(known.value.amax(-1), known.method)
    found = largest("norm", op, 1)
    return Answer(found.value[..., 0], f"{found.method}, relative tolerance of rounding")


@spectral_of.register
def _(op: Transpose, to: Tensor) -> Answer[Tensor]:
    return spectral_of(op.children[0], to)


@spectral_of.register
def _(op: Scaled, to: Tensor) -> Answer[Tensor]:
    found = spectral_of(op.children[0], to)
    return Answer(found.value * modulus(op, to, 0), found.method)


@spectral_of.register
def _(op: Kronecker, to: Tensor) -> Answer[Tensor]:
    parts = [spectral_of(c, to) for c in op.children]
    return Answer(multiplied(parts), name("product of norms", (p.method for p in parts)))


@spectral_of.register
def _(op: DirectSum, to: Tensor) -> Answer[Tensor]:
    parts = [spectral_of(c, to) for c in op.children if 0 not in c.shape]
    if not parts:
        return Answer(to.new_zeros(()).abs(), "zero")
    values = torch.stack(torch.broadcast_tensors(*(p.value for p in parts)), -1)
    return Answer(values.amax(-1), name("largest of the blocks", (p.method for p in parts)))
