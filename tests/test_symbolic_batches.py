"""Batches of operators by their sizes: bound, they are concrete batches and cost the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

import structmat as sm
from structmat import sized
from structmat.sized import FAMILIES
from structmat.sized.form import form_of
from structmat.sizes import broadcast

n, b, c = (sm.dim(s) for s in "nbc")

SIZES: dict[str, dict[str, Any]] = {
    "LowRank": {"n": n, "rank": 3},
    "BlockDiagonal": {"nblocks": 4},
    "KroneckerSparse": {"b": 2, "c": 3, "d": 2},
    "LowDisplacementRank": {"rank": 2},
    "Convolution": {"size": n},
    "StateSpace": {"states": 4, "rank": 1},
    "Sparse": {"per_row": 3},
    "BlockSparse": {"block": 4, "per_row": 2},
}
AT = {"MonarchChain": (16, 64), "Monarch": (16, 64), "Circulant": (8, 12)}
"""Sizes where the counts hold; else powers of two and, unless they need those, others."""


def first(name: str) -> dict[str, Any]:
    """The sizes of a family in terms of n."""
    return {next(iter(inspect.signature(FAMILIES[name].form).parameters)): n, **SIZES.get(name, {})}


def has_tensors(name: str) -> bool:
    """Whether a family has numbers."""
    sizes = {"s": 2, "start": 0, "stop": 1} if name in ("stride_permutation", "Selection") else {}
    known = inspect.signature(FAMILIES[name].form).parameters
    extra = {k: v for k, v in sizes.items() if k in known}
    return bool(form_of(name, FAMILIES[name].arguments(**first(name), **extra)).tensors)


WITH = [name for name in FAMILIES if has_tensors(name)]
WITHOUT = [name for name in FAMILIES if name not in WITH]


def check(op: sm.LinearOperator, **at: int) -> sm.LinearOperator:
    """The bound operator, of which shape, batch and costs are the formulas at these sizes."""
    concrete = op.bind(at)
    values = {sm.dim(s): v for s, v in at.items()}

    def facts(op: sm.LinearOperator) -> tuple[Any, ...]:
        cost = op.cost(batch=3)
        return (*op.shape, *op.batch_shape, *op.operations(), *vars(cost).values())

    wanted = tuple(v.subs(values) if hasattr(v, "subs") else v for v in facts(op))
    assert facts(concrete) == wanted, op._label()
    return concrete


@pytest.mark.parametrize("name", WITH)
def test_a_batch_of_every_family(name: str) -> None:
    one = FAMILIES[name].make(**first(name))
    op = FAMILIES[name].make(batch=(b, c), **first(name))
    assert op.batch_shape == (b, c)
    assert (op.cost(batch=5).params - b * c * one.cost(batch=5).params).expand() == 0
    assert (op.cost(batch=5).flops - b * c * one.cost(batch=5).flops).expand() == 0
    for size in AT.get(name, (8, 16, 64)):
        for many in (1, 2, 5):
            concrete = check(op, n=size, b=many, c=3)
            check(op.T, n=size, b=many, c=3)
            assert concrete.batch_shape == (many, 3)
    small = op.bind(n=16, b=2, c=3)
    x = torch.randn(small.shape[1], generator=torch.Generator().manual_seed(0))
    dense = small.to_dense()
    torch.testing.assert_close(small(x), dense @ x.to(dense.dtype), rtol=1e-3, atol=1e-3)
    assert not torch.equal(dense[0, 0], dense[1, 2])


@pytest.mark.parametrize("name", WITHOUT)
def test_no_batch_without_numbers(name: str) -> None:
    extra = {"stride_permutation": {"s": 2}, "Selection": {"start": 0, "stop": 1}}.get(name, {})
    for size in (n, 16):
        sizes = {**first(name), **extra}
        sizes = {k: size if v is n else v for k, v in sizes.items()}
        with pytest.raises(ValueError, match=rf"{name}: batch = \(2,\), but it has no numbers"):
            FAMILIES[name].make(batch=2, **sizes)


Compose = Callable[[sm.LinearOperator, sm.LinearOperator], sm.LinearOperator]
COMPOSED: dict[str, Compose] = {
    "product": lambda A, B: A @ B,
    "sum": lambda A, B: A - 2 * B,
    "gram": lambda A, B: A.H @ A + B,
    "kron": lambda A, B: sm.kron(A, B),
    "direct sum": lambda A, B: sm.direct_sum(A, B),
    "blocks": lambda A, B: sm.block([[A, 0], [B.T, B]]),
    "slice": lambda A, B: A[1:] @ B[:, : n // 2],
    "without": lambda A, B: sm.reversal(n) @ A,
}


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("batches", [(b, None), (b, b), ((c, b), b), ((b, 1), c), ((2, 1), (c,))])
def test_batches_broadcast(name: str, batches: tuple[Any, Any]) -> None:
    A, B = (sized.Dense(n, batch=lead, dtype=torch.float64) for lead in batches)
    op = COMPOSED[name](A, B)
    for size in (2, 5):
        at = {s: v for s, v in {"n": size, "b": 3, "c": 4}.items() if sm.dim(s) in free(op)}
        concrete = check(op, **at)
        x = torch.ones(concrete.shape[1], dtype=torch.float64)
        torch.testing.assert_close(concrete(x), concrete.to_dense() @ x)


def free(op: sm.LinearOperator) -> set[Any]:
    return sized.free_symbols(op)


def test_symbols_of_a_batch_agree_or_are_asked_for() -> None:
    op = sized.Dense(n, batch=b) @ sized.Dense(n, batch=c)
    with pytest.raises(ValueError, match=r"\(b,\), \(c,\) do not broadcast; whether b = c is not"):
        op.cost()
    assert op.bind(b=3, c=3).batch_shape == (3,)
    with pytest.raises(ValueError, match="do not broadcast"):
        broadcast((2,), (3,))
    assert broadcast((b, 1), (n,), ()) == (b, n)
    assert broadcast() == ()


def test_integers_in_steps_and_in_text() -> None:
    op = sized.Dense(4, batch=(2, 3))
    assert isinstance(op, sm.Dense)
    assert op.weight.shape == (2, 3, 4, 4)
    assert sized.Dense(4, batch=1).batch_shape == (1,)
    assert sized.Dense(4, batch=()).batch_shape == ()
    part = sized.Dense(n, batch=b).bind(b=2)
    assert part.batch_shape == (2,)
    assert "batch 2 of nxn" in repr(part)
    assert part.bind(n=3).batch_shape == (2,)
    assert sized.parse("Dense(n, batch=b)").bind(n=3, b=2).batch_shape == (2,)
    assert sized.parse("Dense(3, batch=(2, 4))").batch_shape == (2, 4)
    assert sized.Dense(n, batch=b)._label() == "Dense(n, batch=b)"
    assert sized.Dense(n, batch=(b, 2))._label() == "Dense(n, batch=(b, 2))"
    with pytest.raises(ValueError, match="Dense: batch = -1 is no size"):
        sized.Dense(n, batch=-1)
    w = torch.ones(2, 3, 3)
    op = sized.Dense(n, batch=b)
    assert op.bind(n=3, b=2, tensors={"weight": w}).named_tensors()["weight"] is w
    with pytest.raises(ValueError, match=r"shape \(2, 3, 3\), needs \(4, 3, 3\)"):
        op.bind(n=3, b=4, tensors={"weight": w})


def test_trees_name_the_batch() -> None:
    assert "b of n" in sized.Dense(n, batch=b).tree()
