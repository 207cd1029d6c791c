"""Operators to and from the sparse matrices of SciPy and torch.

Going out, an expression is multiplied out on its patterns (:func:`structmat.sparsity.as_sparse`):
products, sums, multiples, transposes, Kronecker products and direct sums of sparse, block-sparse,
diagonal, block-diagonal, Kronecker-sparse and dense leaves and permutations. What has no pattern (a
Toeplitz matrix, a low-rank product, a transform) is refused: its matrix is dense. Nothing is made
dense on the way.
"""

from __future__ import annotations

from typing import Any

import scipy.sparse
import torch
from torch import Tensor

from structmat.builder import index_tensor
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.operator import LinearOperator
from structmat.pattern import Pattern
from structmat.sparsity import as_sparse

__all__ = ["from_scipy_sparse", "from_torch_sparse", "to_scipy_sparse", "to_torch_sparse"]


def to_scipy_sparse(op: LinearOperator, format: str = "csr") -> Any:
    """The matrix as a SciPy sparse array.

    Args:
        op: one operator (not a batch) whose leaves have patterns.
        format: ``"csr"``, ``"csc"``, ``"coo"``, ``"bsr"``, ``"dia"``, ``"lil"`` or ``"dok"``. A
            :class:`structmat.BlockSparse` becomes a BSR array with its own blocks.

    Returns:
        A SciPy sparse array on copies of the values. It carries no gradient.

    Raises:
        TypeError: op is no operator, has a part whose matrix is dense, or numbers of 16 bits,
            which SciPy does not have.
        ValueError: a batch of operators, or an unknown format.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Diagonal(torch.tensor([1.0, 2.0])) @ sm.reversal(2)
        >>> to_scipy_sparse(A).toarray()
        array([[0., 1.],
               [2., 0.]], dtype=float32)
    """
    found = _single(op, "to_scipy_sparse", "scipy.sparse.csr_array(A.to_dense())")
    if op.dtype in (torch.bfloat16, torch.float16):
        raise TypeError(f"to_scipy_sparse: SciPy has no {op.dtype}; A.to(torch.float32) first")
    if isinstance(op, BlockSparse) and format == "bsr" and 0 not in op.blocks.shape:
        p = op.pattern
        parts = (_array(op.blocks), p.indices.array().copy(), p.indptr.array().copy())
        return scipy.sparse.bsr_array(parts, shape=op.shape)
    p = found.pattern
    parts = (_array(found.values), p.indices.array().copy(), p.indptr.array().copy())
    return scipy.sparse.csr_array(parts, shape=p.shape).asformat(format)


def to_torch_sparse(op: LinearOperator, layout: torch.layout = torch.sparse_csr) -> Tensor:
    """The matrix as a sparse tensor of torch.

    Args:
        op: one operator (not a batch) whose leaves have patterns.
        layout: ``torch.sparse_csr``, ``torch.sparse_csc``, ``torch.sparse_coo``, or, for a
            :class:`structmat.BlockSparse`, ``torch.sparse_bsr``.

    Returns:
        A sparse tensor on the device of op; gradients reach the tensors of op where torch
        differentiates the layout.

    Raises:
        TypeError: op is no operator, or has a part whose matrix is dense.
        ValueError: a batch of operators, or another layout.

    Example:
        >>> import torch, structmat as sm
        >>> to_torch_sparse(sm.reversal(2), torch.sparse_coo).to_dense()
        tensor([[0., 1.],
                [1., 0.]])
    """
    found = _single(op, "to_torch_sparse", "A.to_dense().to_sparse()")
    device = op.device

    def compressed(make: Any, pattern: Pattern, values: Tensor) -> Tensor:
        starts, indices = (index_tensor(t, device) for t in (pattern.indptr, pattern.indices))
        values = values.contiguous()  # cuSPARSE does not look at their strides
        out: Tensor = make(starts, indices, values, op.shape, check_invariants=False)
        return out

    if layout == torch.sparse_csr:
        return compressed(torch.sparse_csr_tensor, found.pattern, found.values)
    if layout == torch.sparse_csc:
        turned = found._transpose()
        return compressed(torch.sparse_csc_tensor, turned.pattern, turned.values)
    if layout == torch.sparse_bsr and isinstance(op, BlockSparse) and 0 not in op.blocks.shape:
        return compressed(torch.sparse_bsr_tensor, op.pattern, op.blocks)
    if layout == torch.sparse_coo:
        p = found.pattern
        at = torch.stack([index_tensor(t, device) for t in (p.rows, p.indices)])
        return torch.sparse_coo_tensor(
            at, found.values, p.shape, is_coalesced=True, check_invariants=False
        )
    raise ValueError(f"to_torch_sparse: no {layout} of {op._label()}; there are CSR, CSC and COO")


