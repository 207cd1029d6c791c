"""Matrices constant along diagonals: circulants by their spectrum, Toeplitz by Levinson.

    Circulant(c): F C F^-1 = diag(F c), so C^-1 = Circulant(F^-1 (1 / F c))
    Circulant(c, f): with phi^n = f, D = diag(phi^i): D Circulant(c, f) D^-1 = Circulant(D c)
    Circulant(c, 0): lower triangular; its inverse is that of the power series sum c_k z^k
    Toeplitz: Levinson's recursion, O(n^2), where no leading minor is zero; elimination otherwise.
    For many columns T^-1 is made once, as two differences of products of triangular Toeplitz
    matrices (Gohberg and Semencul, 1972), applied by Fourier transforms.

(Davis, Circulant matrices, 1979; Pan, Structured matrices and polynomials, 2001, section 2.6.)
"""

from __future__ import annotations

import cmath
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from structmat.leaves.convolution import Convolution
from structmat.leaves.statespace import StateSpace
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz
from structmat.linalg.displacement import displacement_solve, gko_plan
from structmat.linalg.implicit import implicitly, plain
from structmat.linalg.plan import (
    Plan,
    alternatives,
    cast,
    dense_fallback,
    singular,
    structured,
    transposed,
    with_fallbacks,
)
from structmat.linalg.result import SingularError
from structmat.operator import LinearOperator

__all__ = ["circulant_inverse", "levinson", "series_inverse"]


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


def levinson(op: LinearOperator, b: Tensor) -> Tensor:
    """T^-1 b by Levinson's recursion, in double precision; elimination where numbers are hidden.

    Raises:
        SingularError: a leading minor is zero, or so small that the residual is large.
    """
    import scipy.linalg

    if b.ndim != 2 or b.device.type != "cpu" or not plain(op, b):
        return displacement_solve(op, b)
    assert isinstance(op, Toeplitz | Circulant)
    kind = torch.complex128 if b.is_complex() else torch.float64
    c, r, right = (t.detach().to(kind).resolve_conj().numpy() for t in (op.c, op.row, b))
    try:
        x = torch.from_numpy(scipy.linalg.solve_toeplitz((c, r), right, check_finite=False))
    except (scipy.linalg.LinAlgError, ZeroDivisionError) as e:
        raise SingularError(f"{op._label()}: Levinson's recursion stops, {e}") from None
    x = x.to(b.dtype)
    gap, size = (op @ x - b).abs().amax(), b.abs().amax()
    if not bool(gap <= torch.finfo(b.dtype).eps ** 0.5 * size):
        raise SingularError(f"{op._label()}: Levinson's recursion is unstable")
    return x


def _levinson_plan(op: Toeplitz) -> Plan:
    n = op.shape[0]

    def run(b: Tensor) -> Tensor:
        return implicitly(cast(op, b), b, levinson) if b.numel() else b

    return Plan("levinson", run, (3 * n * n, 3 * n * n), fallback=gko_plan(op, 2), refine=True)


@structured.register
def _(op: Toeplitz) -> Plan | None:
    if op.shape[0] != op.shape[1] or op.shape[0] == 0:
        return None
    lonely = not op.batch_shape and op.device.type == "cpu"
    return _levinson_plan(op) if lonely else gko_plan(op, 2)


@alternatives.register
def _(op: Toeplitz) -> list[Plan]:
    if op.shape[0] != op.shape[1] or op.shape[0] == 0:
        return []
    plans = [gko_plan(op, 2), _gohberg_semencul_plan(op)]
    return plans if op.batch_shape else [_levinson_plan(op), *plans]


def _gohberg_semencul_plan(op: Toeplitz) -> Plan:
    """x_0 T^-1 = L(x) U(Jy) - L(0, y_0, ...) U(0, x_(n-1), ...), T x = e_0, T y = e_(n-1)."""
    n = op.shape[0]
    inner = structured(op)
    assert inner is not None

    def run(b: Tensor) -> Tensor:
        ends = torch.zeros(n, 2, dtype=b.dtype, device=b.device)
        ends = torch.where(_corner(n, b.device), torch.ones_like(ends), ends)
        x, y = inner.robust(ends).unbind(-1)
        first = x[..., :1]
        if plain(x) and bool((first.abs() <= 1e-6 * x.abs().amax(-1, keepdim=True)).any()):
            raise SingularError(f"{op._label()}: the minor without the last row is almost zero")
        zero = torch.zeros_like(first)
        y_down = torch.cat([zero, y[..., :-1]], -1)
        x_up = torch.cat([zero, x[..., 1:].flip(-1)], -1)
        one = Circulant(x, 0) @ (Circulant(y.flip(-1), 0).T @ b)
        two = Circulant(y_down, 0) @ (Circulant(x_up, 0).T @ b)
        return (one - two) / first[..., None]

    product = Circulant(op.c, 0).operations()
    each = 4 * product[0] + n, 4 * product[1] + n
    setup = inner.setup + 2 * sum(inner.each)
    return Plan("gohberg-semencul", run, each, setup, fallback=gko_plan(op, 2), refine=True)


def _corner(n: int, device: torch.device) -> Tensor:
    """True at (0, 0) and (n - 1, 1)."""
    i = torch.arange(n, device=device)
    return torch.stack([i == 0, i == n - 1], -1)


@structured.register
def _(op: Hankel) -> Plan | None:
    """H = T J with the columns of H reversed, T Toeplitz: x = J T^-1 b."""
    n = op.shape[0]
    if n != op.shape[1] or n == 0:
        return None
    h = op._antidiagonals()
    inner = structured(Toeplitz(h[..., n - 1 :], h[..., :n].flip(-1)))
    assert inner is not None

    def build(plans: Sequence[Plan]) -> Plan:
        (inner,) = plans
        return replace(inner, run=lambda b: inner.run(b).flip(-2), fallback=None)

    return with_fallbacks(build, [inner])


@structured.register
def _(op: Convolution) -> Plan | None:
    """On one axis it is a Toeplitz or circulant matrix; a circular one on two is diagonalised."""
    m, n = op.shape
    if m != n or n == 0:
        return None
    if op.mode == "circular":

        def run(b: Tensor) -> Tensor:
            kernel = _wrapped_kernel(op).to(b.dtype)
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
    c = op.kernel
    first = (c.shape[-1] - 1) // 2 if op.mode == "same" else 0
    column = _fitted(c[..., first:], n)
    row = _fitted(c[..., : first + 1].flip(-1), n)
    if first == 0:
        return _triangular_plan(Circulant(column, 0), op.transposed)
    return structured(Toeplitz(row, column) if op.transposed else Toeplitz(column, row))


def _fitted(v: Tensor, n: int) -> Tensor:
    """The first n entries, padded with zeros."""
    return torch.nn.functional.pad(v[..., :n], (0, max(n - v.shape[-1], 0)))


def _wrapped_kernel(op: Convolution) -> Tensor:
    """The kernel on the circle of the signal: entries past the end wrap around."""
    w = op.kernel
    for axis, n in enumerate(op.n):
        at = axis - len(op.n)
        turns = -(-w.shape[at] // n)
        pad = [0] * (2 * -at)
        pad[2 * (-at - 1) + 1] = turns * n - w.shape[at]
        w = torch.nn.functional.pad(w, pad).unflatten(at, (turns, n)).sum(at - 1)
    return w
