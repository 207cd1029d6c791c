"""Rows of a structured matrix as a structured matrix.

Dense and low-rank matrices give up rows of their (left) factor; diagonals and permutations move
past the selection, diag(d) S = S diag(S d); blocks, factors of a Kronecker product and digits of a
Kronecker-sparse factor are selected one by one where the rows are all that these spell, in order;
a sum gives the sum of the rows of its terms. Matrices that are constant along their diagonals stay
that where rows and columns have one step (Golub and Van Loan, Matrix computations, section 4.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from torch import Tensor

from structmat.compose import (
    Block,
    DirectSum,
    Elementwise,
    Kronecker,
    KroneckerSum,
    Product,
    Selection,
    Sum,
)
from structmat.compose.elementwise import survives
from structmat.gather import Gather
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
from structmat.leaves.sparse import BlockSparse, Sparse, gathered
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz, join
from structmat.operator import LinearOperator
from structmat.rules.blocks import leaf_of, values_of


def cut(op: LinearOperator, rows: Gather) -> LinearOperator:
    """These rows of op, by structure where that is known."""
    if rows.is_identity:
        return op
    return take_rows(op, rows) or Product(Selection(rows, rows.size), op)


def take_rows(op: LinearOperator, rows: Gather) -> LinearOperator | None:
    """These rows of op as an operator of known structure, or None."""
    if len(rows) == 0:
        return Zero(0, op.shape[1], op.strong_dtype)
    match op:
        case Dense():
            return Dense(rows.take(op.weight, -2))
        case LowRank():
            return LowRank(rows.take(op.left, -2), op.right)
        case Diagonal():
            return Product(Diagonal(rows.take(op.d, -1)), Selection(rows, rows.size))
        case Sparse():
            pattern, order = op.pattern.taken(rows.array())
            return Sparse((gathered(op.values, order), pattern))
        case BlockSparse():
            return _block_sparse(op, rows)
        case Toeplitz() | Circulant() | Hankel():
            return constant_diagonals(op, rows, Gather.of(range(op.shape[1]), op.shape[1]))
        case BlockDiagonal() | KroneckerSparse():
            return _factor(op, rows)
        case Monarch() | MonarchChain() | Butterfly():
            first, *rest = op.factors()
            new = _factor(first, rows)
            return None if new is None else Product(new, *rest)
        case DirectSum():
            return _direct_sum(op, rows)
        case Block():
            parts = _split(rows, op.heights)
            if parts is None:
                return None
            lines = zip(op.rows(), parts, strict=True)
            return Block([[cut(c, part) for c in line] for line, part in lines if len(part)])
        case Kronecker():
            digits = _digits(rows, [c.shape[0] for c in op.children])
            if digits is None:
                return None
            return Kronecker(*(cut(c, d) for c, d in zip(op.children, digits, strict=True)))
        case KroneckerSum():
            return _kronecker_sum(op, rows)
        case Sum():
            return Sum(*(cut(c, rows) for c in op.children))
        case Elementwise():
            a, b = (cut(c, rows) for c in op.children)
            return Elementwise(a, b) if survives(a, b) else None
        case Permutation():
            index = Gather.of(op.index.array(), op.shape[0]).then(rows)
            return Selection(index, index.size, op.static["dtype"])
        case Selection(transposed=False):
            return Selection(op.index.then(rows), op.index.size, op.static["dtype"])
        case Identity():
            return Selection(rows, rows.size, op.static["dtype"])
        case Zero():
            return Zero(len(rows), op.n, op.static["dtype"])
    return None


def _block_sparse(op: BlockSparse, rows: Gather) -> LinearOperator | None:
    """Whole rows of blocks, or the same rows of every block."""
    high = op.block[0]
    digits = _digits(rows, (op.pattern.shape[0], high))
    if digits is None:
        return None
    pattern, order = op.pattern.taken(digits[0].array())
    return BlockSparse(digits[1].take(gathered(op.blocks, order, -3), -2), pattern)


def _split(rows: Gather, sizes: Sequence[int]) -> list[Gather] | None:
    """The rows in each of the parts of a vector, where they come part by part."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    index = rows.array()
    part = np.searchsorted(starts, index, side="right") - 1
    if bool((np.diff(part) < 0).any()):
        return None
    return [
        Gather.of(index[part == i] - start, size)
        for i, (start, size) in enumerate(zip(starts, sizes, strict=False))
    ]


