"""Inverses as operators: in expressions, simplified, compiled, and their properties."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from systems import SYSTEMS, Make, W, away, close, heavy, maker, regular, thin

import structmat as sm
from structmat.testing import check_operator

every_system = pytest.mark.parametrize("name", SYSTEMS)


@every_system
def test_inverse(name: str) -> None:
    """inv(A) is an operator like any other, and cancels with A."""
    op = SYSTEMS[name][0](maker("real64"))
    inverse = sm.inv(op)
    check_operator(sm.Inverse(op))
    eye = torch.eye(op.shape[0], dtype=op.dtype)
    torch.testing.assert_close(inverse.to_dense() @ op.to_dense(), eye, rtol=0, atol=1e-11)
    for product in (op @ inverse, inverse @ op):
        assert isinstance(product.simplify(), sm.Identity), product.simplify()
    assert sm.inv(inverse).simplify().structure == op.simplify().structure


INVERSES: dict[str, Callable[[Make], sm.LinearOperator]] = {
    "in a kronecker product": lambda r: sm.kron(
        sm.Dense(r(2, 3)), sm.Inverse(sm.Dense(regular(r, 3, 3))), sm.Diagonal(r(2))
    ),
    "of a toeplitz matrix, lifted": lambda r: sm.kron(
        sm.Identity(2), sm.Inverse(sm.Toeplitz(heavy(r, 4))), sm.Identity(3)
    ),
    "in a direct sum": lambda r: sm.direct_sum(
        sm.Inverse(sm.Dense(regular(r, 3, 3))), sm.Dense(r(2, 4))
    ),
    "of a sum": lambda r: sm.inv(sm.Dense(regular(r, 4, 4)) + sm.Circulant(heavy(r, 4))),
    "in a product": lambda r: (
        sm.Dense(r(3, 5)) @ sm.inv(sm.Dense(regular(r, 5, 5))).T @ sm.reversal(5)
    ),
    "of a batch": lambda r: sm.inv(sm.Dense(regular(r, 2, 4, 4))) @ sm.Diagonal(r(4)),
    "of a batch of toeplitz matrices": lambda r: sm.inv(
        sm.Toeplitz(torch.stack([heavy(r, 4), heavy(r, 4)]))
    ),
    "resolvent": lambda r: (
        sm.LowRank(r(3, 4), r(4, 6))
        @ sm.inv(4 * sm.Identity(6) - sm.Dense(r(6, 6) / 3)) ** 2
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INVERSES)
@pytest.mark.parametrize("kind", ["real64", "complex128"])
def test_inverses_inside_expressions(name: str, kind: str) -> None:
    check_operator(INVERSES[name](maker(kind)))


def test_properties_of_inverses() -> None:
    r = maker("real64")
    m = sm.Dense(regular(r, 4, 4))
    psd = sm.Inverse(sm.assume(m, psd=True))
    assert (sm.is_psd(psd), sm.is_symmetric(psd), sm.is_real(psd)) == (True, True, True)
    assert sm.is_symmetric(sm.Inverse(m)) is None
    assert sm.is_triangular(sm.Inverse(sm.Circulant(heavy(r, 4), 0)), "lower") is True
    assert sm.is_diagonal(sm.Inverse(sm.Diagonal(away(r, 4)))) is True
    assert sm.is_unitary(sm.Inverse(sm.assume(m, unitary=True))) is True
    assert sm.is_unitary(sm.Inverse(sm.DFT(8))) is False
    assert sm.displacement_rank(sm.Inverse(sm.Toeplitz(heavy(r, 9), heavy(r, 9)))) == 2
    assert sm.rank_bound(sm.Inverse(m)) == 4


class Grown:
    """Random expressions of regular operators, with the method that solves each leaf."""

    def __init__(self, seed: int) -> None:
        self.choice = random.Random(seed).choice
        self.make = maker("real64", seed)

    def tree(self, n: int, depth: int) -> sm.LinearOperator:
        """A regular n x n operator."""
        if depth and self.choice((True, True, False)):
            return self.node(n, depth - 1)
        r = self.make
        leaves: list[Callable[[], sm.LinearOperator]] = [
            lambda: sm.Dense(regular(r, n, n)),
            lambda: sm.Diagonal(away(r, n)),
            lambda: sm.Permutation(torch.arange(n).roll(1).flip(0)),
            lambda: sm.Circulant(heavy(r, n), self.choice((1, -1, 0))),
            lambda: sm.Toeplitz(heavy(r, n), heavy(r, n)),
            lambda: sm.DCT(n, norm="ortho", dtype=W),
            lambda: sm.Identity(n),
        ]
        return self.choice(leaves)()

    def node(self, n: int, depth: int) -> sm.LinearOperator:
        """A composition."""
        k = self.choice([d for d in range(1, n + 1) if n % d == 0])
        made: list[Callable[[], sm.LinearOperator]] = [
            lambda: self.tree(n, depth) @ self.tree(n, depth),
            lambda: sm.kron(self.tree(k, depth), self.tree(n // k, depth)),
            lambda: (
                sm.direct_sum(self.tree(k, depth), self.tree(n - k, depth))
                if k < n
                else self.tree(n, depth)
            ),
            lambda: self.tree(n, depth).T,
            lambda: self.choice((2.0, -0.5)) * self.tree(n, depth),
            lambda: sm.Inverse(self.tree(n, depth)),
            lambda: 4 * sm.Diagonal(away(self.make, n)) + thin(self.make, n, 1),
        ]
        return self.choice(made)()


def test_random_trees() -> None:
    """Products, Kronecker products, direct sums, ... of regular leaves; and their inverses."""
    for seed in range(120):
        grown = Grown(seed)
        op = grown.tree(grown.choice((1, 2, 4, 6, 12)), 3)
        n, dense = op.shape[0], op.to_dense().to(W)
        b = maker("real64", seed + 1)(n, 2)
        solution = sm.solve(op, b)
        close(solution.x, dense, b)
        close(sm.inv(op) @ b, dense, b)
        close(sm.inv(op).simplify() @ b, dense, b)


def test_closed_forms() -> None:
    r = maker("real64")
    inverse = {name: sm.inv(make(r)).simplify() for name, (make, _) in SYSTEMS.items()}
    kinds = {
        "diagonal": sm.Diagonal,
        "permutation": sm.Permutation,
        "blocks": sm.BlockDiagonal,
        "factor": sm.KroneckerSparse,
        "butterfly": sm.Butterfly,
        "circulant of f": sm.Circulant,
        "triangular toeplitz": sm.Circulant,
        "dft": sm.DFT,
        "kronecker": sm.Kronecker,
        "woodbury": sm.Sum,
        "dense": sm.Inverse,
        "toeplitz": sm.Inverse,
    }
    for name, kind in kinds.items():
        assert isinstance(inverse[name], kind), inverse[name]
    for name in ("diagonal", "monarch", "circulant", "woodbury", "kronecker"):
        op = inverse[name]
        if not isinstance(op, sm.Kronecker):
            x = r(3, op.shape[1])
            torch.testing.assert_close(sm.compile(op, backend="torch")(x), op(x))


def test_powers() -> None:
    a = SYSTEMS["dense"][0](maker("real64"))
    want = torch.linalg.matrix_power(a.to_dense(), -3)
    torch.testing.assert_close((a**-3).to_dense(), want)
    assert isinstance((a**2 @ a**-2).simplify(), sm.Identity)


def test_an_update_of_rank_zero_changes_nothing() -> None:
    op = sm.Identity(3) + sm.LowRank(torch.ones(3, 0), torch.ones(0, 3))
    assert torch.equal(sm.inv(op).simplify()(torch.ones(3)), torch.ones(3))
