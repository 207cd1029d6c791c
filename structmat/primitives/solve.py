"""A^-1 x for a dense matrix A whose factors are made once: two substitutions a vector.

The values are the entries of A, and below them what solving reads: nothing for a triangular A, and
for any other the factors P L U = A, transposed as LAPACK reads them, and the pivots (as numbers,
exact up to 2^24 in single precision), n + 1 more rows. The factors are constants that come from A:
the gradient is that of the entries of A alone. With y = A^-1 x, l = A^-H g for a cotangent g of y,

    gradient in x: l          gradient in A: -l y^H

as for any matrix, also in entries of a triangular A that substitution does not read (Giles,
Collected matrix derivative results, 2008). Both are read off y and l (``implicit``), so that a
backward pass factors nothing and solves once.

Cost: n^2 products a vector, half of it for a triangular A. LU: Golub and Van Loan, Matrix
computations, section 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from structmat.primitives.base import Function, Helper, Primitive, Square
from structmat.primitives.columns import columns_of, from_columns, no_columns

__all__ = ["How", "Solve", "factored"]

How = Literal["lu", "lower", "upper"]


def factored(a: Tensor) -> Tensor:
    """The values of ``Solve(n, "lu")``: (..., n, n) -> (..., 2 n + 1, n)."""
    lu, pivots, _ = torch.linalg.lu_factor_ex(a.detach())
    return torch.cat([a, lu.transpose(-2, -1), pivots.unsqueeze(-2).to(a.dtype)], -2)


def factored_columns(x: Tensor, w: Tensor, how: str, turned: bool) -> Tensor:
    """A^-1 x, or A^-T x if ``turned``: x (b, n, c), w as the values are -> (b, n, c)."""
    n = x.shape[1]
    if how != "lu":
        a = w.transpose(-2, -1) if turned else w
        y: Tensor = torch.linalg.solve_triangular(a, x, upper=(how == "upper") != turned)
        return y
    lu, last = w[..., n : 2 * n, :].transpose(-2, -1), w[..., 2 * n, :]
    pivots = (last.real if last.is_complex() else last).to(torch.int32)
    if not turned:
        y = torch.linalg.lu_solve(lu, pivots, x)
        return y
    y = torch.linalg.lu_solve(lu, pivots, x.conj().resolve_conj(), adjoint=True)
    return y.conj().resolve_conj()


def factored_product(x: Tensor, w: Tensor, how: str, turned: bool) -> Tensor:
    """A^-1 x by factors, differentiable to every order."""
    y: Tensor = FactoredProduct.apply(x, w, how, turned)  # type: ignore[no-untyped-call]
    return y


def factored_slope(y: Tensor, l: Tensor, rows: int, turned: bool) -> Tensor:
    """The gradient of the values by y = A^-1 x and l = A^-H g: -l y^H, zeros for the factors."""
    slope = -(y.conj() @ l.transpose(-2, -1)) if turned else -(l @ y.conj().transpose(-2, -1))
    return torch.nn.functional.pad(slope, (0, 0, 0, rows - slope.shape[-2]))


class FactoredProduct(torch.autograd.Function):
    """The product; its derivatives are such products again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, w: Tensor, how: str, turned: bool) -> Tensor:
        return factored_columns(x, w, how, turned)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, w, ctx.how, ctx.turned = inputs
        ctx.save_for_backward(w, output)
        ctx.save_for_forward(w, output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        w, y = ctx.saved_tensors
        l = factored_product(g.conj(), w, ctx.how, not ctx.turned).conj()
        gw = factored_slope(y, l, w.shape[-2], ctx.turned) if ctx.needs_input_grad[1] else None
        return l, gw, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Any, dw: Any, _: Any, __: Any) -> Tensor:
        w, y = ctx.saved_tensors
        right = torch.zeros_like(y) if dx is None else dx
        if dw is not None:
            da = dw[..., : y.shape[-2], :]
            right = right - (da.transpose(-2, -1) if ctx.turned else da) @ y
        return factored_product(right, w, ctx.how, ctx.turned)


def factored_solve(x: Tensor, w: Tensor, n: int, how: str, turned: bool) -> Tensor:
    """A^-1 x for x (..., n, cols) and w as the values are; turned, A^-T x."""
    w = w.flatten(-2)
    if 0 in (n, x.numel(), w.numel()):
        return no_columns(x, w, n)
    dtype = torch.promote_types(x.dtype, w.dtype)
    x, w, lead, p = columns_of(x, w)
    y = factored_product(x, w.unflatten(-1, (-1, n)), how, turned)
    return from_columns(y, lead, p, dtype)


def factored_gradient(y: Tensor, l: Tensor, n: int, how: str, turned: bool) -> Tensor:
    """The gradient of the values by what comes of x and of g, (b, p, n, cols) each."""
    b = y.shape[0]
    y, l = (v.transpose(1, 2).reshape([b, n, v.shape[1] * v.shape[-1]]) for v in (y, l))
    return factored_slope(y, l, 2 * n + 1 if how == "lu" else n, turned)


@dataclass(frozen=True)
class Solve(Square):
    """The inverse of a dense n x n matrix, by factors.

    Attributes:
        n: size.
        how: by LU factors, or by substitution in a matrix that is lower or upper triangular.
        turned: the transposed inverse.
    """

    how: How = "lu"
    turned: bool = False

    function: ClassVar[Function] = staticmethod(factored_solve)
    correlate: ClassVar[Function | None] = staticmethod(factored_gradient)
    helpers: ClassVar[tuple[Helper, ...]] = (
        columns_of,
        from_columns,
        no_columns,
        factored_columns,
        factored_slope,
        factored_product,
        FactoredProduct,
    )
    implicit: ClassVar[bool] = True

    @property
    def values(self) -> tuple[int, ...]:
        """The entries of A, and its factors."""
        return 2 * self.n + 1 if self.how == "lu" else self.n, self.n

    def args(self) -> tuple[Any, ...]:
        """Size, method, direction."""
        return self.n, self.how, self.turned

    def transposed(self) -> Primitive:
        """The other direction."""
        return replace(self, turned=not self.turned)

    def singular(self, w: Tensor) -> Tensor | None:
        """Whether elimination met a column of zeros; a triangular matrix gives inf, as in torch."""
        if self.how != "lu":
            return None
        factors = w.reshape(-1, *self.values)[:, self.n : 2 * self.n]
        return factors.diagonal(dim1=-2, dim2=-1) == 0

    def operations(self, complex_: bool) -> tuple[int, int]:
        """Two substitutions, or one."""
        n = self.n
        if self.how == "lu":
            return n * n, n * max(n - 1, 0)
        return n * (n + 1) // 2, n * max(n - 1, 0) // 2
