"""Iterative methods: what is left where no structure gives a direct one.

    cg      Hermitian positive definite A (Hestenes and Stiefel, 1952)
    minres  Hermitian A (Paige and Saunders, 1975)
    gmres   square A, restarted (Saad and Schultz, 1986)
    lsmr    any A: least squares, of least norm (Fong and Saunders, 2011)
    cgls    the same by conjugate gradients of the normal equations, which squares the condition
            (Hestenes and Stiefel, 1952); for batches and other devices

Each needs products with A alone (lsmr and cgls: also with A^H). All columns of all batch members
go on at once, each by its own numbers. SciPy runs minres and lsmr, one column after the
other, on the CPU. Derivatives are those of :mod:`structmat.linalg.implicit`: the adjoint system, by
the same method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.linalg.implicit import adjoint, implicitly, plain
from structmat.linalg.plan import cast, folded, wide
from structmat.operator import LinearOperator

__all__ = ["LEAST", "METHODS", "Run", "iterate"]

RESTART = 40
CHECKED = 5
"""After how many steps gmres looks at the residual of its small system."""


@dataclass
class Run:
    """The setting of an iterative solve, and how many steps it took."""

    method: str
    tol: float
    maxiter: int
    iterations: int = 0

    @staticmethod
    def of(
        A: LinearOperator, method: str, dtype: torch.dtype, tol: float | None, maxiter: int | None
    ) -> Run:
        """With what the user left open: 100 units of rounding, ten steps a dimension."""
        eps = torch.finfo(wide(dtype)).eps
        steps = max(10 * max(A.shape), 100) if maxiter is None else maxiter
        return Run(method, 100 * eps if tol is None else tol, steps)


def _norm(v: Tensor) -> Tensor:
    """Euclidean norms of columns, (..., 1, k)."""
    out: Tensor = torch.linalg.vector_norm(v, dim=-2, keepdim=True)
    return out


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u.conj() * v).sum(-2, keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, 0 where b is 0: a column that is done stands still."""
    return torch.where(b == 0, torch.zeros_like(a), a / torch.where(b == 0, 1, b))


def cg(op: LinearOperator, b: Tensor, run: Run) -> Tensor:
    """Conjugate gradients."""
    x, r = torch.zeros_like(b), b
    p, rho, enough = r, _dot(b, b), run.tol * _norm(b)
    for _ in range(run.maxiter):
        if bool((_norm(r) <= enough).all()):
            break
        q = op @ p
        alpha = _ratio(rho, _dot(p, q))
        x, r = x + alpha * p, r - alpha * q
        new = _dot(r, r)
        p, rho = r + _ratio(new, rho) * p, new
        run.iterations += 1
    return x


def cgls(op: LinearOperator, b: Tensor, run: Run) -> Tensor:
    """Conjugate gradients of A^H A x = A^H b, without making A^H A."""
    turned = adjoint(op)
    r, s = b, turned @ b
    x, p, rho, enough = torch.zeros_like(s), s, _dot(s, s), run.tol * _norm(s)
    for _ in range(run.maxiter):
        if bool((_norm(s) <= enough).all()):
            break
        q = op @ p
        alpha = _ratio(rho, _dot(q, q))
        x, r = x + alpha * p, r - alpha * q
        s = turned @ r
        new = _dot(s, s)
        p, rho = s + _ratio(new, rho) * p, new
        run.iterations += 1
    return x


def gmres(op: LinearOperator, b: Tensor, run: Run) -> Tensor:
    """GMRES, restarted; orthogonalised twice, so that the basis stays orthogonal."""
    x, enough, start = torch.zeros_like(b), run.tol * _norm(b), run.iterations
    while run.iterations - start < run.maxiter:
        r = b - op @ x if run.iterations > start else b
        beta = _norm(r)
        if bool((beta <= enough).all()):
            break
        basis = [_ratio(r, beta)]
        steps = min(RESTART, run.maxiter - (run.iterations - start), op.shape[0])
        columns = []
        for _ in range(steps):
            w = op @ basis[-1]
            coefficients = [torch.zeros_like(beta) for _ in basis]
            for _ in range(2):
                for i, v in enumerate(basis):
                    h = _dot(v, w)
                    w = w - h * v
                    coefficients[i] = coefficients[i] + h
            size = _norm(w).to(w.dtype)
            # what rounding left of a vector that lies in the span is no direction
            size = torch.where(
                size.abs() <= 1e-14 * coefficients[-1].abs().clamp_min(1e-300),
                torch.zeros_like(size),
                size,
            )
            columns.append([*coefficients, size])
            basis.append(_ratio(w, size))
            run.iterations += 1
            if bool((size == 0).all()):
                break
            if len(columns) % CHECKED == 0 and bool((_least(columns, beta)[1] <= enough).all()):
                break
        y, _ = _least(columns, beta)
        for i in range(len(columns)):
            x = x + y[..., i, 0][..., None, :] * basis[i]
    return x


