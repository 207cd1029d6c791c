"""What patterns say: the band of the entries, and the rank that filled rows and columns allow."""

from __future__ import annotations

from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.properties.band import Band, band
from structmat.properties.rank import rank

__all__: list[str] = []


@band.register
def _(op: Sparse) -> Band:
    lags = op.pattern.rows.array() - op.pattern.indices.array()
    return int(lags.max(initial=0)), int((-lags).max(initial=0))


@band.register
def _(op: BlockSparse) -> Band:
    (p, q), rows, columns = op.block, op.pattern.rows.array(), op.pattern.indices.array()
    below = rows * p + (p - 1) - columns * q
    above = columns * q + (q - 1) - rows * p
    return int(below.max(initial=0)), int(above.max(initial=0))


@rank.register
def _(op: Sparse) -> int:
    return min(op.pattern.filled)


@rank.register
def _(op: BlockSparse) -> int:
    (rows, columns), (p, q) = op.pattern.filled, op.block
    return min(rows * p, columns * q, op.pattern.nnz * min(p, q))
