"""Complex numbers in a circuit: nodes with complex weights, or pairs of nodes with real ones.

A Fourier transform is written once over either. In an operator of real numbers the pairs keep all
weights real, and an imaginary part that is known to be zero makes no gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from structmat.circuit.graph import ZERO, Graph, Number
from structmat.circuit.levels import Integers

__all__ = ["Arithmetic", "Complexes", "Pair", "Pairs"]

Coefficient = Number | np.ndarray | Tensor


@dataclass(frozen=True)
class Pair:
    """Nodes of the real and of the imaginary part."""

    re: Integers
    im: Integers

    @property
    def shape(self) -> tuple[int, ...]:
        """That of both."""
        return self.re.shape

    def __getitem__(self, index: Any) -> Pair:
        return Pair(self.re[index], self.im[index])

    def reshape(self, *shape: int) -> Pair:
        """Both reshaped."""
        return Pair(self.re.reshape(*shape), self.im.reshape(*shape))


class Arithmetic(Protocol):
    """What a transform needs; a value is an array of complex numbers in the circuit."""

    def combine(self, terms: Sequence[tuple[Any, Coefficient]]) -> Any:
        """Sums of coefficients times values, entry by entry."""

    def concat(self, values: Sequence[Any]) -> Any:
        """Joined along axis 0."""

    def stack(self, values: Sequence[Any], axis: int) -> Any:
        """Joined along a new axis."""

    def zeros(self, x: Any) -> Any:
        """Zeros of the shape of x."""


class Complexes:
    """Nodes with complex weights."""

    def __init__(self, g: Graph) -> None:
        self.g = g

    def combine(self, terms: Sequence[tuple[Integers, Coefficient]]) -> Integers:
        """See :class:`Arithmetic`."""
        return self.g.combine(terms)

    def concat(self, values: Sequence[Integers]) -> Integers:
        """See :class:`Arithmetic`."""
        return np.concatenate(values)

    def stack(self, values: Sequence[Integers], axis: int) -> Integers:
        """See :class:`Arithmetic`."""
        return np.stack(values, axis)

    def zeros(self, x: Integers) -> Integers:
        """See :class:`Arithmetic`."""
        return np.full_like(x, ZERO)


class Pairs:
    """Pairs of nodes with real weights."""

    def __init__(self, g: Graph) -> None:
        self.g = g

    def of_real(self, x: Integers) -> Pair:
        """Real nodes."""
        return Pair(x, np.full_like(x, ZERO))

    def combine(self, terms: Sequence[tuple[Pair, Coefficient]]) -> Pair:
        """See :class:`Arithmetic`; a product by c (+-1 +- i) is two sums and two products."""
        if len(terms) == 1:
            return self._product(*terms[0])
        done = [self._term(x, c) for x, c in terms]
        re = [t for pair, c in done for t in ((pair.re, _re(c)), (pair.im, _minus(_im(c))))]
        im = [t for pair, c in done for t in ((pair.im, _re(c)), (pair.re, _im(c)))]
        return Pair(self._sum(re), self._sum(im))

    def _term(self, x: Pair, c: Coefficient) -> tuple[Pair, Coefficient]:
        """A term of a sum: what is more than a sign or a turn by i is multiplied first."""
        free = isinstance(c, Number) and complex(c) in (1, -1, 1j, -1j)
        return (x, c) if free else (self._product(x, c), 1)

    def _product(self, x: Pair, c: Coefficient) -> Pair:
        if isinstance(c, Tensor) or np.ndim(c) == 0:
            return self._plain(x, c)
        # constants differ entry by entry: those of one kind are multiplied alike
        c = np.broadcast_to(c, np.broadcast_shapes(x.shape, np.shape(c)))
        re = np.broadcast_to(x.re, c.shape).copy()
        im = np.broadcast_to(x.im, c.shape).copy()
        equal = np.isclose(np.abs(c.real), np.abs(c.imag), rtol=1e-12, atol=0)
        kinds = [c.imag == 0, c.real == 0, equal, ~(equal | (c.imag == 0) | (c.real == 0))]
        for kind, own in enumerate(kinds):
            if not own.any():
                continue
            part, d = Pair(re[own], im[own]), c[own]
            if kind == 0:
                new = Pair(self._sum([(part.re, d.real)]), self._sum([(part.im, d.real)]))
            elif kind == 1:
                new = Pair(self._sum([(part.im, -d.imag)]), self._sum([(part.re, d.imag)]))
            elif kind == 2:
                sign = np.sign(d.real) * np.sign(d.imag)
                scale = d.real
                lower = self._sum([(part.re, 1), (part.im, -sign)])
                upper = self._sum([(part.im, 1), (part.re, sign)])
                new = Pair(self._sum([(lower, scale)]), self._sum([(upper, scale)]))
            else:
                new = self._plain(part, d)
            re[own], im[own] = new.re, new.im
        return Pair(re, im)

    def _plain(self, x: Pair, c: Coefficient) -> Pair:
        a, b = _re(c), _im(c)
        return Pair(self._sum([(x.re, a), (x.im, _minus(b))]), self._sum([(x.im, a), (x.re, b)]))

    def _sum(self, terms: list[tuple[Integers, Coefficient]]) -> Integers:
        kept = [(x, c) for x, c in terms if isinstance(c, Tensor) or (np.asarray(c) != 0).any()]
        shape = np.broadcast_shapes(*(x.shape for x, _ in terms))
        if len(kept) == 1 and isinstance(kept[0][1], np.ndarray) and (kept[0][1] == 1).all():
            kept = [(kept[0][0], 1)]
        return self.g.combine(kept) if kept else np.full(shape, ZERO, dtype=np.int64)

    def concat(self, values: Sequence[Pair]) -> Pair:
        """See :class:`Arithmetic`."""
        return Pair(np.concatenate([v.re for v in values]), np.concatenate([v.im for v in values]))

    def stack(self, values: Sequence[Pair], axis: int) -> Pair:
        """See :class:`Arithmetic`."""
        return Pair(np.stack([v.re for v in values], axis), np.stack([v.im for v in values], axis))

    def zeros(self, x: Pair) -> Pair:
        """See :class:`Arithmetic`."""
        return Pair(np.full_like(x.re, ZERO), np.full_like(x.im, ZERO))

    def conj(self, x: Pair) -> Pair:
        """The imaginary part with the other sign."""
        return Pair(x.re, self.g.combine([(x.im, -1)]))


def _re(c: Coefficient) -> Coefficient:
    return c.real if not isinstance(c, Tensor) or c.is_complex() else c


def _im(c: Coefficient) -> Coefficient:
    if isinstance(c, Tensor):
        return c.imag if c.is_complex() else torch.zeros_like(c)
    return c.imag


def _minus(c: Coefficient) -> Coefficient:
    return -c
