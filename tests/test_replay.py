"""Recorded tensor operations: on other tensors, with gradients, without the machinery of torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

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


@pytest.mark.parametrize(
    "function",
    [lambda t: [t * float(t[0])], lambda t: [t if bool((t > 0).all()) else -t]],
    ids=["item", "branch"],
)
def test_numbers_are_not_read(function: Callable[..., list[Tensor]]) -> None:
    with pytest.raises(RuntimeError, match=r"compile: aten.* reads a number of a tensor"):
        recorded(function, [torch.ones(3)])


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
