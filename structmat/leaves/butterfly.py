"""Butterfly matrices and chains of Kronecker-sparse factors.

A butterfly of size n = 2^L is a product of L factors; factor t has stride 2^t, the pattern
(n / 2^(t+1), 2, 2, 2^t): position ``block * 2^(t+1) + side * 2^t + offset`` mixes the two sides
by the 2x2 matrix ``twiddle[t, block * 2^t + offset]`` (Dao et al., "Learning fast algorithms",
ICML 2019). 2nL parameters, 2nL products, nL sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.leaves.block import KroneckerSparse
from structmat.operator import LinearOperator, as_tensor

__all__ = ["Butterfly", "MonarchChain"]


class Butterfly(LinearOperator):
    """A product of log2(n) butterfly factors.

    Args:
        twiddle: (..., log2 n, n/2, 2, 2); ``twiddle[t, block * 2**t + offset]`` is the 2x2 of
            stride ``2**t``.
        increasing_stride: apply strides 1, 2, 4, ... (default), or n/2, ..., 2, 1.

    Raises:
        TypeError: integer twiddle.
        ValueError: shapes that are not (log2 n, n/2, 2, 2).

    Cost: 2n log2(n) products, n log2(n) sums per vector.

    Example:
        >>> import torch, structmat as sm
        >>> H = sm.Butterfly(torch.tensor([[[[1.0, 1], [1, -1]]] * 2] * 2))
        >>> H(torch.tensor([1.0, 0, 0, 0]))
        tensor([1., 1., 1., 1.])
    """

    fields = ("twiddle",)
    event_dims: ClassVar[dict[str, int]] = {"twiddle": 4}
    twiddle: Tensor
    increasing_stride: bool

    def __init__(self, twiddle: Any, increasing_stride: bool = True) -> None:
        self._init(
            {"twiddle": as_tensor(twiddle, "Butterfly: twiddle", 4)},
            static={"increasing_stride": bool(increasing_stride)},
        )
        self._check()

    def _check(self) -> None:
        stages, half, two, too = self.twiddle.shape[-4:]
        if (two, too) != (2, 2) or stages < 1 or half != 1 << (stages - 1):
            raise ValueError(
                f"Butterfly: twiddle has shape {tuple(self.twiddle.shape)}, needs "
                "(..., log2 n, n/2, 2, 2) for n a power of two, at least 2"
            )

    def _shape(self) -> tuple[int, int]:
        n = 2 * self.twiddle.shape[-3]
        return n, n

    def factors(self) -> list[KroneckerSparse]:
        """The factors in matrix order: the first in the list is leftmost, applied last."""
        out = []
        half = self.twiddle.shape[-3]
        for t in range(self.twiddle.shape[-4]):
            d = 1 << t
            w = self.twiddle[..., t, :, :, :]
            w = w.reshape(*w.shape[:-3], half // d, d, 2, 2).movedim(-3, -1)
            out.append(KroneckerSparse(w))
        return out[::-1] if self.increasing_stride else out

    def _lower(self, g: Builder, x: Any) -> Any:
        for f in reversed(self.factors()):
            x = f._lower(g, x)
        return x

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        n = self.shape[0]
        lead = self.twiddle.shape[:-4]
        stages = []
        for t in range(self.twiddle.shape[-4]):
            stage = self._zeros(*lead, n, n, dtype=dtype, device=device)
            for pair in range(n // 2):
                block, offset = divmod(pair, 1 << t)
                lo = block * (2 << t) + offset
                hi = lo + (1 << t)
                for r, row in enumerate((lo, hi)):
                    for c, col in enumerate((lo, hi)):
                        stage[..., row, col] = self.twiddle[..., t, pair, r, c]
            stages.append(stage)
        out = torch.eye(n, dtype=dtype, device=device)
        for stage in stages if self.increasing_stride else stages[::-1]:
            out = stage @ out
        return out

    def _transpose(self) -> LinearOperator:
        return self._replace(
            {"twiddle": self.twiddle.mT}, (), {"increasing_stride": not self.increasing_stride}
        )

    def _label(self) -> str:
        arrow = "" if self.increasing_stride else ", decreasing stride"
        return f"Butterfly({self.shape[0]}{arrow})"


class MonarchChain(LinearOperator):
    """A product of Kronecker-sparse factors; the first in the list is leftmost.

    Args:
        factors: :class:`structmat.KroneckerSparse` operators, or value tensors (a, b, c, d),
            whose shapes fit.

    Raises:
        TypeError: a factor is something else.
        ValueError: no factors, or neighbours whose sizes differ.

    Example:
        >>> import torch, structmat as sm
        >>> sm.MonarchChain([torch.ones(1, 2, 2, 2), torch.ones(2, 2, 2, 1)]).to_dense()[0]
        tensor([1., 1., 1., 1.])
    """

    def __init__(self, factors: Sequence[Any]) -> None:
        made = []
        for f in factors:
            if isinstance(f, LinearOperator) and not isinstance(f, KroneckerSparse):
                raise TypeError(f"MonarchChain: {f._label()} is not a KroneckerSparse factor")
            made.append(f if isinstance(f, KroneckerSparse) else KroneckerSparse(f))
        self._init(children=made)
        self._check()

    def _check(self) -> None:
        if not self.children:
            raise ValueError("MonarchChain: the list of factors is empty")
        for left, right in zip(self.children, self.children[1:], strict=False):
            if left.shape[1] != right.shape[0]:
                raise ValueError(
                    f"MonarchChain: {left._label()} has {left.shape[1]} columns, its right "
                    f"neighbour {right._label()} has {right.shape[0]} rows"
                )

    def factors(self) -> list[KroneckerSparse]:
        """The factors, leftmost first."""
        return [c for c in self.children if isinstance(c, KroneckerSparse)]

    @property
    def chainable(self) -> bool:
        """Whether every pair of neighbours has a product of Kronecker-sparse form.

        (a1,b1,c1,d1),(a2,b2,c2,d2) is chainable iff a1 | a2, d2 | d1 and
        a1 c1 / a2 = b2 d2 / d1 is an integer (Le et al., "Butterfly factorization with error
        guarantees", 2024, definition 4.3).
        """
        patterns = [f.pattern for f in self.factors()]
        return all(
            a2 % a1 == 0 and d1 % d2 == 0 and (a1 * c1) % a2 == 0 and a1 * c1 * d1 == a2 * b2 * d2
            for (a1, _, c1, d1), (a2, b2, _, d2) in itertools.pairwise(patterns)
        )

    def _shape(self) -> tuple[int, int]:
        return self.children[0].shape[0], self.children[-1].shape[1]

    def _lower(self, g: Builder, x: Any) -> Any:
        for f in reversed(self.children):
            x = f._lower(g, x)
        return x

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        out = self.children[0]._dense(dtype, device)
        for f in self.children[1:]:
            out = out @ f._dense(dtype, device)
        return out

    def _transpose(self) -> LinearOperator:
        return self._replace({}, [c._transpose() for c in reversed(self.children)], {})

    def _label(self) -> str:
        inner = ", ".join(str(f.pattern).replace(" ", "") for f in self.factors())
        return f"MonarchChain[{inner}]"
