"""Permutations: index maps, no arithmetic. ``(P x)[i] = x[index[i]]``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.builder import Builder, index_tensor
from structmat.index import AffineMap, DigitMap, IndexMap, identity_map, recognise
from structmat.leaves.diagonal import _size
from structmat.operator import LinearOperator
from structmat.sizes import takes_symbols
from structmat.tracing import need_static, of_numbers

__all__ = ["Permutation", "bit_reversal", "cyclic_shift", "reversal", "stride_permutation"]


class Permutation(LinearOperator):
    """The permutation matrix with ``(P x)[i] = x[index[i]]``.

    Args:
        index: a permutation of 0..n-1 as a tensor, array, sequence, or symbolic
            :class:`structmat.index.IndexMap`. Affine and digit permutations are recognised.
        dtype: makes it take part in dtype promotion; by default it takes the dtype of x.

    Raises:
        TypeError: index is not integer.
        ValueError: index is not one-dimensional or not a permutation.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Permutation([2, 0, 1])(torch.tensor([10.0, 20.0, 30.0]))
        tensor([30., 10., 20.])
    """

    index: IndexMap

    def __init__(self, index: Any, dtype: torch.dtype | None = None) -> None:
        if not isinstance(index, IndexMap):
            need_static("Permutation: index", index)
            index = _read(index)
        if index.is_identity:  # one form for equal permutations: structures compare and hash
            index = identity_map(index.size)
        self._init(static={"index": index, "dtype": dtype})

    def _shape(self) -> tuple[int, int]:
        return self.index.size, self.index.size

    def _lower(self, g: Builder, x: Any) -> Any:
        return g.permute(x, self.index)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        n = self.index.size
        table = index_tensor(self.index, device)
        out = torch.zeros(n, n, dtype=dtype, device=device)
        out[torch.arange(n, device=device), table] = 1
        return out

    def _transpose(self) -> LinearOperator:
        return Permutation(self.index.inverse(), self.static["dtype"])

    def _label(self) -> str:
        return f"Permutation({self.index})"


@of_numbers
def _read(index: Any) -> IndexMap:
    table = np.asarray(index.cpu() if isinstance(index, Tensor) else index)
    if table.size and not np.issubdtype(table.dtype, np.integer):
        raise TypeError(f"Permutation: index is {table.dtype}, needs integers")
    if table.ndim != 1:
        raise ValueError(f"Permutation: index has shape {table.shape}, needs one dimension")
    if table.size and (table.min() < 0 or table.max() >= table.size):
        raise ValueError(
            f"Permutation: index is not a permutation of 0..{table.size - 1}: "
            f"entries range from {table.min()} to {table.max()}"
        )
    return recognise(table.astype(np.int64))


@takes_symbols
def stride_permutation(n: int, s: int) -> Permutation:
    """Read n entries at stride s: ``x.reshape(n // s, s).T``, the L of SPIRAL.

    Args:
        n: size.
        s: stride, a divisor of n. Its transpose is ``stride_permutation(n, n // s)``.

    Raises:
        ValueError: s does not divide n.

    Example:
        >>> import torch, structmat as sm
        >>> sm.stride_permutation(6, 2)(torch.arange(6.0))
        tensor([0., 2., 4., 1., 3., 5.])
    """
    if s < 1 or n % s:
        raise ValueError(f"stride_permutation: stride {s} does not divide {n}")
    return Permutation(DigitMap((n // s, s), (1, 0)))


@takes_symbols
def bit_reversal(n: int) -> Permutation:
    """Reverse the bits of the position.

    Args:
        n: size, a power of two.

    Raises:
        ValueError: n is not a power of two.

    Example:
        >>> import torch, structmat as sm
        >>> sm.bit_reversal(8)(torch.arange(8.0))
        tensor([0., 4., 2., 6., 1., 5., 3., 7.])
    """
    if n < 1 or n & (n - 1):
        raise ValueError(f"bit_reversal: {n} is not a power of two")
    k = n.bit_length() - 1
    return Permutation(DigitMap((2,) * k or (1,), tuple(reversed(range(max(k, 1))))))


@takes_symbols
def cyclic_shift(n: int, k: int = 1) -> Permutation:
    """Move every entry k places down: ``(P x)[i] = x[(i - k) mod n]``, as ``torch.roll(x, k)``.

    Args:
        n: size.
        k: shift; any integer.

    Raises:
        ValueError: n is not a non-negative integer, or k no integer.

    Example:
        >>> import torch, structmat as sm
        >>> sm.cyclic_shift(4, 1)(torch.arange(4.0))
        tensor([3., 0., 1., 2.])
    """
    _size(n, "cyclic_shift: n")
    if isinstance(k, bool) or not isinstance(k, int):
        raise ValueError(f"cyclic_shift: k must be an integer, got {k!r}")
    return Permutation(AffineMap(n, 1, -k))


@takes_symbols
def reversal(n: int) -> Permutation:
    """The exchange matrix J: ``(J x)[i] = x[n - 1 - i]``.

    Args:
        n: size.

    Raises:
        ValueError: n is not a non-negative integer.

    Example:
        >>> import torch, structmat as sm
        >>> sm.reversal(3)(torch.arange(3.0))
        tensor([2., 1., 0.])
    """
    _size(n, "reversal: n")
    return Permutation(AffineMap(n, -1, -1))
