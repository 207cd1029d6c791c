"""Products with sparse matrices in plain torch: what generated modules contain.

By compressed rows, through torch.sparse where there is a library for the device of x (MKL or
cuSPARSE), else by gathers and sums; and by blocks, as one batched product between a gather and a
sum by block row. Each has the gradient of its values. See :mod:`structmat.primitives.sparse`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "aligned", "block_gradient", "block_product", "csr_gradient", "csr_multiply", "csr_product",
    "csr_sample", "csr_turned_gradient", "csr_turned_product", "has_library", "restored",
    "row_numbers", "working",
]  # fmt: skip


def working(dtype: torch.dtype) -> torch.dtype:
    """16-bit numbers are multiplied and summed in float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def aligned(x: Tensor, w: Tensor, event: int) -> tuple[Tensor, Tensor, list[int], list[int]]:
    """x (..., n, cols), w (..., *values) as (b, n, c), (b, *values): b over what w varies in.

    The values have ``event`` dimensions. Also returned: the order of the dimensions, and their
    sizes in that order, with which :func:`restored` undoes it; no order where nothing moves.
    """
    if w.ndim == event and math.prod(x.shape[:-2]) == 1:
        return x.reshape([1, *x.shape[-2:]]), w.unsqueeze(0), [], list(x.shape)
    k = max(x.ndim - 2, w.ndim - event)
    x = x.reshape([1] * (k - x.ndim + 2) + list(x.shape))
    w = w.reshape([1] * (k - w.ndim + event) + list(w.shape))
    own = [i for i in range(k) if w.shape[i] != 1]
    order = own + [k] + [i for i in range(k) if w.shape[i] == 1] + [k + 1]
    x = x.expand([w.shape[i] if i in own else x.shape[i] for i in range(k + 2)]).permute(order)
    sizes = list(x.shape)
    b = math.prod(sizes[: len(own)])
    x = x.reshape(b, sizes[len(own)], math.prod(sizes[len(own) + 1 :]))
    return x, w.reshape([b, *w.shape[k:]]), order, sizes


