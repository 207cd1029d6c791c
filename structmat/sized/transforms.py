"""Families applied by fast transforms: Fourier, cosine, sine, Hadamard, wavelet, Toeplitz.

Counts follow :mod:`structmat.primitives.counts`: exact for the radix-2 algorithm where the length
of the transform is 2^L > 1, rounded up for other lengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from structmat.leaves import (
    convolution,
    displacement,
    fourier,
    hadamard,
    real_fourier,
    statespace,
    toeplitz,
    trigonometric,
    wavelet,
)
from structmat.operator import LinearOperator
from structmat.sized.form import Count, Form, Sizes, family
from structmat.sizes import has_symbols

__all__ = [
    "DCT",
    "DFT",
    "DST",
    "IDFT",
    "IRDFT",
    "RDFT",
    "Circulant",
    "Convolution",
    "Haar",
    "Hadamard",
    "Hankel",
    "LowDisplacementRank",
    "StateSpace",
    "Toeplitz",
    "Wavelet",
]


def _plus(count: Count, products: Any, sums: Any = 0) -> Count:
    return count[0] + products, count[1] + sums


def _fft(n: Any, complex_: bool) -> Count:
    from structmat.sized.functions import fft

    return fft(n, complex_)


def _circular(length: Any) -> Callable[[bool], Count]:
    """Two transforms and a product a frequency: ``structmat.primitives.Circular``."""

    def count(complex_: bool) -> Count:
        from structmat.sized.functions import half

        products, sums = _fft(length, complex_)
        if complex_:
            return 2 * products + length, 2 * sums
        return 2 * products + 4 * half(length), 2 * sums + 2 * half(length)

    return count


def _fast(n: Any) -> Any:
    if not has_symbols(n):
        return toeplitz.fast_length(n)
    from structmat.sized.functions import fast_length

    return fast_length(n)


def _scaled(norm: str | None, inverse: bool) -> bool:
    return norm == "ortho" or (norm == "forward") != inverse


def _dft(n: Any, norm: str, inverse: bool, make: Callable[..., Any]) -> Form:
    fourier.check_norm("DFT", norm)
    extra = n if _scaled(norm, inverse) else 0
    return Form(
        (n, n),
        lambda _, dtype: make(n, norm, dtype),
        count=lambda _: _plus(_fft(n, True), extra),
        complex=True,
    )


@family("$n = 2^L$, $n > 1$; complex")
def DFT(n: Any, norm: str = "backward") -> Form:
    """The discrete Fourier transform; counts are in complex numbers."""
    return _dft(n, norm, False, fourier.DFT)


@family("$n = 2^L$, $n > 1$; complex")
def IDFT(n: Any, norm: str = "backward") -> Form:
    """The inverse of DFT(n, norm)."""
    return _dft(n, norm, True, fourier.IDFT)


def _rdft(n: Any, norm: str, inverse: bool, make: Callable[..., Any]) -> Form:
    fourier.check_norm("RDFT", norm)
    extra = n if _scaled(norm, inverse) else 0
    return Form(
        (n, n),
        lambda _, dtype: make(n, norm, dtype),
        count=lambda _: _plus(_fft(n, False), extra),
        turned=lambda _: _plus(_fft(n, False), extra + n - 2 + n % 2),
    )


@family("$n = 2^L$, $n > 1$")
def RDFT(n: Any, norm: str = "backward") -> Form:
    """The Fourier transform of real vectors, packed into real numbers."""
    return _rdft(n, norm, False, real_fourier.RDFT)


@family("$n = 2^L$, $n > 1$")
def IRDFT(n: Any, norm: str = "backward") -> Form:
    """The inverse of RDFT(n, norm)."""
    return _rdft(n, norm, True, real_fourier.IRDFT)


def _trigonometric(n: Any, type: int, norm: str | None, cls: Any) -> Form:
    cls(2, type, norm)  # says what is wrong with type and norm
    cosine = cls is trigonometric.DCT

    def count(_: bool) -> Count:
        sides = cls(2, type, norm)._ends()
        ends = sum(w != 1.0 for side in sides for w in side)
        if type == 1:
            length = 2 * (n - 1 if cosine else n + 1)
            return _plus(_fft(length, False), 2 * n + ends)
        if type == 4:
            products, sums = _fft(n / 2, True)
            return 4 * products + 5 * n + ends, 2 * (products + sums) + 2 * n
        return _plus(_fft(n, False), 3 * n + ends, n)

    return Form((n, n), lambda _, dtype: cls(n, type, norm, dtype), count=count)


@family("$n = 2^L$, $n > 2$")
def DCT(n: Any, type: int = 2, norm: str | None = None) -> Form:
    """The cosine transform of a type from 1 to 4 (type 4: n is even)."""
    return _trigonometric(n, type, norm, trigonometric.DCT)


@family("$n = 2^L$, $n > 2$")
def DST(n: Any, type: int = 2, norm: str | None = None) -> Form:
    """The sine transform of a type from 1 to 4 (type 4: n is even)."""
    return _trigonometric(n, type, norm, trigonometric.DST)


@family("$n = 2^L$")
def Hadamard(n: Any, normalized: bool = False, order: str = "natural") -> Form:
    """The Walsh-Hadamard matrix."""

    def count(_: bool) -> Count:
        from structmat.sized.functions import log2

        return n if normalized else 0, n * log2(n)

    return Form(
        (n, n), lambda _, dtype: hadamard.Hadamard(n, normalized, order, dtype), count=count
    )


def _wavelet(n: Any, name: Any, levels: int | None) -> Form:
    size = len(wavelet._taps(name))
    rest = n / 2**levels if levels is not None else 1 << ((size - 1).bit_length() - 1)
    return Form(
        (n, n),
        lambda _, dtype: wavelet.Wavelet(n, name, levels, dtype),
        count=lambda _: (2 * size * (n - rest), 2 * (size - 1) * (n - rest)),
    )


@family("$n = 2^L$")
def Haar(n: Any, levels: int | None = None) -> Form:
    """The Haar transform; a wavelet of two taps."""
    return _wavelet(n, "haar", levels)


@family("$n = 2^L$, at least the number of taps")
def Wavelet(n: Any, wavelet: str | tuple[float, ...] = "haar", levels: int | None = None) -> Form:
    """The orthogonal wavelet transform of a periodic signal."""
    return _wavelet(n, wavelet, levels)


def _constant_lines(made: Callable[[Any, Any], LinearOperator], m: Any, n: Any) -> Form:
    """A column and a row, applied by one circular convolution."""
    return Form(
        (m, n),
        lambda t, _: made(t["c"], t["r"]),
        {"c": ((m,), n), "r": ((n,), n)},
        _circular(_fast(m + n - 1)),
    )


@family("$n = 2^L$, $n > 8$")
def Toeplitz(m: Any, n: Any = None) -> Form:
    """Constant along diagonals."""
    return _constant_lines(toeplitz.Toeplitz, m, m if n is None else n)


@family("$n = 2^L$, $n > 8$")
def Hankel(m: Any, n: Any = None) -> Form:
    """Constant along antidiagonals."""
    return _constant_lines(toeplitz.Hankel, m, m if n is None else n)


@family("$n = 2^L$, $n > 1$")
def Circulant(n: Any) -> Form:
    """Constant along diagonals that wrap around."""
    return Form((n, n), lambda t, _: toeplitz.Circulant(t["c"]), {"c": ((n,), n)}, _circular(n))


@family("$n = 2^L$, $n > 1$")
def LowDisplacementRank(n: Any, *, rank: Any) -> Form:
    """Sylvester generators of the rank; see the class."""

    def count(complex_: bool) -> Count:
        from structmat.sized.functions import half

        products, sums = ((2 * rank + 2) * c for c in _fft(n, complex_))
        if complex_:
            return products + (3 * rank + 1) * n, sums + (rank - 1) * n
        turns = 2 * (3 * rank + 1) * half(n)
        return products + 2 * turns, sums + turns + 2 * (rank - 1) * half(n)

    return Form(
        (n, n),
        lambda t, _: displacement.LowDisplacementRank(t["left"], t["right"]),
        {"left": ((n, rank), n * rank), "right": ((rank, n), 1)},
        count,
    )


def _least(a: Any, b: Any) -> Any:
    """min(a, b), by name where symbols leave it open."""
    if not has_symbols(a, b):
        return min(a, b)
    import sympy

    from structmat.sized.order import at_most

    known = at_most(a, b)
    return sympy.Min(a, b) if known is None else a if known else b


@family("$n = 2^L$, $n > 8$")
def Convolution(n: Sizes, *, size: Sizes, mode: str = "causal") -> Form:
    """Convolution of n samples with a kernel of ``size`` entries; pairs for images.

    For n = (h, w), ``size`` is (kh, kw), or one size for a square kernel.
    """
    lengths: dict[str, Callable[[Any, Any], Any]] = {
        "causal": lambda n, size: _fast(n + _least(size, n) - 1),
        "full": lambda n, size: _fast(n + size - 1),
        "same": lambda n, size: _fast(n + size // 2),
        "circular": lambda n, size: n,
    }
    if mode not in lengths:
        raise ValueError(f"Convolution: mode {mode!r} is none of {', '.join(lengths)}")
    sides = n if isinstance(n, tuple) else (n,)
    kernel = size if isinstance(size, tuple) else (size,) * len(sides)
    if len(sides) not in (1, 2) or len(kernel) != len(sides):
        raise ValueError(
            f"Convolution: n = {n} and size = {size}; needs two sizes, or two pairs of them, "
            "n=(h, w) and size=(kh, kw)"
        )
    axes = list(zip(sides, kernel, strict=True))
    outs = [n + size - 1 if mode == "full" else n for n, size in axes]
    return Form(
        (math.prod(outs), math.prod(sides)),
        lambda t, _: convolution.Convolution(t["kernel"], sides, mode),
        {"kernel": (kernel, math.prod(kernel))},
        _circular(math.prod(lengths[mode](n, size) for n, size in axes)),
    )


@family("$n = 2^L$, $n > 8$; the first column is not counted")
def StateSpace(length: Any, *, states: Any, kind: str = "diagonal", rank: Any = None) -> Form:
    """A linear system of ``states`` states over ``length`` samples.

    ``kind`` is "diagonal" or "dense"; a ``rank`` makes A diagonal plus low rank.
    """
    if kind not in ("diagonal", "dense") or (rank is not None and kind == "dense"):
        raise ValueError(
            f"StateSpace: kind {kind!r} is neither 'diagonal', which may have a rank, nor 'dense'"
        )
    tensors: dict[str, Any] = {"A": ((states,), (-1.0, 1.0))}
    if kind == "dense":
        tensors["A"] = ((states, states), states)
    elif rank is not None:
        tensors |= {name: ((states, rank), states * rank) for name in "PQ"}
    tensors |= {name: ((states,), states) for name in "BC"}

    def build(t: dict[str, Any], _: Any) -> Any:
        A = t["A"] if rank is None else (t["A"], t["P"], t["Q"])
        return statespace.StateSpace(A, t["B"], t["C"], None, length, diagonal=kind == "diagonal")

    return Form((length, length), build, tensors, _circular(_fast(2 * length - 1)))
