"""Templates ``fma`` and ``pointwise``: any sizes, any real dtype, no tensor cores.

``fma`` makes a tile of ``rows`` vectors by ``out`` neighbouring positions of y. Each position
decodes its digits, walks the reduced positions, and accumulates products (float32, or float64
for float64). ``pointwise`` does the same for results that reduce nothing: diagonals, index maps,
slices, joins and sums in one pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["FMA", "POINTWISE", "reference"]

FMA = '''
@triton.jit
def {name}({params}, T):
    """{doc}"""
    pid = tl.program_id(0)
    row0 = pid // {blocks} * {rows}
    t = tl.arange(0, {rows})[:, None]
    y = pid % {blocks} * {out} + tl.arange(0, {out})[None, :]
    live = (row0 + t < T) & (y < {m_root})
{bases}
    bx = {base_x}
    bw = {base_w}
    acc = tl.zeros(({rows}, {out}), {accumulate})
    for r in range({total_reduced}):
        xt = {load_x}
        wt = {load_w}
        acc += xt * wt
    i = y
    ok = live
{push}
    tl.store({out_ptr} + t * {m} + i, acc.to({element}), mask=ok)
'''

POINTWISE = '''
@triton.jit
def {name}({params}, T):
    """{doc}"""
    pid = tl.program_id(0)
    row0 = pid // {blocks} * {rows}
    t = tl.arange(0, {rows})[:, None]
    i = pid % {blocks} * {out} + tl.arange(0, {out})[None, :]
    ok = (row0 + t < T) & (i < {m})
{bases}
    acc = {pulled}
    tl.store({out_ptr} + t * {m} + i, acc.to({element}), mask=ok)
'''


def reference(x: Tensor, w: Tensor) -> Tensor:
    """What ``fma`` makes of a Kronecker-sparse factor, one position at a time.

    Args:
        x: (t, a, c, d).
        w: (a, b, c, d).

    Returns:
        (t, a, b, d): y[t, i, j, l] = sum_k w[i, j, k, l] x[t, i, k, l].
    """
    a, b, c, d = w.shape
    y = torch.zeros(x.shape[0], a, b, d, dtype=x.dtype, device=x.device)
    for j in range(b):
        for k in range(c):
            y[:, :, j] += w[:, j, k] * x[:, :, k]
    return y
