"""Permutations as Benes networks, matrices as products of butterflies."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.circuit import Circuit, Kaleidoscope, kaleidoscope
from structmat.circuit.network import mirrored, swaps

F64, C128 = torch.float64, torch.complex128
EPS = torch.finfo(F64).eps


def matrix(index: np.ndarray) -> torch.Tensor:
    return torch.eye(len(index))[torch.as_tensor(index)]


def test_every_permutation_of_four_and_five() -> None:
    for n in (1, 2, 3, 4, 5):
        for p in itertools.permutations(range(n)):
            index = np.array(p)
            net = sm.circuit.benes(index)
            assert torch.equal(net.operator.to_dense(), matrix(index))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40).flatmap(lambda n: st.permutations(range(n))))
def test_the_network_is_the_permutation(p: list[int]) -> None:
    n, index = len(p), np.array(p)
    net = sm.circuit.benes(sm.Permutation(index), dtype=F64)
    size = max(2, 1 << (n - 1).bit_length())
    assert net.left.shape == net.right.shape == (size, size)
    assert net.left.increasing_stride
    assert not net.right.increasing_stride
    assert net.expansion == size / n
    whole = (net.left @ net.right).to_dense()
    padded = np.append(index, np.arange(n, size))
    assert torch.equal(whole, matrix(padded).to(F64))
    assert torch.equal(net.operator.to_dense(), matrix(index).to(F64))
    assert net.inputs.shape == net.outputs.shape == (size.bit_length() - 1, size // 2)


@pytest.mark.parametrize("n", [8, 256, 4096, 65536])
def test_large_random_permutations(n: int) -> None:
    index = np.random.default_rng(n).permutation(n)
    x = torch.arange(n, dtype=F64)
    assert torch.equal(sm.circuit.benes(index).operator(x), x[torch.from_numpy(index)])


def test_the_identity_crosses_nothing_and_a_swap_one_switch() -> None:
    still = sm.circuit.benes(range(16))
    assert not still.inputs.any()
    assert not still.outputs.any()
    turned = sm.circuit.benes(sm.reversal(2))
    assert turned.inputs.sum() + turned.outputs.sum() == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5).flatmap(lambda k: st.permutations(range(1 << k))))
def test_the_network_that_begins_with_neighbours(p: list[int]) -> None:
    first, second = mirrored(np.array(p))
    whole = swaps(second, False, F64) @ swaps(first, True, F64)
    assert torch.equal(whole.to_dense(), matrix(np.array(p)).to(F64))


def test_what_has_no_network() -> None:
    with pytest.raises(ValueError, match="n >= 1"):
        sm.circuit.benes(np.array([], dtype=int))
    with pytest.raises(ValueError, match="not a permutation"):
        sm.circuit.benes([0, 0, 1])
    with pytest.raises(TypeError, match="needs integers"):
        sm.circuit.benes([0.5, 1.5])


def whole(seed: int, *shape: int) -> torch.Tensor:
    """Small integers, none of them zero: sums and products of them are exact."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(1, 4, shape) * rng.choice([-1.0, 1.0], shape))


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def scattered(m: int, n: int, s: int, seed: int = 0) -> sm.Sparse:
    at = np.random.default_rng(seed).choice(m * n, s, replace=False)
    return sm.Sparse((whole(seed, s), tuple(np.divmod(at, n))), shape=(m, n))


def lined(rows: list[int], columns: list[int], n: int) -> sm.Sparse:
    return sm.Sparse((whole(1, len(rows)), (np.array(rows), np.array(columns))), shape=(n, n))


def diagonal(n: int, seed: int = 0) -> sm.Diagonal:
    return sm.Diagonal(whole(seed, n))


def in_class(k: Kaleidoscope) -> None:
    """Butterflies of one size, alternately of rising and falling stride, counted as they are."""
    size = k.factors[0].shape[0]
    m, n = k.of.shape
    assert k.operator.shape == (m, n)
    assert [b.increasing_stride for b in k.factors] == [True, False] * k.width
    assert all(type(b) is sm.Butterfly and b.shape == (size, size) for b in k.factors)
    assert k.params == 4 * k.width * size * (size.bit_length() - 1)
    assert k.expansion == size / max(m, n)
    product = sm.Product(*k.factors).to_dense()[:m, :n]
    assert torch.equal(product, k.operator.to_dense())


