"""Rings and semirings in which a circuit can be evaluated.

A circuit uses nothing but additions and multiplications, so it computes over every semiring in
which its weights have a meaning: integers modulo a prime and rational numbers make checks exact,
(max, +) turns it into a longest path, booleans into reachability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from structmat.circuit.core import Circuit

__all__ = ["Boolean", "MaxPlus", "Modular", "Rational", "Ring", "evaluated"]

Array = NDArray[Any]


class Ring(Protocol):
    """A commutative semiring on NumPy arrays."""

    @property
    def zero(self) -> Any:
        """The neutral element of sums."""

    def elements(self, x: ArrayLike) -> Array:
        """An array of the ring, of the same shape.

        Raises:
            ValueError: an entry is no element.
        """

    def times(self, a: Array, b: Array) -> Array:
        """Products of entries."""

    def sums(self, a: Array, starts: Array) -> Array:
        """Sums of a[starts[i] : starts[i + 1]] along axis 0; none of them is empty."""


def _fractions(x: ArrayLike) -> Array:
    def exact(v: Any) -> Fraction:
        if isinstance(v, complex | np.complexfloating):
            if v.imag != 0:
                raise ValueError(f"{v} is no rational number")
            v = v.real
        return Fraction(v.item() if isinstance(v, np.generic) else v)

    a = np.asarray(x)
    out = np.empty(a.shape, dtype=object)
    out.reshape(-1)[:] = [exact(v) for v in a.reshape(-1)]
    return out


@dataclass(frozen=True)
class Modular:
    """Integers modulo a prime p < 2^31; a fraction a / b is a times the inverse of b.

    Example:
        >>> import structmat as sm
        >>> from structmat.circuit import Modular
        >>> sm.circuit(sm.Hadamard(4)).evaluate([1, 2, 3, 4], Modular(7)).tolist()
        [3, 5, 3, 0]
    """

    p: int
    zero: int = 0

    def __post_init__(self) -> None:
        from sympy import isprime

        if not (isprime(self.p) and self.p < 2**31):
            raise ValueError(f"Modular: {self.p} is no prime below 2^31")

    def elements(self, x: ArrayLike) -> Array:
        """Residues from 0 to p - 1."""
        a = np.asarray(x)
        whole: Array
        if np.issubdtype(a.dtype, np.floating) and (np.abs(a) < 2**53).all():
            whole = a.astype(np.int64)
            if (whole == a).all():
                return whole % self.p
        if np.issubdtype(a.dtype, np.integer):
            return (a % self.p).astype(np.int64)
        out = np.empty(a.shape, dtype=np.int64)
        for i, v in enumerate(_fractions(a).reshape(-1)):
            if v.denominator % self.p == 0:
                raise ValueError(f"{v} has no inverse of its denominator modulo {self.p}")
            out.reshape(-1)[i] = v.numerator * pow(v.denominator, -1, self.p) % self.p
        return out

    def times(self, a: Array, b: Array) -> Array:
        """Products."""
        product: Array = a * b % self.p
        return product

    def sums(self, a: Array, starts: Array) -> Array:
        """Sums of segments."""
        total: Array = np.add.reduceat(a, starts, axis=0) % self.p
        return total


@dataclass(frozen=True)
class _Ufuncs:
    """A semiring of two ufuncs of NumPy."""

    add: np.ufunc
    multiply: np.ufunc
    zero: Any
    cast: Callable[[ArrayLike], Array]

    def elements(self, x: ArrayLike) -> Array:
        """Numbers as elements."""
        return self.cast(x)

    def times(self, a: Array, b: Array) -> Array:
        """Products."""
        product: Array = self.multiply(a, b)
        return product

    def sums(self, a: Array, starts: Array) -> Array:
        """Sums of segments."""
        total: Array = self.add.reduceat(a, starts, axis=0)
        return total


def Rational() -> Ring:
    """Rational numbers (``fractions.Fraction``); a float is the number that it stands for.

    Example:
        >>> import structmat as sm
        >>> from structmat.circuit import Rational
        >>> [str(v) for v in sm.circuit(0.25 * sm.Hadamard(2)).evaluate([1, 2], Rational())]
        ['3/4', '-1/4']
    """
    return _Ufuncs(np.add, np.multiply, Fraction(0), _fractions)


def MaxPlus() -> Ring:
    """Longest paths: a sum is the maximum, a product the sum, zero is -inf.

    Example:
        >>> import structmat as sm
        >>> from structmat.circuit import MaxPlus
        >>> A = sm.Dense([[1.0, 2.0], [5.0, 0.0]])
        >>> sm.circuit(A).evaluate([10.0, 3.0], MaxPlus()).tolist()
        [11.0, 15.0]
    """
    return _Ufuncs(np.maximum, np.add, -np.inf, lambda x: np.asarray(x, dtype=np.float64))


def Boolean() -> Ring:
    """Reachability: a sum is or, a product and; a weight is true unless it is 0."""
    return _Ufuncs(np.logical_or, np.logical_and, False, lambda x: np.asarray(x) != 0)


def evaluated(c: Circuit, x: ArrayLike, ring: Ring) -> Array:
    """The outputs of c for x (..., n) over a ring."""
    if c.weights.ndim != 1:
        raise ValueError("evaluate: the circuit has a batch of weights; take one of them")
    columns = np.moveaxis(ring.elements(x), -1, 0)
    if columns.shape[0] != c.n:
        raise ValueError(f"evaluate: x has {columns.shape[0]} entries, the circuit {c.n} inputs")
    w = ring.elements(c.constants())
    w = w.reshape(-1, *[1] * (columns.ndim - 1))
    # one row more than nodes: the output that is zero
    values = np.full((c.nodes + 1, *columns.shape[1:]), ring.zero, dtype=columns.dtype)
    values[: c.n] = columns
    for a, b in zip(c.levels[1:-1].tolist(), c.levels[2:].tolist(), strict=True):
        i, j = c.starts[a - c.n], c.starts[b - c.n]
        products = ring.times(w[i:j], values[c.tails[i:j]])
        values[a:b] = ring.sums(products, c.starts[a - c.n : b - c.n] - i)
    return np.moveaxis(values[c.outputs], 0, -1)
