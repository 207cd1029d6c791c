"""The operator kit on the whole market, in every precision, and on random trees of depth 4."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from market import MARKET, ROUNDED, entries

import structmat as sm
from structmat.testing import check_operator, operators

LARGE = {"dense_wide", "monarch_1024", "monarch_few"}
"""Tests of the compiler have these; their side adds nothing here."""

EVERY = {name: make for name, make in (MARKET | ROUNDED).items() if name not in LARGE}
slow = pytest.mark.slow


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.complex64,
        pytest.param(torch.float64, marks=slow),
        pytest.param(torch.complex128, marks=slow),
        pytest.param(torch.bfloat16, marks=slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", EVERY)
def test_market(name: str, dtype: torch.dtype) -> None:
    check_operator(EVERY[name](entries(3, dtype)))


@slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(operators(max_depth=4, max_side=8))
def test_deep_trees(op: sm.LinearOperator) -> None:
    check_operator(op, exact=True)


@slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(operators(max_depth=4, max_side=8, transforms=True))
def test_deep_trees_of_transforms(op: sm.LinearOperator) -> None:
    check_operator(op)
