"""Index maps: permutations as symbolic functions, never as passes over memory.

An index map of size n is a bijection ``i -> index[i]`` on ``{0, ..., n-1}``; the permutation matrix
it stands for gathers, ``(P x)[i] = x[index[i]]``. Two symbolic families are closed under
composition and inversion, and cover the permutations of fast transforms:

- :class:`DigitMap`: write the position in mixed radix and permute the digits,
  ``(P x) = x.reshape(shape).permute(order).reshape(n)``: stride permutations, bit reversal,
  every transposition of a reshaped vector (SPIRAL's L and J, Franchetti et al. 2018, sec. III);
- :class:`AffineMap`: ``index[i] = (a i + b) mod n`` with gcd(a, n) = 1: cyclic shifts, reversal,
  and the prime-size re-indexings of Rader and Good.

Everything else is an :class:`ArrayMap`, which holds its table and hashes by content.
Composition falls back from symbols to tables only where no common family exists.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from structmat.tables import Table
from structmat.tracing import Static, of_numbers

__all__ = ["AffineMap", "ArrayMap", "DigitMap", "IndexMap", "identity_map", "recognise"]


class IndexMap(Static):
    """A bijection on ``{0, ..., size-1}``, immutable and hashable."""

    size: int

    def array(self) -> NDArray[np.int64]:
        """The table ``index`` with ``(P x)[i] = x[index[i]]``, shape (size,)."""
        raise NotImplementedError

    def inverse(self) -> IndexMap:
        """The map of P^-1 = P^T."""
        raise NotImplementedError

    @property
    def is_identity(self) -> bool:
        """Whether P = I."""
        raise NotImplementedError

    def then(self, outer: IndexMap) -> IndexMap:
        """The map of ``P_outer @ P_self``: first self, then outer; index[i] = self[outer[i]]."""
        if self.size != outer.size:
            raise ValueError(f"index maps of sizes {self.size} and {outer.size} do not compose")
        if self.is_identity:
            return outer
        if outer.is_identity:
            return self
        if isinstance(self, DigitMap) and isinstance(outer, DigitMap):
            merged = _compose_digits(self, outer)
            if merged is not None:
                return merged
        if isinstance(self, AffineMap) and isinstance(outer, AffineMap):
            a = self.a * outer.a % self.size
            return AffineMap(self.size, a, (self.a * outer.b + self.b) % self.size)
        return recognise(self.array()[outer.array()])

    def lift(self, pre: int, post: int) -> IndexMap:
        """The map of I_pre (x) P (x) I_post."""
        if pre == 1 and post == 1:
            return self
        if isinstance(self, DigitMap):
            k = len(self.shape)
            return DigitMap((pre, *self.shape, post), (0, *(o + 1 for o in self.order), k + 1))
        grid = np.arange(pre * self.size * post, dtype=np.int64).reshape(pre, self.size, post)
        return recognise(grid[:, self.array(), :].reshape(-1))


@dataclass(frozen=True)
class DigitMap(IndexMap):
    """``P x = x.reshape(shape).permute(order).reshape(-1)``, kept in canonical form.

    Canonical: no digit of size 1, and digits that stay neighbours in the same order are one digit,
    so that equal permutations written in different radices compare equal.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]

    def __init__(self, shape: Sequence[int], order: Sequence[int]) -> None:
        if sorted(order) != list(range(len(shape))):
            raise ValueError(f"order {tuple(order)} does not permute the digits of {tuple(shape)}")
        new_shape, new_order = _canonical(tuple(shape), tuple(order))
        object.__setattr__(self, "shape", new_shape)
        object.__setattr__(self, "order", new_order)

    @property
    def size(self) -> int:  # type: ignore[override]
        """The number of positions n."""
        return math.prod(self.shape)

    def array(self) -> NDArray[np.int64]:
        """See :meth:`IndexMap.array`."""
        grid = np.arange(self.size, dtype=np.int64).reshape(self.shape)
        return np.ascontiguousarray(grid.transpose(self.order)).reshape(-1)

    def inverse(self) -> IndexMap:
        """See :meth:`IndexMap.inverse`."""
        out_shape = tuple(self.shape[o] for o in self.order)
        # without NumPy, which torch.compile would trace
        return DigitMap(out_shape, sorted(range(len(self.order)), key=lambda i: self.order[i]))

    @property
    def is_identity(self) -> bool:
        """See :meth:`IndexMap.is_identity`."""
        return self.order == tuple(range(len(self.order)))

    def _parts(self) -> tuple[Any, ...]:
        return self.shape, self.order

    def __str__(self) -> str:
        if self.is_identity:
            return f"identity({self.size})"
        shape = "x".join(map(str, self.shape))
        return f"digits({shape} -> {','.join(map(str, self.order))})"


