"""The Frobenius norm by structure.

    ||A (x) B|| = ||A|| ||B||      ||diag(A, B)||^2 = ||A||^2 + ||B||^2      ||Q A|| = ||A||
    Toeplitz: each entry as often as its diagonal is long
    ||X Y||^2 = 1^T |X|^2 |Y|^2 1     where every entry of X Y is one product (Monarch, butterfly)
    ||X Y||^2 = tr((X^H X) (Y Y^H))   for factors whose Gram matrices are structured

Everything else goes through A in blocks of columns, exactly, in O(n block) memory. The Gram form
of a product loses half of the digits where the product cancels: its error is about sqrt(eps) times
the product of the factors' norms at worst.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.companion import Companion
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Zero
from structmat.leaves.monarch import Monarch
from structmat.leaves.real_fourier import RDFT
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz, join
from structmat.linalg.answer import (
    Answer,
    block_size,
    columns,
    multiplied,
    name,
)
from structmat.linalg.diagonal import diagonal_of
from structmat.linalg.entries_leaves import folded
from structmat.linalg.products import halves, single_products
from structmat.linalg.singular import peeled
from structmat.linalg.structure import diagonal_known, lengths, modulus
from structmat.linalg.trace import trace_of
from structmat.operator import LinearOperator
from structmat.properties import unitary_scale

__all__ = ["frobenius_of"]


def _size(values: Tensor, event: int = 1) -> Tensor:
    """The 2-norm of the last dimensions; its gradient at zero is zero."""
    out: Tensor = torch.linalg.vector_norm(values, dim=tuple(range(-event, 0)))
    return out


@singledispatch
def frobenius_of(op: LinearOperator, to: Tensor) -> Answer[Tensor]:
    """The rule behind ``norm(A, "fro")``; register a class of your own for its structure."""
    scale = unitary_scale(op)
    if scale is not None:
        value = to.new_tensor(scale * math.sqrt(op.shape[0])).abs()
        return Answer(value, "unitary up to scale")
    if diagonal_known(op):
        return Answer(_size(diagonal_of(op, 0, to).value), "diagonal")
    if op.shape[0] < op.shape[1]:
        op = op.T  # the fewer columns
    n, size = op.shape[1], block_size(op)
    parts = [_size(columns(op, k, min(k + size, n), to), 2) for k in range(0, n, size)]
    return Answer(_size(torch.stack(parts, -1)) if parts else to.new_zeros(()).abs(), "by columns")


@frobenius_of.register
def _(op: Dense, to: Tensor) -> Answer[Tensor]:
    return Answer(_size(op.weight.to(to), 2), "entries")


@frobenius_of.register
def _(op: Zero, to: Tensor) -> Answer[Tensor]:
    return Answer(to.new_zeros(()).abs(), "zero")


@frobenius_of.register
def _(op: KroneckerSparse, to: Tensor) -> Answer[Tensor]:
    return Answer(_size(op.values.to(to), 4), "entries")


@frobenius_of.register
def _(op: BlockDiagonal, to: Tensor) -> Answer[Tensor]:
    return Answer(_size(op.blocks.to(to), 3), "entries")


@frobenius_of.register
def _(op: LowRank, to: Tensor) -> Answer[Tensor]:
    u, v = op.left.to(to), op.right.to(to)
    both = (u.mH @ u) * (v @ v.mH).mT
    return Answer(root(both.sum((-2, -1))), "Gram matrices of the factors")


def root(square: Tensor) -> Tensor:
    """The root of a real number that rounding may have made slightly negative."""
    real = square.real if square.is_complex() else square
    safe = torch.where(real > 0, real, 1)
    return torch.where(real > 0, safe.sqrt(), real.detach().clamp(min=0))  # NaN stays NaN


@frobenius_of.register
def _(op: Toeplitz, to: Tensor) -> Answer[Tensor]:
    m, n = op.shape
    lag = torch.arange(1 - n, m, device=to.device)
    count = torch.minimum(m - lag.clamp(min=0), n + lag.clamp(max=0))
    entries = join(op.row[..., 1:].flip(-1), op.c).to(to)
    return Answer(_size(entries * count.to(to).sqrt()), "weighted diagonals")


@frobenius_of.register
def _(op: Hankel, to: Tensor) -> Answer[Tensor]:
    h = op._antidiagonals().to(to)
    return frobenius_of(Toeplitz(h[..., op.shape[1] - 1 :], h[..., : op.shape[1]].flip(-1)), to)


@frobenius_of.register
def _(op: Circulant, to: Tensor) -> Answer[Tensor]:
    k = torch.arange(op.shape[0], device=to.device).to(to).abs()
    weights = (op.shape[0] - k + k * abs(op.f) ** 2).sqrt()
    return Answer(_size(op.c.to(to) * weights), "weighted diagonals")


@frobenius_of.register
def _(op: RDFT, to: Tensor) -> Answer[Tensor]:
    return Answer(_size(lengths(op, to)), "orthogonal up to lengths")


@frobenius_of.register
def _(op: Companion, to: Tensor) -> Answer[Tensor]:
    ones = to.new_ones(op.shape[0] - 1)
    return Answer(_size(join(op.row.to(to), ones)), "entries")


@frobenius_of.register
def _(op: Convolution, to: Tensor) -> Answer[Tensor]:
    kernel = folded(op, to) if op.mode == "circular" else op.kernel.to(to)
    for axis, (n, m) in enumerate(zip(op.n, op._outputs(), strict=True)):
        size = kernel.shape[axis - len(op.n)]
        lag = torch.arange(size, device=to.device)
        if op.mode == "circular":
            count = torch.full_like(lag, n)
        else:  # rows i = j + lag of the columns j
            lag = lag - ((size - 1) // 2 if op.mode == "same" else 0)
            count = (torch.clamp(m - lag, max=n) - torch.clamp(-lag, min=0)).clamp(min=0)
        weights = count.to(to.abs().dtype).sqrt()
        kernel = kernel * weights.reshape(-1, *[1] * (len(op.n) - 1 - axis))
    return Answer(_size(kernel, len(op.n)), "weighted diagonals")


@frobenius_of.register
def _(op: Transpose, to: Tensor) -> Answer[Tensor]:
    return frobenius_of(op.children[0], to)


@frobenius_of.register
def _(op: Scaled, to: Tensor) -> Answer[Tensor]:
    found = frobenius_of(op.children[0], to)
    return Answer(found.value * modulus(op, to, 0), found.method)


@frobenius_of.register
def _(op: Kronecker, to: Tensor) -> Answer[Tensor]:
    parts = [frobenius_of(c, to) for c in op.children]
    return Answer(multiplied(parts), name("product of norms", (p.method for p in parts)))


@frobenius_of.register
def _(op: DirectSum, to: Tensor) -> Answer[Tensor]:
    parts = [frobenius_of(c, to) for c in op.children if 0 not in c.shape]
    if not parts:
        return Answer(to.new_zeros(()).abs(), "zero")
    values = torch.stack(torch.broadcast_tensors(*(p.value for p in parts)), -1)
    return Answer(_size(values), name("norms of the blocks", (p.method for p in parts)))


@frobenius_of.register(Monarch)
@frobenius_of.register(MonarchChain)
@frobenius_of.register(Butterfly)
@frobenius_of.register(Product)
def _(op: Monarch | MonarchChain | Butterfly | Product, to: Tensor) -> Answer[Tensor]:
    factors = list(op.children) if isinstance(op, Product) else halves(op) or op.factors()
    if isinstance(op, Product):
        scale, rest = peeled(op)
        if 0 < len(rest) < len(factors):
            inner = rest[0] if len(rest) == 1 else Product(*rest)
            found = frobenius_of(inner, to)
            return Answer(found.value * scale, name("unitary factors peeled off", [found.method]))
    if len(factors) == 1:
        return frobenius_of(factors[0], to)
    single = single_products(op)
    if single is not None:
        x, y = (KroneckerSparse(f.values.to(to).abs() ** 2) for f in single)
        return Answer(root(y.T(x.T(to.new_ones(x.shape[0]).abs())).sum(-1)), "single products")
    if len(factors) == 2:
        left, right = _gram(factors[0]), _gram(factors[1].T)
        if left is not None and right is not None:
            found = trace_of(Product(left, right.T), to)
            return Answer(root(found.value), "Gram matrices of the factors")
    return _default(op, to)


def _gram(op: LinearOperator) -> LinearOperator | None:
    """X^H X of a factor, with the structure it has."""
    match op:
        case Transpose():
            inner = op.children[0]._transpose()
            return None if isinstance(inner, Transpose) else _gram(inner)
        case Diagonal():
            return Diagonal(op.d.conj() * op.d)
        case BlockDiagonal():
            return BlockDiagonal(op.blocks.mH @ op.blocks)
        case KroneckerSparse():
            v = op.values
            return KroneckerSparse(torch.einsum("...abcd,...abed->...aced", v.conj(), v))
        case Dense() if op.shape[1] <= op.shape[0]:
            return Dense(op.weight.mH @ op.weight)
    return None


_default = frobenius_of.dispatch(LinearOperator)
