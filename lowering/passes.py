"""merge_index_maps: permutations disappear into the digits of contractions.

Index maps are symbolic, so that ``P`` before a contraction re-spells X and ``P`` after it
re-spells Y (SPIRAL's Sigma-SPL, Franchetti, Voronenko, Pueschel 2005). The rules:

1. permute(permute(x))            = permute(x) by the composed map
2. permute by the identity        = x
3. contract(permute by digits(x)) = contract(x) with X re-spelled, where a common radix exists
4. permute by digits(contract(x)) = contract(x) with Y re-spelled, if nothing else reads it
5. permute(scalar(x))             = scalar(permute(x)), so that 1-4 meet; scalar(scalar(x)) = one
6. scalar by 1                    = x; adds of adds flatten
7. contract                       = contract with digits merged and named canonically

What has no common radix, and tables, stay as permute nodes; the kernel that reads them gathers.
"""

from __future__ import annotations

import math
from dataclasses import replace

from structmat.index import DigitMap, IndexMap, refine, split_digits
from structmat.lowering.ir import Add, Contract, Einsum, Graph, Node, Outer, Permute, Scalar

__all__ = ["choose_layouts", "merge_index_maps"]

SECTOR = 16
"""Positions of a 16-bit vector that fill a memory sector: fewer in a row make narrow stores."""


def merge_index_maps(graph: Graph) -> Graph:
    """Apply the rules of this module to a fixpoint; the matrix is unchanged.

    Contract:
        Requires a verified chain. Ensures that no permute by a digit map reads a contraction that
        only it reads, or is read by a contraction, unless their radices have no refinement.
    """
    while True:
        better = _step(graph)
        if better is None:
            return graph.pruned()
        graph = better


def _step(graph: Graph) -> Graph | None:
    uses = graph.uses()

    def alone(v: int) -> bool:
        return len(uses[v]) == 1 and v not in graph.outputs

    for i, node in enumerate(graph.nodes):
        new: Node | int | None = None
        swap: tuple[int, Node] | None = None  # also rewrite an argument that only we read
        if isinstance(node, Permute):
            below = graph.nodes[node.x]
            if node.index.is_identity:
                new = node.x
            elif isinstance(below, Permute):
                new = Permute(node.size, below.x, below.index.then(node.index))
            elif isinstance(below, Scalar) and alone(node.x):
                swap = node.x, Permute(node.size, below.x, node.index)
                new = Scalar(node.size, node.x, below.alpha)
            elif isinstance(below, Contract) and alone(node.x) and isinstance(node.index, DigitMap):
                spec = respell_y(below.spec, node.index)
                new = None if spec is None else replace(below, spec=spec)
        elif isinstance(node, Contract):
            below = graph.nodes[node.x]
            if isinstance(below, Permute) and isinstance(below.index, DigitMap):
                spec = respell_x(node.spec, below.index)
                new = None if spec is None else replace(node, x=below.x, spec=spec)
            if new is None and node.spec.canonical() != node.spec:
                new = replace(node, spec=node.spec.canonical())
        elif isinstance(node, Scalar):
            below = graph.nodes[node.x]
            if node.alpha == 1:
                new = node.x
            elif isinstance(below, Scalar):
                new = Scalar(node.size, below.x, below.alpha * node.alpha)
        elif isinstance(node, Add):
            for v in node.xs:
                below = graph.nodes[v]
                if isinstance(below, Add) and alone(v):
                    at = node.xs.index(v)
                    new = replace(node, xs=(*node.xs[:at], *below.xs, *node.xs[at + 1 :]))
                    break
        if new is not None:
            return _rewrite(graph, i, new, swap)
    return None


def _rewrite(graph: Graph, i: int, new: Node | int, swap: tuple[int, Node] | None) -> Graph:
    nodes = list(graph.nodes)
    if swap is not None:
        nodes[swap[0]] = swap[1]
    outputs = graph.outputs
    if isinstance(new, int):
        names = {v: (new if v == i else v) for v in range(len(nodes))}
        nodes = [nd if j <= i else nd.rename(names) for j, nd in enumerate(nodes)]
        outputs = tuple(names[o] for o in outputs)
    else:
        nodes[i] = new
    return Graph(tuple(nodes), outputs, graph.shapes).pruned()


