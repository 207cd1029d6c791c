"""Sums of matrices of low displacement rank, and of state-space systems: generators and states add.

Sources: Pan, Structured matrices and polynomials (2001), section 1.5; Kailath, Linear systems
(1980), section 2.1.
"""

from __future__ import annotations

import torch

from structmat.compose import Sum
from structmat.leaves.displacement import LowDisplacementRank, beside
from structmat.leaves.statespace import StateSpace
from structmat.leaves.toeplitz import join
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import add
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


def _system(g: torch.Generator, states: int) -> StateSpace:
    a, b, c = (ex.ints(g, states) for _ in range(3))
    return StateSpace(a, b, c, 1.0, 5, diagonal=True)


@rule(
    StateSpace,
    StateSpace,
    inside=Sum,
    source="Kailath, Linear systems (1980), section 2.1",
    exact=False,
    example=lambda g: _system(g, 2) + _system(g, 3),
)
def systems_in_parallel(a: StateSpace, b: StateSpace) -> LinearOperator | None:
    """Systems with diagonal A add: their states stand side by side, D + D'."""
    if a.static != b.static or a.kind != "diagonal":
        return None
    tensors = {k: join(a.tensors[k], b.tensors[k]) for k in "ABC"}
    direct = [x.tensors["D"] for x in (a, b) if "D" in x.tensors]
    if direct:
        tensors["D"] = add(*direct) if len(direct) == 2 else direct[0]
    return a._replace(tensors, (), a.static)
