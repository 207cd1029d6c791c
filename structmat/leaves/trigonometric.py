"""Cosine and sine transforms of types 1 to 4, with SciPy's normalisations.

The entries, for ``norm=None`` (the same as ``"backward"``), are twice the cosines and sines of
:mod:`structmat.primitives.trigonometric`, except that the first and the last input of DCT 1, the
first of DCT 3 and the last of DST 3 count once. ``"forward"`` divides by 2 N, with N = n - 1 for
DCT 1, n + 1 for DST 1, n otherwise. ``"ortho"`` makes the matrix orthogonal: a factor sqrt(2 / N),
and 1 / sqrt(2) for the entries that are special: both ends, on both sides, of DCT 1, the first
output of DCT 2, the last output of DST 2, and the same inputs of type 3.

Cost: one real Fourier transform of length n (types 2 and 3), one complex one of length n / 2
(type 4), one real one of length 2 N (type 1). Source: Strang, The discrete cosine transform (1999);
``scipy.fft.dct``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.leaves.diagonal import _size
from structmat.leaves.fourier import check_norm
from structmat.operator import LinearOperator
from structmat.primitives import Cosine, Primitive, Sine

__all__ = ["DCT", "DST", "Trigonometric"]

HALF = math.sqrt(0.5)


class Trigonometric(LinearOperator):
    """What cosine and sine transforms share; see :class:`DCT` and :class:`DST`."""

    n: int
    type: int
    norm: str | None
    transposed: bool

    primitive: ClassVar[Callable[..., Primitive]]
    special: ClassVar[int]
    """The end, 0 or 1, whose entry is special in types 2 and 3."""

    def __init__(
        self, n: int, type: int = 2, norm: str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        name = self.__class__.__name__
        static = {"n": _size(n, f"{name}: n"), "type": type, "norm": norm, "transposed": False}
        self._init(static={**static, "dtype": dtype})
        self._check()

    def _check(self) -> None:
        name = self.__class__.__name__
        if self.type not in (1, 2, 3, 4):
            raise ValueError(f"{name}: type {self.type!r} is none of 1, 2, 3, 4")
        check_norm(name, self.norm, (None, "backward", "ortho", "forward"))
        if (name, self.type, self.n) == ("DCT", 1, 1):
            raise ValueError("DCT: type 1 needs n >= 2: it divides by n - 1")

    def _shape(self) -> tuple[int, int]:
        return self.n, self.n

    @property
    def length(self) -> int:
        """N, half the period."""
        return self.n

    def _ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Weights of the ends of x and of y."""
        plain = (1.0, 1.0)
        ortho = self.norm == "ortho"

        def one(weight: float) -> tuple[float, float]:
            return (weight, 1.0) if self.special == 0 else (1.0, weight)

        if self.type == 2:
            return plain, one(HALF) if ortho else plain
        if self.type == 3:
            return one(HALF if ortho else 0.5), plain
        return plain, plain

    def factor(self) -> float:
        """What the weighted matrix of cosines or sines is multiplied by."""
        if self.norm == "ortho":
            return math.sqrt(2 / max(self.length, 1))
        return 1 / max(self.length, 1) if self.norm == "forward" else 2.0

    def _lower(self, g: Builder, x: Any) -> Any:
        op = self.__class__.primitive(self.n, self.type, *self._ends(), self.factor())
        return g.apply(x, op.transposed() if self.transposed else op)

    def _angles(self, k: Tensor, j: Tensor) -> Tensor:
        """The angles of the definition, over pi."""
        raise NotImplementedError

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        k = torch.arange(self.n, dtype=torch.float64, device=device)
        angle = self._angles(k[:, None], k) * math.pi
        out = torch.cos(angle) if self.__class__.primitive is Cosine else torch.sin(angle)
        if self.n:
            (a, b), (c, d) = self._ends()
            out[:, 0] *= a
            out[:, -1] *= b
            out[0] *= c
            out[-1] *= d
        out = (out * self.factor()).to(dtype)
        return out.mT if self.transposed else out

    def _transpose(self) -> LinearOperator:
        if self.norm == "ortho" and self.type in (2, 3):
            return self._replace({}, (), {**self.static, "type": 5 - self.type})
        if self.type == 4 or (self.type == 1 and self._ends()[0] == self._ends()[1]):
            return self
        return self._replace({}, (), {**self.static, "transposed": not self.transposed})

    def _label(self) -> str:
        norm = "" if self.norm in (None, "backward") else f", {self.norm}"
        turned = ".T" if self.transposed else ""
        return f"{self.__class__.__name__}({self.n}, type={self.type}{norm}){turned}"


class DCT(Trigonometric):
    """The n x n discrete cosine transform.

    Args:
        n: size.
        type: 1, 2, 3 or 4.
        norm: None or ``"backward"``, ``"ortho"``, ``"forward"``, as in ``scipy.fft.dct``.
        dtype: makes it take part in dtype promotion; by default it takes the dtype of x.

    Raises:
        ValueError: n is not a non-negative integer, n < 2 for type 1, unknown type or norm.

    Source: ``scipy.fft.dct``; Strang, The discrete cosine transform (1999).

    Example:
        >>> import torch, structmat as sm
        >>> sm.DCT(4)(torch.ones(4))[0]
        tensor(8.)
    """

    primitive = Cosine
    special = 0

    @property
    def length(self) -> int:
        """N, half the period."""
        return self.n - 1 if self.type == 1 else self.n

    def _ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        if self.type != 1:
            return super()._ends()
        both = (HALF, HALF)
        return (both, both) if self.norm == "ortho" else ((0.5, 0.5), (1.0, 1.0))

    def _angles(self, k: Tensor, j: Tensor) -> Tensor:
        n = self.n
        return {
            1: k * j / max(n - 1, 1),
            2: k * (2 * j + 1) / max(2 * n, 1),
            3: (2 * k + 1) * j / max(2 * n, 1),
            4: (2 * k + 1) * (2 * j + 1) / max(4 * n, 1),
        }[self.type]


class DST(Trigonometric):
    """The n x n discrete sine transform.

    Args:
        n: size.
        type: 1, 2, 3 or 4.
        norm: None or ``"backward"``, ``"ortho"``, ``"forward"``, as in ``scipy.fft.dst``.
        dtype: makes it take part in dtype promotion; by default it takes the dtype of x.

    Raises:
        ValueError: n is not a non-negative integer, unknown type or norm.

    Source: ``scipy.fft.dst``; Strang, The discrete cosine transform (1999).

    Example:
        >>> import structmat as sm
        >>> sm.DST(1, type=1).to_dense()
        tensor([[2.]])
    """

    primitive = Sine
    special = 1

    @property
    def length(self) -> int:
        """N, half the period."""
        return self.n + 1 if self.type == 1 else self.n

    def _angles(self, k: Tensor, j: Tensor) -> Tensor:
        n = self.n
        return {
            1: (k + 1) * (j + 1) / (n + 1),
            2: (k + 1) * (2 * j + 1) / max(2 * n, 1),
            3: (2 * k + 1) * (j + 1) / max(2 * n, 1),
            4: (2 * k + 1) * (2 * j + 1) / max(4 * n, 1),
        }[self.type]
