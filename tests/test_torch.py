"""Operators as citizens of torch: transforms, compilation, export, modules, devices, functions."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from market import MARKET, entries
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import structmat as sm

r = entries(11)
DENSE = sm.Dense(r(4, 4))
EXPRESSION = (
    sm.Dense(r(4, 4)) @ sm.Diagonal(r(4)) + sm.Monarch(r(2, 2, 2), r(2, 2, 2)) - sm.Identity(4)
)
X = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)

STEP = 1e-6


def scaled(op: sm.LinearOperator, k: Any) -> sm.LinearOperator:
    """The operator with every tensor multiplied by k."""
    out: sm.LinearOperator = pytree.tree_map(lambda t: t * k, op)
    return out


def fresh() -> None:
    """Forget what torch.compile compiled before."""
    torch._dynamo.reset()


def small() -> list[str]:
    found = []
    for name, make in MARKET.items():
        op = make(entries(1))
        if max(op.shape) <= 100 and not op.batch_shape and list(op.parameters()):
            found.append(name)
    return found


# vmap --------------------------------------------------------------------------------------------

USES: dict[str, Callable[[sm.LinearOperator, Tensor], Tensor]] = {
    "apply": lambda a, x: a(x),
    "columns": lambda a, x: a @ x,
    "transposed": lambda a, x: x @ a.T,
    "simplified": lambda a, x: a.simplify()(x),
    "dense": lambda a, x: a.to_dense() @ x.to(a.dtype),
    "compiled": lambda a, x: sm.compile(a, backend="torch")(x),
}


@pytest.mark.parametrize("name", small())
def test_vmap_over_operators(name: str) -> None:
    """in_dims reaches the tensors of an operator as those of any pytree."""
    op = MARKET[name](entries(1))
    factors = (1.0, 2.0, -1.0)
    many: sm.LinearOperator = pytree.tree_map(lambda t: torch.stack([t * k for k in factors]), op)
    x = r(3, op.shape[1])
    want = torch.stack([scaled(op, k)(v) for k, v in zip(factors, x, strict=True)])
    for what, use in USES.items():
        got = torch.vmap(use)(many, x)
        assert torch.allclose(got, want), what


def test_vmap_in_dims() -> None:
    weights, xs = r(5, 3, 4), r(5, 4)
    op = sm.Dense(weights)
    want = (weights @ xs.unsqueeze(-1)).squeeze(-1)
    assert torch.equal(torch.vmap(lambda a, x: a(x))(op, xs), want)
    assert torch.equal(torch.vmap(lambda a: a(xs[0]), in_dims=0)(op), weights @ xs[0])
    last = sm.Dense(weights.movedim(0, -1))  # batch dimension last, as in_dims says
    assert torch.equal(torch.vmap(lambda a, x: a(x), in_dims=(2, 0))(last, xs), want)
    some = sm.Diagonal(r(5, 4)) @ sm.Dense(r(4, 4))
    dims = pytree.tree_unflatten([0, None], pytree.tree_structure(some))
    got = torch.vmap(lambda a, x: a(x), in_dims=(dims, 0))(some, xs)
    assert torch.equal(got, some(xs))
    out = torch.vmap(lambda a: a @ a.T)(sm.Dense(r(5, 3, 3)))
    assert isinstance(out, sm.Product)
    assert out.batch_shape == (5,), "operators may be returned"


# derivatives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", small())
def test_forward_mode_is_the_directional_derivative(name: str) -> None:
    op = MARKET[name](entries(1))
    x, v = r(op.shape[1]), r(op.shape[1])
    direction = pytree.tree_map(lambda t: torch.ones_like(t), op)
    for use in (USES["apply"], USES["dense"], USES["simplified"]):
        y, dy = torch.func.jvp(use, (op, x), (direction, v))[:2]
        plus = pytree.tree_map(lambda t, d: t + STEP * d, op, direction)
        minus = pytree.tree_map(lambda t, d: t - STEP * d, op, direction)
        want = (use(plus, x + STEP * v) - use(minus, x - STEP * v)) / (2 * STEP)
        torch.testing.assert_close(y, use(op, x))
        torch.testing.assert_close(dy, want, rtol=1e-6, atol=1e-6 * (1 + want.abs().max().item()))


def test_reverse_mode_and_both() -> None:
    y, pull = torch.func.vjp(lambda a, x: a(x), EXPRESSION, X)[:2]
    gradient, dx = pull(torch.ones_like(y))
    assert type(gradient) is type(EXPRESSION), "the gradient in an operator has its structure"
    assert torch.equal(dx, EXPRESSION.to_dense().mT @ torch.ones_like(y))
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(jacobian(EXPRESSION)(X), EXPRESSION.to_dense())
    hessian = torch.func.hessian(lambda x: (EXPRESSION(x) ** 2).sum())(X)
    w = EXPRESSION.to_dense()
    torch.testing.assert_close(hessian, 2 * w.mT @ w)


def test_double_backward() -> None:
    tensors = [t.clone().requires_grad_() for t in EXPRESSION.parameters()]
    spec = pytree.tree_structure(EXPRESSION)

    def apply(x: Tensor, *tensors: Tensor) -> Tensor:
        op: sm.LinearOperator = pytree.tree_unflatten(list(tensors), spec)
        return op(x)

    x = X.clone().requires_grad_()
    assert torch.autograd.gradcheck(apply, (x, *tensors), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(apply, (x, *tensors))


# torch.compile and export ------------------------------------------------------------------------


COMPILED = ["butterfly", "kronecker_mixed", "shared", "scalar", "conjugated"]


@pytest.mark.parametrize("name", COMPILED)
def test_torch_compile_of_the_market(name: str) -> None:
    op = MARKET[name](entries(2))
    x = r(3, op.shape[1])
    fresh()
    f = torch.compile(lambda a, x: a(x), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(f(op, x), op(x))
    a: Any = op
    g = torch.compile(
        lambda x: (torch.matmul(x, a.T), torch.matmul(a, x.mT), a.T.T(x)),
        fullgraph=True,
        backend="eager",
    )
    for got, want in zip(g(x), (x @ op.T, op @ x.mT, op(x)), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("name", MARKET)
def test_all_of_the_market(name: str) -> None:
    """torch.compile without a graph break, export, and derivatives to second order."""
    op = MARKET[name](entries(1))
    if max(op.shape) > 100:
        return
    x = entries(3)(*op.batch_shape, op.shape[1]).to(op.dtype)
    fresh()
    f = torch.compile(lambda a, x: a(x), fullgraph=True, backend="eager")
    torch.testing.assert_close(f(op, x), op(x))
    torch.testing.assert_close(torch.export.export(Holder(op), (x,)).module()(x), op(x))
    tensors = list(op.parameters())
    if not tensors or sum(t.numel() for t in tensors) > 60:
        return

    def apply(x: Tensor, *new: Tensor) -> Tensor:
        now = dict(zip(map(id, tensors), new, strict=True))
        return op._map(lambda t: now[id(t)], None)(x)

    inputs = [t.detach().clone().requires_grad_() for t in (x, *tensors)]
    assert torch.autograd.gradcheck(apply, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(apply, inputs)


def test_torch_compile_builds_operators() -> None:
    fresh()

    def build(w: Tensor, d: Tensor, x: Tensor) -> Tensor:
        a = sm.Product(sm.Dense(w), sm.Diagonal(d))  # dynamo cannot trace @ between two objects
        return (2 * a + sm.Identity(4) - a.T * d[0] + -(a**2))(x)

    f = torch.compile(build, fullgraph=True, backend="aot_eager")
    args = r(4, 4), r(4), X
    torch.testing.assert_close(f(*args), build(*args))


def test_torch_compile_never_exchanges_operands() -> None:
    """torch 2.13 hands A @ x over as x @ A: where it would be wrong, nothing is compiled."""
    w = r(4, 4)
    op = sm.Dense(w)
    uses: list[Callable[[Any, Tensor], Tensor]] = [
        lambda a, x: a @ x,
        lambda a, x: x @ a,
        lambda a, x: (a @ a.T)(x),
    ]
    for use in uses:
        fresh()
        with pytest.raises(torch._dynamo.exc.Unsupported):
            torch.compile(use, fullgraph=True, backend="eager")(op, X)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got = torch.compile(use, backend="eager")(op, X)
        torch.testing.assert_close(got, use(op, X))


class Holder(nn.Module):
    """A module whose operator's tensors are constants of the graph."""

    def __init__(self, op: sm.LinearOperator) -> None:
        super().__init__()
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Applied(nn.Module):
    """A module that is given its operator."""

    def forward(self, op: sm.LinearOperator, x: Tensor) -> Tensor:
        return op(x)


