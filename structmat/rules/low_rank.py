"""Low-rank matrices stay low-rank under products and sums.

A (U V) = (A U) V and (U V) A = U (V A): one thin product now saves A at every application.
U V + X Y = [U X] [V; Y]: the ranks add, or stay where a factor is shared.
"""

from __future__ import annotations

from structmat.compose import Product, Sum
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Zero
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import add, cat, matmul
from structmat.rules.measure import flops
from structmat.rules.table import rule


def rank_flops(m: int, n: int, r: int) -> int:
    """Flops of U V with U (m, r) and V (r, n)."""
    return r * (m + n) + r * max(n - 1, 0) + m * max(r - 1, 0)


@rule(LowRank, example=lambda g: ex.low_rank(g, 2, 3, 2))
def full_low_rank(op: LowRank) -> LinearOperator | None:
    """U V of full rank is dense."""
    m, n = op.shape
    r = op.rank
    return Dense(matmul(op.left, op.right)) if 0 < m * n <= r * (m + n) else None


@rule(LowRank, example=lambda g: ex.low_rank(g, 2, 3, 0))
def rank_zero(op: LowRank) -> LinearOperator | None:
    """U V of rank 0 is zero."""
    return Zero(*op.shape, op.strong_dtype) if op.rank == 0 else None


@rule(
    LowRank,
    LowRank,
    inside=Product,
    example=lambda g: ex.low_rank(g, 4, 5, 1) @ ex.low_rank(g, 5, 4, 2),
)
def low_rank_times_low_rank(a: LowRank, b: LowRank) -> LinearOperator | None:
    """(U V)(X Y) = U (V X Y) or (U V X) Y, of the smaller rank."""
    core = matmul(a.right, b.left)
    if a.rank < b.rank:
        return LowRank(a.left, matmul(core, b.right))
    return LowRank(matmul(a.left, core), b.right)


@rule(
    LinearOperator,
    LowRank,
    inside=Product,
    example=lambda g: ex.blocks(g, 2, 3, 3) @ ex.low_rank(g, 6, 5, 1),
)
def times_low_rank(a: LinearOperator, b: LowRank) -> LinearOperator | None:
    """A (U V) = (A U) V, where A has arithmetic and A U is cheaper than A and U."""
    after = rank_flops(a.shape[0], b.shape[1], b.rank)
    return LowRank(a @ b.left, b.right) if _pays(a, b, after) else None


@rule(
    LowRank,
    LinearOperator,
    inside=Product,
    example=lambda g: ex.low_rank(g, 4, 6, 1) @ ex.blocks(g, 2, 3, 3),
)
def low_rank_times(a: LowRank, b: LinearOperator) -> LinearOperator | None:
    """(U V) A = U (V A), where A has arithmetic and V A is cheaper than V and A."""
    after = rank_flops(a.shape[0], b.shape[1], a.rank)
    return LowRank(a.left, a.right @ b) if _pays(b, a, after) else None


def _pays(other: LinearOperator, low: LowRank, after: int) -> bool:
    return 0 < flops(other) and after <= flops(other) + flops(low)


@rule(
    Dense,
    Dense,
    inside=Product,
    example=lambda g: ex.dense(g, 4, 1) @ ex.dense(g, 1, 4),
)
def thin_dense_product(a: Dense, b: Dense) -> LinearOperator | None:
    """W V of a tall and a wide dense matrix is low-rank; the two keep their tensors."""
    (m, r), n = a.shape, b.shape[1]
    return LowRank(a.weight, b.weight) if r * (m + n) < m * n else None


@rule(
    LowRank,
    LowRank,
    inside=Sum,
    example=lambda g: ex.low_rank(g, 5, 6, 1) + ex.low_rank(g, 5, 6, 1),
)
def low_rank_plus_low_rank(a: LowRank, b: LowRank) -> LinearOperator | None:
    """U V + X Y = [U X] [V; Y], and U V + U Y = U (V + Y)."""
    if a.left is b.left:
        return LowRank(a.left, add(a.right, b.right))
    if a.right is b.right:
        return LowRank(add(a.left, b.left), a.right)
    if a.left.shape[:-2] != b.left.shape[:-2] or a.right.shape[:-2] != b.right.shape[:-2]:
        return None
    return LowRank(cat([a.left, b.left], -1), cat([a.right, b.right], -2))
