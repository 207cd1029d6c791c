"""Monarch and block-diagonal products on a GPU, beside dense cuBLAS and the two-bmm reference.

    python benchmarks/monarch.py                 # every row, about three minutes
    python benchmarks/monarch.py --only 1024     # rows whose name contains "1024"

Each row prints structmat's time, each peer's time in the same process, the floor
max(bytes that must move / copy rate, flops / GEMM rate) with both rates measured in this run, the
fraction of the floor reached, and the relative error against float64. Times are medians of
triton.testing.do_bench, which clears the L2 cache between runs; kernels that are shorter than a
launch from Python (n=1024) are replayed from a CUDA graph that rotates over several inputs, and
training steps from a CUDA graph, too: these are device times.

The two-bmm reference is what the Monarch code of its authors does (block-diagonal products by
torch.bmm with transposed copies between; Dao et al. 2022), written anew here.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import structmat as sm


@dataclass
class Row:
    """One line of the table."""

    name: str
    ours: float
    peers: dict[str, float]
    floor: float
    error: float
    target: float | None


def median_us(fn: Callable[[], object]) -> float:
    """Median time of fn in microseconds, L2 cache cold."""
    from triton.testing import do_bench

    return float(do_bench(fn, warmup=25, rep=100, return_mode="median")) * 1e3


def graph_us(fns: list[Callable[[], object]], repeat: int = 20) -> float:
    """Median time of one call in a CUDA graph that rotates over ``fns``, in microseconds."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for fn in fns:
            fn()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeat):
            for fn in fns:
                fn()
    times = []
    for _ in range(21):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop) * 1e3 / (repeat * len(fns)))
    return sorted(times)[len(times) // 2]


class TwoBmm(torch.autograd.Function):
    """Monarch by two batched products, both ways; x (t, k p), right (k, q, p), left (l, s, r)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, right: Tensor, left: Tensor) -> Tensor:
        """Two products written through strides, one copy between them, one after."""
        t = x.shape[0]
        (k, q, p), (l, s, r) = right.shape, left.shape
        blocks = x.reshape(t, k, p).transpose(0, 1)
        h = x.new_empty(t, k, q)
        torch.bmm(blocks, right.mT, out=h.transpose(0, 1))
        h = h.reshape(t, r, l).mT.contiguous().transpose(0, 1)
        y = x.new_empty(t, l, s)
        torch.bmm(h, left.mT, out=y.transpose(0, 1))
        ctx.save_for_backward(x, right, left, h)
        return y.mT.reshape(t, s * l)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Four products, two copies."""
        x, right, left, h = ctx.saved_tensors
        t = x.shape[0]
        (k, q, p), (l, s, r) = right.shape, left.shape
        gy = g.reshape(t, s, l).mT.contiguous().transpose(0, 1)
        g_left = torch.bmm(gy.mT, h)
        gh = x.new_empty(t, l, r)
        torch.bmm(gy, left, out=gh.transpose(0, 1))
        gh = gh.mT.contiguous().reshape(t, k, q).transpose(0, 1)
        gx = x.new_empty(t, k, p)
        torch.bmm(gh, right, out=gx.transpose(0, 1))
        g_right = torch.bmm(gh.mT, x.reshape(t, k, p).transpose(0, 1))
        return gx.reshape(t, k * p), g_right, g_left


two_bmm: Callable[..., Tensor] = TwoBmm.apply


class Bench:
    """The device's rates, and the rows measured so far."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        source = torch.randn(2**28, device="cuda")
        target = torch.empty_like(source)
        moved = 2 * source.numel() * 4
        self.copy = moved / median_us(lambda: target.copy_(source)) * 1e-6  # TB/s
        a, b = (torch.randn(8192, 8192, device="cuda").to(dtype) for _ in range(2))
        self.gemm = 2 * 8192**3 / median_us(lambda: a @ b) * 1e-6  # TFLOP/s
        self.rows: list[Row] = []

    def floor(self, numbers: float, flops: float) -> float:
        """Microseconds that no kernel can go below."""
        size = torch.empty(0, dtype=self.dtype).element_size()
        return max(numbers * size / self.copy, flops / self.gemm) * 1e-6

    def rand(self, *shape: int) -> Tensor:
        """Normal entries scaled by the length of the reduction."""
        return (torch.randn(*shape, device="cuda") / shape[-1] ** 0.5).to(self.dtype)

    def monarch(
        self, n: int, blocks: int, rank: int, batch: int, target: float | None, train: bool = False
    ) -> None:
        """A square Monarch: ``blocks`` blocks on either side, block rank ``rank``."""
        s, q = n // blocks, blocks * rank
        left, right = self.rand(blocks, s, q), self.rand(blocks, q, s)
        params = left.numel() + right.numel()
        operator = sm.Monarch(left, right)
        f = sm.compile(operator)
        rotations = 1 if n > 1024 else 4 if batch > 256 else 16  # short kernels: graph replays
        xs = [self.rand(batch, n) * n**0.5 for _ in range(rotations)]
        dense = self.rand(n, n)
        name = f"monarch n={n} {blocks}x{blocks} blocks, batch {batch}"
        if rank > 1:
            name = f"monarch n={n} nblocks={blocks}, batch {batch}"
        error = self.error(f, xs[0], operator)
        if train:
            self.train(name, f, xs[0], left, right, dense, target)
            return
        with torch.no_grad():
            calls = {
                "ours": [lambda x=x: f(x) for x in xs],
                "dense": [lambda x=x: F.linear(x, dense) for x in xs],
                "two bmm": [lambda x=x: two_bmm(x, right, left) for x in xs],
            }
            timed = {
                k: median_us(v[0]) if rotations == 1 else graph_us(v) for k, v in calls.items()
            }
        floor = self.floor(2 * batch * n + params, 2 * batch * params)
        ours = timed.pop("ours")
        self.put(Row(name, ours, timed, floor, error, target))

    def train(
        self,
        name: str,
        f: Callable[[Tensor], Tensor],
        x: Tensor,
        left: Tensor,
        right: Tensor,
        dense: Tensor,
        target: float | None,
    ) -> None:
        """Forward and backward, for x and the weights."""
        leaves = [x, left, right, dense]
        for t in leaves:
            t.requires_grad_()
        g = torch.randn_like(x)
        f = sm.compile(sm.Monarch(left, right))

        def step(fn: Callable[[], Tensor], inputs: list[Tensor]) -> Callable[[], object]:
            return lambda: torch.autograd.grad(fn(), inputs, g)

        ours = step(lambda: f(x), [x, left, right])
        peers = {
            "dense": graph_us([step(lambda: F.linear(x, dense), [x, dense])], 4),
            "two bmm": graph_us([step(lambda: two_bmm(x, right, left), [x, right, left])], 4),
        }
        got = ours()
        part = x[:256].detach().double().requires_grad_()
        wide = [w.detach().double().requires_grad_() for w in (left, right)]
        y = sm.Monarch(*wide)(part)
        want = torch.autograd.grad(y, part, g[:256].double())[0]
        error = float((got[0][:256].double() - want).norm() / want.norm())  # type: ignore[index]
        params = left.numel() + right.numel()
        floor = self.floor(5 * x.numel() + 3 * params, 6 * x.shape[0] * params)
        self.put(Row(f"{name}, fwd+bwd", graph_us([ours], 4), peers, floor, error, target))

    def block_diagonal(self, blocks: int, q: int, p: int, batch: int) -> None:
        """One block-diagonal factor."""
        weight = self.rand(blocks, q, p)
        f = sm.compile(sm.BlockDiagonal(weight))
        x = self.rand(batch, blocks * p) * (blocks * p) ** 0.5
        dense = self.rand(blocks * q, blocks * p)

        def bmm() -> Tensor:
            y = torch.bmm(x.view(batch, blocks, p).transpose(0, 1), weight.mT)
            return y.transpose(0, 1).reshape(batch, blocks * q)

        with torch.no_grad():
            peers = {"dense": median_us(lambda: F.linear(x, dense)), "bmm": median_us(bmm)}
            ours = median_us(lambda: f(x))
        params = weight.numel()
        floor = self.floor(batch * blocks * (p + q) + params, 2 * batch * params)
        error = self.error(f, x, sm.BlockDiagonal(weight))
        name = f"block-diagonal {blocks} of {q}x{p}, batch {batch}"
        self.put(Row(name, ours, peers, floor, error, None))

    def error(self, f: Callable[[Tensor], Tensor], x: Tensor, operator: sm.LinearOperator) -> float:
        """Relative error of the last (up to 256) rows of f(x) against float64."""
        with torch.no_grad():
            want = operator.to(torch.float64)(x[-256:].double())
            got = f(x)[-256:].double()
        return float((got - want).norm() / want.norm())

    def put(self, row: Row) -> None:
        """Print a row as it is measured."""
        self.rows.append(row)
        peers = ", ".join(
            f"{k} {t:.1f} us ({t / row.ours:.2f}x)" for k, t in sorted(row.peers.items())
        )
        target = (
            ""
            if row.target is None
            else (f"; target {row.target:.0f} us {'met' if row.ours <= row.target else 'missed'}")
        )
        print(
            f"{row.name}\n    ours {row.ours:.1f} us; {peers}\n"
            f"    floor {row.floor:.1f} us, reached {row.floor / row.ours:.0%}; "
            f"error {row.error:.2e}{target}",
            flush=True,
        )


def main(argv: list[str] | None = None) -> int:
    """Run the rows that match."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", default="", help="run rows whose name contains this")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16"])
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("benchmarks/monarch.py needs an NVIDIA GPU; for the CPU: benchmarks/cpu.py")
        return 2
    import triton

    torch.manual_seed(0)
    bench = Bench(getattr(torch, args.dtype))
    print(
        f"{torch.cuda.get_device_name()}, {args.dtype}, torch {torch.__version__}, "
        f"triton {triton.__version__}, Python {platform.python_version()}, "
        f"structmat {sm.__version__}, {datetime.date.today()}\n"
        f"copy {bench.copy:.2f} TB/s, 8192^3 GEMM {bench.gemm:.0f} TFLOP/s"
    )
    plan: list[tuple[str, Callable[[], None]]] = [
        ("monarch 4096 64", lambda: bench.monarch(4096, 64, 1, 16384, 120)),
        ("monarch 4096 train", lambda: bench.monarch(4096, 64, 1, 16384, 400, train=True)),
        ("monarch 1024 32", lambda: bench.monarch(1024, 32, 1, 16384, 30)),
        ("monarch 1024 batch 1", lambda: bench.monarch(1024, 32, 1, 1, None)),
        ("monarch 1024 batch 64", lambda: bench.monarch(1024, 32, 1, 64, None)),
        ("monarch 16384", lambda: bench.monarch(16384, 128, 1, 16384, 700)),
        ("monarch nblocks4 4096", lambda: bench.monarch(4096, 4, 256, 16384, 500)),
        ("block-diagonal 64", lambda: bench.block_diagonal(64, 64, 64, 16384)),
        ("block-diagonal 4", lambda: bench.block_diagonal(4, 1024, 1024, 16384)),
    ]
    for name, run in plan:
        if args.only in name:
            run()
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
