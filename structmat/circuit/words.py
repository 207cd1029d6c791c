"""Operators as circuits: the words that a leaf says, recorded as gates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from structmat.builder import Acting, Lift, Number
from structmat.circuit.core import Circuit
from structmat.circuit.expansions import expanded
from structmat.circuit.fourier import Algorithm, algorithms
from structmat.circuit.graph import ZERO, Graph
from structmat.circuit.levels import Integers
from structmat.index import IndexMap
from structmat.operator import LinearOperator
from structmat.primitives.base import Primitive

__all__ = ["circuit"]


class _Words:
    """A :class:`structmat.builder.Builder` whose values are arrays of nodes, (n,)."""

    def __init__(self, g: Graph, fft: str) -> None:
        self.g, self.fft = g, fft

    def contract(self, x: Integers, w: Tensor, pre: int = 1, post: int = 1) -> Integers:
        a, b, c, d = w.shape[-4:]
        tails = x.reshape(pre, a, c, d, post).transpose(0, 1, 3, 4, 2)[:, :, None]
        tails = np.broadcast_to(tails, (pre, a, b, d, post, c))
        weights = w.transpose(-1, -2)[..., None, :, :, :, None, :]  # pre a b d post c
        return self.g.gates(tails, weights).reshape(-1)

    def permute(self, x: Integers, index: IndexMap, pre: int = 1, post: int = 1) -> Integers:
        return x.reshape(pre, index.size, post)[:, index.array()].reshape(-1)

    def scale(self, x: Integers, d: Tensor, pre: int = 1, post: int = 1) -> Integers:
        lanes = x.reshape(pre, d.shape[-1], post)
        return self.g.gates(lanes[..., None], d[..., None, :, None, None]).reshape(-1)

    def scalar(self, x: Integers, alpha: Number | Tensor) -> Integers:
        if isinstance(alpha, Tensor):
            return self.g.gates(x[:, None], alpha[..., None, None])
        return self.g.combine([(x, alpha)])

    def add(self, xs: Sequence[Integers]) -> Integers:
        return self.g.combine([(x, 1) for x in xs])

    def slice(
        self, x: Integers, size: int, start: int, stop: int, pre: int = 1, post: int = 1
    ) -> Integers:
        return x.reshape(pre, size, post)[:, start:stop].reshape(-1)

    def concat(
        self, xs: Sequence[Integers], sizes: Sequence[int], pre: int = 1, post: int = 1
    ) -> Integers:
        parts = [x.reshape(pre, s, post) for x, s in zip(xs, sizes, strict=True)]
        return np.concatenate(parts, 1).reshape(-1)

    def zeros(self, x: Integers, size: int) -> Integers:
        return np.full(size, ZERO, dtype=np.int64)

    def apply(
        self, x: Integers, op: Primitive, w: Tensor | None = None, pre: int = 1, post: int = 1
    ) -> Integers:
        columns = x.reshape(pre, op.ins, post).transpose(1, 0, 2).reshape(op.ins, pre * post)
        y = expanded(op, self.g, columns, w, self.fft)
        return y.reshape(op.outs, pre, post).transpose(1, 0, 2).reshape(-1)

    def call(self, x: Integers, op: Acting, pre: int = 1, post: int = 1) -> Integers:
        words = op._words()
        if words.lower is not None:
            return np.asarray(words.lower(Lift(self, pre, post), x))
        raise TypeError(
            f"circuit: {type(op).__name__} acts by a function ({words.how}), not by additions and "
            "multiplications by constants; take sm.circuit(sm.Dense(A.to_dense()))"
        )


def circuit(A: LinearOperator, *, fft: Algorithm = "split-radix") -> Circuit:
    """The linear arithmetic circuit by which an operator acts.

    Products, sums and blocks of operators compose their circuits; nothing is densified. Tensors of
    the operator are its weights, so gradients reach them through ``c(x)``. A real operator has a
    real circuit, also where it takes Fourier transforms inside.

    Args:
        A: an operator of shape (m, n); its batch becomes a batch of weights.
        fft: how Fourier transforms are done: ``"split-radix"``, ``"conjugate-pair"``,
            ``"radix-2"`` or ``"mixed-radix"`` (:mod:`structmat.circuit.fourier`).

    Returns:
        A circuit of n inputs and m outputs.

    Raises:
        TypeError: part of A has no circuit, such as an inverse that iterates.
        ValueError: unknown ``fft``.

    Example:
        >>> import structmat as sm
        >>> c = sm.circuit(sm.DFT(16))
        >>> c.adds, c.mults, c.depth
        (64, 8, 6)
        >>> real = c.as_real()
        >>> real.adds + real.mults  # flops of split radix: 4 n log2 n - 6 n + 8
        168
    """
    if fft not in algorithms:
        raise ValueError(f"circuit: fft {fft!r} is none of {', '.join(map(repr, algorithms))}")
    dtype = A.dtype if A.strong_dtype is None else A.strong_dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        dtype = torch.get_default_dtype()
    g = Graph(A.shape[1], dtype)
    words = _Words(g, fft)
    return g.finish(np.asarray(A._lower(words, g.inputs())))
