"""to_chain: an operator's own words, recorded.

:class:`Recorder` is a :class:`structmat.builder.Builder` whose values are node numbers. Tensors
are taken as they come, ordered so that their memory is contiguous (digits sorted by stride) and
without digits of size 1: a shared block is a missing digit. A batch of operators is the direct
sum of its members: one more digit, outermost, in x, w and y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from structmat.builder import Acting, Lift
from structmat.index import IndexMap
from structmat.lowering.calls import called
from structmat.lowering.ir import (
    Add,
    Apply,
    Concat,
    Contract,
    Einsum,
    Graph,
    Input,
    Node,
    Permute,
    Scalar,
    Slice,
    Zeros,
)
from structmat.operator import LinearOperator
from structmat.primitives.base import Primitive

__all__ = ["Recorded", "precision_for", "record", "to_chain"]


@dataclass(frozen=True)
class _Value:
    id: int
    size: int  # of one operator of the batch


class Recorder:
    """Records the operations as graph nodes; see :class:`structmat.builder.Builder`."""

    def __init__(self, batch_shape: tuple[int, ...]) -> None:
        self.batch_shape = batch_shape
        self.batch = math.prod(batch_shape)
        self.nodes: list[Node] = []
        self.tensors: list[Tensor] = []
        self.notes: dict[str, None] = {}

    def put(self, node: Node, size: int) -> _Value:
        """Append a node whose vector has ``size`` entries for each operator of the batch."""
        self.nodes.append(node)
        return _Value(len(self.nodes) - 1, size)

    def _values(self, w: Tensor, trailing: int, first: int) -> tuple[int, tuple[int, ...]]:
        """Store w, contiguous; returns its number and its digits (batch digit is 0)."""
        lead = w.shape[: w.ndim - trailing]
        digits = list(range(first, first + trailing))
        if math.prod(lead) > 1:
            w = w.expand(*self.batch_shape, *w.shape[w.ndim - trailing :])
            w = w.reshape(self.batch, *w.shape[w.ndim - trailing :])
            digits = [0, *digits]
        else:
            w = w.reshape(w.shape[w.ndim - trailing :])
        kept = [i for i, s in enumerate(w.shape) if s != 1]
        strides = w.stride()
        kept.sort(key=lambda i: -strides[i])
        order = [*kept, *(i for i in range(w.ndim) if i not in kept)]
        w = w.permute(order).reshape([w.shape[i] for i in kept]).contiguous()
        self.tensors.append(w)
        return len(self.tensors) - 1, tuple(digits[i] for i in kept)

    def contract(self, x: _Value, w: Tensor, pre: int = 1, post: int = 1) -> _Value:
        """See :class:`structmat.builder.Builder`."""
        a, b, c, d = w.shape[-4:]
        number, digits = self._values(w, 4, 2)
        # digits: 0 batch, 1 pre, 2 a, 3 b, 4 c, 5 d, 6 post
        sizes = (self.batch, pre, a, b, c, d, post)
        spec = Einsum(sizes, (0, 1, 2, 4, 5, 6), digits, (0, 1, 2, 3, 5, 6))
        size = pre * a * b * d * post
        if 0 not in sizes:
            spec = spec.canonical()
            self.tensors[number] = self.tensors[number].reshape(spec.shape(spec.w))
        elif size == 0 or x.size == 0:
            return self.zeros(x, size)
        return self.put(Contract(size * self.batch, x.id, number, spec), size)

    def scale(self, x: _Value, d: Tensor, pre: int = 1, post: int = 1) -> _Value:
        """See :class:`structmat.builder.Builder`: a contraction without reduced digits."""
        return self.contract(x, d[..., :, None, None, None], pre, post)

    def scalar(self, x: _Value, alpha: float | complex | Tensor) -> _Value:
        """See :class:`structmat.builder.Builder`; a tensor alpha is a value without digits."""
        if isinstance(alpha, Tensor):
            return self.contract(x, alpha[..., None, None, None, None], x.size, 1)
        return self.put(Scalar(x.size * self.batch, x.id, alpha), x.size)

    def permute(self, x: _Value, index: IndexMap, pre: int = 1, post: int = 1) -> _Value:
        """See :class:`structmat.builder.Builder`."""
        lifted = index.lift(pre * self.batch, post)
        return self.put(Permute(x.size * self.batch, x.id, lifted), x.size)

    def add(self, xs: Sequence[_Value]) -> _Value:
        """See :class:`structmat.builder.Builder`."""
        if len(xs) == 1:
            return xs[0]
        return self.put(Add(xs[0].size * self.batch, tuple(x.id for x in xs)), xs[0].size)

    def slice(
        self, x: _Value, size: int, start: int, stop: int, pre: int = 1, post: int = 1
    ) -> _Value:
        """See :class:`structmat.builder.Builder`."""
        if (start, stop) == (0, size):
            return x
        out = pre * (stop - start) * post
        if out == 0:
            return self.zeros(x, 0)
        node = Slice(out * self.batch, x.id, pre * self.batch, size, post, start, stop)
        return self.put(node, out)

    def concat(
        self, xs: Sequence[_Value], sizes: Sequence[int], pre: int = 1, post: int = 1
    ) -> _Value:
        """See :class:`structmat.builder.Builder`; empty branches disappear."""
        parts = [(x, s) for x, s in zip(xs, sizes, strict=True) if s] or [(xs[0], sizes[0])]
        if len(parts) == 1:
            return parts[0][0]
        size = sum(x.size for x, _ in parts)
        ids = tuple(x.id for x, _ in parts)
        kept = tuple(s for _, s in parts)
        return self.put(Concat(size * self.batch, ids, pre * self.batch, kept, post), size)

    def zeros(self, x: _Value, size: int) -> _Value:
        """See :class:`structmat.builder.Builder`."""
        return self.put(Zeros(size * self.batch), size)

    def apply(
        self, x: _Value, op: Primitive, w: Tensor | None = None, pre: int = 1, post: int = 1
    ) -> _Value:
        """See :class:`structmat.builder.Builder`."""
        size = pre * op.outs * post
        if size == 0 or x.size == 0:
            return self.zeros(x, size)
        if w is None:
            node = Apply(size * self.batch, x.id, None, op, 1, pre * self.batch, post)
            return self.put(node, size)
        assert op.values is not None
        lead = w.shape[: w.ndim - len(op.values)]
        batch = self.batch if math.prod(lead) > 1 else 1
        if batch > 1:
            w = w.expand(*self.batch_shape, *op.values)
        self.tensors.append(w.reshape(*([batch] if batch > 1 else []), *op.values).contiguous())
        number = len(self.tensors) - 1
        pre = pre * self.batch // batch
        return self.put(Apply(size * self.batch, x.id, number, op, batch, pre, post), size)

    def call(self, x: _Value, op: Acting, pre: int = 1, post: int = 1) -> _Value:
        """See :class:`structmat.builder.Builder`; in the words it offers, or as one node."""
        if not isinstance(op, LinearOperator):
            raise NotImplementedError(
                f"{type(op).__name__} acts by a function of its own and is no operator, which "
                "alone can be called by generated code: make it a subclass of sm.LinearOperator"
            )
        words = op._words()
        self.notes[f"{op._label()}: {words.how}"] = None
        if words.lower is not None:
            made: _Value = words.lower(Lift(self, pre, post), x)
            return made
        primitive, values = called(op)
        return self.apply(x, primitive, values, pre, post)


@dataclass(frozen=True)
class Recorded:
    """An operator's chain.

    Attributes:
        graph: the chain.
        values: the tensors it reads, contiguous, made from those of the operator by differentiable
            operations.
        notes: how each part acts that has no words of its own.
    """

    graph: Graph
    values: list[Tensor]
    notes: tuple[str, ...]


def precision_for(op: LinearOperator, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which an operator with notes is recorded for vectors of ``dtype``.

    What is made of numbers, such as factors, has the digits with which it is made; vectors that
    have more need it with as many, as the operator itself would solve for them.
    """
    own = op.dtype
    return torch.promote_types(own, dtype if own.is_complex else dtype.to_real())


def to_chain(op: LinearOperator) -> tuple[Graph, list[Tensor]]:
    """The graph and the values of :func:`record`."""
    made = record(op)
    return made.graph, made.values


def record(op: LinearOperator) -> Recorded:
    """Record an operator as a chain.

    Args:
        op: any operator; a batch becomes the direct sum of its members.
    """
    batch = op.batch_shape
    recorder = Recorder(batch)
    n = op.shape[1]
    x = recorder.put(Input(n * recorder.batch), n)
    y = op._lower(recorder, x)
    graph = Graph(tuple(recorder.nodes), (y.id,), tuple(tuple(t.shape) for t in recorder.tensors))
    values = [t.resolve_conj() if t.is_conj() else t for t in recorder.tensors]
    return Recorded(graph, values, tuple(recorder.notes))
