"""solve: A x = b by the method that the structure of A offers.

1. a structured direct method (:mod:`structmat.linalg.plan`), of A or of ``A.simplify()``;
2. else LU factorisation of the dense matrix, up to ``DENSE`` rows;
3. else an iterative method.

The method that ran is named in the result. Every solve computes the residual. A direct method also
solves for two random columns v, which share the factorisation: |A v| and |A^-1 v| estimate the
Frobenius norms of A and of its inverse (their expected squares are those norms squared), and their
product bounds how much rounding may have been amplified.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from structmat.linalg.inverse import need_square
from structmat.linalg.plan import Plan, dense_plan, solved, structured, wide
from structmat.linalg.result import IllConditionedWarning, SingularError, Solution
from structmat.operator import LinearOperator, as_tensor

__all__ = ["DENSE", "solve"]

DENSE = 2048
"""The largest matrix that becomes dense without being asked for."""

PROBES = 2


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

    Args:
        A: a square operator, or a batch of them.
        b: right-hand side as in ``A @ x = b``: (n,), or columns (..., n, k) whose leading
            dimensions broadcast with the batch of A.
        method: by default the structured method of A; a name forces a method, ``"dense"`` an LU
            factorisation of the dense matrix.
        tol: relative residual at which an iterative method stops.
        maxiter: the most iterations of an iterative method.
        check: look at the numbers: raise where A is singular, warn where it is ill-conditioned.

    Returns:
        :class:`Solution` (x, method, residual, iterations).

    Raises:
        TypeError: A is not an operator, or b is integer.
        ValueError: A is not square, b does not fit, or the method does not serve A.
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
    need_square("solve", A)
    b = as_tensor(b, "solve: b", 1, allow_integer=True)
    _check_right_hand_side(A, b)
    vector = b.ndim == 1
    strong = A.strong_dtype
    b = b.to(b.dtype if strong is None else torch.promote_types(b.dtype, strong))
    columns = b.unsqueeze(-1) if vector else b
    how = _choose(A, method)
    looks = check and not _traced(columns, A)
    n, k = columns.shape[-2:]
    probe = looks and n > 0
    full = torch.cat([columns, _probes(columns)], -1) if probe else columns
    try:
        x = solved(A, full, how)
    except LinAlgError as e:
        why = e if isinstance(e, SingularError) else f"{A._label()} is singular, by {how.name}: {e}"
        raise SingularError(f"solve: {why}") from None
    x, reached = x[..., :k], x[..., k:]
    residual = _residual(A, x.detach(), columns.detach())
    if probe:
        _judge(A, how.name, x, residual, _condition(A, full[..., k:], reached))
    return Solution(x.squeeze(-1) if vector else x, how.name, residual)


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
    if b.ndim > 2:
        try:
            torch.broadcast_shapes(A.batch_shape, b.shape[:-2])
        except RuntimeError:
            raise ValueError(
                f"solve: the batch {A.batch_shape} of {A._label()} does not broadcast with the "
                f"leading dimensions {tuple(b.shape[:-2])} of b"
            ) from None


def _choose(A: LinearOperator, method: str | None) -> Plan:
    direct = structured(A)
    if method is None:
        return direct or dense_plan(A)
    if method in ("dense", "dense lu"):
        return dense_plan(A)
    if direct is not None and method in (direct.name, direct.name.split(" (")[0]):
        return direct
    serve = ["dense", *([direct.name.split(" (")[0]] if direct is not None else [])]
    raise ValueError(
        f"solve: method {method!r} does not serve {A._label()}; these do: {', '.join(serve)}"
    )


def _traced(b: Tensor, A: LinearOperator) -> bool:
    """Whether numbers cannot be looked at: inside a transform of torch, or while it traces."""
    return is_in_torch_dispatch_mode() or any(
        torch._C._functorch.is_functorch_wrapped_tensor(t) for t in (b, *A._all_tensors())
    )


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
    """An estimate of |A| |A^-1| in the Frobenius norm: the largest over the batch."""
    with torch.no_grad():
        dtype = wide(v.dtype)
        norm = torch.linalg.matrix_norm((A @ v).to(dtype))
        inverse = torch.linalg.matrix_norm(x.to(dtype))
        return float((norm * inverse).max()) / PROBES if norm.numel() else 1.0


def _judge(A: LinearOperator, name: str, x: Tensor, residual: Tensor, condition: float) -> None:
    """Raise or warn where the numbers are bad."""
    if not bool(torch.isfinite(x).all()):
        raise SingularError(
            f"solve: {A._label()} is singular, by {name}: the solution is not finite; "
            "sm.pinv(A) @ b is the least-squares solution of smallest norm"
        )
    eps = torch.finfo(x.dtype).eps
    if condition * eps > 1e-2:
        warnings.warn(
            f"solve: {A._label()} is ill-conditioned: |A| |A^-1| is about {condition:.1e} in "
            f"{x.dtype}, the relative residual {float(residual):.1e} by {name}; use float64, "
            "scale or regularise A, or pass check=False",
            IllConditionedWarning,
            stacklevel=3,
        )
    elif float(residual) > eps**0.5:
        warnings.warn(
            f"solve: {name} left a relative residual of {float(residual):.1e} with {A._label()}; "
            "method='dense' is the stabler way, check=False accepts it",
            IllConditionedWarning,
            stacklevel=3,
        )
