"""A dense matrix swallows its neighbours where the product is smaller than the two apart.

This densifies nothing: a dense factor is there already, and the product has no more numbers than
the pair.
"""

from __future__ import annotations

from math import prod

import torch

from structmat.compose import Product, Sum
from structmat.leaves.block import BlockDiagonal
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity
from structmat.leaves.permutation import reversal
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import add, matmul, strong
from structmat.rules.measure import Measurer, flops
from structmat.rules.table import rule


@rule(
    Dense,
    LinearOperator,
    inside=Product,
    example=lambda g: ex.dense(g, 2, 4) @ ex.butterfly(g, 2),
)
def dense_times(w: Dense, a: LinearOperator) -> LinearOperator | None:
    """W A is dense, where A has arithmetic and W A is smaller than W and A."""
    return Dense(w.weight @ a) if _pays(w, a) else None


@rule(
    LinearOperator,
    Dense,
    inside=Product,
    example=lambda g: (ex.diagonal(g, 4) + reversal(4)) @ ex.dense(g, 4, 2),
)
def times_dense(a: LinearOperator, w: Dense) -> LinearOperator | None:
    """A W is dense, where A has arithmetic and A W is smaller than A and W."""
    return Dense(a @ w.weight) if _pays(a, w) else None


def _pays(a: LinearOperator, b: LinearOperator) -> bool:
    m, n = a.shape[0], b.shape[1]
    dtype = strong(a, b)
    before = flops(a) + flops(b)
    if dtype is None or 0 in (flops(a), flops(b)) or m * max(2 * n - 1, 0) > before:
        return False
    batch = torch.broadcast_shapes(a.batch_shape, b.batch_shape)
    measure = Measurer()
    stored: int = prod(batch) * m * n * dtype.itemsize
    return stored <= measure(a).stored + measure(b).stored


@rule(Dense, Dense, inside=Sum, example=lambda g: ex.dense(g, 2, 3) + ex.dense(g, 2, 3))
def dense_plus_dense(a: Dense, b: Dense) -> LinearOperator | None:
    """V + W of two dense matrices is one."""
    return Dense(add(a.weight, b.weight))


@rule(Dense, LowRank, inside=Sum, example=lambda g: ex.dense(g, 3, 4) + ex.low_rank(g, 3, 4, 1))
def dense_plus_low_rank(w: Dense, a: LowRank) -> LinearOperator | None:
    """W + U V is dense: a low-rank update merges into the matrix it updates."""
    return Dense(add(w.weight, matmul(a.left, a.right)))


@rule(Dense, Diagonal, inside=Sum, example=lambda g: ex.dense(g, 3, 3) + ex.diagonal(g, 3))
def dense_plus_diagonal(w: Dense, d: Diagonal) -> LinearOperator | None:
    """W + diag(d) is dense."""
    return Dense(add(w.weight, torch.diag_embed(d.d)))


@rule(Dense, Identity, inside=Sum, example=lambda g: ex.dense(g, 3, 3) + Identity(3))
def dense_plus_identity(w: Dense, eye: Identity) -> LinearOperator | None:
    """W + I is dense."""
    return Dense(w.weight + torch.eye(eye.n, dtype=w.weight.dtype, device=w.weight.device))


@rule(Dense, BlockDiagonal, inside=Sum, example=lambda g: ex.dense(g, 4, 6) + ex.blocks(g, 2, 2, 3))
def dense_plus_blocks(w: Dense, b: BlockDiagonal) -> LinearOperator | None:
    """W + diag(B_i) is dense: each block is added to its place in W."""
    k, q, p = b.blocks.shape[-3:]
    grid = w.weight.unflatten(-1, (k, p)).unflatten(-3, (k, q))
    diagonal = add(grid.diagonal(dim1=-4, dim2=-2), b.blocks.movedim(-3, -1))
    grid = grid.to(diagonal.dtype).expand(*diagonal.shape[:-3], *grid.shape[-4:])
    grid = torch.diagonal_scatter(grid, diagonal, dim1=-4, dim2=-2)
    return Dense(grid.flatten(-2).flatten(-3, -2))
