"""Numbers of an inverse from those of the matrix: no system is solved.

det A^-1 = 1 / det A      eigenvalues 1 / lambda      singular values 1 / s      cond the same
"""

from __future__ import annotations

from torch import Tensor

from structmat.linalg.answer import Answer, name
from structmat.linalg.condition import cond_of
from structmat.linalg.determinant import SignLog, slogdet_of
from structmat.linalg.inverse import Inverse
from structmat.linalg.singular import svdvals_found, svdvals_of
from structmat.linalg.spectrum import complex_answer, eigvals_found, eigvals_of

__all__: list[str] = []


@slogdet_of.register
def _(op: Inverse, to: Tensor) -> Answer[SignLog]:
    found = slogdet_of(op.children[0], to)
    sign, size = found.value
    return Answer(SignLog(sign.conj(), -size), name("inverse", [found.method]))


@eigvals_of.register
def _(op: Inverse, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    found = eigvals_found(op.children[0], to, hermitian)
    return complex_answer(1 / found.value, name("reciprocal", [found.method]))


@svdvals_of.register
def _(op: Inverse, to: Tensor) -> Answer[Tensor]:
    found = svdvals_found(op.children[0], to)
    return Answer(1 / found.value, name("reciprocal", [found.method]))


@cond_of.register
def _(op: Inverse, to: Tensor) -> Answer[Tensor]:
    return cond_of(op.children[0], to)
