"""The exponential of a matrix as an operator, where structure closes it.

    expm(diag(d)) = diag(exp d)       expm(Z_f(c)) = Z_f of the exponential of its spectrum
    expm(diag(A, B)) = diag(expm A, expm B)      expm(A + k I) = exp(k) expm A
    expm(A^T) = (expm A)^T
    expm(U V) = I + U phi(V U) V,  phi(X) = X^-1 (expm X - I), a block of expm [[X, I], [0, 0]]

(Higham, Functions of matrices, 2008, sections 1.2 and 10.7.) Dense blocks go through
``torch.linalg.matrix_exp``. On vectors, see :mod:`structmat.linalg.action`.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor

from structmat.compose import DirectSum, Scaled, Sum, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.toeplitz import Circulant
from structmat.linalg.answer import like, need_square, not_an_operator
from structmat.linalg.diagonal import diagonal_of
from structmat.linalg.spectrum_leaves import circulant_spectrum
from structmat.linalg.structure import diagonal_known, shifted
from structmat.operator import LinearOperator

__all__ = ["expm", "expm_of", "pushed"]


def expm(A: LinearOperator) -> LinearOperator:
    """The exponential as an operator, where it has a structure.

    Args:
        A: square operator.

    Returns:
        An operator of the same shape and batch shape. Nothing is made dense: a dense block of A
        has a dense exponential.

    Raises:
        TypeError: A is no operator.
        ValueError: A is not square, or its exponential has no structure that is known.

    Example:
        >>> import torch, structmat as sm
        >>> sm.expm(sm.LowRank(torch.ones(2, 1), torch.ones(1, 2))).to_dense()
        tensor([[4.1945, 3.1945],
                [3.1945, 4.1945]])
    """
    if not isinstance(A, LinearOperator):
        not_an_operator("expm", A)
    need_square("expm", A)
    found = expm_of(A)
    if found is None:
        simpler = A.simplify()
        found = expm_of(simpler)
    if found is None:
        raise ValueError(
            f"expm: {A._label()} has no exponential of known structure; apply it to vectors, "
            "sm.expm_multiply(A, x), or take the dense matrix, sm.expm(sm.Dense(A.to_dense()))"
        )
    return found


# the structures ---------------------------------------------------------------------------------


@singledispatch
def expm_of(op: LinearOperator) -> LinearOperator | None:
    """The rule behind :func:`expm`: None where the exponential has no known structure."""
    return Diagonal(diagonal_of(op, 0, like(op)).value.exp()) if diagonal_known(op) else None


@expm_of.register
def _(op: Zero) -> LinearOperator:
    return Identity(op.n, op.static["dtype"])


@expm_of.register
def _(op: Dense) -> LinearOperator:
    return Dense(torch.linalg.matrix_exp(op.weight.to(like(op))))


@expm_of.register
def _(op: BlockDiagonal) -> LinearOperator:
    out: LinearOperator = BlockDiagonal(torch.linalg.matrix_exp(op.blocks.to(like(op))))
    return out


@expm_of.register
def _(op: KroneckerSparse) -> LinearOperator:
    # (a, d, b, b): the same reordering of rows and of columns
    blocks = op.values.to(like(op)).movedim(-1, -3).contiguous()
    return KroneckerSparse(torch.linalg.matrix_exp(blocks).movedim(-3, -1))


@expm_of.register
def _(op: Circulant) -> LinearOperator | None:
    n, to = op.shape[0], like(op)
    if n == 0 or op.f == 0:
        return None
    spectrum = circulant_spectrum(op, to)[0]
    c = torch.fft.ifft(spectrum.exp())
    if op.f != 1:
        k = torch.arange(n, dtype=torch.float64, device=to.device)
        turn = complex(op.f) ** (1 / n)
        c = c * torch.polar(abs(turn) ** -k, -math.atan2(turn.imag, turn.real) * k).to(c)
    return Circulant(c if to.is_complex() else c.real, op.f)


@expm_of.register
def _(op: LowRank) -> LinearOperator | None:
    r, n, to = op.rank, op.shape[0], like(op)
    if r == 0:
        return Identity(n, to.dtype)
    if 2 * r > n:
        return None
    u, v = op.left.to(to), op.right.to(to)
    x = v @ u
    eye = torch.eye(r, dtype=x.dtype, device=x.device).expand_as(x)
    above, below = torch.cat([x, eye], -1), x.new_zeros(*x.shape[:-1], 2 * r)
    phi = torch.linalg.matrix_exp(torch.cat([above, below], -2))[..., :r, r:]
    return Identity(n, to.dtype) + LowRank(u @ phi, v)


@expm_of.register
def _(op: Transpose) -> LinearOperator | None:
    inner = expm_of(op.children[0])
    return None if inner is None else inner.T


@expm_of.register
def _(op: Scaled) -> LinearOperator | None:
    inner = op.children[0]
    if diagonal_known(op):
        return Diagonal(diagonal_of(op, 0, like(op)).value.exp())
    within = pushed(op, inner)
    return None if within is None else expm_of(within)


def pushed(op: Scaled, inner: LinearOperator) -> LinearOperator | None:
    """alpha A with the factor inside A, for the classes whose exponential is asked for inside."""
    to, alpha = like(op), op.alpha

    def times(t: Tensor, event: int) -> Tensor:
        if not op.tensors:
            return torch.mul(t.to(to), alpha)
        return torch.mul(t.to(to), alpha.to(to)[(..., *[None] * event)])

    match inner:
        case Dense():
            return Dense(times(inner.weight, 2))
        case BlockDiagonal():
            out: LinearOperator = BlockDiagonal(times(inner.blocks, 3))
            return out
        case KroneckerSparse():
            return KroneckerSparse(times(inner.values, 4))
        case Circulant():
            return Circulant(times(inner.c, 1), inner.f)
        case LowRank():
            return LowRank(times(inner.left, 2), inner.right)
        case Scaled():
            child = pushed(inner, inner.children[0])
            return None if child is None else Scaled(alpha, child)
        case Transpose():
            return Transpose(Scaled(alpha, inner.children[0]))
        case Sum() | DirectSum():
            return type(inner)(*(Scaled(alpha, c) for c in inner.children))
    return None


@expm_of.register
def _(op: DirectSum) -> LinearOperator | None:
    if any(m != n for m, n in (c.shape for c in op.children)):
        return None
    parts = [expm_of(c) for c in op.children]
    known = [p for p in parts if p is not None]
    return DirectSum(*known) if len(known) == len(parts) else None


@expm_of.register
def _(op: Sum) -> LinearOperator | None:
    if diagonal_known(op):
        return Diagonal(diagonal_of(op, 0, like(op)).value.exp())
    rest, shifts = shifted(op)
    inner = expm_of(rest) if rest is not None and shifts else None
    if inner is None:
        return None
    by = diagonal_of(Sum(*shifts), 0, like(op)).value[..., 0]
    return Scaled(by.exp(), inner)
