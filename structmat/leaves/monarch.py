"""Monarch matrices: two block-diagonal factors with a transposition between them.

In the index order of Dao et al., "Monarch: expressive structured matrices" (ICML 2022) and its
code, with right (k, q, p), left (l, s, r), and k q = l r:

    h[k, q] = sum_p right[k, q, p] x[k, p]         x viewed (k, p)
    y[s, l] = sum_r left[l, s, r] h'[r, l]         h' = h viewed (r, l), l fastest

so M = KroneckerSparse(1, s, r, l) @ KroneckerSparse(k, q, p, 1): the two permutations of
``P^T L P R`` are index arithmetic. For k = r, q = l this is M[(s,l),(k,p)] = L[l,s,k] R[k,l,p].
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.leaves.block import KroneckerSparse
from structmat.leaves.butterfly import MonarchChain
from structmat.operator import LinearOperator, as_tensor

__all__ = ["Monarch"]


class Monarch(LinearOperator):
    """P^T diag(left) P diag(right), of shape (l s) x (k p).

    Args:
        left: (..., l, s, r): l blocks of s x r on the output side.
        right: (..., k, q, p): k blocks of q x p on the input side; k q = l r.

    Raises:
        TypeError: integer factors.
        ValueError: k q differs from l r.

    Cost: k q p + l s r products per vector; square with sqrt(n) blocks: 2 n^1.5.

    Example:
        >>> import torch, structmat as sm
        >>> M = sm.Monarch(torch.ones(2, 2, 2), torch.ones(2, 2, 2))
        >>> M(torch.arange(4.0))
        tensor([6., 6., 6., 6.])
    """

    fields = ("left", "right")
    event_dims: ClassVar[dict[str, int]] = {"left": 3, "right": 3}
    left: Tensor
    right: Tensor

    def __init__(self, left: Any, right: Any) -> None:
        self._init(
            {
                "left": as_tensor(left, "Monarch: left (l, s, r)", 3),
                "right": as_tensor(right, "Monarch: right (k, q, p)", 3),
            }
        )
        self._check()

    def _check(self) -> None:
        l, _, r = self.left.shape[-3:]
        k, q, _ = self.right.shape[-3:]
        if l * r != k * q:
            raise ValueError(
                f"Monarch: left has l*r = {l}*{r} = {l * r} inner features, right has "
                f"k*q = {k}*{q} = {k * q}; left is (l, s, r), right is (k, q, p)"
            )

    def _shape(self) -> tuple[int, int]:
        l, s, _ = self.left.shape[-3:]
        k, _, p = self.right.shape[-3:]
        return l * s, k * p

    def factors(self) -> list[KroneckerSparse]:
        """[KroneckerSparse(1, s, r, l), KroneckerSparse(k, q, p, 1)], leftmost first."""
        return [
            KroneckerSparse(self.left.movedim(-3, -1).unsqueeze(-4)),
            KroneckerSparse(self.right.unsqueeze(-1)),
        ]

    def _lower(self, g: Builder, x: Any) -> Any:
        left, right = self.factors()
        return left._lower(g, right._lower(g, x))

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        l, s, r = self.left.shape[-3:]
        k, q, p = self.right.shape[-3:]
        left, right = self.left.to(dtype), self.right.to(dtype)
        lead = torch.broadcast_shapes(left.shape[:-3], right.shape[:-3])
        out = self._zeros(*lead, s, l, k, p, dtype=dtype, device=device)
        for t in range(k * q):
            block, column = t % l, t // l  # the middle position t is (r, l) on the left side
            outer = left[..., block, :, column, None] * right[..., t // q, t % q, None, :]
            out[..., :, block, t // q, :] += outer
        return out.reshape(*lead, s * l, k * p)

    def _transpose(self) -> LinearOperator:
        left, right = self.factors()
        return MonarchChain([right._transpose(), left._transpose()])

    def _label(self) -> str:
        (l, s, r), (k, q, p) = self.left.shape[-3:], self.right.shape[-3:]
        return f"Monarch({l} of {s}x{r}, {k} of {q}x{p})"
