"""Vandermonde products for real nodes in linear time: windows of the logarithm of |x|.

With |x| = exp(-t) the powers x^j, without their signs, are exp(-t j), here for t >= 0. Let t lie in
a window of width w around s, and j in a block of B exponents from a on, with the middle c:

    exp(-t j) = |x|^a exp(-(t - s)(c - a)) exp(-s (j - a)) exp(-(t - s)(j - c)),

and the last factor is a sum of K Chebyshev polynomials in t, with coefficients that depend on j
alone. Its argument is at most h = w B / 4 in size, so its least value is exp(-h): that the error is
small *relative to every entry*, the least included, takes K = 20 terms for h = 2.2 in double and
K = 10 for h = 1.4 in single precision. The error of a product is then bounded as that of the dense
one, entry by entry, relative to |V| |v|, whatever the sizes of the coefficients v.

Entries below the least normal number, exp(-708) and exp(-87), count as zero. So with R a little
above those numbers and n powers the windows are

    q windows of equal width between 0 and R / n;
    q windows in every octave 2^g R / n ... 2^(g+1) R / n, g >= 0, where n / 2^g powers are left;
    and, when no more than b K powers are left, those powers themselves;

b = R / (4 h q) blocks each, so that every window has b K coefficients. Those of an octave are the
ones of the octave before at every second exponent. Even and odd powers are summed apart, which
gives the coefficients for x < 0 too. Nodes with |x| > 1 have windows of their own, with the signs
of the exponents changed. What overflows in the dense matrix makes the same results infinite or nan.

The coefficients of all windows take about 4 q K n products a column (6 q K n for the transpose),
the nodes b K each: 320 n + 400 m in double, 80 (m + n) in single precision. Nodes are put into
tiles of 32 with one window each, so all shapes are static: m / 32 tiles, and one more a window.
Source: Rokhlin, A fast algorithm for the discrete Laplace transformation (1988), for expansions on
dyadic windows; O'Neil, Woolfe and Rokhlin, An algorithm for the rapid evaluation of special
function transforms (2010), for products of ranges that bound a rank.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from structmat.primitives.power_tiles import powers_block

__all__ = [
    "fast_powers",
    "gathered",
    "many_powers",
    "node_tiles",
    "node_windows",
    "window_count",
    "window_matrices",
    "window_products",
    "window_sizes",
    "window_spread",
    "window_sums",
]


def many_powers(m: int, n: int, cols: int, double: bool, cuda: bool) -> bool:
    """Whether windows are faster than tiles, as measured on a CPU.

    On a GPU, where it was not measured, from where they need some 20 times fewer products. While
    torch traces, the number of columns may be any: it is not asked.
    """
    if cuda:
        least = 24576.0 if double else 16384.0
    else:
        least = 1536.0 if double else 1024.0
        if not torch.compiler.is_compiling():
            least = max(least, 7168 / cols ** (2 / 3))
    return m * n >= least * (m + n)


def window_sizes(n: int, double: bool) -> tuple[int, int, int, int, int, float]:
    """(q, K, b, octaves, B, R / n): see the formulas of the module; b B >= n."""
    q, terms, blocks, reach = (4, 20, 20, 710.0) if double else (2, 10, 8, 89.0)
    octaves = max(math.ceil(math.log2((n - 1) / (blocks * terms - 1))), 0)
    unit = 1 << max(octaves, 1)  # halved once an octave, and into even and odd exponents
    width = -(-n // (blocks * unit)) * unit
    # b K powers serve any node; where there are more, x > 1 with a finite x^(n-1) needs its window
    last = n - 1 if n > blocks * terms else blocks * width
    return q, terms, blocks, octaves, width, reach / last


def window_matrices(n: int, x: Tensor, grows: bool) -> list[Tensor]:
    """G (q K, B) of the windows between 0 and R / n, and of the first octave."""
    q, terms, _, _, width, near = window_sizes(n, x.dtype == torch.float64)
    sign = 1.0 if grows else -1.0
    k = torch.arange(terms, dtype=torch.float64, device=x.device)
    angles = (k + 0.5) * (math.pi / terms)
    transform = torch.cos(k[:, None] * angles) * (2 / terms)
    transform = torch.cat([0.5 * transform[:1], transform[1:]])
    j = torch.arange(width, dtype=torch.float64, device=x.device)
    step = near / q
    beside = torch.exp((sign * 0.5 * step) * torch.cos(angles)[:, None] * (j - width / 2))
    middles = torch.arange(2 * q, dtype=torch.float64, device=x.device)[:, None, None] + 0.5
    both = torch.exp((sign * step) * middles * j) * (transform @ beside)
    return list(both.reshape(2, q * terms, width).to(x.dtype).unbind())


def window_count(n: int, double: bool, turned: bool) -> int:
    """How many windows there are, those for negative nodes counted apart, and the powers."""
    q, _, _, octaves, *_ = window_sizes(n, double)
    return 2 * q * ((1 + octaves) + (1 + octaves if turned else 1)) + 1


def window_products(m: int, n: int, turned: bool) -> int:
    """How many products a column takes in double precision."""
    q, terms, blocks, octaves, width, _ = window_sizes(n, True)
    levels = sum(width >> max(level - 1, 0) for level in range(octaves + 1))
    return blocks * terms * (q * (2 * levels if turned else levels + width) + m)


def window_sums(x: Tensor, n: int) -> Tensor:
    """The coefficients of all windows: x (b, n, c) -> (b, windows, b K, c)."""
    b, _, cols = x.shape
    q, terms, blocks, octaves, width, _ = window_sizes(n, x.dtype == torch.float64)
    inner = blocks * terms
    padded = torch.nn.functional.pad(x, (0, 0, 0, blocks * width - n))
    found = []
    # where x^(n-1) does not overflow, nodes beyond 1 are in the first windows
    for grows, far in ((False, octaves), (True, 0)):
        matrices = window_matrices(n, x, grows)
        for level in range(far + 1):
            skip = max(level - 1, 0)
            matrix = matrices[min(level, 1)].unflatten(1, (-1, 2, 1 << skip))[..., 0]
            first, second = matrix.permute(2, 0, 1).clone(memory_format=torch.contiguous_format)
            v = padded[:, : blocks * (width >> skip)]
            v = v.reshape(b, blocks, width >> (skip + 1), 2, cols)
            even, odd = first @ v[:, :, :, 0], second @ v[:, :, :, 1]
            both = torch.stack([even + odd, even - odd], 1)
            both = both.reshape(b, 2, blocks, q, terms, cols).transpose(2, 3)
            found.append(both.reshape(b, 2 * q, inner, cols))
    found.append(torch.nn.functional.pad(x[:, :inner], (0, 0, 0, max(inner - n, 0)))[:, None])
    return torch.cat(found, 1)


def window_spread(z: Tensor, n: int) -> Tensor:
    """The transpose, with all windows beyond 1: z (b, windows, b K, c) -> (b, n, c)."""
    b, _, inner, cols = z.shape
    q, terms, blocks, octaves, width, _ = window_sizes(n, z.dtype == torch.float64)
    y = z[:, -1]
    matrices = [window_matrices(n, z, grows) for grows in (False, True)]
    for level in reversed(range(octaves + 1)):
        skip = max(level - 1, 0)
        rows = blocks * (width >> skip)
        y = torch.nn.functional.pad(y, (0, 0, 0, rows - y.shape[1]))
        for grows in (0, 1):
            matrix = matrices[grows][min(level, 1)].unflatten(1, (-1, 2, 1 << skip))[..., 0]
            first, second = matrix.permute(2, 1, 0).clone(memory_format=torch.contiguous_format)
            at = 2 * q * (level + grows * (octaves + 1))
            both = z[:, at : at + 2 * q].reshape(b, 2, q, blocks, terms, cols).transpose(2, 3)
            plus, minus = both.reshape(b, 2, blocks, q * terms, cols).unbind(1)
            even, odd = first @ (plus + minus), second @ (plus - minus)
            y = y + torch.stack([even, odd], 3).reshape(b, rows, cols)
    return y[:, :n]


def node_windows(z: Tensor, n: int, turned: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The window of each node z (b, m), and the factors (b, m, b) and (b, m, K) of its row."""
    q, terms, blocks, octaves, width, near = window_sizes(n, z.dtype == torch.float64)
    wide = z.double()
    size = wide.abs()
    grows = size > 1
    t = size.log().abs()
    level = (torch.log2(t / near).floor() + 1).clamp(0, octaves + 1).nan_to_num(0.0)
    most = torch.where(grows, octaves if turned else 0, octaves)
    plain = level > most
    level = torch.where(plain, 0.0, level)
    skip = (level - 1).clamp_min(0)
    scaled = t * torch.exp2(-skip) * (q / near) - torch.where(level > 0, q, 0)
    window = scaled.floor().clamp(0, q - 1).nan_to_num(0.0)
    place = (2 * (scaled - window) - 1).clamp(-1, 1)

    number = level + torch.where(grows, octaves + 1, 0)
    number = (2 * number + torch.where(wide < 0, 1, 0)) * q + window
    number = torch.where(plain, window_count(n, z.dtype == torch.float64, turned) - 1, number)

    k = torch.arange(terms, dtype=torch.float64, device=z.device)
    rise = (near * width / (4 * q)) * torch.where(grows, place, -place)
    waves = torch.cos(k * place.arccos()[..., None]) * torch.exp(rise)[..., None]
    waves = torch.where(plain[..., None], powers_block(wide, terms), waves)
    starts = torch.where(plain, float(terms), width * torch.exp2(-skip))[..., None]
    starts = starts * torch.arange(blocks, dtype=torch.float64, device=z.device)
    heads = torch.pow(size[..., None], starts.clamp_max(n - 1))
    return number.long(), heads.to(z.dtype), waves.to(z.dtype)


