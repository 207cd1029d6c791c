"""Matrices of low displacement rank, in O(n^2 r) operations.

Z_f M - M Z_g = G H becomes, with the unitary U_f that diagonalises Z_f, the Cauchy-like equation

    diag(s) C - C diag(t) = (U_f G)(H U_g^H),    C = U_f M U_g^H,    C[i, j] = G_i H_j / (s_i - t_j)

whose Gaussian elimination (:mod:`structmat.linalg.gko`) needs the generators alone, with partial
pivoting. Source: Gohberg, Kailath and Olshevsky, Fast Gaussian elimination with partial pivoting
for matrices with displacement structure (1995).

A Vandermonde matrix V has the O(n^2) algorithm of divided differences, which is often more exact
than any other (Bjorck and Pereyra, Solution of Vandermonde systems of equations, 1970).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.leaves.cauchy import Cauchy
from structmat.leaves.displacement import LowDisplacementRank, toeplitz_generators
from structmat.leaves.vandermonde import Vandermonde
from structmat.linalg.gko import gko
from structmat.linalg.implicit import implicitly
from structmat.linalg.plan import Plan, cast, dense_fallback, singular, structured
from structmat.operator import LinearOperator

__all__ = ["cauchy_like", "displacement_solve", "generators", "gko_plan", "powers"]


def _to_cauchy(v: Tensor, f: int, n: int) -> Tensor:
    """U_f v along dimension -2: a unitary transform, after powers of (-1)^(1/n) if f = -1."""
    v = v * powers(n, v)[:, None] if f == -1 else v
    out: Tensor = torch.fft.fft(v, dim=-2, norm="ortho")
    return out


def _from_cauchy(v: Tensor, f: int, n: int) -> Tensor:
    """U_f^H v along dimension -2."""
    out: Tensor = torch.fft.ifft(v, dim=-2, norm="ortho")
    return out * powers(n, out).conj()[:, None] if f == -1 else out


def powers(n: int, like: Tensor) -> Tensor:
    """exp(i pi k / n)."""
    k = torch.arange(n, device=like.device, dtype=torch.float64)
    return torch.polar(torch.ones_like(k), k * (math.pi / n)).to(like.dtype.to_complex())


def _nodes(f: int, n: int, like: Tensor) -> Tensor:
    """Eigenvalues of Z_f in the order of U_f."""
    k = torch.arange(n, device=like.device, dtype=torch.float64)
    angle = (-2 * k + (1 if f == -1 else 0)) * (math.pi / n)
    return torch.polar(torch.ones_like(k), angle).to(like.dtype.to_complex())


def generators(op: LinearOperator) -> tuple[int, Tensor, Tensor]:
    """(f, G, H) with Z_f M - M Z_-f = G H, of a Toeplitz matrix or one given by generators."""
    if isinstance(op, LowDisplacementRank):
        return op.f, op.left, op.right
    return (1, *toeplitz_generators(op, 1, -1))


def cauchy_like(f: int, G: Tensor, H: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Generators and nodes of C = U_f M U_-f^H, for Z_f M - M Z_-f = G H; complex."""
    n = G.shape[-2]
    wide = G.dtype.to_complex()
    G, H = _to_cauchy(G.to(wide), f, n), _to_cauchy(H.mH.to(wide), -f, n).mH
    return G, H, _nodes(f, n, G), _nodes(-f, n, G)


def displacement_solve(op: LinearOperator, b: Tensor) -> Tensor:
    """M^-1 b by elimination, for every class that :func:`gko_plan` serves."""
    n = op.shape[0]
    if n == 0:
        return b
    if isinstance(op, Cauchy):
        s, t = op.s.to(b.dtype), op.t.to(b.dtype)
        ones = torch.ones_like(s[..., None]), torch.ones_like(t[..., None, :])
        return gko(*ones, s, t, b)
    wide = b.dtype.to_complex()
    f, G, H = generators(op)
    made = cauchy_like(f, G.to(wide), H.to(wide))
    x = _from_cauchy(gko(*made, _to_cauchy(b.to(wide), f, n)), -f, n)
    return x if b.is_complex() else x.real


