"""f @ X where the torch backend works on columns, (n, b) and (m, b), without transposing them."""

from __future__ import annotations

import pytest
import torch
from market import MARKET, entries
from torch import Tensor

import structmat as sm
from structmat.lowering.ir import Graph, Input
from structmat.lowering.pipeline import lower
from structmat.lowering.plan import Device
from structmat.testing import random_operator

D = torch.float64
PLAIN = [name for name in MARKET if not MARKET[name](entries(0)).batch_shape]


def learning(op: sm.LinearOperator) -> sm.LinearOperator:
    for t in op.parameters():
        t.requires_grad_()
    return op


def gradients(y: Tensor, op: sm.LinearOperator, x: Tensor) -> list[Tensor]:
    leaves = [x, *op.parameters()]
    if not y.requires_grad:
        return [torch.zeros_like(t) for t in leaves]
    g = entries(5, y.dtype)(*y.shape)
    return list(torch.autograd.grad(y, leaves, g, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("name", PLAIN)
def test_values_and_gradients(name: str) -> None:
    op = learning(MARKET[name](entries(0)))
    f = sm.compile(op, backend="torch")
    for b in (1, 2, 5, 0):
        x = entries(1, op.dtype)(op.shape[1], b).requires_grad_()
        y, want = f @ x, op @ x
        assert y.is_contiguous()
        assert torch.equal(y, want)
        for got, expected in zip(gradients(y, op, x), gradients(want, op, x), strict=True):
            assert torch.equal(got, expected)


@pytest.mark.parametrize("seed", range(60))
def test_random_trees(seed: int) -> None:
    op = random_operator(3000 + seed)
    f = sm.compile(op, backend="torch")
    x = entries(1, op.dtype)(op.shape[1], 3)
    assert torch.equal(f @ x, op @ x)


def test_which_layout_runs() -> None:
    """Columns that lie side by side run as columns; transposed rows are rows again."""
    op = MARKET["monarch"](entries(0))
    f = sm.compile(op)
    x = entries(1)(op.shape[1], 3)
    f @ x
    assert "columns (n, t)" in f.source
    assert "contiguous" not in f.source
    f @ x.mT.contiguous().mT
    assert "rows (t, n)" in f.source
    f(x.mT)
    assert "rows (t, n)" in f.source
    assert torch.equal(f @ x, f(x.mT).mT)
    wide = entries(2)(op.shape[1], 8)[:, 1:6]
    assert torch.equal(f @ wide, op @ wide)
    assert "columns (n, t)" in f.source
    assert "columns" not in sm.compile(op).explain()


def test_dtypes_are_promoted() -> None:
    f = sm.compile(sm.Diagonal(torch.ones(3, dtype=D)) @ sm.Dense(torch.ones(3, 4, dtype=D)))
    assert (f @ torch.ones(4, 2)).dtype == D
    assert (f @ torch.ones(4, 2, dtype=torch.complex64)).dtype == torch.complex128


def test_results_are_never_views_of_the_input() -> None:
    x = torch.ones(4, 2)
    y = sm.compile(sm.Identity(4)) @ x
    y.add_(1)
    assert torch.equal(x, torch.ones(4, 2))


@pytest.mark.parametrize("change", [lambda t: t, lambda t: t.detach().t().contiguous().t()])
def test_opcheck(change: object) -> None:
    assert callable(change)
    f = sm.compile(MARKET["monarch_scaled"](entries(0, D)), backend="torch")
    n, m = f.shape[1], f.shape[0]
    program = f.program(D, torch.device("cpu"), columns=True)
    values = [torch.randn(s, dtype=D).requires_grad_() for s in f.graph.shapes]
    x, g = (change(torch.randn(s, 5, dtype=D)).requires_grad_() for s in (n, m))
    torch.library.opcheck(torch.ops.structmat.apply.default, (x, values, program.key))
    for need in ([True] * (1 + len(values)), [True] + [False] * len(values)):
        arguments = (x, g, values, program.key, need)
        torch.library.opcheck(torch.ops.structmat.grads.default, arguments)


@pytest.mark.parametrize("made", [True, False])
def test_torch_compile(made: bool) -> None:
    """Rows serve while nothing has run on columns yet; Dynamo takes the method, not the sign."""
    op = learning(MARKET["monarch"](entries(0)))
    f = sm.compile(op, backend="torch")
    x = entries(1)(op.shape[1], 4)
    if made:
        f @ x

    def product(x: Tensor) -> Tensor:
        y: Tensor = f.__matmul__(x + 1)
        return torch.relu(y)

    torch.compiler.reset()
    fast = torch.compile(product, fullgraph=True, backend="aot_eager")
    for b in (4, 9):
        x = entries(b)(op.shape[1], b).requires_grad_()
        y, want = fast(x), torch.relu(op @ (x + 1))
        assert torch.equal(y, want)
        for got, expected in zip(gradients(y, op, x), gradients(want, op, x), strict=True):
            assert torch.equal(got, expected)


def test_vmap() -> None:
    op = MARKET["monarch_scaled"](entries(0))
    f = sm.compile(op, backend="torch")
    x = entries(1)(3, 4, op.shape[1], 5)
    want = op @ x
    assert torch.equal(torch.vmap(lambda v: f @ v)(x[0]), want[0])
    assert torch.equal(torch.vmap(torch.vmap(lambda v: f @ v))(x), want)
    turned = x[0].movedim(0, -1).contiguous()
    assert torch.equal(torch.vmap(lambda v: f @ v, in_dims=2)(turned), want[0])


def test_second_derivatives() -> None:
    op = learning(MARKET["monarch"](entries(0)))
    f = sm.compile(op, backend="torch")
    x = entries(1)(op.shape[1], 2)

    def loss(product: sm.LinearOperator | sm.Compiled, x: Tensor, *ts: Tensor) -> Tensor:
        y: Tensor = product @ x
        return y.pow(3).sum()

    found = []
    for product in (f, op):
        v = x.clone().requires_grad_()
        first = torch.autograd.grad(loss(product, v), [v, *op.parameters()], create_graph=True)
        second = sum(t.square().sum() for t in first)
        assert isinstance(second, Tensor)
        found.append([*first, *torch.autograd.grad(second, [v, *op.parameters()])])
    for got, want in zip(*found, strict=True):
        assert torch.equal(got, want)


def test_other_backends_work_on_rows() -> None:
    graph = Graph((Input(4, 0),), (0,), ())
    with pytest.raises(ValueError, match="works on rows"):
        lower(graph, "triton", "float32", Device(), "none", columns=True)
