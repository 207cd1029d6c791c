"""Routes: a gather written in the builder's words, and its adjoint, which adds where it scatters.

A gather is a few steps, each of which moves numbers without arithmetic:

    Cut      y = x[start:stop]
    Turn     y[i] = x[index[i]], a bijection
    Copies   prefixes of x, the longest first, each a number of times

Distinct positions are a bijection and a cut. With repeats, the distinct positions are read in the
order of how often they are needed, so that those needed t times or more are a prefix for every t;
the prefixes are copied by doubling and put in order by one bijection. In the adjoint the copies
are added, m - k sums for m positions of which k are distinct.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from math import gcd
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from structmat.builder import Builder
from structmat.gather import Gather
from structmat.index import AffineMap, DigitMap, IndexMap, recognise

__all__ = ["Copies", "Cut", "Step", "Turn", "route"]


class Step(Protocol):
    """One step of a route."""

    def forward(self, g: Builder, x: Any) -> Any:
        """The step."""

    def adjoint(self, g: Builder, y: Any) -> Any:
        """Its transpose."""


@dataclass(frozen=True)
class Cut:
    """y = x[start:stop], x of ``size`` entries."""

    size: int
    start: int
    stop: int

    def forward(self, g: Builder, x: Any) -> Any:
        """See :class:`Step`."""
        return g.slice(x, self.size, self.start, self.stop)

    def adjoint(self, g: Builder, y: Any) -> Any:
        """Zeros around y."""
        lengths = (self.start, self.stop - self.start, self.size - self.stop)
        if lengths[1] == 0:
            return g.zeros(y, self.size)
        parts = [y if i == 1 else g.zeros(y, s) for i, s in enumerate(lengths) if s]
        return parts[0] if len(parts) == 1 else g.concat(parts, [s for s in lengths if s])


@dataclass(frozen=True)
class Turn:
    """y[i] = x[index[i]]."""

    index: IndexMap
    inverse: IndexMap = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inverse", self.index.inverse())

    def forward(self, g: Builder, x: Any) -> Any:
        """See :class:`Step`."""
        return g.permute(x, self.index)

    def adjoint(self, g: Builder, y: Any) -> Any:
        """The inverse permutation."""
        return g.permute(y, self.inverse)


@dataclass(frozen=True)
class Copies:
    """``times`` copies of the first ``k`` entries for each (k, times), k decreasing."""

    groups: tuple[tuple[int, int], ...]

    def forward(self, g: Builder, x: Any) -> Any:
        """See :class:`Step`."""
        size = self.groups[0][0]
        parts = [_repeat(g, g.slice(x, size, 0, k), k, times) for k, times in self.groups]
        return parts[0] if len(parts) == 1 else g.concat(parts, [k * c for k, c in self.groups])

    def adjoint(self, g: Builder, y: Any) -> Any:
        """The sum of the copies; shorter prefixes first."""
        total = sum(k * c for k, c in self.groups)
        stop, below, acc = total, 0, None
        for k, times in reversed(self.groups):
            layer = _fold(g, g.slice(y, total, stop - k * times, stop), k, times)
            stop -= k * times
            if below:
                head = g.add([g.slice(layer, k, 0, below), acc])
                layer = g.concat([head, g.slice(layer, k, below, k)], [below, k - below])
            acc, below = layer, k
        return acc


def _repeat(g: Builder, x: Any, k: int, times: int) -> Any:
    """x, of k entries, ``times`` times."""
    if times == 1:
        return x
    half = _repeat(g, x, k, times // 2)
    sizes = [k * (times // 2)] * 2
    return g.concat([half, half, x], [*sizes, k]) if times % 2 else g.concat([half, half], sizes)


def _fold(g: Builder, y: Any, k: int, times: int) -> Any:
    """The sum of ``times`` neighbouring vectors of k entries."""
    if times == 1:
        return y
    half, total = k * (times // 2), k * times
    both = g.add([g.slice(y, total, 0, half), g.slice(y, total, half, 2 * half)])
    out = _fold(g, both, k, times // 2)
    return g.add([out, g.slice(y, total, 2 * half, total)]) if times % 2 else out


@lru_cache(maxsize=256)
def route(gather: Gather) -> tuple[Step, ...]:
    """The steps of a gather, first step first."""
    n, m = gather.size, len(gather)
    if m == 0:
        return (Cut(n, 0, 0),)
    if gather.run is not None:
        return _run(gather.run, n)
    index = gather.array()
    if gather.unique:
        return _distinct(index, n)
    positions, which, counts = np.unique(index, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.argsort(order)[which]  # of each entry's position, most needed first
    counts = counts[order]
    levels = [int((counts > t).sum()) for t in range(int(counts[0]))]
    groups = tuple((k, len(list(same))) for k, same in groupby(levels))
    starts = np.concatenate([[0], np.cumsum(levels)[:-1]])
    place = recognise(starts[_occurrence(rank)] + rank)
    turned: tuple[Step, ...] = () if place.is_identity else (Turn(place),)
    return (*route(Gather.of(positions[order], n)), Copies(groups), *turned)


def _occurrence(rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal entries stand before each entry."""
    order = np.argsort(rank, kind="stable")
    _, first, counts = np.unique(rank[order], return_index=True, return_counts=True)
    out = np.empty(len(rank), dtype=np.int64)
    out[order] = np.arange(len(rank)) - np.repeat(first, counts)
    return out


def _run(run: range, n: int) -> tuple[Step, ...]:
    m = len(run)
    if run.step < 0:
        forward = _run(run[::-1], n)
        return forward if m == 1 else (*forward, Turn(AffineMap(m, -1, -1)))
    step, start = run.step, run.start
    if step == 1 or m == 1:
        return () if m == n else (Cut(n, start, start + m),)
    low = min(start, n - step * m)
    if low >= 0:  # step * m entries in a row, seen as m x step and transposed
        digits = Turn(DigitMap((m, step), (1, 0)))
        whole: tuple[Step, ...] = () if step * m == n else (Cut(n, low, low + step * m),)
        return (*whole, digits, Cut(step * m, (start - low) * m, (start - low + 1) * m))
    if gcd(step, n) == 1:
        return (Turn(AffineMap(n, step, start)), Cut(n, 0, m))
    return _distinct(np.arange(start, start + step * m, step), n)


def _distinct(index: NDArray[np.int64], n: int) -> tuple[Step, ...]:
    """A bijection that begins with these positions, and a cut."""
    low, high = int(index.min()), int(index.max()) + 1
    cut: tuple[Step, ...] = () if high - low == n else (Cut(n, low, high),)
    left = np.ones(high - low, dtype=bool)
    left[index - low] = False
    table = np.concatenate([index - low, np.flatnonzero(left)])
    last: tuple[Step, ...] = () if len(index) == len(table) else (Cut(len(table), 0, len(index)),)
    return (*cut, Turn(recognise(table)), *last)
