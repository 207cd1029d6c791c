"""solve: A x = b by the method that the structure of A offers (:mod:`structmat.linalg.choose`).

The method that ran is named in the result. Every solve computes the residual. A direct method also
solves for two random columns v, which share the factorisation: |A v| and |A^-1 v| estimate the
Frobenius norms of A and of its inverse (their expected squares are those norms squared), and their
product over sqrt(n) how much rounding may have been amplified.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from structmat.linalg.choose import choose, choose_least, unproven
from structmat.linalg.implicit import need_finite, plain
from structmat.linalg.iterative import LEAST, Run, iterate
from structmat.linalg.plan import Plan, solved, wide
from structmat.linalg.result import IllConditionedWarning, SingularError, Solution
from structmat.operator import LinearOperator, as_tensor
from structmat.tracing import whole

__all__ = ["solve"]

PROBES = 2


@whole
def solve(
    A: LinearOperator,
    b: Any,
    method: str | None = None,
    *,
    tol: float | None = None,
    maxiter: int | None = None,
    check: bool = True,
) -> Solution:
    """The solution of A x = b, differentiable in b and in the tensors of A.

    Where A is not square, the least-squares solution of smallest norm, whose residual is what it
    is.

    Args:
        A: an operator, or a batch of them.
        b: right-hand side as in ``A @ x = b``: (n,), or columns (..., n, k) whose leading
            dimensions broadcast with the batch of A.
        method: by default what the structure of A offers; a name forces a method: ``"dense"``, an
            iterative one, or one of the structure, as the result names it. ``"cg"`` needs a
            positive definite A and ``"minres"`` a Hermitian one: unasked they are taken only where
            that is known, asked for also where it is not, and then the residual judges.
        tol: relative residual at which an iterative method stops.
        maxiter: the most iterations of an iterative method.
        check: look at the numbers: raise where A is singular, warn where it is ill-conditioned.

    Returns:
        :class:`Solution` (x, method, residual, iterations).

    Raises:
        TypeError: A is not an operator, or b is integer.
        ValueError: b does not fit, the method does not serve A, A or b holds NaN or infinity, tol
            is negative or maxiter not positive.
        SingularError: A is singular.

    Warns:
        IllConditionedWarning: rounding may have cost all but two digits, or the residual is large.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Diagonal(torch.ones(3)) + sm.LowRank(torch.ones(3, 1), torch.ones(1, 3))
        >>> solution = sm.solve(A, torch.tensor([4.0, 4.0, 4.0]))
        >>> solution.x, solution.method
        (tensor([1., 1., 1.]), 'woodbury (diagonal)')
    """
    if not isinstance(A, LinearOperator):
        raise TypeError(f"solve: {type(A).__name__} is not an operator; wrap it: sm.Dense(W)")
    A._require_numbers()
    if tol is not None and not 0 <= tol < math.inf:
        raise ValueError(f"solve: tol = {tol} must be a number from 0, a relative residual")
    if maxiter is not None and (not isinstance(maxiter, int) or maxiter < 1):
        raise ValueError(f"solve: maxiter = {maxiter} must be a positive integer")
    b = as_tensor(b, "solve: b", 1, allow_integer=True)
    _check_right_hand_side(A, b)
    vector = b.ndim == 1
    strong = A.strong_dtype
    out = b.dtype if strong is None else torch.promote_types(b.dtype, strong)
    columns = (b.unsqueeze(-1) if vector else b).to(out)
    check = check and plain(columns, A)
    if check and not bool(torch.isfinite(columns).all()):
        raise ValueError(f"solve: b of shape {tuple(b.shape)} holds NaN or infinity")
    if check:
        need_finite("solve", A)
    square = A.shape[0] == A.shape[1]
    count = columns.shape[-1] + (PROBES if check and square else 0)
    how = (choose if square else choose_least)(A, method, count)
    if isinstance(how, str):
        run = Run.of(A, how, out, tol, maxiter)
        x = iterate(A, columns, run)
        residual = _residual(A, x.detach(), columns.detach())
        if check:
            _converged(A, run, residual)
        return Solution(x.squeeze(-1) if vector else x, how, residual, run.iterations)
    while True:
        try:
            x, residual = _direct(A, columns, how, check)
            break
        except LinAlgError as e:
            if how.fallback is None:
                raise SingularError(f"solve: {_why(A, how.name, e)}") from None
            how = how.fallback
    return Solution(x.squeeze(-1) if vector else x, how.name, residual)


def _why(A: LinearOperator, name: str, e: Exception) -> str:
    return str(e) if isinstance(e, SingularError) else f"{A._label()} is singular, by {name}: {e}"


def _direct(A: LinearOperator, b: Tensor, how: Plan, check: bool) -> tuple[Tensor, Tensor]:
    """The solution and its residual; ``check`` raises and warns where the numbers are bad."""
    k = b.shape[-1]
    probe = check and A.shape[0] == A.shape[1] > 0
    full = torch.cat([b, _probes(b)], -1) if probe else b
    x = solved(A, full, replace(how, fallback=None))
    x, reached = x[..., :k], x[..., k:]
    residual = _residual(A, x.detach(), b.detach())
    if check:
        _finite(A, how.name, x, residual)
    if probe:
        _judge(A, how, x, residual, _condition(A, full[..., k:], reached))
    return x, residual


def _check_right_hand_side(A: LinearOperator, b: Tensor) -> None:
    if not (b.is_floating_point() or b.is_complex()):
        raise TypeError(
            f"solve: b is {b.dtype}; systems are solved in floating point: "
            "convert first, b.to(torch.float64)"
        )
    n = A.shape[0]
    if b.shape[0 if b.ndim == 1 else -2] != n:
        raise ValueError(
            f"solve: {A._label()} has {n} rows, b has shape {tuple(b.shape)}; b is (n,), or "
            "columns (..., n, k): for rows (..., n) pass b.mT"
        )
    for t in A._all_tensors():
        if t.device != b.device:
            raise ValueError(
                f"solve: {A._label()} is on {t.device}, b on {b.device}; move one: A.to(b.device)"
            )
    if b.ndim > 2:
        try:
            torch.broadcast_shapes(A.batch_shape, b.shape[:-2])
        except RuntimeError:
            raise ValueError(
                f"solve: the batch {A.batch_shape} of {A._label()} does not broadcast with the "
                f"leading dimensions {tuple(b.shape[:-2])} of b"
            ) from None


def _probes(b: Tensor) -> Tensor:
    g = torch.Generator().manual_seed(0)
    v = torch.randn(b.shape[-2], PROBES, generator=g, dtype=torch.float64)
    return v.to(b.dtype).to(b.device).expand(*b.shape[:-2], *v.shape)


def _residual(A: LinearOperator, x: Tensor, b: Tensor) -> Tensor:
    """The largest relative residual of all columns."""
    with torch.no_grad():
        gap = torch.linalg.vector_norm((A @ x).detach() - b, dim=-2)
        size = torch.linalg.vector_norm(b, dim=-2)
        ratio = torch.where(gap == 0, gap, gap / size)
        return ratio.amax() if ratio.numel() else gap.new_zeros(())


def _condition(A: LinearOperator, v: Tensor, x: Tensor) -> float:
    """An estimate of the condition: |A| |A^-1| / sqrt(n) in Frobenius norms, largest of the batch.

    It is the condition where one singular value is far from the others, and sqrt(n) too large, or
    too small, at most.
    """
    with torch.no_grad():
        dtype = wide(v.dtype)
        norm = torch.linalg.matrix_norm((A @ v).to(dtype))
        inverse = torch.linalg.matrix_norm(x.to(dtype))
        if not norm.numel():
            return 1.0
        return float((norm * inverse).max()) / (PROBES * math.sqrt(A.shape[0]))


def _finite(A: LinearOperator, name: str, x: Tensor, residual: Tensor) -> None:
    if not bool(torch.isfinite(x).all() & torch.isfinite(residual)):
        if not all(bool(torch.isfinite(t).all()) for t in A._all_tensors()):
            raise ValueError(f"solve: {A._label()} holds NaN or infinity")
        raise SingularError(
            f"{A._label()} is singular, by {name}: the solution or its residual is not finite; "
            "sm.pinv(A) @ b is the least-squares solution of smallest norm"
        )


def _judge(A: LinearOperator, how: Plan, x: Tensor, residual: Tensor, condition: float) -> None:
    """Warn where the numbers are bad, or raise where another method may do better."""
    eps = torch.finfo(x.dtype).eps
    left = float(residual)
    bad = not condition * torch.finfo(wide(x.dtype)).eps <= 1e-2
    if (bad or left > eps**0.5) and how.fallback is not None:
        raise SingularError(f"{A._label()}: {how.name} lost the digits")
    if bad:
        warnings.warn(
            f"solve: {A._label()} is ill-conditioned, about {condition:.1e} in "
            f"{x.dtype}, the relative residual {left:.1e} by {how.name}; use float64, "
            "scale or regularise A, or pass check=False",
            IllConditionedWarning,
            stacklevel=4,
        )
    elif left > eps**0.5:
        warnings.warn(
            f"solve: {how.name} left a relative residual of {left:.1e} with {A._label()}; "
            "method='dense' is the stabler way, check=False accepts it",
            IllConditionedWarning,
            stacklevel=4,
        )


def _converged(A: LinearOperator, run: Run, residual: Tensor) -> None:
    """Raise or warn where an iterative method did not arrive; least squares reach what they do."""
    left = float(residual)
    if not math.isfinite(left):
        raise SingularError(
            f"solve: {run.method} broke down on {A._label()}, the relative residual is {left}: it "
            "is singular, or not what the method needs; use method='gmres' or 'dense'"
        )
    if left > 100 * run.tol and run.method not in LEAST:
        unknown = unproven(run.method, A)
        way = (
            f"{run.method} is for {unknown} matrices, which this one is not known to be: use "
            "method='gmres' or 'dense', or, where it is, declare it with sm.assume and raise "
            "maxiter or tol"
            if unknown
            else "raise maxiter or tol, precondition A, or use method='dense'"
        )
        warnings.warn(
            f"solve: {run.method} reached a relative residual of {left:.1e} with {A._label()} in "
            f"{run.iterations} iterations, not {run.tol:.1e}; {way}",
            IllConditionedWarning,
            stacklevel=3,
        )
