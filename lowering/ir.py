"""The chain: one intermediate representation, in static single assignment, for every structure.

A chain maps vectors to vectors. Its one arithmetic node is the **contraction**, an einsum over
mixed-radix digits of the positions of x and y,

    y[Y] = sum over digits not in Y of  x[X] w[W],      X, W, Y lists of digits,

with the digits of X spelling the position in x (slowest first), likewise Y for y and W for the
values. A digit in X and Y is *parallel*, one in X alone is *reduced*, one in Y alone is *out*; a
digit missing from W is shared. Kronecker-sparse (a, b, c, d) is x[a c d] w[a b c d] -> [a b d];
a diagonal is x[n] w[n] -> [n]; a number is x[n] w[] -> [n]. Permuting the digits of X or Y is an
index map: it costs nothing. The gradient for values is the same einsum with the batch reduced:
:class:`Outer`, ``g[W] = sum over the batch and digits not in W of  x[X] g[Y]``.

Every graph can be run with plain torch (:func:`interpret`) and made dense (:func:`to_dense`);
that is the oracle for each pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from structmat.builder import index_tensor
from structmat.index import IndexMap
from structmat.primitives.base import Primitive

__all__ = [
    "Add",
    "Apply",
    "Concat",
    "Contract",
    "Correlate",
    "Einsum",
    "Gradient",
    "Graph",
    "Input",
    "Node",
    "Outer",
    "Permute",
    "Scalar",
    "Slice",
    "Zeros",
    "interpret",
    "to_dense",
]


@dataclass(frozen=True)
class Einsum:
    """Digit sizes and the digits of x, w and y, slowest first."""

    sizes: tuple[int, ...]
    x: tuple[int, ...]
    w: tuple[int, ...]
    y: tuple[int, ...]

    def shape(self, digits: Sequence[int]) -> tuple[int, ...]:
        """Sizes of these digits."""
        return tuple(self.sizes[d] for d in digits)

    @property
    def n(self) -> int:
        """Length of x."""
        return math.prod(self.shape(self.x))

    @property
    def m(self) -> int:
        """Length of y."""
        return math.prod(self.shape(self.y))

    @property
    def parallel(self) -> tuple[int, ...]:
        """Digits of both x and y, in y's order."""
        return tuple(d for d in self.y if d in self.x)

    @property
    def reduced(self) -> tuple[int, ...]:
        """Digits of x alone, in x's order."""
        return tuple(d for d in self.x if d not in self.y)

    @property
    def out(self) -> tuple[int, ...]:
        """Digits of y alone, in y's order."""
        return tuple(d for d in self.y if d not in self.x)

    @property
    def pointwise(self) -> bool:
        """Whether every y reads one x: a diagonal, a number, a permutation of digits."""
        return not self.reduced and not self.out

    def stride(self, digit: int, digits: Sequence[int]) -> int | None:
        """Stride of ``digit`` in the vector spelled by ``digits``; None where it is missing."""
        if digit not in digits:
            return None
        return math.prod(self.sizes[d] for d in digits[digits.index(digit) + 1 :])

    def transposed(self) -> Einsum:
        """The same values, x and y exchanged."""
        return replace(self, x=self.y, y=self.x)

    def letters(self, digits: Sequence[int]) -> str:
        """Text such as ``a4 b16``."""
        return " ".join(f"{chr(97 + d)}{self.sizes[d]}" for d in digits)

    def canonical(self) -> Einsum:
        """Without digits of size 1, and with digits merged that are neighbours everywhere."""
        keep = [d for d, s in enumerate(self.sizes) if s != 1]
        lists = [tuple(d for d in ds if d in keep) for ds in (self.x, self.w, self.y)]
        merged = True
        sizes = dict(enumerate(self.sizes))
        while merged:
            merged = False
            for a, b in [p for ds in lists for p in pairwise(ds)]:
                if all(_follows(ds, a, b) for ds in lists):
                    sizes[a] *= sizes[b]
                    lists = [tuple(d for d in ds if d != b) for ds in lists]
                    merged = True
                    break
        order: list[int] = []
        for ds in (lists[1], lists[0], lists[2]):
            order.extend(d for d in ds if d not in order)
        names = {d: i for i, d in enumerate(order)}
        x, w, y = (tuple(names[d] for d in ds) for ds in lists)
        return Einsum(tuple(sizes[d] for d in order), x, w, y)

    def __str__(self) -> str:
        return f"x[{self.letters(self.x)}] w[{self.letters(self.w)}] -> [{self.letters(self.y)}]"


