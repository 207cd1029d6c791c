"""Exponentials and their action against torch.linalg.matrix_exp; condition numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import expm_multiply as scipy_expm_multiply
from test_spectra import LEAVES, MAKERS, SQUARES, eps, gradient_matches, r, safe, same, size, z
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import structmat as sm
from structmat.linalg import Answer
from structmat.linalg.action import plan, radius

square = pytest.mark.parametrize(
    "A",
    [A for A in LEAVES.values() if A.shape[0] == A.shape[1]],
    ids=[k for k, A in LEAVES.items() if A.shape[0] == A.shape[1]],
)


def check_action(A: sm.LinearOperator, t: complex) -> None:
    dense = A.to_dense()
    n = A.shape[0]
    grown = math.exp(abs(t) * size(dense))
    if grown > 1e12:
        t, grown = 1 / size(dense), math.e
    want = torch.from_numpy(scipy.linalg.expm((dense * t).numpy())) if n else dense * t
    for x in (torch.ones(n, dtype=want.dtype), torch.eye(n, dtype=want.dtype)[:, : n // 2 + 1]):
        same(sm.expm_multiply(A, x, t), want @ x, eps(dense) * grown)


@square
def test_action(A: sm.LinearOperator) -> None:
    check_action(A, 0.1)


@given(SQUARES)
@settings(max_examples=40, deadline=None)
def test_action_of_random_trees(A: sm.LinearOperator) -> None:
    check_action(A, 0.05)
    check_action(A, -0.05j)


CLOSED: dict[str, sm.LinearOperator] = {
    "identity": sm.Identity(3, torch.float64),
    "zero": sm.Zero(3),
    "diagonal": sm.Diagonal(z(2, 4)),
    "dense": sm.Dense(r(3, 3)),
    "blocks": sm.BlockDiagonal(r(2, 3, 2, 2)),
    "factor": sm.KroneckerSparse(r(2, 3, 3, 2)),
    "circulant": sm.Circulant(r(2, 5)),
    "skew": sm.Circulant(r(6), -1),
    "wrap": sm.Circulant(z(4), 0.5),
    "low_rank": sm.LowRank(r(6, 2), r(3, 2, 6)),
    "low_rank_0": sm.LowRank(r(3, 0), r(0, 3)),
    "transposed": sm.Dense(r(3, 3)).T,
    "scaled": sm.Scaled(r(2) + 0.5, sm.Circulant(r(4))),
    "scaled_twice": 2j * (0.5 * sm.Dense(r(3, 3))).T,
    "direct_sum": sm.direct_sum(sm.Dense(r(2, 2)), sm.Circulant(r(3))),
    "shifted": 2 * sm.Identity(5) + sm.Circulant(r(5)) * -1,
    "scaled_sum": 0.5 * (sm.LowRank(r(6, 1), r(1, 6)) - sm.Identity(6)),
    "hadamard": 0.5 * sm.Hadamard(4, dtype=torch.float64),
    "sines": sm.DST(5, 1, None, torch.float64) * 0.25,
    "lifted": 0.5 * sm.kron(sm.Identity(2), sm.Dense(r(3, 3)), sm.Identity(2)),
    "kron_sum": sm.Scaled(r(2) + 0.5, sm.kron_sum(sm.Dense(r(2, 2)), sm.Circulant(r(3)))),
    "simplified": sm.Diagonal(r(3)) @ sm.Diagonal(r(3)),
}


@pytest.mark.parametrize("A", CLOSED.values(), ids=CLOSED)
def test_exponential_by_structure(A: sm.LinearOperator) -> None:
    E, want = sm.expm(A), torch.linalg.matrix_exp(A.to_dense())
    assert E.shape == A.shape
    assert E.batch_shape == A.batch_shape
    assert torch.allclose(E.to_dense().to(want), want, rtol=1e-10, atol=1e-10)
    x = torch.ones(A.shape[0], dtype=want.dtype)
    found = sm.expm_multiply(A, x, return_method=True)
    assert isinstance(found, Answer)
    assert torch.allclose(found.value, want @ x)


def test_dense_exponentials_are_right_to_the_last_digits() -> None:
    w = safe(0, 5, 5)
    for norm in (1e-3, 1e-2, 3e-2, 0.1, 1.0):
        x = w * (norm / torch.linalg.matrix_norm(w, 1))
        want = torch.from_numpy(scipy.linalg.expm(x.numpy()))
        assert torch.allclose(sm.expm(sm.Dense(x)).to_dense(), want, rtol=0, atol=1e-14)


def test_operators_without_a_dtype_take_the_precision_of_x() -> None:
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for op in (sm.Identity(2), 1.5 * sm.Identity(2), sm.reversal(2), 0.5 * sm.Hadamard(2)):
        want = torch.linalg.matrix_exp(0.1 * op.to_dense().double()) @ x
        torch.testing.assert_close(sm.expm_multiply(op, x, 0.1), want, rtol=1e-14, atol=0)


def test_the_method_is_named() -> None:
    x = torch.ones(6, dtype=torch.float64)
    found = sm.expm_multiply(sm.Toeplitz(r(6)), x, return_method=True)
    assert "Taylor series" in found.method
    found = sm.expm_multiply(sm.Circulant(r(6)), x, return_method=True)
    assert found.method == "exponential by structure"


def test_against_scipy_on_a_heat_equation() -> None:
    n = 400
    c = torch.zeros(n, dtype=torch.float64)
    c[0], c[1] = -2.0, 1.0
    A = sm.Toeplitz(c)
    x = safe(5, n)
    want = scipy_expm_multiply(40.0 * A.to_dense().numpy(), x.numpy(), traceA=-80.0 * n)
    assert torch.allclose(sm.expm_multiply(A, x, 40.0), torch.from_numpy(want), atol=1e-12)


@pytest.mark.parametrize(
    ("degree", "theta"), [(5, 2.4e-3), (10, 1.4e-1), (20, 1.4), (35, 4.7), (55, 9.9)]
)
def test_radii_are_those_of_the_paper(degree: int, theta: float) -> None:
    """Al-Mohy and Higham 2011, table 3.1, double precision."""
    assert radius(degree, 2.0**-53) == pytest.approx(theta, rel=0.04)


@given(st.floats(0, 1e4))
@settings(max_examples=30, deadline=None)
def test_plans_stay_within_the_radius(size: float) -> None:
    steps, degree = plan(size, 2.0**-53)
    assert size / steps <= radius(degree, 2.0**-53) * (1 + 1e-12)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_gradients(make: Callable[[], sm.LinearOperator]) -> None:
    def theirs(d: Tensor) -> Tensor:
        out: Tensor = torch.linalg.matrix_exp(0.1 * d) @ torch.ones(d.shape[-1], dtype=d.dtype)
        return out

    def ours(A: sm.LinearOperator) -> Tensor:
        return sm.expm_multiply(A, torch.ones(A.shape[1], dtype=torch.float64), 0.1)

    gradient_matches(ours, theirs, make)


def test_gradient_of_the_time() -> None:
    A = sm.Toeplitz(safe(1, 4), safe(2, 4))
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: sm.expm_multiply(A, safe(3, 4), t), t)


# condition numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("A", LEAVES.values(), ids=LEAVES)
def test_condition_numbers(A: sm.LinearOperator) -> None:
    dense = A.to_dense()
    found = sm.cond(A)
    if not dense.numel():
        assert (found == 1).all()
        return
    values = torch.linalg.svdvals(dense)
    regular = values[..., -1] > eps(dense) * values[..., 0]
    want = torch.linalg.cond(dense)
    assert found.shape == want.shape
    assert torch.allclose(found[regular], want[regular], rtol=1e-6)
    assert (found[~regular] > 1 / eps(dense)).all()


def test_condition_numbers_by_structure() -> None:
    A = sm.kron(sm.Hadamard(2**15), sm.Diagonal(torch.tensor([1.0, 8.0])), sm.DCT(2**10, 4))
    found = sm.cond(A, return_method=True)
    assert float(found.value) == pytest.approx(8.0)
    assert "unitary" in found.method


def test_condition_numbers_of_large_matrices_are_estimated() -> None:
    n = 700
    A = sm.Diagonal(torch.linspace(1, 3, n, dtype=torch.float64)) + sm.LowRank(
        safe(1, n, 2), safe(2, 2, n)
    )
    found = sm.cond(A, return_method=True)
    assert "estimate by Lanczos" in found.method
    assert torch.allclose(found.value, torch.linalg.cond(A.to_dense()), rtol=1e-3)


def test_a_bound_replaces_the_norm() -> None:
    def f(c: Tensor) -> Tensor:
        A = sm.Toeplitz(c)
        return sm.expm_multiply(A, torch.ones(4, dtype=torch.float64), bound=10.0)

    c = safe(1, 3, 4)
    want = torch.stack([torch.linalg.matrix_exp(sm.Toeplitz(t).to_dense()).sum(-1) for t in c])
    assert torch.allclose(torch.vmap(f)(c), want)
    # without a bound the largest norm of all is looked at
    ones = torch.ones(4, dtype=torch.float64)
    assert torch.allclose(torch.vmap(lambda t: sm.expm_multiply(sm.Toeplitz(t), ones))(c), want)
    with pytest.raises(ValueError, match="bound="):
        make_fx(lambda t: sm.expm_multiply(sm.Toeplitz(t), ones))(c[0])


@pytest.mark.gpu
@pytest.mark.parametrize("A", LEAVES.values(), ids=LEAVES)
def test_everything_on_a_gpu(A: sm.LinearOperator) -> None:
    if next(iter(A.parameters()), None) is None:
        pytest.skip("no tensors that could be elsewhere")
    functions: list[Callable[[sm.LinearOperator], Tensor]] = [
        sm.diagonal,
        sm.svdvals,
        *(partial(sm.norm, ord=ord) for ord in ("fro", 1, math.inf, 2)),
        lambda A: 1 / sm.cond(A),
    ]
    if A.shape[0] == A.shape[1]:
        functions += [
            sm.trace,
            sm.det,
            lambda A: (sm.eigvals(A) ** 2).sum(-1),
            lambda A: sm.expm_multiply(A, torch.ones(A.shape[1]).to(A.to_dense()), 0.1),
        ]
    moved = A.to("cuda")
    for f in functions:
        found = f(moved)
        assert found.is_cuda
        assert torch.allclose(found.cpu(), f(A), rtol=1e-7, atol=1e-7, equal_nan=True)


# errors -----------------------------------------------------------------------------------------


def test_errors_say_the_way_out() -> None:
    A: Any = sm.Toeplitz(r(4))
    x = torch.ones(4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"expm_multiply\(A, x\), or take the dense matrix"):
        sm.expm(A)
    with pytest.raises(ValueError, match="needs a square operator"):
        sm.expm(sm.Zero(2, 3))
    with pytest.raises(ValueError, match="needs dimension -1 of x to be 4"):
        sm.expm_multiply(A, torch.ones(3))
    with pytest.raises(TypeError, match="operators are floating point"):
        sm.expm_multiply(A, torch.ones(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="call it for each"):
        sm.expm_multiply(A, x, torch.ones(2))
    with pytest.raises(ValueError, match="no finite number"):
        sm.expm_multiply(A, x, math.inf)
    with pytest.raises(ValueError, match="entries that are no finite numbers"):
        sm.expm_multiply(sm.Toeplitz(x / 0), x)
    functions: list[Any] = [sm.cond, sm.expm]
    for function in functions:
        with pytest.raises(TypeError, match=r"wrap it: sm.Dense\(W\)"):
            function(torch.eye(2))
