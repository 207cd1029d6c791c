"""Families that are chains of Kronecker-sparse factors, and those that need no arithmetic.

The counts are closed forms in the sizes; with integers in place of the symbols they are what the
concrete operator's ``operations()`` says.
"""

from __future__ import annotations

from typing import Any

import torch

from structmat.compose import selection
from structmat.leaves import block, butterfly, dense, diagonal, monarch, permutation
from structmat.sized.form import Form, Sizes, counts_of_chain, family
from structmat.sizes import has_symbols

__all__ = [
    "BlockDiagonal",
    "Butterfly",
    "Dense",
    "Diagonal",
    "Identity",
    "KroneckerSparse",
    "LowRank",
    "Monarch",
    "MonarchChain",
    "Permutation",
    "Selection",
    "Zero",
    "bit_reversal",
    "cyclic_shift",
    "reversal",
    "stride_permutation",
]


def quotient(n: Any, k: Any, what: str) -> Any:
    """n / k, exact.

    Raises:
        ValueError: integers that leave a remainder.
    """
    if has_symbols(n, k):
        return n / k
    if k < 1 or n % k:
        raise ValueError(f"{what}: {k} does not divide {n}")
    return n // k


def root(n: Any, p: int, what: str) -> Any:
    """The p-th root of n, exact.

    Raises:
        ValueError: an integer that has none.
    """
    if has_symbols(n):
        import sympy

        return sympy.root(n, p)
    r: int = round(n ** (1 / p))
    if r**p != n:
        raise ValueError(f"{what}: {n} is not the {p}-th power of an integer")
    return r


@family()
def Dense(m: Any, n: Any = None) -> Form:
    """m x n entries, n = m by default."""
    n = m if n is None else n
    return Form(
        (m, n),
        lambda t, _: dense.Dense(t["weight"]),
        {"weight": ((m, n), n)},
        *counts_of_chain([(1, m, n, 1)]),
    )


@family()
def LowRank(m: Any, n: Any = None, *, rank: Any = None) -> Form:
    """U V with U m x rank, V rank x n; of two sizes alone, the second is the rank."""
    if rank is None:
        if n is None:
            raise ValueError("LowRank: a rank is needed, as in LowRank(m, n, rank=8)")
        n, rank = m, n
    n = m if n is None else n
    return Form(
        (m, n),
        lambda t, _: dense.LowRank(t["left"], t["right"]),
        {"left": ((m, rank), rank), "right": ((rank, n), n)},
        *counts_of_chain([(1, m, rank, 1), (1, rank, n, 1)]),
    )


@family()
def Identity(n: Any) -> Form:
    """The identity."""
    return Form((n, n), lambda _, dtype: diagonal.Identity(n, dtype))


@family(r"$0 \le \text{start} \le \text{stop} \le n$")
def Selection(n: Any, start: Any, stop: Any) -> Form:
    """Rows start to stop - 1 of the identity: S A are these rows of A, B S^T these columns of B.

    Slices ``A[i:j, k:l]`` with symbols are made of it, where the order of their bounds is proved.
    Here it is checked when the sizes become integers.
    """
    if not has_symbols(n, start, stop) and not start <= stop <= n:
        raise ValueError(
            f"Selection: rows {start}:{stop} of {n}; needs 0 <= {start} <= {stop} <= {n}"
        )
    return Form(
        (stop - start, n),
        lambda _, dtype: selection.Selection(range(start, stop), n, dtype),
    )


@family()
def Zero(m: Any, n: Any = None) -> Form:
    """The zero matrix."""
    n = m if n is None else n
    return Form((m, n), lambda _, dtype: diagonal.Zero(m, n, dtype))


@family()
def Diagonal(n: Any) -> Form:
    """diag(d)."""
    return Form(
        (n, n),
        lambda t, _: diagonal.Diagonal(t["d"]),
        {"d": ((n,), 1)},
        *counts_of_chain([(n, 1, 1, 1)]),
    )


def _free(n: Any, make: Any) -> Form:
    return Form((n, n), lambda _, dtype: permutation.Permutation(make().index, dtype))


@family()
def Permutation(n: Any) -> Form:
    """A permutation; a concrete one is drawn at random, once for each size."""

    def make() -> permutation.Permutation:
        return permutation.Permutation(
            torch.randperm(n, generator=torch.Generator().manual_seed(0))
        )

    return _free(n, make)


