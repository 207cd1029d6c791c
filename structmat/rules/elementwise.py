"""Elementwise products: simpler operands, and the structure they have."""

from __future__ import annotations

from structmat.compose import Elementwise, elementwise
from structmat.compose.elementwise import survives
from structmat.compose.patterns import met
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.table import rule

HORN = "Horn and Johnson, Topics in matrix analysis, chapter 5"


@rule(
    Elementwise,
    example=lambda g: elementwise(ex.dense(g, 3, 4).T, ex.diagonal(g, 4) @ ex.dense(g, 4, 3)),
)
def elementwise_of_simpler(op: Elementwise) -> LinearOperator | None:
    """The operands of an elementwise product simplify on their own."""
    from structmat.rules.engine import simplify

    parts = [simplify(c) for c in op.children]
    if all(a is b for a, b in zip(parts, op.children, strict=True)) or not survives(*parts):
        return None
    return Elementwise(*parts)


@rule(
    Elementwise,
    source=HORN,
    example=lambda g: elementwise(ex.diagonal(g, 4), ex.butterfly(g, 2)),
)
def elementwise_by_structure(op: Elementwise) -> LinearOperator | None:
    """The elementwise product of structured matrices, where it has a structure."""
    a, b = op.children
    return met(a, b)
