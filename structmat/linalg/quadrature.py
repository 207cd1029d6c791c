"""log det of a Hermitian positive definite matrix from products with random vectors.

    log det A = tr log A = E[z^T log(A) z] over random signs z, and for each z by Lanczos
    z^T log(A) z ~ |z|^2 e_1^T log(T) e_1,   A Q ~ Q T,  T tridiagonal of k steps, Q e_1 = z / |z|

(stochastic Lanczos quadrature: Ubaru, Chen and Saad, Fast estimation of tr(f(A)) via stochastic
Lanczos quadrature, 2017). The vectors are kept orthogonal by a second Gram-Schmidt pass. The error
given is that of the sampling; the quadrature converges like the conjugate gradient method in k.

The gradient is that of tr(A^-1 dA) with the same samples: A^-1 z is read off the same T and Q. It
holds A^-1 z fixed, so that a second derivative raises.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.linalg.answer import Answer
from structmat.linalg.searched import once
from structmat.linalg.trace import signs
from structmat.operator import LinearOperator

__all__ = ["lanczos", "slq"]


def lanczos(op: LinearOperator, z: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """(Q, T) of each row of z: Q (..., s, k, n) with orthonormal rows, T (..., s, k, k) real.

    Where the Krylov space ends early, T continues with the identity, apart from the rest.
    """
    q = z / torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    rows, alphas, betas = [q], [], []
    alive = torch.ones_like(q[..., :1].real)
    tiny = 100 * torch.finfo(z.dtype).eps
    for k in range(steps):
        v = op._rows(rows[-1])
        alpha = (rows[-1].conj() * v).sum(-1, keepdim=True).real
        size = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
        alphas.append(torch.where(alive > 0, alpha, 1))
        if k == steps - 1:
            break
        basis = torch.stack(rows, -2)
        for _ in range(2):
            v = v - ((basis.conj() @ v[..., None]).mT @ basis).squeeze(-2)
        beta = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
        alive = torch.where(beta > tiny * size, alive, 0)
        betas.append(torch.where(alive > 0, beta, 0))
        rows.append(torch.where(alive > 0, v / torch.where(alive > 0, beta, 1), 0))
    t = torch.diag_embed(torch.cat(alphas, -1))
    if betas:
        off = torch.cat(betas, -1)
        t = t + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    return torch.stack(rows, -2), t


def slq(
    op: LinearOperator, samples: int, steps: int, generator: torch.Generator | None
) -> Answer[Tensor]:
    """The estimate of :func:`structmat.logdet` with ``method="slq"``."""
    if samples < 2:
        raise ValueError(f"logdet: {samples} samples give no standard error; take at least 2")
    if steps < 1:
        raise ValueError(f"logdet: steps = {steps}, an estimate takes at least 1")
    n = op.shape[0]
    z = signs(op, samples, generator)
    steps = min(steps, n)
    if n == 0:
        zero = z.real.sum((-2, -1)) if z.is_complex() else z.sum((-2, -1))
        return Answer(zero, "empty", torch.zeros_like(zero))
    with torch.no_grad():
        q, t = lanczos(op, z, steps)
        values, vectors = torch.linalg.eigh(t)
        if bool((values <= 0).any()):
            raise ValueError(
                f"logdet: method 'slq' needs a positive definite operator, {op._label()} has a "
                f"Ritz value of {float(values.min()):.2e}; sm.slogdet(A) is exact"
            )
        weights = vectors[..., 0, :] ** 2
        each = n * (weights * values.log()).sum(-1)
        first = (vectors * (vectors[..., :1, :] / values[..., None, :])).sum(-1)  # T^-1 e_1
        inverse = math.sqrt(n) * (first[..., None, :].to(q.dtype) @ q).squeeze(-2)
    # d log det A = tr(A^-1 dA), estimated by (A^-1 z)^H dA z
    follow = (inverse.conj() * once("logdet", op)._rows(z)).sum(-1)
    follow = follow.real if follow.is_complex() else follow
    each = each + follow - follow.detach()
    error = each.detach().std(-1) / math.sqrt(samples)
    method = f"stochastic Lanczos quadrature, {samples} samples of {steps} steps"
    return Answer(each.mean(-1), method, error)
