"""Permutations as a Benes network: 2 log2 N stages of switches, a product of two butterflies.

A stage of stride h has a switch on each pair of positions (p, p + h), which passes the two values
straight or swaps them. The strides are N/2, ..., 2, 1 and then 1, 2, ..., N/2, so the first half is
a ``Butterfly(increasing_stride=False)`` and the second a ``Butterfly``, with blocks I or the swap.

The switches are set by the looping algorithm (Opferman and Tsao-Wu, "On a class of rearrangeable
switching networks", Bell System Technical Journal 50, 1971), from the outermost pair of stages
inwards. Between them lie two networks of half the size, and each value takes one of them: the two
values of an input switch take different ones, and so do the two of an output switch. With
y[p] = x[index[p]] and p' = p xor h, the other position of the switch,

    sigma(p) = index^-1(index(p')')

takes the same network as p, and p' the other one; p and p' never lie on one cycle of sigma. So of
two such cycles, that with the smaller first element takes the upper network. All switches of a
stage are set together, by the connected components of sigma: O(N log N) in array operations.

Source: Benes, "Optimal rearrangeable multistage connecting networks", Bell System Technical Journal
43, 1964.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat.leaves.butterfly import Butterfly
from structmat.operator import LinearOperator

__all__ = ["Benes", "benes", "mirrored", "routed", "swaps"]

Integers = NDArray[np.int64]
Switches = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Benes:
    """A permutation as a network of switches, made by :func:`structmat.circuit.benes`.

    Attributes:
        n: size of the permutation.
        inputs: (log2 N, N/2), which switches of the first half swap; row t has stride 2^t, in the
            order of ``Butterfly``'s twiddle. The half applies the last row first.
        outputs: the same for the second half, which applies the first row first.
        left: the second half as a matrix, a ``Butterfly`` of size N.
        right: the first half, a ``Butterfly`` of size N with decreasing stride.
        operator: ``left @ right``, or its first n rows and columns where N > n.
    """

    n: int
    inputs: Switches
    outputs: Switches
    left: Butterfly
    right: Butterfly
    operator: LinearOperator

    @property
    def expansion(self) -> float:
        """N / n, where N is the least power of two that is at least n and 2."""
        return self.left.shape[0] / self.n

    def __repr__(self) -> str:
        stages, half = self.inputs.shape
        crossed = int(self.inputs.sum() + self.outputs.sum())
        return (
            f"Benes({self.n}: {2 * stages} stages of {half} switches, {crossed} of "
            f"{2 * stages * half} crossed, expansion {self.expansion:g})"
        )


def benes(index: Any, dtype: torch.dtype | None = None) -> Benes:
    """A permutation as a product of two butterflies whose blocks are I or the swap.

    Args:
        index: a permutation of 0..n-1, n >= 1, as for :class:`structmat.Permutation`, or one.
        dtype: of the zeros and ones in the butterflies; by default torch's default dtype.

    Returns:
        The network. ``operator`` is exactly the permutation matrix; sizes that are no power of two
        are padded, the padding keeps its place.

    Raises:
        TypeError: index is not integer.
        ValueError: index is not one-dimensional, not a permutation, or empty.

    Source: Benes 1964; Opferman and Tsao-Wu 1971.

    Example:
        >>> import torch, structmat as sm
        >>> net = sm.circuit.benes([2, 0, 3, 1])
        >>> net
        Benes(4: 4 stages of 2 switches, 3 of 8 crossed, expansion 1)
        >>> net.operator(torch.tensor([10.0, 20.0, 30.0, 40.0]))
        tensor([30., 10., 40., 20.])
    """
    from structmat.leaves.permutation import Permutation

    given = index if isinstance(index, Permutation) else Permutation(index)
    n = given.shape[0]
    if n == 0:
        raise ValueError("benes: a permutation of nothing has no network; needs n >= 1")
    padded = np.arange(1 << max(n - 1, 1).bit_length(), dtype=np.int64)
    padded[:n] = given.index.array()
    inputs, outputs = routed(padded)
    dtype = dtype or torch.get_default_dtype()
    left, right = swaps(outputs, True, dtype), swaps(inputs, False, dtype)
    whole: LinearOperator = left @ right
    return Benes(n, inputs, outputs, left, right, whole if padded.size == n else whole[:n, :n])


def swaps(crossed: Switches, increasing_stride: bool, dtype: torch.dtype) -> Butterfly:
    """The butterfly of a half of the network: (log2 N, N/2) switches, swapped where True."""
    at = torch.from_numpy(crossed)[..., None, None]
    straight = torch.eye(2, dtype=dtype)
    twiddle: Tensor = torch.where(at, straight.flip(0), straight)
    return Butterfly(twiddle, increasing_stride=increasing_stride)


def routed(index: Integers) -> tuple[Switches, Switches]:
    """The switches of the first and of the second half for y[p] = x[index[p]], N a power of two."""
    size = index.size
    stages = size.bit_length() - 1
    inputs, outputs = (np.zeros((stages, size // 2), dtype=bool) for _ in range(2))
    place = np.arange(size, dtype=np.int64)
    index = index.copy()
    for t in reversed(range(stages)):
        h = 1 << t
        inverse = np.empty_like(index)
        inverse[index] = place
        first = _first_of_cycle(inverse[index[place ^ h] ^ h])
        lower = first > first[place ^ h]  # this output comes from the lower network
        upper_half = (place & h) == 0
        outputs[t] = lower[upper_half]
        inputs[t] = lower[inverse][upper_half]
        # what stays to be done between the two stages: move within the blocks of size h
        inner = np.empty_like(index)
        inner[_side(place, lower, h)] = _side(index, lower, h)
        index = inner
    return inputs, outputs


def mirrored(index: Integers) -> tuple[Switches, Switches]:
    """The same for the network whose strides are 1, 2, ..., N/2 and then N/2, ..., 2, 1.

    It is the Benes network of the permutation with the bits of all positions reversed.
    """
    size = index.size
    stages = size.bit_length() - 1
    place = np.arange(size, dtype=np.int64)
    turned = np.zeros_like(place)
    for t in range(stages):
        turned |= ((place >> t) & 1) << (stages - 1 - t)
    found = routed(turned[index[turned]])
    moved = tuple(np.empty_like(half) for half in found)
    for t in range(stages):
        at = turned[(place >> t) & 1 == 0]
        other = stages - 1 - t
        pair = ((at >> (other + 1)) << other) | (at & ((1 << other) - 1))
        for new, old in zip(moved, found, strict=True):
            new[other, pair] = old[t]
    return moved[0], moved[1]


def _side(position: Integers, lower: Switches, h: int) -> Integers:
    """The position on the other or the same side of its pair, as ``lower`` says."""
    return (position & ~h) | np.where(lower, h, 0)


def _first_of_cycle(sigma: Integers) -> Integers:
    """The smallest element of the cycle on which each element lies."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    size = sigma.size
    graph = csr_array((np.ones(size, dtype=np.int8), sigma, np.arange(size + 1)))
    # the cycles of a permutation are its strongly connected components
    count, label = connected_components(graph, directed=True, connection="strong")
    first = np.empty(count, dtype=np.int64)
    first[label[::-1]] = np.arange(size - 1, -1, -1)  # the last assignment stays: the smallest
    smallest: Integers = first[label]
    return smallest
