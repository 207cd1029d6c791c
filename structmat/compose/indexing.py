"""Indexing as NumPy does it, on lazy matrices: ``A[i:j, k:l]``, ``A[rows]``, ``A[i]``, ``A[i, j]``.

A slice or a list in a dimension keeps it, an integer drops it. What keeps both dimensions is a lazy
operator (a product with selections, see :mod:`structmat.compose.selection`). What drops one is a
tensor of shape batch_shape + (m,) or (n,); what drops both has shape batch_shape. Rows and columns
are computed by applying the simplified slice to a unit vector, entries by their formula where the
structure has one; A is never made dense.

Two index lists pair up, as in NumPy: ``A[[0, 1], [2, 3]]`` is the tensor of the entries (0, 2) and
(1, 3). The submatrix of these rows and columns is ``A[np.ix_([0, 1], [2, 3])]``, an operator.
Batch dimensions are not indexed. Sides and bounds may be symbols: a slice then keeps its bounds as
they are, where their order is proved.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from structmat.compose.basic import Product
from structmat.compose.selection import Selection
from structmat.gather import Gather
from structmat.operator import LinearOperator
from structmat.sizes import has_symbols, symbols_of
from structmat.tracing import need_static, of_numbers, whole

__all__ = ["index", "row_and_column"]

Part = Gather | int
AT_ONCE = 64
"""How many entries are read by one product where they have no formula."""


class _Indexed(Protocol):
    """What is indexed, as errors call it."""

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""

    def _label(self) -> str:
        """Its name."""


@dataclass(frozen=True)
class _Stated:
    """What is indexed while Dynamo traces, which calls functions of numbers only."""

    name: str
    shape: tuple[int, int]

    def _label(self) -> str:
        return self.name


def index(op: LinearOperator, key: Any) -> LinearOperator | Tensor:
    """``op[key]``; see :meth:`structmat.LinearOperator.__getitem__`."""
    if torch.compiler.is_dynamo_compiling():
        op._require_numbers()
    else:
        sides = row_and_column(op, key)
        if op.symbolic or any(map(_has_symbols, sides)):
            return _symbolic(op, *sides)
    pairs, rows, columns = _places(op, key)
    gathers = [
        p if isinstance(p, Gather) else Gather.of([p], n)
        for p, n in zip((rows, columns), op.shape, strict=True)
    ]
    if pairs:
        return _entries(op, *(Selection(g, g.size) for g in gathers))
    if not isinstance(rows, Gather) and not isinstance(columns, Gather):
        return _entries(op, *(Selection(g, g.size) for g in gathers))[..., 0]
    cut = _sliced(op, *gathers)
    if isinstance(rows, Gather) and isinstance(columns, Gather):
        return cut
    return _column(cut if isinstance(rows, Gather) else cut.T)


def _places(op: LinearOperator, key: Any) -> tuple[bool, Part, Part]:
    """Whether two index lists pair up; the rows and the columns that a key means."""
    if not torch.compiler.is_dynamo_compiling():
        return _read(op, key)
    for part in key if isinstance(key, tuple) else (key,):
        need_static(f"{type(op).__name__}[...]: an index", part)
    return _read_numbers(type(op).__name__, op.shape, key)


@of_numbers
def _read_numbers(name: str, shape: tuple[int, int], key: Any) -> tuple[bool, Part, Part]:
    return _read(_Stated(name, shape), key)


def _read(op: _Indexed, key: Any) -> tuple[bool, Part, Part]:
    rows, columns = row_and_column(op, key)
    pairs = _pairs(op, rows, columns)
    if pairs is not None:
        return pairs
    return False, _part(op, rows, 0), _part(op, columns, 1)


def _sliced(op: LinearOperator, rows: Gather, columns: Gather) -> LinearOperator:
    parts: list[LinearOperator] = [op]
    if not rows.is_identity:
        parts.insert(0, Selection(rows, rows.size))
    if not columns.is_identity:
        parts.append(Selection(columns, columns.size)._transpose())
    return parts[0] if len(parts) == 1 else Product(*parts)


def _has_symbols(key: Any) -> bool:
    parts = (key.start, key.stop, key.step) if isinstance(key, slice) else (key,)
    return any(bool(symbols_of(p)) for p in parts)


def _symbolic(op: LinearOperator, rows: Any, columns: Any) -> LinearOperator:
    """The slice of a matrix with symbols in its sides, its bounds or inside."""
    parts = [op]
    for side, key in enumerate((rows, columns)):
        drops = not isinstance(key, slice | list | range)
        if drops or not any(isinstance(k, slice) for k in (rows, columns)):
            op._require_numbers()
            raise TypeError(
                f"{_named(op)}: {key} has no number; with symbols, rows and columns are slices "
                "A[i:j, k:l]"
            )
        cut: LinearOperator | None
        if not has_symbols(op.shape[side]) and not _has_symbols(key):
            gather = _part(op, key, side)
            assert isinstance(gather, Gather)
            cut = None if gather.is_identity else Selection(gather, gather.size)
        else:
            cut = _run(op, key, side)
        if cut is not None:
            parts = [*parts, cut._transpose()] if side else [cut, *parts]
    return parts[0] if len(parts) == 1 else Product(*parts)


def _run(op: LinearOperator, key: Any, side: int) -> LinearOperator | None:
    """The selection of a slice with symbols; None where it keeps everything.

    Raises:
        TypeError: a list of positions, or a step other than 1.
        ValueError: 0 <= start <= stop <= n is not proved, or wrong.
    """
    from structmat.sized.families import Selection as Run
    from structmat.sized.order import at_most

    n, name = op.shape[side], ("row", "column")[side]
    if not isinstance(key, slice) or key.step not in (None, 1):
        op._require_numbers()
        raise TypeError(
            f"{_named(op)}: with symbols, {name}s are a slice i:j without a step, not {key}"
        )
    bounds = [0 if key.start is None else key.start, n if key.stop is None else key.stop]
    if not all(isinstance(b, int) or has_symbols(b) for b in bounds):
        raise TypeError(f"{_named(op)}: {key} is no slice of {name}s; bounds are sizes")
    start, stop = (b + n if at_most(b, -1) else b for b in bounds)
    for low, high in ((0, start), (start, stop), (stop, n)):
        known = at_most(low, high)
        if known:
            continue
        needed = f"{_named(op)}: {name}s {start}:{stop} need 0 <= {start} <= {stop} <= {n}"
        if known is False:
            raise ValueError(f"{needed}, and {low} > {high}")
        cut = f"sm.sized.Selection({n}, {start}, {stop})"
        way = f"A @ {cut}.T" if side else f"{cut} @ A"
        names = "=..., ".join(sorted(map(str, symbols_of(low, high))))
        raise ValueError(
            f"{needed}; whether {low} <= {high} is not known: write one symbol by the other, as "
            f"n = k + sm.dim('rest'), or give numbers first, A.bind({names}=...), or {way} checks "
            "when numbers come"
        )
    return None if start == 0 and at_most(n, stop) else Run(n, start, stop)


@whole
def _column(op: LinearOperator) -> Tensor:
    """The one column of an operator."""
    op = op.simplify()
    return op(torch.ones(1, dtype=op.dtype, device=op.device))


def row_and_column(op: _Indexed, key: Any) -> tuple[Any, Any]:
    """The two parts of a key; everything where one is left out.

    Raises:
        IndexError: more than two parts.
        TypeError: a new axis.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    if any(p is None for p in parts):
        raise TypeError(
            f"{_named(op)} cannot get a new axis; index its matrix, A.to_dense()[..., None], or "
            "make a batch of its tensors"
        )
    dots = [i for i, p in enumerate(parts) if p is Ellipsis]
    if len(dots) > 1 or len(parts) - len(dots) > 2:
        raise IndexError(
            f"{_named(op)}: {len(parts) - len(dots)} indices and {len(dots)} ellipses; an operator "
            "has rows and columns, A[i, j]; batch dimensions are not indexed"
        )
    if dots:
        missing = 3 - len(parts)
        parts[dots[0] : dots[0] + 1] = [slice(None)] * missing
    parts += [slice(None)] * (2 - len(parts))
    return parts[0], parts[1]


