"""Determinants that no formula gives: recursions, eliminations, sparse factors; their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from systems import KINDS, W, grid, heavy, hollow, maker
from torch import Tensor

import structmat as sm
from structmat.linalg.determinant_implicit import Route, determinant
from structmat.linalg.displacement_determinant import ELIMINATION, LEVINSON
from structmat.linalg.factorised import superlu
from structmat.linalg.selected_inverse import inverse_entries
from structmat.linalg.sparse_determinant import ROUTE

Make = Callable[..., Tensor]


def given(r: Make, n: int, f: int, rank: int = 3) -> sm.LinearOperator:
    return sm.LowDisplacementRank(r(n, rank), r(rank, n), f)


def sparse(r: Make, n: int, seed: int = 0) -> sm.LinearOperator:
    """Without a structure in the pattern, and with rows that must be exchanged."""
    rng = np.random.default_rng(seed)
    pattern = scipy.sparse.random_array((n, n), density=min(1, 3 / n), rng=rng)
    moved = scipy.sparse.eye_array(n).tocsr()[rng.permutation(n)]
    rows, columns = (pattern + 2 * moved).tocsr().nonzero()
    return sm.Sparse((r(len(rows)), (rows, columns)), (n, n))


def toeplitz(n: int) -> Callable[[Make], sm.LinearOperator]:
    return lambda r: sm.Toeplitz(heavy(r, n), r(n))


ROUTES: dict[str, tuple[Callable[[Make], sm.LinearOperator], Route]] = {
    **{f"toeplitz {n} by levinson": (toeplitz(n), LEVINSON) for n in (1, 2, 3, 6, 7)},
    **{f"toeplitz {n} by elimination": (toeplitz(n), ELIMINATION) for n in (1, 2, 3, 6, 7)},
    "toeplitz hermitian": (lambda r: sm.Toeplitz(heavy(r, 6)), LEVINSON),
    "toeplitz hermitian by elimination": (lambda r: sm.Toeplitz(heavy(r, 5)), ELIMINATION),
    "toeplitz hollow": (lambda r: sm.Toeplitz(hollow(r, 6), hollow(r, 6)), ELIMINATION),
    "toeplitz batch": (lambda r: sm.Toeplitz(r(3, 4) + 4 * torch.eye(4)[0], r(4)), LEVINSON),
    "toeplitz batch by elimination": (lambda r: sm.Toeplitz(r(4), r(2, 1, 4)), ELIMINATION),
    **{
        f"displacement {n} f={f}": (partial(given, n=n, f=f), ELIMINATION)
        for n in (1, 2, 3, 4, 7)
        for f in (1, -1)
    },
    "displacement batch": (
        lambda r: sm.LowDisplacementRank(r(2, 5, 2), r(3, 1, 2, 5), -1),
        ELIMINATION,
    ),
    "sparse grid": (lambda r: grid(r, 12), ROUTE),
    **{f"sparse {n}": (partial(sparse, n=n, seed=n), ROUTE) for n in (1, 2, 9, 40)},
    "sparse batch": (
        lambda r: sm.Sparse((r(2, 3, 5), ([0, 1, 1, 3, 2], [2, 0, 1, 3, 1])), (4, 4)),
        ROUTE,
    ),
}
every = pytest.mark.parametrize("name", ROUTES)


def tensors(op: sm.LinearOperator) -> list[Tensor]:
    return [t.detach().clone().requires_grad_() for t in op.parameters()]


def with_tensors(op: sm.LinearOperator, new: tuple[Tensor, ...]) -> sm.LinearOperator:
    table = {id(t): n for t, n in zip(op.parameters(), new, strict=True)}
    return op._map(lambda t: table[id(t)], None)


@every
@pytest.mark.parametrize("kind", KINDS)
def test_values(name: str, kind: str) -> None:
    make, route = ROUTES[name]
    op = make(maker(kind, 2))
    op = op.to(op.dtype)
    sign, size = determinant(op, route)
    want = torch.linalg.slogdet(op.to_dense())
    assert (sign.dtype, size.dtype) == (want.sign.dtype, want.logabsdet.dtype)
    tolerance = 1e4 * torch.finfo(size.dtype).eps
    torch.testing.assert_close(sign, want.sign, rtol=0, atol=tolerance)
    torch.testing.assert_close(size, want.logabsdet, rtol=tolerance, atol=tolerance)


@every
@pytest.mark.parametrize("kind", ["real64", "complex128"])
def test_gradients(name: str, kind: str) -> None:
    """Of the modulus and of the phase, to the second order, in reverse and in forward mode."""
    make, route = ROUTES[name]
    op = make(maker(kind, 2))
    at = tensors(op)

    def both(*new: Tensor) -> tuple[Tensor, ...]:
        sign, size = determinant(with_tensors(op, new), route)
        return (size, torch.view_as_real(sign)) if sign.is_complex() else (size,)

    def dense(*new: Tensor) -> tuple[Tensor, ...]:
        sign, size = torch.linalg.slogdet(with_tensors(op, new).to_dense())
        return (size, torch.view_as_real(sign)) if sign.is_complex() else (size,)

    def total(f: Callable[..., tuple[Tensor, ...]]) -> Tensor:
        return torch.stack([(t * (i + 1.5)).sum() for i, t in enumerate(f(*at))]).sum()

    got = torch.autograd.grad(total(both), at)
    want = torch.autograd.grad(total(dense), at)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * float(b.abs().max()))
    assert torch.autograd.gradgradcheck(both, at, fast_mode=True, atol=1e-4, rtol=1e-3)
    moves = tuple(maker(kind, 9)(*t.shape) for t in at)
    plain = tuple(t.detach() for t in at)
    forward: Any = torch.func.jvp(both, plain, moves)
    wanted: Any = torch.func.jvp(dense, plain, moves)
    for a, b in zip(forward[1], wanted[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("n", [1, 4, 9])
def test_vmap(n: int) -> None:
    """Elimination looks at no number."""
    r = maker("real64", 4)
    c, row = r(3, n), r(3, n)
    got = torch.vmap(lambda c, r: determinant(sm.Toeplitz(c, r), ELIMINATION))(c, row)
    want = torch.linalg.slogdet(sm.Toeplitz(c, row).to_dense())
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)
    pulled = torch.vmap(torch.func.grad(lambda c: determinant(sm.Toeplitz(c), ELIMINATION)[1]))(c)
    for a, one in zip(pulled, c, strict=True):
        inverse = torch.linalg.inv(sm.Toeplitz(one).to_dense())
        at = [inverse.diagonal(k).sum() * (1 if k == 0 else 2) for k in range(n)]
        torch.testing.assert_close(a, torch.stack(at))


# by name and by size ----------------------------------------------------------------------------


def found(op: sm.LinearOperator, method: str) -> None:
    """The public function, in values and gradients, against the dense matrix."""
    at = tensors(op)
    new = with_tensors(op, tuple(at))
    answer = sm.slogdet(new, return_method=True)
    assert answer.method == method
    dense = torch.linalg.slogdet(new.to_dense())
    tolerance = 1e-11 if op.dtype in (torch.float64, torch.complex128) else 1e-4
    torch.testing.assert_close(answer.value.sign, dense.sign, rtol=0, atol=tolerance)
    torch.testing.assert_close(answer.value.logabsdet, dense.logabsdet, rtol=tolerance, atol=1e-8)
    got = torch.autograd.grad(answer.value.logabsdet.sum(), at)
    want = torch.autograd.grad(dense.logabsdet.sum(), at)
    for a, b in zip(got, want, strict=True):
        error = float((a - b).norm() / b.norm())
        assert error < 1e4 * torch.finfo(a.dtype).eps, (error, op)


def test_the_method_follows_the_size() -> None:
    r = maker("real64", 6)
    found(sm.Toeplitz(heavy(r, 5), heavy(r, 5)), "dense LU")
    found(sm.Toeplitz(heavy(r, 800), heavy(r, 800)), "Levinson")
    found(sm.Hankel(heavy(r, 801).flip(-1), heavy(r, 801)), "Levinson")
    found(sm.Convolution(heavy(r, 5).roll(2), 803, "same"), "Toeplitz (Levinson)")
    many = maker("real64", 7, (200,))
    found(sm.Toeplitz(many(100) / 100 + 2 * torch.eye(100)[0], many(100) / 100), "Levinson")
    found(sm.Toeplitz(heavy(maker("real32"), 800)), "Levinson")
    found(2 * sm.Toeplitz(heavy(maker("complex128"), 700)), "scaled (Levinson)")
    found(grid(r, 30), "sparse LU")
    found(sm.BlockSparse(r(3, 2, 2), [[True, True], [False, True]]), "sparse LU")
    both = sm.Toeplitz(heavy(r, 700)) @ sm.kron(grid(r, 35), sm.Diagonal(heavy(r, 20) + 2))
    found(
        both,
        "product of determinants (Levinson; powers of the factors' determinants "
        "(sparse LU; diagonal))",
    )


def test_large_matrices_are_never_dense() -> None:
    """Warnings are errors: a matrix of more than 2048 rows would warn that it becomes dense."""
    n = 2100
    r = maker("real64", 8)
    c, row = heavy(r, n), heavy(r, n)
    op = sm.Toeplitz(c, row)
    first = sm.slogdet(op, return_method=True)
    assert first.method == "Levinson"
    given_ = sm.LowDisplacementRank.from_toeplitz(op)
    second = sm.slogdet(given_, return_method=True)
    assert second.method == "elimination of generators"
    for a, b in zip(first.value, second.value, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
    hollow_ = sm.Toeplitz(hollow(r, n), hollow(r, n))
    third = sm.slogdet(hollow_, return_method=True)
    assert third.method == "elimination of generators"
    want = torch.linalg.slogdet(hollow_.to_dense())
    for a, b in zip(third.value, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


def test_logarithms_do_not_overflow() -> None:
    n = 1000
    angle = torch.arange(n, dtype=W) * (2 * math.pi / n)
    roots = sm.Vandermonde(torch.polar(torch.ones_like(angle), angle))
    assert float(sm.slogdet(roots).logabsdet) == pytest.approx(n / 2 * math.log(n), rel=1e-12)
    n, i = 200, torch.arange(200, dtype=W)
    hilbert = sm.slogdet(sm.Cauchy(i, -i - 1))  # (prod k!)^4 / prod k!, k < n and k < 2 n
    logs = torch.lgamma(torch.arange(1, 2 * n + 1, dtype=W))
    assert hilbert.sign == 1
    want = float(4 * logs[:n].sum() - logs.sum())
    assert float(hilbert.logabsdet) == pytest.approx(want, rel=1e-12)
    r = maker("real64", 5)
    t, s = sm.Toeplitz(1e90 * heavy(r, 700), 1e90 * heavy(r, 700)), grid(r, 700)
    both = sm.Product(*[t, s, sm.Hankel(1e-200 * heavy(r, 700).flip(-1))] * 20)
    dense = sum(torch.linalg.slogdet(c.to_dense()).logabsdet for c in both.children[:3])
    found_ = sm.slogdet(both, return_method=True)
    assert float(found_.value.logabsdet) == pytest.approx(20 * float(dense), rel=1e-10)
    assert "dense" not in found_.method


# what goes wrong --------------------------------------------------------------------------------


def test_singular_matrices_have_determinant_zero() -> None:
    ones = torch.ones(5, dtype=W)
    cases = [
        sm.Toeplitz(ones, ones),
        sm.Toeplitz(0 * ones, 0 * ones),
        sm.Hankel(ones, ones),
        sm.LowDisplacementRank(ones[:, None][:, :0], ones[None][:0]),
        sm.Sparse((ones[:2], ([0, 1], [0, 0])), (2, 2)),
        sm.Sparse((ones[:1], ([0], [0])), (2, 2)),
        sm.Sparse((ones[:0], ([], [])), (2, 2)),
        sm.BlockSparse(torch.ones(2, 2, 2, dtype=W), [[True, False], [False, True]]),
    ]
    for op in cases:
        for one in (op, op.to(torch.complex128)):
            value = sm.slogdet(one)
            assert value.sign == 0
            assert value.logabsdet == -math.inf
            assert sm.det(one) == 0
    large = sm.slogdet(sm.LowDisplacementRank(torch.ones(2100, 1), torch.zeros(1, 2100)))
    assert (float(large.sign), float(large.logabsdet)) == (0, -math.inf)
    half = sm.Sparse((torch.stack([ones[:3], ones[:3] * 0]), ([0, 1, 0], [0, 1, 1])), (2, 2))
    assert sm.slogdet(half).logabsdet.tolist() == [0, -math.inf]


def test_lost_digits_go_to_another_method_or_warn() -> None:
    r = maker("real64")
    almost = sm.Toeplitz(hollow(r, 6) + 1e-9 * torch.eye(6, dtype=W)[0], hollow(r, 6))
    with pytest.raises(sm.linalg.SingularError, match="leading minor is almost singular"):
        determinant(almost, LEVINSON)
    want = torch.linalg.slogdet(almost.to_dense())
    torch.testing.assert_close(determinant(almost, ELIMINATION)[1], want.logabsdet)
    k = torch.arange(700, dtype=W)
    prolate = sm.Toeplitz(torch.sinc(k / 2) / 2)  # half of its eigenvalues are almost zero
    assert sm.slogdet(prolate, return_method=True).method == "dense LU"
    with pytest.raises(sm.linalg.SingularError, match="lost in rounding"):
        determinant(prolate, ELIMINATION)
    k = torch.arange(2060, dtype=W)
    with pytest.warns(sm.linalg.IllConditionedWarning, match="slogdet: Toeplitz.*elimination"):
        sm.slogdet(sm.Toeplitz(torch.sinc(k / 2) / 2))


def test_definite_matrices_keep_to_levinson() -> None:
    """Levinson loses no more than the condition costs: a covariance of condition 1e9."""
    k = torch.arange(700, dtype=W)
    op = sm.Toeplitz(torch.exp(-((k / 6) ** 2)) + 1e-8 * (k == 0))
    answer = sm.slogdet(op, return_method=True)
    assert answer.method == "Levinson"
    values = torch.linalg.eigvalsh(op.to_dense())
    assert float(values[-1] / values[0]) > 1e8
    factor = torch.linalg.cholesky(op.to_dense())
    want = 2 * factor.diagonal().log().sum()
    assert float((answer.value.logabsdet - want).abs() / want.abs()) < 1e-8
    assert answer.value.sign == 1


def test_numbers_that_are_not_finite() -> None:
    bad = torch.tensor([1.0, math.nan], dtype=W)
    assert sm.slogdet(sm.Toeplitz(bad)).logabsdet.isnan()
    with pytest.raises(ValueError, match=r"slogdet: Sparse.* holds NaN or infinity"):
        sm.slogdet(sm.Sparse((bad, ([0, 1], [0, 1])), (2, 2)))


# entries of the inverse -------------------------------------------------------------------------


def test_selected_entries_of_the_inverse() -> None:
    """Also where entries cancel exactly, or are stored zeros, so that the factors have holes."""
    rng = np.random.default_rng(1)
    holes = 0
    for n in (1, 2, 5, 12, 30):
        for trial in range(20):
            a = scipy.sparse.random_array((n, n), density=min(1, 2.5 / n), rng=rng).tocsr()
            a = (a + scipy.sparse.eye_array(n).tocsr()[rng.permutation(n)]).tocsr()
            a.data[:] = rng.integers(-1, 2, a.nnz) if trial % 2 else rng.standard_normal(a.nnz)
            op = sm.Sparse(
                (torch.from_numpy(a.data), a.nonzero() if a.data.all() else _places(a)), (n, n)
            )
            dense = op.to_dense().numpy()
            if np.linalg.matrix_rank(dense) < n or np.linalg.cond(dense) > 1e8:
                continue
            rows, columns = op.pattern.rows.array(), op.pattern.indices.array()
            got = inverse_entries(superlu(op, op.values), rows, columns)
            np.testing.assert_allclose(got, np.linalg.inv(dense)[columns, rows], atol=1e-7)
            holes += trial % 2
    assert holes > 10


def _places(a: Any) -> tuple[Any, Any]:
    """Rows and columns of what is stored, zeros too."""
    return np.repeat(np.arange(a.shape[0]), np.diff(a.indptr)), a.indices


def test_the_gradient_on_a_grid_needs_no_whole_inverse() -> None:
    """1600 unknowns: entries beside the diagonal against columns of the inverse."""
    m = 40
    line = scipy.sparse.diags_array(
        [-np.ones(m - 1), 2.1 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1]
    )
    eye = scipy.sparse.eye_array(m)
    op = sm.Sparse((scipy.sparse.kron(line, eye) + scipy.sparse.kron(eye, line)).tocsr())
    values = op.values.requires_grad_()
    op = sm.Sparse((values, op.pattern))
    (gradient,) = torch.autograd.grad(sm.slogdet(op).logabsdet, values)
    rows, columns = op.pattern.rows.array(), op.pattern.indices.array()
    inverse = torch.linalg.inv(op.to_dense().detach())
    torch.testing.assert_close(gradient.numpy(), inverse.numpy()[columns, rows])
