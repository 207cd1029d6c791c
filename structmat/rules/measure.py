"""The measure that every accepted step decreases: (flops, bytes stored, weight).

Flops are the products and sums of one application; bytes stored count every occurrence of a
tensor. Both follow the tree: an n-ary node costs the sum over its children (each with a positive
coefficient) plus its own additions. The weight orders expressions that cost the same; it is a
polynomial interpretation, strictly increasing in every child:

==============================  ==========================================================
leaf                            2 to 5: canonical leaves are lighter (identity, permutation, ...)
alpha A                         1 + [A]
A B ..., A + B + ...            1 + 2 ([A] + [B] + ...)
A (x) B ..., diag(A, B, ...)    (2 [A] + 1) + (2 [B] + 1) + ...
A^T                             [A]^2
==============================  ==========================================================

so that pushing a transpose down, pulling a scalar up, and (A (x) B)(C (x) D) = AC (x) BD all
decrease it.

A step is accepted if neither flops nor bytes increase and the triple decreases lexicographically.
The triples are natural numbers, so there is no infinite sequence of steps (see
:mod:`structmat.rules.engine` for children).
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import MonarchChain
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.permutation import Permutation
from structmat.operator import LinearOperator

__all__ = ["Measure", "Measurer", "flops"]

LEAF_WEIGHT: dict[type[LinearOperator], int] = {
    Identity: 2,
    Zero: 2,
    Permutation: 3,
    Diagonal: 3,
    Dense: 3,
    BlockDiagonal: 4,
    KroneckerSparse: 5,
}
OTHER_LEAF = 4


class Measure(NamedTuple):
    """(flops, bytes stored, weight), compared from the left."""

    flops: int
    stored: int
    weight: int

    def accepts(self, after: Measure) -> bool:
        """Whether a step from here to ``after`` is progress and makes nothing dearer."""
        return after.flops <= self.flops and after.stored <= self.stored and after < self


def flops(op: LinearOperator) -> int:
    """Products plus sums of one application."""
    return sum(op.operations())


class Measurer:
    """Measures expressions; shared subtrees are measured once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[LinearOperator, Measure]] = {}

    def __call__(self, op: LinearOperator) -> Measure:
        """The measure of ``op``."""
        known = self._known.get(id(op))
        if known is None:
            known = self._known[id(op)] = (op, self._measure(op))
        return known[1]

    def _measure(self, op: LinearOperator) -> Measure:
        own = sum(t.numel() * t.element_size() for t in op.tensors.values())
        if not op.children:
            return Measure(flops(op), own, LEAF_WEIGHT.get(type(op), OTHER_LEAF))
        parts = [self(c) for c in op.children]
        stored = own + sum(p.stored for p in parts)
        weights = [p.weight for p in parts]
        total = sum(p.flops for p in parts)
        m = op.shape[0]
        match op:
            case Transpose():
                turned = self(op.children[0]._transpose())
                return Measure(turned.flops, stored, weights[0] ** 2)
            case Scaled():
                free = not op.tensors and op.alpha in (1, -1)
                return Measure(total + (0 if free else m), stored, 1 + weights[0])
            case Product():
                return Measure(total, stored, 1 + 2 * sum(weights))
            case Sum():
                return Measure(total + m * (len(parts) - 1), stored, 1 + 2 * sum(weights))
            case DirectSum():
                return Measure(total, stored, 2 * sum(weights) + len(weights))
            case Kronecker():
                return Measure(_kronecker(op, parts), stored, 2 * sum(weights) + len(weights))
            case MonarchChain():
                return Measure(total, stored, 1 + sum(weights))
        return Measure(max(total, flops(op)), stored, 1 + 2 * sum(weights))


def _kronecker(op: Kronecker, parts: list[Measure]) -> int:
    """The flops of I (x) A (x) I for each factor; an empty factor counts as one, not as zero."""
    sizes = [c.shape[1] for c in op.children]
    ratios = [c.shape[0] / max(c.shape[1], 1) for c in op.children]
    total = 0
    for i in sorted(range(len(sizes)), key=ratios.__getitem__):  # the order of application
        others = prod(s for j, s in enumerate(sizes) if j != i)
        total += max(others, 1) * parts[i].flops
        sizes[i] = op.children[i].shape[0]
    return total
