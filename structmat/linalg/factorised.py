"""Factorisations by what is known of a matrix: triangular, positive definite, sparse.

    triangular       forward or back substitution, O(n^2)
    cholesky         A = L L^H for Hermitian positive definite A, half the operations of LU
    adjoint          A^-1 = A^H for unitary A
    sparse lu        SuperLU with a column order that keeps the factors sparse (through SciPy)

Structure says what is triangular, and :func:`structmat.assume` what only the user knows. Source:
Golub and Van Loan, Matrix computations, sections 3.1 and 4.2; Li, An overview of SuperLU (2005).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.leaves.dense import Dense
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.linalg.implicit import adjoint, implicitly, plain
from structmat.linalg.plan import (
    Plan,
    cast,
    dense_fallback,
    factorisation,
    lu_counts,
    lu_solve,
    structured,
)
from structmat.linalg.result import SingularError
from structmat.operator import LinearOperator
from structmat.properties import is_psd, is_triangular, unitary_scale
from structmat.sparsity import as_sparse

__all__ = ["known_factorisation", "sparse_lu", "superlu"]


def _implicit(
    op: LinearOperator, solver: Callable[[LinearOperator, Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """Gradients as for any matrix, also in entries that the solver does not read."""

    def run(b: Tensor) -> Tensor:
        return implicitly(cast(op, b), b, solver) if b.numel() else b

    return run


def _by_adjoint(op: LinearOperator, b: Tensor) -> Tensor:
    s = unitary_scale(op)
    assert s
    out: Tensor = adjoint(op) @ b
    return out if s == 1 else out / s**2


def _substitution(op: LinearOperator, b: Tensor) -> Tensor:
    dense = op._dense(b.dtype, b.device)
    upper = bool(is_triangular(op, "upper"))
    out: Tensor = torch.linalg.solve_triangular(dense, b, upper=upper)
    return out


def _cholesky(op: LinearOperator, b: Tensor) -> Tensor:
    """Without a look at the numbers a matrix that is not definite gives no numbers."""
    dense = op._dense(b.dtype, b.device)
    factor, info = torch.linalg.cholesky_ex(dense)
    if plain(op, b) and bool(info.any()):
        raise SingularError(f"{op._label()} is not positive definite: cholesky stops")
    out: Tensor = torch.cholesky_solve(b, factor.expand(*b.shape[:-2], *factor.shape[-2:]))
    return out


def known_factorisation(op: LinearOperator) -> Plan | None:
    """A factorisation of the dense matrix that is cheaper than LU, where structure allows one."""
    n = op.shape[0]
    own = isinstance(op, Dense)
    upper = is_triangular(op, "upper")
    if upper or is_triangular(op, "lower"):
        name = "triangular" if own else "dense triangular"
        half = n * (n + 1) // 2, n * max(n - 1, 0) // 2
        return Plan(name, _implicit(op, _substitution), half, 0, 0 if own else n)
    if is_psd(op):
        lu = Plan("dense lu", lambda b: lu_solve(op._dense(b.dtype, b.device), b), lu_counts(n))
        name = "cholesky" if own else "dense cholesky"
        return Plan(
            name, _implicit(op, _cholesky), lu_counts(n), n**3 // 3, 0 if own else n, fallback=lu
        )
    return None


factorisation.append(known_factorisation)


@structured.register
def _(op: Dense) -> Plan:
    n = op.shape[0]
    lu = Plan("dense lu", lambda b: lu_solve(op.weight, b), lu_counts(n), 2 * n**3 // 3)
    s = unitary_scale(op)
    if s:
        return Plan("adjoint", _implicit(op, _by_adjoint), lu_counts(n))
    return known_factorisation(op) or lu


def superlu(op: Sparse, values: Tensor) -> Any:
    """SuperLU's factors of the matrix of these values (nnz,) on the pattern of ``op``.

    Raises:
        SingularError: a pivot is zero.
    """
    import scipy.sparse
    import scipy.sparse.linalg

    pattern = op.pattern
    parts = (values.resolve_conj().numpy(), pattern.indices.array(), pattern.indptr.array())
    a = scipy.sparse.csr_array(parts, shape=pattern.shape)
    try:
        return scipy.sparse.linalg.splu(a.tocsc())
    except RuntimeError as e:
        raise SingularError(f"{op._label()} is singular, by sparse lu: {e}") from None


def sparse_lu(op: LinearOperator, b: Tensor) -> Tensor:
    """A^-1 b by SuperLU; dense where numbers cannot be handed to SciPy."""
    assert isinstance(op, Sparse)
    if b.ndim != 2 or b.device.type != "cpu" or not plain(op, b):
        return lu_solve(op._dense(b.dtype, b.device), b)
    factors = superlu(op, op.values.detach().to(b.dtype))
    right = np.ascontiguousarray(b.detach().resolve_conj().numpy())
    return torch.from_numpy(factors.solve(right)).to(b.dtype)


@structured.register
def _(op: Sparse) -> Plan | None:
    n = op.shape[0]
    if op.batch_shape or n != op.shape[1] or n == 0 or op.device.type != "cpu":
        return None
    # how full the factors become depends on the pattern; ten times the entries is a guess for grids
    count = 10 * op.nnz
    return Plan(
        "sparse lu",
        _implicit(op, sparse_lu),
        (count, count),
        10 * count,
        fallback=dense_fallback(op),
    )


@structured.register
def _(op: BlockSparse) -> Plan | None:
    flat = as_sparse(op)
    return None if flat is None or op.shape[0] != op.shape[1] else structured(flat)
