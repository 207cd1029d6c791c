"""Building a circuit: arrays of node numbers, and the one operation that makes gates.

Whoever builds works with arrays of node numbers of any shape, so that a transform written for one
vector builds as many copies side by side as its array has columns. What only renames values
(permutations, slices, concatenation) is indexing and makes no gate; -1 stands for the value zero
and is never an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from structmat.circuit.levels import Integers

if TYPE_CHECKING:
    from structmat.circuit.core import Circuit

__all__ = ["Graph", "Number"]

Number = int | float | complex
ZERO = -1


class Graph:
    """A circuit under construction.

    Args:
        n: number of inputs, the nodes 0 ... n - 1.
        dtype: of the weights; tensors and numbers are converted.
    """

    def __init__(self, n: int, dtype: torch.dtype) -> None:
        self.n, self.dtype = n, dtype
        self.count = n
        self.heads: list[Integers] = []
        self.tails: list[Integers] = []
        self.weights: list[Tensor] = []
        self.level = np.zeros(max(n, 16), dtype=np.int64)

    def inputs(self) -> Integers:
        """The nodes of the inputs."""
        return np.arange(self.n, dtype=np.int64)

    def gates(self, tails: Integers, weights: Tensor) -> Integers:
        """One gate for each row of ``tails`` (..., k), the sum of weights (..., k) times tails.

        The weights may have more dimensions in front: a batch. Edges from zero are left out, and
        a gate without edges is zero.
        """
        shape = tails.shape[:-1]
        weights = weights.to(self.dtype)
        weights = weights.expand(*torch.broadcast_shapes(weights.shape, tails.shape))
        lead = weights.shape[: weights.ndim - tails.ndim]
        live = tails != ZERO
        counts = live.sum(-1).reshape(-1)
        flat = weights.reshape(*lead, tails.size)
        return self._add(counts, tails[live], flat, live.reshape(-1)).reshape(shape)

    def sums(self, tails: Integers, counts: Integers, weights: Tensor) -> Integers:
        """Gates of different fan-in: the first takes counts[0] of the tails and weights, ..."""
        live = tails != ZERO
        rows = np.repeat(np.arange(counts.size), counts)[live]
        return self._add(
            np.bincount(rows, minlength=counts.size), tails[live], weights.to(self.dtype), live
        )

    def _add(
        self, counts: Integers, tails: Integers, weights: Tensor, live: np.ndarray
    ) -> Integers:
        real = counts > 0
        made = int(real.sum())
        out = np.full(counts.size, ZERO, dtype=np.int64)
        out[real] = np.arange(self.count, self.count + made)
        if made == 0:
            return out
        if not live.all():
            weights = weights[..., torch.from_numpy(live).to(weights.device)]
        if self.level.size < self.count + made:
            self.level = np.resize(self.level, 2 * (self.count + made))
        counts = counts[real]
        begins = np.cumsum(counts) - counts
        tops = np.maximum.reduceat(self.level[tails], begins) + 1
        self.level[self.count : self.count + made] = tops
        self.heads.append(np.repeat(out[real], counts))
        self.tails.append(tails)
        self.weights.append(weights)
        self.count += made
        return out

    def combine(self, terms: Sequence[tuple[Integers, Number | np.ndarray | Tensor]]) -> Integers:
        """Entry by entry, the sum of coefficient times nodes; both broadcast.

        One term with the coefficient 1 is the nodes themselves, without gates.
        """
        # terms that are zero everywhere must not make gates of one edge of the others
        shape = np.broadcast_shapes(*(t.shape for t, _ in terms))
        kept = [(t, c) for t, c in terms if (t != ZERO).any()]
        if not kept:
            return np.full(shape, ZERO, dtype=np.int64)
        if len(kept) == 1 and not isinstance(kept[0][1], Tensor | np.ndarray) and kept[0][1] == 1:
            return np.broadcast_to(kept[0][0], shape)
        tails = np.stack([np.broadcast_to(t, shape) for t, _ in kept], -1)
        parts = [self.tensor(c) for _, c in kept]
        full = torch.broadcast_shapes(shape, *(p.shape for p in parts))
        return self.gates(tails, torch.stack([p.expand(full) for p in parts], -1))

    def tensor(self, c: Number | np.ndarray | Tensor) -> Tensor:
        """A constant as weights."""
        if isinstance(c, Tensor):
            return c.to(self.dtype)
        wide = torch.complex128 if np.iscomplexobj(c) else torch.float64
        return torch.as_tensor(c, dtype=wide).to(self.dtype)

    def inline(self, c: Circuit, nodes: Integers) -> Integers:
        """The outputs (m, ...) of copies of a circuit on the columns of ``nodes`` (n, ...)."""
        shape = nodes.shape[1:]
        columns = nodes.reshape(c.n, -1)
        copies = columns.shape[1]
        values = np.full((c.nodes + 1, copies), ZERO, dtype=np.int64)
        values[: c.n] = columns
        for a, b in zip(c.levels[1:-1].tolist(), c.levels[2:].tolist(), strict=True):
            i, j = int(c.starts[a - c.n]), int(c.starts[b - c.n])
            counts = np.repeat(np.diff(c.starts[a - c.n : b - c.n + 1])[None], copies, 0)
            w = c.weights[..., i:j].to(self.dtype)
            w = w[..., None, :].expand(*w.shape[:-1], copies, j - i)
            tails = values[c.tails[i:j]].T
            made = self.sums(tails.reshape(-1), counts.reshape(-1), w.flatten(-2))
            values[a:b] = made.reshape(copies, b - a).T
        return values[c.outputs].reshape(c.outputs.size, *shape)

    def finish(self, outputs: Integers) -> Circuit:
        """The circuit, without gates that reach no output."""
        from structmat.circuit.core import Circuit

        none = np.zeros(0, dtype=np.int64)
        heads = np.concatenate([none, *self.heads])
        tails = np.concatenate([none, *self.tails])
        lead = torch.broadcast_shapes(*(w.shape[:-1] for w in self.weights)) if heads.size else ()
        parts = [w.expand(*lead, w.shape[-1]) for w in self.weights]
        device = {w.device for w in parts if w.device.type != "cpu"}
        if device:
            parts = [w.to(next(iter(device))) for w in parts]
        w = torch.cat(parts, -1) if parts else torch.zeros(0, dtype=self.dtype)
        level = self.level[: self.count]
        return Circuit.sorted(self.n, level, heads, tails, w, outputs.reshape(-1)).pruned()
