"""Solvers that torch cannot or should not look into, made differentiable by the adjoint system.

For x = A^-1 b and a cotangent g of x, with the adjoint solution l = A^-H g,

    gradient in b: l          gradient in the tensors of A: that of A -> A x, at the cotangent -l

(Giles, Collected matrix derivative results, 2008). The solver runs without a graph, so memory does
not grow with its steps; the adjoint system goes through the same solver, and so do derivatives of
any order. For x = A^+ b, a least-squares or least-norm solution of full rank, with l = A^+H g,
r = b - A x, z = A^+H x (Golub and Pereyra, The differentiation of pseudo-inverses, 1973)

    gradient in b: l          in A: A -> A x at -l, A -> A^H r at A^+ l, A -> A^H z at g - A^H l
    forward, for changes A', b':    s + A^+ (b' - A' x + A^+H A'^H r - A s),    s = A'^H z
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from structmat.operator import LinearOperator
from structmat.tracing import blind

__all__ = ["adjoint", "implicitly", "need_finite", "plain", "pulled", "pushed", "with_leaves"]

Solver = Callable[[LinearOperator, Tensor], Tensor]
"""(A, columns b (..., m, k)) to x (..., n, k)."""


def plain(*values: Tensor | LinearOperator) -> bool:
    """Whether numbers may be looked at: not inside torch's transforms, nor while it traces."""
    if blind():
        return False
    tensors = [
        t for v in values for t in (v._all_tensors() if isinstance(v, LinearOperator) else [v])
    ]
    return not any(map(_hidden, tensors))


def _hidden(t: Tensor) -> bool:
    """Whether a tensor has no numbers to look at."""
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(t)
    return wrapped or t.is_meta or isinstance(t, FakeTensor)


def need_finite(function: str, op: LinearOperator) -> None:
    """Raise on NaN and infinity, on which LAPACK crashes, where numbers may be looked at."""
    if plain(op) and not all(bool(torch.isfinite(t).all()) for t in op._all_tensors()):
        raise ValueError(
            f"{function}: {op._label()} of shape {op.shape} holds NaN or infinity; torch.isfinite "
            "finds where, A.named_tensors() are its numbers"
        )


def adjoint(op: LinearOperator) -> LinearOperator:
    """A^H, with the transpose pushed into the leaf; what was declared of A stays known."""
    return op.conj()._turned()


def implicitly(op: LinearOperator, b: Tensor, solver: Solver, least: bool = False) -> Tensor:
    """What ``solver`` returns, differentiable in b and in the tensors of the operator.

    Args:
        op: A; its tensors have the dtype of b.
        b: columns (..., m, k).
        solver: may look at numbers and call other libraries, where :func:`plain` says so.
        least: whether it returns A^+ b instead of A^-1 b.
    """
    lead = torch.broadcast_shapes(op.batch_shape, b.shape[:-2])
    leaves, spec = pytree.tree_flatten(op)
    b = b.expand(*lead, *b.shape[-2:])
    out: Tensor = _Implicit.apply(solver, spec, least, b, *leaves)  # type: ignore[no-untyped-call]
    return out


class _Implicit(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(solver: Solver, spec: Any, least: bool, b: Tensor, *leaves: Tensor) -> Tensor:
        return solver(pytree.tree_unflatten(leaves, spec), b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.solver, ctx.spec, ctx.least, b, *leaves = inputs
        ctx.save_for_backward(output, b, *leaves)
        ctx.save_for_forward(output, b, *leaves)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        """Forward mode, for changes A', b'."""
        x, b, *leaves = ctx.saved_tensors
        moved, *changes = tangents[3:]
        right = torch.zeros_like(b) if moved is None else moved
        some = [i for i, t in enumerate(changes) if t is not None]

        def rebuilt(*new: Tensor) -> LinearOperator:
            return with_leaves(ctx.spec, leaves, some, new)

        op = rebuilt(*(leaves[i] for i in some))
        if not some:
            return implicitly(op, right, ctx.solver, ctx.least)

        def push(make: Callable[[LinearOperator], Tensor]) -> Tensor:
            return pushed(make, rebuilt, [leaves[i] for i in some], [changes[i] for i in some])

        right = right - push(lambda a: a @ x)
        if not ctx.least:
            return implicitly(op, right, ctx.solver)
        turned, r = adjoint(op), b - op @ x
        z = implicitly(turned, x, ctx.solver, True)
        s = push(lambda a: adjoint(a) @ z)
        q = implicitly(turned, push(lambda a: adjoint(a) @ r), ctx.solver, True)
        return s + implicitly(op, right + q - op @ s, ctx.solver, True)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, b, *leaves = ctx.saved_tensors
        needed = [i for i, wanted in enumerate(ctx.needs_input_grad[4:]) if wanted]

        def rebuilt(*new: Tensor) -> LinearOperator:
            return with_leaves(ctx.spec, leaves, needed, new)

        op = rebuilt(*(leaves[i] for i in needed))
        turned = adjoint(op)
        l = implicitly(turned, g, ctx.solver, ctx.least)
        terms = [(lambda a: a @ x, -l)]
        if ctx.least and needed:
            r = b - op @ x
            z = implicitly(turned, x, ctx.solver, True)
            terms.append((lambda a: adjoint(a) @ r, implicitly(op, l, ctx.solver, True)))
            terms.append((lambda a: adjoint(a) @ z, g - turned @ l))
        found: list[Tensor | None] = [None] * len(leaves)
        for make, at in terms if needed else []:
            pull = pulled(make, rebuilt, [leaves[i] for i in needed])
            for i, t in zip(needed, pull(at), strict=True):
                old = found[i]
                found[i] = t if old is None else old + t
        return (None, None, None, l, *found)


def with_leaves(
    spec: Any, leaves: list[Tensor], at: list[int], new: tuple[Tensor, ...]
) -> LinearOperator:
    """The operator with other tensors at these places."""
    whole = list(leaves)
    for i, t in zip(at, new, strict=True):
        whole[i] = t
    return pytree.tree_unflatten(whole, spec)  # type: ignore[no-any-return]


def pulled(
    make: Callable[[LinearOperator], Tensor],
    rebuilt: Callable[..., LinearOperator],
    leaves: list[Tensor],
) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Cotangents of ``make(A)`` to those of the tensors of A."""
    found: Any = torch.func.vjp(lambda *some: make(rebuilt(*some)), *leaves)
    return found[1]  # type: ignore[no-any-return]


def pushed(
    make: Callable[[LinearOperator], Tensor],
    rebuilt: Callable[..., LinearOperator],
    leaves: list[Tensor],
    changes: list[Tensor | None],
) -> Tensor:
    """Changes of the tensors of A to those of ``make(A)``."""
    pull = pulled(make, rebuilt, leaves)
    # v -> J v is the adjoint of u -> J^H u: forward mode does not nest, reverse mode does
    adjoint_of: Any = torch.func.vjp(pull, torch.zeros_like(make(rebuilt(*leaves))))
    out: Tensor = adjoint_of[1](tuple(changes))[0]
    return out
