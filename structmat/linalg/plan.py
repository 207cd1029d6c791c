"""How a structured system is solved: a name, a cost, and a function.

:func:`plan` looks at structure only, never at numbers, so that what was chosen once holds for every
operator of that structure, also while torch traces. One file a family registers its methods:
``direct.py``, ``toeplitz.py``, ``low_rank.py``. Where no method is registered the plan is an LU
factorisation of the dense matrix, which is named, and says how large a matrix it makes dense.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import Tensor

from structmat.linalg.result import SingularError
from structmat.operator import LinearOperator

__all__ = [
    "DENSE",
    "Plan",
    "alternatives",
    "cast",
    "dense_fallback",
    "dense_plan",
    "described",
    "factorisation",
    "fastest",
    "folded",
    "lu_solve",
    "plan",
    "singular",
    "solved",
    "structured",
    "transposed",
    "wide",
    "with_fallbacks",
]

DENSE = 2048
"""The largest matrix that becomes dense without being asked for."""


@dataclass(frozen=True)
class Plan:
    """A direct method for A x = b.

    Attributes:
        name: of the method.
        run: columns b (..., n, k) to A^-1 b, differentiable; the dtype of b is that of the system.
        each: (products, sums) for one column, after what the columns share.
        setup: operations that the columns share, such as a factorisation.
        densified: side of the largest matrix that is made dense although it is not stored so.
        refine: whether one step of iterative refinement pays.
        fallback: what to do where ``run`` raises :class:`SingularError` although A is regular.
        time: columns to about how many seconds, where methods compete whose operations are not of
            one speed.
        accurate: whether it is more exact than factors of the dense matrix.
    """

    name: str
    run: Callable[[Tensor], Tensor]
    each: tuple[int, int]
    setup: int = 0
    densified: int = 0
    refine: bool = False
    fallback: Plan | None = None
    time: Callable[[int], float] | None = None
    accurate: bool = False

    def robust(self, b: Tensor) -> Tensor:
        """``run``, or what stands in for it where its numbers do not allow it."""
        if self.fallback is None:
            return self.run(b)
        try:
            return self.run(b)
        except SingularError:
            return self.fallback.robust(b)


def described(how: str, names: Iterable[str]) -> str:
    """``"how (name; name)"``, each name once."""
    inner = "; ".join(dict.fromkeys(names))
    return f"{how} ({inner})" if inner else how


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a system of ``dtype`` is solved: 16 bits are too few."""
    return torch.promote_types(dtype, torch.complex64 if dtype.is_complex else torch.float32)


def lu_solve(a: Tensor, b: Tensor) -> Tensor:
    """a^-1 b for matrices a (..., n, n) and columns b (..., n, k); leading dimensions broadcast."""
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out: Tensor = torch.linalg.solve(a.to(b.dtype), b.expand(*lead, *b.shape[-2:]))
    return out


def lu_counts(n: int) -> tuple[int, int]:
    """(products, sums) of two triangular solves."""
    return n * n, n * max(n - 1, 0)


def with_fallbacks(
    build: Callable[[Sequence[Plan]], Plan], plans: Sequence[Plan], last: Plan | None = None
) -> Plan:
    """A plan made of others, whose fallback is made of theirs; ``last`` is what comes after."""
    made = build(plans)
    if all(p.fallback is None for p in plans):
        return made if last is None else replace(made, fallback=last)
    return replace(made, fallback=with_fallbacks(build, [p.fallback or p for p in plans], last))


@singledispatch
def structured(op: LinearOperator) -> Plan | None:
    """The method that the structure of a square ``op`` offers, or None where it offers none."""
    return None


@singledispatch
def alternatives(op: LinearOperator) -> list[Plan]:
    """Every structured method of a square ``op``; which one is cheaper depends on the columns."""
    found = structured(op)
    return [] if found is None else [found]


def fastest(plans: Sequence[Plan], k: int) -> Plan:
    """The plan of the least time for k columns where all tell it, else of the least operations."""
    times = [p.time(k) for p in plans if p.time is not None]
    if len(times) < len(plans):
        times = [float(p.setup + k * sum(p.each)) for p in plans]
    return plans[times.index(min(times))]


def cast(op: LinearOperator, b: Tensor) -> LinearOperator:
    """The operator in the precision of b, real if it is real."""
    dtype = b.dtype if op.dtype.is_complex else b.real.dtype
    return op if op.dtype == dtype else op.to(dtype)


@singledispatch
def transposed(op: LinearOperator) -> Plan | None:
    """The method of the transpose of a square ``op``."""
    return structured(op._turned())


def singular(op: LinearOperator, why: str) -> Plan:
    """What the structure alone shows to have no solution."""

    def run(b: Tensor) -> Tensor:
        raise SingularError(f"{op._label()} is singular: {why}")

    return Plan("none", run, (0, 0))


factorisation: list[Callable[[LinearOperator], Plan | None]] = []
"""What knows a factorisation of a dense matrix that is cheaper than LU; ``factorised.py`` does."""


def dense_plan(op: LinearOperator) -> Plan:
    """A factorisation of the dense matrix: LU, where nothing better is known."""
    n = op.shape[0]
    for find in factorisation:
        found = find(op)
        if found is not None:
            return found

    def run(b: Tensor) -> Tensor:
        return lu_solve(op._dense(b.dtype, b.device), b)

    return Plan("dense lu", run, lu_counts(n), 2 * n**3 // 3, densified=n)


def dense_fallback(op: LinearOperator) -> Plan | None:
    """:func:`dense_plan`, where the matrix may become dense without being asked for."""
    return dense_plan(op) if op.shape[0] <= DENSE else None


def plan(op: LinearOperator) -> Plan:
    """The structured method, or else the dense one."""
    return structured(op) or dense_plan(op)


def solved(op: LinearOperator, b: Tensor, how: Plan) -> Tensor:
    """op^-1 b by ``how``, for b (..., n, k) whose leading dimensions broadcast with the batch."""
    strong = op.strong_dtype
    out = b.dtype if strong is None else torch.promote_types(b.dtype, strong)

    def run(b: Tensor) -> Tensor:
        if b.numel() == 0:  # FFT libraries refuse to do nothing
            lead = torch.broadcast_shapes(op.batch_shape, b.shape[:-2])
            return b.expand(*lead, *b.shape[-2:])
        x = how.robust(b)
        # a part without entries brings no batch of its own
        lead = torch.broadcast_shapes(op.batch_shape, x.shape[:-2])
        x = x.expand(*lead, *x.shape[-2:])
        return x + how.robust(b - op @ x) if how.refine else x

    return folded(op, b.to(wide(out)), run).to(out)


def folded(op: LinearOperator, b: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """``run`` on columns: dimensions of b that are no batch of the operator become columns.

    One factorisation, one iteration, serves all.
    """
    many = b.shape[: max(b.ndim - 2 - len(op.batch_shape), 0)]
    if not many:
        return run(b)
    lead, k, count = b.shape[len(many) : -2], b.shape[-1], math.prod(many)
    columns = b.reshape(count, *lead, *b.shape[-2:]).movedim(0, -2)
    x = run(columns.reshape(*lead, b.shape[-2], count * k))
    x = x.reshape(*x.shape[:-1], count, k).movedim(-2, 0)
    return x.reshape(*many, *x.shape[1:])