def rounding(k: Kaleidoscope) -> torch.Tensor:
    """An entrywise bound: each of the stages rounds its weights and its sum of two products."""
    size, (m, n) = k.factors[0].shape[0], k.operator.shape
    stages = len(k.factors) * (size.bit_length() - 1)
    paths = [sm.Butterfly(b.twiddle.abs(), b.increasing_stride) for b in k.factors]
    return 6 * stages * EPS * sm.Product(*paths).to_dense()[:m, :n]


# matrix of integers: (operator, width, size of the factors)
EXACT: dict[str, tuple[Callable[[], sm.LinearOperator], int, int]] = {
    "permutation": (lambda: sm.Permutation(np.random.default_rng(0).permutation(16)), 1, 16),
    "permutation_13": (lambda: sm.Permutation(np.random.default_rng(0).permutation(13)), 1, 16),
    "diagonal": (lambda: diagonal(6), 1, 8),
    "identity": (lambda: sm.Identity(4), 1, 4),
    "one": (lambda: sm.Identity(1), 1, 2),
    "zero": (lambda: sm.Zero(3, 5), 1, 8),
    "hadamard": (lambda: sm.Hadamard(16), 1, 16),
    "hadamard_1": (lambda: sm.Hadamard(1), 1, 2),
    "sequency": (lambda: sm.Hadamard(16, order="sequency"), 2, 16),
    "rank_one": (lambda: sm.LowRank(whole(1, 9, 1), whole(2, 1, 5)), 1, 16),
    "rank_three": (lambda: sm.LowRank(whole(1, 8, 3), whole(2, 3, 7)), 1, 4 * 8),
    "rank_nought": (lambda: sm.LowRank(whole(1, 4, 0), whole(2, 0, 4)), 1, 4),
    "selection": (lambda: sm.Selection([2, 0, 2], 4), 2, 4),
    "selection_T": (lambda: sm.Selection([2, 0, 2], 4).T, 2, 4),
    "a_row": (lambda: lined([5] * 8, list(range(8)), 8), 2, 8),
    "a_column": (lambda: lined(list(range(8)), [5] * 8, 8), 2, 8),
    "far_rows": (lambda: lined([0] * 4 + [7] * 4, list(range(8)), 8), 3, 8),
    "far_columns": (lambda: lined(list(range(8)), [0] * 4 + [7] * 4, 8), 3, 8),
    "far_both": (lambda: lined([0] * 4 + [7] * 4, [0, 1, 6, 7] * 2, 8), 4, 8),
    "sparse": (lambda: scattered(16, 16, 16, 1), 4, 16),
    "denser": (lambda: scattered(8, 8, 30), 2, 32),
    "full": (lambda: scattered(4, 4, 16), 2, 16),
    "sparse_wide": (lambda: scattered(10, 33, 5), 2, 64),
    "no_entries": (lambda: scattered(3, 3, 0), 1, 4),
    "butterfly": (lambda: sm.Butterfly(whole(0, 3, 4, 2, 2)).T, 1, 8),
    "multiple": (lambda: 3.0 * sm.reversal(5), 1, 8),
    "hd_cubed": (
        lambda: sm.Product(*[x for i in range(3) for x in (sm.Hadamard(8), diagonal(8, i))]),
        2,
        8,
    ),
    "permuted_rank_one": (
        lambda: sm.cyclic_shift(8) @ sm.LowRank(whole(1, 8, 1), whole(2, 1, 8)) @ sm.reversal(8),
        3,
        8,
    ),
    "diagonals": (lambda: diagonal(3) @ (2.0 * sm.Identity(3)) @ diagonal(3, 1), 1, 4),
    "of_sizes": (lambda: scattered(5, 9, 7) @ diagonal(9) @ scattered(9, 3, 5), 4, 16),
    "sum": (lambda: sm.reversal(6) + diagonal(6) - scattered(6, 6, 5), 2, 4 * 8),
    "sum_of_one_term_twice": (lambda: sm.Hadamard(4) + 2.0 * sm.Hadamard(4), 1, 2 * 4),
}


@pytest.mark.parametrize("name", EXACT)
def test_exactly_with_the_width_and_the_size_it_should_have(name: str) -> None:
    make, width, size = EXACT[name]
    A = make()
    k = kaleidoscope(A, dtype=F64)
    in_class(k)
    dense = A.to_dense().to(F64)  # integers: exact in any precision
    assert torch.equal(k.operator.to_dense(), dense)
    assert (k.width, k.factors[0].shape[0]) == (width, size)
    x = whole(5, 3, A.shape[1])
    assert torch.equal(k.operator(x), x @ dense.mT)


