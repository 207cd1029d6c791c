"""Singular values by structure, in descending order.

    c Q, Q unitary       c, n times                  Q A, A Q       those of A
    diagonal             moduli                      A (x) B        all products
    Z_f(c), |f| = 1      |spectrum|: it is normal    diag(A, B)     those of A and of B
    other normal ones    |eigenvalues|: sums A (+) B and A + k I of normal matrices
    U V                  those of R_U R_V^T, the triangular factors of QR of U and of V^T

Rank that the structure rules out is zeros. Everything else is LAPACK on the dense matrix, and says
so, or with ``k`` the largest ones by a Lanczos iteration of ARPACK.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Literal, overload

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Zero
from structmat.leaves.real_fourier import RDFT
from structmat.leaves.toeplitz import Circulant, join
from structmat.leaves.trigonometric import Trigonometric
from structmat.linalg.answer import Answer, dense, like, name, not_an_operator, spread
from structmat.linalg.arpack import largest
from structmat.linalg.diagonal import diagonal_of
from structmat.linalg.implicit import need_finite
from structmat.linalg.spectrum import eigvals_of
from structmat.linalg.spectrum_leaves import circulant_spectrum, convolution_spectrum
from structmat.linalg.structure import diagonal_known, ends, is_normal, lengths, modulus, weighted
from structmat.operator import LinearOperator
from structmat.properties import is_hermitian, unitary_scale
from structmat.tracing import whole

__all__ = ["peeled", "svdvals", "svdvals_found", "svdvals_of"]


@overload
def svdvals(
    A: LinearOperator, k: int | None = ..., *, return_method: Literal[False] = ...
) -> Tensor: ...
@overload
def svdvals(
    A: LinearOperator, k: int | None = ..., *, return_method: Literal[True]
) -> Answer[Tensor]: ...
@whole
def svdvals(
    A: LinearOperator, k: int | None = None, *, return_method: bool = False
) -> Tensor | Answer[Tensor]:
    """The singular values, descending.

    With ``k`` values have exact first derivatives, by their singular vectors, and none after: a
    second one raises. Where singular values coincide, single ones have no derivative; the sum of
    all that coincide does, if k takes them whole. A value of 0 has none, as ``|x|`` at 0.

    Args:
        A: operator, m x n.
        k: how many of the largest, by a Lanczos iteration of ``scipy.sparse.linalg.eigsh`` on
            A^H A, that only multiplies by A and its adjoint; all of them by default.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Real tensor of shape batch_shape + (min(m, n),), or + (k,).

    Raises:
        TypeError: A is no operator.
        ValueError: k out of range.
        NotImplementedError: with k, a second derivative.

    Example:
        >>> import torch, structmat as sm
        >>> sm.svdvals(sm.kron(sm.Diagonal(torch.tensor([1.0, -3.0])), sm.Haar(2)))
        tensor([3., 3., 1., 1.])
    """
    if not isinstance(A, LinearOperator):
        not_an_operator("svdvals", A)
    A._require_numbers()
    need_finite("svdvals", A)
    if k is not None:
        found = largest("svdvals", A, k)
    else:
        found = svdvals_found(A, like(A))
        values = found.value.sort(-1, descending=True).values
        found = Answer(spread(values, A, 1), found.method)
    return found if return_method else found.value


def svdvals_found(op: LinearOperator, to: Tensor) -> Answer[Tensor]:
    """By structure, of the simplified expression, or of the dense matrix; in any order."""
    found = _unitary(op, to) if op.assumed else None
    found = found or svdvals_of(op, to)
    if found is None:
        simpler = op.simplify()
        found = svdvals_of(simpler, to)
        if found is not None:
            found = Answer(found.value, name("simplified", [found.method]))
    if found is None and is_normal(op):
        spectrum = eigvals_of(op, to, is_hermitian(op) is True)
        if spectrum is not None:
            found = Answer(spectrum.value.abs(), name("normal", [spectrum.method]))
    way_out = "; for the largest k take sm.svdvals(A, k)"
    return found or _dense(dense(op, to, "svdvals", way_out), "dense SVD")


def _dense(matrix: Tensor, method: str) -> Answer[Tensor]:
    return Answer(torch.linalg.svdvals(matrix), method)


def _padded(values: Tensor, op: LinearOperator) -> Tensor:
    zeros = values.new_zeros(max(0, min(op.shape) - values.shape[-1]))
    return join(values, zeros)


@singledispatch
def svdvals_of(op: LinearOperator, to: Tensor) -> Answer[Tensor] | None:
    """The rule behind :func:`svdvals`: None where the structure does not give them."""
    return _unitary(op, to)


def _unitary(op: LinearOperator, to: Tensor) -> Answer[Tensor] | None:
    scale = unitary_scale(op)
    if scale is None:
        return None
    return Answer(to.new_ones(op.shape[0]).abs() * scale, "unitary up to scale")


@svdvals_of.register
def _(op: Zero, to: Tensor) -> Answer[Tensor]:
    return Answer(to.new_zeros(min(op.shape)).abs(), "zero")


@svdvals_of.register
def _(op: Diagonal, to: Tensor) -> Answer[Tensor]:
    return Answer(op.d.to(to).abs(), "diagonal")


@svdvals_of.register
def _(op: Dense, to: Tensor) -> Answer[Tensor]:
    return _dense(op.weight.to(to), "dense SVD")


@svdvals_of.register
def _(op: LowRank, to: Tensor) -> Answer[Tensor] | None:
    if op.rank >= min(op.shape):
        return None
    u, v = op.left.to(to), op.right.to(to).mT
    inner = torch.linalg.qr(u).R @ torch.linalg.qr(v).R.mT
    return Answer(_padded(torch.linalg.svdvals(inner), op), "QR of the factors, SVD of rank size")


@svdvals_of.register
def _(op: BlockDiagonal, to: Tensor) -> Answer[Tensor]:
    if op.blocks.numel() == 0:
        return Answer(to.new_zeros(*op.batch_shape, min(op.shape)).abs(), "empty")
    return Answer(torch.linalg.svdvals(op.blocks.to(to)).flatten(-2), "SVD of the blocks")


@svdvals_of.register
def _(op: KroneckerSparse, to: Tensor) -> Answer[Tensor] | None:
    # Reordering rows and columns, each in its own way, makes it block-diagonal.
    return svdvals_of(BlockDiagonal(op.values.movedim(-1, -3).flatten(-4, -3)), to)


@svdvals_of.register
def _(op: Circulant, to: Tensor) -> Answer[Tensor] | None:
    if abs(op.f) != 1:
        return None
    return Answer(circulant_spectrum(op, to)[0].abs(), "normal: moduli of the spectrum")


@svdvals_of.register
def _(op: Convolution, to: Tensor) -> Answer[Tensor] | None:
    found = convolution_spectrum(op, to) if op.mode == "circular" else None
    return found and Answer(found[0].abs(), "normal: moduli of the spectrum")


@svdvals_of.register
def _(op: Trigonometric, to: Tensor) -> Answer[Tensor] | None:
    scale, left, right = weighted(op)
    if left != (1.0, 1.0) and right != (1.0, 1.0):
        return None
    values = ends(op.n, left, to) * ends(op.n, right, to) * scale
    return Answer(values, "orthogonal up to weights")


@svdvals_of.register
def _(op: RDFT, to: Tensor) -> Answer[Tensor]:
    return Answer(lengths(op, to), "orthogonal up to lengths")


@svdvals_of.register
def _(op: Transpose, to: Tensor) -> Answer[Tensor] | None:
    return svdvals_of(op.children[0], to)


@svdvals_of.register
def _(op: Scaled, to: Tensor) -> Answer[Tensor] | None:
    found = svdvals_of(op.children[0], to)
    return found and Answer(found.value * modulus(op, to, 1), found.method)


@svdvals_of.register
def _(op: Kronecker, to: Tensor) -> Answer[Tensor]:
    parts = [svdvals_found(c, to) for c in op.children]
    out = parts[0].value
    for p in parts[1:]:
        out = (out[..., :, None] * p.value[..., None, :]).flatten(-2)
    method = name("products of the factors' singular values", (p.method for p in parts))
    return Answer(_padded(out, op), method)


@svdvals_of.register
def _(op: DirectSum, to: Tensor) -> Answer[Tensor]:
    parts = [svdvals_found(c, to) for c in op.children]
    method = name("singular values of the blocks", (p.method for p in parts))
    return Answer(_padded(join(*(p.value for p in parts)), op), method)


@svdvals_of.register
def _(op: Sum, to: Tensor) -> Answer[Tensor] | None:
    return Answer(diagonal_of(op, 0, to).value.abs(), "diagonal") if diagonal_known(op) else None


def peeled(op: Product) -> tuple[float, list[LinearOperator]]:
    """(c, rest): the product is c times the rest, up to unitary factors at its ends."""
    scale, factors = 1.0, list(op.children)
    for at in (0, -1):
        while factors:
            c = unitary_scale(factors[at])
            if c is None:
                break
            scale *= c
            factors.pop(at)
    return scale, factors


@svdvals_of.register
def _(op: Product, to: Tensor) -> Answer[Tensor] | None:
    if diagonal_known(op):
        return Answer(diagonal_of(op, 0, to).value.abs(), "diagonal")
    scale, rest = peeled(op)
    if not rest:
        return _unitary(op, to)
    if len(rest) == len(op.children):
        return None
    inner = rest[0] if len(rest) == 1 else Product(*rest)
    found = svdvals_of(inner, to)
    return found and Answer(found.value * scale, name("unitary factors peeled off", [found.method]))
