"""The measure that every accepted step decreases: (work, bytes stored, weight).

Work is the products and sums of one application; bytes stored count every occurrence of a
tensor. Both follow the tree: an n-ary node costs the sum over its children (each with a positive
coefficient) plus its own additions. Beside an empty factor of a Kronecker product the others need
no operations at all; work counts them as if the empty side were one, so that no coefficient is
zero, and the flops proper are watched beside it. The weight orders expressions that cost the
same; it is a polynomial interpretation, strictly increasing in every child:

==============================  ==========================================================
leaf                            2 to 12: canonical leaves are lighter (identity, permutation, ...)
alpha A                         1 + [A]
A + B + ...                     [A] + [B] + ... (for a sum of one: 1 + [A])
A B ...                         1 + 2 ([A] + [B] + ...)
A (x) B ..., diag(A, B, ...)    (2 [A] + 1) + (2 [B] + 1) + ..., likewise A (+) B
[A B; C D]                      1 + (2 [A] + 1) + (2 [B] + 1) + ...
A^T                             [A]^2
A^-1                            [A]^2 + [A]
==============================  ==========================================================

so that pushing a transpose down, pulling a scalar up, A B + A C = A (B + C) and (A (x) B)(C (x) D)
= AC (x) BD all decrease it, also among other terms and factors.

A step is accepted if flops, work and bytes do not increase and the triple decreases
lexicographically.
The triples are natural numbers, so there is no infinite sequence of steps (see
:mod:`structmat.rules.engine` for children).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from functools import reduce
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from structmat.compose import (
    Block,
    DirectSum,
    Kronecker,
    KroneckerSum,
    Product,
    Scaled,
    Sum,
    Transpose,
)
from structmat.compose.blocks import acts
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import MonarchChain
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.permutation import Permutation
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.linalg.inverse import Inverse
from structmat.operator import LinearOperator

__all__ = ["Measure", "Measurer", "Weigher", "flops", "memory", "sizes", "uses"]

LEAF_WEIGHT: dict[type[LinearOperator], int] = {
    Identity: 2,
    Zero: 2,
    Permutation: 6,
    Diagonal: 6,
    Dense: 6,
    BlockDiagonal: 8,
    KroneckerSparse: 10,
    Sparse: 10,
    BlockSparse: 12,
}
OTHER_LEAF = 8


class Measure(NamedTuple):
    """(work, bytes stored, weight), compared from the left, the flops proper, and what stays."""

    work: int
    stored: int
    weight: int
    flops: int
    shape: tuple[int, int]
    dtype: torch.dtype | None
    batch: tuple[int, ...]

    def accepts(self, after: Measure, grows: bool = False) -> bool:
        """Whether a step from here to ``after`` is progress and makes nothing dearer.

        ``grows``: the bytes stored may grow, if the work shrinks.
        """
        dearer = after.flops > self.flops or after.work > self.work
        larger = after.stored > self.stored and not grows
        return not (dearer or larger) and after[:3] < self[:3]


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
            leaf = flops(op)
            weight = LEAF_WEIGHT.get(type(op), OTHER_LEAF)
            return Measure(leaf, own, weight, leaf, op.shape, op.strong_dtype, op.batch_shape)
        parts = [self(c) for c in op.children]
        stored = own + sum(p.stored for p in parts)
        weights = sum(p.weight for p in parts)
        weight = 1 + 2 * weights
        work, proper = sum(p.work for p in parts), sum(p.flops for p in parts)
        shape = op.shape
        match op:
            case Transpose():
                turned = self(op.children[0]._transpose())
                work, proper, weight = turned.work, turned.flops, weights**2
            case Scaled():
                free = not op.tensors and op.alpha in (1, -1)
                own_work = 0 if free else shape[0]
                work, proper, weight = work + own_work, proper + own_work, 1 + weights
            case Sum():
                own_work = shape[0] * (len(parts) - 1)
                work, proper = work + own_work, proper + own_work
                weight = weights + (len(parts) == 1)
            case DirectSum():
                weight = 2 * weights + len(parts)
            case Block():
                lines = ((m, sum(map(acts, r))) for m, r in zip(op.heights, op.rows(), strict=True))
                own_work = sum(m * max(live - 1, 0) for m, live in lines)
                live = [acts(c) for c in op.children]
                work = work + own_work
                proper = sum(p.flops for p, a in zip(parts, live, strict=True) if a) + own_work
                weight = 2 * weights + len(parts) + 1
            case KroneckerSum():
                sizes = [c.shape[0] for c in op.children]
                many = [prod(s for j, s in enumerate(sizes) if j != i) for i in range(len(sizes))]
                own_work = op.shape[0] * (len(parts) - 1)
                work = own_work + sum(max(k, 1) * p.work for k, p in zip(many, parts, strict=True))
                proper = own_work + sum(k * p.flops for k, p in zip(many, parts, strict=True))
                weight = 2 * weights + len(parts)
            case Kronecker():
                work = _kronecker(op, [p.work for p in parts], 1)
                proper = _kronecker(op, [p.flops for p in parts], 0)
                weight = 2 * weights + len(parts)
            case MonarchChain():
                weight = 1 + weights
            case Product():
                pass
            case Inverse():
                work = proper = flops(op)
                weight = weights**2 + weights
            case _:
                proper = flops(op)
                work = max(work, proper)
        return Measure(work, stored, weight, proper, shape, _dtype(op, parts), _batch(op, parts))


def _dtype(op: LinearOperator, parts: list[Measure]) -> torch.dtype | None:
    """``op.strong_dtype`` from what is known of its children."""
    if op.tensors or op.static:
        return op.strong_dtype
    found = {p.dtype for p in parts if p.dtype is not None}
    return reduce(torch.promote_types, found) if found else None


def _batch(op: LinearOperator, parts: list[Measure]) -> tuple[int, ...]:
    """``op.batch_shape`` from what is known of its children."""
    if op.tensors:
        return op.batch_shape
    found = {p.batch for p in parts if p.batch}
    return tuple(torch.broadcast_shapes(*found)) if len(found) > 1 else next(iter(found), ())


class Weigher:
    """What rules that choose by cost go by: whether to multiply out.

    Args:
        batch: how many vectors the operator is applied to.
        materialize: whether the storage may grow where the flops saved on the batch are more.
        device: where numbers are made of parts that have no tensors; by default that of the part.
    """

    def __init__(
        self, batch: int = 1, materialize: bool = False, device: torch.device | None = None
    ) -> None:
        self.batch = batch
        self.materialize = materialize
        self.device = device
        self.measure = Measurer()
        self._root: LinearOperator | None = None
        self._uses = Counter[Hashable]()
        self._paths: dict[int, int] = {}
        self._expanded = Counter[Hashable]()

    def look_at(self, root: LinearOperator) -> None:
        """Take this for the whole expression: what is used elsewhere in it is not freed."""
        self._root = root  # kept, so that the identities of its tensors stay theirs
        self._uses = uses(root)
        self._paths.clear()

    def price(self, flops: int, stored: int) -> int:
        """What so many flops and bytes cost."""
        return self.batch * flops + stored

    def pays(self, flops: int, stored: int, lazy_flops: int, lazy_stored: int) -> bool:
        """Whether multiplying out is cheaper, and needs not more of either."""
        saved, freed = lazy_flops - flops, lazy_stored - stored
        return saved >= 0 and self.price(saved, freed) > 0 and (self.materialize or freed >= 0)

    def uses(self, name: Hashable) -> int:
        """How often the whole expression uses the memory of this name."""
        return self._uses[name]

    def keeps_sharing(self, old: LinearOperator, new: LinearOperator) -> bool:
        """Whether new tensors take no more bytes than what is used only in ``old`` and goes."""
        if not self._paths and self._root is not None:
            self._paths, self._expanded = paths(self._root), expanded(self._root)
        before, after, own = sizes(old), sizes(new), expanded(old)
        many = self._paths.get(id(old), 1)
        fresh = sum(size for k, size in after.items() if k not in before)
        kept = (k for k in before if k in after or own[k] * many < self._expanded[k])
        return fresh <= sum(before.values()) - sum(before[k] for k in kept)

    def freed(self, op: LinearOperator) -> int:
        """The bytes of the tensors that only ``op`` uses."""
        own = uses(op)
        return sum(size for k, size in sizes(op).items() if own[k] >= self._uses[k])


def sizes(op: LinearOperator) -> dict[Hashable, int]:
    """The bytes of the tensors of an expression, each once, by their memory."""
    return {memory(t): t.numel() * t.element_size() for t in op.parameters()}


def memory(t: Tensor) -> Hashable:
    """A name for where the numbers of a tensor are: a matrix and its transpose have the same."""
    try:
        return t.untyped_storage()._cdata, t.storage_offset(), t.numel()
    except (RuntimeError, NotImplementedError):  # a wrapper without storage, as in torch.vmap
        return id(t)


def uses(op: LinearOperator) -> Counter[Hashable]:
    """How often each tensor is used, by its memory; an operator counts once a place in a parent."""
    nodes = _nodes(op)
    places = Counter({id(op): 1})
    for node in nodes:
        places.update(map(id, node.children))
    return _counted(nodes, places)


def paths(op: LinearOperator) -> dict[int, int]:
    """How often each operator occurs where the expression is written out, by its identity."""
    nodes = _nodes(op)
    many = dict.fromkeys(map(id, nodes), 0)
    many[id(op)] = 1
    for node in nodes:
        for child in node.children:
            many[id(child)] += many[id(node)]
    return many


def expanded(op: LinearOperator) -> Counter[Hashable]:
    """How often each tensor occurs where the expression is written out, by its memory."""
    return _counted(_nodes(op), paths(op))


def _nodes(op: LinearOperator) -> list[LinearOperator]:
    """Every operator of the expression once, parents before their children."""
    out: list[LinearOperator] = []
    seen: set[int] = set()

    def visit(node: LinearOperator) -> None:
        seen.add(id(node))
        for child in node.children:
            if id(child) not in seen:
                visit(child)
        out.append(node)

    visit(op)
    return out[::-1]


def _counted(nodes: list[LinearOperator], times: Mapping[int, int]) -> Counter[Hashable]:
    """How often the tensors occur if each operator does so many times."""
    out = Counter[Hashable]()
    for node in nodes:
        for t in node.tensors.values():
            out[memory(t)] += times[id(node)]
    return out


def _kronecker(op: Kronecker, flops: list[int], least: int) -> int:
    """The flops of I (x) A (x) I for each factor, sides smaller than ``least`` counted as that."""
    sizes = [max(c.shape[1], least) for c in op.children]
    total = 0
    for i in op.order(flops, least):
        total += prod(s for j, s in enumerate(sizes) if j != i) * flops[i]
        sizes[i] = max(op.children[i].shape[0], least)
    return total
