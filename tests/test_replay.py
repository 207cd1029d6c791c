"""Recorded tensor operations: on other tensors, with gradients, without the machinery of torch."""

from __future__ import annotations

import copy
import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import structmat as sm
from structmat.lowering.replay import recorded

W = torch.float64
TABLE = torch.tensor([2, 0, 1])


def several(a: Tensor, b: Tensor) -> list[Tensor]:
    """Views, results in place, several results of one operation, a constant, factories."""
    base = torch.zeros(3, 2, dtype=a.dtype)
    base[:, 0].copy_(a)
    base[:, 1].add_(b[TABLE])
    first, second = torch.unbind(base @ torch.eye(2, dtype=a.dtype), 1)
    values, _ = torch.sort(first * second)
    return [values, torch.fft.fft(a).abs(), a]


def test_operations_are_repeated_on_other_tensors() -> None:
    a, b = torch.randn(3, dtype=W), torch.randn(3, dtype=W)
    run = recorded(several, [a, b])
    for x, y in ((a, b), (torch.randn(3, dtype=W), torch.randn(3, dtype=W))):
        for got, want in zip(run(x, y), several(x, y), strict=True):
            assert torch.equal(got, want)
    x, y = (torch.randn(3, dtype=W, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x, y: tuple(run(x, y)[:2]), (x, y))
    assert torch.autograd.gradgradcheck(lambda x, y: tuple(run(x, y)[:2]), (x, y))


def test_a_recording_holds_no_graph_and_no_argument() -> None:
    a = torch.randn(3, requires_grad=True)
    run = recorded(lambda t: [t * 2, t], [a])
    doubled, same = run(torch.ones(3))
    assert not doubled.requires_grad
    assert torch.equal(doubled, torch.full((3,), 2.0))
    assert torch.equal(same, torch.ones(3))
    assert not any(t.data_ptr() == a.data_ptr() for t in run.buffers())  # type: ignore[attr-defined]


def listed(t: Tensor) -> list[Tensor]:
    return [t * t.tolist()[0]]


def written(t: Tensor) -> list[Tensor]:
    """A number that reached the tensor read by a write into a view."""
    base = torch.zeros(2, 3)
    rows = base[0]
    base.select(1, 0).copy_(t[:2])
    return [t * float(rows[0])]


@pytest.mark.parametrize(
    "function",
    [
        lambda t: [t * float(t[0])],
        lambda t: [t if bool((t > 0).all()) else -t],
        listed,
        written,
        lambda t: [torch.from_numpy(t.numpy() * 2)],
        lambda t: [torch.from_numpy(np.asarray(t) * 2)],
        lambda t: [torch.tensor([t[0], t[1]])],
        lambda t: [torch.as_tensor([t[0], 1.0])],
        lambda t: [t.new_tensor([[t[0]]])],
        lambda t: [copy.deepcopy(t)],
        lambda t: [t[t > 0]],
        lambda t: [t.nonzero()],
        lambda t: [t.masked_select(t > 0)],
        lambda t: [torch.unique(t)],
    ],
)
def test_numbers_are_not_read(function: Callable[..., list[Tensor]]) -> None:
    with pytest.raises(RuntimeError, match=r"compile: .* reads a number of a tensor"):
        recorded(function, [torch.ones(3)])


def test_numbers_of_constants_are_read() -> None:
    """They are the same for all arguments, as are tensors that are made of nothing."""
    table = TABLE.clone()
    run = recorded(lambda t: [t * int(table.max()), t[table > 0], t + table.tolist()[0]], [ones()])
    x = torch.arange(3.0)
    for got, want in zip(run(x), (2 * x, x[::2], x + 2), strict=True):
        assert torch.equal(got, want)


def ones() -> Tensor:
    return torch.ones(3)


@pytest.mark.parametrize(
    "function",
    [
        lambda t: [t + torch.rand(3)],
        lambda t: [torch.bernoulli(t)],
        lambda t: [t + torch.randn(3, generator=torch.Generator().manual_seed(1))],
        lambda t: [torch.empty(3).normal_() + t],
        lambda t: [torch.dropout(t, 0.5, True)],
    ],
)
def test_no_random_numbers_are_drawn(function: Callable[..., list[Tensor]]) -> None:
    with pytest.raises(RuntimeError, match=r"compile: aten.* draws random numbers"):
        recorded(function, [torch.ones(3)])


def several_at_once(t: Tensor) -> list[Tensor]:
    torch._foreach_exp_([t])
    return [t]


@pytest.mark.parametrize(
    "function",
    [
        lambda t: [t.mul_(2)],
        lambda t: [t.view(3, 1)[1:].zero_()],
        lambda t: [t.data.add_(1)],
        lambda t: [torch.add(t, 1, out=t)],
        several_at_once,
        lambda t: [TABLE.add_(1) * t],
        lambda t: [TABLE[:2].zero_(), TABLE + t],
    ],
)
def test_nothing_is_written_outside(function: Callable[..., list[Tensor]]) -> None:
    a, before = torch.ones(3), TABLE.clone()
    with pytest.raises(RuntimeError, match=r"compile: aten.* writes into a tensor"):
        recorded(function, [a])
    assert torch.equal(a, torch.ones(3))
    assert torch.equal(TABLE, before)


def in_place(t: Tensor) -> list[Tensor]:
    """Writes into what was made here, of numbers or by operations, of all kinds."""
    numbers = torch.tensor([1.0, 2.0, 3.0], dtype=t.dtype)
    numbers.mul_(2).add_(t)
    pair = [t * 1, t * 2]
    torch._foreach_mul_(pair, 3.0)
    torch.mul(pair[0], numbers, out=pair[1])
    turned = torch.complex(t, numbers).conj()
    turned.imag.neg_()
    turned.mul_(turned.conj() + 1)
    grid = torch.zeros(2, 3, dtype=t.dtype)
    grid[1], grid[0, 1:] = t, 5
    return [numbers, *pair, turned, grid.T, grid.narrow(0, 1, 1), t.data * 2]


def test_writes_are_repeated_once_a_run() -> None:
    run = recorded(in_place, [torch.randn(3, dtype=W)])
    for _ in range(3):
        x = torch.randn(3, dtype=W)
        for got, want in zip(run(x), in_place(x), strict=True):
            assert torch.equal(got, want)


def test_constants_are_kept_by_reference() -> None:
    weight = torch.ones(3, requires_grad=True)
    run = recorded(lambda t: [t * weight, weight], [ones()])
    with torch.no_grad():
        weight.fill_(4)
    product, same = run(ones())
    assert torch.equal(product, torch.full((3,), 4.0))
    assert same is weight
    assert torch.equal(torch.autograd.grad(product.sum(), weight)[0], ones())


def test_several_results_dtypes_and_derivatives() -> None:
    def function(t: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            leaf = t.detach().requires_grad_()
            slope = torch.autograd.grad(leaf.exp().sum(), leaf)[0]
        wide = t.to(W)
        parts = torch.split(torch.stack([wide, wide * wide]), 1)
        return [slope, *parts, *torch.linalg.slogdet(torch.outer(t, t) + torch.eye(3)), t > 0]

    run = recorded(function, [torch.randn(3)])
    x = torch.randn(3)
    for got, want in zip(run(x), function(x), strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


def test_intermediate_results_are_let_go() -> None:
    found: list[weakref.ref[Tensor]] = []

    def function(t: Tensor) -> list[Tensor]:
        for _ in range(5):
            t = t * 2
            found.append(weakref.ref(t))
        assert sum(r() is not None for r in found) == 1
        return [t]

    assert torch.equal(recorded(function, [ones()])(ones())[0], torch.full((3,), 32.0))


def folded() -> sm.LinearOperator:
    """An operator whose first column is computed, by a matrix product."""
    g = torch.Generator().manual_seed(0)
    a, b, c = ((torch.rand(24, generator=g) * 0.9).requires_grad_() for _ in range(3))
    return sm.StateSpace(a, b, c, None, 200)


@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, partial(torch.autocast, "cpu", dtype=torch.bfloat16)],
    ids=["no_grad", "inference", "autocast"],
)
def test_modes_of_the_first_call_are_not_kept(mode: Callable[[], Any]) -> None:
    A, x = folded(), torch.ones(2, 200)
    with mode():
        f = sm.compile(A)
        with torch.no_grad():
            f(x)
    with torch.no_grad():
        assert torch.allclose(f(x), A(x), rtol=1e-5)
    got = torch.autograd.grad(f(x).square().sum(), list(A.parameters()))
    want = torch.autograd.grad(A(x).square().sum(), list(A.parameters()))
    for g, w in zip(got, want, strict=True):
        assert torch.allclose(g, w, rtol=1e-4)


def test_compiled_within_torch_func() -> None:
    """Its values follow the operator's tensors afterwards."""
    A, x, made = folded(), torch.ones(2, 200), list[Any]()

    def scaled(s: Tensor) -> Tensor:
        made.append(sm.compile(A))
        with torch.no_grad():
            y = made[-1](x)
        product: Tensor = (y * s).sum()
        return product

    slope = torch.func.grad(scaled)(torch.tensor(1.0))
    assert torch.allclose(slope, A(x).sum(), rtol=1e-5)
    with torch.no_grad():
        assert torch.allclose(made[-1](x), A(x), rtol=1e-5)
        for t in A.parameters():
            t.mul_(0.5)
        assert torch.allclose(made[-1](x), A(x), rtol=1e-5)
    assert torch.allclose(made[-1](x), A(x), rtol=1e-5)


def test_recorded_values_under_torch_compile() -> None:
    A = sm.Toeplitz(torch.randn(6), torch.randn(6))
    f = sm.compile(A)
    x = torch.randn(4, 6)
    g = torch.compile(lambda v: f(v), backend="eager", fullgraph=True)
    assert torch.allclose(g(x), A(x), atol=1e-5)


def test_compiling_imports_no_compiler_of_torch() -> None:
    code = (
        "import sys, torch, structmat as sm\n"
        "f = sm.compile(sm.StateSpace(torch.rand(3), torch.rand(3), torch.rand(3), None, 300))\n"
        "f(torch.randn(2, 300))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
