"""Sparse matrices: products by compressed rows, and by blocks.

    Csr(pattern)           y[i] = sum_k w[k] x[column[k]]    over the entries k of row i
    Bsr(pattern, block)    the same with blocks w[k] of p x q

A pattern is static; the values w (one number, or one p x q block, an entry in row-major order) are
the operand. The transpose reads the same values in the order of the transposed pattern, and the
gradient of the values is a product sampled at the entries, g[row[k]] conj(x[column[k]]).

On CPU and GPU the products by compressed rows are those of the vendor's sparse library, through
torch.sparse; torch differentiates them once at most and maps them never, so :class:`Csr` says by
itself how its two bilinear forms (product and sampled product) differentiate into each other. While
torch traces, and where there is no such library, both are gathers and sums that torch knows.
Blocks are gathers, one batched product, and a sum by block row: O(entries x columns) memory.

Cost: one product and one sum an entry, in each vector.
Source: Davis, Direct methods for sparse linear systems (2006), chapter 2.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from structmat.pattern import Pattern
from structmat.primitives.base import Function, Helper, Primitive
from structmat.primitives.sparse_products import (
    aligned,
    block_gradient,
    block_product,
    csr_gradient,
    csr_multiply,
    csr_product,
    csr_sample,
    csr_turned_gradient,
    csr_turned_product,
    has_library,
    restored,
    row_numbers,
    working,
)
from structmat.tables import Table, index_tensor

__all__ = ["Bsr", "Csr"]

with warnings.catch_warnings():  # torch says once in a process that compressed rows are in beta
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0], [], [], (0, 0), device="cpu", check_invariants=False)


# eagerly: differentiable to any order ------------------------------------------------------------


class _Product(torch.autograd.Function):
    """(x (b, n, c), w (b, nnz), op) -> (b, m, c), bilinear."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, op: Csr) -> Tensor:
        return op.multiply(x, w)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, w, ctx.op = inputs
        ctx.save_for_backward(x, w)
        ctx.save_for_forward(x, w)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        need_x, need_w, _ = ctx.needs_input_grad
        gx = ctx.op.transposed().product(g, w.conj()) if need_x else None
        gw = ctx.op.sampled(x.conj(), g) if need_w else None
        return gx, gw, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, dw: Tensor, _: None) -> Any:
        x, w = ctx.saved_tensors
        return ctx.op.product(dx, w) + ctx.op.product(x, dw)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, w: Tensor, op: Csr) -> Any:
        dx, dw, _ = in_dims
        if dw is None:  # more columns
            xs = x.movedim(dx, -1)
            y = op.product(xs.flatten(2), w)
            return y.reshape(*y.shape[:2], *xs.shape[2:]), 3
        return _members(info.batch_size, (x, dx), (w, dw), op.product)


class _Sample(torch.autograd.Function):
    """(x (b, n, c), g (b, m, c), op) -> (b, nnz), bilinear: sums of g[row] x[column]."""

    @staticmethod
    def forward(x: Tensor, g: Tensor, op: Csr) -> Tensor:
        return op.sample(x, g)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, g, ctx.op = inputs
        ctx.save_for_backward(x, g)
        ctx.save_for_forward(x, g)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        x, g = ctx.saved_tensors
        need_x, need_g, _ = ctx.needs_input_grad
        gx = ctx.op.transposed().product(g.conj(), v) if need_x else None
        gg = ctx.op.product(x.conj(), v) if need_g else None
        return gx, gg, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, dg: Tensor, _: None) -> Any:
        x, g = ctx.saved_tensors
        return ctx.op.sampled(dx, g) + ctx.op.sampled(x, dg)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, g: Tensor, op: Csr) -> Any:
        dx, dg, _ = in_dims
        return _members(info.batch_size, (x, dx), (g, dg), op.sampled)


def _members(size: int, first: tuple[Tensor, Any], second: tuple[Tensor, Any], form: Any) -> Any:
    """A mapped dimension of either operand, in front of b."""
    a, b = (t.expand(size, *t.shape) if d is None else t.movedim(d, 0) for t, d in (first, second))
    y = form(a.flatten(0, 1), b.flatten(0, 1))
    return y.reshape(size, -1, *y.shape[1:]), 0


