"""Numbers of a block matrix from those of its blocks.

    trace            of the diagonal blocks, where they are square
    determinant      of block triangular matrices: prod det of the diagonal blocks; of others, of a
                     block that has a method times that of its Schur complement
    eigenvalues      of block triangular matrices: those of the diagonal blocks
    ||.||_F^2        sum of the blocks'             column sums   down each column of blocks

Which blocks are zero is read from the structure: blocks of the class Zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from structmat.compose import Block, Scaled
from structmat.leaves.diagonal import Zero
from structmat.leaves.toeplitz import join
from structmat.linalg.answer import Answer, name
from structmat.linalg.column_sums import column_sums_of
from structmat.linalg.determinant import SignLog, constant, divided, lu, slogdet_of, times
from structmat.linalg.entries import Entries, entries_of
from structmat.linalg.expm import pushed
from structmat.linalg.frobenius import frobenius_of
from structmat.linalg.partitioned import bordered
from structmat.linalg.spectrum import as_complex, eigvals_found, eigvals_of
from structmat.linalg.trace import trace_of
from structmat.operator import LinearOperator

__all__ = ["diagonal_blocks"]


def diagonal_blocks(op: Block, triangular: bool = True) -> list[LinearOperator] | None:
    """The blocks on the diagonal, if all are square; and the matrix is block triangular."""
    if op.heights != op.widths:
        return None
    rows = list(op.rows())
    p = len(rows)
    below = all(isinstance(rows[i][j], Zero) for i in range(p) for j in range(i))
    above = all(isinstance(rows[i][j], Zero) for i in range(p) for j in range(i + 1, p))
    return [rows[i][i] for i in range(p)] if below or above or not triangular else None


@entries_of.register
def _(op: Block) -> Entries | None:
    blocks = [entries_of(c) for c in op.children]
    if any(b is None for b in blocks):
        return None

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        out = to.new_zeros(i.shape)
        found = iter(blocks)
        top = 0
        for row in op.rows():
            left = 0
            for child in row:
                block, (m, n) = next(found), child.shape
                row_, column = i - top, j - left
                left += n
                if block is None or 0 in child.shape or isinstance(child, Zero):
                    continue
                hit = (row_ >= 0) & (row_ < m) & (column >= 0) & (column < n)
                value = block.get(row_.clamp(0, m - 1), column.clamp(0, n - 1), to)
                out = torch.where(hit, value, out)
            top += row[0].shape[0]
        return out

    return Entries(sum(b.cost for b in blocks if b is not None), get)


@trace_of.register
def _(op: Block, to: Tensor) -> Answer[Tensor]:
    blocks = diagonal_blocks(op, triangular=False)
    if blocks is None:
        return trace_of.dispatch(LinearOperator)(op, to)
    parts = [trace_of(c, to) for c in blocks]
    total = to.new_zeros(())
    for p in parts:
        total = total + p.value
    return Answer(total, name("traces of the blocks", (p.method for p in parts)))


@slogdet_of.register
def _(op: Block, to: Tensor) -> Answer[SignLog]:
    blocks = diagonal_blocks(op)
    if blocks is None:
        return _by_schur(op, to) or slogdet_of.dispatch(LinearOperator)(op, to)
    if op.shape[0] == 0:
        return constant(to, 1, 0.0, "empty")
    parts = [(slogdet_of(c, to), 1) for c in blocks if c.shape[0]]
    return times(parts, "block triangular")


def _by_schur(op: Block, to: Tensor) -> Answer[SignLog] | None:
    """det A det(D - C A^-1 B), where A is easily solved and safe to divide by."""
    found = bordered(op)
    if found is None or 2 * found.how.densified > op.shape[0] or found.d.shape[0] == 0:
        return None
    inside = slogdet_of(found.a, to)
    if inside.method.startswith("dense LU"):
        return None  # nothing is gained: the whole may as well be dense
    x = divided(found.a, found.b._dense(to.dtype, to.device), found.how)
    if x is None:
        return None
    schur = found.d._dense(to.dtype, to.device) - found.c @ x
    parts = [(inside, 1), (lu(schur, "dense LU of the Schur complement"), 1)]
    return times(parts, "block elimination")


@eigvals_of.register
def _(op: Block, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    blocks = diagonal_blocks(op)
    if blocks is None:
        return None
    parts = [eigvals_found(c, to, False) for c in blocks]
    values = join(*(as_complex(p.value) for p in parts))
    return Answer(values, name("block triangular", (p.method for p in parts)))


@frobenius_of.register
def _(op: Block, to: Tensor) -> Answer[Tensor]:
    parts = [frobenius_of(c, to) for c in op.children if 0 not in c.shape]
    if not parts:
        return Answer(to.new_zeros(()).abs(), "empty")
    values = torch.stack(torch.broadcast_tensors(*(p.value for p in parts)), -1)
    value: Tensor = torch.linalg.vector_norm(values, dim=-1)
    return Answer(value, name("norms of the blocks", (p.method for p in parts)))


@column_sums_of.register
def _(op: Block, to: Tensor) -> Answer[Tensor]:
    sums, methods = [], []
    for column in zip(*op.rows(), strict=True):
        total = to.new_zeros(column[0].shape[1]).abs()
        for c in column:
            found = column_sums_of(c, to)
            total = total + found.value
            methods.append(found.method)
        sums.append(total)
    return Answer(join(*sums), name("sums of the blocks", methods))


@pushed.register
def _(inner: Block, op: Scaled) -> LinearOperator:
    return Block([[Scaled(op.alpha, c) for c in row] for row in inner.rows()])
