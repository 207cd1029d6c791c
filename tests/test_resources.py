"""Shared memory, registers and tensor-core instructions of kernels, compiled for sm_90 offline.

Arguments are compiled as a launch would: pointers divisible by 16, which decides how wide loads
are and how much the pipeline keeps in shared memory.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from market import MARKET, entries
from oracle import chains, import_source

import structmat as sm
from structmat.lowering.pipeline import lower
from structmat.lowering.plan import Device, Kernel

triton = pytest.importorskip("triton")

SHARED_MEMORY = 232448
"""Bytes a block of threads may have on sm_90."""

SPILL = 64
"""Bytes of stack a thread may use: some registers at most."""

POINTERS = {"float32": "*fp32", "bfloat16": "*bf16", "float16": "*fp16"}


@dataclass(frozen=True)
class Made:
    """What the compiler made of a kernel."""

    shared: int
    stack: int
    wgmma: bool
    sums: int  # additions of float32 that are not part of a multiply-add


def make(module: ModuleType, number: int, k: Kernel, dtype: str, loop: int, folder: Path) -> Made:
    from triton.backends.compiler import GPUTarget

    kernel = getattr(module, f"k{number}")
    kinds = {"m": "*i32", "T": "i32", "S": "i32", "p": "*fp32"}
    names = kernel.arg_names
    signature = {n: "constexpr" if n == "LOOP" else kinds.get(n[0], POINTERS[dtype]) for n in names}
    attrs = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n[0] not in "LS"}
    constants = {"LOOP": loop} if "LOOP" in names else {}
    made = triton.compile(
        triton.compiler.ASTSource(kernel, signature=signature, constexprs=constants, attrs=attrs),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": k.tile.warps, "num_stages": k.tile.stages},
    )
    ptx = made.asm["ptx"]
    used = stack(made.asm["cubin"], folder)
    return Made(made.metadata.shared, used, "wgmma" in ptx, len(re.findall(r"\badd\S*\.f32", ptx)))


def stack(cubin: bytes, folder: Path) -> int:
    """Bytes of stack a thread: spilled registers. 0 where the tool that tells is missing."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        return 0
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    done = subprocess.run(
        [str(tool), "--dump-resource-usage", str(path)], capture_output=True, text=True, check=True
    )
    found = re.search(r"STACK:(\d+)", done.stdout)
    assert found, done.stdout
    return int(found[1])


def check(op: sm.LinearOperator, dtype: str, folder: Path, loops: tuple[int, ...] = (1, 8)) -> None:
    """Every kernel of the operator and of its gradient fits, without spills."""
    for graph in chains(op)[:2]:
        low = lower(graph, "triton", dtype, Device(), "kernels")
        module = import_source(low.source, folder)
        for number, k in enumerate(low.plan.kernels):
            if k.kind == "outer":
                continue
            for loop in loops if k.tile.loop > 1 else (1,):
                made = make(module, number, k, dtype, loop, folder)
                what = f"k{number} {k.kind} {k.tile} {low.plan.graph.nodes[k.out]}"
                assert made.shared <= SHARED_MEMORY, f"{what}: {made.shared} bytes shared"
                assert made.stack <= SPILL, f"{what}: {made.stack} bytes of stack"
                flat = k.kind == "dot" and k.tile.group == 1 and k.tile.rows >= 64
                if flat and dtype != "float32":
                    assert made.wgmma, f"{what}: no wgmma"


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
    made = make(import_source(low.source, tmp_path), 0, k, "float32", 1, tmp_path)
    assert made.sums >= k.tile.rows * k.tile.out // (32 * k.tile.warps)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("blocks", [16, 64])
@pytest.mark.parametrize("reduced", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("out", [16, 48, 128])
def test_every_tile_fits(blocks: int, reduced: int, out: int, dtype: str, tmp_path: Path) -> None:
    check(sm.KroneckerSparse(zeros(1, out, reduced, blocks)), dtype, tmp_path, (8,))
    left, right = zeros(blocks, out, reduced), zeros(reduced, blocks, 32)
    check(sm.Monarch(left, right), dtype, tmp_path, (8,))
