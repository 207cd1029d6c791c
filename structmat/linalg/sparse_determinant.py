"""Determinants of sparse matrices by SuperLU: P_r A P_c = L U, L with ones on its diagonal.

    det A = sign(P_r) sign(P_c) prod U_ii        gradient of log|det A| in A_ij: (A^-1)_ji

Of the inverse only the entries at the positions of the pattern are needed, which follow from the
factors (:mod:`structmat.linalg.selected_inverse`). For derivatives of the gradient the whole
inverse is made, n x n. SuperLU runs in double precision, on a CPU, for one matrix of a batch after
the other; elsewhere the determinant is that of the dense matrix. Source: Li, An overview of SuperLU
(2005); Golub and Van Loan, Matrix computations, section 3.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.builder import index_tensor
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.linalg.answer import Answer, dense
from structmat.linalg.determinant import SignLog, constant, lu, parity_of, slogdet_of
from structmat.linalg.determinant_implicit import Route, determinant
from structmat.linalg.factorised import sparse_lu, superlu
from structmat.linalg.implicit import implicitly, need_finite, plain
from structmat.linalg.plan import cast
from structmat.linalg.result import SingularError
from structmat.linalg.selected_inverse import inverse_entries
from structmat.operator import LinearOperator
from structmat.sparsity import blocks_apart

__all__: list[str] = []


def _factors(op: Sparse) -> Iterator[Any]:
    """SuperLU's factors of each matrix of a batch; None where it is singular."""
    kind = torch.complex128 if op.values.is_complex() else torch.float64
    values = op.values.detach().to(kind).reshape(math.prod(op.batch_shape), op.nnz)
    for row in values:
        try:
            yield superlu(op, row)
        except SingularError:
            yield None


def _found(op: LinearOperator) -> tuple[Tensor, Tensor]:
    assert isinstance(op, Sparse)
    signs: list[complex] = []
    sizes: list[float] = []
    for factors in _factors(op):
        if factors is None:
            signs.append(0)
            sizes.append(-math.inf)
            continue
        d = factors.U.diagonal()
        swaps = parity_of(factors.perm_r) * parity_of(factors.perm_c)
        signs.append(np.prod(d / np.abs(d)) * swaps)
        sizes.append(np.log(np.abs(d)).sum())
    real = op.dtype.to_real()
    shape = op.batch_shape
    return (
        torch.tensor(signs, dtype=op.dtype).reshape(shape),
        torch.tensor(sizes, dtype=real).reshape(shape),
    )


def _inverse_entries(op: LinearOperator) -> tuple[Tensor, ...]:
    """(A^-1)_ji for every entry (i, j) of A."""
    assert isinstance(op, Sparse)
    n = op.shape[0]
    if torch.is_grad_enabled() or not plain(op):
        eye = torch.eye(n, dtype=op.dtype, device=op.device)
        i, j = (index_tensor(t, op.device) for t in (op.pattern.rows, op.pattern.indices))
        return (_every(op, eye)[..., j, i],)
    rows, columns = op.pattern.rows.array(), op.pattern.indices.array()
    out = [
        np.full(op.nnz, np.nan) if f is None else inverse_entries(f, rows, columns)
        for f in _factors(op)
    ]
    return (torch.from_numpy(np.stack(out)).to(op.dtype).reshape(op.values.shape),)


def _every(op: Sparse, eye: Tensor) -> Tensor:
    """The inverse, differentiable, of one matrix after the other."""
    if not op.batch_shape:
        return implicitly(op, eye, sparse_lu)
    members = op.values.reshape(-1, op.nnz)
    found = [implicitly(Sparse((row, op.pattern)), eye, sparse_lu) for row in members]
    return torch.stack(found).reshape(*op.batch_shape, *eye.shape)


def _paired(op: LinearOperator, inverse: tuple[Tensor, ...]) -> Tensor:
    assert isinstance(op, Sparse)
    return (op.values * inverse[0]).sum(-1)


ROUTE = Route(_found, _inverse_entries, _paired)


@slogdet_of.register
def _(op: Sparse, to: Tensor) -> Answer[SignLog]:
    if op.shape[0] == 0:
        return constant(to, 1, 0.0, "empty")
    if op.device.type != "cpu" or not plain(op) or 0 in op.batch_shape:
        return lu(dense(op, to, "slogdet"), "dense LU")
    need_finite("slogdet", op)
    sign, size = determinant(cast(op, to), ROUTE)
    return Answer(SignLog(sign.to(to.dtype), size), "sparse LU")


@slogdet_of.register
def _(op: BlockSparse, to: Tensor) -> Answer[SignLog]:
    return slogdet_of(blocks_apart(op), to)
