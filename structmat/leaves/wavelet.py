"""Orthogonal wavelet transforms of periodic signals, by Mallat's pyramid of filter banks.

One level splits x of even length n into averages and details with an orthonormal filter h of even
length and its mirror g[t] = (-1)^t h[size - 1 - t]:

    low[i] = sum_t h[t] x[(2 i + t) mod n],    high[i] = sum_t g[t] x[(2 i + t) mod n]

and the next level splits low. The result is (low_L, high_L, ..., high_1), coarse to fine; the
matrix is orthogonal. Haar is h = (1, 1) / sqrt(2). Daubechies' filter of p vanishing moments, of
length 2 p, is the minimum-phase factor of cos^2p(w/2) sum_k C(p - 1 + k, k) sin^2k(w/2).

Cost: at most 2 size products and sums an entry. Sources: Mallat, A theory for multiresolution
signal decomposition (1989); Daubechies, Ten lectures on wavelets (1992), section 6.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.index import AffineMap, DigitMap
from structmat.leaves.diagonal import _size
from structmat.operator import LinearOperator
from structmat.sizes import takes_symbols
from structmat.tracing import of_numbers

__all__ = ["Haar", "Wavelet", "daubechies"]


@of_numbers
def daubechies(p: int) -> tuple[float, ...]:
    """Daubechies' orthonormal low-pass filter with p vanishing moments, of length 2 p.

    Args:
        p: 1 (Haar) to 16; beyond that the roots lose too many digits.

    Raises:
        ValueError: p out of range.

    Example:
        >>> from structmat.leaves.wavelet import daubechies
        >>> [round(h, 4) for h in daubechies(2)]
        [0.483, 0.8365, 0.2241, -0.1294]
    """
    if not 1 <= p <= 16:
        raise ValueError(f"daubechies: p = {p} is not between 1 and 16")
    halves = [math.comb(p - 1 + k, k) for k in reversed(range(p))]
    filter_ = np.ones(1)
    for y in np.roots(halves):
        b = 1 - 2 * y  # z + 1 / z = 2 b
        z = b + np.sqrt(b * b - 1 + 0j)
        filter_ = np.convolve(filter_, [1, -(z if abs(z) < 1 else 1 / z)])
    for _ in range(p):
        filter_ = np.convolve(filter_, [1, 1])
    real = filter_.real * (math.sqrt(2) / filter_.real.sum())
    return tuple(float(h) for h in real)


class Wavelet(LinearOperator):
    """The orthogonal transform of periodic signals of length n.

    Args:
        n: length, divisible by 2 ** levels.
        wavelet: ``"haar"``, ``"db1"`` to ``"db16"``, or the taps of an orthonormal low-pass filter.
        levels: how often the averages are split; by default as long as their length is even and
            at least the filter's.
        dtype: makes it take part in dtype promotion; by default it takes the dtype of x.

    Raises:
        ValueError: n is not divisible by 2 ** levels, an unknown wavelet, taps of odd length.

    Example:
        >>> import torch, structmat as sm
        >>> W = sm.Wavelet(8, "db2")
        >>> torch.allclose(W.to_dense() @ W.to_dense().mT, torch.eye(8), atol=1e-6)
        True
    """

    n: int
    taps: tuple[float, ...]
    levels: int
    transposed: bool

    def __init__(
        self,
        n: int,
        wavelet: str | Sequence[float] = "haar",
        levels: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        taps = _taps(wavelet)
        _size(n, "Wavelet: n")
        if levels is None:
            levels = 0
            while n and n % 2 ** (levels + 1) == 0 and n // 2**levels >= len(taps):
                levels += 1
        static = {"n": n, "taps": taps, "levels": levels, "transposed": False, "dtype": dtype}
        self._init(static=static)
        self._check()

    def _check(self) -> None:
        if len(self.taps) % 2 or not self.taps:
            raise ValueError(f"Wavelet: a filter of {len(self.taps)} taps; needs an even number")
        if self.levels < 0 or self.n % 2**self.levels:
            raise ValueError(
                f"Wavelet: n = {self.n} is not divisible by 2 ** {self.levels}; "
                "pad the signal or take fewer levels"
            )

    def _shape(self) -> tuple[int, int]:
        return self.n, self.n

    @property
    def mirror(self) -> tuple[float, ...]:
        """The high-pass filter."""
        size = len(self.taps)
        return tuple((-1.0) ** t * self.taps[size - 1 - t] for t in range(size))

    def _lower(self, g: Builder, x: Any) -> Any:
        sizes = [self.n >> level for level in range(self.levels)]
        if self.n == 0:
            return x
        if self.transposed:
            return self._synthesis(g, x, sizes)
        details = []
        for size in sizes:
            half = size // 2
            parts = g.permute(x, DigitMap((half, 2), (1, 0)))
            even, odd = g.slice(parts, size, 0, half), g.slice(parts, size, half, size)
            details.append(_filtered(g, (even, odd), half, self.mirror))
            x = _filtered(g, (even, odd), half, self.taps)
        lengths = [self.n >> self.levels, *(s // 2 for s in reversed(sizes))]
        return g.concat([x, *reversed(details)], lengths) if sizes else x

    def _synthesis(self, g: Builder, y: Any, sizes: list[int]) -> Any:
        x = g.slice(y, self.n, 0, self.n >> self.levels)
        for size in reversed(sizes):
            half = size // 2
            high = g.slice(y, self.n, half, size)
            branches = []
            for phase in (0, 1):
                terms = []
                for source, taps in ((x, self.taps), (high, self.mirror)):
                    for t in range(phase, len(taps), 2):
                        terms.append(g.scalar(_rolled(g, source, half, -(t // 2)), taps[t]))
                branches.append(g.add(terms))
            both = g.concat(branches, [half, half])
            x = g.permute(both, DigitMap((2, half), (1, 0)))
        return x

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        whole = torch.eye(self.n, dtype=torch.float64, device=device)
        for level in range(self.levels):
            size = self.n >> level
            step = torch.zeros(size, size, dtype=torch.float64, device=device)
            for row, taps in ((0, self.taps), (size // 2, self.mirror)):
                for i in range(size // 2):
                    for t, tap in enumerate(taps):
                        step[row + i, (2 * i + t) % size] += tap
            whole[:size] = step @ whole[:size]
        return (whole.mT if self.transposed else whole).to(dtype)

    def _transpose(self) -> LinearOperator:
        return self._replace({}, (), {**self.static, "transposed": not self.transposed})

    def _label(self) -> str:
        turned = ".T" if self.transposed else ""
        name = "Haar" if len(self.taps) == 2 else "Wavelet"
        taps = "" if len(self.taps) == 2 else f", {len(self.taps)} taps"
        return f"{name}({self.n}{taps}, levels={self.levels}){turned}"


def _taps(wavelet: str | Sequence[float]) -> tuple[float, ...]:
    if not isinstance(wavelet, str):
        return tuple(float(t) for t in wavelet)
    if wavelet == "haar":
        return (math.sqrt(0.5), math.sqrt(0.5))
    number = wavelet.removeprefix("db")
    if number == wavelet or not number.isdecimal():
        raise ValueError(f"Wavelet: {wavelet!r} is unknown; take 'haar', 'db1' to 'db16', or taps")
    return daubechies(int(number))


def _rolled(g: Builder, x: Any, n: int, shift: int) -> Any:
    """y[i] = x[(i + shift) mod n]."""
    return x if shift % n == 0 else g.permute(x, AffineMap(n, 1, shift))


def _filtered(g: Builder, parts: tuple[Any, Any], half: int, taps: tuple[float, ...]) -> Any:
    """y[i] = sum_t taps[t] x[2 i + t] from the even and the odd entries of x."""
    return g.add(
        [g.scalar(_rolled(g, parts[t % 2], half, t // 2), tap) for t, tap in enumerate(taps)]
    )


@takes_symbols
def Haar(n: int, levels: int | None = None, dtype: torch.dtype | None = None) -> Wavelet:
    """The orthogonal Haar transform; see :class:`Wavelet`.

    Args:
        n: length, divisible by 2 ** levels.
        levels: how often the averages are split; by default as often as n is even.
        dtype: makes it take part in dtype promotion; by default it takes the dtype of x.

    Raises:
        ValueError: n is not divisible by 2 ** levels.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Haar(4)(torch.ones(4))
        tensor([2.0000, 0.0000, 0.0000, 0.0000])
    """
    return Wavelet(n, "haar", levels, dtype)
