"""Kronecker sums: A (+) B = A (x) I + I (x) B adds, and takes scalars out, term by term."""

from __future__ import annotations

from structmat.compose import (
    Kronecker,
    KroneckerSum,
    Scaled,
    Sum,
    kron_sum,
)
from structmat.leaves.diagonal import Identity, Zero
from structmat.leaves.permutation import reversal
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.scalars import same_scalar
from structmat.rules.table import rule

HORN = "Horn and Johnson, Topics in matrix analysis, section 4.4"


@rule(
    KroneckerSum,
    KroneckerSum,
    inside=Sum,
    source=HORN,
    example=lambda g: (
        kron_sum(ex.dense(g, 2, 2), reversal(3)) + kron_sum(reversal(2), ex.dense(g, 3, 3))
    ),
)
def kronecker_sum_plus_kronecker_sum(a: KroneckerSum, b: KroneckerSum) -> LinearOperator | None:
    """(A (+) B) + (C (+) D) = (A + C) (+) (B + D)."""
    if [c.shape for c in a.children] != [c.shape for c in b.children]:
        return None
    return KroneckerSum(*(Sum(x, y) for x, y in zip(a.children, b.children, strict=True)))


@rule(KroneckerSum, source=HORN, example=lambda g: kron_sum(2 * reversal(2), 2 * reversal(3)))
def scalar_out_of_kronecker_sum(op: KroneckerSum) -> LinearOperator | None:
    """alpha A (+) alpha B = alpha (A (+) B)."""
    first = op.children[0]
    if not isinstance(first, Scaled) or not all(
        isinstance(c, Scaled) and same_scalar(c.alpha, first.alpha) for c in op.children
    ):
        return None
    return Scaled(first.alpha, KroneckerSum(*(c.children[0] for c in op.children)))


@rule(KroneckerSum, source=HORN, example=lambda g: kron_sum(ex.dense(g, 2, 2), Zero(3)))
def kronecker_sum_with_zero(op: KroneckerSum) -> LinearOperator | None:
    """A (+) 0 = A (x) I."""
    live = [i for i, c in enumerate(op.children) if not isinstance(c, Zero)]
    if len(live) > 1:
        return None
    if not live:
        return Zero(*op.shape, op.strong_dtype)
    sizes = [c.shape[0] for c in op.children]
    return Kronecker(*(c if i in live else Identity(sizes[i]) for i, c in enumerate(op.children)))
