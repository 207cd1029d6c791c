"""Template ``grad``: the gradient of the values of a contraction with parallel digits in a row.

    g[l, o, r] = sum over t of  y[t, l, o] x[t, l, r]

A program takes ``group`` neighbouring l and ``out`` outputs, walks its share of the batch, and
accumulates [group, out, rows] @ [group, rows, reduced] in float32. The shares are summed
afterwards, in a fixed order, so that gradients are reproducible. Library products would copy both
operands to make l a batch dimension that is not contiguous.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["GRAD", "reference"]

GRAD = '''
@triton.jit
def {name}({params}, part, T, STEPS):
    """{doc}"""
    pid = tl.program_id(0)
    block = pid % {blocks}
    share = pid // {blocks}
    t = tl.arange(0, {rows})[None, :, None]
    r = tl.arange(0, {reduce})[None, None, :]
    o = {start_o}tl.arange(0, {out})[None, None, :]
{group}
    acc = tl.zeros(({width}, {out}, {reduce}), tl.float32)
    for step in range(STEPS):
        row0 = (share * STEPS + step) * {rows}
        live = row0 + t < T
{bases}
        xt = tl.load({load_x})
        gt = tl.load({load_g})
        acc = tl.dot(tl.permute(gt, (0, 2, 1)), xt, acc{precision})
    place = part + share * {numel}
    oc = tl.permute(o, (0, 2, 1))
    tl.store(place + {index}, acc, mask={mask})
'''


def reference(x: Tensor, y: Tensor) -> Tensor:
    """What the kernel computes, one block at a time.

    Args:
        x: (t, l, r).
        y: (t, l, o), the gradient of the contraction's result.

    Returns:
        (l, o, r) in float32.
    """
    out = torch.empty(x.shape[1], y.shape[2], x.shape[2], dtype=torch.float32, device=x.device)
    for l in range(x.shape[1]):
        out[l] = y[:, l].float().mT @ x[:, l].float()
    return out
