"""Equality saturation is the oracle of the simplifier: its cheapest spelling is no cheaper.

Chains of up to six factors, by the laws that go both ways; the search stops after the round in
which it has 1500 nodes. What counts is flops and bytes of one application, shared tensors once.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import structmat as sm
from structmat.rules.saturate import cheapest_spelling

N = 12


def chain(seed: int, k: int) -> sm.LinearOperator:
    """k factors: dense, thin, low rank, diagonal, Kronecker, permutations, and sums of those."""
    choose = random.Random(seed).choice
    g = torch.Generator().manual_seed(seed)

    def ints(*shape: int) -> Tensor:
        return torch.randint(-1, 2, shape, generator=g).to(torch.float64)

    def square() -> sm.LinearOperator:
        makers: list[Callable[[], sm.LinearOperator]] = [
            lambda: sm.Dense(ints(N, N)),
            lambda: sm.LowRank(ints(N, 2), ints(2, N)),
            lambda: sm.Diagonal(ints(N)),
            lambda: sm.kron(sm.Dense(ints(3, 3)), sm.Dense(ints(4, 4))),
            lambda: sm.kron(sm.Dense(ints(3, 3)), sm.Dense(ints(2, 2)), sm.Identity(2)),
            lambda: sm.BlockDiagonal(ints(3, 4, 4)),
            lambda: sm.Permutation(torch.randperm(N, generator=g)),
        ]
        return choose(makers)()

    leaves = [square() for _ in range(4)]

    def factor() -> sm.LinearOperator:
        makers: list[Callable[[], sm.LinearOperator]] = [
            square,
            square,
            lambda: choose(leaves),
            lambda: choose(leaves).T,
            lambda: choose(leaves) + choose(leaves),
            lambda: choose(leaves) @ choose(leaves) + choose(leaves) @ choose(leaves),
            lambda: choose((2, -1, 0.5)) * choose(leaves),
        ]
        return choose(makers)()

    factors = [factor() for _ in range(k)]
    if choose((True, False, False)):
        factors[-1] = sm.Dense(ints(N, choose((1, 2, 5))))
    return sm.Product(*factors)


def price(op: sm.LinearOperator) -> int:
    """Flops and bytes of one application."""
    stored = sum(t.numel() * t.element_size() for t in op.parameters())
    return sum(op.operations()) + stored


def compare(seed: int, k: int) -> None:
    """The plan of the search alone, whether or not ``saturate`` would take it."""
    pytest.importorskip("egglog", reason="needs structmat[egglog]")
    op = chain(100 * k + seed, k)
    plan, default = cheapest_spelling(op, limit=1_500), op.simplify()
    assert torch.equal(plan.to_dense(), op.to_dense())
    assert torch.equal(default.to_dense(), op.to_dense())
    assert price(default) <= price(plan), f"{default._label()}, {plan._label()}"


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("seed", range(3))
def test_the_default_is_never_worse_on_random_chains(seed: int, k: int) -> None:
    compare(seed, k)


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("seed", range(3, 8))
def test_the_default_is_never_worse_on_more_chains(seed: int, k: int) -> None:
    compare(seed, k)


def test_the_difference_that_is_known() -> None:
    """A scalar goes into the numbers nearest to it, also where these stay stored beside the result.

    The page of the algebra tells of it; where simplify sees it, this test and the page go.
    """
    pytest.importorskip("egglog", reason="needs structmat[egglog]")
    g = torch.Generator().manual_seed(0)

    def ints(*shape: int) -> Tensor:
        return torch.randint(-1, 2, shape, generator=g).to(torch.float64)

    D = sm.Diagonal(ints(N))
    a, b, c = (sm.kron(sm.Dense(ints(3, 3)), sm.Dense(ints(4, 4))) for _ in range(3))
    op = a @ D @ b @ c @ (2 * D)
    found, default = sm.saturate(op), op.simplify()
    assert torch.equal(found.to_dense(), op.to_dense())
    assert sum(found.operations()) == sum(default.operations())
    numbers = [sum(t.numel() for t in x.parameters()) for x in (found, default)]
    assert numbers == [2 * 25 + N, 2 * 25 + 2 * N]


def test_without_egglog_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["structmat.rules.saturate"]
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"structmat\[egglog\]"):
        sm.saturate(sm.Identity(3))
