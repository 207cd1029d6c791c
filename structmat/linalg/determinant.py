"""Determinants by structure, in logarithms, so that those of huge products do not overflow.

    det(A B) = det A det B            det(A (x) B) = det(A)^q det(B)^p   for p x p and q x q
    det(alpha A) = alpha^n det A      det(A + U V) = det A det(I + V A^-1 U)
    det [[A, B], [C, D]] = det A det(D - C A^-1 B)
    det P = (-1)^(n - cycles)         det Z_f(c) = prod of FFT(c_k phi^k), phi^n = f
    det V = prod_{i<j} (x_j - x_i)    det of a companion matrix = (-1)^n c_n / c_0
    Cauchy: prod_{i<j} (s_j - s_i) (t_i - t_j) / prod_{ij} (s_i - t_j)
    det M = prod det L_j prod det R_k for a Monarch matrix of square blocks
    det of a square product through a dimension below n is 0

Transforms: a cosine or sine transform of n points has sign (-1)^floor(n / 2) in all of its types;
the eigenvalues of the Fourier matrix are known with their multiplicities (McClellan and Parks,
Eigenvalue and eigenvector decomposition of the discrete Fourier transform, 1972); a level of a
wavelet transform is block circulant with the polyphase matrices of its filters. Everything else is
an LU factorisation of the dense matrix, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import Literal, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.index import IndexMap
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.dense import Dense
from structmat.leaves.diagonal import Diagonal
from structmat.leaves.monarch import Monarch
from structmat.linalg.answer import (
    Answer,
    dense,
    like,
    name,
    need_square,
    not_an_operator,
    spread,
    traced,
)
from structmat.linalg.diagonal import diagonal_of
from structmat.linalg.entries import flat, scalar
from structmat.linalg.low_rank import split_low_rank
from structmat.linalg.plan import Plan, solved, structured
from structmat.linalg.quadrature import slq
from structmat.linalg.shifts import shifted_structure, sparse_sum
from structmat.linalg.spectrum import eigvals_of
from structmat.linalg.structure import diagonal_known, shifted
from structmat.operator import LinearOperator
from structmat.properties import is_triangular
from structmat.tracing import record, whole

__all__ = ["SignLog", "det", "logdet", "slogdet", "slogdet_of"]


@record
class SignLog(NamedTuple):
    """sign * exp(logabsdet): a determinant that does not overflow."""

    sign: Tensor
    logabsdet: Tensor


@overload
def slogdet(A: LinearOperator, *, return_method: Literal[False] = ...) -> SignLog: ...
@overload
def slogdet(A: LinearOperator, *, return_method: Literal[True]) -> Answer[SignLog]: ...
@whole
def slogdet(A: LinearOperator, *, return_method: bool = False) -> SignLog | Answer[SignLog]:
    """Sign (or phase) and logarithm of the modulus of the determinant.

    Args:
        A: square operator.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        (sign, logabsdet), each of shape batch_shape, as ``torch.linalg.slogdet``; (0, -inf) where
        the structure shows that A is singular.

    Raises:
        TypeError: A is no operator.
        ValueError: A is not square.

    Example:
        >>> import torch, structmat as sm
        >>> D = sm.Diagonal(torch.full((1000,), 1e30, dtype=torch.float64))
        >>> round(float(sm.slogdet(D @ D @ D).logabsdet))
        207233
    """
    if not isinstance(A, LinearOperator):
        not_an_operator("slogdet", A)
    need_square("slogdet", A)
    # A declared property is a tag on A: the rules by class do not see it.
    found = (_default if A.assumed and is_triangular(A) else slogdet_of)(A, like(A))
    value = SignLog(spread(found.value.sign, A, 0), spread(found.value.logabsdet, A, 0))
    return Answer(value, found.method) if return_method else value


@overload
def logdet(
    A: LinearOperator, *, method: Literal["exact"] = ..., return_method: Literal[False] = ...
) -> Tensor: ...
@overload
def logdet(
    A: LinearOperator,
    *,
    method: str = ...,
    samples: int = ...,
    steps: int = ...,
    generator: torch.Generator | None = ...,
    return_method: bool = ...,
) -> Answer[Tensor]: ...
@whole
def logdet(
    A: LinearOperator,
    *,
    method: str = "exact",
    samples: int = 32,
    steps: int = 50,
    generator: torch.Generator | None = None,
    return_method: bool = False,
) -> Tensor | Answer[Tensor]:
    """The logarithm of the determinant: nan where a real determinant is negative.

    Args:
        A: square operator.
        method: ``"exact"``; or ``"slq"``, an estimate for Hermitian positive definite A from
            products with random vectors, which returns an :class:`structmat.linalg.Answer` with its
            standard error. That A is Hermitian is not checked.
        samples: how many random vectors an estimate takes.
        steps: how many products with each.
        generator: of the random vectors; torch's default one where None.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Tensor of shape batch_shape, as ``torch.logdet``, or an Answer.

    Raises:
        TypeError: A is no operator.
        ValueError: A is not square, an unknown method, too few samples or steps, or an estimate
            finds that A is not positive definite.

    Example:
        >>> import torch, structmat as sm
        >>> sm.logdet(sm.kron(sm.Identity(3), sm.Diagonal(torch.tensor([1.0, 2.0]))))
        tensor(2.0794)
    """
    if method not in ("exact", "slq"):
        raise ValueError(f"logdet: method {method!r} is none of 'exact', 'slq'")
    if method == "slq":
        _check(A, "logdet")
        return slq(A, samples, steps, generator)
    (sign, size), how = _found(A, "logdet")
    if sign.is_complex():
        value = torch.complex(size, sign.angle())
    else:
        value = torch.where(sign < 0, torch.full_like(size, math.nan), size)
    return Answer(value, how) if return_method else value


@overload
def det(A: LinearOperator, *, return_method: Literal[False] = ...) -> Tensor: ...
@overload
def det(A: LinearOperator, *, return_method: Literal[True]) -> Answer[Tensor]: ...
@whole
def det(A: LinearOperator, *, return_method: bool = False) -> Tensor | Answer[Tensor]:
    """The determinant; where it may overflow, take :func:`slogdet`.

    Args:
        A: square operator.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Tensor of shape batch_shape, as ``torch.linalg.det``.

    Raises:
        TypeError: A is no operator.
        ValueError: A is not square.

    Example:
        >>> import structmat as sm
        >>> sm.det(sm.cyclic_shift(4, 1))
        tensor(-1.)
    """
    (sign, size), method = _found(A, "det")
    value = sign * size.exp()
    return Answer(value, method) if return_method else value


def _check(A: LinearOperator, function: str) -> None:
    if not isinstance(A, LinearOperator):
        not_an_operator(function, A)
    need_square(function, A)


def _found(A: LinearOperator, function: str) -> tuple[SignLog, str]:
    _check(A, function)
    found = slogdet(A, return_method=True)
    return found.value, found.method


# the rule ---------------------------------------------------------------------------------------


@singledispatch
def slogdet_of(op: LinearOperator, to: Tensor) -> Answer[SignLog]:
    """The rule behind :func:`slogdet`; register a class of your own for its structure."""
    if is_triangular(op):
        return of_diagonal(diagonal_of(op, 0, to).value, "triangular: its diagonal")
    simpler = op.simplify()
    if type(simpler) is not type(op):
        found = slogdet_of(simpler, to)
        return Answer(found.value, name("simplified", [found.method]))
    return lu(dense(op, to, "slogdet"), "dense LU")


def lu(matrix: Tensor, method: str) -> Answer[SignLog]:
    """Of a dense matrix, or a batch of them."""
    return Answer(SignLog(*torch.linalg.slogdet(matrix)), method)


def constant(to: Tensor, sign: complex, size: float, method: str) -> Answer[SignLog]:
    """sign * exp(size) for numbers."""
    size_ = torch.tensor(size, dtype=to.abs().dtype, device=to.device)
    return Answer(SignLog(to.new_tensor(sign), size_), method)


def singular(to: Tensor, method: str) -> Answer[SignLog]:
    """The determinant 0, where the structure shows it."""
    return constant(to, 0, -math.inf, method)


def of_diagonal(d: Tensor, method: str) -> Answer[SignLog]:
    """The determinant of a diagonal, or of a spectrum."""
    return Answer(SignLog(torch.sgn(d).prod(-1), d.abs().log().sum(-1)), method)


def of_spectrum(values: Tensor, to: Tensor, method: str) -> Answer[SignLog]:
    """As for a diagonal; the determinant of a real matrix is real."""
    found = of_diagonal(values, method)
    if to.is_complex() or not values.is_complex():
        return Answer(SignLog(found.value.sign.to(to), found.value.logabsdet), method)
    return Answer(SignLog(torch.sgn(found.value.sign.real), found.value.logabsdet), method)


def power(sign: Tensor, k: int) -> Tensor:
    """sign ** k, for a unit or zero."""
    if sign.is_complex():
        return torch.polar(sign.abs(), sign.angle() * k)
    return sign if k % 2 else sign * sign


def times(parts: Sequence[tuple[Answer[SignLog], int]], how: str) -> Answer[SignLog]:
    """The product of determinants, each to a positive power."""
    sign, size = (
        power(parts[0][0].value.sign, parts[0][1]),
        parts[0][0].value.logabsdet * parts[0][1],
    )
    for part, k in parts[1:]:
        sign = sign * power(part.value.sign, k)
        size = size + part.value.logabsdet * k
    return Answer(SignLog(sign, size), name(how, (p.method for p, _ in parts)))


def parity(index: IndexMap) -> int:
    """The sign of a permutation, from its number of cycles."""
    return parity_of(index.array())


def parity_of(table: NDArray[np.int64]) -> int:
    """The sign of a permutation given by its table."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = table.size
    if n == 0:
        return 1
    edges = coo_array((np.ones(n, dtype=np.int8), (np.arange(n), table)), shape=(n, n))
    cycles = connected_components(edges, directed=False, return_labels=False)
    return -1 if (n - int(cycles)) % 2 else 1


