"""Unitary matrices, and multiples of them: A^H A = A A^H = s^2 I.

The unnormalised Fourier and Hadamard transforms have s = sqrt(n); products and Kronecker products
multiply s, a direct sum has it where all of its blocks have the same.
"""

from __future__ import annotations

import math
from functools import singledispatch

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Transpose
from structmat.leaves.diagonal import Identity
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.permutation import Permutation
from structmat.leaves.trigonometric import DST, Trigonometric
from structmat.leaves.wavelet import Wavelet
from structmat.operator import LinearOperator
from structmat.properties.logic import both, need_operator
from structmat.properties.rank import rank_bound

__all__ = ["is_unitary", "scale", "unitary_scale"]

ROUNDING = 1e-12
"""Numbers this near are equal: what a few operations in double precision leave."""
APART = 1e-3
"""Numbers this far apart differ, whatever the rounding."""


def is_unitary(op: LinearOperator) -> bool | None:
    """Whether A^H A = A A^H = I, up to rounding; for real matrices: orthogonal.

    Args:
        op: the operator.

    Returns:
        True, False, or None where the structure leaves it open.

    Example:
        >>> import structmat as sm
        >>> sm.is_unitary(sm.DFT(8, norm="ortho") @ sm.bit_reversal(8)), sm.is_unitary(sm.DFT(8))
        (True, False)
    """
    need_operator("is_unitary", op)
    m, n = op.shape
    if m != n or n == 0 or "unitary" in op.assumed:
        return m == n
    if (s := unitary_scale(op)) is not None:
        return _equal(s, 1.0)
    if rank_bound(op) < n:
        return False
    match op:
        case Transpose():
            return is_unitary(op.children[0])
        case DirectSum():
            return both(*map(is_unitary, op.children))
        case Product() | Kronecker():
            found = [is_unitary(c) for c in op.children]
            return False if found.count(True) == len(found) - 1 and False in found else None
        case Trigonometric() if n > 1:
            return False  # rows of two lengths: unitary_scale knows the others
    return None


def unitary_scale(op: LinearOperator) -> float | None:
    """s >= 0 with A^H A = A A^H = s^2 I, so that A^-1 = A^H / s^2; None if none is known.

    Args:
        op: the operator.

    Example:
        >>> import structmat as sm
        >>> from structmat.properties import unitary_scale
        >>> unitary_scale(2 * sm.Hadamard(4))
        4.0
    """
    if op.shape[0] != op.shape[1]:
        return None
    return 1.0 if "unitary" in op.assumed else scale(op)


@singledispatch
def scale(op: LinearOperator) -> float | None:
    """:func:`unitary_scale` of a square operator by class; None for an unknown class."""
    return None


@scale.register(Identity)
@scale.register(Permutation)
def _(op: LinearOperator) -> float | None:
    return 1.0


@scale.register(DFT)
@scale.register(Hadamard)
def _(op: DFT | Hadamard) -> float | None:
    return op.factor() * math.sqrt(op.n)


@scale.register
def _(op: Trigonometric) -> float | None:
    if op.norm == "ortho":
        return 1.0
    if op.type == 4 or (op.type == 1 and isinstance(op, DST)):
        return op.factor() * math.sqrt(op.length / 2)
    return None


@scale.register
def _(op: Wavelet) -> float | None:
    taps = op.taps
    for shift in range(0, len(taps), 2):
        inner = math.fsum(a * b for a, b in zip(taps, taps[shift:], strict=False))
        if abs(inner - (shift == 0)) > ROUNDING:
            return 1.0 if op.levels == 0 else None
    return 1.0


@scale.register
def _(op: Scaled) -> float | None:
    s = unitary_scale(op.children[0])
    return None if s is None or op.tensors else abs(op.alpha) * s


@scale.register
def _(op: Transpose) -> float | None:
    return unitary_scale(op.children[0])


@scale.register(Product)
@scale.register(Kronecker)
def _(op: LinearOperator) -> float | None:
    total = 1.0
    for c in op.children:
        if (s := unitary_scale(c)) is None:
            return None
        total *= s
    return total


@scale.register
def _(op: DirectSum) -> float | None:
    found = [unitary_scale(c) for c in op.children if c.shape != (0, 0)]
    first = found[0] if found else 1.0
    for s in found:
        if s is None or first is None or not _equal(s, first):
            return None
    return first


def _equal(a: float, b: float) -> bool | None:
    gap, size = abs(a - b), max(a, b)
    return True if gap <= ROUNDING * size else False if gap > APART * size else None
