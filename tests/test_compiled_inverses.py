"""Inverses that stay lazy, compiled: words on tensors that are made once, or a call."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from market import MARKET, ROUNDED, entries
from oracle import chains, dense_of
from systems import SYSTEMS, away, close, eye, grid, heavy, maker, regular, thin
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

import structmat as sm
from structmat.builder import Eager, Lift
from structmat.linalg.forms import dense_form, forms
from structmat.lowering import program as program_module
from structmat.lowering.backends import choose_backend
from structmat.lowering.calls import called
from structmat.lowering.ir import interpret, to_dense
from structmat.lowering.passes import choose_layouts, merge_index_maps
from structmat.lowering.plan import H100, fuse
from structmat.lowering.record import record, to_chain
from structmat.lowering.verify import check_chain, check_merged, check_plan, check_source
from structmat.primitives import Solve
from structmat.primitives.solve import factored
from structmat.testing import check_operator

W = torch.float64
INVERSES = [name for name in ROUNDED if name.startswith("inverse")]


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One cache folder for the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRUCTMAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


# every structure ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INVERSES)
def test_market(name: str) -> None:
    """Values and gradients, rows and columns, of the operator and its transpose."""
    check_operator(ROUNDED[name](entries(3, torch.float32)).T, backends=("torch",))
    dtype = torch.complex128
    op = ROUNDED[name](entries(3, dtype))
    check_operator(op, backends=("torch",))
    f = sm.compile(op)
    columns = entries(4, dtype)(*op.batch_shape, op.shape[1], 3)
    torch.testing.assert_close(f @ columns, op @ columns)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system(name: str) -> None:
    """f(x) is the dense solution, and its gradients are those of the lazy inverse."""
    for kind in ("real64", "complex128"):
        op = SYSTEMS[name][0](maker(kind))
        inverse = sm.Inverse(op)
        x = maker(kind, 1)(op.shape[0], 3)
        dense = op.to_dense()
        dense = dense.to(torch.promote_types(dense.dtype, x.dtype))
        close(sm.compile(inverse) @ x, dense, x)
        g = maker(kind, 2)(op.shape[0], 3).to(dense.dtype)
        learning = op._map(lambda t: t.clone().requires_grad_(), None)
        tensors = list(learning.parameters())
        inverse = sm.Inverse(learning)
        if tensors:
            found = [torch.autograd.grad(f @ x, tensors, g) for f in (sm.compile(inverse), inverse)]
            for got, want in zip(*found, strict=True):
                torch.testing.assert_close(got, want)


@pytest.mark.parametrize(("kind", "batch"), [("real64", ()), ("complex128", (2,))])
@pytest.mark.parametrize("name", SYSTEMS)
def test_forms(name: str, kind: str, batch: tuple[int, ...]) -> None:
    """Every form of every system, whichever would be chosen, alone and between identities."""
    op = SYSTEMS[name][0](maker(kind))
    if batch:
        op = op._map(lambda t: torch.stack([t, t * 1.5]), None)
    if isinstance(op, sm.Transpose):
        op = op.children[0]._transpose()
    if op.strong_dtype is None:
        op = op.to(maker(kind)(1).dtype)
    dense = op.to_dense()
    n = op.shape[0]
    for form in [*forms(op), dense_form(op)]:
        x = maker(kind, 1)(*batch, 3, n).to(op.dtype)
        close(form.lower(Eager(), x).mT, dense, x.mT)
        x = maker(kind, 2)(*batch, 1, 2 * n * 3).to(op.dtype)
        y = form.lower(Lift(Eager(), 2, 3), x).reshape(*batch, 2, n, 3)
        for part, right in zip(y.unbind(-3), x.reshape(*batch, 2, n, 3).unbind(-3), strict=True):
            close(part, dense, right)


@pytest.mark.parametrize("kind", ["real64", "complex128"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_calls(name: str, kind: str) -> None:
    """Every inverse as a call of its plan: matrix, transpose, conjugate, gradient."""
    op = sm.Inverse(SYSTEMS[name][0](maker(kind)))
    call, w = called(op)
    n = op.shape[0]
    assert (call.ins, call.outs) == (n, n)
    dense = op.to_dense()
    dense = dense.to(torch.promote_types(dense.dtype, maker(kind)(1).dtype))
    right = torch.eye(n, dtype=dense.dtype)
    torch.testing.assert_close(call(right, w), dense, rtol=0, atol=1e-11)
    torch.testing.assert_close(call.transposed()(right, w), dense.mT, rtol=0, atol=1e-11)
    star = None if w is None else w.conj()
    torch.testing.assert_close(call.conjugated()(right, star), dense.conj(), rtol=0, atol=1e-11)
    if w is None:
        return
    x, g = (maker(kind, seed)(1, 2, n, 3) for seed in (1, 2))
    leaf = w.detach().requires_grad_()
    (want,) = torch.autograd.grad(call(x.to(dense.dtype), leaf), leaf, g.to(dense.dtype))
    got = call.gradient(x, g, w[None])[0]
    torch.testing.assert_close(got.to(want.dtype), want, rtol=0, atol=1e-10)


# each level of the compiler ----------------------------------------------------------------------


@pytest.mark.parametrize("name", INVERSES)
def test_every_level_is_the_matrix(name: str) -> None:
    op = ROUNDED[name](entries(0, W))
    dense = dense_of(op)
    graph, values = to_chain(op)
    check_chain(graph)
    merged = merge_index_maps(graph)
    check_merged(merged)
    for level in (graph, merged, choose_layouts(merged)):
        check_chain(level)
        torch.testing.assert_close(to_dense(level, values, op.dtype), dense)
    check_plan(fuse(merged, "torch", "float64"))
    f = sm.compile(op)
    check_source(f.source)
    assert list(f.stages) == [
        "simplify",
        "to_chain",
        "merge_index_maps",
        "choose_layouts",
        "fuse",
        "tile",
        "emit",
    ]
    assert pickle.loads(pickle.dumps(f.plan)) == f.plan
    assert pickle.loads(pickle.dumps(f.graph)) == f.graph


def test_the_gradient_of_a_chain_solves_twice() -> None:
    """Once again for y, once for what comes back; the values' gradient is read off both."""
    op = sm.inv(sm.Dense(regular(maker("real64"), 5, 5)))
    _, gradient, values = chains(op)
    text = str(gradient)
    assert text.count("apply solve") == 2, text
    assert "correlate solve(5, 'lu', False) v1*[1 1 5 1] v3[1 1 5 1]" in text, text
    x, g = (maker("real64", seed)(4, 5) for seed in (1, 2))
    gx, gw = interpret(gradient, [x, g], values)
    gw = gw.reshape(11, 5)
    a = op.children[0].to_dense()
    y, l = torch.linalg.solve(a, x.mT), torch.linalg.solve(a.mT, g.mT)
    torch.testing.assert_close(gx, l.mT)
    torch.testing.assert_close(gw[:5], -l @ y.mT)
    assert not gw[5:].any()


