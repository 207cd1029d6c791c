"""Cosine transforms as circuits of real numbers.

    type 1    y[k] = sum_j x[j] cos(pi k j / (n - 1))
    type 2    y[k] = sum_j x[j] cos(pi k (2 j + 1) / (2 n))           transposed: type 3
    type 4    y[k] = sum_j x[j] cos(pi (2 k + 1) (2 j + 1) / (4 n))

Even sizes are halved: a type 2 is one of type 2 and one of type 4; a type 4 is n / 2 rotations and
two of type 2; a type 1 is one of type 1 and one of type 3. For n = 2^L a type 2 takes
2 n log2 n - n + 1 flops, one less than the published count, which includes the factor of y[0] in
the orthogonal normalisation. Odd sizes are real Fourier transforms.
Sources: Wang, Fast algorithms for the discrete W transform (1984), for the halving; Plonka and
Tasche, Fast and numerically stable algorithms for discrete cosine transforms (2005).
"""

from __future__ import annotations

import numpy as np

from structmat.circuit.arithmetic import Pairs
from structmat.circuit.fourier import fourier, half_fourier
from structmat.circuit.graph import ZERO, Graph
from structmat.circuit.levels import Integers

__all__ = ["cosine", "sine"]


def _angles(n: int) -> np.ndarray:
    """pi (2 j + 1) / (4 n) as a column."""
    angle: np.ndarray = np.pi * (2 * np.arange(n) + 1) / (4 * n)
    return angle[:, None]


def _signs(n: int) -> np.ndarray:
    return (1.0 - 2.0 * (np.arange(n) % 2))[:, None]


def _interleaved(a: Integers, b: Integers) -> Integers:
    """a[0], b[0], a[1], ..., where b may be one shorter."""
    out = np.empty((a.shape[0] + b.shape[0], a.shape[1]), dtype=np.int64)
    out[0::2], out[1::2] = a, b
    return out


def cosine(g: Graph, x: Integers, kind: int) -> Integers:
    """The cosine transform of a type along axis 0 of nodes (n, columns)."""
    n = x.shape[0]
    if n == 0:
        return x
    if kind == 3:
        return _transposed_two(g, x)
    if n == 1:
        return x if kind < 3 else g.combine([(x, float(np.sqrt(0.5)))])
    return {1: _one, 2: _two, 4: _four}[kind](g, x)


def sine(g: Graph, x: Integers, kind: int) -> Integers:
    """The sine transform of a type; types 2 to 4 are cosines between signs and a reversal."""
    n = x.shape[0]
    if n == 0:
        return x
    if kind == 1:
        return _sine_one(g, x)
    if kind == 2:
        return cosine(g, g.combine([(x, _signs(n))]), 2)[::-1]
    return g.combine([(cosine(g, x[::-1], kind), _signs(n))])


