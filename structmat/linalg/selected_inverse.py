"""Entries of the inverse of a sparse matrix where the matrix has entries, from its LU factors.

With A = L D U, unit triangular L and U, and Z = A^-1, from Z = D^-1 L^-1 + (I - U) Z and
Z = U^-1 D^-1 + Z (I - L) follow, for i and k beyond j,

    Z[i, j] = -sum_k Z[i, k] L[k, j]      Z[j, k] = -sum_i U[j, i] Z[i, k]
    Z[j, j] = 1 / d_j - sum_i U[j, i] Z[i, j]

where k runs over the entries of column j of L and i over those of row j of U. Where the pattern of
L + U holds all fill, Z is needed only at its transposed positions, from the last row to the first:
about as many operations as the factorisation. Rows at the end are full in most patterns: there Z
is the inverse of a dense matrix.

Source: Takahashi, Fagan and Chin, Formation of a sparse bus impedance matrix and its application to
short circuit study (1973); Erisman and Tinney, On computing certain elements of the inverse of a
sparse matrix (1975).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["inverse_entries"]

Integers = NDArray[np.int64]


def inverse_entries(factors: Any, rows: Integers, columns: Integers) -> NDArray[Any]:
    """(A^-1)[j, i] for every entry (i, j) of the pattern of A.

    Args:
        factors: SuperLU's, with P_r A P_c = L U.
        rows: (nnz,), the row i of each entry of A.
        columns: (nnz,), the column j of each.
    """
    n = factors.shape[0]
    wanted = factors.perm_r.astype(np.int64)[rows] * n + factors.perm_c[columns]
    lower, upper = factors.L.tocoo(), factors.U.tocoo()
    own = [m.row.astype(np.int64) * n + m.col for m in (lower, upper)]
    keys = np.unique(np.concatenate([wanted, *own, np.arange(n, dtype=np.int64) * (n + 1)]))
    found = _solved(_Factors.of(n, keys, lower, upper))
    if found is None:  # numbers that cancelled, or zeros that are stored, left a hole
        keys = _filled(n, keys)
        found = _solved(_Factors.of(n, keys, lower, upper))
        assert found is not None
    out: NDArray[Any] = found[np.searchsorted(keys, wanted)]
    return out


@dataclass(frozen=True)
class _Factors:
    """L - I + D U on one pattern, in row-major order.

    Attributes:
        n: rows.
        keys: row * n + column of every entry, increasing.
        values: L below the diagonal, D on it, U (divided by D) above.
        rows: of the entries.
        columns: of the entries.
        starts: (n + 1,), where each row begins.
        middle: (n,), the entry on the diagonal.
        turned: the entries in column-major order.
        tops: (n + 1,), where each column begins in it.
        below: (n,), where what is below the diagonal begins in it.
    """

    n: int
    keys: Integers
    values: NDArray[Any]
    rows: Integers
    columns: Integers
    starts: Integers
    middle: Integers
    turned: Integers
    tops: Integers
    below: Integers

    @classmethod
    def of(cls, n: int, keys: Integers, lower: Any, upper: Any) -> _Factors:
        rows, columns = np.divmod(keys, n)
        values = np.zeros(len(keys), upper.dtype)
        for m in (lower, upper):  # the ones of L are on the diagonal, where U follows
            values[np.searchsorted(keys, m.row.astype(np.int64) * n + m.col)] = m.data
        middle = np.searchsorted(keys, np.arange(n, dtype=np.int64) * (n + 1))
        above = columns > rows
        values[above] /= values[middle][rows[above]]
        turned = np.lexsort((rows, columns))
        each = np.arange(n + 1)
        below = np.empty(len(keys), np.int64)
        below[turned] = np.arange(len(keys))
        return cls(
            n,
            keys,
            values,
            rows,
            columns,
            np.searchsorted(rows, each),
            middle,
            turned,
            np.searchsorted(columns[turned], each),
            below[middle] + 1,
        )

    def full(self) -> int:
        """The least t for which rows and columns from t on have every entry among each other."""
        wide = self.starts[1:] - self.middle
        high = self.tops[1:] - self.below + 1
        left = np.arange(self.n, 0, -1)
        ragged = np.flatnonzero((wide < left) | (high < left))
        return int(ragged[-1]) + 1 if len(ragged) else 0


def _solved(f: _Factors) -> NDArray[Any] | None:
    """Z[j, i] at every entry (i, j); None where the pattern lacks an entry that is needed."""
    n, keys, values, t = f.n, f.keys, f.values, f.full()
    z = np.zeros_like(values)
    dense = _last(f, t)
    here = (f.rows >= t) & (f.columns >= t)
    z[here] = dense.T[f.rows[here] - t, f.columns[here] - t]
    for j in range(t - 1, -1, -1):
        right = slice(f.middle[j] + 1, f.starts[j + 1])
        down = f.turned[f.below[j] : f.tops[j + 1]]
        i, k = f.columns[right], f.rows[down]
        block = np.empty((len(i), len(k)), values.dtype)
        a, b = np.searchsorted(i, t), np.searchsorted(k, t)
        block[a:, b:] = dense[i[a:, None] - t, k[b:] - t]
        for part in (np.s_[:a, :], np.s_[a:, :b]):
            wanted = (k * n + i[:, None])[part]
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            if (keys[at] != wanted).any():
                return None
            block[part] = z[at]
        z[right] = -block @ values[down]
        z[down] = -values[right] @ block
        z[f.middle[j]] = 1 / values[f.middle[j]] - values[right] @ z[right]
    return z


def _last(f: _Factors, t: int) -> NDArray[Any]:
    """The rows and columns of Z from t on."""
    size = f.n - t
    here = (f.rows >= t) & (f.columns >= t)
    i, j, v = f.rows[here] - t, f.columns[here] - t, f.values[here]
    lower, upper = np.eye(size, dtype=v.dtype), np.eye(size, dtype=v.dtype)
    lower[i[i > j], j[i > j]] = v[i > j]
    upper[i[i < j], j[i < j]] = v[i < j]
    d = v[i == j]
    out: NDArray[Any] = np.linalg.inv((lower * d) @ upper)
    return out


def _filled(n: int, keys: Integers) -> Integers:
    """The pattern with all of its fill: (k, i) wherever (k, j) and (j, i) are there, j < k, i."""
    down: list[set[int]] = [set() for _ in range(n)]
    right: list[set[int]] = [set() for _ in range(n)]
    for row, column in zip(*(v.tolist() for v in np.divmod(keys, n)), strict=True):
        if row > column:
            down[column].add(row)
        elif row < column:
            right[row].add(column)
    found = [np.arange(n, dtype=np.int64) * (n + 1)]
    for j in range(n):
        low, high = sorted(down[j]), sorted(right[j])
        for i in high:
            down[i].update(k for k in low if k > i)
        for k in low:
            right[k].update(i for i in high if i > k)
        found += [np.array(low, np.int64) * n + j, j * n + np.array(high, np.int64)]
    return np.unique(np.concatenate(found))
