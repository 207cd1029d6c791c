"""The cluster kernel without a GPU: what it serves, its twin, its numbers, protocol, resources.

``hopper_emulator.hpp`` runs the kernel's own source on the CPU under random schedules; NVRTC
compiles it for sm_90a. Either is skipped, and reported, where its compiler is missing.
"""

from __future__ import annotations

import ctypes
import io
import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from market import entries
from oracle import chains
from torch import Tensor

import structmat as sm
from structmat.kernels import cluster
from structmat.kernels.cluster import SHARED_OF_SM, Config, reference, served
from structmat.lowering.ir import Contract, Einsum, Graph
from structmat.lowering.passes import choose_layouts

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}
HERE = Path(__file__).parent


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.bfloat16)


def monarch(blocks: int, p: int, s: int) -> sm.Monarch:
    return sm.Monarch(zeros(blocks, s, blocks), zeros(blocks, blocks, p))


def chained(graph: Graph) -> list[tuple[Einsum, Einsum]]:
    """Pairs of contractions, the second reading the first."""
    nodes = graph.nodes
    return [
        (below.spec, node.spec)
        for node in nodes
        if isinstance(node, Contract) and isinstance(below := nodes[node.x], Contract)
    ]


def only(op: sm.LinearOperator, dtype: str = "bfloat16") -> tuple[Config | None, str]:
    (pair,) = chained(chains(op)[0])
    return served(*pair, dtype)


# What is served ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [16, 32, 64])
@pytest.mark.parametrize("laid_out", [False, True])
def test_monarch_and_its_gradient_are_served(n: int, laid_out: bool) -> None:
    forward, gradient, _ = chains(monarch(n, n, n))
    if laid_out:
        forward, gradient = choose_layouts(forward), choose_layouts(gradient)
    (pair,) = chained(forward)
    config, reason = served(*pair, "bfloat16")
    assert config is not None, reason
    assert (config.blocks, config.reduced, config.out) == (n, n, n)
    assert (config.x_interleaved, config.y_interleaved) == (False, True)
    assert config.right == config.left == (n * n, n, 1)
    (pair,) = chained(gradient)
    config, reason = served(*pair, "float16")
    assert config is not None, reason
    assert (config.element, config.x_interleaved, config.y_interleaved) == ("f16", True, False)
    assert config.right == config.left == (n * n, 1, n)


def test_transposed_and_rectangular() -> None:
    config, reason = only(monarch(32, 48, 96))
    assert config is not None, reason
    assert (config.reduced, config.out, config.warps) == (48, 96, 4)
    config, reason = only(monarch(32, 96, 48).T)
    assert config is not None, reason
    assert (config.reduced, config.out) == (48, 96)
    assert (config.x_interleaved, config.y_interleaved) == (True, False)


