"""The Walsh-Hadamard matrix: H_1 = 1, H_2n = [[H_n, H_n], [H_n, -H_n]].

    H[i, j] = (-1)^popcount(i & j),  n = 2^L,  H = H^T,  H H = n I

In *natural* order that is the matrix; in *sequency* order row i has i changes of sign, which is
the natural row at the bit reversal of the Gray code of i (Harmuth 1969). Cost: n log2 n sums.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.index import IndexMap, recognise
from structmat.leaves.diagonal import _size
from structmat.operator import LinearOperator
from structmat.primitives import Hadamards
from structmat.tracing import of_numbers

__all__ = ["Hadamard"]

ORDERS = ("natural", "sequency")


@of_numbers
def sequency_order(n: int) -> IndexMap:
    """The natural row that has i changes of sign, for every i < n."""
    bits = n.bit_length() - 1
    i = np.arange(n, dtype=np.int64)
    gray = i ^ (i >> 1)
    index = np.zeros_like(gray)
    for b in range(bits):
        index |= ((gray >> b) & 1) << (bits - 1 - b)
    return recognise(index)


class Hadamard(LinearOperator):
    """The n x n Walsh-Hadamard matrix.

    Args:
        n: size, a power of two.
        normalized: divide by sqrt(n), which makes it orthogonal.
        order: ``"natural"`` or ``"sequency"`` (row i changes sign i times).
        dtype: makes it take part in dtype promotion; by default it takes the dtype of x.

    Raises:
        ValueError: n is no power of two, unknown order.

    Source: ``scipy.linalg.hadamard``.

    Example:
        >>> import structmat as sm
        >>> sm.Hadamard(4, order="sequency").to_dense()
        tensor([[ 1.,  1.,  1.,  1.],
                [ 1.,  1., -1., -1.],
                [ 1., -1., -1.,  1.],
                [ 1., -1.,  1., -1.]])
    """

    n: int
    normalized: bool
    order: str

    def __init__(
        self,
        n: int,
        normalized: bool = False,
        order: str = "natural",
        dtype: torch.dtype | None = None,
    ) -> None:
        static = {"n": _size(n, "Hadamard: n"), "normalized": bool(normalized), "order": order}
        self._init(static={**static, "dtype": dtype})
        self._check()

    def _check(self) -> None:
        if self.n < 1 or self.n & (self.n - 1):
            raise ValueError(f"Hadamard: {self.n} is not a power of two; pad to the next one")
        if self.order not in ORDERS:
            raise ValueError(f"Hadamard: order {self.order!r} is none of {', '.join(ORDERS)}")

    def _shape(self) -> tuple[int, int]:
        return self.n, self.n

    def factor(self) -> float:
        """What the matrix of signs is multiplied by."""
        return 1 / math.sqrt(self.n) if self.normalized else 1.0

    def _lower(self, g: Builder, x: Any) -> Any:
        y = g.apply(x, Hadamards(self.n))
        if self.order == "sequency":
            y = g.permute(y, sequency_order(self.n))
        return g.scalar(y, self.factor()) if self.normalized else y

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        i = torch.arange(self.n, device=device)
        common = i[:, None] & i
        parity = torch.zeros_like(common)
        for b in range(self.n.bit_length()):
            parity ^= (common >> b) & 1
        out = (1 - 2 * parity).to(dtype) * self.factor()
        if self.order == "sequency":
            out = out[(out[:, 1:] != out[:, :-1]).sum(-1).argsort()]
        return out

    def _transpose(self) -> LinearOperator:
        return self

    def _label(self) -> str:
        order = "" if self.order == "natural" else f", {self.order}"
        return f"Hadamard({self.n}{', normalized' if self.normalized else ''}{order})"
