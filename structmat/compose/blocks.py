"""Block matrices of lazy blocks.

    [[A, B],   [x]   [A x + B y]
     [C, D]]   [y] = [C x + D y]

Blocks of one row have one height, blocks of one column one width. Cost: the sum of the blocks'
costs and one sum of m_i entries for every further nonzero block of row i; zero blocks cost
nothing. x is cut into its parts once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Zero
from structmat.operator import LinearOperator, as_tensor

__all__ = ["Block", "block", "hstack", "vstack"]


class Block(LinearOperator):
    """A matrix of blocks, as :func:`structmat.block` writes it.

    Args:
        rows: rows of blocks, each of the same number of blocks. A block is an operator, a tensor
            or array (which becomes :class:`structmat.Dense`), or 0 or None for a zero block whose
            shape follows from its neighbours.

    Raises:
        TypeError: a block is none of these.
        ValueError: no blocks, rows of different lengths, heights or widths that differ, a zero
            block of unknown shape.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Block([[sm.Identity(2), torch.ones(2, 1)], [0, sm.Identity(1)]]).to_dense()
        tensor([[1., 0., 1.],
                [0., 1., 1.],
                [0., 0., 1.]])
    """

    grid: tuple[int, int]

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        children, grid = _filled(rows)
        self._init({}, children, {"grid": grid})
        self._check()

    def _check(self) -> None:
        heights, widths = self.heights, self.widths
        for i, row in enumerate(self.rows()):
            for j, c in enumerate(row):
                if c.shape[0] != heights[i]:
                    raise ValueError(
                        f"block: block ({i}, {j}), {c._label()} of shape {c.shape}, needs "
                        f"{heights[i]} rows like block ({i}, 0), {row[0]._label()} of shape "
                        f"{row[0].shape}"
                    )
                if c.shape[1] != widths[j]:
                    top = self.children[j]
                    raise ValueError(
                        f"block: block ({i}, {j}), {c._label()} of shape {c.shape}, needs "
                        f"{widths[j]} columns like block (0, {j}), {top._label()} of shape "
                        f"{top.shape}"
                    )

    @property
    def heights(self) -> tuple[int, ...]:
        """The number of rows of each row of blocks."""
        return tuple(c.shape[0] for c in self.children[:: self.grid[1]])

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of columns of each column of blocks."""
        return tuple(c.shape[1] for c in self.children[: self.grid[1]])

    def rows(self) -> Iterator[tuple[LinearOperator, ...]]:
        """The rows of blocks, from the top.

        Yields:
            The blocks of one row.
        """
        p, q = self.grid
        for i in range(p):
            yield self.children[i * q : (i + 1) * q]

    def _shape(self) -> tuple[int, int]:
        return sum(self.heights), sum(self.widths)

    def _lower(self, g: Builder, x: Any) -> Any:
        parts, start, n = [], 0, self.shape[1]
        for width in self.widths:
            parts.append(g.slice(x, n, start, start + width))
            start += width
        out = []
        for height, row in zip(self.heights, self.rows(), strict=True):
            terms = [c._lower(g, v) for c, v in zip(row, parts, strict=True) if acts(c)]
            out.append(g.add(terms) if terms else g.zeros(x, height))
        return g.concat(out, self.heights)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        blocks = [[c._dense(dtype, device) for c in row] for row in self.rows()]
        lead = torch.broadcast_shapes(*(b.shape[:-2] for row in blocks for b in row))
        whole = [torch.cat([b.expand(*lead, *b.shape[-2:]) for b in row], -1) for row in blocks]
        return torch.cat(whole, -2)

    def _transpose(self) -> LinearOperator:
        return Block([[c.T for c in column] for column in zip(*self.rows(), strict=True)])

    def _label(self) -> str:
        rows = (f"[{', '.join(c._label() for c in row)}]" for row in self.rows())
        return f"block([{', '.join(rows)}])"


def acts(op: LinearOperator) -> bool:
    """Whether a block has anything to add: it is no zero block and not empty."""
    zero = isinstance(op, Zero) or getattr(op, "family", None) == "Zero"  # of symbolic size
    return not zero and 0 not in op.shape


