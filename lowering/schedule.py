"""Passes of a radix chain, and the layouts of shared memory between them.

A thread holds every combination of some bits in registers; the passes are chosen so that all
stages run, few crossings of shared memory are needed, and the lanes of a warp load and store runs
of memory. Rows of a batch are bits, too: bits L, L + 1, ... of a position in a tile of rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from structmat.lowering.radix import Chain, Stage

__all__ = ["Layout", "Pass", "Schedule", "layout", "schedule"]


@dataclass(frozen=True)
class Pass:
    """What threads do between two crossings of shared memory.

    Attributes:
        registers: bits whose combinations a thread holds, fastest first (row bits last).
        threads: the other bits of a tile, in the order of the bits of the thread's number.
        stages: in an order that may be run.
    """

    registers: tuple[int, ...]
    threads: tuple[int, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Schedule:
    """Passes over a tile of rows.

    Attributes:
        chain: what they run.
        rows: log2 of the rows of a tile.
        held: log2 of the rows that a thread holds.
        passes: in order.
        load: log2 of the entries that one load brings.
        store: log2 of the entries that one store writes.
    """

    chain: Chain
    rows: int
    held: int
    passes: tuple[Pass, ...]
    load: int
    store: int

    @property
    def threads(self) -> int:
        """Threads that share a tile."""
        return 1 << len(self.passes[0].threads)

    @property
    def team(self) -> int:
        """Threads that share a vector: those that must wait for each other."""
        return 1 << (self.chain.length - len(self.passes[0].registers) + self.held)


EXCHANGE = 8
"""A crossing of shared memory, in the units of the penalties below."""

THREADS = 8
"""log2 of the threads that share a tile, where vectors leave the choice."""


@lru_cache(maxsize=256)
def schedule(
    chain: Chain,
    itemsize: int,
    entries: int | None = None,
    held: int | None = None,
    threads: int = THREADS,
    narrowest: int = 0,
) -> Schedule:
    """The cheapest passes found for a chain.

    Args:
        chain: from :func:`stages`.
        itemsize: bytes of an entry in memory.
        entries: log2 of the entries of a vector that a thread holds; chosen where None.
        held: log2 of the rows that a thread holds; chosen where None.
        threads: log2 of the threads that share a tile, where vectors leave the choice.
        narrowest: log2 of the fewest entries that a lane may load or store.
    """
    heavy = any(s.w is not None for s in chain.stages)
    best: tuple[float, Schedule] | None = None
    # values take registers, and are shared by the rows that a thread holds
    wide = (3, 4) if heavy and chain.length <= 13 else (3, 4, 5, 6)
    for e in wide if entries is None else (entries,):
        e = min(e, chain.length)
        if chain.length - e > 10:  # 1024 threads are a block
            continue
        rows_held = held if held is not None else 2 if heavy and itemsize < 8 and e <= 4 else 0
        widths = range(min((16 // itemsize).bit_length() - 1, e), narrowest - 1, -1)
        for load, store, near, far in itertools.product(widths, widths, (5, 2, 0), (5, 2, 0)):
            line = 7 - itemsize.bit_length() + 1  # log2 of the entries of 128 bytes
            lanes = [max(0, min(k, line - w)) for k, w in ((near, load), (far, store))]
            passes = _greedy(chain, e, (load, store), lanes)
            if passes is None:
                continue
            penalty = EXCHANGE * (len(passes) - 1) + (1 << e) / 16
            penalty += len(passes) if chain.length - e > 5 else 0  # a barrier of several warps
            low = tuple(reversed(chain.out))
            penalty += _scattered(range(chain.length), passes[0][0], load, itemsize)
            penalty += 1.5 * _scattered(low, passes[-1][0], store, itemsize)
            if best is None or penalty < best[0]:
                best = penalty, _tiles(chain, passes, e, rows_held, load, store, threads)
    if best is None:
        raise ValueError(f"no schedule holds {entries} bits of {chain.length} in registers")
    return best[1]


def _scattered(low: Sequence[int], registers: set[int], width: int, itemsize: int) -> float:
    """What it costs that a warp's access is narrow, or comes in short runs of memory.

    Args:
        low: bits in the order of memory, fastest first.
        registers: bits that are not lanes.
        width: log2 of the entries that a lane moves.
        itemsize: bytes of an entry.
    """
    run = width + len(list(itertools.takewhile(lambda b: b not in registers, low[width:])))
    run = 7 if run == len(low) else run  # whole vectors: rows follow each other
    narrow = {16: 0.0, 8: 0.5, 4: 1.5, 2: 4.0}[itemsize << width]
    bytes_together = min(itemsize << run, itemsize << width + 5, 128)
    return narrow + {128: 0.0, 64: 0.5, 32: 2.0, 16: 6.0}.get(bytes_together, 12.0)


def _greedy(
    chain: Chain, e: int, widths: tuple[int, int], lanes: Sequence[int]
) -> list[tuple[set[int], list[Stage]]] | None:
    """Register bits and stages of each pass.

    The first pass holds the ``widths[0]`` fastest bits of x and leaves the next ``lanes[0]`` to
    the lanes of a warp; so does the last pass for y.
    """
    ends = (tuple(range(chain.length)), tuple(reversed(chain.out)))
    own = [set(low[:w]) for low, w in zip(ends, widths, strict=True)]
    other = [set(low[w : w + k]) for low, w, k in zip(ends, widths, lanes, strict=True)]
    for count in range(1, chain.length + 2):
        left = list(chain.stages)
        passes: list[tuple[set[int], list[Stage]]] = []
        for p in range(count):
            held, barred = set[int](), set[int]()
            for side, edge in enumerate((0, count - 1)):
                if p == edge:
                    held, barred = held | own[side], barred | other[side]
            if len(held) > e or held & barred:
                break
            passes.append(_fill(chain, left, held, barred, e, other[1]))
        if len(passes) == count and not left:
            return passes
    return None


def _fill(
    chain: Chain, left: list[Stage], held: set[int], barred: set[int], e: int, soon: set[int]
) -> tuple[set[int], list[Stage]]:
    """Take as many stages as fit, first those that a later pass may not run (``soon``).

    The other registers are filled with the slowest bits.
    """
    taken: list[Stage] = []
    more = True
    while more:
        more = False
        for s in sorted(left, key=lambda s: not set(s.bits) & soon):
            bits = held | set(s.bits)
            ready = all(s.commutes(o) for o in left[: left.index(s)])
            if ready and len(bits) <= e and not set(s.bits) & barred:
                held, more = bits, True
                taken.append(s)
                left.remove(s)
                break
    for allowed in (set(range(chain.length)) - barred, set(range(chain.length))):
        for b in sorted(allowed - held, reverse=True)[: e - len(held)]:
            held = held | {b}
    return held, taken


def _tiles(
    chain: Chain,
    passes: list[tuple[set[int], list[Stage]]],
    e: int,
    held: int,
    load: int,
    store: int,
    threads: int,
) -> Schedule:
    rows = max(threads - (chain.length - e), 0) + held
    own = tuple(range(chain.length, chain.length + held))
    shared = tuple(range(chain.length + held, chain.length + rows))
    made = []
    place = {b: i for i, b in enumerate(reversed(chain.out))}
    for i, (bits, todo) in enumerate(passes):
        key = place.__getitem__ if i == len(passes) - 1 else int
        registers = (*sorted(bits, key=key), *own)
        others = sorted((b for b in range(chain.length) if b not in bits), key=key)
        made.append(Pass(registers, (*others, *shared), tuple(todo)))
    return Schedule(chain, rows, held, tuple(made), load, store)


# shared memory -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """Where a vector lies in shared memory while it passes from one pass to the next.

    The address is a linear map over GF(2) of the bits of the position: the bits in a new order,
    and some slow ones added (exclusive or) to those that choose the bank.

    Attributes:
        columns: address of the position whose one bit is set, for every bit of a tile.
        vector: bits of the position that are the fastest address bits.
        put: log2 of the entries that one store writes.
        get: log2 of the entries that one load reads.
    """

    columns: tuple[int, ...]
    vector: tuple[int, ...]
    put: int
    get: int


def layout(before: Pass, after: Pass, bits: int, held: int, banks: int) -> Layout:
    """The layout with the fewest instructions and bank conflicts that the search finds.

    Args:
        before: who writes.
        after: who reads.
        bits: of a position in the tile.
        held: log2 of the rows that a thread holds.
        banks: log2 of the entries that one access of all banks moves; a vector of 2^v entries
            leaves ``banks - v`` lanes at a time.
    """
    sides = [p.registers[: len(p.registers) - held] for p in (before, after)]
    choices: dict[tuple[int, ...], None] = {}
    for wide in range(min(2, banks - 3), -1, -1):
        for side in sides:
            choices.update(dict.fromkeys(itertools.combinations(side, wide)))
    best: tuple[float, Layout] | None = None
    for vector in choices:
        widths = [len(vector) if set(vector) <= set(side) else 0 for side in sides]
        lanes = [p.threads[: banks - w] for p, w in zip((before, after), widths, strict=True)]
        columns = _swizzle(vector, lanes, widths, bits, banks)
        cost = 0.0
        for w, ts in zip(widths, lanes, strict=True):
            conflicts = len(ts) - _rank([columns[b] >> w & (1 << banks - w) - 1 for b in ts])
            cost += 2.0**-w + 2.0**conflicts
        if best is None or cost < best[0]:
            best = cost, Layout(columns, vector, *widths)
    assert best is not None
    return best[1]


def _swizzle(
    vector: tuple[int, ...], lanes: list[tuple[int, ...]], widths: list[int], bits: int, banks: int
) -> tuple[int, ...]:
    """Columns of the map: lanes' slow bits are added to banks one by one, where it helps most."""
    order = [*vector, *(b for b in range(bits) if b not in vector)]
    columns = [0] * bits
    for place, b in enumerate(order):
        columns[b] = 1 << place
    masks = [(1 << banks) - (1 << w) for w in widths]

    def score() -> int:
        return sum(
            _rank([columns[b] & mask for b in ts]) for ts, mask in zip(lanes, masks, strict=True)
        )

    for b in dict.fromkeys(b for ts in lanes for b in ts):
        plain = columns[b]
        if plain < 1 << banks:
            continue
        tried = []
        for flips in range(0, 1 << banks, 1 << len(vector)):
            columns[b] = plain | flips
            tried.append((-score(), flips.bit_count(), flips))
        columns[b] = plain | min(tried)[2]
    return tuple(columns)


def _rank(vectors: list[int]) -> int:
    basis: list[int] = []
    for v in vectors:
        for b in basis:
            v = min(v, v ^ b)
        if v:
            basis.append(v)
    return len(basis)
