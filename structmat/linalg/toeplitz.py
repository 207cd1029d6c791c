"""Matrices constant along diagonals whose systems Fourier transforms solve.

    Circulant(c): F C F^-1 = diag(F c), so C^-1 = Circulant(F^-1 (1 / F c))
    Circulant(c, f): with phi^n = f, D = diag(phi^i): D Circulant(c, f) D^-1 = Circulant(D c)
    Circulant(c, 0): lower triangular; its inverse is that of the power series sum c_k z^k
    convolutions: circular ones by their spectrum, causal ones by a power series, others are
    Toeplitz (:mod:`structmat.linalg.toeplitz_plans`)

(Davis, Circulant matrices, 1979; Pan, Structured matrices and polynomials, 2001, section 2.6.)
"""

from __future__ import annotations

import cmath
from collections.abc import Callable

import torch
from torch import Tensor

from structmat.leaves.convolution import Convolution
from structmat.leaves.statespace import StateSpace
from structmat.leaves.toeplitz import Circulant, Toeplitz
from structmat.linalg.plan import (
    Plan,
    alternatives,
    dense_fallback,
    singular,
    structured,
    transposed,
)
from structmat.operator import LinearOperator

__all__ = ["banded", "circulant_inverse", "series_inverse", "wrapped_kernel"]


def series_inverse(c: Tensor) -> Tensor:
    """The first n coefficients of 1 / (c_0 + c_1 z + ...): Newton's iteration, which doubles them.

    Source: Knuth, The art of computer programming 2, section 4.7.
    """
    n = c.shape[-1]
    g = 1 / c[..., :1]
    while g.shape[-1] < n:
        size = min(2 * g.shape[-1], n)
        longer = torch.cat([g, g.new_zeros(*g.shape[:-1], size - g.shape[-1])], -1)
        error = _times(_times(c[..., :size], longer), longer)
        g = 2 * longer - error
    return g


def _times(a: Tensor, b: Tensor) -> Tensor:
    """The first n coefficients of a product of power series."""
    n = a.shape[-1]
    if not (a.is_complex() or b.is_complex()):
        real: Tensor = torch.fft.irfft(torch.fft.rfft(a, 2 * n) * torch.fft.rfft(b, 2 * n), 2 * n)
        return real[..., :n]
    out: Tensor = torch.fft.ifft(torch.fft.fft(a, 2 * n) * torch.fft.fft(b, 2 * n))
    return out[..., :n]


def circulant_inverse(op: Circulant) -> Circulant:
    """The inverse of an f-circulant matrix, one of the same f."""
    c, f = op.c, op.f
    n = c.shape[-1]
    if n == 0:
        return op
    if f == 0:
        return Circulant(series_inverse(c), f)
    dtype = op.dtype
    powers = None
    if f != 1:
        root = cmath.exp(cmath.log(f) / n)
        wide = torch.complex128 if dtype in (torch.float64, torch.complex128) else torch.complex64
        steps = torch.arange(n, device=c.device, dtype=torch.float64)
        powers = torch.polar(abs(root) ** steps, cmath.phase(root) * steps).to(wide)
    spectrum = torch.fft.fft(c if powers is None else c * powers)
    out = torch.fft.ifft(1 / spectrum)
    out = out if powers is None else out / powers
    return Circulant(out if dtype.is_complex else out.real, f)


@structured.register
def _(op: Circulant) -> Plan | None:
    if op.shape[0] == 0:
        return None
    if op.f == 0:
        return _triangular_plan(op, False)

    def run(b: Tensor) -> Tensor:
        same = Circulant(op.c.to(b.dtype if op.c.is_complex() else b.real.dtype), op.f)
        return circulant_inverse(same) @ b

    # powers of f^(1/n) between 1 and f lose digits
    return Plan("circulant", run, op.operations(), refine=abs(op.f) != 1)


