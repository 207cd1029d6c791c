"""Transposes move to the leaves, where they are free: a leaf's transpose is a leaf.

(A B)^T = B^T A^T, and everything else transposes part by part. Adjoints need no rule:
``A.H`` conjugates the tensors and transposes.
"""

from __future__ import annotations

from structmat.compose import (
    Block,
    DirectSum,
    Elementwise,
    Kronecker,
    KroneckerSum,
    Product,
    Scaled,
    Sum,
    Transpose,
    direct_sum,
    elementwise,
    hstack,
    kron,
    kron_sum,
)
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.table import rule

COMPOSITE = (
    Product,
    Sum,
    Scaled,
    Kronecker,
    DirectSum,
    Block,
    KroneckerSum,
    Elementwise,
    Transpose,
)


@rule(Transpose, example=lambda g: Transpose(Transpose(ex.dense(g, 2, 3))))
def transpose_of_transpose(op: Transpose) -> LinearOperator | None:
    """(A^T)^T = A."""
    inner = op.children[0]
    return inner.children[0] if isinstance(inner, Transpose) else None


@rule(Transpose, example=lambda g: (ex.dense(g, 2, 3) @ ex.dense(g, 3, 4)).T)
def transpose_of_product(op: Transpose) -> LinearOperator | None:
    """(A B)^T = B^T A^T."""
    return _pushed(op, Product)


@rule(Transpose, example=lambda g: (ex.dense(g, 2, 3) + ex.low_rank(g, 2, 3, 1)).T)
def transpose_of_sum(op: Transpose) -> LinearOperator | None:
    """(A + B)^T = A^T + B^T."""
    return _pushed(op, Sum)


@rule(Transpose, example=lambda g: (3 * ex.dense(g, 2, 3)).T)
def transpose_of_scaled(op: Transpose) -> LinearOperator | None:
    """(alpha A)^T = alpha A^T."""
    return _pushed(op, Scaled)


@rule(
    Transpose,
    source="Van Loan, The ubiquitous Kronecker product (2000), section 1",
    example=lambda g: kron(ex.dense(g, 2, 3), ex.dense(g, 3, 1)).T,
)
def transpose_of_kronecker(op: Transpose) -> LinearOperator | None:
    """(A (x) B)^T = A^T (x) B^T."""
    return _pushed(op, Kronecker)


@rule(Transpose, example=lambda g: direct_sum(ex.dense(g, 2, 3), ex.dense(g, 3, 1)).T)
def transpose_of_direct_sum(op: Transpose) -> LinearOperator | None:
    """diag(A, B)^T = diag(A^T, B^T)."""
    return _pushed(op, DirectSum)


@rule(Transpose, example=lambda g: hstack(ex.dense(g, 2, 3), ex.low_rank(g, 2, 3, 1)).T)
def transpose_of_block(op: Transpose) -> LinearOperator | None:
    """[A B; C D]^T = [A^T C^T; B^T D^T]."""
    return _pushed(op, Block)


@rule(Transpose, example=lambda g: kron_sum(ex.dense(g, 2, 2), ex.low_rank(g, 3, 3, 1)).T)
def transpose_of_kronecker_sum(op: Transpose) -> LinearOperator | None:
    """(A (+) B)^T = A^T (+) B^T."""
    return _pushed(op, KroneckerSum)


@rule(Transpose, example=lambda g: elementwise(ex.low_rank(g, 2, 3, 1), ex.dense(g, 2, 3)).T)
def transpose_of_elementwise(op: Transpose) -> LinearOperator | None:
    """(A o B)^T = A^T o B^T."""
    return _pushed(op, Elementwise)


@rule(Transpose, example=lambda g: ex.butterfly(g, 2).T)
def transpose_of_leaf(op: Transpose) -> LinearOperator | None:
    """The transpose of a leaf is a leaf on the transposed tensors; a diagonal is its own."""
    inner = op.children[0]
    composite = isinstance(inner, COMPOSITE)
    return None if composite else inner._turned()


def _pushed(op: Transpose, kind: type[LinearOperator]) -> LinearOperator | None:
    inner = op.children[0]
    return inner._transpose() if isinstance(inner, kind) else None
