"""Radix chains: what schedules compute, where vectors lie, and that NVRTC takes the kernels."""

from __future__ import annotations

import io
import itertools
import re
from collections import Counter

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import structmat as sm
from structmat.lowering import radix, schedule
from structmat.lowering.ir import to_dense
from structmat.lowering.passes import choose_layouts, merge_index_maps
from structmat.lowering.pipeline import lower
from structmat.lowering.plan import Device
from structmat.lowering.record import to_chain

SHARED_MEMORY = 232448


def signs(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(seed)).double()


CHAINS = {
    "hadamard 2": sm.Hadamard(2),
    "hadamard 128": sm.Hadamard(128),
    "hadamard 512": sm.Hadamard(512, normalized=True) @ sm.stride_permutation(512, 8),
    "butterfly 4": sm.Butterfly(signs(0, 2, 2, 2, 2)),
    "butterfly 64": sm.Butterfly(signs(1, 6, 32, 2, 2)),
    "butterfly 256, transposed": sm.Butterfly(signs(2, 8, 128, 2, 2)).T,
    "butterfly 256, reversed": sm.bit_reversal(256)
    @ sm.Butterfly(signs(3, 8, 128, 2, 2))
    @ sm.Diagonal(signs(4, 256)),
    "kronecker": sm.kron(
        *(sm.Dense(signs(s, 4, 4)) for s in range(2)), sm.Hadamard(4), sm.Dense(signs(9, 2, 2))
    ),
    "radix 8": sm.KroneckerSparse(signs(5, 4, 8, 8, 4)) @ sm.KroneckerSparse(signs(6, 16, 8, 8, 1)),
    "scaled, strided": 0.5
    * sm.stride_permutation(64, 4)
    @ sm.KroneckerSparse(signs(7, 8, 4, 4, 2)),
}


def chain_of(
    operator: sm.LinearOperator,
) -> tuple[radix.Chain, list[torch.Tensor], NDArray[np.float64]]:
    graph, values = to_chain(operator.simplify())
    graph = choose_layouts(merge_index_maps(graph))
    (run,) = radix.runs(graph)
    chain = radix.stages(graph, run)
    assert chain is not None
    assert run == tuple(range(1, len(graph.nodes)))
    return chain, values, to_dense(graph, values, torch.float64).numpy()


def run_stage(
    x: NDArray[np.float64], s: radix.Stage, values: list[torch.Tensor]
) -> NDArray[np.float64]:
    """One stage on columns x (2^L, cols), entry by entry from its definition."""
    if s.w is None and not s.bits:
        return x * s.alpha
    y = np.zeros_like(x)
    for at in range(len(x)):
        base = at & ~sum(1 << b for b in s.bits)
        for k in range(s.radix):
            picked = [k >> (len(s.bits) - 1 - i) & 1 for i in range(len(s.bits))]
            source = base + sum(bit << b for bit, b in zip(picked, s.bits, strict=True))
            if s.w is None:
                w = -1.0 if at >> s.bits[0] & 1 and picked[0] else 1.0
            else:
                place = sum(stride * (at >> b & 1) for b, stride in s.parallel)
                place += sum(stride * bit for stride, bit in zip(s.ins, picked, strict=True))
                place += sum(st * (at >> b & 1) for st, b in zip(s.outs, s.bits, strict=True))
                w = float(values[s.w].flatten()[place])
            y[at] += w * x[source]
    return y


@pytest.mark.parametrize("name", CHAINS)
def test_a_schedule_computes_the_matrix(name: str) -> None:
    chain, values, want = chain_of(CHAINS[name])
    for itemsize in (2, 4, 8):
        plan = schedule.schedule(chain, itemsize)
        y = np.eye(1 << chain.length)
        for p in plan.passes:
            for s in p.stages:
                assert set(s.bits) <= set(p.registers)
                y = run_stage(y, s, values)
        out = np.zeros_like(y)
        for at in range(len(y)):
            bits = reversed(chain.out)
            out[sum((at >> b & 1) << place for place, b in enumerate(bits))] = y[at]
        np.testing.assert_allclose(out, want, rtol=0, atol=1e-12)  # exact but for 1/sqrt(512)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("itemsize", [2, 4, 8])
def test_threads_and_registers_share_a_tile(name: str, itemsize: int) -> None:
    chain, _, _ = chain_of(CHAINS[name])
    plan = schedule.schedule(chain, itemsize)
    bits = range(chain.length + plan.rows)
    for p in plan.passes:
        assert sorted((*p.registers, *p.threads)) == list(bits)
    assert Counter(s for p in plan.passes for s in p.stages) == Counter(chain.stages)
    assert set(range(plan.load)) <= set(plan.passes[0].registers)
    low = tuple(reversed(chain.out))
    assert plan.passes[-1].registers[: plan.store] == low[: plan.store]