@family("$k$ divides $n$")
def stride_permutation(n: Any, s: Any) -> Form:
    """Read n entries at stride s."""
    quotient(n, s, "stride_permutation")
    return _free(n, lambda: permutation.stride_permutation(n, s))


@family("$n = 2^L$")
def bit_reversal(n: Any) -> Form:
    """Reverse the bits of the position."""
    return _free(n, lambda: permutation.bit_reversal(n))


@family()
def cyclic_shift(n: Any, k: int = 1) -> Form:
    """Move every entry k places down."""
    return _free(n, lambda: permutation.cyclic_shift(n, k))


@family()
def reversal(n: Any) -> Form:
    """The exchange matrix."""
    return _free(n, lambda: permutation.reversal(n))


@family("$k$ divides $m$ and $n$")
def BlockDiagonal(m: Any, n: Any = None, *, nblocks: Any) -> Form:
    """K = nblocks blocks of m/K x n/K."""
    n = m if n is None else n
    q = quotient(m, nblocks, "BlockDiagonal: nblocks")
    p = quotient(n, nblocks, "BlockDiagonal: nblocks")
    return Form(
        (m, n),
        lambda t, _: block.BlockDiagonal(t["blocks"]),
        {"blocks": ((nblocks, q, p), p)},
        *counts_of_chain([(nblocks, q, p, 1)]),
    )


@family()
def KroneckerSparse(a: Any, b: Any, c: Any, d: Any) -> Form:
    """The factor with support I_a (x) 1_{b x c} (x) I_d."""
    return Form(
        (a * b * d, a * c * d),
        lambda t, _: block.KroneckerSparse(t["values"]),
        {"values": ((a, b, c, d), c)},
        *counts_of_chain([(a, b, c, d)]),
    )


@family("$k^2$ divides $n$")
def Monarch(m: Any, n: Any = None, *, nblocks: Sizes = None, rank: Any = None) -> Form:
    """Two block-diagonal factors with a transposition between them.

    ``nblocks`` is K or (k, l): k blocks on the input side, l on the output side, sqrt(n) by
    default; ``rank`` that of each of the k l blocks, by default min(m, n) / (k l), at least 1.
    """
    n = m if n is None else n
    if nblocks is None:
        nblocks = root(n, 2, "Monarch: nblocks")
    k, l = nblocks if isinstance(nblocks, tuple) else (nblocks, nblocks)
    if rank is None:
        least = m if m == n else None if has_symbols(m, n) else min(m, n)
        if least is None:
            raise ValueError(f"Monarch: give rank=, min({m}, {n}) / ({k} * {l}) is not known")
        rank = least / (k * l) if has_symbols(least, k, l) else max(1, least // (k * l))
    p, s = quotient(n, k, "Monarch: nblocks"), quotient(m, l, "Monarch: nblocks")
    q, r = l * rank, k * rank
    return Form(
        (m, n),
        lambda t, _: monarch.Monarch(t["left"], t["right"]),
        {"left": ((l, s, r), r), "right": ((k, q, p), p)},
        *counts_of_chain([(1, s, r, l), (k, q, p, 1)]),
    )


@family("$n = b^3$")
def MonarchChain(n: Any, *, order: int = 2) -> Form:
    """A Monarch matrix of order p: p factors with blocks of b = n^(1/p), strides growing left."""
    b = root(n, order, "MonarchChain: n")
    patterns = [(b**i, b, b, b ** (order - 1 - i)) for i in range(order)]
    return Form(
        (n, n),
        lambda t, _: butterfly.MonarchChain([t[str(i)] for i in range(order)]),
        {str(i): (pattern, b) for i, pattern in enumerate(patterns)},
        *counts_of_chain(patterns),
    )


@family("$n = 2^L$")
def Butterfly(n: Any, increasing_stride: bool = True) -> Form:
    """log2(n) factors of 2 x 2 blocks."""
    if has_symbols(n):
        from structmat.sized.functions import log2

        stages = log2(n)
    else:
        stages = n.bit_length() - 1
    return Form(
        (n, n),
        lambda t, _: butterfly.Butterfly(t["twiddle"], increasing_stride),
        {"twiddle": ((stages, quotient(n, 2, "Butterfly: n"), 2, 2), 2)},
        lambda _: (2 * n * stages, n * stages),
    )
