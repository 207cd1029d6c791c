"""Template ``dot``: one contraction on tensor cores.

A program makes, for ``rows`` vectors, ``group`` parallel blocks that lie side by side in memory
and ``out`` outputs of each, as products [rows, reduced] @ [reduced, out] accumulated in float32.
Where a parallel digit is contiguous in memory (the left factor of a Monarch), tiles are
[group, rows, .] so that loads and stores stay wide; otherwise they are two-dimensional, which
becomes wgmma on Hopper. Values that fit one step are loaded once for ``LOOP`` tiles of rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["HOISTED", "STEPPED", "reference"]

HOISTED = '''
@triton.jit
def {name}({params}, T, LOOP: tl.constexpr):
    """{doc}"""
    pid = tl.program_id(0)
    block = pid % {blocks}
    first = pid // {blocks} * {rows} * LOOP
    t = tl.arange(0, {rows}){axis_t}
    r = tl.arange(0, {reduce})
    o = {start_o}tl.arange(0, {out})
{group}
    wt = {load_w}
    for step in range(LOOP):
        row0 = first + step * {rows}
        live = row0 + t < T
{bases}
        xt = {load_x}
        acc = tl.dot(xt, wt{precision})
        i = {index}
        ok = {mask}
{push}
        tl.store({out_ptr} + t * {m} + i, acc.to({element}), mask=ok)
'''
"""The whole reduction in one step: values stay in registers over the tiles of rows."""

STEPPED = '''
@triton.jit
def {name}({params}, T):
    """{doc}"""
    pid = tl.program_id(0)
    block = pid % {blocks}
    row0 = pid // {blocks} * {rows}
    t = tl.arange(0, {rows}){axis_t}
    o = {start_o}tl.arange(0, {out})
{group}
    live = row0 + t < T
{bases}
    acc = tl.zeros({acc_shape}, tl.float32)
    for start in range(0, {total_reduced}, {reduce}):
        r = start + tl.arange(0, {reduce})
        xt = {load_x}
        wt = {load_w}
        acc = {accumulate}
    i = {index}
    ok = {mask}
{push}
    tl.store({out_ptr} + t * {m} + i, acc.to({element}), mask=ok)
'''
"""A long reduction, a step at a time.

float32 runs on scalar units, which add a step's products one after another. Each step therefore
sums from zero and joins the total once: over n products in steps of b the rounding errors grow as
sqrt(b + n / b) instead of sqrt(n). ``fma(step, 1, total)`` is that sum, rounded once; written as
``total + step`` the compiler would fold it back into one running accumulator.
"""


def reference(x: Tensor, w: Tensor) -> Tensor:
    """What the kernel makes of the left factor of a Monarch, one block at a time.

    Args:
        x: (t, r, l).
        w: (l, s, r).

    Returns:
        (t, s, l): y[t, s, l] = sum_r w[l, s, r] x[t, r, l], accumulated in float32.
    """
    t, _, l = x.shape
    y = torch.empty(t, w.shape[1], l, dtype=x.dtype, device=x.device)
    for block in range(l):
        y[:, :, block] = (x[:, :, block].float() @ w[block].float().mT).to(x.dtype)
    return y
