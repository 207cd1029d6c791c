"""What determinants, spectra and norms ask of a structure, beyond :mod:`structmat.properties`."""

from __future__ import annotations

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, KroneckerSum, Scaled, Sum, Transpose
from structmat.leaves.convolution import Convolution
from structmat.leaves.diagonal import Diagonal, Identity
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.real_fourier import RDFT
from structmat.leaves.toeplitz import Circulant
from structmat.leaves.trigonometric import Trigonometric
from structmat.linalg.entries import scalar
from structmat.operator import LinearOperator
from structmat.properties import is_diagonal, is_hermitian, unitary_scale

__all__ = [
    "diagonal_known", "ends", "involution", "is_normal", "lengths", "modulus", "shifted",
    "weighted",
]  # fmt: skip


def diagonal_known(op: LinearOperator) -> bool:
    """Whether the operator is square and its structure says that it is diagonal."""
    return op.shape[0] == op.shape[1] and is_diagonal(op) is True


def is_normal(op: LinearOperator) -> bool:
    """Whether the structure says A A^H = A^H A: singular values are moduli of eigenvalues."""
    match op:
        case Diagonal():
            return True
        case Circulant():
            return abs(op.f) == 1
        case Convolution():
            return op.mode == "circular"
        case Scaled() | Transpose():
            return is_normal(op.children[0])
        case Kronecker() | DirectSum() | KroneckerSum() if all(map(is_normal, op.children)):
            return True
        case Sum():
            rest, shifts = shifted(op)
            if shifts and rest is not None and is_normal(rest):
                return True
    return op.shape[0] == op.shape[1] and (
        is_hermitian(op) is True or unitary_scale(op) is not None
    )


def involution(op: LinearOperator) -> float | None:
    """s > 0 with A A = s^2 I, for a real symmetric orthogonal matrix up to its scale."""
    if not isinstance(op, Hadamard | Trigonometric) or op._transpose() is not op or op.n == 0:
        return None
    return unitary_scale(op)


def modulus(op: Scaled, to: Tensor, event: int) -> Tensor:
    """|alpha| of a scaled operator, real, with ``event`` dimensions behind its batch."""
    alpha = scalar(op, to, event)
    return alpha.abs() if isinstance(alpha, Tensor) else to.new_tensor(abs(alpha)).abs()


def ends(n: int, weights: tuple[float, float], to: Tensor) -> Tensor:
    """The vector of ones whose first and last entries are multiplied by the weights."""
    out = to.new_ones(n).abs()
    if n:
        at = torch.arange(n, device=to.device)
        out = torch.where(at == 0, out * weights[0], out)
        out = torch.where(at == n - 1, out * weights[1], out)
    return out


def weighted(op: Trigonometric) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """(scale, left, right) with op = scale diag(left) O diag(right), O orthogonal.

    The weights are those of the ends of the diagonals; the rest of them is ones.
    """
    ortho = op._replace({}, (), {**op.static, "norm": "ortho"})
    (a, b), (c, d) = op._ends()
    (a0, b0), (c0, d0) = ortho._ends()
    right, left = (a / a0, b / b0), (c / c0, d / d0)
    if op.transposed:
        left, right = right, left
    return op.factor() / ortho.factor(), left, right


def lengths(op: RDFT, to: Tensor) -> Tensor:
    """The lengths of the rows of a real Fourier transform, or of the columns of its inverse.

    R = diag(lengths) O for an orthogonal O.
    """
    row = torch.arange(op.n, device=to.device)
    frequency = (row + 1) // 2
    alone = (frequency == 0) | (2 * frequency == op.n)
    real = to.abs().dtype
    plain = torch.where(alone, op.n, op.n / 2).to(real).sqrt() * op.factor()
    return plain * torch.where(alone, 1, 2) if op.inverse else plain


def shifted(op: LinearOperator) -> tuple[LinearOperator | None, list[LinearOperator]]:
    """(rest, shifts) with op = rest + sum of the shifts, each of them a multiple of I."""
    if not isinstance(op, Sum):
        return op, []
    shifts = [c for c in op.children if _multiple_of_identity(c)]
    rest = [c for c in op.children if not _multiple_of_identity(c)]
    return (Sum(*rest) if len(rest) > 1 else rest[0] if rest else None), shifts


def _multiple_of_identity(op: LinearOperator) -> bool:
    match op:
        case Identity():
            return True
        case Scaled() | Transpose():
            return _multiple_of_identity(op.children[0])
    return False
