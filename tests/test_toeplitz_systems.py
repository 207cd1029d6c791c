"""Toeplitz and Hankel systems by each of their methods, alone and in batches, and their choice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from systems import KINDS, W, close, heavy, hollow, maker
from torch import Tensor

import structmat as sm
from structmat.leaves.displacement import toeplitz_generators
from structmat.linalg import levinson as module
from structmat.linalg.choose import choose
from structmat.linalg.gko import gko, gko_pivots
from structmat.linalg.levinson import recursion
from structmat.linalg.plan import alternatives

METHODS = ("levinson", "gohberg-semencul", "gko", "dense lu")

SHAPES: dict[str, Callable[..., sm.LinearOperator]] = {
    "general": lambda r: sm.Toeplitz(heavy(r, 9), heavy(r, 9)),
    "symmetric or hermitian": lambda r: sm.Toeplitz(heavy(r, 8)),
    "two": lambda r: sm.Toeplitz(heavy(r, 2), heavy(r, 2)),
    "real column, complex row": lambda r: sm.Toeplitz(heavy(r, 5).real, heavy(r, 5) * 1j),
    "hankel": lambda r: sm.Hankel(heavy(r, 7).flip(-1), heavy(r, 7)),
    "same": lambda r: sm.Convolution(heavy(r, 5).roll(2), 11, "same"),
    "same transposed": lambda r: sm.Convolution(heavy(r, 5).roll(2), 11, "same").T,
}
every = pytest.mark.parametrize("name", SHAPES)


def batch_of(name: str, many: int) -> sm.LinearOperator:
    members = [SHAPES[name](maker("complex128", seed)) for seed in range(many)]
    tables = [list(m.parameters()) for m in members]
    stacked = {id(t): torch.stack([table[i] for table in tables]) for i, t in enumerate(tables[0])}
    return members[0]._map(lambda t: stacked[id(t)], None)


@every
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_each_method(name: str, kind: str, method: str) -> None:
    op = SHAPES[name](maker(kind))
    for k in (1, 3):
        b = maker(kind, 1)(op.shape[0], k).to(op.dtype)
        solution = sm.solve(op, b, method=method)
        assert solution.method == method
        close(solution.x, op.to_dense(), b)


@every
@pytest.mark.parametrize("method", METHODS)
def test_batches(name: str, method: str) -> None:
    """Few matrices go to SciPy one by one, for many the recursion runs over the batch."""
    for many in (2, 200):
        op = batch_of(name, many)
        n = op.shape[0]
        for shape in [(n, 2), (many, n, 1), (3, many, n, 2)]:
            b = maker("complex128", 7)(*shape)
            solution = sm.solve(op, b, method=method)
            assert solution.method == method
            wide = b.expand(*torch.broadcast_shapes((many,), shape[:-2]), *shape[-2:])
            close(solution.x, op.to_dense().expand(*wide.shape[:-1], n), wide)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["real64", "complex128"])
@pytest.mark.parametrize("many", [(), (2,)])
def test_gradients(method: str, kind: str, many: tuple[int, ...]) -> None:
    r = maker(kind, 3, many)
    c, row, b = (t.requires_grad_() for t in (heavy(maker(kind), 5), r(5), r(5, 2)))

    def apply(c: Tensor, row: Tensor, b: Tensor) -> Tensor:
        x = sm.solve(sm.Toeplitz(c + 3 * torch.eye(5, dtype=c.dtype)[0], row), b, method=method).x
        return torch.view_as_real(x) if x.is_complex() else x

    assert torch.autograd.gradcheck(apply, (c, row, b), fast_mode=True)
    assert torch.autograd.gradgradcheck(apply, (c, row, b), fast_mode=True)


def test_a_diagonal_that_is_not_real() -> None:
    """Toeplitz(c) is then not Hermitian, and the ends of its inverse are no mirror images."""
    c = heavy(maker("complex128"), 8) + 1j
    b = maker("complex128", 1)(8, 2)
    for method in METHODS:
        close(sm.solve(sm.Toeplitz(c), b, method=method).x, sm.Toeplitz(c).to_dense(), b)


# minors that are singular -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["levinson", "gohberg-semencul"])
def test_singular_minors_fall_back(method: str) -> None:
    r = maker("real64")
    alone = sm.Toeplitz(hollow(r, 6), hollow(r, 6))
    last = sm.Toeplitz(torch.tensor([1.0, 1, 3], dtype=W), torch.tensor([1.0, 1, 2], dtype=W))
    assert abs(float(torch.linalg.det(last.to_dense()[:2, :2]))) < 1e-12  # x_0 = 0
    c = heavy(maker("real64", 2), 6)
    batch = sm.Toeplitz(
        torch.stack([c, hollow(r, 6), c]), torch.stack([c, hollow(r, 6), 2 * c])
    )  # one of three
    almost = sm.Toeplitz(hollow(r, 6) + 1e-13 * torch.eye(6, dtype=W)[0], hollow(r, 6))
    many = sm.Toeplitz(alone.c.expand(100, 6), alone.row.expand(100, 6))
    for op in (alone, last, batch, almost, many):
        b = maker("real64", 1)(op.shape[0], 2)
        solution = sm.solve(op, b, method=method)
        assert solution.method == "gko"
        dense = op.to_dense()
        close(solution.x, dense, b.expand(*dense.shape[:-2], *b.shape))


def test_singular_matrices_raise() -> None:
    for batch in ((), (3,)):
        ones = torch.ones(*batch, 5, dtype=W)
        for method in (None, *METHODS):
            with pytest.raises(sm.linalg.SingularError):
                sm.solve(sm.Toeplitz(ones, ones), torch.ones(5, dtype=W), method=method)


# the recursion and the elimination --------------------------------------------------------------


@pytest.mark.parametrize("small", [0, 1 << 40], ids=["torch", "numpy"])
@pytest.mark.parametrize("kind", ["real64", "complex128"])
def test_the_recursion(small: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictors, errors and solution against the definitions, for the two array libraries."""
    monkeypatch.setattr(module, "SMALL", small)
    for batch, n in (((), 1), ((), 2), ((), 7), ((2, 3), 6), ((0,), 4)):
        r = maker(kind, 5, batch)
        c, row, b = r(n) + 2 * torch.eye(n)[0], r(n), r(n, 3)
        found = recursion(c, row, b)
        dense = sm.Toeplitz(c, row).to_dense()
        assert found.forward.shape == found.backward.shape == found.errors.shape == (*batch, n)
        unit = torch.eye(n, dtype=c.dtype)
        last = found.errors[..., -1:]
        close_to = torch.testing.assert_close
        close_to((dense @ found.forward[..., None])[..., 0], last * unit[0])
        close_to((dense @ found.backward[..., None])[..., 0], last * unit[-1])
        minors = [torch.linalg.det(dense[..., :m, :m]) for m in range(1, n + 1)]
        close_to(found.errors.cumprod(-1), torch.stack(minors, -1))
        close_to(dense @ found.solution, b)
        assert recursion(c, row).solution.shape == (*batch, n, 0)
        close_to(recursion(c, row).forward, found.forward)


