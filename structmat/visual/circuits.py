"""Flow graphs of circuits with matplotlib: levels from left to right, one row for a kept value.

A gate takes the row of a value that it is the last to read, as an algorithm in place would, and a
value holds its row until then: butterflies look like butterflies, and an edge over several levels
runs along the row of its value, which is free, before it turns into its gate. Which gate takes
which row is an assignment with the least distance to the values read, level by level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import linear_sum_assignment

from structmat.circuit.core import ZERO
from structmat.circuit.levels import Integers
from structmat.visual.figure import DPI, GREY, SpyFigure

if TYPE_CHECKING:
    from structmat.circuit.core import Circuit

__all__ = ["MOST_ROWS", "MOST_WIRES", "draw", "rows"]

MOST_ROWS, MOST_WIRES = 64, 2048
"""Beyond these, lines are too close to be told apart."""
STEP, ROW = 1.05, 0.3
"""Inches between levels and between rows."""
COLOURS = ("#1c7ed6", "#e8590c", "#2b8a3e", "#9c36b5", "#0b7285", "#c2255c", "#846358", "#f08c00")
OTHER = "#1c7ed6"

Kind = tuple[str, str, bool]
"""Name in the legend, colour, whether dashed."""


def rows(c: Circuit) -> Integers:
    """(nodes,), a row for each node, held by no other from its level until it is read last."""
    row = np.arange(c.nodes, dtype=np.int64)
    kept = [
        int(((c.level < s) & (c.last_level > s)).sum()) + int((c.level == s).sum())
        for s in range(c.depth + 1)
    ]
    count = max(kept, default=0)
    for step in range(1, c.depth + 1):
        a, b = int(c.levels[step]), int(c.levels[step + 1])
        held = row[np.flatnonzero((c.level < step) & (c.last_level > step))]
        free = np.setdiff1d(np.arange(count), held)
        i, j = int(c.starts[a - c.n]), int(c.starts[b - c.n])
        distance = np.abs(free[None] - row[c.tails[i:j]][:, None])
        cost = np.minimum.reduceat(distance, c.starts[a - c.n : b - c.n] - i, axis=0)
        # among equals, gates in their order; too small to outweigh a distance
        order = np.outer(np.arange(b - a), free) / (4.0 * count * count * count + 1)
        gate, place = linear_sum_assignment(cost - order)
        row[a + gate] = free[place]
    return row


def draw(c: Circuit, ax: Any) -> Figure:
    """See :meth:`structmat.circuit.Circuit.plot`."""
    if c.wires > MOST_WIRES or max(c.width, c.n) > MOST_ROWS:
        raise ValueError(
            f"Circuit.plot: {c.wires} wires and {max(c.width, c.n)} rows are more than a picture "
            f"can tell apart ({MOST_WIRES} and {MOST_ROWS}); c.spy() draws the layers"
        )
    row = rows(c)
    kinds, which = _kinds(c)
    figure: Figure = ax.figure if ax is not None else _figure(c, row, len(kinds))
    ax = figure.axes[0] if ax is None else ax
    x, y = c.level[: c.nodes].astype(float), row.astype(float)
    tail, head = c.tails, c.heads
    bends = np.stack(
        [
            np.stack([x[tail], y[tail]], -1),
            np.stack([np.maximum(x[head] - 1, x[tail]), y[tail]], -1),
            np.stack([x[head], y[head]], -1),
        ],
        1,
    )
    for k, (_, colour, dashed) in enumerate(kinds):
        lines = LineCollection(
            list(bends[which == k]),
            colors=colour,
            linestyles="--" if dashed else "-",
            linewidths=1.1,
            gid="wires",
        )
        ax.add_collection(lines)
    _ends(ax, c, x, y)
    ax.scatter(x[: c.n], y[: c.n], s=18, c="white", edgecolors=GREY, zorder=3, gid="inputs")
    ax.scatter(x[c.n :], y[c.n :], s=18, c=GREY, zorder=3, gid="gates")
    ax.set_xlim(-0.6, c.depth + 0.9)
    ax.set_ylim(max(row.max(initial=0), 0) + 0.7, -0.7)
    ax.axis("off")
    m, n = c.shape
    title = f"{m}×{n}: {c.adds} additions, {c.mults} products, depth {c.depth}"
    ax.set_title(title, fontsize=8, color=GREY)
    if kinds:
        ax.legend(
            handles=[
                Line2D([], [], color=colour, linestyle="--" if dashed else "-", label=name)
                for name, colour, dashed in kinds
            ],
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            ncols=_columns(c),
            frameon=False,
            fontsize=7,
            handlelength=2.2,
        )
    return figure


def _columns(c: Circuit) -> int:
    """Entries of the legend side by side."""
    return max(2, int((c.depth + 1.5) * STEP / 1.3))


def _figure(c: Circuit, row: Integers, kinds: int) -> Figure:
    below = 0.25 + 0.17 * -(-kinds // _columns(c))
    above, tall = 0.3, ROW * (int(row.max(initial=0)) + 1.4)
    width, height = max(3.0, STEP * (c.depth + 1.5)), above + tall + below
    figure = SpyFigure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.add_axes((0.0, below / height, 1.0, tall / height))
    return figure


def _ends(ax: Any, c: Circuit, x: Any, y: Any) -> None:
    """Names of inputs and outputs, and the rows of outputs that are early."""
    for i in range(c.n):
        ax.text(-0.12, y[i], f"x{i}", ha="right", va="center", fontsize=7.5, color=GREY)
    end = float(c.depth)
    named: dict[int, list[str]] = {}
    for o, node in enumerate(c.outputs.tolist()):
        named.setdefault(node, []).append(f"y{o}")
    zero = named.pop(ZERO, [])
    for node, names in named.items():
        label = ", ".join(names)
        ax.text(end + 0.12, y[node], label, ha="left", va="center", fontsize=7.5, color=GREY)
    early = [[(x[k], y[k]), (end, y[k])] for k in named if x[k] < end]
    ax.add_collection(
        LineCollection(early, colors="#adb5bd", linestyles=":", linewidths=1.0, gid="outputs")
    )
    if zero:
        ax.text(
            0.99,
            0.0,
            f"{', '.join(zero)} = 0",
            ha="right",
            va="bottom",
            fontsize=7,
            color=GREY,
            transform=ax.transAxes,
        )


def _kinds(c: Circuit) -> tuple[list[Kind], Integers]:
    """The kinds of weights, and that of each edge; w and -w have one colour."""
    w = np.array([_rounded(v) for v in c.constants().astype(complex).tolist()], dtype=complex)
    minus = (w.real < 0) | ((w.real == 0) & (w.imag < 0))
    size = np.where(minus, -w, w) + 0.0
    different = sorted(set(size[np.isfinite(size) & (size != 1)].tolist()), key=_order)
    many = len(different) > len(COLOURS)
    kinds: list[Kind] = []
    which = np.zeros(c.wires, dtype=np.int64)

    def add(name: str, colour: str, dashed: bool, edges: Any) -> None:
        if edges.any():
            which[edges] = len(kinds)
            kinds.append((name, colour, dashed))

    add("1", GREY, False, (size == 1) & ~minus)
    add("-1", "#e03131", True, (size == 1) & minus)
    if many:
        rest = np.isfinite(size) & (size != 1)
        add(f"others ({len(different)} up to sign)", OTHER, False, rest & ~minus)
        add("others, negative", OTHER, True, rest & minus)
    else:
        for value, colour in zip(different, COLOURS, strict=False):
            text = _text(value)
            add(text, colour, False, (size == value) & ~minus)
            add(
                f"-({text})" if "+" in text or " " in text else f"-{text}",
                colour,
                True,
                (size == value) & minus,
            )
    add("differs in the batch", "#f08c00", False, ~np.isfinite(size))
    return kinds, which


def _rounded(value: complex) -> complex:
    """Six digits of the modulus: what rounding made different has one colour."""
    if value in (1, -1) or not np.isfinite(value) or value == 0:
        return value
    digits = 5 - int(np.floor(np.log10(abs(value))))
    return complex(round(value.real, digits) + 0.0, round(value.imag, digits) + 0.0)


def _order(value: complex) -> tuple[float, float]:
    return value.real, value.imag


def _text(value: complex) -> str:
    if value.imag == 0:
        return f"{value.real:.4g}"
    unit = "" if abs(value.imag) == 1 else f"{abs(value.imag):.4g}"
    if value.real == 0:
        return f"{unit}i"
    return f"{value.real:.4g} {'+' if value.imag > 0 else '-'} {unit}i"
