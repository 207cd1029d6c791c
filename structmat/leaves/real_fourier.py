"""The Fourier transform of real vectors, as a real n x n matrix.

    (R x) = (y_0, Re y_1, Im y_1, Re y_2, Im y_2, ...),    y_k = sum_j x_j exp(-2 pi i k j / n)

in the packing of FFTPACK: n real numbers, because y_{n-k} is the conjugate of y_k; where n is even
the real y_{n/2} comes last. As a matrix, R[0, j] = 1, R[2k-1, j] = cos(2 pi k j / n) and
R[2k, j] = -sin(2 pi k j / n). The rows are orthogonal, of squared length n (the first, and the last
for even n) and n / 2 (the others), so the inverse is R^T diag(1, 2, 2, ..., 2, 1) / n.

Normalisations are those of ``scipy.fft.rfft``: ``"backward"`` divides the inverse by n,
``"forward"`` the transform, ``"ortho"`` both by sqrt(n), which leaves the rows in the middle of
length sqrt(1/2). Cost: one real Fourier transform, half the operations of a complex one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.leaves.diagonal import _size
from structmat.leaves.fourier import check_norm, scale_of
from structmat.operator import LinearOperator
from structmat.primitives import RealFourier
from structmat.sizes import takes_symbols

__all__ = ["IRDFT", "RDFT"]


class RDFT(LinearOperator):
    """The n x n discrete Fourier transform of real vectors, packed into real numbers.

    Args:
        n: size.
        norm: ``"backward"``, ``"ortho"`` or ``"forward"``, as in ``scipy.fft.rfft``.
        dtype: makes it take part in dtype promotion; by default it takes the dtype of x.

    Raises:
        ValueError: n is not a non-negative integer, unknown norm.

    Cost: one real Fourier transform of length n per vector. Source: ``scipy.fftpack.rfft``.

    Example:
        >>> import torch, structmat as sm
        >>> sm.RDFT(4)(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor([10., -2.,  2., -2.])
    """

    n: int
    norm: str
    inverse: bool
    transposed: bool

    def __init__(self, n: int, norm: str = "backward", dtype: torch.dtype | None = None) -> None:
        flags = {"inverse": False, "transposed": False}
        self._init(static={"n": _size(n, "RDFT: n"), "norm": norm, **flags, "dtype": dtype})
        self._check()

    def _check(self) -> None:
        check_norm("RDFT", self.norm)

    def _shape(self) -> tuple[int, int]:
        return self.n, self.n

    def factor(self) -> float:
        """What the unnormalised matrix, R or R^T diag(1, 2, ..., 2, 1), is multiplied by."""
        return scale_of(self.n, self.norm, self.inverse)

    def _lower(self, g: Builder, x: Any) -> Any:
        weight = 2.0 if self.inverse else 1.0
        y = g.apply(x, RealFourier(self.n, weight, self.inverse != self.transposed))
        return y if self.factor() == 1.0 else g.scalar(y, self.factor())

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        row = torch.arange(self.n, device=device)
        frequency = (row + 1) // 2
        turns = (frequency[:, None] * row) % max(self.n, 1)
        angle = turns.double() * (2 * math.pi / max(self.n, 1))
        odd = (row % 2 == 1)[:, None] | (row == 0)[:, None]
        out = torch.where(odd, torch.cos(angle), -torch.sin(angle)) * self.factor()
        if self.inverse:
            ends = (frequency == 0) | (2 * frequency == self.n)
            out = out.mT * torch.where(ends, 1.0, 2.0)
        return (out.mT if self.transposed else out).to(dtype)

    def _transpose(self) -> LinearOperator:
        return self._replace({}, (), {**self.static, "transposed": not self.transposed})

    def _label(self) -> str:
        norm = "" if self.norm == "backward" else f", {self.norm}"
        turned = ".T" if self.transposed else ""
        return f"{'I' if self.inverse else ''}RDFT({self.n}{norm}){turned}"


@takes_symbols
def IRDFT(n: int, norm: str = "backward", dtype: torch.dtype | None = None) -> RDFT:
    """The inverse of ``RDFT(n, norm)``, as ``scipy.fftpack.irfft``.

    Args:
        n: size.
        norm: that of the transform it inverts.
        dtype: makes it take part in dtype promotion; by default it takes the dtype of x.

    Raises:
        ValueError: n is not a non-negative integer, unknown norm.

    Example:
        >>> import structmat as sm
        >>> (sm.IRDFT(3) @ sm.RDFT(3)).simplify()
        Identity(3)
          3x3 float32, 0 params, 0 flops
    """
    forward = RDFT(n, norm, dtype)
    return forward._replace({}, (), {**forward.static, "inverse": True})
