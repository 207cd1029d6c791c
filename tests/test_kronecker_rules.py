"""Products of Kronecker products and of direct sums whose groupings differ."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor

import structmat as sm
from structmat.rules import fire
from structmat.rules.measure import flops

G = torch.Generator().manual_seed(0)
MIXED = next(r for r in sm.rules() if r.name == "mixed_product")
SUMMED = next(r for r in sm.rules() if r.name == "direct_sum_times_direct_sum")


def ints(*shape: int) -> Tensor:
    return torch.randint(-1, 2, shape, generator=G).to(torch.float64)


def D(m: int, n: int | None = None) -> sm.Dense:
    return sm.Dense(ints(m, m if n is None else n))


kron, eye, flip = sm.kron, sm.Identity, sm.reversal

CASES: dict[str, tuple[sm.LinearOperator, str]] = {
    "two and one": (kron(D(2), D(2), D(4)) @ kron(D(4), D(4)), "kron(Dense(4x4), Dense(4x4))"),
    "one and two": (kron(D(4), D(4)) @ kron(D(4), D(2), D(2)), "kron(Dense(4x4), Dense(4x4))"),
    "both ways": (
        kron(D(2), D(2), D(6)) @ kron(D(4), D(2), D(3)),
        "kron(Dense(4x4), Dense(6x6))",
    ),
    "three products": (
        kron(D(2), D(3), D(2)) @ kron(D(6), D(2)) @ kron(D(2), D(3), D(2)),
        "kron(Dense(6x6), Dense(2x2))",
    ),
    "rectangular": (
        kron(D(3, 2), D(2, 3), D(4)) @ kron(D(6, 5), D(4, 2)),
        "kron(Dense(6x5), Dense(4x2))",
    ),
    "an identity comes apart on the left": (
        kron(eye(4), D(3)) @ kron(D(2), D(6)),
        "kron(Dense(2x2), Dense(6x6))",
    ),
    "on both sides": (
        kron(D(2), eye(6)) @ kron(eye(4), D(3)),
        "kron(Dense(2x2), Identity(2), Dense(3x3))",
    ),
    "an identity of no such divisor": (
        kron(D(2), eye(12)) @ kron(D(3), D(8), flip(1)),
        "kron(Dense(2x2), Identity(12)) @ kron(Dense(3x3), Dense(8x8))",
    ),
    "a column beside": (
        kron(D(4, 1), D(4)) @ kron(D(2), D(2)),
        "kron(Dense(4x1), Dense(4x4))",
    ),
    "narrow in the middle": (  # as one group, B D would act on nine times as much
        kron(D(9, 1), D(4)) @ kron(D(1, 9), D(4)),
        "kron(Dense(9x1), Dense(4x4)) @ kron(Dense(1x9), Identity(4))",
    ),
    "a group that stays apart": (
        kron(D(2), D(2), flip(4)) @ kron(sm.Hadamard(4), flip(4)),
        "kron(Dense(2x2), Dense(2x2), Identity(4)) @ kron(Hadamard(4), Identity(4))",
    ),
    "no common mark": (
        kron(D(2), D(3)) @ kron(flip(3), sm.Hadamard(2)),
        f"kron(Dense(2x2), Dense(3x3)) @ kron({flip(3)._label()}, Hadamard(2))",
    ),
    "sums": (
        sm.direct_sum(D(2), flip(2), D(3)) @ sm.direct_sum(sm.Hadamard(4), D(3)),
        f"direct_sum(direct_sum(Dense(2x2), {flip(2)._label()}) @ Hadamard(4), Dense(3x3))",
    ),
    "sums with an identity": (
        sm.direct_sum(D(2), eye(6)) @ sm.direct_sum(D(2), D(2, 3), D(4, 1)),
        "direct_sum(Dense(2x2), Dense(2x3), Dense(4x1))",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_groups_meet(case: str) -> None:
    op, want = CASES[case]
    new, steps = sm.simplify(op, trace=True)
    assert new._label() == want, "\n".join(map(str, steps))
    assert torch.equal(new.to_dense(), op.to_dense())
    assert flops(new) <= flops(op)


def _split(n: int, choose: Callable[[list[int]], int]) -> list[int]:
    """A factorisation of n in random order, with ones among it."""
    out = []
    while n > 1:
        k = choose([d for d in range(2, n + 1) if n % d == 0])
        out.append(k)
        n //= k
        if choose([0, 0, 1]):
            out.append(1)
    return out or [1, 1]


@pytest.mark.parametrize("seed", range(40))
def test_any_groupings(seed: int) -> None:
    """Both factorisations at random; identities wherever a factor is square."""
    choose = random.Random(seed).choice
    n = choose([4, 6, 8, 12, 16])
    columns, rows = _split(n, choose), _split(n, choose)
    assert prod(columns) == prod(rows) == n

    def factor(size: int, left: bool) -> sm.LinearOperator:
        other = choose([size, size, 1, 2, 3])
        if other == size and choose([True, False]):
            return choose([sm.Identity(size), sm.reversal(size)])
        return D(other, size) if left else D(size, other)

    left = [factor(k, True) for k in columns]
    right = [factor(k, False) for k in rows]
    op = sm.Product(sm.Kronecker(*left), sm.Kronecker(*right))
    made = fire(MIXED, op) or op
    simple = op.simplify()
    assert torch.equal(made.to_dense(), op.to_dense())
    assert torch.equal(simple.to_dense(), op.to_dense())
    assert max(flops(made), flops(simple)) <= flops(op)


@pytest.mark.parametrize("seed", range(40))
def test_any_partitions(seed: int) -> None:
    """Direct sums likewise, with parts that have no columns or no rows."""
    choose = random.Random(seed).choice
    columns = [choose([0, 1, 2, 3]) for _ in range(4)]
    rows = [choose([0, 1, 2, 3]) for _ in range(3)]
    rows.append(max(sum(columns) - sum(rows), 0))
    columns.append(max(sum(rows) - sum(columns), 0))

    def part(m: int, n: int) -> sm.LinearOperator:
        return sm.Identity(n) if m == n and choose([True, False]) else D(m, n)

    left = sm.DirectSum(*(part(choose([n, n, 2]), n) for n in columns))
    right = sm.DirectSum(*(part(m, choose([m, m, 0])) for m in rows))
    op = sm.Product(left, right)
    made = fire(SUMMED, op) or op
    simple = op.simplify()
    assert torch.equal(made.to_dense(), op.to_dense())
    assert torch.equal(simple.to_dense(), op.to_dense())
    assert max(flops(made), flops(simple)) <= flops(op)


def test_equal_groupings_without_a_rule_for_the_pairs() -> None:
    """What was one Kronecker product of lazy products stays one."""
    a, b = sm.Butterfly(ints(2, 2, 2, 2)), sm.Butterfly(ints(2, 2, 2, 2))
    c, d = sm.Hadamard(4), sm.DCT(4, dtype=torch.float64)
    made = fire(MIXED, kron(a, b) @ kron(c, d))
    assert made is not None
    assert made._label() == f"kron({a._label()} @ {c._label()}, {b._label()} @ {d._label()})"


def test_gradients_reach_every_group() -> None:
    ws = [ints(n, n).requires_grad_() for n in (2, 2, 4, 4, 4)]
    a, b, c, d, e = (sm.Dense(w) for w in ws)
    op = kron(a, b, c) @ kron(d, e)
    new, x = op.simplify(), ints(16)
    assert new._label() == "kron(Dense(4x4), Dense(4x4))"
    for want, got in zip(
        torch.autograd.grad(op(x).sum(), ws), torch.autograd.grad(new(x).sum(), ws), strict=True
    ):
        assert torch.equal(want, got)
