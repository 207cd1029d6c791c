"""Vandermonde matrices z_i^j: no m x n matrix is ever stored.

Many real nodes take windows of their logarithms (:mod:`structmat.primitives.power_windows`):
linear time; sizes alone decide. Many complex nodes of nearly one modulus, such as those on the unit
circle, take a nonuniform Fourier transform (:mod:`structmat.primitives.power_circle`) where numbers
may be looked at. Others take tiles (:mod:`structmat.primitives.power_tiles`): the time of a dense
product. The matrix is not linear in its values z; the derivative

    (sum_j c_j z^j)' = sum_j (j + 1) c_(j+1) z^j

has the same form, so products are differentiable the same way, to every order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.primitives.base import Function, Helper, Primitive
from structmat.primitives.columns import columns_of, from_columns, no_columns
from structmat.primitives.nodes import Nodes
from structmat.primitives.plain import plain_numbers
from structmat.primitives.power_circle import (
    circle_powers,
    circle_weights,
    many_on_circle,
    one_modulus,
    unit_roots,
)
from structmat.primitives.power_tiles import powers_block, powers_tiles
from structmat.primitives.power_windows import (
    fast_powers,
    gathered,
    many_powers,
    node_tiles,
    node_windows,
    window_count,
    window_matrices,
    window_products,
    window_sizes,
    window_spread,
    window_sums,
)

__all__ = ["Powers"]


def derived(x: Tensor) -> Tensor:
    """Coefficients (j + 1) x_(j+1) of the derivative, along dimension 1."""
    j = torch.arange(1, x.shape[1], device=x.device).to(x.dtype)
    return x[:, 1:] * j[:, None]


def powers_product(x: Tensor, z: Tensor, n: int, turned: bool) -> Tensor:
    """The product, differentiable to every order."""
    y: Tensor = PowersProduct.apply(x, z, n, turned)  # type: ignore[no-untyped-call]
    return y


class PowersProduct(torch.autograd.Function):
    """The product; its derivatives are such products again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, z: Tensor, n: int, turned: bool) -> Tensor:
        sizes = z.shape[1], n, x.shape[2]
        if not z.is_complex():
            if many_powers(*sizes, z.dtype == torch.float64, x.is_cuda):
                return fast_powers(x, z, n, turned)
        elif many_on_circle(*sizes) and plain_numbers(z) and plain_numbers(x):
            middle = one_modulus(z, n)
            if middle is not None:
                return circle_powers(x, z, n, turned, middle)
        return powers_tiles(x, z, n, turned)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, z, ctx.n, ctx.turned = inputs
        ctx.save_for_backward(x, z)
        ctx.save_for_forward(x, z)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, z = ctx.saved_tensors
        n, product = ctx.n, powers_product
        gx = gz = None
        if ctx.needs_input_grad[0]:
            gx = product(g, z.conj(), n, not ctx.turned)
        if ctx.needs_input_grad[1]:
            gz = powers_slope(x, g, z, n, ctx.turned)
        return gx, gz, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Any, dz: Any, _: Any, __: Any) -> Tensor:
        x, z = ctx.saved_tensors
        n, turned, product = ctx.n, ctx.turned, powers_product
        y = torch.zeros_like(x[:, :1] * z[:, :1, None])
        if dx is not None:
            y = y + product(dx, z, n, turned)
        if dz is not None and n > 1:
            if turned:
                j = torch.arange(1, n, device=x.device).to(x.dtype)[:, None]
                rise = product(dz[..., None] * x, z, n - 1, True) * j
                y = y + torch.cat([torch.zeros_like(rise[:, :1]), rise], 1)
            else:
                y = y + dz[..., None] * product(derived(x), z, n - 1, False)
        return y.expand(-1, n if turned else z.shape[1], -1)


def powers_slope(x: Tensor, g: Tensor, z: Tensor, n: int, turned: bool) -> Tensor:
    """The gradient of z (b, m) where g comes back from the product of x."""
    if n < 2:
        return torch.zeros_like(z)
    product = powers_product
    if turned:
        return (x.conj() * product(derived(g), z.conj(), n - 1, False)).sum(-1)
    return (g * product(derived(x), z, n - 1, False).conj()).sum(-1)


def powers(x: Tensor, w: Tensor, m: int, n: int, turned: bool) -> Tensor:
    """sum_j z_i^j x_j with w = z; turned, sum_i z_i^j x_i."""
    if 0 in (m, n, x.numel(), w.numel()):
        return no_columns(x, w, n if turned else m)
    dtype = torch.promote_types(x.dtype, w.dtype)
    x, z, lead, p = columns_of(x, w)
    return from_columns(powers_product(x, z, n, turned), lead, p, dtype)


def powers_gradient(x: Tensor, g: Tensor, w: Tensor, m: int, n: int, turned: bool) -> Tensor:
    """The gradient of z; x (b, p, ins, cols), g (b, p, outs, cols), w (b, m)."""
    if 0 in (m, n, x.numel(), g.numel()):
        return torch.zeros_like(w)
    dtype = torch.promote_types(torch.promote_types(x.dtype, g.dtype), w.dtype)
    x, z, *_ = columns_of(x, w[:, None])
    g, *_ = columns_of(g, w[:, None])
    return powers_slope(x, g, z, n, turned).to(dtype)


@dataclass(frozen=True)
class Powers(Nodes):
    """z_i^j.

    Attributes:
        m: length of z.
        n: how many powers, from 0 on.
        turned: the transposed matrix.
    """

    function: ClassVar[Function] = staticmethod(powers)
    correlate: ClassVar[Function | None] = staticmethod(powers_gradient)
    helpers: ClassVar[tuple[Helper, ...]] = (
        powers_block,
        powers_tiles,
        many_powers,
        window_sizes,
        window_matrices,
        window_count,
        window_sums,
        window_spread,
        node_windows,
        node_tiles,
        gathered,
        fast_powers,
        plain_numbers,
        many_on_circle,
        one_modulus,
        unit_roots,
        circle_weights,
        circle_powers,
        derived,
        powers_slope,
        powers_product,
        PowersProduct,
        columns_of,
        from_columns,
        no_columns,
    )

    @property
    def values(self) -> tuple[int, ...]:
        """The nodes z."""
        return (self.m,)

    def args(self) -> tuple[Any, ...]:
        """Sizes and direction."""
        return self.m, self.n, self.turned

    def transposed(self) -> Primitive:
        """The other direction."""
        return replace(self, turned=not self.turned)

    def operations(self, complex_: bool) -> tuple[int, int]:
        """Those of Horner's rule, a product and a sum an entry; the first column is ones.

        Of windows, those of the products; what the nodes alone need is shared by the columns.
        Complex nodes count as in tiles, because sizes do not say whether they have one modulus.
        """
        if self.n == 0 or self.m == 0:
            return 0, 0
        if not complex_ and many_powers(self.m, self.n, 16, True, False):
            each = window_products(self.m, self.n, self.turned)
            return each, each
        sums = self.n * (self.m - 1) if self.turned else self.m * (self.n - 1)
        return self.m * (self.n - 1), sums
