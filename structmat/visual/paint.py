"""Supports as pixels: a colour for each family, and shades that show what a full matrix repeats.

A Toeplitz matrix has a support that says nothing; its shades are constant along diagonals, those
of a Fourier matrix follow its phases, those of a Hadamard matrix its signs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from structmat.operator import LinearOperator
from structmat.visual.support import Support, support

__all__ = ["Image", "colour", "paint"]

Image = NDArray[np.float64]
Indices = NDArray[np.int64]

COLOURS = {
    "Dense": "#4263eb",
    "LowRank": "#1098ad",
    "BlockDiagonal": "#f76707",
    "KroneckerSparse": "#7048e8",
    "Monarch": "#7048e8",
    "MonarchChain": "#7048e8",
    "Butterfly": "#ae3ec9",
    "Diagonal": "#2f9e44",
    "Identity": "#868e96",
    "Permutation": "#343a40",
    "Sparse": "#e8590c",
    "BlockSparse": "#d9480f",
    "Toeplitz": "#e64980",
    "Hankel": "#d6336c",
    "Circulant": "#c2255c",
    "Convolution": "#f06595",
    "DFT": "#0ca678",
    "RDFT": "#0ca678",
    "DCT": "#12b886",
    "DST": "#20a39e",
    "Hadamard": "#f59f00",
    "Wavelet": "#74b816",
    "Selection": "#495057",
    "Vandermonde": "#3b5bdb",
    "Cauchy": "#1864ab",
    "LowDisplacementRank": "#c2255c",
    "Companion": "#e8590c",
    "StateSpace": "#9c36b5",
    "Inverse": "#364fc7",
    "Product": "#5c677d",
}
OTHERS = ("#1c7ed6", "#9c36b5", "#e03131", "#099268", "#f08c00", "#6741d9", "#2b8a3e", "#a61e4d")
PAPER = (0.965, 0.97, 0.975)


def colour(family: str) -> str:
    """The colour of a family; one without its own has one of a few, always the same."""
    return COLOURS.get(family) or OTHERS[sum(map(ord, family)) % len(OTHERS)]


def _rgb(text: str) -> Image:
    return np.array([int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def _wave(turns: Any) -> Image:
    out: Image = 0.5 + 0.5 * np.cos(2 * np.pi * turns)
    return out


def _lags(lag: Any, size: int) -> Image:
    """Six stripes along a side, none thinner than three entries."""
    return _wave(lag / max(size / 6, 6))


SHADES: dict[str, Callable[[Indices, Indices, int, int], Image]] = {
    "Toeplitz": lambda i, j, m, n: _lags(i - j, max(m, n)),
    "Circulant": lambda i, j, m, n: _lags((i - j) % n, n),
    "Hankel": lambda i, j, m, n: _lags(i + j, max(m, n)),
    "DFT": lambda i, j, m, n: _wave(i * j % n / n),
    "RDFT": lambda i, j, m, n: _wave(i * j % n / n),
    "DCT": lambda i, j, m, n: _wave(i * (2 * j + 1) / (4 * n)),
    "DST": lambda i, j, m, n: _wave((i + 1) * (2 * j + 1) / (4 * n) - 0.25),
    "Hadamard": lambda i, j, m, n: _signs(i & j),
}


def _signs(common: Indices) -> Image:
    parity = np.zeros_like(common)
    for bit in range(62):
        if not (common >> bit).any():
            break
        parity ^= (common >> bit) & 1
    return np.asarray(1 - parity, dtype=np.float64)


def paint(
    op: LinearOperator, pixels: tuple[int, int] = (512, 512), family: str | None = None
) -> tuple[Image, list[Support]]:
    """Pixels (rows, columns, 3) with values in [0, 1], and what was drawn.

    Args:
        op: a concrete operator.
        pixels: the most rows and columns; a matrix that has more is drawn with dots of two pixels.
        family: whose colours it has; None for its own.
    """
    m, n = op.shape
    height, width = max(min(m, pixels[0]), 1), max(min(n, pixels[1]), 1)
    image = np.empty((height, width, 3))
    image[:] = PAPER
    found = support(op, (max(m // height, 1), max(n // width, 1)))
    if family is not None:
        found = [Support(family, s.boxes) for s in found]
    dot = (2 if m > height else 1, 2 if n > width else 1)
    for part in found:
        boxes = part.boxes
        top, left = boxes[:, 0] * height // m, boxes[:, 2] * width // n
        bottom = np.maximum(-(-boxes[:, 1] * height // m), top + dot[0])
        right = np.maximum(-(-boxes[:, 3] * width // n), left + dot[1])
        ink = _rgb(colour(part.family))
        small = (bottom - top == dot[0]) & (right - left == dot[1])
        for i in range(dot[0]):
            for j in range(dot[1]):
                rows = np.minimum(top[small] + i, height - 1)
                image[rows, np.minimum(left[small] + j, width - 1)] = ink
        for t, b, l, r, box in zip(
            top[~small], bottom[~small], left[~small], right[~small], boxes[~small], strict=True
        ):
            shade = SHADES.get(part.family)
            if shade is None:
                image[t:b, l:r] = ink
                continue
            rows = np.arange(t, b) * m // height - box[0]
            columns = np.arange(l, r) * n // width - box[2]
            weight = shade(rows[:, None], columns, int(box[1] - box[0]), int(box[3] - box[2]))
            weight = (0.3 + 0.7 * weight)[..., None]
            image[t:b, l:r] = weight * ink + (1 - weight) * np.array(PAPER)
    return image, found
