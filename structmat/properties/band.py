"""Bandwidths, and with them triangular and diagonal matrices.

(lower, upper) bounds where entries may stand: A[i, j] = 0 unless -upper <= i - j <= lower, for
rectangular matrices too. Through composition:

    Sum: the maximum.  Product: the sum, since i - j = (i - k) + (k - j).  Transpose: exchanged.
    A (x) B, B of r x s: i - j = (i1 r - j1 s) + (i2 - j2), at most
        min(r, s) lower_A + (m_A - 1) max(r - s, 0) + lower_B, likewise above.
    DirectSum: a block whose first entry is at (p, q) adds p - q below and q - p above.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce, singledispatch
from typing import Literal

import numpy as np

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Selection, Sum, Transpose
from structmat.index import IndexMap
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.companion import Companion
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
from structmat.leaves.toeplitz import Circulant
from structmat.leaves.trigonometric import Trigonometric
from structmat.leaves.wavelet import Wavelet
from structmat.operator import LinearOperator
from structmat.properties.logic import both, either, need_operator, subspace

__all__ = ["band", "bandwidth", "is_diagonal", "is_triangular"]

Band = tuple[int, int]
Side = Literal["lower", "upper"]


def bandwidth(op: LinearOperator) -> tuple[int, int]:
    """Upper bounds of the lower and the upper bandwidth, from structure alone.

    Args:
        op: the operator.

    Returns:
        (lower, upper): A[i, j] = 0 for i - j > lower and for j - i > upper, in every matrix of a
        batch and whatever the numbers.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Convolution(torch.ones(3), 8)
        >>> sm.bandwidth(A), sm.bandwidth(A.T + sm.Diagonal(torch.ones(8)))
        ((2, 0), (0, 2))
    """
    need_operator("bandwidth", op)
    m, n = op.shape
    if m == 0 or n == 0:
        return 0, 0
    lower, upper = band(op)
    if op.assumed & {"upper", "diagonal"}:
        lower = 0
    if op.assumed & {"lower", "diagonal"}:
        upper = 0
    return min(max(lower, 0), m - 1), min(max(upper, 0), n - 1)


def is_triangular(op: LinearOperator, side: Side | None = None) -> bool | None:
    """Whether every entry above (``"lower"``) or below (``"upper"``) the diagonal is zero.

    Args:
        op: the operator; rectangular ones have a diagonal too, the entries (i, i).
        side: ``"lower"``, ``"upper"``, or None for either of the two.

    Returns:
        True, False, or None where the structure leaves it open.

    Raises:
        ValueError: an unknown side.

    Example:
        >>> import torch, structmat as sm
        >>> L = sm.Convolution(torch.ones(3), 8)
        >>> sm.is_triangular(L), sm.is_triangular(L.T, "upper"), sm.is_triangular(sm.reversal(2))
        (True, True, False)
    """
    need_operator("is_triangular", op)
    if side not in ("lower", "upper", None):
        raise ValueError(f"is_triangular: side {side!r} is none of 'lower', 'upper', None")
    if side is None:
        return either(is_triangular(op, "lower"), is_triangular(op, "upper"))
    axis = 1 if side == "lower" else 0
    if bandwidth(op)[axis] == 0:
        return True
    match op:
        case Transpose():
            return is_triangular(op.children[0], "upper" if side == "lower" else "lower")
        case Scaled() if not op.tensors and op.alpha != 0:
            return is_triangular(op.children[0], side)
        case Sum():
            return subspace(*(is_triangular(c, side) for c in op.children))
        case DirectSum() if all(c.shape[0] == c.shape[1] for c in op.children):
            return both(*(is_triangular(c, side) for c in op.children))
    # at least two columns (rows): the diagonal leaves out an entry of the first row (column)
    return False if isinstance(op, Permutation) or edges(op) else None


def is_diagonal(op: LinearOperator) -> bool | None:
    """Whether every entry off the diagonal is zero.

    Args:
        op: the operator; may be rectangular.

    Returns:
        True, False, or None where the structure leaves it open.

    Example:
        >>> import torch, structmat as sm
        >>> D, P = sm.Diagonal(torch.ones(4)), sm.cyclic_shift(4)
        >>> sm.is_diagonal(P @ D @ P.T), sm.is_diagonal(P)
        (True, False)
    """
    return both(is_triangular(op, "lower"), is_triangular(op, "upper"))


@singledispatch
def band(op: LinearOperator) -> Band:
    """(lower, upper) by class, before it is cut to the size; full for an unknown class.

    Register a class of your own: ``band.register(MyLeaf, lambda op: (0, 0))``.
    """
    m, n = op.shape
    return m - 1, n - 1


@band.register(Identity)
@band.register(Zero)
@band.register(Diagonal)
def _(op: LinearOperator) -> Band:
    return 0, 0


@band.register
def _(op: Permutation) -> Band:
    lags = np.arange(op.index.size) - op.index.array()
    return int(lags.max(initial=0)), int(-lags.min(initial=0))


@band.register
def _(op: BlockDiagonal) -> Band:
    k, q, p = op.blocks.shape[-3:]
    return kronecker_band([(k, k, (0, 0)), (q, p, (q - 1, p - 1))])


@band.register
def _(op: KroneckerSparse) -> Band:
    a, b, c, d = op.pattern
    return kronecker_band([(a, a, (0, 0)), (b, c, (b - 1, c - 1)), (d, d, (0, 0))])


@band.register
def _(op: LowRank) -> Band:
    m, n = op.shape
    return (0, 0) if op.left.shape[-1] == 0 else (m - 1, n - 1)


@band.register(Monarch)
@band.register(Butterfly)
def _(op: Monarch | Butterfly) -> Band:
    return product_band(op.factors())


@band.register(MonarchChain)
@band.register(Product)
def _(op: LinearOperator) -> Band:
    return product_band(op.children)


@band.register
def _(op: Convolution) -> Band:
    axes = []
    for n, size, m in zip(op.n, op._support, op._outputs(), strict=True):
        lower, upper = size - 1, 0
        if op.mode == "circular":
            lower, upper = (0, 0) if size == 1 else (m - 1, n - 1)
        elif op.mode == "same":
            first = (size - 1) // 2
            lower, upper = size - 1 - first, first
        axes.append((m, n, (min(lower, max(m - 1, 0)), min(upper, max(n - 1, 0)))))
    lower, upper = kronecker_band(axes)
    return (upper, lower) if op.transposed else (lower, upper)


@band.register
def _(op: Circulant) -> Band:
    n = op.shape[0]
    return n - 1, 0 if op.f == 0 else n - 1


@band.register
def _(op: Companion) -> Band:
    n = op.shape[0]
    return (n - 1, 1) if op.transposed else (1, n - 1)


@band.register
def _(op: Wavelet) -> Band:
    n = op.shape[0]
    return (0, 0) if op.levels == 0 else (n - 1, n - 1)


@band.register
def _(op: Scaled) -> Band:
    return (0, 0) if not op.tensors and op.alpha == 0 else bandwidth(op.children[0])


@band.register
def _(op: Transpose) -> Band:
    lower, upper = bandwidth(op.children[0])
    return upper, lower


@band.register
def _(op: Sum) -> Band:
    return _widest(bandwidth(c) for c in op.children)


@band.register
def _(op: Kronecker) -> Band:
    return kronecker_band([(*c.shape, bandwidth(c)) for c in op.children])


@band.register
def _(op: DirectSum) -> Band:
    found, p, q = [], 0, 0
    for c in op.children:
        if 0 not in c.shape:
            lower, upper = bandwidth(c)
            found.append((lower + p - q, upper + q - p))
        p, q = p + c.shape[0], q + c.shape[1]
    return _widest(found)


def product_band(ops: Iterable[LinearOperator]) -> Band:
    """Of a product: bounds add. What stands between P and P^T keeps a bandwidth of zero; slices
    move the diagonal.
    """
    parts = list(ops)
    around = len(parts) > 2 and _inverse(parts[0], parts[-1])
    if around and product_band(parts[1:-1]) == (0, 0):
        return 0, 0
    top, left = _start(parts[0], False), _start(parts[-1], True)
    if len(parts) > 1 and not (top is left is None):  # a slice: entry (i, j) is (i + top, j + left)
        inner = parts[(top is not None) : len(parts) - (left is not None)]
        if inner:
            (lower, upper), moved = product_band(inner), (top or 0) - (left or 0)
            return lower - moved, upper + moved
    return _added([bandwidth(c) for c in parts])


def kronecker_band(parts: Iterable[tuple[int, int, Band]]) -> Band:
    """Of a Kronecker product of matrices given as (rows, columns, band)."""

    def pair(a: tuple[int, int, Band], b: tuple[int, int, Band]) -> tuple[int, int, Band]:
        (m, n, (la, ua)), (r, s, (lb, ub)) = a, b
        lower = min(r, s) * la + (m - 1) * max(r - s, 0) + lb
        upper = min(r, s) * ua + (n - 1) * max(s - r, 0) + ub
        return m * r, n * s, (lower, upper)

    return reduce(pair, parts)[2]


def edges(op: LinearOperator) -> bool:
    """Whether no entry of the first row and of the first column can be zero."""
    match op:
        case DFT() | Hadamard() | Trigonometric():
            return True
        case Transpose() | Kronecker():
            return all(map(edges, op.children))
        case Scaled():
            return not op.tensors and op.alpha != 0 and edges(op.children[0])
    return False


def _start(op: LinearOperator, transposed: bool) -> int | None:
    """Where a selection of neighbours starts: of rows, or transposed, of columns."""
    if isinstance(op, Transpose):
        return _start(op.children[0], not transposed)
    if not isinstance(op, Selection) or op.transposed != transposed or not len(op.index):
        return None
    return int(op.index.array()[0]) if op.index.contiguous else None


def _index(op: LinearOperator) -> IndexMap | None:
    if isinstance(op, Transpose) and isinstance(op.children[0], Permutation):
        return op.children[0].index.inverse()
    return op.index if isinstance(op, Permutation) else None


def _inverse(a: LinearOperator, b: LinearOperator) -> bool:
    """Whether a and b are permutations, inverse to each other."""
    left, right = _index(a), _index(b)
    if left is None or right is None or left.size != right.size:
        return False
    return left.then(right).is_identity


def _widest(bands: Iterable[Band]) -> Band:
    found = list(bands) or [(0, 0)]
    return max(b[0] for b in found), max(b[1] for b in found)


def _added(bands: list[Band]) -> Band:
    return sum(b[0] for b in bands), sum(b[1] for b in bands)
