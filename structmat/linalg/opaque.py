"""The action of an operator as one node of a trace.

What looks at numbers, or takes a step for each row, should not be looked into while torch traces:
Levinson's recursion of n steps would become n times its operations. ``structmat::act`` runs the
action as it is, on numbers, and is differentiated by the action's own derivatives, to any order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from structmat.dispatch import at_top_level
from structmat.operator import LinearOperator

__all__ = ["opaque"]

_LIB = torch.library.Library("structmat", "FRAGMENT")
_LIB.define("act(Tensor x, Tensor[] tensors, str key) -> Tensor")
_LIB.define("act_grads(Tensor x, Tensor g, Tensor[] tensors, str key) -> Tensor[]")

_TREES: dict[str, Any] = {}
"""How the tensors make an operator, by a digest of its structure."""


def opaque(op: LinearOperator, x: Tensor) -> Tensor:
    """A x for rows x (..., k, n), as one node where torch traces.

    Args:
        op: A; its structure is what the node is named after.
        x: rows, in a dtype at least as wide as that of A.
    """
    tensors, tree = pytree.tree_flatten(op)
    if any(torch._C._functorch.is_functorch_wrapped_tensor(t) for t in (x, *tensors)):
        return op._rows(x)  # mapped or differentiated as functions: the action has rules for that
    classes = [id(c) for c in _classes(op)]  # one defined again has the name of the first
    text = json.dumps([op.spec(), classes], separators=(",", ":"))
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    _TREES[key] = tree
    y: Tensor = torch.ops.structmat.act(x, tensors, key)
    return y


def _classes(op: LinearOperator) -> Iterator[type[LinearOperator]]:
    yield type(op)
    for c in op.children:
        yield from _classes(c)


def _rows(x: Tensor, tensors: Sequence[Tensor], key: str) -> Tensor:
    op: LinearOperator = pytree.tree_unflatten(list(tensors), _TREES[key])
    return op._rows(x)


@at_top_level
def _act(x: Tensor, tensors: Sequence[Tensor], key: str) -> Tensor:
    y = _rows(x, tensors, key)
    inputs = {t.untyped_storage().data_ptr() for t in (x, *tensors)}
    return y.clone() if y.untyped_storage().data_ptr() in inputs else y.contiguous()


_LIB.impl("act", _act, "CompositeExplicitAutograd")


@torch.library.register_fake("structmat::act", lib=_LIB)  # type: ignore[untyped-decorator]
def _act_fake(x: Tensor, tensors: Sequence[Tensor], key: str) -> Tensor:
    op: LinearOperator = pytree.tree_unflatten(list(tensors), _TREES[key])
    lead = torch.broadcast_shapes(op.batch_shape, x.shape[:-2])
    strong = op.strong_dtype
    dtype = x.dtype if strong is None else torch.promote_types(x.dtype, strong)
    return x.new_empty(*lead, x.shape[-2], op.shape[0], dtype=dtype)


def _act_setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, tensors, ctx.key = inputs
    ctx.save_for_backward(x, *tensors)


def _act_backward(ctx: Any, g: Tensor) -> Any:
    x, *tensors = ctx.saved_tensors
    gx, *gs = torch.ops.structmat.act_grads(x, g, tensors, ctx.key)
    return gx, gs, None


torch.library.register_autograd("structmat::act", _act_backward, setup_context=_act_setup, lib=_LIB)


def _pulled(x: Tensor, g: Tensor, tensors: Sequence[Tensor], key: str) -> list[Tensor]:
    """The gradients of x and the tensors where g comes back."""
    found: Any = torch.func.vjp(lambda x, *ts: _rows(x, ts, key), x, *tensors)
    return list(found[1](g))


@at_top_level
def _grads(x: Tensor, g: Tensor, tensors: Sequence[Tensor], key: str) -> list[Tensor]:
    return [t.clone(memory_format=torch.contiguous_format) for t in _pulled(x, g, tensors, key)]


_LIB.impl("act_grads", _grads, "CompositeExplicitAutograd")


@torch.library.register_fake("structmat::act_grads", lib=_LIB)  # type: ignore[untyped-decorator]
def _grads_fake(x: Tensor, g: Tensor, tensors: Sequence[Tensor], key: str) -> list[Tensor]:
    like = torch.contiguous_format
    return [torch.empty_like(t, memory_format=like) for t in (x, *tensors)]


def _grads_setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, g, tensors, ctx.key = inputs
    ctx.save_for_backward(x, g, *tensors)


def _grads_backward(ctx: Any, cotangents: Sequence[Tensor]) -> Any:
    x, g, *tensors = ctx.saved_tensors
    found: Any = torch.func.vjp(lambda x, g, *ts: _pulled(x, g, ts, ctx.key), x, g, *tensors)
    gx, gg, *gs = found[1](list(cotangents))
    return gx, gg, gs, None


torch.library.register_autograd(
    "structmat::act_grads", _grads_backward, setup_context=_grads_setup, lib=_LIB
)
