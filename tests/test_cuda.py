"""CUDA C++ kernels on a GPU: values, gradients, odd batches, graphs, streams, layouts."""

from __future__ import annotations

import pytest
import torch
from oracle import relative_rms
from test_radix import CHAINS

import structmat as sm

pytestmark = pytest.mark.gpu
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def _cuda() -> None:
    pytest.importorskip("cuda.core")
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")


def on_gpu(name: str, dtype: torch.dtype) -> sm.LinearOperator:
    return CHAINS[name].to(device="cuda", dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CHAINS)
def test_integers_are_exact(name: str, dtype: torch.dtype) -> None:
    """Signs, where every partial sum is an integer that the dtype holds."""
    op = on_gpu(name, dtype)
    f = sm.compile(op, backend="cuda")
    for rows in (0, 1, 3, 17, 300):
        x = torch.randint(-1, 2, (rows, op.shape[1]), device="cuda").to(dtype)
        torch.full((max(rows, 1), op.shape[0]), torch.nan, device="cuda", dtype=dtype)  # poison
        got, want = f(x), op.to(torch.float64)(x.double())
        assert got.shape == want.shape
        assert got.dtype == dtype
        if name.startswith("hadamard 512") or dtype in (torch.float16, torch.bfloat16):
            assert relative_rms(got, want) < 4 * torch.finfo(dtype).eps
        else:
            assert torch.equal(got.double(), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n", [2, 8, 128, 1024, 2048, 8192, 32768])
def test_hadamard(n: int, dtype: torch.dtype) -> None:
    x = torch.randn(65, n, device="cuda").to(dtype)
    got = sm.compile(sm.Hadamard(n), backend="cuda")(x)
    want = sm.Hadamard(n)(x.double())
    assert relative_rms(got, want) < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("increasing", [True, False])
@pytest.mark.parametrize("log2", [1, 5, 10, 12])
def test_butterfly_and_its_gradients(log2: int, increasing: bool) -> None:
    n = 1 << log2
    generator = torch.Generator().manual_seed(log2)
    twiddle = torch.randn(log2, n // 2, 2, 2, generator=generator) / 2**0.5
    twiddle = twiddle.cuda().requires_grad_()
    x = torch.randn(33, n, generator=generator).cuda().requires_grad_()
    g = torch.randn(33, n, generator=generator).cuda()
    f = sm.compile(sm.Butterfly(twiddle, increasing_stride=increasing))
    y = f(x)
    grads = torch.autograd.grad(y, [x, twiddle], g)
    wide = [t.detach().double().requires_grad_() for t in (x, twiddle)]
    want = sm.Butterfly(wide[1], increasing_stride=increasing)(wide[0])
    wanted = torch.autograd.grad(want, wide, g.double())
    for a, b in zip((y, *grads), (want, *wanted), strict=True):
        assert relative_rms(a.detach(), b.detach()) < 1e-6
    assert "backend     gpu" in f.explain()


def test_layouts_streams_and_graphs() -> None:
    op = on_gpu("butterfly 64", torch.float32)
    f = sm.compile(op, backend="cuda")
    base = torch.randn(64, 40, device="cuda")
    assert torch.allclose(f(base.mT), op(base.mT), atol=1e-5)  # not contiguous
    wide = base.mT[:1].expand(9, 64)
    assert torch.allclose(f(wide), op(wide), atol=1e-5)
    x = torch.randn(1000, 64, device="cuda")
    want = f(x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        there = f(x)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(there, want)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = f(x)
    x.copy_(torch.randn_like(x))
    graph.replay()
    assert torch.equal(y, f(x))


@pytest.mark.parametrize("n", [64, 1024])
def test_memory_that_begins_anywhere(n: int) -> None:
    buffer = torch.randn(50 * n + 8, device="cuda").bfloat16()
    for op in (sm.Hadamard(n), on_gpu("butterfly 64", torch.bfloat16) if n == 64 else monarch(32)):
        f = sm.compile(op, backend="cuda")
        for start in (1, 3, 4, 8):
            x = buffer[start : start + 50 * n].view(50, n)
            assert torch.equal(f(x), f(x.clone()))


def monarch(blocks: int) -> sm.Monarch:
    generator = torch.Generator().manual_seed(blocks)
    left, right = (torch.randn(blocks, blocks, blocks, generator=generator) / 8 for _ in range(2))
    return sm.Monarch(left.cuda().bfloat16(), right.cuda().bfloat16())


def test_nan_stays_in_its_row() -> None:
    x = torch.randn(50, 128, device="cuda")
    x[7, 3] = torch.nan
    y = sm.compile(sm.Hadamard(128), backend="cuda")(x)
    assert y.isnan().any(1).nonzero().flatten().tolist() == [7]


def test_repeated_launches_agree() -> None:
    f = sm.compile(on_gpu("butterfly 256, reversed", torch.float32), backend="cuda")
    x = torch.randn(5003, 256, device="cuda")
    first = f(x)
    assert all(torch.equal(f(x), first) for _ in range(40))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("blocks", [16, 32, 64])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_monarch_in_a_cluster(blocks: int, transposed: bool, dtype: torch.dtype) -> None:
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("clusters are Hopper's")
    generator = torch.Generator().manual_seed(blocks)
    values = [torch.randn(blocks, blocks, blocks, generator=generator) / 8 for _ in range(2)]
    plain = sm.Monarch(*(v.to("cuda", dtype) for v in values))
    op = plain.T if transposed else plain
    f = sm.compile(op, backend="cuda")
    for rows in (1, 15, 16, 17, 3000):
        x = torch.randn(rows, blocks**2, device="cuda").to(dtype)
        want = op.to(torch.float64)(x.double())
        assert all(relative_rms(f(x), want) < 4 * torch.finfo(dtype).eps for _ in range(8))
    assert [k.kind for k in f.plan.kernels] == ["cluster"]
    assert f(x[:0]).shape == (0, blocks**2)


def test_triton_and_cuda_in_one_module() -> None:
    op = sm.Hadamard(256) @ sm.BlockDiagonal(torch.randn(4, 64, 64, device="cuda").bfloat16() / 8)
    f = sm.compile(op)
    x = torch.randn(77, 256, device="cuda").bfloat16()
    assert relative_rms(f(x), op.to(torch.float64)(x.double())) < 8e-3
    assert {k.kind for k in f.plan.kernels} == {"radix", "dot"}


def test_a_vector_too_long_for_float64() -> None:
    x = torch.randn(3, 1 << 15, device="cuda", dtype=torch.float64)
    f = sm.compile(sm.Hadamard(1 << 15))
    assert torch.allclose(f(x), sm.Hadamard(1 << 15)(x))
    assert "backend     torch" in f.explain()


def test_what_cuda_does_not_serve() -> None:
    dense = sm.Dense(torch.randn(64, 64, device="cuda"))
    with pytest.raises(RuntimeError, match="backend='auto'"):
        sm.compile(dense, backend="cuda")(torch.randn(3, 64, device="cuda"))
    with pytest.raises(RuntimeError, match=r"no kernels for torch\.complex64"):
        sm.compile(sm.Hadamard(8), backend="cuda")(torch.randn(3, 8, device="cuda") + 0j)
