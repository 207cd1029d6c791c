"""The runtime: exact values and gradients, what torch may do with a compiled operator, caches."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from market import MARKET, Make, entries
from oracle import error_bound
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import structmat as sm
from structmat.lowering import cache
from structmat.lowering import program as program_module
from structmat.lowering.ir import interpret
from structmat.lowering.passes import merge_index_maps
from structmat.lowering.program import Program
from structmat.testing import operators, random_operator

FAST = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One cache folder for the module."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cache")
        patch.setenv("STRUCTMAT_CACHE", str(path))
        yield path


def leads(op: sm.LinearOperator) -> list[tuple[int, ...]]:
    """Leading shapes of x: none, empty, odd, two of them."""
    return [(*lead, *op.batch_shape) for lead in ((), (0,), (1,), (7,), (2, 3))]


def integers(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    make = entries(seed, dtype)
    return torch.complex(make(*shape).real, make(*shape).real) if dtype.is_complex else make(*shape)


def learning(op: sm.LinearOperator) -> sm.LinearOperator:
    """The operator on fresh tensors that require gradients; shared tensors stay shared."""
    memo: dict[int, Tensor] = {}

    def fresh(t: Tensor) -> Tensor:
        if id(t) not in memo:
            memo[id(t)] = t.detach().resolve_conj().clone().requires_grad_()
        return memo[id(t)]

    return op._map(fresh, None)


def gradients(
    call: Callable[[Tensor], Tensor], op: sm.LinearOperator, x: Tensor, g: Tensor
) -> list[Tensor]:
    """Gradients of Re <g, call(x)> for x and every tensor of op; zeros where there is none."""
    x = x.detach().clone().requires_grad_()
    leaves = [x, *op.parameters()]
    y = call(x)
    assert y.shape == g.shape
    if not y.requires_grad:
        return [torch.zeros_like(t) for t in leaves]
    found = torch.autograd.grad(y, leaves, g.to(y.dtype), allow_unused=True)
    return [
        torch.zeros_like(t) if d is None else d.resolve_conj()
        for t, d in zip(leaves, found, strict=True)
    ]


def agrees(op: sm.LinearOperator) -> None:
    """f(x) == A(x) and f @ X == A @ X for every batch, and so do all gradients, exactly."""
    op = learning(op)
    f = sm.compile(op, backend="torch")
    m, n = op.shape
    for lead in leads(op):
        x = integers((*lead, n), op.dtype)
        y = f(x)
        assert y.dtype == op(x).dtype
        assert torch.equal(y, op(x)), lead
        columns = integers((*lead, n, 2), op.dtype)
        assert torch.equal(f @ columns, op @ columns), lead
        g = integers((*lead, m), op.dtype, seed=2)
        for got, want in zip(gradients(f, op, x, g), gradients(op, op, x, g), strict=True):
            assert got.dtype == want.dtype
            assert torch.equal(got, want), lead
    if not op.batch_shape:
        assert torch.equal(f @ integers((n,), op.dtype), op @ integers((n,), op.dtype))


# values and gradients ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MARKET)
def test_market(name: str) -> None:
    agrees(MARKET[name](entries(0)))


@FAST
@given(operators())
def test_random_trees(op: sm.LinearOperator) -> None:
    agrees(op)


@pytest.mark.slow
@settings(FAST, max_examples=600)
@given(operators(max_side=30, max_depth=4))
def test_deep_trees(op: sm.LinearOperator) -> None:
    agrees(op)


@pytest.mark.parametrize("name", ["monarch", "butterfly", "shared", "conjugated", "low_rank"])
def test_complex_market(name: str) -> None:
    real = entries(0)

    def make(*shape: int) -> Tensor:
        return torch.complex(real(*shape), real(*shape))

    agrees(MARKET[name](make))
    agrees(MARKET[name](make).H)


SMALL: dict[str, Callable[[Make], sm.LinearOperator]] = {
    "monarch": lambda r: sm.Monarch(r(2, 3, 2), r(2, 2, 2)),
    "butterfly": lambda r: sm.Butterfly(r(2, 2, 2, 2)),
    "sum": lambda r: sm.Diagonal(r(3)) @ sm.Dense(r(3, 2)) + 2 * sm.LowRank(r(3, 1), r(1, 2)),
    "scalar": lambda r: r()[None][0] * sm.Dense(r(2, 3)),
    "shared": lambda r: (lambda w: sm.kron(sm.Dense(w), sm.Dense(w)))(r(2, 2)),
    "direct_sum": lambda r: sm.direct_sum(sm.Dense(r(2, 2)), sm.Identity(1)) @ sm.reversal(3),
    "batched": lambda r: sm.Dense(r(2, 3, 2)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_gradcheck(name: str, dtype: torch.dtype) -> None:
    """First and second derivatives of the operator of torch, for rows and values."""
    op = SMALL[name](entries(3, dtype))
    f = sm.compile(op, backend="torch")
    program = f.program(dtype, torch.device("cpu"))
    gen = torch.Generator().manual_seed(0)
    n = f.graph.nodes[0].size
    x = torch.randn(2, n, generator=gen, dtype=dtype).requires_grad_()
    values = [torch.randn(s, generator=gen, dtype=dtype).requires_grad_() for s in f.graph.shapes]

    def apply(x: Tensor, *values: Tensor) -> Tensor:
        y: Tensor = torch.ops.structmat.apply(x, list(values), program.key)
        return y

    assert torch.autograd.gradcheck(apply, (x, *values))
    assert torch.autograd.gradgradcheck(apply, (x, *values))


def test_gradcheck_through_the_expression() -> None:
    gen = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(s, generator=gen, dtype=torch.float64).requires_grad_()
        for s in ((2, 4), (2, 2, 2), (2, 2, 2), (4,), ())
    ]

    def apply(x: Tensor, left: Tensor, right: Tensor, d: Tensor, alpha: Tensor) -> Tensor:
        op = alpha * (sm.Diagonal(d) @ sm.Diagonal(d) @ sm.Monarch(left, right))
        return sm.compile(op, backend="torch")(x)

    assert torch.autograd.gradcheck(apply, leaves)
    assert torch.autograd.gradgradcheck(apply, leaves)


def test_every_tensor_learns() -> None:
    """A leaf used twice gets both parts; so does a number."""
    r = entries(4)
    w, d, alpha = r(2, 2), r(4), torch.tensor(3.0, dtype=torch.float64)
    for t in (w, d, alpha):
        t.requires_grad_()
    op = alpha * sm.kron(sm.Dense(w), sm.Dense(w)) @ sm.Diagonal(d) + sm.direct_sum(
        sm.Dense(w), sm.Dense(w)
    )
    x = r(5, 4)
    sm.compile(op, backend="torch")(x).square().sum().backward()
    got = [t.grad for t in (w, d, alpha)]
    (want_w, want_d, want_alpha) = torch.autograd.grad(
        (x @ op.to_dense().mT).square().sum(), [w, d, alpha]
    )
    for g, want in zip(got, (want_w, want_d, want_alpha), strict=True):
        assert g is not None
        assert torch.equal(g, want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", MARKET)
def test_low_precision_within_bounds(name: str, dtype: torch.dtype) -> None:
    gen = torch.Generator().manual_seed(8)

    def make(*shape: int) -> Tensor:
        scale = max(shape[-1] if shape else 1, 1) ** -0.5
        made: Tensor = torch.randn(shape, generator=gen) * scale
        return made.to(dtype)

    op = MARKET[name](make)
    op = op.to(dtype) if op.strong_dtype is None else op
    f = sm.compile(op, backend="torch")
    graph = merge_index_maps(f.graph)
    x = torch.randn(7, graph.nodes[0].size, generator=gen).to(dtype)
    y = f(x.reshape(7, *op.batch_shape, op.shape[1])).reshape(7, -1)
    assert y.dtype == dtype
    values = f._values(dtype)
    want = interpret(graph, [x.double()], [v.double() for v in values])[0]
    assert ((y.double() - want).abs() <= error_bound(graph, [x], values, dtype)[0]).all()


def test_dtypes_promote_as_in_torch() -> None:
    real = sm.compile(sm.Dense(entries(0, torch.float32)(3, 2)).T @ sm.reversal(3))
    for dtype in (torch.float32, torch.float64, torch.complex64):
        x = integers((4, 3), dtype)
        assert real(x).dtype == torch.promote_types(dtype, torch.float32)
        assert torch.equal(real(x), real.operator(x))
    free = sm.compile(sm.reversal(3) + sm.Identity(3))
    for dtype in (torch.bfloat16, torch.float16, torch.complex128):
        assert free(integers((4, 3), dtype)).dtype == dtype


def test_gradients_are_real_where_the_arguments_are() -> None:
    w = entries(0)(3, 2).requires_grad_()
    x = integers((4, 2), torch.complex128)
    sm.compile(sm.Dense(w), backend="torch")(x).abs().square().sum().backward()
    want = torch.autograd.grad((x @ w.mT.to(x.dtype)).abs().square().sum(), w)[0]
    assert w.grad is not None
    assert w.grad.dtype == torch.float64
    torch.testing.assert_close(w.grad, want)


# inputs ------------------------------------------------------------------------------------------


def test_unusual_inputs() -> None:
    """Views, strides, zero strides, lists: as A takes them."""
    op = MARKET["monarch"](entries(0))
    f = sm.compile(op, backend="torch")
    n = op.shape[1]
    for x in (
        integers((n, 5)).mT,
        integers((5, 2 * n))[:, ::2],
        integers((1, n)).expand(5, n),
        integers((5, 1)).expand(5, n),
        integers((3, 5, n)).transpose(0, 1),
        integers((5, n)).flip(0),
    ):
        assert torch.equal(f(x), op(x))
        assert f(x).is_contiguous()
    assert torch.equal(f(integers((n,)).tolist()), op(integers((n,)).float()))


@pytest.mark.parametrize(
    "op",
    [
        sm.Identity(4),
        sm.reversal(4) @ sm.reversal(4),
        sm.stride_permutation(4, 2),
        sm.kron(sm.Identity(2), sm.Identity(2)),
        1 * sm.Identity(4),
        sm.Zero(4) + sm.Identity(4),
    ],
    ids=lambda op: op._label(),
)
def test_results_are_not_views_of_inputs(op: sm.LinearOperator) -> None:
    x = integers((3, 4)).requires_grad_()
    f = sm.compile(op, backend="torch")
    y = f(x)
    want = op(x).detach().clone()
    with torch.no_grad():
        x.zero_()
    assert torch.equal(y, want)
    g = torch.ones_like(y)
    (gx,) = torch.autograd.grad(f(x), x, g)
    g.zero_()
    assert torch.equal(gx, torch.ones_like(gx))


def test_parameters_are_read_at_every_call() -> None:
    r = entries(5)
    w, d, e = r(4, 4), r(4), r(4)
    op = sm.Diagonal(d) @ sm.Diagonal(e) @ sm.Dense(w) @ sm.reversal(4)
    f = sm.compile(op, backend="torch")
    x = r(3, 4)
    for grad in (False, True):
        for t in (w, d, e):
            t.requires_grad_(grad)
            for _ in range(2):
                with torch.no_grad():
                    assert torch.equal(f(x), op(x))
                    t.add_(1)
                    assert torch.equal(f(x), op(x))
                assert torch.equal(f(x), op(x))
    before = f(x)
    with torch.no_grad():
        w.set_(w.clone().mul_(2).untyped_storage(), 0, w.shape, w.stride())
    assert torch.equal(f(x), 2 * before)


def test_inference_mode() -> None:
    r = entries(6)
    op = sm.Diagonal(r(4)) @ sm.Diagonal(r(4)) @ sm.Dense(r(4, 3))
    f = sm.compile(op, backend="torch")
    x = r(5, 3)
    with torch.inference_mode():
        assert torch.equal(f(x), op(x))
        inside = sm.compile(sm.Dense(r(2, 3)), backend="torch")
        y = inside(x)
        assert torch.equal(y, inside.operator(x))
        for t in inside.operator.parameters():
            t.add_(1)
        assert torch.equal(inside(x), inside.operator(x))
    # what inference mode left in the cache does not stop learning afterwards
    x.requires_grad_()
    (gx,) = torch.autograd.grad(f(x).sum(), x)
    assert torch.equal(gx, op.to_dense().sum(0).expand(5, 3))
    wide = x.detach().to(torch.complex128).requires_grad_()
    with torch.inference_mode():
        f(wide)
    f(wide).abs().sum().backward()
    assert wide.grad is not None


# torch's machinery -------------------------------------------------------------------------------


def a_program(dtype: torch.dtype = torch.float64) -> tuple[sm.Compiled, Program, list[Tensor]]:
    r = entries(7, dtype)
    op = sm.Diagonal(r(12)) @ sm.Monarch(r(6, 2, 4), r(4, 6, 5))
    f = sm.compile(op, backend="torch")
    values = [torch.randn(s, dtype=dtype).requires_grad_() for s in f.graph.shapes]
    return f, f.program(dtype, torch.device("cpu")), values


def permuted(t: Tensor) -> Tensor:
    """The same numbers, stored in the opposite order of dimensions."""
    order = list(range(t.ndim))[::-1]
    return t.detach().permute(order).contiguous().permute(order).requires_grad_()


def expanded(t: Tensor) -> Tensor:
    """The first entry of the first dimension, everywhere, with stride zero."""
    return t.detach()[:1].expand(t.shape).requires_grad_()


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t,
    "permuted": permuted,
    "expanded": expanded,
}


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_apply(layout: str, rows: int) -> None:
    _, program, values = a_program()
    x = torch.randn(rows, 20, dtype=torch.float64).requires_grad_()
    change = LAYOUTS[layout]
    arguments = (change(x), [change(v) for v in values], program.key)
    torch.library.opcheck(torch.ops.structmat.apply.default, arguments)


@pytest.mark.parametrize("need", [(True, True, True), (True, False, True)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_grads(layout: str, need: tuple[bool, ...]) -> None:
    _, program, values = a_program()
    change = LAYOUTS[layout]
    x = change(torch.randn(5, 20, dtype=torch.float64).requires_grad_())
    g = change(torch.randn(5, 12, dtype=torch.float64).requires_grad_())
    arguments = (x, g, [change(v) for v in values], program.key, list(need))
    torch.library.opcheck(torch.ops.structmat.grads.default, arguments)


@pytest.mark.parametrize("name", ["monarch", "scalar", "shared", "batched", "identity"])
def test_torch_compile_takes_the_whole_graph(name: str) -> None:
    op = learning(MARKET[name](entries(0)))
    f = sm.compile(op, backend="torch")

    def model(x: Tensor) -> Tensor:
        return torch.relu(f(x + 1)) * 2

    torch.compiler.reset()
    fast = torch.compile(model, fullgraph=True, backend="aot_eager")
    for lead in ((4,), (4,), (9,), (2, 3)):
        x = integers((*lead, *op.batch_shape, op.shape[1]))
        g = torch.ones_like(model(x))
        assert torch.equal(fast(x), model(x))
        for got, want in zip(gradients(fast, op, x, g), gradients(model, op, x, g), strict=True):
            assert torch.equal(got, want)
    with torch.no_grad():
        for t in op.parameters():
            t.add_(1)
    assert torch.equal(fast(x), model(x))


class Passing(TorchDispatchMode):
    """Calls what it is given, as a counter or a tracer does."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "op",
    [
        sm.Diagonal(entries(1, torch.complex128)(4) * (2 - 1j)),
        sm.Dense(entries(2, torch.complex128)(4, 4) * (1 + 2j)),
        sm.Circulant(entries(3, torch.complex128)(4) * (1 - 3j)),
        sm.inv(sm.Vandermonde(torch.arange(4) + 1j)),
    ],
    ids=lambda op: op._label(),
)
def test_modes_of_torch_change_nothing(op: sm.LinearOperator) -> None:
    """Inside the handler of a mode, conj() would stay lazy for ever."""
    op = learning(op)
    f = sm.compile(op, backend="torch")
    x, g = (integers((3, 4), torch.complex128, seed) for seed in (1, 2))
    want = [f(x).detach(), *gradients(f, op, x, g)]
    with Passing():  # type: ignore[no-untyped-call]
        got = [f(x).detach(), *gradients(f, op, x, g)]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_vmap() -> None:
    op = learning(MARKET["monarch_scaled"](entries(0)))
    f = sm.compile(op, backend="torch")
    x = integers((3, 4, op.shape[1]))
    assert torch.equal(torch.vmap(f)(x), f(x))
    assert torch.equal(torch.vmap(f, in_dims=1, out_dims=1)(x), f(x))
    assert torch.equal(torch.vmap(torch.vmap(f))(x), f(x))


