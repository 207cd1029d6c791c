"""Fourier transforms as circuits.

All are y[k] = sum_j x[j] w^(j k) with w = exp(-2 pi i / n), along axis 0 of an array of values:

- ``split-radix``: n = 4 m is one transform of length n / 2 and two of length n / 4 (Yavne 1968;
  Duhamel and Hollmann, Split radix FFT algorithm, 1984): 4 n log2 n - 6 n + 8 flops for n = 2^L;
- ``conjugate-pair``: the same count with x[4 j - 1] in place of x[4 j + 3], so that the two
  factors of a pair are conjugates (Kamar and Elcherif 1989);
- ``radix-2``: halves (Cooley and Tukey 1965): 5 n log2 n - 10 n + 16 flops for n = 2^L >= 4;
- ``mixed-radix``: the smallest prime factor first, which is also what the others do where 2 does
  not divide n (split radix: 4).

A prime above 13 becomes a circular convolution of a power of two (Bluestein 1970).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from structmat.circuit.arithmetic import Arithmetic, Pair, Pairs

__all__ = ["Algorithm", "algorithms", "fourier", "half_fourier", "inverse_half_fourier"]

Algorithm = Literal["split-radix", "conjugate-pair", "radix-2", "mixed-radix"]
algorithms: tuple[str, ...] = get_args(Algorithm)

DIRECT = 13
"""Primes up to this one are multiplied out."""


def roots(n: int, k: Any, sign: int = -1) -> np.ndarray:
    """exp(sign 2 pi i k / n), its parts exact at multiples of an eighth of a turn."""
    k = np.asarray(k) % max(n, 1)
    eighths, rest = np.divmod(8 * k, n)
    angle = 2 * np.pi * (rest / (8 * n))
    # reduced to the first eighth: equal parts get equal digits
    turn = np.where(eighths % 2 == 0, angle, np.pi / 4 - angle)
    c, s = np.cos(turn), np.sin(turn)
    half = (eighths % 2 == 1) & (rest == 0)
    c, s = np.where(half, np.sqrt(0.5), c), np.where(half, np.sqrt(0.5), s)
    cos = np.choose(eighths, [c, s, -s, -c, -c, -s, s, c])
    sin = np.choose(eighths, [s, c, c, s, -s, -c, -c, -s])
    out: np.ndarray = cos + 1j * sign * sin
    return out


def _column(c: np.ndarray, like: Any) -> np.ndarray:
    """Constants along axis 0 of a value."""
    return c.reshape(-1, *[1] * (len(like.shape) - 1))


def fourier(ar: Arithmetic, x: Any, algorithm: str = "split-radix", sign: int = -1) -> Any:
    """The transform along axis 0; ``sign=1`` is the inverse without its factor 1 / n."""
    n = x.shape[0]
    if n <= 1:
        return x
    if n == 2:
        return ar.concat([ar.combine([(x[:1], 1), (x[1:], s)]) for s in (1, -1)])
    if n % 4 == 0 and algorithm in ("split-radix", "conjugate-pair"):
        return _split(ar, x, algorithm, sign)
    p = next((p for p in range(2, int(n**0.5) + 1) if n % p == 0), n)
    if p == n:
        return _direct(ar, x, sign) if n <= DIRECT else _chirp(ar, x, algorithm, sign)
    return _mixed(ar, x, p, algorithm, sign)


def _split(ar: Arithmetic, x: Any, algorithm: str, sign: int) -> Any:
    n = x.shape[0]
    m = n // 4
    even = fourier(ar, x[0::2], algorithm, sign)
    # both quarters are one array: transforms side by side make one recursion
    last = x[3::4]
    if algorithm == "conjugate-pair":
        last = x[np.arange(-1, n - 1, 4) % n]
    both = fourier(ar, ar.stack([x[1::4], last], 1), algorithm, sign)
    k = np.arange(m)
    first = ar.combine([(both[:, 0], _column(roots(n, k, sign), even))])
    step = -1 if algorithm == "conjugate-pair" else 3
    third = ar.combine([(both[:, 1], _column(roots(n, step * k, sign), even))])
    total = ar.combine([(first, 1), (third, 1)])
    difference = ar.combine([(first, 1), (third, -1)])
    i = sign * 1j
    low, high = even[:m], even[m:]
    return ar.concat(
        [
            ar.combine([(low, 1), (total, 1)]),
            ar.combine([(high, 1), (difference, i)]),
            ar.combine([(low, 1), (total, -1)]),
            ar.combine([(high, 1), (difference, -i)]),
        ]
    )


def _mixed(ar: Arithmetic, x: Any, p: int, algorithm: str, sign: int) -> Any:
    """n = p m: p transforms of length m side by side, twiddle factors, m transforms of length p."""
    n = x.shape[0]
    m = n // p
    inner = fourier(ar, x.reshape(m, p, *x.shape[1:]), algorithm, sign)
    turns = roots(n, np.outer(np.arange(m), np.arange(p)), sign)
    turns = turns.reshape(m, p, *[1] * (len(x.shape) - 1))
    parts = [ar.combine([(inner[:, r], turns[:, r])]) for r in range(p)]
    outer = fourier(ar, ar.stack(parts, 0), algorithm, sign)
    return outer.reshape(n, *x.shape[1:])


def _direct(ar: Arithmetic, x: Any, sign: int) -> Any:
    n = x.shape[0]
    out = [ar.combine([(x[j : j + 1], 1) for j in range(n)])]
    # x[j] and x[n - j] meet conjugate factors: sums with the cosines, differences with the sines
    ups = [ar.combine([(x[j : j + 1], 1), (x[n - j : n - j + 1], 1)]) for j in _half(n)]
    downs = [ar.combine([(x[j : j + 1], 1), (x[n - j : n - j + 1], -1)]) for j in _half(n)]
    even, odd = [], []
    for k in _half(n):
        c = [complex(roots(n, j * k, sign)) for j in _half(n)]
        terms = [(u, v.real) for u, v in zip(ups, c, strict=True)]
        even.append(ar.combine([(x[:1], 1), *terms]))
        odd.append(ar.combine([(d, 1j * v.imag) for d, v in zip(downs, c, strict=True)]))
    pairs = list(zip(even, odd, strict=True))
    out += [ar.combine([(e, 1), (o, 1)]) for e, o in pairs]
    out += [ar.combine([(e, 1), (o, -1)]) for e, o in reversed(pairs)]
    return ar.concat(out)


def _half(n: int) -> range:
    return range(1, n // 2 + 1)


def _chirp(ar: Arithmetic, x: Any, algorithm: str, sign: int) -> Any:
    """w^(j k) = w^(j^2 / 2) w^(k^2 / 2) w^(-(k - j)^2 / 2): a convolution with a chirp."""
    n = x.shape[0]
    length = 1 << (2 * n - 2).bit_length()
    square = np.arange(n, dtype=object) ** 2 % (2 * n)
    chirp = roots(2 * n, square.astype(np.int64), sign)
    kernel = np.zeros(length, dtype=complex)
    kernel[:n] = chirp.conj()
    kernel[length - n + 1 :] = chirp[:0:-1].conj()
    spectrum = np.fft.fft(kernel) / length
    turned = ar.combine([(x, _column(chirp, x))])
    padded = ar.concat([turned, *[ar.zeros(x[:1])] * (length - n)])
    y = ar.combine([(fourier(ar, padded, algorithm, -1), _column(spectrum, x))])
    back = fourier(ar, y, algorithm, 1)[:n]
    return ar.combine([(back, _column(chirp, x))])


def half_fourier(ar: Pairs, x: np.ndarray, algorithm: str = "split-radix") -> Pair:
    """y[0 ... n / 2] for real nodes x (n, ...): for even n one complex transform of half length.

    Source: Sorensen, Jones, Heideman and Burrus, Real-valued fast Fourier transform algorithms
    (1987).
    """
    n = x.shape[0]
    if n % 2:
        whole: Pair = fourier(ar, ar.of_real(x), algorithm)
        return whole[: n // 2 + 1]
    m = n // 2
    z = fourier(ar, Pair(x[0::2], x[1::2]), algorithm)
    turned = ar.conj(z[np.arange(m, -1, -1) % m])
    z = z[np.arange(m + 1) % m]
    even = ar.combine([(z, 1), (turned, 1)])
    odd = ar.combine([(z, 1), (turned, -1)])
    turns = _column(-0.5j * roots(n, np.arange(m + 1)), even)
    return ar.combine([(ar.combine([(even, 0.5)]), 1), (odd, turns)])


def inverse_half_fourier(ar: Pairs, y: Pair, n: int, algorithm: str = "split-radix") -> np.ndarray:
    """n times the x of ``half_fourier``, as real nodes."""
    if n % 2:
        whole = ar.concat([y, ar.conj(y[:0:-1])])
        full: Pair = fourier(ar, whole, algorithm, 1)
        return full.re
    m = n // 2
    low, high = y[:m], ar.conj(y[np.arange(m, 0, -1)])
    even = ar.combine([(low, 1), (high, 1)])
    odd = ar.combine([(low, 1), (high, -1)])
    odd = ar.combine([(odd, _column(roots(n, np.arange(m), 1), odd))])
    z: Pair = fourier(ar, ar.combine([(even, 1), (odd, 1j)]), algorithm, 1)
    return np.stack([z.re, z.im], 1).reshape(n, *z.shape[1:])
