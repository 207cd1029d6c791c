"""Cauchy products for complex nodes in linear time: the fast multipole method on bisected nodes.

Let sources t lie in a disc around b of radius r, targets s in one around a of radius R, and let
d = a - b. With u = (s - a) / R and v = (t - b) / r

    1 / (s - t)^p = d^-p sum_(l, k >= 0) (R / d)^l u^l B_lk (r / d)^k v^k,
    B_lk = (-1)^l binom(p + l + k - 1, l + k) binom(l + k, l),

which converges where r + R < |d|. Discs are far from each other where r <= theta (|d| - R) and
R <= theta (|d| - r) with theta = 0.55; then 56 terms for each of l and k in double precision and
28 in single leave an error of some 10^-14 and 10^-7, relative to *every* 1 / |s - t|^p.

Targets and sources are bisected by the median of their longer side until at most 64 are together,
each into a perfect binary tree of the same depth. Two boxes of a level act on each other by their
expansions as soon as they are far, else their halves are compared, and leaves act directly. All
expansions are shared by the columns: coefficients sum_j x_j v_j^k pass up the source tree, B takes
them across as one real matrix between two scalings, and Taylor polynomials pass down.

Differences are taken between nodes and centres only, so nothing is lost for clusters far from the
origin. Nodes with many scales (or many equal ones) leave too many pairs of boxes: those are
counted first, and None is returned where tiles cost less. The pairs depend on numbers, so this is
for plain numbers on a CPU (:mod:`structmat.primitives.plain`).
Cost: for nodes spread over an area about 30 pairs of boxes a leaf act by expansions, 10 directly.
Source: Greengard and Rokhlin, A fast algorithm for particle simulations (1987); trees of equal
halves, Carrier, Greengard and Rokhlin, A fast adaptive multipole algorithm (1988).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.primitives.power_tiles import powers_block

__all__ = [
    "binomials",
    "bisected",
    "box_pairs",
    "direct_pairs",
    "fast_poles",
    "many_poles",
    "positive",
    "shifts",
    "translated",
]


def many_poles(m: int, n: int, cols: int, double: bool) -> bool:
    """Whether expansions may be faster than tiles, as measured on a CPU."""
    return m * n >= (1024 if double else 2048 if cols >= 4 else 4096) * (m + n)


def bisected(z: Tensor, depth: int) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Nodes z (n) halved ``depth`` times: leaves (2^depth, q) by index and by value, discs.

    Places without a node have the index n and the value of a node. Centres and radii are listed by
    level, from one box to all leaves.
    """
    n = z.shape[0]
    size = ((n + (1 << depth) - 1) >> depth) << depth
    order = torch.arange(size).clamp_max(n)[None]
    nodes = torch.cat([z, z[:1].expand(size - n)])[None]
    for level in range(depth):
        sides = [v.amax(1) - v.amin(1) for v in (nodes.real, nodes.imag)]
        longer = torch.where((sides[0] >= sides[1])[:, None], nodes.real, nodes.imag)
        halves = longer.argsort(1)
        order = order.gather(1, halves).reshape(2 << level, -1)
        nodes = nodes.gather(1, halves).reshape(2 << level, -1)
    centres, radii = [], []
    for level in range(depth + 1):
        box = nodes.reshape(1 << level, -1)
        middle = [(v.amax(1) + v.amin(1)) / 2 for v in (box.real, box.imag)]
        centres.append(torch.complex(*middle))
        radii.append((box - centres[-1][:, None]).abs().amax(1))
    return order, nodes, centres, radii


