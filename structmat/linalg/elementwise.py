"""Entries of elementwise products: (A o B)[i, j] = A[i, j] B[i, j]."""

from __future__ import annotations

from structmat.compose import Elementwise
from structmat.linalg.entries import Entries, entries_of


@entries_of.register
def _(op: Elementwise) -> Entries | None:
    a, b = map(entries_of, op.children)
    if a is None or b is None:
        return None
    return Entries(a.cost + b.cost, lambda i, j, to: a.get(i, j, to) * b.get(i, j, to))
