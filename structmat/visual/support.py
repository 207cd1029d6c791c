"""Where the entries of an operator may be different from zero, as rectangles.

The support follows the structure and never the numbers: a Monarch factor is drawn from its
pattern, a permutation from its index (a dense matrix, which has no structure, from its entries).
Rectangles smaller than a *grain* (the matrix entries behind one pixel) are merged, so that the
number of rectangles is bounded by the picture and not by the matrix. An operator without a rule
here is made dense where it is small, and drawn full otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.leaves.statespace import StateSpace
from structmat.leaves.wavelet import Wavelet
from structmat.operator import LinearOperator

__all__ = ["Box", "Part", "Support", "factors", "support"]

Box = NDArray[np.int64]
"""Rectangles as rows (top, bottom, left, right), ends exclusive."""

DENSE_LIMIT = 1 << 20
"""Operators without a rule are made dense up to this many entries."""
FULL = (
    "LowRank",
    "Toeplitz",
    "Hankel",
    "Circulant",
    "DFT",
    "RDFT",
    "Trigonometric",
    "Hadamard",
    "Vandermonde",
    "Cauchy",
    "LowDisplacementRank",
    "Inverse",
)
"""Classes that are drawn full: no entry of theirs is zero because of its place."""
MOST = 1 << 21
"""The most rectangles of one family."""


@dataclass(frozen=True)
class Support:
    """Rectangles of one family.

    Attributes:
        family: the name of the class they come from.
        boxes: rectangles, (count, 4).
    """

    family: str
    boxes: Box

    def moved(self, down: int, right: int) -> Support:
        """Shifted."""
        return Support(self.family, self.boxes + np.array([down, down, right, right]))

    def turned(self) -> Support:
        """Transposed."""
        return Support(self.family, self.boxes[:, [2, 3, 0, 1]])


def support(op: LinearOperator, grain: tuple[int, int] = (1, 1)) -> list[Support]:
    """The support of an operator, one entry a family (or more).

    Args:
        op: a concrete operator.
        grain: rows and columns that cannot be told apart in the picture.

    Example:
        >>> import torch, structmat as sm
        >>> from structmat.visual.support import support
        >>> support(sm.BlockDiagonal(torch.ones(2, 1, 2)))[0].boxes.tolist()
        [[0, 1, 0, 2], [1, 2, 2, 4]]
    """
    if 0 in op.shape:
        return []
    rule = next((RULES[c.__name__] for c in type(op).__mro__ if c.__name__ in RULES), None)
    if rule is not None:
        return rule(op, grain)
    if op.shape[0] * op.shape[1] <= DENSE_LIMIT:
        return [Support(type(op).__name__, _entries(op))]
    return [Support(type(op).__name__, _full(op))]


@dataclass(frozen=True)
class Part:
    """A factor of a chain, as it is drawn.

    Attributes:
        op: the factor.
        title: what it is called.
        family: whose colour it has; None for its own.
    """

    op: LinearOperator
    title: str
    family: str | None = None


def factors(op: LinearOperator) -> list[Part]:
    """The factors of a product, of a Monarch matrix, of a butterfly, ...; leftmost first."""
    match op:
        case Product():
            return [f for c in op.children for f in factors(c)]
        case Monarch():
            left, right = op.factors()
            return [
                Part(left, "Monarch, left", "Monarch"),
                Part(right, "Monarch, right", "Monarch"),
            ]
        case Butterfly():
            return [Part(f, f"Butterfly, stride {f.pattern[3]}", "Butterfly") for f in op.factors()]
        case MonarchChain():
            return [Part(f, str(f.pattern).replace(" ", ""), "MonarchChain") for f in op.factors()]
        case LowRank():
            return [
                Part(Dense(op.left), "LowRank, U", "LowRank"),
                Part(Dense(op.right), "LowRank, V", "LowRank"),
            ]
        case Scaled():
            alpha = "α" if op.tensors else f"{op.alpha:g}"
            first, *rest = factors(op.children[0])
            return [Part(Scaled(op.alpha, first.op), f"{alpha} {first.title}", first.family), *rest]
        case Transpose():
            parts = factors(op.children[0])[::-1]
            return [Part(f.op.T, f"{f.title}, transposed", f.family) for f in parts]
    return [Part(op, type(op).__name__)]


def _boxes(top: Any, bottom: Any, left: Any, right: Any) -> Box:
    sides = np.broadcast_arrays(top, bottom, left, right)
    return np.stack([np.asarray(s, dtype=np.int64).reshape(-1) for s in sides], 1)


def _points(rows: Any, columns: Any) -> Box:
    rows, columns = np.asarray(rows), np.asarray(columns)
    return _boxes(rows, rows + 1, columns, columns + 1)


def _full(op: LinearOperator) -> Box:
    m, n = op.shape
    return _boxes(0, m, 0, n)


def _entries(op: LinearOperator) -> Box:
    """The entries that are not zero, in any operator of the batch; all, where there are none."""
    if op.device.type == "meta":
        return _full(op)
    with torch.no_grad():
        dense: Tensor = op.weight if isinstance(op, Dense) else op.to_dense()
        hit = (dense != 0).reshape(-1, *op.shape).any(0).cpu().numpy()
    if hit.all():
        return _full(op)
    return _points(*np.nonzero(hit))


# leaves ------------------------------------------------------------------------------------------


def _diagonal(op: LinearOperator, grain: tuple[int, int]) -> list[Support]:
    i = np.arange(op.shape[0])
    return [Support(type(op).__name__, _points(i, i))]


def _permutation(op: Permutation, grain: tuple[int, int]) -> list[Support]:
    return [Support("Permutation", _points(np.arange(op.shape[0]), op.index.array()))]


def _blocks(op: BlockDiagonal, grain: tuple[int, int]) -> list[Support]:
    k, q, p = op.blocks.shape[-3:]
    i = np.arange(k)
    return [Support("BlockDiagonal", _boxes(i * q, (i + 1) * q, i * p, (i + 1) * p))]


def _kronecker_sparse(op: KroneckerSparse, grain: tuple[int, int]) -> list[Support]:
    a, b, c, d = op.pattern
    if d == 1 or d <= min(grain) or a * b * c * d > MOST:
        i = np.arange(a)
        boxes = _boxes(i * b * d, (i + 1) * b * d, i * c * d, (i + 1) * c * d)
    else:
        i, j, k, l = np.ogrid[:a, :b, :c, :d]
        boxes = _points(*np.broadcast_arrays((i * b + j) * d + l, (i * c + k) * d + l))
    return [Support("KroneckerSparse", boxes)]


def _convolution(op: Convolution, grain: tuple[int, int]) -> list[Support]:
    """A band for signals; images by their entries."""
    if len(op.n) == 2:
        small = op.shape[0] * op.shape[1] <= DENSE_LIMIT
        return [Support("Convolution", _entries(op) if small else _full(op))]
    (n,), (size,) = op.n, op._support
    m = op._outputs()[0]
    shift = (size - 1) // 2 if op.mode == "same" else 0
    i = np.arange(m) + shift
    boxes = _boxes(i - shift, i - shift + 1, np.maximum(i - size + 1, 0), np.minimum(i + 1, n))
    if op.mode == "circular":
        around = _boxes(i, i + 1, np.maximum(i - size + 1 + n, 0), n)
        boxes = np.concatenate([boxes, around])
    found = Support("Convolution", boxes[boxes[:, 2] < boxes[:, 3]])
    return [found.turned() if op.transposed else found]


def _wavelet(op: Wavelet, grain: tuple[int, int]) -> list[Support]:
    """Row i of level l reads (size - 1)(2^l - 1) + 1 entries from 2^l i on, around the end."""
    n, size = op.n, len(op.taps)
    parts, start = [], 0
    for level in [op.levels, *range(op.levels, 0, -1)]:
        i = np.arange(n >> level)
        left = i << level
        length = min((size - 1) * ((1 << level) - 1) + 1, n)
        parts.append(_boxes(start + i, start + i + 1, left, np.minimum(left + length, n)))
        parts.append(_boxes(start + i, start + i + 1, 0, left + length - n))
        start += n >> level
    boxes = np.concatenate(parts)
    found = Support("Wavelet", boxes[boxes[:, 2] < boxes[:, 3]])
    return [found.turned() if op.transposed else found]


def _selection(op: Selection, grain: tuple[int, int]) -> list[Support]:
    found = Support("Selection", _points(np.arange(len(op.index)), op.index.array()))
    return [found.turned() if op.transposed else found]


def _sparse(op: Sparse, grain: tuple[int, int]) -> list[Support]:
    return [Support("Sparse", _points(op.pattern.rows.array(), op.pattern.indices.array()))]


def _block_sparse(op: BlockSparse, grain: tuple[int, int]) -> list[Support]:
    p, q = op.block
    boxes = _points(op.pattern.rows.array(), op.pattern.indices.array())
    return [Support("BlockSparse", boxes * np.array([p, p, q, q]))]


def _companion(op: Companion, grain: tuple[int, int]) -> list[Support]:
    n = op.shape[0]
    i = np.arange(n - 1)
    found = Support("Companion", np.concatenate([_boxes(0, 1, 0, n), _points(i + 1, i)]))
    return [found.turned() if op.transposed else found]


def _lower_triangle(op: StateSpace, grain: tuple[int, int]) -> list[Support]:
    """On and below the diagonal; below it where there is no D."""
    above = 0 if "D" in op.tensors else 1
    i = np.arange(above, op.shape[0])
    found = Support("StateSpace", _boxes(i, i + 1, 0, i + 1 - above))
    return [found.turned() if op.transposed else found]


# combinators -------------------------------------------------------------------------------------


def _child(op: LinearOperator, grain: tuple[int, int]) -> list[Support]:
    return support(op.children[0], grain)


def _transpose(op: LinearOperator, grain: tuple[int, int]) -> list[Support]:
    return [s.turned() for s in support(op.children[0], (grain[1], grain[0]))]


def _sum(op: LinearOperator, grain: tuple[int, int]) -> list[Support]:
    """The terms over each other, the largest below."""
    found = [s for c in op.children for s in support(c, grain)]
    return sorted(found, key=lambda s: -_area(s.boxes))


def _direct_sum(op: DirectSum, grain: tuple[int, int]) -> list[Support]:
    out, i, j = [], 0, 0
    for c in op.children:
        out += [s.moved(i, j) for s in support(c, grain)]
        i, j = i + c.shape[0], j + c.shape[1]
    return out


def _block(op: Block, grain: tuple[int, int]) -> list[Support]:
    out, i = [], 0
    for row, height in zip(op.rows(), op.heights, strict=True):
        j = 0
        for c in row:
            out += [s.moved(i, j) for s in support(c, grain)]
            j += c.shape[1]
        i += height
    return out


def _kronecker_sum(op: KroneckerSum, grain: tuple[int, int]) -> list[Support]:
    terms, sizes = [], [c.shape[0] for c in op.children]
    for i, c in enumerate(op.children):
        left, right = Identity(math.prod(sizes[:i])), Identity(math.prod(sizes[i + 1 :]))
        terms.append(Kronecker(left, c, right))
    return _sum(Sum(*terms), grain)


def _elementwise(op: LinearOperator, grain: tuple[int, int]) -> list[Support]:
    """Not more than that of the operand with fewer entries."""
    found = [support(c, grain) for c in op.children]
    return min(found, key=lambda parts: sum(_area(s.boxes) for s in parts))


def _kronecker(op: Kronecker, grain: tuple[int, int]) -> list[Support]:
    first, *others = op.children
    if not others:
        return support(first, grain)
    rest = Kronecker(*others)
    m, n = rest.shape
    coarse = (max(grain[0] // m, 1), max(grain[1] // n, 1))
    scale = np.array([m, m, n, n])
    outer = support(first, coarse)
    inner = support(rest, grain)
    if m <= grain[0] and n <= grain[1]:
        ink = inner[0].family if inner else "Zero"
        return [Support(_heavier(s.family, ink), s.boxes * scale) for s in outer if inner]
    out = []
    for s in outer:
        for part in inner:
            whole = len(part.boxes) == 1 and (part.boxes[0] == [0, m, 0, n]).all()
            if whole or _area(s.boxes) * len(part.boxes) > MOST:
                boxes, family = s.boxes * scale, _heavier(s.family, part.family)
            else:
                at = _pixels(s.boxes)[:, [0, 0, 2, 2]] * scale
                boxes = (at[:, None] + part.boxes).reshape(-1, 4)
                family = _heavier(part.family, s.family)
            out.append(Support(family, boxes))
    return out


def _heavier(first: str, second: str) -> str:
    """The first family, unless it only moves or scales entries."""
    return second if first in ("Identity", "Permutation", "Diagonal") else first


def _product(op: LinearOperator, grain: tuple[int, int]) -> list[Support]:
    """Where a path through the factors leads; full where the paths are too many to follow."""
    import scipy.sparse as sparse

    total = None
    for c in op.children or [f.op for f in factors(op)]:
        parts = support(c)
        if sum(_area(s.boxes) for s in parts) > DENSE_LIMIT:
            return [Support(type(op).__name__, _full(op))]
        at = np.concatenate([_pixels(s.boxes) for s in parts] or [np.zeros((0, 4), np.int64)])
        ones = np.ones(len(at), dtype=np.float32)
        one = sparse.csr_array((ones, (at[:, 0], at[:, 2])), shape=c.shape)
        total = one if total is None else total @ one
        if total.nnz > DENSE_LIMIT:
            return [Support(type(op).__name__, _full(op))]
    assert total is not None
    family = _dominant(op)
    m, n = op.shape
    if total.nnz == m * n:
        return [Support(family, _full(op))]
    rows, columns = total.nonzero()
    return [Support(family, _points(rows, columns))]


def _dominant(op: LinearOperator) -> str:
    """The family that stands for a product: its only one beside what moves and scales entries."""
    light = (Permutation, Diagonal, Identity)
    if not isinstance(op, Product):
        return type(op).__name__
    parts = [f for f in factors(op) if not isinstance(f.op, light)]
    found = {f.family or type(f.op).__name__ for f in parts}
    return found.pop() if len(found) == 1 else "Product"


def _everywhere(op: LinearOperator, grain: tuple[int, int]) -> list[Support]:
    return [Support(type(op).__name__, _full(op))]


def _area(boxes: Box) -> int:
    return int(((boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])).sum())


def _pixels(boxes: Box) -> Box:
    """The 1 x 1 rectangles of which the rectangles consist."""
    if (boxes[:, 1] - boxes[:, 0] == 1).all() and (boxes[:, 3] - boxes[:, 2] == 1).all():
        return boxes
    parts = []
    for top, bottom, left, right in boxes.tolist():
        i, j = np.ogrid[top:bottom, left:right]
        parts.append(_points(*np.broadcast_arrays(i, j)))
    return np.concatenate(parts)


RULES: dict[str, Callable[[Any, tuple[int, int]], list[Support]]] = {
    "Identity": _diagonal,
    "Diagonal": _diagonal,
    "Zero": lambda op, grain: [],
    "Permutation": _permutation,
    "Selection": _selection,
    "BlockDiagonal": _blocks,
    "KroneckerSparse": _kronecker_sparse,
    "Sparse": _sparse,
    "BlockSparse": _block_sparse,
    "Companion": _companion,
    "StateSpace": _lower_triangle,
    "Convolution": _convolution,
    "Wavelet": _wavelet,
    **dict.fromkeys(FULL, _everywhere),
    "Scaled": _child,
    "Transpose": _transpose,
    "Sum": _sum,
    "DirectSum": _direct_sum,
    "Block": _block,
    "Kronecker": _kronecker,
    "KroneckerSum": _kronecker_sum,
    "Elementwise": _elementwise,
    "Product": _product,
    "Monarch": _product,
    "MonarchChain": _product,
    "Butterfly": _product,
}
"""How a class, or a subclass of it, is drawn, by its name; others are drawn by their entries."""