def test_hessian() -> None:
    """The gradient that comes back depends on x, too: no path is counted twice."""
    op = MARKET["monarch"](entries(0))
    f = sm.compile(op, backend="torch")
    x = integers((op.shape[1],))
    jacobian = torch.autograd.functional.jacobian(f, x)
    assert torch.equal(jacobian, op.to_dense())
    hessian = torch.autograd.functional.hessian(lambda v: f(v).square().sum(), x)
    assert torch.equal(hessian, 2 * op.to_dense().mT @ op.to_dense())
    cubic = torch.autograd.functional.hessian(lambda v: f(v).pow(3).sum(), x)
    w = op.to_dense()
    assert torch.equal(cubic, 6 * w.mT @ (op(x).unsqueeze(-1) * w))


def test_vmap_over_values() -> None:
    _, program, values = a_program()
    x = integers((5, 20))
    many = [torch.stack([v.detach(), v.detach() * 2]) for v in values]

    def apply(x: Tensor, values: list[Tensor]) -> Tensor:
        y: Tensor = torch.ops.structmat.apply(x, values, program.key)
        return y

    got = torch.vmap(apply, in_dims=(None, 0))(x, many)
    for i in range(2):
        torch.testing.assert_close(got[i], apply(x, [v[i] for v in many]))
    one = [many[0], *(v.detach() for v in values[1:])]
    got = torch.vmap(apply, in_dims=(None, [0, *(None for _ in values[1:])]))(x, one)
    torch.testing.assert_close(got[1], apply(x, [many[0][1], *one[1:]]))


