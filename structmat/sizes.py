"""Sizes that are integers or symbols: what a shape check may decide about them.

A symbol is a positive integer of sympy (:func:`structmat.dim`), and a size any expression in them,
such as ``sqrt(n)`` or ``m * k``. Two sizes are equal if sympy proves it, different if it proves
that, and undecided otherwise. sympy is imported when the first symbol arrives, never before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

__all__ = [
    "as_size",
    "broadcast",
    "differ",
    "has_symbols",
    "same_size",
    "symbols_of",
    "takes_symbols",
    "tidy",
]

F = TypeVar("F", bound=Callable[..., Any])


def has_symbols(*values: object) -> bool:
    """Whether a value is an expression of sympy (a number of sympy counts)."""
    return any(hasattr(v, "free_symbols") for v in values)


def symbols_of(*values: object) -> set[Any]:
    """The symbols in the values, also inside tuples."""
    found: set[Any] = set()
    for v in values:
        found |= symbols_of(*v) if isinstance(v, tuple) else getattr(v, "free_symbols", set())
    return found


def as_size(value: Any, name: str) -> Any:
    """A size as an int, or as an expression of sympy where it has symbols.

    Args:
        value: the size.
        name: how errors call it, such as ``"Monarch: n"``.

    Raises:
        ValueError: not a non-negative integer, nor an expression that may be one.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if has_symbols(value):
        if value.free_symbols and value.is_integer is not False and value.is_negative is not True:
            return value
        if value.is_Integer and value >= 0:
            return int(value)
    raise ValueError(f"{name} = {value} is no size: it needs a non-negative integer or sm.dim('n')")


def same_size(a: Any, b: Any) -> bool:
    """Whether two sizes are equal, whatever their symbols stand for."""
    if a == b:
        return True
    if not has_symbols(a, b):
        return False
    import sympy

    return bool(sympy.simplify(a - b) == 0)


def differ(a: Any, b: Any) -> str:
    """What a message about two sizes adds where symbols leave the question open."""
    if not has_symbols(a, b):
        return ""
    import sympy

    if sympy.simplify(a - b).is_zero is False:
        return ""
    names = "=..., ".join(sorted(map(str, symbols_of(a, b))))
    return (
        f"; whether {a} = {b} is not known: use one symbol for both sides, "
        f"or first give numbers: A.bind({names}=...)"
    )


def complex_of(dtype: torch.dtype) -> torch.dtype:
    """``dtype.to_complex()``, in words that torch.compile follows."""
    return torch.promote_types(dtype, torch.complex32)


def broadcast(*shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """The shape that others broadcast to as in torch: sizes 1 stretch, equal ones agree.

    Args:
        shapes: tuples of sizes. A symbol stretches nothing, whatever it may stand for.

    Raises:
        ValueError: sizes that differ, or of which it is not known.

    Example:
        >>> broadcast((2, 1), (4,), ())
        (2, 4)
    """
    out: list[Any] = [1] * max(map(len, shapes), default=0)
    for shape in shapes:
        for at in range(-len(shape), 0):
            if same_size(out[at], 1):
                out[at] = shape[at]
            elif not same_size(shape[at], 1) and not same_size(shape[at], out[at]):
                found = ", ".join(map(str, shapes))
                raise ValueError(
                    f"batch dimensions {found} do not broadcast{differ(out[at], shape[at])}"
                )
    return tuple(out)


def tidy(value: Any) -> Any:
    """A count with its products multiplied out, where it has symbols."""
    if not has_symbols(value):
        return value
    import sympy

    return sympy.expand(value)


def takes_symbols(function: F) -> F:
    """Let a function of sizes accept symbols: it then makes an operator of :mod:`structmat.sized`.

    Args:
        function: has the name of a family of :mod:`structmat.sized`.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if has_symbols(*args, *kwargs.values()):
            from structmat.sized.form import FAMILIES

            return FAMILIES[function.__name__].make(*args, **kwargs)
        return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]