def box_pairs(
    targets: tuple[list[Tensor], list[Tensor]], sources: tuple[list[Tensor], list[Tensor]]
) -> tuple[list[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
    """Pairs of far boxes by level, and pairs of leaves that are near."""
    a = b = torch.zeros(1, dtype=torch.int64)
    far = []
    for level in range(len(targets[0])):
        if level:
            a = (2 * a[:, None] + torch.tensor([0, 0, 1, 1])).reshape(-1)
            b = (2 * b[:, None] + torch.tensor([0, 1, 0, 1])).reshape(-1)
        r, reach = sources[1][level][b], targets[1][level][a]
        gap = (targets[0][level][a] - sources[0][level][b]).abs()
        apart = (r <= 0.55 * (gap - reach)) & (reach <= 0.55 * (gap - r)) & (gap > 0)
        far.append((a[apart], b[apart]))
        a, b = a[~apart], b[~apart]
    return far, (a, b)


def positive(radii: list[Tensor]) -> list[Tensor]:
    """Equal nodes are their own centre and any radius serves: that of the box around, at best."""
    found = [radii[0].where(radii[0] > 0, 1.0)]
    for v in radii[1:]:
        found.append(v.where(v > 0, found[-1].repeat_interleave(2)))
    return found


def binomials(terms: int) -> Tensor:
    """binom(l + k, l) for l, k < terms."""
    rows = [torch.ones(terms, dtype=torch.float64)]
    for _ in range(terms - 1):
        rows.append(rows[-1].cumsum(0))
    return torch.stack(rows)


def shifts(centres: list[Tensor], radii: list[Tensor], level: int, pascal: Tensor) -> Tensor:
    """Matrices (boxes, K, K) from coefficients of the boxes of a level to those of their halves.

    (U / r)^l = sum_j S_jl (U' / r')^j with U = U' + c' - c: column l has the binomials of l.
    """
    terms = pascal.shape[0]
    c, r = (v[level].repeat_interleave(2) for v in (centres, radii))
    ratio = powers_block(radii[level + 1][None] / r, terms)[0]
    move = powers_block(((centres[level + 1] - c) / r)[None], terms)[0]
    k = torch.arange(terms)
    steps = (k - k[:, None]).clamp_min(0)
    column = pascal.gather(1, steps).triu().to(r.dtype)
    return move[:, steps] * column * ratio[..., None]


def translated(
    sums: Tensor,
    far: tuple[Tensor, Tensor],
    d: Tensor,
    r: Tensor,
    reach: Tensor,
    across: Tensor,
    power: int,
) -> Tensor:
    """Taylor coefficients (boxes, K, c) of far coefficients (boxes, K, c); d, r and R by pair.

    ``across`` is B / 2^(l + k).
    """
    sums = sums.transpose(0, 1).clone()  # so that one product serves many pairs
    terms, _, cols = sums.shape
    into = powers_block((2 * r / d)[None], terms)[0].mT[..., None]
    out = powers_block((2 * reach / d)[None], terms)[0].mT[..., None] / d.pow(power)[:, None]
    found = torch.zeros_like(sums)
    step = max(1, (1 << 16) // (terms * cols))
    for i in range(0, d.shape[0], step):
        a, b = far[0][i : i + step], far[1][i : i + step]
        part = torch.view_as_real(sums.index_select(1, b) * into[:, i : i + step])
        part = (across @ part.reshape(terms, -1)).reshape(part.shape)
        found.index_add_(1, a, torch.view_as_complex(part) * out[:, i : i + step])
    return found.transpose(0, 1)


def direct_pairs(
    s: Tensor, t: Tensor, empty: Tensor, x: Tensor, near: tuple[Tensor, Tensor], power: int
) -> Tensor:
    """What near leaves add: s (boxes, q), t and empty (boxes, q'), x (boxes, q', c)."""
    found, filled = x.new_zeros(*s.shape, x.shape[2]), bool(empty.any())
    step = max(1, (1 << 18) // (s.shape[1] * max(t.shape[1], x.shape[2])))
    for i in range(0, near[0].shape[0], step):
        a, b = near[0][i : i + step], near[1][i : i + step]
        tile = s[a][:, :, None] - t[b][:, None]
        tile = (tile.masked_fill(empty[b][:, None], 1.0) if filled else tile).reciprocal()
        tile = tile if power == 1 else tile.pow(power)
        found.index_add_(0, a, tile @ x.index_select(0, b))
    return found


def fast_poles(x: Tensor, s: Tensor, t: Tensor, power: int) -> Tensor | None:
    """sum_j x_j / (s_i - t_j)^power, x (n, c), s (m), t (n); None where tiles cost less."""
    m, n, cols = s.shape[0], t.shape[0], x.shape[1]
    if not bool(s.isfinite().all() & t.isfinite().all()):
        return None
    terms = (48 if x.dtype == torch.complex128 else 24) + 4 * power  # more for derivatives
    depth = max(math.ceil(math.log2(max(m, n) / 64)), 0)
    rows, s, a, reach = bisected(s, depth)
    columns, t, b, r = bisected(t, depth)
    far, near = box_pairs((a, reach), (b, r))
    # in entries of a tile, as measured on a CPU
    direct = near[0].shape[0] * s.shape[1] * t.shape[1]
    across_boxes = sum(pairs[0].shape[0] for pairs in far)
    if 1.6 * direct + (0.8 * across_boxes + (6 << depth)) * terms**2 > 0.8 * m * n:
        return None
    reach, r = positive(reach), positive(r)
    pascal = binomials(terms)
    k = torch.arange(terms, dtype=torch.float64)
    across = pascal * (-1.0) ** k[:, None] * 2.0 ** -(k + k[:, None])
    for i in range(1, power):  # binom(p + l + k - 1, l + k)
        across = across * (k + k[:, None] + i) / i
    across = across.to(x.real.dtype)

    values = torch.cat([x, torch.zeros_like(x[:1])])[columns]
    y = direct_pairs(s, t, columns == n, values, near, power)
    leaves = powers_block((t - b[-1][:, None]) / r[-1][:, None], terms).mT @ values
    sums = [leaves]
    for level in reversed(range(depth)):
        up = shifts(b, r, level, pascal).mT @ sums[0]
        sums.insert(0, up.reshape(-1, 2, terms, cols).sum(1))
    local = torch.zeros_like(sums[0])
    for level in range(depth + 1):
        if level:
            local = shifts(a, reach, level - 1, pascal) @ local.repeat_interleave(2, 0)
        to, of = far[level]
        if to.shape[0]:
            d = a[level][to] - b[level][of]
            given = far[level], d, r[level][of], reach[level][to], across, power
            local = local + translated(sums[level], *given)
    y = y + powers_block((s - a[-1][:, None]) / reach[-1][:, None], terms) @ local
    out = x.new_zeros(m + 1, cols)
    out[rows.reshape(-1)] = y.reshape(-1, cols)
    return out[:m]
