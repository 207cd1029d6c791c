"""Entries of a matrix at given positions, read off its structure.

:func:`entries_of` gives a function (i, j) -> A[i, j] of integer tensors of one shape, with what
one entry costs, or None where an entry is no cheaper than a column. The diagonal, the trace and
the norms of products follow from it. A leaf with a formula costs 1; a low-rank entry is a sum of r
products; an entry of a product is a sum over the row of its first factor, or over the column of its
last, whichever is shorter:

    (A B)[i, j] = sum_t A[i, t] B[t, j]   over the t where row i of A may be non-zero

so that with Kronecker-sparse factors the diagonal of a Monarch matrix costs O(n^1.5), not O(n^2).
A chain of more than two chainable Kronecker-sparse factors is multiplied out to two first (Le et
al., Butterfly factorization with error guarantees, 2024, proposition 4.7).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from structmat.builder import index_tensor
from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.cauchy import Cauchy
from structmat.leaves.companion import Companion
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard, sequency_order
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
from structmat.leaves.real_fourier import RDFT
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz, join
from structmat.leaves.trigonometric import Trigonometric
from structmat.leaves.vandermonde import Vandermonde
from structmat.operator import LinearOperator

__all__ = ["Entries", "Rows", "entries_of", "flat", "folded", "halves", "rows_of", "scalar"]


@dataclass(frozen=True)
class Entries:
    """How entries are read: what one costs, and ``get(i, j, to)`` in the dtype of ``to``."""

    cost: int
    get: Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Rows:
    """How rows are read: ``get(i, to)`` gives columns and values, each (..., *i.shape, width)."""

    width: int
    get: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def scalar(op: Scaled, to: Tensor, event: int) -> Tensor | complex:
    """The factor of a scaled operator, with ``event`` dimensions behind its batch."""
    if not op.tensors:
        return op.alpha  # type: ignore[no-any-return]
    alpha: Tensor = op.alpha.to(to)
    return alpha[(..., *[None] * event)]


def flat(ops: Sequence[LinearOperator]) -> list[LinearOperator]:
    """The factors of a product, those of its factors included; a low-rank factor is two."""
    out: list[LinearOperator] = []
    for op in ops:
        match op:
            case Product() | MonarchChain():
                out += flat(op.children)
            case Monarch() | Butterfly():
                out += op.factors()
            case LowRank():
                out += [Dense(op.left), Dense(op.right)]
            case _:
                out.append(op)
    return out


def folded(op: Convolution, to: Tensor) -> Tensor:
    """The kernel of a circular convolution, folded onto the circle: (..., *n)."""
    kernel = op.kernel.to(to)
    for axis, n in enumerate(op.n):
        at, shape = axis - len(op.n), list(kernel.shape)
        index = torch.arange(shape[at], device=to.device) % max(n, 1)
        shape[at] = max(n, 1)
        kernel = kernel.new_zeros(shape).index_add(at, index, kernel)
    return kernel


@singledispatch
def entries_of(op: LinearOperator) -> Entries | None:
    """How entries of the operator are read, or None where its structure has no formula for them."""
    return None


@entries_of.register
def _(op: Dense) -> Entries:
    return Entries(1, lambda i, j, to: op.weight.to(to)[..., i, j])


@entries_of.register
def _(op: LowRank) -> Entries:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        return (op.left.to(to)[..., i, :] * op.right.to(to).mT[..., j, :]).sum(-1)

    return Entries(max(op.rank, 1), get)


@entries_of.register
def _(op: Diagonal) -> Entries:
    return Entries(1, lambda i, j, to: torch.where(i == j, op.d.to(to)[..., i], 0))


@entries_of.register
def _(op: Identity) -> Entries:
    return Entries(1, lambda i, j, to: (i == j).to(to))


@entries_of.register
def _(op: Zero) -> Entries:
    return Entries(1, lambda i, j, to: to.new_zeros(i.shape))


@entries_of.register
def _(op: Permutation) -> Entries:
    return Entries(1, lambda i, j, to: (index_tensor(op.index, to.device)[i] == j).to(to))


@entries_of.register
def _(op: KroneckerSparse) -> Entries:
    _, b, c, d = op.pattern

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        row, column = i // max(b * d, 1), j // max(c * d, 1)
        hit = (row == column) & (i % max(d, 1) == j % max(d, 1))
        inner = (i // max(d, 1)) % max(b, 1), (j // max(d, 1)) % max(c, 1)
        return torch.where(hit, op.values.to(to)[..., row, *inner, i % max(d, 1)], 0)

    return Entries(1, get)


@entries_of.register
def _(op: BlockDiagonal) -> Entries | None:
    return entries_of(KroneckerSparse(op.blocks[..., None]))


@entries_of.register
def _(op: Toeplitz) -> Entries:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        diagonals = join(op.row[..., 1:].flip(-1), op.c).to(to)
        return diagonals[..., i - j + op.shape[1] - 1]

    return Entries(1, get)


@entries_of.register
def _(op: Hankel) -> Entries:
    return Entries(1, lambda i, j, to: op._antidiagonals().to(to)[..., i + j])


@entries_of.register
def _(op: Circulant) -> Entries:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        value = op.c.to(to)[..., (i - j) % max(op.shape[0], 1)]
        return value if op.f == 1 else torch.where(i < j, value * op.f, value)

    return Entries(1, get)


@entries_of.register
def _(op: Convolution) -> Entries:
    outs = op._outputs()

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        if op.transposed:
            i, j = j, i
        kernel = folded(op, to) if op.mode == "circular" else op.kernel.to(to)
        hit, at, stride = torch.ones_like(i, dtype=torch.bool), torch.zeros_like(i), 1
        for axis in reversed(range(len(op.n))):
            size = kernel.shape[axis - len(op.n)]
            n, m = max(op.n[axis], 1), max(outs[axis], 1)
            lag = i % m - j % n
            i, j = i // m, j // n
            if op.mode == "circular":
                lag = lag % n
            else:
                lag = lag + ((size - 1) // 2 if op.mode == "same" else 0)
                hit = hit & (lag >= 0) & (lag < size)
            at = at + lag.clamp(0, size - 1) * stride
            stride *= size
        return torch.where(hit, kernel.flatten(-len(op.n))[..., at], 0)

    return Entries(1, get)


@entries_of.register
def _(op: DFT) -> Entries:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        n = max(op.n, 1)
        angle = ((i * j) % n).double() * ((1 if op.inverse else -1) * 2 * math.pi / n)
        return torch.polar(torch.full_like(angle, op.factor()), angle).to(to)

    return Entries(1, get)


@entries_of.register
def _(op: Trigonometric) -> Entries:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        if op.transposed:
            i, j = j, i
        angle = op._angles(i.double(), j.double()) * math.pi
        out = (torch.cos(angle) if type(op).special == 0 else torch.sin(angle)) * op.factor()
        for k, ends in zip((j, i), op._ends(), strict=True):
            for at, weight in zip((0, op.n - 1), ends, strict=True):
                out = torch.where(k == at, out * weight, out)
        return out.to(to)

    return Entries(1, get)


@entries_of.register
def _(op: Hadamard) -> Entries:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        if op.order == "sequency":
            i = index_tensor(sequency_order(op.n), to.device)[i]
        common, parity = i & j, torch.zeros_like(i)
        for bit in range(op.n.bit_length()):
            parity = parity ^ ((common >> bit) & 1)
        return (1 - 2 * parity).to(to) * op.factor()

    return Entries(1, get)


@entries_of.register
def _(op: RDFT) -> Entries:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        if op.inverse != op.transposed:
            i, j = j, i
        n, frequency = max(op.n, 1), (i + 1) // 2
        angle = ((frequency * j) % n).double() * (2 * math.pi / n)
        out = torch.where((i % 2 == 1) | (i == 0), torch.cos(angle), -torch.sin(angle))
        alone = (frequency == 0) | (2 * frequency == op.n)
        weight = torch.where(alone, 1.0, 2.0 if op.inverse else 1.0)
        return (out * weight * op.factor()).to(to)

    return Entries(1, get)


@entries_of.register
def _(op: Companion) -> Entries:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        if op.transposed:
            i, j = j, i
        return torch.where(i == 0, op.row.to(to)[..., j], (i == j + 1).to(to))

    return Entries(1, get)


@entries_of.register
def _(op: Vandermonde) -> Entries:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        if op.transposed:
            i, j = j, i
        power = op.x.to(to)[..., i]
        out = torch.ones_like(power)
        for bit in range(max(op.n - 1, 0).bit_length()):  # powers of complex zeros are nan in torch
            power = power if bit == 0 else power * power
            out = torch.where((j >> bit) & 1 == 1, out * power, out)
        return out

    return Entries(1, get)


@entries_of.register
def _(op: Cauchy) -> Entries:
    return Entries(1, lambda i, j, to: 1 / (op.s.to(to)[..., i] - op.t.to(to)[..., j]))


# combinators ------------------------------------------------------------------------------------


def _all(ops: Sequence[LinearOperator]) -> list[Entries] | None:
    found = [entries_of(c) for c in ops]
    return None if any(f is None for f in found) else [f for f in found if f is not None]


@entries_of.register
def _(op: Transpose) -> Entries | None:
    inner = entries_of(op.children[0])
    if inner is None:
        return None
    return Entries(inner.cost, lambda i, j, to: inner.get(j, i, to))


@entries_of.register
def _(op: Scaled) -> Entries | None:
    inner = entries_of(op.children[0])
    if inner is None:
        return None
    return Entries(inner.cost, lambda i, j, to: inner.get(i, j, to) * scalar(op, to, i.ndim))


@entries_of.register
def _(op: Sum) -> Entries | None:
    terms = _all(op.children)
    if terms is None:
        return None

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        out = terms[0].get(i, j, to)
        for term in terms[1:]:
            out = out + term.get(i, j, to)
        return out

    return Entries(sum(t.cost for t in terms), get)


@entries_of.register
def _(op: Kronecker) -> Entries | None:
    factors = _all(op.children)
    if factors is None:
        return None

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        out = to.new_ones(())
        for child, factor in zip(reversed(op.children), reversed(factors), strict=True):
            m, n = (max(s, 1) for s in child.shape)
            out = factor.get(i % m, j % n, to) * out
            i, j = i // m, j // n
        return out

    return Entries(sum(f.cost for f in factors), get)


@entries_of.register
def _(op: DirectSum) -> Entries | None:
    blocks = _all(op.children)
    if blocks is None:
        return None

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        out = to.new_zeros(i.shape)
        for child, block in zip(op.children, blocks, strict=True):
            m, n = child.shape
            hit = (i >= 0) & (i < m) & (j >= 0) & (j < n)
            if m and n:
                value = block.get(i.clamp(0, m - 1), j.clamp(0, n - 1), to)
                out = torch.where(hit, value, out)
            i, j = i - m, j - n
        return out

    return Entries(sum(b.cost for b in blocks), get)


# products ---------------------------------------------------------------------------------------


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


def _chain(ops: list[LinearOperator]) -> Entries | None:
    if len(ops) == 1:
        return entries_of(ops[0])
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
