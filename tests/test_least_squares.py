"""Least squares and the pseudoinverse, by structure, of dense matrices, and iterative."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from systems import KINDS, Make, W, maker, regular
from torch import Tensor

import structmat as sm

RECTANGULAR: dict[str, tuple[Callable[[Make], sm.LinearOperator], str]] = {
    "tall": (lambda r: sm.Dense(r(7, 4)), "dense svd"),
    "wide": (lambda r: sm.Dense(r(4, 7)), "dense svd"),
    "deficient": (lambda r: sm.Dense(r(6, 2) @ r(2, 4)), "dense svd"),
    "low rank": (lambda r: sm.LowRank(r(7, 2), r(2, 5)), "pseudoinverse"),
    "blocks": (lambda r: sm.BlockDiagonal(r(3, 4, 2)), "pseudoinverse"),
    "factor": (lambda r: sm.KroneckerSparse(r(2, 3, 2, 3)), "pseudoinverse"),
    "kronecker": (lambda r: sm.kron(sm.Dense(r(3, 2)), sm.Diagonal(r(2))), "pseudoinverse"),
    "direct sum": (lambda r: sm.direct_sum(sm.Dense(r(3, 2)), sm.Zero(1)), "pseudoinverse"),
    "transposed": (lambda r: 2 * sm.LowRank(r(7, 2), r(2, 5)).T, "pseudoinverse"),
    "unitary outside": (
        lambda r: sm.DCT(6, norm="ortho") @ sm.Dense(r(6, 4)) @ sm.cyclic_shift(4),
        "pseudoinverse",
    ),
    "toeplitz": (lambda r: sm.Toeplitz(r(7), r(4)), "dense svd"),
}


@pytest.mark.parametrize("name", RECTANGULAR)
@pytest.mark.parametrize("kind", KINDS)
def test_least_squares(name: str, kind: str) -> None:
    make, method = RECTANGULAR[name]
    op = make(maker(kind))
    b = maker(kind, 1)(op.shape[0], 2)
    want = torch.linalg.pinv(op.to_dense()) @ b
    tol = 1e5 * torch.finfo(b.dtype).eps
    solution = sm.solve(op, b)
    assert solution.method == method
    torch.testing.assert_close(solution.x, want, rtol=tol, atol=tol)
    torch.testing.assert_close(sm.pinv(op) @ b, want, rtol=tol, atol=tol)
    for iterative in ("lsmr", "cgls") if kind != "real32" else ():
        x = sm.solve(op, b, method=iterative).x
        torch.testing.assert_close(x, want, rtol=1e-6, atol=1e-6)


def test_pseudoinverse_of_square_operators() -> None:
    r = maker("real64")
    d = sm.Diagonal(torch.tensor([2.0, 0.0, 4.0], dtype=W))
    assert sm.pinv(d).to_dense().diagonal().tolist() == [0.5, 0, 0.25]
    c = sm.Circulant(torch.tensor([1.0, 1, 1, 1], dtype=W))
    torch.testing.assert_close(sm.pinv(c).to_dense(), torch.linalg.pinv(c.to_dense()))
    for op in (
        sm.reversal(4),
        sm.Hadamard(4),
        sm.Zero(3),
        0 * sm.Identity(3),
        sm.Inverse(sm.Dense(r(3, 3))),
    ):
        dense = op.to_dense()
        torch.testing.assert_close(sm.pinv(op).to_dense(), torch.linalg.pinv(dense))


def test_zero_times_a_batch_has_a_batch_of_pseudoinverses() -> None:
    op = 0 * sm.Dense(torch.ones(2, 3, 4))
    assert torch.equal(sm.pinv(op).to_dense(), torch.zeros(2, 4, 3))
    assert torch.equal(sm.solve(op, torch.ones(3)).x, torch.zeros(2, 4))


def test_pseudoinverses_of_parts_without_a_dtype_have_that_of_the_whole() -> None:
    rows = sm.Dense(torch.eye(4))[[0, 1, 1, 3]].children[0]
    assert rows.strong_dtype is None
    op = sm.Scaled(torch.tensor(2.0, dtype=W), rows)
    want = torch.linalg.pinv(op.to_dense())
    torch.testing.assert_close(sm.pinv(op).to_dense(), want, rtol=1e-14, atol=1e-14)


def test_single_precision_overflows_nothing() -> None:
    r = maker("real32")
    assert sm.solve(sm.Dense(regular(r, 8, 8)), r(8), "lsmr").residual < 1e-4


@pytest.mark.parametrize("method", ["dense", "lsmr", "cgls"])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
def test_gradients_of_least_squares(shape: tuple[int, int], method: str) -> None:
    r = maker("real64")
    w, b = r(*shape).requires_grad_(), r(shape[0], 2).requires_grad_()

    def apply(w: Tensor, b: Tensor) -> Tensor:
        return sm.solve(sm.Dense(w), b, method=method).x

    assert torch.autograd.gradcheck(apply, (w, b), atol=1e-4, fast_mode=True, check_forward_ad=True)

    # the same through torch.func, whose tensors hide their numbers from the outside
    change = r(*shape), r(shape[0], 2)
    at = w.detach(), b.detach()
    want = torch.func.jvp(lambda w, b: torch.linalg.pinv(w) @ b, at, change)[1]
    assert torch.allclose(torch.func.jvp(apply, at, change)[1], want, atol=1e-6)
    gradient = torch.func.grad(lambda w: apply(w, at[1]).square().sum())(at[0])
    other = torch.func.grad(lambda w: (torch.linalg.pinv(w) @ at[1]).square().sum())(at[0])
    assert torch.allclose(gradient, other, atol=1e-5)


def test_forward_mode_of_iterative_solves() -> None:
    r = maker("real64")
    w, b, change = regular(r, 6, 6), r(6), r(6, 6)
    w = w @ w.mT

    def solved(method: str) -> Tensor:
        def apply(w: Tensor) -> Tensor:
            return sm.solve(sm.Dense(w), b, method=method).x

        out: Tensor = torch.func.jvp(apply, (w,), (change,))[1]
        return out

    want = solved("dense")
    for method in ("cg", "gmres", "minres"):
        torch.testing.assert_close(solved(method), want, rtol=1e-5, atol=1e-5)
    with pytest.raises(RuntimeError, match=r"cg looks at numbers, which torch.vmap"):
        torch.vmap(lambda w: sm.solve(sm.Dense(w), b, method="cg").x)(torch.stack([w, w]))
