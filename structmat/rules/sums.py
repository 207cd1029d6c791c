"""Sums: equal terms collect, leaves of one pattern add, common factors move out.

A term counts as alpha A with a scalar alpha, so A - A = 0 and V - W of two dense matrices are
covered. Common factors are recognised by identity: the same operator, or the same tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, direct_sum, kron
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity
from structmat.leaves.displacement import LowDisplacementRank
from structmat.leaves.monarch import Monarch
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import add, mul, same, times_scalar
from structmat.rules.scalars import product_of
from structmat.rules.table import candidates, rule


def split_scalar(op: LinearOperator) -> tuple[Any, LinearOperator]:
    """(alpha, A) with op = alpha A, and A not scaled."""
    alpha: Any = 1
    while isinstance(op, Scaled):
        alpha, op = product_of(alpha, op.alpha), op.children[0]
    return alpha, op


def _twice(op: LinearOperator) -> LinearOperator:
    return op + 2 * op


@rule(
    LinearOperator,
    LinearOperator,
    inside=Sum,
    early=True,
    key=lambda op: split_scalar(op)[1],
    example=lambda g: _twice(ex.butterfly(g, 2)),
)
def equal_terms(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """alpha A + beta A = (alpha + beta) A."""
    (alpha, core), (beta, other) = split_scalar(a), split_scalar(b)
    if not same(core, other):
        return None
    both = isinstance(alpha, Tensor) and isinstance(beta, Tensor)
    return Scaled(add(alpha, beta) if both else alpha + beta, core)


@rule(Diagonal, Diagonal, inside=Sum, example=lambda g: ex.diagonal(g, 3) + ex.diagonal(g, 3))
def diagonal_plus_diagonal(a: Diagonal, b: Diagonal) -> LinearOperator | None:
    """diag(d) + diag(e) = diag(d + e)."""
    return Diagonal(add(a.d, b.d))


@rule(
    Diagonal,
    (Identity, Scaled),
    inside=Sum,
    example=lambda g: ex.diagonal(g, 3) + 2 * Identity(3),
)
def diagonal_plus_identity(d: Diagonal, b: LinearOperator) -> LinearOperator | None:
    """diag(d) + alpha I = diag(d + alpha)."""
    alpha, eye = split_scalar(b)
    if not isinstance(eye, Identity):
        return None
    if isinstance(alpha, Tensor):
        return Diagonal(add(d.d, alpha[..., None]))
    return Diagonal(d.d + alpha)


@rule(
    BlockDiagonal,
    BlockDiagonal,
    inside=Sum,
    example=lambda g: ex.blocks(g, 2, 2, 3) + ex.blocks(g, 2, 2, 3),
)
def blocks_plus_blocks(a: BlockDiagonal, b: BlockDiagonal) -> LinearOperator | None:
    """diag(A_i) + diag(B_i) = diag(A_i + B_i)."""
    if a.nblocks != b.nblocks:
        return None
    new: LinearOperator = BlockDiagonal(add(a.blocks, b.blocks))
    return new


@rule(
    (BlockDiagonal, KroneckerSparse),
    (Diagonal, Identity, Scaled),
    inside=Sum,
    example=lambda g: ex.blocks(g, 2, 3, 3) + ex.diagonal(g, 6),
)
def blocks_plus_diagonal(
    a: BlockDiagonal | KroneckerSparse, b: LinearOperator
) -> LinearOperator | None:
    """diag(B_i) + diag(d), with square blocks, is block-diagonal; so are strided blocks."""
    v = a.blocks[..., None] if isinstance(a, BlockDiagonal) else a.values
    k, q, p, r = v.shape[-4:]
    alpha, core = split_scalar(b)
    if q != p or not isinstance(core, Diagonal | Identity):
        return None
    if isinstance(core, Diagonal):
        inner = core.d.unflatten(-1, (k, q, r)).transpose(-1, -2)
    else:
        inner = torch.ones(k, r, q, dtype=v.dtype, device=v.device)
    inner = torch.diag_embed(inner).movedim(-3, -1)
    if isinstance(alpha, Tensor):
        inner = mul(inner, alpha[..., None, None, None, None])
    elif alpha != 1:
        inner = inner * alpha
    v = add(v, inner)
    return KroneckerSparse(v) if isinstance(a, KroneckerSparse) else BlockDiagonal(v[..., 0])


@rule(
    KroneckerSparse,
    KroneckerSparse,
    inside=Sum,
    example=lambda g: ex.factor(g, 2, 2, 1, 2) + ex.factor(g, 2, 2, 1, 2),
)
def factor_plus_factor(a: KroneckerSparse, b: KroneckerSparse) -> LinearOperator | None:
    """Kronecker-sparse factors of one pattern add."""
    return KroneckerSparse(add(a.values, b.values)) if a.pattern == b.pattern else None


def _two_monarchs(g: torch.Generator) -> LinearOperator:
    a = ex.monarch(g, (2, 3, 2), (2, 2, 3))
    return a + Monarch(ex.ints(g, 2, 3, 2), a.right)


@rule(Monarch, Monarch, inside=Sum, example=_two_monarchs)
def monarch_plus_monarch(a: Monarch, b: Monarch) -> LinearOperator | None:
    """L R + L' R = (L + L') R, for Monarch matrices that share a factor."""
    if a.right is b.right and a.left.shape[-3:] == b.left.shape[-3:]:
        return Monarch(add(a.left, b.left), a.right)
    if a.left is b.left and a.right.shape[-3:] == b.right.shape[-3:]:
        return Monarch(a.left, add(a.right, b.right))
    return None


Addable = (
    Dense,
    Diagonal,
    BlockDiagonal,
    KroneckerSparse,
    LowRank,
    Monarch,
    Identity,
    Toeplitz,
    Circulant,
    Hankel,
    Convolution,
    LowDisplacementRank,
    Sparse,
    BlockSparse,
)


@rule(Addable, Scaled, inside=Sum, example=lambda g: ex.dense(g, 2, 3) - ex.dense(g, 2, 3))
def plus_scaled(a: LinearOperator, b: Scaled) -> LinearOperator | None:
    """A + alpha B, where alpha B can be stored and added to A."""
    scaled = times_scalar(b.alpha, b.children[0])
    if scaled is None:
        return None
    for pair in ((a, scaled), (scaled, a)):
        for found in candidates(Sum, (type(pair[0]), type(pair[1]))):
            if found.apply is not equal_terms and found.name not in FACTORING:
                new = found.apply(*pair)
                if new is not None:
                    return new
    return None


FACTORING = frozenset({"common_left_factor", "common_right_factor", "plus_scaled"})


def _common(g: torch.Generator, left: bool) -> LinearOperator:
    a = ex.monarch(g, (2, 2, 2), (2, 2, 2))
    b, c = ex.butterfly(g, 2), ex.monarch(g, (2, 2, 2), (2, 2, 2))
    return a @ b + a @ c if left else b @ a + c @ a


@rule(
    LinearOperator,
    LinearOperator,
    inside=Sum,
    early=True,
    key=lambda op: _end(op, 0),
    example=lambda g: _common(g, True),
)
def common_left_factor(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """A B + A C = A (B + C)."""
    if not same(_end(a, 0), _end(b, 0)):
        return None
    (alpha, p), (beta, q) = split_scalar(a), split_scalar(b)
    (first, rest), (_, tail) = uncons(p), uncons(q)
    if rest is None and tail is None:
        return None
    n = first.shape[1]
    return Product(first, Sum(_times(alpha, rest, n), _times(beta, tail, n)))


@rule(
    LinearOperator,
    LinearOperator,
    inside=Sum,
    early=True,
    key=lambda op: _end(op, -1),
    example=lambda g: _common(g, False),
)
def common_right_factor(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """B A + C A = (B + C) A."""
    if not same(_end(a, -1), _end(b, -1)):
        return None
    (alpha, p), (beta, q) = split_scalar(a), split_scalar(b)
    (last, rest), (_, tail) = unsnoc(p), unsnoc(q)
    if rest is None and tail is None:
        return None
    m = last.shape[0]
    return Product(Sum(_times(alpha, rest, m), _times(beta, tail, m)), last)


def _end(op: LinearOperator, i: int) -> LinearOperator:
    """The first or the last factor of a term."""
    core = split_scalar(op)[1]
    return core.children[i] if isinstance(core, Product) else core


def uncons(op: LinearOperator) -> tuple[LinearOperator, LinearOperator | None]:
    """The first factor of a product, and the others; None where there are none."""
    if isinstance(op, Product) and len(op.children) > 1:
        return op.children[0], _joined(op.children[1:])
    return op, None


def unsnoc(op: LinearOperator) -> tuple[LinearOperator, LinearOperator | None]:
    """The last factor of a product, and the others; None where there are none."""
    if isinstance(op, Product) and len(op.children) > 1:
        return op.children[-1], _joined(op.children[:-1])
    return op, None


def _joined(ops: tuple[LinearOperator, ...]) -> LinearOperator:
    return ops[0] if len(ops) == 1 else Product(*ops)


def _times(alpha: Any, rest: LinearOperator | None, n: int) -> LinearOperator:
    op = Identity(n) if rest is None else rest
    return op if not isinstance(alpha, Tensor) and alpha == 1 else Scaled(alpha, op)


@rule(
    DirectSum,
    DirectSum,
    inside=Sum,
    example=lambda g: (
        direct_sum(ex.dense(g, 2, 3), ex.dense(g, 3, 1))
        + direct_sum(ex.low_rank(g, 2, 3, 1), ex.dense(g, 3, 1))
    ),
)
def direct_sum_plus_direct_sum(a: DirectSum, b: DirectSum) -> LinearOperator | None:
    """diag(A, B) + diag(C, D) = diag(A + C, B + D), with equal partitions."""
    if [c.shape for c in a.children] != [c.shape for c in b.children]:
        return None
    return DirectSum(*(Sum(x, y) for x, y in zip(a.children, b.children, strict=True)))


def _kroneckers(g: torch.Generator) -> LinearOperator:
    a = ex.dense(g, 2, 3)
    return kron(a, ex.dense(g, 3, 2)) + kron(a, ex.low_rank(g, 3, 2, 1))


@rule(
    Kronecker,
    Kronecker,
    inside=Sum,
    early=True,
    source="Van Loan, The ubiquitous Kronecker product (2000), section 1",
    example=_kroneckers,
)
def kronecker_plus_kronecker(a: Kronecker, b: Kronecker) -> LinearOperator | None:
    """A (x) B + A (x) C = A (x) (B + C)."""
    if [c.shape for c in a.children] != [c.shape for c in b.children]:
        return None
    pairs = list(zip(a.children, b.children, strict=True))
    different = [i for i, (x, y) in enumerate(pairs) if not same(x, y)]
    if len(different) != 1:
        return None
    i = different[0]
    return Kronecker(*a.children[:i], Sum(*pairs[i]), *a.children[i + 1 :])
