"""Pictures of supports with matplotlib; imported when something is drawn."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from structmat.compose import Block, Kronecker, Sum
from structmat.operator import LinearOperator
from structmat.visual.paint import Image, colour, paint
from structmat.visual.support import Part, Support, factors

__all__ = ["SpyFigure", "draw"]

DPI = 120
GREY = "#495057"
A_ROW = 6
"""Panels side by side."""
MOST_PANELS = 24
MOST_LINES = 256
CELL = 7
"""Entries of at least this many pixels show their borders."""
GAP, ABOVE, EDGE = 0.3, 0.4, 0.14
"""Inches between panels, above them for the title, and beside them."""


class SpyFigure(Figure):
    """A figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png", dpi=self.dpi)
        return out.getvalue()


@dataclass(frozen=True)
class _Panel:
    """A painted factor and its size in inches."""

    part: Part
    width: float
    height: float
    image: Image
    found: list[Support]

    @property
    def slot(self) -> float:
        """Inches it takes: its title may be wider than it is."""
        return max(self.width, 0.075 * len(self.part.title))

    @property
    def cell(self) -> float:
        """Pixels of the shorter side of an entry."""
        m, n = self.part.op.shape
        return DPI * min(self.width / max(n, 1), self.height / max(m, 1))


def draw(op: LinearOperator, ax: Any, split: bool, small: bool = False) -> Figure:
    """See :meth:`structmat.LinearOperator.spy`.

    Args:
        op: a concrete operator.
        ax: axes for one panel, or None for a new figure.
        split: one panel for each factor.
        small: a strip for a notebook's summary.
    """
    whole = Part(op, type(op).__name__)
    if ax is not None:
        box = ax.get_window_extent()
        one = _painted(whole, box.width / DPI, box.height / DPI)
        _show(ax, one, one.cell >= CELL, 8)
        _legend(ax, [one], 6, (0.5, -0.02), "upper center")
        return ax.figure  # type: ignore[no-any-return]
    parts = factors(op) if split else [whole]
    parts = parts if len(parts) <= MOST_PANELS else [whole]
    side = 1.6 if small else min(3.4, 10.5 / min(len(parts), A_ROW))
    tall = max(p.op.shape[0] for p in parts) or 1
    panels = [_painted(p, *_inches(p.op, tall, side)) for p in parts]
    return _strip([panels[i : i + A_ROW] for i in range(0, len(panels), A_ROW)], small)


def _inches(op: LinearOperator, tall: int, side: float) -> tuple[float, float]:
    """Width and height: true to scale, but never thinner than can be seen."""
    m, n = op.shape
    w, h = (float(np.clip(size / tall * side, side / 12, 2.5 * side)) for size in (n, m))
    return w, h


def _painted(part: Part, width: float, height: float) -> _Panel:
    image, found = paint(part.op, (round(height * DPI), round(width * DPI)), part.family)
    return _Panel(part, width, height, image, found)


def _strip(rows: Sequence[Sequence[_Panel]], small: bool) -> Figure:
    """The panels of a chain in lines, with a dot between factors and the legend below."""
    panels = [p for row in rows for p in row]
    lines = [sum(p.slot for p in row) + GAP * (len(row) - 1) for row in rows]
    width = max(2.4, max(lines) + 2 * EDGE)
    families = {s.family for p in panels for s in p.found}
    columns = max(1, min(int(width / 1.1), len(families)))
    below = EDGE + 0.18 * -(-len(families) // columns)
    height = below + sum(ABOVE + max(p.height for p in row) for row in rows)
    figure = SpyFigure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    grid = not small and min(p.cell for p in panels) >= CELL
    y = height
    for row, line in zip(rows, lines, strict=True):
        tall = max(p.height for p in row)
        y -= ABOVE + tall
        x = (width - line) / 2
        for p in row:
            bottom = y + (tall - p.height) / 2
            left = x + (p.slot - p.width) / 2
            box = (left / width, bottom / height, p.width / width, p.height / height)
            _show(figure.add_axes(box), p, grid, 6.5 if small else 8)
            if p is not panels[0]:
                at = ((x - GAP / 2) / width, (y + tall / 2) / height)
                figure.text(*at, "·", ha="center", va="center", fontsize=16, color=GREY)
            x += p.slot + GAP
    _legend(figure, panels, columns, (0.5, 0.0), "lower center")
    return figure


def _show(ax: Any, panel: _Panel, grid: bool, fontsize: float) -> None:
    op = panel.part.op
    m, n = op.shape
    extent = (0, max(n, 1), max(m, 1), 0)
    ax.imshow(panel.image, extent=extent, interpolation="nearest", aspect="auto")
    if grid:
        _lines(ax, _grid(m, n, 1, 1), 0.5)
    if isinstance(op, Kronecker) and len(op.children) > 1:
        rows, columns = Kronecker(*op.children[1:]).shape
        if m <= 32 * rows and n <= 32 * columns:
            _lines(ax, _grid(m, n, rows, columns), 1.2)
    if isinstance(op, Block):
        _lines(ax, _between(op), 0.8, "#adb5bd")
    for one in panel.found[-1:] if isinstance(op, Sum) else panel.found:  # terms lie over others
        boxes = one.boxes
        tall, wide = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
        large = boxes[(tall > max(m / 64, 1)) & (wide > max(n / 64, 1))]
        if 1 < len(large) <= MOST_LINES:
            _lines(ax, [_border(*box) for box in large.tolist()], 1.0)
    ax.set_xlim(0, max(n, 1))
    ax.set_ylim(max(m, 1), 0)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color("#adb5bd")
        spine.set_linewidth(0.8)
    ax.set_title(f"{panel.part.title}\n{m}×{n}", fontsize=fontsize, color=GREY, pad=3)


def _lines(ax: Any, segments: list[Any], width: float, ink: str = "white") -> None:
    ax.add_collection(LineCollection(segments, colors=ink, linewidths=width))


def _between(op: Block) -> list[Any]:
    """Lines between the blocks."""
    m, n = op.shape
    across = [[(0, i), (n, i)] for i in itertools.accumulate(op.heights[:-1])]
    return across + [[(j, 0), (j, m)] for j in itertools.accumulate(op.widths[:-1])]


def _grid(m: int, n: int, rows: int, columns: int) -> list[Any]:
    """Lines after every so many rows and columns."""
    if not rows or not columns or m // rows + n // columns > MOST_LINES:
        return []
    across = [[(0, i), (n, i)] for i in range(rows, m, rows)]
    return across + [[(j, 0), (j, m)] for j in range(columns, n, columns)]


def _border(top: int, bottom: int, left: int, right: int) -> list[tuple[int, int]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def _legend(
    where: Any, panels: list[_Panel], columns: int, anchor: tuple[float, float], place: str
) -> None:
    families = list(dict.fromkeys(s.family for p in panels for s in p.found))
    if not families:
        return
    where.legend(
        handles=[Patch(color=colour(f), label=f) for f in families],
        loc=place,
        bbox_to_anchor=anchor,
        ncols=columns,
        frameon=False,
        fontsize=7,
        handlelength=0.9,
        handleheight=0.9,
        columnspacing=1.2,
        borderaxespad=0.2,
    )
