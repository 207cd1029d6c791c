"""Functions of symbolic sizes: logarithm to base 2, fast lengths, operations of a transform.

Each becomes an integer where its argument does, and is then equal to what the concrete operators
count. This module imports sympy, and is imported where there are symbols.
"""

from __future__ import annotations

from typing import Any

import sympy

from structmat.leaves.toeplitz import fast_length as next_fast_length
from structmat.primitives.counts import fft_operations

__all__ = ["fast_length", "fft", "half", "log2", "when_power_of_two"]


class log2(sympy.Function):  # type: ignore[misc]
    """The logarithm to base 2."""

    @classmethod
    def eval(cls, n: Any) -> Any:
        """Powers of two come out: log2(8 n) = 3 + log2(n)."""
        if n.is_Integer and n > 0:
            power = int(n).bit_length() - 1
            return sympy.Integer(power) if n == 2**power else sympy.log(n) / sympy.log(2)
        if n.is_Pow and n.base == 2:
            return n.exp
        number, rest = n.as_coeff_Mul()
        if number != 1 and number.is_Rational and {number.p, number.q} & {1}:
            power = int(number.p * number.q).bit_length() - 1
            if number.p * number.q == 2**power:
                return (power if number.q == 1 else -power) + cls(rest)
        return None

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        argument = printer._print(self.args[0])
        if not self.args[0].is_Symbol:
            argument = rf"\left({argument}\right)"
        return rf"\log_2{power} {argument}"


class fast_length(sympy.Function):  # type: ignore[misc]
    """The least length >= n with small prime factors only."""

    @classmethod
    def eval(cls, n: Any) -> Any:
        """The integer, where n is one."""
        return sympy.Integer(next_fast_length(int(n))) if n.is_Integer else None

    def _eval_is_integer(self) -> bool:
        return True

    def _eval_is_positive(self) -> bool:
        return True

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\operatorname{{fast}}{power}\left({printer._print(self.args[0])}\right)"


def fft(n: Any, complex_: bool) -> tuple[Any, Any]:
    """(products, sums) of a Fourier transform of length n > 1; see ``fft_operations``."""
    if isinstance(n, int) or n.is_Integer:
        return fft_operations(int(n), complex_)
    mults = sympy.Max(0, sympy.ceiling(n * log2(n) / 2 - sympy.Rational(3, 2) * n + 2))
    adds = sympy.ceiling(n * log2(n))
    return (mults, adds) if complex_ else (2 * mults, mults + adds)


def half(n: Any) -> Any:
    """How many frequencies a real transform of length n has: floor(n / 2) + 1."""
    return n // 2 + 1 if isinstance(n, int) else sympy.floor(n / 2) + 1


def when_power_of_two(value: Any) -> Any:
    """A count without roundings, equal to it where the length of its transforms is 2^L > 1.

    Args:
        value: an expression with ceilings, floors and maxima with 0, as :func:`fft` makes them.
    """
    if not isinstance(value, sympy.Basic):
        return value
    value = value.replace(sympy.Max, lambda *a: sum(a)).replace(sympy.ceiling, lambda a: a)
    return sympy.expand(value.replace(sympy.floor, lambda a: a))
