"""Structured products on a CPU, beside the same product written by hand and beside a dense matrix.

    python benchmarks/cpu.py             # every work, about 80 seconds
    python benchmarks/cpu.py --quick     # one moment, short: a smoke test, no numbers to report
    python benchmarks/cpu.py --only monarch

Contenders, float32, in one process on the same inputs:

    compiled     f = sm.compile(A); f(x), or f @ X for columns
    eager        A(x), or A @ X
    hand         the product written by hand: two bmm as in the reference code of the Monarch
                 authors (Dao et al. 2022), bmm, two F.linear, broadcast products for a butterfly
    einsum       the formula by torch.einsum
    dense        F.linear with A's dense matrix, or W @ X

The floor is max(bytes that must move / copy rate, flops / GEMM rate), with the rates of this run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from _harness import (
    Call,
    Rates,
    Timing,
    duration,
    load,
    machine,
    measure,
    measure_rates,
    relative_error,
    rotate,
    table,
    threads,
    wait_for_quiet,
)
from monarch import two_bmm
from torch import Tensor

import structmat as sm

Apply = Callable[[Tensor], Tensor]
CONTENDERS = ("compiled", "eager", "hand", "einsum", "dense")


@dataclass
class Work:
    """One line of the table.

    Attributes:
        name: what is computed.
        calls: contenders.
        numbers: float32 numbers that must be read or written.
        flops: of the structured product.
        error: of the compiled product, relative, against float64.
    """

    name: str
    calls: dict[str, Call]
    numbers: float
    flops: float
    error: float
    timings: dict[str, Timing] = field(default_factory=dict)


def forward(name: str, a: sm.LinearOperator, hand: Apply, einsum: Apply, batch: int) -> Work:
    """y = A x for ``batch`` rows."""
    m, n = a.shape
    f, dense = sm.compile(a), a.to_dense()
    xs = [torch.randn(batch, n) for _ in range(4)]
    by_name: dict[str, Apply] = {
        "compiled": f,
        "eager": a,
        "hand": hand,
        "einsum": einsum,
        "dense": lambda x: F.linear(x, dense),
    }
    want = xs[0].double() @ a.to(torch.float64).to_dense().mT
    errors = agree(by_name, xs[0], want)
    cost = a.cost(batch)
    calls = {k: rotate(fn, xs) for k, fn in by_name.items()}
    return Work(name, calls, batch * (m + n) + cost.params, cost.flops, errors["compiled"])


def columns(name: str, a: sm.LinearOperator, hand: Apply, einsum: Apply, batch: int) -> Work:
    """Y = A X for ``batch`` columns."""
    m, n = a.shape
    f, dense = sm.compile(a), a.to_dense()
    xs = [torch.randn(n, batch) for _ in range(4)]
    by_name: dict[str, Apply] = {
        "compiled": lambda x: f @ x,
        "eager": lambda x: a @ x,
        "hand": hand,
        "einsum": einsum,
        "dense": lambda x: dense @ x,
    }
    want = a.to(torch.float64).to_dense() @ xs[0].double()
    errors = agree(by_name, xs[0], want)
    cost = a.cost(batch)
    calls = {k: rotate(fn, xs) for k, fn in by_name.items()}
    return Work(name, calls, batch * (m + n) + cost.params, cost.flops, errors["compiled"])


def training(name: str, left: Tensor, right: Tensor, batch: int) -> Work:
    """Forward and backward of a Monarch, for x and both factors."""
    plain = sm.Monarch(left, right)
    dense = plain.to_dense()
    m, n = plain.shape
    leaves = [t.clone().requires_grad_() for t in (left, right)]
    a = sm.Monarch(*leaves)
    f = sm.compile(a)
    xs = [torch.randn(batch, n).requires_grad_() for _ in range(4)]
    g = torch.randn(batch, m)
    dense.requires_grad_()
    by_name: dict[str, tuple[Apply, list[Tensor]]] = {
        "compiled": (f, leaves),
        "eager": (a, leaves),
        "hand": (lambda x: two_bmm(x, leaves[1], leaves[0]), leaves),
        "einsum": (lambda x: monarch_einsum(x, leaves[1], leaves[0]), leaves),
        "dense": (lambda x: F.linear(x, dense), [dense]),
    }

    def step(fn: Apply, inputs: list[Tensor]) -> Callable[[Tensor], object]:
        return lambda x: torch.autograd.grad(fn(x), [x, *inputs], g)

    wide = [t.detach().double().requires_grad_() for t in (xs[0], right, left)]
    want = torch.autograd.grad(monarch_einsum(*wide), wide, g.double())
    got = torch.autograd.grad(f(xs[0]), [xs[0], leaves[1], leaves[0]], g)
    error = max(relative_error(y, w) for y, w in zip(got, want, strict=True))
    cost = plain.cost(batch)
    calls = {k: rotate(step(fn, inputs), xs) for k, (fn, inputs) in by_name.items()}
    # read x twice and g, write y and the gradient of x; factors read twice, gradients written
    numbers = batch * (3 * n + 2 * m) + 3 * cost.params
    return Work(name, calls, numbers, 3 * cost.flops, error)


def agree(by_name: dict[str, Apply], x: Tensor, want: Tensor) -> dict[str, float]:
    """Errors by contender.

    Raises:
        AssertionError: a contender computes something else.
    """
    with torch.no_grad():
        errors = {k: relative_error(fn(x), want) for k, fn in by_name.items()}
    for name, error in errors.items():
        assert error < 1e-5, f"{name} is off by {error:.1e}: it computes something else"
    return errors


# the products by hand ---------------------------------------------------------------------------


def monarch_einsum(x: Tensor, right: Tensor, left: Tensor) -> Tensor:
    (k, _, p), (l, s, r) = right.shape, left.shape
    h = torch.einsum("kqp,tkp->tkq", right, x.reshape(-1, k, p))
    return torch.einsum("lsr,trl->tsl", left, h.reshape(-1, r, l)).reshape(-1, s * l)


def monarch_columns(x: Tensor, right: Tensor, left: Tensor) -> Tensor:
    (k, _, p), (l, s, r) = right.shape, left.shape
    h = torch.bmm(right, x.reshape(k, p, -1)).reshape(r, l, -1)
    return torch.bmm(left, h.transpose(0, 1)).transpose(0, 1).reshape(s * l, -1)


def monarch_columns_einsum(x: Tensor, right: Tensor, left: Tensor) -> Tensor:
    (k, _, p), (l, s, r) = right.shape, left.shape
    h = torch.einsum("kqp,kpt->kqt", right, x.reshape(k, p, -1)).reshape(r, l, -1)
    return torch.einsum("lsr,rlt->slt", left, h).reshape(s * l, -1)


def block_bmm(x: Tensor, blocks: Tensor) -> Tensor:
    k, q, p = blocks.shape
    y = torch.bmm(x.view(-1, k, p).transpose(0, 1), blocks.mT)
    return y.transpose(0, 1).reshape(-1, k * q)


def block_einsum(x: Tensor, blocks: Tensor) -> Tensor:
    k, q, p = blocks.shape
    return torch.einsum("kqp,tkp->tkq", blocks, x.view(-1, k, p)).reshape(-1, k * q)


def butterfly_products(x: Tensor, twiddle: Tensor) -> Tensor:
    """Stage by stage, broadcast products and a sum over pairs, as in torch_butterfly."""
    t, n = x.shape
    for stage, tw in enumerate(twiddle):
        stride = 1 << stage
        w = tw.view(n // (2 * stride), stride, 2, 2).permute(0, 2, 3, 1)
        x = (w * x.view(t, n // (2 * stride), 1, 2, stride)).sum(3).view(t, n)
    return x


def butterfly_einsum(x: Tensor, twiddle: Tensor) -> Tensor:
    t, n = x.shape
    for stage, tw in enumerate(twiddle):
        stride = 1 << stage
        w = tw.view(n // (2 * stride), stride, 2, 2)
        pairs = x.reshape(t, n // (2 * stride), 2, stride)
        x = torch.einsum("bsij,tbjs->tbis", w, pairs).reshape(t, n)
    return x


# the plan ---------------------------------------------------------------------------------------


def factors(n: int, blocks: int) -> tuple[Tensor, Tensor]:
    """Left and right of a square Monarch with ``blocks`` blocks on both sides."""
    q = n // blocks
    left, right = torch.randn(2, blocks, q, q) / q**0.5
    return left, right


def monarch(n: int, blocks: int, batch: int) -> Work:
    left, right = factors(n, blocks)
    return forward(
        f"Monarch n={n}, {blocks} blocks of {n // blocks}, batch {batch}",
        sm.Monarch(left, right),
        lambda x: two_bmm(x, right, left),
        lambda x: monarch_einsum(x, right, left),
        batch,
    )


def monarch_as_columns(n: int, blocks: int, batch: int) -> Work:
    left, right = factors(n, blocks)
    return columns(
        f"Monarch n={n}, {blocks} blocks of {n // blocks}, {batch} columns",
        sm.Monarch(left, right),
        lambda x: monarch_columns(x, right, left),
        lambda x: monarch_columns_einsum(x, right, left),
        batch,
    )


def monarch_training(n: int, blocks: int, batch: int) -> Work:
    left, right = factors(n, blocks)
    return training(f"Monarch n={n}, batch {batch}, fwd + bwd", left, right, batch)


def block_diagonal(blocks: int, size: int, batch: int) -> Work:
    w = torch.randn(blocks, size, size) / size**0.5
    name = f"block-diagonal {blocks} of {size}x{size}, batch {batch}"
    a = sm.BlockDiagonal(w)
    return forward(name, a, lambda x: block_bmm(x, w), lambda x: block_einsum(x, w), batch)


def butterfly(n: int, batch: int) -> Work:
    tw = torch.randn(n.bit_length() - 1, n // 2, 2, 2) / 2**0.5
    return forward(
        f"butterfly n={n}, batch {batch}",
        sm.Butterfly(tw),
        lambda x: butterfly_products(x, tw),
        lambda x: butterfly_einsum(x, tw),
        batch,
    )


def low_rank(n: int, rank: int, batch: int) -> Work:
    u, v = torch.randn(n, rank) / rank**0.5, torch.randn(rank, n) / n**0.5
    return forward(
        f"low rank {rank}, n={n}, batch {batch}",
        sm.LowRank(u, v),
        lambda x: F.linear(F.linear(x, v), u),
        lambda x: torch.einsum("mr,rn,tn->tm", u, v, x),
        batch,
    )


PLAN: dict[str, Callable[[], Work]] = {
    "monarch 1024 batch 1": lambda: monarch(1024, 32, 1),
    "monarch 1024 batch 64": lambda: monarch(1024, 32, 64),
    "monarch 1024 batch 256": lambda: monarch(1024, 32, 256),
    "monarch 4096 batch 256": lambda: monarch(4096, 64, 256),
    "monarch 4096 columns": lambda: monarch_as_columns(4096, 64, 256),
    "monarch 4096 nblocks4": lambda: monarch(4096, 4, 256),
    "block-diagonal 64": lambda: block_diagonal(64, 64, 256),
    "butterfly 1024": lambda: butterfly(1024, 256),
    "low rank 64": lambda: low_rank(4096, 64, 256),
    "monarch 1024 training": lambda: monarch_training(1024, 32, 256),
    "monarch 4096 training": lambda: monarch_training(4096, 64, 256),
}


def report(works: list[Work], rates: Rates) -> str:
    """Two tables: times and ratios; floor, error and spread."""
    times, limits = [], []
    for w in works:
        ours = w.timings["compiled"].seconds
        peers = [w.timings[k].seconds for k in CONTENDERS[1:]]
        times.append([w.name, duration(ours), *(f"{duration(t)} {t / ours:.2f}x" for t in peers)])
        floor = rates.floor(w.numbers, w.flops)
        spread = max(t.spread for t in w.timings.values())
        limits.append(
            [
                w.name,
                duration(floor),
                f"{floor / ours:.0%}",
                f"{w.error:.1e}",
                f"{w.timings['compiled'].spread:.0%}",
                f"{spread:.0%}",
                "yes" if all(t.quiet for t in w.timings.values()) else "no",
            ]
        )
    head = ["work", "compiled", *(f"{k} (ratio)" for k in CONTENDERS[1:])]
    return (
        "Times, and how many times the compiled product's time they are (>1: compiled is faster)\n"
        f"{table(head, times)}\n\nFloor, the fraction of it that the compiled product reaches, its "
        "error against float64; spread between\nmoments of the compiled product and the largest of "
        "any contender; whether other processes were quiet\n"
        f"{table(['work', 'floor', 'reached', 'error', 'spread', 'any', 'quiet'], limits)}"
    )


def targets(works: dict[str, Work]) -> str:
    """The CPU targets, each met or missed."""
    lines = []
    for key, w in works.items():
        t = {k: v.seconds for k, v in w.timings.items()}
        if key in ("monarch 1024 batch 64", "monarch 1024 batch 256", "monarch 4096 batch 256"):
            ratio = t["dense"] / t["compiled"]
            met = "met" if ratio >= 3 else "missed"
            lines.append(f"{w.name}: dense / compiled {ratio:.1f}, target 3: {met}")
        best = min(t["hand"], t["einsum"])
        met = "met" if t["compiled"] <= 1.05 * best else "missed"  # 5%: the clock's own noise
        lines.append(
            f"{w.name}: best by hand / compiled {best / t['compiled']:.2f}, target 1 "
            f"(5% tolerance): {met}"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure the works that match, at two moments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short moment, a smoke test")
    parser.add_argument("--only", default="", help="works whose name contains this")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch")
    parser.add_argument(
        "--patience",
        type=float,
        default=1.2,
        help="how many times longer to measure where other processes disturb (default 1.2)",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        help="wait up to so many seconds for other processes to be quiet, each time (default 0)",
    )
    args = parser.parse_args(argv)
    plan = {k: v for k, v in PLAN.items() if args.only in k}
    if not plan:
        parser.error(f"--only {args.only!r} matches none of: {', '.join(PLAN)}")
    moments, seconds = (1, 0.05) if args.quick else (2, 2.5)
    begin = time.perf_counter()
    with threads(args.threads):
        torch.manual_seed(0)
        print(f"structmat {sm.__version__}, {machine()}\nload averages before: {load()}")
        wait_for_quiet(args.wait)
        rates = measure_rates(0.2 if args.quick else 2.0)
        print(rates, flush=True)
        works: dict[str, Work] = {}
        for _ in range(moments):
            for key, make in plan.items():
                torch.manual_seed(0)
                if key not in works:
                    works[key] = make()
                w = works[key]
                wait_for_quiet(args.wait)
                with torch.set_grad_enabled("training" in key):
                    measured = measure(w.calls, seconds, patience=args.patience)
                for name, took in measured.medians.items():
                    timing = w.timings.setdefault(name, Timing())
                    timing.moments.append(took)
                    timing.quiet &= measured.quiet
        print(f"\n{report(list(works.values()), rates)}\n\n{targets(works)}")
        print(f"\nload averages after: {load()}; took {time.perf_counter() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
