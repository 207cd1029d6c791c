"""Entries, rows, norms and column sums of sparse matrices and selections, from their patterns."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from structmat.builder import index_tensor
from structmat.compose import Selection
from structmat.leaves.sparse import BlockSparse, Sparse, scattered
from structmat.linalg.answer import Answer
from structmat.linalg.column_sums import column_sums_of
from structmat.linalg.determinant import SignLog, constant, parity_of, singular, slogdet_of
from structmat.linalg.entries import Entries, entries_of
from structmat.linalg.frobenius import frobenius_of
from structmat.linalg.products import Rows, rows_of
from structmat.linalg.singular import svdvals_of
from structmat.pattern import Pattern

__all__: list[str] = []


def _found(pattern: Pattern, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
    """Which entry of the pattern (i, j) is, and whether it is one."""
    keys = index_tensor(pattern.keys, i.device)
    wanted = i * pattern.shape[1] + j
    at = torch.searchsorted(keys, wanted.contiguous()).clamp(max=max(pattern.nnz - 1, 0))
    return at, keys[at] == wanted


@entries_of.register
def _(op: Sparse) -> Entries:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        if op.nnz == 0:
            return to.new_zeros(i.shape)
        at, hit = _found(op.pattern, i, j)
        return torch.where(hit, op.values.to(to)[..., at], 0)

    return Entries(1, get)


@entries_of.register
def _(op: BlockSparse) -> Entries:
    p, q = op.block

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        if op.pattern.nnz == 0:
            return to.new_zeros(i.shape)
        at, hit = _found(op.pattern, i // p, j // q)
        return torch.where(hit, op.blocks.to(to)[..., at, i % p, j % q], 0)

    return Entries(1, get)


@rows_of.register
def _(op: Sparse) -> Rows:
    starts = op.pattern.indptr.array()
    width = int(np.diff(starts).max(initial=0))

    def get(i: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
        k = torch.arange(width, device=to.device)
        if width == 0:
            shape = (*i.shape, 0)
            return torch.zeros(shape, dtype=torch.int64, device=to.device), to.new_zeros(shape)
        indptr = index_tensor(op.pattern.indptr, to.device)
        at = indptr[i][..., None] + k
        hit = at < indptr[i + 1][..., None]
        at = at.clamp(max=op.nnz - 1)
        columns = index_tensor(op.pattern.indices, to.device)[at]
        return columns, torch.where(hit, op.values.to(to)[..., at], 0)

    return Rows(width, get)


@frobenius_of.register
def _(op: Sparse, to: Tensor) -> Answer[Tensor]:
    value: Tensor = torch.linalg.vector_norm(op.values.to(to), dim=-1)
    return Answer(value, "entries")


@frobenius_of.register
def _(op: BlockSparse, to: Tensor) -> Answer[Tensor]:
    value: Tensor = torch.linalg.vector_norm(op.blocks.to(to), dim=(-3, -2, -1))
    return Answer(value, "entries")


@column_sums_of.register
def _(op: Sparse, to: Tensor) -> Answer[Tensor]:
    sums = scattered(op.values.to(to).abs(), op.pattern.indices, op.shape[1])
    return Answer(sums, "entries")


@column_sums_of.register
def _(op: BlockSparse, to: Tensor) -> Answer[Tensor]:
    sums = scattered(op.blocks.to(to).abs().sum(-2), op.pattern.indices, op.pattern.shape[1], -2)
    return Answer(sums.flatten(-2), "entries")


# selections: one 1 in each row (of the transpose: in each column) -------------------------------


def _counts(op: Selection, to: Tensor) -> Tensor:
    """How often each position is selected."""
    counts = np.bincount(op.index.array(), minlength=op.index.size)
    return torch.from_numpy(counts).to(to.device).to(to.abs().dtype)


@entries_of.register
def _(op: Selection) -> Entries:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        i, j = (j, i) if op.transposed else (i, j)
        return (op.index.tensor(to.device)[i] == j).to(to)

    return Entries(1, get)


@rows_of.register
def _(op: Selection) -> Rows | None:
    if op.transposed:
        return None

    def get(i: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
        return op.index.tensor(to.device)[i][..., None], to.new_ones(*i.shape, 1)

    return Rows(1, get)


@frobenius_of.register
def _(op: Selection, to: Tensor) -> Answer[Tensor]:
    return Answer(to.new_tensor(len(op.index)).abs().sqrt(), "one entry of 1 for each position")


@column_sums_of.register
def _(op: Selection, to: Tensor) -> Answer[Tensor]:
    sums = to.new_ones(op.shape[1]).abs() if op.transposed else _counts(op, to)
    return Answer(sums, "how often each position is selected")


@svdvals_of.register
def _(op: Selection, to: Tensor) -> Answer[Tensor]:
    values = _counts(op, to).sqrt().sort(descending=True).values  # S^T S = diag(counts)
    return Answer(values[: min(op.shape)], "how often each position is selected")


@slogdet_of.register
def _(op: Selection, to: Tensor) -> Answer[SignLog]:
    if not op.index.unique:
        return singular(to, "a position is selected twice")
    return constant(to, parity_of(op.index.array()), 0.0, "cycles of the permutation")
