"""Every structure's product on a CPU: against dense, and against the same product elsewhere.

    pip install scipy lazylinop psutil pandas cola-ml linear_operator pylops pywavelets
    python benchmarks/algebra.py                       # what is missing is skipped, and said so
    python benchmarks/algebra.py --only toeplitz dct   # some of the structures

n = 4096, 64 vectors, float32 (complex64 for Fourier). structmat's ways are ``A @ X``, ``A(x)`` and
the compiled ``f @ X``, ``f(x)``; a peer gets its input in the layout that it takes, contiguous.
Layouts are compared with the best of ours in the same layout, rows (64, n) or columns (n, 64). Each
library runs in a process of its own, because thread pools of several libraries slow each other.

The last two lines measure what is no product: the time to simplify an expression of 50 nodes, and
the memory that a product of 50 factors takes at n = 2^16.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import torch
from _harness import (
    duration,
    load,
    machine,
    measure,
    relative_error,
    rotate,
    wait_for_quiet,
    warm_up,
)
from _peers import (
    COLUMNS,
    ROWS,
    Apply,
    N,
    Peer,
    cola_blocks,
    cola_kronecker,
    lazylinop_butterfly,
    lazylinop_kronecker,
    lazylinop_signal,
    linear_operator_blocks,
    linear_operator_kronecker,
    linear_operator_toeplitz,
    numpy_blocks,
    numpy_diagonal,
    numpy_hadamard,
    numpy_low_rank,
    numpy_permutation,
    pylops_convolve,
    pylops_fft,
    scipy_bsr,
    scipy_causal,
    scipy_columns,
    scipy_csr,
    scipy_hankel,
    scipy_lfilter,
    scipy_rows,
    scipy_toeplitz,
    torch_csr,
)
from torch import Tensor

import structmat as sm

C64 = torch.complex64


@dataclass(frozen=True)
class Case:
    """A structure: how to build it, and who else has it."""

    build: Callable[[], sm.LinearOperator]
    peers: list[Peer] = field(default_factory=list)
    dtype: torch.dtype = torch.float32


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape) / shape[-1] ** 0.5


# ---------------------------------------------------------------------------------------- cases


def sparse_matrix(density: float) -> sm.LinearOperator:
    import scipy.sparse

    rng = np.random.default_rng(0)
    matrix = scipy.sparse.random_array((N, N), density=density, rng=rng, dtype=np.float32)
    return sm.Sparse(matrix.tocsr())


def block_sparse() -> sm.LinearOperator:
    mask = torch.rand(N // 32, N // 32) < 0.1
    return sm.BlockSparse(randn(int(mask.sum()), 32, 32), mask)


def state_space(kind: str) -> sm.LinearOperator:
    states = 16
    b, c, d = torch.randn(states), torch.randn(states) / states, torch.randn(())
    if kind == "diagonal":
        return sm.StateSpace(0.99 * torch.rand(states), b, c, d, N)
    a = torch.linalg.qr(torch.randn(states, states)).Q * 0.99
    return sm.StateSpace(a, b, c, d, N)


CASES: dict[str, Case] = {
    "diagonal": Case(
        lambda: sm.Diagonal(torch.randn(N)),
        [Peer("numpy", COLUMNS, numpy_diagonal, note="d * X")],
    ),
    "permutation": Case(
        lambda: sm.Permutation(torch.randperm(N)) @ sm.Identity(N),
        [Peer("numpy", COLUMNS, lambda op: numpy_permutation(op.children[0]), note="X[index]")],
    ),
    "low rank r=64": Case(
        lambda: sm.LowRank(randn(N, 64), randn(64, N)),
        [Peer("numpy", COLUMNS, numpy_low_rank, note="U @ (V @ X)")],
    ),
    "block-diagonal 64x64": Case(
        lambda: sm.BlockDiagonal(randn(64, 64, 64)),
        [
            Peer("numpy", COLUMNS, numpy_blocks, note="batched matmul"),
            Peer("cola-ml", COLUMNS, cola_blocks, torch=True),
            Peer("linear_operator", COLUMNS, linear_operator_blocks, torch=True),
        ],
    ),
    "kronecker 64 (x) 64": Case(
        lambda: sm.kron(sm.Dense(randn(64, 64)), sm.Dense(randn(64, 64))),
        [
            Peer("cola-ml", COLUMNS, cola_kronecker, torch=True),
            Peer("linear_operator", COLUMNS, linear_operator_kronecker, torch=True),
            Peer("lazylinop", COLUMNS, lazylinop_kronecker),
        ],
    ),
    "butterfly": Case(
        lambda: sm.Butterfly(torch.randn(12, N // 2, 2, 2) / 2**0.5),
        [Peer("lazylinop", COLUMNS, lazylinop_butterfly, torch=True, note="ksm of 12 factors")],
    ),
    "dft": Case(
        lambda: sm.DFT(N),
        [
            scipy_rows("fft"),
            scipy_columns("fft"),
            Peer("pylops", COLUMNS, pylops_fft, note="FFT, engine scipy"),
        ],
        C64,
    ),
    "dct 2": Case(lambda: sm.DCT(N), [scipy_rows("dct"), scipy_columns("dct")]),
    "dct 4": Case(lambda: sm.DCT(N, 4), [scipy_rows("dct", type=4), scipy_columns("dct", type=4)]),
    "dst 2": Case(lambda: sm.DST(N), [scipy_rows("dst"), scipy_columns("dst")]),
    "hadamard": Case(
        lambda: sm.Hadamard(N),
        [Peer("numpy", COLUMNS, numpy_hadamard, note="(H64 (x) H64) @ X, two products")],
    ),
    "haar": Case(
        lambda: sm.Haar(N),
        [lazylinop_signal("dwt", wavelet="haar", mode="zero", level=12)],
    ),
    "circulant": Case(
        lambda: sm.Circulant(randn(N)),
        [Peer("scipy", COLUMNS, scipy_toeplitz, note="matmul_toeplitz")],
    ),
    "toeplitz": Case(
        lambda: sm.Toeplitz(randn(N), randn(N)),
        [Peer("scipy", COLUMNS, scipy_toeplitz, note="matmul_toeplitz")],
    ),
    "toeplitz symmetric": Case(
        lambda: sm.Toeplitz(randn(N)),
        [
            Peer("scipy", COLUMNS, scipy_toeplitz, note="matmul_toeplitz"),
            Peer("linear_operator", COLUMNS, linear_operator_toeplitz, torch=True),
        ],
    ),
    "hankel": Case(
        lambda: sm.Hankel(randn(N), randn(N)),
        [Peer("scipy", COLUMNS, scipy_hankel, note="matmul_toeplitz of a reversal")],
    ),
    "causal convolution": Case(
        lambda: sm.Convolution(randn(N), N),
        [
            Peer("scipy", ROWS, scipy_causal, note="oaconvolve"),
            Peer("pylops", COLUMNS, pylops_convolve, note="Convolve1D, fft"),
        ],
    ),
    "short convolution, 64 taps": Case(
        lambda: sm.Convolution(randn(64), N),
        [
            Peer("scipy", ROWS, scipy_causal, note="oaconvolve"),
            Peer("scipy", ROWS, scipy_lfilter, note="lfilter"),
        ],
    ),
    "sparse 1%": Case(
        lambda: sparse_matrix(0.01),
        [
            Peer("scipy", COLUMNS, scipy_csr, note="csr_array @ X"),
            Peer("torch", COLUMNS, torch_csr, torch=True, note="sparse_csr @ X"),
        ],
    ),
    "block-sparse 10% of 32x32": Case(
        block_sparse,
        [
            Peer("scipy", COLUMNS, scipy_bsr, note="bsr_array @ X"),
            Peer("scipy", COLUMNS, scipy_csr, note="csr_array @ X"),
        ],
    ),
    "low displacement rank 2": Case(
        lambda: sm.LowDisplacementRank(randn(N, 2), randn(2, N)),
        [],
    ),
    "cauchy": Case(lambda: sm.Cauchy(torch.arange(N) + 0.0, torch.arange(N) + 0.5), []),
    "vandermonde": Case(lambda: sm.Vandermonde(torch.rand(N) * 2 - 1, N), []),
    "companion": Case(lambda: sm.Companion(torch.cat([torch.ones(1), torch.randn(N)])), []),
    "state space, diagonal": Case(lambda: state_space("diagonal"), []),
    "state space, dense": Case(lambda: state_space("dense"), []),
}


# -------------------------------------------------------------------------------------- measuring


def version(package: str) -> str | None:
    """Installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def inputs(case: Case, batch: int) -> tuple[list[Tensor], list[Tensor]]:
    """Rows and columns, contiguous, the same numbers; drawn after the operator."""
    g = torch.Generator().manual_seed(1)
    rows = [torch.randn(batch, N, generator=g, dtype=case.dtype) for _ in range(3)]
    return rows, [x.mT.contiguous() for x in rows]


