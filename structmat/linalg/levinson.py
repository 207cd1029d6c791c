"""Levinson's recursion, for one Toeplitz matrix or a batch of them, and the formula of the inverse.

With the leading minors T_m of T, the monic predictors T_m a = E e_0, T_m b = E e_(m-1) and their
common error E = det T_m / det T_(m-1) grow by

    a' = [a; 0] - p [0; b] / E,    b' = [0; b] - q [a; 0] / E,    E' = E - p q / E

    p = sum_j c[m - j] a[j],       q = sum_j r[j + 1] b[j]

so that det T is the product of the errors, and a system grows along by x' = [x; 0] + mu b'. There
are n steps of a fixed number of calls on preallocated numbers: O(n^2) time, O(n) memory. No leading
minor may be singular; where one almost is, digits are lost. From the last a and b follow x = a / E,
y = b / E and the whole inverse, by Gohberg and Semencul (1972),

    x_0 T^-1 = L(x) U(Jy) - L(0, y_0, ...) U(0, x_(n-1), ...)

Sources: Golub and Van Loan, Matrix computations, section 4.7; Trench, An algorithm for the
inversion of finite Toeplitz matrices (1964); Pan, Structured matrices and polynomials (2001),
section 2.11.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from structmat.leaves.toeplitz import Circulant, Toeplitz
from structmat.linalg.displacement import displacement_solve
from structmat.linalg.implicit import plain
from structmat.linalg.result import SingularError
from structmat.linalg.times import recursion_time, scipy_time
from structmat.operator import LinearOperator

__all__ = ["Recursion", "gohberg_semencul", "levinson", "recursion"]

SMALL = 2**14
"""So many numbers a step are faster in NumPy, on a CPU: its calls cost a quarter of those of torch,
but it goes once more over memory.
"""


class Recursion(NamedTuple):
    """What n steps lead to.

    Attributes:
        forward: (..., n), a of T a = E e_0, a_0 = 1.
        backward: (..., n), b of T b = E e_(n-1), b_(n-1) = 1.
        errors: (..., n), E of every leading minor; the determinant is their product.
        solution: (..., n, k), of T x = b; without columns where there was no b.
    """

    forward: Tensor
    backward: Tensor
    errors: Tensor
    solution: Tensor


def recursion(c: Tensor, r: Tensor, b: Tensor | None = None) -> Recursion:
    """Levinson's recursion without a look at the numbers: a singular minor gives no numbers.

    Args:
        c: first columns (..., n), n > 0.
        r: first rows (..., n); r[0] is not used.
        b: columns (..., n, k).
    """
    n = c.shape[-1]
    b = c[..., None][..., :0] if b is None else b
    lead = torch.broadcast_shapes(c.shape[:-1], r.shape[:-1], b.shape[:-2])
    many, k = math.prod(lead), b.shape[-1]
    dtype = torch.promote_types(torch.promote_types(c.dtype, r.dtype), b.dtype)
    c, r = (v.detach().to(dtype).expand(*lead, n).reshape(many, n) for v in (c, r))
    b = b.detach().to(dtype).expand(*lead, n, k).reshape(many, n, k)
    lags = torch.stack([c.flip(-1), r.flip(-1)], 1)
    both = torch.zeros_like(lags)  # a, and b backwards
    both[..., 0] = 1
    errors, x = torch.zeros_like(c), torch.zeros_like(b.mT)
    arrays = lags, both, errors, x, b.mT
    if c.device.type == "cpu" and both.numel() <= SMALL:
        a, w, e, y, z = (t.resolve_conj().numpy() for t in arrays)
        with np.errstate(all="ignore"):
            _grow(a, w, e, y, z, _turned)
    else:
        _grow(*arrays, torch.flip)
    forward, backward, errors = (
        t.reshape(*lead, n) for t in (both[:, 0], both[:, 1].flip(-1), errors)
    )
    return Recursion(forward, backward, errors, x.mT.reshape(*lead, n, k))


def _turned(v: Any, axes: tuple[int, ...]) -> Any:
    """``numpy.flip`` of one or two axes of a matrix, without its checks."""
    return v[..., ::-1, ::-1] if len(axes) == 2 else v[..., ::-1]


def _grow(
    lags: Any, both: Any, errors: Any, x: Any, b: Any, flip: Callable[[Any, tuple[int, ...]], Any]
) -> None:
    """The steps, in place, on arrays of NumPy or of torch, of which the words are the same."""
    n = errors.shape[-1]
    error = lags[:, 0, n - 1 :]
    errors[:, :1] = error
    if x.shape[-2]:
        x[..., :1] = b[..., :1] / error[..., None]
    for m in range(1, n):
        past, old, new = lags[..., n - 1 - m : n - 1], both[..., :m], both[..., 1 : m + 1]
        missed = (past * old).sum(-1)
        share = missed / error
        new -= share[..., None] * flip(old, (-2, -1))
        error = error - share[:, :1] * missed[:, 1:]
        errors[:, m : m + 1] = error
        if x.shape[-2]:
            rest = b[..., m] - (past[:, :1] * x[..., :m]).sum(-1)
            grown = x[..., : m + 1]
            grown += (rest / error)[..., None] * flip(both[:, 1:, : m + 1], (-1,))


# solvers: (operator, columns) to columns -------------------------------------------------------


def _pairs(op: Toeplitz | Circulant, b: Tensor) -> Iterator[tuple[Any, Any, Any]]:
    """First column, first row and right-hand sides of each matrix of a batch, as arrays."""
    kind = torch.complex128 if b.is_complex() else torch.float64
    n, k = b.shape[-2:]
    c, r = (t.detach().to(kind).expand(*b.shape[:-2], n).reshape(-1, n) for t in (op.c, op.row))
    columns = b.detach().to(kind).reshape(-1, n, k)
    yield from zip(*(t.resolve_conj().numpy() for t in (c, r, columns)), strict=True)


def _scipy(op: Toeplitz | Circulant, b: Tensor) -> Tensor:
    """By SciPy's recursion, in double precision, one matrix after the other."""
    import scipy.linalg

    try:
        found = [
            scipy.linalg.solve_toeplitz((c, r), right, check_finite=False)
            for c, r, right in _pairs(op, b)
        ]
    except (scipy.linalg.LinAlgError, ZeroDivisionError) as e:
        raise SingularError(f"{op._label()}: Levinson's recursion stops, {e}") from None
    return torch.from_numpy(np.stack(found)).reshape(b.shape)


