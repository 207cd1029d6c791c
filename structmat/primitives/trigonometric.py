"""Constant matrices with fast transforms: Fourier, cosine, sine, Walsh-Hadamard.

Unnormalised, with entries (0 <= k, j < n):

    Fourier    exp(-2 pi i k j / n)                  symmetric
    Cosine 1   cos(pi k j / (n - 1))                 symmetric, n >= 2
    Cosine 2   cos(pi k (2 j + 1) / (2 n))           transposed: Cosine 3
    Cosine 4   cos(pi (2 k + 1)(2 j + 1) / (4 n))    symmetric
    Sine 1     sin(pi (k + 1)(j + 1) / (n + 1))      symmetric
    Sine 2     sin(pi (k + 1)(2 j + 1) / (2 n))      transposed: Sine 3
    Sine 4     sin(pi (2 k + 1)(2 j + 1) / (4 n))    symmetric
    Hadamards  (-1)^(popcount(k & j)), n = 2^L       symmetric

The first and the last entry of x and of y may be weighted, which is what the normalisations of
cosines and sines differ in. Sines of types 2 to 4 are cosines of the same type between a change of
signs and a reversal. Types 2 and 3 cost one real Fourier transform of length n (Makhoul, A fast
cosine transform in one and two dimensions, 1980), type 4 one complex transform of length n / 2 (n
for odd n), type 1 one real transform of twice the length. On a CPU, SciPy's pocketfft computes them
without these detours; what torch traces, differentiates or maps over keeps to torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.primitives.base import Function, Helper, Primitive, Square
from structmat.primitives.counts import fft_operations
from structmat.primitives.plain import plain_numbers

__all__ = ["Cosine", "Fourier", "Hadamards", "Sine"]


def fourier(x: Tensor, inverse: bool) -> Tensor:
    """The discrete Fourier transform of dimension -2, unnormalised; ``inverse`` conjugates it."""
    work = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    if x.numel() == 0:  # FFT libraries refuse to do nothing
        return x
    norm = "forward" if inverse else "backward"
    y: Tensor = (torch.fft.ifft if inverse else torch.fft.fft)(x.to(work), dim=-2, norm=norm)
    return y


def phases(n: int, scale: float, shift: float, x: Tensor) -> Tensor:
    """exp(-pi i (k + shift) scale) for k < n, as a column, in the precision of x."""
    wide = torch.arange(n, dtype=torch.float64, device=x.device)
    angle = (wide + shift) * (-math.pi * scale)
    double = x.dtype in (torch.float64, torch.complex128)
    turns = torch.polar(torch.ones_like(angle), angle).unsqueeze(-1)
    return turns if double else turns.to(torch.complex64)


def real_cosine(x: Tensor, kind: int) -> Tensor:
    """The cosine transform of real x."""
    n = x.shape[-2]
    if n <= 1:
        return x * (math.sqrt(0.5) if kind == 4 else 1.0)
    if kind == 1:
        whole = torch.cat([x, x[..., 1:-1, :].flip(-2)], -2)
        sign = (1 - 2 * (torch.arange(n, device=x.device) % 2)).to(x.dtype).unsqueeze(-1)
        ends = x[..., :1, :] + sign * x[..., -1:, :]
        y: Tensor = (torch.fft.rfft(whole, dim=-2).real + ends) / 2
        return y
    if kind == 2:
        v = torch.cat([x[..., 0::2, :], x[..., 1::2, :].flip(-2)], -2)
        half = torch.fft.rfft(v, dim=-2) * phases(n // 2 + 1, 0.5 / n, 0.0, x)
        rest = half.imag[..., 1 : (n + 1) // 2, :].flip(-2)
        return torch.cat([half.real, -rest], -2)
    if kind == 3:
        x = torch.cat([2 * x[..., :1, :], x[..., 1:, :]], -2)
        turned = torch.cat([torch.zeros_like(x[..., :1, :]), x[..., 1:, :].flip(-2)], -2)
        m = n // 2 + 1
        half = torch.complex(x[..., :m, :], -turned[..., :m, :])
        half = half * phases(m, 0.5 / n, 0.0, x).conj()
        v = torch.fft.irfft(half, n=n, dim=-2) * (n / 2)
        first = (n + 1) // 2
        pairs = torch.stack([v[..., : n // 2, :], v[..., first:, :].flip(-2)], -2)
        even = pairs.reshape([*x.shape[:-2], 2 * (n // 2), x.shape[-1]])
        return even if n % 2 == 0 else torch.cat([even, v[..., first - 1 : first, :]], -2)
    if n % 2:
        z: Tensor = torch.fft.fft(x * phases(n, 0.5 / n, 0.0, x), n=2 * n, dim=-2)[..., :n, :]
        return (z * phases(n, 0.5 / n, 0.5, x)).real
    z = torch.complex(x[..., 0::2, :], x.flip(-2)[..., 0::2, :])
    z = torch.fft.fft(z * phases(n // 2, 1.0 / n, 0.25, x), dim=-2)
    z = z * phases(n // 2, 1.0 / n, 0.0, x)
    pairs = torch.stack([z.real, -z.imag.flip(-2)], -2)
    return pairs.reshape(x.shape)


def real_sine(x: Tensor, kind: int) -> Tensor:
    """The sine transform of real x."""
    n = x.shape[-2]
    if kind > 1:
        sign = (1 - 2 * (torch.arange(n, device=x.device) % 2)).to(x.dtype).unsqueeze(-1)
        if kind == 2:
            return real_cosine(x * sign, 2).flip(-2)
        return real_cosine(x.flip(-2), kind) * sign
    zero = torch.zeros_like(x[..., :1, :])
    whole = torch.cat([zero, x, zero, -x.flip(-2)], -2)
    y: Tensor = torch.fft.rfft(whole, dim=-2).imag[..., 1 : n + 1, :] * -0.5
    return y


def by_parts(x: Tensor, transform: Callable[..., Tensor], kind: int) -> Tensor:
    """A real transform of real or complex x, in at least single precision."""
    if x.numel() == 0:
        return x
    if x.is_complex():
        return torch.complex(transform(x.real, kind), transform(x.imag, kind))
    work = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    return transform(x.to(work), kind).to(x.dtype)


def weighted(x: Tensor, ends: tuple[float, float], scale: float = 1.0) -> Tensor:
    """scale x, the first and the last entry of dimension -2 also multiplied by ``ends``."""
    if x.numel() == 0:
        return x
    if ends == (1.0, 1.0):
        return x if scale == 1.0 else x * scale
    weights = torch.full((x.shape[-2], 1), scale, dtype=x.dtype, device=x.device)
    weights[0] *= ends[0]
    weights[-1] *= ends[1]
    return x * weights


def numpy_may_see(x: Tensor) -> bool:
    """Whether x is plain real numbers on a CPU."""
    return x.dtype in (torch.float32, torch.float64) and plain_numbers(x)


def pocketfft(
    x: Tensor,
    kind: int,
    ins: tuple[float, float],
    outs: tuple[float, float],
    scale: float,
    sine: bool,
) -> Tensor:
    """The same by SciPy, whose transforms count each entry twice but the ends of some types."""
    import scipy.fft

    once = {(1, False): (2.0, 2.0), (3, False): (2.0, 1.0), (3, True): (1.0, 2.0)}
    a, b = once.get((kind, sine), (1.0, 1.0))
    x = weighted(x, (ins[0] * a, ins[1] * b))
    workers = torch.get_num_threads() if x.numel() > 2**16 else 1
    transform = scipy.fft.dst if sine else scipy.fft.dct
    y = transform(x.resolve_neg().numpy(), kind, axis=-2, workers=workers)
    return weighted(torch.from_numpy(y), outs, scale / 2)


def cosine(
    x: Tensor, kind: int, ins: tuple[float, float], outs: tuple[float, float], scale: float
) -> Tensor:
    """The cosine transform of dimension -2, scaled, with weights of the ends of x and of y."""
    if x.shape[-2] > 1 and numpy_may_see(x):
        return pocketfft(x, kind, ins, outs, scale, False)
    return weighted(by_parts(weighted(x, ins), real_cosine, kind), outs, scale)


def sine(
    x: Tensor, kind: int, ins: tuple[float, float], outs: tuple[float, float], scale: float
) -> Tensor:
    """The sine transform of dimension -2, scaled, with weights of the ends of x and of y."""
    if x.shape[-2] > 1 and numpy_may_see(x):
        return pocketfft(x, kind, ins, outs, scale, True)
    return weighted(by_parts(weighted(x, ins), real_sine, kind), outs, scale)


def hadamard_block(n: int, x: Tensor) -> Tensor:
    """The Walsh-Hadamard matrix of n = 2^L in natural order."""
    h = torch.ones(1, 1, dtype=x.dtype, device=x.device)
    while h.shape[0] < n:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)], 0)
    return h


def hadamard(x: Tensor, n: int) -> Tensor:
    """The Walsh-Hadamard transform of dimension -2: products with blocks of at most 32."""
    *lead, _, cols = x.shape
    after = cols
    left = n
    while left > 1:
        size = min(left, 32)
        x = hadamard_block(size, x) @ x.reshape([*lead, left // size, size, after])
        x = x.reshape([*lead, n, cols])
        after *= size
        left //= size
    return x


@dataclass(frozen=True)
class Fourier(Square):
    """exp(-2 pi i k j / n), or its conjugate; x must be complex."""

    inverse: bool = False

    function: ClassVar[Function] = staticmethod(fourier)

    def args(self) -> tuple[Any, ...]:
        """The direction."""
        return (self.inverse,)

    def transposed(self) -> Primitive:
        """Symmetric."""
        return self

    def conjugated(self) -> Primitive:
        """The other direction."""
        return Fourier(self.n, not self.inverse)

    def operations(self, complex_: bool) -> tuple[int, int]:
        """One transform."""
        return fft_operations(self.n, True)


@dataclass(frozen=True)
class Trigonometric(Square):
    """A cosine or sine matrix of a type from 1 to 4.

    Attributes:
        n: size.
        kind: type.
        input: weights of the first and the last entry of x.
        output: weights of the first and the last entry of y.
        scale: what all of it is multiplied by.
    """

    kind: int
    input: tuple[float, float] = (1.0, 1.0)
    output: tuple[float, float] = (1.0, 1.0)
    scale: float = 1.0

    def args(self) -> tuple[Any, ...]:
        """Type, weights and factor."""
        return self.kind, self.input, self.output, self.scale

    def transposed(self) -> Primitive:
        """Types 2 and 3 are each other's transposes; weights change sides."""
        kind = {1: 1, 2: 3, 3: 2, 4: 4}[self.kind]
        return replace(self, kind=kind, input=self.output, output=self.input)

    def _length(self) -> int:
        """The length of the real transform of type 1."""
        raise NotImplementedError

    def operations(self, complex_: bool) -> tuple[int, int]:
        """One transform of real numbers, the rotations by phases, the weighted ends."""
        n = self.n
        if n == 0:
            return 0, 0
        ends = sum(w != 1.0 for w in (*self.input, *self.output))
        ends += 0 if self.scale in (1.0, -1.0) else n
        if self.kind == 1:
            mults, adds = fft_operations(self._length(), False)
            return mults + n + ends, adds
        if self.kind == 4:
            mults, adds = fft_operations(n if n % 2 else n // 2, True)
            return 4 * mults + 4 * n + ends, 2 * (mults + adds) + 2 * n
        mults, adds = fft_operations(n, False)
        return mults + 2 * n + ends, adds + n


@dataclass(frozen=True)
class Cosine(Trigonometric):
    """The cosine matrix of a type from 1 to 4."""

    function: ClassVar[Function] = staticmethod(cosine)
    helpers: ClassVar[tuple[Helper, ...]] = (
        phases,
        real_cosine,
        by_parts,
        weighted,
        plain_numbers,
        numpy_may_see,
        pocketfft,
    )

    def _length(self) -> int:
        return 2 * max(self.n - 1, 1)


@dataclass(frozen=True)
class Sine(Trigonometric):
    """The sine matrix of a type from 1 to 4."""

    function: ClassVar[Function] = staticmethod(sine)
    helpers: ClassVar[tuple[Helper, ...]] = (
        phases,
        real_cosine,
        real_sine,
        by_parts,
        weighted,
        plain_numbers,
        numpy_may_see,
        pocketfft,
    )

    def _length(self) -> int:
        return 2 * (self.n + 1)


@dataclass(frozen=True)
class Hadamards(Square):
    """The Walsh-Hadamard matrix of n = 2^L in natural order."""

    function: ClassVar[Function] = staticmethod(hadamard)
    walsh: ClassVar[bool] = True
    helpers: ClassVar[tuple[Helper, ...]] = (hadamard_block,)

    def args(self) -> tuple[Any, ...]:
        """The size."""
        return (self.n,)

    def transposed(self) -> Primitive:
        """Symmetric."""
        return self

    def operations(self, complex_: bool) -> tuple[int, int]:
        """n log2 n sums."""
        return 0, self.n * (max(self.n, 1).bit_length() - 1)
