"""Numbers of a Kronecker sum A (+) B = A (x) I + I (x) B from those of its terms.

    eigenvalues    all sums a_i + b_j          diagonal   all sums
    expm           expm A (x) expm B           trace      q tr A + p tr B for p x p and q x q
    determinant    prod of the eigenvalues     singular values of normal terms: |eigenvalues|
    ||.||_F^2      q ||A||^2 + p ||B||^2 + 2 Re(tr A conj(tr B))
    column sums    of the entries off the diagonals, all sums, and the moduli of the diagonal

(Horn and Johnson, Topics in matrix analysis, section 4.4.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from structmat.compose import Kronecker, KroneckerSum, Scaled
from structmat.linalg.answer import Answer, name
from structmat.linalg.column_sums import column_sums_of
from structmat.linalg.determinant import SignLog, constant, of_spectrum, slogdet_of
from structmat.linalg.diagonal import diagonal_of
from structmat.linalg.entries import Entries, entries_of
from structmat.linalg.expm import expm_of, pushed
from structmat.linalg.frobenius import frobenius_of, root
from structmat.linalg.spectrum import as_complex, eigvals_found, eigvals_of
from structmat.linalg.trace import trace_of
from structmat.operator import LinearOperator

__all__: list[str] = []


def _sums(parts: list[Tensor]) -> Tensor:
    """All sums of one entry of each vector, the first the slowest."""
    out = parts[0]
    for p in parts[1:]:
        out = (out[..., :, None] + p[..., None, :]).flatten(-2)
    return out


@entries_of.register
def _(op: KroneckerSum) -> Entries | None:
    terms = [entries_of(c) for c in op.children]
    known = [t for t in terms if t is not None]
    if len(known) < len(terms):
        return None

    def get(i: Tensor, j: Tensor, to: Tensor) -> Tensor:
        out, same = to.new_zeros(i.shape), torch.ones_like(i, dtype=torch.bool)
        for child, term in zip(reversed(op.children), reversed(known), strict=True):
            n = max(child.shape[0], 1)
            row, column, i, j = i % n, j % n, i // n, j // n
            # The term counts where all other digits agree: those behind do (same), those before
            # (i == j); what is summed so far stays where this digit agrees.
            value = torch.where(same & (i == j), term.get(row, column, to), 0)
            out = torch.where(row == column, out, 0) + value
            same = same & (row == column)
        return out

    return Entries(sum(t.cost for t in known), get)


@diagonal_of.register
def _(op: KroneckerSum, offset: int, to: Tensor) -> Answer[Tensor]:
    if offset:
        return diagonal_of.dispatch(LinearOperator)(op, offset, to)
    parts = [diagonal_of(c, 0, to) for c in op.children]
    values = _sums([p.value for p in parts])
    return Answer(values, name("sums of diagonals", (p.method for p in parts)))


@trace_of.register
def _(op: KroneckerSum, to: Tensor) -> Answer[Tensor]:
    parts = [trace_of(c, to) for c in op.children]
    total = to.new_zeros(())
    for p, c in zip(parts, op.children, strict=True):
        total = total + p.value * (op.shape[0] // max(c.shape[0], 1))
    return Answer(total, name("weighted sum of traces", (p.method for p in parts)))


@eigvals_of.register
def _(op: KroneckerSum, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    parts = [eigvals_found(c, to, False) for c in op.children]
    values = _sums([as_complex(p.value) for p in parts])
    return Answer(values, name("sums of the terms' eigenvalues", (p.method for p in parts)))


@slogdet_of.register
def _(op: KroneckerSum, to: Tensor) -> Answer[SignLog]:
    if op.shape[0] == 0:
        return constant(to, 1, 0.0, "empty")
    found = eigvals_of(op, to, False)
    assert found is not None
    return of_spectrum(found.value, to, name("product of eigenvalues", [found.method]))


@frobenius_of.register
def _(op: KroneckerSum, to: Tensor) -> Answer[Tensor]:
    n = op.shape[0]
    total = to.new_zeros(()).abs()
    traces: list[Tensor] = []  # of A / p: the mean of the diagonal
    for c in op.children:
        side = max(c.shape[0], 1)
        total = total + frobenius_of(c, to).value ** 2 * (n // side)
        traces.append(trace_of(c, to).value / side)
    for k, a in enumerate(traces):
        for b in traces[:k]:
            both = a * b.conj()
            total = total + 2 * n * (both.real if both.is_complex() else both)
    return Answer(root(total), "norms and traces of the terms")


@column_sums_of.register
def _(op: KroneckerSum, to: Tensor) -> Answer[Tensor]:
    sums = [column_sums_of(c, to) for c in op.children]
    diagonals = [diagonal_of(c, 0, to).value for c in op.children]
    off = [s.value - d.abs() for s, d in zip(sums, diagonals, strict=True)]
    method = name("sums of the terms' sums", (s.method for s in sums))
    return Answer(_sums(off) + _sums(diagonals).abs(), method)


@expm_of.register
def _(op: KroneckerSum, to: Tensor) -> LinearOperator | None:
    parts = [expm_of(c, to) for c in op.children]
    known = [p for p in parts if p is not None]
    return Kronecker(*known) if len(known) == len(parts) else None


@pushed.register
def _(inner: KroneckerSum, op: Scaled) -> LinearOperator:
    return KroneckerSum(*(Scaled(op.alpha, c) for c in inner.children))