def levinson(op: LinearOperator, b: Tensor) -> Tensor:
    """T^-1 b by Levinson's recursion, in double precision; elimination where numbers are hidden.

    Raises:
        SingularError: a leading minor is zero, or so small that the residual is large.
    """
    if not plain(op, b):
        return displacement_solve(op, b)
    assert isinstance(op, Toeplitz | Circulant)
    size = b.shape[-2], b.shape[-1], math.prod(b.shape[:-2])
    if b.device.type == "cpu" and scipy_time(*size) <= recursion_time(*size, cpu=True):
        x = _scipy(op, b)
    else:
        wide = torch.complex128 if b.is_complex() else torch.float64
        x = recursion(op.c.to(wide), op.row.to(wide), b.to(wide)).solution
    return _checked(op, x.to(b.dtype), b)


def gohberg_semencul(op: LinearOperator, b: Tensor) -> Tensor:
    """T^-1 b by its first and last column and Fourier transforms, with a step of refinement.

    Raises:
        SingularError: the minor without the last row and column is almost singular, or another
            one so much that the residual is large.
    """
    if not plain(op, b):
        return displacement_solve(op, b)
    assert isinstance(op, Toeplitz | Circulant)
    x, y = _ends(op, b)
    first = x[..., :1]
    if bool((first.abs() <= 1e-6 * x.abs().amax(-1, keepdim=True)).any()):
        raise SingularError(f"{op._label()}: the minor without the last row is almost zero")
    zero = torch.zeros_like(first)
    y_down = torch.cat([zero, y[..., :-1]], -1)
    x_up = torch.cat([zero, x[..., 1:].flip(-1)], -1)
    plus = Circulant(x, 0), Circulant(y.flip(-1), 0).T
    minus = Circulant(y_down, 0), Circulant(x_up, 0).T

    def inverse(v: Tensor) -> Tensor:
        return (plus[0] @ (plus[1] @ v) - minus[0] @ (minus[1] @ v)) / first[..., None]

    z = inverse(b)
    return _checked(op, z + inverse(b - op @ z), b)


def _ends(op: Toeplitz | Circulant, b: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last column of T^-1, of the batch and dtype of b."""
    n = b.shape[-2]
    lead = b.shape[:-2]
    many = math.prod(lead)
    if b.device.type == "cpu" and scipy_time(n, 2, many) <= recursion_time(n, 0, many, cpu=True):
        # J T J = T^T: the last column of a symmetric or Hermitian inverse follows from the first
        alone = isinstance(op, Toeplitz) and "r" not in op.tensors
        alone = alone and not (op.c.is_complex() and bool((op.c[..., 0].imag != 0).any()))
        ends = torch.zeros(n, 1 if alone else 2, dtype=b.dtype)
        ends[0, 0] = 1
        if not alone:
            ends[n - 1, 1] = 1
        found = _scipy(op, ends.expand(*lead, *ends.shape)).to(b.dtype)
        x = found[..., 0]
        return x, x.flip(-1).conj().resolve_conj() if alone else found[..., 1]
    wide = torch.complex128 if b.is_complex() else torch.float64
    c, r = op.c.to(wide).expand(*lead, n), op.row.to(wide).expand(*lead, n)
    grown = recursion(c, r)
    last = grown.errors[..., -1:]
    return (grown.forward / last).to(b.dtype), (grown.backward / last).to(b.dtype)


def _checked(op: LinearOperator, x: Tensor, b: Tensor) -> Tensor:
    gap, size = (op @ x - b).abs().amax((-2, -1)), b.abs().amax((-2, -1))
    if not bool((gap <= torch.finfo(b.dtype).eps ** 0.5 * size).all()):
        raise SingularError(f"{op._label()}: Levinson's recursion is unstable")
    return x
