"""Matrices constant along diagonals: circulants by their spectrum, Toeplitz by Levinson.

    Circulant(c): F C F^-1 = diag(F c), so C^-1 = Circulant(F^-1 (1 / F c))
    Circulant(c, f): with phi^n = f, D = diag(phi^i): D Circulant(c, f) D^-1 = Circulant(D c)
    Circulant(c, 0): lower triangular; its inverse is that of the power series sum c_k z^k

(Davis, Circulant matrices, 1979; Pan, Structured matrices and polynomials, 2001, section 2.6.)
"""

from __future__ import annotations

import cmath

import torch
from torch import Tensor

from structmat.leaves.toeplitz import Circulant
from structmat.linalg.plan import Plan, structured

__all__ = ["circulant_inverse", "series_inverse"]


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
    name = "triangular toeplitz" if op.f == 0 else "circulant"

    def run(b: Tensor) -> Tensor:
        same = Circulant(op.c.to(b.dtype if op.c.is_complex() else b.real.dtype), op.f)
        return circulant_inverse(same) @ b

    return Plan(name, run, op.operations(), 0, refine=op.f == 0)
