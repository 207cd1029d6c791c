"""Radix chains: short contractions one after another on vectors that stay on the chip.

A vector of n = 2^L entries is addressed by L bits. A contraction over 2, 4 or 8 entries mixes a few
of these bits and leaves the others alone, so that a thread which holds every combination of some
bits in registers can run all stages that mix no others. Such a run is a **pass**; between two
passes the vector crosses shared memory, and threads pick up other bits. Butterflies, Hadamard
transforms, diagonals and permutations of digits are all of this kind; a permutation only renames
bits.

:func:`runs` finds the runs of a graph, :func:`stages` reads one; ``schedule.py`` forms the passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from structmat.index import DigitMap
from structmat.lowering.ir import Apply, Contract, Graph, Node, Permute, Scalar

__all__ = ["ITEMSIZE", "Chain", "Stage", "longest", "runs", "stages"]

ITEMSIZE = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of an entry, by torch's name of its dtype."""

LONGEST = 15
"""log2 of the longest vector: 2^15 entries in float32 are 128 KB of shared memory."""

WIDEST = 3
"""log2 of the longest reduction: longer ones belong on tensor cores."""


@dataclass(frozen=True)
class Stage:
    """A step on some bits of the vector.

    Attributes:
        node: the node of the graph.
        bits: the bits it mixes, slowest first; none for a product by entries.
        w: the values it reads, or None where they are known: ``signs`` or ``alpha``.
        parallel: (bit, stride) of the values' offset, for bits that it does not mix.
        ins: stride of the values' offset for each of ``bits``, as a position of x.
        outs: likewise as a position of y.
        alpha: a number that multiplies every entry; with bits it multiplies nothing else than
            the Hadamard matrix of order 2.
    """

    node: int
    bits: tuple[int, ...]
    w: int | None = None
    parallel: tuple[tuple[int, int], ...] = ()
    ins: tuple[int, ...] = ()
    outs: tuple[int, ...] = ()
    alpha: float = 1.0

    @property
    def radix(self) -> int:
        """Entries that it mixes."""
        return 1 << len(self.bits)

    def commutes(self, other: Stage) -> bool:
        """Whether the order of the two does not matter: each mixes nothing the other looks at."""
        mine = {b for b, _ in self.parallel} | set(self.bits)
        theirs = {b for b, _ in other.parallel} | set(other.bits)
        return not (set(self.bits) & theirs or set(other.bits) & mine)


@dataclass(frozen=True)
class Chain:
    """Stages in order on a vector of 2^length entries.

    Attributes:
        length: number of bits.
        stages: in the order of the expression.
        out: bit of the vector at each position bit of the result, slowest first.
    """

    length: int
    stages: tuple[Stage, ...]
    out: tuple[int, ...]


def longest(dtype: str, shared: int) -> int:
    """log2 of the longest vector that fits ``shared`` bytes in the dtype of its sums."""
    return min(LONGEST, (shared // (8 if dtype == "float64" else 4)).bit_length() - 1)


def runs(
    graph: Graph, limit: int = LONGEST, stored: frozenset[int] = frozenset()
) -> list[tuple[int, ...]]:
    """The longest chains of nodes that are radix chains and mix something.

    Args:
        graph: a merged chain.
        limit: log2 of the longest vector.
        stored: values that must exist in memory: a chain may end there and not pass.
    """
    uses, taken, found = graph.uses(), set[int](), []
    for v, node in enumerate(graph.nodes):
        if v in taken or len(node.args) != 1 or stages(graph, (v,)) is None:
            continue
        if node.size > 1 << limit:
            continue
        run = [v]
        while run[-1] not in stored and run[-1] not in graph.outputs and len(uses[run[-1]]) == 1:
            after = uses[run[-1]][0]
            if len(graph.nodes[after].args) != 1 or stages(graph, (*run, after)) is None:
                break
            run.append(after)
        chain = stages(graph, run)
        assert chain is not None
        if any(s.bits for s in chain.stages):
            taken.update(run)
            found.append(tuple(run))
    return found


def stages(graph: Graph, nodes: Sequence[int]) -> Chain | None:
    """The chain that a run of nodes is, each the only argument of the next; None if it is none."""
    first = graph.nodes[nodes[0]]
    size = graph.nodes[first.args[0]].size
    length = size.bit_length() - 1
    if size != 1 << length or not 1 <= length <= LONGEST:
        return None
    order = tuple(reversed(range(length)))  # bit of the vector at each position, slowest first
    found: list[Stage] = []
    for v in nodes:
        step = _stage(v, graph.nodes[v], order)
        if step is None:
            return None
        more, order = step
        found.extend(more)
    return Chain(length, tuple(found), order)


def _stage(
    v: int, node: Node, order: tuple[int, ...]
) -> tuple[list[Stage], tuple[int, ...]] | None:
    match node:
        case Scalar(alpha=alpha) if isinstance(alpha, int | float):
            return [Stage(v, (), alpha=float(alpha))], order
        case Permute(index=DigitMap(shape=shape, order=moved)):
            groups = _split(order, shape)
            return None if groups is None else ([], tuple(b for o in moved for b in groups[o]))
        case Apply(op=op, pre=pre, post=post, batch=batch) if op.walsh:
            groups = _split(order, (batch * pre, op.ins, post))
            if groups is None:
                return None
            return [Stage(v, (b,)) for b in groups[1]], order
        case Contract():  # kernels are real: conj changes nothing
            return _contraction(v, node, order)
    return None


def _contraction(
    v: int, node: Contract, order: tuple[int, ...]
) -> tuple[list[Stage], tuple[int, ...]] | None:
    spec = node.spec
    groups = _split(order, spec.shape(spec.x))
    if groups is None:
        return None
    of = dict(zip(spec.x, groups, strict=True))
    mixed = [b for d in spec.reduced for b in of[d]]
    if math.prod(spec.shape(spec.out)) != 1 << len(mixed) or len(mixed) > WIDEST:
        return None
    fresh = _split(tuple(mixed), spec.shape(spec.out))
    if fresh is None:
        return None
    out_of = dict(zip(spec.out, fresh, strict=True))
    parallel = tuple(s for d in spec.parallel for s in _strides(spec.stride(d, spec.w), of[d]))
    ins = dict(s for d in spec.reduced for s in _strides(spec.stride(d, spec.w), of[d]))
    outs = dict(s for d in spec.out for s in _strides(spec.stride(d, spec.w), out_of[d]))
    stage = Stage(
        v,
        tuple(mixed),
        node.w,
        parallel,
        tuple(ins.get(b, 0) for b in mixed),
        tuple(outs.get(b, 0) for b in mixed),
    )
    after = {**of, **out_of}
    return [stage], tuple(b for d in spec.y for b in after[d])


def _strides(stride: int | None, bits: tuple[int, ...]) -> list[tuple[int, int]]:
    """(bit, stride) for the bits of a digit, slowest first."""
    if stride is None:
        return []
    return [(b, stride << i) for i, b in enumerate(reversed(bits))]


def _split(order: tuple[int, ...], sizes: Sequence[int]) -> list[tuple[int, ...]] | None:
    """Bits grouped by digits, slowest first; None unless every size is a power of two."""
    if any(s < 1 or s & (s - 1) for s in sizes) or math.prod(sizes) != 1 << len(order):
        return None
    groups, at = [], 0
    for s in sizes:
        wide = s.bit_length() - 1
        groups.append(order[at : at + wide])
        at += wide
    return groups
