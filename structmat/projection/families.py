"""Projections that are one theorem each: low rank (Eckart-Young) and block diagonal."""

from __future__ import annotations

from typing import Any

import torch

from structmat.leaves.block import BlockDiagonal
from structmat.leaves.dense import LowRank
from structmat.projection.core import (
    Certificate,
    Projection,
    checked_matrix,
    finish,
    frobenius,
    register,
    working,
)

__all__ = ["project_block_diagonal", "project_low_rank"]


@register(LowRank)
def project_low_rank(w: Any, rank: int) -> Projection:
    """The nearest matrix of rank at most ``rank``: the truncated SVD (Eckart-Young 1936).

    Args:
        w: W of shape (..., m, n).
        rank: at least 1; more than min(m, n) keeps everything.

    Raises:
        TypeError: integer W.
        ValueError: NaN or Inf, or rank < 1.

    Example:
        >>> import torch, structmat as sm
        >>> p = sm.project(torch.diag(torch.tensor([3.0, 4.0])), sm.LowRank, rank=1)
        >>> round(float(p.error), 5), round(float(p.lower_bound), 5)
        (3.0, 3.0)
    """
    w = checked_matrix(w, "project LowRank")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"project LowRank: rank is {rank!r}, needs a positive integer")
    u, sv, vh = torch.linalg.svd(working(w), full_matrices=False)
    root = sv[..., :rank].sqrt()
    left = (u[..., :, :rank] * root[..., None, :]).to(w.dtype)
    right = (vh[..., :rank, :] * root[..., :, None]).to(w.dtype)
    error = frobenius(working(w) - working(left) @ working(right))
    tail = sv.clone()
    tail[..., :rank] = 0
    bound = (tail.double() ** 2).sum(-1).sqrt().to(sv.dtype)
    certificate = Certificate(
        "Eckart-Young: no matrix of this rank is nearer than the dropped singular values",
        tail=tail,
        kept=sv[..., :rank],
    )
    return finish(w, LowRank(left, right), error, bound, certificate)


@register(BlockDiagonal)
def project_block_diagonal(w: Any, nblocks: int) -> Projection:
    """The nearest block-diagonal matrix with equal blocks: W's own diagonal blocks.

    Args:
        w: W of shape (..., m, n).
        nblocks: K, a divisor of m and n.

    Raises:
        TypeError: integer W.
        ValueError: NaN or Inf, or nblocks that does not divide.

    Example:
        >>> import torch, structmat as sm
        >>> sm.project(torch.ones(4, 4), sm.BlockDiagonal, nblocks=2).error
        tensor(2.8284)
    """
    w = checked_matrix(w, "project BlockDiagonal")
    m, n = w.shape[-2:]
    if isinstance(nblocks, bool) or not isinstance(nblocks, int) or nblocks < 1:
        raise ValueError(f"project BlockDiagonal: nblocks is {nblocks!r}, needs an integer >= 1")
    if m % nblocks or n % nblocks:
        raise ValueError(f"project BlockDiagonal: nblocks={nblocks} must divide {m} and {n}")
    view = w.reshape(*w.shape[:-2], nblocks, m // nblocks, nblocks, n // nblocks)
    blocks = view.diagonal(dim1=-4, dim2=-2).movedim(-1, -3).clone()
    rest = view.clone()
    rest.diagonal(dim1=-4, dim2=-2).zero_()
    off = rest.reshape(w.shape)
    error = frobenius(working(off))
    certificate = Certificate("entries outside the blocks cannot be represented", tail=off)
    return finish(w, BlockDiagonal(blocks), error, error, certificate)
