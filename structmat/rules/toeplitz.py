"""Toeplitz algebra: sums, products of circulants, shifts and reversals beside them.

f-circulant matrices of one f commute and are closed under sum and product: they are polynomials in
the shift Z_f. Toeplitz matrices of any shape are closed under sum, and a reversal beside a Toeplitz
matrix makes a Hankel matrix. Source: Golub and Van Loan, Matrix computations, sections 4.7, 4.8.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from structmat.compose import Product, Scaled, Sum
from structmat.index import AffineMap
from structmat.leaves.diagonal import Identity
from structmat.leaves.permutation import Permutation, cyclic_shift, reversal
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz, join
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import add
from structmat.rules.sums import split_scalar
from structmat.rules.table import rule

SOURCE = "Golub and Van Loan, Matrix computations, section 4.8"

Constant = (Toeplitz, Circulant)


def _circulant(g: torch.Generator, n: int, f: complex = 1) -> Circulant:
    return Circulant(ex.ints(g, n), f)


def _toeplitz(g: torch.Generator, m: int, n: int) -> Toeplitz:
    return Toeplitz(ex.ints(g, m), ex.ints(g, n))


@rule(
    Circulant,
    Circulant,
    inside=Sum,
    source=SOURCE,
    example=lambda g: _circulant(g, 4) + _circulant(g, 4),
)
def circulant_plus_circulant(a: Circulant, b: Circulant) -> LinearOperator | None:
    """Circulant(c) + Circulant(d) = Circulant(c + d), of one f."""
    return Circulant(add(a.c, b.c), a.f) if a.f == b.f else None


@rule(
    Circulant,
    Circulant,
    inside=Product,
    source=SOURCE,
    exact=False,
    example=lambda g: _circulant(g, 4) @ _circulant(g, 4),
)
def circulant_times_circulant(a: Circulant, b: Circulant) -> LinearOperator | None:
    """Circulant(c) Circulant(d) = Circulant(Circulant(c) d), of one f."""
    return Circulant(a(b.c), a.f) if a.f == b.f else None


@rule(
    Constant,
    Constant,
    inside=Sum,
    example=lambda g: _toeplitz(g, 3, 4) + _toeplitz(g, 3, 4),
)
def toeplitz_plus_toeplitz(a: Toeplitz | Circulant, b: Toeplitz | Circulant) -> LinearOperator:
    """Toeplitz matrices of one shape add along their diagonals."""
    if all(isinstance(x, Toeplitz) and "r" not in x.tensors for x in (a, b)):
        return Toeplitz(add(a.c, b.c))
    return Toeplitz(add(a.c, b.c), add(a.row, b.row))


@rule(Hankel, Hankel, inside=Sum, example=lambda g: Hankel(ex.ints(g, 3)) + Hankel(ex.ints(g, 3)))
def hankel_plus_hankel(a: Hankel, b: Hankel) -> LinearOperator:
    """Hankel matrices of one shape add along their antidiagonals."""
    if all("r" not in x.tensors for x in (a, b)):
        return Hankel(add(a.c, b.c))
    return Hankel(add(a.c, b.c), add(a.row, b.row))


def _raised(c: Tensor, alpha: Any) -> Tensor:
    """c with alpha added to its first entry."""
    first = add(c[..., :1], alpha[..., None]) if isinstance(alpha, Tensor) else c[..., :1] + alpha
    return join(first, c[..., 1:])


@rule(
    Constant,
    (Identity, Scaled),
    inside=Sum,
    example=lambda g: _circulant(g, 4) + 2 * Identity(4),
)
def toeplitz_plus_identity(a: Toeplitz | Circulant, b: LinearOperator) -> LinearOperator | None:
    """A Toeplitz matrix and alpha I add on the diagonal."""
    alpha, eye = split_scalar(b)
    if not isinstance(eye, Identity):
        return None
    if isinstance(alpha, complex) and "r" not in a.tensors and isinstance(a, Toeplitz):
        return None  # the row would be the conjugate
    return a._replace({**a.tensors, "c": _raised(a.c, alpha)}, (), a.static)


def _shift(p: Permutation) -> int | None:
    """k where (P x)[i] = x[(i + k) mod n], None for other permutations."""
    if isinstance(p.index, AffineMap) and p.index.a == 1:
        return p.index.b
    return None


@rule(
    Permutation,
    Circulant,
    inside=Product,
    source=SOURCE,
    example=lambda g: cyclic_shift(4, 1) @ _circulant(g, 4),
)
def shift_times_circulant(p: Permutation, a: Circulant) -> LinearOperator | None:
    """A cyclic shift of the rows of a circulant is a circulant."""
    k = _shift(p)
    return None if k is None or a.f != 1 else Circulant(a.c.roll(-k, -1))


@rule(
    Circulant,
    Permutation,
    inside=Product,
    source=SOURCE,
    example=lambda g: _circulant(g, 4) @ cyclic_shift(4, 1),
)
def circulant_times_shift(a: Circulant, p: Permutation) -> LinearOperator | None:
    """A cyclic shift of the columns of a circulant is a circulant."""
    return shift_times_circulant(p, a)


def _reverses(p: Permutation) -> bool:
    n = p.shape[0]
    return p.index == reversal(n).index


@rule(
    Toeplitz,
    Permutation,
    inside=Product,
    example=lambda g: _toeplitz(g, 3, 4) @ reversal(4),
)
def toeplitz_times_reversal(a: Toeplitz, p: Permutation) -> LinearOperator | None:
    """A Toeplitz matrix with its columns reversed is a Hankel matrix."""
    if not _reverses(p) or 0 in a.shape:
        return None
    h = join(a.row[..., 1:].flip(-1), a.c)
    m = a.shape[0]
    return Hankel(h[..., :m], h[..., m - 1 :])


@rule(
    Hankel,
    Permutation,
    inside=Product,
    example=lambda g: Hankel(ex.ints(g, 3), ex.ints(g, 4)) @ reversal(4),
)
def hankel_times_reversal(a: Hankel, p: Permutation) -> LinearOperator | None:
    """A Hankel matrix with its columns reversed is a Toeplitz matrix."""
    if not _reverses(p) or 0 in a.shape:
        return None
    h, n = a._antidiagonals(), a.shape[1]
    return Toeplitz(h[..., n - 1 :], h[..., :n].flip(-1))


@rule(
    Permutation,
    Toeplitz,
    inside=Product,
    example=lambda g: reversal(3) @ _toeplitz(g, 3, 4),
)
def reversal_times_toeplitz(p: Permutation, a: Toeplitz) -> LinearOperator | None:
    """A Toeplitz matrix with its rows reversed is a Hankel matrix."""
    if not _reverses(p) or 0 in a.shape:
        return None
    h = join(a.c.flip(-1), a.row[..., 1:])
    m = a.shape[0]
    return Hankel(h[..., :m], h[..., m - 1 :])


@rule(
    Permutation,
    Hankel,
    inside=Product,
    example=lambda g: reversal(3) @ Hankel(ex.ints(g, 3), ex.ints(g, 4)),
)
def reversal_times_hankel(p: Permutation, a: Hankel) -> LinearOperator | None:
    """A Hankel matrix with its rows reversed is a Toeplitz matrix."""
    if not _reverses(p) or 0 in a.shape:
        return None
    h, m = a._antidiagonals(), a.shape[0]
    return Toeplitz(h[..., :m].flip(-1), h[..., m - 1 :])


@rule(
    Circulant,
    (Permutation, Scaled),
    inside=Sum,
    source=SOURCE,
    example=lambda g: _circulant(g, 4) + 2 * cyclic_shift(4, 1),
)
def circulant_plus_shift(a: Circulant, b: LinearOperator) -> LinearOperator | None:
    """A circulant and a multiple of a cyclic shift, the circulant of a unit vector, add."""
    alpha, p = split_scalar(b)
    k = _shift(p) if isinstance(p, Permutation) else None
    if k is None or a.f != 1:
        return None
    return Circulant(_raised(a.c.roll(k, -1), alpha).roll(-k, -1))
