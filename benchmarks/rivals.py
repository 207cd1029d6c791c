"""The same Monarch product in other libraries, on a CPU.

    pip install lazylinop psutil pandas cola-ml linear_operator torch-structured triton pyfaust
    python benchmarks/rivals.py            # what is not installed is skipped, and said so

M = P^T diag(L) P diag(R), n = 1024 (32 x 32 blocks) and n = 4096 (64 x 64), 256 vectors, float32.
Each library gets the input in the layout that it takes: libraries that act on columns get
contiguous columns (n, 256) and are not charged for a transposition. Where a library offers several
ways, each is a line. Each contender runs in a process of its own: the thread pools of NumPy, torch
and pyfaust in one process slow each other down many times over on few cores.

"lines" counts the lines of Python below that build the operator and return its product. The spread
is the difference between two moments; quiet says that no other process disturbed either.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import inspect
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import torch
from _harness import (
    Timing,
    duration,
    load,
    machine,
    measure,
    relative_error,
    rotate,
    table,
    wait_for_quiet,
    warm_up,
)
from monarch import two_bmm
from torch import Tensor

import structmat as sm

Apply = Callable[[Any], Any]
Build = Callable[[Tensor, Tensor], Apply]


# Each builder takes left (l, s, r) and right (k, q, p) and returns what applies M.


def structmat_rows(left: Tensor, right: Tensor) -> Apply:
    return sm.compile(sm.Monarch(left, right))


def structmat_columns(left: Tensor, right: Tensor) -> Apply:
    f = sm.compile(sm.Monarch(left, right))
    return lambda x: f @ x


def two_bmm_rows(left: Tensor, right: Tensor) -> Apply:
    return lambda x: two_bmm(x, right, left)


def two_bmm_columns(left: Tensor, right: Tensor) -> Apply:
    (k, _, p), (l, s, r) = right.shape, left.shape

    def apply(x: Tensor) -> Tensor:
        h = torch.bmm(right, x.reshape(k, p, -1)).reshape(r, l, -1)
        return torch.bmm(left, h.transpose(0, 1)).transpose(0, 1).reshape(s * l, -1)

    return apply


def dense_rows(left: Tensor, right: Tensor) -> Apply:
    dense = sm.Monarch(left, right).to_dense()
    return lambda x: torch.nn.functional.linear(x, dense)


def dense_columns(left: Tensor, right: Tensor) -> Apply:
    dense = sm.Monarch(left, right).to_dense()
    return lambda x: dense @ x


def cola_block_diag(left: Tensor, right: Tensor) -> Apply:
    import cola

    l, s, r = left.shape
    into = cola.ops.Permutation(torch.arange(l * r).view(r, l).T.reshape(-1), dtype=left.dtype)
    back = cola.ops.Permutation(torch.arange(l * s).view(l, s).T.reshape(-1), dtype=left.dtype)
    outer, inner = (cola.ops.BlockDiag(*map(cola.ops.Dense, w)) for w in (left, right))
    operator = back @ outer @ into @ inner
    return lambda x: operator @ x


def linear_operator_block_diag(left: Tensor, right: Tensor) -> Apply:
    from linear_operator.operators import BlockDiagLinearOperator, DenseLinearOperator
    from linear_operator.operators.permutation_linear_operator import (
        TransposePermutationLinearOperator,
    )

    p = TransposePermutationLinearOperator(left.shape[0])  # of m x m: square blocks only
    outer, inner = (BlockDiagLinearOperator(DenseLinearOperator(w)) for w in (left, right))
    return lambda x: p @ (outer @ (p @ (inner @ x)))


def torch_structured_multiply(left: Tensor, right: Tensor) -> Apply:
    from torch_structured.monarch.blockdiag_butterfly_multiply import blockdiag_butterfly_multiply

    return lambda x: blockdiag_butterfly_multiply(x, right, left)


def lazylinop_torch(left: Tensor, right: Tensor) -> Apply:
    from lazylinop.butterfly import ksm

    operator = ksm([left.permute(1, 2, 0)[None].contiguous(), right[..., None]])
    return lambda x: operator @ x


def lazylinop_numpy(left: Tensor, right: Tensor) -> Apply:
    from lazylinop.butterfly import ksm

    factors = left.permute(1, 2, 0)[None].contiguous(), right[..., None]
    operator = ksm([w.numpy() for w in factors])
    return lambda x: operator @ x


def lazylinop_scipy(left: Tensor, right: Tensor) -> Apply:
    from lazylinop.butterfly import ksm

    factors = left.permute(1, 2, 0)[None].contiguous(), right[..., None]
    operator = ksm([w.numpy() for w in factors], {"backend": "scipy", "params": None})
    return lambda x: operator @ x


def lazylinop_torch_sparse(left: Tensor, right: Tensor) -> Apply:
    from lazylinop.butterfly import ksm

    factors = [left.permute(1, 2, 0)[None].contiguous(), right[..., None]]
    operator = ksm(factors, {"backend": "torch_sparse", "params": None})
    return lambda x: operator @ x


def lazylinop_ksd(left: Tensor, right: Tensor) -> Apply:
    from lazylinop.butterfly import Chain, ksd

    (k, q, p), (l, s, r) = right.shape, left.shape
    chain = Chain([(1, s, r, l), (k, q, p, 1)])
    operator = ksd(sm.Monarch(left, right).to_dense(), chain)
    return lambda x: operator @ x


def pyfaust_csr(left: Tensor, right: Tensor) -> Apply:
    from pyfaust import Faust
    from scipy.sparse import csr_array, csr_matrix

    factors = sm.Monarch(left, right).factors()
    operator = Faust([csr_matrix(csr_array(w.to_dense().numpy())) for w in factors])
    return lambda x: operator @ x


def pyfaust_bsr(left: Tensor, right: Tensor) -> Apply:
    from pyfaust import Faust
    from scipy.sparse import block_diag, bsr_matrix, csr_matrix, eye

    l, s, r = left.shape
    into = torch.arange(l * r).view(r, l).T.reshape(-1).numpy()
    back = torch.arange(l * s).view(l, s).T.reshape(-1).numpy()
    outer, inner = (
        bsr_matrix(block_diag(list(w.numpy())), blocksize=tuple(w.shape[1:])) for w in (left, right)
    )
    one = csr_matrix(eye(l * s, dtype=np.float32))
    operator = Faust([one[back], outer, one[into], inner])
    return lambda x: operator @ x


SIZES = ((1024, 32), (4096, 64))
ROWS, COLUMNS, ARRAY = "rows", "columns", "columns, numpy"
CONTENDERS: list[tuple[str, str, str | None, Build]] = [
    ("structmat, f(x)", ROWS, None, structmat_rows),
    ("structmat, f @ X", COLUMNS, None, structmat_columns),
    ("two bmm by hand", ROWS, None, two_bmm_rows),
    ("two bmm by hand", COLUMNS, None, two_bmm_columns),
    ("dense F.linear", ROWS, None, dense_rows),
    ("dense W @ X", COLUMNS, None, dense_columns),
    ("lazylinop ksm, torch", COLUMNS, "lazylinop", lazylinop_torch),
    ("lazylinop ksd, torch", COLUMNS, "lazylinop", lazylinop_ksd),
    ("lazylinop ksm, torch_sparse", COLUMNS, "lazylinop", lazylinop_torch_sparse),
    ("lazylinop ksm, numpy", ARRAY, "lazylinop", lazylinop_numpy),
    ("lazylinop ksm, scipy", ARRAY, "lazylinop", lazylinop_scipy),
    ("torch-structured", ROWS, "torch-structured", torch_structured_multiply),
    ("CoLA", COLUMNS, "cola-ml", cola_block_diag),
    ("linear_operator", COLUMNS, "linear_operator", linear_operator_block_diag),
    ("pyfaust, CSR factors", ARRAY, "pyfaust", pyfaust_csr),
    ("pyfaust, BSR blocks", ARRAY, "pyfaust", pyfaust_bsr),
]


def version(package: str | None) -> str | None:
    """Installed version, or None."""
    if package is None:
        return f"structmat {sm.__version__}"
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def lines(build: Build) -> int:
    """Lines of the builder's body: no blank lines, no signature."""
    return sum(bool(s.strip()) for s in inspect.getsource(build).splitlines()) - 1


