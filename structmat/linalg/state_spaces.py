"""Numbers of the input-output matrix of a linear system, a lower triangular Toeplitz matrix.

Its diagonal is D: trace n D, determinant D^n, every eigenvalue D, which needs no first column.
Entries, norms and column sums come from the first column, as for ``Circulant(kernel, 0)``.
"""

from __future__ import annotations

from torch import Tensor

from structmat.compose import Transpose
from structmat.leaves.statespace import StateSpace
from structmat.leaves.toeplitz import Circulant
from structmat.linalg.answer import Answer
from structmat.linalg.column_sums import column_sums_of
from structmat.linalg.determinant import SignLog, constant, of_diagonal, slogdet_of
from structmat.linalg.entries import Entries, entries_of
from structmat.linalg.frobenius import frobenius_of
from structmat.linalg.spectrum import complex_answer, eigvals_of
from structmat.linalg.trace import trace_of
from structmat.operator import LinearOperator

__all__: list[str] = []


def _diagonal(op: StateSpace, to: Tensor) -> Tensor:
    """(..., n), D everywhere."""
    direct = op.tensors["D"].to(to) if "D" in op.tensors else to.new_zeros(())
    return direct[..., None].expand(*direct.shape, op.length)


def _toeplitz(op: StateSpace) -> LinearOperator:
    found = Circulant(op.kernel(), 0)
    return Transpose(found) if op.transposed else found


@entries_of.register
def _(op: StateSpace) -> Entries | None:
    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        found = entries_of(_toeplitz(op))
        assert found is not None
        return found.get(i, j, to)

    return Entries(1, get)


@trace_of.register
def _(op: StateSpace, to: Tensor) -> Answer[Tensor]:
    return Answer(_diagonal(op, to).sum(-1), "triangular: its diagonal is D")


@slogdet_of.register
def _(op: StateSpace, to: Tensor) -> Answer[SignLog]:
    if op.length == 0:
        return constant(to, 1, 0.0, "empty")
    return of_diagonal(_diagonal(op, to), "triangular: its diagonal is D")


@eigvals_of.register
def _(op: StateSpace, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    return complex_answer(_diagonal(op, to), "triangular: its diagonal is D")


@frobenius_of.register
def _(op: StateSpace, to: Tensor) -> Answer[Tensor]:
    return frobenius_of(Circulant(op.kernel(), 0), to)


@column_sums_of.register
def _(op: StateSpace, to: Tensor) -> Answer[Tensor]:
    return column_sums_of(_toeplitz(op), to)
