"""What leaves are by definition: symmetric, Hermitian, real.

Each function answers for the class alone, True, False or None; compositions are the business of
:mod:`structmat.properties.canonical`. False means that no numbers make it true: a matrix of free
numbers is None. A class of your own registers what it knows:
``symmetric_leaf.register(MyLeaf, lambda op: True)``.
"""

from __future__ import annotations

from functools import singledispatch

from structmat.leaves.convolution import Convolution
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.permutation import Permutation
from structmat.leaves.real_fourier import RDFT
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz
from structmat.leaves.trigonometric import DCT, DST, Trigonometric
from structmat.leaves.wavelet import Wavelet
from structmat.operator import LinearOperator
from structmat.properties.place import place

__all__ = ["hermitian_leaf", "real_leaf", "symmetric_leaf"]


@singledispatch
def symmetric_leaf(op: LinearOperator) -> bool | None:
    """Whether A = A^T follows from the class; square matrices only."""
    return None


@singledispatch
def hermitian_leaf(op: LinearOperator) -> bool | None:
    """Whether A = A^H follows from the class: where the entries are real, as symmetric."""
    return symmetric_leaf(op) if real_leaf(op) else None


@singledispatch
def real_leaf(op: LinearOperator) -> bool | None:
    """Whether all entries are real: for a real dtype, or none, they are."""
    strong = op.strong_dtype
    return True if strong is None or not strong.is_complex else None


@symmetric_leaf.register(Identity)
@symmetric_leaf.register(Diagonal)
@symmetric_leaf.register(DFT)
@symmetric_leaf.register(Hadamard)
def _(op: LinearOperator) -> bool | None:
    return True


@symmetric_leaf.register(Zero)
@symmetric_leaf.register(Hankel)
def _(op: LinearOperator) -> bool | None:
    return op.shape[0] == op.shape[1]


@symmetric_leaf.register
def _(op: Permutation) -> bool | None:
    return op.index.then(op.index).is_identity


@symmetric_leaf.register
def _(op: Toeplitz) -> bool | None:
    if op.shape[0] != op.shape[1]:
        return False
    return True if place(op.row) == place(op.c) else None


@symmetric_leaf.register
def _(op: Circulant) -> bool | None:
    # entry (i, j) is c[i - j], entry (j, i) is f c[n - (i - j)]
    return True if op.shape[0] <= 1 or (op.f == 1 and op.shape[0] == 2) else None


@symmetric_leaf.register
def _(op: Convolution) -> bool | None:
    m, n = op.shape
    if m != n:
        return False
    return True if set(op._support) <= {1} or n <= 1 else None


@symmetric_leaf.register
def _(op: Trigonometric) -> bool | None:
    n = op.n
    if n <= 1 or op.type == 4 or (op.type == 1 and isinstance(op, DST)):
        return True
    if op.type == 1 and isinstance(op, DCT):  # otherwise columns at the ends have half the weight
        return op.norm == "ortho" or n == 2
    # entries (0, 1) and (1, 0) of types 2 and 3 differ, but for an orthogonal 2 x 2 matrix
    return op.norm == "ortho" and n == 2


@symmetric_leaf.register
def _(op: Wavelet) -> bool | None:
    return True if op.levels == 0 or op.n == 0 else None


@hermitian_leaf.register(Toeplitz)
def _(op: Toeplitz) -> bool | None:
    # Toeplitz(c) is Hermitian if c[0] is real, which complex numbers do not promise
    if op.shape[0] != op.shape[1]:
        return False
    return symmetric_leaf(op) if real_leaf(op) else None


@hermitian_leaf.register
def _(op: DFT) -> bool | None:
    return op.n <= 2  # entry (1, 1) is exp(-2 pi i / n)


@real_leaf.register
def _(op: DFT) -> bool | None:
    return op.n <= 2


@real_leaf.register(Identity)
@real_leaf.register(Zero)
@real_leaf.register(Permutation)
@real_leaf.register(Hadamard)
@real_leaf.register(RDFT)
@real_leaf.register(Trigonometric)
@real_leaf.register(Wavelet)
def _(op: LinearOperator) -> bool | None:
    return True