@pytest.mark.parametrize("kind", ["real64", "complex128"])
def test_the_elimination(kind: str) -> None:
    """One matrix in NumPy, a batch in torch: the same steps; the pivots are those of LU."""
    r = maker(kind, 2)
    s = torch.arange(6).to(r(1).dtype) + r(6) / 4
    t = s + 0.5
    G, H, b = r(6, 2), r(2, 6), r(6, 3)
    dense = (G @ H) / (s[:, None] - t)
    x = gko(G, H, s, t, b)
    close(x, dense, b)
    torch.testing.assert_close(gko(G[None], H, s, t, b)[0], x)
    alone, batch = gko_pivots(G, H, s, t), gko_pivots(G[None], H, s, t)
    for one, many in zip(alone, batch, strict=True):
        torch.testing.assert_close(many[0], one)
    sign = (-1.0) ** int(alone.exchanged.sum())
    torch.testing.assert_close(sign * alone.value.prod(), torch.linalg.det(dense))
    upper = torch.linalg.lu(dense)[2]
    torch.testing.assert_close(alone.value, upper.diagonal())
    assert (alone.size >= alone.value.abs() * (1 - 1e-12)).all()


def test_generators_of_a_toeplitz_matrix_are_left_alone() -> None:
    """Elimination works in place on copies."""
    op = sm.Toeplitz(heavy(maker("real64"), 6), heavy(maker("real64", 1), 6))
    tensors = [*toeplitz_generators(op, 1, -1), maker("real64", 2)(6, 2)]
    before = [t.clone() for t in tensors]
    sm.solve(op, tensors[-1], method="gko")
    G, H, b = tensors
    gko(G, H, torch.arange(6.0).to(W), torch.arange(6.0).to(W) + 0.5, b)
    for t, old in zip(tensors, before, strict=True):
        assert torch.equal(t, old)


# the choice -------------------------------------------------------------------------------------


def chosen(n: int, k: int, *batch: int) -> str:
    how = choose(sm.Toeplitz(torch.ones(*batch, n, dtype=W)), None, k)
    assert not isinstance(how, str)
    return how.name


def test_the_faster_method_is_chosen() -> None:
    """The measured orders: LU of small matrices, Levinson for few columns, else the inverse."""
    assert chosen(16, 1) == chosen(64, 16) == chosen(64, 1, 16) == "dense lu"
    assert chosen(512, 1) == chosen(1024, 1) == chosen(256, 1, 16) == "levinson"
    assert chosen(1024, 16) == chosen(1024, 16, 16) == chosen(256, 3, 256) == "gohberg-semencul"
    assert chosen(4096, 64) == chosen(256, 16, 16) == "gohberg-semencul"


def test_nothing_dense_is_chosen_where_it_was_not_measured() -> None:
    op = sm.Toeplitz(torch.ones(4, 64, device="meta"))
    assert "dense lu" not in [p.name for p in alternatives(op)]
    hankel = sm.Hankel(torch.ones(64, device="meta"))
    assert [p.name for p in alternatives(hankel)] == ["levinson", "gohberg-semencul", "gko"]
