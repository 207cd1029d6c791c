"""Matrices of low displacement rank: their sums, and what their generators take in.

Source: Pan, Structured matrices and polynomials (2001), section 1.5.
"""

from __future__ import annotations

import torch

from structmat.compose import Sum
from structmat.leaves.displacement import LowDisplacementRank, beside
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.table import rule


def _displaced(g: torch.Generator, n: int, r: int) -> LowDisplacementRank:
    return LowDisplacementRank(ex.ints(g, n, r), ex.ints(g, r, n))


@rule(
    LowDisplacementRank,
    LowDisplacementRank,
    inside=Sum,
    source="Pan, Structured matrices and polynomials (2001), theorem 1.5.1",
    exact=False,
    example=lambda g: _displaced(g, 6, 2) + _displaced(g, 6, 1),
)
def displacement_ranks_add(a: LowDisplacementRank, b: LowDisplacementRank) -> LinearOperator | None:
    """Z_f M - M Z_-f = G H and Z_f N - N Z_-f = K L: M + N has the generators (G, K), (H; L)."""
    if a.f != b.f:
        return None
    return LowDisplacementRank(beside(a.left, b.left, -1), beside(a.right, b.right, -2), a.f)
