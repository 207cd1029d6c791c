"""Products of Kronecker products and of direct sums, group by group.

(A (x) B)(C (x) D) = AC (x) BD asks only that the inner sizes split at the same places. The columns
of the left factors and the rows of the right ones are two factorisations of one number, and their
partial products are marks on it. Where both lists have a mark the product comes apart: with marks
2, 4, 16 on the left and 4, 16 on the right,

    (A_2 (x) B_2 (x) C_4)(D_4 (x) E_4) = (A_2 (x) B_2) D_4 (x) C_4 E_4.

An identity has a mark wherever it can be split, I_mn = I_m (x) I_n. A factor of one column on the
left, or of one row on the right, takes no room between marks: it stays as it is, beside the rest.
For direct sums the same holds with partial sums, diag(I_m, I_n) = I_(m+n), and parts without
columns or without rows.

Where a group is no smaller as one operator, it may still stay behind:

    (A (x) B)(C (x) D) = (A (x) BD)(C (x) I) = (A (x) I)(C (x) BD),

for B D acts where there is the least to act on: after C has narrowed the rest, or before A widens
it again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, zip_longest
from operator import add, mul

from structmat.compose import DirectSum, Kronecker, Product, direct_sum, kron
from structmat.leaves.diagonal import Identity
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import same
from structmat.rules.measure import Measurer
from structmat.rules.merging import merged
from structmat.rules.table import rule


@rule(
    Kronecker,
    Kronecker,
    inside=Product,
    source="Van Loan, The ubiquitous Kronecker product (2000), section 1",
    example=lambda g: (
        kron(ex.dense(g, 2, 2), ex.dense(g, 2, 2), ex.dense(g, 4, 4))
        @ kron(ex.dense(g, 4, 4), ex.dense(g, 4, 4))
    ),
)
def mixed_product(a: Kronecker, b: Kronecker) -> LinearOperator | None:
    """(A (x) B)(C (x) D) = AC (x) BD, where partial products of the inner sizes meet."""
    return _groupwise(a, b, PRODUCTS)


@rule(
    DirectSum,
    DirectSum,
    inside=Product,
    example=lambda g: (
        direct_sum(ex.dense(g, 2, 3), ex.dense(g, 1, 1), ex.dense(g, 3, 2))
        @ direct_sum(ex.dense(g, 3, 1), ex.dense(g, 3, 4))
    ),
)
def direct_sum_times_direct_sum(a: DirectSum, b: DirectSum) -> LinearOperator | None:
    """diag(A, B) diag(C, D) = diag(A C, B D), where partial sums of the inner sizes meet."""
    return _groupwise(a, b, SUMS)


def _thrice(op: LinearOperator) -> LinearOperator:
    return direct_sum(op, op, op)


@rule(DirectSum, example=lambda g: _thrice(ex.monarch(g, (2, 2, 2), (2, 2, 2))))
def direct_sum_of_equals(op: DirectSum) -> LinearOperator | None:
    """diag(A, A, ..., A) = I (x) A, which stores A once."""
    first, *others = op.children
    if not others or (not first.tensors and not first.children):
        return None
    return kron(Identity(len(op.children)), first) if all(same(first, c) for c in others) else None


@dataclass(frozen=True)
class _Scale:
    """How the sizes of neighbours add up to marks.

    Attributes:
        kind: the class whose children are the neighbours.
        start: the first mark.
        after: the mark after one, and a size.
        between: the size between two marks; None where they are no marks of one list.
    """

    kind: type[Kronecker] | type[DirectSum]
    start: int
    after: Callable[[int, int], int]
    between: Callable[[int, int], int | None]


PRODUCTS = _Scale(Kronecker, 1, mul, lambda s, e: None if e % s else e // s)
SUMS = _Scale(DirectSum, 0, add, lambda s, e: e - s)

Group = tuple[LinearOperator | None, LinearOperator | None]
"""What stands between two marks on the left and on the right."""


def _groupwise(a: LinearOperator, b: LinearOperator, scale: _Scale) -> LinearOperator | None:
    """The product, group by group, in the first spelling that is no dearer."""
    groups = list(_groups(a, b, scale))
    if len(groups) < 2:
        return None
    whole, measure = Product(a, b), Measurer()
    for new in _spellings(groups, scale, measure):
        if measure(whole).accepts(measure(new)):
            return new
    return None


def _spellings(
    groups: Sequence[Group], scale: _Scale, measure: Measurer
) -> Iterator[LinearOperator]:
    """Every group as one operator; then only those that gain by it, on either side of the rest."""
    made = [merged(x, y) if x and y else x or y for x, y in groups]
    yield _joined([m or _product(*group) for m, group in zip(made, groups, strict=True)], scale)
    gains = [_gains(m, *group, measure) for m, group in zip(made, groups, strict=True)]
    if not any(gains) or all(gains):
        return
    for side in (0, 1):
        sides: tuple[list[LinearOperator], list[LinearOperator]] = ([], [])
        for m, gain, (x, y) in zip(made, gains, groups, strict=True):
            if m and gain:
                sides[side].append(m)
                sides[1 - side].append(Identity(m.shape[1 - side]))
            else:
                sides[0].extend([x] if x else [])
                sides[1].extend([y] if y else [])
        yield Product(*(_joined(ops, scale) for ops in sides))


def _gains(
    m: LinearOperator | None,
    x: LinearOperator | None,
    y: LinearOperator | None,
    measure: Measurer,
) -> bool:
    """Whether the operator that x and y make needs less work than the two, or none."""
    if m is None or x is None or y is None:
        return False
    work = measure(m).work
    return work == 0 or work < measure(x).work + measure(y).work


def _product(x: LinearOperator | None, y: LinearOperator | None) -> LinearOperator:
    assert x is not None
    assert y is not None
    return Product(x, y)


def _joined(ops: Sequence[LinearOperator], scale: _Scale) -> LinearOperator:
    return ops[0] if len(ops) == 1 else scale.kind(*ops)


def _groups(a: LinearOperator, b: LinearOperator, scale: _Scale) -> Iterator[Group]:
    """The finest groups, in order: on a mark of both lists, and between neighbouring marks."""
    left, right = _runs(a.children, 1, scale), _runs(b.children, 0, scale)
    ends = {scale.start, *(r.end for r in (*left, *right))}
    if 0 in ends and scale is PRODUCTS:
        return  # zero has no factorisation to compare
    marks = sorted(c for c in ends if _marked(left, c, scale) and _marked(right, c, scale))
    for xs, ys in zip(_slots(left, marks, scale), _slots(right, marks, scale), strict=True):
        if xs and ys and xs[0].takes_room:
            yield _joined([r.op for r in xs], scale), _joined([r.op for r in ys], scale)
        else:
            for x, y in zip_longest(xs, ys):
                yield None if x is None else x.op, None if y is None else y.op


@dataclass(frozen=True)
class _Run:
    """An operator of a list, and the marks between which it stands."""

    op: LinearOperator
    start: int
    end: int

    @property
    def takes_room(self) -> bool:
        return self.start < self.end


def _runs(ops: Sequence[LinearOperator], side: int, scale: _Scale) -> list[_Run]:
    ends = list(accumulate((op.shape[side] for op in ops), scale.after, initial=scale.start))
    return [_Run(op, s, e) for op, (s, e) in zip(ops, pairwise(ends), strict=True)]


def _marked(runs: Sequence[_Run], c: int, scale: _Scale) -> bool:
    """Whether a list ends or can be split at c."""
    return any(c in (r.start, r.end) or _splits(r, c, scale) for r in runs)


def _splits(run: _Run, c: int, scale: _Scale) -> bool:
    inside = isinstance(run.op, Identity) and run.start < c < run.end
    return inside and None not in (scale.between(run.start, c), scale.between(c, run.end))


def _slots(runs: Sequence[_Run], marks: Sequence[int], scale: _Scale) -> list[list[_Run]]:
    """What stands on the first mark, between it and the second, on the second, and so on."""
    out: list[list[_Run]] = [[] for _ in range(2 * len(marks) - 1)]
    for run in runs:
        inner = [c for c in marks if run.start < c < run.end]
        for s, e in pairwise((run.start, *inner, run.end)):
            last = bisect_right(marks, s) - 1
            on = s == e == marks[last]
            out[2 * last + (not on)].append(_Run(_piece(run, s, e, scale), s, e))
    return out


def _piece(run: _Run, s: int, e: int, scale: _Scale) -> LinearOperator:
    n = scale.between(s, e)
    if (s, e) == (run.start, run.end) or n is None:
        return run.op
    return Identity(n, run.op.strong_dtype)
