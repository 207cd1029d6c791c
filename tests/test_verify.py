"""Specifications of the compiler's stages: each broken rule is named, none is silent."""

from __future__ import annotations

from dataclasses import replace

import pytest
from market import MARKET, entries
from oracle import chains

from structmat.index import DigitMap
from structmat.lowering import pipeline
from structmat.lowering.ir import (
    Add,
    Concat,
    Contract,
    Einsum,
    Graph,
    Input,
    Node,
    Outer,
    Permute,
    Scalar,
    Slice,
)
from structmat.lowering.passes import respell_x, respell_y
from structmat.lowering.pipeline import PASSES
from structmat.lowering.plan import Device, Plan, fuse, tile
from structmat.lowering.verify import (
    SpecError,
    check_chain,
    check_merged,
    check_plan,
    check_source,
    check_tiled,
)
from structmat.testing import random_operator

X = Input(6)
GOOD = Einsum((2, 3), (0, 1), (0, 1), (0,))


def one(node: Node, shape: tuple[int, ...] = (2, 3)) -> Graph:
    """A chain of one node after the input of six."""
    return Graph((X, node), (1,), (shape,))


CHAINS: dict[str, Graph] = {
    "v1 reads a later value": one(Scalar(6, 1, 2.0)),
    "v1: a digit repeats in x": one(Contract(2, 0, 0, replace(GOOD, x=(0, 1, 0)))),
    "v1: a digit repeats in w": one(Contract(2, 0, 0, replace(GOOD, w=(0, 1, 1)))),
    "v1: a digit repeats in y": one(Contract(2, 0, 0, replace(GOOD, y=(0, 0)))),
    "v1: an unknown digit in x": one(Contract(2, 0, 0, replace(GOOD, x=(0, 1, 2)))),
    "v1: an unknown digit in w": one(Contract(2, 0, 0, replace(GOOD, w=(0, 5)))),
    "v1: unused digits": one(Contract(2, 0, 0, replace(GOOD, sizes=(2, 3, 4)))),
    "v1: w has a digit of its own": one(
        Contract(2, 0, 0, Einsum((2, 3, 4), (0, 1), (0, 1, 2), (0,)))
    ),
    "v1: X spells 4 positions": one(Contract(2, 0, 0, replace(GOOD, sizes=(2, 2)))),
    "v1: Y spells 2 positions": one(Contract(3, 0, 0, GOOD)),
    "v1: no values w1": one(Contract(2, 0, 1, GOOD)),
    "v1: W does not spell w0": one(Contract(2, 0, 0, GOOD), (2, 4)),
    "v2: operands do not fit": Graph((X, Input(3, 1), Outer(0, 0, 1, 0, GOOD)), (2,), ((2, 3),)),
    "v1: sizes differ": one(Permute(6, 0, DigitMap((2, 4), (1, 0)))),
    "v1: empty slice": one(Slice(0, 0, 1, 6, 1, 2, 2)),
    "v1: empty slice ": one(Slice(6, 0, 1, 6, 1, 2, 8)),
    "v1: sizes differ ": one(Slice(4, 0, 1, 6, 1, 2, 5)),
    "v1: sizes differ  ": one(Slice(3, 0, 1, 7, 1, 2, 5)),
    "v1: sizes differ   ": one(Scalar(5, 0, 2.0)),
    "v1: sizes differ    ": one(Concat(12, (0, 0), 1, (6, 5), 1)),
    "v1: sizes differ     ": one(Concat(11, (0, 0), 1, (6, 6), 1)),
    "v2: sizes differ": Graph((X, Slice(2, 0, 1, 6, 1, 0, 2), Add(6, (0, 1))), (2,), ()),
    "an output is undefined": Graph((X,), (1,), ()),
}


@pytest.mark.parametrize("message", CHAINS)
def test_chains(message: str) -> None:
    with pytest.raises(SpecError, match=f"chain: {message.strip()}"):
        check_chain(CHAINS[message])


TURN = DigitMap((2, 3), (1, 0))
MERGED: dict[str, Graph] = {
    "v1 permutes by the identity": one(Permute(6, 0, DigitMap((6,), (0,)))),
    "v2: two permutations in a row": Graph((X, Permute(6, 0, TURN), Permute(6, 1, TURN)), (2,), ()),
    "v1 is not canonical": one(
        Contract(2, 0, 0, Einsum((2, 3, 1), (0, 1, 2), (0, 1), (0,))), (2, 3)
    ),
    "v2 reads a permutation it could spell": Graph(
        (X, Permute(6, 0, TURN), Contract(3, 1, 0, Einsum((3, 2), (0, 1), (0, 1), (0,)))),
        (2,),
        ((3, 2),),
    ),
    "v1 reads a later value": CHAINS["v1 reads a later value"],
}


@pytest.mark.parametrize("message", MERGED)
def test_merged_chains(message: str) -> None:
    with pytest.raises(SpecError, match=f"merged: {message}"):
        check_merged(MERGED[message])


