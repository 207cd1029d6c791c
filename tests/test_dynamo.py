"""torch.compile(fullgraph=True) and torch.export of every structure, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from market import MARKET, ROUNDED, Make, entries
from torch import Tensor, nn

import structmat as sm

ALL: dict[str, Callable[[Make], sm.LinearOperator]] = {**MARKET, **ROUNDED}
Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Forget what torch.compile compiled before."""
    torch._dynamo.reset()


def compiled(f: Function, backend: str = "aot_eager") -> Function:
    return torch.compile(f, fullgraph=True, backend=backend)


def numbers(name: str) -> list[Tensor]:
    """The tensors of which an operator of the market is made, in order."""
    drawn: list[Tensor] = []
    draw = entries(1)

    def make(*shape: int) -> Tensor:
        drawn.append(draw(*shape))
        return drawn[-1]

    ALL[name](make)
    return drawn


def built(name: str, tensors: list[Tensor]) -> sm.LinearOperator:
    """The operator of the market, made of these tensors."""
    rest = iter(tensors)
    return ALL[name](lambda *shape: next(rest))


def vector(n: int, batch: tuple[int, ...] = ()) -> Tensor:
    return torch.linspace(-1, 2, n, dtype=torch.float64).expand(*batch, n)


def gradients(outs: Any, tensors: list[Tensor]) -> list[Tensor | None]:
    """Of a sum that weighs all entries, for those of the tensors that take part in it."""
    total = torch.zeros((), dtype=torch.float64)
    for out in outs:
        weights = torch.linspace(1, 2, max(out.numel(), 1), dtype=torch.float64)[: out.numel()]
        values = out.real + out.imag if out.is_complex() else out
        total = total + (values.reshape(-1) * weights).sum()
    if not total.requires_grad:
        return []
    return list(torch.autograd.grad(total, tensors, allow_unused=True))


# every structure ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_built_inside(name: str) -> None:
    """Of tensors that have gradients, and its transpose."""
    tensors = [t.requires_grad_() for t in numbers(name)]
    op = built(name, numbers(name))
    x = vector(op.shape[1], op.batch_shape).requires_grad_()
    y = vector(op.shape[0], op.batch_shape)

    def use(x: Tensor, *tensors: Tensor) -> list[Tensor]:
        inside: Any = built(name, [t + 0 for t in tensors])
        return [inside(x), inside.T(y)]

    got, want = compiled(use)(x, *tensors), use(x, *tensors)
    torch.testing.assert_close(got, want)
    inputs = [x, *tensors]
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_from_outside(name: str) -> None:
    """An operator that the function closes over, and the same as an argument."""
    op = built(name, numbers(name))
    x = vector(op.shape[1], op.batch_shape)

    def use(a: sm.LinearOperator, x: Tensor) -> list[Tensor]:
        return [op(x), a(x)]

    torch.testing.assert_close(compiled(use, "eager")(op, x), use(op, x))


class Applied(nn.Module):
    """A module that is given its operator."""

    def forward(self, a: sm.LinearOperator, x: Tensor) -> Tensor:
        return a(x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_export(name: str) -> None:
    """The operator as the weight of a layer, where it is one operator; as an argument."""
    op = built(name, numbers(name))
    x = vector(op.shape[1], op.batch_shape)
    if op.batch_shape:
        program = torch.export.export(Applied(), (op, x))
        torch.testing.assert_close(program.module()(op, x), op(x))
        return
    layer = sm.nn.StructuredLinear(op)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), layer(x))


def functions(a: Any, b: Tensor) -> dict[str, Tensor]:
    """What the linear algebra says about an operator."""
    found = {"diagonal": sm.diagonal(a), "norm": sm.norm(a), "norm 1": sm.norm(a, 1)}
    found["simplified"] = a.simplify()(b.new_ones(a.shape[1]))
    if a.shape[0] == a.shape[1]:
        sign, size = sm.slogdet(a)
        solution = sm.solve(a, b, check=False)
        found |= {"trace": sm.trace(a), "sign": sign, "size": size}
        found |= {"solution": solution.x, "inverse": sm.inv(a)(b)}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", [k for k in ALL if max(built(k, numbers(k)).shape) <= 40])
def test_functions(name: str) -> None:
    """With gradients, where the numbers are regular; the market's are of -1, 0 and 1."""
    op = built(name, numbers(name))
    b = vector(op.shape[0])
    want = functions(op, b)
    got = compiled(functions)(op, b)
    assert got.keys() == want.keys()
    dense = op.to_dense()
    square = op.shape[0] == op.shape[1]
    regular = not square or bool((torch.linalg.cond(dense) < 1e6).all())
    for key, value in want.items():
        if regular or key not in ("solution", "inverse", "sign", "size"):
            torch.testing.assert_close(got[key], value, msg=lambda m, key=key: f"{key}: {m}")
