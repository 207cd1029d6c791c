"""Sums of the moduli of each column: their largest is the 1-norm, that of A^T the inf-norm.

    those of A (x) B are all products         diag(A, B): those of A and of B
    those of A D are |D| times those of A     P A: those of A
    those of |X| |Y| where every entry of X Y is one product (Monarch, butterfly)
    Toeplitz: differences of running sums over the diagonals; Hankel, convolutions: |A|^T 1 by FFT

Everything else goes through A in blocks of columns, exactly, in O(n block) memory.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor

from structmat.builder import index_tensor
from structmat.compose import DirectSum, Kronecker, Product, Scaled, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
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
from structmat.linalg.products import single_products
from structmat.linalg.structure import diagonal_known, modulus
from structmat.operator import LinearOperator

__all__ = ["column_sums_of", "largest_sum"]


def largest_sum(op: LinearOperator, to: Tensor) -> Answer[Tensor]:
    """The 1-norm of a matrix that is not empty."""
    inner = op.children[0]._transpose() if isinstance(op, Transpose) else op
    if isinstance(inner, Kronecker):  # of the factors: all of the products of sums may be many
        parts = [largest_sum(c, to) for c in inner.children]
        return Answer(multiplied(parts), name("product of norms", (p.method for p in parts)))
    found = column_sums_of(op, to)
    return Answer(found.value.amax(-1), found.method)


@singledispatch
def column_sums_of(op: LinearOperator, to: Tensor) -> Answer[Tensor]:
    """The rule behind ``norm(A, 1)``: the sums of |A| down its columns, (..., n)."""
    if diagonal_known(op):
        return Answer(diagonal_of(op, 0, to).value.abs(), "diagonal")
    n, size = op.shape[1], block_size(op)
    parts = [columns(op, k, min(k + size, n), to).abs().sum(-1) for k in range(0, n, size)]
    return Answer(join(*parts) if parts else to.new_zeros(0).abs(), "by columns")


@column_sums_of.register
def _(op: Transpose, to: Tensor) -> Answer[Tensor]:
    inner = op.children[0]._transpose()
    if not isinstance(inner, Transpose):
        return column_sums_of(inner, to)
    m, size = op.shape[0], block_size(op)
    # Rows of the inner matrix are not at hand: its columns add up to the sums of its rows.
    child, total = op.children[0], to.new_zeros(op.shape[1]).abs()
    for k in range(0, m, size):
        total = total + columns(child, k, min(k + size, m), to).abs().sum(-2)
    return Answer(total, "by columns")


@column_sums_of.register
def _(op: Dense, to: Tensor) -> Answer[Tensor]:
    return Answer(op.weight.to(to).abs().sum(-2), "entries")


@column_sums_of.register
def _(op: Zero, to: Tensor) -> Answer[Tensor]:
    return Answer(to.new_zeros(op.n).abs(), "zero")


@column_sums_of.register(Identity)
@column_sums_of.register(Permutation)
def _(op: Identity | Permutation, to: Tensor) -> Answer[Tensor]:
    return Answer(to.new_ones(op.shape[0]).abs(), "permutation")


@column_sums_of.register(DFT)
@column_sums_of.register(Hadamard)
def _(op: DFT | Hadamard, to: Tensor) -> Answer[Tensor]:
    return Answer(to.new_ones(op.n).abs() * (op.n * op.factor()), "entries of one modulus")


@column_sums_of.register
def _(op: KroneckerSparse, to: Tensor) -> Answer[Tensor]:
    return Answer(op.values.to(to).abs().sum(-3).flatten(-3), "entries")


@column_sums_of.register
def _(op: BlockDiagonal, to: Tensor) -> Answer[Tensor]:
    return Answer(op.blocks.to(to).abs().sum(-2).flatten(-2), "entries")


@column_sums_of.register
def _(op: Toeplitz, to: Tensor) -> Answer[Tensor]:
    m, n = op.shape
    if 0 in op.shape:
        return Answer(to.new_zeros(n).abs(), "empty")
    # Column j holds the diagonals -j, ..., m - 1 - j: a window of the running sum.
    entries = join(op.row[..., 1:].flip(-1), op.c).to(to).abs()
    sums = join(entries.new_zeros(1), entries.cumsum(-1))
    first = torch.arange(n - 1, -1, -1, device=to.device)
    return Answer(sums[..., first + m] - sums[..., first], "running sums of the diagonals")


@column_sums_of.register
def _(op: Circulant, to: Tensor) -> Answer[Tensor]:
    c = op.c.to(to).abs()
    running = c.cumsum(-1).flip(-1)  # column j: c[0..n-1-j], then |f| times the rest
    if op.shape[0] == 0 or abs(op.f) == 0:
        return Answer(running, "running sums of the diagonals")
    tail = join(c.new_zeros(1), c.flip(-1).cumsum(-1)[..., :-1])
    return Answer(running + tail * abs(op.f), "running sums of the diagonals")


@column_sums_of.register
def _(op: Scaled, to: Tensor) -> Answer[Tensor]:
    found = column_sums_of(op.children[0], to)
    return Answer(found.value * modulus(op, to, 1), found.method)


@column_sums_of.register
def _(op: Kronecker, to: Tensor) -> Answer[Tensor]:
    parts = [column_sums_of(c, to) for c in op.children]
    out = parts[0].value
    for p in parts[1:]:
        out = (out[..., :, None] * p.value[..., None, :]).flatten(-2)
    return Answer(out, name("products of the factors' sums", (p.method for p in parts)))


@column_sums_of.register
def _(op: DirectSum, to: Tensor) -> Answer[Tensor]:
    parts = [column_sums_of(c, to) for c in op.children]
    joined = join(*(p.value for p in parts))
    return Answer(joined, name("sums of the blocks", (p.method for p in parts)))


@column_sums_of.register(Hankel)
@column_sums_of.register(Convolution)
def _(op: Hankel | Convolution, to: Tensor) -> Answer[Tensor]:
    return Answer(_moduli(op, to).T(to.new_ones(op.shape[0]).abs()), "sums of the moduli by FFT")


def _moduli(op: Hankel | Convolution, to: Tensor) -> LinearOperator:
    """|A| where each entry of A is a number of the tensors, or 0."""
    if isinstance(op, Hankel):
        return Hankel(op.c.to(to).abs(), op.row.to(to).abs())
    kernel = folded(op, to) if op.mode == "circular" else op.kernel.to(to)
    return op._replace({"kernel": kernel.abs()}, (), op.static)


def _single(op: LinearOperator, to: Tensor) -> Answer[Tensor] | None:
    found = single_products(op)
    if found is None:
        return None
    x, y = (KroneckerSparse(f.values.to(to).abs()) for f in found)
    return Answer(y.T(x.T(to.new_ones(x.shape[0]).abs())), "single products")


@column_sums_of.register(Monarch)
@column_sums_of.register(MonarchChain)
@column_sums_of.register(Butterfly)
def _(op: Monarch | MonarchChain | Butterfly, to: Tensor) -> Answer[Tensor]:
    return _single(op, to) or column_sums_of.dispatch(LinearOperator)(op, to)


@column_sums_of.register
def _(op: Product, to: Tensor) -> Answer[Tensor]:
    single = _single(op, to)
    if single is not None:
        return single
    # A permutation on the left changes nothing; one on the right, or a diagonal, acts on the sums.
    factors = list(op.children)
    if isinstance(factors[0], Permutation | Identity) and len(factors) > 1:
        return column_sums_of(_product(factors[1:]), to)
    last = factors[-1]
    if len(factors) > 1 and isinstance(last, Permutation | Diagonal | Identity):
        found = column_sums_of(_product(factors[:-1]), to)
        if isinstance(last, Diagonal):
            return Answer(found.value * last.d.to(to).abs(), found.method)
        if isinstance(last, Permutation):
            table = index_tensor(last.index.inverse(), to.device)
            return Answer(found.value[..., table], found.method)
        return found
    return column_sums_of.dispatch(LinearOperator)(op, to)


def _product(factors: list[LinearOperator]) -> LinearOperator:
    return factors[0] if len(factors) == 1 else Product(*factors)