def _triangular_plan(
    op: LinearOperator, turned: bool, column: Callable[[], Tensor] | None = None
) -> Plan:
    """A power series; the transpose is the same matrix between two reversals.

    Args:
        op: lower triangular Toeplitz, or a class that is one (or its transpose) by ``column``.
        turned: whether it is the transpose that is solved.
        column: makes the first column of the lower triangular matrix.
    """

    def run(b: Tensor) -> Tensor:
        if turned:
            b = b.flip(-2)
        c = column() if column is not None else op.tensors["c"]
        x = Circulant(series_inverse(c.to(b.dtype)), 0) @ b
        return x.flip(-2) if turned else x

    last = None if op.batch_shape else dense_fallback(op)
    return Plan("triangular toeplitz", run, op.operations(), refine=True, fallback=last)


@structured.register
def _(op: StateSpace) -> Plan | None:
    if op.length == 0:
        return None
    if "D" not in op.tensors:
        return singular(op, "its diagonal is zero, there is no D")
    return _triangular_plan(op, op.transposed, op.kernel)


@transposed.register
def _(op: Circulant) -> Plan | None:
    if op.f == 0 and op.shape[0]:
        return _triangular_plan(op, True)
    return structured(op._transpose())


@structured.register
def _(op: Convolution) -> Plan | None:
    """On one axis it is a Toeplitz or circulant matrix; a circular one on two is diagonalised."""
    m, n = op.shape
    if m != n or n == 0:
        return None
    if op.mode == "circular":

        def run(b: Tensor) -> Tensor:
            kernel = wrapped_kernel(op).to(b.dtype)
            axes = tuple(range(-len(op.n), 0))
            spectrum = torch.fft.fftn(kernel, dim=axes)
            if op.transposed:
                spectrum = spectrum.flip(axes).roll([1] * len(axes), axes)
            columns = b.mT.reshape(*b.shape[:-2], b.shape[-1], *op.n)
            quotient = torch.fft.fftn(columns, dim=axes) / spectrum.unsqueeze(-len(axes) - 1)
            x: Tensor = torch.fft.ifftn(quotient, dim=axes)
            x = x.reshape(*x.shape[: -len(axes)], n).mT
            return x if b.is_complex() else x.real

        return Plan("circulant", run, op.operations())
    if len(op.n) > 1:
        return None
    found = banded(op)
    if isinstance(found, Circulant):
        return _triangular_plan(found, op.transposed)
    return structured(found)


@alternatives.register
def _(op: Convolution) -> list[Plan]:
    found = banded(op) if op.shape[0] == op.shape[1] and len(op.n) == 1 else None
    if isinstance(found, Toeplitz) and op.mode != "circular":
        return alternatives(found)
    plan = structured(op)
    return [] if plan is None else [plan]


def banded(op: Convolution) -> Toeplitz | Circulant:
    """A square convolution on one axis that does not wrap: Toeplitz, from the first row and column.

    A causal one is lower triangular, Circulant(c, 0), also where op is its transpose.
    """
    n = op.shape[0]
    c = op.kernel
    first = (c.shape[-1] - 1) // 2 if op.mode == "same" else 0
    column = _fitted(c[..., first:], n)
    if first == 0:
        return Circulant(column, 0)
    row = _fitted(c[..., : first + 1].flip(-1), n)
    return Toeplitz(row, column) if op.transposed else Toeplitz(column, row)


def _fitted(v: Tensor, n: int) -> Tensor:
    """The first n entries, padded with zeros."""
    return torch.nn.functional.pad(v[..., :n], (0, max(n - v.shape[-1], 0)))


def wrapped_kernel(op: Convolution) -> Tensor:
    """The kernel on the circle of the signal: entries past the end wrap around."""
    w = op.kernel
    for axis, n in enumerate(op.n):
        at = axis - len(op.n)
        turns = -(-w.shape[at] // n)
        pad = [0] * (2 * -at)
        pad[2 * (-at - 1) + 1] = turns * n - w.shape[at]
        w = torch.nn.functional.pad(w, pad).unflatten(at, (turns, n)).sum(at - 1)
    return w
