"""Projections onto sparse and block-sparse matrices: the largest entries, the largest blocks.

Entries are independent coordinates, so the nearest matrix with k of them keeps the k largest in
magnitude: any other choice drops a larger sum of squares. Blocks are orthogonal subspaces, and the
same holds for their Frobenius norms. A batch shares one pattern, which keeps the places whose sum
of squares over the batch is largest; the lower bound of each member is then its own best choice.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.pattern import Pattern
from structmat.projection.core import (
    Certificate,
    Projection,
    checked_matrix,
    finish,
    register,
    working,
)

__all__ = ["project_block_sparse", "project_sparse"]


@register(Sparse)
def project_sparse(w: Any, density: float | None = None, nnz: int | None = None) -> Projection:
    """The nearest matrix with so many entries: the largest magnitudes of W.

    Args:
        w: W of shape (..., m, n); a batch shares one pattern.
        density: share of the entries that are kept, in [0, 1]; round(density m n) of them.
        nnz: how many are kept, in place of ``density``.

    Raises:
        TypeError: integer W.
        ValueError: NaN or Inf, both or neither of density and nnz, or one out of range.

    Example:
        >>> import torch, structmat as sm
        >>> p = sm.project(torch.tensor([[3.0, 0.5], [-4.0, 0.0]]), sm.Sparse, density=0.5)
        >>> p.operator.to_dense()
        tensor([[ 3.,  0.],
                [-4.,  0.]])
        >>> float(p.error), float(p.lower_bound)
        (0.5, 0.5)
    """
    w = checked_matrix(w, "project Sparse")
    m, n = w.shape[-2:]
    kept = _count("project Sparse", "nnz", density, nnz, m * n)
    flat = w.flatten(-2)
    at, tail, unique = _largest(working(flat).abs(), kept)
    values = flat.index_select(-1, at)
    operator = Sparse((values, Pattern.at((m, n), at.cpu().numpy())))
    certificate = Certificate(
        f"the {kept} largest magnitudes: any other {kept} leave out a larger sum of squares",
        tail=tail.unflatten(-1, (m, n)),
        unique=unique,
    )
    return _finished(w, operator, flat.index_fill(-1, at, 0), tail, certificate)


@register(BlockSparse)
def project_block_sparse(
    w: Any, block: tuple[int, int], density: float | None = None, nblocks: int | None = None
) -> Projection:
    """The nearest matrix with so many blocks: those of W with the largest Frobenius norms.

    Args:
        w: W of shape (..., m, n); a batch shares one mask.
        block: (bm, bn), the shape of a block; bm divides m, and bn divides n.
        density: share of the blocks that are kept, in [0, 1]; round(density mb nb) of them.
        nblocks: how many are kept, in place of ``density``.

    Raises:
        TypeError: integer W.
        ValueError: NaN or Inf, blocks that do not divide W, both or neither of density and
            nblocks, or one out of range.

    Example:
        >>> import torch, structmat as sm
        >>> W = torch.block_diag(torch.full((2, 2), 3.0), torch.ones(2, 2))
        >>> p = sm.project(W, sm.BlockSparse, block=(2, 2), density=0.25)
        >>> p.operator._label(), float(p.error)
        ('BlockSparse(1 of 2x2 in 2x2)', 2.0)
    """
    w = checked_matrix(w, "project BlockSparse")
    m, n = w.shape[-2:]
    p, q = _block(block, m, n)
    grid = w.unflatten(-1, (n // q, q)).unflatten(-3, (m // p, p)).transpose(-3, -2)
    kept = _count("project BlockSparse", "nblocks", density, nblocks, (m // p) * (n // q))
    blocks = grid.flatten(-4, -3)
    norms = torch.linalg.vector_norm(working(blocks), dim=(-2, -1))
    at, tail, unique = _largest(norms, kept)
    pattern = Pattern.at((m // p, n // q), at.cpu().numpy())
    operator = BlockSparse(blocks.index_select(-3, at), pattern)
    certificate = Certificate(
        f"the {kept} largest blocks: any other {kept} leave out a larger sum of squares",
        tail=tail.unflatten(-1, (m // p, n // q)),
        unique=unique,
    )
    rest = blocks.index_fill(-3, at, 0).flatten(-3)
    return _finished(w, operator, rest, tail, certificate)


def _block(block: Any, m: int, n: int) -> tuple[int, int]:
    pair = isinstance(block, tuple | list) and len(block) == 2
    if not pair or not all(type(s) is int and s > 0 for s in block):
        raise ValueError(f"project BlockSparse: block is {block!r}, needs two positive integers")
    if m % block[0] or n % block[1]:
        raise ValueError(
            f"project BlockSparse: blocks of {block[0]} x {block[1]} do not divide W of {m} x {n}"
        )
    return block[0], block[1]


def _count(who: str, name: str, density: Any, count: Any, total: int) -> int:
    """How many places are kept."""
    if (density is None) == (count is None):
        raise ValueError(f"{who}: needs either density or {name}")
    if count is not None:
        if type(count) is not int or not 0 <= count <= total:
            raise ValueError(f"{who}: {name}={count!r} must be an integer from 0 to {total}")
        return count
    if isinstance(density, bool) or not isinstance(density, int | float) or not 0 <= density <= 1:
        raise ValueError(f"{who}: density={density!r} must be a number from 0 to 1")
    return round(density * total)


def _largest(sizes: Tensor, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """For sizes (..., places): the kept places, rising; what each member drops at its own best
    choice; and whether the choice is unique.
    """
    total = sizes.shape[-1]
    joint = torch.linalg.vector_norm(sizes.reshape(math.prod(sizes.shape[:-1]), total), dim=0)
    order = joint.argsort(descending=True, stable=True)
    at = order[:kept].sort().values
    own = sizes.argsort(dim=-1, descending=True, stable=True)
    tail = sizes.scatter(-1, own[..., :kept], 0)
    unique = torch.ones(sizes.shape[:-1], dtype=torch.bool, device=sizes.device)
    if 0 < kept < total:
        unique &= bool(joint[order[kept - 1]] > joint[order[kept]])
    return at, tail, unique


def _finished(
    w: Tensor, operator: Sparse | BlockSparse, rest: Tensor, tail: Tensor, certificate: Certificate
) -> Projection:
    """Error and bound, from what is left out."""
    error, bound = (_norm(t) for t in (working(rest), tail))
    return finish(w, operator, error, bound, certificate)


def _norm(t: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(t, dim=-1)
    return norm
