"""Three-valued logic: True, False, and None for what is not known."""

from __future__ import annotations

__all__ = ["both", "either", "subspace"]


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
