"""Shared memory, registers and tensor-core instructions of kernels, compiled for sm_90 offline."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from market import MARKET, entries
from oracle import chains, import_source

import structmat as sm
from structmat.lowering.offline import ARCHITECTURES
from structmat.lowering.pipeline import lower
from structmat.lowering.plan import Device
from structmat.lowering.resources import compile_kernel

pytest.importorskip("triton")

SHARED_MEMORY = ARCHITECTURES["sm_90"].device.shared

SPILL = 64
"""Bytes of stack a thread may use: some registers at most."""


def check(op: sm.LinearOperator, dtype: str, folder: Path, loops: tuple[int, ...] = (1, 8)) -> None:
    """Every kernel of the operator and of its gradient fits, without spills."""
    for graph in chains(op)[:2]:
        low = lower(graph, "triton", dtype, Device(), "kernels")
        module = import_source(low.source, folder)
        for number, k in enumerate(low.plan.kernels):
            if k.kind == "outer":
                continue
            for loop in loops if k.tile.loop > 1 else (1,):
                made = compile_kernel(module, number, k, dtype, loop)
                what = f"k{number} {k.kind} {k.tile} {low.plan.graph.nodes[k.out]}"
                assert made.shared <= SHARED_MEMORY, f"{what}: {made.shared} bytes shared"
                assert (made.stack or 0) <= SPILL, f"{what}: {made.stack} bytes of stack"
                flat = k.kind == "dot" and k.tile.group == 1 and k.tile.rows >= 64
                if flat and dtype != "float32":
                    assert made.tensor_cores == "wgmma", f"{what}: no wgmma"


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.bfloat16)


OPERATORS: dict[str, Callable[[], sm.LinearOperator]] = {
    "monarch 4096": lambda: sm.Monarch(zeros(64, 64, 64), zeros(64, 64, 64)),
    "monarch 1024": lambda: sm.Monarch(zeros(32, 32, 32), zeros(32, 32, 32)),
    "monarch 4 blocks": lambda: sm.Monarch(zeros(4, 1024, 1024), zeros(4, 1024, 1024)),
    "monarch 16384": lambda: sm.Monarch(zeros(128, 128, 128), zeros(128, 128, 128)),
    "monarch uneven": lambda: sm.Monarch(zeros(24, 40, 72), zeros(36, 48, 40)),
    "block-diagonal": lambda: sm.BlockDiagonal(zeros(64, 64, 64)),
    "wide": lambda: sm.KroneckerSparse(zeros(1, 48, 100, 64)),
    "low rank": lambda: sm.LowRank(zeros(1000, 16), zeros(16, 500)),
    "permuted": lambda: MARKET["permuted"](entries(0)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_kernels_fit(name: str, tmp_path: Path) -> None:
    check(OPERATORS[name](), "bfloat16", tmp_path)


@pytest.mark.parametrize("name", ["monarch 4096", "monarch uneven", "low rank"])
def test_float32_kernels_fit(name: str, tmp_path: Path) -> None:
    check(OPERATORS[name](), "float32", tmp_path)


def test_long_float32_reductions_sum_by_steps(tmp_path: Path) -> None:
    """Each step's products start from zero: the compiler must not fold the steps into one sum."""
    graph = chains(sm.Dense(torch.zeros(130, 200)))[0]
    low = lower(graph, "triton", "float32", Device(), "dense")
    (k,) = low.plan.kernels
    assert k.tile.reduce < 200
    made = compile_kernel(import_source(low.source, tmp_path), 0, k, "float32", 1)
    sums = re.findall(r"\badd\S*\.f32", made.ptx)  # that are not part of a multiply-add
    assert len(sums) >= k.tile.rows * k.tile.out // (32 * k.tile.warps)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("blocks", [16, 64])
@pytest.mark.parametrize("reduced", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("out", [16, 48, 128])
def test_every_tile_fits(blocks: int, reduced: int, out: int, dtype: str, tmp_path: Path) -> None:
    check(sm.KroneckerSparse(zeros(1, out, reduced, blocks)), dtype, tmp_path, (8,))
    left, right = zeros(blocks, out, reduced), zeros(reduced, blocks, 32)
    check(sm.Monarch(left, right), dtype, tmp_path, (8,))
