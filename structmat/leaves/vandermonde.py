"""Vandermonde matrices.

    V[i, j] = x_i^j,    0 <= i < m, 0 <= j < n

so that V c holds the values at x of the polynomial with coefficients c, lowest first. Displacement
rank 1: diag(x) V - V Z = (x^n) e_(n-1)^T with the shift Z.

Only m numbers are stored; powers are made, multiplied and dropped, also in the backward pass. Cost
per vector: m (n - 1) products and sums, as for a dense matrix and as Horner's rule, in tiles. Real
nodes, where m n / (m + n) is at least 1024 (3072 for fewer than 4 vectors at a time, half as much
again in double precision), take windows of log |x|, in which powers are short sums of Chebyshev
polynomials (:mod:`structmat.primitives.power_windows`): about 80 (m + n) products in single and
320 n + 400 m in double precision. Complex nodes of nearly one modulus, moduli within a factor of
exp(1 / (n - 1)), take a nonuniform Fourier transform from m n / (m + n) = 256 to 1536 on
(:mod:`structmat.primitives.power_circle`); numbers must be looked at for that, so on a CPU only,
and not where torch traces or maps over them. Every way an error is at most n unit roundoffs of
|V| |c|, entry by entry, n 2 sqrt(2) for complex numbers, whatever the nodes.

The exact algorithms with O(n log^2 n) operations (multipoint evaluation by fast division of
polynomials) are unstable in floating point (Pan, Structured matrices and polynomials, 2001,
section 3.1), so none is used.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.leaves.diagonal import _size
from structmat.operator import LinearOperator, as_tensor
from structmat.primitives import Powers

__all__ = ["Vandermonde"]


class Vandermonde(LinearOperator):
    """V[i, j] = x_i^j, by default square.

    Args:
        x: nodes, (..., m), real or complex.
        n: number of powers, from the power 0 on; m by default.

    Raises:
        TypeError: integer x.
        ValueError: x has no dimension, or n is not a non-negative integer.

    Cost: m (n - 1) products per vector, about 320 n + 400 m for many real nodes, a Fourier
    transform of length 2 n and 16 m products for many nodes on a circle; storage m. Source:
    ``numpy.vander(x, n, increasing=True)``.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Vandermonde(torch.tensor([1.0, 2.0]), 4).to_dense()
        tensor([[1., 1., 1., 1.],
                [1., 2., 4., 8.]])
    """

    fields = ("x",)
    event_dims: ClassVar[dict[str, int]] = {"x": 1}
    x: Tensor
    n: int
    transposed: bool

    def __init__(self, x: Any, n: int | None = None) -> None:
        nodes = as_tensor(x, "Vandermonde: nodes x", 1)
        size = nodes.shape[-1] if n is None else _size(n, "Vandermonde: n")
        self._init({"x": nodes}, static={"n": size, "transposed": False})

    def _shape(self) -> tuple[int, int]:
        m = self.x.shape[-1]
        return (self.n, m) if self.transposed else (m, self.n)

    def _lower(self, g: Builder, x: Any) -> Any:
        m, n = self.shape
        if m == 0 or n == 0:
            return g.zeros(x, m)
        return g.apply(x, Powers(self.x.shape[-1], self.n, self.transposed), self.x)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        nodes = self.x.to(dtype)[..., None]
        ones = torch.ones_like(nodes).expand(*nodes.shape[:-1], min(self.n, 1))
        rest = nodes.expand(*nodes.shape[:-1], max(self.n - 1, 0)).cumprod(-1)
        dense = torch.cat([ones, rest], -1)
        return dense.mT if self.transposed else dense

    def _transpose(self) -> LinearOperator:
        return self._replace(self.tensors, (), {**self.static, "transposed": not self.transposed})

    def _label(self) -> str:
        name = f"Vandermonde({self.x.shape[-1]}x{self.n})"
        return f"{name}.T" if self.transposed else name
