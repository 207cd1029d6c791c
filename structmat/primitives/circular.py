"""Circular convolution, zero-padded and truncated: every Toeplitz-like matrix is one.

    y[i] = sum_j w[(i - j) mod L] x[j],    i < outs, j < ins,    outs, ins <= L

on one or more axes, by the convolution theorem: y = F^-1 (F w . F x) with transforms of length L.
With L = ins = outs this is a circulant matrix; with L >= ins + outs - 1 no index wraps and it is
any Toeplitz matrix (w holds the first column, then zeros, then the rest of the first row from its
end). Its transpose reads w[(j - i) mod L] (``flip``); the gradient of w is a correlation of the
same length. Real operands take real transforms.

Cost: two transforms and L products a vector; the transform of w is shared by the batch.
Source: Golub and Van Loan, Matrix computations, section 4.8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.primitives.base import Function, Helper, Primitive
from structmat.primitives.counts import fft_operations

__all__ = ["Circular"]


def spectrum(x: Tensor, lengths: Sequence[int], real: bool) -> Tensor:
    """The transform of the axes before the last, padded with zeros to ``lengths``."""
    axes = list(range(-len(lengths) - 1, -1))
    y: Tensor = (torch.fft.rfftn if real else torch.fft.fftn)(x, s=list(lengths), dim=axes)
    return y


def from_spectrum(y: Tensor, lengths: Sequence[int], outs: Sequence[int], real: bool) -> Tensor:
    """The inverse transform, the first ``outs`` entries of each axis."""
    axes = list(range(-len(lengths) - 1, -1))
    y = (torch.fft.irfftn if real else torch.fft.ifftn)(y, s=list(lengths), dim=axes)
    for axis, size in zip(axes, outs, strict=True):
        y = y.narrow(axis, 0, size)
    return y


def circular(
    x: Tensor,
    w: Tensor,
    lengths: Sequence[int],
    ins: Sequence[int],
    outs: Sequence[int],
    flip: bool,
) -> Tensor:
    """y[i] = sum_j w[i - j] x[j], indices modulo ``lengths``; ``flip`` reads w[j - i]."""
    dtype = torch.promote_types(x.dtype, w.dtype)
    work = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    real = not dtype.is_complex
    *lead, _, cols = x.shape
    if x.numel() == 0:  # FFT libraries refuse to do nothing
        lead = list(torch.broadcast_shapes(lead, w.shape[: w.ndim - len(lengths)]))
        return torch.zeros([*lead, math.prod(outs), cols], dtype=dtype, device=x.device)
    xs = spectrum(x.to(work).reshape([*lead, *ins, cols]), lengths, real)
    axes = list(range(-len(lengths), 0))
    w = w.to(work)
    if flip and not real:
        w = w.flip(axes).roll([1] * len(axes), axes)
    ws = spectrum(w.unsqueeze(-1), lengths, real)
    y = from_spectrum(xs * (ws.conj() if flip and real else ws), lengths, outs, real)
    return y.reshape([*y.shape[: -len(outs) - 1], math.prod(outs), cols]).to(dtype)


def circular_gradient(
    x: Tensor,
    g: Tensor,
    lengths: Sequence[int],
    ins: Sequence[int],
    outs: Sequence[int],
    flip: bool,
) -> Tensor:
    """w[k] = sum over rows, columns and i - j = k of conj(x[j]) g[i]; x (b, p, ins, cols)."""
    dtype = torch.promote_types(x.dtype, g.dtype)
    work = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    real = not dtype.is_complex
    b, p, _, cols = x.shape
    if x.numel() == 0 or g.numel() == 0:
        return torch.zeros([b, *lengths], dtype=dtype, device=x.device)
    xs = spectrum(x.to(work).reshape([b, p, *ins, cols]), lengths, real)
    gs = spectrum(g.to(work).reshape([b, p, *outs, cols]), lengths, real)
    w = from_spectrum((xs.conj() * gs).sum([1, -1]).unsqueeze(-1), lengths, lengths, real)
    w = w.squeeze(-1)
    axes = list(range(-len(lengths), 0))
    return (w.flip(axes).roll([1] * len(axes), axes) if flip else w).to(dtype)


@dataclass(frozen=True)
class Circular(Primitive):
    """Circular convolution with w on one or more axes.

    Attributes:
        lengths: L, the trailing shape of w.
        input: how many entries x has along each axis, at most L.
        output: how many entries y has along each axis, at most L.
        flip: read w[j - i], the transpose.
    """

    lengths: tuple[int, ...]
    input: tuple[int, ...]
    output: tuple[int, ...]
    flip: bool = False

    function: ClassVar[Function] = staticmethod(circular)
    correlate: ClassVar[Function | None] = staticmethod(circular_gradient)
    helpers: ClassVar[tuple[Helper, ...]] = (spectrum, from_spectrum)

    @property
    def ins(self) -> int:
        """Length of x."""
        return math.prod(self.input)

    @property
    def outs(self) -> int:
        """Length of y."""
        return math.prod(self.output)

    @property
    def values(self) -> tuple[int, ...]:
        """Trailing shape of w."""
        return self.lengths

    def args(self) -> tuple[Any, ...]:
        """Lengths, sizes of x and y, direction."""
        return self.lengths, self.input, self.output, self.flip

    def transposed(self) -> Primitive:
        """The other direction, sizes exchanged."""
        return Circular(self.lengths, self.output, self.input, not self.flip)

    def operations(self, complex_: bool) -> tuple[int, int]:
        """Two transforms and a product a frequency; the transform of w is not counted."""
        n = math.prod(self.lengths)
        mults, adds = fft_operations(n, complex_)
        if complex_:
            return 2 * mults + n, 2 * adds
        half = n // 2 + 1
        return 2 * mults + 4 * half, 2 * adds + 2 * half
