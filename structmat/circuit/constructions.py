"""The words of butterflies of each structure that has some.

Words are lists of letters B and B* (:mod:`structmat.circuit.butterflies`), of size N = 2^L:

    diagonal, rank one, Hadamard      one letter, B or B*; u v^T = diag(u) 1 1^T diag(v)
    permutation                       B B*, and B* B: Benes networks
    F_1 diag(d) F_2, n = N            B_1 diag(d[bit reversal]) B_2^T for Fourier transforms or
                                      inverses, as F = B P = P B^T with the bit reversal P
    circulant, n = N                  F^-1 diag(F c) F
    Toeplitz                          the same of size N >= m + n - 1, and for other circulants
    Hankel                            F^-1 diag(F h) F^-1, N >= m + n - 1
    Fourier, n = N                    B P or P B^T; for other n, diag(w) T diag(w) with a chirp w
                                      and T Toeplitz (Bluestein 1970)
    s nonzeros, N >= max(m, n, s)     spread . add . permute . copy . gather = B* B (B* B) B* B
    circuit                           its layers are sparse: width <= 4 d
    sum of k                          side by side: the widest width, k times the size
    product                           words one after the other, diagonals inside their neighbours

A permutation may be written B B* or B* B, whichever needs fewer pairs between its neighbours. So
s nonzeros need width 2, and 3 or 4 where empty rows or columns leave no room to place the others.
The paper's lemma has width O(ceil(s / n)) at expansion O(1); here the size grows with s in place of
the width, and parameters are O(s log s) either way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from structmat.circuit.butterflies import (
    Word,
    columns_scaled,
    fewest,
    fourier,
    grown,
    outer,
    power,
    routing,
    rows_scaled,
    signs,
    straight,
    summed,
    turned,
)
from structmat.circuit.core import Circuit
from structmat.circuit.network import mirrored, routed, swaps
from structmat.compose import Product, Scaled, Selection, Sum, Transpose
from structmat.index import DigitMap
from structmat.leaves.butterfly import Butterfly
from structmat.leaves.dense import LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard, sequency_order
from structmat.leaves.permutation import Permutation
from structmat.leaves.sparse import Sparse
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz, join
from structmat.operator import LinearOperator

__all__ = ["words_of"]

Choice = tuple[list[Word], str]
"""Words of the same matrix and size, and how they were found."""
Integers = NDArray[np.int64]


@singledispatch
def words_of(A: LinearOperator | Circuit | _Transforms, like: Tensor) -> Choice:
    """The words of a matrix, all of one size, and how they were found.

    ``like`` has the dtype and the device of numbers that the structure does not have.
    """
    able = sorted(k.__name__ for k in words_of.registry if k not in (object, _Transforms))
    raise TypeError(
        f"kaleidoscope: {type(A).__name__} has no construction of its own; "
        f"kaleidoscope(sm.circuit(A)) makes one from its circuit. Those with one: "
        f"{', '.join(able)}"
    )


# one letter --------------------------------------------------------------------------------------


@words_of.register
def _(A: Butterfly, like: Tensor) -> Choice:
    return [[A]], "butterfly"


@words_of.register
def _(A: Diagonal, like: Tensor) -> Choice:
    size = power(A.shape[0])
    one = [straight(size, rises, A.d) for rises in (True, False)]
    return [rows_scaled([b], A.d) for b in one], "diagonal"


@words_of.register
def _(A: Identity, like: Tensor) -> Choice:
    return words_of(Diagonal(like.new_ones(A.n)), like)[0], "identity"


@words_of.register
def _(A: Zero, like: Tensor) -> Choice:
    nothing = like.new_zeros(power(max(A.shape)))
    return [[outer(nothing, nothing, rises)] for rises in (True, False)], "zero"


@words_of.register
def _(A: Hadamard, like: Tensor) -> Choice:
    if A.order == "sequency":
        natural = Hadamard(A.n, normalized=A.normalized)
        words, _ = words_of(Product(Permutation(sequency_order(A.n)), natural), like)
        return words, "permutation of a Hadamard butterfly"
    # size 1: the first entry of Hadamard(2) is that of Hadamard(1)
    words = [[signs(power(A.n), A.factor(), rises, like)] for rises in (True, False)]
    return words, "Hadamard butterfly"


@words_of.register
def _(A: LowRank, like: Tensor) -> Choice:
    if A.rank == 0:
        return words_of(Zero(*A.shape), like)
    size = power(max(A.shape))
    u = F.pad(A.left, (0, 0, 0, size - A.shape[0]))
    v = F.pad(A.right, (0, size - A.shape[1]))
    dtype = torch.promote_types(u.dtype, v.dtype)
    u, v = u.to(dtype), v.to(dtype)
    terms = [[[outer(u[:, i], v[i], rises)] for rises in (True, False)] for i in range(A.rank)]
    if A.rank == 1:
        return terms[0], "outer product"
    return [summed([t[1] for t in terms])], f"{A.rank} outer products side by side"


# permutations and sparse matrices ----------------------------------------------------------------


def _permuted(index: Integers, like: Tensor) -> list[Word]:
    inwards, outwards = routed(index), mirrored(index)
    a = [swaps(inwards[1], True, like.dtype), swaps(inwards[0], False, like.dtype)]
    b = [swaps(outwards[1], False, like.dtype), swaps(outwards[0], True, like.dtype)]
    return [[_placed(x, like) for x in word] for word in (a, b)]


def _placed(b: Butterfly, like: Tensor) -> Butterfly:
    return Butterfly(b.twiddle.to(like.device), increasing_stride=b.increasing_stride)


@words_of.register
def _(A: Permutation, like: Tensor) -> Choice:
    n = A.shape[0]
    index = np.arange(power(n), dtype=np.int64)
    index[:n] = A.index.array()
    return _permuted(index, like), "Benes network"


@words_of.register
def _(A: Selection, like: Tensor) -> Choice:
    taken = A.index.array()
    given = np.arange(taken.size)
    rows, columns = (taken, given) if A.transposed else (given, taken)
    words = _scattered(rows, columns, like.new_ones(taken.size), A.shape)
    return words, f"{taken.size} nonzeros routed"


@words_of.register
def _(A: Sparse, like: Tensor) -> Choice:
    if A.nnz == 0:
        return words_of(Zero(*A.shape), like)
    rows, columns = A.pattern.rows.array(), A.pattern.indices.array()
    return _scattered(rows, columns, A.values, A.shape), f"{A.nnz} nonzeros routed"


def _scattered(
    rows: Integers, columns: Integers, values: Tensor, shape: tuple[int, int]
) -> list[Word]:
    """The sum of values[e] at (rows[e], columns[e]), different positions."""
    size = power(max(*shape, rows.size))
    spread, add, to = _gathers(rows, size, values)
    gather, copy, fro = _gathers(columns, size, values)
    # value e waits at to[e] on the side of the rows, at fro[e] on that of the columns
    index = np.full(size, -1, dtype=np.int64)
    index[to] = fro
    index[index < 0] = np.setdiff1d(np.arange(size), fro)
    weights = values.new_zeros(size).index_put((torch.from_numpy(to).to(values.device),), values)
    choices: list[list[Word]] = [[turned([spread])]] if spread is not None else []
    choices += [[columns_scaled([add], weights)], _permuted(index, values), [turned([copy])]]
    choices += [[[gather]]] if gather is not None else []
    return [fewest(choices)]


def _gathers(
    labels: Integers, size: int, like: Tensor
) -> tuple[Butterfly | None, Butterfly, Integers]:
    """How entries of rows ``labels`` are added: the places of the entries, and one or two B.

    The entries stand in the order of their rows, far enough apart to be added straight into their
    rows. Where there is no room for that, they stand side by side and are added into the first
    places, one for each row that has entries; the other B is the transpose of what spreads these.
    """
    order = np.argsort(labels, kind="stable")
    found, which = np.unique(labels[order], return_inverse=True)
    place = np.zeros(labels.size, dtype=np.int64)
    np.cumsum(np.maximum(np.diff(labels[order]), 1), out=place[1:])
    spread, target = None, labels[order]
    if place[-1] >= size:
        spread = routing(found, np.arange(found.size), size, like)
        place, target = np.arange(labels.size), which.reshape(-1)
    to = np.empty_like(place)
    to[order] = place
    return spread, routing(place, target, size, like), to


# Fourier transforms and what they diagonalise ----------------------------------------------------


def _fourier(size: int, inverse: bool, dtype: torch.dtype, device: torch.device) -> Butterfly:
    """B with F = B P = P B^T, conjugated for n F^-1."""
    b = fourier(size, dtype, device)
    return Butterfly(b.twiddle.conj().resolve_conj()) if inverse else b


def _between(left: Butterfly, d: Tensor, right: Butterfly) -> Word:
    """F_1 diag(d) F_2 = B_1 P diag(d) P B_2^T: the bit reversals reorder d."""
    order = torch.from_numpy(_bit_reversal(d.shape[-1]).array().copy()).to(d.device)
    return [*columns_scaled([left], d[order]), *turned([right])]


def _diagonalised(first: Tensor, dtype: torch.dtype, inverted: bool = False) -> list[Word]:
    """F^-1 diag(F first) F, or n F^-1 diag(F first) F^-1 with ``inverted``."""
    size = first.shape[-1]
    spectrum = (torch.fft.fft(first.to(torch.complex128)) / size).to(dtype)
    left, right = (_fourier(size, i, dtype, first.device) for i in (True, inverted))
    return [_between(left, spectrum, right)]


def _bit_reversal(size: int) -> DigitMap:
    k = size.bit_length() - 1
    return DigitMap((2,) * k, tuple(reversed(range(k))))


@words_of.register
def _(A: Circulant, like: Tensor) -> Choice:
    n = A.shape[0]
    if A.f == 1 and n == power(n):
        return _diagonalised(A.c, A.c.dtype.to_complex()), "circulant by Fourier butterflies"
    row = join(A.c[:1], A.f * A.c[1:].flip(-1))
    return words_of(Toeplitz(A.c, row), like)


@words_of.register
def _(A: Toeplitz, like: Tensor) -> Choice:
    m, n = A.shape
    size = power(m + n - 1)
    gap = A.c.new_zeros(size - (m + n - 1))
    first = join(A.c, gap, A.row[1:].flip(-1))
    how = "Toeplitz inside a circulant by Fourier butterflies"
    return _diagonalised(first, first.dtype.to_complex()), how


@words_of.register
def _(A: Hankel, like: Tensor) -> Choice:
    h = join(A.c, A.row[1:])
    first = F.pad(h, (0, power(h.shape[-1]) - h.shape[-1]))
    # (n F^-1 diag(F h) F^-1)[i, j] = h[(i + j) mod n]
    how = "Hankel by inverse Fourier butterflies"
    return _diagonalised(first, first.dtype.to_complex(), True), how


@words_of.register
def _(A: DFT, like: Tensor) -> Choice:
    n = A.n
    if n == power(n):
        b = _fourier(n, A.inverse, A.dtype, like.device)
        reversal = _permuted(_bit_reversal(n).array(), like)
        words = [[b, *word] for word in reversal]
        words += [turned(word) for word in words]  # F is symmetric
        if A.factor() != 1.0:
            words = [rows_scaled(w, like.new_full((n,), A.factor())) for w in words]
        return words, "Fourier butterfly of a bit reversal"
    # k j = (k^2 + j^2 - (k - j)^2) / 2
    k = torch.arange(n, device=like.device)
    angle = (k * k % (2 * n)).double() * (math.pi / n)
    chirp = torch.polar(torch.ones_like(angle), angle if A.inverse else -angle)
    (word,) = _diagonalised_toeplitz(chirp.conj().resolve_conj(), A.dtype)
    outer_chirp = chirp.to(A.dtype)
    word = rows_scaled(columns_scaled(word, outer_chirp), A.factor() * outer_chirp)
    return [word], "Toeplitz between chirps"


def _diagonalised_toeplitz(c: Tensor, dtype: torch.dtype) -> list[Word]:
    """The symmetric Toeplitz matrix of first column c."""
    n = c.shape[-1]
    first = join(c, c.new_zeros(power(2 * n - 1) - (2 * n - 1)), c[1:].flip(-1))
    return _diagonalised(first, dtype)


# composites --------------------------------------------------------------------------------------


@words_of.register
def _(A: Transpose, like: Tensor) -> Choice:
    words, how = words_of(A.children[0], like)
    return [turned(w) for w in words], f"transpose of: {how}"


@words_of.register
def _(A: Scaled, like: Tensor) -> Choice:
    words, how = words_of(A.children[0], like)
    factor = A.alpha * torch.ones(A.shape[0], dtype=like.dtype, device=like.device)
    return [rows_scaled(w, factor) for w in words], how


@words_of.register
def _(A: Sum, like: Tensor) -> Choice:
    made = [words_of(c, like) for c in A.children]
    return [summed([fewest([words]) for words, _ in made])], " + ".join(how for _, how in made)


@words_of.register
def _(A: Product, like: Tensor) -> Choice:
    return _product(A.children, like)


@words_of.register
def _(A: Circuit, like: Tensor) -> Choice:
    words, _ = _product(A.layers(), like)
    return words, f"{max(A.depth, 1)} layers of a circuit, each routed"


def _product(ops: Sequence[LinearOperator], like: Tensor) -> Choice:
    """Words of the factors one after the other; a diagonal factor scales the one on its right.

    What a factor computes beyond its own rows must not reach its left neighbour: those rows are
    scaled by zero.
    """
    made: list[tuple[Tensor | None, LinearOperator | _Transforms]] = []
    waiting: Tensor | None = None
    for op in ops:
        d = _diagonal(op, like)
        if d is not None:
            waiting = d if waiting is None else waiting * d
            continue
        last = made[-1][1] if made else None
        if isinstance(op, DFT) and isinstance(last, DFT) and op.n == power(op.n):
            d = like.new_ones(op.n) if waiting is None else waiting
            made[-1] = made[-1][0], _Transforms(last, d, op)
        else:
            made.append((waiting, op))
        waiting = None
    if not made and waiting is not None:
        return words_of(Diagonal(waiting), like)
    found = [words_of(part, like) for _, part in made]
    size = max(words[0][0].shape[0] for words, _ in found)
    choices: list[list[Word]] = []
    for i, ((d, part), (words, _)) in enumerate(zip(made, found, strict=True)):
        words = [grown(w, size) for w in words]
        if d is None and i > 0 and part.shape[0] < size:
            d = like.new_ones(part.shape[0])
        choices.append(words if d is None else [rows_scaled(w, d) for w in words])
    if waiting is not None:
        choices[-1] = [columns_scaled(w, waiting) for w in choices[-1]]
    return [fewest(choices)], " . ".join(how for _, how in found)


@dataclass(frozen=True)
class _Transforms:
    """F_1 diag(d) F_2 for Fourier transforms of a power of two."""

    left: DFT
    d: Tensor
    right: DFT

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape


@words_of.register
def _(A: _Transforms, like: Tensor) -> Choice:
    dtype = torch.promote_types(A.left.dtype, A.right.dtype)
    b1, b2 = (_fourier(f.n, f.inverse, dtype, like.device) for f in (A.left, A.right))
    d = A.d * (A.left.factor() * A.right.factor())
    return [_between(b1, d, b2)], "Fourier butterflies about a diagonal"


def _diagonal(op: LinearOperator, like: Tensor) -> Tensor | None:
    """The diagonal of what is diagonal by its class."""
    if isinstance(op, Diagonal):
        return op.d
    if isinstance(op, Identity):
        return like.new_ones(op.n)
    if isinstance(op, Scaled):
        inner = _diagonal(op.children[0], like)
        return None if inner is None else inner * op.alpha
    return None
