"""Eigenvalues by structure.

    Z_f(c)        FFT(c_k phi^k) with phi^n = f      P              roots of unity, cycle by cycle
    A (x) B       all products                       diag(A, B)     those of A and of B
    A + k I       shifted                            A^k            powers
    U V           those of V U, and zeros            F_n            sqrt(n) {1, -1, -i, i}, with
                                                                    multiplicities known
    a symmetric orthogonal transform: 1 and -1, as often as its trace says

(McClellan and Parks 1972 for F_n.) Everything else is LAPACK on the dense matrix, and says so, or
with ``k`` a Lanczos or Arnoldi iteration of ARPACK for the extreme ones.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Literal, overload

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.monarch import Monarch
from structmat.leaves.toeplitz import join
from structmat.linalg.answer import Answer, dense, like, name, need_square, not_an_operator, spread
from structmat.linalg.arpack import extreme
from structmat.linalg.diagonal import diagonal_of
from structmat.linalg.entries import flat, scalar
from structmat.linalg.implicit import need_finite
from structmat.linalg.structure import diagonal_known, shifted
from structmat.operator import LinearOperator
from structmat.properties import is_hermitian, is_triangular
from structmat.tracing import whole

__all__ = ["eigvals", "eigvals_found", "eigvals_of", "eigvalsh"]


@overload
def eigvals(
    A: LinearOperator, k: int | None = ..., *, which: str = ..., return_method: Literal[False] = ...
) -> Tensor: ...
@overload
def eigvals(
    A: LinearOperator, k: int | None = ..., *, which: str = ..., return_method: Literal[True]
) -> Answer[Tensor]: ...
@whole
def eigvals(
    A: LinearOperator, k: int | None = None, *, which: str = "LM", return_method: bool = False
) -> Tensor | Answer[Tensor]:
    """The eigenvalues, complex, in no particular order.

    With ``k`` values have exact first derivatives, by their left and right eigenvectors, and none
    after: a second one raises. Where eigenvalues coincide, single ones have no derivative; the sum
    of all that coincide does, if k takes them whole. The results repeat: the start is fixed.

    Args:
        A: square operator.
        k: how many, by an Arnoldi iteration of ``scipy.sparse.linalg.eigs`` that only multiplies by
            A and its transpose; all of them by default.
        which: which k, as SciPy names them: ``"LM"``, ``"SM"``, ``"LR"``, ``"SR"``, ``"LI"``,
            ``"SI"``.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Complex tensor of shape batch_shape + (n,), or + (k,).

    Raises:
        TypeError: A is no operator.
        ValueError: A is not square; k or which out of range.
        RuntimeError: with k, left eigenvectors, which derivatives need, are not found.
        NotImplementedError: with k, a second derivative.

    Example:
        >>> import torch, structmat as sm
        >>> sm.eigvals(sm.LowRank(torch.ones(3, 1), torch.ones(1, 3))).real
        tensor([3., 0., 0.])
    """
    _check("eigvals", A)
    if k is not None:
        found = extreme(A, k, which, hermitian=False)
    else:
        found = eigvals_found(A, like(A), False)
        found = Answer(spread(as_complex(found.value), A, 1), found.method)
    return found if return_method else found.value


@overload
def eigvalsh(
    A: LinearOperator, k: int | None = ..., *, which: str = ..., return_method: Literal[False] = ...
) -> Tensor: ...
@overload
def eigvalsh(
    A: LinearOperator, k: int | None = ..., *, which: str = ..., return_method: Literal[True]
) -> Answer[Tensor]: ...
@whole
def eigvalsh(
    A: LinearOperator, k: int | None = None, *, which: str = "LM", return_method: bool = False
) -> Tensor | Answer[Tensor]:
    """The eigenvalues of a Hermitian operator, real, ascending.

    With ``k`` values have exact first derivatives, by their eigenvectors, and none after, as in
    :func:`structmat.eigvals`.

    Args:
        A: square operator that is Hermitian; that it is, is not checked.
        k: how many, by a Lanczos iteration of ``scipy.sparse.linalg.eigsh`` that only multiplies by
            A; all of them by default.
        which: which k, as SciPy names them: ``"LM"``, ``"SM"``, ``"LA"``, ``"SA"``, ``"BE"``.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Real tensor of shape batch_shape + (n,), or + (k,).

    Raises:
        TypeError: A is no operator.
        ValueError: A is not square; k or which out of range.
        NotImplementedError: with k, a second derivative.

    Example:
        >>> import torch, structmat as sm
        >>> C = sm.Circulant(torch.tensor([2.0, -1.0, 0.0, -1.0]))
        >>> sm.eigvalsh(C)
        tensor([0., 2., 2., 4.])
    """
    _check("eigvalsh", A)
    if k is not None:
        found = extreme(A, k, which, hermitian=True)
    else:
        found = eigvals_found(A, like(A), True)
        values = found.value.real if found.value.is_complex() else found.value
        found = Answer(spread(values.sort(-1).values, A, 1), found.method)
    return found if return_method else found.value


def _check(function: str, A: LinearOperator) -> None:
    if not isinstance(A, LinearOperator):
        not_an_operator(function, A)
    need_square(function, A)
    need_finite(function, A)


def eigvals_found(op: LinearOperator, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    """By structure, of the simplified expression, or of the dense matrix."""
    if is_triangular(op):
        return complex_answer(diagonal_of(op, 0, to).value, "triangular: its diagonal")
    hermitian = hermitian or is_hermitian(op) is True
    found = eigvals_of(op, to, hermitian)
    if found is None:
        simpler = op.simplify()
        found = eigvals_of(simpler, to, hermitian) if simpler is not op else None
        if found is not None:
            found = Answer(found.value, name("simplified", [found.method]))
    way_out = "; for k extreme ones take sm.eigvals(A, k)"
    return found or dense_eigvals(dense(op, to, "eigvals", way_out), hermitian)


def dense_eigvals(matrix: Tensor, hermitian: bool) -> Answer[Tensor]:
    """Of a dense matrix, or a batch of them."""
    if hermitian:
        return Answer(torch.linalg.eigvalsh(matrix), "dense Hermitian eigenvalues")
    return Answer(torch.linalg.eigvals(matrix), "dense eigenvalues")


def as_complex(values: Tensor) -> Tensor:
    """The values in the complex dtype of their precision."""
    return values if values.is_complex() else values.to(values.dtype.to_complex())


@singledispatch
def eigvals_of(op: LinearOperator, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    """The rule behind :func:`eigvals`: None where the structure does not give them.

    ``hermitian`` says that the operator is known to be Hermitian.
    """
    return None


def complex_answer(values: Tensor, method: str) -> Answer[Tensor]:
    """The values, complex."""
    return Answer(as_complex(values), method)


# combinators ------------------------------------------------------------------------------------


@eigvals_of.register
def _(op: Transpose, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    return eigvals_of(op.children[0], to, hermitian)


@eigvals_of.register
def _(op: Scaled, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    real = not (op.alpha.is_complex() if op.tensors else isinstance(op.alpha, complex))
    found = eigvals_of(op.children[0], to, hermitian and real)
    return found and complex_answer(found.value * scalar(op, to, 1), found.method)


def _square(op: LinearOperator) -> bool:
    return all(m == n for m, n in (c.shape for c in op.children))


@eigvals_of.register
def _(op: Kronecker, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    if not _square(op):
        return None
    parts = [eigvals_found(c, to, False) for c in op.children]
    out = as_complex(parts[0].value)
    for p in parts[1:]:
        out = (out[..., :, None] * p.value[..., None, :]).flatten(-2)
    return Answer(out, name("products of the factors' eigenvalues", (p.method for p in parts)))


@eigvals_of.register
def _(op: DirectSum, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    if not _square(op):
        return None
    parts = [eigvals_found(c, to, hermitian) for c in op.children]
    values = join(*(as_complex(p.value) for p in parts))
    return Answer(values, name("eigenvalues of the blocks", (p.method for p in parts)))


@eigvals_of.register
def _(op: Sum, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    if diagonal_known(op):
        return complex_answer(diagonal_of(op, 0, to).value, "diagonal")
    rest, shifts = shifted(op)
    if rest is None or not shifts:
        return None
    found = eigvals_of(rest, to, False)
    if found is None:
        return None
    by = diagonal_of(Sum(*shifts), 0, to).value[..., :1]
    return complex_answer(found.value + by, name("shifted", [found.method]))


@eigvals_of.register(Product)
@eigvals_of.register(Monarch)
def _(op: Product | Monarch, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    if diagonal_known(op):
        return complex_answer(diagonal_of(op, 0, to).value, "diagonal")
    n, first = op.shape[0], op.children[0] if op.children else op
    if len(op.children) > 1 and all(c is first for c in op.children) and n == first.shape[1]:
        found = eigvals_of(first, to, False)
        return found and complex_answer(
            found.value ** len(op.children), name("powers", [found.method])
        )
    factors = flat([op])
    inner = [c.shape[1] for c in factors]
    at = min(range(len(inner)), key=lambda i: inner[i])
    if inner[at] >= n:
        return None
    turned = Product(*factors[at + 1 :], *factors[: at + 1])  # eig(A B) = eig(B A), and zeros
    small = eigvals_found(turned, to, False)
    values = join(as_complex(small.value), small.value.new_zeros(n - inner[at]))
    return complex_answer(
        values, name("turned to the least inner dimension, and zeros", [small.method])
    )