def _digits(rows: Gather, sizes: Sequence[int]) -> list[Gather] | None:
    """A set of digits for each radix, where the rows are all that these spell, in order."""
    out: list[Gather] = []
    index = rows.array()
    for i in range(len(sizes) - 1):
        rest = int(np.prod(sizes[i + 1 :]))
        high, low = index // rest, index % rest
        run = int(np.argmax(high != high[0])) or len(high)
        if len(high) % run:
            return None
        high, low = high.reshape(-1, run), low.reshape(-1, run)
        if bool((high != high[:, :1]).any()) or bool((low != low[0]).any()):
            return None
        out.append(Gather.of(high[:, 0], sizes[i]))
        index = low[0]
    return [*out, Gather.of(index, sizes[-1])]


def _spelled(digits: Sequence[Gather]) -> Gather:
    """The positions that these digits spell."""
    index, size = np.zeros(1, dtype=np.int64), 1
    for d in digits:
        index = (index[:, None] * d.size + d.array()).reshape(-1)
        size *= d.size
    return Gather.of(index, size)


def _all(n: int) -> Gather:
    return Gather.of(range(n), n)


def _factor(op: BlockDiagonal | KroneckerSparse, rows: Gather) -> LinearOperator | None:
    """Rows of a factor: whole digits, or the outermost blocks that hold them."""
    values = values_of(op)
    a, b, c, d = values.shape[-4:]
    digits = _digits(rows, (a, b, d))
    if digits is None:
        outer = rows.array() // (b * d)
        low, high = int(outer.min()), int(outer.max()) + 1
        if high - low == a:
            return None
        kept = Gather.of(range(low, high), a)
        inner = leaf_of(kept.take(values, -4))
        inside = Gather.of(rows.array() - low * b * d, (high - low) * b * d)
        columns = _spelled([kept, _all(c * d)])
        first = Selection(inside, inside.size)
        return Product(first, inner, Selection(columns, columns.size))
    i, j, l = digits
    new = leaf_of(l.take(j.take(i.take(values, -4), -3), -1))
    columns = _spelled([i, _all(c), l])
    return new if columns.is_identity else Product(new, Selection(columns, columns.size))


def _direct_sum(op: DirectSum, rows: Gather) -> LinearOperator | None:
    parts = _split(rows, [c.shape[0] for c in op.children])
    if parts is None:
        return None
    kept = [(c, part) for c, part in zip(op.children, parts, strict=True) if len(part)]
    new = [cut(c, part) for c, part in kept]
    inner = new[0] if len(new) == 1 else DirectSum(*new)
    if len(kept) == len(parts):
        return inner
    starts = np.cumsum([0, *(c.shape[1] for c in op.children)])
    used = [
        np.arange(s, e) for (s, e), part in zip(pairwise(starts), parts, strict=True) if len(part)
    ]
    columns = Gather.of(np.concatenate(used), op.shape[1])
    return Product(inner, Selection(columns, columns.size))


def _kronecker_sum(op: KroneckerSum, rows: Gather) -> LinearOperator | None:
    sizes = [c.shape[0] for c in op.children]
    digits = _digits(rows, sizes)
    if digits is None:
        return None
    some = [cut(Identity(s), d) for s, d in zip(sizes, digits, strict=True)]
    terms = []
    for i, (c, d) in enumerate(zip(op.children, digits, strict=True)):
        terms.append(Kronecker(*some[:i], cut(c, d), *some[i + 1 :]))
    return Sum(*terms)


def constant_diagonals(op: LinearOperator, rows: Gather, columns: Gather) -> LinearOperator | None:
    """A slice of a Toeplitz or Hankel matrix, read from its (anti)diagonals."""
    n = op.shape[1]
    r, c = rows.run, columns.run
    if not r or not c or 0 in op.shape:
        return None
    if isinstance(op, Hankel):
        values, zero, sign = op._antidiagonals(), 0, 1
    else:
        assert isinstance(op, Toeplitz | Circulant)
        values, zero, sign = join(op.row[..., 1:].flip(-1), op.c), n - 1, -1
    down, along = r.step, sign * c.step
    if len(r) == 1:
        down = along
    if len(c) == 1:
        along = down
    if abs(down) != abs(along):
        return None
    first = zero + r.start + sign * c.start
    column = _read(values, first, down, len(r))
    if along == -down:
        return Toeplitz(column, _read(values, first, along, len(c)))
    return Hankel(column, _read(values, first + down * (len(r) - 1), along, len(c)))


def _read(values: Tensor, first: int, step: int, count: int) -> Tensor:
    return Gather.of(range(first, first + step * count, step), values.shape[-1]).take(values, -1)
