"""The discrete Fourier transform and its inverse.

    F[k, j] = exp(-2 pi i k j / n),  0 <= k, j < n

with NumPy's normalisations: ``norm="backward"`` leaves F alone and divides the inverse by n,
``"ortho"`` divides both by sqrt(n), ``"forward"`` divides F by n. F is symmetric; its conjugate is
the inverse up to scale. Cost: n log2 n sums and about n log2 n / 2 products of complex numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.leaves.diagonal import _size
from structmat.operator import LinearOperator
from structmat.primitives import Fourier
from structmat.sizes import complex_of, takes_symbols

__all__ = ["DFT", "IDFT"]

NORMS = ("backward", "ortho", "forward")


def check_norm(name: str, norm: object, options: tuple[object, ...] = NORMS) -> None:
    """Raise ValueError unless the normalisation is one of the options."""
    if norm not in options:
        raise ValueError(f"{name}: norm {norm!r} is none of {', '.join(map(repr, options))}")


def scale_of(n: int, norm: str, inverse: bool) -> float:
    """What the unnormalised transform, or its inverse, is multiplied by."""
    if norm == "ortho":
        return 1 / math.sqrt(max(n, 1))
    return 1 / max(n, 1) if (norm == "forward") != inverse else 1.0


class DFT(LinearOperator):
    """The n x n discrete Fourier transform.

    Args:
        n: size.
        norm: ``"backward"``, ``"ortho"`` or ``"forward"``, as in ``torch.fft.fft``.
        dtype: complex dtype; by default torch's default dtype made complex.

    Raises:
        ValueError: n is not a non-negative integer, unknown norm.
        TypeError: dtype is not complex.

    Source: ``scipy.linalg.dft``, ``torch.fft.fft``.

    Example:
        >>> import torch, structmat as sm
        >>> sm.DFT(4)(torch.tensor([1.0, 0.0, 0.0, 0.0])).real
        tensor([1., 1., 1., 1.])
    """

    n: int
    norm: str
    inverse: bool

    def __init__(self, n: int, norm: str = "backward", dtype: torch.dtype | None = None) -> None:
        dtype = dtype or complex_of(torch.get_default_dtype())
        static = {"n": _size(n, "DFT: n"), "norm": norm, "inverse": False, "dtype": dtype}
        self._init(static=static)
        self._check()

    def _check(self) -> None:
        check_norm("DFT", self.norm)
        if not self.dtype.is_complex:
            raise TypeError(f"DFT: dtype {self.dtype} is not complex; take torch.complex64")

    def _shape(self) -> tuple[int, int]:
        return self.n, self.n

    def factor(self) -> float:
        """What the unnormalised transform is multiplied by."""
        return scale_of(self.n, self.norm, self.inverse)

    def _lower(self, g: Builder, x: Any) -> Any:
        y = g.apply(x, Fourier(self.n, self.inverse))
        return y if self.factor() == 1.0 else g.scalar(y, self.factor())

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        k = torch.arange(self.n, device=device)
        turns = (k[:, None] * k) % max(self.n, 1)
        angle = turns.double() * (2 * math.pi / max(self.n, 1) * (1 if self.inverse else -1))
        return torch.polar(torch.full_like(angle, self.factor()), angle).to(dtype)

    def _transpose(self) -> LinearOperator:
        return self

    def _conjugated(self, memo: dict[int, Tensor]) -> LinearOperator:
        norm = {"backward": "forward", "forward": "backward", "ortho": "ortho"}[self.norm]
        static = {**self.static, "inverse": not self.inverse, "norm": norm}
        return self._replace({}, (), static)

    def _label(self) -> str:
        norm = "" if self.norm == "backward" else f", {self.norm}"
        return f"{'I' if self.inverse else ''}DFT({self.n}{norm})"


@takes_symbols
def IDFT(n: int, norm: str = "backward", dtype: torch.dtype | None = None) -> DFT:
    """The inverse of ``DFT(n, norm)``, as ``torch.fft.ifft``.

    Args:
        n: size.
        norm: that of the transform it inverts.
        dtype: complex dtype; by default torch's default dtype made complex.

    Raises:
        ValueError: n is not a non-negative integer, unknown norm.
        TypeError: dtype is not complex.

    Example:
        >>> import structmat as sm
        >>> (sm.IDFT(2) @ sm.DFT(2)).to_dense().real
        tensor([[1., 0.],
                [0., 1.]])
    """
    forward = DFT(n, norm, dtype)
    return forward._replace({}, (), {**forward.static, "inverse": True})