def test_vmap_over_a_parameter() -> None:
    """Compiling inside vmap: a family of operators, with gradients for all."""
    r = entries(9)
    w, ds, x = r(4, 3), r(5, 4), r(2, 3)

    def apply(d: Tensor) -> Tensor:
        return sm.compile(sm.Diagonal(d) @ sm.Dense(w), backend="torch")(x)

    got = torch.vmap(apply)(ds)
    assert torch.equal(got, torch.stack([apply(d) for d in ds]))
    ds.requires_grad_()
    (each,) = torch.autograd.grad(torch.vmap(apply)(ds).sum(), ds)
    assert torch.equal(each, (x @ w.mT).sum(0).expand(5, 4))


# caches ------------------------------------------------------------------------------------------


def test_triton_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from structmat.lowering import backends

    monkeypatch.setattr(backends, "has_triton", lambda: False)
    with pytest.raises(RuntimeError, match="pip install triton"):
        sm.compile(sm.Dense(torch.ones(2, 2)), backend="triton")(torch.ones(2))


def never(*args: Any) -> Any:
    raise AssertionError("lowered again")


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own."""
    monkeypatch.setenv("STRUCTMAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tabled() -> sm.LinearOperator:
    """An operator whose module needs an index table."""
    table = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    return sm.Permutation(table) @ sm.Dense(entries(0)(12, 3))


def test_equal_structures_share_a_program(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    r = entries(1)
    first = sm.compile(sm.Monarch(r(6, 2, 4), r(4, 6, 5)), backend="torch")
    x = r(3, 20)
    first(x)
    files = sorted(fresh.iterdir())
    assert {f.suffix for f in files} == {".py", ".json"}
    monkeypatch.setattr(program_module, "lower", never)
    second = sm.compile(sm.Monarch(r(6, 2, 4), r(4, 6, 5)), backend="torch")
    assert torch.equal(second(x), second.operator(x))
    assert sorted(fresh.iterdir()) == files
    here = torch.float64, torch.device("cpu")
    assert first.program(*here).key == second.program(*here).key
    assert not torch.equal(first(x), second(x))


SECOND = """
import sys, torch, structmat as sm
from structmat.lowering import program
if sys.argv[1] == "second":
    def never(*args): raise SystemExit("lowered again")
    program.lower = never