ROUNDED: dict[str, tuple[Callable[[], sm.LinearOperator], int, int]] = {
    "circulant": (lambda: sm.Circulant(normal(0, 16)), 1, 16),
    "circulant_complex": (lambda: sm.Circulant(normal(0, 8) * (1 + 2j)), 1, 8),
    "circulant_12": (lambda: sm.Circulant(normal(0, 12)), 1, 32),
    "skew_circulant": (lambda: sm.Circulant(normal(0, 16), -1), 1, 32),
    "toeplitz": (lambda: sm.Toeplitz(normal(0, 5), normal(1, 9)), 1, 16),
    "toeplitz_complex": (lambda: sm.Toeplitz(normal(0, 5) * (1 + 2j)), 1, 16),
    "toeplitz_1": (lambda: sm.Toeplitz(normal(0, 1)), 1, 2),
    "hankel": (lambda: sm.Hankel(normal(0, 7), normal(1, 4)), 1, 16),
    "dft": (lambda: sm.DFT(16, dtype=C128), 2, 16),
    "dft_2": (lambda: sm.DFT(2, dtype=C128), 2, 2),
    "idft_ortho": (lambda: sm.IDFT(32, norm="ortho", dtype=C128), 2, 32),
    "dft_15": (lambda: sm.DFT(15, norm="ortho", dtype=C128), 1, 32),
    "idft_7": (lambda: sm.IDFT(7, dtype=C128), 1, 16),
    "dft_1": (lambda: sm.DFT(1, dtype=C128), 1, 2),
    "hadamard_normalized": (lambda: sm.Hadamard(8, normalized=True, dtype=F64), 1, 8),
    "filter": (
        lambda: sm.IDFT(8, dtype=C128) @ sm.Diagonal(normal(0, 8)) @ sm.DFT(8, dtype=C128),
        1,
        8,
    ),
    "acdc": (
        lambda: (
            sm.Diagonal(normal(1, 8))
            @ sm.DFT(8, dtype=C128)
            @ sm.Diagonal(normal(0, 8))
            @ sm.IDFT(8, dtype=C128)
        ),
        1,
        8,
    ),
    "three_transforms": (lambda: sm.Product(*[sm.DFT(8, dtype=C128)] * 3), 3, 8),
    "circulant_of_permutation": (lambda: sm.Circulant(normal(0, 8)) @ sm.reversal(8), 2, 8),
    "toeplitz_sandwich": (
        lambda: scattered(5, 9, 7) @ sm.Toeplitz(normal(0, 9), normal(1, 6)) @ diagonal(6),
        3,
        16,
    ),
    # what a circulant computes beyond its Toeplitz matrix must not reach the next
    "toeplitz_twice": (lambda: sm.Toeplitz(normal(0, 5)) @ sm.Toeplitz(normal(1, 5)), 2, 16),
    "toeplitz_sum": (lambda: sm.Toeplitz(normal(0, 5)) + 2.0 * sm.Hankel(normal(1, 5)), 1, 32),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_to_rounding_with_the_width_and_the_size_it_should_have(name: str) -> None:
    make, width, size = ROUNDED[name]
    A = make()
    k = kaleidoscope(A)
    in_class(k)
    error = (k.operator.to_dense() - A.to_dense()).abs()
    assert bool((error <= rounding(k)).all())
    assert (k.width, k.factors[0].shape[0]) == (width, size)


@st.composite
def sparse(draw: st.DrawFn, m: int | None = None) -> sm.Sparse:
    m = m or draw(st.integers(1, 12))
    n = draw(st.integers(1, 12))
    s = draw(st.integers(0, m * n))
    return scattered(m, n, s, draw(st.integers(0, 2**16)))


@settings(max_examples=120, deadline=None)
@given(sparse())
def test_random_sparse_matrices(A: sm.Sparse) -> None:
    k = kaleidoscope(A)
    in_class(k)
    assert torch.equal(k.operator.to_dense(), A.to_dense())
    assert torch.equal(kaleidoscope(A.T).operator.to_dense(), A.to_dense().mT)
    least = max(*A.shape, A.nnz, 2)
    assert k.factors[0].shape[0] == 1 << (least - 1).bit_length()
    assert k.width <= 4


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_products(data: st.DataObject) -> None:
    ops: list[sm.LinearOperator] = [data.draw(sparse())]
    for _ in range(data.draw(st.integers(1, 4))):
        n = ops[-1].shape[1]
        kind = data.draw(st.sampled_from(["sparse", "permutation", "diagonal", "rank"]))
        seed = data.draw(st.integers(0, 2**16))
        if kind == "sparse":
            ops.append(data.draw(sparse(m=n)))
        elif kind == "permutation":
            ops.append(sm.Permutation(np.random.default_rng(seed).permutation(n)))
        elif kind == "diagonal":
            ops.append(diagonal(n, seed))
        else:
            ops.append(sm.LowRank(whole(seed, n, 2), whole(seed + 1, 2, 3)))
    A = sm.Product(*ops)
    k, parts = kaleidoscope(A), [kaleidoscope(op) for op in ops]
    in_class(k)
    assert torch.equal(k.operator.to_dense(), A.to_dense())
    assert k.width <= sum(p.width for p in parts)
    assert k.factors[0].shape[0] <= max(p.factors[0].shape[0] for p in parts)


@pytest.mark.parametrize(
    "A",
    [
        sm.DFT(8, dtype=C128),
        sm.DCT(8, dtype=F64),
        sm.Hadamard(8, dtype=F64),
        sm.Dense(whole(0, 4, 6)),
        sm.Monarch(whole(0, 2, 2, 2), whole(1, 2, 2, 2)),
        sm.kron(sm.Dense(whole(0, 2, 3)), sm.Dense(whole(1, 3, 2))),
        sm.Selection([1, 1, 0], 3) @ sm.Dense(whole(0, 3, 2)),
        sm.Permutation([2, 0, 1], dtype=F64),
    ],
    ids=lambda A: A._label(),
)
def test_circuits_as_the_theorem_says(A: sm.LinearOperator) -> None:
    c = sm.circuit(A)
    k = kaleidoscope(c)
    in_class(k)
    assert torch.allclose(k.operator.to_dense(), A.to_dense(), atol=1e-12)
    assert k.bound.depth == max(c.depth, 1)
    assert k.width <= 4 * k.bound.depth
    kept = [f.nnz if isinstance(f, sm.Sparse) else max(f.shape) for f in c.layers()]
    sides = [side for f in c.layers() for side in f.shape]
    assert k.factors[0].shape[0] < 2 * max(*kept, *sides, 2)


@pytest.mark.parametrize("n", [16, 128, 1024])
def test_parameters_against_the_bound_as_sizes_grow(n: int) -> None:
    """The constants found here: 4 for permutations, 16 for n nonzeros, below 1 for transforms."""
    moved = kaleidoscope(sm.Permutation(np.random.default_rng(0).permutation(n)))
    assert moved.params == 4 * moved.bound.params
    routed = kaleidoscope(scattered(n, n, n))
    assert routed.bound == kaleidoscope(sm.circuit(scattered(n, n, n))).bound
    assert routed.params <= 16 * routed.bound.params
    assert kaleidoscope(sm.DFT(n)).params < kaleidoscope(sm.DFT(n)).bound.params


def test_gradients_reach_the_numbers() -> None:
    values = whole(0, 5).requires_grad_()
    d = whole(1, 4).requires_grad_()
    c = normal(2, 4).requires_grad_()
    at = (np.array([0, 0, 2, 3, 3]), np.array([0, 3, 1, 1, 2]))

    def entries(v: torch.Tensor, d: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        A = sm.Sparse((v, at), shape=(4, 4)) @ sm.Diagonal(d) @ sm.Circulant(c)
        return torch.view_as_real(kaleidoscope(A).operator.to_dense())

    assert torch.autograd.gradcheck(entries, (values, d, c))


def test_the_dtype_is_that_of_the_operator() -> None:
    assert kaleidoscope(sm.reversal(4)).factors[0].dtype == torch.float32
    assert kaleidoscope(sm.reversal(4), dtype=F64).factors[0].dtype == F64
    k = kaleidoscope(sm.reversal(4) @ sm.Diagonal(whole(0, 4)))
    assert k.operator.dtype == F64


def test_what_it_refuses() -> None:
    with pytest.raises(TypeError, match=r"DCT has no construction .* Permutation"):
        kaleidoscope(sm.DCT(8))
    with pytest.raises(TypeError, match="no operator and no circuit"):
        kaleidoscope(torch.eye(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a batch of shape"):
        kaleidoscope(sm.Diagonal(torch.ones(2, 3)))
    with pytest.raises(ValueError, match="a batch of shape"):
        kaleidoscope(Circuit.of(1, [1], [0], torch.ones(2, 1), [1]))
    with pytest.raises(ValueError, match="no entries"):
        kaleidoscope(sm.Zero(0, 3))
