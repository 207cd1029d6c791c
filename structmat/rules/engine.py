"""The engine: rules are applied bottom-up until none is accepted.

At a node, the children are simplified first (but a transpose is pushed down before anything
beneath it is touched, and rules marked ``early`` come before the children too); then the rules for
the node, for triples and for pairs of neighbours are tried in the order of the table. Pairs of
factors with the smallest product come first, so that A B u is A (B u). The first accepted result
replaces the node, and the node is looked at again. Rules marked ``late`` weigh a node as a whole by
its cost (:mod:`structmat.rules.association`). They come when no other rule fires anywhere, because
what multiplying out frees depends on where else in the expression a tensor is still used.

A result is accepted if it has the same shape, batch shape and dtype as what it replaces, and if
:mod:`structmat.rules.measure` calls it progress. Termination: a child measures less than its
parent; a rewritten child makes its parent measure less (the measure is strictly increasing in
each child, and transposes are rewritten before their child is); an accepted step makes its node
measure less; and there is no infinite descent in triples of natural numbers.

Every choice follows the order of the table and of the operands, so the result depends on the
structure of the expression alone. Subtrees and neighbours that occur several times are rewritten
once and stay one object; a leaf that no rule touched keeps its tensors.

The measure counts a tensor as often as it occurs, because that is what it can know of a part. If a
result stores more than the expression did, shared tensors once, then everything is done again, and
a step is accepted only if the tensors it makes are no larger than those that it alone let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, overload

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from structmat.compose import (
    DirectSum,
    Elementwise,
    Kronecker,
    KroneckerSum,
    Product,
    Scaled,
    Sum,
    Transpose,
)
from structmat.leaves.butterfly import MonarchChain
from structmat.operator import LinearOperator
from structmat.rules.measure import Measurer, Weigher, sizes
from structmat.rules.table import Rule, Step, candidates, has_triples
from structmat.tracing import whole

__all__ = ["fire", "simplify"]

NARY = (Product, Sum, Kronecker, DirectSum, KroneckerSum)
ATOMIC = (Transpose, MonarchChain, Elementwise)
"""Nodes whose children are not simplified on their own."""


@overload
def simplify(
    op: LinearOperator, trace: Literal[False] = False, *, batch: int = 1, materialize: bool = False
) -> LinearOperator: ...
@overload
def simplify(
    op: LinearOperator, trace: Literal[True], *, batch: int = 1, materialize: bool = False
) -> tuple[LinearOperator, list[Step]]: ...
@whole
def simplify(
    op: LinearOperator, trace: bool = False, *, batch: int = 1, materialize: bool = False
) -> LinearOperator | tuple[LinearOperator, list[Step]]:
    """An equal expression that needs no more flops and no more storage.

    Only structure decides (classes, shapes, which tensors are the same object), so expressions of
    one structure simplify alike whatever their numbers. Results are made of the operator's own
    tensors by differentiable operations: gradients reach them. A tensor that is shared counts
    once: where folding factors into shared leaves would store more in the end, it is not done.

    Args:
        op: the expression.
        trace: also return the steps, in order.
        batch: how many vectors the operator will be applied to at once: what one stored byte
            weighs against a flop where a chain may be cut in several ways.
        materialize: also multiply out what then takes more bytes, where the flops saved on the
            batch are more than the bytes gained.

    Returns:
        The simplified operator; with ``trace=True`` a pair of it and the list of steps.

    Raises:
        TypeError: op is not an operator, its sizes are symbols, or batch is not an integer.
        ValueError: batch is less than 1.

    Example:
        >>> import torch, structmat as sm
        >>> P = sm.stride_permutation(6, 2)
        >>> sm.simplify(P.T @ sm.Diagonal(torch.ones(6)) @ sm.Diagonal(torch.ones(6)) @ P @ P.T)
        Diagonal(6) @ Permutation(digits(2x3 -> 1,0))
          6x6 float32, 6 params, 6 flops
        >>> A, steps = sm.simplify(2 * sm.Dense(torch.ones(2, 3)).T, trace=True)
        >>> [step.rule.name for step in steps]
        ['transpose_of_leaf', 'scalar_into_numbers']
        >>> M = sm.Monarch(torch.ones(4, 4, 4), torch.ones(4, 4, 4))
        >>> (M @ M @ M).simplify().cost()
        Cost(params=128, flops=672, bytes=640)
        >>> sm.simplify(M @ M @ M, batch=64, materialize=True)
        Dense(16x16)
          16x16 float32, 256 params, 496 flops
    """
    if not isinstance(op, LinearOperator):
        raise TypeError(
            f"simplify needs an operator, got {type(op).__name__}; wrap it: sm.Dense(W)"
        )
    op._require_numbers()
    if isinstance(batch, bool) or not isinstance(batch, int):
        raise TypeError(f"simplify: batch is {batch!r}; it counts vectors, such as batch=64")
    if batch < 1:
        raise ValueError(f"simplify: batch is {batch}; it needs at least one vector")
    out, steps, device = op, list[Step](), op.device
    while True:  # what a rule brought from elsewhere, or left shared, may have more to do
        new, more = _once(out, Weigher(batch, materialize, device))
        if not more or new is out:
            break
        out, steps = new, steps + more
    out = out._on(device)  # what became of tensors may have none
    return (out, steps) if trace else out


def _once(op: LinearOperator, weigher: Weigher) -> tuple[LinearOperator, list[Step]]:
    """A fixpoint of the rules, and its steps; none where sharing would be lost all the same."""
    run = _Run(weigher)
    out = run.settled(run.normal(op))
    if weigher.materialize:
        return out, run.steps
    stored = sum(sizes(op).values())
    if sum(sizes(out).values()) > stored:
        run = _Run(Weigher(weigher.batch, device=weigher.device), sharing=op)
        out = run.settled(run.normal(op))
    return (op, []) if sum(sizes(out).values()) > stored else (out, run.steps)


def fire(rule: Rule, op: LinearOperator) -> LinearOperator | None:
    """The expression after one firing of ``rule`` alone at the root of ``op``; None if it doesn't.

    Args:
        rule: from :func:`structmat.rules`.
        op: the expression; what is below the root and its children is not searched.

    Example:
        >>> import structmat as sm
        >>> from structmat.rules import fire
        >>> rule = {r.name: r for r in sm.rules()}["transpose_of_transpose"]
        >>> fire(rule, sm.reversal(3)) is None
        True
    """
    return _Run().step(op, only=rule)


class _Run:
    """The state of one simplification."""

    def __init__(
        self, weigher: Weigher | None = None, sharing: LinearOperator | None = None
    ) -> None:
        self.weigher = weigher or Weigher()
        self.sharing = sharing is not None
        if sharing is not None:
            self.weigher.look_at(sharing)
        self.measure = self.weigher.measure
        self.steps: list[Step] = []
        self.done: dict[int, tuple[LinearOperator, LinearOperator]] = {}
        self.turned: dict[int, LinearOperator] = {}
        self.weighed: dict[int, tuple[LinearOperator, LinearOperator]] = {}
        # keyed by identity, so the operators are kept: a name must not be used again
        self.failed: dict[tuple[object, ...], tuple[LinearOperator, ...]] = {}
        self.parts: dict[tuple[str, int], tuple[LinearOperator, object]] = {}
        self.names: dict[int, tuple[LinearOperator, tuple[object, ...]]] = {}
        self.applied: dict[tuple[object, ...], tuple[object, LinearOperator | None]] = {}

    def normal(self, op: LinearOperator) -> LinearOperator:
        """The fixpoint below and at ``op``."""
        if id(op) in self.done:
            return self.done[id(op)][1]
        if (
            isinstance(op, Transpose) and not op.assumed
        ):  # one operator however often A^T is written
            op = self.turned.setdefault(id(op.children[0]), op)
            if id(op) in self.done:
                return self.done[id(op)][1]
        current: LinearOperator = op
        while True:
            new = self.step(current, early=True)
            if new is None:
                current = self.with_children(current, self.normal)
                new = self.step(current)
            if new is None:
                break
            current = new
        current = current._assuming(op.assumed)  # equal matrices have equal properties
        self.done[id(op)] = (op, current)
        self.done[id(current)] = (current, current)
        return current

    def settled(self, op: LinearOperator) -> LinearOperator:
        """The fixpoint, also of the rules that weigh, from a fixpoint of the others."""
        while True:
            self.weigher.look_at(op)
            self.weighed.clear()
            new = self.weighed_below(op)
            if new is op:
                return op
            op = new

    def weighed_below(self, op: LinearOperator) -> LinearOperator:
        """One round, with the uses of tensors counted before it."""
        if id(op) in self.weighed:
            return self.weighed[id(op)][1]
        current = op
        while True:
            new: LinearOperator | None = self.with_children(current, self.weighed_below)
            if new is current:
                new = self.weigh(current)
            if new is None:
                break
            current = self.normal(new)._assuming(op.assumed)
        self.weighed[id(op)] = (op, current)
        self.weighed[id(current)] = (current, current)
        return current

    def with_children(
        self, op: LinearOperator, made: Callable[[LinearOperator], LinearOperator]
    ) -> LinearOperator:
        if not op.children or isinstance(op, ATOMIC):
            return op
        new = [made(c) for c in op.children]
        if isinstance(op, NARY):  # what is assumed about a nested sum must not keep it apart
            new = [
                c._replace(c.tensors, c.children, c.static)
                if c.assumed and type(c) is type(op)
                else c
                for c in new
            ]
        if all(a is b for a, b in zip(new, op.children, strict=True)):
            return op
        if isinstance(op, Scaled):
            return Scaled(op.alpha, new[0])
        if isinstance(op, NARY):
            return type(op)(*new)
        built = op._replace(op.tensors, new, op.static)
        grows = self.weigher.materialize
        return built if self.measure(op).accepts(self.measure(built), grows) else op

    def step(
        self, op: LinearOperator, early: bool = False, only: Rule | None = None
    ) -> LinearOperator | None:
        """The first accepted rewriting at the root of ``op``."""
        for rule in candidates(None, (type(op),), early):
            if only is None or rule is only:
                new = rule.apply(op)
                if new is not None and self.accepts(op, new, op, new):
                    self.steps.append(Step(rule, op, new))
                    return new
        if only is not None and only.late:
            return self.weigh(op, only)
        if not isinstance(op, NARY):
            return None
        kind: type[LinearOperator] = type(op)
        kinds, ids = [type(c) for c in op.children], [id(c) for c in op.children]
        for places in _windows(op, self.measure, early):
            found = candidates(kind, tuple([kinds[i] for i in places]), early)
            if not found:
                continue
            key = (kind, early, len(places) == len(ids), *[ids[i] for i in places])
            if key in self.failed:
                continue
            window = tuple([op.children[i] for i in places])
            for rule in found:
                if only is None or rule is only:
                    new = self.apply(rule, window)
                    if new is None:
                        continue
                    whole = _substitute(op, places, new)
                    before = op._replace({}, window, {})
                    if self.accepts(before, new, op, whole):
                        self.steps.append(Step(rule, before, new))
                        return whole
            self.failed[key] = window
        return None

    def weigh(self, op: LinearOperator, only: Rule | None = None) -> LinearOperator | None:
        """The first accepted result of a rule that weighs the whole node."""
        for rule in candidates(None, (type(op),), late=True):
            if only is None or rule is only:
                try:
                    new = rule.apply(op, self.weigher)
                except LinAlgError:  # a singular inverse stays lazy, and says so where it acts
                    continue
                if new is not None and self.accepts(op, new, op, new, self.weigher.materialize):
                    self.steps.append(Step(rule, op, new))
                    return new
        return None

    def apply(self, rule: Rule, window: tuple[LinearOperator, ...]) -> LinearOperator | None:
        """What the rule makes of these very operators, computed once."""
        if rule.key is not None and self.part(rule, window[0]) != self.part(rule, window[1]):
            return None
        key = (rule.name, *[id(c) for c in window])
        known = self.applied.get(key)
        if known is None:
            known = self.applied[key] = (window, rule.apply(*window))
        return known[1]

    def part(self, rule: Rule, op: LinearOperator) -> object:
        """A name for what of ``op`` the rule compares: equal parts have equal names."""
        key = (rule.name, id(op))
        known = self.parts.get(key)
        if known is None:
            assert rule.key is not None
            known = self.parts[key] = (op, self.name(rule.key(op)))
        return known[1]

    def name(self, op: LinearOperator) -> tuple[object, ...]:
        known = self.names.get(id(op))
        if known is None:
            tensors, children = map(id, op.tensors.values()), map(self.name, op.children)
            known = self.names[id(op)] = (op, (type(op), *tensors, *children))
        return known[1]

    def accepts(
        self,
        old: LinearOperator,
        new: LinearOperator,
        before: LinearOperator,
        after: LinearOperator,
        grows: bool = False,
    ) -> bool:
        """Whether ``new`` may stand for ``old``, which turns the node ``before`` into ``after``.

        ``grows``: the storage may grow.
        """
        was, now = self.measure(old), self.measure(new)
        return (
            now.shape == was.shape
            and now.dtype == was.dtype
            and now.batch == was.batch
            and self.measure(before).accepts(self.measure(after), grows)
            and not (self.sharing and not self.weigher.keeps_sharing(old, new))
        )


def _windows(op: LinearOperator, measure: Measurer, early: bool) -> Iterator[tuple[int, ...]]:
    """Places of operands that rules may see together: triples of factors, then pairs."""
    n = len(op.children)
    if isinstance(op, Sum):
        for i in range(n):
            for j in range(i + 1, n):
                yield i, j
                yield j, i
        return
    if isinstance(op, Product):
        if has_triples(Product, early):
            yield from ((i, i + 1, i + 2) for i in range(n - 2))
        sides = [measure(c).shape for c in op.children]
        small = [sides[i][0] * sides[i + 1][1] for i in range(n - 1)]
        yield from ((i, i + 1) for i in sorted(range(n - 1), key=small.__getitem__))
        return
    yield from ((i, i + 1) for i in range(n - 1))


def _substitute(op: LinearOperator, places: tuple[int, ...], new: LinearOperator) -> LinearOperator:
    first = min(places)
    kept: list[LinearOperator] = []
    for i, c in enumerate(op.children):
        if i == first:
            kept.extend(new.children if type(new) is type(op) else (new,))
        elif i not in places:
            kept.append(c)
    return kept[0] if len(kept) == 1 else op._replace({}, kept, {})
