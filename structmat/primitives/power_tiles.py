"""Vandermonde products in tiles: powers are made, multiplied and dropped.

Powers come in blocks of 64 columns, z^(a+b) = z^a z^b by doubling, and blocks are joined by
Horner's rule in z^64, so that all but a 64th of the work is matrix products; memory is O(m + n) for
each column, and a tile of 2^18 entries. On a GPU, where launches count, blocks have 256 columns and
tiles 2^24 entries.
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
    width = min(256 if x.is_cuda else 64, n)
    tall = max(64, (1 << (24 if x.is_cuda else 18)) // (b * width))
    starts = range(0, n, width)
    found = []
    for i in range(0, m, tall):
        block = powers_block(z[:, i : i + tall], width)
        step = block[..., -1:] * z[:, i : i + tall, None]
        if turned:
            scaled, parts = x[:, i : i + tall], []
            for j in starts:
                scaled = scaled * step if j else scaled
                parts.append(block[..., : n - j].mT @ scaled)
            found.append(torch.cat(parts, 1))
        else:
            y = x.new_zeros(())
            for j in reversed(starts):
                part = block[..., : n - j] @ x[:, j : j + width]
                y = part if j == starts[-1] else y * step + part
            found.append(y)
    return sum(found[1:], found[0]) if turned else torch.cat(found, 1)
