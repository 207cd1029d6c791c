"""Arithmetic that rules share: promotion, and folding scalars and diagonals into numbers.

``times_scalar(alpha, A)``, ``scale_rows(d, A)`` and ``scale_columns(A, d)`` return alpha A,
diag(d) A and A diag(d) as an operator of the class of A, or None where A has no numbers to take
the factor. They touch the smallest tensor that can take it. None of them broadcasts an operator
over a batch it did not have: that would multiply its storage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from structmat.compose import Block, DirectSum, Kronecker, KroneckerSum, Product, Sum
from structmat.compose.blocks import acts
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal
from structmat.leaves.displacement import LowDisplacementRank
from structmat.leaves.monarch import Monarch
from structmat.leaves.sparse import BlockSparse, Sparse, gathered
from structmat.leaves.statespace import StateSpace
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz
from structmat.operator import LinearOperator

__all__ = [
    "add", "cat", "matmul", "mul", "promoted", "same", "scale_columns", "scale_rows", "strong",
    "times_scalar",
]  # fmt: skip


def promoted(*tensors: Tensor) -> list[Tensor]:
    """The tensors in their common dtype."""
    dtype = reduce(torch.promote_types, (t.dtype for t in tensors))
    return [t.to(dtype) for t in tensors]


def mul(a: Tensor, b: Tensor) -> Tensor:
    """Entrywise product after promotion."""
    a, b = promoted(a, b)
    return a * b


def add(a: Tensor, b: Tensor) -> Tensor:
    """Sum after promotion."""
    a, b = promoted(a, b)
    return a + b


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product after promotion."""
    a, b = promoted(a, b)
    return a @ b


