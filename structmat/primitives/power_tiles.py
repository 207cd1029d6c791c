"""Vandermonde products in tiles: powers are made, multiplied and dropped.

Powers come in blocks of 64 columns, z^(a+b) = z^a z^b by doubling, and blocks are joined by
Horner's rule in z^64, so that all but a 64th of the work is matrix products; memory is O(m + n) for
each column, and a tile of 2^18 entries. Of few columns as many blocks as fill a tile are taken at
once, z^(64 g + a) = (z^64)^g z^a. On a GPU, where launches count, blocks have 256 columns and tiles
2^24 entries.
Source: Horner's rule in blocks, Paterson and Stockmeyer, On the number of nonscalar
multiplications necessary to evaluate polynomials (1973).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["powers_block", "powers_tiles"]


def powers_block(z: Tensor, width: int) -> Tensor:
    """(1, z, z^2, ...): z (b, m) -> (b, m, width)."""
    block = torch.ones_like(z)[..., None]
    step = z[..., None]
    while block.shape[-1] < width:
        block = torch.cat([block, block * step], -1)
        step = step * step
    return block[..., :width]


def powers_tiles(x: Tensor, z: Tensor, n: int, turned: bool) -> Tensor:
    """sum_j z_i^j x_j, x (b, n, c) -> (b, m, c); turned, (b, m, c) -> (b, n, c)."""
    b, m = z.shape
    cols, room = x.shape[2], 1 << (24 if x.is_cuda else 18)
    width = min(256 if x.is_cuda else 64, n)
    tall = max(64, room // (b * width))
    whole = n // width  # blocks; what is left has fewer powers: those beyond n may overflow
    # while torch traces, the number of columns may be any
    fits = 1 if torch.compiler.is_compiling() else room // (b * min(m, tall) * cols)
    most = min(whole, max(1, fits))
    found = []
    for i in range(0, m, tall):
        nodes = z[:, i : i + tall]
        block = powers_block(nodes, width)
        leap = block[..., -1] * nodes
        leaps = powers_block(leap, most)[..., None]
        if turned:
            scaled, parts = x[:, i : i + tall], []
            for g in range(0, whole, most):
                many = min(most, whole - g)
                each = scaled
                if most > 1:
                    each = (leaps[:, :, :many] * scaled[:, :, None]).flatten(2)
                part = (block.mT @ each).unflatten(2, (many, cols))
                parts.append(part.transpose(1, 2).flatten(1, 2))
                scaled = scaled * (leaps[:, :, many - 1] * leap[..., None])
            if whole * width < n:
                parts.append(block[..., : n - whole * width].mT @ scaled)
            found.append(torch.cat(parts, 1))
        else:
            y = block[..., : n - whole * width] @ x[:, whole * width :]
            for g in reversed(range(0, whole, most)):
                many = min(most, whole - g)
                v = x[:, g * width : (g + many) * width].unflatten(1, (many, width))
                each = (block @ v.transpose(1, 2).flatten(2)).unflatten(2, (many, cols))
                part = (leaps[:, :, :many] * each).sum(2) if most > 1 else each.squeeze(2)
                last = g + many == whole and n % width == 0  # what y is then has no power
                power = leaps[:, :, many - 1] * leap[..., None]
                y = part if last else torch.addcmul(part, y, power)
            found.append(y)
    return sum(found[1:], found[0]) if turned else torch.cat(found, 1)