def one(name: str, who: int, seconds: float, batch: int, patience: float) -> list[list[Any]]:
    """[way, layout, seconds, error, quiet] of structmat and dense (who < 0) or of a peer."""
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    case = CASES[name]
    op = case.build()
    rows, columns = inputs(case, batch)
    wide = op.to(torch.complex128 if case.dtype.is_complex else torch.float64)
    want = rows[0].to(wide.dtype) @ wide.to_dense().mT
    ways: list[tuple[str, str, Apply, list[Any]]] = []
    if who < 0:
        f = sm.compile(op)
        dense = op.to_dense()
        ways += [
            ("A(x)", ROWS, lambda x: op(x), rows),
            ("f(x)", ROWS, lambda x: f(x), rows),
            ("A @ X", COLUMNS, lambda x: op @ x, columns),
            ("f @ X", COLUMNS, lambda x: f @ x, columns),
            ("dense W @ X", COLUMNS, lambda x: dense @ x, columns),
        ]
    else:
        peer = case.peers[who]
        xs: list[Any] = rows if peer.layout == ROWS else columns
        if not peer.torch:
            xs = [x.numpy() for x in xs]
        label = f"{peer.package} {peer.note}".strip()
        ways.append((label, peer.layout, peer.make(op), xs))
    found = []
    warm_up()
    for way, layout, apply, xs in ways:
        with torch.no_grad():
            got = torch.as_tensor(np.asarray(apply(xs[0])))
            error = relative_error_of(got if layout == ROWS else got.mT, want)
            timed = measure({way: rotate(apply, xs)}, seconds, patience=patience)
        found.append([way, layout, timed.medians[way], error, timed.quiet])
    return found