@pytest.mark.parametrize("n", [128, 1024, 4096, 16384, 32768])
@pytest.mark.parametrize("itemsize", [2, 4, 8])
def test_shared_memory_has_no_bank_conflicts(n: int, itemsize: int) -> None:
    chain, _, _ = chain_of_hadamard(n)
    plan = schedule.schedule(chain, itemsize)
    banks = 5 if itemsize < 8 else 4
    bits = chain.length + plan.rows
    for a, b in itertools.pairwise(plan.passes):
        where = schedule.layout(a, b, bits, plan.held, banks)
        assert schedule._rank(list(where.columns)) == bits  # every position has a place of its own
        for p, wide in ((a, where.put), (b, where.get)):
            lanes = p.threads[: banks - wide]
            hit = {
                sum_xor(where.columns[t] for t, on in zip(lanes, picked, strict=True) if on) >> wide
                & (1 << banks - wide) - 1
                for picked in itertools.product((0, 1), repeat=len(lanes))
            }
            assert len(hit) == 1 << len(lanes)
            for b_, place in zip(where.vector[:wide], range(wide), strict=True):
                assert where.columns[b_] == 1 << place


def sum_xor(columns: object) -> int:
    total = 0
    for c in columns:  # type: ignore[attr-defined]
        total ^= c
    return total


def chain_of_hadamard(n: int) -> tuple[radix.Chain, None, None]:
    graph, _ = to_chain(sm.Hadamard(n))
    graph = merge_index_maps(graph)
    chain = radix.stages(graph, (1,))
    assert chain is not None
    return chain, None, None


def test_what_is_no_radix_chain() -> None:
    for op in (
        sm.Monarch(signs(0, 16, 16, 16), signs(1, 16, 16, 16)),  # long reductions: tensor cores
        sm.KroneckerSparse(signs(2, 5, 2, 2, 3)),  # 30 is no power of two
        sm.Diagonal(signs(3, 64)),  # mixes nothing
        sm.DFT(64),
    ):
        assert not radix.runs(merge_index_maps(to_chain(op)[0]))


def test_a_sum_ends_a_run() -> None:
    op = sm.Hadamard(8) + sm.Butterfly(signs(0, 3, 4, 2, 2))
    graph = choose_layouts(merge_index_maps(to_chain(op)[0]))
    assert len(radix.runs(graph)) == 2


SPILLS = re.compile(r"(\d+) bytes spill stores")
COMPILED = [
    ("hadamard 128", "float16"),
    ("hadamard 512", "bfloat16"),
    ("scaled, strided", "float16"),
    ("butterfly 256, reversed", "float32"),
    ("butterfly 256, transposed", "float64"),
    ("kronecker", "bfloat16"),
    ("radix 8", "float32"),
]


@pytest.mark.parametrize(("name", "dtype"), COMPILED)
def test_nvrtc_compiles_the_kernel(name: str, dtype: str) -> None:
    compile_offline(CHAINS[name], dtype)


@pytest.mark.parametrize("n", [1024, 4096, 16384, 32768])
def test_nvrtc_compiles_long_transforms(n: int) -> None:
    compile_offline(sm.Hadamard(n), "bfloat16")


def compile_offline(operator: sm.LinearOperator, dtype: str) -> None:
    graph, _ = to_chain(operator.simplify())
    compile_source(lower(graph, "cuda", dtype, Device(), "offline").source)


def compile_source(source: str) -> None:
    """Compile for sm_90a; no spills to speak of, and shared memory that a block may have."""
    core = pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    pytest.importorskip("nvidia.cu13", reason="NVRTC is not installed")
    (found,) = re.findall(r'CUDA\["k0"\] = r"""\n(.*?)"""', source, re.DOTALL)
    log = io.StringIO()
    options = core.ProgramOptions(arch="sm_90a", std="c++17", ptxas_options=["-v"])
    core.Program(found, "c++", options).compile("cubin", logs=log)
    spilled = [int(s) for s in SPILLS.findall(log.getvalue())]
    shared = [int(s) for s in re.findall(r'_launch\("k\d+", "k\d+", \d+, (\d+)', source)]
    assert len(spilled) == len(shared) > 0
    assert max(spilled) <= 32
    assert max(shared) <= SHARED_MEMORY


def test_the_naive_twin_is_the_butterfly() -> None:
    from structmat.kernels.radix import reference

    twiddle, x = signs(0, 4, 8, 2, 2), signs(1, 5, 16)
    assert torch.equal(reference(x, twiddle), sm.Butterfly(twiddle)(x))
