"""What the CPU benchmarks share: fair timing, the machine's rates, tables, errors.

Fair means: calls rotate over several inputs, so that no input is warm because it was just used;
contenders take turns in short blocks, so that a slow moment of the machine hits all of them; the
first call of a block is not counted; a time is the median of its blocks' calls. The whole plan is
measured at two moments, and the difference of the two medians is printed as the spread.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Call = Callable[[], object]

COPY_SIZES = (2**20, 2**23, 2**28)
"""Bytes read and written by the copies that measure bandwidth: in L2, in L3, in memory."""


@dataclass
class Timing:
    """Medians in seconds of one contender, one a moment; quiet: no moment was disturbed."""

    moments: list[float] = field(default_factory=list)
    quiet: bool = True

    @property
    def seconds(self) -> float:
        """The mean of the moments' medians."""
        return statistics.fmean(self.moments)

    @property
    def spread(self) -> float:
        """(slowest moment - fastest) / fastest."""
        return (max(self.moments) - min(self.moments)) / min(self.moments)


def rotate(fn: Callable[[Tensor], object], xs: Sequence[Tensor]) -> Call:
    """A call without arguments that takes the next input each time."""
    state = 0

    def call() -> object:
        nonlocal state
        state = (state + 1) % len(xs)
        return fn(xs[state])

    return call


def warm_up(seconds: float = 0.5) -> None:
    """Start torch's threads and let the clock settle; the first parallel calls are not typical."""
    a, b = torch.randn(2, 1024, 1024)
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        a @ b


def others_busy() -> float:
    """CPU seconds that processes other than this one have used so far (0 where unknown)."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    all_of_them = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return all_of_them - time.process_time()


def wait_for_quiet(limit: float) -> None:
    """Wait, for ``limit`` seconds at most, until other processes leave the machine alone."""
    stop = time.perf_counter() + limit
    while time.perf_counter() < stop:
        start, others = time.perf_counter(), others_busy()
        time.sleep(0.5)
        share = (others_busy() - others) / (time.perf_counter() - start) / (os.cpu_count() or 1)
        if share < 0.05:
            return


@dataclass(frozen=True)
class Measured:
    """Median seconds by contender, and whether other processes left the machine alone."""

    medians: dict[str, float]
    quiet: bool


def measure(
    calls: dict[str, Call], seconds: float, block: int = 8, patience: float = 1.0
) -> Measured:
    """Median seconds of each call; contenders take turns in blocks until the time is spent.

    Turns in which other processes used more than a tenth of the machine are measured again.

    Args:
        calls: contenders by name.
        seconds: for all of them together; each gets one block at least.
        block: counted calls in a block.
        patience: after this many times ``seconds`` disturbed turns count, too.
    """
    for call in calls.values():
        call()
    kept: dict[bool, list[tuple[str, float]]] = {True: [], False: []}
    spent = {True: 0.0, False: 0.0}
    begin = time.perf_counter()
    while spent[True] < seconds and time.perf_counter() - begin < seconds * patience:
        start, others, turns = time.perf_counter(), others_busy(), []
        rounds = 0
        while rounds == 0 or time.perf_counter() < start + 0.25:
            for name, call in calls.items():
                call()
                for _ in range(block):
                    before = time.perf_counter()
                    call()
                    turns.append((name, time.perf_counter() - before))
            rounds += 1
        took = time.perf_counter() - start
        share = (others_busy() - others) / (took * (os.cpu_count() or 1))
        kept[share < 0.1] += turns
        spent[share < 0.1] += took
    quiet = spent[True] >= min(seconds / 2, 0.25)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for name, t in kept[quiet] if kept[quiet] else kept[not quiet]:
        times[name].append(t)
    return Measured({name: statistics.median(ts) for name, ts in times.items()}, quiet)


@dataclass(frozen=True)
class Rates:
    """What this machine can do, measured in this run: bytes/s by size, flop/s.

    Attributes:
        copy: (bytes read and written, bytes a second) of a float32 copy, by size.
        gemm: flops a second of a 2048^3 float32 product.
    """

    copy: tuple[tuple[int, float], ...]
    gemm: float

    def floor(self, numbers: float, flops: float) -> float:
        """Seconds: max(bytes that must move / copy rate, flops / GEMM rate), in float32.

        The copy rate is that of the smallest measured size that holds the bytes.
        """
        moved = 4 * numbers
        rate = next((r for size, r in self.copy if size >= moved), self.copy[-1][1])
        return max(moved / rate, flops / self.gemm)

    def __str__(self) -> str:
        sizes = ", ".join(f"{size / 2**20:.0f} MiB: {r / 1e9:.1f} GB/s" for size, r in self.copy)
        return f"copy (read + write) {sizes}; 2048^3 GEMM {self.gemm / 1e9:.0f} GFLOP/s"


def measure_rates(seconds: float = 1.0) -> Rates:
    """Copy rate at three sizes and GEMM rate."""
    warm_up()
    copy = []
    for size in COPY_SIZES:
        source = torch.randn(size // 8)
        target = torch.empty_like(source)
        took = measure({"copy": partial(target.copy_, source)}, seconds / 4, patience=8).medians[
            "copy"
        ]
        copy.append((size, size / took))
    a, b = torch.randn(2, 2048, 2048)
    took = measure({"gemm": lambda: a @ b}, seconds / 4, 2, patience=8).medians["gemm"]
    return Rates(tuple(copy), 2 * 2048**3 / took)


def relative_error(got: Tensor | np.ndarray, want: Tensor) -> float:
    """||got - want|| / ||want||, want in float64."""
    y = torch.as_tensor(got).detach().double()
    return float((y - want).norm() / want.norm())


def machine() -> str:
    """CPU, cores, threads, versions, date: everything that a reader needs beside a number."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        model = next((s.split(":")[1].strip() for s in lines if s.startswith("model name")), model)
    simd = torch.backends.cpu.get_cpu_capability()
    return (
        f"{model} ({simd}), {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}, {datetime.date.today()}"
    )


def load() -> str:
    """Load averages of the last 1, 5 and 15 minutes, where the system knows them."""
    return " ".join(f"{a:.2f}" for a in os.getloadavg()) if hasattr(os, "getloadavg") else "?"


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Run with this many threads of torch (None: leave torch's own choice)."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def duration(seconds: float) -> str:
    """Milliseconds with three digits."""
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text columns, the first left-aligned, the others right-aligned."""
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([line(head), "  ".join("-" * w for w in widths), *map(line, rows)])
