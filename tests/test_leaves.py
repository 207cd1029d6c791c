"""Every leaf against an independent oracle (NumPy, SciPy, or its formula), and its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

import structmat as sm
from structmat.testing import check_operator

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(0)


def ints(*shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(-1, 2, shape).astype(np.float64))


def is_matrix(op: sm.LinearOperator, want: Array) -> None:
    np.testing.assert_array_equal(np.asarray(op), want)
    check_operator(op, exact=True)


@pytest.mark.parametrize(("m", "n"), [(3, 5), (5, 3), (1, 1), (0, 3), (3, 0)])
def test_dense(m: int, n: int) -> None:
    w = ints(m, n)
    is_matrix(sm.Dense(w), w.numpy())


@pytest.mark.parametrize(("m", "r", "n"), [(3, 2, 5), (4, 0, 4), (2, 6, 3)])
def test_low_rank(m: int, r: int, n: int) -> None:
    u, v = ints(m, r), ints(r, n)
    is_matrix(sm.LowRank(u, v), u.numpy() @ v.numpy())


@pytest.mark.parametrize("n", [0, 1, 7])
def test_identity_zero_diagonal(n: int) -> None:
    d = ints(n)
    is_matrix(sm.Identity(n), np.eye(n))
    is_matrix(sm.Zero(n, 3), np.zeros((n, 3)))
    is_matrix(sm.Zero(n), np.zeros((n, n)))
    is_matrix(sm.Diagonal(d), np.diag(d.numpy()))


@pytest.mark.parametrize(("k", "q", "p"), [(3, 2, 4), (1, 2, 2), (4, 1, 1), (2, 0, 3)])
def test_block_diagonal(k: int, q: int, p: int) -> None:
    blocks = ints(k, q, p)
    is_matrix(sm.BlockDiagonal(blocks), scipy.linalg.block_diag(*blocks.numpy()))
    is_matrix(sm.BlockDiagonal(list(blocks)), scipy.linalg.block_diag(*blocks.numpy()))


def test_block_diagonal_of_unequal_blocks() -> None:
    blocks = [ints(2, 3), ints(1, 4), ints(3, 3)]
    op = sm.BlockDiagonal(blocks)
    assert isinstance(op, sm.DirectSum)
    is_matrix(op, scipy.linalg.block_diag(*(b.numpy() for b in blocks)))


@pytest.mark.parametrize("pattern", [(2, 3, 2, 4), (1, 2, 3, 1), (3, 1, 1, 2), (1, 1, 1, 5)])
def test_kronecker_sparse(pattern: tuple[int, int, int, int]) -> None:
    a, b, c, d = pattern
    values = ints(a, b, c, d)
    want = np.zeros((a * b * d, a * c * d))
    for i, j, k, l in np.ndindex(a, b, c, d):
        want[i * b * d + j * d + l, i * c * d + k * d + l] = values[i, j, k, l]
    is_matrix(sm.KroneckerSparse(values), want)
    support = np.kron(np.kron(np.eye(a), np.ones((b, c))), np.eye(d))
    assert not want[support == 0].any()


def test_kronecker_sparse_takes_any_strides() -> None:
    values = ints(2, 4, 3, 2).permute(3, 2, 1, 0)
    is_matrix(sm.KroneckerSparse(values), np.asarray(sm.KroneckerSparse(values.contiguous())))


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_butterfly_makes_hadamard(stages: int) -> None:
    n = 1 << stages
    twiddle = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    twiddle = twiddle.expand(stages, n // 2, 2, 2)
    for increasing in (True, False):
        op = sm.Butterfly(twiddle, increasing_stride=increasing)
        is_matrix(op, scipy.linalg.hadamard(n).astype(np.float64))


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_butterfly_makes_the_fourier_matrix(stages: int) -> None:
    n = 1 << stages
    twiddle = torch.zeros(stages, n // 2, 2, 2, dtype=torch.complex128)
    for t in range(stages):
        for pair in range(n // 2):
            w = np.exp(-2j * np.pi * (pair % (1 << t)) / (2 << t))
            twiddle[t, pair] = torch.tensor([[1, w], [1, -w]])
    op = sm.Butterfly(twiddle) @ sm.bit_reversal(n)
    np.testing.assert_allclose(np.asarray(op), np.fft.fft(np.eye(n)), atol=1e-12)
    check_operator(op)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3, 4), (4, 2, 3)),
        ((6, 2, 2), (4, 3, 5)),
        ((3, 2, 1), (1, 3, 2)),
        ((2, 2, 3), (3, 2, 0)),
    ],
)
def test_monarch(left: tuple[int, int, int], right: tuple[int, int, int]) -> None:
    lw, rw = ints(*left), ints(*right)
    (l, s, _r), (k, q, p) = left, right
    want = np.zeros((s, l, k, p))
    for t in range(k * q):  # the middle feature t is (k, q) on the right and (r, l) on the left
        want[:, t % l, t // q, :] += np.outer(lw[t % l, :, t // l], rw[t // q, t % q])
    is_matrix(sm.Monarch(lw, rw), want.reshape(s * l, k * p))


def test_monarch_is_block_diagonals_between_stride_permutations() -> None:
    lw, rw = ints(4, 3, 2), ints(2, 4, 5)
    outer, inner = sm.stride_permutation(12, 3), sm.stride_permutation(8, 4)
    product = outer @ sm.BlockDiagonal(lw) @ inner @ sm.BlockDiagonal(rw)
    is_matrix(sm.Monarch(lw, rw), np.asarray(product))


def test_monarch_chain() -> None:
    factors = [ints(1, 2, 2, 4), ints(2, 2, 2, 2), ints(4, 2, 3, 1)]
    dense = [np.asarray(sm.KroneckerSparse(f)) for f in factors]
    op = sm.MonarchChain(factors)
    is_matrix(op, dense[0] @ dense[1] @ dense[2])
    assert op.chainable
    assert not sm.MonarchChain([factors[1], factors[0]]).chainable


@pytest.mark.parametrize("n", [0, 1, 2, 6, 12])
def test_permutations(n: int) -> None:
    index = rng.permutation(n)
    x = np.arange(float(n))
    is_matrix(sm.Permutation(index), np.eye(n)[index])
    np.testing.assert_array_equal(sm.Permutation(index)(x), x[index])
    is_matrix(sm.reversal(n), np.eye(n)[::-1])
    for k in (-1, 0, 3):
        np.testing.assert_array_equal(sm.cyclic_shift(n, k)(x), np.roll(x, k))
        check_operator(sm.cyclic_shift(n, k), exact=True)
    for s in [s for s in range(1, n + 1) if n % s == 0]:
        op = sm.stride_permutation(n, s)
        np.testing.assert_array_equal(op(x), x.reshape(n // s, s).T.reshape(-1))
        assert op.T.simplify().structure == sm.stride_permutation(n, n // s).simplify().structure
        check_operator(op, exact=True)


@pytest.mark.parametrize("stages", [0, 1, 2, 5])
def test_bit_reversal(stages: int) -> None:
    n = 1 << stages
    want = [int(format(i, f"0{stages}b")[::-1], 2) if stages else 0 for i in range(n)]
    is_matrix(sm.bit_reversal(n), np.eye(n)[want])


def test_equal_permutations_have_one_structure() -> None:
    assert sm.cyclic_shift(4, 0).structure == sm.Permutation([0, 1, 2, 3]).structure
    assert sm.stride_permutation(6, 6).structure == sm.Permutation(np.arange(6)).structure


def test_compositions() -> None:
    a, b, c = sm.Dense(ints(2, 3)), sm.Dense(ints(4, 1)), sm.Diagonal(ints(2))
    dense = [np.asarray(op) for op in (a, b, c)]
    is_matrix(sm.kron(a, b, c), np.kron(np.kron(dense[0], dense[1]), dense[2]))
    is_matrix(sm.direct_sum(a, b, c), scipy.linalg.block_diag(*dense))
    is_matrix(c @ a, dense[2] @ dense[0])
    is_matrix(2 * a - a / 4 + -a, 0.75 * dense[0])
    is_matrix((c @ a).T, (dense[2] @ dense[0]).T)


@pytest.mark.parametrize("batch", [(2,), (3, 1), (0,)])
def test_batches(batch: tuple[int, ...]) -> None:
    ops = [
        sm.Dense(ints(*batch, 4, 4)),
        sm.Diagonal(ints(*batch, 4)),
        sm.BlockDiagonal(ints(*batch, 2, 2, 2)),
        sm.LowRank(ints(*batch, 4, 1), ints(1, 4)),
        sm.KroneckerSparse(ints(*batch, 1, 2, 2, 2)),
        sm.Butterfly(ints(*batch, 2, 2, 2, 2)),
        sm.Monarch(ints(2, 2, 2), ints(*batch, 2, 2, 2)),
        sm.MonarchChain([ints(*batch, 1, 2, 2, 2), ints(2, 2, 2, 1)]),
        sm.Scaled(ints(*batch), sm.reversal(4)),
    ]
    for op in ops:
        assert op.batch_shape == batch
        check_operator(op, exact=True)
    check_operator(ops[0] @ ops[-1] + ops[1], exact=True)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: sm.Dense(torch.ones(2, 2, dtype=torch.int64)), TypeError, "convert first"),
        (lambda: sm.Dense([[1, 2]]), TypeError, "operators are floating point"),
        (lambda: sm.Diagonal(torch.tensor(1.0)), ValueError, "at least 1 dim"),
        (lambda: sm.Dense(torch.ones(2)), ValueError, "at least 2 dim"),
        (lambda: sm.LowRank(torch.ones(2, 1), torch.ones(2, 2)), ValueError, "rank dimension 1"),
        (lambda: sm.Identity(-1), ValueError, "non-negative"),
        (lambda: sm.Zero(2, 1.5), ValueError, "non-negative integer"),  # type: ignore[arg-type]
        (lambda: sm.BlockDiagonal([]), ValueError, "empty"),
        (lambda: sm.BlockDiagonal(torch.ones(2, 2)), ValueError, "at least 3 dim"),
        (lambda: sm.KroneckerSparse(torch.ones(2, 2)), ValueError, "at least 4 dim"),
        (lambda: sm.Butterfly(torch.ones(2, 3, 2, 2)), ValueError, "power of two"),
        (
            lambda: sm.Monarch(torch.ones(2, 2, 3), torch.ones(2, 2, 2)),
            ValueError,
            r"left has l\*r = 2\*3 = 6 inner features, right has k\*q = 2\*2 = 4",
        ),
        (lambda: sm.MonarchChain([]), ValueError, "empty"),
        (lambda: sm.MonarchChain([sm.Identity(2)]), TypeError, "not a KroneckerSparse"),
        (
            lambda: sm.MonarchChain([torch.ones(1, 2, 2, 1), torch.ones(1, 3, 2, 1)]),
            ValueError,
            "has 2 columns",
        ),
        (lambda: sm.Permutation([0, 0]), ValueError, "repeat"),
        (lambda: sm.Permutation([0, 5]), ValueError, "range from 0 to 5"),
        (lambda: sm.Permutation([[0, 1]]), ValueError, "one dimension"),
        (lambda: sm.Permutation([0.0, 1.0]), TypeError, "needs integers"),
        (lambda: sm.stride_permutation(6, 4), ValueError, "does not divide"),
        (lambda: sm.bit_reversal(6), ValueError, "power of two"),
        (lambda: sm.Scaled(torch.tensor(1), sm.Identity(2)), TypeError, "convert it first"),
        (lambda: sm.kron(), ValueError, "at least one operator"),
        (lambda: sm.kron(torch.ones(2, 2)), TypeError, r"sm\.Dense\(W\)"),  # type: ignore[arg-type]
        (lambda: sm.Identity(2) @ sm.Identity(3), ValueError, "2 columns on the left, 3 rows"),
        (lambda: sm.Identity(2) + sm.Zero(2, 3), ValueError, "cannot add"),
    ],
)
def test_errors(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()
