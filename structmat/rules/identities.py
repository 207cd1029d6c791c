"""Identities and zeros: what can be left out of a sum, a product, a Kronecker product.

Zeros keep the dtype of what they replace (``Zero(..., dtype=...)``); an identity with a dtype of
its own is left out only where something else carries that dtype, which the engine checks.
"""

from __future__ import annotations

import torch

from structmat.compose import (
    DirectSum,
    Kronecker,
    KroneckerSum,
    Product,
    Sum,
    direct_sum,
    kron,
)
from structmat.leaves.diagonal import Identity, Zero
from structmat.leaves.permutation import Permutation
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import strong
from structmat.rules.table import rule


@rule(
    (Product, Sum, Kronecker, DirectSum, KroneckerSum),
    example=lambda g: Product(ex.dense(g, 2, 3)),
)
def single(op: LinearOperator) -> LinearOperator | None:
    """A product, sum, Kronecker product, Kronecker or direct sum of one operator is that one."""
    return op.children[0] if len(op.children) == 1 else None


@rule(LinearOperator, example=lambda g: ex.dense(g, 0, 3))
def empty(op: LinearOperator) -> LinearOperator | None:
    """A matrix without rows or columns is zero."""
    m, n = op.shape
    return Zero(m, n, op.strong_dtype) if m == 0 or n == 0 else None


@rule(Permutation, example=lambda g: Permutation(torch.arange(4)))
def permutation_of_nothing(op: Permutation) -> LinearOperator | None:
    """The permutation that moves nothing is the identity."""
    return Identity(op.shape[0], op.static["dtype"]) if op.index.is_identity else None


@rule(
    Identity,
    LinearOperator,
    inside=Product,
    early=True,
    example=lambda g: Identity(2) @ ex.dense(g, 2, 3),
)
def identity_times(eye: Identity, a: LinearOperator) -> LinearOperator | None:
    """I A = A."""
    return a


@rule(
    LinearOperator,
    Identity,
    inside=Product,
    early=True,
    example=lambda g: ex.dense(g, 2, 3) @ Identity(3),
)
def times_identity(a: LinearOperator, eye: Identity) -> LinearOperator | None:
    """A I = A."""
    return a


@rule(
    Product,
    example=lambda g: Product(
        ex.dense(g, 2, 3), Identity(3, torch.complex128), ex.dense(g, 3, 3), ex.dense(g, 3, 3) * 1j
    ),
)
def identity_among_factors(op: Product) -> LinearOperator | None:
    """A I B = A B, where a factor that is not beside I has its dtype."""
    kept = [c for i, c in enumerate(op.children) if not _alone(op.children, i)]
    return Product(*kept) if 0 < len(kept) < len(op.children) else None


def _alone(factors: tuple[LinearOperator, ...], i: int) -> bool:
    """Whether factor i is an identity whose dtype no neighbour has: pairs of factors keep it."""
    eye = factors[i]
    if not isinstance(eye, Identity) or eye.strong_dtype is None:
        return False
    beside = [c.strong_dtype for c in (*factors[max(i - 1, 0) : i], *factors[i + 1 : i + 2])]
    return not any(d is not None and torch.promote_types(d, eye.dtype) == d for d in beside)


@rule(
    Zero,
    LinearOperator,
    inside=Product,
    early=True,
    example=lambda g: Zero(4, 2) @ ex.dense(g, 2, 3),
)
def zero_times(zero: Zero, a: LinearOperator) -> LinearOperator | None:
    """0 A = 0."""
    return Zero(zero.shape[0], a.shape[1], strong(zero, a))


@rule(
    LinearOperator,
    Zero,
    inside=Product,
    early=True,
    example=lambda g: ex.dense(g, 2, 3) @ Zero(3, 4),
)
def times_zero(a: LinearOperator, zero: Zero) -> LinearOperator | None:
    """A 0 = 0."""
    return Zero(a.shape[0], zero.shape[1], strong(a, zero))


@rule(LinearOperator, Zero, inside=Sum, example=lambda g: ex.dense(g, 2, 3) + Zero(2, 3))
def plus_zero(a: LinearOperator, zero: Zero) -> LinearOperator | None:
    """A + 0 = A."""
    return a


@rule(Kronecker, example=lambda g: kron(ex.dense(g, 2, 3), Identity(1), ex.dense(g, 2, 2)))
def kronecker_with_one(op: Kronecker) -> LinearOperator | None:
    """A (x) I_1 = I_1 (x) A = A."""
    kept = [c for c in op.children if not (isinstance(c, Identity) and c.n == 1)]
    return Kronecker(*kept) if 0 < len(kept) < len(op.children) else None


@rule(Kronecker, early=True, example=lambda g: kron(ex.dense(g, 2, 3), Zero(2, 1)))
def kronecker_with_zero(op: Kronecker) -> LinearOperator | None:
    """A (x) 0 = 0."""
    if any(isinstance(c, Zero) for c in op.children):
        return Zero(*op.shape, op.strong_dtype)
    return None


@rule(Identity, Identity, inside=Kronecker, example=lambda g: kron(Identity(2), Identity(3)))
def kronecker_of_identities(a: Identity, b: Identity) -> LinearOperator | None:
    """I_m (x) I_n = I_mn."""
    return Identity(a.n * b.n, strong(a, b))


@rule(Identity, Identity, inside=DirectSum, example=lambda g: direct_sum(Identity(2), Identity(3)))
def direct_sum_of_identities(a: Identity, b: Identity) -> LinearOperator | None:
    """diag(I_m, I_n) = I_(m+n)."""
    return Identity(a.n + b.n, strong(a, b))


@rule(Zero, Zero, inside=DirectSum, example=lambda g: direct_sum(Zero(2, 1), Zero(3, 2)))
def direct_sum_of_zeros(a: Zero, b: Zero) -> LinearOperator | None:
    """diag(0, 0) = 0."""
    return Zero(a.m + b.m, a.n + b.n, strong(a, b))
