"""The Fourier transform of real numbers as a real matrix, in FFTPACK's packing.

    R x = (y_0, Re y_1, Im y_1, Re y_2, Im y_2, ...),    y_k = sum_j x_j exp(-2 pi i k j / n),

with the real y_{n/2} last where n is even: n real numbers. Its rows are orthogonal,

    R R^T = n diag(1, 1/2, 1/2, ..., 1/2, 1)    (the last 1 for even n alone),

so with W = diag(1, w, w, ..., w, 1) the inverse of R is R^T W / n for w = 2. The two matrices here
are W R and, transposed, R^T W. Cost: one real Fourier transform, and n products where w counts.
Source: ``scipy.fftpack.rfft``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.primitives.base import Function, Helper, Primitive, Square
from structmat.primitives.counts import fft_operations

__all__ = ["RealFourier"]


def packed(x: Tensor, weight: float) -> Tensor:
    """W R x for real x."""
    n = x.shape[-2]
    half = torch.fft.rfft(x, dim=-2)
    pairs = torch.stack([half.real, half.imag], -2)
    pairs = pairs.reshape([*x.shape[:-2], 2 * half.shape[-2], x.shape[-1]])
    last = n if n % 2 == 0 else n + 1
    middle = pairs[..., 2:last, :]
    middle = middle if weight == 1.0 else middle * weight
    return torch.cat([pairs[..., :1, :], middle, pairs[..., last : n + 1, :]], -2)


def unpacked(y: Tensor, weight: float) -> Tensor:
    """R^T W y for real y."""
    n = y.shape[-2]
    last = n - 1 if n % 2 == 0 else n
    middle = y[..., 1:last, :]
    middle = middle if weight == 2.0 else middle * (weight / 2)
    zero = torch.zeros_like(y[..., :1, :])
    parts = [y[..., :1, :], zero, middle, *([y[..., last:, :], zero] if last < n else [])]
    pairs = torch.cat(parts if n > 1 else parts[:2], -2)
    pairs = pairs.reshape([*y.shape[:-2], n // 2 + 1, 2, y.shape[-1]])
    half = torch.complex(pairs[..., 0, :], pairs[..., 1, :])
    x: Tensor = torch.fft.irfft(half, n=n, dim=-2, norm="forward")
    return x


def real_fourier(x: Tensor, weight: float, back: bool) -> Tensor:
    """W R x, or R^T W x, along dimension -2; complex x by its parts."""
    if x.numel() == 0:  # FFT libraries refuse to do nothing
        return x
    transform: Callable[[Tensor, float], Tensor] = unpacked if back else packed
    if x.is_complex():
        return torch.complex(transform(x.real, weight), transform(x.imag, weight))
    work = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    return transform(x.to(work), weight).to(x.dtype)


@dataclass(frozen=True)
class RealFourier(Square):
    """W R, or R^T W.

    Attributes:
        n: size.
        weight: w, of the entries other than y_0 and y_{n/2}.
        back: the transposed matrix.
    """

    weight: float = 1.0
    back: bool = False

    function: ClassVar[Function] = staticmethod(real_fourier)
    helpers: ClassVar[tuple[Helper, ...]] = (packed, unpacked)

    def args(self) -> tuple[Any, ...]:
        """Weight and direction."""
        return self.weight, self.back

    def transposed(self) -> Primitive:
        """The other direction."""
        return replace(self, back=not self.back)

    def operations(self, complex_: bool) -> tuple[int, int]:
        """One transform of real numbers; the weight where it is not the transform's own."""
        mults, adds = fft_operations(self.n, False)
        own = 2.0 if self.back else 1.0
        return mults + (0 if self.weight == own else max(self.n - 2 + self.n % 2, 0)), adds
