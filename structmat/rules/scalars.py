"""Scalars merge, move outwards, and disappear into the numbers of an operator.

alpha (A B) = (alpha A) B = A (alpha B): of all places that a scalar may stand, inside a stored
tensor is free, and in front of everything comes next. A change of sign costs nothing and stays in
front, so it copies no tensor.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, direct_sum, kron
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Identity, Zero
from structmat.leaves.permutation import reversal
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import mul, times_scalar
from structmat.rules.measure import Weigher, memory
from structmat.rules.table import rule


def product_of(a: Any, b: Any) -> Any:
    """The product of two scalars, each a number or a tensor."""
    return mul(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a * b


def same_scalar(a: Any, b: Any) -> bool:
    """Whether two scalars are the same tensor, or equal numbers."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b
    return bool(a == b)


@rule(Scaled, early=True, example=lambda g: Scaled(2, Scaled(3, ex.dense(g, 2, 3))))
def scaled_scaled(op: Scaled) -> LinearOperator | None:
    """alpha (beta A) = (alpha beta) A."""
    inner = op.children[0]
    if not isinstance(inner, Scaled):
        return None
    return Scaled(product_of(op.alpha, inner.alpha), inner.children[0])


@rule(Scaled, early=True, example=lambda g: Scaled(1, ex.dense(g, 2, 3)))
def scaled_by_one(op: Scaled) -> LinearOperator | None:
    """1 A = A."""
    return op.children[0] if not op.tensors and op.alpha == 1 else None


@rule(Scaled, early=True, example=lambda g: Scaled(0, ex.dense(g, 2, 3)))
def scaled_by_zero(op: Scaled) -> LinearOperator | None:
    """0 A = 0, for the number 0."""
    return Zero(*op.shape, op.strong_dtype) if not op.tensors and op.alpha == 0 else None


@rule(Scaled, early=True, example=lambda g: Scaled(2, Zero(2, 3)))
def scaled_zero(op: Scaled) -> LinearOperator | None:
    """alpha 0 = 0."""
    return Zero(*op.shape, op.strong_dtype) if isinstance(op.children[0], Zero) else None


@rule(Scaled, example=lambda g: Scaled(2, ex.monarch(g, (2, 3, 2), (2, 2, 3))))
def scalar_into_numbers(op: Scaled) -> LinearOperator | None:
    """alpha A, where A has numbers, is A with its smallest tensor scaled."""
    if not op.tensors and op.alpha in (1, -1):
        return None
    return times_scalar(op.alpha, op.children[0])


@rule(Scaled, late=True, example=lambda g: Scaled(2, ex.dense(g, 2, 3) @ ex.shuffle(g, 3)))
def scalar_into_what_is_free(op: Scaled, weigher: Weigher | None = None) -> LinearOperator | None:
    """alpha A, where the smallest tensor of A is used elsewhere too, scales one that is not."""
    if not op.tensors and op.alpha in (1, -1):
        return None
    uses = (weigher or Weigher()).uses
    return times_scalar(op.alpha, op.children[0], lambda t: uses(memory(t)) > 1)


@rule(Product, example=lambda g: Product(ex.dense(g, 5, 2), Scaled(2, reversal(2))))
def scalar_into_factor(op: Product) -> LinearOperator | None:
    """A (alpha B) = (alpha A) B, where A has numbers and B has none."""
    for i, c in enumerate(op.children):
        if isinstance(c, Scaled) and (c.tensors or c.alpha not in (1, -1)):
            rest = Product(*op.children[:i], c.children[0], *op.children[i + 1 :])
            new = times_scalar(c.alpha, rest)
            if new is not None:
                return new
    return None


@rule(Product, example=lambda g: ex.dense(g, 2, 3) @ -ex.dense(g, 3, 2))
def scalar_out_of_product(op: Product) -> LinearOperator | None:
    """A (alpha B) = alpha (A B)."""
    return _first_out(op)


@rule(Kronecker, example=lambda g: kron(ex.dense(g, 2, 3), -ex.dense(g, 3, 2)))
def scalar_out_of_kronecker(op: Kronecker) -> LinearOperator | None:
    """A (x) (alpha B) = alpha (A (x) B)."""
    return _first_out(op)


@rule(Kronecker, example=lambda g: kron(ex.dense(g, 1, 1), ex.monarch(g, (2, 3, 2), (2, 2, 3))))
def kronecker_with_number(op: Kronecker) -> LinearOperator | None:
    """[alpha] (x) A = alpha A."""
    for i, c in enumerate(op.children):
        if isinstance(c, Dense) and c.shape == (1, 1) and len(op.children) > 1:
            rest = (*op.children[:i], *op.children[i + 1 :])
            return Scaled(c.weight[..., 0, 0], rest[0] if len(rest) == 1 else Kronecker(*rest))
    return None


@rule(DirectSum, example=lambda g: direct_sum(2 * reversal(3), 2 * Identity(2)))
def scalar_out_of_direct_sum(op: DirectSum) -> LinearOperator | None:
    """diag(alpha A, alpha B) = alpha diag(A, B)."""
    first = op.children[0]
    if not isinstance(first, Scaled) or not all(
        isinstance(c, Scaled) and same_scalar(c.alpha, first.alpha) for c in op.children
    ):
        return None
    return Scaled(first.alpha, DirectSum(*(c.children[0] for c in op.children)))


@rule(Scaled, Scaled, inside=Sum, example=lambda g: 2 * reversal(3) + 2 * Identity(3))
def scalar_out_of_sum(a: Scaled, b: Scaled) -> LinearOperator | None:
    """alpha A + alpha B = alpha (A + B)."""
    if not same_scalar(a.alpha, b.alpha):
        return None
    return Scaled(a.alpha, Sum(a.children[0], b.children[0]))


def _first_out(op: LinearOperator) -> LinearOperator | None:
    for i, c in enumerate(op.children):
        if isinstance(c, Scaled):
            rest = (*op.children[:i], c.children[0], *op.children[i + 1 :])
            return Scaled(c.alpha, type(op)(*rest))
    return None
