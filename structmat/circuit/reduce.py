"""Fewer gates for the same matrix: constants folded, equal gates computed once.

Neither changes what the circuit computes; in floating point, folding two weights into their product
rounds once instead of twice.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from structmat.circuit.core import ZERO, Circuit
from structmat.circuit.levels import Integers, longest_paths
from structmat.circuit.transform import pruned

__all__ = ["folded", "shared"]


def folded(c: Circuit) -> Circuit:
    """Edges of weight 0 left out, parallel edges added, gates of one edge folded into readers.

    A gate of one edge goes where that makes no multiplication more: its weight is free, or one
    edge alone reads it. Weights become products of weights, so gradients reach them.
    """
    c = pruned(_without_zeros(c))
    plain = c.constants()
    single = np.diff(c.starts) == 1
    edge = c.starts[:-1][single]
    gate = c.n + np.flatnonzero(single)
    reads = np.bincount(c.tails, minlength=c.nodes)[gate]
    gone = np.isin(c.tails[edge], gate)
    outputs = np.isin(gate, c.outputs)
    unit = np.abs(plain[edge]) == 1
    unit &= (plain[edge].real == 0) | (plain[edge].imag == 0)
    one = plain[edge] == 1
    go = np.where(outputs, one & ~gone, unit | (reads == 1))
    # whom each node stands for, and the edges whose weights lie between
    source = np.arange(c.nodes)
    source[gate[go]] = c.tails[edge[go]]
    factor = c.weights.new_ones(*c.weights.shape[:-1], c.nodes)
    at = torch.from_numpy(gate[go]).to(factor.device)
    factor = factor.index_copy(-1, at, c.weights[..., edge[go]])
    for _ in range(max(c.depth, 1).bit_length()):  # chains of such gates, by doubling
        index = torch.from_numpy(source).to(factor.device)
        moved = torch.from_numpy(source != np.arange(c.nodes)).to(factor.device)
        factor = torch.where(moved, factor * factor.index_select(-1, index), factor)
        source = source[source]
    heads, tails = c.heads, c.tails
    kept = np.ones(c.wires, dtype=bool)
    kept[edge[go]] = False
    w = c.weights * factor.index_select(-1, torch.from_numpy(tails).to(factor.device))
    out = _at(source, c.outputs)
    return _merged(c.n, c.nodes, heads[kept], source[tails[kept]], w[..., kept], out)


def shared(c: Circuit) -> Circuit:
    """Gates with the same edges computed once, from the lowest level up; also those times -1."""
    c = pruned(c)
    if c.weights.ndim != 1:
        raise ValueError("shared: the circuit has a batch of weights; take one of them")
    plain = c.constants()
    same = np.arange(c.nodes)
    sign = np.ones(c.nodes)
    for a, b in zip(c.levels[1:-1].tolist(), c.levels[2:].tolist(), strict=True):
        i, j = int(c.starts[a - c.n]), int(c.starts[b - c.n])
        gate = c.heads[i:j]
        tail = same[c.tails[i:j]]
        weight = plain[i:j] * sign[c.tails[i:j]]
        order = np.lexsort((tail, gate))
        gate, tail, weight = gate[order], tail[order], weight[order]
        counts = np.bincount(gate - a, minlength=b - a)
        begins = np.cumsum(counts) - counts
        first = weight[begins]
        flip = np.where((first.real < 0) | ((first.real == 0) & (first.imag < 0)), -1.0, 1.0)
        weight = weight * np.repeat(flip, counts)
        for k in np.unique(counts).tolist():
            own = np.flatnonzero(counts == k)
            at = begins[own][:, None] + np.arange(k)
            parts = [tail[at], weight[at].real.copy(), weight[at].imag.copy()]
            keys = np.concatenate([p.astype(np.float64).view(np.int64) for p in parts], 1)
            _, leader, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
            chief = own[leader[which.reshape(-1)]]
            same[a + own] = a + chief
            sign[a + own] = flip[own] * flip[chief]
    lead = same[c.heads] == c.heads
    w = c.weights * torch.from_numpy(sign[c.tails]).to(c.weights)
    out, flips = _at(same, c.outputs), _at(sign < 0, c.outputs, False)
    heads, tails, w = c.heads[lead], same[c.tails[lead]], w[lead]
    # an output that is the negative of another gate needs a gate of its own
    extra = c.nodes + np.arange(int(flips.sum()))
    heads = np.concatenate([heads, extra])
    tails = np.concatenate([tails, out[flips]])
    w = torch.cat([w, -torch.ones(extra.size, dtype=w.dtype, device=w.device)])
    out[flips] = extra
    return _merged(c.n, c.nodes + extra.size, heads, tails, w, out)


def _at(of_nodes: np.ndarray, outputs: Integers, zero: object = ZERO) -> np.ndarray:
    """What the nodes of the outputs have; ``zero`` for an output that is zero."""
    return np.append(of_nodes, np.array(zero, dtype=of_nodes.dtype))[outputs]


def _without_zeros(c: Circuit) -> Circuit:
    """Gates that lose all edges are zero, and so are edges from them."""
    dead = c.constants() == 0
    zero = np.zeros(c.nodes, dtype=bool)
    for a, b in zip(c.levels[1:-1].tolist(), c.levels[2:].tolist(), strict=True):
        i, j = int(c.starts[a - c.n]), int(c.starts[b - c.n])
        dead[i:j] |= zero[c.tails[i:j]]
        zero[a:b] = np.bincount(c.heads[i:j][~dead[i:j]] - a, minlength=b - a) == 0
    if not dead.any():
        return c
    out = np.where(_at(zero, c.outputs, True), ZERO, c.outputs)
    return _merged(c.n, c.nodes, c.heads[~dead], c.tails[~dead], c.weights[..., ~dead], out)


def _merged(
    n: int, count: int, heads: Integers, tails: Integers, w: Tensor, out: Integers
) -> Circuit:
    """The circuit of edges between numbered nodes, some of which are no longer there."""
    key, slot = np.unique(heads * count + tails, return_inverse=True)
    if key.size != heads.size or not np.array_equal(slot, np.arange(slot.size)):
        index = torch.from_numpy(slot).to(w.device)
        w = w.new_zeros(*w.shape[:-1], key.size).index_add(-1, index, w)
    heads, tails = key // count, key % count
    used = np.zeros(count, dtype=bool)
    used[:n] = True
    used[heads] = True
    place = np.cumsum(used) - 1
    out = _at(place, out)
    level = longest_paths(n, int(used.sum()), place[heads], place[tails])
    return pruned(Circuit.sorted(n, level, place[heads], place[tails], w, out))
