"""The order of the nodes of a graph: lengths of longest paths, by whole fronts at a time.

Source: Kahn, Topological sorting of large networks (1962).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Integers", "by_level", "longest_paths", "ranges"]

Integers = NDArray[np.int64]


def ranges(starts: Integers, counts: Integers) -> Integers:
    """The numbers start, start + 1, ..., start + count - 1 of all pairs, one after the other."""
    total = int(counts.sum())
    before = np.cumsum(counts) - counts
    found: Integers = np.arange(total, dtype=np.int64) + np.repeat(starts - before, counts)
    return found


def longest_paths(n: int, count: int, heads: Integers, tails: Integers) -> Integers:
    """The length of the longest path to each of ``count`` nodes; the first n are inputs.

    Raises:
        ValueError: the edges contain a cycle.
    """
    order = np.argsort(tails, kind="stable")
    heads = heads[order]
    out = np.bincount(tails, minlength=count)
    first = np.cumsum(out) - out
    missing = np.bincount(heads, minlength=count)
    level = np.full(count, -1, dtype=np.int64)
    front, now = np.flatnonzero(missing == 0), 0
    while front.size:
        level[front] = now
        reached, times = np.unique(heads[ranges(first[front], out[front])], return_counts=True)
        missing[reached] -= times
        front, now = reached[missing[reached] == 0], now + 1
    if (level < 0).any():
        raise ValueError(f"Circuit: gate {_on_cycle(level < 0, heads, tails[order])} is on a cycle")
    return level


def _on_cycle(left: NDArray[np.bool_], heads: Integers, tails: Integers) -> int:
    """A node of a cycle among the nodes that are left, each of which has an edge from another."""
    inner = left[heads] & left[tails]
    before = dict(zip(heads[inner].tolist(), tails[inner].tolist(), strict=True))
    node: int = next(iter(before))
    seen: set[int] = set()
    while node not in seen:
        seen.add(node)
        node = before[node]
    return node


def by_level(level: Integers) -> tuple[Integers, Integers]:
    """Where each node goes when nodes are sorted by level, and where each level begins."""
    order = np.argsort(level, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    top = int(level.max(initial=0))
    counts = np.bincount(level, minlength=top + 1)
    return place, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