def _follows(ds: tuple[int, ...], a: int, b: int) -> bool:
    """Whether a and b are neighbours in ds, or both missing."""
    if a not in ds and b not in ds:
        return True
    return a in ds and b in ds and ds.index(b) == ds.index(a) + 1


@dataclass(frozen=True)
class Node:
    """A value: a vector of ``size`` entries for every row of the batch."""

    size: int

    @property
    def args(self) -> tuple[int, ...]:
        """The values it reads."""
        return tuple(v for k, v in vars(self).items() if k in ("x", "g"))

    def rename(self, names: dict[int, int]) -> Node:
        """The same node reading other values."""
        changed = {k: names[v] for k, v in vars(self).items() if k in ("x", "g")}
        return replace(self, **changed)


@dataclass(frozen=True)
class Input(Node):
    """Input number ``which`` (0 is x; in a gradient, 1 is the gradient of y)."""

    which: int = 0

    def __str__(self) -> str:
        return f"input {'xg'[self.which]}"


@dataclass(frozen=True)
class Contract(Node):
    """y[Y] = sum x[X] w[W]; ``conj`` conjugates w."""

    x: int
    w: int
    spec: Einsum
    conj: bool = False

    def __str__(self) -> str:
        s = self.spec
        star = "*" if self.conj else ""
        return (
            f"contract v{self.x}[{s.letters(s.x)}] w{self.w}{star}[{s.letters(s.w)}]"
            f" -> [{s.letters(s.y)}]"
        )


@dataclass(frozen=True)
class Gradient(Node):
    """A gradient of the values w: one tensor, not a vector for every row."""

    x: int
    g: int
    w: int


@dataclass(frozen=True)
class Outer(Gradient):
    """Gradient of the values: g[W] = sum over rows and digits not in W of conj(x)[X] g[Y]."""

    spec: Einsum

    def __str__(self) -> str:
        s = self.spec
        return (
            f"outer v{self.x}*[t {s.letters(s.x)}] v{self.g}[t {s.letters(s.y)}]"
            f" -> w{self.w}[{s.letters(s.w)}]"
        )


@dataclass(frozen=True)
class Apply(Node):
    """y[b, p, :, q] = op(w[b]) x[b, p, :, q]; w is None for a constant; ``conj`` conjugates."""

    x: int
    w: int | None
    op: Primitive
    batch: int
    pre: int
    post: int
    conj: bool = False

    def __str__(self) -> str:
        values = "" if self.w is None else f" w{self.w}"
        star = "*" if self.conj else ""
        return f"apply {self.op}{star}{values} to v{self.x}[{_lifted(self, self.op.ins)}]"


@dataclass(frozen=True)
class Correlate(Gradient):
    """Gradient of the values of an Apply: w[b] = sum over rows, p and q.

    It reads the values where the primitive is not linear in them.
    """

    op: Primitive
    batch: int
    pre: int
    post: int

    def __str__(self) -> str:
        return (
            f"correlate {self.op} v{self.x}*[{_lifted(self, self.op.ins)}]"
            f" v{self.g}[{_lifted(self, self.op.outs)}] -> w{self.w}"
        )


def _lifted(node: Apply | Correlate, size: int) -> str:
    return " ".join(map(str, (node.batch, node.pre, size, node.post)))


