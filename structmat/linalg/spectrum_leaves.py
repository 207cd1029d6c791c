"""Eigenvalues of the leaves. See :mod:`structmat.linalg.spectrum` for the formulas."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.permutation import Permutation
from structmat.leaves.toeplitz import Circulant, join
from structmat.leaves.trigonometric import Trigonometric
from structmat.linalg.answer import Answer, name
from structmat.linalg.entries_leaves import folded
from structmat.linalg.spectrum import as_complex, complex_answer, dense_eigvals, eigvals_of
from structmat.linalg.trace import trace_of
from structmat.properties import unitary_scale

__all__ = ["circulant_spectrum", "convolution_spectrum"]


@eigvals_of.register
def _(op: Identity, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    return complex_answer(to.new_ones(op.n), "identity")


@eigvals_of.register
def _(op: Zero, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    return complex_answer(to.new_zeros(op.n), "zero")


@eigvals_of.register
def _(op: Diagonal, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    return complex_answer(op.d.to(to), "diagonal")


@eigvals_of.register
def _(op: Dense, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    return dense_eigvals(op.weight.to(to), hermitian)


@eigvals_of.register
def _(op: LowRank, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    n = op.shape[0]
    if op.rank >= n:
        return None
    found = torch.linalg.eigvals(op.right.to(to) @ op.left.to(to))
    return Answer(join(found, found.new_zeros(n - op.rank)), "dense eigenvalues of V U, and zeros")


@eigvals_of.register
def _(op: Permutation, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = op.index.size
    edges = coo_array((np.ones(n, dtype=np.int8), (np.arange(n), op.index.array())), shape=(n, n))
    labels = connected_components(edges, directed=False)[1] if n else np.zeros(0, dtype=np.int64)
    sizes = np.bincount(labels) if n else np.zeros(0, dtype=np.int64)
    turns = [np.arange(size) / size for size in sizes]
    angle = torch.from_numpy(2 * np.pi * np.concatenate([np.zeros(0), *turns])).to(to.device)
    return complex_answer(
        torch.polar(torch.ones_like(angle), angle).to(as_complex(to)), "cycles of a permutation"
    )


def circulant_spectrum(op: Circulant, to: Tensor) -> tuple[Tensor, str]:
    """Eigenvalues of an f-circulant matrix, and the name of the method."""
    n, c = op.shape[0], op.c.to(to)
    if op.f == 0 or n == 0:
        return c[..., :1].expand(*c.shape[:-1], n), "triangular"
    if op.f != 1:
        k = torch.arange(n, dtype=torch.float64, device=to.device)
        turn = complex(op.f) ** (1 / n)
        c = c * torch.polar(abs(turn) ** k, math.atan2(turn.imag, turn.real) * k).to(as_complex(to))
    return torch.fft.fft(c), "spectrum by FFT"


@eigvals_of.register
def _(op: Circulant, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    return complex_answer(*circulant_spectrum(op, to))


def convolution_spectrum(op: Convolution, to: Tensor) -> tuple[Tensor, str] | None:
    """Eigenvalues of a circular or a triangular convolution."""
    n = math.prod(op.n)
    axes = tuple(range(-len(op.n), 0))
    if n and op.mode == "circular":
        return torch.fft.fftn(folded(op, to), dim=axes).flatten(-len(op.n)), "spectrum by FFT"
    if op.mode == "causal" or n == 0 or math.prod(op._support) == 1:
        first = op.kernel.to(to).flatten(-len(op.n))[..., 0]
        return first[..., None].expand(*first.shape, n), "triangular"
    return None


@eigvals_of.register
def _(op: Convolution, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    found = convolution_spectrum(op, to)
    return None if found is None else complex_answer(*found)


@eigvals_of.register
def _(op: DFT, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    n = op.n
    counts = ((n + 4) // 4, (n + 2) // 4, (n + 1) // 4, (n - 1) // 4) if n else (0, 0, 0, 0)
    back = 1 if op.inverse else -1
    units = [
        u for u, k in zip((1, -1, back * 1j, -back * 1j), counts, strict=True) for _ in range(k)
    ]
    size = op.factor() * math.sqrt(n)
    return Answer(to.new_tensor([size * u for u in units]), "eigenvalues of the Fourier matrix")


@eigvals_of.register(Hadamard)
@eigvals_of.register(Trigonometric)
def _(op: Hadamard | Trigonometric, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    scale = unitary_scale(op)
    if scale is None or op._transpose() is not op:
        return None
    if op.n == 0:
        return complex_answer(to.new_zeros(0), "empty")
    plus = ((op.n + trace_of(op, to.abs().double()).value.real / scale) / 2).round()
    at = torch.arange(op.n, device=to.device)
    values = torch.where(at < plus, to.new_tensor(scale), to.new_tensor(-scale))
    return complex_answer(values, "symmetric orthogonal: signs by the trace")


@eigvals_of.register
def _(op: BlockDiagonal, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    if op.blocks.numel() == 0:
        return complex_answer(to.new_zeros(*op.batch_shape, op.shape[0]), "empty")
    found = dense_eigvals(op.blocks.to(to), hermitian)
    return complex_answer(found.value.flatten(-2), name("blocks", [found.method]))


@eigvals_of.register
def _(op: KroneckerSparse, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    return eigvals_of(BlockDiagonal(op.values.movedim(-1, -3).flatten(-4, -3)), to, hermitian)
