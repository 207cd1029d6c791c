"""Random expression trees against their dense matrices, exactly."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.testing import Grower, check_operator, exact_bound, operators, random_operator

SERIAL = count()

FAST = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
LONG = settings(FAST, max_examples=1500)


@FAST
@given(operators())
def test_operators_are_their_dense_matrices(op: sm.LinearOperator) -> None:
    check_operator(op, exact=True)


@FAST
@given(operators(transforms=True, max_depth=2))
def test_transforms_are_their_dense_matrices(op: sm.LinearOperator) -> None:
    check_operator(op)


@settings(FAST, max_examples=50)
@given(operators(max_side=64, max_depth=1, batch=False))
def test_large_sides(op: sm.LinearOperator) -> None:
    check_operator(op, exact=True)


@pytest.mark.slow
@LONG
@given(operators(max_side=30, max_depth=4))
def test_deep_trees(op: sm.LinearOperator) -> None:
    check_operator(op, exact=True)


@st.composite
def square_chains(draw: Any) -> sm.LinearOperator:
    """Long products and sums of one square size: where rules for neighbours meet each other."""
    n = draw(st.sampled_from([4, 6, 8, 12]))
    grower = Grower(
        lambda options: draw(st.sampled_from(options)), seed=draw(st.integers(0, 2**16)), max_side=n
    )
    makers: list[Callable[[int, int], sm.LinearOperator]] = [
        grower.permutation,
        grower.blocks,
        grower.diagonal,
        grower.factor,
        grower.monarch,
        grower.low_rank,
        grower.dense,
        grower.chain,
        lambda m, n: sm.kron(grower.blocks(2, 2), grower.permutation(m // 2, n // 2)),
        lambda m, n: sm.kron(grower.permutation(m // 2, n // 2), grower.dense(2, 2)),
        lambda m, n: sm.direct_sum(grower.diagonal(2, 2), grower.blocks(m - 2, n - 2)),
        lambda m, n: sm.direct_sum(grower.permutation(2, 2), grower.permutation(m - 2, n - 2)),
        lambda m, n: sm.Scaled(grower.numbers(), grower.permutation(m, n)),
    ]

    def product() -> sm.LinearOperator:
        parts = [grower.choose(makers)(n, n) for _ in range(draw(st.integers(1, 5)))]
        conjugated = draw(st.booleans())
        if conjugated:
            p = sm.stride_permutation(n, draw(st.sampled_from([2, n // 2])))
            parts = [p, parts[0], p.T, *parts[1:]]
        return sm.Product(*parts) if draw(st.booleans()) else sm.Product(*parts).T

    terms = [product() for _ in range(draw(st.integers(1, 2)))]
    if draw(st.booleans()):
        shared = product()
        terms = [shared @ t for t in terms] if draw(st.booleans()) else [t @ shared for t in terms]
    return sm.Sum(*terms)


def check_simplified(op: sm.LinearOperator) -> None:
    if exact_bound(op) > 2.0**45:
        return
    new, steps = sm.simplify(op, trace=True)
    assert torch.equal(new.to_dense(), op.to_dense()), "\n".join(map(str, steps))
    assert new.strong_dtype == op.strong_dtype
    assert sum(new.operations()) <= sum(op.operations())
    assert not sm.simplify(new, trace=True)[1]
    for step in steps:
        assert torch.equal(step.before.to_dense(), step.after.to_dense()), step


@FAST
@given(square_chains())
def test_simplify_chains(op: sm.LinearOperator) -> None:
    check_simplified(op)


@pytest.mark.slow
@LONG
@given(square_chains())
def test_simplify_many_chains(op: sm.LinearOperator) -> None:
    check_simplified(op)


@pytest.mark.parametrize("seed", range(20))
def test_random_operator_needs_no_hypothesis(seed: int) -> None:
    op = random_operator(seed, max_side=8)
    assert op.structure == random_operator(seed, max_side=8).structure
    assert torch.equal(op.to_dense(), random_operator(seed, max_side=8).to_dense())
    check_operator(op, exact=True)


# the kit itself --------------------------------------------------------------------------------


def _broken(**methods: Any) -> sm.LinearOperator:
    """Dense, with one method replaced by a wrong one."""
    kind: Any = type(f"Broken{next(SERIAL)}", (sm.Dense,), methods)
    return kind(torch.arange(1.0, 7.0).double().reshape(2, 3))  # type: ignore[no-any-return]


def _weak(op: sm.Dense, g: Any, x: Any, spoil: Callable[[Any], Any]) -> Any:
    return sm.Dense._lower(op, g, spoil(x) if isinstance(x, torch.Tensor) else x)


def _no_complex(x: torch.Tensor) -> torch.Tensor:
    return x.real if x.is_complex() else x


@pytest.mark.parametrize(
    ("methods", "check"),
    [
        ({"_lower": lambda self, g, x: g.scalar(sm.Dense._lower(self, g, x), 2)}, "acts_on_last"),
        ({"_dense": lambda self, dtype, device: self.weight.float()}, "shape_and_dtype"),
        ({"_transpose": lambda self: sm.Dense(self.weight.mT + 1)}, "multiplies_columns: x @ A"),
        ({"conj": lambda self: 2 * self}, "transposes"),
        ({"operations": lambda self: (-1, 0)}, "costs"),
        ({"simplify": lambda self: sm.Dense(self.weight.detach())}, "differentiates"),
        ({"to": lambda self, *a: self}, "converts"),
        ({"spec": lambda self: sm.Dense(self.weight).spec()}, "round_trips"),
        ({"__setattr__": object.__setattr__}, "refuses"),
        ({"_lower": lambda self, g, x: _weak(self, g, x, torch.Tensor.detach)}, "differentiates"),
        ({"_lower": lambda self, g, x: _weak(self, g, x, _no_complex)}, "promotes"),
    ],
)
def test_check_operator_finds_what_is_wrong(methods: dict[str, Any], check: str) -> None:
    with pytest.raises(AssertionError, match=check):
        check_operator(_broken(**methods))


def test_check_operator_is_for_operators() -> None:
    with pytest.raises(TypeError, match="needs an operator"):
        check_operator(torch.ones(2, 2))  # type: ignore[arg-type]


def test_check_operator_compiles() -> None:
    pytest.importorskip("structmat.lowering")
    op = sm.Diagonal(torch.ones(6).double()) @ sm.stride_permutation(6, 2)
    check_operator(op, exact=True, backends=("torch",))


def test_tolerance() -> None:
    w = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    check_operator(sm.Dense(w) @ sm.LowRank(w.T, w))
    with pytest.raises(AssertionError, match="allowed 0"):
        check_operator(sm.LowRank(w, w.T) @ sm.LowRank(w, w.T), exact=True)