@dataclass(frozen=True)
class Permute(Node):
    """y[i] = x[index[i]]."""

    x: int
    index: IndexMap

    def __str__(self) -> str:
        return f"permute v{self.x} by {self.index}"


@dataclass(frozen=True)
class Scalar(Node):
    """y = alpha x."""

    x: int
    alpha: float | complex

    def __str__(self) -> str:
        return f"scalar {self.alpha:g} * v{self.x}"


@dataclass(frozen=True)
class Add(Node):
    """y = sum of xs."""

    xs: tuple[int, ...]

    @property
    def args(self) -> tuple[int, ...]:
        """The values it reads."""
        return self.xs

    def rename(self, names: dict[int, int]) -> Node:
        """The same node reading other values."""
        return replace(self, xs=tuple(names[v] for v in self.xs))

    def __str__(self) -> str:
        return "add " + " + ".join(f"v{v}" for v in self.xs)


@dataclass(frozen=True)
class Slice(Node):
    """y[p, i, q] = x[p, start + i, q], x viewed (pre, full, post)."""

    x: int
    pre: int
    full: int
    post: int
    start: int
    stop: int

    def __str__(self) -> str:
        return f"slice v{self.x}[{self.pre}, {self.start}:{self.stop} of {self.full}, {self.post}]"


@dataclass(frozen=True)
class Concat(Node):
    """y viewed (pre, sum of sizes, post) joins xs viewed (pre, sizes[b], post)."""

    xs: tuple[int, ...]
    pre: int
    sizes: tuple[int, ...]
    post: int

    @property
    def args(self) -> tuple[int, ...]:
        """The values it reads."""
        return self.xs

    def rename(self, names: dict[int, int]) -> Node:
        """The same node reading other values."""
        return replace(self, xs=tuple(names[v] for v in self.xs))

    def __str__(self) -> str:
        parts = ", ".join(f"v{v}:{s}" for v, s in zip(self.xs, self.sizes, strict=True))
        return f"concat [{self.pre}, ({parts}), {self.post}]"


@dataclass(frozen=True)
class Zeros(Node):
    """y = 0."""

    def __str__(self) -> str:
        return "zeros"


@dataclass(frozen=True)
class Graph:
    """Nodes in order of definition; ``outputs`` are value numbers.

    Attributes:
        nodes: node i defines value v_i and reads only earlier ones.
        outputs: the results.
        shapes: shape of each values tensor w_j, digits slowest first.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    def uses(self) -> dict[int, list[int]]:
        """For every value the nodes that read it, with repeats."""
        out: dict[int, list[int]] = {i: [] for i in range(len(self.nodes))}
        for i, node in enumerate(self.nodes):
            for a in node.args:
                out[a].append(i)
        return out

    def pruned(self) -> Graph:
        """Without nodes that no output needs, renumbered; inputs stay."""
        alive = set(self.outputs)
        for i in reversed(range(len(self.nodes))):
            if i in alive:
                alive.update(self.nodes[i].args)
        keep = [i for i, nd in enumerate(self.nodes) if i in alive or isinstance(nd, Input)]
        names = {old: new for new, old in enumerate(keep)}
        nodes = tuple(self.nodes[i].rename(names) for i in keep)
        return Graph(nodes, tuple(names[o] for o in self.outputs), self.shapes)

    def __str__(self) -> str:
        lines = []
        for i, node in enumerate(self.nodes):
            lines.append(f"v{i}: {node.size:>6} = {node}")
        outs = ", ".join(f"v{o}" for o in self.outputs)
        return "\n".join([*lines, f"return {outs}"])


def contract_torch(x: Tensor, w: Tensor, spec: Einsum, conj: bool = False) -> Tensor:
    """The contraction with plain torch: x (t, n), w of the digits' shape -> (t, m)."""
    t = x.shape[0]
    if conj:
        w = w.conj()
    total = len(spec.sizes)
    y = torch.einsum(
        x.reshape(t, *spec.shape(spec.x)),
        [total, *spec.x],
        w.reshape(spec.shape(spec.w)),
        list(spec.w),
        [total, *spec.y],
    )
    return y.reshape(t, spec.m)