gen = torch.Generator().manual_seed(0)
w = torch.randn(12, 3, generator=gen).requires_grad_()
f = sm.compile(sm.Permutation(torch.randperm(12, generator=gen)) @ sm.Dense(w), backend="torch")
x = torch.randn(5, 3, generator=gen)
y = f(x)
y.sum().backward()
torch.testing.assert_close(y, f.operator(x))
assert w.grad is not None
"""


def test_another_process_finds_the_entry(fresh: Path, tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[1])
    for which in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "-c", SECOND, which],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    assert len(list(fresh.glob("*.py"))) == 2


@pytest.mark.parametrize("suffix", [".py", ".json"])
@pytest.mark.parametrize("damage", ["", "raise SystemExit('damaged')\n", None])
def test_damaged_entries_are_rebuilt(fresh: Path, suffix: str, damage: str | None) -> None:
    op = tabled()
    x = integers((2, 3))
    want = sm.compile(op, backend="torch")(x)
    (path,) = fresh.glob(f"*{suffix}")
    whole = path.read_text()
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage)
    assert torch.equal(sm.compile(op, backend="torch")(x), want)
    assert path.read_text() == whole


def test_unwritable_folders_cost_time_only(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    op, x = tabled(), integers((2, 3))
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("STRUCTMAT_CACHE", str(tmp_path / "file" / "cache"))
    assert torch.equal(sm.compile(op, backend="torch")(x), op(x))

    # an entry that is damaged and cannot be replaced is not used
    monkeypatch.setenv("STRUCTMAT_CACHE", str(fresh))
    sm.compile(op, backend="torch")(x)
    (path,) = fresh.glob("*.py")
    path.write_text("raise SystemExit('damaged')\n")

    def unwritable(*args: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(cache, "store", unwritable)
    assert torch.equal(sm.compile(op, backend="torch")(x), op(x))


def test_folder_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRUCTMAT_CACHE", "/a")
    assert cache.cache_dir() == Path("/a")
    monkeypatch.delenv("STRUCTMAT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache.cache_dir() == Path("/b/structmat")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_dir() == Path.home() / ".cache" / "structmat"


def test_keys_tell_programs_apart() -> None:
    w = entries(0)(4, 4)
    cpu = torch.device("cpu")
    keys = [
        sm.compile(op, backend="torch").program(dtype, cpu).key
        for op in (sm.Dense(w), sm.Dense(w).T, sm.BlockDiagonal(w[None]) @ sm.reversal(4), tabled())
        for dtype in (torch.float32, torch.float64)
    ]
    assert len(set(keys)) == len(keys)


def test_strides_of_leaves() -> None:
    """Equal structures whose tensors lie differently in memory are all right."""
    x = integers((3, 6))
    base = entries(2)(4, 4, 4, 4)
    w = base[0, 0, :, :3].reshape(2, 6).clone()
    for view in (w, w.mT.contiguous().mT, torch.stack([w, w], -1)[..., 0], w[:1].expand(2, 6)):
        assert torch.equal(sm.compile(sm.Dense(view), backend="torch")(x), x @ view.mT)
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)):
        back = [order.index(i) for i in range(3)]
        right = entries(3)(2, 4, 3).permute(order).contiguous().permute(back)
        left = entries(4)(4, 3, 2).permute(order).contiguous().permute(back)
        agrees(sm.Monarch(left, right))
        kept = sm.Monarch(left, right)
        assert torch.equal(sm.compile(kept, backend="torch")(x), kept(x))


def test_operators_travel() -> None:
    op = MARKET["permuted"](entries(0))
    x = integers((2, 128))
    again = pickle.loads(pickle.dumps(op))
    assert torch.equal(sm.compile(again, backend="torch")(x), op(x))
    doubled = pytree.tree_map(lambda t: t * 2, sm.Dense(op.to_dense()))
    assert torch.equal(sm.compile(doubled, backend="torch")(x), 2 * op(x))


@pytest.mark.parametrize("seed", range(10))
def test_large_batches(seed: int) -> None:
    """Many rows give what single rows give."""
    op = random_operator(seed, max_side=12)
    f = sm.compile(op, backend="torch")
    x = integers((50, *op.batch_shape, op.shape[1]), op.dtype)
    whole = f(x)
    assert math.prod(whole.shape) == 50 * math.prod(op.batch_shape) * op.shape[0]
    for i in (0, 17, 49):
        assert torch.equal(whole[i], f(x[i]))
