"""Properties of block matrices, Kronecker sums, elementwise products, selections, and others.

block        (lower, upper) of a block whose first entry is at (p, q) moves by p - q and q - p;
             ranks add, and a row or column of blocks has at most its height or width
A (+) B      = A (x) I + I (x) B: semidefinite if all terms are; the widest term's bandwidth
S A S^T      with a selection S reads the same from both ends: principal submatrices of
             symmetric and semidefinite matrices are such, by the canonical form of products

Source of the rule of Schur: Horn and Johnson, Topics in matrix analysis, section 5.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from math import prod

import numpy as np

from structmat.compose import Block, Elementwise, KroneckerSum, Selection
from structmat.compose.turned import Turned
from structmat.leaves.displacement import LowDisplacementRank
from structmat.leaves.statespace import StateSpace
from structmat.operator import LinearOperator
from structmat.properties.band import Band, band, bandwidth, kronecker_band
from structmat.properties.canonical import Canon, node_form
from structmat.properties.definite import psd, surely_psd
from structmat.properties.displacement import displacement
from structmat.properties.leaves import real_leaf, symmetric_leaf
from structmat.properties.rank import rank, rank_bound
from structmat.properties.unitary import scale

__all__: list[str] = []


# block matrices ----------------------------------------------------------------------------------


@node_form.register(Block)
def _(op: Block, canon: Canon, t: bool, c: bool) -> Hashable:
    rows = [tuple(canon.form(b, t, c) for b in row) for row in op.rows()]
    return "Block", tuple(zip(*rows, strict=True) if t else rows)


@band.register(Block)
def _(op: Block) -> Band:
    found, p = [(0, 0)], 0
    for row, height in zip(op.rows(), op.heights, strict=True):
        q = 0
        for b, width in zip(row, op.widths, strict=True):
            if rank_bound(b):
                lower, upper = bandwidth(b)
                found.append((lower + p - q, upper + q - p))
            q += width
        p += height
    return max(b[0] for b in found), max(b[1] for b in found)


@rank.register(Block)
def _(op: Block) -> int:
    ranks = [[rank_bound(b) for b in row] for row in op.rows()]
    by_rows: int = sum(min(h, sum(row)) for h, row in zip(op.heights, ranks, strict=True))
    columns = zip(op.widths, zip(*ranks, strict=True), strict=True)
    by_columns: int = sum(min(w, sum(column)) for w, column in columns)
    return min(by_rows, by_columns)


# Kronecker sums ----------------------------------------------------------------------------------


@node_form.register(KroneckerSum)
def _(op: KroneckerSum, canon: Canon, t: bool, c: bool) -> Hashable:
    return "KroneckerSum", tuple(canon.form(child, t, c) for child in op.children)


@band.register(KroneckerSum)
def _(op: KroneckerSum) -> Band:
    sizes = [c.shape[0] for c in op.children]
    found = []
    for i, c in enumerate(op.children):
        pre, post = prod(sizes[:i]), prod(sizes[i + 1 :])
        parts = [(pre, pre, (0, 0)), (*c.shape, bandwidth(c)), (post, post, (0, 0))]
        found.append(kronecker_band(parts))
    return max(b[0] for b in found), max(b[1] for b in found)


@psd.register(KroneckerSum)
def _(op: KroneckerSum) -> bool | None:
    return True if all(map(surely_psd, op.children)) else None


# elementwise products ----------------------------------------------------------------------------


@node_form.register(Elementwise)
def _(op: Elementwise, canon: Canon, t: bool, c: bool) -> Hashable:
    parts = Counter(canon.form(child, t, c) for child in op.children)
    return "Elementwise", frozenset(parts.items())


@band.register(Elementwise)
def _(op: Elementwise) -> Band:
    bands = [bandwidth(c) for c in op.children]
    return min(b[0] for b in bands), min(b[1] for b in bands)


@rank.register(Elementwise)
def _(op: Elementwise) -> int:
    return prod(map(rank_bound, op.children))


@psd.register(Elementwise)
def _(op: Elementwise) -> bool | None:
    return True if all(map(surely_psd, op.children)) else None


# selections --------------------------------------------------------------------------------------


@real_leaf.register(Selection)
def _(op: Selection) -> bool | None:
    return True


@symmetric_leaf.register(Selection)
def _(op: Selection) -> bool | None:
    m, n = op.shape
    if m != n:
        return False
    index = op.index.array()
    # a row has one entry, so a symmetric selection has one in each column: an involution
    return op.index.unique and bool((index[index] == np.arange(n)).all())


@band.register(Selection)
def _(op: Selection) -> Band:
    lags = np.arange(len(op.index)) - op.index.array()
    lower, upper = int(lags.max(initial=0)), int(-lags.min(initial=0))
    return (upper, lower) if op.transposed else (lower, upper)


@rank.register(Selection)
def _(op: Selection) -> int:
    return len(op.index) if op.index.unique else len(np.unique(op.index.array()))


@scale.register(Selection)
def _(op: Selection) -> float | None:
    return 1.0 if op.index.unique and op.shape[0] == op.shape[1] else None


# others ------------------------------------------------------------------------------------------


@node_form.register(Turned)
def _(op: LinearOperator, canon: Canon, t: bool, c: bool) -> Hashable:
    return canon.form(op.children[0], not t, c)


@band.register(StateSpace)
def _(op: StateSpace) -> Band:
    n = op.length
    return (0, n - 1) if op.transposed else (n - 1, 0)


@displacement.register(StateSpace)
def _(op: StateSpace, f: int, g: int) -> int | None:
    return 2  # a Toeplitz matrix


@displacement.register(LowDisplacementRank)
def _(op: LowDisplacementRank, f: int, g: int) -> int | None:
    # each shift that is another one changes one row, or one column
    return op.rank + (f != op.f) + (g != -op.f)
