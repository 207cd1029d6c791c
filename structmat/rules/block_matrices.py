"""Block matrices: block by block where partitions fit, and simpler where the blocks allow.

    [A B] [E]   [A E + B F]
    [C D] [F] = [C E + D F]

needs every product of blocks, so the engine keeps the block form only where that costs no more:
where one side is a single row or column, or blocks are zeros, identities or permutations. A direct
sum counts as a block matrix with zeros beside its diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from structmat.compose import (
    Block,
    DirectSum,
    Product,
    Scaled,
    Sum,
    block,
    direct_sum,
    hstack,
    vstack,
)
from structmat.compose.blocks import acts
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.permutation import reversal
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import cat, same, scale_columns, scale_rows
from structmat.rules.scalars import same_scalar
from structmat.rules.sums import uncons, unsnoc
from structmat.rules.table import rule

Rows = list[list[LinearOperator]]


def rows_of(op: LinearOperator) -> Rows:
    """The blocks of a block matrix or of a direct sum, row by row."""
    if isinstance(op, Block):
        return [list(row) for row in op.rows()]
    parts = op.children
    return [
        [a if i == j else Zero(a.shape[0], b.shape[1]) for j, b in enumerate(parts)]
        for i, a in enumerate(parts)
    ]


def _sizes(rows: Rows) -> tuple[list[int], list[int]]:
    return [row[0].shape[0] for row in rows], [c.shape[1] for c in rows[0]]


def _block(rows: Rows) -> LinearOperator:
    return rows[0][0] if len(rows) == len(rows[0]) == 1 else Block(rows)


def _plus(terms: Sequence[LinearOperator], m: int, n: int) -> LinearOperator:
    kept = [t for t in terms if acts(t)]
    return Zero(m, n) if not kept else kept[0] if len(kept) == 1 else Sum(*kept)


def _times(a: LinearOperator, b: LinearOperator) -> LinearOperator:
    if not acts(a) or not acts(b):
        return Zero(a.shape[0], b.shape[1])
    if isinstance(a, Identity):
        return b
    if isinstance(b, Identity):
        return a
    folded = scale_rows(a.d, b) if isinstance(a, Diagonal) else None
    if folded is None and isinstance(b, Diagonal):
        folded = scale_columns(a, b.d)
    return Product(a, b) if folded is None else folded


# one block matrix ------------------------------------------------------------------------------


@rule(Block, example=lambda g: block([[ex.dense(g, 2, 3)]]))
def single_block(op: Block) -> LinearOperator | None:
    """A block matrix of one block is that block."""
    return op.children[0] if op.grid == (1, 1) else None


@rule(Block, example=lambda g: block([[Zero(2, 3), Zero(2, 1)], [Zero(1, 3), Zero(1, 1)]]))
def block_of_zeros(op: Block) -> LinearOperator | None:
    """A block matrix of zeros is zero."""
    if any(acts(c) for c in op.children):
        return None
    return Zero(*op.shape, op.strong_dtype)


@rule(Block, example=lambda g: block([[ex.dense(g, 2, 0), ex.dense(g, 2, 3)]]))
def block_without_empty_lines(op: Block) -> LinearOperator | None:
    """Rows and columns of blocks without entries can be left out."""
    kept = [row for row in op.rows() if row[0].shape[0]]
    wide = [j for j, n in enumerate(op.widths) if n]
    if not kept or not wide or (len(kept), len(wide)) == op.grid:
        return None
    return Block([[row[j] for j in wide] for row in kept])


@rule(Block, early=True, example=lambda g: block([[ex.dense(g, 2, 3), 0], [0, ex.dense(g, 3, 1)]]))
def block_with_a_diagonal_only(op: Block) -> LinearOperator | None:
    """A block matrix with zeros beside its diagonal is a direct sum."""
    p, q = op.grid
    beside = (c for i, row in enumerate(op.rows()) for j, c in enumerate(row) if i != j)
    if p != q or p == 1 or any(acts(c) for c in beside):
        return None
    return _typed(DirectSum(*(row[i] for i, row in enumerate(op.rows()))), op.strong_dtype)


def _typed(op: DirectSum, dtype: torch.dtype | None) -> DirectSum:
    """With the dtype of zeros that were left out, on the first part that can carry it."""
    for i, c in enumerate(op.children if op.strong_dtype != dtype else ()):
        if not c.tensors and not c.children and c.static.get("dtype", dtype) is None:
            new = c._replace({}, (), {**c.static, "dtype": dtype})
            return DirectSum(*op.children[:i], new, *op.children[i + 1 :])
    return op


def _nested(g: torch.Generator) -> LinearOperator:
    inner = vstack(ex.dense(g, 1, 2), reversal(2))
    return hstack(inner, vstack(ex.dense(g, 1, 3), ex.blocks(g, 1, 2, 3)))


@rule(Block, example=_nested)
def block_of_blocks(op: Block) -> LinearOperator | None:
    """Blocks of blocks whose boundaries fit are blocks of one matrix."""
    parts: list[list[Rows]] = [
        [rows_of(c) if isinstance(c, Block | DirectSum) else [[c]] for c in row]
        for row in op.rows()
    ]
    heights = [_cuts([_sizes(r)[0] for r in row]) for row in parts]
    widths = [_cuts([_sizes(r)[1] for r in column]) for column in zip(*parts, strict=True)]
    if max(map(len, (*heights, *widths))) == 1:
        return None
    out: Rows = []
    for row, tall in zip(parts, heights, strict=True):
        lines: Rows = [[] for _ in tall]
        for rows, wide in zip(row, widths, strict=True):
            inner = rows
            if not acts(rows[0][0]) and len(rows) == len(rows[0]) == 1:
                inner = [[Zero(m, n) for n in wide] for m in tall]
            if _sizes(inner) != (tall, wide):
                return None
            for line, more in zip(lines, inner, strict=True):
                line.extend(more)
        out.extend(lines)
    return Block(out)


def _cuts(sizes: list[list[int]]) -> list[int]:
    return max(sizes, key=len)


@rule(Block, example=lambda g: hstack(ex.dense(g, 2, 3), ex.dense(g, 2, 1)))
def block_of_dense(op: Block) -> LinearOperator | None:
    """A block matrix of dense blocks is dense."""
    weights = [[c.weight for c in row if isinstance(c, Dense)] for row in op.rows()]
    found = [w for row in weights for w in row]
    if len(found) < len(op.children) or len({w.shape[:-2] for w in found}) > 1:
        return None
    return Dense(cat([cat(row, -1) for row in weights], -2))


def _common_blocks(g: torch.Generator, left: bool) -> LinearOperator:
    a, b, c = ex.butterfly(g, 2), reversal(4), ex.monarch(g, (2, 2, 2), (2, 2, 2))
    return hstack(a @ b, a @ c) if left else vstack(b @ a, c @ a)


@rule(Block, early=True, example=lambda g: _common_blocks(g, True))
def common_left_factor_of_blocks(op: Block) -> LinearOperator | None:
    """[A B, A C] = A [B, C], and so for every row of blocks."""
    shared, rest = [], []
    for row in op.rows():
        factor, others = _left(row)
        shared.append(factor)
        rest.append(others)
    if all(isinstance(f, Identity) for f in shared):
        return None
    return Product(shared[0] if len(shared) == 1 else DirectSum(*shared), Block(rest))


@rule(Block, early=True, example=lambda g: _common_blocks(g, False))
def common_right_factor_of_blocks(op: Block) -> LinearOperator | None:
    """[B A; C A] = [B; C] A, and so for every column of blocks."""
    shared, rest = [], []
    for column in zip(*op.rows(), strict=True):
        factor, others = _right(column)
        shared.append(factor)
        rest.append(others)
    if all(isinstance(f, Identity) for f in shared):
        return None
    inner = Block([list(row) for row in zip(*rest, strict=True)])
    return Product(inner, shared[0] if len(shared) == 1 else DirectSum(*shared))


def _left(row: Sequence[LinearOperator]) -> tuple[LinearOperator, list[LinearOperator]]:
    """(F, [R_j]) with F R_j the blocks of the row; the identity if they share nothing."""
    split = [uncons(c) for c in row if acts(c)]
    if len(split) < 2 or isinstance(split[0][0], Identity):
        return Identity(row[0].shape[0]), list(row)
    first = split[0][0]
    if not all(same(first, head) for head, _ in split):
        return Identity(row[0].shape[0]), list(row)
    k, tails = first.shape[1], iter(rest for _, rest in split)
    out: list[LinearOperator] = []
    for c in row:
        out.append(next(tails) or Identity(k) if acts(c) else Zero(k, c.shape[1]))
    return first, out


def _right(column: Sequence[LinearOperator]) -> tuple[LinearOperator, list[LinearOperator]]:
    split = [unsnoc(c) for c in column if acts(c)]
    if len(split) < 2 or isinstance(split[0][0], Identity):
        return Identity(column[0].shape[1]), list(column)
    last = split[0][0]
    if not all(same(last, foot) for foot, _ in split):
        return Identity(column[0].shape[1]), list(column)
    k, heads = last.shape[0], iter(rest for _, rest in split)
    out: list[LinearOperator] = []
    for c in column:
        out.append(next(heads) or Identity(k) if acts(c) else Zero(c.shape[0], k))
    return last, out


def _low_rank_row(g: torch.Generator) -> LinearOperator:
    left = ex.ints(g, 4, 1)
    return hstack(LowRank(left, ex.ints(g, 1, 5)), LowRank(left, ex.ints(g, 1, 4)))


@rule(Block, early=True, example=_low_rank_row)
def low_rank_blocks(op: Block) -> LinearOperator | None:
    """[U V, U W] = U [V, W], and [V U; W U] = [V; W] U."""
    low = [c for c in op.children if isinstance(c, LowRank)]
    if len(low) < len(op.children) or len(low) < 2 or 1 not in op.grid:
        return None
    wide = op.grid[0] == 1
    shared, stacked = ("left", "right") if wide else ("right", "left")
    kept = low[0].tensors[shared]
    parts = [c.tensors[stacked] for c in low]
    if any(c.tensors[shared] is not kept for c in low) or len({p.shape[:-2] for p in parts}) > 1:
        return None
    joined = cat(parts, -1 if wide else -2)
    return LowRank(kept, joined) if wide else LowRank(joined, kept)


@rule(Block, example=lambda g: hstack(2 * reversal(3), 2 * Identity(3)))
def scalar_out_of_block(op: Block) -> LinearOperator | None:
    """[alpha A, alpha B] = alpha [A, B]."""
    scaled = [c for c in op.children if acts(c)]
    first = scaled[0] if scaled else None
    if not isinstance(first, Scaled) or not all(
        isinstance(c, Scaled) and same_scalar(c.alpha, first.alpha) for c in scaled
    ):
        return None
    return Scaled(
        first.alpha,
        Block([[c.children[0] if isinstance(c, Scaled) else c for c in row] for row in op.rows()]),
    )


# two block matrices ----------------------------------------------------------------------------


Parted = (Block, DirectSum)


@rule(
    Parted,
    Parted,
    inside=Product,
    example=lambda g: (
        hstack(ex.blocks(g, 2, 2, 3), reversal(4)) @ vstack(ex.blocks(g, 2, 3, 2), reversal(4))
    ),
)
def block_times_block(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """[A B] [C; D] = A C + B D, with fitting partitions."""
    if isinstance(a, DirectSum) and isinstance(b, DirectSum):
        return None
    left, right = rows_of(a), rows_of(b)
    if _sizes(left)[1] != _sizes(right)[0]:
        return None
    columns = list(zip(*right, strict=True))
    return _block(
        [
            [
                _plus(
                    [_times(x, y) for x, y in zip(row, column, strict=True)],
                    row[0].shape[0],
                    column[0].shape[1],
                )
                for column in columns
            ]
            for row in left
        ]
    )


@rule(
    Parted,
    Parted,
    inside=Sum,
    example=lambda g: (
        block([[reversal(2), ex.dense(g, 2, 3)], [0, reversal(3)]])
        + direct_sum(ex.dense(g, 2, 2), ex.low_rank(g, 3, 3, 1))
    ),
)
def block_plus_block(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """Block matrices of equal partitions add block by block."""
    if isinstance(a, DirectSum) and isinstance(b, DirectSum):
        return None
    left, right = rows_of(a), rows_of(b)
    if _sizes(left) != _sizes(right):
        return None
    return Block(
        [
            [_plus([x, y], *x.shape) for x, y in zip(row, other, strict=True)]
            for row, other in zip(left, right, strict=True)
        ]
    )
