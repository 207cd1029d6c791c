"""Where an elementwise product has a structure of its own.

    diag(d) o A                  diag(d o diag(A)); likewise permutations and selections
    Sparse, BlockSparse, ... o A the pattern, with the entries of A read at its positions
    (U V) o (X Y)                (U . X)(V . Y), rank r s: columns of U times columns of X
    Toeplitz o Toeplitz, ...     entry by entry on the diagonals; circulants multiply their f
    Convolution o Convolution    of one kind and size: entry by entry on the kernel
    (A (x) B) o (C (x) D)        (A o C) (x) (B o D), with equal partitions
    alpha A o B, sums, blocks    alpha (A o B), term by term, block by block
    (D A) o B, (P A) o B         D (A o B) for a diagonal, P (A o P^T B) for a permutation
    Dense o A                    dense

Source: Horn and Johnson, Topics in matrix analysis, chapter 5; Slyusar, Face-splitting product
(1999), for low rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from structmat.compose.basic import (
    DirectSum,
    Kronecker,
    Product,
    Scaled,
    Sum,
)
from structmat.compose.blocks import Block, acts
from structmat.compose.elementwise import Elementwise, low_rank
from structmat.compose.selection import Selection
from structmat.compose.straight import straight
from structmat.gather import Gather
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.permutation import Permutation
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz
from structmat.operator import LinearOperator

__all__ = ["met"]

Dtype = torch.dtype | None
Mover = Identity | Permutation | Selection


def met(a: LinearOperator, b: LinearOperator, within: Dtype = None) -> LinearOperator | None:
    """A o B as an operator of known structure, or None.

    Args:
        a: A.
        b: B, of the same shape.
        within: the dtype of a whole of which this is a part: entries are read in no less.
    """
    a, b = _plain(a), _plain(b)
    dtype = _wider(within, _wider(a.strong_dtype, b.strong_dtype))
    if isinstance(a, Zero) or isinstance(b, Zero) or 0 in a.shape:
        return Zero(*a.shape, dtype)
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Scaled):
            inner = _pair(x.children[0], y, dtype)
            return None if inner is None else Scaled(x.alpha, inner)
        if isinstance(x, Elementwise):
            first, second = x.children
            inner = met(first, second, dtype)
            return None if inner is None else _pair(inner, y, dtype)
    if isinstance(a, Mover) and isinstance(b, Mover):
        return _common_ones(a, b, dtype)
    both = _one_kind(a, b, dtype)
    if both is not None:
        return both
    for find in (_on_pattern, _dense, _past_factor, _by_parts):
        for x, y in ((a, b), (b, a)):
            found = find(x, y, dtype)
            if found is not None:
                return found
    return None


def _pair(a: LinearOperator, b: LinearOperator, dtype: Dtype) -> LinearOperator | None:
    """A o B, by structure or lazily; None where it does not survive."""
    found = met(a, b, dtype)
    return Elementwise(a, b) if found is None and (low_rank(a) or low_rank(b)) else found


def _dense(a: LinearOperator, b: LinearOperator, dtype: Dtype) -> LinearOperator | None:
    if not isinstance(a, Dense):
        return None
    return Dense(_times(a.weight, b._dense(dtype or a.dtype, a.weight.device)))


def _past_factor(a: LinearOperator, b: LinearOperator, dtype: Dtype) -> LinearOperator | None:
    """(D A) o B = D (A o B) for a diagonal, (P A) o B = P (A o P^T B) for a permutation."""
    if not isinstance(a, Product):
        return None
    (first, *tail), (*head, last) = a.children, a.children
    match first, last:
        case Diagonal(), _:
            inner = _pair(_product(tail), b, dtype)
            return None if inner is None else Product(first, inner)
        case _, Diagonal():
            inner = _pair(_product(head), b, dtype)
            return None if inner is None else Product(inner, last)
        case Permutation(), _:
            inner = _on_pattern(_product(tail), Product(first._transpose(), b), dtype)
            return None if inner is None else Product(first, inner)
        case _, Permutation():
            inner = _on_pattern(_product(head), Product(b, last._transpose()), dtype)
            return None if inner is None else Product(inner, last)
    return None


def _product(ops: Sequence[LinearOperator]) -> LinearOperator:
    return ops[0] if len(ops) == 1 else Product(*ops)


def _by_parts(a: LinearOperator, b: LinearOperator, dtype: Dtype) -> LinearOperator | None:
    """The terms of a sum, or the blocks of A each with its part of B."""
    match a:
        case Sum():
            parts = [_pair(c, b, dtype) for c in a.children]
        case DirectSum():
            heights, widths = zip(*(c.shape for c in a.children), strict=True)
            cuts = zip(_cuts(heights), _cuts(widths), strict=True)
            parts = [_pair(c, _part(b, *at), dtype) for c, at in zip(a.children, cuts, strict=True)]
        case Block():
            at = [(rows, columns) for rows in _cuts(a.heights) for columns in _cuts(a.widths)]
            parts = [
                _pair(c, _part(b, *pair), dtype) if acts(c) else c
                for c, pair in zip(a.children, at, strict=True)
            ]
        case _:
            return None
    found = [p for p in parts if p is not None]
    return a._replace({}, found, a.static) if len(found) == len(parts) else None


def _cuts(sizes: Sequence[int]) -> list[range]:
    ends = list(accumulate(sizes, initial=0))
    return [range(start, stop) for start, stop in pairwise(ends)]


def _part(op: LinearOperator, rows: range, columns: range) -> LinearOperator:
    m, n = op.shape
    return Product(Selection(rows, m), op, Selection(columns, n)._transpose()).simplify()


def _plain(op: LinearOperator) -> LinearOperator:
    """Without transposes, and without sums and products of one operator at the root."""
    op = straight(op)
    while isinstance(op, Product | Sum) and len(op.children) == 1:
        op = op.children[0]
    return op


def _wider(s: Dtype, t: Dtype) -> Dtype:
    return (s or t) if s is None or t is None else torch.promote_types(s, t)


def _one_kernel(a: Convolution, b: Convolution) -> bool:
    """Whether each entry of A and B is one entry of kernels of one shape: no kernel wraps."""
    sizes = [x.kernel.shape[-len(x.n) :] for x in (a, b)]
    wraps = a.mode == "circular" and any(s > n for s, n in zip(sizes[0], a.n, strict=True))
    return a.static == b.static and sizes[0] == sizes[1] and not wraps


def _times(a: Tensor, b: Tensor) -> Tensor:
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype) * b.to(dtype)


# two of one kind --------------------------------------------------------------------------------


def _one_kind(a: LinearOperator, b: LinearOperator, dtype: Dtype) -> LinearOperator | None:
    match a, b:
        case LowRank(), LowRank():
            left = _times(a.left[..., :, None], b.left[..., None, :]).flatten(-2)
            right = _times(a.right[..., :, None, :], b.right[..., None, :, :]).flatten(-3, -2)
            return LowRank(left, right)
        case Circulant(), Circulant():
            return Circulant(_times(a.c, b.c), a.f * b.f)
        case ((Toeplitz() | Circulant()), (Toeplitz() | Circulant())):
            if all(isinstance(x, Toeplitz) and "r" not in x.tensors for x in (a, b)):
                return Toeplitz(_times(a.c, b.c))
            return Toeplitz(_times(a.c, b.c), _times(a.row, b.row))
        case Convolution(), Convolution() if _one_kernel(a, b):
            return a._replace({"kernel": _times(a.kernel, b.kernel)}, (), a.static)
        case Hankel(), Hankel():
            h, m = _times(a._antidiagonals(), b._antidiagonals()), a.shape[0]
            return Hankel(h[..., :m], h[..., m - 1 :])
        case BlockDiagonal(), BlockDiagonal() if a.nblocks == b.nblocks:
            out: LinearOperator = BlockDiagonal(_times(a.blocks, b.blocks))
            return out
        case KroneckerSparse(), KroneckerSparse() if a.pattern == b.pattern:
            return KroneckerSparse(_times(a.values, b.values))
        case (Kronecker(), Kronecker()) | (DirectSum(), DirectSum()):
            parts = _paired(a, b, dtype)
            return None if parts is None else type(a)(*parts)
        case Block(), Block():
            parts = _paired(a, b, dtype)
            same = a.heights == b.heights and a.widths == b.widths
            return None if parts is None or not same else a._replace({}, parts, a.static)
    return None


def _paired(a: LinearOperator, b: LinearOperator, dtype: Dtype) -> list[LinearOperator] | None:
    """The products of children that have the same shapes, where all survive."""
    if [c.shape for c in a.children] != [c.shape for c in b.children]:
        return None
    found = [_pair(x, y, dtype) for x, y in zip(a.children, b.children, strict=True)]
    known = [p for p in found if p is not None]
    return known if len(known) == len(found) else None


# the pattern of one, the entries of the other ---------------------------------------------------


def _on_pattern(a: LinearOperator, b: LinearOperator, dtype: Dtype) -> LinearOperator | None:
    """A o B where A has few entries, and those of B have a formula."""
    if not isinstance(a, Diagonal | Mover | Sparse | BlockSparse | BlockDiagonal | KroneckerSparse):
        return None
    rows, columns = _positions(a, b.device if isinstance(a, Mover) else a.device)
    values = _entries(b, rows, columns, dtype)
    if values is None:
        return None
    match a:
        case Diagonal():
            return Diagonal(_times(a.d, values))
        case Identity():
            return Diagonal(values)
        case Permutation():
            return Product(Diagonal(values), a)
        case Selection():
            return Product(a, Diagonal(values)) if a.transposed else Product(Diagonal(values), a)
        case Sparse():
            return Sparse((_times(a.values, values), a.pattern))
        case BlockSparse():
            return BlockSparse(_times(a.blocks, values), a.pattern)
        case BlockDiagonal():
            out: LinearOperator = BlockDiagonal(_times(a.blocks, values))
            return out
        case KroneckerSparse():
            return KroneckerSparse(_times(a.values, values))
    return None


def _positions(op: LinearOperator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of the entries, in the shape of the tensor that holds them."""

    def line(n: int) -> Tensor:
        return torch.arange(n, device=device)

    match op:
        case Diagonal() | Identity():
            return line(op.shape[0]), line(op.shape[0])
        case Permutation() | Selection():
            return tuple(torch.from_numpy(p).to(device) for p in _ones(op))  # type: ignore[return-value]
        case Sparse():
            tables = op.pattern.rows.array(), op.pattern.indices.array()
            return tuple(torch.from_numpy(t.copy()).to(device) for t in tables)  # type: ignore[return-value]
        case BlockSparse():
            tables = op.pattern.rows.array(), op.pattern.indices.array()
            i, j = (torch.from_numpy(t.copy()).to(device)[:, None, None] for t in tables)
            p, q = op.block
            rows, columns = i * p + line(p)[:, None], j * q + line(q)
        case BlockDiagonal():
            k, q, p = op.blocks.shape[-3:]
            block = line(k)[:, None, None]
            rows, columns = block * q + line(q)[:, None], block * p + line(p)
        case KroneckerSparse():
            a, b, c, d = op.pattern
            i, last = line(a)[:, None, None, None] * d, line(d)
            rows = i * b + line(b)[:, None, None] * d + last
            columns = i * c + line(c)[:, None] * d + last
        case _:
            raise TypeError(f"{op._label()} has no pattern")
    rows, columns = torch.broadcast_tensors(rows, columns)
    return rows, columns


