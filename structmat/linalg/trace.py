"""The trace: linear in structure, multiplicative in Kronecker products.

    tr(A (x) B) = tr A tr B        tr(U V) = sum_ij U[i, j] V[j, i]       tr P = fixed points of P
    tr T = n c[0]                  tr F_n = sum_k exp(-2 pi i k^2 / n)    (Gauss's quadratic sum:
                                   sqrt(n) (1 - i), 1, 0, -i for n = 0, 1, 2, 3 mod 4)

Everything else is the sum of the diagonal (:mod:`structmat.linalg.diagonal`). Where only products
with vectors are known and n is large, ``method="hutchinson"`` estimates E[z^H A z] = tr A over
random signs z (Hutchinson 1990), and ``"xtrace"`` is the exchangeable estimator of Epperly, Tropp
and Webber (XTrace: making the most of every sample in stochastic trace estimation, 2024).
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Scaled, Sum, Transpose
from structmat.leaves.dense import LowRank
from structmat.leaves.diagonal import Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.permutation import Permutation
from structmat.leaves.toeplitz import Circulant, Toeplitz
from structmat.linalg.answer import Answer, like, name, need_square, not_an_operator, spread
from structmat.linalg.diagonal import diagonal_of
from structmat.linalg.entries import scalar
from structmat.operator import LinearOperator
from structmat.tracing import whole

__all__ = ["trace", "trace_of"]

STOCHASTIC = ("hutchinson", "xtrace")


@overload
def trace(
    A: LinearOperator,
    *,
    method: Literal["exact"] = ...,
    samples: int = ...,
    generator: torch.Generator | None = ...,
    return_method: Literal[False] = ...,
) -> Tensor: ...
@overload
def trace(
    A: LinearOperator,
    *,
    method: str = ...,
    samples: int = ...,
    generator: torch.Generator | None = ...,
    return_method: bool = ...,
) -> Answer[Tensor]: ...
@whole
def trace(
    A: LinearOperator,
    *,
    method: str = "exact",
    samples: int = 64,
    generator: torch.Generator | None = None,
    return_method: bool = False,
) -> Tensor | Answer[Tensor]:
    """The sum of the diagonal.

    Args:
        A: square operator.
        method: ``"exact"``; or an estimate from random vectors, ``"hutchinson"`` or ``"xtrace"``,
            which returns an :class:`structmat.linalg.Answer` with its standard error.
        samples: how many products with A an estimate may take.
        generator: of the random vectors; torch's default one where None.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Tensor of shape batch_shape, or an Answer.

    Raises:
        TypeError: A is no operator.
        ValueError: A is not square, an unknown method, too few samples.

    Example:
        >>> import torch, structmat as sm
        >>> sm.trace(sm.kron(sm.Diagonal(torch.tensor([1.0, 2.0])), sm.Identity(1000)))
        tensor(3000.)
    """
    if not isinstance(A, LinearOperator):
        not_an_operator("trace", A)
    need_square("trace", A)
    if method in STOCHASTIC:
        estimate = _hutchinson if method == "hutchinson" else _xtrace
        return estimate(A, samples, generator)
    if method != "exact":
        raise ValueError(f"trace: method {method!r} is none of 'exact', {STOCHASTIC}")
    found = trace_of(A, like(A))
    found = Answer(spread(found.value, A, 0), found.method)
    return found if return_method else found.value


@singledispatch
def trace_of(op: LinearOperator, to: Tensor) -> Answer[Tensor]:
    """The rule behind :func:`trace`; register a class of your own for its structure."""
    found = diagonal_of(op, 0, to)
    return Answer(found.value.sum(-1), name("sum of the diagonal", [found.method]))


@trace_of.register
def _(op: Identity, to: Tensor) -> Answer[Tensor]:
    return Answer(to.new_tensor(op.n), "identity")


@trace_of.register
def _(op: Zero, to: Tensor) -> Answer[Tensor]:
    return Answer(to.new_zeros(()), "zero")


@trace_of.register
def _(op: Permutation, to: Tensor) -> Answer[Tensor]:
    table = op.index.array()
    return Answer(to.new_tensor(int(np.sum(table == np.arange(table.size)))), "fixed points")


@trace_of.register
def _(op: LowRank, to: Tensor) -> Answer[Tensor]:
    both = op.left.to(to) * op.right.to(to).mT
    return Answer(both.sum((-2, -1)), "sum over the low-rank factors")


@trace_of.register(Toeplitz)
@trace_of.register(Circulant)
def _(op: Toeplitz | Circulant, to: Tensor) -> Answer[Tensor]:
    n = op.shape[0]
    return Answer(op.c.to(to)[..., :1].sum(-1) * n, "constant diagonal")


@trace_of.register
def _(op: DFT, to: Tensor) -> Answer[Tensor]:
    if op.n == 0:
        return Answer(to.new_zeros(()), "empty")
    gauss = math.sqrt(op.n) * (1 - 1j, 1, 0, -1j)[op.n % 4]
    value = complex(gauss).conjugate() if op.inverse else gauss
    return Answer(to.new_tensor(value * op.factor()), "Gauss sum")


@trace_of.register
def _(op: Transpose, to: Tensor) -> Answer[Tensor]:
    return trace_of(op.children[0], to)


@trace_of.register
def _(op: Scaled, to: Tensor) -> Answer[Tensor]:
    found = trace_of(op.children[0], to)
    return Answer(found.value * scalar(op, to, 0), found.method)


@trace_of.register
def _(op: Sum, to: Tensor) -> Answer[Tensor]:
    parts = [trace_of(c, to) for c in op.children]
    total = parts[0].value
    for p in parts[1:]:
        total = total + p.value
    return Answer(total, name("sum of traces", (p.method for p in parts)))


@trace_of.register
def _(op: Kronecker, to: Tensor) -> Answer[Tensor]:
    if any(m != n for m, n in (c.shape for c in op.children)):
        return _default(op, to)
    parts = [trace_of(c, to) for c in op.children]
    out = parts[0].value
    for p in parts[1:]:
        out = out * p.value
    return Answer(out, name("product of traces", (p.method for p in parts)))


@trace_of.register
def _(op: DirectSum, to: Tensor) -> Answer[Tensor]:
    if any(m != n for m, n in (c.shape for c in op.children)):
        return _default(op, to)
    parts = [trace_of(c, to) for c in op.children]
    total = parts[0].value
    for p in parts[1:]:
        total = total + p.value
    return Answer(total, name("traces of the blocks", (p.method for p in parts)))


_default = trace_of.dispatch(LinearOperator)


# estimates --------------------------------------------------------------------------------------


def signs(op: LinearOperator, count: int, generator: torch.Generator | None) -> Tensor:
    """Rows of random signs, (*batch_shape, count, n)."""
    to = like(op)
    shape = (*op.batch_shape, count, op.shape[1])
    device = generator.device if generator is not None else to.device
    bits = torch.randint(0, 2, shape, generator=generator, device=device)
    return (2 * bits - 1).to(to)


def _hutchinson(
    op: LinearOperator, samples: int, generator: torch.Generator | None
) -> Answer[Tensor]:
    if samples < 2:
        raise ValueError(f"trace: {samples} samples give no standard error; take at least 2")
    z = signs(op, samples, generator)
    each = (z * op._rows(z)).sum(-1)
    error = each.detach().std(-1) / math.sqrt(samples)
    return Answer(each.mean(-1), f"Hutchinson estimate, {samples} samples", error)


def _xtrace(op: LinearOperator, samples: int, generator: torch.Generator | None) -> Answer[Tensor]:
    """XTrace: leave each test vector out of the low-rank part in turn, then average."""
    k = min(samples // 2, op.shape[0])
    if k < 2:
        raise ValueError(f"trace: {samples} samples are too few for xtrace; take at least 4")
    omega = signs(op, k, generator).mT  # test vectors are columns here
    y = op._rows(omega.mT).mT
    q, r = torch.linalg.qr(y)
    z = op._rows(q.mT).mT
    h, w = q.mH @ z, q.mH @ omega
    # The span of Y loses the direction Q s_i with column i, s_i along column i of R^-H. Where A has
    # a rank below k, R is singular: a shift at the level of rounding keeps s_i finite.
    eye = torch.eye(k, dtype=r.dtype, device=r.device)
    size = torch.linalg.matrix_norm(r.detach())[..., None, None]
    shift = torch.finfo(r.dtype).eps * torch.where(size > 0, size, torch.ones_like(size))
    s = torch.linalg.solve_triangular((r + shift * eye).mH, eye.expand_as(r), upper=False)
    s = s / torch.linalg.vector_norm(s, dim=-2, keepdim=True)
    x = w - s * (s.conj() * w).sum(-2, keepdim=True)  # omega_i on the span without column i
    kept = h.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None] - (s.conj() * (h @ s)).sum(-2)
    rest = omega - q @ x
    each = kept + (rest.conj() * (y - z @ x)).sum(-2)
    error = each.detach().std(-1) / math.sqrt(k)
    return Answer(each.mean(-1), f"XTrace estimate, {2 * k} products", error)