def _part(op: _Indexed, key: Any, side: int) -> Part:
    """A gather, or an integer that drops the dimension."""
    n, name = op.shape[side], ("row", "column")[side]
    if isinstance(key, slice):
        return Gather.of(_range(op, key, side), n)
    if isinstance(key, range):
        key = np.arange(key.start, key.stop, key.step)
    table = _array(op, key)
    if table.dtype == bool:
        if table.shape != (n,):
            way = "" if table.ndim == 1 else "; single entries are A.to_dense()[mask]"
            raise IndexError(
                f"{_named(op)}: a mask of shape {table.shape} does not fit {n} {name}s; one of "
                f"shape ({n},) keeps {name}s{way}"
            )
        return Gather.of(np.flatnonzero(table), n)
    if table.ndim > 1:
        raise IndexError(
            f"{_named(op)}: an index of shape {table.shape} for {name}s; needs one dimension, "
            "or np.ix_(rows, columns) for both"
        )
    _in_range(op, table, side)
    table = np.where(table < 0, table + n, table)
    return Gather.of(table, n) if table.ndim else int(table)


def _range(op: _Indexed, key: slice, side: int) -> range:
    """The positions of a slice, as Python counts them."""
    name = ("row", "column")[side]
    try:
        return range(*key.indices(op.shape[side]))
    except TypeError:
        raise TypeError(
            f"{_named(op)}: {key} is no slice of {name}s; start, stop and step are integers or "
            "left out, as in A[1:5:2]"
        ) from None
    except ValueError:
        raise ValueError(
            f"{_named(op)}: {key} has step 0; {name}s follow each other in steps such as 1, 2 or "
            "-1, and A[[i] * k] repeats one"
        ) from None


