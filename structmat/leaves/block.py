"""Block-diagonal and Kronecker-sparse factors: the contraction with pattern (a, b, c, d).

KroneckerSparse follows Le, Zheng, Riccietti, Gribonval, "Fast inference with Kronecker-sparse
matrices" (2024): support I_a (x) 1_{b x c} (x) I_d, shape (abd) x (acd), and
``M[i b d + j d + l, i c d + k d + l] = values[i, j, k, l]``. BlockDiagonal is d = 1.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.operator import LinearOperator, as_tensor

__all__ = ["BlockDiagonal", "KroneckerSparse"]


class KroneckerSparse(LinearOperator):
    """A factor with support I_a (x) 1_{b x c} (x) I_d.

    Args:
        values: (..., a, b, c, d), any strides;
            ``M[i*b*d + j*d + l, i*c*d + k*d + l] = values[i, j, k, l]``.

    Raises:
        TypeError: integer values.
        ValueError: fewer than four dimensions.

    Cost: abcd products, abd(c-1) sums per vector.

    Example:
        >>> import torch, structmat as sm
        >>> sm.KroneckerSparse(torch.ones(1, 2, 2, 2)).to_dense()
        tensor([[1., 0., 1., 0.],
                [0., 1., 0., 1.],
                [1., 0., 1., 0.],
                [0., 1., 0., 1.]])
    """

    fields = ("values",)
    event_dims: ClassVar[dict[str, int]] = {"values": 4}
    values: Tensor

    def __init__(self, values: Any) -> None:
        self._init({"values": as_tensor(values, "KroneckerSparse: values", 4)})

    @property
    def pattern(self) -> tuple[int, int, int, int]:
        """(a, b, c, d)."""
        a, b, c, d = self.values.shape[-4:]
        return a, b, c, d

    def _shape(self) -> tuple[int, int]:
        a, b, c, d = self.pattern
        return a * b * d, a * c * d

    def _lower(self, g: Builder, x: Any) -> Any:
        return g.contract(x, self.values)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        a, b, c, d = self.pattern
        lead = self.values.shape[:-4]
        out = self._zeros(*lead, a, b, d, a, c, d, dtype=dtype, device=device)
        for i in range(a):
            for k in range(d):
                out[..., i, :, k, i, :, k] = self.values[..., i, :, :, k].to(dtype)
        return out.reshape(*lead, a * b * d, a * c * d)

    def _transpose(self) -> LinearOperator:
        return self._replace({"values": self.values.transpose(-3, -2)}, (), {})

    def _label(self) -> str:
        return "KroneckerSparse" + str(self.pattern).replace(" ", "")


class BlockDiagonal(LinearOperator):
    """diag(B_1, ..., B_K) with blocks of one shape; unequal blocks make a direct sum.

    Args:
        blocks: (..., K, q, p), or a list of 2-D blocks. A list of equal blocks is stacked; a list
            of unequal ones returns :class:`structmat.DirectSum` of dense blocks.

    Raises:
        TypeError: integer blocks.
        ValueError: wrong number of dimensions, or an empty list.

    Cost: Kqp products, Kq(p-1) sums per vector.

    Example:
        >>> import torch, structmat as sm
        >>> sm.BlockDiagonal(torch.ones(2, 1, 2)).to_dense()
        tensor([[1., 1., 0., 0.],
                [0., 0., 1., 1.]])
        >>> sm.BlockDiagonal([torch.ones(1, 2), torch.ones(2, 1)]).shape
        (3, 3)
    """

    fields = ("blocks",)
    event_dims: ClassVar[dict[str, int]] = {"blocks": 3}
    blocks: Tensor

    def __new__(cls, blocks: Any = None) -> Any:
        """Unequal blocks give a direct sum."""
        if isinstance(blocks, list | tuple):
            parts = [as_tensor(b, "BlockDiagonal: block", 2) for b in blocks]
            if not parts:
                raise ValueError("BlockDiagonal: the list of blocks is empty")
            if len({p.shape for p in parts}) > 1:
                from structmat.compose import DirectSum
                from structmat.leaves.dense import Dense

                return DirectSum(*(Dense(p) for p in parts))
        return object.__new__(cls)

    def __init__(self, blocks: Any) -> None:
        if isinstance(blocks, list | tuple):
            blocks = torch.stack([as_tensor(b, "BlockDiagonal: block", 2) for b in blocks], -3)
        self._init({"blocks": as_tensor(blocks, "BlockDiagonal: blocks (K, q, p)", 3)})

    @property
    def nblocks(self) -> int:
        """The number of blocks K."""
        return self.blocks.shape[-3]

    def _shape(self) -> tuple[int, int]:
        k, q, p = self.blocks.shape[-3:]
        return k * q, k * p

    def _lower(self, g: Builder, x: Any) -> Any:
        return g.contract(x, self.blocks[..., None])

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        k, q, p = self.blocks.shape[-3:]
        out = self._zeros(*self.blocks.shape[:-3], k * q, k * p, dtype=dtype, device=device)
        for i in range(k):
            out[..., i * q : (i + 1) * q, i * p : (i + 1) * p] = self.blocks[..., i, :, :]
        return out

    def _transpose(self) -> LinearOperator:
        return self._replace({"blocks": self.blocks.mT}, (), {})

    def _label(self) -> str:
        k, q, p = self.blocks.shape[-3:]
        return f"BlockDiagonal({k} of {q}x{p})"
