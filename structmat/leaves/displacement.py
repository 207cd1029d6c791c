"""Matrices of low displacement rank, by Sylvester generators.

    Z_f M - M Z_-f = G H,    G (n x r), H (r x n),    f = 1 or -1

where Z_f shifts down and multiplies by f what wraps around: (Z_f x)_0 = f x_(n-1),
(Z_f x)_i = x_(i-1). The equation has one solution M, and it is

    M = (f / 2) sum_k Z_f(g_k) Z_-f(J h_k),    J h = (h_(n-1), ..., h_0),

with the f-circulant Z_f(v) of first column v, the columns g_k of G and the rows h_k of H. A
Toeplitz matrix and its inverse have r = 2, a product of two Toeplitz matrices r = 4; a sum has the
sum of the ranks. Transposes and inverses exchange f and -f.

Cost: 2 r + 2 Fourier transforms of length n, real ones for real numbers, and 2 r n products.
Source: Kailath, Kung and Morf, Displacement ranks of matrices and linear equations (1979); Pan,
Structured matrices and polynomials (2001), sections 4.4 and 1.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.leaves.toeplitz import Circulant, Toeplitz, join
from structmat.operator import LinearOperator, as_tensor
from structmat.primitives import Displacement

__all__ = ["LowDisplacementRank", "beside"]


def shift(v: Tensor, f: int, dim: int = -1) -> Tensor:
    """Z_f along a dimension."""
    n = v.shape[dim]
    return torch.cat([v.narrow(dim, n - 1, 1) * f, v.narrow(dim, 0, n - 1)], dim) if n else v


def unshift(v: Tensor, f: int, dim: int = -1) -> Tensor:
    """Z_f^T, for f = 1 or -1 the inverse of Z_f, along a dimension."""
    n = v.shape[dim]
    return torch.cat([v.narrow(dim, 1, n - 1), v.narrow(dim, 0, 1) * f], dim) if n else v


class LowDisplacementRank(LinearOperator):
    """The n x n matrix M with ``Z_f M - M Z_-f = G H``.

    Args:
        G: left generator, (..., n, r).
        H: right generator, (..., r, n).
        f: 1 or -1, what the shift on the left multiplies by when it wraps around.

    Raises:
        TypeError: integer G or H.
        ValueError: G and H do not fit, or f is neither 1 nor -1.

    Cost: 2 r + 2 Fourier transforms of length n per vector, storage 2 r n. Source: Pan, Structured
    matrices and polynomials (2001), section 4.4.

    Example:
        >>> import torch, structmat as sm
        >>> T = sm.Toeplitz(torch.tensor([1.0, 2.0, 0.0]), torch.tensor([1.0, 0.0, 3.0]))
        >>> A = sm.LowDisplacementRank.from_toeplitz(T)
        >>> A.rank, torch.allclose(A.to_dense(), T.to_dense())
        (2, True)
    """

    fields = ("left", "right")
    event_dims: ClassVar[dict[str, int]] = {"left": 2, "right": 2}
    left: Tensor
    right: Tensor
    f: int

    def __init__(self, G: Any, H: Any, f: int = 1) -> None:
        left = as_tensor(G, "LowDisplacementRank: left generator G", 2)
        right = as_tensor(H, "LowDisplacementRank: right generator H", 2)
        self._init({"left": left, "right": right}, static={"f": f})
        self._check()

    def _check(self) -> None:
        (n, r), (s, m) = self.left.shape[-2:], self.right.shape[-2:]
        if (n, r) != (m, s):
            raise ValueError(
                "LowDisplacementRank: G is (..., n, r) and H (..., r, n), got "
                f"{tuple(self.left.shape)} and {tuple(self.right.shape)}: G H must be square"
            )
        if self.f not in (1, -1) or isinstance(self.f, bool):
            raise ValueError(f"LowDisplacementRank: f is {self.f!r}, must be 1 or -1")

    @property
    def rank(self) -> int:
        """r, the number of columns of G: a bound on the displacement rank."""
        return self.left.shape[-1]

    def _shape(self) -> tuple[int, int]:
        return self.left.shape[-2], self.left.shape[-2]

    def _lower(self, g: Builder, x: Any) -> Any:
        n, r = self.shape[0], self.rank
        if n == 0 or r == 0:
            return g.zeros(x, n)
        a, b = self.left.mT * (self.f / 2), self.right.flip(-1)
        lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        dtype = torch.promote_types(a.dtype, b.dtype)
        parts = [v.to(dtype).expand(*lead, r, n) for v in (a, b)]
        return g.apply(x, Displacement(n, r, self.f), torch.stack(parts, -3))

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """From the equation: column j + 1 of M is Z_f times column j, less column j of G H."""
        n, f = self.shape[0], self.f
        right = self.left.to(dtype) @ self.right.to(dtype)
        if n == 0:
            return right
        column = torch.zeros_like(right[..., 0])
        for j in range(n):
            column = shift(column, f) - right[..., j]
        # n steps from a first column m lead to f m + column, which the last equation says is -f m
        column = column * (-f / 2)
        columns = []
        for j in range(n):
            columns.append(column)
            column = shift(column, f) - right[..., j]
        return torch.stack(columns, -1)

    def _transpose(self) -> LinearOperator:
        # Z^T = Z^-1: from Z_-f^T M^T - M^T Z_f^T = -H^T G^T to Z_-f M^T - M^T Z_f
        return LowDisplacementRank(
            shift(self.right.mT, -self.f, -2), unshift(self.left.mT, self.f), -self.f
        )

    def _label(self) -> str:
        sign = "" if self.f == 1 else f", f={self.f}"
        return f"LowDisplacementRank({self.shape[0]}x{self.shape[0]}, rank={self.rank}{sign})"

    @classmethod
    def from_toeplitz(cls, T: Toeplitz | Circulant, f: int = 1) -> LowDisplacementRank:
        """Generators of rank 2 of a square Toeplitz matrix.

        Args:
            T: Toeplitz or circulant.
            f: 1 or -1.

        Raises:
            TypeError: T is no Toeplitz matrix.
            ValueError: T is not square.

        Example:
            >>> import torch, structmat as sm
            >>> sm.LowDisplacementRank.from_toeplitz(sm.Toeplitz(torch.ones(5)))._label()
            'LowDisplacementRank(5x5, rank=2)'
        """
        left, right = toeplitz_generators(T, f, -f)
        return cls(left, right, f)

    @classmethod
    def from_toeplitz_inverse(
        cls,
        T: Toeplitz | Circulant,
        solve: Callable[[LinearOperator, Tensor], Tensor] | None = None,
    ) -> LowDisplacementRank:
        """Generators of rank 2 of the inverse of a square Toeplitz matrix.

        From ``Z_1 T - T Z_-1 = G H`` follows ``Z_-1 T^-1 - T^-1 Z_1 = -(T^-1 G)(H T^-1)``: two
        systems with T and two with its transpose.

        Args:
            T: Toeplitz or circulant, not singular.
            solve: (operator, columns) -> solution; by default a dense solver, which takes O(n^3)
                time and O(n^2) memory once, and is differentiable.

        Raises:
            TypeError: T is no Toeplitz matrix.
            ValueError: T is not square.
            RuntimeError: T is singular, from the dense solver.

        Example:
            >>> import torch, structmat as sm
            >>> T = sm.Toeplitz(torch.tensor([4.0, 1.0, 0.0]))
            >>> inverse = sm.LowDisplacementRank.from_toeplitz_inverse(T)
            >>> torch.allclose(inverse.to_dense() @ T.to_dense(), torch.eye(3), atol=1e-6)
            True
        """
        solve = solve or _dense_solve
        left, right = toeplitz_generators(T, 1, -1)
        return cls(-solve(T, left), solve(T._transpose(), right.mT).mT, -1)

    @classmethod
    def from_product(
        cls,
        A: Toeplitz | Circulant | LowDisplacementRank,
        B: Toeplitz | Circulant | LowDisplacementRank,
    ) -> LowDisplacementRank:
        """Generators of A B: ranks add.

        ``Z_f A B - A B Z_-f = (Z_f A - A Z_e) B + A (Z_e B - B Z_-f)``, for any e. The rank is 4
        for two Toeplitz matrices, and the sum of the ranks plus 1 where both factors are given by
        generators, because they have e = -f on one side and e = f on the other.

        Args:
            A: left factor.
            B: right factor, of the same size.

        Raises:
            TypeError: a factor is neither Toeplitz nor given by generators.
            ValueError: a factor is not square, or the sizes differ.

        Example:
            >>> import torch, structmat as sm
            >>> T = sm.Toeplitz(torch.ones(4))
            >>> sm.LowDisplacementRank.from_product(T, T).rank
            4
        """
        if A.shape[1] != B.shape[0]:
            raise ValueError(f"from_product: sizes of {A._label()} and {B._label()} differ")
        if isinstance(A, LowDisplacementRank):
            f, e = A.f, -A.f
            first = A.left, A.right
            second = _generators(B, e, -f)
        elif isinstance(B, LowDisplacementRank):
            f, e = B.f, B.f
            first, second = _generators(A, f, e), (B.left, B.right)
        else:
            f, e = 1, 1
            first, second = _generators(A, 1, 1), _generators(B, 1, -1)
        left = beside(first[0], A @ second[0], -1)
        return cls(left, beside((B.T @ first[1].mT).mT, second[1], -2), f)


def toeplitz_generators(T: LinearOperator, e: int, f: int) -> tuple[Tensor, Tensor]:
    """G (..., n, 2) and H (..., 2, n) with Z_e T - T Z_f = G H: only row 0 and column n - 1 differ.

    Entry (0, j) is e T[n-1, j] - T[0, j+1], entry (i, n-1) is T[i-1, n-1] - f T[i, 0], and their
    common corner e T[n-1, n-1] - f T[0, 0].
    """
    if not isinstance(T, Toeplitz | Circulant):
        raise TypeError(f"{T._label()} is no Toeplitz matrix: give Toeplitz or Circulant")
    n, m = T.shape
    if n != m:
        raise ValueError(f"{T._label()} is not square, displacement generators need n x n")
    c, r = T.c.to(T.dtype), T.row.to(T.dtype)
    lead = torch.broadcast_shapes(c.shape[:-1], r.shape[:-1])
    c, r = c.expand(*lead, n), r.expand(*lead, n)
    if n == 0:
        return c.new_zeros(*lead, 0, 2), c.new_zeros(*lead, 2, 0)
    last_row = join(c[..., 1:].flip(-1), c[..., :1])
    last_column = join(r[..., 1:].flip(-1), c[..., :1])
    row = join(e * last_row[..., :-1] - r[..., 1:], (e - f) * c[..., :1])
    column = join(torch.zeros_like(c[..., :1]), last_column[..., :-1] - f * c[..., 1:])
    unit = torch.zeros_like(c)
    one = torch.ones_like(c[..., :1])
    first, last = join(one, unit[..., 1:]), join(unit[..., 1:], one)
    return torch.stack([first, column], -1), torch.stack([row, last], -2)


def _generators(A: LinearOperator, e: int, f: int) -> tuple[Tensor, Tensor]:
    """G and H with Z_e A - A Z_f = G H; one more rank where A is given by other shifts."""
    if not isinstance(A, LowDisplacementRank):
        return toeplitz_generators(A, e, f)
    G, H = A.left, A.right
    if A.shape[0] == 0:
        return G, H
    # another shift on one side adds a rank: Z_f - Z_-f = 2 f e_0 e_(n-1)^T
    eye = torch.eye(A.shape[0], dtype=A.dtype, device=A.device)
    first, last = eye[:, :1], eye[:, -1:]
    if e != A.f:
        G, H = beside(G, first * (-2 * A.f), -1), beside(H, (A.T @ last).mT, -2)
    if f != -A.f:
        G, H = beside(G, (A @ first) * (-2 * A.f), -1), beside(H, last.mT, -2)
    return G, H


def beside(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Concatenation along one of the last two dimensions; the leading ones broadcast."""
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    dtype = torch.promote_types(a.dtype, b.dtype)
    return torch.cat([t.to(dtype).expand(*lead, *t.shape[-2:]) for t in (a, b)], dim)


def _dense_solve(A: LinearOperator, b: Tensor) -> Tensor:
    out: Tensor = torch.linalg.solve(A.to_dense(), b)
    return out
