"""Sums of products of a circulant and a skew-circulant matrix: matrices of low displacement rank.

    y = sum_k Z_f(a_k) Z_-f(b_k) x,    f = 1 or -1,    k < r

with Z_f(v) = sum_i v_i Z_f^i for the shift Z_f that multiplies what wraps around by f. Z_1(v) is
diagonal in the Fourier basis, Z_-1(v) in that of the frequencies pi (2 k + 1) / n. Input and output
transforms are shared, so a vector takes 2 r + 2 transforms of length n and 2 r n products.

Real operands take real transforms: n / 2 + 1 frequencies for Z_1; for Z_-1 and even n the n / 2
frequencies pi (4 k + 1) / n, from one complex transform of length n / 2 of

    (x_j - i x_(j + n/2)) exp(-i pi j / n),

the others being their conjugates; for odd n those of x_j (-1)^j, because -Z_-1 and Z_1 are similar.
The values are (a, b), of shape (2, r, n), and y is not linear in them.
Source: Pan, Structured matrices and polynomials (2001), section 4.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.primitives.base import Function, Helper, Primitive, Square
from structmat.primitives.counts import fft_operations

__all__ = ["Displacement"]


def half_turns(n: int, scale: float, x: Tensor) -> Tensor:
    """exp(i pi k scale / n) for k < n, as a column, in the precision of x."""
    angle = torch.arange(n, dtype=torch.float64, device=x.device) * (math.pi * scale / max(n, 1))
    double = x.dtype in (torch.float64, torch.complex128)
    turns = torch.polar(torch.ones_like(angle), angle).unsqueeze(-1)
    return turns if double else turns.to(torch.complex64)


def alternate(x: Tensor) -> Tensor:
    """x with the sign of every other entry along dimension -2 changed."""
    sign = 1 - 2 * (torch.arange(x.shape[-2], device=x.device) % 2)
    return x * sign.to(x.dtype).unsqueeze(-1)


def to_spectrum(x: Tensor, f: int) -> Tensor:
    """The eigenbasis of Z_f along dimension -2; for real x, half of it."""
    n = x.shape[-2]
    y: Tensor
    if x.is_complex():
        y = torch.fft.fft(x if f == 1 else x * half_turns(n, -1.0, x), dim=-2)
    elif f == 1 or n % 2:
        y = torch.fft.rfft(x if f == 1 else alternate(x), dim=-2)
    else:
        folded = torch.complex(x[..., : n // 2, :], -x[..., n // 2 :, :])
        y = torch.fft.fft(folded * half_turns(n // 2, -0.5, x), dim=-2)
    return y


def of_spectrum(y: Tensor, n: int, f: int, real: bool) -> Tensor:
    """The inverse of ``to_spectrum``."""
    x: Tensor
    if not real:
        x = torch.fft.ifft(y, dim=-2)
        return x if f == 1 else x * half_turns(n, 1.0, x)
    if f == 1 or n % 2:
        x = torch.fft.irfft(y, n=n, dim=-2)
        return x if f == 1 else alternate(x)
    x = torch.fft.ifft(y, dim=-2) * half_turns(n // 2, 0.5, y)
    return torch.cat([x.real, -x.imag], -2)


def reversed_shift(v: Tensor, f: int) -> Tensor:
    """The u with Z_f(u) = Z_f(v)^T; the last dimension of v."""
    return torch.cat([v[..., :1], v[..., 1:].flip(-1) * f], -1)


def displaced(x: Tensor, w: Tensor, n: int, r: int, f: int, turned: bool) -> Tensor:
    """sum_k Z_f(a_k) Z_-f(b_k) x with w = (a, b); the transposed matrix where ``turned``."""
    dtype = torch.promote_types(x.dtype, w.dtype)
    lead = list(torch.broadcast_shapes(x.shape[:-2], w.shape[:-3]))
    if 0 in (n, r, x.numel(), w.numel()):
        return torch.zeros([*lead, n, x.shape[-1]], dtype=dtype, device=x.device)
    work = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    x, w, real = x.to(work), w.to(work), not work.is_complex
    first, last = w[..., 1, :, :], w[..., 0, :, :]
    if turned:
        first, last, f = reversed_shift(last, f), reversed_shift(first, -f), -f
    inner = to_spectrum(first.unsqueeze(-1), -f)
    outer = to_spectrum(last.unsqueeze(-1), f)
    z = of_spectrum(inner * to_spectrum(x, -f).unsqueeze(-3), n, -f, real)
    y = of_spectrum((outer * to_spectrum(z, f)).sum(-3), n, f, real)
    return y.to(dtype)


def displaced_gradient(
    x: Tensor, g: Tensor, w: Tensor, n: int, r: int, f: int, turned: bool
) -> Tensor:
    """The gradient of w = (a, b); x and g (b, p, n, cols), w (b, 2, r, n)."""
    if 0 in (n, r, x.numel(), g.numel()):
        return torch.zeros_like(w)
    dtype = torch.promote_types(torch.promote_types(x.dtype, g.dtype), w.dtype)
    work = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    real = not work.is_complex
    values = w.to(work)
    # <g, M^T x> = <conj x, M conj g>: the transposed matrix has the same gradient with these
    x, g = (g.to(work).conj(), x.to(work).conj()) if turned else (x.to(work), g.to(work))
    outer = to_spectrum(values[:, 0].unsqueeze(-1), f).unsqueeze(1)
    inner = to_spectrum(values[:, 1].unsqueeze(-1), -f).unsqueeze(1)
    xs = to_spectrum(x, -f).unsqueeze(2)
    gs = to_spectrum(g, f).unsqueeze(2)
    z = to_spectrum(of_spectrum(inner * xs, n, -f, real), f)
    back = to_spectrum(of_spectrum(outer.conj() * gs, n, f, real), -f)
    a = of_spectrum((gs * z.conj()).sum([1, -1]).unsqueeze(-1), n, f, real)
    b = of_spectrum((back * xs.conj()).sum([1, -1]).unsqueeze(-1), n, -f, real)
    return torch.stack([a.squeeze(-1), b.squeeze(-1)], 1).to(dtype)


@dataclass(frozen=True)
class Displacement(Square):
    """sum_k Z_f(a_k) Z_-f(b_k).

    Attributes:
        n: size.
        r: number of terms.
        f: 1 or -1.
        turned: the transposed matrix.
    """

    r: int
    f: int = 1
    turned: bool = False

    function: ClassVar[Function] = staticmethod(displaced)
    correlate: ClassVar[Function | None] = staticmethod(displaced_gradient)
    helpers: ClassVar[tuple[Helper, ...]] = (
        half_turns,
        alternate,
        to_spectrum,
        of_spectrum,
        reversed_shift,
    )
    nonlinear: ClassVar[bool] = True

    @property
    def values(self) -> tuple[int, ...]:
        """a and b."""
        return (2, self.r, self.n)

    def args(self) -> tuple[Any, ...]:
        """Size, rank, sign and direction."""
        return self.n, self.r, self.f, self.turned

    def transposed(self) -> Primitive:
        """The other direction."""
        return replace(self, turned=not self.turned)

    def operations(self, complex_: bool) -> tuple[int, int]:
        """2 r + 2 transforms, 2 r products a frequency; those of the values are not counted."""
        n, r = self.n, self.r
        if n == 0 or r == 0:
            return 0, 0
        mults, adds = fft_operations(n, complex_)
        if complex_:
            return (2 * r + 2) * mults + (3 * r + 1) * n, (2 * r + 2) * adds + (r - 1) * n
        half = n // 2 + 1
        turns = 4 * (3 * r + 1) * half
        return (2 * r + 2) * mults + turns, (2 * r + 2) * adds + turns // 2 + 2 * (r - 1) * half
