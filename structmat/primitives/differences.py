"""Cauchy matrices 1 / (s_i - t_j): no m x n matrix is ever stored.

Many real nodes take sums of exponentials (:mod:`structmat.primitives.exponentials`): almost linear
time; sizes alone decide. Many complex nodes take the fast multipole method where numbers may be
looked at (:mod:`structmat.primitives.multipoles`): linear time, unless the nodes have so many
scales that tiles cost less. Others take tiles: 2^18 entries (2^24 on a GPU) are made, multiplied
and dropped, memory O(m + n) for each column, the time of a dense product.
The matrix is not linear in its values (s, t); its derivatives have the same form,

    d/ds 1 / (s - t)^p = -p / (s - t)^(p+1),    d/dt 1 / (s - t)^p = p / (s - t)^(p+1),

so products with all the powers p are differentiable the same way, to every order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.primitives.base import Function, Helper, Primitive
from structmat.primitives.columns import columns_of, from_columns, no_columns
from structmat.primitives.exponentials import (
    exponential_sum,
    far_distances,
    far_from_left,
    fast_differences,
    near_blocks,
)
from structmat.primitives.multipoles import (
    binomials,
    bisected,
    box_pairs,
    direct_pairs,
    fast_poles,
    many_poles,
    positive,
    shifts,
    translated,
)
from structmat.primitives.nodes import Nodes
from structmat.primitives.plain import plain_numbers
from structmat.primitives.power_tiles import powers_block

__all__ = ["Differences"]


def differences_tiles(x: Tensor, s: Tensor, t: Tensor, power: int) -> Tensor:
    """sum_j x_j / (s_i - t_j)^power; x (b, n, c), s (b, m), t (b, n) -> (b, m, c)."""
    b, n, _ = x.shape
    m, most = s.shape[1], 1 << (24 if x.is_cuda else 18)
    wide = min(n, most)
    tall = max(1, most // (b * wide))
    rows = []
    for i in range(0, m, tall):
        total = x.new_zeros(())
        for j in range(0, n, wide):
            tile = (s[:, i : i + tall, None] - t[:, None, j : j + wide]).reciprocal()
            tile = tile if power == 1 else tile.pow(power)
            part = tile @ x[:, j : j + wide]
            total = part if j == 0 else total + part
        rows.append(total)
    return torch.cat(rows, 1)


def many_nodes(m: int, n: int, cols: int, cuda: bool = False) -> bool:
    """Whether sums of exponentials are faster than tiles, as measured on a CPU and on an H100."""
    least = 2048 if cols >= 16 else 6144
    return m * n >= (16384 if cuda else least) * (m + n)


def poles_product(x: Tensor, s: Tensor, t: Tensor, power: int) -> Tensor:
    """Multipoles for complex nodes, one member of the batch after the other; else tiles."""
    found = []
    for i in range(x.shape[0]):
        y = fast_poles(x[i], s[i], t[i], power)
        if y is None:
            y = differences_tiles(x[i : i + 1], s[i : i + 1], t[i : i + 1], power)[0]
        found.append(y)
    return torch.stack(found)


def differences_product(x: Tensor, s: Tensor, t: Tensor, power: int, fast: bool) -> Tensor:
    """The product, differentiable to every order; ``fast`` where real nodes are many."""
    y: Tensor = DifferencesProduct.apply(x, s, t, power, fast)  # type: ignore[no-untyped-call]
    return y


class DifferencesProduct(torch.autograd.Function):
    """The product; its derivatives are such products again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, s: Tensor, t: Tensor, power: int, fast: bool) -> Tensor:
        if (
            fast
            and not s.is_complex()
            and many_nodes(s.shape[1], t.shape[1], x.shape[2], x.is_cuda)
        ):
            return fast_differences(x, s, t, power)
        sizes = s.shape[1], t.shape[1], x.shape[2]
        double = x.dtype == torch.complex128
        if fast and s.is_complex() and many_poles(*sizes, double):
            if plain_numbers(s) and plain_numbers(t) and plain_numbers(x):
                return poles_product(x, s, t, power)
        return differences_tiles(x, s, t, power)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.power, ctx.fast = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, s, t = ctx.saved_tensors
        power, fast, product = ctx.power, ctx.fast, differences_product
        gx = gs = gt = None
        if ctx.needs_input_grad[0]:
            gx = product(g, t.conj(), s.conj(), power, fast) * (-1) ** power
        if ctx.needs_input_grad[1]:
            gs = (g * product(x, s, t, power + 1, fast).conj()).sum(-1) * -power
        if ctx.needs_input_grad[2]:
            back = product(g, t.conj(), s.conj(), power + 1, fast) * (-1) ** (power + 1)
            gt = (x.conj() * back).sum(-1) * power
        return gx, gs, gt, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Any, ds: Any, dt: Any, _: Any, __: Any) -> Tensor:
        x, s, t = ctx.saved_tensors
        power, fast, product = ctx.power, ctx.fast, differences_product
        y = torch.zeros_like(s[..., None] * x[:, :1])
        if dx is not None:
            y = y + product(dx, s, t, power, fast)
        if ds is not None:
            y = y - power * ds[..., None] * product(x, s, t, power + 1, fast)
        if dt is not None:
            y = y + power * product(dt[..., None] * x, s, t, power + 1, fast)
        return y


