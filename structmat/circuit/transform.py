"""Circuits from circuits: transposition, dead gates, real arithmetic, layers, composition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from structmat.circuit.core import ZERO, Circuit
from structmat.circuit.graph import Graph
from structmat.circuit.levels import Integers, ranges

if TYPE_CHECKING:
    from structmat.operator import LinearOperator

__all__ = ["added", "as_real", "composed", "layers", "pruned", "to_operator", "transposed"]


def _taken(w: Tensor, index: Integers) -> Tensor:
    return w.index_select(-1, torch.from_numpy(index).to(w.device))


def pruned(c: Circuit) -> Circuit:
    """c without gates that reach no output; inputs stay."""
    alive = np.zeros(c.nodes, dtype=bool)
    alive[c.outputs[c.outputs != ZERO]] = True
    for a, b in zip(c.levels[1:-1][::-1].tolist(), c.levels[2:][::-1].tolist(), strict=True):
        i, j = c.starts[a - c.n], c.starts[b - c.n]
        alive[c.tails[i:j][alive[c.heads[i:j]]]] = True
    alive[: c.n] = True
    if alive.all():
        return c
    place = np.cumsum(alive) - 1
    edges = np.flatnonzero(alive[c.heads])
    out = np.append(place, ZERO)[c.outputs]
    w = _taken(c.weights, edges)
    return Circuit.sorted(c.n, c.level[alive], place[c.heads[edges]], place[c.tails[edges]], w, out)


def transposed(c: Circuit) -> Circuit:
    """Every edge of c reversed; an output that is read elsewhere, or twice, becomes a gate.

    Source: Bordewijk, Inter-reciprocity applied to electrical networks (1956); Bürgisser, Clausen
    and Shokrollahi, Algebraic complexity theory (1997), theorem 13.20.
    """
    c = pruned(c)
    m = c.outputs.size
    uses = np.bincount(c.outputs[c.outputs != ZERO], minlength=c.nodes)
    read = np.bincount(c.tails, minlength=c.nodes)
    only = (uses == 1) & (read == 0)  # such a node is its input; all others become gates
    reached = uses + read > 0
    gates = np.flatnonzero(reached & ~only)
    place = np.full(c.nodes, ZERO, dtype=np.int64)
    place[gates] = m + np.arange(gates.size)[::-1]
    served = np.flatnonzero(c.outputs != ZERO)
    alone = served[only[c.outputs[served]]]
    place[c.outputs[alone]] = alone
    joined = served[~only[c.outputs[served]]]
    heads = np.concatenate([place[c.tails], place[c.outputs[joined]]])
    tails = np.concatenate([place[c.heads], joined])
    ones = c.weights.new_ones(*c.weights.shape[:-1], joined.size)
    w = torch.cat([c.weights, ones], -1)
    return Circuit.of(m, heads, tails, w, place[: c.n])


def as_real(c: Circuit) -> Circuit:
    """c on pairs of real numbers; of a real circuit, two copies."""
    dtype = c.dtype.to_real() if c.dtype.is_complex else c.dtype
    g = Graph(2 * c.n, dtype)
    values = np.full((c.nodes + 1, 2), ZERO, dtype=np.int64)
    values[: c.n] = g.inputs().reshape(c.n, 2)
    if c.weights.ndim != 1:
        raise ValueError("as_real: the circuit has a batch of weights; take one of them")
    plain = c.constants()
    re, im = (c.weights.real, c.weights.imag) if c.dtype.is_complex else (c.weights, None)
    for a, b in zip(c.levels[1:-1].tolist(), c.levels[2:].tolist(), strict=True):
        starts = c.starts[a - c.n : b - c.n + 1]
        single = np.diff(starts) == 1
        if im is not None:  # a product by a (+-1 +- i): the sums first, then two products
            edge = starts[:-1]
            one = plain[edge]
            single &= (np.abs(one.real) == np.abs(one.imag)) & (one.imag != 0)
            at, lane = edge[single], values[c.tails[edge[single]]]
            sign = np.sign(plain[at].real) * np.sign(plain[at].imag)
            p, q = lane[:, 0], lane[:, 1]
            parts = [g.combine([(p, 1), (q, -sign)]), g.combine([(p, sign), (q, 1)])]
            scale = _taken(re, at)
            made = [g.combine([(v, scale)]) for v in parts]
            values[np.arange(a, b)[single]] = np.stack(made, -1).reshape(-1, 2)
        else:
            single[:] = False
        rest = np.flatnonzero(~single)
        counts = np.diff(starts)[rest]
        edges = ranges(starts[:-1][rest], counts)
        p, q = values[c.tails[edges], 0], values[c.tails[edges], 1]
        real = _taken(re, edges)
        none = real.new_zeros(real.shape) if im is None else _taken(im, edges)
        values[a + rest, 0] = _sums(g, [(p, real), (q, -none)], counts)
        values[a + rest, 1] = _sums(g, [(q, real), (p, none)], counts)
    return g.finish(values[c.outputs].reshape(-1))


def _sums(g: Graph, terms: list[tuple[Integers, Tensor]], counts: Integers) -> Integers:
    """Gates of terms that lie edge by edge; edges of weight 0 are left out."""
    tails = np.stack([t for t, _ in terms], -1)
    weights = torch.stack([w for _, w in terms], -1)
    tails = np.where(weights.detach().cpu().numpy() == 0, ZERO, tails)
    return g.sums(tails.reshape(-1), len(terms) * counts, weights.flatten(-2))


def layers(c: Circuit) -> list[LinearOperator]:
    """Sparse factors, the last level first."""
    from structmat.leaves.diagonal import Identity

    found: list[LinearOperator] = []
    live = np.arange(c.n, dtype=np.int64)
    for step in range(1, c.depth + 1):
        final = step == c.depth
        rows = c.outputs if final else np.flatnonzero((c.level <= step) & (c.last_level > step))
        place = np.full(c.nodes, ZERO, dtype=np.int64)
        place[live] = np.arange(live.size)
        gate = np.maximum(rows - c.n, 0)
        new = (rows >= c.n) & (c.level[rows] == step)
        counts = np.where(new, np.diff(c.starts)[gate] if c.size else 0, rows != ZERO)
        columns = np.empty(int(counts.sum()), dtype=np.int64)
        weights = np.full(columns.size, ZERO, dtype=np.int64)
        own = np.repeat(new, counts)
        edges = ranges(c.starts[gate[new]], counts[new])
        columns[own], weights[own] = place[c.tails[edges]], edges
        columns[~own] = place[rows[~new & (rows != ZERO)]]
        found.append(_factor(c, (rows.size, live.size), counts, columns, weights))
        live = rows
    if c.depth == 0:
        counts = (c.outputs != ZERO).astype(np.int64)
        taken = c.outputs[c.outputs != ZERO]
        if np.array_equal(c.outputs, live):
            return [Identity(c.n, dtype=c.dtype)]
        return [_factor(c, c.shape, counts, taken, np.full(taken.size, ZERO))]
    return found[::-1]


def _factor(
    c: Circuit, shape: tuple[int, int], counts: Integers, columns: Integers, edges: Integers
) -> LinearOperator:
    """The sparse matrix whose entries are edges of c, or 1 where the edge is -1."""
    from structmat.leaves.permutation import Permutation
    from structmat.leaves.sparse import Sparse
    from structmat.pattern import Pattern

    m, n = shape
    if m == n == columns.size and (edges == ZERO).all() and (np.bincount(columns) == 1).all():
        return Permutation(torch.from_numpy(columns))
    rows = np.repeat(np.arange(m), counts)
    key, slot = np.unique(rows * max(n, 1) + columns, return_inverse=True)
    w = c.weights[..., np.maximum(edges, 0)] if c.wires else c.weights.new_ones(edges.size)
    w = torch.where(torch.from_numpy(edges == ZERO).to(w.device), torch.ones_like(w), w)
    if key.size != edges.size:  # several edges between the same two nodes
        w = w.new_zeros(*w.shape[:-1], key.size).index_add(-1, torch.from_numpy(slot), w)
    elif not np.array_equal(slot, np.arange(slot.size)):
        w = _taken(w, np.argsort(slot))
    starts = np.searchsorted(key, np.arange(m + 1) * max(n, 1))
    pattern = Pattern.of(shape, starts, key % max(n, 1))
    return Sparse((w, pattern))


def to_operator(c: Circuit) -> LinearOperator:
    """The product of the layers."""
    from structmat.compose import Product

    factors = layers(c)
    return factors[0] if len(factors) == 1 else Product(*factors)


def composed(a: Circuit, b: Circuit) -> Circuit:
    """a after b."""
    if a.n != b.outputs.size:
        raise ValueError(f"circuits of shapes {a.shape} and {b.shape} do not compose")
    g = Graph(b.n, torch.promote_types(a.dtype, b.dtype))
    return g.finish(g.inline(a, g.inline(b, g.inputs()[:, None]))[:, 0])


def added(a: Circuit, b: Circuit) -> Circuit:
    """a beside b, their outputs summed."""
    if a.shape != b.shape:
        raise ValueError(f"circuits of shapes {a.shape} and {b.shape} have no sum")
    g = Graph(a.n, torch.promote_types(a.dtype, b.dtype))
    left, right = (g.inline(c, g.inputs()[:, None])[:, 0] for c in (a, b))
    return g.finish(g.combine([(left, 1), (right, 1)]))
