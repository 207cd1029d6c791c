"""Numbers that a library outside torch finds in an operator, with their exact first derivative.

An iteration looks at numbers and leaves no graph. What it finds are vectors, and at fixed vectors
the value is a form in A whose derivative is that of the value:

    d lambda = u^T dA v / (u^T v)       v, u right and left vectors of a simple eigenvalue
    d sigma = Re(u^H dA v)              u, v of unit length, of a simple singular value

(Magnus, On differentiating eigenvalues and eigenvectors, 1985; Stewart and Sun, Matrix perturbation
theory, 1990, IV.2). So the form goes through A's own action, which is differentiable in both modes.
The second derivative would be that of the vectors too: :func:`once` makes it raise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad

from structmat.operator import LinearOperator
from structmat.tracing import blind

__all__ = ["differentiated", "followed", "members", "once", "searched"]

Found = tuple[Tensor, ...]


def members(op: LinearOperator) -> Iterator[LinearOperator]:
    """The operators of a batch, the last batch dimension fastest; what they share stays shared."""
    shape = op.batch_shape
    for at in itertools.product(*map(range, shape)):
        yield _member(op, shape, at, {})


def _member(
    op: LinearOperator, shape: tuple[int, ...], at: tuple[int, ...], memo: dict[Any, Tensor]
) -> LinearOperator:
    tensors = {}
    for name, t in op.tensors.items():
        events = op.event_dims[name]
        key = id(t), events
        if key not in memo:
            memo[key] = t.expand(*shape, *t.shape[t.ndim - events :])[at]
        tensors[name] = memo[key]
    children = [_member(c, shape, at, memo) for c in op.children]
    return op._replace(tensors, children, op.static)._assuming(op.assumed)


def _with(op: LinearOperator, new: tuple[Tensor, ...]) -> LinearOperator:
    """The operator with other tensors in the order of ``parameters()``; sharing is kept."""
    memo = {id(old): t for old, t in zip(op.parameters(), new, strict=True)}
    return op._map(lambda t: memo[id(t)], None)


def differentiated(op: LinearOperator) -> bool:
    """Whether a derivative of what is found in the operator may be asked for."""
    return any(
        (t.requires_grad and torch.is_grad_enabled())
        or torch._C._functorch.is_functorch_wrapped_tensor(t)
        or forward_ad.unpack_dual(t).tangent is not None
        for t in op.parameters()
    )


def searched(
    function: str,
    op: LinearOperator,
    find: Callable[[LinearOperator], Found],
    *,
    together: bool = False,
) -> Found:
    """``find(op)`` on plain numbers, also inside torch's transforms; constant for derivatives.

    Args:
        function: what the user called, for the error.
        op: one operator.
        find: may look at numbers and call other libraries.
        together: inside ``torch.vmap`` give one result, the largest of all.

    Raises:
        RuntimeError: while torch traces, when there are no numbers.
    """
    if blind():
        raise RuntimeError(
            f"{function}: an iteration looks at the numbers of {op._label()}, which tracing hides; "
            f"call it outside, or take torch.linalg of A.to_dense()"
        )
    out: Found = _Searched.apply(  # type: ignore[no-untyped-call]
        lambda *t: find(_with(op, t)), together, *op.parameters()
    )
    return out


class _Searched(torch.autograd.Function):
    @staticmethod
    def forward(find: Callable[..., Found], together: bool, *tensors: Tensor) -> Found:
        return find(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Found) -> None:
        ctx.mark_non_differentiable(*output)
        ctx.counts = len(inputs), len(output)

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple[None, ...]:
        return (None,) * int(ctx.counts[0])

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[None, ...]:
        return (None,) * int(ctx.counts[1])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Found, Any]:
        """One after the other: every operator takes its own number of steps."""
        find, together, *tensors = inputs
        each = [
            _Searched.apply(  # type: ignore[no-untyped-call]
                find,
                together,
                *(
                    t if d is None else t.select(d, i)
                    for t, d in zip(tensors, in_dims[2:], strict=True)
                ),
            )
            for i in range(info.batch_size)
        ]
        found = tuple(torch.stack(part) for part in zip(*each, strict=True))
        if together:
            return tuple(part.amax(0) for part in found), (None,) * len(found)
        return found, (0,) * len(found)


def followed(
    function: str, op: LinearOperator, values: Tensor, left: Tensor, right: Tensor
) -> Tensor:
    """``values`` (k,) with the first derivatives of left_i A right_i, given the vectors as rows."""
    form = (left * once(function, op)._rows(right)).sum(-1)
    form = form if values.is_complex() or not form.is_complex() else form.real
    return values + (form - form.detach())


# one derivative ---------------------------------------------------------------------------------


def once(function: str, op: LinearOperator) -> LinearOperator:
    """The same operator on tensors that have first derivatives only: the second one raises."""
    tensors = list(op.parameters())
    if not tensors:
        return op
    return _with(op, _Once.apply(function, *tensors))  # type: ignore[no-untyped-call]


def _copies(tensors: tuple[Tensor, ...]) -> Found:
    return tuple(t.view_as(t) for t in tensors)


class _Once(torch.autograd.Function):
    """The identity, whose derivatives have none."""

    generate_vmap_rule = True

    @staticmethod
    def forward(function: str, *tensors: Tensor) -> Found:
        return _copies(tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Found) -> None:
        ctx.function, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor | None, ...]:
        last: Found = _Last.apply(ctx.function, len(g), *g, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return None, *last

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Found:
        at = ctx.saved_tensors
        given = [torch.zeros_like(t) if d is None else d for t, d in zip(at, tangents, strict=True)]
        out: Found = _Last.apply(ctx.function, len(given), *given, *at)  # type: ignore[no-untyped-call]
        return out


class _Last(torch.autograd.Function):
    """A derivative and the point that it was taken at, on which it depends in unknown ways."""

    generate_vmap_rule = True

    @staticmethod
    def forward(function: str, count: int, *tensors: Tensor) -> Found:
        return _copies(tensors[:count])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Found) -> None:
        ctx.function = inputs[0]

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple[None, ...]:
        _refuse(ctx.function)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Found:
        _refuse(ctx.function)


def _refuse(function: str) -> NoReturn:
    raise NotImplementedError(
        f"{function}: what an iteration finds has first derivatives only, its vectors are held "
        "fixed; torch.linalg of A.to_dense() has derivatives of every order"
    )
