"""Positive semidefinite matrices: Hermitian, and x^H A x >= 0 for every x.

A product is semidefinite if it reads the same from both ends up to adjoints and what is left in
the middle is semidefinite: A A^H, B^H D B, (A (x) B)(A (x) B)^H. Sums, non-negative multiples,
Kronecker products and direct sums of semidefinite matrices are semidefinite. A Hermitian multiple
s U of a unitary matrix is so only as s I, since U^2 = I then.
"""

from __future__ import annotations

from functools import singledispatch

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.butterfly import MonarchChain
from structmat.leaves.dense import LowRank
from structmat.leaves.diagonal import Identity, Zero
from structmat.operator import LinearOperator
from structmat.properties.band import is_diagonal
from structmat.properties.canonical import Atom, Canon, Factors
from structmat.properties.logic import need_operator
from structmat.properties.symmetry import is_hermitian
from structmat.properties.unitary import unitary_scale

__all__ = ["is_psd", "psd", "surely_psd"]


def is_psd(op: LinearOperator) -> bool | None:
    """Whether A is Hermitian with no negative eigenvalue, from structure alone.

    Args:
        op: the operator.

    Returns:
        True, False, or None where the structure leaves it open.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Dense(torch.ones(3, 2))
        >>> D = sm.assume(sm.Diagonal(torch.ones(2)), psd=True)
        >>> sm.is_psd(A @ A.T + 0.1 * sm.Identity(3)), sm.is_psd(A @ D @ A.T), sm.is_psd(A)
        (True, True, False)
    """
    need_operator("is_psd", op)
    if (known := surely_psd(op)) is not None:
        return known
    no = (unitary_scale(op) and is_diagonal(op) is False) or is_hermitian(op) is False
    return False if no else None


def surely_psd(op: LinearOperator) -> bool | None:
    """:func:`is_psd` without a search for reasons against it: what the rules ask of parts."""
    m, n = op.shape
    if m != n or m == 0 or "psd" in op.assumed:
        return m == n
    if (known := psd(op)) is not None:
        return known
    return True if _square(op) else None


@singledispatch
def psd(op: LinearOperator) -> bool | None:
    """:func:`is_psd` of a square operator by class; None for an unknown class."""
    return None


@psd.register(Identity)
@psd.register(Zero)
def _(op: LinearOperator) -> bool | None:
    return True


@psd.register
def _(op: Transpose) -> bool | None:
    return surely_psd(op.children[0])


@psd.register
def _(op: Scaled) -> bool | None:
    # other scalars are seen with those of the factors, once: asking twice doubles at every level
    return True if not op.tensors and op.alpha == 0 else None


@psd.register(Sum)
@psd.register(Kronecker)
def _(op: LinearOperator) -> bool | None:
    return True if all(map(surely_psd, op.children)) else None


@psd.register
def _(op: DirectSum) -> bool | None:
    found = [is_psd(c) for c in op.children]
    if False in found and all(c.shape[0] == c.shape[1] for c in op.children):
        return False
    return True if all(found) else None


def _square(op: LinearOperator) -> bool:
    """Whether ``op`` is a product B^H C B with C semidefinite or absent."""
    if not isinstance(op, Product | Scaled | LowRank | MonarchChain):
        return False
    canon = Canon()
    found = canon.factors(op)
    if not _non_negative(found.number) or not _paired(canon, op, found):
        return False
    atoms = found.atoms
    while len(atoms) > 1:
        first, last = atoms[0], atoms[-1]
        if not canon.equal(first, Atom(last.op, not last.t, not last.c)):
            break
        atoms = atoms[1:-1]
    # square diagonal matrices commute, and a product of commuting semidefinite ones is one
    commute = len(atoms) <= 1 or all(is_diagonal(a.op) for a in atoms)
    return commute and all(surely_psd(a.op) for a in atoms)


def _paired(canon: Canon, op: LinearOperator, found: Factors) -> bool:
    """Whether the product of the scalar tensors is that of some |alpha|^2."""
    squares = all(many % 2 == 0 for (_, complex_), many in found.scalars.items() if not complex_)
    return squares and canon.factors(op, c=True).scalars == found.scalars


def _non_negative(alpha: complex) -> bool:
    value = complex(alpha)
    return value.imag == 0 and value.real >= 0