# combinators ------------------------------------------------------------------------------------


@slogdet_of.register
def _(op: Transpose, to: Tensor) -> Answer[SignLog]:
    return slogdet_of(op.children[0], to)


@slogdet_of.register
def _(op: Scaled, to: Tensor) -> Answer[SignLog]:
    n = op.shape[0]
    found = slogdet_of(op.children[0], to)
    if n == 0:
        return found
    alpha = scalar(op, to, 0)
    alpha = alpha if isinstance(alpha, Tensor) else to.new_tensor(alpha)
    factor = Answer(SignLog(torch.sgn(alpha), alpha.abs().log()), "")
    return times([(factor, n), (found, 1)], "scaled")


@slogdet_of.register
def _(op: Kronecker, to: Tensor) -> Answer[SignLog]:
    n = op.shape[0]
    if n == 0:
        return constant(to, 1, 0.0, "empty")
    if any(p != q for p, q in (c.shape for c in op.children)):
        return singular(to, "rectangular factors: rank below n")
    parts = [(slogdet_of(c, to), n // c.shape[0]) for c in op.children]
    return times(parts, "powers of the factors' determinants")


@slogdet_of.register
def _(op: DirectSum, to: Tensor) -> Answer[SignLog]:
    if any(p != q for p, q in (c.shape for c in op.children)):
        return singular(to, "rectangular blocks: rank below n")
    return times([(slogdet_of(c, to), 1) for c in op.children], "product over the blocks")


@slogdet_of.register(Product)
@slogdet_of.register(MonarchChain)
@slogdet_of.register(Monarch)
@slogdet_of.register(Butterfly)
def _(op: Product | MonarchChain | Monarch | Butterfly, to: Tensor) -> Answer[SignLog]:
    n, factors = op.shape[0], flat([op])
    if any(c.shape[1] < n for c in factors):
        return singular(to, "inner dimension below n: rank below n")
    parts: list[Answer[SignLog]] = []
    group: list[LinearOperator] = []
    for c in factors:
        group.append(c)
        if c.shape[1] == n:  # a square stretch ends here
            if len(group) == 1:
                parts.append(slogdet_of(c, to))
            else:
                matrix = dense(Product(*group), to, "slogdet")
                parts.append(lu(matrix, "dense LU of rectangular factors"))
            group = []
    return times([(p, 1) for p in parts], "product of determinants")


@slogdet_of.register
def _(op: Sum, to: Tensor) -> Answer[SignLog]:
    if diagonal_known(op):
        return of_diagonal(diagonal_of(op, 0, to).value, "diagonal")
    if is_triangular(op):
        return _default(op, to)
    simpler = op.simplify()
    if not isinstance(simpler, Sum):
        found = slogdet_of(simpler, to)
        return Answer(found.value, name("simplified", [found.method]))
    by_lemma = lemma(op, to)
    if by_lemma is not None:
        return by_lemma
    moved = shifted_structure(op)
    if moved is not None and not isinstance(moved, Sum):
        found = slogdet_of(moved, to)
        return Answer(found.value, name("shifted", [found.method]))
    sparse = sparse_sum(op)
    if sparse is not None:
        return slogdet_of(sparse, to)
    rest, shifts = shifted(op)
    if shifts and not isinstance(rest, Dense):
        known = eigvals_of(op, to, False)
        if known is not None:
            return of_spectrum(known.value, to, name("product of eigenvalues", [known.method]))
    return _default(op, to)


def lemma(op: Sum, to: Tensor) -> Answer[SignLog] | None:
    """det(A + U V) = det A det(I + V A^-1 U), where A is easily solved and safe to divide by."""
    found = split_low_rank(op)
    if found is None:
        return None
    base, u, v = found
    n, rank = op.shape[0], u.shape[-1]
    if 2 * rank > n:
        return None
    if diagonal_known(base):
        base = Diagonal(diagonal_of(base, 0, to).value)
    how = structured(base)
    if how is None or 2 * how.densified > n or how.name == "none":
        return None
    inside = slogdet_of(base, to)
    if inside.method.startswith("dense LU"):
        return None  # nothing is gained: the sum itself may as well be dense
    u, v = u.to(to), v.to(to)
    x = divided(base, u, how)
    if x is None:
        return None
    inner = torch.eye(rank, dtype=to.dtype, device=to.device) + v @ x
    parts = [(inside, 1), (lu(inner, "dense LU of rank size"), 1)]
    return times(parts, "matrix determinant lemma")


def divided(base: LinearOperator, u: Tensor, how: Plan) -> Tensor | None:
    """A^-1 u, or None where A is so ill-conditioned that the digits of u are lost.

    While numbers cannot be looked at (inside ``torch.vmap``, or while torch traces), it is taken as
    safe.
    """
    try:
        x = solved(base, u, how)
    except LinAlgError:
        return None
    if traced(base):
        return x
    norms = [torch.linalg.matrix_norm(t.detach()) for t in (x, base @ u, u)]
    growth = norms[0] * norms[1] / norms[2] ** 2
    return x if bool((growth < torch.finfo(u.dtype).eps ** -0.5).all()) else None


_default = slogdet_of.dispatch(LinearOperator)