def from_scipy_sparse(matrix: Any) -> LinearOperator:
    """A SciPy sparse array or matrix as an operator.

    Args:
        matrix: of any format. BSR gives a :class:`structmat.BlockSparse`, others a
            :class:`structmat.Sparse`.

    Raises:
        TypeError: not a SciPy sparse matrix, or integers.

    Example:
        >>> import scipy.sparse
        >>> from_scipy_sparse(scipy.sparse.eye_array(3, format="csr"))._label()
        'Sparse(3x3, nnz=3)'
    """
    if not scipy.sparse.issparse(matrix):
        raise TypeError(
            f"from_scipy_sparse: {type(matrix).__name__} is no SciPy sparse matrix; "
            "from_torch_sparse reads sparse tensors, a dense matrix is sm.Dense(W)"
        )
    if matrix.format != "bsr":
        return Sparse(matrix)
    p, q = matrix.blocksize
    blocks = matrix.copy()
    blocks.sum_duplicates()
    grid = (matrix.shape[0] // p, matrix.shape[1] // q)
    return BlockSparse(blocks.data, Pattern.of(grid, blocks.indptr, blocks.indices))


def from_torch_sparse(matrix: Tensor) -> LinearOperator:
    """A sparse tensor of torch as an operator on its values.

    Args:
        matrix: of layout COO, CSR or CSC, a :class:`structmat.Sparse`; or BSR, a
            :class:`structmat.BlockSparse`.

    Raises:
        TypeError: a dense tensor, or integers.
        ValueError: not a matrix.

    Example:
        >>> import torch
        >>> from_torch_sparse(torch.eye(4).to_sparse_bsr((2, 2)))._label()
        'BlockSparse(2 of 2x2 in 2x2)'
    """
    if not isinstance(matrix, Tensor) or matrix.layout == torch.strided:
        raise TypeError(
            f"from_torch_sparse: {type(matrix).__name__} is no sparse tensor; "
            "from_scipy_sparse reads SciPy's sparse matrices, a dense matrix is sm.Dense(W)"
        )
    if matrix.layout != torch.sparse_bsr:
        return Sparse(matrix)
    if matrix.ndim != 2 or matrix.dense_dim():
        raise ValueError(f"from_torch_sparse: shape {tuple(matrix.shape)} is no matrix of blocks")
    blocks = matrix.values()
    (m, n), (p, q) = matrix.shape, blocks.shape[1:]
    starts, columns = matrix.crow_indices().cpu().numpy(), matrix.col_indices().cpu().numpy()
    return BlockSparse(blocks, Pattern.of((m // p, n // q), starts, columns))


def _single(op: LinearOperator, who: str, otherwise: str) -> Sparse:
    if not isinstance(op, LinearOperator):
        raise TypeError(f"{who}: {type(op).__name__} is not an operator; wrap it: sm.Dense(W)")
    if op.batch_shape:
        raise ValueError(
            f"{who}: {op._label()} is a batch of shape {op.batch_shape}; convert one at a time"
        )
    found = as_sparse(op)
    if found is None:
        raise TypeError(
            f"{who}: {op._label()} has a part whose matrix is dense; {otherwise} makes it dense"
        )
    return found


def _array(values: Tensor) -> Any:
    return values.detach().resolve_conj().cpu().numpy().copy()
