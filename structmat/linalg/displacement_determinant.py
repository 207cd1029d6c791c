"""Determinants of matrices of low displacement rank, in O(n^2) operations and O(n) memory.

    Toeplitz    Levinson: det T = prod E_m, the errors of prediction (:mod:`.levinson`)
    any M       elimination: C = U_f M U_-f^H is Cauchy-like, det C is the product of the pivots and
                the sign of the exchanged rows (:mod:`.gko`), and det U_-1 = i^(n-1) det U_1

Levinson is taken where its errors lost few digits, which for a Hermitian definite matrix are not
more than its condition costs any method (Cybenko, The numerical stability of the Levinson-Durbin
algorithm for Toeplitz systems of equations, 1980). Both run in double precision. Of the two and LU
of the dense matrix, the fastest is tried first (:mod:`structmat.linalg.times`).

Gradients. From Z_f M - M Z_-f = G H follow the generators -M^-1 G and H M^-1 of the inverse, two
systems of r columns, and with p and q the f-circular convolutions of generators of both

    tr(M^-1 M) = -1/4 sum over pairs of tr(Z_-f(p) Z_f(q)),
    tr(Z_-f(p) Z_f(q)) = n p_0 q_0 + f sum_(d > 0) (n - 2 d) p_d q_(n-d)

by Fourier transforms: O(n^2) for the systems, O(r^2 n log n) for the rest.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from structmat.leaves.convolution import Convolution
from structmat.leaves.displacement import LowDisplacementRank
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz
from structmat.linalg.answer import Answer, dense, name
from structmat.linalg.determinant import (
    SignLog,
    constant,
    lu,
    of_spectrum,
    singular,
    slogdet_of,
    times,
)
from structmat.linalg.determinant_implicit import Route, determinant
from structmat.linalg.displacement import cauchy_like, generators, powers
from structmat.linalg.gko import gko_pivots
from structmat.linalg.implicit import plain
from structmat.linalg.levinson import recursion
from structmat.linalg.plan import DENSE, alternatives, cast, fastest, solved
from structmat.linalg.result import IllConditionedWarning, SingularError
from structmat.linalg.spectrum_leaves import convolution_spectrum
from structmat.linalg.times import dense_time, elimination_time, recursion_time
from structmat.linalg.toeplitz import banded
from structmat.linalg.toeplitz_plans import reversed_columns
from structmat.operator import LinearOperator

__all__: list[str] = []

LOST = 1e-10
"""The relative error of an error of prediction above which elimination is preferred."""


def _wide(op: LinearOperator) -> LinearOperator:
    dtype = torch.complex128 if op.dtype.is_complex else torch.float64
    return op if op.dtype == dtype else op.to(dtype)


# Levinson --------------------------------------------------------------------------------------


def _by_levinson(op: LinearOperator) -> tuple[Tensor, Tensor]:
    """The product of the errors of prediction.

    Raises:
        SingularError: a leading minor is so small that digits were lost.
    """
    wide = _wide(op)
    assert isinstance(wide, Toeplitz)
    grown = recursion(wide.c, wide.row)
    errors, last = grown.errors, grown.errors[..., -1:]
    size = torch.maximum(wide.c.abs().amax(-1), wide.row.abs().amax(-1))
    lost = torch.finfo(errors.dtype).eps * size / errors.abs().amin(-1)
    first = grown.forward
    gap = (wide(first) - torch.nn.functional.pad(last, (0, first.shape[-1] - 1))).abs().amax(-1)
    good = (lost <= LOST) & (gap <= LOST * last[..., 0].abs())
    definite = _hermitian(wide) & (errors.real > 0).all(-1)
    if not bool((good | definite).all()):
        raise SingularError(f"{op._label()}: a leading minor is almost singular")
    if bool((definite & ~(lost <= 1e-2)).any()):
        _warn(op, "Levinson's recursion", float(lost.max()))
    return _product(errors, op.dtype)


def _hermitian(op: Toeplitz) -> Tensor:
    """Which of a batch are Hermitian, by their numbers."""
    c, r = op.c, op.row
    same = (c[..., 1:] == r[..., 1:].conj()).all(-1)
    return same & (c[..., 0].imag == 0) if c.is_complex() else same


def _product(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    sign, size = torch.sgn(values).prod(-1), values.abs().log().sum(-1)
    return sign.to(dtype), size.to(dtype.to_real())


def _warn(op: LinearOperator, method: str, lost: float) -> None:
    warnings.warn(
        f"slogdet: {op._label()} is ill-conditioned: {method} divides by a number with a relative "
        f"error of about {lost:.1e}, and the logarithm has one as large; scale or regularise A",
        IllConditionedWarning,
        stacklevel=2,
    )


# elimination of generators ---------------------------------------------------------------------


def _by_elimination(op: LinearOperator) -> tuple[Tensor, Tensor]:
    """The product of the pivots; real for a real matrix.

    Raises:
        SingularError: all but two digits of a pivot were lost, and the dense matrix is small enough
            to be tried instead.
    """
    n = op.shape[0]
    wide = _wide(op)
    f, G, H = generators(wide)
    found = gko_pivots(*cauchy_like(f, G, H))
    if plain(op):
        # the transforms spread errors over all of C, so that small pivots have those of large ones
        rounding = torch.finfo(found.size.dtype).eps * found.size.amax(-1, keepdim=True)
        lost = rounding / found.value.abs()
        if not bool((lost <= 1e-2).all()):
            if n <= DENSE:
                raise SingularError(f"{op._label()}: pivots are lost in rounding")
            if not bool((found.value == 0).any()):
                _warn(op, "elimination", float(lost.max()))
    turns = (1, 1j, -1, -1j)[(n - 1) * f % 4]
    swaps = 1 - 2 * (found.exchanged.sum(-1) % 2)
    zero = (found.value == 0).any(-1)  # a column of zeros, and no numbers after it
    sign = torch.where(zero, 0, torch.sgn(found.value).prod(-1) * (swaps * turns))
    size = torch.where(zero, -math.inf, found.value.abs().log().sum(-1))
    if not op.dtype.is_complex:
        sign = torch.sgn(sign.real)
    return sign.to(op.dtype), size.to(op.dtype.to_real())


# gradients -------------------------------------------------------------------------------------


def _inverse_generators(op: LinearOperator) -> tuple[Tensor, ...]:
    """u, v with Z_-f M^-1 - M^-1 Z_f = u v."""
    _, G, H = generators(op)
    turned = op._transpose()
    r = G.shape[-1]
    u = solved(op, G, fastest(alternatives(op), r))
    v = solved(turned, H.mT, fastest(alternatives(turned), r))
    return -u, v.mT


def _paired(op: LinearOperator, inverse: tuple[Tensor, ...]) -> Tensor:
    """tr(W M), for the matrix W of generators u, v with the shifts exchanged."""
    f, G, H = generators(op)
    u, v = inverse
    n = G.shape[-2]
    p = _convolved(H.flip(-1)[..., None, :], u.mT[..., None, :, :], -f)
    q = _convolved(v.flip(-1)[..., None, :, :], G.mT[..., None, :], f)
    d = torch.arange(n, device=G.device)
    weight = torch.where(d == 0, n, f * (n - 2 * d))
    products = p * q.flip(-1).roll(1, -1) * weight
    out = products.sum((-3, -2, -1)) / -4
    return out if op.dtype.is_complex else out.real


def _convolved(a: Tensor, b: Tensor, f: int) -> Tensor:
    """The first column of Z_f(a) Z_f(b), in complex numbers."""
    n = a.shape[-1]
    a, b = a.to(a.dtype.to_complex()), b.to(b.dtype.to_complex())
    if f == 1:
        out: Tensor = torch.fft.ifft(torch.fft.fft(a) * torch.fft.fft(b))
        return out
    turn = powers(n, a)
    spectrum = torch.fft.fft(a * turn) * torch.fft.fft(b * turn)
    skew: Tensor = torch.fft.ifft(spectrum) * turn.conj()
    return skew


LEVINSON = Route(_by_levinson, _inverse_generators, _paired)
ELIMINATION = Route(_by_elimination, _inverse_generators, _paired)


# the rules -------------------------------------------------------------------------------------


def _tried(op: LinearOperator, to: Tensor, routes: dict[str, Route]) -> Answer[SignLog]:
    """The fastest of the routes and of LU that keeps its digits."""
    n, many, cpu = op.shape[0], math.prod(op.batch_shape), op.device.type == "cpu"
    same = cast(op, to)

    def run(how: str) -> Answer[SignLog]:
        if how == "dense LU":
            return lu(dense(op, to, "slogdet"), how)
        sign, size = determinant(same, routes[how])
        return Answer(SignLog(sign.to(to.dtype), size), how)

    if not plain(op):  # elimination alone needs no look at the numbers
        return run("dense LU" if n <= DENSE else "elimination of generators")
    took: dict[str, Callable[[], float]] = {
        "Levinson": lambda: recursion_time(n, 0, many, cpu),
        "elimination of generators": lambda: elimination_time(n, 0, many, cpu),
        "dense LU": lambda: dense_time(n, 0, many) if cpu else math.inf,
    }
    order = sorted([*routes, *(["dense LU"] if n <= DENSE else [])], key=lambda how: took[how]())
    for how in order[:-1]:
        try:
            return run(how)
        except SingularError:
            continue
    return run(order[-1])


@slogdet_of.register
def _(op: Toeplitz, to: Tensor) -> Answer[SignLog]:
    if op.shape[0] == 0:
        return constant(to, 1, 0.0, "empty")
    return _tried(op, to, {"Levinson": LEVINSON, "elimination of generators": ELIMINATION})


@slogdet_of.register
def _(op: LowDisplacementRank, to: Tensor) -> Answer[SignLog]:
    if op.shape[0] == 0:
        return constant(to, 1, 0.0, "empty")
    if op.rank == 0:
        return singular(to, "zero displacement")
    return _tried(op, to, {"elimination of generators": ELIMINATION})


@slogdet_of.register
def _(op: Hankel, to: Tensor) -> Answer[SignLog]:
    n = op.shape[0]
    if n == 0:
        return constant(to, 1, 0.0, "empty")
    turned = constant(to, (-1) ** (n * (n - 1) // 2), 0.0, "")  # the columns reversed
    inner = slogdet_of(reversed_columns(op), to)
    found = times([(inner, 1), (turned, 1)], "")
    return Answer(found.value, inner.method)


@slogdet_of.register
def _(op: Convolution, to: Tensor) -> Answer[SignLog]:
    found = convolution_spectrum(op, to)
    if found is not None:
        return of_spectrum(found[0], to, found[1])
    if len(op.n) > 1:
        return slogdet_of.dispatch(LinearOperator)(op, to)
    inner = banded(op)
    assert isinstance(inner, Toeplitz | Circulant)
    answer = slogdet_of(inner, to)
    return Answer(answer.value, name("Toeplitz", [answer.method]))
