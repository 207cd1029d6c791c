"""Patterns: where the nonzeros of a sparse matrix are, without their numbers.

A pattern is kept as compressed rows: row i has the columns ``indices[indptr[i] : indptr[i + 1]]``,
strictly increasing. Entries are numbered in that order (row-major), and values of an operator are
stored in it. A pattern is static: immutable, hashed by content, part of a structure.

The functions here are the symbolic half of sparse arithmetic. Each returns a new pattern and the
tables with which the values follow: the numeric half is gathers, products and sums of values.
Source: Davis, Direct methods for sparse linear systems (2006), chapter 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from structmat.tables import Table
from structmat.tracing import Static

__all__ = [
    "Pattern",
    "canonical",
    "joined",
    "kronecker",
    "pairs",
    "product",
    "product_size",
    "union",
]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Pattern(Static):
    """The positions of the nonzeros of an m x n matrix, by rows.

    Attributes:
        shape: (m, n).
        indptr: (m + 1,), where each row begins.
        indices: (nnz,), the column of each entry, increasing within a row.
        rows: (nnz,), the row of each entry; follows from indptr.
    """

    shape: tuple[int, int]
    indptr: Table
    indices: Table
    rows: Table = field(repr=False, compare=False)

    @classmethod
    def of(cls, shape: Sequence[int], indptr: ArrayLike, indices: ArrayLike) -> Pattern:
        """Build from compressed rows, checked.

        Raises:
            ValueError: they are no compressed rows of that shape.
        """
        m, n = (int(s) for s in shape)
        starts, columns = np.array(indptr, np.int64), np.array(indices, np.int64)
        if starts.shape != (m + 1,) or columns.ndim != 1:
            raise ValueError(f"pattern of {m} x {n}: indptr has shape {starts.shape}")
        if starts[0] != 0 or starts[-1] != len(columns) or bool((np.diff(starts) < 0).any()):
            raise ValueError(f"pattern of {m} x {n}: indptr does not rise to {len(columns)}")
        rows = np.repeat(np.arange(m, dtype=np.int64), np.diff(starts))
        keys = rows * n + columns
        inside = not len(columns) or (columns.min() >= 0 and columns.max() < n)
        if not inside or bool((np.diff(keys) <= 0).any()):
            raise ValueError(f"pattern of {m} x {n}: columns must rise from 0 to {n - 1} in a row")
        return cls((m, n), Table.of(starts), Table.of(columns), Table.of(rows))

    @classmethod
    def at(cls, shape: Sequence[int], keys: Integers) -> Pattern:
        """Build from the positions ``row * n + column``, strictly increasing."""
        m, n = int(shape[0]), int(shape[1])
        rows, columns = np.divmod(keys, max(n, 1))
        starts = np.zeros(m + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=m)[:m], out=starts[1:])
        return cls((m, n), Table.of(starts), Table.of(columns), Table.of(rows))

    @classmethod
    def mask(cls, mask: NDArray[np.bool_]) -> Pattern:
        """The true entries of a mask."""
        return cls.at(mask.shape, np.flatnonzero(mask))

    @classmethod
    def diagonal(cls, n: int) -> Pattern:
        """The diagonal of an n x n matrix."""
        return cls.at((n, n), np.arange(n, dtype=np.int64) * (n + 1))

    @classmethod
    def full(cls, m: int, n: int) -> Pattern:
        """Every position."""
        return cls.at((m, n), np.arange(m * n, dtype=np.int64))

    @property
    def nnz(self) -> int:
        """The number of entries."""
        return self.indices.size

    @cached_property
    def digest(self) -> str:
        """Of shape and positions, 16 hexadecimal digits."""
        parts = f"{self.shape} {self.indptr.digest} {self.indices.digest}"
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    @cached_property
    def keys(self) -> Table:
        """(nnz,), the position ``row * n + column`` of each entry, strictly increasing."""
        return Table.of(self.rows.array() * self.shape[1] + self.indices.array())

    @cached_property
    def compressed(self) -> tuple[Table, Table]:
        """(indptr, indices) as sparse libraries want them: MKL copies int64 at every product."""
        return self.indptr.narrowed(), self.indices.narrowed()

    @cached_property
    def filled(self) -> tuple[int, int]:
        """How many rows, and how many columns, have an entry."""
        rows = int((np.diff(self.indptr.array()) > 0).sum())
        return rows, len(np.unique(self.indices.array()))

    @cached_property
    def turned(self) -> tuple[Pattern, Table]:
        """The transposed pattern, and the entry of this one that each of its entries is."""
        order = np.lexsort((self.rows.array(), self.indices.array()))
        m, n = self.shape
        keys = (self.indices.array() * m + self.rows.array())[order]
        return Pattern.at((n, m), keys), Table.of(order)

    def permuted(self, rows: Integers | None, columns: Integers | None) -> tuple[Pattern, Table]:
        """Entry (i, j) at (rows[i], columns[j]); and the old entry that each new one is."""
        i, j = self.rows.array(), self.indices.array()
        i = i if rows is None else rows[i]
        j = j if columns is None else columns[j]
        keys = i * self.shape[1] + j
        order = np.argsort(keys, kind="stable")
        return Pattern.at(self.shape, keys[order]), Table.of(order)

    def taken(self, rows: Integers) -> tuple[Pattern, Table]:
        """These rows, in this order; and the old entry that each new one is."""
        starts = self.indptr.array()
        counts = np.diff(starts)[rows]
        first = np.cumsum(counts) - counts
        row = np.repeat(np.arange(len(rows), dtype=np.int64), counts)
        order = np.arange(len(row), dtype=np.int64) + (starts[rows] - first)[row]
        keys = row * self.shape[1] + self.indices.array()[order]
        return Pattern.at((len(rows), self.shape[1]), keys), Table.of(order)

    def _parts(self) -> tuple[Any, ...]:
        return self.shape, self.indptr, self.indices, self.rows

    def data(self) -> dict[str, Any]:
        """JSON-able; :meth:`of` reads it back."""
        return {
            "shape": list(self.shape),
            "indptr": self.indptr.array().tolist(),
            "indices": self.indices.array().tolist(),
        }

    def __str__(self) -> str:
        m, n = self.shape
        return f"{m}x{n}, {self.nnz} entries, {self.digest}"


def canonical(
    rows: Integers, columns: Integers, shape: tuple[int, int]
) -> tuple[Pattern, Table | None, Table | None]:
    """The pattern of coordinates in any order, with repeats.

    Returns:
        The pattern; the order in which values must be read (None: they are in order); and, where
        positions repeat, the entry to which each of the values so read is added (else None).
    """
    keys = rows * shape[1] + columns
    steps = np.diff(keys)
    if bool((steps > 0).all()):
        return Pattern.at(shape, keys), None, None
    order = np.argsort(keys, kind="stable")
    distinct, entry = np.unique(keys[order], return_inverse=True)
    repeats = len(distinct) < len(keys)
    in_order = bool((steps >= 0).all())
    return (
        Pattern.at(shape, distinct),
        None if in_order else Table.of(order),
        Table.of(entry.reshape(-1)) if repeats else None,
    )


@lru_cache(maxsize=64)
def union(a: Pattern, b: Pattern) -> tuple[Pattern, Table, Table]:
    """Positions of a or b, and the entry of the union that each entry of a, and of b, is."""
    left, right = a.keys.array(), b.keys.array()
    keys = np.sort(np.concatenate([left, right]), kind="stable")  # merges two sorted runs
    keys = keys[np.diff(keys, prepend=-1) > 0]
    at = [Table.of(np.searchsorted(keys, part)) for part in (left, right)]
    return Pattern.at(a.shape, keys), at[0], at[1]


def pairs(a: Pattern, b: Pattern) -> int:
    """How many products of two entries make up the matrix product."""
    per_row = np.diff(b.indptr.array())
    return int(per_row[a.indices.array()].sum())


@lru_cache(maxsize=64)
def product_size(a: Pattern, b: Pattern) -> int:
    """How many entries the matrix product has, without the table of its products."""
    import scipy.sparse  # here, because it takes as long to import as all of structmat

    first, second = (
        scipy.sparse.csr_array(
            (np.ones(p.nnz, np.float32), p.indices.array(), p.indptr.array()), shape=p.shape
        )
        for p in (a, b)
    )
    return int((first @ second).nnz)


@lru_cache(maxsize=64)
def product(a: Pattern, b: Pattern) -> tuple[Pattern, Table, Table, Table]:
    """The pattern of A B, and the products of entries of which it is made.

    Returns:
        The pattern; then, for each pair of entries A[i, k] and B[k, j], the entry of A, the entry
        of B, and the entry of the product to which it is added.
    """
    starts, columns = b.indptr.array(), b.indices.array()
    middle = a.indices.array()
    counts = np.diff(starts)[middle]
    of_a = np.repeat(np.arange(a.nnz, dtype=np.int64), counts)
    first = np.cumsum(counts) - counts
    of_b = np.arange(len(of_a), dtype=np.int64) - first[of_a] + starts[middle][of_a]
    keys = a.rows.array()[of_a] * b.shape[1] + columns[of_b]
    distinct, entry = np.unique(keys, return_inverse=True)
    made = Pattern.at((a.shape[0], b.shape[1]), distinct)
    return made, Table.of(of_a), Table.of(of_b), Table.of(entry.reshape(-1))


@lru_cache(maxsize=64)
def expanded(grid: Pattern, block: tuple[int, int]) -> tuple[Pattern, Table]:
    """The numbers of the p x q blocks of a grid as entries, and which number each entry is."""
    p, q = block
    rows = (grid.rows.array()[:, None, None] * p + np.arange(p)[:, None]).repeat(q, -1)
    columns = (grid.indices.array()[:, None, None] * q + np.arange(q)).repeat(p, -2)
    shape = (grid.shape[0] * p, grid.shape[1] * q)
    keys = (rows * shape[1] + columns).reshape(-1)
    order = np.argsort(keys, kind="stable")
    return Pattern.at(shape, keys[order]), Table.of(order)


@lru_cache(maxsize=64)
def kronecker(a: Pattern, b: Pattern) -> tuple[Pattern, Table]:
    """The pattern of A (x) B, and the entry of the outer product of values that each entry is."""
    (m, n), (p, q) = a.shape, b.shape
    rows = a.rows.array()[:, None] * p + b.rows.array()
    columns = a.indices.array()[:, None] * q + b.indices.array()
    keys = (rows * (n * q) + columns).reshape(-1)
    order = np.argsort(keys, kind="stable")
    return Pattern.at((m * p, n * q), keys[order]), Table.of(order)


def joined(a: Pattern, b: Pattern) -> Pattern:
    """The pattern of diag(A, B); the values of B follow those of A."""
    starts = np.concatenate([a.indptr.array(), a.nnz + b.indptr.array()[1:]])
    columns = np.concatenate([a.indices.array(), a.shape[1] + b.indices.array()])
    rows = np.concatenate([a.rows.array(), a.shape[0] + b.rows.array()])
    shape = (a.shape[0] + b.shape[0], a.shape[1] + b.shape[1])
    return Pattern(shape, Table.of(starts), Table.of(columns), Table.of(rows))
