"""Entries of the leaves: each has a formula. See :mod:`structmat.linalg.entries`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.builder import index_tensor
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.cauchy import Cauchy
from structmat.leaves.companion import Companion
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard, sequency_order
from structmat.leaves.permutation import Permutation
from structmat.leaves.real_fourier import RDFT
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz, join
from structmat.leaves.trigonometric import Trigonometric
from structmat.leaves.vandermonde import Vandermonde
from structmat.linalg.entries import Entries, entries_of

__all__ = ["folded"]


def folded(op: Convolution, to: Tensor) -> Tensor:
    """The kernel of a circular convolution, folded onto the circle: (..., *n)."""
    kernel = op.kernel.to(to)
    for axis, n in enumerate(op.n):
        at, shape = axis - len(op.n), list(kernel.shape)
        index = torch.arange(shape[at], device=to.device) % max(n, 1)
        shape[at] = max(n, 1)
        kernel = kernel.new_zeros(shape).index_add(at, index, kernel)
    return kernel


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
