"""Generated code: torch modules exactly, Triton modules through the interpreter and for sm_90.

What the interpreter checks is in interpreted.py, which runs in a process of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from market import MARKET, entries
from oracle import chains, compare, import_source

import structmat as sm
from structmat.lowering.pipeline import Lowered, lower
from structmat.lowering.plan import Device

triton = pytest.importorskip("triton")

SHARED_MEMORY = 232448


@pytest.mark.parametrize("name", MARKET)
def test_torch_source_is_exact(name: str, tmp_path: Path) -> None:
    forward, gradient, _ = chains(MARKET[name](entries(0)))
    for graph in (forward, gradient):
        for dtype in (torch.float64, torch.complex128):
            low = lower(graph, "torch", str(dtype)[6:], Device(), name)
            compare(graph, low, tmp_path, dtype, 3)


def test_interpreter_suite() -> None:
    """Triton's arithmetic in its interpreter, which must be chosen before triton is imported."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "interpreted.py"],
        cwd=Path(__file__).parent,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    print(done.stdout[-2000:])
    assert done.returncode == 0, done.stdout[-8000:]
    assert "passed" in done.stdout


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.bfloat16)


HOPPER = {
    "monarch 4096": (sm.Monarch(zeros(64, 64, 64), zeros(64, 64, 64)), "bfloat16", ["dot", "dot"]),
    "monarch 1024": (sm.Monarch(zeros(32, 32, 32), zeros(32, 32, 32)), "bfloat16", ["chip"]),
    "monarch 4 blocks": (
        sm.Monarch(zeros(4, 1024, 1024), zeros(4, 1024, 1024)),
        "bfloat16",
        ["dot", "dot", "pointwise"],
    ),
    "monarch 16384": (
        sm.Monarch(zeros(128, 128, 128), zeros(128, 128, 128)),
        "bfloat16",
        ["dot", "dot"],
    ),
    "block-diagonal": (sm.BlockDiagonal(zeros(64, 64, 64)), "bfloat16", ["dot"]),
    "monarch float32": (
        sm.Monarch(zeros(64, 64, 64), zeros(64, 64, 64)),
        "float32",
        ["dot", "dot"],
    ),
    "butterfly": (sm.Butterfly(zeros(4, 8, 2, 2)), "float32", ["fma"] * 4),
    "permuted": (MARKET["permuted"](entries(0)), "bfloat16", ["fma", "fma", "dot"]),
}


def compile_for_hopper(low: Lowered, dtype: str, folder: Path) -> int:
    """Compile every kernel for sm_90, as launched, and look at it; returns how many."""
    from triton.backends.compiler import GPUTarget

    module = import_source(low.source, folder)
    pointer = {"float32": "*fp32", "bfloat16": "*bf16"}[dtype]
    kinds_of = {"v": pointer, "w": pointer, "m": "*i32", "T": "i32", "S": "i32", "p": "*fp32"}
    done = 0
    for i, k in enumerate(low.plan.kernels):
        if k.kind == "outer":
            continue
        kernel = getattr(module, f"k{i}")
        constants = {"LOOP": 4} if "LOOP" in kernel.arg_names else {}
        signature = {a: "constexpr" if a == "LOOP" else kinds_of[a[0]] for a in kernel.arg_names}
        source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=constants)
        made = triton.compile(
            source,
            target=GPUTarget("cuda", 90, 32),
            options={"num_warps": k.tile.warps, "num_stages": k.tile.stages},
        )
        assert made.metadata.shared <= SHARED_MEMORY
        if k.kind == "dot" and k.tile.group == 1 and k.tile.rows >= 64 and dtype == "bfloat16":
            assert "wgmma" in made.asm["ptx"]
        done += 1
    return done


@pytest.mark.parametrize("name", HOPPER)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "gradient"])
def test_hopper_compilation(name: str, backward: bool, tmp_path: Path) -> None:
    """Kernels compile for sm_90, fit its shared memory, and use wgmma where tiles allow it."""
    op, dtype, kinds = HOPPER[name]
    forward, gradient, _ = chains(op)
    low = lower(gradient if backward else forward, "triton", dtype, Device(), name)
    if not backward:
        assert [k.kind for k in low.plan.kernels] == kinds
    assert compile_for_hopper(low, dtype, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MARKET)
def test_the_market_compiles_for_hopper(name: str, dtype: str, tmp_path: Path) -> None:
    """What the interpreter forgives, such as odd tile sizes, the compiler finds."""
    for graph in chains(MARKET[name](entries(0)))[:2]:
        compile_for_hopper(lower(graph, "triton", dtype, Device(), name), dtype, tmp_path)


def run_alone(source: str, folder: Path) -> list[float]:
    """Run a module as a program that finds no structmat; the relative errors that it prints."""
    path = folder / "kernel.py"
    path.write_text(source)
    hidden = ("PYTHONPATH", "TRITON_INTERPRET")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, str(path)],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in hidden},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [float(e) for e in re.findall(r"relative error (\S+)", done.stdout)]


ALONE = """
import runpy, sys
sys.modules["structmat"] = None  # also where it is installed
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize("name", ["monarch", "permuted"])
def test_source_runs_by_itself(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``compiled.source``, in the interpreter where there is no GPU."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # lets a CPU operator ask for Triton
    f = sm.compile(MARKET[name](entries(0, torch.float32)), backend="triton")
    assert f.source.startswith('"""')
    (error,) = run_alone(f.source, tmp_path)
    assert error < 1e-6


def test_gradient_source_runs_by_itself(tmp_path: Path) -> None:
    """A gradient has an error for x and each tensor; bfloat16 runs as float16 without a GPU."""
    graph = chains(MARKET["monarch_1024"](entries(0)))[1]
    errors = run_alone(lower(graph, "triton", "bfloat16", Device(), "gradient").source, tmp_path)
    assert len(errors) == 3
    assert max(errors) < 4e-3
