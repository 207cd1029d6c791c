"""The passes in order: each a named function from one form to the next, with its specification.

    simplify -> to_chain -> merge_index_maps -> choose_layouts -> fuse -> tile -> emit

:func:`lower` runs all but the first two on a graph (forward or gradient) and checks each result;
the source only under ``STRUCTMAT_VERIFY=1``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from structmat.lowering.emit_gpu import emit_gpu
from structmat.lowering.emit_torch import emit_torch
from structmat.lowering.ir import Graph
from structmat.lowering.passes import choose_layouts, merge_index_maps
from structmat.lowering.plan import CUDA_KINDS, Device, Plan, fuse, join_clusters, kinds_of, tile
from structmat.lowering.radix_grad import served
from structmat.lowering.verify import (
    check_chain,
    check_merged,
    check_plan,
    check_source,
    check_tiled,
    verifying,
)
from structmat.tables import Indices

__all__ = ["PASSES", "Lowered", "Pass", "lower", "planned"]


@dataclass(frozen=True)
class Pass:
    """A stage of the compiler.

    Attributes:
        name: as ``stages`` and ``explain`` print it.
        statement: what it does and keeps, in a line.
        check: verifier of its result.
    """

    name: str
    statement: str
    check: Callable[[Any], None] | None


PASSES = (
    Pass("simplify", "rewrite the expression by sm.rules(); same matrix, no more work", None),
    Pass("to_chain", "record the expression as contractions, index maps and joins", None),
    Pass("merge_index_maps", "permutations become digits of contractions", check_merged),
    Pass("choose_layouts", "order intermediates along what their reader reduces", check_chain),
    Pass("fuse", "group nodes into kernels; decide what exists in memory", check_plan),
    Pass("tile", "kinds, block sizes, warps, loops; join on chip", check_tiled),
    Pass("emit", "readable source of a module with run(inputs, values, tables)", check_source),
)


@dataclass(frozen=True)
class Lowered:
    """The result of :func:`lower`.

    Attributes:
        plan: tiled plan.
        fused: plan before tiling.
        source: module source.
        tables: what has the tables that ``run`` expects.
    """

    plan: Plan
    fused: Plan
    source: str
    tables: tuple[Indices, ...]


def planned(graph: Graph, backend: str, dtype: str, device: Device) -> tuple[Plan, Plan]:
    """The plans of a chain that is ready for the backend, before and after tiling.

    Raises:
        RuntimeError: a kernel that the backend does not have.
        structmat.lowering.verify.SpecError: a pass broke its specification.
    """
    fused = fuse(graph, backend, dtype, device)
    plan = fused = replace(fused, backend=backend, dtype=dtype)
    check_plan(plan)
    if backend != "torch":
        if backend in ("gpu", "cuda"):
            plan = join_clusters(plan, dtype, device)
        plan = tile(plan, dtype, device)
        if backend == "cuda" and (strange := kinds_of(plan) - CUDA_KINDS - {"outer"}):
            raise RuntimeError(
                f"backend='cuda': no CUDA kernel of kind {', '.join(sorted(strange))}; "
                "use backend='auto'"
            )
        check_tiled(plan)
    return fused, plan


def lower(
    graph: Graph,
    backend: str,
    dtype: str,
    device: Device,
    title: str,
    columns: bool = False,
    plan: Plan | None = None,
) -> Lowered:
    """Lower a recorded chain to source.

    Args:
        graph: from ``to_chain`` or ``adjoint``.
        backend: ``"torch"``, ``"triton"``, ``"cuda"``, or ``"gpu"``, which has both.
        dtype: torch's name of the common dtype.
        device: what the planner may use.
        title: first line of the module.
        columns: inputs and results are (n, t) instead of (t, n); the torch backend alone.
        plan: of this chain, to be taken as it is; by default the planner makes one.

    Raises:
        RuntimeError: a kernel that the backend does not have.
        structmat.lowering.verify.SpecError: a pass broke its specification.
    """
    if columns and backend != "torch":
        raise ValueError(f"backend {backend!r} works on rows")
    if plan is None:
        graph = merge_index_maps(graph)
        check_merged(graph)
        mixed = backend in ("gpu", "cuda")
        if backend != "torch" and not (mixed and served(graph, dtype, device.shared)):
            graph = choose_layouts(graph)
            check_chain(graph)
        fused, plan = planned(graph, backend, dtype, device)
    else:
        fused = plan
    tables: Sequence[Indices]
    if backend == "torch":
        source, tables = emit_torch(plan, title, columns)
    else:
        source, tables = emit_gpu(plan, title, dtype, device)
    if verifying():  # parsing takes as long as all passes; importing the module parses it anyway
        check_source(source)
    return Lowered(plan, fused, source, tuple(tables))
