"""Evaluation, level by level, and its derivatives.

With W the weights as a matrix from nodes to nodes, the values of all nodes are (I - W)^-1 v for the
vector v that holds the inputs and zeros. A sweep from the inputs up solves that system; a sweep
from the outputs down solves the transposed one, which is what the derivative of the first needs.
Both are one function here, so derivatives of every order are sweeps again: this is why the gradient
of a circuit costs what the circuit costs.
Source: Baur and Strassen, The complexity of partial derivatives (1983).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from structmat.circuit.core import Circuit

__all__ = ["swept"]


def swept(c: Circuit, x: Tensor, w: Tensor) -> Tensor:
    """All values, (..., nodes, t), for columns x (..., n, t) and weights (..., wires)."""
    lead = torch.broadcast_shapes(x.shape[:-2], w.shape[:-1])
    x = x.expand(*lead, *x.shape[-2:])
    start = torch.cat([x, x.new_zeros(*lead, c.size, x.shape[-1])], -2)
    return start if c.wires == 0 else _sweep(start, w, c, down=False)


def _sweep(v: Tensor, w: Tensor, c: Circuit, *, down: bool) -> Tensor:
    y: Tensor = Sweep.apply(v, w, c, down)  # type: ignore[no-untyped-call]
    return y


def _ends(c: Circuit, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(c.heads).to(device), torch.from_numpy(c.tails).to(device)


def _summed(v: Tensor, shape: torch.Size) -> Tensor:
    """v summed over the leading dimensions that a tensor of ``shape`` does not have."""
    return v.sum_to_size(shape) if v.shape != shape else v


class Sweep(torch.autograd.Function):
    """(I - W)^-1 v, or (I - W)^-T v where ``down``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(v: Tensor, w: Tensor, c: Circuit, down: bool) -> Tensor:
        heads, tails = _ends(c, v.device)
        source, target = (heads, tails) if down else (tails, heads)
        y = v.clone()
        bounds = c.starts[c.levels[1:] - c.n]
        steps = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
        for i, j in reversed(steps) if down else steps:
            part = y.index_select(-2, source[i:j]) * w[..., i:j, None]
            y.index_add_(-2, target[i:j], part)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, w, ctx.c, ctx.down = inputs
        ctx.save_for_backward(w, output)
        ctx.save_for_forward(w, output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        w, y = ctx.saved_tensors
        back = _sweep(g, w.conj(), ctx.c, down=not ctx.down)
        gw = None
        if ctx.needs_input_grad[1]:
            heads, tails = _ends(ctx.c, y.device)
            source, target = (heads, tails) if ctx.down else (tails, heads)
            each = back.index_select(-2, target) * y.index_select(-2, source).conj()
            gw = _summed(each.sum(-1), w.shape)
        return back, gw, None, None

    @staticmethod
    def jvp(ctx: Any, dv: Any, dw: Any, _: Any, __: Any) -> Tensor:
        w, y = ctx.saved_tensors
        start = torch.zeros_like(y) if dv is None else dv
        if dw is not None:
            heads, tails = _ends(ctx.c, y.device)
            source, target = (heads, tails) if ctx.down else (tails, heads)
            start = start.index_add(-2, target, y.index_select(-2, source) * dw[..., None])
        return _sweep(start, w, ctx.c, down=ctx.down)
