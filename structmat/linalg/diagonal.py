"""The diagonal of a matrix, or one beside it: ``diagonal(A, k)[i] = A[i, i + k]``.

By structure where entries have a formula (:mod:`structmat.linalg.entries`); diag(A (x) B) is the
outer product of the diagonals of square factors. Otherwise A acts on blocks of unit vectors, in
O(n block) memory.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Literal, overload

import torch
from torch import Tensor

from structmat.compose import DirectSum, Elementwise, Kronecker, Scaled, Sum, Transpose
from structmat.leaves.toeplitz import join
from structmat.linalg.answer import (
    Answer,
    block_size,
    columns,
    like,
    name,
    not_an_operator,
    spread,
)
from structmat.linalg.entries import entries_of, scalar
from structmat.operator import LinearOperator
from structmat.tracing import whole

__all__ = ["diagonal", "diagonal_of"]


@overload
def diagonal(
    A: LinearOperator, offset: int = 0, *, return_method: Literal[False] = ...
) -> Tensor: ...
@overload
def diagonal(
    A: LinearOperator, offset: int = 0, *, return_method: Literal[True]
) -> Answer[Tensor]: ...
@whole
def diagonal(
    A: LinearOperator, offset: int = 0, *, return_method: bool = False
) -> Tensor | Answer[Tensor]:
    """The entries A[i, i + offset].

    Args:
        A: operator, m x n.
        offset: 0 for the main diagonal, positive above it, negative below.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Tensor of shape batch_shape + (length,), as ``torch.diagonal``.

    Raises:
        TypeError: A is no operator.
        ValueError: the offset lies outside the matrix.

    Example:
        >>> import torch, structmat as sm
        >>> sm.diagonal(sm.LowRank(torch.ones(3, 1), torch.tensor([[1.0, 2.0, 3.0]])), 1)
        tensor([2., 3.])
    """
    if not isinstance(A, LinearOperator):
        not_an_operator("diagonal", A)
    A._require_numbers()
    m, n = A.shape
    if not isinstance(offset, int):
        raise TypeError(f"diagonal: offset is {type(offset).__name__}, needs an integer")
    if not -m <= offset <= n:
        raise ValueError(
            f"diagonal: offset {offset} lies outside {A._label()} of shape {A.shape}; "
            f"offsets from {-m} to {n} exist"
        )
    found = diagonal_of(A, offset, like(A))
    found = Answer(spread(found.value, A, 1), found.method)
    return found if return_method else found.value


@singledispatch
def diagonal_of(op: LinearOperator, offset: int, to: Tensor) -> Answer[Tensor]:
    """The rule behind :func:`diagonal`; register a class of your own for its structure."""
    m, n = op.shape
    rows = range(max(-offset, 0), min(m, n - offset))
    if not rows:
        return Answer(to.new_zeros(0), "empty")
    entries = entries_of(op)
    if entries is not None and entries.cost <= max(1, sum(op.operations())):
        many = max(1, torch.Size(op.batch_shape).numel())
        size = max(1, 2**20 // (max(entries.cost, 1) * many))
        i = torch.arange(rows.start, rows.stop, device=to.device)
        parts = [entries.get(k, k + offset, to) for k in i.split(size)]
        return Answer(join(*parts), "entries by structure")
    simpler = op.simplify()
    if type(simpler) is not type(op):
        return diagonal_of(simpler, offset, to)
    return _by_columns(op, rows, offset, to)


def _by_columns(op: LinearOperator, rows: range, offset: int, to: Tensor) -> Answer[Tensor]:
    first, last = rows.start + offset, rows.stop + offset
    size, parts = block_size(op), []
    for start in range(first, last, size):
        stop = min(start + size, last)
        block = columns(op, start, stop, to)
        parts.append(block.diagonal(start - offset, -2, -1)[..., : stop - start])
    return Answer(join(*parts), "exact by columns")


@diagonal_of.register
def _(op: Transpose, offset: int, to: Tensor) -> Answer[Tensor]:
    return diagonal_of(op.children[0], -offset, to)


@diagonal_of.register
def _(op: Scaled, offset: int, to: Tensor) -> Answer[Tensor]:
    found = diagonal_of(op.children[0], offset, to)
    return Answer(found.value * scalar(op, to, 1), found.method)


@diagonal_of.register
def _(op: Sum, offset: int, to: Tensor) -> Answer[Tensor]:
    parts = [diagonal_of(c, offset, to) for c in op.children]
    total = parts[0].value
    for p in parts[1:]:
        total = total + p.value
    return Answer(total, name("sum of diagonals", (p.method for p in parts)))


@diagonal_of.register
def _(op: Elementwise, offset: int, to: Tensor) -> Answer[Tensor]:
    a, b = (diagonal_of(c, offset, to) for c in op.children)
    return Answer(a.value * b.value, name("product of diagonals", (a.method, b.method)))


@diagonal_of.register
def _(op: Kronecker, offset: int, to: Tensor) -> Answer[Tensor]:
    if offset or any(m != n for m, n in (c.shape for c in op.children)):
        return _default(op, offset, to)
    parts = [diagonal_of(c, 0, to) for c in op.children]
    out = parts[0].value
    for p in parts[1:]:
        out = (out[..., :, None] * p.value[..., None, :]).flatten(-2)
    return Answer(out, name("outer product of diagonals", (p.method for p in parts)))


@diagonal_of.register
def _(op: DirectSum, offset: int, to: Tensor) -> Answer[Tensor]:
    if offset or any(m != n for m, n in (c.shape for c in op.children)):
        return _default(op, offset, to)
    parts = [diagonal_of(c, 0, to) for c in op.children]
    joined = join(*(p.value for p in parts))
    return Answer(joined, name("diagonals of the blocks", (p.method for p in parts)))


_default = diagonal_of.dispatch(LinearOperator)
