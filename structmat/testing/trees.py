"""Random expression trees, typed by shape, with entries in {-1, 0, 1}.

A tree is drawn through ``choose(options)``; who chooses decides: hypothesis (so that failures
shrink, towards the first option) or a random generator. Numbers come from a seed. Every subtree
has the shape its place needs, so any tree is well formed: all leaves, all combinators, real and
complex, batches that broadcast, rectangular, empty.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from math import gcd, prod
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from structmat.compose import (
    Block,
    DirectSum,
    Kronecker,
    KroneckerSum,
    Product,
    Scaled,
    Selection,
    Sum,
    direct_sum,
    elementwise,
    kron,
    kron_sum,
)
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.cauchy import Cauchy
from structmat.leaves.companion import Companion
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.displacement import LowDisplacementRank
from structmat.leaves.fourier import DFT, IDFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import (
    Permutation,
    bit_reversal,
    cyclic_shift,
    reversal,
    stride_permutation,
)
from structmat.leaves.real_fourier import IRDFT, RDFT
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.leaves.statespace import StateSpace
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz
from structmat.leaves.trigonometric import DCT, DST
from structmat.leaves.vandermonde import Vandermonde
from structmat.leaves.wavelet import Wavelet
from structmat.operator import LinearOperator
from structmat.pattern import Pattern

__all__ = ["SIZES", "Choose", "Grower", "exact_bound", "random_operator"]

SIZES = (1, 2, 3, 4, 6, 7, 8, 12, 16, 30, 64, 0)
"""Sizes drawn for a side, simplest first."""

T = TypeVar("T")
Maker = Callable[[int, int], LinearOperator]


class Choose(Protocol):
    """Picks one of the options."""

    def __call__(self, options: Sequence[T], /) -> T:
        """The chosen option."""


def random_operator(
    seed: int,
    shape: tuple[int, int] | None = None,
    max_side: int = 16,
    depth: int = 2,
) -> LinearOperator:
    """A random expression tree without hypothesis: for benchmarks and fuzzing.

    Args:
        seed: of structure and entries.
        shape: (m, n); drawn from SIZES up to ``max_side`` by default.
        max_side: the largest side drawn.
        depth: how deep combinators nest.

    Example:
        >>> from structmat.testing import random_operator
        >>> random_operator(1, shape=(4, 6)).shape
        (4, 6)
    """
    choose = random.Random(seed).choice
    sizes = [s for s in SIZES if s <= max_side]
    m, n = shape or (choose(sizes), choose(sizes))
    return Grower(choose, seed, max_side=max_side).tree(m, n, depth)


def exact_bound(op: LinearOperator) -> float:
    """No entry met when ``op`` acts on a vector of ones, in any order, is larger in size.

    The product of max(1-norm, infinity-norm) along products: float64 is exact below 2**53.
    """
    match op:
        case Sum() | Block() | KroneckerSum():
            return sum(map(exact_bound, op.children))
        case DirectSum():
            return max(map(exact_bound, op.children))
        case Product() | Kronecker() | MonarchChain():
            return prod(map(exact_bound, op.children))
        case Scaled():
            alpha = op.alpha.abs().max().item() if op.tensors else abs(op.alpha)
            return max(float(alpha), 1.0) * exact_bound(op.children[0])
        case LowRank():
            return exact_bound(Dense(op.left)) * exact_bound(Dense(op.right))
        case Monarch() | Butterfly():
            return prod(map(exact_bound, op.factors()))
    if op.children:
        return prod(map(exact_bound, op.children))
    size = op.to_dense().abs()
    sums = [size.sum(-1), size.sum(-2)]
    return max([1.0, *(s.max().item() for s in sums if s.numel())])


class Grower:
    """Grows trees of given shapes.

    Args:
        choose: picks one of a sequence.
        seed: of the entries.
        max_side: the largest inner side of a product.
        batch: batch shape of the whole; each leaf has a shape that broadcasts to it.
        complex_: whether leaves may be complex128 beside float64.
        transforms: whether leaves may be applied by Fourier transforms, which round.
    """

    def __init__(
        self,
        choose: Choose,
        seed: int,
        max_side: int = 16,
        batch: tuple[int, ...] = (),
        complex_: bool = False,
        transforms: bool = False,
    ) -> None:
        self.transforms = transforms
        self.choose = choose
        self.g = torch.Generator().manual_seed(seed)
        self.max_side = max_side
        self.complex = complex_
        self.batches: list[tuple[int, ...]] = [()]
        if batch:
            self.batches += [batch, batch[-1:], (1, *batch[1:])]
        self.grown: dict[tuple[int, int], list[LinearOperator]] = {}

    def numbers(self, *shape: int) -> Tensor:
        """Entries in {-1, 0, 1} (and i times that), with batch dimensions in front."""
        batch = self.choose(self.batches)
        out = self._ints(*batch, *shape).to(torch.float64)
        if self.complex and self.choose((False, True)):
            return torch.complex(out, self._ints(*batch, *shape).to(torch.float64))
        return out

    def _ints(self, *shape: int) -> Tensor:
        return torch.randint(-1, 2, shape, generator=self.g)

    def tree(self, m: int, n: int, depth: int) -> LinearOperator:
        """A tree of shape (m, n) with at most ``depth`` levels of combinators."""
        makers: list[Maker] = [self.leaf]
        if depth > 0:
            makers += [
                lambda m, n: self.product(m, n, depth - 1),
                lambda m, n: self.sum(m, n, depth - 1),
                lambda m, n: self.scaled(m, n, depth - 1),
                lambda m, n: self.tree(n, m, depth - 1).T,
                lambda m, n: self.kronecker(m, n, depth - 1),
                lambda m, n: self.direct_sum(m, n, depth - 1),
                lambda m, n: self.block(m, n, depth - 1),
                lambda m, n: self.slice(m, n, depth - 1),
                lambda m, n: self.elementwise(m, n, depth - 1),
                lambda m, n: self.tree(m, n, depth - 1).conj(),
                lambda m, n: self.tree(n, m, depth - 1).H,
            ]
            if m == n:
                makers.append(lambda m, n: self.tree(m, n, depth - 1) ** self.choose((2, 1, 0)))
                makers.append(lambda m, n: self.kron_sum(m, n, depth - 1))
        if self.grown.get((m, n)):
            makers.append(lambda m, n: self.choose(self.grown[m, n]))
        out = self.choose(makers)(m, n)
        self.grown.setdefault((m, n), []).append(out)
        return out

    # combinators -------------------------------------------------------------------------------

    def product(self, m: int, n: int, depth: int) -> LinearOperator:
        """A @ B, or A @ B @ C."""
        inner = [self.choose([s for s in (m, n, *SIZES) if s <= max(self.max_side, m, n)])]
        if self.choose((False, True)):
            inner.append(self.choose((m, n)))
        sides = [m, *inner, n]
        parts = [self.tree(a, b, depth) for a, b in itertools.pairwise(sides)]
        return Product(*parts)

    def sum(self, m: int, n: int, depth: int) -> LinearOperator:
        """A + B, or A - B."""
        a, b = self.tree(m, n, depth), self.tree(m, n, depth)
        return a + b if self.choose((True, False)) else a - b

    def scaled(self, m: int, n: int, depth: int) -> LinearOperator:
        """alpha A."""
        options: list[Any] = [2, -1, 1, 0, 3.0, None, *([1j] if self.complex else [])]
        alpha = self.choose(options)
        return Scaled(self.numbers() if alpha is None else alpha, self.tree(m, n, depth))

    def kronecker(self, m: int, n: int, depth: int) -> LinearOperator:
        """A (x) B."""
        m1, n1 = self.choose(_divisors(m)), self.choose(_divisors(n))
        return kron(self.tree(m1, n1, depth), self.tree(m // m1, n // n1, depth))

    def direct_sum(self, m: int, n: int, depth: int) -> LinearOperator:
        """diag(A, B)."""
        m1 = self.choose(sorted({m // 2, m, 0, min(m, 1)}))
        n1 = self.choose(sorted({n // 2, n, 0, min(n, 1)}))
        return direct_sum(self.tree(m1, n1, depth), self.tree(m - m1, n - n1, depth))

    def kron_sum(self, m: int, n: int, depth: int) -> LinearOperator:
        """A (+) B."""
        a = self.choose(_divisors(m))
        return kron_sum(self.tree(a, a, depth), self.tree(m // a, m // a, depth))

    def block(self, m: int, n: int, depth: int) -> LinearOperator:
        """[A B; C 0], or one row or column of it."""
        m1 = self.choose(sorted({m // 2, m, min(m, 1)}))
        n1 = self.choose(sorted({n // 2, n, min(n, 1)}))
        rows: list[list[Any]] = [
            [self.tree(a, b, depth) for b in ((n1, n - n1) if n1 < n else (n,))]
            for a in ((m1, m - m1) if m1 < m else (m,))
        ]
        if len(rows) == len(rows[0]) == 2 and self.choose((True, False)):
            rows[1][self.choose((1, 0))] = 0
        return Block(rows)

    def elementwise(self, m: int, n: int, depth: int) -> LinearOperator:
        """A o B: a low-rank or dense matrix with anything, two leaves of one pattern."""
        kind = self.choose((self.low_rank, self.dense, self.sparse, self.blocks))
        other = kind if kind in (self.sparse, self.blocks) else lambda m, n: self.tree(m, n, depth)
        pair = [kind(m, n), other(m, n)]
        return elementwise(*(pair if self.choose((True, False)) else pair[::-1]))

    def slice(self, m: int, n: int, depth: int) -> LinearOperator:
        """A[rows, columns] of a larger A."""
        rows, columns = self.positions(m), self.positions(n)
        inner = self.tree(rows[1], columns[1], depth)
        return Selection(*rows) @ inner @ Selection(*columns).T

    def positions(self, m: int) -> tuple[Any, int]:
        """m positions of a longer vector, and its length."""
        more = self.choose((1, 0, 3))
        step = self.choose((1, -1, 2))
        size = m * abs(step) + more
        options: list[Any] = [range(more, size, step) if step > 0 else range(size - more)[::-1]]
        if size:
            options.append(torch.randint(0, size, (m,), generator=self.g))
            options.append(torch.randperm(size, generator=self.g)[:m])
        return self.choose(options), size

    # leaves ------------------------------------------------------------------------------------

    def leaf(self, m: int, n: int) -> LinearOperator:
        """A leaf of shape (m, n)."""
        makers: list[Maker] = [self.dense, Zero, self.low_rank, self.blocks, self.factor]
        makers += [self.monarch, self.chain, self.sparse, self.block_sparse, self.selection]
        if m == n:
            makers += [self.identity, self.diagonal, self.permutation, self.companion]
            if m > 1 and m & (m - 1) == 0:
                makers += [self.butterfly, self.hadamard]
        if self.transforms:
            makers += [self.toeplitz, self.hankel, self.cauchy, self.vandermonde]
            if m == n:
                makers += [self.circulant, self.convolution, self.transform, self.displaced]
                makers.append(self.state_space)
        return self.choose(makers)(m, n)

    def dense(self, m: int, n: int) -> LinearOperator:
        """Dense."""
        return Dense(self.numbers(m, n))

    def identity(self, m: int, n: int) -> LinearOperator:
        """Identity, with or without a dtype."""
        return Identity(m, self.choose((None, torch.float64)))

    def diagonal(self, m: int, n: int) -> LinearOperator:
        """Diagonal."""
        return Diagonal(self.numbers(m))

    def companion(self, m: int, n: int) -> LinearOperator:
        """Companion of a monic polynomial, so that the division is exact."""
        c = self.numbers(m + 1)
        one = torch.ones_like(c[..., :1])
        return Companion(torch.cat([one, c[..., 1:]], -1))

    def low_rank(self, m: int, n: int) -> LinearOperator:
        """LowRank."""
        r = self.choose((1, 2, 3, 0))
        return LowRank(self.numbers(m, r), self.numbers(r, n))

    def blocks(self, m: int, n: int) -> LinearOperator:
        """BlockDiagonal."""
        k = self.choose(_divisors(gcd(m, n)))
        out: LinearOperator = BlockDiagonal(self.numbers(k, m // k, n // k))
        return out

    def factor(self, m: int, n: int) -> KroneckerSparse:
        """KroneckerSparse."""
        a = self.choose(_divisors(gcd(m, n)))
        d = self.choose(_divisors(gcd(m // a, n // a)))
        return KroneckerSparse(self.numbers(a, m // (a * d), n // (a * d), d))

    def chain(self, m: int, n: int) -> LinearOperator:
        """MonarchChain of one to three factors."""
        inner = [self.choose((m, n, 4, 6)) for _ in range(self.choose((1, 0, 2)))]
        sides = [m, *inner, n]
        return MonarchChain([self.factor(a, b) for a, b in itertools.pairwise(sides)])

    def monarch(self, m: int, n: int) -> LinearOperator:
        """Monarch with any inner size that fits."""
        k, l = self.choose(_divisors(n)), self.choose(_divisors(m))
        inner = k * l // gcd(k, l) * self.choose((1, 2))
        left = self.numbers(l, m // l, inner // l)
        return Monarch(left, self.numbers(k, inner // k, n // k))

    def selection(self, m: int, n: int) -> LinearOperator:
        """Selection, or the transpose of one."""
        if n == 0 or (m and self.choose((False, True))):
            return Selection(torch.randint(0, m, (n,), generator=self.g), m).T if m else Zero(m, n)
        dtype = self.choose((None, torch.float64))
        return Selection(torch.randint(0, n, (m,), generator=self.g), n, dtype)

    def butterfly(self, m: int, n: int) -> LinearOperator:
        """Butterfly of either order."""
        stages = m.bit_length() - 1
        return Butterfly(self.numbers(stages, m // 2, 2, 2), self.choose((True, False)))

    def sparse(self, m: int, n: int) -> LinearOperator:
        """Sparse."""
        pattern = self.pattern(m, n)
        return Sparse((self.numbers(pattern.nnz), pattern))

    def block_sparse(self, m: int, n: int) -> LinearOperator:
        """BlockSparse."""
        p, q = self.choose(_divisors(m)), self.choose(_divisors(n))
        pattern = self.pattern(m // p, n // q)
        return BlockSparse(self.numbers(pattern.nnz, p, q), pattern)

    def pattern(self, m: int, n: int) -> Pattern:
        """About half of the entries, or none, or all."""
        half = self.choose((0, -1, 1))
        return Pattern.mask(
            (self._ints(m, n) > half).numpy() if m and n else np.zeros((m, n), bool)
        )

    def hadamard(self, m: int, n: int) -> LinearOperator:
        """Hadamard of either order."""
        return Hadamard(m, False, self.choose(("natural", "sequency")), torch.float64)

    def toeplitz(self, m: int, n: int) -> LinearOperator:
        """Toeplitz."""
        return Toeplitz(self.numbers(m), self.numbers(n))

    def hankel(self, m: int, n: int) -> LinearOperator:
        """Hankel."""
        return Hankel(self.numbers(m), self.numbers(n))

    def cauchy(self, m: int, n: int) -> LinearOperator:
        """Cauchy; the nodes are at least 2 apart."""
        return Cauchy(self.numbers(m), self.numbers(n) + 4)

    def vandermonde(self, m: int, n: int) -> LinearOperator:
        """Vandermonde of nodes no larger than 1."""
        return Vandermonde(self.numbers(m) * 0.5, n)

    def displaced(self, m: int, n: int) -> LinearOperator:
        """LowDisplacementRank of either sign."""
        r = self.choose((1, 2, 0))
        return LowDisplacementRank(self.numbers(m, r), self.numbers(r, m), self.choose((1, -1)))

    def state_space(self, m: int, n: int) -> LinearOperator:
        """StateSpace of one to three states, dense or diagonal, stable."""
        states = self.choose((1, 2, 3))
        diagonal = self.choose((True, False))
        matrix = self.numbers(states) * 0.5 if diagonal else self.numbers(states, states) * 0.125
        direct = self.choose((None, 2.0))
        read, put = self.numbers(states), self.numbers(states)
        return StateSpace(matrix, put, read, direct, m, diagonal)

    def circulant(self, m: int, n: int) -> LinearOperator:
        """Circulant, skew-circulant, or triangular."""
        return Circulant(self.numbers(m), self.choose((1, -1, 0)))

    def convolution(self, m: int, n: int) -> LinearOperator:
        """Convolution that keeps the size of a signal or an image."""
        h = self.choose(_divisors(m))
        kernel = self.numbers(self.choose((1, 3)), self.choose((2, 1)))
        return Convolution(kernel, (h, m // h), self.choose(("causal", "circular", "same")))

    def transform(self, m: int, n: int) -> LinearOperator:
        """A Fourier, cosine, sine or wavelet transform."""
        options: list[Callable[[], LinearOperator]] = [
            lambda: DCT(m, 2, self.choose((None, "ortho")), torch.float64),
            lambda: DCT(m, 3, self.choose((None, "ortho")), torch.float64),
            lambda: DST(m, self.choose((1, 2, 3, 4)), None, torch.float64),
            lambda: Wavelet(m, "db2", dtype=torch.float64),
            lambda: RDFT(m, dtype=torch.float64),
            lambda: IRDFT(m, dtype=torch.float64),
        ]
        if self.complex:
            options.append(lambda: DFT(m, self.choose(("ortho", "backward")), torch.complex128))
            options.append(lambda: IDFT(m, dtype=torch.complex128))
        return self.choose(options)()

    def permutation(self, m: int, n: int) -> LinearOperator:
        """A permutation: shift, reversal, stride, bit reversal, or arbitrary."""
        options: list[Callable[[], Permutation]] = [
            lambda: cyclic_shift(m, self.choose((1, 0, -2))),
            lambda: reversal(m),
            lambda: stride_permutation(m, self.choose(_divisors(m))),
            lambda: Permutation(torch.randperm(m, generator=self.g)),
            lambda: Permutation(torch.arange(m), dtype=torch.float64),
        ]
        if m > 0 and m & (m - 1) == 0:
            options.append(lambda: bit_reversal(m))
        return self.choose(options)()


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0] or [1, 2]
