"""Expressions as trees of text, with the shape and the cost of every node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from structmat.compose import Scaled
from structmat.operator import LinearOperator

__all__ = ["label", "tree"]


def tree(op: LinearOperator, ascii: bool = False) -> str:
    """One line a node: what it is, its shape, its parameters, its flops for one vector.

    Args:
        op: the expression, concrete or with symbolic sizes.
        ascii: draw the lines with ASCII characters.

    A leaf whose tensors all stood in a line above is marked as shared, and its parameters count
    there.

    Example:
        >>> import torch, structmat as sm
        >>> from structmat.visual import tree
        >>> D = sm.Diagonal(torch.ones(2))
        >>> print(tree(D @ sm.reversal(2) @ D, ascii=True))
        operator                                shape  params  flops
        Product                                   2x2       2      4
        |- Diagonal(2)                            2x2       2      2
        |- Permutation(affine(1*i + 1 mod 2))     2x2       0      0
        `- Diagonal(2)                            2x2  shared      2
    """
    rows: list[tuple[str, str, str, str]] = [("operator", "shape", "params", "flops")]
    seen: set[int] = set()
    for prefix, node in _walk(op, "", "", ascii):
        own = list(node.parameters())
        old = bool(own) and not node.children and all(id(t) in seen for t in own)
        if not node.children:
            seen.update(map(id, own))
        cost = node.cost()
        params = "shared" if old else str(cost.params)
        rows.append((prefix + label(node), _shape(node, ascii), params, str(cost.flops)))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = (
        f"{row[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def label(op: LinearOperator) -> str:
    """What a node is called in a tree: a leaf by its label, a combinator by its class."""
    if isinstance(op, Scaled):
        return "tensor *" if isinstance(op.alpha, Tensor) else f"{op.alpha:g} *"
    if op.children:
        return type(op).__name__
    m, n = op.shape
    return op._label().removesuffix(f"({m}x{n})")


def _shape(op: LinearOperator, ascii: bool) -> str:
    times = "x" if ascii else "×"
    batch: tuple[Any, ...] = op.batch_shape
    m, n = op.shape
    lead = f"{times.join(map(str, batch))} of " if batch else ""
    return f"{lead}{m}{times}{n}"


def _walk(
    op: LinearOperator, first: str, rest: str, ascii: bool
) -> Iterator[tuple[str, LinearOperator]]:
    yield first, op
    fork, last, bar = ("|- ", "`- ", "|  ") if ascii else ("├─ ", "└─ ", "│  ")
    for i, c in enumerate(op.children):
        end = i == len(op.children) - 1
        yield from _walk(c, rest + (last if end else fork), rest + ("   " if end else bar), ascii)
