"""Systems of Toeplitz and Hankel matrices: which of several methods, and what if it fails.

    levinson             Levinson's recursion, for each column
    gohberg-semencul     the inverse from its first and last column, applied by Fourier transforms
    gko                  elimination of generators, where a leading minor is almost singular
    dense lu             where the matrix is small

(:mod:`structmat.linalg.levinson`, :mod:`structmat.linalg.gko`.) All but the last take O(n^2) time.
They are compared by time and not by operations (:mod:`structmat.linalg.times`). A Hankel matrix is
H = T J, the columns of a Toeplitz matrix reversed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz
from structmat.linalg.displacement import gko_plan
from structmat.linalg.implicit import Solver, implicitly
from structmat.linalg.levinson import gohberg_semencul, levinson
from structmat.linalg.plan import (
    DENSE,
    Plan,
    alternatives,
    cast,
    dense_plan,
    fastest,
    structured,
    with_fallbacks,
)
from structmat.linalg.times import (
    dense_time,
    elimination_time,
    ends_time,
    fourier_time,
    levinson_time,
)
from structmat.operator import LinearOperator

__all__ = ["reversed_columns", "toeplitz_plans"]


def toeplitz_plans(op: Toeplitz) -> list[Plan]:
    """Levinson, Gohberg-Semencul and elimination, with about how long each takes."""
    n = op.shape[0]
    many, cpu = math.prod(op.batch_shape), op.device.type == "cpu"
    last = gko_plan(op, 2)

    def solving(solver: Solver) -> Callable[[Tensor], Tensor]:
        return lambda b: implicitly(cast(op, b), b, solver) if b.numel() else b

    def columns(k: int) -> float:
        return 2 * (levinson_time(n, k, many, cpu) + fourier_time(n, k, many, cpu))

    def inverse(k: int) -> float:
        return ends_time(n, many, cpu) + 10 * fourier_time(n, k, many, cpu)

    def elimination(k: int) -> float:
        return 2 * (elimination_time(n, k, many, cpu) + fourier_time(n, k, many, cpu))

    product = Circulant(op.c, 0).operations()
    each = 4 * product[0] + n, 4 * product[1] + n
    square = 3 * n * n, 3 * n * n
    return [
        Plan("levinson", solving(levinson), square, 0, 0, True, last, columns),
        Plan(
            "gohberg-semencul",
            solving(gohberg_semencul),
            each,
            2 * sum(square),
            fallback=last,
            time=inverse,
        ),
        replace(last, time=elimination),
    ]


def _with_dense(op: LinearOperator, plans: list[Plan], many: int) -> list[Plan]:
    """Also LU of the dense matrix, where how long it takes was measured."""
    n = op.shape[0]
    if op.device.type != "cpu" or n > DENSE:
        return plans
    return [*plans, replace(dense_plan(op), time=lambda k: dense_time(n, k, many))]


@structured.register
def _(op: Toeplitz) -> Plan | None:
    if op.shape[0] != op.shape[1] or op.shape[0] == 0:
        return None
    return fastest(toeplitz_plans(op), 1)


@alternatives.register
def _(op: Toeplitz) -> list[Plan]:
    if op.shape[0] != op.shape[1] or op.shape[0] == 0:
        return []
    return _with_dense(op, toeplitz_plans(op), math.prod(op.batch_shape))


def reversed_columns(op: Hankel) -> Toeplitz:
    """T with H = T J: the columns of H reversed."""
    n = op.shape[0]
    h = op._antidiagonals()
    return Toeplitz(h[..., n - 1 :], h[..., :n].flip(-1))


def _hankel_plan(inner: Plan) -> Plan:
    """x = J T^-1 b."""

    def build(plans: Sequence[Plan]) -> Plan:
        (inner,) = plans
        return replace(inner, run=lambda b: inner.run(b).flip(-2), fallback=None)

    return with_fallbacks(build, [inner])


@structured.register
def _(op: Hankel) -> Plan | None:
    n = op.shape[0]
    if n != op.shape[1] or n == 0:
        return None
    return _hankel_plan(fastest(toeplitz_plans(reversed_columns(op)), 1))


@alternatives.register
def _(op: Hankel) -> list[Plan]:
    n = op.shape[0]
    if n != op.shape[1] or n == 0:
        return []
    plans = [_hankel_plan(p) for p in toeplitz_plans(reversed_columns(op))]
    return _with_dense(op, plans, math.prod(op.batch_shape))
