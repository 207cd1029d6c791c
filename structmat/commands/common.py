"""What the commands share: how they fail, and how they print."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["CommandError", "print_pairs"]


class CommandError(Exception):
    """What was asked cannot be done.

    Args:
        message: one line for the user.
        detail: lines to print below it, as they are.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Two columns, names and values."""
    width = max(len(key) for key, _ in pairs)
    for key, value in pairs:
        print(f"{key:<{width}}  {value}")
