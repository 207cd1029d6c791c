"""Plans as JSON: kept, edited, replayed, and refused where they are not plans of the expression."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from market import MARKET, entries
from oracle import chains

import structmat as sm
from structmat.lowering.given import check_given
from structmat.lowering.ir import Graph, interpret
from structmat.lowering.offline import lower_offline
from structmat.lowering.pipeline import lower, planned
from structmat.lowering.plan import Device, Plan
from structmat.lowering.portable import PlanError
from structmat.lowering.record import to_chain
from structmat.testing import random_operator

CONFIGURATIONS = (
    ("torch", "float64"),
    ("triton", "float32"),
    ("triton", "bfloat16"),
    ("gpu", "float32"),
)


def plan_of(graph: Graph, backend: str = "triton", dtype: str = "bfloat16") -> Plan:
    return lower(graph, backend, dtype, Device(), "plan").plan


def monarch() -> tuple[sm.LinearOperator, Graph]:
    op = sm.sized.Monarch(4096, nblocks=64, device="meta", dtype=torch.bfloat16)
    return op, to_chain(op)[0]


# JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MARKET)
def test_plans_are_read_back(name: str) -> None:
    forward, gradient, _ = chains(MARKET[name](entries(0)))
    for graph in (forward, gradient):
        for backend, dtype in CONFIGURATIONS:
            plan = plan_of(graph, backend, dtype)
            again = Plan.from_json(plan.to_json())
            assert again == plan
            assert again.to_json() == plan.to_json()
            assert str(again.graph) == str(graph if backend == "torch" else plan.graph)


@pytest.mark.parametrize("seed", range(60))
def test_random_plans_are_read_back(seed: int) -> None:
    """Primitives, tables, complex numbers, patterns: whatever a chain may hold."""
    op = random_operator(seed)
    forward, gradient, _ = chains(op)
    plan = plan_of(gradient if seed % 2 else forward, "torch", "complex128")
    assert Plan.from_json(plan.to_json()) == plan


def test_every_primitive_is_read_back() -> None:
    found = set()
    for text in (
        *("DFT(12)", "RDFT(9).T", "DCT(8, type=1)", "DST(8, norm='ortho')", "Toeplitz(5, 7)"),
        *("Hadamard(8)", "Sparse(6, per_row=2).T", "BlockSparse(8, block=2, per_row=2)"),
        *("Vandermonde(4).T", "Cauchy(4, 5)", "LowDisplacementRank(6, rank=2)"),
    ):
        graph = chains(sm.sized.parse(text))[0]
        plan = plan_of(graph, "torch", "complex64")
        assert Plan.from_json(plan.to_json()) == plan
        found |= {type(node.op).__name__ for node in graph.nodes if hasattr(node, "op")}
    assert len(found) >= 10


def monarch_json() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(plan_of(monarch()[1]).to_json())
    return data


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "format": (lambda d: d.update(format="x"), "format: 'x' is not 'structmat plan'"),
    "newer": (lambda d: d.update(version=2), "version: 2 is newer"),
    "version": (lambda d: d.update(version=True), "version: True is no version"),
    "missing": (lambda d: d.pop("kernels"), "Plan lacks kernels"),
    "unknown": (
        lambda d: d["kernels"][0]["tile"].update(row=3),
        r"kernels\[0\]\.tile: Tile has no row; it has group, loop, out",
    ),
    "text for a number": (
        lambda d: d["kernels"][1]["tile"].update(rows="16); import os; os.system('x'"),
        r"kernels\[1\]\.tile\.rows: expected int, found .16\); import os",
    ),
    "boolean for a number": (
        lambda d: d["kernels"][0]["tile"].update(rows=True),
        r"tile\.rows: expected int, found True",
    ),
    "code for a name": (
        lambda d: d["kernels"][0].update(kind='dot"""\nimport os'),
        r"kernels\[0\]\.kind: 'dot\"\"\"\\nimport os' is no name",
    ),
    "unknown class": (
        lambda d: d["graph"]["nodes"][1].update({"is": "Popen"}),
        r"graph\.nodes\[1\]: 'is' is 'Popen', not of Add, Apply",
    ),
    "list": (lambda d: d.update(stored=3), "stored: expected a list, found 3"),
    "object": (lambda d: d["kernels"].append(3), r"kernels\[2\]: expected an object, found 3"),
    "null": (lambda d: d["graph"]["nodes"][1].update(x=None), r"x: expected int, found None"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_plan_says_where(name: str) -> None:
    edit, message = BROKEN[name]
    data = monarch_json()
    edit(data)
    with pytest.raises(PlanError, match=message):
        Plan.from_json(json.dumps(data))


def test_fields_with_a_default_may_be_missing() -> None:
    data = monarch_json()
    assert data["kernels"][0].pop("more") == []
    assert data["graph"]["nodes"][1].pop("conj") is False
    assert Plan.from_json(json.dumps(data)) == plan_of(monarch()[1])


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": "structmat plan"}', "[" * 10**5])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(PlanError):
        Plan.from_json(text)


def test_tables_are_checked() -> None:
    graph = chains(sm.Permutation(torch.tensor([2, 0, 4, 1, 3])))[0]
    data = json.loads(plan_of(graph, "torch", "float64").to_json())
    index = data["graph"]["nodes"][1]["index"]
    assert index == {"is": "ArrayMap", "table": [2, 0, 4, 1, 3]}
    for table in ([2, 0, 3, 1, 1], [2, 0, 3, 1, 9], [2.5], "x", [10**30], [[1]]):
        index["table"] = table
        with pytest.raises(PlanError, match="index"):
            Plan.from_json(json.dumps(data))


# edited plans -------------------------------------------------------------------------------------


def edited(plan: Plan, i: int, **changes: Any) -> Plan:
    """The plan with a kernel changed: its tile by the names of a tile, itself by the others."""
    tile = {k: changes.pop(k) for k in list(changes) if hasattr(plan.kernels[i].tile, k)}
    k = replace(plan.kernels[i], tile=replace(plan.kernels[i].tile, **tile), **changes)
    return replace(plan, kernels=(*plan.kernels[:i], k, *plan.kernels[i + 1 :]))


@pytest.mark.parametrize("name", MARKET)
def test_own_plans_are_plans(name: str) -> None:
    op = MARKET[name](entries(0))
    graph = to_chain(op)[0]
    for backend, dtype in CONFIGURATIONS:
        check_given(plan_of(graph, backend, dtype), graph, Device())


def test_tiles_and_kinds_may_change() -> None:
    _, graph = monarch()
    plan = plan_of(graph)
    assert [k.kind for k in plan.kernels] == ["dot", "dot"]
    for good in (
        edited(plan, 0, rows=32, warps=4, stages=1, loop=2),
        edited(plan, 1, group=4, out=32),
        edited(plan, 0, group=1, rows=64),
        edited(plan, 0, kind="fma", rows=16, out=128),
    ):
        check_given(Plan.from_json(good.to_json()), graph, Device())
        source = lower(graph, "triton", "bfloat16", Device(), "edited", plan=good).source
        assert source != lower(graph, "triton", "bfloat16", Device(), "edited").source


def test_the_schedule_of_a_radix_kernel_stays() -> None:
    graph = to_chain(sm.sized.Butterfly(64))[0]
    plan = plan_of(graph, "cuda", "float32")
    assert [k.kind for k in plan.kernels] == ["radix"]
    check_given(plan, graph, Device())
    with pytest.raises(PlanError, match="k0: the tile of a 'radix' kernel follows from the chain"):
        check_given(edited(plan, 0, rows=2 * plan.kernels[0].tile.rows), graph, Device())
    with pytest.raises(PlanError, match="k0 is 'fma'; this contraction can be radix"):
        check_given(edited(plan, 0, kind="fma"), graph, Device())


def test_contractions_may_come_apart() -> None:
    graph = to_chain(sm.sized.Monarch(1024, nblocks=32, device="meta"))[0]
    plan = plan_of(graph)
    assert [k.kind for k in plan.kernels] == ["chip"]
    fused, _ = planned(plan.graph, "triton", "bfloat16", Device())
    apart = [replace(k, tile=replace(k.tile, rows=32, warps=4)) for k in fused.kernels]
    check_given(replace(plan, kernels=tuple(apart), stored=fused.stored), graph, Device())
    with pytest.raises(PlanError, match="a stored value is never made"):
        check_given(replace(plan, stored=fused.stored), graph, Device())
    with pytest.raises(PlanError, match="makes v1, which is not stored"):
        check_given(replace(plan, kernels=tuple(apart)), graph, Device())


def test_the_chain_may_be_rewritten() -> None:
    """Other layouts of intermediates, the same matrix."""
    _, graph = monarch()
    plan = plan_of(graph)
    assert plan.graph != graph
    natural = planned(graph, "triton", "bfloat16", Device())[1]
    check_given(natural, graph, Device())
    relabelled = copy.deepcopy(json.loads(plan_of(chains(small())[0]).to_json()))
    node = relabelled["graph"]["nodes"][1]
    assert node["spec"] == {"sizes": [4, 4, 4], "x": [0, 2], "w": [0, 1, 2], "y": [1, 0]}
    node["spec"] = {"sizes": [4, 4, 2, 2], "x": [0, 2, 3], "w": [0, 1, 2, 3], "y": [1, 0]}
    check_given(Plan.from_json(json.dumps(relabelled)), to_chain(small())[0], Device())


def small() -> sm.LinearOperator:
    return sm.sized.Monarch(16, nblocks=4, dtype=torch.float64)


REFUSED: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "kind": (lambda p: edited(p, 0, kind="grad"), "k0 is 'grad'; this contraction can be dot, fma"),
    "no kind": (lambda p: edited(p, 0, kind="x"), "k0 is 'x'"),
    "rows": (lambda p: edited(p, 0, rows=24), "k0: rows=24"),
    "small": (lambda p: edited(p, 0, rows=8), "k0: tile under 16"),
    "negative": (lambda p: edited(p, 0, rows=-16), "k0: rows=-16"),
    "huge": (lambda p: edited(p, 1, rows=4096), "k1: a tile of"),
    "warps": (lambda p: edited(p, 0, warps=64), "k0: warps=64, at most 32"),
    "stages": (lambda p: edited(p, 0, stages=0), "k0: stages=0"),
    "loop": (lambda p: edited(p, 0, loop=0), "k0: loop=0"),
    "roots": (lambda p: edited(p, 0, roots=(2,)), r"k0 \(dot, roots \[2\].* is no kernel of this"),
    "push": (lambda p: edited(p, 0, push=(2,)), "is no kernel of this chain"),
    "bytes": (lambda p: edited(p, 0, row_bytes=1), "k0: row_bytes is 1, and follows from the rest"),
    "order": (lambda p: replace(p, kernels=p.kernels[::-1]), "k0 reads what is not made yet"),
    "twice": (lambda p: replace(p, kernels=(p.kernels[0],) * 2), "k1 makes v1 again"),
    "less": (lambda p: replace(p, kernels=p.kernels[:1]), "an output is never made"),
    "backend": (lambda p: replace(p, backend="gpu++"), "is for backend 'gpu\\+\\+'"),
    "dtype": (lambda p: replace(p, dtype="load"), "dtype 'load'"),
    "nowhere": (lambda p: replace(p, backend="", dtype=""), "is for backend ''"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused(name: str) -> None:
    edit, message = REFUSED[name]
    _, graph = monarch()
    with pytest.raises(PlanError, match=message):
        check_given(edit(plan_of(graph)), graph, Device())


OTHERS = {
    "size": ("Monarch(64)", "Monarch(16)", "vectors of"),
    "tensors": ("Monarch(64)", "Monarch(64, nblocks=4)", "tensors of shapes"),
    "results": ("DFT(8)[:4]", "DFT(8)[:5]", "results of"),
    "order": ("Diagonal(8) @ Hadamard(8)", "Hadamard(8) @ Diagonal(8)", "another matrix"),
    "permutation": ("Dense(8) @ reversal(8)", "Dense(8) @ cyclic_shift(8)", "another matrix"),
    "number": ("2 * DFT(8)", "3 * DFT(8)", "another matrix"),
    "conjugate": ("DFT(8).H @ Dense(8)", "DFT(8) @ Dense(8)", "another matrix"),
    "sum": ("Hadamard(8) + RDFT(8)", "Hadamard(8) - RDFT(8)", "another matrix"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_plan_of_another_expression_is_refused(name: str) -> None:
    one, other, message = OTHERS[name]
    dtype = torch.complex64 if "DFT" in one else torch.float32
    plan = lower_offline(sm.sized.parse(other), "torch", dtype).forward.plan
    graph = to_chain(sm.simplify(sm.sized.parse(one)))[0]
    with pytest.raises(PlanError, match=f"made for another expression.*{message}"):
        check_given(plan, graph, Device())


def test_a_long_chain_is_not_compared() -> None:
    graph = to_chain(sm.sized.Monarch(2**20, nblocks=64, device="meta"))[0]
    plan = planned(graph, "triton", "bfloat16", Device())[1]
    check_given(plan, graph, Device())
    other = replace(
        plan.graph, nodes=(plan.graph.nodes[0], plan.graph.nodes[1], plan.graph.nodes[2])
    )
    assert other == plan.graph
    turned = replace(other, nodes=(*other.nodes, replace(other.nodes[-1])), outputs=(3,))
    with pytest.raises(PlanError, match="numbers too many to compare"):
        check_given(replace(plan, graph=turned), graph, Device())


# sm.compile ---------------------------------------------------------------------------------------


def test_compile_takes_a_plan() -> None:
    op = sm.sized.parse("Monarch(64) @ Permutation(64) + LowRank(64, 3)", dtype=torch.float64)
    tensors = list(op.parameters())
    f = sm.compile(op)
    plan = Plan.from_json(f.plan.to_json())
    g = sm.compile(op, plan=plan)
    assert g.plan == plan
    x = torch.randn(5, 64, dtype=torch.float64)
    torch.testing.assert_close(g(x), f(x), rtol=0, atol=0)
    torch.testing.assert_close(g @ x.mT, f @ x.mT, rtol=0, atol=0)
    for t in tensors:
        t.requires_grad_()
    ours, theirs = (torch.autograd.grad(h(x).square().sum(), tensors) for h in (g, f))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert g.explain().endswith("given plan  for float64: used")
    assert "given plan" not in f.explain()


def test_a_plan_is_for_its_dtype() -> None:
    op = sm.sized.Dense(8)
    wide = sm.compile(op.to(torch.float64)).plan
    f = sm.compile(op, plan=wide)
    x = torch.randn(3, 8)
    torch.testing.assert_close(f(x), op(x))
    assert f.explain().endswith("given plan  for float64: not used")
    torch.testing.assert_close(f(x.double()), op(x.double()))
    assert f.explain().endswith("given plan  for float64: used")


def test_a_plan_is_for_its_backend() -> None:
    op = sm.sized.Dense(16)
    plan = lower_offline(op, "triton", torch.float32).forward.plan
    own = "the plan is for the triton backend, and torch runs here .*backend='triton', plan=plan"
    with pytest.raises(RuntimeError, match=own):
        sm.compile(op, plan=plan)
    with pytest.raises(RuntimeError, match="the plan is for the triton backend"):
        sm.compile(op, backend="torch", plan=plan)


def test_an_edited_plan_has_a_program_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # lets a CPU operator ask for Triton
    op = sm.sized.Dense(16, 64)
    f = sm.compile(op, backend="triton")
    changed = edited(f.plan, 0, warps=2)
    g = sm.compile(op, backend="triton", plan=changed)
    assert g.plan == changed
    assert "num_warps=2" in g.source
    assert g.source != f.source
    assert sm.compile(op, backend="triton").source == f.source


def test_compile_checks_the_plan() -> None:
    plan = sm.compile(sm.sized.Dense(8)).plan
    with pytest.raises(PlanError, match="made for another expression"):
        sm.compile(sm.sized.Dense(9), plan=plan)
    with pytest.raises(TypeError, match="plan is a str, not a Plan"):
        sm.compile(sm.sized.Dense(8), plan=plan.to_json())  # type: ignore[arg-type]


# whatever is changed ------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    0,
    1,
    2,
    3,
    -1,
    16,
    10**9,
    0.5,
    None,
    True,
    "x",
    "dot",
    [],
    {},
    [0, 1],
    {"is": "Add"},
)


def places(data: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in the data."""
    if not isinstance(data, dict | list):
        return []
    keys = list(data) if isinstance(data, dict) else range(len(data))
    return [p for k in keys for p in [(data, k), *places(data[k])]]


@given(st.integers(0, 10**9), st.integers(1, 3))
@settings(max_examples=400, deadline=None)
def test_a_changed_plan_is_refused_or_computes_the_same(seed: int, changes: int) -> None:
    rng = random.Random(seed)
    graph, values = to_chain(OPERATOR)
    data = json.loads(PLAN)
    for _ in range(changes):
        container, key = rng.choice(places(data))
        container[key] = copy.deepcopy(rng.choice(VALUES))  # a list may be changed in its turn
    try:
        plan = Plan.from_json(json.dumps(data))
        check_given(plan, graph, Device())
    except PlanError:
        return
    x = torch.randn(3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    got, want = (interpret(g, [x], values)[0] for g in (plan.graph, graph))
    torch.testing.assert_close(got, want)
    lower(graph, plan.backend, plan.dtype, Device(), "changed", plan=plan)


OPERATOR = sm.sized.parse("2 * Monarch(16) @ Permutation(16) + Dense(16)", dtype=torch.float64)
PLAN = plan_of(chains(OPERATOR)[0], "torch", "float64").to_json()