def _least(columns: list[list[Tensor]], beta: Tensor) -> tuple[Tensor, Tensor]:
    """y (..., k, m, 1) of least |beta e_0 - H y|, H the Hessenberg matrix, and what is left."""
    m = len(columns)
    zero = torch.zeros_like(columns[0][0])
    rows = [torch.stack([c[i] if i < len(c) else zero for c in columns], -1) for i in range(m + 1)]
    hessenberg = torch.cat(rows, -3).movedim(-3, -2)  # (..., k, m + 1, m)
    first = torch.cat([beta.to(zero.dtype), *[zero] * m], -2).mT[..., None]
    y = torch.linalg.pinv(hessenberg) @ first
    gap: Tensor = torch.linalg.vector_norm(first - hessenberg @ y, dim=-2)
    return y, gap.mT


def _numpy(op: LinearOperator, dtype: torch.dtype) -> Any:
    """SciPy's operator of A."""
    from scipy.sparse.linalg import LinearOperator as Scipy

    turned = adjoint(op)

    def call(a: LinearOperator) -> Callable[[Any], Any]:
        def product(v: Any) -> Any:
            return a(torch.from_numpy(np.ascontiguousarray(v)).reshape(-1).to(dtype)).numpy()

        return product

    kind = torch.empty(0, dtype=dtype).numpy().dtype
    return Scipy(op.shape, matvec=call(op), rmatvec=call(turned), dtype=kind)


def _by_scipy(op: LinearOperator, b: Tensor, run: Run) -> Tensor:
    """minres or lsmr, column by column."""
    from scipy.sparse.linalg import lsmr, minres

    if run.method == "minres" and b.is_complex():  # SciPy's is real, and so is A
        op = cast(op, b.real)
        real, imaginary = _by_scipy(op, b.real, run), _by_scipy(op, b.imag, run)
        return torch.complex(real, imaginary)
    a = _numpy(op, b.dtype)
    columns = []
    for v in b.unbind(-1):
        steps = [0]
        right = v.resolve_conj().numpy()
        if run.method == "lsmr":
            with np.errstate(over="ignore"):  # SciPy's 1e100 is infinite in single precision
                x, _, used, *_ = lsmr(a, right, atol=run.tol, btol=run.tol, maxiter=run.maxiter)
            steps[0] = used
        else:
            x, _ = minres(
                a,
                right,
                rtol=run.tol,
                maxiter=run.maxiter,
                callback=lambda _, steps=steps: steps.__setitem__(0, steps[0] + 1),
            )
        run.iterations += steps[0]
        columns.append(torch.from_numpy(x).to(b.dtype))
    return torch.stack(columns, -1) if columns else b.new_zeros(op.shape[1], 0)


LEAST = ("lsmr", "cgls")
"""What finds least-squares solutions."""

METHODS: dict[str, Callable[[LinearOperator, Tensor, Run], Tensor]] = {
    "cg": cg,
    "gmres": gmres,
    "minres": _by_scipy,
    "lsmr": _by_scipy,
    "cgls": cgls,
}


def iterate(op: LinearOperator, b: Tensor, run: Run) -> Tensor:
    """A^-1 b (A^+ b by lsmr) by ``run.method``, differentiable; ``run`` counts the steps.

    Raises:
        RuntimeError: inside torch.vmap or while torch traces, where numbers are hidden.
        ValueError: SciPy's methods on another device, or on a batch of operators.
    """
    name = run.method
    if METHODS[name] is _by_scipy and (op.batch_shape or b.device.type != "cpu"):
        raise ValueError(
            f"solve: {name} runs in SciPy, for one operator on the CPU; {op._label()} is a batch "
            "or on another device: use method='gmres' (least squares: 'cgls'), or 'dense'"
        )
    if name == "minres" and op.dtype.is_complex:
        raise ValueError(
            f"solve: SciPy's minres is for real matrices, {op._label()} is complex: use "
            "method='gmres', or 'cg' if it is positive definite"
        )
    done = [False]

    def solver(a: LinearOperator, right: Tensor) -> Tensor:
        if not plain(a, right):  # inside derivatives of torch.func the numbers arrive plain here
            raise RuntimeError(
                f"solve: {name} looks at numbers, which torch.vmap and tracing hide; "
                "use method='dense', or a structure with a direct method"
            )
        mine = Run(name, run.tol, run.maxiter) if done[0] else run
        done[0] = True
        return METHODS[name](a, right, mine)

    def columns(right: Tensor) -> Tensor:
        return implicitly(cast(op, right), right, solver, least=name in LEAST)

    return folded(op, b.to(wide(b.dtype)), columns).to(b.dtype)
