"""Linear arithmetic circuits: a matrix as a graph of additions and multiplications by constants.

A circuit has n inputs and gates. A gate is the sum of the values on its incoming edges, and an edge
multiplies the value of the node that it comes from by its weight; m nodes are outputs. It computes
y = A x, where A[o, i] is the sum over all paths from input i to output o of the product of the
weights on the path.

Nodes are numbered by level: the inputs 0 ... n - 1 are level 0, and the level of a gate is the
length of the longest path to it. So the gates of a level are neighbours, edges are sorted by the
gate they enter, and everything is a handful of NumPy arrays: circuits of 10^7 edges are evaluated
level by level.

Source: Bürgisser, Clausen and Shokrollahi, Algebraic complexity theory (1997), chapter 13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from structmat.circuit.levels import Integers, by_level, longest_paths
from structmat.circuit.sweep import swept

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from structmat.circuit.rings import Ring
    from structmat.operator import LinearOperator

__all__ = ["ZERO", "Circuit"]

ZERO = -1
"""The output that is constantly zero; no gate computes it."""


@dataclass(frozen=True, eq=False)
class Circuit:
    """A linear arithmetic circuit of n inputs and m outputs.

    Made by ``sm.circuit(A)`` from an operator, or by :meth:`of` from edges.

    Attributes:
        n: number of inputs.
        levels: (depth + 2,), where the nodes of each level begin, and the number of nodes.
        starts: (size + 1,), where the edges of each gate begin, and the number of edges.
        tails: (wires,), the node that each edge comes from, smaller than the gate it enters.
        weights: (..., wires), a tensor; leading dimensions are a batch of circuits of one shape.
        outputs: (m,), the node of each output; -1 for an output that is zero.

    Example:
        >>> import torch, structmat as sm
        >>> c = sm.circuit(sm.Hadamard(8))
        >>> c
        Circuit(8x8: size 24, wires 48, depth 3, width 8, adds 24, mults 0)
        >>> c(torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0]))
        tensor([1., 1., 1., 1., 1., 1., 1., 1.])
    """

    n: int
    levels: Integers
    starts: Integers
    tails: Integers
    weights: Tensor
    outputs: Integers

    @classmethod
    def of(
        cls,
        n: int,
        heads: ArrayLike,
        tails: ArrayLike,
        weights: Tensor | ArrayLike,
        outputs: ArrayLike,
    ) -> Circuit:
        """A circuit by hand: nodes 0 ... n - 1 are the inputs, larger numbers are gates.

        Args:
            n: number of inputs.
            heads: (wires,), the gate that each edge enters.
            tails: (wires,), the node that each edge comes from.
            weights: (..., wires), what each edge multiplies by.
            outputs: (m,), the nodes that are outputs; -1 is an output that is zero.

        Returns:
            The circuit, its gates in order of their levels.

        Raises:
            ValueError: shapes differ, an edge enters an input, an edge or an output names a node
                without edges that is no input, or the edges contain a cycle.

        Example:
            >>> import structmat as sm
            >>> from structmat.circuit import Circuit
            >>> c = Circuit.of(2, [2, 2, 3, 3], [0, 1, 0, 2], [1.0, 1.0, 1.0, 3.0], [2, 3])
            >>> c.to_dense()
            tensor([[1., 1.],
                    [4., 3.]])
        """
        head, tail, out = (_indices(v, k) for v, k in _named(heads, tails, outputs))
        w = weights if isinstance(weights, Tensor) else torch.as_tensor(weights)
        if not (w.is_floating_point() or w.is_complex()):
            w = w.to(torch.get_default_dtype())
        if head.shape != tail.shape or w.shape[-1:] != head.shape:
            raise ValueError(
                f"Circuit: {head.size} heads, {tail.size} tails and weights of shape "
                f"{tuple(w.shape)} are not of one length"
            )
        count = max(n, *(int(v.max(initial=-1)) + 1 for v in (head, tail, out)))
        _check(n, count, head, tail, out)
        level = longest_paths(n, count, head, tail)
        return cls.sorted(n, level, head, tail, w, out)

    @classmethod
    def sorted(
        cls, n: int, level: Integers, head: Integers, tail: Integers, w: Tensor, out: Integers
    ) -> Circuit:
        """The circuit of edges whose nodes have known levels; nothing is checked."""
        place, levels = by_level(level)
        head, tail = place[head], place[tail]
        order = np.argsort(head, kind="stable")
        counts = np.bincount(head - n, minlength=level.size - n)
        starts = np.zeros(level.size - n + 1, dtype=np.int64)
        np.cumsum(counts, out=starts[1:])
        out = np.append(place, ZERO)[out]
        if not np.array_equal(order, np.arange(order.size)):
            w = w.index_select(-1, torch.from_numpy(order).to(w.device))
        return cls(n, levels, starts, tail[order], w, out)

    # sizes -------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n) of the matrix."""
        return self.outputs.size, self.n

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return self.weights.dtype

    @property
    def nodes(self) -> int:
        """Inputs and gates."""
        return int(self.levels[-1])

    @property
    def size(self) -> int:
        """Gates: nodes that are no inputs."""
        return self.nodes - self.n

    @property
    def wires(self) -> int:
        """Edges; the size of circuits with unbounded fan-in."""
        return self.tails.size

    @property
    def depth(self) -> int:
        """Edges on the longest path."""
        return self.levels.size - 2

    @property
    def adds(self) -> int:
        """Additions of two numbers: a gate with k edges takes k - 1."""
        return self.wires - self.size

    @cached_property
    def mults(self) -> int:
        """Multiplications: edges whose weight is none of 1, -1 and, for complex weights, i, -i."""
        w = self.constants()
        return int((~((np.abs(w) == 1) & ((w.real == 0) | (w.imag == 0)))).sum())

    def constants(self) -> NDArray[np.inexact]:
        """(wires,), the weights as numbers; nan where the members of a batch differ."""
        w = self.weights.detach().cpu().resolve_conj()
        if w.dtype in (torch.bfloat16, torch.float16):
            w = w.float()
        rows = w.numpy().reshape(math.prod(w.shape[:-1]), self.wires)
        if len(rows) == 1:
            only: NDArray[np.inexact] = rows[0]
            return only
        if len(rows) == 0:
            return np.full(self.wires, np.nan)
        same: NDArray[np.inexact] = np.where((rows == rows[:1]).all(0), rows[0], np.nan)
        return same

    @cached_property
    def heads(self) -> Integers:
        """(wires,), the gate that each edge enters, increasing."""
        gates = np.arange(self.n, self.nodes, dtype=np.int64)
        return np.repeat(gates, np.diff(self.starts))

    @cached_property
    def level(self) -> Integers:
        """(nodes,), the length of the longest path to each node."""
        return np.repeat(np.arange(self.levels.size - 1), np.diff(self.levels))

    @cached_property
    def last_level(self) -> Integers:
        """(nodes,), the highest level of a gate that reads the node; depth + 1 for outputs.

        A node that nothing reads has its own level.
        """
        last = self.level.copy()
        np.maximum.at(last, self.tails, self.level[self.heads])
        last[self.outputs[self.outputs != ZERO]] = self.depth + 1
        return last

    @cached_property
    def width(self) -> int:
        """The most values that must be kept between two levels, the outputs among them."""
        steps = np.zeros(self.depth + 3, dtype=np.int64)
        kept = self.last_level > self.level
        np.add.at(steps, self.level[kept], 1)
        np.add.at(steps, self.last_level[kept], -1)
        return int(np.cumsum(steps).max(initial=0))

    # values ------------------------------------------------------------------------------------

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate on vectors.

        Args:
            x: (..., n); leading dimensions broadcast with a batch of weights.

        Returns:
            (..., m), differentiable in x and in the weights, to every order.
        """
        if x.ndim == 0 or x.shape[-1] != self.n:
            raise ValueError(
                f"Circuit of {self.n} inputs: x of shape {tuple(x.shape)}, not (..., {self.n})"
            )
        x = x.to(torch.promote_types(x.dtype, self.dtype))
        if self.weights.ndim > 1:
            return self._values(x[..., None]).squeeze(-1)
        columns = x.reshape(math.prod(x.shape[:-1]), self.n).mT
        return self._values(columns).mT.reshape(*x.shape[:-1], self.outputs.size)

    def _values(self, x: Tensor) -> Tensor:
        """The outputs for columns x (..., n, t)."""
        device = x.device
        vals = swept(self, x, self.weights.to(dtype=x.dtype, device=device))
        at = torch.from_numpy(np.maximum(self.outputs, 0)).to(device)
        if vals.shape[-2] == 0:
            return vals.new_zeros(*vals.shape[:-2], self.outputs.size, x.shape[-1])
        y = vals.index_select(-2, at)
        if (self.outputs == ZERO).any():
            live = torch.from_numpy(self.outputs != ZERO).to(device)
            y = torch.where(live[:, None], y, torch.zeros_like(y))
        return y

    def evaluate(self, x: ArrayLike, ring: Ring) -> NDArray[np.generic]:
        """Evaluate over another ring or semiring, exactly where the ring is exact.

        Args:
            x: (n,) or (..., n), elements of the ring.
            ring: such as ``structmat.circuit.Modular(p)``; it says what the weights become.

        Returns:
            (..., m), an array of the ring.

        Raises:
            ValueError: a weight is no element of the ring.
        """
        from structmat.circuit.rings import evaluated

        return evaluated(self, x, ring)

    def to_dense(self) -> Tensor:
        """The matrix A, (..., m, n), from the unit vectors."""
        eye = torch.eye(self.n, dtype=self.dtype, device=self.weights.device)
        return self._values(eye)

    # other circuits ----------------------------------------------------------------------------

    @property
    def T(self) -> Circuit:
        """The circuit of A^T: every edge reversed (Tellegen's principle).

        It has the same edges and the same multiplications. Where every input is used and no output
        is read by a gate, it takes m - n more additions.
        """
        from structmat.circuit.transform import transposed

        return transposed(self)

    def pruned(self) -> Circuit:
        """Without gates that reach no output."""
        from structmat.circuit.transform import pruned

        return pruned(self)

    def folded(self) -> Circuit:
        """With constants folded: no edges of weight 0, no gates that only pass a value on.

        It has no more gates and no more additions; two parallel edges become a multiplication.
        """
        from structmat.circuit.reduce import folded

        return folded(self)

    def shared(self) -> Circuit:
        """With common sub-expressions computed once, up to their sign.

        Weights are compared as numbers; where gates are merged, gradients go to the first.
        """
        from structmat.circuit.reduce import shared

        return shared(self)

    def as_real(self) -> Circuit:
        """The circuit on real numbers (Re x_0, Im x_0, Re x_1, ...) of a complex one.

        Its additions and multiplications are flops: a product by a constant takes 4 products and
        2 sums, 2 and 2 where its parts have equal modulus, 2 and 0 where one of them is 0.
        """
        from structmat.circuit.transform import as_real

        return as_real(self)

    def layers(self) -> list[LinearOperator]:
        """Sparse matrices F_depth, ..., F_1 whose product in this order is A.

        A value that a later level reads is carried along by an entry 1, so the layers have at most
        wires + depth * width entries together. Gradients reach the weights.
        """
        from structmat.circuit.transform import layers

        return layers(self)

    def to_operator(self) -> LinearOperator:
        """The product of the layers, an operator like any other: it simplifies and compiles."""
        from structmat.circuit.transform import to_operator

        return to_operator(self)

    # pictures ----------------------------------------------------------------------------------

    def plot(self, ax: Any = None) -> Figure:
        """The flow graph: levels from left to right, lines by their weights.

        Args:
            ax: axes of matplotlib to draw into; by default a new figure.

        Returns:
            The figure; ``savefig`` writes it as SVG or PNG.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: more than 64 rows or 2048 wires; :meth:`spy` draws those.

        Example:
            >>> import structmat as sm
            >>> figure = sm.circuit(sm.Hadamard(8)).plot()
            >>> figure.savefig("hadamard.svg")  # doctest: +SKIP
        """
        from structmat.visual import flow_graph

        return flow_graph(self, ax)

    def spy(self) -> Figure:
        """Where the entries of the layers are, one panel for each of up to 24, in a strip.

        More layers than that are drawn as their product.

        Raises:
            ImportError: matplotlib is not installed.
        """
        return self.to_operator().spy()

    def __matmul__(self, other: Circuit) -> Circuit:
        """The circuit of A B: the outputs of the other are the inputs of this one."""
        from structmat.circuit.transform import composed

        return composed(self, other) if isinstance(other, Circuit) else NotImplemented

    def __add__(self, other: Circuit) -> Circuit:
        """The circuit of A + B, side by side, one gate more for each output."""
        from structmat.circuit.transform import added

        return added(self, other) if isinstance(other, Circuit) else NotImplemented

    def __repr__(self) -> str:
        m, n = self.shape
        batch = "".join(f"{k}, " for k in self.weights.shape[:-1])
        names = ("size", "wires", "depth", "width", "adds", "mults")
        measures = ", ".join(f"{k} {getattr(self, k)}" for k in names)
        return f"Circuit({f'batch {batch}' if batch else ''}{m}x{n}: {measures})"


def _named(heads: ArrayLike, tails: ArrayLike, outputs: ArrayLike) -> list[tuple[ArrayLike, str]]:
    return [(heads, "heads"), (tails, "tails"), (outputs, "outputs")]


def _indices(v: ArrayLike, name: str) -> Integers:
    found = np.asarray(v)
    if found.ndim != 1 or (found.size and not np.issubdtype(found.dtype, np.integer)):
        raise ValueError(f"Circuit: {name} must be a list of node numbers, not {found!r}")
    return found.astype(np.int64)


def _check(n: int, count: int, head: Integers, tail: Integers, out: Integers) -> None:
    if n < 0 or (tail.size and tail.min() < 0) or out.min(initial=0) < ZERO:
        raise ValueError("Circuit: node numbers are 0 or larger; an output may be -1, zero")
    if head.size and head.min() < n:
        node = int(head.min())
        raise ValueError(f"Circuit: an edge enters node {node}, which is one of the {n} inputs")
    entered = np.bincount(head, minlength=count) > 0
    entered[:n] = True
    if not entered.all():
        node = int(np.argmin(entered))
        raise ValueError(
            f"Circuit: node {node} is used, but no edge enters it and it is none of the {n} "
            "inputs; an output that is zero is written -1"
        )