def _entries(op: LinearOperator, rows: Tensor, columns: Tensor, dtype: Dtype) -> Tensor | None:
    from structmat.linalg.entries import entries_of

    found = entries_of(op)
    to = torch.empty(0, dtype=dtype, device=rows.device)
    return None if found is None else found.get(rows, columns, to)


# ones -------------------------------------------------------------------------------------------


def _ones(op: Mover) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the ones of an operator that moves numbers."""
    if isinstance(op, Identity):
        return np.arange(op.n), np.arange(op.n)
    index = op.index.array().copy()
    forward = np.arange(len(index)), index
    turned = isinstance(op, Selection) and op.transposed
    return forward[::-1] if turned else forward


def _common_ones(a: Mover, b: Mover, dtype: Dtype) -> LinearOperator:
    """Where both have a one."""
    m, n = a.shape
    if isinstance(a, Identity) and isinstance(b, Identity):
        return Identity(n, dtype)
    keys = [rows * n + columns for rows, columns in map(_ones, (a, b))]
    rows, columns = np.divmod(np.intersect1d(*keys), n)
    if len(rows) == 0:
        return Zero(m, n, dtype)
    out, places = Selection(Gather.of(columns, n), n, dtype), Gather.of(rows, m)
    return out if places.is_identity else Product(Selection(places, m).T, out)
