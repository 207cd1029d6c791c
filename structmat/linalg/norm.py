"""Norms by structure: Frobenius, largest column sum (1), largest row sum (inf), spectral (2).

    Frobenius   ||A (x) B|| = ||A|| ||B||,  ||diag(A, B)||^2 = ||A||^2 + ||B||^2,  ||Q A|| = ||A||,
                Toeplitz: each entry as often as its diagonal is long,
                ||X Y||^2 = tr((X^H X) (Y Y^H)): for factors whose Gram matrices are structured
    1, inf      column sums of |A| are multiplicative in A (x) B and scale with D in A D
    2           the largest singular value where they are known (multiplicative in A (x) B),
                otherwise of the dense matrix if it is small, or by a Lanczos iteration

Everything else goes through A in blocks of columns, exactly, in O(n block) memory. The Gram form
of a product loses half of the digits where the product cancels: its error is about sqrt(eps) times
the product of the factors' norms at worst.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Literal, overload

import torch
from torch import Tensor

from structmat.builder import index_tensor
from structmat.compose import DirectSum, Kronecker, Product, Scaled, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.companion import Companion
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
from structmat.leaves.real_fourier import RDFT
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz, join
from structmat.linalg.answer import (
    Answer,
    block_size,
    columns,
    like,
    name,
    not_an_operator,
    spread,
)
from structmat.linalg.diagonal import diagonal_of
from structmat.linalg.entries import halves
from structmat.linalg.singular import largest, peeled, svdvals_found, svdvals_of
from structmat.linalg.structure import diagonal_known, lengths, modulus
from structmat.linalg.trace import trace_of
from structmat.operator import LinearOperator
from structmat.properties import unitary_scale

__all__ = ["column_sums_of", "frobenius_of", "norm", "spectral_of"]

ORDERS = ("fro", 1, math.inf, 2)

SMALL = 512
"""Up to this least side the spectral norm of a matrix without structure is a dense SVD's."""


@overload
def norm(
    A: LinearOperator, ord: str | float = ..., *, return_method: Literal[False] = ...
) -> Tensor: ...
@overload
def norm(
    A: LinearOperator, ord: str | float = ..., *, return_method: Literal[True]
) -> Answer[Tensor]: ...
def norm(
    A: LinearOperator, ord: str | float = "fro", *, return_method: bool = False
) -> Tensor | Answer[Tensor]:
    """A norm of the matrix.

    Args:
        A: operator, m x n.
        ord: ``"fro"``, 1 (largest column sum), ``inf`` (largest row sum), or 2 (largest singular
            value).
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Real tensor of shape batch_shape, as ``torch.linalg.matrix_norm``; 0 for an empty matrix.

    Raises:
        TypeError: A is no operator.
        ValueError: an unknown order.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.kron(sm.Dense(torch.tensor([[3.0, 4.0]])), sm.Hadamard(4))
        >>> sm.norm(A), sm.norm(A, 1), sm.norm(A, 2)
        (tensor(20.), tensor(16.), tensor(10.))
    """
    if not isinstance(A, LinearOperator):
        not_an_operator("norm", A)
    if ord not in ORDERS:
        raise ValueError(
            f"norm: ord {ord!r} is none of 'fro', 1, inf, 2; for others take the singular values, "
            "sm.svdvals(A)"
        )
    to = like(A)
    if 0 in A.shape:
        found = Answer(to.new_zeros(()).abs(), "empty")
    elif ord == "fro":
        found = frobenius_of(A, to)
    elif ord == 2:
        found = spectral_of(A, to)
    else:
        found = _largest_sum(A.T if ord != 1 else A, to)
    found = Answer(spread(found.value, A, 0), found.method, found.error)
    return found if return_method else found.value


def _size(values: Tensor, event: int = 1) -> Tensor:
    """The 2-norm of the last dimensions; its gradient at zero is zero."""
    out: Tensor = torch.linalg.vector_norm(values, dim=tuple(range(-event, 0)))
    return out


# Frobenius --------------------------------------------------------------------------------------


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
    return Answer(_root(both.sum((-2, -1))), "Gram matrices of the factors")


def _root(square: Tensor) -> Tensor:
    """The root of a real number that rounding may have made slightly negative."""
    real = square.real if square.is_complex() else square
    safe = torch.where(real > 0, real, 1)
    return torch.where(real > 0, safe.sqrt(), 0)


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
def _(op: Transpose, to: Tensor) -> Answer[Tensor]:
    return frobenius_of(op.children[0], to)


@frobenius_of.register
def _(op: Scaled, to: Tensor) -> Answer[Tensor]:
    found = frobenius_of(op.children[0], to)
    return Answer(found.value * modulus(op, to, 0), found.method)


@frobenius_of.register
def _(op: Kronecker, to: Tensor) -> Answer[Tensor]:
    parts = [frobenius_of(c, to) for c in op.children]
    return Answer(_multiplied(parts), name("product of norms", (p.method for p in parts)))


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
    if len(factors) == 2:
        left, right = _gram(factors[0]), _gram(factors[1].T)
        if left is not None and right is not None:
            found = trace_of(Product(left, right.T), to)
            return Answer(_root(found.value), "Gram matrices of the factors")
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


# column sums ------------------------------------------------------------------------------------


def _largest_sum(op: LinearOperator, to: Tensor) -> Answer[Tensor]:
    """The 1-norm of a matrix that is not empty."""
    inner = op.children[0]._transpose() if isinstance(op, Transpose) else op
    if isinstance(inner, Kronecker):  # of the factors: all of the products of sums may be many
        parts = [_largest_sum(c, to) for c in inner.children]
        return Answer(_multiplied(parts), name("product of norms", (p.method for p in parts)))
    found = column_sums_of(op, to)
    return Answer(found.value.amax(-1), found.method)


def _multiplied(parts: list[Answer[Tensor]]) -> Tensor:
    out = parts[0].value
    for p in parts[1:]:
        out = out * p.value
    return out


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


@column_sums_of.register
def _(op: Product, to: Tensor) -> Answer[Tensor]:
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


# spectral ---------------------------------------------------------------------------------------


@singledispatch
def spectral_of(op: LinearOperator, to: Tensor) -> Answer[Tensor]:
    """The rule behind ``norm(A, 2)``."""
    known = svdvals_of(op, to)
    if known is None and (min(op.shape) <= SMALL or op.batch_shape):
        known = svdvals_found(op, to)
    if known is not None:
        return Answer(known.value.amax(-1), known.method)
    found = largest(op, 1)
    return Answer(found.value[0], f"{found.method}, relative tolerance of rounding")


@spectral_of.register
def _(op: Transpose, to: Tensor) -> Answer[Tensor]:
    return spectral_of(op.children[0], to)


@spectral_of.register
def _(op: Scaled, to: Tensor) -> Answer[Tensor]:
    found = spectral_of(op.children[0], to)
    return Answer(found.value * modulus(op, to, 0), found.method)


@spectral_of.register
def _(op: Kronecker, to: Tensor) -> Answer[Tensor]:
    parts = [spectral_of(c, to) for c in op.children]
    return Answer(_multiplied(parts), name("product of norms", (p.method for p in parts)))


@spectral_of.register
def _(op: DirectSum, to: Tensor) -> Answer[Tensor]:
    parts = [spectral_of(c, to) for c in op.children if 0 not in c.shape]
    if not parts:
        return Answer(to.new_zeros(()).abs(), "zero")
    values = torch.stack(torch.broadcast_tensors(*(p.value for p in parts)), -1)
    return Answer(values.amax(-1), name("largest of the blocks", (p.method for p in parts)))
