"""Products of Kronecker products and of direct sums, factor by factor.

(A (x) B)(C (x) D) = AC (x) BD and diag(A, B) diag(C, D) = diag(A C, B D), where the inner sizes
fit; the engine keeps the Kronecker form that needs fewer operations.
"""

from __future__ import annotations

from structmat.compose import DirectSum, Kronecker, Product, direct_sum, kron
from structmat.leaves.diagonal import Identity
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import same
from structmat.rules.merging import merged
from structmat.rules.table import rule


@rule(
    Kronecker,
    Kronecker,
    inside=Product,
    source="Van Loan, The ubiquitous Kronecker product (2000), section 1",
    example=lambda g: (
        kron(ex.dense(g, 3, 3), ex.dense(g, 2, 2)) @ kron(ex.dense(g, 3, 3), ex.dense(g, 2, 2))
    ),
)
def mixed_product(a: Kronecker, b: Kronecker) -> LinearOperator | None:
    """(A (x) B)(C (x) D) = AC (x) BD."""
    new = _factorwise(a, b)
    return None if new is None else Kronecker(*new)


@rule(
    DirectSum,
    DirectSum,
    inside=Product,
    example=lambda g: (
        direct_sum(ex.dense(g, 2, 3), ex.dense(g, 3, 1))
        @ direct_sum(ex.dense(g, 3, 1), ex.dense(g, 1, 4))
    ),
)
def direct_sum_times_direct_sum(a: DirectSum, b: DirectSum) -> LinearOperator | None:
    """diag(A, B) diag(C, D) = diag(A C, B D), with fitting partitions."""
    new = _factorwise(a, b)
    return None if new is None else DirectSum(*new)


def _thrice(op: LinearOperator) -> LinearOperator:
    return direct_sum(op, op, op)


@rule(DirectSum, example=lambda g: _thrice(ex.monarch(g, (2, 2, 2), (2, 2, 2))))
def direct_sum_of_equals(op: DirectSum) -> LinearOperator | None:
    """diag(A, A, ..., A) = I (x) A, which stores A once."""
    first, *others = op.children
    if not others or (not first.tensors and not first.children):
        return None
    return kron(Identity(len(op.children)), first) if all(same(first, c) for c in others) else None


def _factorwise(a: LinearOperator, b: LinearOperator) -> list[LinearOperator] | None:
    if [c.shape[1] for c in a.children] != [c.shape[0] for c in b.children]:
        return None
    pairs = zip(a.children, b.children, strict=True)
    return [merged(x, y) or Product(x, y) for x, y in pairs]
