"""The transpose of an operator that says how its adjoint acts, and not which operator it is."""

from __future__ import annotations

import torch
from torch import Tensor

from structmat.operator import LinearOperator

__all__ = ["Turned"]


class Turned(LinearOperator):
    """A^T x = conj(A^H conj(x)), by the ``_adjoint`` of A.

    Args:
        op: A, of a class without a ``_transpose`` of its own.

    Example:
        >>> import torch, structmat as sm
        >>> from structmat.compose.turned import Turned
        >>> class Last(sm.LinearOperator):
        ...     def __init__(self): self._init()
        ...     def _shape(self): return 1, 3
        ...     def _apply(self, x): return x[..., -1:]
        ...     def _adjoint(self, y): return torch.nn.functional.pad(y, (2, 0))
        >>> isinstance(Last()._transpose(), Turned), Last().T(torch.ones(1))
        (True, tensor([0., 0., 1.]))
    """

    def __init__(self, op: LinearOperator) -> None:
        self._init(children=(op,))

    def _shape(self) -> tuple[int, int]:
        m, n = self.children[0].shape
        return n, m

    def _apply(self, x: Tensor) -> Tensor:
        return self.children[0]._adjoint(x.conj()).conj()

    def _effort(self) -> tuple[int, int]:
        mults, adds = self.children[0]._effort()
        m, n = self.children[0].shape
        return mults, max(adds + n - m, 0)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self.children[0]._dense(dtype, device).mT

    def _transpose(self) -> LinearOperator:
        return self.children[0]

    def _label(self) -> str:
        return f"{self.children[0]._label()}.T"
