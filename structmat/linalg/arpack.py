"""Iterations of ARPACK, through SciPy, that only multiply by the operator and its adjoint.

Arnoldi for k extreme eigenvalues, Lanczos for those of a Hermitian operator and, on A^H A, for the
largest singular values. They start from a fixed vector, so that results repeat. Left eigenvectors,
which derivatives need (:mod:`structmat.linalg.searched`), are those of A^T, paired with the right
ones by their values and made biorthogonal to them: of a multiple eigenvalue that is found whole the
sum then has its derivative, although the single values have none.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.linalg.answer import Answer, like
from structmat.linalg.searched import Found, differentiated, followed, members, searched
from structmat.linalg.structure import is_normal
from structmat.operator import LinearOperator

__all__ = ["extreme", "largest"]

SPARE = 2
"""How many left eigenvectors more than right ones, where values of one modulus change places."""


def extreme(op: LinearOperator, k: int, which: str, hermitian: bool) -> Answer[Tensor]:
    """k extreme eigenvalues of each operator of a batch."""
    function, n = ("eigvalsh" if hermitian else "eigvals"), op.shape[0]
    options = ("LM", "SM", "LA", "SA", "BE") if hermitian else ("LM", "SM", "LR", "SR", "LI", "SI")
    if which not in options:
        raise ValueError(f"{function}: which = {which!r} is none of {', '.join(options)}")
    if which == "BE" and op.dtype.is_complex:
        raise ValueError("eigvalsh: which = 'BE' is for real matrices; take 'LA', then 'SA'")
    _check_k(function, op, k, n - 1)

    def one(op: LinearOperator) -> Tensor:
        wanted = differentiated(op)
        found = searched(function, op, lambda a: _eigen(a, k, which, hermitian, wanted))
        return followed(function, op, *found) if wanted else found[0]

    kind = "Lanczos" if hermitian else "Arnoldi"
    empty = like(op).abs() if hermitian else like(op) + 0j
    return Answer(_each(op, k, one, empty), f"{kind} iteration (ARPACK), {k} values, {which}")


def largest(function: str, op: LinearOperator, k: int) -> Answer[Tensor]:
    """The k largest singular values of each operator of a batch."""
    # ARPACK has no Hermitian iteration for complex numbers, and that for others stops earlier
    _check_k(function, op, k, min(op.shape) - op.dtype.is_complex)

    def one(op: LinearOperator) -> Tensor:
        found = searched(function, op, lambda a: _singular(a, k))
        return followed(function, op, *found) if differentiated(op) else found[0]

    values = _each(op, k, one, like(op).abs())
    return Answer(values, f"Lanczos iteration (ARPACK), {k} largest")


def _check_k(function: str, op: LinearOperator, k: int, end: int) -> None:
    """Raise ValueError unless an iteration can find k values."""
    if not 1 <= k <= min(op.shape):
        raise ValueError(f"{function}: k = {k} is not between 1 and {min(op.shape)}")
    if k >= end:
        raise ValueError(
            f"{function}: k = {k} of {min(op.shape)} is too many for an iteration; leave k out for "
            "all"
        )


def _each(
    op: LinearOperator, k: int, one: Callable[[LinearOperator], Tensor], empty: Tensor
) -> Tensor:
    """``one`` of every operator of a batch: each takes its own number of steps."""
    if not op.batch_shape:
        return one(op)
    values = [one(a) for a in members(op)]
    return (torch.stack(values) if values else empty).reshape(*op.batch_shape, k)


# with SciPy -------------------------------------------------------------------------------------


def _product(op: LinearOperator) -> Callable[[Any], Any]:
    """A x for arrays of columns, in the wide dtype of the operator."""
    to, n = like(op), op.shape[1]

    def act(x: Any) -> Any:
        rows = torch.from_numpy(np.ascontiguousarray(x.reshape(n, -1).T))
        rows = rows.to(to.device, torch.promote_types(rows.dtype, to.dtype))
        return op._rows(rows).cpu().resolve_conj().numpy().T.reshape(-1, *x.shape[1:])

    return act


def _start(op: LinearOperator) -> Any:
    """A fixed start of the iterations."""
    kind = torch.empty(0, dtype=like(op).dtype).numpy().dtype
    return np.random.default_rng(0).standard_normal(op.shape[1]).astype(kind)


def _size(x: Any) -> float:
    """About |A| of A times the start; 0 only for a zero matrix."""
    return float(abs(x).max())


def _iterate(solve: Any, act: Callable[[Any], Any], start: Any, k: int, which: str) -> Any:
    """(values, vectors as columns) by ``eigs`` or ``eigsh``."""
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

    work = ScipyOperator((start.size, start.size), matvec=act, matmat=act, dtype=start.dtype)
    # a new direction, where the space of the iteration ends early, is a random one
    new = "rng" in inspect.signature(solve).parameters
    seed = {"rng": np.random.default_rng(0)} if new else {}
    return solve(work, k, which=which, v0=start, **seed)


def _eigen(op: LinearOperator, k: int, which: str, hermitian: bool, wanted: bool) -> Found:
    """Eigenvalues (k,); also left and right vectors as rows, u_i^T v_j = 1 for i = j, else 0."""
    from scipy.sparse.linalg import eigs, eigsh

    to, act, start = like(op), _product(op), _start(op)
    size = _size(act(start))
    if size == 0:
        values, v = np.zeros(k, start.dtype), np.eye(start.size, k, dtype=start.dtype)
    else:
        values, v = _iterate(eigsh if hermitian else eigs, act, start, k, which)
    if hermitian:
        order = np.argsort(values.real)
        values, v = values.real[order], v[:, order]
    else:
        values = values.astype(np.result_type(values, np.complex64))
    found = [values]
    if wanted:
        if hermitian or size == 0 or is_normal(op):
            u = v.conj()
        else:
            u = _paired(values, *_iterate(eigs, _product(op.T), start, _more(op, k), which))
        found += [_biorthogonal(op, values, u, v, size), v.T]
    # vectors have the dtype of A or the complex one
    arrays = (torch.from_numpy(np.ascontiguousarray(x)) for x in found)
    return tuple(x.to(to.device) for x in arrays)


def _more(op: LinearOperator, k: int) -> int:
    return min(k + SPARE, op.shape[0] - 2)


def _paired(values: Any, others: Any, vectors: Any) -> Any:
    """Of the vectors, those whose values are nearest to ``values``, each one once."""
    from scipy.optimize import linear_sum_assignment

    # the other one of a complex pair of a real matrix may have been cut off
    gap = abs(others[:, None] - others.conj()).min(1)
    lone = gap > 1e-3 * abs(others)
    others = np.concatenate([others, others[lone].conj()])
    vectors = np.concatenate([vectors, vectors[:, lone].conj()], 1)
    return vectors[:, linear_sum_assignment(abs(values[:, None] - others))[1]]


def _biorthogonal(op: LinearOperator, values: Any, u: Any, v: Any, size: float) -> Any:
    """Rows that span what the columns of u span, with row_i v_j = 1 for i = j, else 0."""
    try:
        rows = np.linalg.solve(u.T @ v, u.T)
    except np.linalg.LinAlgError:
        rows = np.full_like(u.T, np.nan)
    turned = _product(op.T)(rows.T)
    left = np.linalg.norm(turned - values * rows.T, axis=0)
    allowed = np.finfo(values.dtype).eps ** 0.5 * size * np.linalg.norm(rows, axis=1)
    if not (left <= allowed).all():
        raise RuntimeError(
            f"eigvals: derivatives need left eigenvectors, and the iteration with the transpose of "
            f"{op._label()} found others, as where several eigenvalues have one modulus; take more "
            "of them, or another `which`, or call it under torch.no_grad() for values alone"
        )
    return rows


def _singular(op: LinearOperator, k: int) -> Found:
    """Values (k,), descending, and rows u^H (k, m), v^T (k, n), by Lanczos on A^H A."""
    from scipy.sparse.linalg import eigsh

    m, n = op.shape
    if m < n:
        s, left, right = _singular(op.H, k)
        return s, right.conj(), left.conj()
    act, back, start = _product(op), _product(op.H), _start(op)
    size = _size(act(start))
    if size == 0:
        q = np.eye(n, k, dtype=start.dtype)
    else:  # scaled, because squares leave the range of numbers
        _, q = _iterate(eigsh, lambda x: back(act(x / size) / size), start, k, "LM")
    # Ritz values of A itself, not the roots of those of A^H A, which lose half of the digits
    q, _ = np.linalg.qr(q)
    u, values, vh = np.linalg.svd(act(q), full_matrices=False)
    arrays = values, u.conj().T, (q @ vh.conj().T).T
    return tuple(torch.from_numpy(np.ascontiguousarray(x)).to(like(op).device) for x in arrays)