def _two(g: Graph, x: Integers) -> Integers:
    n = x.shape[0]
    if n == 1:
        return x
    if n % 2:
        order = np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)[::-1]])
        half = half_fourier(Pairs(g), x[order])
        turn = np.pi * np.arange(n // 2 + 1)[:, None] / (2 * n)
        c, s = np.cos(turn), np.sin(turn)
        first = g.combine([(half.re, c), (half.im, s)])
        rest = g.combine([(half.re[1:], s[1:]), (half.im[1:], -c[1:])])
        return np.concatenate([first, rest[::-1]])
    m = n // 2
    low, high = x[:m], x[: m - 1 : -1]
    even = _two(g, g.combine([(low, 1), (high, 1)]))
    odd = cosine(g, g.combine([(low, 1), (high, -1)]), 4)
    return _interleaved(even, odd)


def _four(g: Graph, x: Integers) -> Integers:
    """With t_j = pi (2 j + 1) / (4 n), m = n / 2, A and B the type 2 transforms of length m of

        a_j = x_j cos t_j + x_(n-1-j) sin t_j,   b_j = (-1)^j (x_(n-1-j) cos t_j - x_j sin t_j),

    y[2 l] = A[l] + B[m - l] and y[2 l - 1] = A[l] - B[m - l], with A[m] = 0 and no B[m].
    """
    n = x.shape[0]
    if n % 2:
        return _odd_four(g, x)
    m = n // 2
    t = _angles(n)[:m]
    low, high, sign = x[:m], x[: m - 1 : -1], _signs(m)
    a = _two(g, g.combine([(low, np.cos(t)), (high, np.sin(t))]))
    b = _two(g, g.combine([(high, sign * np.cos(t)), (low, -sign * np.sin(t))]))
    up = g.combine([(a[1:], 1), (b[:0:-1], 1)])
    down = g.combine([(a[1:], 1), (b[:0:-1], -1)])
    last = g.combine([(b[:1], -1)])
    return _interleaved(np.concatenate([a[:1], up]), np.concatenate([down, last]))


def _odd_four(g: Graph, x: Integers) -> Integers:
    """cos(pi (2 k + 1)(2 j + 1) / (4 n)) as every other column of a type 2 of length 2 n."""
    n = x.shape[0]
    # the angle pi (2 j + 1) k' / (4 n) with k' = 2 k + 1: odd rows of the type 2 of 2 n inputs
    ar = Pairs(g)
    wide = np.full((2 * n, x.shape[1]), ZERO, dtype=np.int64)
    wide[:n] = x
    order = np.concatenate([np.arange(0, 2 * n, 2), np.arange(1, 2 * n, 2)[::-1]])
    whole = fourier(ar, ar.of_real(wide[order]))
    k = 2 * np.arange(n) + 1
    turn = np.pi * k[:, None] / (4 * n)
    return g.combine([(whole.re[k], np.cos(turn)), (whole.im[k], np.sin(turn))])


def _transposed_two(g: Graph, x: Integers) -> Integers:
    inner = Graph(x.shape[0], g.dtype)
    c = inner.finish(cosine(inner, inner.inputs()[:, None], 2))
    return g.inline(c.T, x)


def _one(g: Graph, x: Integers) -> Integers:
    n = x.shape[0]
    if n == 2:
        return np.concatenate([g.combine([(x[:1], 1), (x[1:], s)]) for s in (1, -1)])
    period = n - 1
    if period % 2:  # the transform of the even extension
        whole = np.concatenate([x, x[-2:0:-1]])
        spectrum = half_fourier(Pairs(g), whole).re[:n]
        sign = _signs(n)
        ends = g.combine([(np.broadcast_to(x[:1], x.shape), 0.5)])
        tail = g.combine([(np.broadcast_to(x[-1:], x.shape), 0.5 * sign)])
        return g.combine([(g.combine([(spectrum, 0.5)]), 1), (ends, 1), (tail, 1)])
    m = period // 2
    low, high = x[:m], x[:m:-1]
    even = g.combine([(low, 1), (high, 1)])
    odd = g.combine([(low, 1), (high, -1)])
    return _interleaved(_one(g, np.concatenate([even, x[m : m + 1]])), cosine(g, odd, 3))


def _sine_one(g: Graph, x: Integers) -> Integers:
    """y[k - 1] = sum_(j = 1)^(N - 1) x[j - 1] sin(pi k j / N), N = n + 1."""
    n = x.shape[0]
    if n == 1:
        return x
    if n % 2 == 0:
        zero = np.full((1, x.shape[1]), ZERO, dtype=np.int64)
        minus = g.combine([(x[::-1], -1)])
        half = half_fourier(Pairs(g), np.concatenate([zero, x, zero, minus]))
        return g.combine([(half.im[1 : n + 1], -0.5)])
    m = n // 2
    low, high = x[:m], x[:m:-1]
    total = g.combine([(low, 1), (high, 1)])
    odd = sine(g, np.concatenate([total, x[m : m + 1]]), 3)
    even = _sine_one(g, g.combine([(low, 1), (high, -1)])) if m else x[:0]
    return _interleaved(odd, even)
