"""Seeing an expression: formula, tree, picture, notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from structmat.operator import LinearOperator
from structmat.visual.html import html
from structmat.visual.latex import latex
from structmat.visual.tree import tree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from structmat.circuit.core import Circuit

__all__ = ["flow_graph", "html", "latex", "spy", "tree"]


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


def flow_graph(c: Circuit, ax: Any = None) -> Figure:
    """Draw a circuit level by level; see :meth:`structmat.circuit.Circuit.plot`.

    Args:
        c: the circuit.
        ax: axes to draw into; by default a new figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the circuit is too large to be read.
    """
    try:
        from structmat.visual.circuits import draw
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ImportError(
            "c.plot() draws with matplotlib, which is not installed: pip install 'structmat[plot]'"
        ) from error
    return draw(c, ax)
