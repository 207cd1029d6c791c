"""Identity, zero and diagonal matrices: elementwise operations, the pattern (n, 1, 1, 1)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.operator import LinearOperator, as_tensor

__all__ = ["Diagonal", "Identity", "Zero"]


def _size(value: Any, what: str) -> int:
    if getattr(value, "is_Integer", False):  # of sympy
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{what} must be a non-negative integer, got {value!r}")
    return value


class Identity(LinearOperator):
    """The n x n identity.

    Args:
        n: size.
        dtype: makes it take part in dtype promotion; by default it takes the dtype of x.

    Raises:
        ValueError: n is not a non-negative integer.

    Example:
        >>> import structmat as sm
        >>> sm.Identity(2).to_dense()
        tensor([[1., 0.],
                [0., 1.]])
    """

    n: int

    def __init__(self, n: int, dtype: torch.dtype | None = None) -> None:
        self._init(static={"n": _size(n, "Identity: n"), "dtype": dtype})

    def _shape(self) -> tuple[int, int]:
        return self.n, self.n

    def _lower(self, g: Builder, x: Any) -> Any:
        return x

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.eye(self.n, dtype=dtype, device=device)

    def _transpose(self) -> LinearOperator:
        return self

    def _label(self) -> str:
        return f"Identity({self.n})"


class Zero(LinearOperator):
    """The m x n zero matrix.

    Args:
        m: rows.
        n: columns; default m.
        dtype: makes it take part in dtype promotion; by default it takes the dtype of x.

    Raises:
        ValueError: a size is not a non-negative integer.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Zero(2, 3)(torch.ones(3))
        tensor([0., 0.])
    """

    m: int
    n: int

    def __init__(self, m: int, n: int | None = None, dtype: torch.dtype | None = None) -> None:
        m = _size(m, "Zero: m")
        n = m if n is None else _size(n, "Zero: n")
        self._init(static={"m": m, "n": n, "dtype": dtype})

    def _shape(self) -> tuple[int, int]:
        return self.m, self.n

    def _lower(self, g: Builder, x: Any) -> Any:
        return g.zeros(x, self.m)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.zeros(self.m, self.n, dtype=dtype, device=device)

    def _transpose(self) -> LinearOperator:
        return Zero(self.n, self.m, self.static["dtype"])


class Diagonal(LinearOperator):
    """diag(d).

    Args:
        d: the diagonal, of shape (..., n).

    Raises:
        TypeError: integer d.
        ValueError: d has no dimension.

    Cost: n products per vector.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Diagonal(torch.tensor([1.0, 2.0]))(torch.tensor([3.0, 4.0]))
        tensor([3., 8.])
    """

    fields = ("d",)
    event_dims: ClassVar[dict[str, int]] = {"d": 1}
    d: Tensor

    def __init__(self, d: Any) -> None:
        self._init({"d": as_tensor(d, "Diagonal: d", 1)})

    def _shape(self) -> tuple[int, int]:
        return self.d.shape[-1], self.d.shape[-1]

    def _lower(self, g: Builder, x: Any) -> Any:
        return g.scale(x, self.d)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.diag_embed(self.d.to(dtype))

    def _transpose(self) -> LinearOperator:
        return self

    def _label(self) -> str:
        return f"Diagonal({self.d.shape[-1]})"