def cat(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenation after promotion."""
    return torch.cat(promoted(*tensors), dim)


def strong(*ops: LinearOperator) -> torch.dtype | None:
    """The dtype with which these operators together take part in promotion."""
    found = [d for d in (op.strong_dtype for op in ops) if d is not None]
    return reduce(torch.promote_types, found) if found else None


def same(a: LinearOperator, b: LinearOperator) -> bool:
    """Whether two expressions are equal because they are made of the very same tensors."""
    if a is b:
        return True
    return (
        type(a) is type(b)
        and a.static == b.static
        and a.tensors.keys() == b.tensors.keys()
        and all(t is b.tensors[k] for k, t in a.tensors.items())
        and len(a.children) == len(b.children)
        and all(same(x, y) for x, y in zip(a.children, b.children, strict=True))
    )


def _grows(batch: Sequence[int], other: Sequence[int]) -> bool:
    return tuple(torch.broadcast_shapes(tuple(batch), tuple(other))) != tuple(batch)


def _scaled(alpha: Any, t: Tensor, event: int) -> Tensor | None:
    if not isinstance(alpha, Tensor):
        out: Tensor = t * alpha
        return out
    if _grows(t.shape[: t.ndim - event], alpha.shape):
        return None
    return mul(t, alpha[(..., *(None,) * event)])


def times_scalar(
    alpha: Any, op: LinearOperator, taken: Callable[[Tensor], bool] | None = None
) -> LinearOperator | None:
    """``alpha op`` as an operator of the same class, or None; ``taken`` tensors are let alone."""
    if taken is not None and any(map(taken, op.tensors.values())):
        return None
    match op:
        case Diagonal() | Dense() | BlockDiagonal() | KroneckerSparse() | LowRank() | Monarch():
            name = min(op.tensors, key=lambda k: op.tensors[k].numel())
            new = _scaled(alpha, op.tensors[name], op.event_dims[name])
            return None if new is None else op._replace({**op.tensors, name: new}, (), op.static)
        case Circulant() | Convolution() | LowDisplacementRank() | Sparse() | BlockSparse():
            name = next(iter(op.tensors))
            new = _scaled(alpha, op.tensors[name], op.event_dims[name])
            return None if new is None else op._replace({**op.tensors, name: new}, (), op.static)
        case StateSpace():
            ends = {
                k: _scaled(alpha, op.tensors[k], op.event_dims[k]) for k in "CD" if k in op.tensors
            }
            given = {k: t for k, t in ends.items() if t is not None}
            if len(given) < len(ends):
                return None
            return op._replace({**op.tensors, **given}, (), op.static)
        case Toeplitz() | Hankel():
            parts = {k: _scaled(alpha, t, 1) for k, t in op.tensors.items()}
            made_of = {k: t for k, t in parts.items() if t is not None}
            turns = alpha.is_complex() if isinstance(alpha, Tensor) else isinstance(alpha, complex)
            hermitian = isinstance(op, Toeplitz) and "r" not in op.tensors
            if len(made_of) < len(parts) or (turns and hermitian):
                return None
            return op._replace(made_of, (), {})
        case Butterfly():
            stage = _scaled(alpha, op.twiddle[..., :1, :, :, :], 4)
            if stage is None:
                return None
            twiddle = cat([stage, op.twiddle[..., 1:, :, :, :]], -4)
            return op._replace({"twiddle": twiddle}, (), op.static)
        case Product() | Kronecker() | MonarchChain():
            for i in sorted(range(len(op.children)), key=lambda i: _numel(op.children[i])):
                child = times_scalar(alpha, op.children[i], taken)
                if child is not None:
                    return _with_child(op, i, child)
            return None
        case Sum() | DirectSum() | Block() | KroneckerSum():
            return _all(op, [times_scalar(alpha, c, taken) if acts(c) else c for c in op.children])
    return None


def scale_rows(d: Tensor, op: LinearOperator) -> LinearOperator | None:
    """``diag(d) op`` as an operator of the same class, or None; d of shape (..., m)."""
    match op:
        case Product() | MonarchChain():
            first = scale_rows(d, op.children[0])
            return None if first is None else _with_child(op, 0, first)
        case Sum():
            return _all(op, [scale_rows(d, c) for c in op.children])
        case DirectSum():
            parts = d.split([c.shape[0] for c in op.children], -1)
            scaled = [scale_rows(p, c) for p, c in zip(parts, op.children, strict=True)]
            return _all(op, scaled)
        case Block():
            parts = d.split(list(op.heights), -1)
            rows = zip(parts, op.rows(), strict=True)
            return _all(op, [scale_rows(p, c) if acts(c) else c for p, row in rows for c in row])
    if not op.tensors or _grows(op.batch_shape, d.shape[:-1]):
        return None
    match op:
        case Diagonal():
            return Diagonal(mul(d, op.d))
        case Dense():
            return Dense(mul(d[..., None], op.weight))
        case BlockDiagonal():
            k, q, _ = op.blocks.shape[-3:]
            return op._replace({"blocks": mul(_view(d, k, q, 1), op.blocks)}, (), {})
        case KroneckerSparse():
            a, b, _, r = op.pattern
            return KroneckerSparse(mul(_view(d, a, b, 1, r), op.values))
        case LowRank():
            return (
                None
                if _grows(op.left.shape[:-2], d.shape[:-1])
                else LowRank(mul(d[..., None], op.left), op.right)
            )
        case Monarch():
            l, s, _ = op.left.shape[-3:]
            if _grows(op.left.shape[:-3], d.shape[:-1]):
                return None
            return Monarch(mul(_view(d, s, l).mT[..., None], op.left), op.right)
        case Butterfly():
            return _scale_stage(d, op)
        case Sparse():
            values = mul(gathered(d, op.pattern.rows), op.values)
            return op._replace({"values": values}, (), op.static)
        case BlockSparse():
            factor = gathered(_view(d, op.pattern.shape[0], op.block[0]), op.pattern.rows, -2)
            return op._replace({"blocks": mul(factor[..., None], op.blocks)}, (), op.static)
    return None


def scale_columns(op: LinearOperator, d: Tensor) -> LinearOperator | None:
    """``op diag(d)`` as an operator of the same class, or None; d of shape (..., n)."""
    match op:
        case Product() | MonarchChain():
            last = scale_columns(op.children[-1], d)
            return None if last is None else _with_child(op, len(op.children) - 1, last)
        case Sum():
            return _all(op, [scale_columns(c, d) for c in op.children])
        case DirectSum():
            parts = d.split([c.shape[1] for c in op.children], -1)
            scaled = [scale_columns(c, p) for c, p in zip(op.children, parts, strict=True)]
            return _all(op, scaled)
        case Block():
            parts = d.split(list(op.widths), -1)
            return _all(
                op,
                [
                    scale_columns(c, p) if acts(c) else c
                    for row in op.rows()
                    for c, p in zip(row, parts, strict=True)
                ],
            )
        case Monarch():
            k, _, p = op.right.shape[-3:]
            if _grows(op.right.shape[:-3], d.shape[:-1]):
                return None
            return Monarch(op.left, mul(op.right, _view(d, k, 1, p)))
        case Sparse():
            if _grows(op.batch_shape, d.shape[:-1]):
                return None
            values = mul(op.values, gathered(d, op.pattern.indices))
            return op._replace({"values": values}, (), op.static)
        case BlockSparse():
            if _grows(op.batch_shape, d.shape[:-1]):
                return None
            factor = gathered(_view(d, op.pattern.shape[1], op.block[1]), op.pattern.indices, -2)
            return op._replace({"blocks": mul(op.blocks, factor[..., None, :])}, (), op.static)
        case Diagonal() | Dense() | BlockDiagonal() | KroneckerSparse() | LowRank() | Butterfly():
            turned = scale_rows(d, op._transpose())
            return None if turned is None else turned._transpose()
    return None


def _scale_stage(d: Tensor, op: Butterfly) -> LinearOperator:
    """The factor applied last has outputs (block, side, offset): scale its 2x2 rows."""
    stages, half = op.twiddle.shape[-4:-2]
    last = stages - 1 if op.increasing_stride else 0
    stride = 1 << last
    rows = _view(d, half // stride, 2, stride).transpose(-1, -2).reshape(*d.shape[:-1], half, 2, 1)
    scaled = mul(rows, op.twiddle[..., last, :, :, :]).unsqueeze(-4)
    kept = op.twiddle[..., :-1, :, :, :] if last else op.twiddle[..., 1:, :, :, :]
    twiddle = cat([kept, scaled] if last else [scaled, kept], -4)
    return op._replace({"twiddle": twiddle}, (), op.static)


def _view(d: Tensor, *shape: int) -> Tensor:
    return d.reshape(*d.shape[:-1], *shape)


def _numel(op: LinearOperator) -> int:
    return sum(t.numel() for t in op.tensors.values()) + sum(map(_numel, op.children))


def _with_child(op: LinearOperator, i: int, child: LinearOperator) -> LinearOperator:
    return op._replace(op.tensors, [*op.children[:i], child, *op.children[i + 1 :]], op.static)


def _all(op: LinearOperator, children: list[LinearOperator | None]) -> LinearOperator | None:
    made = [c for c in children if c is not None]
    return op._replace({}, made, op.static) if len(made) == len(children) else None
