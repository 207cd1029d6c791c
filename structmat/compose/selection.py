"""Selections: matrices that pick entries of a vector, and the indexing that is made of them.

    (S x)[i] = x[index[i]]          (S^T y)[j] = sum of y[i] over all i with index[i] = j

A slice of a matrix is a product, A[rows, columns] = S_rows A S_columns^T, and the simplifier moves
the selections into the structure of A. They move numbers and do no arithmetic; only S^T of an
index with repeats adds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.compose.routes import route
from structmat.gather import Gather
from structmat.operator import LinearOperator
from structmat.tracing import need_static, of_numbers

__all__ = ["Selection"]


class Selection(LinearOperator):
    """The matrix with ``(S x)[i] = x[index[i]]``; its transpose adds into places.

    Args:
        index: positions in 0..n-1, in any order, repeats allowed: a range, a sequence, an integer
            array or tensor. The positions are part of the structure, not a tensor of the operator.
        n: length of x.
        dtype: makes it take part in dtype promotion; by default it takes the dtype of x.

    Raises:
        TypeError: index is not integer.
        ValueError: index is not one-dimensional, or n is negative.
        IndexError: a position is out of range.

    Example:
        >>> import torch, structmat as sm
        >>> S = sm.Selection([2, 0, 2], 4)
        >>> S(torch.tensor([10.0, 20.0, 30.0, 40.0]))
        tensor([30., 10., 30.])
        >>> S.T(torch.tensor([1.0, 2.0, 3.0]))
        tensor([2., 0., 4., 0.])
    """

    index: Gather
    transposed: bool

    def __init__(self, index: Any, n: int, dtype: torch.dtype | None = None) -> None:
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise ValueError(f"Selection: n must be a non-negative integer, got {n!r}")
        if isinstance(index, Gather):
            gather = index
        else:
            need_static("Selection: index", index)
            gather = _gather(index, n)
        if gather.size != n:
            raise ValueError(f"Selection: the index reads from {gather.size} entries, n is {n}")
        self._init(static={"index": gather, "transposed": False, "dtype": dtype})

    def _shape(self) -> tuple[int, int]:
        m, n = len(self.index), self.index.size
        return (n, m) if self.transposed else (m, n)

    def _lower(self, g: Builder, x: Any) -> Any:
        steps = route(self.index)
        for step in reversed(steps) if self.transposed else steps:
            x = step.adjoint(g, x) if self.transposed else step.forward(g, x)
        return x

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        m, n = len(self.index), self.index.size
        out = torch.zeros(m, n, dtype=dtype, device=device)
        out[torch.arange(m, device=device), self.index.tensor(device)] = 1
        return out.mT if self.transposed else out

    def _transpose(self) -> LinearOperator:
        return self._replace({}, (), {**self.static, "transposed": not self.transposed})

    def _label(self) -> str:
        return f"Selection({self.index})" + (".T" if self.transposed else "")


@of_numbers
def _gather(index: Any, n: int) -> Gather:
    if isinstance(index, range):
        found = Gather.of(index, n)
    else:
        table = np.asarray(index.cpu() if isinstance(index, Tensor) else index)
        if table.size and not np.issubdtype(table.dtype, np.integer):
            raise TypeError(f"Selection: index is {table.dtype}, needs integers")
        if table.ndim != 1:
            raise ValueError(f"Selection: index has shape {table.shape}, needs one dimension")
        found = Gather.of(table, n)
    if len(found):
        low, high = sorted(_ends(found))
        if low < 0 or high >= n:
            raise IndexError(
                f"Selection: positions range from {low} to {high}, need 0 to {n - 1} for n = {n}"
            )
    return found


def _ends(found: Gather) -> tuple[int, int]:
    if found.run is not None:
        return found.run[0], found.run[-1]
    return int(found.array().min()), int(found.array().max())
