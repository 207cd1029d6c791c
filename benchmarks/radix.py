"""Hadamard and butterfly products on a GPU, beside dense cuBLAS and one launch a stage.

    python benchmarks/radix.py                  # every row, about a minute
    python benchmarks/radix.py --only hadamard  # rows whose name contains "hadamard"

Each row prints structmat's time, each peer's time in the same process, the floor (x read and y
written once at the copy rate measured in this run; gradients read x and g and write one more), the
fraction of it reached, and the relative error against float64. Times are medians: of
triton.testing.do_bench forward, of a CUDA graph forward and backward.

Dense is the product with the same matrix stored, up to n = 4096. "stages" is torch, a stage at a
time: sums and differences of halves for Hadamard, an einsum for a butterfly.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from monarch import graph_us, median_us
from torch import Tensor

import structmat as sm

ENTRIES = 2**27
"""Entries of x for Hadamard: 268 MB in 16 bits."""


def hadamard_stages(x: Tensor) -> Tensor:
    """Sums and differences, a stage at a time."""
    n, y, h = x.shape[-1], x, 1
    while h < n:
        y = y.reshape(-1, n // (2 * h), 2, h)
        a, b = y[:, :, 0], y[:, :, 1]
        y, h = torch.stack([a + b, a - b], 2), 2 * h
    return y.reshape(x.shape)


def butterfly_stages(x: Tensor, twiddle: Tensor) -> Tensor:
    """An einsum a stage, strides 1, 2, 4, ..."""
    n, y = x.shape[-1], x
    for stage, w in enumerate(twiddle):
        s = 1 << stage
        w = w.reshape(n // (2 * s), s, 2, 2)
        y = torch.einsum("asjk,taks->tajs", w, y.reshape(-1, n // (2 * s), 2, s)).reshape(-1, n)
    return y


class Bench:
    """The copy rate, and how a row is printed."""

    def __init__(self) -> None:
        source = torch.randn(2**28, device="cuda")
        target = torch.empty_like(source)
        self.copy = 8 * source.numel() / median_us(lambda: target.copy_(source)) * 1e-6  # TB/s

    def put(
        self,
        name: str,
        ours: float,
        peers: dict[str, float],
        numbers: float,
        size: int,
        error: float,
    ) -> None:
        """Print a row."""
        floor = numbers * size / self.copy * 1e-6
        others = ", ".join(f"{k} {t:.1f} us ({t / ours:.2f}x)" for k, t in peers.items())
        print(
            f"{name}\n    ours {ours:.1f} us; {others}\n"
            f"    floor {floor:.1f} us, reached {floor / ours:.0%}; error {error:.2e}",
            flush=True,
        )

    def hadamard(self, n: int, dtype: torch.dtype) -> None:
        """One Hadamard transform of every row."""
        x = torch.randn(ENTRIES // n, n, device="cuda").to(dtype)
        f, H = sm.compile(sm.Hadamard(n)), sm.Hadamard(n)
        with torch.no_grad():
            ours = median_us(lambda: f(x))
            peers = {"stages": median_us(lambda: hadamard_stages(x))}
            if n <= 4096:
                dense = H.to_dense().to("cuda", dtype)
                peers["dense"] = median_us(lambda: F.linear(x, dense))
            part = x[:64]
            want = H(part.double())
            error = float((f(part).double() - want).norm() / want.norm())
        name = f"hadamard n={n}, {dtype}, batch {x.shape[0]}"
        self.put(name, ours, peers, 2 * x.numel(), x.element_size(), error)

    def butterfly(self, log2: int, batch: int, dtype: torch.dtype, train: bool) -> None:
        """All stages; with ``train`` the gradients of x and of the values, too."""
        n = 1 << log2
        twiddle = (torch.randn(log2, n // 2, 2, 2, device="cuda") / 2**0.5).to(dtype)
        x = torch.randn(batch, n, device="cuda").to(dtype)
        leaves = [x.requires_grad_(train), twiddle.requires_grad_(train)]
        g = torch.randn_like(x)
        f = sm.compile(sm.Butterfly(twiddle))

        def step(fn: Callable[[], Tensor]) -> Callable[[], object]:
            return (lambda: torch.autograd.grad(fn(), leaves, g)) if train else fn

        time = (lambda fn: graph_us([fn], 4)) if train else median_us
        with torch.set_grad_enabled(train):
            ours = time(step(lambda: f(x)))
            peers = {"stages": time(step(lambda: butterfly_stages(x, twiddle)))}
            dense = sm.Butterfly(twiddle.detach()).to_dense().requires_grad_(train)
            both = [x, dense]
            if train:
                peers["dense"] = time(lambda: torch.autograd.grad(F.linear(x, dense), both, g))
            else:
                peers["dense"] = time(lambda: F.linear(x, dense))
        part = x.detach()[:256].double().requires_grad_()
        y = sm.Butterfly(twiddle.detach().double())(part)
        got = f(x.detach()[:256])
        error = float(((got.double() - y).norm() / y.norm()).detach())
        if train:
            want = torch.autograd.grad(y, part, g[:256].double())[0]
            made = torch.autograd.grad(f(x), x, g)[0][:256].double()
            error = float((made - want).norm() / want.norm())
        name = f"butterfly n={n}, {dtype}, batch {batch}" + (", fwd+bwd" if train else "")
        self.put(name, ours, peers, (5 if train else 2) * x.numel(), x.element_size(), error)


def main(argv: list[str] | None = None) -> int:
    """Run the rows that match."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", default="", help="run rows whose name contains this")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("benchmarks/radix.py needs an NVIDIA GPU; for the CPU: benchmarks/cpu.py")
        return 2
    import importlib.metadata

    torch.manual_seed(0)
    bench = Bench()
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, "
        f"cuda-core {importlib.metadata.version('cuda-core')}, Python {platform.python_version()}, "
        f"structmat {sm.__version__}, {datetime.date.today()}\ncopy {bench.copy:.2f} TB/s"
    )
    for log2 in (7, 10, 12, 14, 15):
        if args.only in f"hadamard {1 << log2}":
            bench.hadamard(1 << log2, torch.bfloat16)
            torch.cuda.empty_cache()
    for train in (False, True):
        for dtype in (torch.float32, torch.bfloat16):
            if args.only in f"butterfly {'train' if train else ''}":
                bench.butterfly(10, 65536, dtype, train)
                torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
