"""Dense and low-rank matrices: the patterns (1, m, n, 1) and (1, m, r, 1)(1, r, n, 1)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.operator import LinearOperator, as_tensor

__all__ = ["Dense", "LowRank"]


class Dense(LinearOperator):
    """A matrix stored entry by entry.

    Args:
        weight: W of shape (..., m, n).

    Raises:
        TypeError: integer W.
        ValueError: fewer than two dimensions.

    Cost: mn products and m(n-1) sums per vector.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Dense(torch.eye(2)) @ torch.tensor([3.0, 4.0])
        tensor([3., 4.])
    """

    fields = ("weight",)
    event_dims: ClassVar[dict[str, int]] = {"weight": 2}
    weight: Tensor

    def __init__(self, weight: Any) -> None:
        self._init({"weight": as_tensor(weight, "Dense: weight", 2)})

    def _shape(self) -> tuple[int, int]:
        return self.weight.shape[-2], self.weight.shape[-1]

    def _lower(self, g: Builder, x: Any) -> Any:
        return g.contract(x, self.weight[..., None, :, :, None])

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self.weight.to(dtype)

    def _transpose(self) -> LinearOperator:
        return self._replace({"weight": self.weight.mT}, (), {})


class LowRank(LinearOperator):
    """U V, of rank at most r.

    Args:
        left: U of shape (..., m, r).
        right: V of shape (..., r, n).

    Raises:
        TypeError: integer factors.
        ValueError: the inner dimensions differ.

    Cost: r(m+n) products, r(n-1) + m(r-1) sums per vector.

    Example:
        >>> import torch, structmat as sm
        >>> sm.LowRank(torch.ones(3, 1), torch.ones(1, 2))(torch.tensor([1.0, 2.0]))
        tensor([3., 3., 3.])
    """

    fields = ("left", "right")
    event_dims: ClassVar[dict[str, int]] = {"left": 2, "right": 2}
    left: Tensor
    right: Tensor

    def __init__(self, left: Any, right: Any) -> None:
        self._init(
            {
                "left": as_tensor(left, "LowRank: U", 2),
                "right": as_tensor(right, "LowRank: V", 2),
            }
        )
        self._check()

    def _check(self) -> None:
        if self.left.shape[-1] != self.right.shape[-2]:
            raise ValueError(
                f"LowRank: U has rank dimension {self.left.shape[-1]}, V has "
                f"{self.right.shape[-2]}; U is (..., m, r) and V is (..., r, n)"
            )

    @property
    def rank(self) -> int:
        """The inner dimension r."""
        return self.left.shape[-1]

    def _shape(self) -> tuple[int, int]:
        return self.left.shape[-2], self.right.shape[-1]

    def _lower(self, g: Builder, x: Any) -> Any:
        h = g.contract(x, self.right[..., None, :, :, None])
        return g.contract(h, self.left[..., None, :, :, None])

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self.left.to(dtype) @ self.right.to(dtype)

    def _transpose(self) -> LinearOperator:
        return self._replace({"left": self.right.mT, "right": self.left.mT}, (), {})

    def _label(self) -> str:
        m, n = self.shape
        return f"LowRank({m}x{n}, rank={self.rank})"
