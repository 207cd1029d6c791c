"""Symmetric (A = A^T), Hermitian (A = A^H) and real (A = conj A) matrices.

Each asks whether the canonical form of A is that of its transpose, adjoint or conjugate, which
finds A + A^T, B^T D B and what is built of symmetric parts. The three are real subspaces: a sum of
terms of which exactly one is outside is outside.
"""

from __future__ import annotations

from collections.abc import Callable

from structmat.compose import DirectSum, Scaled, Sum, Transpose
from structmat.operator import LinearOperator
from structmat.properties.band import bandwidth
from structmat.properties.canonical import Canon
from structmat.properties.leaves import hermitian_leaf, real_leaf, symmetric_leaf
from structmat.properties.logic import both, need_operator, subspace

__all__ = ["is_hermitian", "is_real", "is_symmetric"]

Question = Callable[[LinearOperator], bool | None]


def is_symmetric(op: LinearOperator) -> bool | None:
    """Whether A = A^T (without conjugation), from structure alone.

    Args:
        op: the operator.

    Returns:
        True, False, or None where the structure leaves it open. True and False hold for every
        matrix of a batch and whatever the numbers are.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Dense(torch.ones(3, 3))
        >>> sm.is_symmetric(A + A.T), sm.is_symmetric(A), sm.is_symmetric(sm.cyclic_shift(3))
        (True, None, False)
    """
    need_operator("is_symmetric", op)
    return _symmetric(op, Canon())


def _symmetric(op: LinearOperator, canon: Canon) -> bool | None:
    m, n = op.shape
    if m != n or m <= 1 or op.assumed & {"symmetric", "diagonal"}:
        return m == n
    if op.assumed >= {"hermitian", "real"}:
        return True
    if (known := symmetric_leaf(op)) is not None:
        return known
    if bandwidth(op) == (0, 0) or canon.form(op, t=True) == canon.form(op):
        return True
    return _below(op, lambda part: _symmetric(part, canon))


def is_hermitian(op: LinearOperator) -> bool | None:
    """Whether A = A^H, from structure alone; for real matrices the same as symmetric.

    Args:
        op: the operator.

    Returns:
        True, False, or None where the structure leaves it open.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Dense(torch.ones(3, 3, dtype=torch.complex64))
        >>> sm.is_hermitian(A @ A.H), sm.is_hermitian(A + A.T), sm.is_hermitian(sm.DFT(3))
        (True, None, False)
    """
    need_operator("is_hermitian", op)
    return _hermitian(op, Canon())


def _hermitian(op: LinearOperator, canon: Canon) -> bool | None:
    m, n = op.shape
    if m != n or m == 0 or "hermitian" in op.assumed:
        return m == n
    if (known := hermitian_leaf(op)) is not None:
        return known
    if _real(op, canon):
        return _symmetric(op, canon)
    if canon.form(op, t=True, c=True) == canon.form(op):
        return True
    return _below(op, lambda part: _hermitian(part, canon))


def is_real(op: LinearOperator) -> bool | None:
    """Whether no entry has an imaginary part, from structure alone.

    Args:
        op: the operator, of any dtype.

    Returns:
        True, False, or None where the structure leaves it open, as it does for complex numbers.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Dense(torch.ones(2, 2, dtype=torch.complex64))
        >>> sm.is_real(A + A.conj()), sm.is_real(A), sm.is_real(sm.DFT(8))
        (True, None, False)
    """
    need_operator("is_real", op)
    return _real(op, Canon())


def _real(op: LinearOperator, canon: Canon) -> bool | None:
    if 0 in op.shape or "real" in op.assumed:
        return True
    if (known := real_leaf(op)) is not None:
        return known
    if canon.form(op, c=True) == canon.form(op):
        return True
    return _below(op, lambda part: _real(part, canon))


def _below(op: LinearOperator, question: Question) -> bool | None:
    """What the parts say: a subspace that transposition and direct sums of its members keep."""
    match op:
        case Transpose():
            return question(op.children[0])
        case Scaled() if not op.tensors and isinstance(op.alpha, int | float) and op.alpha != 0:
            return question(op.children[0])
        case Sum():
            return subspace(*map(question, op.children))
        case DirectSum() if all(c.shape[0] == c.shape[1] for c in op.children):
            return both(*map(question, op.children))
    return None
