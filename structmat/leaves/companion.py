"""The companion matrix of a polynomial.

    C[0, j] = -c[j + 1] / c[0],    C[i, i - 1] = 1 (i >= 1),    0 otherwise

for c_0 z^n + c_1 z^(n-1) + ... + c_n, SciPy's convention: the eigenvalues of C are the roots, and
C x is one step of the recurrence c_0 y_t = -c_1 y_(t-1) - ... - c_n y_(t-n) on the last n terms,
newest first. Cost: n products and n - 1 sums; the shift is free.
Source: Horn and Johnson, Matrix analysis, section 3.3.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.operator import LinearOperator, as_tensor

__all__ = ["Companion"]


class Companion(LinearOperator):
    """The n x n companion matrix of c_0 z^n + ... + c_n.

    Args:
        c: coefficients, highest power first, (..., n + 1). c_0 must not be zero; entries are not
            looked at, a zero gives infinities.

    Raises:
        TypeError: integer c.
        ValueError: c has no dimension, or no entry.

    Cost: n products per vector. Source: ``scipy.linalg.companion``.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Companion(torch.tensor([1.0, -10.0, 31.0, -30.0])).to_dense()
        tensor([[ 10., -31.,  30.],
                [  1.,   0.,   0.],
                [  0.,   1.,   0.]])
    """

    fields = ("c",)
    event_dims: ClassVar[dict[str, int]] = {"c": 1}
    c: Tensor
    transposed: bool

    def __init__(self, c: Any) -> None:
        tensors = {"c": as_tensor(c, "Companion: coefficients c", 1)}
        self._init(tensors, static={"transposed": False})
        self._check()

    def _check(self) -> None:
        if self.c.shape[-1] == 0:
            raise ValueError(
                f"Companion: c of shape {tuple(self.c.shape)} holds no coefficients; a polynomial "
                "of degree n has n + 1 of them, highest power first"
            )

    def _shape(self) -> tuple[int, int]:
        return self.c.shape[-1] - 1, self.c.shape[-1] - 1

    @property
    def row(self) -> Tensor:
        """The first row, -c[1:] / c[0]."""
        return -self.c[..., 1:] / self.c[..., :1]

    def _lower(self, g: Builder, x: Any) -> Any:
        n = self.shape[0]
        if n == 0:
            return g.zeros(x, 0)
        row = self.row
        if self.transposed:
            first = g.contract(g.slice(x, n, 0, 1), row[..., None, :, None, None])
            shifted = g.concat([g.slice(x, n, 1, n), g.zeros(x, 1)], [n - 1, 1])
            return g.add([first, shifted])
        first = g.contract(x, row[..., None, None, :, None])
        return g.concat([first, g.slice(x, n, 0, n - 1)], [1, n - 1])

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        n = self.shape[0]
        row = self.row.to(dtype)
        below = torch.eye(n, dtype=dtype, device=device)[:-1] if n else row.new_zeros(0, 0)
        below = below.expand(*row.shape[:-1], *below.shape)
        dense = torch.cat([row[..., None, :], below], -2) if n else below
        return dense.mT if self.transposed else dense

    def _transpose(self) -> LinearOperator:
        return self._replace(self.tensors, (), {"transposed": not self.transposed})

    def _label(self) -> str:
        return f"Companion({self.shape[0]}){'.T' if self.transposed else ''}"
