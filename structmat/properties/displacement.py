"""Displacement ranks: the rank of Z_f M - M Z_g, for shifts that wrap around with f, g in {1, -1}.

Z_f moves entries one place down and multiplies the one that wraps around by f. Bounds follow from

    product   Z_f A B - A B Z_g = (Z_f A - A Z_h) B + A (Z_h B - B Z_g)    for either h
    inverse   Z_f M^-1 - M^-1 Z_g = -M^-1 (Z_g M - M Z_f) M^-1
    transpose Z_f^-1 = Z_f^T, so that M^T for (f, g) has the rank of M for (g, f)
    any M     2 rank M

A Toeplitz matrix has rank 2 for every pair, rank 0 if it is f-circulant and both shifts are Z_f, at
most 1 if one of them is. A companion matrix, the shift Z_0 with another first row, has rank 2.
Source: Pan, Structured matrices and polynomials (2001), chapter 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import singledispatch

from structmat.compose import Product, Scaled, Sum, Transpose
from structmat.index import AffineMap
from structmat.leaves.companion import Companion
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import LowRank
from structmat.leaves.diagonal import Identity, Zero
from structmat.leaves.permutation import Permutation
from structmat.leaves.toeplitz import Circulant, Toeplitz
from structmat.operator import LinearOperator
from structmat.properties.logic import need_operator
from structmat.properties.rank import rank_bound

__all__ = ["displacement", "displacement_rank"]

SHIFTS = (1, -1)


def displacement_rank(op: LinearOperator, shifts: tuple[int, int] = (1, -1)) -> int | None:
    """An upper bound of the rank of Z_f M - M Z_g, from structure alone.

    Args:
        op: M, of any shape.
        shifts: (f, g), each 1 or -1.

    Returns:
        The bound, at most min(m, n); None where the structure says nothing about it.

    Raises:
        ValueError: a shift is neither 1 nor -1.

    Source: Pan, Structured matrices and polynomials (2001), chapter 1.

    Example:
        >>> import torch, structmat as sm
        >>> T = sm.Toeplitz(torch.ones(8), torch.ones(8))
        >>> sm.displacement_rank(T), sm.displacement_rank(T @ T.T), sm.displacement_rank(sm.DFT(8))
        (2, 4, None)
    """
    need_operator("displacement_rank", op)
    f, g = shifts
    if f not in SHIFTS or g not in SHIFTS:
        raise ValueError(f"displacement_rank: shifts {shifts!r} must be 1 or -1 each")
    found = displacement(op, f, g)
    low = 2 * rank_bound(op)
    if low < min(op.shape):
        found = low if found is None else min(found, low)
    return None if found is None else min(found, *op.shape)


@singledispatch
def displacement(op: LinearOperator, f: int, g: int) -> int | None:
    """:func:`displacement_rank` by class; None for an unknown class."""
    return None


@displacement.register(Zero)
def _(op: LinearOperator, f: int, g: int) -> int | None:
    return 0


@displacement.register
def _(op: LowRank, f: int, g: int) -> int | None:
    return 2 * rank_bound(op)


@displacement.register(Companion)
@displacement.register(Toeplitz)
def _(op: LinearOperator, f: int, g: int) -> int | None:
    return 2


@displacement.register
def _(op: Identity, f: int, g: int) -> int | None:
    return 0 if f == g else 1


@displacement.register
def _(op: Circulant, f: int, g: int) -> int | None:
    return circulant(op.f, f, g)


@displacement.register
def _(op: Permutation, f: int, g: int) -> int | None:
    shift = isinstance(op.index, AffineMap) and op.index.a == 1
    if op.index.is_identity:
        return 0 if f == g else 1
    return circulant(1, f, g) if shift else None


@displacement.register
def _(op: Convolution, f: int, g: int) -> int | None:
    if len(op.n) > 1:
        return None
    return circulant(1, f, g) if op.mode == "circular" else 2


@displacement.register
def _(op: Scaled, f: int, g: int) -> int | None:
    return displacement_rank(op.children[0], (f, g))


@displacement.register
def _(op: Transpose, f: int, g: int) -> int | None:
    return displacement_rank(op.children[0], (g, f))


@displacement.register
def _(op: Sum, f: int, g: int) -> int | None:
    return _total(displacement_rank(c, (f, g)) for c in op.children)


@displacement.register
def _(op: Product, f: int, g: int) -> int | None:
    return _chain(op.children, f, g)


def _chain(ops: Sequence[LinearOperator], f: int, g: int) -> int | None:
    """The least total over the shifts between the factors."""
    ends: dict[int, int | None] = {h: displacement_rank(ops[0], (f, h)) for h in SHIFTS}
    for op in ops[1:]:
        after: dict[int, int | None] = dict.fromkeys(SHIFTS)
        for h, k in itertools.product(SHIFTS, SHIFTS):
            found = _total((ends[h], displacement_rank(op, (h, k))))
            best = after[k]
            if found is not None and (best is None or found < best):
                after[k] = found
        ends = after
    return ends[g]


def circulant(own: complex, f: int, g: int) -> int:
    """Of an f-circulant matrix: it commutes with its own shift."""
    return (own != f) + (own != g)


def _total(ranks: Iterable[int | None]) -> int | None:
    total = 0
    for r in ranks:
        if r is None:
            return None
        total += r
    return total