@dataclass(frozen=True)
class AffineMap(IndexMap):
    """``index[i] = (a i + b) mod size`` with gcd(a, size) = 1."""

    size: int
    a: int
    b: int

    def __post_init__(self) -> None:
        if self.size and math.gcd(self.a, self.size) != 1:
            raise ValueError(f"gcd({self.a}, {self.size}) != 1: not a permutation")
        object.__setattr__(self, "a", self.a % self.size if self.size else 0)
        object.__setattr__(self, "b", self.b % self.size if self.size else 0)

    def array(self) -> NDArray[np.int64]:
        """See :meth:`IndexMap.array`."""
        if self.size == 0:
            return np.zeros(0, dtype=np.int64)
        return (np.arange(self.size, dtype=np.int64) * self.a + self.b) % self.size

    def inverse(self) -> IndexMap:
        """See :meth:`IndexMap.inverse`."""
        if self.size <= 1:
            return self
        a = pow(self.a, -1, self.size)
        return AffineMap(self.size, a, -a * self.b)

    @property
    def is_identity(self) -> bool:
        """See :meth:`IndexMap.is_identity`."""
        return self.size <= 1 or (self.a == 1 and self.b == 0)

    def _parts(self) -> tuple[Any, ...]:
        return self.size, self.a, self.b

    def __str__(self) -> str:
        return f"affine({self.a}*i + {self.b} mod {self.size})"


@dataclass(frozen=True)
class ArrayMap(IndexMap):
    """A permutation by its table; equality and hash by content."""

    table: Table

    @property
    def size(self) -> int:  # type: ignore[override]
        """The number of positions n."""
        return self.table.size

    @classmethod
    def of(cls, table: NDArray[np.int64]) -> ArrayMap:
        """Build from a table that is known to be a permutation."""
        return cls(Table.of(table))

    def array(self) -> NDArray[np.int64]:
        """See :meth:`IndexMap.array`."""
        return self.table.array()

    def inverse(self) -> IndexMap:
        """See :meth:`IndexMap.inverse`."""
        return _inverse(self.table.entries())

    @cached_property
    def _identity(self) -> bool:
        return bool((self.array() == np.arange(self.size)).all())

    @property
    def is_identity(self) -> bool:
        """See :meth:`IndexMap.is_identity`."""
        if torch.compiler.is_dynamo_compiling():
            return _in_order(self.table.entries())
        return self._identity

    def _parts(self) -> tuple[Any, ...]:
        return (self.table,)

    def __str__(self) -> str:
        return f"table({self.size}, {self.table.digest[:8]})"


@of_numbers
def _inverse(entries: bytes) -> ArrayMap:
    return ArrayMap.of(np.argsort(np.frombuffer(entries, np.int64)))


@of_numbers
def _in_order(entries: bytes) -> bool:
    return bool((np.diff(np.frombuffer(entries, np.int64), prepend=-1) == 1).all())


def identity_map(n: int) -> IndexMap:
    """The identity on n positions."""
    return DigitMap((n,), (0,))


