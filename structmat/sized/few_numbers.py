"""Families of few numbers: sparse matrices, and those that a few vectors generate."""

from __future__ import annotations

from typing import Any

import torch

from structmat.leaves import cauchy, companion, sparse, vandermonde
from structmat.pattern import Pattern
from structmat.sized.families import quotient
from structmat.sized.form import Form, family

__all__ = ["BlockSparse", "Cauchy", "Companion", "Sparse", "Vandermonde"]


def _pattern(m: int, n: int, per_row: int) -> Pattern:
    """per_row entries in every row, and where m >= n some in every column; drawn once for a size.

    The union of as many cyclic shifts of one random permutation.
    """
    if per_row > n:
        raise ValueError(f"Sparse: per_row = {per_row} entries do not fit in {n} columns")
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(n, generator=generator)
    shifts = torch.randperm(n, generator=generator)[:per_row]
    columns = order[(torch.arange(m)[:, None] + shifts) % max(n, 1)]
    keys = (torch.arange(m)[:, None] * n + columns).flatten().sort().values
    return Pattern.at((m, n), keys.numpy())


@family("$k$ entries in every row, some in every column")
def Sparse(m: Any, n: Any = None, *, per_row: Any) -> Form:
    """``per_row`` entries in every row, at random columns."""
    n = m if n is None else n
    products = m * per_row
    return Form(
        (m, n),
        lambda t, _: sparse.Sparse((t["values"], _pattern(m, n, per_row))),
        {"values": ((products,), per_row)},
        lambda _: (products, products - m),
        lambda _: (products, products - n),
    )


@family("blocks $b \\times b$, $k$ in every row of blocks, some in every column")
def BlockSparse(m: Any, n: Any = None, *, block: Any, per_row: Any) -> Form:
    """``per_row`` square blocks in every row of blocks, at random columns."""
    n = m if n is None else n
    rows, columns = (quotient(s, block, "BlockSparse: block") for s in (m, n))
    products = m * per_row * block
    return Form(
        (m, n),
        lambda t, _: sparse.BlockSparse(t["blocks"], _pattern(rows, columns, per_row)),
        {"blocks": ((rows * per_row, block, block), per_row * block)},
        lambda _: (products, products - m),
        lambda _: (products, products - n),
    )


@family("$m n < 1536 (m + n)$ or complex; else about $320 n + 400 m$")
def Vandermonde(m: Any, n: Any = None) -> Form:
    """Powers 0 to n - 1 of m nodes between -1 and 1."""
    n = m if n is None else n
    return Form(
        (m, n),
        lambda t, _: vandermonde.Vandermonde(t["x"], n),
        {"x": ((m,), (-1.0, 1.0))},
        lambda _: (m * (n - 1), m * (n - 1)),
        lambda _: (m * (n - 1), n * (m - 1)),
    )


@family("$m n < 2048 (m + n)$ or complex; else about $580 (m + n)$")
def Cauchy(m: Any, n: Any = None) -> Form:
    """1 / (s - t) for m nodes s between 1 and 2 and n nodes t between -1 and 0."""
    n = m if n is None else n
    return Form(
        (m, n),
        lambda t, _: cauchy.Cauchy(t["s"], t["t"]),
        {"s": ((m,), (1.0, 2.0)), "t": ((n,), (-1.0, 0.0))},
        lambda _: (m * n, m * (n - 1)),
        lambda _: (m * n, n * (m - 1)),
    )


@family()
def Companion(n: Any) -> Form:
    """The companion matrix of a polynomial of degree n with coefficients between 1/2 and 3/2."""
    return Form(
        (n, n),
        lambda t, _: companion.Companion(t["c"]),
        {"c": ((n + 1,), (0.5, 1.5))},
        lambda _: (n, n - 1),
        lambda _: (n, n),
    )
