"""Which of two sizes is the larger, whatever their symbols stand for.

A difference of sizes is nonnegative if it has a lower bound that sympy knows to be: each symbol is
1 + s with s >= 0, and roundings and extrema that stand alone in a sum are bounded,

    x - (q - 1) / q <= floor(x) <= x <= ceiling(x) <= x + (q - 1) / q,   q x an integer,
    min(a, b) <= a, b <= max(a, b).

This proves much and not everything: sqrt(n) <= n stays open. This module imports sympy, and is
imported where there are symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy

__all__ = ["at_most"]


def at_most(a: Any, b: Any) -> bool | None:
    """Whether a <= b for all values of the symbols: True, False where b < a for all, else None.

    Args:
        a: a size, or a difference of sizes.
        b: likewise.

    Example:
        >>> import structmat as sm
        >>> n, k = sm.dim("n"), sm.dim("k")
        >>> at_most(k, n + k), at_most(n // 2, n), at_most(n, n - 1), at_most(k, n)
        (True, True, False, None)
    """
    difference = sympy.expand(sympy.sympify(b) - sympy.sympify(a))
    if _nonnegative(difference):
        return True
    rest = -difference  # b < a is a - b >= 1 for integers
    return False if rest.is_integer and _nonnegative(rest - 1) else None


def _nonnegative(value: Any) -> bool:
    if value.is_nonnegative:
        return True
    least = {
        s: sympy.Dummy(s.name, integer=True, nonnegative=True) + 1
        for s in value.free_symbols
        if s.is_integer and s.is_positive
    }
    if sympy.expand(value.xreplace(least)).is_nonnegative:
        return True
    return any(map(_nonnegative, _below(value)))


def _below(value: Any) -> Iterator[Any]:
    """Lower bounds of a sum, each without its first rounding or extremum that is linear in it."""
    for term, factor in value.as_coefficients_dict().items():
        down = term.func in (sympy.floor, sympy.Min)
        if not down and term.func not in (sympy.ceiling, sympy.Max):
            continue
        rest = value - factor * term
        if term.func in (sympy.Min, sympy.Max):
            bounds = term.args if down == (factor < 0) else ()
        elif down == (factor < 0):
            bounds = term.args
        else:
            (x,) = term.args
            bounds = (x - _loss(x) if down else x + _loss(x),)
        yield from (sympy.expand(rest + factor * b) for b in bounds)
        return


def _loss(x: Any) -> Any:
    """The most that rounding x takes away."""
    above, below = sympy.fraction(sympy.together(x))
    return 1 - 1 / below if above.is_integer and below.is_Integer else sympy.Integer(1)
