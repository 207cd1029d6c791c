"""What a notebook shows: label, shape, cost, tree and a small picture; everything escaped."""

from __future__ import annotations

import base64
import io
from html import escape
from importlib.util import find_spec

import torch

from structmat.operator import LinearOperator
from structmat.visual.tree import tree

__all__ = ["html"]

PICTURE = 1 << 26
"""Operators with more entries than this are shown without a picture."""


def html(op: LinearOperator) -> str:
    """A fragment of HTML; without matplotlib, and with symbolic sizes, it has no picture.

    Args:
        op: the expression.

    Example:
        >>> import structmat as sm
        >>> from structmat.visual import html
        >>> "3 × 3" in html(sm.Identity(3))
        True
    """
    m, n = op.shape
    cost = op.cost()
    dtype = str(op.dtype).removeprefix("torch.")
    batch = "".join(f"{b} × " for b in op.batch_shape)
    facts = [
        ("shape", f"{batch}{m} × {n}"),
        ("dtype", dtype),
        ("device", "none yet" if op.symbolic else str(op.device)),
        ("parameters", _thousands(cost.params)),
        ("flops per vector", _thousands(cost.flops)),
    ]
    cells = "".join(
        f'<span style="margin-right:1.5em;display:inline-block">'
        f'<span style="opacity:.6">{escape(k)}</span> '
        f"{escape(v)}</span>"
        for k, v in facts
    )
    return (
        '<div style="max-width:60em">'
        f'<div style="font-weight:600;margin-bottom:.3em">{escape(_short(op._label()))}</div>'
        f'<div style="margin-bottom:.5em">{cells}</div>'
        f"{_picture(op)}"
        f'<details open><summary style="cursor:pointer;opacity:.6">tree</summary>'
        f'<pre style="line-height:1.25;margin:.3em 0;overflow-x:auto">{escape(tree(op))}</pre>'
        "</details></div>"
    )


def _thousands(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _short(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _picture(op: LinearOperator) -> str:
    m, n = op.shape
    if find_spec("matplotlib") is None or op.symbolic or not 0 < m * n <= PICTURE:
        return ""
    from structmat.visual.figure import draw

    out = io.BytesIO()
    with torch.no_grad():
        figure = draw(op, None, True, small=True)
    figure.savefig(out, format="png", dpi=figure.dpi)
    data = base64.b64encode(out.getvalue()).decode()
    return (
        f'<img alt="where the entries are" style="max-width:100%;display:block" '
        f'src="data:image/png;base64,{data}">'
    )
