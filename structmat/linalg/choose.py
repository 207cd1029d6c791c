"""Which method solves a system: chosen by structure, size and number of columns, never by numbers.

1. the cheapest structured direct method (:mod:`structmat.linalg.plan`), of A or of
   ``A.simplify()``;
2. else LU factorisation of the dense matrix, up to ``DENSE`` rows;
3. else an iterative method: cg for A that is known to be positive definite, minres for A that is
   known to be Hermitian, gmres.

A rectangular A gets the least-squares solution of smallest norm: by the structured pseudoinverse,
by the singular values of the dense matrix up to ``DENSE`` rows and columns, else by lsmr (by cgls
for a batch or on another device).
"""

from __future__ import annotations

import torch

from structmat.leaves.dense import Dense
from structmat.linalg.iterative import LEAST, METHODS
from structmat.linalg.pinv import matrix_pinv, structured_pinv
from structmat.linalg.plan import DENSE, Plan, alternatives, dense_plan, fastest, wide
from structmat.operator import LinearOperator
from structmat.properties import is_hermitian, is_psd

__all__ = ["DENSE", "choose", "choose_least", "unproven"]


def choose(A: LinearOperator, method: str | None, k: int) -> Plan | str:
    """A direct method of a square operator, or the name of an iterative one.

    Args:
        A: the operator.
        method: what the user asks for.
        k: number of columns.

    Raises:
        ValueError: the method does not serve A; the message lists those that do.
    """
    found = alternatives(A)
    if method is None:
        if not found or all(p.densified for p in found):
            found = [*found, *alternatives(A.simplify())]
        found = [p for p in found if p.densified <= DENSE]
        if found:
            return fastest(found, k)
        return dense_plan(A) if A.shape[0] <= DENSE else _iterative(A)
    if method in ("dense", "dense lu"):
        return dense_plan(A)
    for p in found:
        if method in (p.name, p.name.split(" (")[0]):
            return p
    iterative = [m for m in METHODS if _serves(m, A)]
    if method in iterative:
        return method
    names = [p.name.split(" (")[0] for p in found]
    raise ValueError(_serving(A, method, [*dict.fromkeys(names), "dense", *iterative]))


def choose_least(A: LinearOperator, method: str | None, k: int) -> Plan | str:
    """As :func:`choose`, for least squares."""
    rcond = max(*A.shape, 1) * torch.finfo(wide(A.dtype)).eps
    if method in LEAST:
        return method
    if method in (None, "pseudoinverse"):
        found = None if isinstance(A, Dense) else structured_pinv(A, rcond)
        if found is not None:
            return _pinv_plan("pseudoinverse", found)
        if method is None and max(A.shape) > DENSE:
            return "cgls" if A.batch_shape or A.device.type != "cpu" else "lsmr"
    if method in (None, "dense", "dense svd"):
        w = A._dense(wide(A.dtype), A.device)
        return _pinv_plan("dense svd", Dense(matrix_pinv(w, rcond)))
    raise ValueError(_serving(A, method, ["pseudoinverse", "dense", *LEAST]))


def _pinv_plan(name: str, inverse: LinearOperator) -> Plan:
    return Plan(name, lambda b: inverse @ b, inverse.operations())


def _serving(A: LinearOperator, method: str | None, names: list[str]) -> str:
    return f"solve: method {method!r} does not serve {A._label()}; these do: {', '.join(names)}"


def _iterative(A: LinearOperator) -> str:
    if is_psd(A):
        return "cg"
    scipy = not A.batch_shape and A.device.type == "cpu" and not A.dtype.is_complex
    return "minres" if is_hermitian(A) and scipy else "gmres"


def unproven(method: str, A: LinearOperator) -> str | None:
    """What A would have to be for the method to serve, where that is not known of it."""
    if method == "cg" and not is_psd(A):
        return "positive definite"
    return "Hermitian" if method == "minres" and not is_hermitian(A) else None


def _serves(method: str, A: LinearOperator) -> bool:
    """Whether nothing is known against it: what is asked for may rest on what the user knows."""
    if method == "minres" and A.dtype.is_complex:
        return False
    if method in ("cg", "minres"):
        return is_hermitian(A) is not False and (method != "cg" or is_psd(A) is not False)
    return True