def one(index: int, seconds: float, batch: int, patience: float) -> dict[str, list[float]]:
    """Time, error and quiet of one contender, by n. Runs in a process of its own."""
    warnings.filterwarnings("ignore")
    name, layout, _, build = CONTENDERS[index]
    found = {}
    for n, blocks in SIZES:
        torch.manual_seed(0)
        q = n // blocks
        left, right = torch.randn(2, blocks, q, q) / q**0.5
        rows = [torch.randn(batch, n) for _ in range(4)]
        xs: list[Any] = rows if layout == ROWS else [x.mT.contiguous() for x in rows]
        if layout == ARRAY:
            xs = [x.numpy() for x in xs]
        with torch.no_grad():
            apply = build(left, right)
            got = torch.as_tensor(apply(xs[0]))
            dense = sm.Monarch(left.double(), right.double()).to_dense()
            error = relative_error(got if layout == ROWS else got.mT, rows[0].double() @ dense.mT)
            warm_up()
            timed = measure({name: rotate(apply, xs)}, seconds, patience=patience)
        found[str(n)] = [timed.medians[name], error, float(timed.quiet)]
    return found


def run(index: int, options: list[str]) -> dict[str, list[float]] | str:
    """What :func:`one` finds in a new process, or why there is nothing."""
    package = CONTENDERS[index][2]
    if version(package) is None:
        return f"{package} is not installed"
    command = [sys.executable, __file__, "--one", str(index), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    found: dict[str, list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure every contender at two moments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="per contender, n and moment")
    parser.add_argument("--batch", type=int, default=256, help="vectors")
    parser.add_argument(
        "--patience",
        type=float,
        default=4.0,
        help="how many times longer to measure where other processes disturb (default 4)",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        help="wait up to so many seconds for other processes to be quiet, each time (default 0)",
    )
    parser.add_argument("--one", type=int, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one is not None:
        print(json.dumps(one(args.one, args.seconds, args.batch, args.patience)))
        return 0
    begin = time.perf_counter()
    print(f"structmat {sm.__version__}, {machine()}\nload averages before: {load()}")
    packages = sorted({p for _, _, p, _ in CONTENDERS if p})
    print("; ".join(f"{p} {version(p) or 'not installed'}" for p in packages), flush=True)
    options = [f"--{k}={getattr(args, k)}" for k in ("seconds", "batch", "patience")]
    timings: dict[tuple[str, str], Timing] = {}
    errors: dict[tuple[str, str], float] = {}
    skipped: dict[str, str] = {}
    for _ in range(2):
        for i, (name, layout, _, _) in enumerate(CONTENDERS):
            key = f"{name} ({layout})"
            wait_for_quiet(args.wait)
            found = run(i, options)
            if isinstance(found, str):
                skipped[key] = found
                continue
            for n, (took, error, quiet) in found.items():
                timing = timings.setdefault((n, key), Timing())
                timing.moments.append(took)
                timing.quiet &= bool(quiet)
                errors[n, key] = error
    counts = {f"{name} ({layout})": str(lines(b)) for name, layout, _, b in CONTENDERS}
    for n in (str(n) for n, _ in SIZES):
        ours = [timings[n, f"{name} ({layout})"].seconds for name, layout, _, _ in CONTENDERS[:2]]
        rows = []
        for (_, key), t in sorted(timings.items(), key=lambda item: item[1].seconds):
            if (n, key) in timings and timings[n, key] is t:
                ratios = [f"{t.seconds / o:.2f}x" for o in ours]
                cells = [duration(t.seconds), f"{t.spread:.0%}", *ratios, f"{errors[n, key]:.1e}"]
                rows.append([key, *cells, counts[key], "yes" if t.quiet else "no"])
        print(f"\nMonarch n={n}, {args.batch} vectors; ratios: its time / structmat's")
        head = [
            "library (layout)",
            "time",
            "spread",
            "to f(x)",
            "to f @ X",
            "error",
            "lines",
            "quiet",
        ]
        print(table(head, rows))
    for key, reason in skipped.items():
        print(f"skipped: {key}: {reason}")
    print(f"\nload averages after: {load()}; took {time.perf_counter() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
