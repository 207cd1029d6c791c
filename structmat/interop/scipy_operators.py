"""Operators as SciPy's ``LinearOperator``, and SciPy's as ours.

``aslinearoperator`` serves SciPy's iterative solvers (``cg``, ``gmres``, ``eigsh``, ``svds``, ...):
``matvec``, ``rmatvec``, ``matmat`` and ``rmatmat`` run the fast algorithm. ``from_scipy`` reads the
expressions that SciPy makes of matrices, identities, sums, products, scalings, powers, transposes
and adjoints; a function that SciPy was given cannot be read.

Source: ``scipy.sparse.linalg.LinearOperator``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse.linalg as scipy_linalg
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse

from structmat.compose import Scaled
from structmat.interop import refuse_matrices
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Identity
from structmat.operator import LinearOperator, as_tensor

__all__ = ["aslinearoperator", "from_scipy"]

Array = NDArray[Any]


def aslinearoperator(A: LinearOperator) -> Any:
    """The operator as ``scipy.sparse.linalg.LinearOperator``.

    Args:
        A: one operator, on the CPU; numbers are read at each call, without gradients.

    Raises:
        TypeError: A is not an operator, or its dtype is one that NumPy lacks.
        ValueError: A is a batch of operators, or not on the CPU.

    Example:
        >>> import numpy as np, torch, structmat as sm
        >>> from scipy.sparse.linalg import cg
        >>> A = sm.Toeplitz(torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64))
        >>> x, info = cg(sm.interop.aslinearoperator(A), np.array([1.0, 0.0, 1.0]))
        >>> info, [round(float(v), 6) for v in x]
        (0, [1.0, 1.0, 1.0])
    """
    if not isinstance(A, LinearOperator):
        raise TypeError(f"aslinearoperator needs an operator, got {type(A).__name__}")
    if A.batch_shape:
        raise ValueError(
            f"aslinearoperator: {A._label()} is a batch of shape {A.batch_shape}; "
            "SciPy's operators are single matrices"
        )
    if A.device.type != "cpu":
        raise ValueError(f"aslinearoperator: {A._label()} is on {A.device}; move it: A.to('cpu')")
    return _Bridge(A)


class _Bridge(scipy_linalg.LinearOperator):  # type: ignore[misc]
    """SciPy's view of an operator."""

    def __init__(self, op: LinearOperator) -> None:
        try:
            dtype = torch.empty(0, dtype=op.dtype).numpy().dtype
        except TypeError:
            raise TypeError(
                f"aslinearoperator: NumPy has no {op.dtype}; convert first, A.to(torch.float32)"
            ) from None
        self.op = op
        super().__init__(dtype, op.shape)

    def _columns(self, op: LinearOperator, x: Array) -> Array:
        x = np.ascontiguousarray(x)
        if not np.issubdtype(x.dtype, np.inexact):
            x = x.astype(self.dtype)
        with torch.no_grad():
            y: Array = (op @ torch.from_numpy(x)).resolve_conj().numpy()
        return y

    def _matmat(self, X: Array) -> Array:
        return self._columns(self.op, X)

    def _rmatmat(self, X: Array) -> Array:
        return self._columns(self.op.H, X)

    def _matvec(self, x: Array) -> Array:
        return self._columns(self.op, x.reshape(-1))

    def _rmatvec(self, x: Array) -> Array:
        return self._columns(self.op.H, x.reshape(-1))

    def _adjoint(self) -> Any:
        return _Bridge(self.op.H)

    def _transpose(self) -> Any:
        return _Bridge(self.op.T)


def from_scipy(op: Any) -> LinearOperator:
    """The operator of a SciPy ``LinearOperator``, an array, or a sparse matrix.

    Args:
        op: what ``scipy.sparse.linalg.aslinearoperator`` makes of a matrix, and sums, products,
            multiples, powers, transposes and adjoints of those; what :func:`aslinearoperator` made
            comes back as the very operator.

    Raises:
        TypeError: an operator given by a function, which has no structure to read; a tensor, which
            is :class:`structmat.Dense` only if you say so.

    Example:
        >>> import numpy as np, structmat as sm
        >>> from scipy.sparse.linalg import aslinearoperator
        >>> A = aslinearoperator(np.ones((2, 3)))
        >>> sm.interop.from_scipy(2 * A.T @ A)._label()
        '2 * Dense(2x3).T @ Dense(2x3)'
    """
    if issparse(op):
        from structmat.interop.sparse import from_scipy_sparse

        return from_scipy_sparse(op)
    if isinstance(op, np.ndarray):
        return Dense(as_tensor(op, "from_scipy: array", 2))
    refuse_matrices("from_scipy", op, "SciPy")
    if not isinstance(op, scipy_linalg.LinearOperator):
        raise TypeError(
            f"from_scipy: {type(op).__name__} is no scipy.sparse.linalg.LinearOperator, no array "
            "and no sparse matrix"
        )
    args: Any = getattr(op, "args", ())
    match type(op).__name__:
        case "_Bridge":
            found: LinearOperator = op.op
            return found
        case "MatrixLinearOperator" | "_AdjointMatrixOperator":
            return from_scipy(op.A)
        case "IdentityOperator":
            return Identity(op.shape[0])
        case "_SumLinearOperator":
            return from_scipy(args[0]) + from_scipy(args[1])
        case "_ProductLinearOperator":
            return from_scipy(args[0]) @ from_scipy(args[1])
        case "_ScaledLinearOperator":
            return Scaled(args[1], from_scipy(args[0]))
        case "_PowerLinearOperator":
            return from_scipy(args[0]) ** int(args[1])
        case "_TransposedLinearOperator":
            return from_scipy(op.A).T
        case "_AdjointLinearOperator":
            return from_scipy(op.A).H
    raise TypeError(
        f"from_scipy: {type(op).__name__} is given by a function and has no structure to read; "
        "its matrix, where it is small, is sm.Dense(op @ np.eye(op.shape[1]))"
    )