def test_export() -> None:
    x = r(3, 4)
    layer = sm.nn.StructuredLinear(EXPRESSION)
    batch = {0: torch.export.Dim("batch")}
    for module in (Holder(EXPRESSION), layer):
        program = torch.export.export(module, (x,), dynamic_shapes=(batch,))
        longer = r(7, 4)
        torch.testing.assert_close(program.module()(longer), module(longer))
    assert {f"tree.{k}" for k in EXPRESSION.named_tensors()} <= set(layer.state_dict())


def test_export_with_an_operator_as_argument() -> None:
    program = torch.export.export(Applied(), (EXPRESSION, X))
    again = scaled(EXPRESSION, 2.0)
    torch.testing.assert_close(program.module()(again, X), again(X))
    assert "op_child0_child0_weight" in program.graph_signature.user_inputs


@pytest.mark.parametrize("name", MARKET)
def test_pytree_contexts_are_json(name: str) -> None:
    op = sm.assume(MARKET[name](entries(1)), real=True)
    leaves, spec = pytree.tree_flatten(op)
    again = pytree.treespec_loads(pytree.treespec_dumps(spec))
    other: sm.LinearOperator = pytree.tree_unflatten(leaves, again)
    assert other.structure == op.structure
    assert other.assumed == op.assumed


