"""Three-valued logic: True, False, and None for what is not known; what may be asked."""

from __future__ import annotations

from structmat.operator import LinearOperator

__all__ = ["both", "either", "need_operator", "subspace"]


def need_operator(function: str, op: object) -> None:
    """Raise where ``op`` is no operator, or has symbols for sizes."""
    if not isinstance(op, LinearOperator):
        raise TypeError(f"{function}: {type(op).__name__} is not an operator; wrap it: sm.Dense(W)")
    op._require_numbers()


def both(*values: bool | None) -> bool | None:
    """True if all are, False if one is False, None otherwise.

    Example:
        >>> both(True, None), both(None, False)
        (None, False)
    """
    if False in values:
        return False
    return None if None in values else True


def either(*values: bool | None) -> bool | None:
    """True if one is, False if all are False, None otherwise.

    Example:
        >>> either(True, None), either(None, False)
        (True, None)
    """
    if True in values:
        return True
    return None if None in values else False


def subspace(*values: bool | None) -> bool | None:
    """Whether a sum of matrices is in a subspace, given which of the terms are.

    Example:
        >>> subspace(True, True), subspace(True, False), subspace(False, False)
        (True, False, None)
    """
    if None in values or values.count(False) > 1:
        return None
    return False not in values
