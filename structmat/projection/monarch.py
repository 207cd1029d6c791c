"""The nearest Monarch matrix, in closed form, for any rectangular shape and any block rank.

View W of shape (l s, k p) with rows (s, l), l fastest, and columns (k, p), p fastest. A Monarch
matrix with right (k, q, p) and left (l, s, r), k q = l r, is exactly a matrix whose l k blocks

    T[l, k] = W[(:, l), (k, :)]   (s x p)

have rank at most rho[l, k] = #{t in k q .. k q + q - 1 : t mod l = l}: the middle position t joins
column block t // q and row block t mod l, and each position adds one rank-one term. Blocks are
disjoint, so the problem separates and Eckart-Young gives the optimum of each:

    min error^2 = sum over blocks of sum_{i > rho[l, k]} sigma_i(T[l, k])^2.

Square case rho = 1: Dao et al. 2022, theorem 1; pairwise disjoint or equal rank-one supports in
general: Le, Zheng, Riccietti, Gribonval 2022. rho = 0 (structural zero blocks) occurs when q < l.
Each factor receives sqrt(sigma), which balances their norms. Cost O(l k s p min(s, p)).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.compose import DirectSum, Product
from structmat.leaves.diagonal import Identity, Zero
from structmat.leaves.monarch import Monarch
from structmat.operator import LinearOperator
from structmat.projection.core import (
    Certificate,
    Progress,
    Projection,
    checked_matrix,
    finish,
    register,
    working,
)

__all__ = ["block_ranks", "project_monarch"]


def block_ranks(k: int, q: int, l: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """rho of shape (l, k): how many middle positions join column block k and row block l.

    Example:
        >>> from structmat.projection.monarch import block_ranks
        >>> block_ranks(4, 3, 6).sum(), (block_ranks(4, 3, 6) == 0).mean()
        (np.int64(12), np.float64(0.5))
    """
    t = np.arange(k * q)
    out = np.zeros((l, k), dtype=np.int64)
    np.add.at(out, (t % l, t // q), 1)
    return out


def _pair(nblocks: Any) -> tuple[int, int]:
    pair = (nblocks, nblocks) if isinstance(nblocks, int) else tuple(nblocks)
    if len(pair) != 2 or not all(isinstance(b, int) and b >= 1 for b in pair):
        raise ValueError(
            f"project Monarch: nblocks is {nblocks!r}, needs a positive integer or a pair (k, l): "
            "k blocks on the input side, l on the output side"
        )
    return pair


@register(Monarch)
def project_monarch(
    w: Any,
    nblocks: int | tuple[int, int],
    rank: int | None = None,
    inner: int | None = None,
    pad: bool = False,
    progress: Progress | None = None,
) -> Projection:
    """The nearest Monarch matrix to W, with equality to the lower bound up to rounding.

    Args:
        w: W of shape (..., m, n).
        nblocks: number of blocks, or (k, l): k blocks on the right (input side), l on the left.
        rank: rank of each of the k l blocks of W; right is (k, l rank, n/k), left is
            (l, m/l, k rank). Default min(m, n) // (k l), at least 1. A rank of
            min(m/l, n/k) or more is exact.
        inner: in place of rank, the size k q = l r of the middle, any common multiple of k and l;
            block ranks then differ (see the module).
        pad: pad W with zeros to multiples of l and k; the operator then crops and embeds, so that
            it keeps W's shape, and the optimum is the same.
        progress: called with (done, total) row blocks.

    Returns:
        :class:`structmat.projection.Projection`; its certificate holds the singular values of the
        blocks, ``tail`` (..., l, k, min(s, p)) with zeros at the kept ones.

    Raises:
        TypeError: integer W.
        ValueError: NaN or Inf, nblocks that does not divide, rank or inner out of range.

    Example:
        >>> import torch, structmat as sm
        >>> W = sm.kron(sm.Dense(torch.ones(3, 2)), sm.Dense(torch.eye(4))).to_dense()
        >>> p = sm.project(W, sm.Monarch, nblocks=(2, 4), rank=1)
        >>> p.operator.right.shape, p.operator.left.shape, p.relative_error < 1e-6
        (torch.Size([2, 4, 4]), torch.Size([4, 3, 2]), tensor(True))
    """
    w = checked_matrix(w, "project Monarch")
    k, l = _pair(nblocks)
    m, n = w.shape[-2:]
    if (m % l or n % k) and not pad:
        raise ValueError(
            f"project Monarch: nblocks k={k} must divide the {n} columns and l={l} the {m} rows; "
            f"pad=True pads W with zeros to {-(-m // l) * l} x {-(-n // k) * k}"
        )
    if rank is not None and inner is not None:
        raise ValueError("project Monarch: give rank or inner, not both")
    if inner is None:
        rank = max(min(m, n) // (k * l), 1) if rank is None else rank
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise ValueError(f"project Monarch: rank is {rank!r}, needs a positive integer")
        inner = k * l * rank
    elif inner < 1 or inner % k or inner % l:
        raise ValueError(
            f"project Monarch: inner={inner} must be a positive multiple of k={k} and l={l}"
        )
    s, p, q, r = -(-m // l), -(-n // k), inner // k, inner // l
    padded = w
    if (s * l, p * k) != (m, n):
        padded = torch.nn.functional.pad(w, (0, p * k - n, 0, s * l - m))

    lead = w.shape[:-2]
    blocks = working(padded).reshape(*lead, s, l, k, p).movedim(-3, -4).movedim(-2, -3)
    t = np.arange(inner)
    rows, columns = t % l, t // q  # block (l, k) that middle position t belongs to
    first = columns * q + (rows - columns * q) % l
    term = (t - first) // l  # which of the block's rank-one terms
    ranks = torch.from_numpy(block_ranks(k, q, l)).to(w.device)

    left = blocks.new_zeros(*lead, l, s, r)
    right = blocks.new_zeros(*lead, k, q, p)
    small = min(s, p)
    sigma = blocks.new_zeros(*lead, l, k, small).abs()
    for row in range(l):
        u, sv, vh = torch.linalg.svd(blocks[..., row, :, :, :], full_matrices=False)
        sigma[..., row, :, :] = sv
        mine = np.nonzero((rows == row) & (term < small))[0]
        at, col, which = t[mine], columns[mine], term[mine]
        root = sv[..., col, which].sqrt()
        us = u.mT[..., col, which, :]
        vs = vh[..., col, which, :]
        left[..., row, :, at // l] = (us * root[..., None]).mT
        right[..., at // q, at % q, :] = vs * root[..., None]
        if progress is not None:
            progress(row + 1, l)
    position = torch.arange(small, device=w.device)
    dropped = position >= ranks[..., None]
    tail = sigma * dropped
    operator: LinearOperator = Monarch(left.to(w.dtype), right.to(w.dtype))
    error2 = _error2(blocks, operator.left, operator.right)  # type: ignore[attr-defined]
    bound = (tail.double() ** 2).sum((-3, -2, -1)).sqrt().to(sigma.dtype)
    edge = ranks.clamp(1, max(small, 1)) - 1
    certificate = Certificate(
        "each of the l*k disjoint blocks of W is approximated at rank rho; by Eckart-Young no "
        "matrix with these block ranks is nearer than the norm of the dropped singular values",
        tail=tail,
        kept=sigma * ~dropped,
        unique=_unique(sigma, ranks, edge),
    )
    if padded is not w:
        crop = DirectSum(Identity(m), Zero(0, s * l - m))
        embed = DirectSum(Identity(n), Zero(p * k - n, 0))
        operator = Product(crop, operator, embed)
    return finish(w, operator, error2.sqrt().to(sigma.dtype), bound, certificate)


def _error2(blocks: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """||W - M||_F^2 in float64, block row by block row: the dense M is never formed."""
    l, s, r = left.shape[-3:]
    k, q, p = right.shape[-3:]
    t = torch.arange(k * q, device=left.device)
    total = blocks.new_zeros(left.shape[:-3], dtype=torch.float64).abs()
    left, right = left.to(blocks.dtype), right.to(blocks.dtype)
    flat = right.reshape(*right.shape[:-3], k * q, p)
    for row in range(l):
        mine = t[t % l == row]  # in order: these are columns 0..r-1 of left[row]
        spread = flat.new_zeros(*flat.shape[:-2], len(mine), k, p)
        spread[..., torch.arange(len(mine), device=t.device), mine // q, :] = flat[..., mine, :]
        approx = left[..., row, :, :] @ spread.flatten(-2)
        diff = blocks[..., row, :, :, :].movedim(-3, -2).flatten(-2) - approx
        total = total + torch.linalg.vector_norm(diff, dim=(-2, -1)).double() ** 2
    return total


def _unique(sigma: Tensor, ranks: Tensor, edge: Tensor) -> Tensor:
    """Whether sigma_rho > sigma_{rho+1} strictly in every block (or nothing is dropped)."""
    small = sigma.shape[-1]
    if small == 0:
        return torch.ones(sigma.shape[:-3], dtype=torch.bool, device=sigma.device)
    eps = torch.finfo(sigma.dtype).eps
    at = torch.take_along_dim(sigma, edge.expand(sigma.shape[:-1])[..., None], -1)[..., 0]
    after = torch.take_along_dim(
        sigma, ranks.clamp(max=small - 1).expand(sigma.shape[:-1])[..., None], -1
    )[..., 0]
    gap = at - after > 8 * small * eps * sigma.amax(-1)
    free = (ranks >= small) | (ranks == 0)
    return (gap | free | (after == 0)).flatten(-2).all(-1)
