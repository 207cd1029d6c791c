"""Upper bounds of the rank: it adds over sums and direct sums, multiplies over Kronecker products,
and a product has at most the rank of each factor.
"""

from __future__ import annotations

from functools import singledispatch
from math import prod

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import MonarchChain
from structmat.leaves.dense import LowRank
from structmat.leaves.diagonal import Zero
from structmat.leaves.monarch import Monarch
from structmat.operator import LinearOperator
from structmat.properties.logic import need_operator

__all__ = ["rank", "rank_bound"]


def rank_bound(op: LinearOperator) -> int:
    """An upper bound of the rank, from structure alone.

    Args:
        op: the operator.

    Returns:
        At most min(m, n); it bounds the rank of every matrix of a batch.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.LowRank(torch.ones(6, 2), torch.ones(2, 6))
        >>> sm.rank_bound(A + A), sm.rank_bound(A @ sm.DFT(6)), sm.rank_bound(sm.kron(A, A))
        (4, 2, 4)
    """
    need_operator("rank_bound", op)
    return min(*op.shape, rank(op))


@singledispatch
def rank(op: LinearOperator) -> int:
    """:func:`rank_bound` by class; min(m, n) for an unknown class."""
    return min(op.shape)


@rank.register
def _(op: Zero) -> int:
    return 0


@rank.register
def _(op: LowRank) -> int:
    r: int = op.left.shape[-1]
    return r


@rank.register
def _(op: BlockDiagonal) -> int:
    k, q, p = op.blocks.shape[-3:]
    return k * min(q, p)


@rank.register
def _(op: KroneckerSparse) -> int:
    a, b, c, d = op.pattern
    return a * min(b, c) * d


@rank.register
def _(op: Monarch) -> int:
    return min(map(rank, op.factors()))


@rank.register(Product)
@rank.register(MonarchChain)
def _(op: LinearOperator) -> int:
    return min(map(rank_bound, op.children))


@rank.register(Sum)
@rank.register(DirectSum)
def _(op: LinearOperator) -> int:
    return sum(map(rank_bound, op.children))


@rank.register
def _(op: Kronecker) -> int:
    return prod(map(rank_bound, op.children))


@rank.register
def _(op: Scaled) -> int:
    return 0 if not op.tensors and op.alpha == 0 else rank_bound(op.children[0])


@rank.register
def _(op: Transpose) -> int:
    return rank_bound(op.children[0])
