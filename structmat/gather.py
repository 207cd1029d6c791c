"""Gathers: which positions of a vector to read, as a static value of an operator.

A gather is a list of positions below ``size``, in any order, repeats allowed. Runs with a constant
step (every slice is one) are kept as a :class:`range`, everything else as a table that is compared
by content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat.tables import Table
from structmat.tracing import Static, of_numbers

__all__ = ["Gather"]


@dataclass(frozen=True)
class Gather(Static):
    """Positions ``index[0], index[1], ...`` of a vector of ``size`` entries.

    Attributes:
        size: the length of the vector.
        run: the positions where they have a constant step, None otherwise.
        table: the positions where there is no run.
    """

    size: int
    run: range | None
    table: Table | None = None

    @classmethod
    def of(cls, index: range | Sequence[int] | NDArray[np.integer], size: int) -> Gather:
        """Build from positions that are known to lie in 0..size-1."""
        return _gathered(index, size)

    def __len__(self) -> int:
        if self.run is not None:
            return len(self.run)
        assert self.table is not None
        return self.table.size

    def array(self) -> NDArray[np.int64]:
        """The positions."""
        if self.run is not None:
            return np.arange(self.run.start, self.run.stop, self.run.step, dtype=np.int64)
        assert self.table is not None
        return self.table.array()

    @cached_property
    def unique(self) -> bool:
        """Whether no position is read twice."""
        return self.run is not None or len(np.unique(self.array())) == len(self)

    @property
    def is_identity(self) -> bool:
        """Whether everything is read in order."""
        return self.run is not None and self.run == range(self.size)

    @property
    def contiguous(self) -> bool:
        """Whether the positions are ``start, start + 1, ...``."""
        return self.run is not None and self.run.step == 1

    def then(self, outer: Gather) -> Gather:
        """Read with ``self``, and from the result with ``outer``: index[i] = self[outer[i]]."""
        if self.run is not None and outer.run is not None:
            return Gather.of(
                self.run[outer.run.start : _stop(outer.run) : outer.run.step], self.size
            )
        return Gather.of(self.array()[outer.array()], self.size)

    def take(self, t: Tensor, dim: int) -> Tensor:
        """These positions of a dimension of t; a view where the step is positive."""
        if self.is_identity:
            return t
        dim = dim % t.ndim
        if self.run is None:
            return t.index_select(dim, self.tensor(t.device))
        run = self.run if self.run.step > 0 else self.run[::-1]
        cut = t[(*[slice(None)] * dim, slice(run.start, run.stop, run.step))]
        return cut if run is self.run else cut.flip(dim)

    def tensor(self, device: torch.device) -> Tensor:
        """The positions as an int64 tensor."""
        return torch.from_numpy(self.array().copy()).to(device)

    def _parts(self) -> tuple[Any, ...]:
        return self.size, self.run, self.table

    def __str__(self) -> str:
        if self.run is None:
            assert self.table is not None
            return f"{len(self)} of {self.size}, {self.table.digest[:8]}"
        step = f":{self.run.step}" if self.run.step != 1 else ""
        stop = self.run.stop if self.run.stop >= 0 else ""
        return f"{self.run.start}:{stop}{step} of {self.size}"


@of_numbers
def _gathered(index: range | Sequence[int] | NDArray[np.integer], size: int) -> Gather:
    if not isinstance(index, range):
        table = np.ascontiguousarray(index, dtype=np.int64).reshape(-1)
        found = _run(table)
        if found is None:
            return Gather(size, None, Table.of(table))
        index = found
    # One spelling for equal runs: what follows the last position does not count.
    if len(index) <= 1:
        first = index[0] if index else 0
        return Gather(size, range(first, first + len(index)))
    return Gather(size, range(index[0], index[-1] + (1 if index.step > 0 else -1), index.step))


def _stop(run: range) -> int | None:
    """The stop of a run as a slice has it: below zero means to the end."""
    return run.stop if run.stop >= 0 else None


def _run(table: NDArray[np.int64]) -> range | None:
    """The run with these positions, or None."""
    if len(table) == 0:
        return range(0)
    first = int(table[0])
    if len(table) == 1:
        return range(first, first + 1)
    step = int(table[1]) - first
    if step == 0 or not bool((np.diff(table) == step).all()):
        return None
    return range(first, int(table[-1]) + (1 if step > 0 else -1), step)
