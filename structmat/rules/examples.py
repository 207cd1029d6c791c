"""Leaves with entries in {-1, 0, 1} for the examples of rules: their products are exact."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
from structmat.leaves.sparse import Sparse
from structmat.pattern import Pattern

__all__ = [
    "blocks", "butterfly", "chain", "dense", "diagonal", "factor", "ints", "low_rank", "monarch",
    "pattern", "shuffle", "sparse",
]  # fmt: skip


def ints(g: Generator, *shape: int) -> Tensor:
    """Random entries in {-1, 0, 1} as float64."""
    return torch.randint(-1, 2, shape, generator=g).to(torch.float64)


def dense(g: Generator, m: int, n: int) -> Dense:
    """An m x n matrix."""
    return Dense(ints(g, m, n))


def diagonal(g: Generator, n: int) -> Diagonal:
    """A diagonal of n entries."""
    return Diagonal(ints(g, n))


def low_rank(g: Generator, m: int, n: int, r: int) -> LowRank:
    """An m x n matrix of rank r."""
    return LowRank(ints(g, m, r), ints(g, r, n))


def blocks(g: Generator, k: int, q: int, p: int) -> BlockDiagonal:
    """Block-diagonal: k blocks of q x p."""
    out: BlockDiagonal = BlockDiagonal(ints(g, k, q, p))
    return out


def factor(g: Generator, a: int, b: int, c: int, d: int) -> KroneckerSparse:
    """A Kronecker-sparse factor of pattern (a, b, c, d)."""
    return KroneckerSparse(ints(g, a, b, c, d))


def monarch(g: Generator, left: tuple[int, int, int], right: tuple[int, int, int]) -> Monarch:
    """A Monarch matrix with left (l, s, r) and right (k, q, p)."""
    return Monarch(ints(g, *left), ints(g, *right))


def chain(g: Generator, *patterns: tuple[int, int, int, int]) -> MonarchChain:
    """A chain of Kronecker-sparse factors."""
    return MonarchChain([factor(g, *p) for p in patterns])


def butterfly(g: Generator, stages: int, increasing_stride: bool = True) -> Butterfly:
    """A butterfly of size 2^stages."""
    return Butterfly(ints(g, stages, 1 << (stages - 1), 2, 2), increasing_stride)


def pattern(g: Generator, m: int, n: int, nnz: int) -> Pattern:
    """A random pattern of nnz entries."""
    keys = torch.randperm(m * n, generator=g)[:nnz].sort().values
    return Pattern.at((m, n), keys.numpy())


def sparse(g: Generator, m: int, n: int, nnz: int) -> Sparse:
    """A sparse matrix of nnz entries."""
    return Sparse((ints(g, nnz), pattern(g, m, n, nnz)))


def shuffle(g: Generator, n: int) -> Permutation:
    """A random permutation."""
    return Permutation(torch.randperm(n, generator=g))
