"""Slices by structure: a selection moves into what it selects from.

Rows of a product are rows of its first factor, so rules need to look at S A and A S^T only (and at
S A S^T for matrices constant along diagonals, whose slices are of that kind where both sides have
one step). :mod:`structmat.rules.rows` finds the rows of A structure by structure; columns are the
rows of the transpose.
"""

from __future__ import annotations

import numpy as np

from structmat.compose import (
    Block,
    DirectSum,
    Elementwise,
    Kronecker,
    KroneckerSum,
    Product,
    Selection,
    Sum,
    direct_sum,
    kron,
)
from structmat.compose.straight import turned
from structmat.gather import Gather
from structmat.index import recognise
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Zero
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import strong
from structmat.rules.rows import constant_diagonals, take_rows
from structmat.rules.table import rule

Factor = (BlockDiagonal, KroneckerSparse, Monarch, MonarchChain, Butterfly)
Constant = (Toeplitz, Circulant, Hankel)
Composite = (DirectSum, Block, Kronecker, KroneckerSum, Sum, Elementwise)
Sliceable = (Dense, LowRank, Diagonal, Sparse, BlockSparse, *Factor, *Constant, *Composite)


def _rows(op: LinearOperator, *index: int) -> LinearOperator:
    return Selection(list(index), op.shape[0]) @ op


@rule(
    Selection,
    Sliceable,
    inside=Product,
    example=lambda g: _rows(kron(ex.dense(g, 3, 3), ex.dense(g, 2, 2)), 0, 1, 4, 5),
)
def rows_by_structure(s: Selection, a: LinearOperator) -> LinearOperator | None:
    """Rows of a structured matrix are a structured matrix."""
    return None if s.transposed else take_rows(a, s.index)


@rule(
    Sliceable,
    Selection,
    inside=Product,
    example=lambda g: (
        direct_sum(ex.dense(g, 2, 3), ex.dense(g, 3, 4)) @ Selection([1, 2, 5], 7)._transpose()
    ),
)
def columns_by_structure(a: LinearOperator, s: Selection) -> LinearOperator | None:
    """Columns of a structured matrix are a structured matrix."""
    new = take_rows(turned(a), s.index) if s.transposed else None
    return None if new is None else turned(new)


@rule(
    Selection,
    Constant,
    Selection,
    inside=Product,
    exact=False,
    example=lambda g: (
        Selection(range(1, 9, 2), 9)
        @ Toeplitz(ex.ints(g, 9), ex.ints(g, 9))
        @ Selection(range(0, 6, 2), 9)._transpose()
    ),
)
def slice_of_constant_diagonals(
    s: Selection, a: LinearOperator, t: Selection
) -> LinearOperator | None:
    """A slice of a Toeplitz or Hankel matrix with one step on both sides is Toeplitz or Hankel."""
    return None if s.transposed or not t.transposed else constant_diagonals(a, s.index, t.index)


@rule(Selection, example=lambda g: Selection([1, 0, 2], 3))
def selection_of_everything(s: Selection) -> LinearOperator | None:
    """A selection of every entry once is a permutation."""
    if len(s.index) != s.index.size or not s.index.unique:
        return None
    p = Permutation(recognise(s.index.array()), s.static["dtype"])
    return p._transpose() if s.transposed else p


Movers = (Permutation, Selection)


@rule(
    Movers,
    Movers,
    inside=Product,
    example=lambda g: Selection([0, 2, 2], 3) @ Selection(range(1, 4), 5),
)
def selections_compose(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """A selection from a selection, or beside a permutation, is a selection."""
    forward = [not (isinstance(m, Selection) and m.transposed) for m in (a, b)]
    selects = [isinstance(m, Selection) for m in (a, b)]
    if not any(selects):
        return None
    if all(forward):
        index = _gather(b).then(_gather(a))
        return Selection(index, index.size, strong(a, b))
    if all(not f or not s for f, s in zip(forward, selects, strict=True)):
        new = selections_compose(b._transpose(), a._transpose())
        return None if new is None else new._transpose()
    return None


def _gather(m: LinearOperator) -> Gather:
    if isinstance(m, Selection):
        return m.index
    assert isinstance(m, Permutation)
    return Gather.of(m.index.array(), m.shape[0])


@rule(
    Selection,
    Selection,
    inside=Product,
    example=lambda g: Selection([3, 1], 5) @ Selection([1, 3, 4], 5)._transpose(),
)
def selection_of_places(s: Selection, t: Selection) -> LinearOperator | None:
    """S S^T = I, S T^T = 0 without common positions, and a selection where T holds those of S."""
    if s.transposed or not t.transposed:
        return None
    a, b = s.index.array(), t.index.array()
    dtype = strong(s, t)
    shared = np.isin(a, b)
    if not shared.any():
        return Zero(len(a), len(b), dtype)
    if shared.all() and t.index.unique:
        return Selection(_found(a, b), len(b), dtype)
    if np.isin(b, a).all() and s.index.unique:
        return Selection(_found(b, a), len(a), dtype)._transpose()
    return None


def _found(a: np.ndarray, b: np.ndarray) -> Gather:
    """Where the positions a stand in b."""
    order = np.argsort(b)
    return Gather.of(order[np.searchsorted(b[order], a)], len(b))
