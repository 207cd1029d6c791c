"""The exponential of a matrix acting on vectors: expm(t A) x.

By the operator expm(t A) where structure closes it (:mod:`structmat.linalg.expm`), and otherwise by
the truncated Taylor series of Al-Mohy and Higham (Computing the action of the matrix exponential,
2011): x is multiplied s times by the series of expm(t A / s) to the degree m, with s and m from a
bound of the norm of t A such that the backward error is at most the unit roundoff. It only
multiplies by A; multiples of I in a sum are split off, exp(A + k I) = exp(k) exp(A).
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from numbers import Number
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from structmat.compose import (
    Block,
    DirectSum,
    Kronecker,
    KroneckerSum,
    Product,
    Scaled,
    Sum,
    Transpose,
)
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.monarch import Monarch
from structmat.linalg.answer import Answer, like, need_square, not_an_operator
from structmat.linalg.diagonal import diagonal_of
from structmat.linalg.entries import flat
from structmat.linalg.expm import expm_of, pushed
from structmat.linalg.norm import norm
from structmat.linalg.searched import searched
from structmat.linalg.structure import modulus, shifted
from structmat.operator import LinearOperator, as_tensor
from structmat.properties import unitary_scale
from structmat.tracing import whole

__all__ = ["expm_multiply"]

DEGREES = tuple(range(5, 56, 5))


@overload
def expm_multiply(
    A: LinearOperator,
    x: Any,
    t: Any = ...,
    *,
    bound: float | None = ...,
    return_method: Literal[False] = ...,
) -> Tensor: ...
@overload
def expm_multiply(
    A: LinearOperator,
    x: Any,
    t: Any = ...,
    *,
    bound: float | None = ...,
    return_method: Literal[True],
) -> Answer[Tensor]: ...
@whole
def expm_multiply(
    A: LinearOperator,
    x: Any,
    t: Any = 1.0,
    *,
    bound: float | None = None,
    return_method: bool = False,
) -> Tensor | Answer[Tensor]:
    """expm(t A) x, without the exponential.

    Args:
        A: square operator.
        x: vector (n,) or columns (..., n, b), as for ``A @ x``.
        t: number, or real or complex tensor without dimensions, that receives a gradient.
        bound: of a norm of t A, which decides the number of products; by default one is computed.
            While torch traces it must be given: numbers are not seen.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Tensor of the shape of ``A @ x``.

    Raises:
        TypeError: A is no operator, integer x.
        ValueError: A is not square, x does not fit, t has dimensions or is no finite number, no
            bound while torch traces.

    Source: ``scipy.sparse.linalg.expm_multiply``.

    Example:
        >>> import torch, structmat as sm
        >>> D = sm.Convolution(torch.tensor([-1.0, 1.0]), 3)  # x' = D x
        >>> sm.expm_multiply(D, torch.tensor([1.0, 0.0, 0.0]), t=2.0)
        tensor([0.1353, 0.2707, 0.2707])
    """
    if not isinstance(A, LinearOperator):
        not_an_operator("expm_multiply", A)
    need_square("expm_multiply", A)
    x = as_tensor(x, "expm_multiply: x", 1)
    A._check_input(x, -1 if x.ndim == 1 else -2, "expm_multiply(A, x)")
    if isinstance(t, Tensor) and t.ndim:
        raise ValueError(
            f"expm_multiply: t has shape {tuple(t.shape)}, needs a number; for several times call "
            "it for each, from the result of the one before"
        )
    scaled = A if not isinstance(t, Tensor) and t == 1 else Scaled(_time(t, A), A)
    rows = x.unsqueeze(-2) if x.ndim == 1 else x.mT
    if bound is not None and not 0 <= bound < math.inf:
        raise ValueError(f"expm_multiply: bound = {bound} is no norm, which is a number from 0")
    # numbers of an operator without a dtype are those of x
    to = like(scaled)
    if scaled.strong_dtype is None:
        to = to.to(torch.promote_types(torch.float32, x.real.dtype if x.is_complex() else x.dtype))
    structured = expm_of(scaled, to)
    if structured is not None:
        y, method = structured._rows(rows), "exponential by structure"
    else:
        y, method = _taylor(scaled, rows, bound, to)
    lead = torch.broadcast_shapes(A.batch_shape, y.shape[:-2])
    y = y.expand(*lead, *y.shape[-2:])
    y = y.squeeze(-2) if x.ndim == 1 else y.mT
    return Answer(y, method) if return_method else y


def _time(t: Any, op: LinearOperator) -> Any:
    if isinstance(t, Tensor) and not (t.is_floating_point() or t.is_complex()):
        return float(t)
    if not isinstance(t, Tensor | Number):
        raise TypeError(f"expm_multiply: t is {type(t).__name__}, needs a number")
    if not isinstance(t, Tensor) and not cmath.isfinite(complex(cast(Any, t))):
        raise ValueError(f"expm_multiply: t = {t} is no finite number")
    return t


# the series -------------------------------------------------------------------------------------


@lru_cache
def radius(degree: int, eps: float) -> float:
    """The largest theta such that norm(A) <= theta makes the backward error at most eps.

    log(exp(-z) T_m(z)) = sum_{k > m} h_k z^k; theta solves sum |h_k| theta^(k-1) = eps. The
    coefficients of exp(-z) T_m(z) - 1 are (-1)^(k - m) C(k - 1, m) / k! for k > m, and the
    logarithm differs from it by products of two of them, below eps^2.
    """

    def backward(theta: float) -> float:
        total = 0.0
        for k in range(degree + 1, degree + 80):
            size = math.lgamma(k) - math.lgamma(degree + 1) - math.lgamma(k - degree)
            total += math.exp(size - math.lgamma(k + 1) + (k - 1) * math.log(theta))
        return total

    low, high = 1e-8, 40.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if backward(middle) <= eps else (low, middle)
    return low


def plan(size: float, eps: float) -> tuple[int, int]:
    """(steps, degree) with the fewest products for norm(t A) = size."""
    options = ((max(1, math.ceil(size / radius(m, eps))), m) for m in DEGREES)
    return min(options, key=lambda pair: (pair[0] * pair[1], pair[1]))


def bounds(op: LinearOperator, to: Tensor) -> Tensor:
    """Upper bounds of the 1-, the inf- and the 2-norm from the parts, (..., 3).

    Each is consistent, so that the least of them may take the place of the norm: the exact norm of
    a product would cost more than the exponential.
    """
    match op:
        case Sum() | KroneckerSum():
            total = to.new_zeros(3).abs()
            for c in op.children:
                total = total + bounds(c, to)
            return total
        case Product() | Kronecker() | MonarchChain() | Monarch() | Butterfly():
            factors = op.children if isinstance(op, Kronecker) else flat([op])
            out = to.new_ones(3).abs()
            for c in factors:
                out = out * bounds(c, to)
            return out
        case DirectSum():
            most = to.new_zeros(3).abs()
            for c in op.children:
                most = torch.maximum(most, bounds(c, to))
            return most
        case Block():
            grid = [[bounds(c, to) for c in row] for row in op.rows()]
            one, other = (_largest(g, k) for k, g in enumerate((zip(*grid, strict=True), grid)))
            return torch.stack([one, other, (one * other).sqrt()], -1)
        case Scaled():
            return bounds(op.children[0], to) * modulus(op, to, 1)
        case Transpose():
            return bounds(op.children[0], to)[..., [1, 0, 2]]
    if 0 in op.shape:
        return to.new_zeros(3).abs()
    scale = unitary_scale(op)
    if scale is not None:
        side = math.sqrt(op.shape[0])
        return to.new_tensor([side * scale, side * scale, scale]).abs()
    one, other = norm(op, 1).to(to.abs()), norm(op, math.inf).to(to.abs())
    return torch.stack([one, other, (one * other).sqrt()], -1)


def _largest(lines: Iterable[Sequence[Tensor]], k: int) -> Tensor:
    """The largest sum of the k-th bounds over a line of blocks."""
    most: Tensor | None = None
    for line in lines:
        total = line[0][..., k]
        for b in line[1:]:
            total = total + b[..., k]
        most = total if most is None else torch.maximum(most, total)
    assert most is not None
    return most


def _size(op: LinearOperator, rest: LinearOperator, to: Tensor) -> float:
    """A bound of the norm of every operator of a batch, also one that torch maps over."""
    if is_in_torch_dispatch_mode() or torch.compiler.is_compiling():
        raise ValueError(
            f"expm_multiply: the norm of {op._label()} cannot be looked at while torch traces; "
            "give an upper bound of the norm of t A, bound=..."
        )
    largest = searched(
        "expm_multiply", rest, lambda a: (bounds(a, to).amin(-1).max(),), together=True
    )
    return float(largest[0])


def _taylor(
    op: LinearOperator, rows: Tensor, bound: float | None, to: Tensor
) -> tuple[Tensor, str]:
    if op.shape[0] == 0:
        return op._rows(rows), "empty"
    spread = pushed(op.children[0], op) if isinstance(op, Scaled) else None
    rest, shifts = shifted(spread or op)
    assert rest is not None  # multiples of I alone are diagonal
    size = _size(op, rest, to) if bound is None else bound
    if not math.isfinite(size):
        raise ValueError(f"expm_multiply: {op._label()} has entries that are no finite numbers")
    steps, degree = plan(size, torch.finfo(to.dtype).eps / 2)
    by = diagonal_of(Sum(*shifts), 0, to).value[..., :1, None] if shifts else None
    y = rows.to(torch.promote_types(rows.dtype, to.dtype))
    for _ in range(steps):
        term = total = y
        for k in range(1, degree + 1):
            term = rest._rows(term) / (k * steps)
            total = total + term
        y = total if by is None else total * torch.exp(by / steps)
    return y, f"Taylor series, {steps} steps of degree {degree}"