# modules -----------------------------------------------------------------------------------------


def test_structured_linear() -> None:
    torch.manual_seed(0)
    layer = sm.nn.StructuredLinear(scaled(EXPRESSION, 1.0))
    assert layer.bias is not None
    assert set(layer.state_dict()) == {
        "bias",
        *(f"tree.{k}" for k in EXPRESSION.named_tensors()),
    }
    torch.testing.assert_close(layer(X), EXPRESSION(X))
    text = repr(layer)
    assert "in_features=4, out_features=4, bias=True" in text
    assert f"params={EXPRESSION.cost().params}, flops={EXPRESSION.cost().flops}" in text

    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(X).square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    optimiser.step()
    trained = layer(X).detach()
    assert not torch.allclose(trained, EXPRESSION(X))

    other = sm.nn.StructuredLinear(scaled(EXPRESSION, 0.0))
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(X), trained)
    torch.testing.assert_close(other.operator.to_dense(), layer.operator.to_dense())
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(again(X), trained)
    narrow = copy.deepcopy(layer).to(torch.float32)
    assert narrow(X.float()).dtype == torch.float32
    assert sm.nn.StructuredLinear(EXPRESSION, bias=False).bias is None


def test_structured_linear_keeps_parameters_and_sharing() -> None:
    w = nn.Parameter(r(2, 2))
    layer = sm.nn.StructuredLinear(sm.kron(sm.Dense(w), sm.Dense(w)) @ sm.Diagonal(r(4)))
    assert any(p is w for p in layer.parameters())
    assert len(list(layer.parameters())) == 3, "w once, the diagonal, the bias"
    layer.load_state_dict({k: torch.ones_like(t) for k, t in layer.state_dict().items()})
    assert torch.equal(w, torch.ones_like(w))
    values = {k: torch.zeros_like(t) for k, t in layer.named_parameters()}
    assert not torch.func.functional_call(layer, values, (X,), tie_weights=True).any()
    fresh()
    f = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(f(X), layer(X))


def test_structured_linear_keeps_what_is_assumed() -> None:
    layer = sm.nn.StructuredLinear(sm.assume(DENSE, psd=True))
    assert sm.is_psd(layer.operator) is True