def gko_plan(op: LinearOperator, rank: int) -> Plan:
    """Elimination of generators, "gko"."""
    n = op.shape[0]

    def run(b: Tensor) -> Tensor:
        return implicitly(cast(op, b), b, displacement_solve)

    return Plan(
        "gko",
        run,
        (2 * n * n, 2 * n * n),
        8 * rank * n * n,
        refine=True,
        fallback=dense_fallback(op),
    )


@structured.register
def _(op: LowDisplacementRank) -> Plan:
    if op.rank == 0 and op.shape[0]:
        return singular(op, "its displacement is zero, and so is it")
    return gko_plan(op, op.rank)


@structured.register
def _(op: Cauchy) -> Plan:
    return gko_plan(op, 1)


def leja_order(x: Tensor) -> Tensor:
    """Places of the nodes (..., n) so that each is far from all before it.

    Each step takes the node of the largest product of distances. In this order divided differences
    are stable (Higham, Stability analysis of algorithms for solving confluent Vandermonde-like
    systems, 1990; Reichel, 1990).
    """
    size = x.abs()
    far = size
    places = []
    for _ in range(x.shape[-1]):
        at = far.argmax(-1, keepdim=True)
        places.append(at)
        log = (x - x.gather(-1, at)).abs().log()
        taken = torch.arange(x.shape[-1], device=x.device) == at
        far = torch.where(taken, -math.inf, log if len(places) == 1 else far + log)
    return torch.cat(places, -1)


def divided_differences(op: LinearOperator, b: Tensor) -> Tensor:
    """V^-1 b or V^-T b for a square Vandermonde matrix, by Bjorck and Pereyra."""
    assert isinstance(op, Vandermonde)
    nodes = op.x.to(b.dtype)
    order = leja_order(nodes)
    x = nodes.gather(-1, order)[..., None]
    n = x.shape[-2]
    lead = torch.broadcast_shapes(b.shape[:-2], x.shape[:-2])
    b = b.expand(*lead, *b.shape[-2:])
    places = order[..., None].expand(*lead, n, b.shape[-1])
    steps = range(n - 1)

    def joined(*parts: Tensor) -> Tensor:
        lead = torch.broadcast_shapes(*(p.shape[:-2] for p in parts))
        return torch.cat([p.expand(*lead, *p.shape[-2:]) for p in parts], -2)

    def gaps(k: int) -> Tensor:
        return x[..., k + 1 :, :] - x[..., : n - k - 1, :]

    if op.transposed:
        for k in steps:
            head, tail = b[..., : k + 1, :], b[..., k + 1 :, :]
            b = joined(head, tail - x[..., k : k + 1, :] * b[..., k:-1, :])
        for k in reversed(steps):
            scaled = b[..., k + 1 :, :] / gaps(k)
            moved = joined(b[..., k : k + 1, :], scaled)
            less = joined(scaled, torch.zeros_like(scaled[..., :1, :]))
            b = joined(b[..., :k, :], moved - less)
        return b.gather(-2, places.argsort(-2))
    b = b.gather(-2, places)
    for k in steps:
        b = joined(b[..., : k + 1, :], (b[..., k + 1 :, :] - b[..., k:-1, :]) / gaps(k))
    for k in reversed(steps):
        moved = b[..., k:-1, :] - x[..., k : k + 1, :] * b[..., k + 1 :, :]
        b = joined(b[..., :k, :], moved, b[..., n - 1 :, :])
    return b


@structured.register
def _(op: Vandermonde) -> Plan | None:
    n = op.shape[0]
    if n != op.shape[1] or n == 0:
        return None

    def run(b: Tensor) -> Tensor:
        return implicitly(cast(op, b), b, divided_differences)

    last = dense_fallback(op)
    return Plan("bjorck-pereyra", run, (n * n, n * n), accurate=True, fallback=last)
