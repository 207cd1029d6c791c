"""Seeing an expression: formula, tree, picture, notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from structmat.operator import LinearOperator
from structmat.visual.html import html
from structmat.visual.latex import latex
from structmat.visual.tree import tree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["html", "latex", "spy", "tree"]


def spy(op: LinearOperator, ax: Any = None, factors: bool = True) -> Figure:
    """Draw where the entries of an operator are; see :meth:`structmat.LinearOperator.spy`.

    Args:
        op: the operator.
        ax: axes for one picture of the whole; by default a new figure.
        factors: one panel for each factor.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: sizes are symbols.
    """
    op._require_numbers()
    try:
        from structmat.visual.figure import draw
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ImportError(
            "A.spy() draws with matplotlib, which is not installed: pip install 'structmat[plot]'; "
            "A.tree() and A.latex() need nothing"
        ) from error
    return draw(op, ax, factors)