def restored(y: Tensor, order: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """y (b, m, c) as (..., m, cols)."""
    if not order:
        return y.reshape([*sizes[:-2], y.shape[1], sizes[-1]])
    kept = [y.shape[1] if o == len(order) - 2 else s for o, s in zip(order, sizes, strict=True)]
    return y.reshape(kept).permute([order.index(i) for i in range(len(order))])


def row_numbers(indptr: Tensor, nnz: int) -> Tensor:
    """The row of each entry."""
    rows = torch.arange(indptr.shape[0] - 1, device=indptr.device)
    return rows.repeat_interleave(indptr.diff(), output_size=nnz)


def has_library(x: Tensor) -> bool:
    """Whether torch.sparse multiplies on the device of x."""
    return torch.backends.mkl.is_available() if x.device.type == "cpu" else x.is_cuda


def csr_multiply(
    x: Tensor, w: Tensor, indptr: Tensor, indices: Tensor, shape: Sequence[int]
) -> Tensor:
    """x (b, n, c), w (b, nnz) -> (b, m, c)."""
    m = shape[0]
    if x.numel() == 0 or w.numel() == 0 or m == 0:
        return x.new_zeros([x.shape[0], m, x.shape[2]])
    if has_library(x):
        y = x.new_empty([x.shape[0], m, x.shape[2]])
        x, w = x.resolve_conj(), w.resolve_conj().contiguous()  # cuSPARSE ignores strides of w
        for i in range(x.shape[0]):
            a = torch.sparse_csr_tensor(indptr, indices, w[i], list(shape), check_invariants=False)
            out = y[i]
            torch.addmm(out, a, x[i], beta=0.0, out=out)  # a @ x fills and copies once more
        return y
    terms = x.index_select(1, indices) * w.unsqueeze(-1)
    rows = row_numbers(indptr, w.shape[1])
    return x.new_zeros([x.shape[0], m, x.shape[2]]).index_add(1, rows, terms)


def csr_sample(
    x: Tensor, g: Tensor, indptr: Tensor, indices: Tensor, shape: Sequence[int]
) -> Tensor:
    """x (b, n, c), g (b, m, c) -> (b, nnz): sums over c of g[row] x[column]."""
    nnz = indices.shape[0]
    if x.numel() == 0 or g.numel() == 0 or nnz == 0:
        return x.new_zeros([x.shape[0], nnz])
    if has_library(x):
        zeros = x.new_zeros(nnz)
        at = torch.sparse_csr_tensor(indptr, indices, zeros, list(shape), check_invariants=False)
        parts = [
            torch.sparse.sampled_addmm(at, gs, xs.mT, beta=0.0).values()
            for gs, xs in zip(g.resolve_conj(), x.resolve_conj(), strict=True)
        ]
        return torch.stack(parts)  # not a view of a sparse tensor
    rows = row_numbers(indptr, nnz)
    return (x.index_select(1, indices) * g.index_select(1, rows)).sum(-1)


def csr_product(
    x: Tensor, w: Tensor, indptr: Tensor, indices: Tensor, shape: Sequence[int]
) -> Tensor:
    """y = A x, x (..., n, cols), for the values w (..., nnz) of A by compressed rows."""
    dtype = torch.promote_types(x.dtype, w.dtype)
    xs, ws, order, sizes = aligned(x.to(working(dtype)), w.to(working(dtype)), 1)
    return restored(csr_multiply(xs, ws, indptr, indices, shape), order, sizes).to(dtype)


def csr_gradient(
    x: Tensor, g: Tensor, indptr: Tensor, indices: Tensor, shape: Sequence[int]
) -> Tensor:
    """The gradient of w, (b, nnz): x (b, p, n, q), g (b, p, m, q), summed over p and q."""
    dtype = torch.promote_types(x.dtype, g.dtype)
    xs, gs = (t.to(working(dtype)).transpose(1, 2).flatten(2) for t in (x.conj(), g))
    return csr_sample(xs, gs, indptr, indices, shape).to(dtype)


def csr_turned_product(
    x: Tensor, w: Tensor, indptr: Tensor, indices: Tensor, order: Tensor, shape: Sequence[int]
) -> Tensor:
    """The product with the transpose: entry k of its compressed rows is w[order[k]]."""
    return csr_product(x, w.index_select(-1, order), indptr, indices, shape)


def csr_turned_gradient(
    x: Tensor, g: Tensor, indptr: Tensor, indices: Tensor, order: Tensor, shape: Sequence[int]
) -> Tensor:
    """The gradient of w in the product with the transpose."""
    made = csr_gradient(x, g, indptr, indices, shape)
    return torch.zeros_like(made).index_copy(-1, order, made)


def block_product(
    x: Tensor, w: Tensor, rows: Tensor, indices: Tensor, shape: Sequence[int], turned: bool
) -> Tensor:
    """y = A x, x (..., n, cols), for the blocks w (..., nnz, p, q) of A; ``turned``, of A^T.

    On a CPU 2^19 entries of their results are made and added at a time: they stay in its cache,
    and in memory that the process has. On a GPU, and while torch traces, all are made at once.
    """
    if turned:
        rows, indices, shape, w = indices, rows, shape[::-1], w.mT
    dtype = torch.promote_types(x.dtype, w.dtype)
    xs, ws, order, sizes = aligned(x.to(working(dtype)), w.to(working(dtype)), 3)
    b, p, q = ws.shape[0], ws.shape[2], ws.shape[3]
    xs = xs.reshape([b, shape[1], q, xs.shape[2]])
    y = torch.zeros([b, shape[0], p, xs.shape[3]], dtype=xs.dtype, device=xs.device)
    nnz = ws.shape[1]
    step = nnz
    if not (xs.is_cuda or torch.compiler.is_compiling()):  # each addition passes over y once
        step = max(1, max(1 << 19, y.numel()) // max(1, b * p * xs.shape[3]))
    for i in range(0, nnz, max(step, 1)):
        terms = ws[:, i : i + step] @ xs.index_select(1, indices[i : i + step])
        y = y.index_add(1, rows[i : i + step], terms)
    return restored(y.reshape([b, shape[0] * p, xs.shape[3]]), order, sizes).to(dtype)


def block_gradient(
    x: Tensor, g: Tensor, rows: Tensor, indices: Tensor, shape: Sequence[int], turned: bool
) -> Tensor:
    """The gradient of w, (b, nnz, p, q): x (b, s, n, t), g (b, s, m, t), summed over s and t."""
    if turned:
        return block_gradient(g.conj(), x.conj(), rows, indices, shape, False)
    dtype = torch.promote_types(x.dtype, g.dtype)
    xs, gs = (t.to(working(dtype)).transpose(1, 2).flatten(2) for t in (x.conj(), g))
    b, cols = xs.shape[0], xs.shape[2]
    p, q = g.shape[2] // max(shape[0], 1), x.shape[2] // max(shape[1], 1)
    left = gs.reshape([b, shape[0], p, cols]).index_select(1, rows)
    right = xs.reshape([b, shape[1], q, cols]).index_select(1, indices)
    return (left @ right.mT).to(dtype)