def test_shared_values_have_stride_zero() -> None:
    config, reason = only(sm.kron(sm.Dense(zeros(32, 32)), sm.Dense(zeros(32, 32))))
    assert config is not None, reason
    assert {config.right[0], config.left[0]} == {0}


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (sm.Monarch(zeros(4, 256, 256), zeros(4, 256, 256)), "digits|middle|block-diagonal"),
        (monarch(128, 128, 128), "128 blocks"),
        (monarch(8, 16, 16), "8 blocks"),
        (monarch(64, 80, 64), "registers"),
        (monarch(16, 352, 128), "shared memory"),
        (monarch(32, 40, 32), "multiples of 16"),
        (monarch(32, 32, 48), "evenly"),
        (sm.Monarch(zeros(32, 64, 16), zeros(16, 32, 64)), "16 blocks meet 32"),
        (sm.BlockDiagonal(zeros(32, 32, 32)) @ sm.BlockDiagonal(zeros(32, 32, 32)), "reduce over"),
        (sm.Dense(zeros(64, 32)) @ sm.Dense(zeros(32, 64)), "block-diagonal"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_reasons(op: sm.LinearOperator, reason: str) -> None:
    config, why = only(op)
    assert config is None
    assert re.search(reason, why), why


def test_other_dtypes_are_refused() -> None:
    for dtype in ("float32", "float64", "complex64"):
        config, why = only(monarch(32, 32, 32), dtype)
        assert config is None
        assert dtype in why


def test_clusters() -> None:
    config, _ = only(monarch(32, 32, 32))
    assert config is not None
    assert [config.clusters(rows, 66) for rows in (1, 16, 17, 16384)] == [1, 1, 2, 66]


# Numbers -----------------------------------------------------------------------------------------


def test_reference_is_the_dense_matrix() -> None:
    """Bit for bit, on integers."""
    r = entries(0, torch.float32)
    left, right = r(6, 5, 6), r(6, 6, 3)
    op = sm.Monarch(left, right)
    x, g = r(7, 18), r(7, 30)
    assert torch.equal(reference(x, right, left), x @ op.to_dense().mT)
    first, second = left.permute(0, 2, 1), right.permute(0, 2, 1)
    back = reference(g, first, second, x_interleaved=True, y_interleaved=False)
    assert torch.equal(back, g @ op.to_dense())


MAIN = """
u32 memory[1];
inline void __syncthreads() { group_sync<THREADS>(0); }
extern "C" const char* emulate(const u16* x, const u16* w1, const u16* w2, u16* y, long long rows,
                               int clusters, int seed) {
  static std::string result;
  emulator::random.seed(seed);
  for (int i = 0; i < clusters; i++) {
    result = emulator::run(i, clusters, CTAS, THREADS, SHARED, [=] { NAME(x, w1, w2, y, rows); });
    if (!result.empty()) break;
  }
  return result.c_str();
}
"""


def emulator(config: Config, folder: Path, change: tuple[str, str] = ("", "")) -> ctypes.CDLL:
    """The kernel on the CPU; ``change`` replaces a piece of its source, for tests of this test."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    defines = "".join(f"#define {name} {value}\n" for name, value in config.constants.items())
    kernel = Path(cluster.__file__).with_suffix(".cu").read_text()
    assert change[0] in kernel
    kernel = kernel.replace(*change) if change[0] else kernel
    code = f'{defines}#include "{HERE / "hopper_emulator.hpp"}"\n{kernel}{MAIN}'
    path = folder / "emulated.cpp"
    path.write_text(code)
    made = folder / "emulated.so"
    flags = ["-std=c++17", "-O2", "-w", "-shared", "-fPIC"]
    subprocess.run(["g++", *flags, "-o", str(made), str(path)], check=True)
    library = ctypes.CDLL(str(made))
    library.emulate.restype = ctypes.c_char_p
    return library


def laid(values: Tensor, order: tuple[int, int, int]) -> tuple[Tensor, tuple[int, int, int]]:
    """The same values in another order of memory, and their strides."""
    back = tuple(order.index(d) for d in range(3))
    moved = values.permute(order).contiguous().permute(back)
    return moved, (moved.stride(0), moved.stride(1), moved.stride(2))


def emulate(
    config: Config,
    folder: Path,
    rows: int,
    seeds: int,
    orders: tuple[tuple[int, int, int], tuple[int, int, int]] = ((0, 1, 2), (0, 1, 2)),
    change: tuple[str, str] = ("", ""),
) -> list[str]:
    """Run under several schedules: for each what went wrong, or an empty string."""
    dtype, n = DTYPES[config.element], config.blocks
    gen = torch.Generator().manual_seed(rows)

    def normal(*shape: int) -> Tensor:
        made: Tensor = torch.randn(shape, generator=gen) * shape[-1] ** -0.5
        return made.to(dtype)

    right, strides1 = laid(normal(n, n, config.reduced), orders[0])
    left, strides2 = laid(normal(n, config.out, n), orders[1])
    config = replace(config, right=strides1, left=strides2)
    x = normal(rows, n * config.reduced)
    want = reference(x, right, left, config.x_interleaved, config.y_interleaved).double()
    library = emulator(config, folder, change)
    problems = []
    for seed in range(seeds):
        y = torch.full((rows + 1, n * config.out), torch.nan, dtype=dtype)
        pointers = [ctypes.c_void_p(t.data_ptr()) for t in (x, right, left, y)]
        told = library.emulate(*pointers, ctypes.c_longlong(rows), 2, seed).decode()
        # The sums are taken in another order, so that h and y may round the other way: 2 u.
        error = float((y[:rows].double() - want).norm() / want.norm())
        if not told and not error < torch.finfo(dtype).eps:
            told = f"error {error}"
        if not told and not bool(y[rows:].isnan().all()):
            told = "wrote past the last row"
        problems.append(told)
    return problems


PLAIN = Config("bf16", 16, 16, 16, False, True, (256, 16, 1), (256, 16, 1), 2, (2, 2, 2))
LAYOUTS = [(0, 1, 2), (0, 2, 1), (2, 1, 0)]


def small(x_interleaved: bool, y_interleaved: bool, warps: int, folder: Path) -> None:
    """Rows that end within a tile, tiles that use every ring again, two clusters."""
    config = replace(PLAIN, x_interleaved=x_interleaved, y_interleaved=y_interleaved, warps=warps)
    orders = LAYOUTS[warps // 2 - 1], LAYOUTS[2 * int(x_interleaved)]
    assert emulate(config, folder, 16 * 11 + 3, 6, orders) == [""] * 6


DIRECTIONS = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize(("x_interleaved", "y_interleaved"), DIRECTIONS)
def test_emulated(x_interleaved: bool, y_interleaved: bool, tmp_path: Path) -> None:
    small(x_interleaved, y_interleaved, 4 if y_interleaved else 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("x_interleaved", "y_interleaved"), DIRECTIONS)
def test_emulated_with_other_warps(
    x_interleaved: bool, y_interleaved: bool, tmp_path: Path
) -> None:
    small(x_interleaved, y_interleaved, 2 if y_interleaved else 4, tmp_path)


@pytest.mark.parametrize("rows", [1, 33])
def test_emulated_few_rows(rows: int, tmp_path: Path) -> None:
    config = replace(PLAIN, blocks=32, reduced=48, out=64, element="f16")
    assert emulate(config, tmp_path, rows, 2) == [""] * 2


@pytest.mark.slow
@pytest.mark.parametrize("n", [32, 64])
@pytest.mark.parametrize(("x_interleaved", "y_interleaved"), DIRECTIONS)
def test_emulated_large(n: int, x_interleaved: bool, y_interleaved: bool, tmp_path: Path) -> None:
    right = Einsum((n, n, n), (2, 0) if x_interleaved else (0, 2), (0, 1, 2), (0, 1))
    left = Einsum((n, n, n), (2, 0), (0, 1, 2), (1, 0) if y_interleaved else (0, 1))
    config, reason = served(right, left, "bfloat16")
    assert config is not None, reason
    assert emulate(config, tmp_path, 16 * 9 + 5, 2, (LAYOUTS[1], LAYOUTS[2])) == [""] * 2


H_FREE = "wait_remote(c.base + H_EMPTY + 8 * out.stage, out.parity ^ 1);"
Y_FREE = "wait_remote(c.base + Y_EMPTY + 8 * out.stage, out.parity ^ 1);"
X_FREE = "wait(c.base + X_EMPTY + 8 * at.stage, at.parity ^ 1);"
H_FREED = "arrive_remote(remote(c.base + H_EMPTY + 8 * in.stage, lane));"
ROWS_FREE = "wait_stores_read<Y_STAGES - 2>();"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "y_interleaved"),
    [(H_FREE, True), (Y_FREE, True), (X_FREE, True), (H_FREED, True), (ROWS_FREE, False)],
)
def test_emulator_sees_missing_synchronisation(
    missing: str, y_interleaved: bool, tmp_path: Path
) -> None:
    config = replace(PLAIN, y_interleaved=y_interleaved)
    assert any(emulate(config, tmp_path, 16 * 20, 8, change=(missing, ";")))


# Resources ---------------------------------------------------------------------------------------


def nvrtc() -> ModuleType:
    """cuda.core, where it can compile."""
    core: ModuleType = pytest.importorskip("cuda.core", reason="no cuda-core to call NVRTC")
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    try:
        load_nvidia_dynamic_lib("nvrtc")
    except DynamicLibNotFoundError:
        pytest.skip("no NVRTC on this machine")
    return core


def compiled(config: Config) -> tuple[bytes, str]:
    """The cubin for sm_90a, and what the assembler says of it."""
    core = nvrtc()
    options = core.ProgramOptions(std="c++17", arch="sm_90a", ptxas_options=["-v"])
    log = io.StringIO()
    made = core.Program(config.source(), "c++", options).compile("cubin", logs=log)
    return made.code, log.getvalue()


RECTANGLES = [(16, 16, 16), (32, 32, 32), (64, 64, 64), (64, 32, 64), (32, 128, 96), (16, 192, 64)]


@pytest.mark.parametrize("shape", RECTANGLES, ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_resources(shape: tuple[int, int, int], dtype: str) -> None:
    """No spills, within shared memory, and setmaxnreg is obeyed, in both directions."""
    blocks, p, s = shape
    weights = (0, 1, 2)
    sizes = ((blocks, blocks, p), (blocks, s, blocks))
    for x_fast, y_fast in itertools.product((False, True), (False, True)):
        first = Einsum(sizes[0], (2, 0) if x_fast else (0, 2), weights, (0, 1))
        second = Einsum(sizes[1], (2, 0), weights, (1, 0) if y_fast else (0, 1))
        config, reason = served(first, second, dtype)
        assert config is not None, reason
        assert config.resident * (config.shared + 1024) <= SHARED_OF_SM
        assert config.resident * config.threads <= 2048
        code, log = compiled(config)
        assert code
        assert re.search(r"\b0 bytes spill stores, 0 bytes spill loads", log), log
        assert "warning" not in log.lower(), log


def test_kernels_stand_side_by_side() -> None:
    """Two of them in one translation unit, with other macros."""
    one, two = PLAIN, replace(PLAIN, x_interleaved=True, element="f16", stream=True, name="other")
    core = nvrtc()
    options = core.ProgramOptions(std="c++17", arch="sm_90a")
    made = core.Program(one.source() + two.source(), "c++", options).compile("cubin")
    assert made.code.count(b".text.cluster") == made.code.count(b".text.other") > 0
