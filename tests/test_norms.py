"""Singular values and norms by structure against torch.linalg on the matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from test_spectra import LEAVES, MAKERS, eps, gradient_matches, r, same, size

import structmat as sm
from structmat.linalg import Answer
from structmat.testing import operators

ORDERS: tuple[str | float, ...] = ("fro", 1, math.inf, 2)
each = pytest.mark.parametrize("A", LEAVES.values(), ids=LEAVES)


def check_norms(A: sm.LinearOperator) -> None:
    dense = A.to_dense()
    for ord in ORDERS:
        if dense.numel():
            want = torch.linalg.matrix_norm(dense, ord)
        else:
            want = dense.sum((-2, -1)).abs()
        # A product that cancels keeps half of the digits in its Gram form.
        tolerance = eps(dense) ** (0.5 if ord == "fro" else 1) * size(dense)
        same(sm.norm(A, ord), want, tolerance)


def check_singular_values(A: sm.LinearOperator) -> None:
    dense = A.to_dense()
    same(sm.svdvals(A), torch.linalg.svdvals(dense), eps(dense) * size(dense))


@each
def test_norms(A: sm.LinearOperator) -> None:
    check_norms(A)


@each
def test_singular_values(A: sm.LinearOperator) -> None:
    check_singular_values(A)


@given(operators(max_side=8, transforms=True))
@settings(max_examples=60, deadline=None)
def test_random_trees(A: sm.LinearOperator) -> None:
    check_norms(A)
    check_singular_values(A)


@pytest.mark.slow
@given(operators(max_side=12, transforms=True))
@settings(max_examples=500, deadline=None)
def test_many_random_trees(A: sm.LinearOperator) -> None:
    check_norms(A)
    check_singular_values(A)


METHODS: list[tuple[Any, str | float, str]] = [
    (LEAVES["kron"], "fro", "product of norms"),
    (LEAVES["monarch"], "fro", "single products"),
    (LEAVES["butterfly"], "fro", "single products"),
    (LEAVES["butterfly_decreasing"], 1, "single products"),
    (LEAVES["product_thin"], "fro", "Gram matrices"),
    (LEAVES["dft_5_backward"], "fro", "unitary"),
    (LEAVES["toeplitz"], "fro", "weighted diagonals"),
    (LEAVES["sum"], "fro", "by columns"),
    (LEAVES["toeplitz"], 1, "running sums"),
    (LEAVES["sum"], math.inf, "by columns"),
    (LEAVES["unitary_ends"], 2, "unitary factors peeled off (diagonal)"),
    (LEAVES["circulant"], 2, "normal"),
    (LEAVES["butterfly"], 2, "dense SVD"),
    (sm.kron_sum(sm.Circulant(r(3)), sm.Diagonal(r(2))), 2, "normal"),
    (LEAVES["shifted_circulant"], 2, "normal"),
    (LEAVES["convolution_image_same"], 1, "moduli by FFT"),
    (LEAVES["convolution_full"], "fro", "weighted diagonals"),
]


@pytest.mark.parametrize(("A", "ord", "method"), METHODS)
def test_the_method_is_named(A: sm.LinearOperator, ord: str | float, method: str) -> None:
    found = sm.norm(A, ord, return_method=True)
    assert isinstance(found, Answer)
    assert method in found.method


def test_the_spectral_norm_of_a_large_matrix_is_iterated() -> None:
    n = 600
    gen = torch.Generator().manual_seed(0)
    c = torch.randn(n, generator=gen, dtype=torch.float64)
    A = sm.Circulant(c) + sm.Diagonal(torch.randn(n, generator=gen, dtype=torch.float64))
    found = sm.norm(A, 2, return_method=True)
    assert "Lanczos" in found.method
    assert torch.allclose(found.value, torch.linalg.matrix_norm(A.to_dense(), 2))
    largest = sm.svdvals(A, 3)
    assert torch.allclose(largest, torch.linalg.svdvals(A.to_dense())[:3])


@pytest.mark.parametrize("ord", ["fro", 1, math.inf])
def test_norms_of_nan_are_nan(ord: str | float) -> None:
    for A in (LEAVES["monarch"], LEAVES["low_rank"], LEAVES["toeplitz"]):
        bad = A._map(lambda t: t * math.nan, None)
        assert sm.norm(bad, ord).isnan().all()


def test_large_norms_need_no_matrix() -> None:
    n = 2**20
    A = sm.kron(sm.Hadamard(n), sm.Diagonal(torch.full((n,), 2.0)))
    assert float(sm.norm(A, 2)) == pytest.approx(2.0**11)
    assert float(sm.norm(A)) == pytest.approx(2.0**31)
    assert float(sm.norm(A, 1)) == pytest.approx(2.0**21)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_gradients(make: Callable[[], sm.LinearOperator]) -> None:
    for ord in ORDERS:
        gradient_matches(
            lambda A, ord=ord: sm.norm(A, ord),  # type: ignore[misc]
            lambda d, ord=ord: torch.linalg.matrix_norm(d, ord),  # type: ignore[misc]
            make,
        )
    gradient_matches(lambda A: sm.svdvals(A) ** 3, lambda d: torch.linalg.svdvals(d) ** 3, make)


def test_errors_say_the_way_out() -> None:
    A = sm.Dense(r(3, 3))
    with pytest.raises(ValueError, match=r"ord 'nuc' is none of 'fro', 1, inf, 2.*sm.svdvals"):
        sm.norm(A, "nuc")
    with pytest.raises(TypeError, match=r"wrap it: sm.Dense\(W\)"):
        sm.norm(torch.eye(2))  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="too many for an iteration"):
        sm.svdvals(A, 3)
