"""CoLA's operators as ours, and ours as CoLA's.

Source: Potapczynski, Finzi, Pleiss, Wilson, CoLA: exploiting compositional structure for automatic
and efficient numerical linear algebra (NeurIPS 2023); the package ``cola-ml``, torch backend.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, KroneckerSum, Product, Sum, hstack, vstack
from structmat.interop import refuse_matrices, require
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Diagonal, Identity
from structmat.leaves.fourier import DFT
from structmat.leaves.permutation import Permutation
from structmat.leaves.sparse import Sparse
from structmat.operator import LinearOperator
from structmat.properties import assume, is_hermitian, is_psd, is_unitary

__all__ = ["from_cola", "to_cola"]


def from_cola(op: Any) -> LinearOperator:
    """The operator of a ``cola.ops.LinearOperator`` on torch tensors, which it shares.

    Args:
        op: Dense, Triangular, Diagonal, Tridiagonal, ScalarMul, Identity, Permutation, Sparse, FFT,
            Householder, BlockDiag, Concatenated, Kronecker, KronSum, Product, Sum, Sliced,
            Transpose, Adjoint, in any composition; or an operator that :func:`to_cola` made.
            The annotations SelfAdjoint, PSD and Unitary become declared properties.

    Raises:
        MissingExtra: CoLA is not installed.
        TypeError: another class, or arrays that are not torch tensors; a tensor, which is
            :class:`structmat.Dense` only if you say so.
    """
    cola: Any = require("cola", "interop")
    refuse_matrices("from_cola", op, "CoLA")
    if not isinstance(op, cola.ops.LinearOperator):
        raise TypeError(f"from_cola: {type(op).__name__} is no cola.ops.LinearOperator")
    found = _converted(op)
    names = {a.__name__ for a in getattr(op, "annotations", ())}
    return assume(
        found,
        hermitian="SelfAdjoint" in names,
        psd="PSD" in names,
        unitary="Unitary" in names,
    )


def _converted(op: Any) -> LinearOperator:
    ours = getattr(op, "structmat", None)
    if isinstance(ours, LinearOperator):
        return ours
    parts = [from_cola(m) if not isinstance(m, Tensor) else Dense(m) for m in getattr(op, "Ms", ())]
    match type(op).__name__.partition("[")[0]:  # Kronecker[Dense, Dense]
        case "Dense":
            return Dense(_tensor(op.A))
        case "Triangular":
            return assume(Dense(_tensor(op.A)), triangular="lower" if op.lower else "upper")
        case "Diagonal":
            return Diagonal(_tensor(op.diag))
        case "Tridiagonal":
            return _tridiagonal(*(_tensor(v).reshape(-1) for v in (op.alpha, op.beta, op.gamma)))
        case "ScalarMul":
            return Identity(op.shape[0], op.dtype) * _tensor(op.c)
        case "Identity":
            return Identity(op.shape[0], op.dtype)
        case "Permutation":
            return Permutation(op.perm, op.dtype)
        case "Sparse":
            at = (op.row_indices, op.col_indices)
            return Sparse((_tensor(op.data), at), shape=tuple(op.shape))
        case "FFT":
            return DFT(op.shape[0], "ortho", op.dtype)
        case "Householder":
            v = _tensor(op.vec).reshape(-1, 1)
            return Identity(v.shape[0]) - Product(Dense(v), Dense(v.mH)) * _tensor(op.beta)
        case "BlockDiag":
            many = zip(parts, op.multiplicities, strict=True)
            return DirectSum(*(p for p, k in many for _ in range(k)))
        case "Concatenated":
            parts = [from_cola(m) for m in op.Ms]
            return hstack(*parts) if op.axis == 1 else vstack(*parts)
        case "Kronecker":
            return Kronecker(*parts)
        case "KronSum":
            return KroneckerSum(*parts)
        case "Product":
            return Product(*parts)
        case "Sum":
            return Sum(*parts)
        case "Sliced":
            rows, columns = op.slices
            cut: LinearOperator = from_cola(op.A)[rows, columns]
            return cut
        case "Transpose":
            return from_cola(op.A).T
        case "Adjoint":
            return from_cola(op.A).H
    raise TypeError(
        f"from_cola: {type(op).__name__} has no counterpart; its matrix, where it is small, is "
        "sm.Dense(op.to_dense())"
    )


def to_cola(A: LinearOperator) -> Any:
    """The operator as a ``cola.ops.LinearOperator`` that runs the fast algorithm.

    Args:
        A: one operator. What is known of it (Hermitian, semidefinite, unitary) becomes CoLA's
            annotations, from which CoLA chooses its algorithms.

    Raises:
        MissingExtra: CoLA is not installed.
        ValueError: A is a batch of operators.
    """
    if not isinstance(A, LinearOperator):
        raise TypeError(f"to_cola: {type(A).__name__} is not an operator; wrap it: sm.Dense(W)")
    cola: Any = require("cola", "interop")
    if A.batch_shape:
        raise ValueError(
            f"to_cola: {A._label()} is a batch of shape {A.batch_shape}; CoLA's operators are "
            "single matrices"
        )
    out = cola.ops.LinearOperator(dtype=A.dtype, shape=A.shape, matmat=A.__matmul__)
    out.device = A.device
    out._rmatmat = A.__rmatmul__
    out.structmat = A
    for known, annotation in (
        (is_hermitian(A), cola.SelfAdjoint),
        (is_psd(A), cola.PSD),
        (is_unitary(A), cola.Unitary),
    ):
        if known:
            out.annotations = out.annotations | {annotation}
    return out


def _tridiagonal(below: Tensor, middle: Tensor, above: Tensor) -> LinearOperator:
    n = middle.shape[0]
    i = list(range(n))
    rows, columns = [*i[1:], *i, *i[:-1]], [*i[:-1], *i, *i[1:]]
    return Sparse((torch.cat([below, middle, above]), (rows, columns)), shape=(n, n))


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"from_cola: numbers are {type(value).__name__}, not torch tensors; build the CoLA "
            "operator with its torch backend"
        )
    return value
