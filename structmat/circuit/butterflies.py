"""Words of butterflies: what is put together to products M_1 M_2^* M_3 M_4^* ...

A *word* is a list of butterflies of one size N = 2^L in matrix order, the last acts first. A letter
is B, a ``Butterfly`` of increasing stride, or B*, one of decreasing stride. A matrix A (m x n) has
the word if A is the first m rows and n columns of the product; what stands elsewhere is anything.

The functions here are the closure properties: diagonal matrices go into the outer factors of a
word, a word grows to a larger size by the identity beside it, words are paired to (B B*)^w with
identities where a letter is missing, and words side by side make a sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from structmat.leaves.butterfly import Butterfly

__all__ = [
    "Word",
    "columns_scaled",
    "fewest",
    "fourier",
    "grown",
    "outer",
    "paired",
    "power",
    "routing",
    "rows_scaled",
    "signs",
    "straight",
    "summed",
    "turned",
]

Word = list[Butterfly]
Integers = NDArray[np.int64]


def power(n: int) -> int:
    """The least power of two that is at least n and 2."""
    return 1 << max(n - 1, 1).bit_length()


# single butterflies ------------------------------------------------------------------------------


def straight(size: int, rises: bool, like: Tensor) -> Butterfly:
    """The identity; ``rises`` is ``increasing_stride``."""
    stages = size.bit_length() - 1
    eye = torch.eye(2, dtype=like.dtype, device=like.device)
    return Butterfly(eye.expand(stages, size // 2, 2, 2), increasing_stride=rises)


def outer(u: Tensor, v: Tensor, rises: bool) -> Butterfly:
    """u v^T (u, v of length N): between diagonals, all blocks [[1, 1], [1, 1]] make the ones."""
    size = u.shape[-1]
    stages = size.bit_length() - 1
    ones = Butterfly(u.new_ones(stages, size // 2, 2, 2), increasing_stride=rises)
    return _rows(_columns(ones, v), u)


def signs(size: int, factor: float, rises: bool, like: Tensor) -> Butterfly:
    """factor times the Walsh-Hadamard matrix, whose stages commute."""
    stages = size.bit_length() - 1
    h = torch.tensor([[1, 1], [1, -1]], dtype=like.dtype, device=like.device)
    whole = Butterfly(h.expand(stages, size // 2, 2, 2), increasing_stride=rises)
    return whole if factor == 1.0 else _rows(whole, h.new_full((size,), factor))


def fourier(size: int, dtype: torch.dtype, device: torch.device) -> Butterfly:
    """B with F = B P for the Fourier transform F and the bit reversal P (Cooley and Tukey 1965)."""
    pair = torch.arange(size // 2, dtype=torch.float64)
    stages = []
    for t in range(size.bit_length() - 1):
        angle = -math.pi * (pair % (1 << t)) / (1 << t)
        w = torch.polar(torch.ones_like(angle), angle)
        one = torch.ones_like(w)
        stages.append(torch.stack([one, w, one, -w], -1).reshape(-1, 2, 2))
    return Butterfly(torch.stack(stages).to(dtype=dtype, device=device))


def routing(position: Integers, label: Integers, size: int, like: Tensor) -> Butterfly:
    """The B that adds what is at ``position[e]`` into ``label[e]``, for every e.

    It needs |label[e] - label[f]| <= |position[e] - position[f]|. Stage t sets bit t of the
    address. Two values that meet after stage t - 1 agree in the higher bits of their positions,
    so these differ by less than 2^t, and in t low bits of their labels, so these are equal: values
    meet only to be added. Transposed, it copies and spreads.
    """
    stages = size.bit_length() - 1
    found = np.zeros((stages, size // 2, 2, 2), dtype=bool)
    for t in range(stages):
        low, high = (1 << t) - 1, (2 << t) - 1
        here = (label & low) | (position & ~low)
        there = (label & high) | (position & ~high)
        pair = (here >> (t + 1) << t) | (here & low)
        found[t, pair, (there >> t) & 1, (here >> t) & 1] = True
    return Butterfly(torch.from_numpy(found).to(dtype=like.dtype, device=like.device))


# changes of a word -------------------------------------------------------------------------------


def rows_scaled(word: Word, d: Tensor) -> Word:
    """The word of diag(d) A; rows past the length of d become zero."""
    return [_rows(word[0], d), *word[1:]]


def columns_scaled(word: Word, d: Tensor) -> Word:
    """The word of A diag(d); columns past the length of d become zero."""
    return [*word[:-1], _columns(word[-1], d)]


def _rows(b: Butterfly, d: Tensor) -> Butterfly:
    last = b.twiddle.shape[0] - 1 if b.increasing_stride else 0
    return _stage(b, last, b.twiddle[last] * _in_pairs(b, d, last)[:, :, None])


def _columns(b: Butterfly, d: Tensor) -> Butterfly:
    first = 0 if b.increasing_stride else b.twiddle.shape[0] - 1
    return _stage(b, first, b.twiddle[first] * _in_pairs(b, d, first)[:, None, :])


def _in_pairs(b: Butterfly, d: Tensor, t: int) -> Tensor:
    """d (n,) as (N/2, 2), the two entries that each block of stage t meets."""
    d = F.pad(d, (0, b.shape[0] - d.shape[-1]))
    return d.reshape(-1, 2, 1 << t).mT.reshape(-1, 2)


def _stage(b: Butterfly, t: int, block: Tensor) -> Butterfly:
    old = b.twiddle.to(block.dtype)
    twiddle = torch.cat([old[:t], block[None], old[t + 1 :]])
    return Butterfly(twiddle, increasing_stride=b.increasing_stride)


def turned(word: Word) -> Word:
    """The word of A^T."""
    return [
        Butterfly(b.twiddle.mT, increasing_stride=not b.increasing_stride) for b in reversed(word)
    ]


def grown(word: Word, size: int) -> Word:
    """The word at a larger size: each butterfly becomes its direct sum with the identity."""
    return [_beside([b], size) for b in word]


def _beside(blocks: Sequence[Butterfly], size: int) -> Butterfly:
    """The direct sum of butterflies of one size, filled up by the identity."""
    parts = torch.cat([b.twiddle for b in blocks], 1)
    stages = size.bit_length() - 1
    eye = torch.eye(2, dtype=parts.dtype, device=parts.device)
    rest = eye.expand(parts.shape[0], size // 2 - parts.shape[1], 2, 2)
    above = eye.expand(stages - parts.shape[0], size // 2, 2, 2)
    twiddle = torch.cat([torch.cat([parts, rest], 1), above])
    return Butterfly(twiddle, increasing_stride=blocks[0].increasing_stride)


# words to (B B*)^w -------------------------------------------------------------------------------


def paired(word: Word) -> Word:
    """Letters B, B*, B, B*, ..., with the identity where one is missing."""
    out: Word = []
    for b in word:
        if b.increasing_stride != (len(out) % 2 == 0):
            out.append(straight(b.shape[0], not b.increasing_stride, b.twiddle))
        out.append(b)
    if len(out) % 2:
        out.append(straight(out[0].shape[0], False, out[0].twiddle))
    return out


def fewest(choices: Sequence[Sequence[Word]]) -> Word:
    """The product with one word of each choice, so that the fewest pairs are needed.

    After a prefix, all that matters is whether its last letter is a B that still waits for its B*,
    so the best prefix of either kind is kept.
    """
    best: dict[bool, Word] = {False: []}
    for words in choices:
        found: dict[bool, Word] = {}
        for before in best.values():
            for word in words:
                whole = [*before, *word]
                waits = whole[-1].increasing_stride
                if waits not in found or len(_letters(whole)) < len(_letters(found[waits])):
                    found[waits] = whole
        best = found
    return min(best.values(), key=lambda w: len(_letters(w)))


def _letters(word: Word) -> list[bool]:
    """Which letters the paired word has, without making it."""
    out: list[bool] = []
    for b in word:
        out += [not b.increasing_stride] * (b.increasing_stride != (len(out) % 2 == 0))
        out.append(b.increasing_stride)
    return out + [False] * (len(out) % 2)


def summed(words: Sequence[Word]) -> Word:
    """The word of the sum of k matrices, at k times the size, k rounded up to a power of two.

    The factor B* that acts first copies x to k blocks by its large strides, the words act side by
    side, and the large strides of the last B add the blocks. It is as wide as the widest word.
    """
    pairs = [paired(w) for w in words]
    size = max(w[0].shape[0] for w in pairs)
    wide = max(len(w) for w in pairs)
    dtype = pairs[0][0].twiddle.dtype
    for b in (b for w in pairs for b in w):
        dtype = torch.promote_types(dtype, b.twiddle.dtype)
    full = [_filled(grown(w, size), wide, dtype) for w in pairs]
    total = size * (1 << (len(words) - 1).bit_length())
    out = [_beside([w[i] for w in full], total) for i in range(wide)]
    copies = torch.tensor([[1, 0], [1, 0]], dtype=dtype, device=out[0].twiddle.device)
    out[-1] = _above(out[-1], size, copies)
    # blocks of the identity beside the terms hold copies of x: they must not be added
    out[-1] = _without(out[-1], len(words) * size)
    out[0] = _above(out[0], size, copies.mT)
    return out


def _filled(word: Word, length: int, dtype: torch.dtype) -> Word:
    word = [Butterfly(b.twiddle.to(dtype), increasing_stride=b.increasing_stride) for b in word]
    extra = [straight(word[0].shape[0], i % 2 == 0, word[0].twiddle) for i in range(length)]
    return [*word, *extra[len(word) :]]


def _above(b: Butterfly, size: int, block: Tensor) -> Butterfly:
    """With ``block`` in all stages whose stride is at least ``size``."""
    kept = b.twiddle[: size.bit_length() - 1]
    new = block.expand(b.twiddle.shape[0] - kept.shape[0], b.twiddle.shape[1], 2, 2)
    return Butterfly(torch.cat([kept, new]), increasing_stride=b.increasing_stride)


def _without(b: Butterfly, used: int) -> Butterfly:
    """With rows from ``used`` on zero."""
    return _rows(b, b.twiddle.new_ones(used))
