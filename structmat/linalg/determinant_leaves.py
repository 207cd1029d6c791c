"""Determinants of the leaves. See :mod:`structmat.linalg.determinant` for the formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.cauchy import Cauchy
from structmat.leaves.companion import Companion
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard, sequency_order
from structmat.leaves.permutation import Permutation
from structmat.leaves.real_fourier import RDFT
from structmat.leaves.toeplitz import Circulant
from structmat.leaves.trigonometric import Trigonometric
from structmat.leaves.vandermonde import Vandermonde
from structmat.leaves.wavelet import Wavelet
from structmat.linalg.answer import Answer, dense
from structmat.linalg.determinant import (
    SignLog,
    constant,
    lu,
    of_diagonal,
    of_spectrum,
    parity,
    singular,
    slogdet_of,
    times,
)
from structmat.linalg.spectrum_leaves import circulant_spectrum
from structmat.linalg.structure import lengths, weighted
from structmat.properties import is_triangular

__all__: list[str] = []


@slogdet_of.register
def _(op: Identity, to: Tensor) -> Answer[SignLog]:
    return constant(to, 1, 0.0, "identity")


@slogdet_of.register
def _(op: Zero, to: Tensor) -> Answer[SignLog]:
    return singular(to, "zero") if op.n else constant(to, 1, 0.0, "empty")


@slogdet_of.register
def _(op: Diagonal, to: Tensor) -> Answer[SignLog]:
    return of_diagonal(op.d.to(to), "diagonal")


@slogdet_of.register
def _(op: Permutation, to: Tensor) -> Answer[SignLog]:
    return constant(to, parity(op.index), 0.0, "cycles of the permutation")


@slogdet_of.register
def _(op: Dense, to: Tensor) -> Answer[SignLog]:
    if is_triangular(op):  # declared of this leaf, maybe deep inside an expression
        return of_diagonal(op.weight.to(to).diagonal(0, -2, -1), "triangular: its diagonal")
    return lu(op.weight.to(to), "dense LU")


@slogdet_of.register
def _(op: LowRank, to: Tensor) -> Answer[SignLog]:
    n = op.shape[0]
    if op.rank < n:
        return singular(to, "rank below n")
    if op.rank > n:
        return lu(dense(op, to, "slogdet"), "dense LU")
    parts = [lu(t.to(to), "dense LU") for t in (op.left, op.right)]
    return times([(p, 1) for p in parts], "product of determinants")


@slogdet_of.register
def _(op: BlockDiagonal, to: Tensor) -> Answer[SignLog]:
    k, q, p = op.blocks.shape[-3:]
    if k == 0 or q == 0:
        return constant(to, 1, 0.0, "empty")
    sign, size = torch.linalg.slogdet(op.blocks.to(to))
    return Answer(SignLog(sign.prod(-1), size.sum(-1)), "LU of the blocks")


@slogdet_of.register
def _(op: KroneckerSparse, to: Tensor) -> Answer[SignLog]:
    # b = c: the same reordering of rows and of columns makes it block-diagonal.
    blocks = op.values.movedim(-1, -3).flatten(-4, -3)
    return slogdet_of(BlockDiagonal(blocks), to)


@slogdet_of.register
def _(op: Circulant, to: Tensor) -> Answer[SignLog]:
    values, method = circulant_spectrum(op, to)
    return of_spectrum(values, to, method)


@slogdet_of.register
def _(op: DFT, to: Tensor) -> Answer[SignLog]:
    n = op.n
    turns = 2 * ((n + 2) // 4) + 3 * ((n + 1) // 4) + (n - 1) // 4 if n else 0
    phase = (1, 1j, -1, -1j)[turns % 4]
    phase = complex(phase).conjugate() if op.inverse else complex(phase)
    size = n * (math.log(op.factor()) + 0.5 * math.log(max(n, 1)))
    return constant(to, phase, size, "eigenvalues of the Fourier matrix")


@slogdet_of.register
def _(op: Trigonometric, to: Tensor) -> Answer[SignLog]:
    scale, left, right = weighted(op)
    size = op.n * math.log(scale) + math.log(math.prod((*left, *right))) if op.n else 0.0
    return constant(to, (-1) ** (op.n // 2), size, "orthogonal transform")


@slogdet_of.register
def _(op: RDFT, to: Tensor) -> Answer[SignLog]:
    size = lengths(op, to).log().sum()
    return Answer(SignLog(to.new_tensor((-1) ** (op.n // 2)), size), "orthogonal up to lengths")


@slogdet_of.register
def _(op: Companion, to: Tensor) -> Answer[SignLog]:
    n = op.shape[0]
    if n == 0:
        return constant(to, 1, 0.0, "empty")
    last = op.row.to(to)[..., -1]  # the shift below it has the sign of a cycle of length n
    return Answer(SignLog(torch.sgn(last) * (-1) ** (n - 1), last.abs().log()), "last coefficient")


@slogdet_of.register
def _(op: Vandermonde, to: Tensor) -> Answer[SignLog]:
    x = op.x.to(to)
    return _differences(x, x, "differences of the nodes")


@slogdet_of.register
def _(op: Cauchy, to: Tensor) -> Answer[SignLog]:
    s, t = op.s.to(to), op.t.to(to)
    above = _differences(s, s, "differences of the nodes")
    across = _differences(-t, -t, "")  # t_i - t_j for i < j
    below = _differences(t, s, "", whole=True)
    sign = above.value.sign * across.value.sign * below.value.sign.conj()
    size = above.value.logabsdet + across.value.logabsdet - below.value.logabsdet
    return Answer(SignLog(sign, size), above.method)


def _differences(x: Tensor, y: Tensor, method: str, whole: bool = False) -> Answer[SignLog]:
    """The product of y_j - x_i over i < j, or over all i and j, in blocks of rows."""
    n = x.shape[-1]
    sign, size = x.new_ones(()), x.new_zeros(()).abs()
    step = max(1, 2**20 // max(n, 1))
    at = torch.arange(n, device=x.device)
    for i in range(0, n, step):
        gaps = y[..., None, :] - x[..., i : i + step, None]
        if not whole:
            gaps = torch.where(at > at[i : i + step, None], gaps, 1)
        sign = sign * torch.sgn(gaps).flatten(-2).prod(-1)
        size = size + gaps.abs().log().sum((-2, -1))
    return Answer(SignLog(sign, size), method)


@slogdet_of.register
def _(op: Hadamard, to: Tensor) -> Answer[SignLog]:
    sign = -1 if op.n == 2 else 1  # n / 2 eigenvalues are negative
    if op.order == "sequency":
        sign *= parity(sequency_order(op.n))
    size = op.n * (math.log(op.factor()) + 0.5 * math.log(op.n))
    return constant(to, sign, size, "orthogonal transform")


@slogdet_of.register
def _(op: Wavelet, to: Tensor) -> Answer[SignLog]:
    sign, size = 1.0, 0.0
    for level in range(op.levels if op.n else 0):
        half = op.n >> (level + 1)
        even, odd = _polyphase(op.taps, half)
        high, low = _polyphase(op.mirror, half)
        dets = even * low - odd * high
        # Taking averages and details in turn makes the step block circulant.
        swaps = half * (half - 1) // 2
        sign *= (-1.0) ** swaps * np.sign(np.prod(dets / np.abs(dets)).real)
        size += float(np.log(np.abs(dets)).sum())
    return constant(to, sign, size, "polyphase matrices")


def _polyphase(taps: Sequence[float], half: int) -> list[NDArray[np.complex128]]:
    """The transforms of the even and of the odd taps, wrapped to ``half`` positions."""
    out = []
    for phase in (0, 1):
        part = np.zeros(half)
        np.add.at(part, np.arange(len(taps) // 2) % half, np.asarray(taps[phase::2]))
        out.append(np.conj(np.fft.fft(part)))
    return out
