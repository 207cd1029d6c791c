"""Kronecker sums: A (+) B = A (x) I + I (x) B, and so on for any number of square operators.

The eigenvalues of a Kronecker sum are the sums of eigenvalues, and its exponential is the
Kronecker product of the exponentials (Horn and Johnson, Topics in matrix analysis, section 4.4).
The discrete Laplacian on a grid is one. Cost: n / n_i applications of each A_i of size n_i, and
n sums for every further term.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from structmat.builder import Builder, Lift
from structmat.compose.basic import _operands
from structmat.operator import LinearOperator

__all__ = ["KroneckerSum", "kron_sum"]


class KroneckerSum(LinearOperator):
    """A (+) B (+) ... = A (x) I (x) ... + I (x) B (x) ... + ...

    Args:
        *ops: square operators; nested Kronecker sums are flattened.

    Raises:
        TypeError: a term is not an operator.
        ValueError: a term is not square.

    Example:
        >>> import torch, structmat as sm
        >>> D = sm.Diagonal(torch.tensor([1.0, 2.0]))
        >>> sm.KroneckerSum(D, D).to_dense().diag()
        tensor([2., 3., 3., 4.])
    """

    def __init__(self, *ops: LinearOperator) -> None:
        self._init(children=_operands("KroneckerSum", ops, KroneckerSum))
        self._check()

    def _check(self) -> None:
        for c in self.children:
            if c.shape[0] != c.shape[1]:
                raise ValueError(
                    f"KroneckerSum: {c._label()} of shape {c.shape} is not square; "
                    "A (+) B = A (x) I + I (x) B needs square operators"
                )

    def _shape(self) -> tuple[int, int]:
        n = prod([c.shape[0] for c in self.children])
        return n, n

    def _lower(self, g: Builder, x: Any) -> Any:
        sizes = [c.shape[0] for c in self.children]
        terms = []
        for i, c in enumerate(self.children):
            pre, post = prod(sizes[:i]), prod(sizes[i + 1 :])
            terms.append(c._lower(g if pre == post == 1 else Lift(g, pre, post), x))
        return g.add(terms)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        out = self.children[0]._dense(dtype, device)
        for c in self.children[1:]:
            left, right = out.shape[-1], c.shape[0]
            ones = torch.eye(right, dtype=dtype, device=device)
            eye = torch.eye(left, dtype=dtype, device=device)
            b = c._dense(dtype, device)
            both = out[..., :, None, :, None] * ones[:, None, :]
            both = both + eye[:, None, :, None] * b[..., None, :, None, :]
            out = both.flatten(-2).flatten(-3, -2)
        return out

    def _transpose(self) -> LinearOperator:
        return KroneckerSum(*(c.T for c in self.children))

    def _label(self) -> str:
        return f"kron_sum({', '.join(c._label() for c in self.children)})"


def kron_sum(*ops: LinearOperator) -> KroneckerSum:
    """The Kronecker sum A (x) I + I (x) B of square operators; see :class:`KroneckerSum`.

    Args:
        *ops: terms, slowest digit first.

    Raises:
        TypeError: a term is not an operator.
        ValueError: a term is not square.

    Example:
        >>> import structmat as sm
        >>> sm.kron_sum(sm.reversal(2), sm.Identity(3)).shape
        (6, 6)
    """
    return KroneckerSum(*ops)
