"""Diagonals merge with each other and fold into the numbers next to them.

diag(d) A scales the rows of A, A diag(d) its columns; a diagonal passes a permutation by having
its entries permuted: diag(d) P = P diag(P^T d).
"""

from __future__ import annotations

from structmat.compose import Block, DirectSum, Product, Sum, direct_sum
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation, cyclic_shift
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import cat, scale_columns, scale_rows
from structmat.rules.table import rule

Numbers = (
    Diagonal,
    Dense,
    BlockDiagonal,
    KroneckerSparse,
    LowRank,
    Monarch,
    MonarchChain,
    Butterfly,
    Sparse,
    BlockSparse,
    DirectSum,
    Block,
    Sum,
)


@rule(Diagonal, Numbers, inside=Product, example=lambda g: ex.diagonal(g, 8) @ ex.butterfly(g, 3))
def diagonal_into_rows(d: Diagonal, a: LinearOperator) -> LinearOperator | None:
    """diag(d) A is A with its rows scaled."""
    return scale_rows(d.d, a)


@rule(Numbers, Diagonal, inside=Product, example=lambda g: ex.dense(g, 2, 4) @ ex.diagonal(g, 4))
def diagonal_into_columns(a: LinearOperator, d: Diagonal) -> LinearOperator | None:
    """A diag(d) is A with its columns scaled."""
    return scale_columns(a, d.d)


@rule(
    Diagonal,
    Permutation,
    Numbers,
    inside=Product,
    example=lambda g: ex.diagonal(g, 4) @ cyclic_shift(4) @ ex.diagonal(g, 4),
)
def diagonal_past_permutation(
    d: Diagonal, p: Permutation, a: LinearOperator
) -> LinearOperator | None:
    """diag(d) P A = P diag(P^T d) A, which folds into A."""
    new = scale_rows(p._transpose()(d.d), a)
    return None if new is None else Product(p, new)


@rule(
    Numbers,
    Permutation,
    Diagonal,
    inside=Product,
    example=lambda g: ex.dense(g, 2, 4) @ cyclic_shift(4) @ ex.diagonal(g, 4),
)
def permutation_past_diagonal(
    a: LinearOperator, p: Permutation, d: Diagonal
) -> LinearOperator | None:
    """A P diag(d) = A diag(P d) P, which folds into A."""
    new = scale_columns(a, p(d.d))
    return None if new is None else Product(new, p)


@rule(
    Permutation,
    Diagonal,
    Permutation,
    inside=Product,
    example=lambda g: cyclic_shift(4, 1) @ ex.diagonal(g, 4) @ cyclic_shift(4, -1),
)
def diagonal_conjugated(p: Permutation, d: Diagonal, q: Permutation) -> LinearOperator | None:
    """P diag(d) P^T = diag(P d)."""
    return Diagonal(p(d.d)) if q.index == p.index.inverse() else None


@rule(
    Diagonal,
    Diagonal,
    inside=DirectSum,
    example=lambda g: direct_sum(ex.diagonal(g, 2), ex.diagonal(g, 3)),
)
def direct_sum_of_diagonals(a: Diagonal, b: Diagonal) -> LinearOperator | None:
    """diag(diag(d), diag(e)) = diag(d, e)."""
    return Diagonal(cat([a.d, b.d], -1)) if a.batch_shape == b.batch_shape else None