# primitives --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Csr(Primitive):
    """A sparse matrix by compressed rows, acting on its values.

    Attributes:
        pattern: where the entries are.
    """

    pattern: Pattern

    function: ClassVar[Function] = staticmethod(csr_product)
    correlate: ClassVar[Function | None] = staticmethod(csr_gradient)
    helpers: ClassVar[tuple[Helper, ...]] = (
        working, aligned, restored, row_numbers, has_library, csr_multiply, csr_sample,
    )  # fmt: skip

    @property
    def ins(self) -> int:
        """Length of x."""
        return self.pattern.shape[1]

    @property
    def outs(self) -> int:
        """Length of y."""
        return self.pattern.shape[0]

    @property
    def values(self) -> tuple[int, ...]:
        """Trailing shape of w."""
        return (self.pattern.nnz,)

    def args(self) -> tuple[Any, ...]:
        """The shape of the matrix."""
        return (self.pattern.shape,)

    def tables(self) -> tuple[Table, ...]:
        """Where rows begin, and columns."""
        return self.pattern.compressed

    def transposed(self) -> Primitive:
        """The compressed rows of the transpose, on the same values."""
        return CsrTurned(self.pattern)

    def operations(self, complex_: bool) -> tuple[int, int]:
        """One product an entry, and a sum for each but the first of a row."""
        return self.pattern.nnz, self.pattern.nnz - self.pattern.filled[0]

    def __call__(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        """x (..., ins, cols) -> (..., outs, cols), differentiable to any order."""
        assert w is not None
        dtype = torch.promote_types(x.dtype, w.dtype)
        xs, ws, order, sizes = aligned(x.to(working(dtype)), w.to(working(dtype)), 1)
        return restored(self.product(xs, ws), order, sizes).to(dtype)

    def gradient(self, x: Tensor, g: Tensor, w: Tensor | None = None) -> Tensor:
        """See :meth:`Primitive.gradient`; differentiable to any order."""
        dtype = torch.promote_types(x.dtype, g.dtype)
        xs, gs = (t.to(working(dtype)).transpose(1, 2).flatten(2) for t in (x.conj(), g))
        return self.sampled(xs, gs).to(dtype)

    def product(self, x: Tensor, w: Tensor) -> Tensor:
        """x (b, n, c), w (b, nnz) -> (b, m, c)."""
        if not _traced(x, w):
            y: Tensor = _Product.apply(x, w, self)  # type: ignore[no-untyped-call]
            return y
        rows, columns = self._places(x.device)
        terms = x.index_select(1, columns) * w.unsqueeze(-1)
        return terms.new_zeros(terms.shape[0], self.outs, x.shape[2]).index_add(1, rows, terms)

    def sampled(self, x: Tensor, g: Tensor) -> Tensor:
        """x (b, n, c), g (b, m, c) -> (b, nnz): sums over c of g[row] x[column]."""
        if not _traced(x, g):
            w: Tensor = _Sample.apply(x, g, self)  # type: ignore[no-untyped-call]
            return w
        rows, columns = self._places(x.device)
        return (x.index_select(1, columns) * g.index_select(1, rows)).sum(-1)

    def multiply(self, x: Tensor, w: Tensor) -> Tensor:
        """x (b, n, c), w (b, nnz) -> (b, m, c), by the library."""
        indptr, indices = self.tensors(x.device)
        return csr_multiply(x, w, indptr, indices, self.pattern.shape)

    def sample(self, x: Tensor, g: Tensor) -> Tensor:
        """x (b, n, c), g (b, m, c) -> (b, nnz), by the library."""
        indptr, indices = self.tensors(x.device)
        return csr_sample(x, g, indptr, indices, self.pattern.shape)

    def _places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The row and the column of each entry, in the order of w."""
        p = self.pattern
        return index_tensor(p.rows, device), index_tensor(p.indices, device)

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {self.pattern}"


def _traced(*operands: Tensor) -> bool:
    """Whether torch must see every step: it traces, or maps by its engine's own vmap."""
    if torch.compiler.is_compiling() or is_in_torch_dispatch_mode():
        return True
    mapped = any(torch._C._functorch.is_legacy_batchedtensor(t) for t in operands)
    return mapped or operands[0].device.type not in ("cpu", "cuda")


@dataclass(frozen=True)
class CsrTurned(Csr):
    """The transpose of ``Csr(pattern)``, on the values of that."""

    function: ClassVar[Function] = staticmethod(csr_turned_product)
    correlate: ClassVar[Function | None] = staticmethod(csr_turned_gradient)
    helpers: ClassVar[tuple[Helper, ...]] = (*Csr.helpers, csr_product, csr_gradient)

    @property
    def ins(self) -> int:
        """Length of x."""
        return self.pattern.shape[0]

    @property
    def outs(self) -> int:
        """Length of y."""
        return self.pattern.shape[1]

    def args(self) -> tuple[Any, ...]:
        """The shape of the transpose."""
        return (self.pattern.shape[::-1],)

    def tables(self) -> tuple[Table, ...]:
        """The compressed rows of the transpose, and which value each of its entries is."""
        turned, order = self.pattern.turned
        return *turned.compressed, order

    def transposed(self) -> Primitive:
        """The compressed rows."""
        return Csr(self.pattern)

    def operations(self, complex_: bool) -> tuple[int, int]:
        """One product an entry, and a sum for each but the first of a column."""
        return self.pattern.nnz, self.pattern.nnz - self.pattern.filled[1]

    def multiply(self, x: Tensor, w: Tensor) -> Tensor:
        """See :meth:`Csr.multiply`."""
        indptr, indices, order = self.tensors(x.device)
        return csr_multiply(x, w.index_select(1, order), indptr, indices, *self.args())

    def sample(self, x: Tensor, g: Tensor) -> Tensor:
        """See :meth:`Csr.sample`: what x was is g there."""
        return Csr(self.pattern).sample(g, x)

    def _places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        rows, columns = super()._places(device)
        return columns, rows


@dataclass(frozen=True)
class Bsr(Primitive):
    """A sparse matrix of blocks of one shape, acting on the blocks.

    Attributes:
        pattern: where the blocks are.
        block: (p, q), the shape of a block.
        turned: act as the transpose.
    """

    pattern: Pattern
    block: tuple[int, int]
    turned: bool = False

    function: ClassVar[Function] = staticmethod(block_product)
    correlate: ClassVar[Function | None] = staticmethod(block_gradient)
    helpers: ClassVar[tuple[Helper, ...]] = (working, aligned, restored)

    @property
    def ins(self) -> int:
        """Length of x."""
        side = 0 if self.turned else 1
        return self.pattern.shape[side] * self.block[side]

    @property
    def outs(self) -> int:
        """Length of y."""
        side = 1 if self.turned else 0
        return self.pattern.shape[side] * self.block[side]

    @property
    def values(self) -> tuple[int, ...]:
        """Trailing shape of w."""
        return (self.pattern.nnz, *self.block)

    def args(self) -> tuple[Any, ...]:
        """The shape of the pattern, and the direction."""
        return self.pattern.shape, self.turned

    def tables(self) -> tuple[Table, ...]:
        """The block row and the block column of each block."""
        return self.pattern.rows, self.pattern.indices

    def transposed(self) -> Primitive:
        """The other direction."""
        return Bsr(self.pattern, self.block, not self.turned)

    def operations(self, complex_: bool) -> tuple[int, int]:
        """Those of the blocks, and the sums of their results."""
        p, q = self.block
        products = self.pattern.nnz * p * q
        side = 1 if self.turned else 0
        return products, products - self.pattern.filled[side] * self.block[side] if products else 0

    def __str__(self) -> str:
        turned = " transposed" if self.turned else ""
        return f"bsr {self.pattern} of {self.block[0]}x{self.block[1]}{turned}"