def test_structured_linear_refuses() -> None:
    with pytest.raises(TypeError, match=r"sm\.Dense\(W\)"):
        sm.nn.StructuredLinear(torch.ones(2, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch of shape"):
        sm.nn.StructuredLinear(sm.Dense(r(2, 3, 3)))
    computed = r(3, 3).requires_grad_() * 2
    with pytest.raises(ValueError, match="detach"):
        sm.nn.StructuredLinear(sm.Dense(computed))


def test_saved_whole() -> None:
    buffer = io.BytesIO()
    torch.save(EXPRESSION, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert again.structure == EXPRESSION.structure
    assert torch.equal(again.to_dense(), EXPRESSION.to_dense())


# devices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", small())
def test_meta_device_infers_shapes(name: str) -> None:
    op = MARKET[name](entries(1)).to("meta")
    m, n = op.shape
    assert op.device.type == "meta"
    assert op(torch.empty(5, n, device="meta", dtype=torch.float64)).shape == (5, m)
    assert (op @ torch.empty(n, 2, device="meta", dtype=torch.float64)).shape == (m, 2)
    assert op.to_dense().shape == (m, n)
    assert op.simplify().shape == op.shape
    assert op.cost().flops >= 0


def test_mixed_devices_are_refused() -> None:
    away = DENSE.to("meta")
    with pytest.raises(ValueError, match=r"is on meta, x is on cpu; move one of them: A.to\('cpu'"):
        away(X)
    with pytest.raises(ValueError, match="is on cpu, x is on meta"):
        DENSE @ X.to("meta")
    builds: list[Callable[[], Any]] = [
        lambda: DENSE @ away,
        lambda: away + DENSE,
        lambda: sm.kron(DENSE, away),
    ]
    for build in builds:
        with pytest.raises(ValueError, match=r"Dense\(4x4\) on .* and Dense\(4x4\) on"):
            build()
    both = DENSE @ sm.Identity(4)
    mixed = both._replace({}, [DENSE, away], {})
    with pytest.raises(ValueError, match="move one of them"):
        mixed.to_dense()
    number = torch.tensor(2.0, dtype=torch.float64)
    assert (number * away).device.type == "meta", "a single number may stay on the cpu"
    assert (number * away)(X.to("meta")).shape == (4,)
    assert (sm.Identity(4) @ away).device.type == "meta"


# torch's functions -------------------------------------------------------------------------------

SQUARE = sm.Diagonal(torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)) + sm.LowRank(
    torch.ones(4, 1, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64)
)

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "matmul": lambda a: torch.matmul(a, X),
    "matmul_columns": lambda a: torch.matmul(a, torch.stack([X, X + 1], -1)),
    "matmul_left": lambda a: torch.matmul(torch.ones(3, 4, dtype=torch.float64), a),
    "at_left": lambda a: X @ a,
    "at_right": lambda a: a @ X,
    "method": lambda a: torch.eye(4, dtype=torch.float64).matmul(a),
    "mm": lambda a: torch.mm(torch.eye(4, dtype=torch.float64), a),
    "mv": lambda a: torch.mv(a, X),
    "linear": lambda a: nn.functional.linear(X, a, X),
    "scaled": lambda a: torch.tensor(2.0) * a,
    "mul": lambda a: torch.mul(a, 2),
    "div": lambda a: torch.div(a, 2),
    "add": lambda a: torch.add(a, a, alpha=2),
    "sub": lambda a: torch.sub(a, a, alpha=3),
    "neg": lambda a: torch.neg(a),
    "t": lambda a: torch.t(a),
    "transpose": lambda a: torch.transpose(a, -1, 0),
    "adjoint": lambda a: torch.adjoint(a),
    "conj": lambda a: torch.conj(a),
    "kron": lambda a: torch.kron(a, a),
    "block_diag": lambda a: torch.block_diag(a, a),
    "matrix_power": lambda a: torch.linalg.matrix_power(a, 3),
    "trace": lambda a: torch.trace(a),
    "diagonal": lambda a: torch.diagonal(a),
    "inv": lambda a: torch.linalg.inv(a),
    "solve": lambda a: torch.linalg.solve(a, X),
    "slogdet": lambda a: torch.linalg.slogdet(a).logabsdet,
    "matrix_norm": lambda a: torch.linalg.matrix_norm(a),
    "svdvals": lambda a: torch.linalg.svdvals(a),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_torch(name: str) -> None:
    got = FUNCTIONS[name](SQUARE)
    want = FUNCTIONS[name](SQUARE.to_dense())
    if isinstance(got, sm.LinearOperator):
        got = got.to_dense()
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    "call",
    [
        lambda a: torch.exp(a),
        lambda a: torch.relu(a),
        lambda a: torch.linalg.qr(a),
        lambda a: torch.cat([torch.ones(1, 4), a]),
        lambda a: torch.add(a, torch.ones(4, 4)),
        lambda a: torch.ones(4, 4) + a,
        lambda a: torch.mv(a, torch.ones(4, 2)),
        lambda a: torch.kron(a, torch.ones(2, 2)),
        lambda a: torch.transpose(a, 0, 0),
    ],
)
def test_other_functions_name_the_way_out(call: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"A\.to_dense\(\)|sm\.Dense\(W\)"):
        call(SQUARE)


def test_sum_of_operators() -> None:
    total: Any = sum([SQUARE, SQUARE])
    assert torch.equal(total.to_dense(), (SQUARE + SQUARE).to_dense())


def test_no_warnings_from_pickles() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(sm.nn.StructuredLinear(DENSE)))
