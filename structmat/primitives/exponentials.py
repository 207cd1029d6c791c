"""Cauchy products for real nodes in almost linear time: sums of exponentials between sorted blocks.

For d > 0, 1 / d^p = 1 / (p - 1)! int_0^inf r^(p-1) exp(-r d) dr. With r = e^u and the trapezoidal
rule of step h, whose error is about exp(-pi^2 / h), and the part r <= 1 / span by a Gauss rule,

    1 / d^p = sum_k w_k exp(-r_k d)    for near <= d <= span,

with K = 96 positive terms in double precision, 64 in single. Nodes s and t are sorted together and
cut into blocks of 64. A target takes the sources of its own block and of the two beside it
directly. The others act through K numbers a column,

    sum over sources left of edge of x_j exp(-r_k (edge - t_j)),

which pass from edge to edge, decaying, in log2 steps of doubling: all exponents are negative, so
nothing grows. Sources on the right are the same from the other side. Operations O((m + n) (64 + K))
a column, memory O(m + n) a column.

K is fixed, so the step h grows with the ratio of span to near, the least distance that is not
summed directly; near < 1e-6 span takes more than 64 nodes so close together. Errors in double
precision, relative to sum_j |x_j| / |s_i - t_j|, as measured on 4096 x 4096 nodes: below 1e-13 for
evenly spaced, random, normal and Chebyshev nodes, 1e-10 for nodes 10^-12 ... 1 evenly spaced in the
logarithm. Where near < 1e-13 span the sum of exponentials has no digits left, and the result is
nan.
Source: Beylkin and Monzon, Approximation by exponential sums revisited (2010), for the sums;
Greengard and Rokhlin, A fast algorithm for particle simulations (1987), for near and far.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["exponential_sum", "far_distances", "far_from_left", "fast_differences", "near_blocks"]


def exponential_sum(span: Tensor, near: Tensor, power: int, double: bool) -> tuple[Tensor, Tensor]:
    """(r, w), each (b, K), with 1 / d^power = sum_k w_k exp(-r_k d) for near <= d <= span (b)."""
    main, tail, top = (84, 12, 40.0) if double else (56, 8, 24.0)
    step = torch.log(top * span / near)[:, None] / main
    k = torch.arange(main, dtype=torch.float64, device=span.device)
    rates = (top / near)[:, None] * torch.exp(-step * k)
    weights = step * rates**power
    # the rest of the trapezoidal sum, r span = exp(-step j), by the Gauss rule of that measure
    u = torch.exp(-step * torch.arange(400, dtype=torch.float64, device=span.device))
    mass = step * u**power
    total = mass.sum(-1, keepdim=True)
    basis = [(mass / total).sqrt()]
    diagonal, beside = [], []
    for i in range(tail):
        v = u * basis[-1]
        diagonal.append((v * basis[-1]).sum(-1))
        for _ in range(2):
            for q in basis:
                v = v - (v * q).sum(-1, keepdim=True) * q
        if i + 1 < tail:
            beside.append(torch.linalg.vector_norm(v, dim=-1))
            basis.append(v / beside[-1][:, None])
    jacobi = torch.diag_embed(torch.stack(diagonal, -1))
    jacobi = jacobi + torch.diag_embed(torch.stack(beside, -1), 1)
    jacobi = jacobi + torch.diag_embed(torch.stack(beside, -1), -1)
    roots, vectors = torch.linalg.eigh(jacobi)
    low = 1 / span[:, None]
    rates = torch.cat([rates, roots.clamp_min(0) * low], -1)
    weights = torch.cat([weights, vectors[:, 0].square() * total * low**power], -1)
    return rates, weights / math.gamma(power)


def far_from_left(nodes: Tensor, x: Tensor, rates: Tensor, weights: Tensor) -> Tensor:
    """What sources two or more blocks to the left add; nodes (b, blocks, 64), x (..., 64, c)."""
    b, blocks, size = nodes.shape
    edges = nodes[:, :, 0]
    most = max(1, (1 << (24 if x.is_cuda else 18)) // (b * size * rates.shape[1]))
    parts = []
    for i in range(0, blocks - 2, most):
        stop = min(i + most, blocks - 2)
        gaps = edges[:, i + 1 : stop + 1, None] - nodes[:, i:stop]
        waves = torch.exp(-gaps[..., None] * rates[:, None, None]).to(x.dtype)
        parts.append(waves.mT @ x[:, i:stop])
    state = torch.cat(parts, 1)  # of each block alone, at its right edge
    reach = 1
    while reach < blocks - 2:
        gaps = edges[:, reach + 1 : blocks - 1] - edges[:, 1 : blocks - 1 - reach]
        decay = torch.exp(-gaps[..., None] * rates[:, None]).to(x.dtype)
        older = state[:, : blocks - 2 - reach] * decay[..., None]
        state = torch.cat([state[:, :reach], state[:, reach:] + older], 1)
        reach *= 2
    state = state * weights[:, None, :, None].to(x.dtype)
    out = [torch.zeros_like(x[:, :2])]
    for i in range(0, blocks - 2, most):
        stop = min(i + most, blocks - 2)
        gaps = nodes[:, i + 2 : stop + 2] - edges[:, i + 1 : stop + 1, None]
        waves = torch.exp(-gaps[..., None] * rates[:, None, None]).to(x.dtype)
        out.append(waves @ state[:, i:stop])
    return torch.cat(out, 1)


def near_blocks(nodes: Tensor, source: Tensor, x: Tensor, power: int) -> Tensor:
    """What sources of the same block and of the two beside it add, directly; right for targets."""
    b, _, size = nodes.shape

    def around(v: Tensor, fill: float) -> Tensor:
        end = torch.full_like(v[:, :1], fill)
        wide = torch.cat([end, v, end], 1)
        return torch.cat([wide[:, :-2], v, wide[:, 2:]], 2)

    columns, values = around(nodes.masked_fill(~source, math.inf), math.inf), around(x, 0.0)
    most = max(1, (1 << (24 if x.is_cuda else 18)) // (3 * b * size * size))
    out = []
    for i in range(0, nodes.shape[1], most):
        tile = (nodes[:, i : i + most, :, None] - columns[:, i : i + most, None]).reciprocal()
        out.append((tile if power == 1 else tile.pow(power)) @ values[:, i : i + most])
    return torch.cat(out, 1)


def far_distances(nodes: Tensor, target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """The least distance of a target from a source two or more blocks away, and the span."""
    lowest, highest = [], []
    for kind in (target, source):
        lowest.append(nodes.masked_fill(~kind, math.inf).amin(-1))
        highest.append(nodes.masked_fill(~kind, -math.inf).amax(-1))
    right = lowest[0][:, 2:] - highest[1].cummax(-1).values[:, :-2]
    left = lowest[1].flip(-1).cummin(-1).values.flip(-1)[:, 2:] - highest[0][:, :-2]
    span = (nodes[:, -1, -1] - nodes[:, 0, 0]).double().clamp_min(1e-300)
    return torch.cat([right, left], -1).amin(-1).double(), span


def fast_differences(x: Tensor, s: Tensor, t: Tensor, power: int) -> Tensor:
    """sum_j x_j / (s_i - t_j)^power for real nodes; x (b, n, c), s (b, m), t (b, n)."""
    b, n, cols = x.shape
    m, size = s.shape[1], 64
    nodes, order = torch.sort(torch.cat([s, t], 1), 1)
    blocks = max(-(-(m + n) // size), 3)
    pad = blocks * size - (m + n)
    every = order[..., None].expand(-1, -1, cols)
    values = torch.cat([x.new_zeros(b, m, cols), x], 1).gather(1, every)
    values = torch.cat([values, x.new_zeros(b, pad, cols)], 1).reshape(b, blocks, size, cols)
    neither = torch.zeros(b, pad, dtype=torch.bool, device=x.device)
    source = torch.cat([order >= m, neither], 1).reshape(b, blocks, size)
    target = torch.cat([order < m, neither], 1).reshape(b, blocks, size)
    nodes = torch.cat([nodes, nodes[:, -1:].expand(-1, pad)], 1).reshape(b, blocks, size)
    y = near_blocks(nodes, source, values, power)

    near, span = far_distances(nodes, target, source)
    least = span * 1e-13
    lost = torch.where(near < least, math.nan, 0.0).to(x.dtype)
    near = torch.minimum(torch.maximum(near, least), span)
    rates, weights = exponential_sum(span, near, power, x.dtype == torch.float64)

    narrow = rates.to(x.dtype)
    y = y + far_from_left(nodes, values, narrow, weights)
    turned = far_from_left(-nodes.flip(1, 2), values.flip(1, 2), narrow, weights)
    y = y + turned.flip(1, 2) * (-1) ** power + lost[:, None, None, None]
    y = y.reshape(b, blocks * size, cols)[:, : m + n]
    back = torch.argsort(order, 1)[:, :m, None].expand(-1, -1, cols)
    out: Tensor = y.gather(1, back)
    return out
