"""Shared oracles of the compiler's tests: generated modules run in place, and error bounds."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from market import Make, entries
from torch import Tensor

from structmat.lowering.adjoint import adjoint, weights_with_gradient
from structmat.lowering.ir import Add, Contract, Graph, Input, Outer, Scalar, interpret
from structmat.lowering.passes import merge_index_maps
from structmat.lowering.pipeline import Lowered
from structmat.lowering.program import Program
from structmat.lowering.record import to_chain
from structmat.operator import LinearOperator

_COUNT = itertools.count()


def import_source(source: str, folder: Path) -> ModuleType:
    """Import generated source from a file (Triton reads kernels' source from it)."""
    path = folder / f"generated_{next(_COUNT)}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_lowered(
    low: Lowered,
    folder: Path,
    inputs: Sequence[Tensor],
    values: Sequence[Tensor],
    integer: torch.dtype,
) -> list[Tensor]:
    """Run a lowered graph through its generated source."""
    tables = [torch.tensor(m.array(), dtype=integer) for m in low.tables]
    out: list[Tensor] = import_source(low.source, folder).run(inputs, values, tables)
    return out


def compare(graph: Graph, low: Lowered, folder: Path, dtype: torch.dtype, seed: int) -> None:
    """Run a lowered graph on integers and compare with the interpreted graph, exactly."""
    wide = torch.complex128 if dtype.is_complex else torch.float64

    def draw(place: int, *shape: int) -> torch.Tensor:
        real = entries(seed + place)(*shape).to(wide)
        return real + 1j * entries(seed + 50 + place)(*shape) if dtype.is_complex else real

    sizes = [nd.size for nd in graph.nodes if isinstance(nd, Input)]
    inputs = [draw(i, 5, n) for i, n in enumerate(sizes)]
    values = [draw(10 + i, *s) for i, s in enumerate(graph.shapes)]
    integer = torch.int64 if "triton" not in low.source else torch.int32
    got = run_lowered(
        low, folder, [x.to(dtype) for x in inputs], [v.to(dtype) for v in values], integer
    )
    for a, b in zip(got, interpret(graph, inputs, values), strict=True):
        assert torch.equal(a.to(wide).reshape(b.shape), b), low.source


def chains(op: LinearOperator) -> tuple[Graph, Graph, list[Tensor]]:
    """The merged chain of an operator, its gradient, and the values both read."""
    graph, values = to_chain(op)
    graph = merge_index_maps(graph)
    return graph, merge_index_maps(adjoint(graph)), values


def dense_of(op: LinearOperator) -> Tensor:
    """The matrix; a batch of operators as their direct sum."""
    dense = op.to_dense()
    return torch.block_diag(*dense.reshape(-1, *op.shape)) if op.batch_shape else dense


