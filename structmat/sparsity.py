"""Arithmetic of sparse matrices: patterns are combined once, values follow by gathers and sums.

The symbolic half, in :mod:`structmat.pattern`, depends on patterns alone; what is done with values
here are differentiable torch operations, so that results are made of the operands' own tensors.
:func:`as_sparse` multiplies out an expression whose leaves are sparse, and never a dense matrix
that was not there.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
from torch import Tensor

from structmat.compose import (
    Block,
    DirectSum,
    Kronecker,
    KroneckerSum,
    Product,
    Scaled,
    Selection,
    Sum,
    Transpose,
)
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.companion import Companion
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
from structmat.leaves.sparse import BlockSparse, Sparse, gathered, scattered
from structmat.operator import LinearOperator
from structmat.pattern import Pattern, expanded, joined, kronecker, product, union

__all__ = ["as_sparse", "beside", "block_plus", "block_times", "blocks_apart", "plus", "times"]


def _promoted(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def plus(a: Sparse, b: Sparse) -> Sparse:
    """A + B, on the union of the patterns."""
    made, values = _plus(a.pattern, a.values, b.pattern, b.values, 1)
    return Sparse((values, made))


def block_plus(a: BlockSparse, b: BlockSparse) -> BlockSparse:
    """A + B, for blocks of one shape, on the union of the masks."""
    made, blocks = _plus(a.pattern, a.blocks, b.pattern, b.blocks, 3)
    return BlockSparse(blocks, made)


def _plus(p: Pattern, v: Tensor, q: Pattern, w: Tensor, event: int) -> tuple[Pattern, Tensor]:
    v, w = _promoted(v, w)
    if p == q:
        return p, v + w
    made, left, right = union(p, q)
    v, w = (scattered(t, at, made.nnz, -event) for t, at in ((v, left), (w, right)))
    return made, v + w


def times(a: Sparse, b: Sparse) -> Sparse:
    """A B: every pair of entries A[i, k], B[k, j] is multiplied and added to its place."""
    made, of_a, of_b, entry = product(a.pattern, b.pattern)
    v, w = _promoted(a.values, b.values)
    terms = gathered(v, of_a) * gathered(w, of_b)
    return Sparse((scattered(terms, entry, made.nnz), made))


def block_times(a: BlockSparse, b: BlockSparse) -> BlockSparse:
    """A B, block by block, where the blocks of A are as wide as those of B are high."""
    made, of_a, of_b, entry = product(a.pattern, b.pattern)
    v, w = _promoted(a.blocks, b.blocks)
    terms = gathered(v, of_a, -3) @ gathered(w, of_b, -3)
    return BlockSparse(scattered(terms, entry, made.nnz, -3), made)


def beside(a: Sparse, b: Sparse) -> Sparse:
    """diag(A, B)."""
    v, w = _promoted(a.values, b.values)
    lead = torch.broadcast_shapes(v.shape[:-1], w.shape[:-1])
    values = torch.cat([v.expand(*lead, -1), w.expand(*lead, -1)], -1)
    return Sparse((values, joined(a.pattern, b.pattern)))


def blocks_apart(op: BlockSparse) -> Sparse:
    """The same matrix, by its numbers."""
    pattern, order = expanded(op.pattern, op.block)
    return Sparse((gathered(op.blocks.flatten(-3), order), pattern))


def as_sparse(
    op: LinearOperator, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Sparse | None:
    """The expression multiplied out as one sparse matrix; None where a part has no pattern.

    Args:
        op: sparse, block-sparse, diagonal, block-diagonal or Kronecker-sparse leaves, permutations,
            selections, identities, companion matrices, dense leaves, and products, sums, multiples,
            transposes, Kronecker products and sums, direct sums and block matrices of them.
        dtype: of the values; that of op by default.
        device: of the ones of identities and permutations; that of op by default.

    Products keep the positions where entries meet, whether or not their sum happens to be zero.
    """
    dtype = dtype or op.dtype
    device = device or op.device

    def parts() -> list[Sparse] | None:
        made = [as_sparse(c, dtype, device) for c in op.children]
        kept = [m for m in made if m is not None]
        return kept if len(kept) == len(made) else None

    match op:
        case Sparse():
            return Sparse((op.values.to(dtype), op.pattern))
        case BlockSparse():
            return as_sparse(blocks_apart(op), dtype, device)
        case BlockDiagonal():
            return as_sparse(BlockSparse(op.blocks, Pattern.diagonal(op.nblocks)), dtype, device)
        case KroneckerSparse():
            return _factor(op, dtype)
        case Diagonal():
            return Sparse((op.d.to(dtype), Pattern.diagonal(op.shape[0])))
        case Dense():
            return Sparse((op.weight.to(dtype).flatten(-2), Pattern.full(*op.shape)))
        case Identity():
            ones = torch.ones(op.n, dtype=dtype, device=device)
            return Sparse((ones, Pattern.diagonal(op.n)))
        case Permutation():
            keys = np.arange(op.shape[0]) * op.shape[0] + op.index.array()
            ones = torch.ones(op.shape[0], dtype=dtype, device=device)
            return Sparse((ones, Pattern.at(op.shape, keys)))
        case Selection():
            m, n = len(op.index), op.index.size
            keys = np.arange(m) * n + op.index.array()
            ones = torch.ones(m, dtype=dtype, device=device)
            chosen = Sparse((ones, Pattern.at((m, n), keys)))
            return chosen._transpose() if op.transposed else chosen
        case Companion():
            return _companion(op, dtype)
        case Zero():
            nothing = torch.zeros(0, dtype=dtype, device=device)
            return Sparse((nothing, Pattern.at(op.shape, np.zeros(0, np.int64))))
        case Monarch() | Butterfly():
            return as_sparse(Product(*op.factors()), dtype, device)
        case Transpose():
            inner = as_sparse(op.children[0], dtype, device)
            return None if inner is None else inner._transpose()
        case Scaled():
            inner = as_sparse(op.children[0], dtype, device)
            if inner is None:
                return None
            alpha = op.alpha.to(dtype)[..., None] if isinstance(op.alpha, Tensor) else op.alpha
            return Sparse((inner.values * alpha, inner.pattern))
        case Product() | MonarchChain():
            found = parts()
            return None if found is None else reduce(times, found)
        case Sum():
            found = parts()
            return None if found is None else reduce(plus, found)
        case DirectSum():
            found = parts()
            return None if found is None else reduce(beside, found)
        case Kronecker():
            found = parts()
            return None if found is None else reduce(_kronecker, found)
        case KroneckerSum():
            found = parts()
            return None if found is None else reduce(_kronecker_sum, found)
        case Block():
            found = parts()
            return None if found is None else _block(op, found)
    return None


def _companion(op: Companion, dtype: torch.dtype) -> Sparse:
    n = op.shape[0]
    keys = np.concatenate([np.arange(n), np.arange(1, n) * n + np.arange(n - 1)])
    row = op.row.to(dtype)
    values = torch.cat([row, torch.ones_like(row[..., 1:])], -1)
    made = Sparse((values, Pattern.at((n, n), keys)))
    return made._transpose() if op.transposed else made


def _kronecker(a: Sparse, b: Sparse) -> Sparse:
    made, order = kronecker(a.pattern, b.pattern)
    outer = a.values.unsqueeze(-1) * b.values.unsqueeze(-2)
    return Sparse((gathered(outer.flatten(-2), order), made))


def _kronecker_sum(a: Sparse, b: Sparse) -> Sparse:
    left, right = (
        Sparse((c.values.new_ones(c.shape[0]), Pattern.diagonal(c.shape[0]))) for c in (b, a)
    )
    return plus(_kronecker(a, left), _kronecker(right, b))


def _block(op: Block, found: list[Sparse]) -> Sparse:
    width = op.grid[1]
    tops, lefts = (np.cumsum([0, *sizes[:-1]]) for sizes in (op.heights, op.widths))
    rows = [c.pattern.rows.array() + tops[i // width] for i, c in enumerate(found)]
    columns = [c.pattern.indices.array() + lefts[i % width] for i, c in enumerate(found)]
    lead = torch.broadcast_shapes(*(c.values.shape[:-1] for c in found))
    values = torch.cat([c.values.expand(*lead, -1) for c in found], -1)
    return Sparse((values, (np.concatenate(rows), np.concatenate(columns))), shape=op.shape)


def _factor(op: KroneckerSparse, dtype: torch.dtype) -> Sparse:
    a, b, c, d = op.pattern
    i, j, k, l = np.ogrid[:a, :b, :c, :d]
    rows, columns = np.broadcast_arrays(i * b * d + j * d + l, i * c * d + k * d + l)
    values = op.values.to(dtype).flatten(-4)
    return Sparse((values, (rows.reshape(-1), columns.reshape(-1))), shape=op.shape)
