"""Triton modules through Triton's interpreter; run by test_emit.py with TRITON_INTERPRET=1.

The interpreter of Triton 3.7 has no bfloat16 products (it multiplies the bits as integers), so
float16 stands for the 16-bit types here; bfloat16 is tested on a GPU.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from market import MARKET, Make, entries
from oracle import chains, check_integers, check_rounding, compare, normal, run_lowered

import structmat as sm
from structmat.lowering.given import check_given
from structmat.lowering.ir import Apply, Graph
from structmat.lowering.pipeline import lower, planned
from structmat.lowering.plan import Device, Kernel, Plan, Tile
from structmat.lowering.portable import PlanError
from structmat.testing import Grower, exact_bound, random_operator

EXACT = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16}


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("name", MARKET)
def test_triton_source_is_exact(name: str, dtype: str, tmp_path: Path) -> None:
    forward, gradient, _ = chains(MARKET[name](entries(0)))
    for graph in (forward, gradient):
        low = lower(graph, "triton", dtype, Device(), name)
        compare(graph, low, tmp_path, EXACT[dtype], 5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", MARKET)
def test_rounding(name: str, dtype: str) -> None:
    """What test_gpu.py asks of a GPU."""
    wanted = EXACT[dtype]
    check_rounding(MARKET[name](normal(3, wanted, "cpu")), wanted, "cpu", 7)
    if dtype == "float32":
        assert check_integers(MARKET[name](entries(0)), wanted, "cpu", 5)


@pytest.mark.parametrize("seed", range(40))
def test_random_trees(seed: int, tmp_path: Path) -> None:
    op = random_operator(seed)
    if op.dtype.is_complex or 0 in op.shape:
        pytest.skip("Triton has neither complex numbers nor empty vectors")
    forward, gradient, _ = chains(op)
    if calls_library(forward):
        pytest.skip("runs in library calls, not in Triton")
    for graph in (forward, gradient):
        compare(
            graph, lower(graph, "triton", "float64", Device(), "t"), tmp_path, torch.float64, seed
        )


@pytest.mark.parametrize("seed", range(20))
def test_random_batches(seed: int, tmp_path: Path) -> None:
    """Batches of operators, sides that need tensor cores among them, with empty parts inside."""
    choose = random.Random(seed).choice
    sides = (16, 17, 20, 32, 48) if seed % 2 else (1, 2, 3, 6, 7, 8, 12, 16)
    grower = Grower(choose, seed, max_side=max(sides), batch=choose(((2,), (3, 2))))
    op = grower.tree(choose(sides), choose(sides), 2)
    if exact_bound(op) > 2**20:
        pytest.skip("sums leave the integers that float32 holds")
    forward, gradient, _ = chains(op)
    if calls_library(forward):
        pytest.skip("runs in library calls, not in Triton")
    for graph in (forward, gradient):
        low = lower(graph, "triton", "float32", Device(), "t")
        compare(graph, low, tmp_path, torch.float32, seed)


def calls_library(graph: Graph) -> bool:
    """Whether a primitive is applied."""
    return any(isinstance(node, Apply) for node in graph.nodes)


def _joined(*sizes: int) -> sm.LinearOperator:
    """Branches of these sizes below a contraction without parallel neighbours."""
    r = entries(6)
    parts = sm.direct_sum(*(sm.Dense(r(s, 2)) for s in sizes))
    return sm.BlockDiagonal(r(4, 1, sum(sizes) // 4)) @ parts


@pytest.mark.parametrize("sizes", [(1, 15), (7, 1, 8), (15, 1)])
def test_slices_of_one_position(sizes: tuple[int, ...], tmp_path: Path) -> None:
    """An index that is one number makes a pointer that is no block: its load takes no mask."""
    for graph in chains(_joined(*sizes))[:2]:
        low = lower(graph, "triton", "float64", Device(), "one position")
        compare(graph, low, tmp_path, torch.float64, 1)


@pytest.mark.parametrize("n", [46340, 50000, 65536])
def test_long_index_arithmetic(n: int, tmp_path: Path) -> None:
    """a i + b leaves 32 bits where the vector has 46341 positions or more."""
    w = torch.arange(n) % 3 - 1.0
    graph = chains(sm.Diagonal(w.double()) @ sm.reversal(n))[0]
    low = lower(graph, "triton", "float32", Device(), "reversal")
    x = entries(1, torch.float32)(2, n)
    (got,) = run_lowered(low, tmp_path, [x], [w], torch.int32)
    assert torch.equal(got, x.flip(1) * w)


EDITABLE: dict[str, Callable[[Make], sm.LinearOperator]] = {
    "dots": lambda r: sm.Monarch(r(16, 32, 16), r(16, 16, 32)),
    "chip": lambda r: sm.Monarch(r(16, 16, 16), r(16, 16, 16)),
    "pushes": lambda r: (
        sm.Diagonal(r(48)) @ sm.KroneckerSparse(r(1, 16, 20, 3)) @ sm.reversal(60)
        + sm.LowRank(r(48, 16), r(16, 60))
    ),
}


@pytest.mark.parametrize("name", EDITABLE)
@pytest.mark.parametrize("seed", range(5))
def test_edited_plans(name: str, seed: int, tmp_path: Path) -> None:
    """A plan with other tiles and kinds that is not refused computes the same."""
    rng = random.Random(seed)
    graph = chains(EDITABLE[name](entries(0)))[0]
    own = lower(graph, "triton", "float16", Device(), name).plan
    fused, tiled = planned(own.graph, "triton", "float16", Device())
    base = rng.choice([fused, tiled])
    for _ in range(200):
        kernels = tuple(_edited(k, rng) for k in base.kernels)
        plan = Plan.from_json(replace(base, kernels=kernels).to_json())
        try:
            check_given(plan, graph, Device())
        except PlanError:
            continue
        low = lower(graph, "triton", "float16", Device(), name, plan=plan)
        compare(graph, low, tmp_path, torch.float16, seed)
        return
    pytest.fail("none of 200 edited plans was accepted")


def _edited(k: Kernel, rng: random.Random) -> Kernel:
    sizes = {s: rng.choice((8, 16, 32, 64)) for s in ("group", "out", "reduce")}
    tile = Tile(rng.choice((8, 16, 32)), **sizes, warps=4, stages=rng.choice((1, 2)), loop=2)
    return replace(k, kind=rng.choice((k.kind, k.kind, "fma", "dot")), tile=tile)
