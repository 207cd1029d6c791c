"""Which expressions are diagonal, orthogonal up to scale, or shifted by a multiple of I.

Three questions that determinants, spectra and norms ask, answered from structure alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.permutation import Permutation
from structmat.leaves.trigonometric import Trigonometric
from structmat.leaves.wavelet import Wavelet
from structmat.linalg.entries import scalar
from structmat.operator import LinearOperator

__all__ = ["ends", "is_diagonal", "modulus", "shifted", "unitary_scale", "weighted"]


def is_diagonal(op: LinearOperator) -> bool:
    """Whether the expression is spelled with diagonal matrices only."""
    match op:
        case Diagonal() | Identity():
            return True
        case Zero():
            return op.m == op.n
        case Scaled() | Transpose() | Sum() | Product():
            return all(map(is_diagonal, op.children))
        case DirectSum() | Kronecker():
            return all(map(is_diagonal, op.children))
    return False


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


def unitary_scale(op: LinearOperator) -> float | None:
    """c > 0 with op = c times a unitary matrix, where structure alone says so."""
    match op:
        case Identity() | Permutation() | Wavelet():
            return 1.0
        case DFT() | Hadamard():
            return op.factor() * math.sqrt(op.n)
        case Trigonometric():
            scale, left, right = weighted(op)
            return scale if left == right == (1.0, 1.0) else None
        case Scaled() if not op.tensors and op.alpha != 0:
            inner = unitary_scale(op.children[0])
            return None if inner is None else abs(op.alpha) * inner
        case Transpose():
            return unitary_scale(op.children[0])
        case Product() | Kronecker():
            scales = [unitary_scale(c) for c in op.children]
            if any(s is None for s in scales):
                return None
            return math.prod(s for s in scales if s is not None)
        case DirectSum():
            found = {unitary_scale(c) for c in op.children if 0 not in c.shape}
            square = all(m == n for m, n in (c.shape for c in op.children))
            return found.pop() if square and len(found) == 1 else None
    return None


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