def outer_torch(x: Tensor, g: Tensor, spec: Einsum) -> Tensor:
    """The gradient of the values with plain torch: x (t, n), g (t, m) -> the digits' shape."""
    t, total = x.shape[0], len(spec.sizes)
    out: Tensor = torch.einsum(
        x.conj().reshape(t, *spec.shape(spec.x)),
        [total, *spec.x],
        g.reshape(t, *spec.shape(spec.y)),
        [total, *spec.y],
        list(spec.w),
    )
    return out


def apply_torch(x: Tensor, w: Tensor | None, node: Apply) -> Tensor:
    """The primitive with plain torch: x (t, n) -> (t, m)."""
    op = node.op.conjugated() if node.conj else node.op
    xs = x.reshape(-1, node.batch, node.pre, op.ins, node.post)
    if w is not None:
        w = w.reshape(node.batch, 1, *(op.values or ()))
        w = w.conj() if node.conj else w
    return op(xs, w).reshape(x.shape[0], node.size)


def correlate_torch(x: Tensor, g: Tensor, w: Tensor, node: Correlate) -> Tensor:
    """The gradient of the values w with plain torch: x (t, n), g (t, m)."""
    t = x.shape[0]
    b, p, q = node.batch, node.pre, node.post
    xs = x.reshape(t, b, p, node.op.ins, q).movedim(0, -1).reshape(b, p, node.op.ins, q * t)
    gs = g.reshape(t, b, p, node.op.outs, q).movedim(0, -1).reshape(b, p, node.op.outs, q * t)
    return node.op.gradient(xs, gs, w.reshape(b, *(node.op.values or ())))


def interpret(graph: Graph, inputs: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
    """Run a graph node by node with plain torch, differentiably.

    Args:
        graph: the chain.
        inputs: rows (t, n) for each Input.
        values: the tensors w_j.

    Returns:
        One tensor for each output: (t, size), or the digits' shape for an Outer.
    """
    done: list[Any] = []
    x0 = inputs[0]
    t = x0.shape[0]
    for node in graph.nodes:
        y: Any
        match node:
            case Input(which=which):
                y = inputs[which]
            case Contract(x=x, w=w, spec=spec, conj=conj):
                y = contract_torch(done[x], values[w], spec, conj)
            case Outer(x=x, g=g, spec=spec):
                y = outer_torch(done[x], done[g], spec)
            case Apply(x=x, w=w):
                y = apply_torch(done[x], None if w is None else values[w], node)
            case Correlate(x=x, g=g, w=w):
                y = correlate_torch(done[x], done[g], values[w], node)
            case Permute(x=x, index=index):
                y = done[x].index_select(1, index_tensor(index, x0.device))
            case Scalar(x=x, alpha=alpha):
                y = done[x] * alpha
            case Add(xs=xs):
                y = sum((done[v] for v in xs[1:]), done[xs[0]])
            case Slice(x=x):
                y = done[x].reshape(t, node.pre, node.full, node.post)
                y = y[:, :, node.start : node.stop].reshape(t, node.size)
            case Concat(xs=xs):
                parts = [
                    done[v].reshape(t, node.pre, s, node.post)
                    for v, s in zip(xs, node.sizes, strict=True)
                ]
                y = torch.cat(parts, 2).reshape(t, node.size)
            case Zeros():
                y = x0.new_zeros(t, node.size)
            case _:
                raise TypeError(f"cannot run {type(node).__name__}")
        done.append(y)
    return [done[o] for o in graph.outputs]


def to_dense(graph: Graph, values: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The matrix of a graph with one input and one output, (m, n)."""
    n = next(nd.size for nd in graph.nodes if isinstance(nd, Input))
    device = values[0].device if values else torch.device("cpu")
    eye = torch.eye(n, dtype=dtype, device=device)
    return interpret(graph, [eye], [v.to(dtype) for v in values])[0].mT
