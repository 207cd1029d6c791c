"""Condition numbers in the 1-, inf- and Frobenius norm; those in the 2-norm are in test_expm.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_spectra import LEAVES, MAKERS, SQUARES, eps, gradient_matches, safe
from torch import Tensor

import structmat as sm

ORDERS: tuple[str | float, ...] = (1, math.inf, "fro")
orders = pytest.mark.parametrize("p", ORDERS)
SQUARE = {k: A for k, A in LEAVES.items() if A.shape[0] == A.shape[1]}


def check(A: sm.LinearOperator, p: str | float) -> None:
    dense = A.to_dense()
    found = sm.cond(A, p)
    if not dense.numel():
        assert (found == 1).all()
        return
    values = torch.linalg.svdvals(dense)
    regular = values[..., -1] > eps(dense) * values[..., 0]
    want = torch.linalg.cond(dense, p)
    assert found.shape == want.shape
    assert found.dtype == want.dtype
    # an inverse has an error of the condition times rounding, and 16 digits are there
    assert torch.allclose(found[regular], want[regular], rtol=1e-6)
    assert (found[~regular] > 1 / eps(dense)).all()


@orders
@pytest.mark.parametrize("A", SQUARE.values(), ids=SQUARE)
def test_condition_numbers(A: sm.LinearOperator, p: str | float) -> None:
    check(A, p)


@given(SQUARES, st.sampled_from(ORDERS))
@settings(max_examples=60, deadline=None)
def test_random_trees(A: sm.LinearOperator, p: str | float) -> None:
    check(A, p)


@orders
def test_products_with_a_singular_factor(p: str | float) -> None:
    singular = sm.Dense(torch.tensor([[1.0, -1.0], [1.0, -1.0]], dtype=torch.float64))
    regular = sm.Dense(torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64))
    for A in (singular @ regular, regular @ singular, singular @ singular):
        check(A, p)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small matrices are treated as large ones are."""
    monkeypatch.setattr(import_module("structmat.linalg.inverse_norm"), "SMALL", 0)


def woodbury(n: int, dtype: torch.dtype = torch.float64) -> sm.LinearOperator:
    u, v = safe(1, n, 2).to(dtype), safe(2, 2, n).to(dtype)
    if dtype.is_complex:
        u = u * (1 + 0.5j)
    return sm.Diagonal(torch.linspace(1, 3, n, dtype=dtype)) + sm.LowRank(u, v)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.float32])
def test_systems_give_large_condition_numbers(dtype: torch.dtype) -> None:
    A = woodbury(700, dtype)
    for p in ORDERS:
        found = sm.cond(A, p, return_method=True)
        want = torch.linalg.cond(A.to_dense(), p)
        assert found.value.dtype == want.dtype
        if p == "fro":
            assert "700 systems by woodbury (diagonal)" in found.method
            assert torch.allclose(found.value, want, rtol=1e-3)
        else:
            assert "lower bound: Hager-Higham estimate" in found.method
            assert want / 3 <= found.value <= want * (1 + 1e-3)


def test_estimates_are_lower_bounds_and_mostly_exact(large: None) -> None:
    exact = 0
    for seed in range(20):
        c = safe(seed, 24)
        A = sm.Toeplitz(c + torch.eye(24, dtype=c.dtype)[0] * 3, safe(seed + 99, 24))
        for p in (1, math.inf):
            found = sm.cond(A, p, return_method=True)
            assert "estimate" in found.method
            ratio = float(found.value / torch.linalg.cond(A.to_dense(), p))
            assert 1 / 3 < ratio < 1 + 1e-9
            exact += ratio > 1 - 1e-9
    assert exact > 20


def test_batches_and_transforms_of_estimates(large: None) -> None:
    u, v, d = safe(1, 3, 6, 1), safe(2, 3, 1, 6), torch.linspace(1, 4, 6, dtype=torch.float64)

    def make(u: Tensor, v: Tensor, d: Tensor) -> sm.LinearOperator:
        return sm.Diagonal(d) + sm.LowRank(u, v)

    batch = make(u, v, d)
    for p in (1, math.inf):
        found = sm.cond(batch, p, return_method=True)
        assert "estimate" in found.method
        one = [sm.cond(make(a, b, d), p) for a, b in zip(u, v, strict=True)]
        assert torch.equal(found.value, torch.stack(one))

        def f(u: Tensor, v: Tensor, d: Tensor, p: float = p) -> Tensor:
            return sm.cond(make(u, v, d), p)

        mapped = torch.vmap(f, in_dims=(0, 0, None))(u, v, d)
        assert torch.allclose(mapped, found.value)
        at = (u[0].requires_grad_(), v[0].requires_grad_(), d.clone().requires_grad_())
        assert torch.autograd.gradcheck(f, at, check_forward_ad=True, fast_mode=True)
        assert torch.autograd.gradgradcheck(f, at, fast_mode=True)


def dense_cond(d: Tensor, p: str | float) -> Tensor:
    """As torch.linalg.cond, whose backward pass fails in torch 2.13."""
    out: Tensor = torch.linalg.matrix_norm(d, p) * torch.linalg.matrix_norm(torch.linalg.inv(d), p)
    return out


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_gradients(make: Callable[[], sm.LinearOperator]) -> None:
    for p in ORDERS:
        gradient_matches(partial(sm.cond, p=p), partial(dense_cond, p=p), make)


def test_large_structured_ones_need_no_matrix() -> None:
    n = 2**15
    A = sm.kron(sm.Hadamard(n), sm.Diagonal(torch.tensor([1.0, -8.0])), sm.reversal(2**10))
    found = sm.cond(A, 1, return_method=True)
    assert float(found.value) == n * 8
    assert "product" in found.method
    assert float(sm.cond(A, "fro")) == pytest.approx(n * 65 / 8 * 2**10)
    c = torch.zeros(n, dtype=torch.float64)
    c[0], c[1] = 3, 1
    closed = sm.cond(sm.Circulant(c), math.inf, return_method=True)
    assert "closed form" in closed.method
    assert float(closed.value) == pytest.approx(2)


def test_estimates_repeat_and_leave_generators_alone(large: None) -> None:
    A = woodbury(40)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]
    first = sm.cond(A, 1)
    assert np.array_equal(np.random.get_state()[1], before[0])  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.equal(sm.cond(A, 1), first)


@orders
def test_singular_matrices(p: str | float, large: None) -> None:
    for A in (
        sm.Toeplitz(torch.ones(600, dtype=torch.float64)),
        sm.Circulant(torch.ones(8, dtype=torch.float64)),
        sm.Dense(torch.ones(3, 3)),
        sm.LowRank(torch.ones(700, 1), torch.ones(1, 700)),
        sm.Sparse((torch.ones(2), ([0, 1], [0, 0])), (700, 700)),
        0 * sm.Dense(torch.eye(3)),
        sm.Zero(4),
    ):
        assert float(sm.cond(A, p)) > 1e6


def test_torch_calls_it() -> None:
    A = woodbury(6)
    assert torch.allclose(torch.linalg.cond(A, 1), torch.linalg.cond(A.to_dense(), 1))


def test_errors_say_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"p = -2 is none of None, 2, 1, inf, 'fro'.*sm.svdvals"):
        sm.cond(sm.Identity(3), -2)
    with pytest.raises(ValueError, match=r"cond: Zero\(2x3\) is 2 x 3, needs a square operator"):
        sm.cond(sm.Zero(2, 3), 1)