# derivatives -------------------------------------------------------------------------------------

EXPRESSIONS: dict[str, tuple[Callable[..., sm.LinearOperator], tuple[tuple[int, ...], ...]]] = {
    "dense": (lambda w: sm.inv(sm.Dense(w + 3 * torch.eye(3))), ((3, 3),)),
    "turned": (lambda w: sm.inv(sm.Dense(w + 3 * torch.eye(3))).H, ((3, 3),)),
    "batch": (lambda w: sm.inv(sm.Dense(w + 3 * torch.eye(2))), ((2, 2, 2),)),
    "lifted": (
        lambda w, v: sm.kron(sm.inv(sm.Dense(w + 3 * torch.eye(2))), sm.Dense(v)),
        ((2, 2), (2, 1)),
    ),
    "sum": (
        lambda d, w: sm.inv(sm.Dense(w) + sm.Diagonal(4 + d) + sm.Identity(3)),
        ((3,), (3, 3)),
    ),
    "companion": (lambda c: sm.inv(sm.Companion(c + 3)), ((4,),)),
    "vandermonde": (lambda x: sm.inv(sm.Vandermonde(torch.arange(3) + x / 9)), ((3,),)),
}


@pytest.mark.parametrize(
    "dtype", [W, pytest.param(torch.complex128, marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_derivatives_of_both_orders(name: str, dtype: torch.dtype) -> None:
    make, shapes = EXPRESSIONS[name]
    gen = torch.Generator().manual_seed(5)
    tensors = [torch.randn(s, generator=gen, dtype=dtype).requires_grad_() for s in shapes]
    op = make(*tensors)
    x = torch.randn(2, *op.batch_shape, op.shape[1], generator=gen, dtype=dtype).requires_grad_()

    def apply(x: Tensor, *tensors: Tensor) -> Tensor:
        return sm.compile(make(*tensors), backend="torch")(x)

    assert torch.autograd.gradcheck(apply, (x, *tensors), fast_mode=True)
    assert torch.autograd.gradgradcheck(apply, (x, *tensors), fast_mode=True)


@pytest.mark.parametrize("how", ["lu", "lower", "upper"])
@pytest.mark.parametrize("dtype", [W, torch.complex128], ids=str)
def test_solve(how: Any, dtype: torch.dtype) -> None:
    """The primitive: matrix, directions, forward mode, derivatives as for any matrix."""
    gen = torch.Generator().manual_seed(1)
    a = torch.randn(2, 1, 4, 4, generator=gen, dtype=dtype) + 4 * torch.eye(4)
    a = {"lu": a, "lower": a.tril(), "upper": a.triu()}[how].requires_grad_()
    values = factored if how == "lu" else torch.Tensor.clone
    x, g = (torch.randn(2, 3, 4, 5, generator=gen, dtype=dtype) for _ in range(2))
    for op, m in ((Solve(4, how), a), (Solve(4, how, True), a.mT)):
        want = torch.linalg.solve(m, x)
        w = values(a)
        torch.testing.assert_close(op(x, w), want)
        torch.testing.assert_close(op.conjugated()(x.conj(), w.conj()), want.conj())
        (expected,) = torch.autograd.grad(want, a, g, retain_graph=True)
        (found,) = torch.autograd.grad(op(x, w), a, g)
        torch.testing.assert_close(found, expected)
        l = op.transposed()(g.conj(), w).conj()
        torch.testing.assert_close(op.gradient(want, l)[:, :4], expected.squeeze(1))
        change = torch.randn(a.shape, generator=gen, dtype=dtype)
        moved: Any = torch.func.jvp(partial(_moved, op, x, w), (a.detach(),), (change,))
        turned = change.mT if op.turned else change
        torch.testing.assert_close(moved[1], -torch.linalg.solve(m, turned @ want))
    assert op(x[..., :0], w).shape == (2, 3, 4, 0)


def _moved(op: Solve, x: Tensor, w: Tensor, a: Tensor) -> Tensor:
    """By values whose entries are ``a``, and whose factors are as they were."""
    return op(x, torch.cat([a, w.detach()[..., 4:, :]], -2))


@pytest.mark.parametrize("kind", ["real64", "complex128"])
def test_toeplitz_by_generators(kind: str) -> None:
    """A longer Toeplitz matrix is not made dense; gradients and second derivatives pass through."""
    r = maker(kind)
    n = 300
    c, row = heavy(r, n).requires_grad_(), heavy(r, n).requires_grad_()
    op = sm.Toeplitz(c, row)
    f = sm.compile(sm.inv(op))
    assert f.notes == (
        f"Toeplitz({n}x{n})^-1: displacement generators of the inverse, made when its numbers "
        "change",
    )
    x = maker(kind, 1)(3, n).requires_grad_()
    close(f(x).mT.detach(), op.to_dense().detach(), x.mT.detach())
    results = []
    for y in (f(x), torch.linalg.solve(op.to_dense(), x.mT).mT):
        first = torch.autograd.grad(y.abs().square().sum(), [x, c, row], create_graph=True)
        square = torch.stack([d.abs().square().sum() for d in first]).sum()
        results.append([*first, *torch.autograd.grad(square, [x, c, row])])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)


# what is chosen ----------------------------------------------------------------------------------


def test_choices() -> None:
    """By cost, never by the numbers; what becomes dense is said."""
    r = maker("real64")
    notes = {
        name: " ".join(sm.compile(sm.inv(op)).notes)
        for name, op in {
            "dense": sm.Dense(regular(r, 6, 6)),
            "triangular": sm.assume(sm.Dense(regular(r, 5, 5).tril()), triangular="lower"),
            "toeplitz": sm.Toeplitz(heavy(r, 7)),
            "hankel": sm.Hankel(heavy(r, 300).flip(-1), heavy(r, 300)),
            "causal": sm.Convolution(heavy(r, 9), 300),
            "sparse": grid(r, 400),
            "vandermonde": sm.Vandermonde(torch.arange(4.0)),
            "half": sm.Dense(torch.eye(3, dtype=torch.bfloat16)),
            "singular": sm.LowRank(r(4, 1), r(1, 4)),
            "block": sm.block([[sm.Circulant(heavy(r, 64)), r(64, 2)], [r(2, 64), eye(r)]]),
            "update": sm.kron(sm.Dense(regular(r, 9, 9)), sm.DCT(9, dtype=W)) + thin(r, 81, 1),
            "large": sm.Cauchy(torch.arange(3000.0), torch.arange(3000.0) + 0.5),
        }.items()
    }
    made = "made when its numbers change"
    want = {
        "dense": f"Dense(6x6)^-1: lu factors, {made}",
        "triangular": f"Dense(5x5)^-1: substitution, {made}",
        "toeplitz": f"Toeplitz(7x7)^-1: lu factors, {made}; makes the 7 x 7 matrix dense",
        "hankel": f"Hankel(300x300)^-1: displacement generators of the inverse, {made}",
        "causal": f"Convolution(9 on 300, causal)^-1: power series of the inverse, {made}",
        "sparse": "Sparse(400x400, nnz=1200)^-1: sparse lu, at every call",
        "vandermonde": "Vandermonde(4x4)^-1: bjorck-pereyra, at every call",
        "half": "Dense(3x3)^-1: dense lu, at every call: factors in torch.bfloat16 would not be "
        "exact enough to keep",
        "singular": "LowRank(4x4, rank=1)^-1: none, at every call",
        "large": "Cauchy(3000x3000)^-1: gko, at every call",
    }
    assert {k: v for k, v in notes.items() if k in want} == want
    assert f"block elimination, {made}; makes the 2 x 2 matrix dense" in notes["block"]
    assert f"^-1: woodbury, {made}" in notes["update"]


def test_explanations_and_backends() -> None:
    """What was kept, what is called, and why the kernels of Triton do not run."""
    dense = sm.Dense(regular(maker("real32"), 6, 6))
    op = sm.kron(sm.inv(dense), sm.Circulant(torch.ones(64)))
    text = sm.compile(op).explain()
    assert "how         Dense(6x6)^-1: lu factors, made when its numbers change" in text
    assert "apply solve(6, 'lu', False)" in text
    device = torch.device("cuda")
    sparse = sm.inv(grid(maker("real32"), 99))
    for one, what in ((op, "Circular, Solve"), (sparse, "Sparse")):
        with pytest.raises(RuntimeError, match=f"backend='triton': {what}.* runs in library calls"):
            sm.compile(one, backend="triton")(torch.ones(one.shape[1]))
        graph = sm.compile(one).graph
        backend, why = choose_backend("auto", device, torch.float32, graph, H100)
        assert backend == "torch"
        assert why.startswith(what)


def test_a_singular_matrix_is_told_as_without_compiling() -> None:
    """Where the structure shows it, and where elimination meets it; not while compiling."""
    ones = sm.Dense(torch.ones(3, 3).requires_grad_())
    for op, n in (
        (sm.inv(sm.LowRank(torch.ones(4, 1), torch.ones(1, 4))), 4),
        (sm.inv(ones), 3),
        (sm.kron(sm.inv(sm.Dense(torch.stack([torch.eye(2), torch.ones(2, 2)]))), ones), 6),
    ):
        f = sm.compile(op)
        for call in (op, f):
            with pytest.raises(LinAlgError, match=r"singular|rank is at most 1 of 4"):
                call(torch.ones(n))
        with torch.no_grad(), pytest.raises(LinAlgError):
            f(torch.ones(n))
    f = sm.compile(sm.inv(ones))
    with torch.no_grad():
        ones.weight.copy_(torch.eye(3))
    assert torch.equal(f(torch.ones(3)), torch.ones(3))


# what torch may do with it -----------------------------------------------------------------------


def three() -> list[tuple[sm.LinearOperator, list[Tensor]]]:
    """Kept factors, kept generators, a call at every f(x)."""
    r = maker("real64")
    w, d = regular(r, 6, 6), away(r, 6)
    c = heavy(r, 160)
    values = torch.cat([away(r, 90), r(90) / 2])
    i = torch.arange(90)
    sparse = sm.Sparse((values, (i.repeat(2), torch.cat([i, (i + 1) % 90]))), shape=(90, 90))
    return [
        (sm.inv(sm.Dense(w) + sm.Diagonal(d)), [w, d]),
        (sm.inv(sm.Toeplitz(c)), [c]),
        (sm.inv(sparse), list(sparse.parameters())),
    ]


@pytest.mark.parametrize("which", range(3))
def test_numbers_are_read_at_every_call(which: int) -> None:
    op, tensors = three()[which]
    f = sm.compile(op)
    x = maker("real64", 1)(3, op.shape[1])
    for grad in (False, True):
        for t in tensors:
            t.requires_grad_(grad)
            for _ in range(2):
                with torch.no_grad():
                    torch.testing.assert_close(f(x), op(x))
                    t.mul_(1.25)
                    torch.testing.assert_close(f(x), op(x))
                torch.testing.assert_close(f(x), op(x))


@pytest.mark.parametrize("which", range(3))
def test_factors_are_kept(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between calls nothing is factored where the notes say so."""
    op, tensors = three()[which]
    f = sm.compile(op)
    x = maker("real64", 1)(3, op.shape[1])
    want = f(x)
    prepared, chain = [], f._chain(W)

    def counted(*tensors: Tensor) -> Any:
        prepared.append(1)
        return chain.prepare(*tensors)

    monkeypatch.setitem(f._chains, W, replace(chain, prepare=counted))
    assert torch.equal(f(x), want)
    assert torch.equal(f(2 * x), 2 * want)
    assert not prepared
    with torch.no_grad():
        tensors[0].mul_(2)
    f(x)
    assert prepared == [1]


@pytest.mark.parametrize("which", range(3))
def test_opcheck(which: int) -> None:
    op, _ = three()[which]
    f = sm.compile(op)
    program = f.program(W, torch.device("cpu"))
    values = [v.detach().clone().requires_grad_() for v in f._values(W)]
    x = maker("real64", 1)(5, op.shape[1]).requires_grad_()
    g = maker("real64", 2)(5, op.shape[0]).requires_grad_()
    for rows in (x, x.detach().mT.contiguous().mT.requires_grad_(), x.detach()[:1].expand(5, -1)):
        torch.library.opcheck(torch.ops.structmat.apply.default, (rows, values, program.key))
    need = [True] * (1 + len(values))
    torch.library.opcheck(torch.ops.structmat.grads.default, (x, g, values, program.key, need))


@pytest.mark.parametrize("which", range(3))
def test_torch_compile_takes_the_whole_graph(which: int) -> None:
    op, tensors = three()[which]
    for t in tensors:
        t.requires_grad_()
    f = sm.compile(op)

    def model(x: Tensor) -> Tensor:
        return torch.relu(f(x + 1)) * 2

    torch.compiler.reset()
    fast = torch.compile(model, fullgraph=True, backend="aot_eager")
    for lead in ((4,), (9,), (2, 3)):
        x = maker("real64", 1)(*lead, op.shape[1])
        torch.testing.assert_close(fast(x), model(x))
        found = [torch.autograd.grad(call(x).sum(), tensors) for call in (fast, model)]
        for got, want in zip(*found, strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("which", range(3))
def test_vmap(which: int) -> None:
    op, tensors = three()[which]
    for t in tensors:
        t.requires_grad_()
    f = sm.compile(op)
    x = maker("real64", 1)(3, 2, op.shape[1])
    torch.testing.assert_close(torch.vmap(f)(x), f(x))
    torch.testing.assert_close(torch.vmap(f, in_dims=1, out_dims=1)(x), f(x))


def test_vmap_over_tensors() -> None:
    r = maker("real64")
    ws, cs, x = regular(r, 3, 4, 4), torch.stack([heavy(r, 4), heavy(r, 4)]), r(2, 4)

    def by_factors(w: Tensor) -> Tensor:
        return sm.compile(sm.inv(sm.Dense(w)) @ sm.DCT(4, dtype=W), backend="torch")(x)

    def by_call(c: Tensor) -> Tensor:
        return sm.compile(sm.inv(sm.Vandermonde(c + torch.arange(4))), backend="torch")(x)

    cases: list[tuple[Callable[[Tensor], Tensor], Tensor]] = [(by_factors, ws), (by_call, cs)]
    for apply, many in cases:
        many = many.requires_grad_()
        got = torch.vmap(apply)(many)
        want = torch.stack([apply(t) for t in many])
        torch.testing.assert_close(got, want)
        (each,) = torch.autograd.grad(got.square().sum(), many)
        (ref,) = torch.autograd.grad(want.square().sum(), many)
        torch.testing.assert_close(each, ref)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_solves_in_single(dtype: torch.dtype) -> None:
    """One rounding of the result, and of the values themselves none."""
    r = maker("real64")
    w = regular(r, 6, 6).to(dtype)
    x = r(4, 6).to(dtype)
    y = sm.compile(sm.inv(sm.Dense(w)))(x)
    assert y.dtype == dtype
    want = torch.linalg.solve(w.double(), x.double().mT).mT
    assert ((y.double() - want).abs() <= torch.finfo(dtype).eps * want.abs() + 1e-6).all()


def test_promotion() -> None:
    op = sm.inv(sm.Dense(regular(maker("real32"), 4, 4)) + sm.Toeplitz(torch.ones(4)))
    f = sm.compile(op)
    for dtype in (torch.bfloat16, torch.float32, W, torch.complex64, torch.complex128):
        x = maker("real64", 1)(3, 4).to(dtype)
        y = f(x)
        assert y.dtype == op(x).dtype
        torch.testing.assert_close(y, op(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("dtype", [W, torch.complex128], ids=str)
def test_factors_have_the_digits_of_the_vectors(which: int, dtype: torch.dtype) -> None:
    """Numbers of 32 bits, vectors of 64: the solution is one of 64, as without compiling."""
    op, _ = three()[which]
    op = op.to(torch.float32)
    f = sm.compile(op)
    for grad in (False, True):
        for t in op.parameters():
            t.requires_grad_(grad)
        x = maker("complex128", 1)(3, op.shape[1])
        x = x if dtype.is_complex else x.real
        want = torch.linalg.solve(op.children[0].to(dtype).to_dense(), x.mT)
        torch.testing.assert_close(f(x).mT, want, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(f @ x.mT, want, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(f(x.to(torch.complex64).real), op(x.to(torch.complex64).real))
    found = [
        torch.autograd.grad(call(x).abs().square().sum(), list(op.parameters())) for call in (f, op)
    ]
    for got, ref in zip(*found, strict=True):
        torch.testing.assert_close(got, ref)


def test_what_has_no_numbers_takes_the_digits_of_the_vectors() -> None:
    op = sm.inv(sm.Hadamard(4) + 3 * sm.Toeplitz(torch.ones(4)).T @ sm.Identity(4))
    bare = sm.inv(sm.DCT(6) + sm.reversal(6))
    for one in (op, bare):
        f = sm.compile(one)
        x = maker("real64", 1)(3, one.shape[1])
        want = torch.linalg.solve(one.children[0].to(W).to_dense(), x.mT).mT
        torch.testing.assert_close(f(x), want, rtol=1e-12, atol=1e-12)
        assert f(x.float()).dtype == torch.float32


# caches ------------------------------------------------------------------------------------------

PROCESS = """
import sys, torch, structmat as sm
from structmat.lowering import program
if sys.argv[1] == "second":
    def never(*args): raise SystemExit("lowered again")
    program.lower = never
gen = torch.Generator().manual_seed(0)
i = torch.arange(80)
w = (torch.randn(4, 4, generator=gen) + 4 * torch.eye(4)).requires_grad_()
v = torch.rand(160, generator=gen) + torch.tensor([2.0, 0.0]).repeat_interleave(80)
v.requires_grad_()
sparse = sm.Sparse((v, (i.repeat(2), torch.cat([i, (i + 1) % 80]))), shape=(80, 80))
f = sm.compile(sm.kron(sm.inv(sm.Dense(w)), sm.inv(sparse)), backend="torch")
assert len(f.notes) == 2, f.notes
x = torch.randn(5, 320, generator=gen)
y = f(x)
y.sum().backward()
torch.testing.assert_close(y, f.operator(x))
assert w.grad is not None and v.grad is not None
"""


def test_another_process_finds_the_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Factors and a call, whose pattern is a table."""
    folder = tmp_path / "cache"
    root = str(Path(__file__).resolve().parents[1])
    for which in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "-c", PROCESS, which],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": root, "STRUCTMAT_CACHE": str(folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    sources = [path.read_text() for path in folder.glob("*.py")]
    assert len(sources) == 2
    assert all("tables[0], tables[1]" in s and len(s) < 20000 for s in sources)


def test_equal_structures_share_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRUCTMAT_CACHE", str(tmp_path))
    for op, _ in three():
        sm.compile(op)
    monkeypatch.setattr(program_module, "lower", _never)
    for op, _ in three():
        other = op._map(lambda t: t * 1.5, None)
        f = sm.compile(other)
        x = maker("real64", 1)(2, op.shape[1])
        torch.testing.assert_close(f(x), other(x))


def _never(*args: Any) -> Any:
    raise AssertionError("lowered again")


def test_operators_travel() -> None:
    for op, _ in three():
        again = pickle.loads(pickle.dumps(op))
        x = maker("real64", 1)(2, op.shape[1])
        torch.testing.assert_close(sm.compile(again)(x), op(x))


def test_records_say_how() -> None:
    assert record(MARKET["monarch"](entries(0))).notes == ()
    for op, _ in three():
        assert len(record(op.simplify()).notes) == 1
