"""A + alpha I by the structure of A, where a multiple of the identity keeps it.

    constant diagonals     alpha is added to the diagonal: Toeplitz, convolutions, state spaces
    blocks                 alpha is added to the diagonal blocks, each by its own structure
    I (x) A + alpha I      = I (x) (A + alpha I)
    A^-1 + alpha I         = A^-1 (I + alpha A)
    A A = s I              (A + alpha I)^-1 = (A - alpha I) / (s - alpha^2)
    Fourier matrices       F F = s J with the permutation J of index to -index, J J = I, so that
                           (F + alpha I)^-1 = (s J + alpha^2 I) (F - alpha I) / (s^2 - alpha^4)

Terms with few entries add up to a sparse matrix: permutations, diagonals, block-diagonal and sparse
leaves, Kronecker products of them. Diagonal, block-diagonal, circulant and displacement leaves take
the identity by the rules of ``simplify``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.compose import Block, DirectSum, Kronecker, KroneckerSum, Scaled, Sum, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.companion import Companion
from structmat.leaves.convolution import Convolution
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.permutation import Permutation
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.leaves.statespace import StateSpace
from structmat.leaves.toeplitz import Circulant, Toeplitz, join
from structmat.linalg.inverse import Inverse, unitary_inverse
from structmat.linalg.plan import Plan
from structmat.linalg.spectral import split_shift
from structmat.linalg.toeplitz import banded, wrapped_kernel
from structmat.operator import LinearOperator
from structmat.sparsity import as_sparse

__all__ = ["powers_plan", "shifted_structure", "sparse_sum"]

Shift = Tensor | complex
"""A number, or a tensor of the batch."""

FULL = 8
"""A sum with more than one entry in so many places is not worth the methods of sparse matrices."""


def shifted_structure(op: Sum) -> LinearOperator | None:
    """An operator equal to alpha I + A whose structure has methods of its own, or None."""
    split = split_shift(op)
    return None if split is None else _moved(split[1], split[0])


def _moved(op: LinearOperator, alpha: Shift) -> LinearOperator | None:
    """A + alpha I, where the identity moves into A."""
    if op.shape[0] != op.shape[1] or op.shape[0] == 0:
        return None
    match op:
        case Circulant():
            return Circulant(_first(op.c, alpha), op.f)
        case Toeplitz():
            return Toeplitz(_first(op.c, alpha), op.row)
        case Convolution():
            return _convolution(op, alpha)
        case StateSpace():
            direct = op.tensors.get("D", torch.zeros((), dtype=op.dtype, device=op.device))
            return op._replace({**op.tensors, "D": direct + alpha}, (), op.static)
        case Transpose():
            inner = _moved(op.children[0], alpha)
            return None if inner is None else Transpose(inner)
        case Scaled() if not op.tensors and op.alpha != 0:
            inner = _moved(op.children[0], alpha / op.alpha)
            return None if inner is None else Scaled(op.alpha, inner)
        case Inverse():
            child = op.children[0]
            return op @ Sum(Identity(op.shape[0]), Scaled(alpha, child))
        case DirectSum() if all(c.shape[0] == c.shape[1] for c in op.children):
            return DirectSum(*(_sum(c, alpha) for c in op.children))
        case Block() if op.heights == op.widths:
            rows = [list(row) for row in op.rows()]
            for i, row in enumerate(rows):
                row[i] = _sum(row[i], alpha)
            return Block(rows)
        case Kronecker():
            return _lifted(op, alpha)
    return None


def _lifted(op: Kronecker, alpha: Shift) -> LinearOperator | None:
    """I (x) (A + alpha I) (x) I, where all factors but one are identities."""
    parts = list(op.children)
    others = [i for i, c in enumerate(parts) if not isinstance(c, Identity)]
    if len(others) != 1 or parts[others[0]].shape[0] != parts[others[0]].shape[1]:
        return None
    parts[others[0]] = _sum(parts[others[0]], alpha)
    return Kronecker(*parts)


def _convolution(op: Convolution, alpha: Shift) -> LinearOperator | None:
    if op.mode == "circular":
        kernel = wrapped_kernel(op)
        flat = _first(kernel.flatten(-len(op.n)), alpha)
        return op._replace({"kernel": flat.unflatten(-1, op.n)}, (), op.static)
    if len(op.n) > 1:
        return None
    inner = banded(op)
    moved = _moved(inner, alpha)
    turned = op.transposed and isinstance(inner, Circulant)
    return Transpose(moved) if turned and moved is not None else moved


def _first(v: Tensor, alpha: Shift) -> Tensor:
    """v with alpha added to its first entry."""
    head = v[..., :1] + (alpha[..., None] if isinstance(alpha, Tensor) else alpha)
    return join(head, v[..., 1:])


def _sum(op: LinearOperator, alpha: Shift) -> LinearOperator:
    """A + alpha I, by whatever structure it has."""
    if op.shape[0] == 0:
        return op
    return _moved(op, alpha) or Sum(op, Scaled(alpha, Identity(op.shape[0]))).simplify()


# powers that return ------------------------------------------------------------------------------


def powers_plan(op: Sum) -> Plan | None:
    """alpha I + A for A with A A = s I, or a Fourier matrix."""
    split = split_shift(op)
    if split is None:
        return None
    alpha, core = split
    factor: Shift = 1
    while isinstance(core, Scaled):
        factor, core = factor * core.alpha, core.children[0]
    n = core.shape[0]
    square = _square(core)
    if n == 0 or square is None:
        return None
    s, flip = square

    def run(b: Tensor) -> Tensor:
        a, c = (_column(v, b) for v in (alpha, factor))
        y = c * (core @ b) - a * b
        if not flip:
            return y / (c * c * s - a * a)
        turned = torch.cat([y[..., :1, :], y[..., 1:, :].flip(-2)], -2)
        size = c * c * s
        return (size * turned + a * a * y) / (size * size - a * a * a * a)

    mults, adds = core.operations()
    return Plan("powers that return", run, (mults + 4 * n, adds + 2 * n), refine=True)


def _column(v: Shift, b: Tensor) -> Tensor | complex:
    return v.to(b.dtype)[..., None, None] if isinstance(v, Tensor) else v


def _square(op: LinearOperator) -> tuple[float, bool] | None:
    """(s, flip) with A A = s I, or s J where ``flip``; None where neither is known."""
    if isinstance(op, DFT):
        return op.n * op.factor() ** 2, True
    inverse = unitary_inverse(op)
    if inverse is None:
        return None
    scale: complex = 1
    while isinstance(inverse, Scaled) and not inverse.tensors:
        scale, inverse = scale * inverse.alpha, inverse.children[0]
    same = not op.tensors and inverse.structure == op.structure
    return (float((1 / scale).real), False) if same else None


# sparse ------------------------------------------------------------------------------------------


def sparse_sum(op: Sum) -> Sparse | None:
    """The sum as one sparse matrix, where its terms have few entries each."""
    counts = [_entries(c) for c in op.children]
    known = [c for c in counts if c is not None]
    m, n = op.shape
    if len(known) < len(counts) or FULL * sum(known) > m * n:
        return None
    return as_sparse(op)


def _entries(op: LinearOperator) -> int | None:
    """How many entries are stored, for what is sparse by its class."""
    match op:
        case Sparse() | BlockSparse():
            return op.nnz if isinstance(op, Sparse) else op.pattern.nnz * op.block[0] * op.block[1]
        case Diagonal() | Identity() | Permutation():
            return op.shape[0]
        case Companion():
            return 2 * op.shape[0]
        case Zero():
            return 0
        case BlockDiagonal():
            k, q, p = op.blocks.shape[-3:]
            return k * q * p
        case KroneckerSparse():
            a, b, c, d = op.pattern
            return a * b * c * d
        case Transpose() | Scaled():
            return _entries(op.children[0])
        case Kronecker() | DirectSum() | KroneckerSum():
            found = [_entries(c) for c in op.children]
            known = [c for c in found if c is not None]
            if len(known) < len(found):
                return None
            if isinstance(op, DirectSum):
                return sum(known)
            if isinstance(op, KroneckerSum):
                copies = [op.shape[0] // max(c.shape[0], 1) for c in op.children]
                return sum(e * k for e, k in zip(known, copies, strict=True))
            return math.prod(known)
    return None
