"""Products and direct sums of Kronecker-sparse factors: dense, block-diagonal, strided.

Factors (a1, b1, c1, d1)(a2, b2, c2, d2) with a1 | a2, d2 | d1 and a1 c1 / a2 = b2 d2 / d1 = r
have a product of pattern (a1, b1 d1/d2, a2 c2/a1, d2) (Le, Zheng, Riccietti, Gribonval, Fast
inference with Kronecker-sparse matrices, 2024). With f = a2/a1 and e = d1/d2 the positions
between them are the digits (a1, f, r, e, d2), and only r is summed over. The product is stored
where that is smaller. Factors that are chainable from right to left multiply transposed.
"""

from __future__ import annotations

from itertools import pairwise
from math import gcd

import torch
from torch import Tensor

from structmat.compose import DirectSum, Product, direct_sum
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import MonarchChain
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Diagonal
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import cat, matmul, promoted
from structmat.rules.table import rule

LE = "Le, Zheng, Riccietti, Gribonval, Fast inference with Kronecker-sparse matrices (2024)"
Factor = (Dense, BlockDiagonal, KroneckerSparse)


def values_of(op: LinearOperator) -> Tensor:
    """The numbers of a dense, block-diagonal or Kronecker-sparse leaf as (..., a, b, c, d)."""
    match op:
        case Dense():
            return op.weight[..., None, :, :, None]
        case BlockDiagonal():
            return op.blocks[..., None]
        case KroneckerSparse():
            return op.values
    raise TypeError(f"{op._label()} is not a Kronecker-sparse factor")


def leaf_of(values: Tensor) -> LinearOperator:
    """The simplest leaf with these numbers of shape (..., a, b, c, d)."""
    a, b, c, d = values.shape[-4:]
    if b == c == 1:
        return Diagonal(values.flatten(-4))
    if d == 1:
        return Dense(values[..., 0, :, :, 0]) if a == 1 else BlockDiagonal(values[..., 0])
    return KroneckerSparse(values)


def factor_product(v: Tensor, w: Tensor) -> Tensor | None:
    """Values of the product of two factors, where it is a factor and has fewer numbers."""
    (a1, b, _, d1), (a2, _, c, d2) = v.shape[-4:], w.shape[-4:]
    sides, cells = a1 * b * d1 * a2 * c * d2, gcd(a1, a2) * gcd(d1, d2)
    if 0 in (*v.shape, *w.shape) or sides > cells * (v.numel() + w.numel()):
        return None
    new = chained(v, w)
    if new is None:
        turned = chained(w.transpose(-3, -2), v.transpose(-3, -2))
        new = None if turned is None else turned.transpose(-3, -2)
    return new


def chained(v: Tensor, w: Tensor) -> Tensor | None:
    """Values of the product of two factors that are chainable from left to right."""
    (a1, b1, c1, d1), (a2, b2, c2, d2) = v.shape[-4:], w.shape[-4:]
    if 0 in (*v.shape, *w.shape) or a2 % a1 or d1 % d2 or (a1 * c1) % a2:
        return None
    f, e, r = a2 // a1, d1 // d2, a1 * c1 // a2
    if b2 != r * e:
        return None
    v, w = promoted(v, w)
    left = v.reshape(*v.shape[:-4], a1, b1, f, r, e, d2)
    right = w.reshape(*w.shape[:-4], a1, f, r, e, c2, d2)
    out = torch.einsum("...ajfrel,...afrekl->...ajefkl", left, right)
    return out.reshape(*out.shape[:-6], a1, b1 * e, f * c2, d2)


@rule(KroneckerSparse, source=LE, example=lambda g: ex.factor(g, 3, 2, 2, 1))
def factor_without_stride(op: KroneckerSparse) -> LinearOperator | None:
    """KroneckerSparse(a, b, c, 1) is block-diagonal, and (a, 1, 1, d) is diagonal."""
    _, b, c, d = op.pattern
    return leaf_of(op.values) if d == 1 or b == c == 1 else None


@rule(BlockDiagonal, example=lambda g: ex.blocks(g, 1, 2, 3))
def one_block(op: BlockDiagonal) -> LinearOperator | None:
    """One diagonal block is a dense matrix; blocks of 1 x 1 are a diagonal."""
    k, q, p = op.blocks.shape[-3:]
    return leaf_of(op.blocks[..., None]) if k == 1 or q == p == 1 else None


@rule(
    BlockDiagonal,
    BlockDiagonal,
    inside=Product,
    example=lambda g: ex.blocks(g, 3, 2, 3) @ ex.blocks(g, 3, 3, 2),
)
def blocks_times_blocks(a: BlockDiagonal, b: BlockDiagonal) -> LinearOperator | None:
    """diag(A_i) diag(B_i) = diag(A_i B_i), where that is smaller."""
    k, q, p = a.blocks.shape[-3:]
    high, t = b.blocks.shape[-2:]
    if b.nblocks != k or high != p or q * t > p * (q + t):  # no blocks fit whatever they are
        return None
    new: LinearOperator = BlockDiagonal(matmul(a.blocks, b.blocks))
    return new


@rule(
    Factor,
    Factor,
    inside=Product,
    source=LE,
    example=lambda g: ex.factor(g, 1, 2, 4, 2) @ ex.blocks(g, 2, 4, 2),
)
def factor_times_factor(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """The product of two chainable Kronecker-sparse factors is one, where that is smaller."""
    new = factor_product(values_of(a), values_of(b))
    return None if new is None else leaf_of(new)


@rule(
    MonarchChain,
    source=LE,
    example=lambda g: ex.chain(g, (1, 2, 4, 2), (2, 4, 2, 1), (4, 1, 3, 1)),
)
def chain_contracts(op: MonarchChain) -> LinearOperator | None:
    """Neighbours in a chain of factors multiply where their product is smaller."""
    factors = op.factors()
    for i, (a, b) in enumerate(pairwise(factors)):
        new = factor_product(a.values, b.values)
        if new is not None:
            return MonarchChain([*factors[:i], new, *factors[i + 2 :]])
    return None


@rule(
    Factor,
    Factor,
    inside=DirectSum,
    source="definition",
    example=lambda g: direct_sum(ex.dense(g, 2, 3), ex.blocks(g, 2, 2, 3)),
)
def direct_sum_of_factors(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """diag(A, B) of blocks of one shape is block-diagonal, of one (b, c, d) Kronecker-sparse."""
    v, w = values_of(a), values_of(b)
    if v.shape[-3:] != w.shape[-3:] or v.shape[:-4] != w.shape[:-4]:
        return None
    return leaf_of(cat([v, w], -4))
