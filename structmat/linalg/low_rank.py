"""Low-rank updates of what is easily solved.

    (A + U V)^-1 = A^-1 - A^-1 U (I + V A^-1 U)^-1 V A^-1

of Sherman, Morrison and Woodbury (Hager, Updating the inverse of a matrix, 1989). Cost: one solve
with A a column, r more for U, and an r x r system.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from structmat.compose import Kronecker, KroneckerSum, Scaled, Sum
from structmat.leaves.dense import LowRank
from structmat.linalg.plan import (
    Plan,
    dense_fallback,
    described,
    lu_counts,
    lu_solve,
    structured,
    with_fallbacks,
)
from structmat.linalg.shifts import powers_plan, shifted_structure, sparse_sum
from structmat.linalg.spectral import shifted_plan, split_shift
from structmat.operator import LinearOperator

__all__ = ["split_low_rank"]


def split_low_rank(op: Sum) -> tuple[LinearOperator, Tensor, Tensor] | None:
    """(A, U, V) with op = A + U V, the thin terms gathered; None where there are none."""
    rest, left, right = [], [], []
    dtype = op.dtype
    for c in op.children:
        alpha = 1
        term = c
        while isinstance(term, Scaled) and not term.tensors:
            alpha, term = alpha * term.alpha, term.children[0]
        if isinstance(term, LowRank):
            left.append(term.left.to(dtype) * alpha)
            right.append(term.right.to(dtype))
        else:
            rest.append(c)
    if not left or not rest:
        return None
    base = rest[0] if len(rest) == 1 else Sum(*rest)
    return base, _cat(left, -1), _cat(right, -2)


def _cat(parts: list[Tensor], dim: int) -> Tensor:
    lead = torch.broadcast_shapes(*(p.shape[:-2] for p in parts))
    return torch.cat([p.expand(*lead, *p.shape[-2:]) for p in parts], dim)


def _without_low_rank(op: Sum) -> Plan | None:
    """By a structure that takes up the identity, by powers that return, or as a sparse matrix."""
    moved = shifted_structure(op)
    how = None if moved is None else structured(moved)
    if how is not None:
        return how
    shifted = split_shift(op)
    if shifted is not None and isinstance(shifted[1], Kronecker | KroneckerSum):
        how = shifted_plan(op, shifted[1])
    how = how or powers_plan(op)
    sparse = sparse_sum(op) if how is None else None
    return how if sparse is None else structured(sparse)


@structured.register
def _(op: Sum) -> Plan | None:
    if len(op.children) == 1:
        return structured(op.children[0])
    found = split_low_rank(op)
    if found is None:
        return _without_low_rank(op)
    base, u, v = found
    inner = structured(base)
    n, r = op.shape[0], u.shape[-1]
    if inner is None or inner.name == "none" or 2 * r > n:
        return None

    def build(plans: Sequence[Plan]) -> Plan:
        (inner,) = plans

        def run(b: Tensor) -> Tensor:
            left, right = u.to(b.dtype), v.to(b.dtype)
            lead = torch.broadcast_shapes(left.shape[:-2], b.shape[:-2])
            both = [t.expand(*lead, *t.shape[-2:]) for t in (left, b)]
            solved = inner.run(torch.cat(both, -1))
            au, ab = solved[..., :r], solved[..., r:]
            small = torch.eye(r, dtype=b.dtype, device=b.device) + right @ au
            return ab - au @ lu_solve(small, right @ ab)

        small = lu_counts(r)
        mults = inner.each[0] + 2 * r * n + small[0]
        adds = inner.each[1] + r * max(n - 1, 0) + n * r + small[1]
        return Plan(
            described("woodbury", [inner.name]),
            run,
            (mults, adds),
            inner.setup + r * sum(inner.each) + 2 * r * r * n,
            inner.densified,
            refine=True,
        )

    # A may be regular where what is updated is not
    return with_fallbacks(build, [inner], dense_fallback(op))
