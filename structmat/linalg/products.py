"""Entries of products, by the sparse rows of the first factor or the sparse columns of the last.

    (A B)[i, j] = sum_t A[i, t] B[t, j]   over the t where row i of A may be non-zero

and where the rows of one Kronecker-sparse factor meet the columns of another in few places only
those count: the diagonal of a square Monarch matrix costs O(n), not O(n^2).
A chain of more than two chainable Kronecker-sparse factors is multiplied out to two first (Le et
al., Butterfly factorization with error guarantees, 2024, proposition 4.7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from structmat.builder import index_tensor
from structmat.compose import Product, Scaled, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.diagonal import Diagonal, Identity
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
from structmat.linalg.entries import Entries, entries_of, flat, scalar
from structmat.operator import LinearOperator

__all__ = ["Rows", "halves", "rows_of", "single_products"]


@dataclass(frozen=True)
class Rows:
    """How rows are read: ``get(i, to)`` gives columns and values, each (..., *i.shape, width)."""

    width: int
    get: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@singledispatch
def rows_of(op: LinearOperator) -> Rows | None:
    """How sparse rows of the operator are read, or None: its rows are full, or not known."""
    return None


@rows_of.register
def _(op: Diagonal) -> Rows:
    return Rows(1, lambda i, to: (i[..., None], op.d.to(to)[..., i][..., None]))


@rows_of.register
def _(op: Identity) -> Rows:
    return Rows(1, lambda i, to: (i[..., None], to.new_ones(*i.shape, 1)))


@rows_of.register
def _(op: Permutation) -> Rows:
    return Rows(
        1,
        lambda i, to: (index_tensor(op.index, to.device)[i][..., None], to.new_ones(*i.shape, 1)),
    )


@rows_of.register
def _(op: KroneckerSparse) -> Rows:
    _, b, c, d = op.pattern

    def get(i: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
        block, row, last = i // max(b * d, 1), (i // max(d, 1)) % max(b, 1), i % max(d, 1)
        k = torch.arange(c, device=to.device)
        values = op.values.to(to).transpose(-1, -2)[..., block, row, last, :]
        return block[..., None] * (c * d) + k * d + last[..., None], values

    return Rows(c, get)


@rows_of.register
def _(op: BlockDiagonal) -> Rows | None:
    return rows_of(KroneckerSparse(op.blocks[..., None]))


@rows_of.register
def _(op: Scaled) -> Rows | None:
    inner = rows_of(op.children[0])
    if inner is None:
        return None

    def get(i: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
        index, values = inner.get(i, to)
        return index, values * scalar(op, to, index.ndim)

    return Rows(inner.width, get)


@rows_of.register
def _(op: Transpose) -> Rows | None:
    inner = op.children[0]._transpose()
    return None if isinstance(inner, Transpose) else rows_of(inner)


def _rows(op: LinearOperator) -> Rows | None:
    """Sparse rows, or full ones entry by entry."""
    found, n = rows_of(op), op.shape[1]
    entries = entries_of(op) if found is None else None
    if entries is None:
        return found

    def get(i: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
        t = torch.arange(n, device=to.device).expand(*i.shape, n)
        return t, entries.get(i[..., None].expand_as(t), t, to)

    return Rows(n * entries.cost, get)


def _merge(x: KroneckerSparse, y: KroneckerSparse) -> KroneckerSparse:
    """The product of two chainable factors, itself a Kronecker-sparse factor."""
    (a1, b1, c1, d1), (a2, b2, c2, d2) = x.pattern, y.pattern
    v, e = a2 // a1, d1 // d2
    dtype = torch.promote_types(x.values.dtype, y.values.dtype)
    left = x.values.to(dtype).reshape(*x.values.shape[:-4], a1, b1, v, c1 // v, e, d2)
    right = y.values.to(dtype).reshape(*y.values.shape[:-4], a1, v, b2 // e, e, c2, d2)
    both = torch.einsum("...ubvrez,...uvreyz->...ubevyz", left, right)
    return KroneckerSparse(both.reshape(*both.shape[:-6], a1, b1 * e, v * c2, d2))


def halves(op: LinearOperator) -> list[LinearOperator] | None:
    """A chainable chain of more than two factors as a product of two."""
    factors = op.factors() if isinstance(op, Butterfly | MonarchChain) else []
    if len(factors) <= 2 or 0 in op.shape or not MonarchChain(factors).chainable:
        return None
    halves = []
    for part in (factors[: len(factors) // 2], factors[len(factors) // 2 :]):
        merged = part[0]
        for f in part[1:]:
            merged = _merge(merged, f)
        halves.append(merged)
    return list(halves)


def _pair(x: KroneckerSparse, y: KroneckerSparse) -> Entries:
    """Entries of X Y for d_2 | d_1: the row of X meets the column of Y in few places.

    Row i of X has the columns base + rho d_1, column j of Y the rows start + rho' d_2 of a block of
    b_2 d_2 rows, so that ceil(b_2 d_2 / d_1) of them can agree: in a square Monarch matrix one.
    """
    (_, b1, c1, d1), (_, b2, c2, d2) = x.pattern, y.pattern
    block = b2 * d2
    width = min(c1, -(-block // d1))

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        left, side, last = i // (b1 * d1), (i // d1) % b1, i % d1
        right, column, end = j // (c2 * d2), (j // d2) % c2, j % d2
        base = left * (c1 * d1) + last
        low = ((right * block - base + d1 - 1) // d1).clamp(min=0)
        rho = low[..., None] + torch.arange(width, device=to.device)
        t = base[..., None] + rho * d1
        hit = (rho < c1) & (t < (right[..., None] + 1) * block) & (last % d2 == end)[..., None]
        rho, row = rho.clamp(max=c1 - 1), (t // d2) % b2
        a = x.values.to(to)[..., left[..., None], side[..., None], rho, last[..., None]]
        b = y.values.to(to)[..., right[..., None], row, column[..., None], end[..., None]]
        return torch.where(hit, a * b, 0).sum(-1)

    return Entries(width, get)


def _kronecker_sparse(op: LinearOperator) -> KroneckerSparse | None:
    match op:
        case KroneckerSparse():
            return op
        case BlockDiagonal():
            return KroneckerSparse(op.blocks[..., None])
        case Transpose():
            inner = _kronecker_sparse(op.children[0])
            return None if inner is None else KroneckerSparse(inner.values.transpose(-3, -2))
    return None


def single_products(op: LinearOperator) -> tuple[KroneckerSparse, KroneckerSparse] | None:
    """(X, Y) with op = X Y where every entry is one product, as in a square Monarch matrix.

    Then |X Y| = |X| |Y| entry by entry, and sums over it need no entries.
    """
    if isinstance(op, Butterfly) and not op.increasing_stride and op.shape[0] > 4:
        turned = single_products(op._transpose())
        if turned is None:
            return None
        x, y = (KroneckerSparse(f.values.transpose(-3, -2)) for f in turned)
        return y, x
    found = halves(op) or flat([op])
    factors = [_kronecker_sparse(f) for f in found]
    if len(factors) != 2 or factors[0] is None or factors[1] is None:
        return None
    (_, _, c1, d1), (_, b2, _, d2) = factors[0].pattern, factors[1].pattern
    if 0 in (*factors[0].pattern, *factors[1].pattern):
        return None
    few = d1 % d2 == 0 and min(c1, -(-(b2 * d2) // d1)) == 1
    few = few or (d2 % d1 == 0 and min(b2, -(-(c1 * d1) // d2)) == 1)
    return (factors[0], factors[1]) if few else None


def _chain(ops: list[LinearOperator]) -> Entries | None:
    if len(ops) == 1:
        return entries_of(ops[0])
    x, y = _kronecker_sparse(ops[0]), _kronecker_sparse(ops[1])
    if len(ops) == 2 and x is not None and y is not None and 0 not in (*x.pattern, *y.pattern):
        if x.pattern[3] % y.pattern[3] == 0:
            return _pair(x, y)
        if y.pattern[3] % x.pattern[3] == 0:
            turned = [KroneckerSparse(f.values.transpose(-3, -2)) for f in (y, x)]
            pair = _pair(*turned)
            return Entries(pair.cost, lambda i, j, to: pair.get(j, i, to))
    first, last = _rows(ops[0]), _rows(ops[-1].T)
    if last is not None and (first is None or last.width < first.width):
        flipped = _chain([op.T for op in reversed(ops)])
        return flipped and Entries(flipped.cost, lambda i, j, to: flipped.get(j, i, to))
    rest = _chain(ops[1:])
    if first is None or rest is None:
        return None

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        t, values = first.get(i, to)
        return (values * rest.get(t, j[..., None].expand_as(t), to)).sum(-1)

    return Entries(max(first.width, 1) * rest.cost, get)


@entries_of.register
def _(op: Product) -> Entries | None:
    return _chain(flat(op.children))


@entries_of.register
def _(op: Monarch) -> Entries | None:
    return _chain(flat([op]))


@entries_of.register
def _(op: MonarchChain) -> Entries | None:
    return _chain(halves(op) or flat([op]))


@entries_of.register
def _(op: Butterfly) -> Entries | None:
    if not op.increasing_stride and op.shape[0] > 4:
        return entries_of(Transpose(op._transpose()))
    return _chain(halves(op) or flat([op]))