def left_over(graph: Graph) -> list[str]:
    """Digit permutations beside a contraction that could spell them."""
    uses, out = graph.uses(), []
    for v, node in enumerate(graph.nodes):
        if not isinstance(node, Permute) or not isinstance(node.index, DigitMap):
            continue
        below = graph.nodes[node.x]
        alone = len(uses[node.x]) == 1 and node.x not in graph.outputs
        if isinstance(below, Contract) and alone and respell_y(below.spec, node.index):
            out.append(f"v{v} after v{node.x}")
        for u in uses[v]:
            reader = graph.nodes[u]
            if isinstance(reader, Contract) and respell_x(reader.spec, node.index):
                out.append(f"v{v} before v{u}")
    return out


@pytest.mark.parametrize("name", MARKET)
def test_no_permutation_stays_beside_a_contraction(name: str) -> None:
    for graph in chains(MARKET[name](entries(0)))[:2]:
        assert not left_over(graph), str(graph)


def test_no_permutation_stays_in_random_trees() -> None:
    for seed in range(200):
        for graph in chains(random_operator(seed))[:2]:
            assert not left_over(graph), f"seed {seed}\n{graph}"


def a_plan() -> Plan:
    """Two tensor-core kernels."""
    forward, _, _ = chains(MARKET["monarch_1024"](entries(0)))
    return fuse(forward, "triton", "float32")


def broken_plan(message: str) -> Plan:
    plan = a_plan()
    first, second = plan.kernels
    match message:
        case "k0 reads what is not made yet":
            return replace(plan, kernels=(second, first))
        case "k2 makes":
            return replace(plan, kernels=(first, second, first))
        case "k0 makes v1, which is not stored":
            return replace(plan, stored=plan.stored - {first.out})
        case "an output is never made":
            return replace(plan, kernels=(first,))
        case "a stored value is never made":
            return replace(plan, stored=plan.stored | {17})
    raise KeyError(message)


@pytest.mark.parametrize(
    "message",
    [
        "k0 reads what is not made yet",
        "k2 makes",
        "k0 makes v1, which is not stored",
        "an output is never made",
        "a stored value is never made",
    ],
)
def test_plans(message: str) -> None:
    check_plan(a_plan())
    for check in (check_plan, check_tiled):
        with pytest.raises(SpecError, match=f"plan: {message}"):
            check(broken_plan(message))


@pytest.mark.parametrize("name", ["rows", "group", "out", "reduce", "warps"])
@pytest.mark.parametrize("size", [0, 24, -16])
def test_tiles_are_powers_of_two(name: str, size: int) -> None:
    plan = tile(a_plan(), "float32")
    check_tiled(plan)
    first, *rest = plan.kernels
    wrong = replace(first, tile=replace(first.tile, **{name: size}))
    with pytest.raises(SpecError, match=f"tiled: k0: {name}={size}"):
        check_tiled(replace(plan, kernels=(wrong, *rest)))


@pytest.mark.parametrize("name", ["rows", "out", "reduce"])
def test_tensor_core_tiles_have_bounds(name: str) -> None:
    plan = tile(a_plan(), "float32")
    first, *rest = plan.kernels
    for size, message in ((8, "tile under 16"), (2**18, "elements")):
        wrong = replace(first, tile=replace(first.tile, **{name: size}))
        with pytest.raises(SpecError, match=message):
            check_tiled(replace(plan, kernels=(wrong, *rest)))


def test_sources() -> None:
    check_source("def run(inputs, values, tables=()):\n    return inputs\n")
    with pytest.raises(SpecError, match="source: line 2: "):
        check_source("x = 1\ndef run(:\n")
    with pytest.raises(SpecError, match="source: no function run"):
        check_source("def go(): pass\n")


def test_every_pass_says_what_it_does() -> None:
    assert [p.name for p in PASSES] == [
        "simplify",
        "to_chain",
        "merge_index_maps",
        "choose_layouts",
        "fuse",
        "tile",
        "emit",
    ]
    assert all(p.statement for p in PASSES)
    assert issubclass(SpecError, AssertionError)


def test_what_is_always_checked_and_what_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = chains(MARKET["permuted"](entries(0)))[0]

    def bad(*args: object, **options: object) -> tuple[str, list[object]]:
        return "def run(:", []

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "emit_torch", bad)
        patch.setenv("STRUCTMAT_VERIFY", "1")
        with pytest.raises(SpecError, match="source: line 1"):
            pipeline.lower(graph, "torch", "float64", Device(), "bad")
        patch.delenv("STRUCTMAT_VERIFY")
        assert pipeline.lower(graph, "torch", "float64", Device(), "bad").source == "def run(:"
    monkeypatch.setattr(pipeline, "fuse", lambda graph, *_: Plan(graph, (), frozenset()))
    with pytest.raises(SpecError, match="plan: an output is never made"):
        pipeline.lower(graph, "torch", "float64", Device(), "bad")