def _in_range(op: _Indexed, table: Any, side: int) -> None:
    n, name = op.shape[side], ("row", "column")[side]
    if table.size and (table.min() < -n or table.max() >= n):
        wrong = table.min() if table.min() < -n else table.max()
        raise IndexError(
            f"{_named(op)} has no {name} {wrong}; {name}s are 0 to {n - 1}, "
            f"or -{n} to -1 from the end"
        )


def _array(op: _Indexed, key: Any) -> Any:
    """The key as an array of integers or booleans."""
    if isinstance(key, Tensor):
        if key.is_meta:
            raise TypeError(f"{_named(op)}: an index on the meta device has no numbers")
        key = key.cpu().numpy()
    if not isinstance(key, np.ndarray | list | tuple | bool | np.bool_):
        try:
            return np.asarray(operator.index(key))
        except TypeError:
            way = "; convert it, int(i)" if isinstance(key, float) else ""
            raise TypeError(
                f"{_named(op)}: {type(key).__name__} is no index; {NEEDS}{way}"
            ) from None
    try:
        table = np.asarray(key)
    except ValueError:  # NumPy's answer to lists of unequal lengths
        raise TypeError(
            f"{_named(op)}: lists of unequal lengths are no index; {NEEDS}; a submatrix is "
            "A[np.ix_(rows, columns)]"
        ) from None
    if table.size == 0 and not np.issubdtype(table.dtype, np.integer) and table.dtype != bool:
        table = table.astype(np.int64)
    if table.dtype == bool and table.ndim == 0:
        raise TypeError(f"{_named(op)}: a single {table} is no index; a mask has one bool for each")
    if table.dtype != bool and not np.issubdtype(table.dtype, np.integer):
        way = "; convert them, index.astype(int)" if table.dtype.kind == "f" else ""
        raise TypeError(f"{_named(op)}: an index of {table.dtype}; {NEEDS}{way}")
    return table


NEEDS = "rows and columns are numbered by integers, slices, or lists of integers or booleans"


def _named(op: _Indexed) -> str:
    return f"{op._label()} of shape {op.shape}"


def _pairs(op: _Indexed, rows: Any, columns: Any) -> tuple[bool, Part, Part] | None:
    """Two index arrays: the submatrix for np.ix_, the entries pair by pair; None for others."""
    if not all(isinstance(k, Sequence | np.ndarray | Tensor) for k in (rows, columns)):
        return None
    r, c = _array(op, rows), _array(op, columns)
    if r.ndim == 2 and c.ndim == 2 and r.shape[1] == 1 and c.shape[0] == 1:
        return False, _part(op, r.reshape(-1), 0), _part(op, c.reshape(-1), 1)
    if r.ndim == c.ndim == 0:
        return None
    if r.ndim > 1 or c.ndim > 1:
        raise IndexError(
            f"{_named(op)}: indices of shapes {r.shape} and {c.shape}; need one dimension each, "
            "or np.ix_(rows, columns) for a submatrix"
        )
    if r.ndim != c.ndim:
        return None
    left, right = (_part(op, k, side) for side, k in enumerate((r, c)))
    assert isinstance(left, Gather)
    assert isinstance(right, Gather)
    if len(left) != len(right):
        raise IndexError(
            f"{_named(op)}: {len(left)} rows and {len(right)} columns do not pair up; "
            "A[np.ix_(rows, columns)] is the submatrix"
        )
    return True, left, right


@whole
def _entries(op: LinearOperator, left: Selection, right: Selection) -> Tensor:
    """The entries (rows[k], columns[k]): by their formula, or a few at a time from products."""
    from structmat.linalg.entries import entries_of

    rows, columns = left.index, right.index
    found = entries_of(op)
    if found is not None and found.cost <= max(1, sum(op.operations())):
        to = torch.empty(0, dtype=op.dtype, device=op.device)
        out = found.get(rows.tensor(op.device), columns.tensor(op.device), to)
        return out.expand(*op.batch_shape, len(rows))
    parts = []
    for start in range(0, max(len(rows), 1), AT_ONCE):
        few = range(start, min(start + AT_ONCE, len(rows)))
        cut = _sliced(
            op, *(Gather.of(g.array()[few.start : few.stop], g.size) for g in (rows, columns))
        ).simplify()
        out = cut @ torch.eye(len(few), dtype=op.dtype, device=op.device)
        parts.append(out.diagonal(0, -2, -1))
    return torch.cat(parts, -1)