def _filled(rows: Any) -> tuple[list[LinearOperator], tuple[int, int]]:
    """The blocks row by row with zeros of the right shapes, and the numbers of rows and columns."""
    if not isinstance(rows, list | tuple) or not all(isinstance(r, list | tuple) for r in rows):
        raise TypeError("block needs a list of rows, each a list of blocks: [[A, B], [C, D]]")
    if not rows or not all(rows):
        raise ValueError("block needs at least one block in every row, got an empty list")
    q = len(rows[0])
    for i, row in enumerate(rows):
        if len(row) != q:
            raise ValueError(
                f"block: row 0 has {q} blocks, row {i} has {len(row)}; "
                "write 0 where a block is zero"
            )
    blocks = [[_wrapped(b, i, j) for j, b in enumerate(row)] for i, row in enumerate(rows)]
    heights = [_first(row, 0) for row in blocks]
    widths = [_first(column, 1) for column in zip(*blocks, strict=True)]
    out: list[LinearOperator] = []
    for i, row in enumerate(blocks):
        for j, b in enumerate(row):
            m, n = heights[i], widths[j]
            if b is None and (m is None or n is None):
                what = f"row {i}" if m is None else f"column {j}"
                raise ValueError(
                    f"block: the shape of zero block ({i}, {j}) is unknown, "
                    f"{what} has no other block; write sm.Zero(m, n)"
                )
            out.append(Zero(m or 0, n or 0) if b is None else b)
    return out, (len(rows), q)


def _wrapped(b: Any, i: int, j: int) -> LinearOperator | None:
    """An operator; None for a zero block."""
    if isinstance(b, LinearOperator) or b is None:
        return b
    if isinstance(b, int | float) and b == 0:
        return None
    if not hasattr(b, "shape"):
        raise TypeError(
            f"block: block ({i}, {j}) is {type(b).__name__}; "
            "needs an operator, a matrix, or 0 for a zero block"
        )
    return Dense(as_tensor(b, f"block: block ({i}, {j})", 2))


def _first(line: Sequence[LinearOperator | None], side: int) -> int | None:
    return next((b.shape[side] for b in line if b is not None), None)


def block(rows: Sequence[Any]) -> Block:
    """The block matrix of operators; see :class:`Block`.

    Args:
        rows: rows of blocks: operators, matrices, or 0 for zero blocks. A flat list is one row, as
            in ``numpy.block``.

    Raises:
        TypeError: a block is none of these.
        ValueError: no blocks, rows of different lengths, heights or widths that differ, a zero
            block of unknown shape.

    Example:
        >>> import structmat as sm
        >>> sm.block([[sm.Identity(2), sm.reversal(2)], [0, sm.Zero(3, 2)]]).shape
        (5, 4)
    """
    if isinstance(rows, list | tuple) and rows and not isinstance(rows[0], list | tuple):
        rows = [rows]
    return Block(rows)


def hstack(*ops: Any) -> Block:
    """[A, B, ...]: blocks of one height side by side; see :class:`Block`.

    Args:
        *ops: operators or matrices; or one list of them, as in ``numpy.hstack``.

    Raises:
        TypeError: a block is neither.
        ValueError: no blocks, or different heights.

    Example:
        >>> import torch, structmat as sm
        >>> sm.hstack(sm.Identity(2), sm.reversal(2))(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor([5., 5.])
    """
    return Block([_given(ops)])


def vstack(*ops: Any) -> Block:
    """[A; B; ...]: blocks of one width on top of each other; see :class:`Block`.

    Args:
        *ops: operators or matrices; or one list of them, as in ``numpy.vstack``.

    Raises:
        TypeError: a block is neither.
        ValueError: no blocks, or different widths.

    Example:
        >>> import torch, structmat as sm
        >>> sm.vstack(sm.Identity(2), sm.reversal(2))(torch.tensor([1.0, 2.0]))
        tensor([1., 2., 2., 1.])
    """
    return Block([[op] for op in _given(ops)])


def _given(ops: tuple[Any, ...]) -> list[Any]:
    one = len(ops) == 1 and isinstance(ops[0], list | tuple)
    return list(ops[0] if one else ops)