def recognise(index: NDArray[np.int64]) -> IndexMap:
    """The simplest map with this table: identity, affine, digit permutation, or the table itself.

    A digit permutation is recognised from its strides: the table of ``reshape(shape).permute``
    counts up in runs, so each output digit is a run of constant steps. O(n) in all cases.

    Raises:
        ValueError: if ``index`` is not a permutation of 0..n-1.
    """
    index = np.ascontiguousarray(index, dtype=np.int64)
    n = len(index)
    if index.ndim != 1 or not np.array_equal(np.bincount(index, minlength=n)[:n], np.ones(n)):
        raise ValueError("index is not a permutation of 0..n-1: entries repeat or are missing")
    if n <= 1 or bool((index == np.arange(n)).all()):
        return identity_map(n)
    step = int(index[1] - index[0]) % n
    if math.gcd(step, n) == 1:
        affine = AffineMap(n, step, int(index[0]))
        if np.array_equal(affine.array(), index):
            return affine
    digits = _digits_of(index)
    return digits if digits is not None else ArrayMap.of(index)


def _digits_of(index: NDArray[np.int64]) -> DigitMap | None:
    """The digit permutation with this table, or None."""
    n = len(index)
    if index[0] != 0:
        return None
    sizes: list[int] = []  # output digits, fastest first, with the input stride of each
    strides: list[int] = []
    done = 1
    while done < n:
        stride = int(index[done])
        size = 1
        while done * (size + 1) <= n and index[done * size] == stride * size:
            size += 1
        while size > 1 and n % (done * size):
            size -= 1
        if size == 1:
            return None
        sizes.append(size)
        strides.append(stride)
        done *= size
    sizes, strides = sizes[::-1], strides[::-1]
    slow_first = sorted(range(len(sizes)), key=lambda i: -strides[i])
    shape = tuple(sizes[i] for i in slow_first)
    order = tuple(slow_first.index(i) for i in range(len(sizes)))
    candidate = DigitMap(shape, order)
    return candidate if np.array_equal(candidate.array(), index) else None


def _canonical(
    shape: tuple[int, ...], order: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if math.prod(shape) == 0:
        return (0,), (0,)
    groups: list[list[int]] = []  # output digits, merged where they follow each other in the input
    kept = [o for o in order if shape[o] != 1]
    rank = {o: i for i, o in enumerate(sorted(kept))}
    for o in kept:
        if groups and rank[groups[-1][-1]] + 1 == rank[o]:
            groups[-1].append(o)
        else:
            groups.append([o])
    if not groups:
        return (1,), (0,)
    by_input = sorted(range(len(groups)), key=lambda g: groups[g][0])
    new_shape = tuple(math.prod([shape[o] for o in groups[g]]) for g in by_input)
    return new_shape, tuple(by_input.index(g) for g in range(len(groups)))


def refine(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    """The coarsest mixed radix that refines both a and b (slowest digit first), or None.

    Both must have the same product. Cut positions are the suffix products; a common refinement
    exists iff the merged cuts form a divisibility chain.
    """
    cuts = sorted({*_suffix_products(a), *_suffix_products(b)})
    out = []
    for small, large in itertools.pairwise(cuts):
        if large % small:
            return None
        out.append(large // small)
    return tuple(reversed(out))


def _suffix_products(sizes: Sequence[int]) -> list[int]:
    out = [1]
    for s in reversed(sizes):
        out.append(out[-1] * s)
    return out


def split_digits(sizes: Sequence[int], fine: Sequence[int]) -> list[list[int]]:
    """For each digit of ``sizes``, the indices of the digits of its refinement ``fine``."""
    out: list[list[int]] = []
    j = 0
    for s in sizes:
        group, have = [], 1
        while have < s:
            group.append(j)
            have *= fine[j]
            j += 1
        out.append(group)
    return out


def _compose_digits(inner: DigitMap, outer: DigitMap) -> IndexMap | None:
    """outer after inner on a common radix of inner's output and outer's input, if there is one."""
    mid = [inner.shape[o] for o in inner.order]
    fine = refine(mid, outer.shape)
    if fine is None:
        return None
    mid_split = split_digits(mid, fine)
    # the refined digits in the order of inner's input
    source: list[int] = []
    for digit in range(len(inner.shape)):
        source.extend(mid_split[inner.order.index(digit)])
    out_split = split_digits(outer.shape, fine)
    target = [j for o in outer.order for j in out_split[o]]
    return DigitMap(tuple(fine[j] for j in source), tuple(source.index(j) for j in target))