def differences(x: Tensor, w: Tensor, m: int, n: int, turned: bool, fast: bool) -> Tensor:
    """sum_j x_j / (s_i - t_j) with w = (s, t); turned, sum_i x_i / (s_i - t_j)."""
    if 0 in (m, n, x.numel(), w.numel()):
        return no_columns(x, w, n if turned else m)
    dtype = torch.promote_types(x.dtype, w.dtype)
    x, w, lead, p = columns_of(x, w)
    s, t = w[:, :m], w[:, m:]
    if turned:
        y = -differences_product(x, t, s, 1, fast)
    else:
        y = differences_product(x, s, t, 1, fast)
    return from_columns(y, lead, p, dtype)


def differences_gradient(
    x: Tensor, g: Tensor, w: Tensor, m: int, n: int, turned: bool, fast: bool
) -> Tensor:
    """The gradient of w = (s, t); x (b, p, ins, cols), g (b, p, outs, cols), w (b, m + n)."""
    if 0 in (m, n, x.numel(), g.numel()):
        return torch.zeros_like(w)
    dtype = torch.promote_types(torch.promote_types(x.dtype, g.dtype), w.dtype)
    x, both, *_ = columns_of(x, w[:, None])
    g, *_ = columns_of(g, w[:, None])
    x, g = (g.conj(), x.conj()) if turned else (x, g)
    s, t, product = both[:, :m], both[:, m:], differences_product
    gs = -(g * product(x, s, t, 2, fast).conj()).sum(-1)
    gt = (x.conj() * product(g, t.conj(), s.conj(), 2, fast)).sum(-1)
    return torch.cat([gs, gt], -1).to(dtype)


@dataclass(frozen=True)
class Differences(Nodes):
    """1 / (s_i - t_j).

    Attributes:
        m: length of s.
        n: length of t.
        turned: the transposed matrix.
        fast: let many real nodes take sums of exponentials.
    """

    fast: bool = True

    function: ClassVar[Function] = staticmethod(differences)
    correlate: ClassVar[Function | None] = staticmethod(differences_gradient)
    helpers: ClassVar[tuple[Helper, ...]] = (
        exponential_sum,
        far_distances,
        far_from_left,
        near_blocks,
        fast_differences,
        many_nodes,
        plain_numbers,
        powers_block,
        binomials,
        bisected,
        box_pairs,
        positive,
        shifts,
        translated,
        direct_pairs,
        many_poles,
        fast_poles,
        differences_tiles,
        poles_product,
        differences_product,
        DifferencesProduct,
        columns_of,
        from_columns,
        no_columns,
    )

    @property
    def values(self) -> tuple[int, ...]:
        """s and t."""
        return (self.m + self.n,)

    def args(self) -> tuple[Any, ...]:
        """Sizes, direction, method."""
        return self.m, self.n, self.turned, self.fast

    def transposed(self) -> Primitive:
        """The other direction."""
        return replace(self, turned=not self.turned)

    def operations(self, complex_: bool) -> tuple[int, int]:
        """Those of the products; what the nodes alone need is shared by the columns."""
        if self.fast and not complex_ and many_nodes(self.m, self.n, 16):
            each = (3 * 64 + 4 * 96) * (self.m + self.n)
            return each, each
        return self.m * self.n, self.outs * max(self.ins - 1, 0)
