"""Permutations compose as index maps, and conjugation by a stride permutation re-orders digits.

With T(u, v) the transposition of a vector seen as u x v (SPIRAL's stride permutation L):

    BlockDiagonal(a d blocks of b x c) = R KroneckerSparse(a, b, c, d) C,
        R = I_a (x) T(b, d),  C = I_a (x) T(d, c)
    A (x) B = T(m_B, m_A) (B (x) A) T(n_A, n_B)

so a permutation next to such a factor, where it undoes R or C, disappears into the choice of the
factor. Sources: Franchetti et al., SPIRAL: extreme performance portability (2018); Dao et al.,
Monarch (2022), definition 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, direct_sum, kron
from structmat.index import DigitMap, IndexMap, recognise
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.diagonal import Identity
from structmat.leaves.permutation import (
    Permutation,
    cyclic_shift,
    reversal,
    stride_permutation,
)
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import strong
from structmat.rules.table import rule

TABLE_LIMIT = 1 << 16
"""The longest table that a Kronecker product or direct sum of permutations may be turned into."""

MONARCH = "Dao et al., Monarch (2022), definition 3.1"
SPIRAL = "Franchetti et al., SPIRAL (2018), section III"


@rule(
    Permutation,
    Permutation,
    inside=Product,
    source=SPIRAL,
    example=lambda g: ex.shuffle(g, 5) @ cyclic_shift(5, 1),
)
def permutation_times_permutation(p: Permutation, q: Permutation) -> LinearOperator | None:
    """P Q is the permutation with the composed index map; P P^T = I comes out of it."""
    return Permutation(q.index.then(p.index), strong(p, q))


@rule(
    (Permutation, Identity),
    (Permutation, Identity),
    inside=Kronecker,
    source=SPIRAL,
    example=lambda g: kron(Identity(2), stride_permutation(6, 2)),
)
def kronecker_of_permutations(p: LinearOperator, q: LinearOperator) -> LinearOperator | None:
    """P (x) Q = (P (x) I)(I (x) Q) is a permutation."""
    left, right = _index(p), _index(q)
    m, n = left.size, right.size
    digits = isinstance(left, DigitMap) and isinstance(right, DigitMap)
    if not digits and m * n > TABLE_LIMIT:
        return None
    return Permutation(right.lift(m, 1).then(left.lift(1, n)), strong(p, q))


@rule(
    (Permutation, Identity),
    (Permutation, Identity),
    inside=DirectSum,
    source=SPIRAL,
    example=lambda g: direct_sum(reversal(3), Identity(2)),
)
def direct_sum_of_permutations(p: LinearOperator, q: LinearOperator) -> LinearOperator | None:
    """diag(P, Q) is a permutation."""
    first, second = _index(p), _index(q)
    if first.is_identity and second.is_identity:
        return Identity(first.size + second.size, strong(p, q))
    if first.size + second.size > TABLE_LIMIT:
        return None
    table = np.concatenate([first.array(), first.size + second.array()])
    return Permutation(recognise(table), strong(p, q))


Conjugable = (BlockDiagonal, KroneckerSparse, Kronecker)


@rule(
    Permutation,
    Conjugable,
    Permutation,
    inside=Product,
    source=MONARCH,
    example=lambda g: stride_permutation(6, 3) @ ex.blocks(g, 2, 3, 4) @ stride_permutation(8, 2),
)
def conjugation(p: Permutation, a: LinearOperator, q: Permutation) -> LinearOperator | None:
    """P A Q = P' A', where A = R A' C and Q undoes C, or A' Q', where P undoes R."""
    for left, core, right in _forms(a):
        if q.index == _inverse(right):
            return _product(_perm(left.then(p.index), strong(p, q)), core())
        if p.index == _inverse(left):
            return _product(core(), _perm(q.index.then(right), strong(p, q)))
    return None


@rule(
    Conjugable,
    Permutation,
    inside=Product,
    source=MONARCH,
    example=lambda g: ex.blocks(g, 3, 1, 2) @ stride_permutation(6, 3),
)
def conjugation_right(a: LinearOperator, q: Permutation) -> LinearOperator | None:
    """A Q = A', where A = A' C and Q undoes C."""
    for left, core, right in _forms(a):
        if left.is_identity and q.index == _inverse(right):
            return _product(core(), _perm(left, strong(q)))
    return None


@rule(
    Permutation,
    Conjugable,
    inside=Product,
    source=MONARCH,
    example=lambda g: stride_permutation(6, 2) @ ex.blocks(g, 3, 2, 1),
)
def conjugation_left(p: Permutation, a: LinearOperator) -> LinearOperator | None:
    """P A = A', where A = R A' and P undoes R."""
    for left, core, right in _forms(a):
        if right.is_identity and p.index == _inverse(left):
            return _product(_perm(right, strong(p)), core())
    return None


def _index(op: LinearOperator) -> IndexMap:
    return op.index if isinstance(op, Permutation) else DigitMap((op.shape[0],), (0,))


def _perm(index: IndexMap, dtype: object) -> LinearOperator | None:
    """None stands for the identity."""
    return None if index.is_identity else Permutation(index, dtype)  # type: ignore[arg-type]


def _product(*ops: LinearOperator | None) -> LinearOperator:
    kept = [op for op in ops if op is not None]
    return kept[0] if len(kept) == 1 else Product(*kept)


Form = tuple[IndexMap, Callable[[], LinearOperator], IndexMap]


def _forms(a: LinearOperator) -> Iterator[Form]:
    """(R, A', C) with A = R A' C, for every way to read the digits of A; A' is made when called."""
    match a:
        case BlockDiagonal():
            k, b, c = a.blocks.shape[-3:]
            for d in range(2, k + 1):
                if k % d == 0:
                    core = partial(_strided, a.blocks, d)
                    yield _swap(k // d, b, d), core, _swap(k // d, d, c)
        case KroneckerSparse():
            r, b, c, d = a.pattern
            if d > 1:
                yield _swap(r, d, b), partial(_blocks, a.values), _swap(r, c, d)
        case Kronecker(children=(first, second)):
            (m1, n1), (m2, n2) = first.shape, second.shape
            yield _swap(1, m2, m1), partial(Kronecker, second, first), _swap(1, n1, n2)


def _strided(blocks: Tensor, d: int) -> LinearOperator:
    k = blocks.shape[-3]
    return KroneckerSparse(blocks.unflatten(-3, (k // d, d)).movedim(-3, -1))


def _blocks(values: Tensor) -> LinearOperator:
    out: LinearOperator = BlockDiagonal(values.movedim(-1, -3).flatten(-4, -3))
    return out


@lru_cache(maxsize=4096)
def _swap(a: int, u: int, v: int) -> IndexMap:
    """I_a (x) T(u, v)."""
    return DigitMap((a, u, v), (0, 2, 1))


@lru_cache(maxsize=4096)
def _inverse(index: IndexMap) -> IndexMap:
    return index.inverse()
