"""Arithmetic of sizes and numbers in a text, exact where they are: 3 / 2 is a fraction.

Symbols are those of sympy (:func:`structmat.dim`). Results are bounded: what a text asks to
compute is small, or an error.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from structmat.sizes import has_symbols, symbols_of

__all__ = ["ARITHMETIC", "arithmetic", "is_number", "plain", "root"]

BITS = 62
"""Of the largest integer."""

HIGHEST = 64
"""The largest exponent."""

ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
"""What the signs do."""


def is_number(value: object) -> bool:
    """Whether a value is a number or has symbols; True and False are none."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float | complex | Fraction) or has_symbols(value)


def plain(value: Any) -> Any:
    """Integers as int: fractions, and what sympy is left with when symbols cancel."""
    if isinstance(value, Fraction) and value.denominator == 1:
        return value.numerator
    if has_symbols(value) and value.is_Integer:
        return int(value)
    return value


def arithmetic(kind: type[ast.operator], a: Any, b: Any) -> Any:
    """a + b, a - b, a * b, a / b, a // b or a ** b.

    Raises:
        ArithmeticError: division by zero; a power or a result that is too large.

    Example:
        >>> arithmetic(ast.Div, 6, 3), arithmetic(ast.Div, 1, 3)
        (2, Fraction(1, 3))
    """
    exact = all(isinstance(v, int | Fraction) for v in (a, b))
    if kind is ast.Div and exact:
        return plain(Fraction(a) / Fraction(b))
    if kind is ast.Pow and not symbols_of(b) and (exact or has_symbols(a, b)) and abs(b) > HIGHEST:
        raise OverflowError(f"the power {b} is too large: {HIGHEST} at most")
    found = plain(ARITHMETIC[kind](a, b))
    if isinstance(found, int | Fraction) and abs(found) >= 2**BITS:
        raise OverflowError(f"a number of more than {BITS} bits")
    return found


def root(value: Any) -> Any:
    """The square root, exact for squares and for symbols.

    Raises:
        ValueError: a negative number.

    Example:
        >>> root(4096)
        64
    """
    if has_symbols(value):
        import sympy

        return sympy.sqrt(value)
    if isinstance(value, int) and value >= 0 and math.isqrt(value) ** 2 == value:
        return math.isqrt(value)
    return math.sqrt(value)
