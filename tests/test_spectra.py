"""Traces, diagonals, determinants and spectra by structure against torch.linalg on the matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from market import entries
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import structmat as sm
from structmat.linalg import Answer, DenseWarning, slogdet_of
from structmat.linalg.answer import DENSE, block_size
from structmat.testing import operators

r = entries(3)
z = entries(4, torch.complex128)
LEAVES: dict[str, sm.LinearOperator] = {
    "identity": sm.Identity(5, torch.float64),
    "identity_0": sm.Identity(0),
    "zero": sm.Zero(3),
    "zero_wide": sm.Zero(3, 5),
    "diagonal": sm.Diagonal(r(2, 7)),
    "dense_1": sm.Dense(r(1, 1)),
    "dense_0": sm.Dense(r(2, 0, 0)),
    "dense_complex": sm.Dense(z(2, 4, 4)),
    "low_rank": sm.LowRank(r(5, 2), r(3, 2, 5)),
    "low_rank_full": sm.LowRank(r(2, 4), r(4, 2)),
    "low_rank_square": sm.LowRank(r(3, 3), z(3, 3)),
    "low_rank_0": sm.LowRank(r(3, 0), r(0, 3)),
    "blocks": sm.BlockDiagonal(z(3, 2, 2)),
    "blocks_flat": sm.BlockDiagonal(r(3, 1, 2)),
    "factor": sm.KroneckerSparse(r(2, 3, 3, 2)),
    "factor_wide": sm.KroneckerSparse(r(2, 2, 3, 2)),
    "butterfly": sm.Butterfly(r(4, 8, 2, 2)),
    "butterfly_decreasing": sm.Butterfly(z(3, 4, 2, 2), increasing_stride=False),
    "monarch": sm.Monarch(r(3, 4, 4), r(4, 3, 3)),
    "monarch_wide": sm.Monarch(r(2, 3, 4), r(2, 4, 5)),
    "monarch_thin": sm.Monarch(r(3, 4, 1), r(3, 1, 4)),
    "chain": sm.MonarchChain([r(1, 2, 2, 6), r(2, 2, 2, 3), r(4, 3, 3, 1)]),
    "toeplitz": sm.Toeplitz(r(2, 5), z(5)),
    "toeplitz_wide": sm.Toeplitz(r(3), r(6)),
    "toeplitz_empty": sm.Toeplitz(r(0), r(4)),
    "hankel": sm.Hankel(r(6), r(6)),
    "circulant": sm.Circulant(r(2, 6)),
    "circulant_odd": sm.Circulant(z(7)),
    "circulant_0": sm.Circulant(r(0)),
    "skew": sm.Circulant(r(5), -1),
    "skew_even": sm.Circulant(r(6), -1),
    "triangular": sm.Circulant(r(5), 0),
    "scaled_wrap": sm.Circulant(r(5), 0.5),
    "complex_wrap": sm.Circulant(r(5), 1j),
    "convolution_circular": sm.Convolution(r(2, 7), 5, "circular"),
    "convolution_causal": sm.Convolution(r(3), 5),
    "convolution_same": sm.Convolution(r(3), 5, "same"),
    "convolution_full": sm.Convolution(r(3), 5, "full"),
    "convolution_image": sm.Convolution(r(2, 3), (3, 4), "circular"),
    "convolution_image_causal": sm.Convolution(r(2, 3), (3, 4), "causal").T,
    "convolution_image_same": sm.Convolution(r(2, 2, 3), (3, 4), "same").T,
    "wavelet": sm.Wavelet(16, "db2", dtype=torch.float64),
    "wavelet_short": sm.Wavelet(12, "db3", levels=2, dtype=torch.float64).T,
    "haar": sm.Haar(2, dtype=torch.float64),
    "permutation": sm.Permutation([2, 0, 1, 4, 3, 5], torch.float64),
    "shift_0": sm.cyclic_shift(0),
    **{
        f"hadamard_{n}_{order}": sm.Hadamard(n, n == 4, order, torch.float64)
        for n in (1, 2, 4, 8)
        for order in ("natural", "sequency")
    },
    **{
        f"dft_{n}_{norm}": make(n, norm, torch.complex128)
        for n in (0, 1, 2, 3, 4, 5, 6, 7)
        for norm, make in (("backward", sm.DFT), ("ortho", sm.IDFT))
    },
    **{
        f"{cls.__name__}{kind}_{n}_{norm}": cls(n, kind, norm, torch.float64)
        for cls in (sm.DCT, sm.DST)
        for kind in (1, 2, 3, 4)
        for n, norm in ((1, None), (2, "ortho"), (5, None), (7, "ortho"), (8, "forward"))
        if (cls, kind, n) != (sm.DCT, 1, 1)
    },
    **{
        f"rdft_{n}_{norm}": make(n, norm, torch.float64)
        for n, norm in (
            (0, "backward"),
            (1, "ortho"),
            (2, "forward"),
            (5, "ortho"),
            (6, "backward"),
        )
        for make in (sm.RDFT, sm.IRDFT)
    },
    "rdft_transposed": sm.RDFT(7, dtype=torch.float64)._transpose(),
    "irdft_transposed": sm.IRDFT(6, "ortho", torch.float64)._transpose(),
    "companion": sm.Companion(r(2, 5) + 2),
    "companion_transposed": sm.Companion(z(4) + 2)._transpose(),
    "companion_0": sm.Companion(r(1) + 2),
    "companion_1": sm.Companion(r(2) + 2),
    "vandermonde": sm.Vandermonde(torch.arange(-2.0, 3).double() / 2),
    "vandermonde_complex": sm.Vandermonde(z(2, 4) + torch.arange(4.0))._transpose(),
    "vandermonde_wide": sm.Vandermonde(r(3) + 2, 5),
    "vandermonde_0": sm.Vandermonde(r(0)),
    "cauchy": sm.Cauchy(torch.arange(5.0).double(), torch.arange(5.0).double() * 1.1 + 0.4),
    "cauchy_complex": sm.Cauchy(z(2, 3), torch.arange(3.0) + 3j),
    "cauchy_wide": sm.Cauchy(r(3), torch.arange(5.0) + 3),
    "kron_sum": sm.kron_sum(sm.Dense(r(2, 2)), sm.Circulant(z(3)), sm.Diagonal(r(2, 2))),
    "kron_sum_hermitian": sm.kron_sum(sm.Toeplitz(z(3)), sm.Diagonal(r(2))),
    "kron_sum_empty": sm.kron_sum(sm.Dense(r(2, 2)), sm.Identity(0)),
    "block_triangular": sm.block([[sm.Dense(r(2, 2)), sm.Dense(z(2, 3))], [0, sm.Circulant(r(3))]]),
    "block_full": sm.block([[sm.Toeplitz(r(3)), r(3, 2)], [r(2, 3), sm.Diagonal(r(2, 2))]]),
    "block_uneven": sm.block([[sm.Wavelet(2), r(2, 3)], [r(3, 2), sm.DCT(3)], [0, r(1, 3)]]),
    "block_staggered": sm.block([[sm.Identity(2), r(2, 1)], [r(1, 2), r(1, 1)]])
    @ sm.vstack(r(1, 3), r(2, 3)),
    "inverse": sm.Inverse(sm.Dense(r(3, 3) + 4 * torch.eye(3))),
    "inverse_toeplitz": sm.inv(sm.Toeplitz(torch.tensor([4.0, 1, 0, 2]).double())),
    "inverse_scaled": 2 * sm.Inverse(sm.Toeplitz(z(4) + torch.tensor([6.0, 0, 0, 0]))).T,
    "sparse": sm.Sparse((r(2, 5), ([0, 1, 1, 3, 2], [2, 0, 1, 3, 2])), (4, 4)),
    "sparse_triangular": sm.Sparse((r(3) + 2, ([0, 1, 2], [0, 0, 2])), (3, 3)),
    "sparse_empty": sm.Sparse((r(0), ([], [])), (2, 3)),
    "sparse_product": sm.Sparse((z(4), ([0, 1, 1, 3], [2, 0, 1, 3])), (4, 4)) @ sm.Toeplitz(r(4)),
    "block_sparse": sm.BlockSparse(r(3, 2, 2), [[True, False, True], [False, True, False]]),
    "block_sparse_square": sm.BlockSparse(r(2, 3, 2, 2), [[True, True], [False, True]]),
    "selection": sm.Selection([2, 0, 2], 4),
    "selection_square": sm.Selection([1, 2, 0], 3),
    "selection_twice": sm.Selection([1, 1, 0], 3).T,
    "selected": sm.Dense(r(2, 5, 5))[1:4, [0, 2, 2]],
    "displacement": sm.LowDisplacementRank.from_toeplitz(sm.Toeplitz(r(5), r(5))),
    "state_space": sm.StateSpace(r(3) / 2, r(3), r(2, 3), r() + 2, 6),
    "state_space_dense": sm.StateSpace(r(2, 2), r(2), r(2), None, 5)._transpose(),
    "state_space_0": sm.StateSpace(r(2), r(2), r(2), None, 0),
    "elementwise": sm.Elementwise(sm.LowRank(r(4, 2), z(2, 4)), sm.Toeplitz(r(2, 4))),
    "elementwise_inverse": sm.Elementwise(
        sm.LowRank(r(3, 1), r(1, 3)), sm.Inverse(sm.Toeplitz(torch.tensor([4.0, 1, 0]).double()))
    ),
    "dct_transposed": sm.DCT(5, 2, dtype=torch.float64)._transpose(),
    "dst_transposed": sm.DST(4, 3, "forward", torch.float64)._transpose(),
    "transposed": sm.Dense(z(3, 4)).T,
    "scaled": sm.Scaled(r(2), sm.Dense(r(3, 3))),
    "scaled_complex": 2j * sm.Diagonal(r(4)),
    "scaled_0": 0 * sm.Dense(r(3, 3)),
    "kron": sm.kron(sm.Dense(r(2, 2)), sm.Circulant(r(3)), sm.Diagonal(z(2))),
    "kron_crossed": sm.kron(sm.Dense(r(2, 3)), sm.Dense(r(3, 2))),
    "kron_empty": sm.kron(sm.Dense(r(2, 0)), sm.Dense(r(3, 3))),
    "direct_sum": sm.direct_sum(sm.Dense(r(2, 2)), sm.DFT(3, dtype=torch.complex128)),
    "direct_sum_crossed": sm.direct_sum(sm.Dense(r(2, 3)), sm.Dense(r(3, 2))),
    "sum": sm.Dense(r(4, 4)) + sm.LowRank(z(4, 1), r(1, 4)),
    "shifted_kron": sm.kron(sm.Dense(r(2, 2)), sm.Dense(r(3, 3))) + 2 * sm.Identity(6),
    "shifted_circulant": 3 * sm.Identity(5) - sm.Circulant(r(5), -1),
    "diagonal_plus_low_rank": sm.Diagonal(r(6) + 3) + sm.LowRank(r(6, 2), r(2, 6)),
    "singular_plus_low_rank": sm.Diagonal(torch.arange(4.0).double())
    + sm.LowRank(torch.ones(4, 1).double(), torch.ones(1, 4).double()),
    "shifted_convolution": sm.Convolution(r(2, 3), 5) + 3 * sm.Identity(5),
    "shifted_same": sm.Convolution(r(2, 3), 5, "same").T - 3 * sm.Identity(5),
    "shifted_image": sm.Convolution(r(2, 3), (3, 4), "circular").T
    + sm.Scaled(r(2), sm.Identity(12)),
    "shifted_state_space": sm.StateSpace(r(3) / 2, r(3), r(2, 3), None, 6) + 2 * sm.Identity(6),
    "shifted_direct_sum": sm.direct_sum(sm.Dense(r(2, 2)), sm.Convolution(r(2), 3))
    + 3 * sm.Identity(5),
    "shifted_block": sm.block([[sm.Dense(r(2, 2)), sm.Dense(z(2, 3))], [0, sm.Circulant(r(3))]])
    + 0.5 * sm.Identity(5),
    "shifted_lifted": sm.kron(sm.Identity(2), sm.Toeplitz(r(3), r(3)), sm.Identity(2))
    - 0.5 * sm.Identity(12),
    "shifted_inverse": sm.Inverse(sm.Dense(r(3, 3) + 4 * torch.eye(3))) + sm.Identity(3) / 2,
    "shifted_dft": sm.DFT(5, dtype=torch.complex128) + 2 * sm.Identity(5),
    "permutation_plus_diagonal": sm.cyclic_shift(17, 3) + sm.Diagonal(r(2, 17) + 3),
    "bordered": sm.block([[sm.Diagonal(r(5) + 3), z(5, 2)], [r(2, 5), r(2, 2, 2)]]),
    "bordered_singular": sm.block([[sm.Diagonal(torch.arange(3.0)), r(3, 2)], [r(2, 3), r(2, 2)]]),
    "bordered_middle": sm.block(
        [
            [r(1, 1), r(1, 4), 0],
            [r(4, 1), sm.Circulant(r(4) + 4 * torch.eye(4)[0]), r(4, 2)],
            [0, r(2, 4), r(2, 2)],
        ]
    ),
    "declared_triangular": sm.Diagonal(r(4))
    @ sm.assume(sm.Dense(r(4, 4).tril()), triangular="lower").T,
    "product": sm.Dense(r(4, 4)) @ sm.Diagonal(z(4)) @ sm.Toeplitz(r(4)),
    "product_thin": sm.Dense(r(5, 2)) @ sm.Dense(r(2, 5)),
    "product_thick": sm.Dense(r(3, 5)) @ sm.Toeplitz(r(5), r(3)) @ sm.Dense(r(3, 3)),
    "unitary_ends": sm.DFT(6, dtype=torch.complex128) @ sm.Diagonal(r(6)) @ sm.reversal(6),
    "power": sm.Dense(r(4, 4)) ** 3,
}
each = pytest.mark.parametrize("A", LEAVES.values(), ids=LEAVES)
square = pytest.mark.parametrize(
    "A",
    [A for A in LEAVES.values() if A.shape[0] == A.shape[1]],
    ids=[k for k, A in LEAVES.items() if A.shape[0] == A.shape[1]],
)


def size(dense: Tensor) -> float:
    """An upper bound of the norms, of one element of the batch."""
    return 1 + (float(torch.linalg.matrix_norm(dense).max()) if dense.numel() else 0)


def eps(dense: Tensor) -> float:
    return 1e3 * torch.finfo(dense.dtype).eps


def same(got: Tensor, want: Tensor, tolerance: float) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    assert torch.allclose(got, want, rtol=tolerance, atol=tolerance), (got, want)


def check_diagonals(A: sm.LinearOperator) -> None:
    dense = A.to_dense()
    m, n = A.shape
    for offset in {0, 1, -1, 2, -m, n}:
        if -m <= offset <= n:
            found = sm.diagonal(A, offset)
            same(found, dense.diagonal(offset, -2, -1), eps(dense) * size(dense))
    if m == n:
        want = dense.diagonal(dim1=-2, dim2=-1).sum(-1)
        same(sm.trace(A), want, eps(dense) * size(dense))


def check_determinant(A: sm.LinearOperator) -> None:
    dense = A.to_dense()
    got, want = sm.slogdet(A), torch.linalg.slogdet(dense)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
    # How far the determinant moves when every singular value moves by rounding.
    values = torch.linalg.svdvals(dense) + eps(dense) * size(dense)
    logs = values.log()
    moves = (logs.sum(-1, keepdim=True) - logs).exp().sum(-1) * eps(dense) * size(dense)
    difference = (got.sign * got.logabsdet.exp() - want.sign * want.logabsdet.exp()).abs()
    assert (difference <= moves + 1e-300).all(), (got, want, moves)


def check_eigenvalues(A: sm.LinearOperator) -> None:
    dense = A.to_dense()
    got, want = sm.eigvals(A), torch.linalg.eigvals(dense)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    n = A.shape[0]
    # Defective eigenvalues move by eps ** (1 / k), sums of powers do not.
    for p in (1, 2, 3):
        same((got**p).sum(-1), (want**p).sum(-1), eps(dense) * max(n, 1) * size(dense) ** p)
    gap = (eps(dense) ** (1 / max(n, 1)) + eps(dense)) * size(dense)
    for a, b in zip(got.reshape(-1, n), want.reshape(-1, n), strict=True) if n else ():
        cost = (a[:, None] - b).abs()
        assert float(cost[linear_sum_assignment(cost.numpy())].max()) <= gap, (a, b)
    hermitian = A + A.H
    values = sm.eigvalsh(hermitian)
    same(values, torch.linalg.eigvalsh(hermitian.to_dense()), 10 * eps(dense) * size(dense))


@each
def test_diagonals(A: sm.LinearOperator) -> None:
    check_diagonals(A)


@square
def test_determinants(A: sm.LinearOperator) -> None:
    check_determinant(A)


@square
def test_eigenvalues(A: sm.LinearOperator) -> None:
    check_eigenvalues(A)


SQUARES = st.sampled_from([1, 2, 3, 4, 6, 7, 8, 0]).flatmap(
    lambda n: operators((n, n), max_side=8, transforms=True)
)


def all_of(A: sm.LinearOperator) -> None:
    check_diagonals(A)
    check_determinant(A)
    check_eigenvalues(A)


@given(SQUARES)
@settings(max_examples=50, deadline=None)
def test_random_trees(A: sm.LinearOperator) -> None:
    all_of(A)


@pytest.mark.slow
@given(SQUARES)
@settings(max_examples=1000, deadline=None)
def test_many_random_trees(A: sm.LinearOperator) -> None:
    all_of(A)


@given(operators(max_side=8, transforms=True))
@settings(max_examples=60, deadline=None)
def test_diagonals_of_random_trees(A: sm.LinearOperator) -> None:
    check_diagonals(A)


METHODS: list[tuple[Callable[..., Answer[Any]], sm.LinearOperator, str]] = [
    (sm.trace, LEAVES["kron"], "product of traces"),
    (sm.trace, LEAVES["dft_5_backward"], "Gauss sum"),
    (sm.trace, LEAVES["monarch"], "entries by structure"),
    (sm.trace, LEAVES["wavelet"], "exact by columns"),
    (sm.diagonal, LEAVES["kron"], "outer product"),
    (sm.slogdet, LEAVES["monarch"], "LU of the blocks"),
    (sm.slogdet, LEAVES["diagonal_plus_low_rank"], "matrix determinant lemma"),
    (sm.slogdet, LEAVES["singular_plus_low_rank"], "dense LU"),
    (sm.slogdet, LEAVES["toeplitz"], "dense LU"),
    (sm.slogdet, LEAVES["shifted_kron"], "eigenvalues"),
    (sm.slogdet, LEAVES["shifted_convolution"], "triangular"),
    (sm.slogdet, LEAVES["shifted_same"], "shifted (dense LU)"),
    (sm.slogdet, LEAVES["shifted_lifted"], "shifted (powers of the factors' determinants"),
    (sm.slogdet, LEAVES["shifted_dft"], "eigenvalues of the Fourier matrix"),
    (sm.slogdet, LEAVES["permutation_plus_diagonal"], "sparse LU"),
    (sm.slogdet, LEAVES["bordered"], "block elimination (diagonal; dense LU of the Schur"),
    (sm.slogdet, LEAVES["bordered_singular"], "dense LU"),
    (sm.slogdet, LEAVES["bordered_middle"], "block elimination (spectrum by FFT"),
    (sm.slogdet, LEAVES["declared_triangular"], "(diagonal; triangular: its diagonal)"),
    (sm.slogdet, LEAVES["product_thin"], "rank below n"),
    (sm.eigvals, LEAVES["shifted_circulant"], "spectrum by FFT"),
    (sm.eigvals, LEAVES["product_thin"], "turned to the least inner dimension"),
    (sm.eigvals, LEAVES["product"], "dense eigenvalues"),
    (sm.eigvalsh, sm.Dense(r(3, 3)), "dense Hermitian"),
]


@pytest.mark.parametrize(("function", "A", "method"), METHODS)
def test_the_method_is_named(
    function: Callable[..., Answer[Any]], A: sm.LinearOperator, method: str
) -> None:
    found = function(A, return_method=True)
    assert isinstance(found, Answer)
    assert method in found.method
    assert found.error is None


# large ------------------------------------------------------------------------------------------


def test_determinants_of_long_products_do_not_overflow() -> None:
    d = sm.Diagonal(torch.full((1000,), 1e30, dtype=torch.float64))
    product = sm.Product(*[d] * 200)
    want = 200 * 1000 * math.log(1e30)
    assert float(sm.slogdet(product).logabsdet) == pytest.approx(want, rel=1e-12)
    assert float(sm.logdet(product)) == pytest.approx(want, rel=1e-12)


def test_determinant_of_fifty_factors() -> None:
    n = 4096
    gen = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=gen, dtype=torch.float64)

    parts: list[sm.LinearOperator] = []
    want = 0.0
    for k in range(10):
        d, c = draw(n) + 3, draw(n)
        blocks = draw(64, 64, 64)
        parts += [sm.Diagonal(d), sm.Circulant(c), sm.BlockDiagonal(blocks)]
        parts += [sm.cyclic_shift(n, k), sm.DCT(n, 2, "ortho")]
        want += float(d.abs().log().sum() + torch.linalg.slogdet(blocks).logabsdet.sum())
        want += float(torch.fft.fft(c).abs().log().sum())
    found = sm.slogdet(sm.Product(*parts))
    assert len(parts) == 50
    assert float(found.logabsdet) == pytest.approx(want, rel=1e-12)
    assert float(found.sign.abs()) == 1


def test_large_traces_need_no_matrix() -> None:
    n = 2**20
    assert float(sm.trace(sm.kron(sm.Identity(n), sm.Circulant(torch.ones(n))))) == 2.0**40
    ones = torch.ones(1, 1, 1).expand(512, 512, 512)
    assert float(sm.trace(sm.Monarch(ones, ones))) == 2**18


def test_blocks_of_columns() -> None:
    W = sm.Wavelet(2**11, "db2", levels=1)
    assert block_size(W) < 2**11
    found = sm.trace(W, return_method=True)
    # Averages and details have the columns 2 i + t: on the diagonal for i = 0 and i = n / 2 - t.
    want = W.taps[0] + sum(W.mirror[1:])
    assert "columns" in found.method
    assert float(found.value) == pytest.approx(want, rel=1e-5)


# estimates --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["hutchinson", "xtrace"])
def test_estimates_bring_their_error(method: str) -> None:
    gen = torch.Generator().manual_seed(1)
    w = torch.randn(2, 40, 40, generator=gen, dtype=torch.float64)
    A = sm.Dense(w @ w.mT)
    found = sm.trace(A, method=method, samples=40, generator=gen)
    assert isinstance(found, Answer)
    assert found.error is not None
    assert found.value.shape == found.error.shape == (2,)
    assert ((found.value - sm.trace(A)).abs() <= 5 * found.error).all()
    assert "estimate" in found.method


def test_estimates_repeat_with_their_generator() -> None:
    A = sm.Dense(r(9, 9))
    found = [
        sm.trace(A, method="hutchinson", samples=8, generator=torch.Generator().manual_seed(7))
        for _ in range(2)
    ]
    assert found[0].value == found[1].value


def test_xtrace_is_exact_on_low_ranks() -> None:
    A = sm.LowRank(r(60, 3), r(3, 60))
    gen = torch.Generator().manual_seed(2)
    found = sm.trace(A, method="xtrace", samples=20, generator=gen)
    assert torch.allclose(found.value, sm.trace(A))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_quadrature_brings_its_error(dtype: torch.dtype) -> None:
    gen = torch.Generator().manual_seed(3)
    w = torch.randn(2, 40, 40, generator=gen, dtype=dtype)
    A = sm.Dense(w @ w.mH + 20 * torch.eye(40))
    found = sm.logdet(A, method="slq", samples=40, steps=30, generator=gen)
    exact = sm.slogdet(A).logabsdet
    assert found.error is not None
    assert found.value.shape == found.error.shape == (2,)
    assert ((found.value - exact).abs() <= 5 * found.error).all()
    assert (found.error < 0.05 * exact).all()


def test_quadrature_is_exact_where_every_sample_is() -> None:
    n = 16  # the eigenvalues have equal weights in every sign vector: diagonal matrices
    d = torch.linspace(1, 2, n, dtype=torch.float64).requires_grad_()
    found = sm.logdet(sm.Diagonal(d), method="slq", samples=2, steps=n)
    assert torch.allclose(found.value, d.log().sum())
    (gradient,) = torch.autograd.grad(found.value, d)
    assert torch.allclose(gradient, 1 / d)
    early = sm.logdet(sm.Identity(5, torch.float64) * 3, method="slq", samples=2, steps=4)
    assert torch.allclose(early.value, torch.tensor(5 * math.log(3.0), dtype=torch.float64))


def test_quadrature_refuses_what_is_not_definite() -> None:
    with pytest.raises(ValueError, match=r"needs a positive definite operator.*sm.slogdet"):
        sm.logdet(sm.Diagonal(r(4) * 0 - 1), method="slq")
    with pytest.raises(ValueError, match="take at least 2"):
        sm.logdet(sm.Identity(3), method="slq", samples=1)
    with pytest.raises(ValueError, match="at least 1"):
        sm.logdet(sm.Identity(3), method="slq", steps=0)
    with pytest.raises(ValueError, match="none of 'exact', 'slq'"):
        sm.logdet(sm.Identity(3), method="guess")


# gradients --------------------------------------------------------------------------------------


def gradient_matches(
    ours: Callable[[sm.LinearOperator], Tensor],
    theirs: Callable[[Tensor], Tensor],
    make: Callable[[], sm.LinearOperator],
) -> None:
    A = make()
    leaves = [t.requires_grad_() for t in A.parameters()]
    want = torch.autograd.grad(theirs(A.to_dense()).sum(), leaves, allow_unused=True)
    got = torch.autograd.grad(ours(A).sum(), leaves, allow_unused=True)
    for a, b in zip(got, want, strict=True):
        zero = torch.zeros(())
        assert torch.allclose(zero if a is None else a, zero if b is None else b, atol=1e-9)


def safe(n: int, *shape: int) -> Tensor:
    gen = torch.Generator().manual_seed(n)
    return torch.randn(shape, generator=gen, dtype=torch.float64)


MAKERS: dict[str, Callable[[], sm.LinearOperator]] = {
    "monarch": lambda: sm.Monarch(safe(1, 2, 3, 3), safe(2, 3, 2, 2)),
    "butterfly": lambda: sm.Butterfly(safe(1, 3, 4, 2, 2)),
    "circulant": lambda: sm.Circulant(safe(1, 5)),
    "skew": lambda: sm.Circulant(safe(1, 6), -1),
    "kron": lambda: sm.kron(sm.Dense(safe(1, 2, 2)), sm.Dense(safe(2, 3, 3))),
    "lemma": lambda: sm.Diagonal(safe(1, 6) + 5) + sm.LowRank(safe(2, 6, 2), safe(3, 2, 6)),
    "scaled": lambda: sm.Scaled(safe(1) + 2, sm.Diagonal(safe(2, 3))) @ sm.Toeplitz(safe(4, 3)),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_gradients(make: Callable[[], sm.LinearOperator]) -> None:
    gradient_matches(sm.trace, lambda d: d.diagonal(dim1=-2, dim2=-1).sum(-1), make)
    gradient_matches(lambda A: sm.diagonal(A, 1), lambda d: d.diagonal(1, -2, -1), make)
    gradient_matches(lambda A: sm.slogdet(A)[1], lambda d: torch.linalg.slogdet(d)[1], make)
    gradient_matches(
        lambda A: sm.eigvals(A).abs() ** 3, lambda d: torch.linalg.eigvals(d).abs() ** 3, make
    )


VMAPPED: dict[str, tuple[Callable[[Tensor], sm.LinearOperator], tuple[int, ...]]] = {
    "diagonal": (sm.Diagonal, (4,)),
    "dense": (sm.Dense, (3, 3)),
    "circulant": (sm.Circulant, (4,)),
    "toeplitz": (sm.Toeplitz, (4,)),
    "butterfly": (sm.Butterfly, (2, 2, 2, 2)),
    "lemma": (lambda d: sm.Diagonal(d + 5) + sm.LowRank(d[:, None], d[None]), (4,)),
    "kron": (lambda d: sm.kron(sm.Dense(d), sm.Identity(2)), (3, 3)),
    "kron_sum": (lambda d: sm.kron_sum(sm.Dense(d), sm.Identity(2)), (3, 3)),
    "monarch": (lambda d: sm.Monarch(d, d), (2, 2, 2)),
    "low_rank": (lambda d: sm.LowRank(d, d.mT), (5, 2)),
}


@pytest.mark.parametrize("name", VMAPPED)
def test_under_transforms_of_torch(name: str) -> None:
    make, shape = VMAPPED[name]
    x = safe(1, 3, *shape)
    functions: list[Callable[[sm.LinearOperator], Tensor]] = [
        sm.trace,
        sm.diagonal,
        lambda A: sm.slogdet(A).logabsdet,
        lambda A: sm.slogdet(A).sign,
        lambda A: sm.eigvals(A).abs().sum(-1),
        sm.svdvals,
        sm.norm,
        lambda A: sm.norm(A, 1),
        lambda A: sm.norm(A, 2),
    ]
    for f in functions:
        applied = partial(_made, f, make)
        want = torch.stack([applied(t) for t in x])
        assert torch.allclose(torch.vmap(applied)(x), want)
    for f in (functions[0], functions[2]):
        applied = partial(_made, f, make)
        traced = make_fx(applied)(x[0])
        assert torch.allclose(traced(x[1]), applied(x[1]))


def _made(
    f: Callable[[sm.LinearOperator], Tensor], make: Callable[[Tensor], sm.LinearOperator], t: Tensor
) -> Tensor:
    return f(make(t))


def test_second_derivatives() -> None:
    for f in (lambda d: sm.slogdet(sm.Circulant(d)).logabsdet, lambda d: sm.norm(sm.Toeplitz(d))):
        assert torch.autograd.gradgradcheck(f, safe(3, 4).requires_grad_())


@pytest.mark.parametrize(
    "base",
    [
        sm.BlockDiagonal(safe(1, 4, 3, 3)),
        sm.Circulant(safe(2, 12)),
        sm.kron(sm.Dense(safe(3, 3, 3)), sm.DCT(4, 2, None, torch.float64)),
        sm.Diagonal(safe(4, 2, 12)) + 2 * sm.Identity(12),
    ],
)
def test_the_lemma_on_what_is_easily_solved(base: sm.LinearOperator) -> None:
    A = base + 3 * sm.LowRank(safe(5, 12, 2), safe(6, 2, 12))
    found = sm.slogdet(A, return_method=True)
    want = torch.linalg.slogdet(A.to_dense())
    assert "lemma" in found.method
    assert torch.allclose(found.value.logabsdet, want.logabsdet)
    assert torch.allclose(found.value.sign, want.sign)


def test_the_lemma_is_not_used_where_the_base_becomes_dense() -> None:
    A = sm.Toeplitz(safe(1, 9)) + sm.LowRank(safe(2, 9, 1), safe(3, 1, 9))
    assert sm.slogdet(A, return_method=True).method == "dense LU"


def test_what_becomes_dense_and_is_large_warns() -> None:
    n = DENSE + 1
    A = sm.Dense(torch.ones(n, 1)) @ sm.Dense(torch.ones(1, n)) + sm.cyclic_shift(n)
    with pytest.warns(DenseWarning, match=r"slogdet: the structure of .* does not give it.*2049"):
        sm.slogdet(A @ sm.Toeplitz(torch.arange(n).eq(0).float()))


# iterations and errors --------------------------------------------------------------------------


def test_extreme_eigenvalues() -> None:
    n = 60
    D = sm.Diagonal(torch.arange(1.0, n + 1, dtype=torch.float64))
    F = sm.DCT(n, 2, "ortho", torch.float64)
    A = F.T @ D @ F
    want = torch.tensor([57.0, 58, 59, 60], dtype=torch.float64)
    found = sm.eigvalsh(A, 4, return_method=True)
    assert torch.allclose(found.value, want)
    assert "Lanczos" in found.method
    assert torch.allclose(sm.eigvals(A, 4).real.sort().values, want)
    assert torch.allclose(sm.eigvalsh(A, 2, which="SA"), want.new_tensor([1.0, 2.0]))


def test_half_precision_is_computed_in_single() -> None:
    found = sm.slogdet(sm.Diagonal(torch.full((300,), 2.0, dtype=torch.bfloat16)))
    assert found.logabsdet.dtype == torch.float32
    assert float(found.logabsdet) == pytest.approx(300 * math.log(2))


def test_a_class_of_ones_own_joins_the_rule() -> None:
    class Half(sm.Diagonal):
        """A diagonal whose determinant is known to be 1."""

    @slogdet_of.register(Half)
    def _(op: Half, to: Tensor) -> Answer[sm.linalg.SignLog]:
        return Answer(sm.linalg.SignLog(to.new_ones(()), to.new_zeros(())), "by its owner")

    found = sm.slogdet(sm.kron(Half(r(3)), sm.Identity(2)), return_method=True)
    assert "by its owner" in found.method


WIDE = sm.Zero(2, 3)


@pytest.mark.parametrize("function", [sm.trace, sm.slogdet, sm.logdet, sm.det, sm.eigvals])
def test_rectangular_operators_are_refused(function: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"Zero\(2x3\) is 2 x 3, needs a square operator.*svdvals"):
        function(WIDE)


@pytest.mark.parametrize("function", [sm.trace, sm.slogdet, sm.det, sm.eigvalsh, sm.diagonal])
def test_tensors_are_refused(function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"Tensor is not an operator; wrap it: sm.Dense\(W\)"):
        function(torch.eye(2))


def test_errors_say_the_way_out() -> None:
    A = sm.Dense(r(2, 4, 4))
    with pytest.raises(ValueError, match="offsets from -4 to 4 exist"):
        sm.diagonal(A, 5)
    with pytest.raises(ValueError, match="none of 'exact'"):
        sm.trace(A, method="guess")
    with pytest.raises(ValueError, match="take at least 2"):
        sm.trace(A, method="hutchinson", samples=1)
    B = sm.Dense(r(4, 4))
    with pytest.raises(ValueError, match="not between 1 and 4"):
        sm.eigvals(B, 5)
    with pytest.raises(ValueError, match="too many for an iteration"):
        sm.eigvals(B, 4)
    with pytest.raises(ValueError, match="none of LM, SM"):
        sm.eigvals(B, 1, which="XX")
