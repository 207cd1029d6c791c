"""torch.library registration: a compiled chain as an operator of PyTorch.

``structmat::apply(x, values, key) -> y`` runs the program ``key`` on rows or columns;
``structmat::grads`` runs its gradient, which is a program of the same pipeline. Both have fake
(meta) versions, so that ``torch.compile`` traces through them, and autograd: ``apply``
differentiates into ``grads``, ``grads`` into plain torch (second and higher orders).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from structmat.dispatch import at_top_level
from structmat.lowering.ir import interpret
from structmat.lowering.program import Program

__all__ = ["apply", "grads"]

_LIB = torch.library.Library("structmat", "DEF")
_LIB.define("apply(Tensor x, Tensor[] values, str key) -> Tensor")
_LIB.define("grads(Tensor x, Tensor g, Tensor[] values, str key, bool[] need) -> Tensor[]")


@at_top_level
def _apply(x: Tensor, values: Sequence[Tensor], key: str) -> Tensor:
    (y,) = Program.named(key).run([x], values)
    return y


@at_top_level
def _grads(
    x: Tensor, g: Tensor, values: Sequence[Tensor], key: str, need: Sequence[bool]
) -> list[Tensor]:
    """Gradients for x and each of the values, those that ``need`` asks for, in order."""
    return Program.named(key).gradients(x, g, values, tuple(need))


_LIB.impl("apply", _apply, "CompositeExplicitAutograd")
_LIB.impl("grads", _grads, "CompositeExplicitAutograd")


@torch.library.register_fake("structmat::apply", lib=_LIB)  # type: ignore[untyped-decorator]
def _apply_fake(x: Tensor, values: Sequence[Tensor], key: str) -> Tensor:
    program = Program.named(key)
    if program.columns:
        return x.new_empty(program.size, x.shape[1])
    return x.new_empty(x.shape[0], program.size)


@torch.library.register_fake("structmat::grads", lib=_LIB)  # type: ignore[untyped-decorator]
def _grads_fake(
    x: Tensor, g: Tensor, values: Sequence[Tensor], key: str, need: Sequence[bool]
) -> list[Tensor]:
    wanted = [t for t, n in zip((x, *values), need, strict=True) if n]
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in wanted]


def _apply_setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, values, key = inputs
    ctx.save_for_backward(x, *values)
    ctx.key = key


def _apply_backward(ctx: Any, g: Tensor) -> Any:
    x, *values = ctx.saved_tensors
    need_x, need_values = ctx.needs_input_grad[:2]
    per_value = (
        list(need_values)
        if isinstance(need_values, list | tuple)
        else [bool(need_values)] * len(values)
    )
    need = [bool(need_x), *map(bool, per_value)]
    made = iter(torch.ops.structmat.grads(x, g.contiguous(), values, ctx.key, need))
    found = [next(made) if n else None for n in need]
    return found[0], found[1:], None


torch.library.register_autograd(
    "structmat::apply", _apply_backward, setup_context=_apply_setup, lib=_LIB
)


def _grads_setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, g, values, key, need = inputs
    ctx.save_for_backward(x, g, *values)
    ctx.key, ctx.need = key, list(need)


def _grads_backward(ctx: Any, cotangents: Sequence[Tensor]) -> Any:
    x, g, *values = ctx.saved_tensors
    again = torch.is_grad_enabled()
    program = Program.named(ctx.key)
    with torch.enable_grad():
        # Aliases cut the graph: g may depend on x, and that path is not ours to follow.
        leaves = [
            t.view_as(t) if t.requires_grad else t.detach().requires_grad_()
            for t in (x, g, *values)
        ]
        graph, shapes = program.gradient_graph(tuple(ctx.need))
        turn = torch.Tensor.t if program.columns else torch.Tensor.contiguous
        outs = interpret(graph, [turn(v) for v in leaves[:2]], leaves[2:])
        outs = [turn(o) if s is None else o.reshape(s) for o, s in zip(outs, shapes, strict=True)]
        pairs = [(o, c) for o, c in zip(outs, cotangents, strict=True) if o.requires_grad]
        made = torch.autograd.grad(
            [o for o, _ in pairs],
            leaves,
            [c for _, c in pairs],
            allow_unused=True,
            create_graph=again,
        )
    return made[0], made[1], list(made[2:]), None, None


torch.library.register_autograd(
    "structmat::grads", _grads_backward, setup_context=_grads_setup, lib=_LIB
)


@torch.library.register_vmap("structmat::apply", lib=_LIB)  # type: ignore[untyped-decorator]
def _apply_vmap(info: Any, in_dims: Any, x: Tensor, values: Sequence[Tensor], key: str) -> Any:
    """A batch of x is more vectors; a batch of values is run one member at a time."""
    dx, dvalues, _ = in_dims
    dvalues = dvalues if isinstance(dvalues, list | tuple) else [dvalues] * len(values)
    size = info.batch_size
    if all(d is None for d in dvalues):
        if Program.named(key).columns:
            stacked = x.movedim(dx, 1)
            y = torch.ops.structmat.apply(stacked.flatten(1), values, key)
            return y.reshape(-1, *stacked.shape[1:]), 1
        stacked = x.movedim(dx, 0)
        y = torch.ops.structmat.apply(stacked.flatten(0, 1), values, key)
        return y.reshape(*stacked.shape[:2], -1), 0
    out = []
    for i in range(size):
        xi = x if dx is None else x.select(dx, i)
        vi = [v if d is None else v.select(d, i) for v, d in zip(values, dvalues, strict=True)]
        out.append(torch.ops.structmat.apply(xi, vi, key))
    return torch.stack(out), 0


@torch.library.register_vmap("structmat::grads", lib=_LIB)  # type: ignore[untyped-decorator]
def _grads_vmap(
    info: Any,
    in_dims: Any,
    x: Tensor,
    g: Tensor,
    values: Sequence[Tensor],
    key: str,
    need: Sequence[bool],
) -> Any:
    """Gradients one member at a time: each has its own sum over rows."""
    dx, dg, dvalues, *_ = in_dims
    dvalues = dvalues if isinstance(dvalues, list | tuple) else [dvalues] * len(values)
    made = []
    for i in range(info.batch_size):
        made.append(
            torch.ops.structmat.grads(
                x if dx is None else x.select(dx, i),
                g if dg is None else g.select(dg, i),
                [v if d is None else v.select(d, i) for v, d in zip(values, dvalues, strict=True)],
                key,
                need,
            )
        )
    stacked = [torch.stack(ts) for ts in zip(*made, strict=True)]
    return stacked, [0] * len(stacked)


apply = torch.ops.structmat.apply
grads = torch.ops.structmat.grads
