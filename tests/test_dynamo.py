"""torch.compile(fullgraph=True) and torch.export of every structure, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from market import MARKET, ROUNDED, Make, entries
from torch import Tensor, nn

import structmat as sm

ALL: dict[str, Callable[[Make], sm.LinearOperator]] = {**MARKET, **ROUNDED}
Function = Callable[..., Any]


FAST = {
    "permuted",
    "butterfly",
    "kronecker_mixed",
    "batched_monarch",
    "lifted_slice",
    "sparse_lifted",
    "inverse",
    "fourier_chain",
    "rdft",
}
"""Structures that run everywhere; the others are slow tests."""


def few(names: Iterable[str]) -> list[Any]:
    """All names, most of them marked slow."""
    return [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in names]


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


@pytest.mark.parametrize("name", few(ALL))
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


@pytest.mark.parametrize("name", few(ALL))
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


@pytest.mark.parametrize("name", few(ALL))
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


def functions(a: Any, b: Tensor, regular: bool) -> dict[str, Tensor]:
    """What the linear algebra says about an operator."""
    found = {"diagonal": sm.diagonal(a), "norm": sm.norm(a), "norm 1": sm.norm(a, 1)}
    found["simplified"] = a.simplify()(b.new_ones(a.shape[1]))
    found["pseudoinverse"] = sm.pinv(a)(b)
    if a.shape[0] == a.shape[1]:
        found["trace"] = sm.trace(a)
    if regular:
        found["sign"], found["size"] = sm.slogdet(a)
        found |= {"solution": sm.solve(a, b).x, "inverse": sm.inv(a)(b)}
    return found


@pytest.mark.parametrize("name", few([k for k in ALL if max(built(k, numbers(k)).shape) <= 40]))
def test_functions(name: str) -> None:
    """The market's numbers are -1, 0 and 1: systems and determinants where they are regular."""
    op = built(name, numbers(name))
    b = vector(op.shape[0])
    square = op.shape[0] == op.shape[1]
    regular = square and bool((torch.linalg.cond(op.to_dense()) < 1e6).all())
    got, want = compiled(functions)(op, b, regular), functions(op, b, regular)
    assert got.keys() == want.keys()
    for key, value in want.items():
        torch.testing.assert_close(got[key], value, msg=f"{key}: {got[key]} is not {value}")


# linear algebra, with gradients ------------------------------------------------------------------


def drawn(*shape: int) -> Tensor:
    """Numbers without pattern, small beside 1."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64) / 8


def towards(n: int) -> Tensor:
    """A matrix whose rows its diagonal leads."""
    return drawn(n, n) + 2 * torch.eye(n, dtype=torch.float64)


FIRST = torch.tensor([3.0, 0.5, -0.25, 0.125, 0.5, 0.25], dtype=torch.float64)

REGULAR: dict[str, tuple[Callable[..., sm.LinearOperator], list[Tensor]]] = {
    "dense": (sm.Dense, [towards(6)]),
    "diagonal": (sm.Diagonal, [FIRST + 1]),
    "blocks": (sm.BlockDiagonal, [torch.stack([towards(3), towards(3).T])]),
    "toeplitz": (sm.Toeplitz, [FIRST[:4]]),
    "circulant": (sm.Circulant, [FIRST]),
    "kronecker": (lambda a, b: sm.kron(sm.Dense(a), sm.Dense(b)), [towards(2), towards(3)]),
    "woodbury": (
        lambda d, u, v: sm.Diagonal(d) + sm.LowRank(u, v),
        [FIRST + 1, drawn(6, 2), drawn(2, 6)],
    ),
    "product": (
        lambda a, d: sm.Product(sm.Dense(a), sm.reversal(6), sm.Diagonal(d)),
        [towards(6), FIRST],
    ),
    "butterfly": (sm.Butterfly, [towards(2).expand(3, 4, 2, 2).clone()]),
}
"""Regular operators of structures whose systems are solved in different ways, and their numbers."""


@pytest.mark.parametrize("name", REGULAR)
def test_gradients(name: str) -> None:
    make, tensors = REGULAR[name]
    tensors = [t.clone().requires_grad_() for t in tensors]
    b = vector(make(*tensors).shape[0]).requires_grad_()

    def use(b: Tensor, *tensors: Tensor) -> list[Tensor]:
        a = make(*tensors)
        solution = sm.solve(a, b).x
        return [solution, sm.inv(a)(b), sm.logdet(a), sm.trace(a), sm.diagonal(a), sm.norm(a)]

    got, want = compiled(use)(b, *tensors), use(b, *tensors)
    torch.testing.assert_close(got, want)
    inputs = [b, *tensors]
    torch.testing.assert_close(gradients(got, inputs), gradients(want, inputs))


def test_least_squares() -> None:
    """Of a tall matrix, with gradients."""
    w = drawn(7, 4).requires_grad_()
    b = vector(7).requires_grad_()

    def use(w: Tensor, b: Tensor) -> list[Tensor]:
        return [sm.solve(sm.Dense(w), b).x, sm.pinv(sm.Dense(w))(b)]

    got, want = compiled(use)(w, b), use(w, b)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, [w, b]), gradients(want, [w, b]))


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 4, 4), (0, 3)])
def test_complex_pseudoinverse(shape: tuple[int, ...]) -> None:
    """torch's own, of complex numbers, is wrong in its compiled graphs."""
    w = torch.complex(drawn(*shape), drawn(*shape[:-2], shape[-1], shape[-2]).mT).requires_grad_()

    def use(w: Tensor) -> list[Tensor]:
        return [sm.pinv(sm.Dense(w)).to_dense(), sm.pinv(sm.BlockDiagonal(w[None])).to_dense()]

    got, want = compiled(use)(w), use(w)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(got[0], torch.linalg.pinv(w))
    torch.testing.assert_close(gradients(got, [w]), gradients(want, [w]))


# what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cg", "gmres"])
def test_iterations_are_refused(method: str) -> None:
    a, b = sm.Dense(towards(6)), vector(6)
    with pytest.raises(
        torch._dynamo.exc.UserError, match=f"{method} looks at numbers.*method='dense'"
    ):
        compiled(lambda a, b: sm.solve(a, b, method=method).x)(a, b)


def test_matmul_operator_is_refused() -> None:
    """Dynamo hands A @ x and x @ A over alike."""
    a, x = sm.Dense(towards(6)), vector(6)
    with pytest.raises(Exception, match=r"inside it write A\(x\)"):
        compiled(lambda a, x: a @ x)(a, x)
