"""Slices with symbols: bound, they are the concrete slices and cost the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import pytest
import sympy
import torch

import structmat as sm
from structmat import sized
from structmat.sized.bind import free_symbols
from structmat.sized.order import at_most

n, m, k = (sm.dim(s) for s in "nmk")
CONCRETE = sm.Dense(torch.arange(48.0).reshape(6, 8))


def check(symbolic: sm.LinearOperator, concrete: sm.LinearOperator, at: Mapping[str, int]) -> None:
    """Equal entries, and counts that are the formulas at the sizes."""
    bound = symbolic.bind(at)
    values = {sm.dim(s): v for s, v in at.items()}
    formulas = (*symbolic.shape, *symbolic.operations(), *vars(symbolic.cost(batch=3)).values())
    found = (*concrete.shape, *concrete.operations(), *vars(concrete.cost(batch=3)).values())
    assert tuple(v.subs(values) if hasattr(v, "subs") else v for v in formulas) == found
    assert bound.cost(batch=3) == concrete.cost(batch=3)
    torch.testing.assert_close(bound.to_dense(), concrete.to_dense(), rtol=0, atol=0)


Cut = Callable[[sm.LinearOperator, int, int], sm.LinearOperator]
"""A slice of an operator of k + m rows and n + k columns, given k and n as symbols or integers."""

CUTS: dict[str, Cut] = {
    "first rows": lambda A, k, n: A[:k],
    "other rows": lambda A, k, n: A[k:],
    "corner": lambda A, k, n: A[:k, n:],
    "negative": lambda A, k, n: A[-k:, :-n],
    "all": lambda A, k, n: A[0 : A.shape[0], : n + k],
    "empty": lambda A, k, n: A[k:k],
    "half": lambda A, k, n: A[: A.shape[0] // 2, (n + k) // 2 :],
    "again": lambda A, k, n: A[k:, k:][:1, : n // 2],
    "one": lambda A, k, n: A[k : k + 1],
    "all but one": lambda A, k, n: A[1:, : n + k - 1],
}


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("make", [sized.Dense, sized.Toeplitz])
def test_bound_slices_are_slices_of_the_bound(
    name: str, make: Callable[..., sm.LinearOperator]
) -> None:
    A, cut = make(k + m, n + k, dtype=torch.float64), CUTS[name]
    for a, b, c in itertools.product((1, 2, 5), (1, 3), (1, 4, 7)):
        at = {"k": a, "m": b, "n": c}
        at = {s: v for s, v in at.items() if sm.dim(s) in free_symbols(A)}
        check(cut(A, k, n), cut(A.bind(at), a, c), at)


def test_a_concrete_operator_takes_symbols() -> None:
    cut = CONCRETE[: sympy.Min(k, 6), 2:]
    assert cut.shape == (sympy.Min(k, 6), 6)
    for size in range(1, 10):
        check(cut, CONCRETE[:size, 2:], {"k": size})
    with pytest.raises(ValueError, match=r"rows 0:k need 0 <= 0 <= k <= 6; whether k <= 6 is not"):
        CONCRETE[:k]
    late = sized.Selection(6, 0, k) @ CONCRETE
    check(late, CONCRETE[:4], {"k": 4})
    with pytest.raises(ValueError, match=r"at k = 7: Selection: rows 0:7 of 6"):
        late.bind(k=7)


def test_integer_bounds_of_sides_that_are_known() -> None:
    A = sized.Dense(8, n, dtype=torch.float64)
    for size in (1, 3):
        for key in (slice(1, 7, 2), slice(-3, 100), [3, 0, 3], [True, False] * 4, range(2, 4)):
            check(A[key], A.bind(n=size)[key], {"n": size})
    assert CONCRETE[1:3].structure == CONCRETE[1:3, :].structure
    assert not CONCRETE[1:3].symbolic


WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "open": (
        lambda: sized.Dense(n)[:, :k],
        ValueError,
        r"columns 0:k .*k <= n is not known.*n = k \+ .*bind\(k=\.\.\., n=\.\.\.\)"
        r".*A @ sm\.sized\.Selection\(n, 0, k\)\.T",
    ),
    "integer": (lambda: sized.Dense(n)[:2], ValueError, "whether 2 <= n is not known"),
    "late": (lambda: sized.Dense(n)[: n + 1], ValueError, r"rows 0:n \+ 1 .* and n \+ 1 > n"),
    "crossed": (lambda: sized.Dense(n + k)[n + k : n], ValueError, r"and k \+ n > n"),
    "step": (lambda: CONCRETE[: sympy.Min(k, 6) : 2], TypeError, "without a step"),
    "row": (lambda: CONCRETE[k], TypeError, "k has no number; with symbols, rows and columns are"),
    "float": (lambda: CONCRETE[0.5 : sympy.Min(k, 6)], TypeError, "is no slice of rows"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused(name: str) -> None:
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        call()


def test_slices_in_text() -> None:
    read = sized.parse("Dense(n + k)[:k, n // 2:] @ Diagonal(n + k - n // 2)")
    assert read.bind(n=3, k=4).shape == (4, 6)
    text = "Dense(n)[:n//2]"
    assert sized.parse(text).bind(n=7).structure == sized.parse(text, {"n": 7}).structure
    with pytest.raises(sized.ParseError, match="whether k <= n is not known"):
        sized.parse("Dense(n)[:k]")


EXPRESSIONS = [
    *(sympy.Integer(c) for c in (-1, 0, 1, 2)),
    *(n, k, n - 1, n + k, n // 2, n - n // 2, (n + k) // 3, sympy.ceiling(n / 2), n**2, n * k),
    *(sympy.Min(n, k), sympy.Max(n, k), n - sympy.ceiling(n / 3), sympy.sqrt(n), -n, 2 * n - k),
]


@pytest.mark.parametrize("a", EXPRESSIONS, ids=str)
def test_order_is_never_wrong(a: sympy.Expr) -> None:
    """What is decided holds for all small sizes."""
    at = [{n: p, k: q} for p in range(1, 8) for q in range(1, 8)]
    for b in EXPRESSIONS:
        known = at_most(a, b)
        if known is not None:
            assert {bool(a.subs(v) <= b.subs(v)) for v in at} == {known}, f"{a} <= {b}: {known}"


def test_order_decides() -> None:
    yes = [(1, n), (n // 2, n), (n // 2, n - n // 2), (sympy.Min(n, k), n), (n, sympy.Max(n, k))]
    yes += [(sympy.ceiling(n / 2), n), (n // 3, (n + k) // 2), (n, n * k)]
    for a, b in yes:
        assert at_most(a, b), (a, b)
    assert at_most(n + 1, n) is False
    assert at_most(n, k) is None
