"""The Moore-Penrose pseudoinverse by structure.

    (A (x) B)^+ = A^+ (x) B^+      diag(A, B)^+ = diag(A^+, B^+)      (alpha A)^+ = A^+ / alpha
    (U V)^+ = Q_2 (R_1 R_2^H)^+ Q_1^H,    U = Q_1 R_1,  V^H = Q_2 R_2
    (Q A P)^+ = P^H A^+ Q^H for unitary Q, P          a circulant's: 1 / s for nonzero s

Singular values below rcond times the largest count as zero (of each block, for blocks). Unlike the
inverse it looks at numbers, and what is not listed is computed from the singular values of the
dense matrix. Source: Golub and Van Loan, Matrix computations, section 5.5.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Zero
from structmat.leaves.toeplitz import Circulant
from structmat.linalg.implicit import need_finite
from structmat.linalg.inverse import Inverse, unitary_inverse
from structmat.operator import LinearOperator
from structmat.properties import is_unitary
from structmat.tracing import blind, whole

__all__ = ["LARGEST", "matrix_pinv", "pinv", "structured_pinv"]

LARGEST = 2048
"""The largest side of a matrix that becomes dense for its pseudoinverse."""


@whole
def pinv(A: LinearOperator, rcond: float | None = None) -> LinearOperator:
    """The pseudoinverse: A^+ b is the least-squares solution of A x = b of smallest norm.

    Args:
        A: any operator, or a batch of them.
        rcond: what counts as zero, relative to the largest singular value; by default
            max(m, n) eps.

    Returns:
        An operator of shape (n, m), of the structure of A where it has one.

    Raises:
        TypeError: A is not an operator.
        ValueError: A has no structure that serves and is too large to become dense.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.kron(sm.Diagonal(torch.tensor([2.0, 0.0])), sm.LowRank([[1.0], [1.0]], [[1.0]]))
        >>> sm.pinv(A)
        kron(Diagonal(2), LowRank(1x2, rank=1))
          2x4 float32, 5 params, 10 flops
        >>> sm.pinv(A).to_dense()
        tensor([[0.2500, 0.2500, 0.0000, 0.0000],
                [0.0000, 0.0000, 0.0000, 0.0000]])
    """
    if not isinstance(A, LinearOperator):
        raise TypeError(f"pinv: {type(A).__name__} is not an operator; wrap it: sm.Dense(W)")
    A._require_numbers()
    need_finite("pinv", A)
    if rcond is None:
        rcond = max(*A.shape, 1) * torch.finfo(A.dtype).eps
    if A.strong_dtype is not None:
        A = _settled(A, A.strong_dtype)
    found = structured_pinv(A, rcond)
    if found is not None:
        return found
    if max(A.shape) > LARGEST:
        raise ValueError(
            f"pinv: {A._label()} has no structure that gives a pseudoinverse, and {A.shape} is "
            f"more than {LARGEST} a side to become dense; sm.solve(A, b) finds A^+ b by lsmr, and "
            "sm.Dense(torch.linalg.pinv(A.to_dense())) goes ahead"
        )
    return Dense(matrix_pinv(A.to_dense(), rcond))


def _settled(op: LinearOperator, dtype: torch.dtype) -> LinearOperator:
    """``op`` with the dtype of the whole in the parts without one whose numbers are looked at."""
    if op.strong_dtype is None:
        real = dtype.to_real() if dtype.is_complex else dtype
        return op if unitary_inverse(op) is not None else op.to(real)
    children = [_settled(c, dtype) for c in op.children]
    if all(a is b for a, b in zip(children, op.children, strict=True)):
        return op
    return op._replace(op.tensors, children, op.static)._assuming(op.assumed)


def matrix_pinv(w: Tensor, rcond: float) -> Tensor:
    """``torch.linalg.pinv(w, rtol=rcond)``, right also for complex numbers in a mode of torch.

    There, and so where torch.compile runs its graphs, torch 2.13 forgets a conjugate inside its
    kernel: https://github.com/pytorch/pytorch/issues/198118. With X + iY as the real matrix
    [[X, -Y], [Y, X]] adjoints and products are those of real matrices, hence pseudoinverses too.
    """
    if not (w.is_complex() and blind()):
        out: Tensor = torch.linalg.pinv(w, rtol=rcond)
        return out
    x, y = w.real, w.imag
    real = torch.cat([torch.cat([x, -y], -1), torch.cat([y, x], -1)], -2)
    m, n = w.shape[-2:]
    columns = torch.linalg.pinv(real, rtol=rcond)[..., :m]
    return torch.complex(columns[..., :n, :], columns[..., n:, :])


@singledispatch
def structured_pinv(op: LinearOperator, rcond: float) -> LinearOperator | None:
    """The pseudoinverse by class; None where the class has none of its own."""
    return unitary_inverse(op)


@structured_pinv.register
def _(op: Dense, rcond: float) -> LinearOperator:
    return Dense(matrix_pinv(op.weight, rcond))


@structured_pinv.register
def _(op: Zero, rcond: float) -> LinearOperator:
    return op._transpose()


def _reciprocal(d: Tensor, rcond: float) -> Tensor:
    """1 / d, 0 where d is nothing beside the largest entry; also its derivative is that."""
    size = d.abs()
    zero = size <= rcond * size.amax(-1, keepdim=True) if d.shape[-1] else size > 0
    return torch.where(zero, torch.zeros_like(d), 1 / torch.where(zero, 1, d))


@structured_pinv.register
def _(op: Diagonal, rcond: float) -> LinearOperator:
    return Diagonal(_reciprocal(op.d, rcond))


@structured_pinv.register
def _(op: Circulant, rcond: float) -> LinearOperator | None:
    if op.f != 1 or op.shape[0] == 0:
        return None
    c = torch.fft.ifft(_reciprocal(torch.fft.fft(op.c), rcond))
    return Circulant(c if op.c.is_complex() else c.real)


@structured_pinv.register
def _(op: BlockDiagonal, rcond: float) -> LinearOperator:
    out: LinearOperator = BlockDiagonal(matrix_pinv(op.blocks, rcond))
    return out


@structured_pinv.register
def _(op: KroneckerSparse, rcond: float) -> LinearOperator:
    blocks = matrix_pinv(op.values.movedim(-1, -3), rcond)
    return KroneckerSparse(blocks.movedim(-3, -1))


@structured_pinv.register
def _(op: LowRank, rcond: float) -> LinearOperator:
    dtype = op.dtype
    q, r = torch.linalg.qr(op.left.to(dtype))
    p, s = torch.linalg.qr(op.right.to(dtype).mH)
    core = matrix_pinv(r @ s.mH, rcond)
    return LowRank(p @ core, q.mH)


@structured_pinv.register
def _(op: Inverse, rcond: float) -> LinearOperator:
    return op.children[0]


@structured_pinv.register
def _(op: Transpose, rcond: float) -> LinearOperator:
    return pinv(op.children[0], rcond).T


@structured_pinv.register
def _(op: Scaled, rcond: float) -> LinearOperator:
    child = op.children[0]
    if not op.tensors:
        if op.alpha == 0:
            return op._transpose()  # with its batch
        return Scaled(1 / op.alpha, pinv(child, rcond))
    zero = op.alpha == 0
    alpha = torch.where(zero, torch.zeros_like(op.alpha), 1 / torch.where(zero, 1, op.alpha))
    return Scaled(alpha, pinv(child, rcond))


@structured_pinv.register(Kronecker)
@structured_pinv.register(DirectSum)
def _(op: LinearOperator, rcond: float) -> LinearOperator:
    return op._replace({}, [pinv(c, rcond) for c in op.children], {})


@structured_pinv.register
def _(op: Product, rcond: float) -> LinearOperator | None:
    """Unitary factors on the left and on the right come out."""
    left: list[LinearOperator] = []
    right: list[LinearOperator] = []
    middle = list(op.children)
    while len(middle) > 1 and is_unitary(middle[0]):
        left.append(middle.pop(0).H)
    while len(middle) > 1 and is_unitary(middle[-1]):
        right.append(middle.pop().H)
    if not left and not right:
        return None
    inner = middle[0] if len(middle) == 1 else Product(*middle)
    return Product(*right, pinv(inner, rcond), *reversed(left))
