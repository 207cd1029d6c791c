"""The compiler on a real GPU: every market operator, forward and gradients, within error bounds.

The bounds are those of oracle.py; interpreted.py asks the same of Triton's
interpreter. Memory is poisoned with NaN, so that an output that no kernel wrote fails.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from market import MARKET, ROUNDED, Make, entries
from oracle import check_integers, check_rounding, normal, relative_rms
from torch import Tensor

import structmat as sm
from structmat.testing import check_operator

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]  # drivers talk

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """Uninitialised memory is NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def gpu_normal(seed: int, dtype: torch.dtype) -> Make:
    return normal(seed, dtype, "cuda")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MARKET)
def test_market(name: str, dtype: torch.dtype) -> None:
    check_rounding(MARKET[name](gpu_normal(3, dtype)), dtype, "cuda", 37)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MARKET)
def test_integers_are_exact(name: str, dtype: torch.dtype) -> None:
    assert check_integers(MARKET[name](entries(0, dtype, "cuda")), dtype, "cuda", 5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize("name", MARKET | ROUNDED)
def test_kit(name: str, dtype: torch.dtype) -> None:
    """Operators themselves, not compiled: everything that the base class promises."""
    check_operator((MARKET | ROUNDED)[name](entries(3, dtype, "cuda")))


@pytest.mark.parametrize("name", ROUNDED)
def test_library_calls(name: str) -> None:
    """What compiles to calls of libraries; the plan chooses the backend."""
    check_operator(ROUNDED[name](entries(3, torch.float64, "cuda")), backends=("auto",))


@pytest.mark.parametrize("name", ["identity", "zero", "permuted", "batched_monarch", "shared"])
def test_compiled_function(name: str) -> None:
    """f itself: dtype, shape, and values on integers."""
    op = MARKET[name](entries(0, torch.float32, "cuda"))
    x = entries(1, torch.float32, "cuda")(*(5, *op.batch_shape, op.shape[1]))
    got = sm.compile(op, backend="triton")(x)
    assert got.dtype == torch.float32
    assert torch.equal(got, op(x))


@pytest.mark.parametrize("n", [1024, 4096])
@pytest.mark.parametrize("batch", [1, 7, 16, 1000])
def test_monarch_batches(n: int, batch: int) -> None:
    b = int(n**0.5)
    r = gpu_normal(0, torch.bfloat16)
    left, right = r(b, b, b), r(b, b, b)
    op = sm.Monarch(left, right)
    f = sm.compile(op)
    x = torch.randn(batch, n, device="cuda").bfloat16()
    want = sm.Monarch(left.double(), right.double())(x.double())
    assert relative_rms(f(x), want) < 3e-3
    assert "backend     gpu" in f.explain()
    if batch in (7, 1000):
        check_rounding(op, torch.bfloat16, "cuda", batch)


def test_other_blocks() -> None:
    r = gpu_normal(1, torch.bfloat16)
    for left, right in [
        (r(4, 512, 512), r(4, 512, 512)),
        (r(128, 32, 128), r(128, 128, 32)),
        (r(16, 256, 64), r(64, 16, 64)),
    ]:
        op = sm.Monarch(left, right)
        x = torch.randn(300, op.shape[1], device="cuda").bfloat16()
        assert relative_rms(sm.compile(op)(x), op.to(torch.float64)(x.double())) < 3e-3
        back = sm.compile(op.T)
        y = torch.randn(300, op.shape[0], device="cuda").bfloat16()
        assert relative_rms(back(y), op.T.to(torch.float64)(y.double())) < 3e-3


def test_repeated_launches_agree() -> None:
    r = gpu_normal(2, torch.bfloat16)
    for b in (32, 64):
        leaves = [r(b, b, b).requires_grad_(), r(b, b, b).requires_grad_()]
        f = sm.compile(sm.Monarch(*leaves))
        x = torch.randn(3001, b * b, device="cuda").bfloat16().requires_grad_()
        g = torch.randn_like(x)
        first = [f(x).detach(), *torch.autograd.grad(f(x), [x, *leaves], g)]
        for _ in range(40):
            again = [f(x).detach(), *torch.autograd.grad(f(x), [x, *leaves], g)]
            for a, b_ in zip(first, again, strict=True):
                assert torch.equal(a, b_)


def test_strides_and_empty_batches() -> None:
    r = gpu_normal(4, torch.float32)
    op = sm.Monarch(r(32, 32, 32), r(32, 32, 32))
    f = sm.compile(op)
    x = torch.randn(1024, 50, device="cuda")
    torch.testing.assert_close(f(x.mT), op(x.mT), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(f @ x, op @ x, rtol=1e-4, atol=1e-4)
    wide = torch.randn(9, 2048, device="cuda")[:, ::2]
    torch.testing.assert_close(f(wide), op(wide), rtol=1e-4, atol=1e-4)
    assert f(x.new_zeros(0, 1024)).shape == (0, 1024)
    assert f(x.new_zeros(2, 3, 1024)).shape == (2, 3, 1024)


def test_cuda_graph() -> None:
    r = gpu_normal(5, torch.bfloat16)
    f = sm.compile(sm.Monarch(r(32, 32, 32), r(32, 32, 32)))
    x = torch.randn(64, 1024, device="cuda").bfloat16()
    with torch.no_grad():
        want = f(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = f(x)
        y.fill_(float("nan"))
        graph.replay()
    assert torch.equal(y, want)


def test_torch_compile_fullgraph() -> None:
    r = gpu_normal(6, torch.float32)
    left, right = r(16, 16, 16).requires_grad_(), r(16, 16, 16).requires_grad_()
    f = sm.compile(sm.Monarch(left, right))
    x = torch.randn(8, 256, device="cuda")

    def model(x: Tensor) -> Tensor:
        return torch.relu(f(torch.sin(x))).sum()

    want = torch.autograd.grad(model(x), [left, right])
    got = torch.autograd.grad(torch.compile(model, fullgraph=True)(x), [left, right])
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_backends_and_reasons() -> None:
    x = torch.randn(3, 4, device="cuda")
    f = sm.compile(sm.Dense(torch.randn(5, 4, device="cuda")))
    f(x)
    assert "backend     triton" in f.explain()
    g = sm.compile(sm.Dense(torch.randn(5, 4, device="cuda", dtype=torch.complex64)))
    torch.testing.assert_close(g(x), g.operator(x))
    assert "backend     torch" in g.explain()
    with pytest.raises(RuntimeError, match="complex"):
        sm.compile(g.operator, backend="triton")(x)


def test_projection_on_the_gpu() -> None:
    w = torch.randn(2, 48, 60, device="cuda")
    p = sm.project(w, sm.Monarch, nblocks=(5, 4), rank=2)
    cpu = sm.project(w.cpu(), sm.Monarch, nblocks=(5, 4), rank=2)
    assert p.operator.device.type == "cuda"
    torch.testing.assert_close(p.error.cpu(), cpu.error, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(p.error, p.lower_bound, rtol=1e-4, atol=1e-4)
