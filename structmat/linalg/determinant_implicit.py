"""Determinants that torch cannot or should not look into, made differentiable by the inverse.

    d log det A = tr(A^-1 dA),    d log|det A| = Re, d sign = i sign Im of it

Whoever finds a determinant of a structure also knows, without an n x n matrix, what of A^-1 the
structure needs (generators, entries at the positions of a pattern), and the number tr(A^-1 B) for
another matrix B of the same structure, a linear function of B. Its gradient in the tensors of B,
at B = A, is that of the determinant. The recursion runs without a graph. A^-1 comes from linear
systems that are themselves differentiable (:mod:`structmat.linalg.implicit`), and so are gradients,
to any order. Source: Giles, Collected matrix derivative results (2008), section 2.2.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from structmat.linalg.implicit import pulled, pushed, with_leaves
from structmat.operator import LinearOperator

__all__ = ["Route", "determinant"]


@dataclass(frozen=True)
class Route:
    """How the determinant of one structure is found.

    Attributes:
        found: operator to (sign, log of the modulus), each of the batch; without a graph.
        inverse: operator to what of its inverse ``paired`` needs; differentiable.
        paired: (B, what of A^-1) to tr(A^-1 B), of the batch; differentiable in both.
    """

    found: Callable[[LinearOperator], tuple[Tensor, Tensor]]
    inverse: Callable[[LinearOperator], tuple[Tensor, ...]]
    paired: Callable[[LinearOperator, tuple[Tensor, ...]], Tensor]


def determinant(op: LinearOperator, route: Route) -> tuple[Tensor, Tensor]:
    """(sign, log of the modulus), differentiable in the tensors of ``op``.

    Args:
        op: its tensors have the dtype of the result.
        route: may raise where its numbers do not serve.
    """
    leaves, spec = pytree.tree_flatten(op)
    out: tuple[Tensor, Tensor] = _Determinant.apply(route, spec, *leaves)  # type: ignore[no-untyped-call]
    return out


class _Determinant(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(route: Route, spec: Any, *leaves: Tensor) -> tuple[Tensor, Tensor]:
        return route.found(pytree.tree_unflatten(leaves, spec))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.route, ctx.spec, *leaves = inputs
        ctx.save_for_backward(output[0], *leaves)
        ctx.save_for_forward(output[0], *leaves)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, Tensor]:
        sign, *leaves = ctx.saved_tensors
        changes = tangents[2:]
        some = [i for i, t in enumerate(changes) if t is not None]

        def rebuilt(*new: Tensor) -> LinearOperator:
            return with_leaves(ctx.spec, leaves, some, new)

        at = [leaves[i] for i in some]
        inverse = ctx.route.inverse(rebuilt(*at))
        moves = [changes[i] for i in some]
        rate = pushed(lambda a: ctx.route.paired(a, inverse), rebuilt, at, moves)
        if rate.is_complex():
            return 1j * sign * rate.imag, rate.real
        return torch.zeros_like(sign), rate

    @staticmethod
    def backward(ctx: Any, g_sign: Tensor, g_size: Tensor) -> tuple[Tensor | None, ...]:
        sign, *leaves = ctx.saved_tensors
        needed = [i for i, wanted in enumerate(ctx.needs_input_grad[2:]) if wanted]
        g = g_size
        if sign.is_complex():
            g = torch.complex(g_size, -(g_sign.conj() * sign).imag)

        def rebuilt(*new: Tensor) -> LinearOperator:
            return with_leaves(ctx.spec, leaves, needed, new)

        at = [leaves[i] for i in needed]
        inverse = ctx.route.inverse(rebuilt(*at))
        pull = pulled(lambda a: ctx.route.paired(a, inverse), rebuilt, at)
        found: list[Tensor | None] = [None] * len(leaves)
        for i, t in zip(needed, pull(g), strict=True):
            found[i] = t
        return (None, None, *found)
