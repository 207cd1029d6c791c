"""Operators of the ``linear_operator`` package (GPyTorch's) as ours, and ours as theirs.

Source: https://github.com/cornellius-gp/linear_operator; Gardner, Pleiss, Bindel, Weinberger,
Wilson, GPyTorch (NeurIPS 2018).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, hstack, vstack
from structmat.interop import refuse_matrices, require
from structmat.leaves.block import BlockDiagonal
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.permutation import Permutation, stride_permutation
from structmat.leaves.toeplitz import Toeplitz
from structmat.operator import LinearOperator
from structmat.properties import assume

__all__ = ["from_linear_operator", "to_linear_operator"]


def from_linear_operator(op: Any) -> LinearOperator:
    """The operator of a ``linear_operator.LinearOperator``, on the same tensors.

    Args:
        op: Dense, Diag, ConstantDiag, Identity, Zero, Triangular, Toeplitz, Permutation, BlockDiag,
            Kronecker, Matmul, ConstantMul, Root, Sum, AddedDiag and Cat operators in any
            composition, and their Kronecker, low-rank and Cholesky variants; batches stay batches.
            An operator that :func:`to_linear_operator` made comes back as it was.

    Raises:
        MissingExtra: linear_operator is not installed.
        TypeError: another class; a tensor, which is :class:`structmat.Dense` only if you say so.
    """
    lo: Any = require("linear_operator", "interop").operators
    refuse_matrices("from_linear_operator", op, "linear_operator")
    ours = getattr(op, "structmat", None)
    if isinstance(ours, LinearOperator):
        return ours
    parts = getattr(op, "linear_ops", ())
    match op:
        case lo.ZeroLinearOperator():
            return Zero(op.shape[-2], op.shape[-1], op.dtype)
        case lo.IdentityLinearOperator():
            return Identity(op.shape[-1], op.dtype)
        case lo.KroneckerProductLinearOperator() | lo.KroneckerProductDiagLinearOperator():
            return Kronecker(*map(from_linear_operator, parts))
        case lo.ConstantDiagLinearOperator():
            return Scaled(op.diag_values.squeeze(-1), Identity(op.shape[-1], op.dtype))
        case lo.DiagLinearOperator():
            return Diagonal(op._diag)
        case lo.DenseLinearOperator():
            return Dense(op.tensor)
        case lo.ToeplitzLinearOperator():
            return Toeplitz(op.column)
        case lo.TransposePermutationLinearOperator():
            return stride_permutation(op.n, op.m)
        case lo.PermutationLinearOperator() if op.perm.ndim == 1:
            return Permutation(op.perm, op.dtype)
        case lo.BlockDiagLinearOperator() if isinstance(op.base_linear_op, lo.DenseLinearOperator):
            return BlockDiagonal(op.base_linear_op.tensor)
        case lo.BlockDiagLinearOperator() if op.base_linear_op.dim() == 3:
            blocks = (op.base_linear_op[k] for k in range(op.base_linear_op.shape[0]))
            return DirectSum(*map(from_linear_operator, blocks))
        case lo.CholLinearOperator():  # before its parent, RootLinearOperator: upper is R^T R
            root = from_linear_operator(op.root)
            return Product(root.T, root) if op.upper else Product(root, root.T)
        case lo.TriangularLinearOperator():
            side = "upper" if op.upper else "lower"
            return assume(from_linear_operator(op._tensor), triangular=side)  # type: ignore[arg-type]
        case lo.RootLinearOperator():
            root = from_linear_operator(op.root)
            return Product(root, root.T)
        case lo.MatmulLinearOperator():
            left, right = op.left_linear_op, op.right_linear_op
            return Product(from_linear_operator(left), from_linear_operator(right))
        case lo.ConstantMulLinearOperator():
            return Scaled(op._constant, from_linear_operator(op.base_linear_op))
        case lo.SumBatchLinearOperator():
            pass  # a sum over a batch dimension, no sum of its parts
        case lo.SumLinearOperator():
            return Sum(*map(from_linear_operator, parts))
        case lo.CatLinearOperator() if op.cat_dim in (-1, -2):
            cat = hstack if op.cat_dim == -1 else vstack
            return cat(*map(from_linear_operator, parts))
    if not isinstance(op, lo.LinearOperator):
        raise TypeError(
            f"from_linear_operator: {type(op).__name__} is no linear_operator.LinearOperator"
        )
    raise TypeError(
        f"from_linear_operator: {type(op).__name__} has no counterpart; its matrix, where it is "
        "small, is sm.Dense(op.to_dense())"
    )


def to_linear_operator(A: LinearOperator) -> Any:
    """The operator as a ``linear_operator.LinearOperator`` that runs the fast algorithm.

    Args:
        A: an operator or a batch of them. Its tensors are the arguments of the result, so that
            gradients reach them.

    Raises:
        MissingExtra: linear_operator is not installed.
    """
    if not isinstance(A, LinearOperator):
        raise TypeError(
            f"to_linear_operator: {type(A).__name__} is not an operator; wrap it: sm.Dense(W)"
        )
    lo: Any = require("linear_operator", "interop")
    return _wrapper(lo.LinearOperator)(A)


_WRAPPERS: dict[type, type] = {}
"""The class made for theirs: it cannot be defined before their library is imported."""


def _wrapper(base: Any) -> Any:
    if base not in _WRAPPERS:

        class StructmatLinearOperator(base):  # type: ignore[misc]
            """A structmat operator in linear_operator's clothes."""

            def __init__(self, *tensors: Any, structmat: Any = None) -> None:
                if structmat is None:  # made by to_linear_operator
                    (structmat,) = tensors
                    tensors = tuple(structmat.named_tensors().values())
                shell = structmat._map(lambda t: t.detach().to("meta"), None)
                super().__init__(*tensors, structmat=shell)
                leaves, spec = torch.utils._pytree.tree_flatten(shell)
                assert len(leaves) == len(tensors)
                self.structmat = torch.utils._pytree.tree_unflatten(list(tensors), spec)

            def _matmul(self, rhs: Tensor) -> Tensor:
                y: Tensor = self.structmat.__matmul__(rhs)
                return y

            def _size(self) -> torch.Size:
                return torch.Size((*self.structmat.batch_shape, *self.structmat.shape))

            def _transpose_nonbatch(self) -> Any:
                return StructmatLinearOperator(self.structmat.T)

            @property
            def dtype(self) -> torch.dtype:
                found: torch.dtype = self.structmat.dtype
                return found

            @property
            def device(self) -> torch.device:
                found: torch.device = self.structmat.device
                return found

        _WRAPPERS[base] = StructmatLinearOperator
    return _WRAPPERS[base]
