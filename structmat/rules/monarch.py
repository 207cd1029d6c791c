"""Monarch matrices: recognised in P^T L P R, and kept Monarch under block-diagonal neighbours.

P^T diag(L) P is KroneckerSparse(1, s, r, l) (rule ``conjugation``), and
KroneckerSparse(1, s, r, l) KroneckerSparse(k, q, p, 1) with l r = k q is the Monarch matrix with
left L and right R: the same numbers, one operator (Dao et al., Monarch, 2022).
"""

from __future__ import annotations

from structmat.compose import Product
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import MonarchChain
from structmat.leaves.dense import LowRank
from structmat.leaves.monarch import Monarch
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import matmul
from structmat.rules.blocks import Factor, values_of
from structmat.rules.permutations import MONARCH
from structmat.rules.table import rule


def _monarch(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """From (1, s, r, l) and (k, q, p, 1)."""
    left, right = values_of(a), values_of(b)
    if left.shape[-4] != 1 or left.shape[-1] == 1 or right.shape[-4] == 1 or right.shape[-1] != 1:
        return None
    blocks = b.blocks if isinstance(b, BlockDiagonal) else right[..., 0]
    return Monarch(left[..., 0, :, :, :].movedim(-1, -3), blocks)


@rule(
    KroneckerSparse,
    BlockDiagonal,
    inside=Product,
    source=MONARCH,
    example=lambda g: ex.factor(g, 1, 3, 2, 4) @ ex.blocks(g, 2, 4, 3),
)
def monarch_recognised(a: KroneckerSparse, b: BlockDiagonal) -> LinearOperator | None:
    """P^T diag(L) P diag(R) is the Monarch matrix of L and R."""
    return _monarch(a, b)


@rule(
    MonarchChain,
    source=MONARCH,
    example=lambda g: ex.chain(g, (1, 3, 2, 4), (2, 4, 3, 1)),
)
def chain_of_two(op: MonarchChain) -> LinearOperator | None:
    """The chain (1, s, r, l)(k, q, p, 1) is a Monarch matrix."""
    factors = op.factors()
    return _monarch(*factors) if len(factors) == 2 else None


@rule(MonarchChain, example=lambda g: ex.chain(g, (2, 2, 3, 2)))
def chain_of_one(op: MonarchChain) -> LinearOperator | None:
    """A chain of one factor is that factor."""
    return op.children[0] if len(op.children) == 1 else None


@rule(MonarchChain, example=lambda g: ex.chain(g, (1, 4, 1, 1), (1, 1, 5, 1)))
def chain_of_dense(op: MonarchChain) -> LinearOperator | None:
    """The chain (1, m, r, 1)(1, r, n, 1) is low-rank."""
    factors = op.factors()
    if len(factors) != 2 or any(f.pattern[0] != 1 or f.pattern[3] != 1 for f in factors):
        return None
    left, right = (f.values[..., 0, :, :, 0] for f in factors)
    return LowRank(left, right)


@rule(
    Product,
    example=lambda g: ex.butterfly(g, 3) @ ex.chain(g, (1, 2, 2, 4), (2, 2, 2, 2)),
)
def chain_opens(op: Product) -> LinearOperator | None:
    """A (B C) = A B C: a chain inside a product shows its factors to its neighbours."""
    if not any(isinstance(c, MonarchChain) for c in op.children):
        return None
    opened = ((c.children if isinstance(c, MonarchChain) else (c,)) for c in op.children)
    return Product(*(factor for group in opened for factor in group))


@rule(
    Factor,
    Monarch,
    inside=Product,
    source=MONARCH,
    example=lambda g: ex.factor(g, 1, 2, 3, 2) @ ex.monarch(g, (2, 3, 2), (2, 2, 3)),
)
def factor_into_left(a: LinearOperator, b: Monarch) -> LinearOperator | None:
    """P^T diag(A_i) P times Monarch(L, R) is Monarch(A L, R), where that is smaller."""
    values = values_of(a)
    one, t, s, l = values.shape[-4:]
    blocks, _, r = b.left.shape[-3:]
    if one != 1 or l != blocks or t * r > s * (t + r):
        return None
    return Monarch(matmul(values[..., 0, :, :, :].movedim(-1, -3), b.left), b.right)


@rule(
    Monarch,
    Factor,
    inside=Product,
    source=MONARCH,
    example=lambda g: ex.monarch(g, (2, 3, 2), (2, 2, 3)) @ ex.blocks(g, 2, 3, 2),
)
def factor_into_right(a: Monarch, b: LinearOperator) -> LinearOperator | None:
    """Monarch(L, R) diag(B_i) = Monarch(L, R B), where that is smaller."""
    values = values_of(b)
    k, p, t, one = values.shape[-4:]
    blocks, q, _ = a.right.shape[-3:]
    if one != 1 or k != blocks or q * t > p * (q + t):
        return None
    return Monarch(a.left, matmul(a.right, values[..., 0]))
