"""Entries of a matrix at given positions, read off its structure.

:func:`entries_of` gives a function (i, j) -> A[i, j] of integer tensors of one shape, with what
one entry costs, or None where an entry is no cheaper than a column. The diagonal, the trace and
the norms of products follow from it. A leaf with a formula costs 1; a low-rank entry is a sum of r
products; an entry of a product is a sum over the row of its first factor, or over the column of its
last, whichever is shorter (:mod:`structmat.linalg.products`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from structmat.compose import DirectSum, Elementwise, Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.monarch import Monarch
from structmat.operator import LinearOperator

__all__ = ["Entries", "entries_of", "flat", "scalar"]


@dataclass(frozen=True)
class Entries:
    """How entries are read: what one costs, and ``get(i, j, to)`` in the dtype of ``to``."""

    cost: int
    get: Callable[[Tensor, Tensor, Tensor], Tensor]


def scalar(op: Scaled, to: Tensor, event: int) -> Tensor | complex:
    """The factor of a scaled operator, with ``event`` dimensions behind its batch."""
    if not op.tensors:
        return op.alpha  # type: ignore[no-any-return]
    alpha: Tensor = op.alpha.to(to)
    return alpha[(..., *[None] * event)]


def flat(ops: Sequence[LinearOperator]) -> list[LinearOperator]:
    """The factors of a product, those of its factors included; a low-rank factor is two."""
    out: list[LinearOperator] = []
    for op in ops:
        match op:
            case Product() | MonarchChain():
                out += flat(op.children)
            case Monarch() | Butterfly():
                out += op.factors()
            case LowRank():
                out += [Dense(op.left), Dense(op.right)]
            case _:
                out.append(op)
    return out


@singledispatch
def entries_of(op: LinearOperator) -> Entries | None:
    """How entries of the operator are read, or None where its structure has no formula for them."""
    return None


# combinators ------------------------------------------------------------------------------------


def _all(ops: Sequence[LinearOperator]) -> list[Entries] | None:
    found = [entries_of(c) for c in ops]
    return None if any(f is None for f in found) else [f for f in found if f is not None]


@entries_of.register
def _(op: Transpose) -> Entries | None:
    inner = entries_of(op.children[0])
    if inner is None:
        return None
    return Entries(inner.cost, lambda i, j, to: inner.get(j, i, to))


@entries_of.register
def _(op: Scaled) -> Entries | None:
    inner = entries_of(op.children[0])
    if inner is None:
        return None
    return Entries(inner.cost, lambda i, j, to: inner.get(i, j, to) * scalar(op, to, i.ndim))


@entries_of.register
def _(op: Sum) -> Entries | None:
    terms = _all(op.children)
    if terms is None:
        return None

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        out = terms[0].get(i, j, to)
        for term in terms[1:]:
            out = out + term.get(i, j, to)
        return out

    return Entries(sum(t.cost for t in terms), get)


@entries_of.register
def _(op: Elementwise) -> Entries | None:
    both = _all(op.children)
    if both is None:
        return None
    a, b = both
    return Entries(a.cost + b.cost, lambda i, j, to: a.get(i, j, to) * b.get(i, j, to))


@entries_of.register
def _(op: Kronecker) -> Entries | None:
    factors = _all(op.children)
    if factors is None:
        return None

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        out = to.new_ones(())
        for child, factor in zip(reversed(op.children), reversed(factors), strict=True):
            m, n = (max(s, 1) for s in child.shape)
            out = factor.get(i % m, j % n, to) * out
            i, j = i // m, j // n
        return out

    return Entries(sum(f.cost for f in factors), get)


@entries_of.register
def _(op: DirectSum) -> Entries | None:
    blocks = _all(op.children)
    if blocks is None:
        return None

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        out = to.new_zeros(i.shape)
        for child, block in zip(op.children, blocks, strict=True):
            m, n = child.shape
            hit = (i >= 0) & (i < m) & (j >= 0) & (j < n)
            if m and n:
                value = block.get(i.clamp(0, m - 1), j.clamp(0, n - 1), to)
                out = torch.where(hit, value, out)
            i, j = i - m, j - n
        return out

    return Entries(sum(b.cost for b in blocks), get)
