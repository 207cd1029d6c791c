"""What of an inverse can be made once: A^-1 in words, on tensors that all vectors share.

A :class:`structmat.linalg.plan.Plan` is a function from right-hand sides to solutions, and does
all of its work at every call. A :class:`Form` divides it: tensors made from the numbers of A, as
its LU factors are, and the words of :mod:`structmat.builder` that act on a vector with them. Those
are what ``sm.compile`` records, so that the tensors are made again only when the numbers change.

    any A             LU factors of the dense matrix          n^2 products a vector
    triangular A      its own dense entries, substitution     n^2 / 2

One file a family registers more. :func:`words` takes the form with the fewest operations a vector,
or the plan itself, called as it is, where its setup and COLUMNS vectors cost less than those of the
form, or where it is more exact: a sparse matrix is not made dense. Nor is any matrix with more than
``DENSE`` rows, unless its plan does that as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Any

from torch import Tensor

from structmat.builder import Builder, Words
from structmat.compose import Transpose
from structmat.leaves.dense import Dense
from structmat.linalg.inverse import Inverse, inverse_of
from structmat.linalg.plan import DENSE, plan, wide
from structmat.operator import LinearOperator
from structmat.primitives.solve import How, Solve, factored
from structmat.properties import is_triangular

__all__ = ["COLUMNS", "Form", "forms", "inverted", "refined", "words"]

COLUMNS = 64
"""How many vectors a call is taken to have where a form and a plan are compared."""


@dataclass(frozen=True)
class Form:
    """A^-1 in words.

    Attributes:
        name: of the method.
        lower: builder and x to A^-1 x; makes the tensors.
        each: (products, sums) for one vector.
        setup: operations that make the tensors.
        densified: side of the largest matrix that is made dense although it is not stored so.
    """

    name: str
    lower: Callable[[Builder, Any], Any]
    each: tuple[int, int]
    setup: int = 0
    densified: int = 0


@singledispatch
def forms(op: LinearOperator) -> list[Form]:
    """The forms that the structure of a square ``op`` offers, besides those of a dense matrix."""
    return []


def dense_form(op: LinearOperator) -> Form:
    """Factors of the dense matrix."""
    n = op.shape[0]
    densified = 0 if isinstance(op, Dense) else n
    how: How = "lu"
    if is_triangular(op, "lower"):
        how = "lower"
    elif is_triangular(op, "upper"):
        how = "upper"
    solve = Solve(n, how)
    each = solve.operations(False)
    if how != "lu":
        substitute = partial(_applied, solve, lambda: _entries(op))
        return Form("substitution", substitute, each, densified=densified)
    act = partial(_applied, solve, lambda: factored(_entries(op)))
    return Form("lu factors", act, each, 2 * n**3 // 3, densified)


def _applied(solve: Solve, values: Callable[[], Tensor], g: Builder, x: Any) -> Any:
    return g.apply(x, solve, values())


def _entries(op: LinearOperator) -> Tensor:
    """The matrix, with its batch and in its own dtype."""
    return op.weight if isinstance(op, Dense) else op._dense(op.dtype, op.device)


def inverted(op: LinearOperator) -> LinearOperator:
    """A^-1 inside the form of another inverse: closed forms first."""
    return inverse_of(op).simplify()


def refined(each: tuple[int, int], op: LinearOperator) -> tuple[int, int]:
    """The operations of a solution that is refined once, where one that is not needs ``each``."""
    mults, adds = op.operations()
    n = op.shape[0]
    return 2 * each[0] + mults + n, 2 * each[1] + adds + n


def words(op: LinearOperator) -> Words:
    """How the inverse of ``op`` compiles; a function of the structure."""
    while isinstance(op, Transpose):
        op = op.children[0]._turned()
    pushed = inverse_of(op)
    if not isinstance(pushed, Inverse):
        return Words("the inverses of its parts", pushed._lower)
    how, n = plan(op), op.shape[0]
    name = f"{how.name}, at every call"
    if op.dtype != wide(op.dtype):
        return Words(f"{name}: factors in {op.dtype} would not be exact enough to keep")
    if how.name == "none" or how.accurate:
        return Words(name)
    found = forms(op)
    if n <= DENSE or how.densified == n or isinstance(op, Dense):
        found = [*found, dense_form(op)]
    best = min(found, key=lambda f: (sum(f.each), f.setup), default=None)
    each = refined(how.each, op) if how.refine else how.each
    if best is None or how.setup + COLUMNS * sum(each) < COLUMNS * sum(best.each):
        return Words(_noted(name, how.densified))
    made = f"{best.name}, made when its numbers change"
    return Words(_noted(made, best.densified), best.lower)


def _noted(text: str, side: int) -> str:
    return f"{text}; makes the {side} x {side} matrix dense" if side else text