def error_bound(
    graph: Graph, inputs: Sequence[Tensor], values: Sequence[Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """Entrywise bound on the rounding of a graph, for each output.

    |y - y_ref| <= gamma (|A_k| ... |A_1| |x|) + one unit roundoff for each cast: sums accumulate in
    float32 (or wider), one epsilon a term since tensor cores truncate, and what a node reads or
    makes may be rounded to ``dtype``. Both are gamma_k = k u / (1 - k u), u the unit roundoff
    (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). Terms and casts are
    counted along the way to each output alone: a long sum elsewhere in the graph is not its excuse.

    Raises:
        ValueError: the bound would allow an error as large as the result, and so prove nothing.
    """
    terms: list[int] = []
    casts: list[int] = []
    for node in graph.nodes:
        below = [(terms[a], casts[a]) for a in node.args]
        most = (max((t for t, _ in below), default=0), max((c for _, c in below), default=0))
        own = (0, 0)
        match node:
            case Contract():
                own = max(1, _reduced(node)), 2
            case Outer(spec=spec):
                summed = [z for d, z in enumerate(spec.sizes) if d not in spec.w]
                own = inputs[0].shape[0] * math.prod(summed), 2
                most = sum(t for t, _ in below), sum(c for _, c in below)
            case Scalar():
                own = 0, 1
            case Add():
                own = len(node.xs), len(node.xs)
        terms.append(most[0] + own[0])
        casts.append(most[1] + own[1])
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    rows = [x.double().abs() for x in inputs]
    outs = interpret(_positive(graph), rows, [v.double().abs() for v in values])
    bounds = []
    for out, at in zip(outs, graph.outputs, strict=True):
        roundoff = terms[at] * torch.finfo(wide).eps + (1 + casts[at]) * torch.finfo(dtype).eps / 2
        if roundoff >= 0.1:
            raise ValueError(f"v{at}: {terms[at]} terms bound nothing; test a smaller batch")
        bounds.append(roundoff / (1 - roundoff) * out + torch.finfo(dtype).tiny)
    return bounds


def _positive(graph: Graph) -> Graph:
    """The graph with absolute values in the place of its numbers."""
    nodes = tuple(
        replace(nd, alpha=abs(nd.alpha)) if isinstance(nd, Scalar) else nd for nd in graph.nodes
    )
    return Graph(nodes, graph.outputs, graph.shapes)


def relative_rms(got: Tensor, want: Tensor) -> float:
    """RMS(error) / RMS(reference)."""
    return float((got.double() - want).norm() / want.norm().clamp_min(1e-30))


def normal(seed: int, dtype: torch.dtype, device: str) -> Make:
    """A function shape -> normal tensor, scaled by the last dimension, rounded to dtype."""
    gen = torch.Generator().manual_seed(seed)

    def make(*shape: int) -> Tensor:
        scale = max(shape[-1] if shape else 1, 1) ** -0.5
        made: Tensor = torch.randn(shape, generator=gen) * scale
        return made.to(dtype).to(device)

    return make


def check_integers(op: LinearOperator, dtype: torch.dtype, device: str, rows: int) -> int:
    """Values and gradients on small integers are exact; returns how many results were compared.

    A result is compared where no partial sum leaves the integers that ``dtype`` holds.
    """
    graph, grads, values = chains(op)
    program = Program(graph, "triton", dtype, torch.device(device), "rounding")
    wide = [v.double().to(device) for v in values]
    values = [v.to(dtype) for v in wide]
    x = _few(entries(1, dtype, device)(rows, graph.nodes[0].size))
    g = _few(entries(2, dtype, device)(rows, program.size))
    made = program.gradients(x, g, values, (True,) * (1 + len(values)))
    order = [0, *(w + 1 for w in weights_with_gradient(grads))]
    got = [*program.run([x], values), *(made[i] for i in order)]
    compared, place = 0, 0
    for h, rows_in in ((graph, [x]), (grads, [x, g])):
        ins = [v.double() for v in rows_in]
        largest = interpret(_positive(h), [v.abs() for v in ins], [v.abs() for v in wide])
        for want, most in zip(interpret(h, ins, wide), largest, strict=True):
            if most.max() <= 2 / torch.finfo(dtype).eps:
                assert torch.equal(got[place].double().reshape(want.shape), want), place
                compared += 1
            place += 1
    return compared


def _few(x: Tensor) -> Tensor:
    """At most about 12 entries of each row, so that sums stay integers that 16 bits hold."""
    kept = torch.zeros_like(x)
    step = max(1, x.shape[1] // 12)
    for row in range(x.shape[0]):
        kept[row, row % step :: step] = x[row, row % step :: step]
    return kept


def check_rounding(op: LinearOperator, dtype: torch.dtype, device: str, rows: int) -> None:
    """Values and all gradients of a program: within the error bound, and as good as plain torch.

    The reference is float64 from the same rounded numbers. Plain torch rounds every intermediate
    to ``dtype``: twice its RMS error is allowed, or, where it is nearly exact, one rounding.
    """
    graph, grads, values = chains(op)
    program = Program(graph, "triton", dtype, torch.device(device), "rounding")
    values = [v.to(dtype).to(device) for v in values]
    draw = torch.Generator().manual_seed(7)
    x = torch.randn(rows, graph.nodes[0].size, generator=draw).to(dtype).to(device)
    g = torch.randn(rows, program.size, generator=draw).to(dtype).to(device)
    wide = [v.double() for v in values]

    made = program.gradients(x, g, values, (True,) * (1 + len(values)))
    order = [0, *(w + 1 for w in weights_with_gradient(grads))]
    got = [*program.run([x], values), *(made[i] for i in order)]
    arguments = ((graph, [x]), (grads, [x, g]))
    ref = [y for h, i in arguments for y in interpret(h, [v.double() for v in i], wide)]
    naive = [y for h, i in arguments for y in interpret(h, i, values)]
    bound = [y for h, i in arguments for y in error_bound(h, i, values, dtype)]
    floor = torch.finfo(dtype).eps * (2 if dtype == torch.float32 else 0.5)
    for place, (y, r, n, b) in enumerate(zip(got, ref, naive, bound, strict=True)):
        y = y.reshape(r.shape)
        assert torch.isfinite(y).all(), place
        assert ((y.double() - r).abs() <= b).all(), place
        assert relative_rms(y, r) <= max(2 * relative_rms(n, r), floor), place


def _reduced(node: Contract) -> int:
    size = 1
    for d in node.spec.reduced:
        size *= node.spec.sizes[d]
    return size
