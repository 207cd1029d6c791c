"""Norms of the inverse: largest column sum (1), largest row sum (inf), Frobenius.

    of (A (x) B)^-1: the products         of diag(A, B)^-1: the largest, or the root of squares
    of a closed form of A^-1: its own     of A^-1 for a unitary A: those of A^H

Otherwise of the dense inverse, where A is small or has no method of its own for systems; and beyond
that, from systems with A: the Frobenius norm from all columns of A^-1, exactly, the 1-norm by an
estimate (Hager, Condition estimates, 1984; Higham, FORTRAN codes for estimating the one-norm, 1988,
algorithm 4.1), which climbs from one column of A^-1 to a longer one. It takes about ten systems
with A and A^H, is a lower bound, mostly exact and rarely less than a third. It starts from the
vector of ones and once more from random signs, and tries the alternating vector of algorithm 4.1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from structmat.compose import DirectSum, Kronecker, Scaled, Transpose
from structmat.linalg.answer import Answer, dense, multiplied, name
from structmat.linalg.column_sums import largest_sum
from structmat.linalg.frobenius import frobenius_of
from structmat.linalg.inverse import Inverse, inverse_of
from structmat.linalg.plan import Plan, structured
from structmat.linalg.result import SingularError
from structmat.linalg.searched import members, searched
from structmat.linalg.structure import modulus
from structmat.operator import LinearOperator
from structmat.properties import unitary_scale

__all__ = ["exact_norm", "inverse_norm"]

SMALL = 512
"""Up to this side the inverse is a dense one, where the structure has no closed form of it."""


def exact_norm(op: LinearOperator, ord: str | float, to: Tensor) -> Answer[Tensor]:
    """The norm of a matrix that is not empty, for ord 1, inf or "fro"."""
    if ord == "fro":
        return frobenius_of(op, to)
    return largest_sum(op if ord == 1 else op.T, to)


def inverse_norm(op: LinearOperator, ord: str | float, to: Tensor) -> Answer[Tensor]:
    """The norm of A^-1 for a square A that is not empty; infinity where A is singular."""
    parts = op.children
    if all(m == n for m, n in (c.shape for c in parts)):
        match op:
            case Kronecker():
                found = [inverse_norm(c, ord, to) for c in parts]
                return Answer(multiplied(found), name("product", (f.method for f in found)))
            case DirectSum():
                return _largest([inverse_norm(c, ord, to) for c in parts if c.shape[0]], ord)
            case Inverse():
                return exact_norm(parts[0], ord, to)
            case Transpose():
                turned: dict[str | float, str | float] = {1: math.inf, math.inf: 1, "fro": "fro"}
                return inverse_norm(parts[0], turned[ord], to)
            case Scaled():
                inner = inverse_norm(parts[0], ord, to)
                return Answer(inner.value / modulus(op, to, 0), inner.method)
    return _of_whole(op, ord, to)


def _largest(found: list[Answer[Tensor]], ord: str | float) -> Answer[Tensor]:
    values = torch.stack(torch.broadcast_tensors(*(f.value for f in found)), -1)
    together = torch.linalg.vector_norm(values, dim=-1) if ord == "fro" else values.amax(-1)
    return Answer(together, name("blocks", (f.method for f in found)))


def _of_whole(op: LinearOperator, ord: str | float, to: Tensor) -> Answer[Tensor]:
    scale = unitary_scale(op)
    if scale is not None:
        found = exact_norm(op.H, ord, to)
        return Answer(found.value / scale**2, name("unitary up to scale", [found.method]))
    n, how = op.shape[0], structured(op)
    if how is None or how.fallback is None:  # else the form may fail although A is regular
        inverse = inverse_of(op).simplify()
        if not _solves(inverse):
            found = exact_norm(inverse, ord, to)
            return Answer(found.value, name("closed form of the inverse", [found.method]))
    if n <= SMALL or how is None or how.densified >= n:
        matrix = dense(op, to, "cond", "; p = 2 may have a structure")
        found_inverse, bad = torch.linalg.inv_ex(matrix)
        value = torch.linalg.matrix_norm(found_inverse, ord)
        return Answer(torch.where(bad > 0, math.inf, value), "dense inverse")
    if how.name == "none":
        return Answer(to.new_full((), math.inf), "singular by structure")
    try:
        return _by_systems(op, ord, to, how)
    except LinAlgError:
        return Answer(to.new_full((), math.inf).abs(), f"singular, by {how.name}")


def _solves(op: LinearOperator) -> bool:
    return isinstance(op, Inverse) or any(map(_solves, op.children))


def _by_systems(op: LinearOperator, ord: str | float, to: Tensor, how: Plan) -> Answer[Tensor]:
    if ord == "fro":
        found = frobenius_of(Inverse(op), to)
        return Answer(found.value, f"{op.shape[0]} systems by {how.name}")
    values = [_estimate(a if ord == 1 else a.T, to) for a in members(op)]
    value = torch.stack(values).reshape(op.batch_shape) if values else to.abs()
    method = f"lower bound: Hager-Higham estimate of the 1-norm, systems by {how.name}"
    return Answer(value, method)


def _estimate(op: LinearOperator, to: Tensor) -> Tensor:
    """A lower bound of the 1-norm of the inverse of one operator.

    The vectors that reach it are columns of the identity, which stay where they are while A moves a
    little: derivatives of every order are those of the 1-norm of A^-1 at them.
    """
    (rows,) = searched("cond", op, lambda a: (_longest(Inverse(a), to.abs()),))
    return Inverse(op)._rows(rows.to(to.dtype)).abs().sum(-1).amax(-1)


def _longest(op: LinearOperator, to: Tensor) -> Tensor:
    """Vectors x of 1-norm 1 with a large 1-norm of op x, as rows."""
    from scipy.sparse.linalg import LinearOperator as ScipyOperator
    from scipy.sparse.linalg import onenormest

    n, adjoint = op.shape[0], op.H

    def call(a: LinearOperator, x: Any) -> Any:
        rows = torch.from_numpy(np.ascontiguousarray(x.reshape(n, -1).T)).to(to.device)
        # numbers of SciPy are double, those of signs complex where those of A are
        rows = rows.to(torch.promote_types(to.dtype, a.dtype) if rows.is_complex() else to.dtype)
        y = a._rows(rows)
        if not bool(torch.isfinite(y).all()):
            raise SingularError(f"{op._label()}: a system has no finite solution")
        return y.cpu().resolve_conj().numpy().T.reshape(x.shape)

    found = []
    for signs in (np.ones(n), 2.0 * np.random.default_rng(0).integers(0, 2, n) - 1):
        # |A D| = |A| for a diagonal D of signs: the estimate starts from them instead of ones
        work = ScipyOperator(
            (n, n),
            matvec=lambda x, d=signs: call(op, x.ravel() * d),
            rmatvec=lambda x, d=signs: call(adjoint, x.ravel()) * d,
            matmat=lambda x, d=signs: call(op, x * d[:, None]),
            rmatmat=lambda x, d=signs: call(adjoint, x) * d[:, None],
            dtype=torch.empty(0, dtype=torch.promote_types(to.dtype, op.dtype)).numpy().dtype,
        )
        _, x = onenormest(work, t=1, compute_v=True)  # with more columns it draws random numbers
        found.append(x)
    steps = np.arange(n)
    found.append((1 + steps / (n - 1)) * (1 - 2 * (steps % 2)) * 2 / (3 * n))
    return torch.from_numpy(np.stack(found)).to(to)
