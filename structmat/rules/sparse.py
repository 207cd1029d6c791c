"""Sparse and block-sparse matrices: sums and products on patterns, and simpler names for them.

Patterns are structure, so all positions are found here, once; the numbers follow by gathers,
products and sums. A product of sparse matrices is stored where it has no more operations and no
more numbers than the two apart, which depends on patterns alone.
"""

from __future__ import annotations

from math import prod

import torch

from structmat.compose import DirectSum, Product, Scaled, Sum, direct_sum
from structmat.leaves.block import BlockDiagonal
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.permutation import Permutation
from structmat.leaves.sparse import BlockSparse, Sparse, gathered
from structmat.operator import LinearOperator
from structmat.pattern import Pattern, pairs, product_size
from structmat.rules import examples as ex
from structmat.rules.arithmetic import add, strong
from structmat.rules.sums import split_scalar
from structmat.rules.table import rule
from structmat.sparsity import (
    as_sparse,
    beside,
    block_plus,
    block_times,
    plus,
    times,
)

DAVIS = "Davis, Direct methods for sparse linear systems (2006), chapter 2"

PAIRS_LIMIT = 1 << 24
"""The most pairs of entries that a product of sparse matrices is made of while simplifying."""


def _grid(g: torch.Generator, nnz: int, p: int, q: int, shape: tuple[int, int]) -> BlockSparse:
    return BlockSparse(ex.ints(g, nnz, p, q), ex.pattern(g, *shape, nnz))


def _patterned(g: torch.Generator, p: Pattern) -> Sparse:
    return Sparse((ex.ints(g, p.nnz), p))


# simpler names -----------------------------------------------------------------------------------


@rule((Sparse, BlockSparse), example=lambda g: ex.sparse(g, 2, 3, 0))
def sparse_of_nothing(op: Sparse | BlockSparse) -> LinearOperator | None:
    """A sparse matrix without entries is zero."""
    return Zero(*op.shape, op.strong_dtype) if op.pattern.nnz == 0 else None


@rule((Sparse, BlockSparse), example=lambda g: _grid(g, 6, 2, 2, (2, 3)))
def full_pattern(op: Sparse | BlockSparse) -> LinearOperator | None:
    """A sparse matrix with every entry, a block-sparse one with every block, is dense."""
    m, n = op.pattern.shape
    if op.pattern.nnz < m * n or 0 in op.shape:
        return None
    if isinstance(op, Sparse):
        return Dense(op.values.unflatten(-1, (m, n)))
    return Dense(op.blocks.unflatten(-3, (m, n)).transpose(-3, -2).flatten(-2).flatten(-3, -2))


@rule(
    (Sparse, BlockSparse),
    example=lambda g: BlockSparse(ex.ints(g, 3, 2, 4), Pattern.diagonal(3)),
)
def diagonal_pattern(op: Sparse | BlockSparse) -> LinearOperator | None:
    """A sparse matrix with entries on the diagonal alone is diagonal, or block-diagonal."""
    n = op.pattern.nnz
    if n == 0 or op.pattern.shape != (n, n) or op.pattern != Pattern.diagonal(n):
        return None
    new: LinearOperator = (
        Diagonal(op.values) if isinstance(op, Sparse) else BlockDiagonal(op.blocks)
    )
    return new


@rule(BlockSparse, example=lambda g: _grid(g, 3, 1, 1, (2, 3)))
def blocks_of_one(op: BlockSparse) -> LinearOperator | None:
    """A block-sparse matrix of 1 x 1 blocks is sparse."""
    return Sparse((op.blocks.flatten(-3), op.pattern)) if op.block == (1, 1) else None


# sums --------------------------------------------------------------------------------------------


@rule(
    Sparse,
    Sparse,
    inside=Sum,
    source=DAVIS,
    example=lambda g: ex.sparse(g, 4, 5, 6) + ex.sparse(g, 4, 5, 7),
)
def sparse_plus_sparse(a: Sparse, b: Sparse) -> LinearOperator | None:
    """Sparse matrices add on the union of their patterns."""
    return plus(a, b) if a.batch_shape == b.batch_shape else None


def _covering(g: torch.Generator) -> LinearOperator:
    return _patterned(g, Pattern.full(3, 3)) + 2 * ex.shuffle(g, 3)


@rule(Sparse, (Diagonal, Identity, Permutation, Scaled), inside=Sum, example=_covering)
def sparse_plus_entries(a: Sparse, b: LinearOperator) -> LinearOperator | None:
    """A sparse matrix and a diagonal, or alpha I or alpha P whose places it has, are sparse."""
    _, core = split_scalar(b)
    if not isinstance(core, Diagonal | Identity | Permutation):
        return None
    placed = as_sparse(b, strong(a, b))
    return None if placed is None or placed.batch_shape != a.batch_shape else plus(a, placed)


