"""Template ``chip``: a run of contractions whose intermediates never leave the chip.

A program holds whole vectors of ``rows`` rows. Each contraction is a batched product
[parallel, rows, reduced] @ [parallel, reduced, out]; between two of them the digits of the result
are re-spelled as the digits the next one reads, ``reshape -> permute -> reshape`` on registers:
the permutation of a Monarch costs an exchange through shared memory instead of a round trip.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["CHIP", "EXCHANGE", "PRODUCT", "reference"]

CHIP = '''
@triton.jit
def {name}({params}, T, LOOP: tl.constexpr):
    """{doc}"""
    pid = tl.program_id(0)
    t = tl.arange(0, {rows})[None, :, None]
{setup}
    for step in range(LOOP):
        row0 = (pid * LOOP + step) * {rows}
        live = row0 + t < T
{bases}
{body}
        i = {index}
        ok = live
{push}
        tl.store({out_ptr} + t * {m} + i, acc.to({element}), mask=ok)
'''

PRODUCT = """        acc = tl.dot(h, w{number}t)"""

EXCHANGE = """        h = tl.reshape(acc.to({element}), {fine})
        h = tl.reshape(tl.permute(h, {order}), {shape})"""


def reference(x: Tensor, right: Tensor, left: Tensor) -> Tensor:
    """What the kernel makes of a Monarch, with the intermediate rounded as it is on chip.

    Args:
        x: (t, k, p).
        right: (k, q, p).
        left: (l, s, r), k q = l r.

    Returns:
        (t, s, l).
    """
    l, _, r = left.shape
    h = torch.einsum("kqp,tkp->tkq", right.float(), x.float()).to(x.dtype)
    h = h.reshape(x.shape[0], r, l)
    return torch.einsum("lsr,trl->tsl", left.float(), h.float()).to(x.dtype)
