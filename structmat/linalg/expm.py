"""The exponential of a matrix as an operator, where structure closes it.

    expm(diag(d)) = diag(exp d)       expm(Z_f(c)) = Z_f of the exponential of its spectrum
    expm(diag(A, B)) = diag(expm A, expm B)      expm(A + k I) = exp(k) expm A
    expm(alpha Q) = cosh(alpha s) I + sinh(alpha s) / s Q  for a symmetric orthogonal Q / s
    expm(I (x) A) = I (x) expm A
    expm(A^T) = (expm A)^T                       expm(A (+) B) = expm A (x) expm B
    expm(U V) = I + U phi(V U) V,  phi(X) = X^-1 (expm X - I), a block of expm [[X, I], [0, 0]]

(Higham, Functions of matrices, 2008, sections 1.2 and 10.7.) Dense blocks go through
``torch.linalg.matrix_exp``. On vectors, see :mod:`structmat.linalg.action`.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Scaled, Sum, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.toeplitz import Circulant
from structmat.leaves.trigonometric import Trigonometric
from structmat.linalg.answer import like, need_square, not_an_operator
from structmat.linalg.diagonal import diagonal_of
from structmat.linalg.entries import scalar
from structmat.linalg.spectrum_leaves import circulant_spectrum
from structmat.linalg.structure import diagonal_known, involution, shifted
from structmat.operator import LinearOperator
from structmat.tracing import whole

__all__ = ["expm", "expm_of", "pushed"]


@whole
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
    found = expm_of(A, like(A))
    if found is None:
        simpler = A.simplify()
        found = expm_of(simpler, like(A))
    if found is None:
        raise ValueError(
            f"expm: {A._label()} has no exponential of known structure; apply it to vectors, "
            "sm.expm_multiply(A, x), or take the dense matrix, sm.expm(sm.Dense(A.to_dense()))"
        )
    return found


# the structures ---------------------------------------------------------------------------------


def exponential(x: Tensor) -> Tensor:
    """Of dense matrices, by ``torch.linalg.matrix_exp``.

    A matrix alone takes a path of torch (2.13) that leaves errors of 1e-11 for norms near 0.03 in
    float64; one of several does not, so a zero matrix goes with it.
    """
    out: Tensor = torch.linalg.matrix_exp(torch.stack([x, torch.zeros_like(x)]))
    return out[0]


@singledispatch
def expm_of(op: LinearOperator, to: Tensor) -> LinearOperator | None:
    """The rule behind :func:`expm`: None where the exponential has no known structure."""
    return Diagonal(diagonal_of(op, 0, to).value.exp()) if diagonal_known(op) else None


@expm_of.register
def _(op: Zero, to: Tensor) -> LinearOperator:
    return Identity(op.n, to.dtype)


@expm_of.register
def _(op: Dense, to: Tensor) -> LinearOperator:
    return Dense(exponential(op.weight.to(to)))


@expm_of.register
def _(op: BlockDiagonal, to: Tensor) -> LinearOperator:
    out: LinearOperator = BlockDiagonal(exponential(op.blocks.to(to)))
    return out


@expm_of.register
def _(op: KroneckerSparse, to: Tensor) -> LinearOperator:
    # (a, d, b, b): the same reordering of rows and of columns
    blocks = op.values.to(to).movedim(-1, -3).contiguous()
    return KroneckerSparse(exponential(blocks).movedim(-3, -1))


@expm_of.register
def _(op: Circulant, to: Tensor) -> LinearOperator | None:
    n = op.shape[0]
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
def _(op: LowRank, to: Tensor) -> LinearOperator | None:
    r, n = op.rank, op.shape[0]
    if r == 0:
        return Identity(n, to.dtype)
    if 2 * r > n:
        return None
    u, v = op.left.to(to), op.right.to(to)
    x = v @ u
    eye = torch.eye(r, dtype=x.dtype, device=x.device).expand_as(x)
    above, below = torch.cat([x, eye], -1), x.new_zeros(*x.shape[:-1], 2 * r)
    phi = exponential(torch.cat([above, below], -2))[..., :r, r:]
    return Identity(n, to.dtype) + LowRank(u @ phi, v)


@expm_of.register
def _(op: Transpose, to: Tensor) -> LinearOperator | None:
    inner = expm_of(op.children[0], to)
    return None if inner is None else inner.T


@expm_of.register
def _(op: Scaled, to: Tensor) -> LinearOperator | None:
    inner = op.children[0]
    if diagonal_known(op):
        return Diagonal(diagonal_of(op, 0, to).value.exp())
    size = involution(inner)
    if size is not None:
        return _of_involution(scalar(op, to, 0), inner, size, to)
    within = pushed(inner, op)
    return None if within is None else expm_of(within, to)


@expm_of.register(Hadamard)
@expm_of.register(Trigonometric)
def _(op: Hadamard | Trigonometric, to: Tensor) -> LinearOperator | None:
    size = involution(op)
    return None if size is None else _of_involution(1.0, op, size, to)


def _of_involution(
    alpha: Tensor | complex, op: LinearOperator, size: float, to: Tensor
) -> LinearOperator:
    angle = alpha * size if isinstance(alpha, Tensor) else to.new_tensor(alpha * size)
    return Scaled(angle.cosh(), Identity(op.shape[0])) + Scaled(angle.sinh() / size, op)


@expm_of.register
def _(op: Kronecker, to: Tensor) -> LinearOperator | None:
    # I (x) A (x) I: the exponential of A in its place
    others = [k for k, c in enumerate(op.children) if not isinstance(c, Identity)]
    if len(others) != 1:
        return None
    inner = expm_of(op.children[others[0]], to)
    parts = list(op.children)
    return inner and Kronecker(*parts[: others[0]], inner, *parts[others[0] + 1 :])


@singledispatch
def pushed(inner: LinearOperator, op: Scaled) -> LinearOperator | None:
    """``op``, alpha times ``inner``, with the factor inside; None where it stays outside."""
    return None


def _times(op: Scaled, t: Tensor, event: int) -> Tensor:
    return torch.mul(t.to(like(op)), scalar(op, like(op), event))


@pushed.register
def _(inner: Dense, op: Scaled) -> LinearOperator:
    return Dense(_times(op, inner.weight, 2))


@pushed.register
def _(inner: BlockDiagonal, op: Scaled) -> LinearOperator:
    out: LinearOperator = BlockDiagonal(_times(op, inner.blocks, 3))
    return out


@pushed.register
def _(inner: KroneckerSparse, op: Scaled) -> LinearOperator:
    return KroneckerSparse(_times(op, inner.values, 4))


@pushed.register
def _(inner: Circulant, op: Scaled) -> LinearOperator:
    return Circulant(_times(op, inner.c, 1), inner.f)


@pushed.register
def _(inner: LowRank, op: Scaled) -> LinearOperator:
    return LowRank(_times(op, inner.left, 2), inner.right)


@pushed.register
def _(inner: Scaled, op: Scaled) -> LinearOperator | None:
    within = pushed(inner.children[0], inner)
    return None if within is None else Scaled(op.alpha, within)


@pushed.register
def _(inner: Transpose, op: Scaled) -> LinearOperator:
    return Transpose(Scaled(op.alpha, inner.children[0]))


@pushed.register
def _(inner: Kronecker, op: Scaled) -> LinearOperator | None:
    others = [k for k, c in enumerate(inner.children) if not isinstance(c, Identity)]
    if len(others) != 1:
        return None
    parts = list(inner.children)
    parts[others[0]] = Scaled(op.alpha, parts[others[0]])
    return Kronecker(*parts)


@pushed.register(Sum)
@pushed.register(DirectSum)
def _(inner: Sum | DirectSum, op: Scaled) -> LinearOperator:
    return type(inner)(*(Scaled(op.alpha, c) for c in inner.children))


@expm_of.register
def _(op: DirectSum, to: Tensor) -> LinearOperator | None:
    if any(m != n for m, n in (c.shape for c in op.children)):
        return None
    parts = [expm_of(c, to) for c in op.children]
    known = [p for p in parts if p is not None]
    return DirectSum(*known) if len(known) == len(parts) else None


@expm_of.register
def _(op: Sum, to: Tensor) -> LinearOperator | None:
    if diagonal_known(op):
        return Diagonal(diagonal_of(op, 0, to).value.exp())
    rest, shifts = shifted(op)
    inner = expm_of(rest, to) if rest is not None and shifts else None
    if inner is None:
        return None
    by = diagonal_of(Sum(*shifts), 0, to).value[..., 0]
    return Scaled(by.exp(), inner)