@rule(
    Dense,
    (Sparse, BlockSparse),
    inside=Sum,
    example=lambda g: ex.dense(g, 4, 6) + _grid(g, 2, 2, 3, (2, 2)),
)
def dense_plus_sparse(w: Dense, a: LinearOperator) -> LinearOperator | None:
    """W + A is dense: each entry is added to its place in W."""
    return Dense(add(w.weight, a.to_dense()))


def _two_grids(g: torch.Generator) -> LinearOperator:
    return _grid(g, 3, 2, 2, (2, 3)) + _grid(g, 2, 2, 2, (2, 3))


@rule(BlockSparse, BlockSparse, inside=Sum, source=DAVIS, example=_two_grids)
def block_sparse_plus_block_sparse(a: BlockSparse, b: BlockSparse) -> LinearOperator | None:
    """Block-sparse matrices of one block shape add on the union of their masks."""
    fits = a.block == b.block and a.batch_shape == b.batch_shape
    return block_plus(a, b) if fits else None


@rule(
    BlockSparse,
    BlockDiagonal,
    inside=Sum,
    example=lambda g: _grid(g, 3, 2, 3, (3, 3)) + ex.blocks(g, 3, 2, 3),
)
def block_sparse_plus_blocks(a: BlockSparse, b: BlockDiagonal) -> LinearOperator | None:
    """A block-sparse and a block-diagonal matrix of one block shape add block by block."""
    return block_sparse_plus_block_sparse(a, BlockSparse(b.blocks, Pattern.diagonal(b.nblocks)))


@rule(
    Sparse,
    Sparse,
    inside=DirectSum,
    example=lambda g: direct_sum(ex.sparse(g, 2, 3, 2), ex.sparse(g, 3, 2, 4)),
)
def direct_sum_of_sparse(a: Sparse, b: Sparse) -> LinearOperator | None:
    """diag(A, B) of sparse matrices is sparse."""
    return beside(a, b) if a.batch_shape == b.batch_shape else None


# products ----------------------------------------------------------------------------------------


@rule(
    Permutation,
    Sparse,
    inside=Product,
    example=lambda g: ex.shuffle(g, 4) @ ex.sparse(g, 4, 3, 5),
)
def permutation_times_sparse(p: Permutation, a: Sparse) -> LinearOperator | None:
    """P A is A with its rows renumbered."""
    made, order = a.pattern.permuted(p.index.inverse().array(), None)
    return Sparse((gathered(a.values, order), made))


@rule(
    Sparse,
    Permutation,
    inside=Product,
    example=lambda g: ex.sparse(g, 3, 4, 5) @ ex.shuffle(g, 4),
)
def sparse_times_permutation(a: Sparse, p: Permutation) -> LinearOperator | None:
    """A P is A with its columns renumbered."""
    made, order = a.pattern.permuted(None, p.index.array())
    return Sparse((gathered(a.values, order), made))


def _thin(g: torch.Generator) -> LinearOperator:
    return ex.sparse(g, 5, 6, 6) @ _patterned(g, Pattern.diagonal(6))


@rule(Sparse, Sparse, inside=Product, source=DAVIS, example=_thin)
def sparse_times_sparse(a: Sparse, b: Sparse) -> LinearOperator | None:
    """A B of sparse matrices is sparse, where its pattern is smaller than the two."""
    return times(a, b) if _pays(a, b, 1) else None


def _grids(g: torch.Generator) -> LinearOperator:
    left = BlockSparse(ex.ints(g, 3, 2, 2), ex.pattern(g, 3, 3, 3))
    return left @ BlockSparse(ex.ints(g, 3, 2, 1), Pattern.diagonal(3))


@rule(BlockSparse, BlockSparse, inside=Product, source=DAVIS, example=_grids)
def block_sparse_times_block_sparse(a: BlockSparse, b: BlockSparse) -> LinearOperator | None:
    """A B of block-sparse matrices with fitting blocks is block-sparse, where that is smaller."""
    (p, inner), (high, q) = a.block, b.block
    return block_times(a, b) if inner == high and _pays(a, b, p * q) else None


def _pays(a: Sparse | BlockSparse, b: Sparse | BlockSparse, size: int) -> bool:
    """Whether the product, of ``size`` numbers an entry, has no more numbers than the two."""
    if pairs(a.pattern, b.pattern) > PAIRS_LIMIT:
        return False
    apart = sum(prod(t.shape[-op.event_dims[k] :]) for op in (a, b) for k, t in op.tensors.items())
    return product_size(a.pattern, b.pattern) * size <= apart
