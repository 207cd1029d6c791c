"""Tables of integers: static data of structures and of generated code, kept on each device.

A :class:`Table` is any vector of integers (row pointers, column indices); an
:class:`structmat.index.IndexMap` is a permutation and knows its table. Both compare and hash by
content, which makes them part of a structure and of the key of a program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = ["Indices", "Table", "index_tensor"]


class Indices(Protocol):
    """What has a table: hashable, the same for equal tables."""

    def array(self) -> NDArray[np.int64]:
        """The table, one-dimensional, not to be written to."""

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Table:
    """An immutable vector of integers; equality and hash by content.

    Attributes:
        size: number of entries.
        digest: of the entries, 16 hexadecimal digits.
        table: the entries.
        narrow: whether its tensors are int32, for libraries that would convert int64 at every call.
    """

    size: int
    digest: str
    table: NDArray[np.int64] = field(repr=False, compare=False)
    narrow: bool = False

    @classmethod
    def of(cls, values: NDArray[np.integer] | Sequence[int], narrow: bool = False) -> Table:
        """Build from an array, which is copied only where its type or layout differ."""
        table = np.ascontiguousarray(values, dtype=np.int64)
        if table.flags.writeable:
            table = table.view()
            table.setflags(write=False)
        return cls(len(table), hashlib.sha256(table.tobytes()).hexdigest()[:16], table, narrow)

    def array(self) -> NDArray[np.int64]:
        """See :meth:`Indices.array`."""
        return self.table

    def narrowed(self) -> Table:
        """The same table for int32 tensors; itself where an entry does not fit."""
        fits = self.size == 0 or int(np.abs(self.table).max()) < 2**31
        return replace(self, narrow=True) if fits else self

    def __str__(self) -> str:
        return f"table({self.size}, {self.digest}{', int32' if self.narrow else ''})"


def index_tensor(index: Indices, device: torch.device) -> Tensor:
    """The table of ``index`` as a tensor of integers on ``device``, kept for reuse.

    While torch traces it is built anew: a fake tensor must not outlive its mode.
    """
    traced = torch.compiler.is_dynamo_compiling() or is_in_torch_dispatch_mode()
    return (_table if traced else _kept_table)(index, device)


def _table(index: Indices, device: torch.device) -> Tensor:
    narrow = isinstance(index, Table) and index.narrow
    table = index.array().astype(np.int32 if narrow else np.int64)  # a copy
    return torch.from_numpy(table).to(device)


_kept_table = lru_cache(maxsize=256)(_table)
