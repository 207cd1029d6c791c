"""Iterations of ARPACK, through SciPy, that only multiply by the operator and its adjoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.linalg.answer import Answer, like
from structmat.operator import LinearOperator

__all__ = ["check_k", "extreme", "scipy_operator", "start_vector"]


def scipy_operator(op: LinearOperator) -> Any:
    """The operator for SciPy's iterations, on the CPU in its wide dtype."""
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

    to = like(op)
    adjoint = op.H

    def act(which: LinearOperator, x: Any) -> Any:
        rows = torch.from_numpy(np.ascontiguousarray(x.T)).to(to)
        return which._rows(rows.reshape(-1, which.shape[1])).detach().cpu().numpy().T

    m, n = op.shape
    return ScipyOperator(
        (m, n),
        matvec=lambda x: act(op, x.reshape(n, 1)),
        rmatvec=lambda x: act(adjoint, x.reshape(m, 1)),
        matmat=lambda x: act(op, x),
        rmatmat=lambda x: act(adjoint, x),
        dtype=torch.empty(0, dtype=to.dtype).numpy().dtype,
    )


def check_k(function: str, op: LinearOperator, k: int) -> None:
    """Raise ValueError unless k values of one operator can be asked for."""
    if op.batch_shape:
        raise ValueError(
            f"{function}: k = {k} needs one operator, {op._label()} is a batch {op.batch_shape}; "
            "leave k out, or take the operators one by one"
        )
    if not 1 <= k <= min(op.shape):
        raise ValueError(f"{function}: k = {k} is not between 1 and {min(op.shape)}")


def start_vector(n: int, dtype: Any) -> Any:
    """A fixed start of the iterations, so that their results repeat."""
    return np.random.default_rng(0).standard_normal(n).astype(dtype)


def extreme(op: LinearOperator, k: int, which: str, hermitian: bool) -> Answer[Tensor]:
    """k extreme eigenvalues of one operator."""
    from scipy.sparse.linalg import eigs, eigsh

    function, n = ("eigvalsh" if hermitian else "eigvals"), op.shape[0]
    check_k(function, op, k)
    options = ("LM", "SM", "LA", "SA", "BE") if hermitian else ("LM", "SM", "LR", "SR", "LI", "SI")
    if which not in options:
        raise ValueError(f"{function}: which = {which!r} is none of {', '.join(options)}")
    to = like(op)
    if k >= n - 1:
        raise ValueError(
            f"{function}: k = {k} of n = {n} is too many for an iteration; leave k out for all"
        )
    work = scipy_operator(op)
    start = start_vector(n, work.dtype)
    solve = eigsh if hermitian else eigs
    values = solve(work, k, which=which, v0=start, return_eigenvectors=False)
    kind = "Lanczos" if hermitian else "Arnoldi"
    found = torch.from_numpy(np.sort(values) if hermitian else values).to(to.device)
    return Answer(found, f"{kind} iteration (ARPACK), {k} values, {which}")
