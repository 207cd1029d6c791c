"""How a primitive that multiplies by matrix products sees its operands: all columns side by side.

A primitive is called with x (..., ins, cols) and w (..., k). Where w varies along the first of the
leading dimensions, b members in all, and is shared along the others, p in all, the product is one
of b matrices with p cols columns: one large matrix product instead of many small ones. Complex
columns of a real matrix are two real columns each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["columns_of", "from_columns", "no_columns"]


def columns_of(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, list[int], int]:
    """x (..., ins, cols) as (b, ins, p cols), w (..., k) as (b, k); the leading dimensions; p.

    Both come in one dtype, of single precision at least; complex x as pairs of real columns where
    w is real.
    """
    dtype = torch.promote_types(x.dtype, w.dtype)
    work = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    lead = list(torch.broadcast_shapes(x.shape[:-2], w.shape[:-1]))
    own = [1] * (len(lead) + 1 - w.ndim) + list(w.shape[:-1])
    cut = max([i + 1 for i, size in enumerate(own) if size != 1], default=0)
    b, p = math.prod(lead[:cut]), math.prod(lead[cut:])
    ins, cols = x.shape[-2:]
    x = x.to(work).expand([*lead, ins, cols]).reshape([b, p, ins, cols])
    if work.is_complex and not w.is_complex():
        x, cols, work = torch.view_as_real(x.resolve_conj()).flatten(-2), 2 * cols, work.to_real()
    x = x.transpose(1, 2).reshape([b, ins, p * cols])
    w = w.to(work).reshape([*own, w.shape[-1]]).expand([*lead[:cut], *own[cut:], w.shape[-1]])
    return x, w.reshape([b, w.shape[-1]]), lead, p


def from_columns(y: Tensor, lead: list[int], p: int, dtype: torch.dtype) -> Tensor:
    """(b, outs, p cols) as (..., outs, cols)."""
    b, outs, wide = y.shape
    y = y.reshape([b, outs, p, wide // p]).transpose(1, 2)
    y = y.reshape([*lead, outs, wide // p])
    if dtype.is_complex and not y.is_complex():
        y = torch.view_as_complex(y.unflatten(-1, (-1, 2)))
    return y.to(dtype)


def no_columns(x: Tensor, w: Tensor, outs: int) -> Tensor:
    """The result where x or w is empty."""
    lead = list(torch.broadcast_shapes(x.shape[:-2], w.shape[:-1]))
    dtype = torch.promote_types(x.dtype, w.dtype)
    return torch.zeros([*lead, outs, x.shape[-1]], dtype=dtype, device=x.device)
