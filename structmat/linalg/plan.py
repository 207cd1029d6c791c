"""How a structured system is solved: a name, a cost, and a function.

:func:`plan` looks at structure only, never at numbers, so that what was chosen once holds for every
operator of that structure, also while torch traces. One file a family registers its methods:
``direct.py``, ``toeplitz.py``, ``low_rank.py``. Where no method is registered the plan is an LU
factorisation of the dense matrix, which is named, and says how large a matrix it makes dense.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from structmat.operator import LinearOperator

__all__ = ["Plan", "dense_plan", "described", "lu_solve", "plan", "solved", "structured", "wide"]


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
    """

    name: str
    run: Callable[[Tensor], Tensor]
    each: tuple[int, int]
    setup: int = 0
    densified: int = 0
    refine: bool = False


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


@singledispatch
def structured(op: LinearOperator) -> Plan | None:
    """The method that the structure of a square ``op`` offers, or None where it offers none."""
    return None


def dense_plan(op: LinearOperator) -> Plan:
    """LU factorisation of the dense matrix."""
    n = op.shape[0]

    def run(b: Tensor) -> Tensor:
        return lu_solve(op._dense(b.dtype, b.device), b)

    return Plan("dense lu", run, lu_counts(n), 2 * n**3 // 3, densified=n)


def plan(op: LinearOperator) -> Plan:
    """The structured method, or else the dense one."""
    return structured(op) or dense_plan(op)


def solved(op: LinearOperator, b: Tensor, how: Plan) -> Tensor:
    """op^-1 b by ``how``, for b (..., n, k) whose leading dimensions broadcast with the batch.

    Dimensions of b that are no batch of the operator become columns: one factorisation serves all.
    """
    batch = op.batch_shape
    strong = op.strong_dtype
    out = b.dtype if strong is None else torch.promote_types(b.dtype, strong)
    b = b.to(wide(out))
    n, k = b.shape[-2:]
    extra = b.shape[: max(b.ndim - 2 - len(batch), 0)]
    if extra:
        lead = b.shape[len(extra) : -2]
        many = math.prod(extra)
        columns = b.reshape(many, *lead, n, k).movedim(0, -2)
        x = _with_refinement(op, how, columns.reshape(*lead, n, many * k))
        x = x.reshape(*x.shape[:-1], many, k).movedim(-2, 0)
        return x.reshape(*extra, *x.shape[1:]).to(out)
    return _with_refinement(op, how, b).to(out)


def _with_refinement(op: LinearOperator, how: Plan, b: Tensor) -> Tensor:
    x = how.run(b)
    return x + how.run(b - op @ x) if how.refine else x