def choose_layouts(graph: Graph) -> Graph:
    """Order the digits of intermediates so that contractions read along what they reduce.

    A value that a contraction makes, and that only contractions and outer products read, may lie
    in memory in any order of its digits. With the reduced digits fastest, loads feed tensor cores
    directly, and each contraction transposes once, at its store, instead of twice. A contraction
    that reads it decides; outer products follow, or decide where they are alone.

    Contract:
        Requires a merged chain. Ensures the same matrix.
    """
    uses = graph.uses()
    nodes = list(graph.nodes)
    for v, node in enumerate(nodes):
        if not isinstance(node, Contract) or v in graph.outputs or not node.spec.reduced:
            continue
        readers = [nodes[u] for u in uses[v]]
        deciders = [r for r in readers if isinstance(r, Contract)]
        outers = [r for r in readers if isinstance(r, Outer)]
        if len(deciders) > 1 or len(deciders) + len(outers) < len(readers) or not readers:
            continue
        if deciders and not deciders[0].spec.reduced:
            continue
        spec = deciders[0].spec if deciders else _seen_from(outers[0], v)
        want = (*(d for d in spec.y if d in spec.x), *spec.reduced)
        if want == spec.x:
            continue
        moved = DigitMap(spec.shape(spec.x), tuple(spec.x.index(d) for d in want))
        made = respell_y(node.spec, moved)
        back = moved.inverse()
        changed = {u: _respell_reader(nodes[u], v, back) for u in uses[v]}
        if made is None or any(r is None for r in changed.values()):
            continue
        nodes[v] = replace(node, spec=made)
        for u, reader in changed.items():
            assert reader is not None
            nodes[u] = reader
    return _natural_stores(Graph(tuple(nodes), graph.outputs, graph.shapes))


def _natural_stores(graph: Graph) -> Graph:
    """Where a long reduction would store across a short parallel digit, store along the outputs
    and re-spell the result in a pass of its own: its arithmetic outweighs the extra traffic.
    """
    nodes: list[Node] = []
    names: dict[int, int] = {}
    for v, old in enumerate(graph.nodes):
        node = old.rename(names)
        if isinstance(node, Contract) and narrow_store(node.spec):
            spec = node.spec
            natural = (*spec.parallel, *spec.out)
            order = tuple(natural.index(d) for d in spec.y)
            nodes.append(replace(node, spec=replace(spec, y=natural).canonical()))
            node = Permute(node.size, len(nodes) - 1, DigitMap(spec.shape(natural), order))
        nodes.append(node)
        names[v] = len(nodes) - 1
    return Graph(tuple(nodes), tuple(names[o] for o in graph.outputs), graph.shapes)


def narrow_store(spec: Einsum) -> bool:
    """Whether a result is written across a parallel digit shorter than a memory sector."""
    last = spec.y[-1] if spec.y else None
    long = math.prod(spec.shape(spec.reduced)) >= 256 and math.prod(spec.shape(spec.out)) >= 64
    return long and last in spec.x and spec.sizes[last] < SECTOR


def _seen_from(reader: Outer, v: int) -> Einsum:
    """The outer product's digits with v in the place of x."""
    return reader.spec if reader.x == v else reader.spec.transposed()


def _respell_reader(reader: Node, v: int, back: IndexMap) -> Node | None:
    """The reader of P^-1 v as a reader of v, or None without a common radix."""
    if not isinstance(back, DigitMap) or not isinstance(reader, Contract | Outer):
        return None
    if isinstance(reader, Outer):
        if reader.x == reader.g:
            return None
        spec = respell_x(_seen_from(reader, v), back)
        if spec is None:
            return None
        return replace(reader, spec=spec if reader.x == v else spec.transposed())
    spec = respell_x(reader.spec, back)
    return None if spec is None else replace(reader, spec=spec)


def respell_x(spec: Einsum, index: DigitMap) -> Einsum | None:
    """The contraction of P x as a contraction of x: X re-spelled, or None without a radix.

    P x is x.reshape(shape).permute(order): the digits of P x are the permuted digits of x.
    """
    out_shape = tuple(index.shape[o] for o in index.order)
    fine = refine(spec.shape(spec.x), out_shape)
    if fine is None:
        return None
    spec, digits = _split(spec, spec.x, fine)
    groups = split_digits(out_shape, fine)
    by_input = [groups[index.order.index(d)] for d in range(len(index.shape))]
    return replace(spec, x=tuple(digits[j] for g in by_input for j in g)).canonical()


def respell_y(spec: Einsum, index: DigitMap) -> Einsum | None:
    """P applied to the result of a contraction: Y re-spelled, or None without a radix."""
    fine = refine(spec.shape(spec.y), index.shape)
    if fine is None:
        return None
    spec, digits = _split(spec, spec.y, fine)
    groups = split_digits(index.shape, fine)
    return replace(spec, y=tuple(digits[j] for o in index.order for j in groups[o])).canonical()


def _split(spec: Einsum, along: tuple[int, ...], fine: tuple[int, ...]) -> tuple[Einsum, list[int]]:
    """Split the digits of ``along`` into ``fine``; returns the spec and the fine digits' names."""
    groups = split_digits(spec.shape(along), fine)
    sizes = list(spec.sizes)
    parts: dict[int, list[int]] = {d: [d] for d in range(len(sizes))}
    names = [0] * len(fine)
    for digit, group in zip(along, groups, strict=True):
        parts[digit] = []
        for j in group:
            sizes.append(fine[j])
            names[j] = len(sizes) - 1
            parts[digit].append(names[j])
    x, w, y = (tuple(p for d in ds for p in parts[d]) for ds in (spec.x, spec.w, spec.y))
    return Einsum(tuple(sizes), x, w, y), names
