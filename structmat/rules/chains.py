"""Chains of Kronecker-sparse factors are recognised: butterflies, and MonarchChain.

The factors (n/2, 2, 2, 1), (n/4, 2, 2, 2), ..., (1, 2, 2, n/2), in this order or the other, are a
butterfly matrix (Dao, Gu, Eichhorn, Rudra, Re, Learning fast algorithms for linear transforms using
butterfly factorizations, 2019): the same numbers, one operator. What is left of a product of
factors when nothing in it can be multiplied out is a MonarchChain.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from structmat.compose import Product
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import promoted
from structmat.rules.blocks import values_of
from structmat.rules.measure import Weigher
from structmat.rules.table import rule

DAO = "Dao, Gu, Eichhorn, Rudra, Re, Learning fast algorithms with butterfly factorizations (2019)"


def _stage(op: LinearOperator) -> int | None:
    """t, where the factor is the butterfly stage of stride 2^t."""
    if not isinstance(op, BlockDiagonal | KroneckerSparse):
        return None
    _, b, c, d = values_of(op).shape[-4:]
    return d.bit_length() - 1 if b == c == 2 and d & (d - 1) == 0 else None


def _butterfly(factors: Sequence[LinearOperator]) -> Butterfly | None:
    """The butterfly with these stages, leftmost first."""
    values = [values_of(f) for f in factors]
    if len({v.shape[:-4] for v in values}) > 1:
        return None
    stages = [v.movedim(-1, -3).flatten(-4, -3) for v in promoted(*values)]
    increasing = _stage(factors[-1]) == 0
    return Butterfly(torch.stack(stages[::-1] if increasing else stages, -4), increasing)


@rule(
    (Product, MonarchChain),
    source=DAO,
    example=lambda g: Product(
        ex.blocks(g, 4, 2, 2), ex.factor(g, 2, 2, 2, 2), ex.factor(g, 1, 2, 2, 4), ex.shuffle(g, 8)
    ),
)
def butterfly_recognised(op: LinearOperator) -> LinearOperator | None:
    """The factors of all strides 1, 2, 4, ..., n/2 in order are a butterfly matrix."""
    n = op.shape[0]
    length = n.bit_length() - 1
    if length < 3 or n != 1 << length or len(op.children) < length:
        return None
    strides = [_stage(c) for c in op.children]
    orders = list(range(length)), list(range(length))[::-1]
    for i in range(len(strides) - length + 1):
        if strides[i : i + length] in orders and op.children[i].shape[0] == n:
            made = _butterfly(op.children[i : i + length])
            if made is not None:
                rest = *op.children[:i], made, *op.children[i + length :]
                return made if len(rest) == 1 else Product(*rest)
    return None


@rule(
    Product,
    late=True,
    example=lambda g: ex.blocks(g, 4, 3, 3) @ ex.factor(g, 1, 3, 3, 4),
)
def chain_recognised(op: Product, weigher: Weigher | None = None) -> LinearOperator | None:
    """A product of Kronecker-sparse factors that stay apart is a MonarchChain."""
    if not all(isinstance(c, BlockDiagonal | KroneckerSparse) for c in op.children):
        return None
    if not any(isinstance(c, KroneckerSparse) for c in op.children):
        return None
    return MonarchChain(
        [c if isinstance(c, KroneckerSparse) else values_of(c) for c in op.children]
    )