def node_tiles(number: Tensor, windows: int, tall: int) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes in tiles of ``tall`` with one window each.

    The place of each node (b, m), the node at each place (b, tiles tall), m where there is none,
    and the window of each tile (b, tiles).
    """
    b, m = number.shape
    tiles = m // tall + min(windows, m)
    ordered, order = torch.sort(number, 1)

    def counted(v: Tensor, size: int) -> Tensor:
        return v.new_zeros(b, size).scatter_add(1, v, torch.ones_like(v))

    counts = counted(number, windows)
    needed = (counts + tall - 1) // tall
    ends = needed.cumsum(1)
    shift = (ends - needed) * tall - (counts.cumsum(1) - counts)
    i = torch.arange(m, device=number.device).expand(b, m)
    places = i + shift.gather(1, ordered)
    place = torch.zeros_like(places).scatter(1, order, places)
    nobody = torch.full_like(places[:, :1], m).expand(b, tiles * tall)
    node = nobody.scatter(1, place, i)
    window = counted(ends, tiles + 1).cumsum(1)[:, :tiles].clamp_max(windows - 1)
    return place, node, window


def gathered(v: Tensor, index: Tensor) -> Tensor:
    """Rows of v (b, rows, k) at the places of index (b, r): (b, r, k)."""
    b, rows, k = v.shape
    at = index + rows * torch.arange(b, device=v.device)[:, None]
    return v.reshape(b * rows, k).index_select(0, at.reshape(-1)).reshape(b, -1, k)


def fast_powers(x: Tensor, z: Tensor, n: int, turned: bool) -> Tensor:
    """sum_j z_i^j x_j for real nodes z (b, m), x (b, n, c); turned, x (b, m, c) -> (b, n, c)."""
    b, m = z.shape
    cols, tall = x.shape[2], 32
    windows = window_count(n, z.dtype == torch.float64, turned)
    number, heads, waves = node_windows(z, n, turned)
    place, node, window = node_tiles(number, windows, tall)
    window = window + windows * torch.arange(b, device=z.device)[:, None]
    if not turned:  # where x^(n-1) overflows, that power alone decides
        top = torch.pow(z, n - 1)[..., None]
        heads, waves = (v.masked_fill(top.isinf(), 0.0) for v in (heads, waves))
        top = top.masked_fill(~top.isinf(), 0.0)

    tiles, inner = window.shape[1], heads.shape[2] * waves.shape[2]

    def placed(v: Tensor) -> Tensor:
        rows = gathered(torch.nn.functional.pad(v, (0, 0, 0, 1)), node)
        return rows.reshape(b, tiles, tall, v.shape[2])

    heads, waves = placed(heads), placed(waves)
    known = placed(x) if turned else window_sums(x, n).reshape(b * windows, inner, cols)
    total = known.new_zeros(b * windows, inner, cols) if turned else known
    found = []
    most = max(1, (1 << (24 if x.is_cuda else 18)) // (b * inner * max(tall, cols)))
    for i in range(0, tiles, most):
        rows = heads[:, i : i + most, :, :, None] * waves[:, i : i + most, :, None]
        rows = rows.reshape(b, -1, tall, inner)
        own = window[:, i : i + most].reshape(-1)
        if turned:
            part = rows.mT @ known[:, i : i + most]
            total.index_add_(0, own, part.reshape(-1, inner, cols))
        else:
            found.append(rows @ known.index_select(0, own).reshape(b, -1, inner, cols))
    if not turned:
        y = gathered(torch.cat(found, 1).reshape(b, tiles * tall, cols), place)
        return torch.addcmul(y, top, x[:, -1:])

    y = window_spread(total.reshape(b, windows, inner, cols), n)
    # where a power overflows, the node that is largest alone decides
    largest = z.abs().argmax(1, keepdim=True)
    j = torch.arange(n, dtype=z.dtype, device=z.device)
    top = torch.pow(z.gather(1, largest), j)[..., None]
    return torch.where(top.isinf(), top * gathered(x, largest), y)