def relative_error_of(got: Tensor, want: Tensor) -> float:
    """||got - want|| / ||want||, real or complex."""
    if not want.is_complex():
        return relative_error(got, want)
    return float((got.to(want.dtype) - want).norm() / want.norm())


def run(name: str, who: int, options: list[str]) -> list[list[Any]] | str:
    """What :func:`one` finds in a new process, or why there is nothing."""
    if who >= 0 and version(CASES[name].peers[who].package) is None:
        return f"{CASES[name].peers[who].package} is not installed"
    command = [sys.executable, __file__, "--one", name, str(who), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    found: list[list[Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def fifty_nodes() -> sm.LinearOperator:
    """An expression of 50 nodes: products, sums, Kronecker products, transposes, scalars."""
    g = torch.Generator().manual_seed(0)

    def dense(m: int, n: int) -> sm.LinearOperator:
        return sm.Dense(torch.randn(m, n, generator=g))

    def term() -> sm.LinearOperator:
        d = sm.Diagonal(torch.randn(64, generator=g))
        k = sm.kron(dense(8, 8), dense(8, 8))
        p = sm.stride_permutation(64, 8)
        u = sm.LowRank(torch.randn(64, 4, generator=g), torch.randn(4, 64, generator=g))
        return (p @ d @ k @ p.T + 2 * u.T) @ sm.Hadamard(64)

    return term() + term() + term() @ sm.Identity(64) - 0.5 * sm.Circulant(torch.randn(64)).T


def nodes(op: sm.LinearOperator) -> int:
    """How many operators the tree has."""
    return 1 + sum(map(nodes, op.children))


def simplifying() -> str:
    """Median time to simplify the expression of 50 nodes."""
    op = fifty_nodes()
    sm.simplify(op)
    times = []
    for _ in range(30):
        op = fifty_nodes()
        before = time.perf_counter()
        sm.simplify(op)
        times.append(time.perf_counter() - before)
    took = duration(sorted(times)[len(times) // 2])
    return f"simplify an expression of {nodes(op)} nodes: {took} (target 20 ms)"


def memory() -> str:
    """The peak memory of applying a product of 50 factors at n = 2^16, in a new process."""
    code = (
        "import resource, torch, structmat as sm\n"
        "n, batch = 1 << 16, 16\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "kinds = [lambda: sm.Diagonal(torch.randn(n)), lambda: sm.Hadamard(n, normalized=True),\n"
        "    lambda: sm.Circulant(torch.randn(n) / n), lambda: sm.bit_reversal(n),\n"
        "    lambda: sm.BlockDiagonal(torch.randn(n // 16, 16, 16) / 4)]\n"
        "product = sm.Product(*(kinds[i % 5]() for i in range(50)))\n"
        "small = sm.Product(*(k() for k in kinds)); x = torch.randn(n, batch)\n"
        "small @ x[:, :1]; before = peak(); product @ x\n"
        "print((peak() - before) / (4 * n * batch))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (
        "apply a product of 50 factors at n = 2^16 to 16 vectors: peak memory grows by "
        f"{float(done.stdout):.1f} vectors' worth (of n x batch numbers)"
    )


def main(argv: list[str] | None = None) -> int:
    """Measure every structure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="structures whose name holds these")
    parser.add_argument("--seconds", type=float, default=0.5, help="per way")
    parser.add_argument("--batch", type=int, default=64, help="vectors")
    parser.add_argument("--patience", type=float, default=4.0, help="longer where disturbed")
    parser.add_argument("--wait", type=float, default=0.0, help="wait for a quiet machine, seconds")
    parser.add_argument("--one", nargs=2, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one is not None:
        name, who = args.one
        print(json.dumps(one(name, int(who), args.seconds, args.batch, args.patience)))
        return 0
    begin = time.perf_counter()
    print(f"structmat {sm.__version__}, {machine()}\nload averages before: {load()}")
    packages = sorted({p.package for c in CASES.values() for p in c.peers})
    print("; ".join(f"{p} {version(p) or 'not installed'}" for p in packages))
    print(f"n = {N}, {args.batch} vectors; ratio: best peer / best of ours in the peer's layout")
    options = [f"--{k}={getattr(args, k)}" for k in ("seconds", "batch", "patience")]
    chosen = [c for c in CASES if not args.only or any(o in c for o in args.only)]
    print(LINE.format("structure", "layout", "way", "time", "ratio", "error", "quiet"))
    for name in chosen:
        found: list[list[Any]] = []
        for who in range(-1, len(CASES[name].peers)):
            wait_for_quiet(args.wait)
            result = run(name, who, options)
            if isinstance(result, str):
                label = "structmat" if who < 0 else CASES[name].peers[who].package
                print(f"skipped: {name}: {label}: {result}")
            else:
                found += result
        for layout in (ROWS, COLUMNS):
            best = min((f[2] for f in found if f[0] in OURS and f[1] == layout), default=0.0)
            for way, _, took, error, quiet in (f for f in found if f[1] == layout):
                ratio = "" if way in OURS else f"{took / best:.2f}x"
                cells = duration(took), ratio, f"{error:.1e}", "yes" if quiet else "no"
                print(LINE.format(name, layout, way, *cells), flush=True)
    if not args.only:
        print(simplifying())
        print(memory())
    print(f"load averages after: {load()}; took {time.perf_counter() - begin:.0f} s")
    return 0


LINE = "{:<26}  {:<7}  {:<42}  {:>8}  {:>8}  {:>8}  {:>5}"
OURS = ("A(x)", "f(x)", "A @ X", "f @ X")

if __name__ == "__main__":
    sys.exit(main())
