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
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from structmat.tracing import Static, constant, of_numbers

__all__ = ["Indices", "Table", "index_tensor"]


class Indices(Protocol):
    """What has a table: hashable, the same for equal tables."""

    def array(self) -> NDArray[np.int64]:
        """The table, one-dimensional, not to be written to."""

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Table(Static):
    """An immutable vector of integers; equality and hash by content.

    Attributes:
        size: number of entries.
        digest: of the entries, 16 hexadecimal digits.
        table: the entries, as an array, or as the bytes of one.
        narrow: whether its tensors are int32, for libraries that would convert int64 at every call.
        raw: whether they are bytes; in a graph of torch.compile they are.
    """

    size: int
    digest: str
    table: NDArray[np.int64] | bytes = field(repr=False, compare=False)
    narrow: bool = False
    raw: bool = field(default=False, repr=False, compare=False)

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
        return np.frombuffer(self.table, np.int64) if isinstance(self.table, bytes) else self.table

    def entries(self) -> bytes:
        """The bytes of the table; a constant to Dynamo."""
        return self.table if self.raw else self._bytes(self.digest)  # type: ignore[return-value]

    def _parts(self) -> tuple[Any, ...]:
        return self.size, self.digest, self.entries(), self.narrow, True

    @constant
    def _bytes(self, digest: str) -> bytes:
        """As an argument the digest makes Dynamo compile again for another table."""
        return self.array().tobytes()

    def narrowed(self) -> Table:
        """The same table for int32 tensors; itself where an entry does not fit."""
        fits = self.size == 0 or int(np.abs(self.array()).max()) < 2**31
        return replace(self, narrow=True) if fits else self

    def __str__(self) -> str:
        return f"table({self.size}, {self.digest}{', int32' if self.narrow else ''})"


def index_tensor(index: Indices, device: torch.device) -> Tensor:
    """The table of ``index`` as a tensor of integers on ``device``, kept for reuse.

    While torch traces it is built anew: a fake tensor must not outlive its mode.
    """
    if torch.compiler.is_dynamo_compiling() and isinstance(index, Table):
        dtype = torch.int32 if index.narrow else torch.int64
        return torch.tensor(_numbers(index.entries()), dtype=dtype, device=device)
    traced = torch.compiler.is_dynamo_compiling() or is_in_torch_dispatch_mode()
    return (_table if traced else _kept_table)(index, device)


@of_numbers
def _numbers(entries: bytes) -> tuple[int, ...]:
    return tuple(np.frombuffer(entries, np.int64).tolist())


def _table(index: Indices, device: torch.device) -> Tensor:
    narrow = isinstance(index, Table) and index.narrow
    table = index.array().astype(np.int32 if narrow else np.int64)  # a copy
    return torch.from_numpy(table).to(device)


_kept_table = lru_cache(maxsize=256)(_table)
