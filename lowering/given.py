"""A plan from outside: whether it is a plan of this expression.

What may differ from the planner's own plan: the chain by a rewriting that keeps the matrix, such as
other layouts; contractions joined on chip or apart; the kind of a kernel where both serve; and
tiles. The chain is compared as a function, on random vectors of integers in double precision, where
the text is not the same: two different chains agree on them with a probability that is nil.
"""

from __future__ import annotations

import math
from dataclasses import fields

import torch
from torch import Tensor

from structmat.lowering.ir import Contract, Graph, Input, interpret
from structmat.lowering.passes import choose_layouts, merge_index_maps
from structmat.lowering.pipeline import planned
from structmat.lowering.plan import CUDA_KINDS, Device, Kernel, Plan, dot_tile
from structmat.lowering.portable import PlanError
from structmat.lowering.verify import SpecError, check_chain, check_plan, check_tiled

__all__ = ["check_given"]

LARGEST = 2**25
"""Numbers in the values of a chain that is compared as a function."""

BACKENDS = ("torch", "triton", "cuda", "gpu")

Key = tuple[tuple[int, ...], tuple[int, ...], int]


def check_given(plan: Plan, graph: Graph, device: Device) -> None:
    """Check that a plan computes a chain.

    Args:
        plan: from a file, or edited.
        graph: the recorded chain of the expression.
        device: what the planner may use.

    Raises:
        PlanError: it is a plan of another expression, or not a plan that can run.
    """
    numbers = getattr(torch, plan.dtype, None)
    if plan.backend not in BACKENDS or not isinstance(numbers, torch.dtype):
        raise PlanError(f"the plan is for backend {plan.backend!r} and dtype {plan.dtype!r}")
    try:
        check_chain(plan.graph, "the plan's chain")
        _check_chains(plan, merge_index_maps(graph))
        _check_kernels(plan, device)
        (check_plan if plan.backend == "torch" else check_tiled)(plan)
    except SpecError as error:
        raise PlanError(f"the plan cannot run: {error}") from None


def _check_chains(plan: Plan, merged: Graph) -> None:
    """The same matrix from the same tensors."""
    for what, ours, theirs in zip(
        ("vectors of", "tensors of shapes", "results of"),
        _sides(merged),
        _sides(plan.graph),
        strict=True,
    ):
        if ours != theirs:
            raise PlanError(
                f"the plan was made for another expression: it has {what} {theirs}, "
                f"this expression {ours}"
            )
    if plan.graph in (merged, choose_layouts(merged)):
        return
    numbers = sum(map(math.prod, merged.shapes))
    if numbers > LARGEST:
        raise PlanError(
            f"the plan has another chain, with {numbers} numbers too many to compare; "
            "take the chain of f.plan as it is"
        )
    complex_ = plan.dtype.startswith("complex")
    try:
        ours, theirs = (_values(g, complex_) for g in (merged, plan.graph))
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise PlanError(f"the plan's chain cannot run: {error}") from None
    if float((ours - theirs).abs().max()) > 1e-9 * float(ours.abs().max()):
        raise PlanError("the plan was made for another expression: its chain is another matrix")


def _sides(graph: Graph) -> tuple[object, object, object]:
    """Sizes of the inputs, shapes of the values, sizes of the outputs."""
    inputs = [nd.size for nd in graph.nodes if isinstance(nd, Input)]
    return inputs, list(graph.shapes), [graph.nodes[o].size for o in graph.outputs]


def _values(graph: Graph, complex_: bool) -> Tensor:
    """The outputs for random integers."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        real, imaginary = (
            torch.randint(-3, 4, shape, generator=generator).to(torch.float64) for _ in range(2)
        )
        return torch.complex(real, imaginary) if complex_ else real

    inputs = [draw(2, nd.size) for nd in graph.nodes if isinstance(nd, Input)]
    values = [draw(*shape) for shape in graph.shapes]
    return torch.cat([y.flatten() for y in interpret(graph, inputs, values)])


def _check_kernels(plan: Plan, device: Device) -> None:
    """Kernels that the planner has for this chain, apart from kinds and tiles."""
    fused, tiled = planned(plan.graph, plan.backend, plan.dtype, device)
    known: dict[Key, list[Kernel]] = {}
    for k in (*fused.kernels, *tiled.kernels):
        known.setdefault(_key(k), []).append(k)
    for i, k in enumerate(plan.kernels):
        if _key(k) not in known:
            raise PlanError(
                f"k{i} ({k.kind}, roots {list(k.roots)}, push {list(k.push)} -> v{k.out}) is no "
                "kernel of this chain: contractions are joined or apart as in f.plan or its stages"
            )
        own = known[_key(k)]
        for f in fields(Kernel):
            if f.name not in ("kind", "tile") and getattr(k, f.name) != getattr(own[0], f.name):
                raise PlanError(
                    f"k{i}: {f.name} is {getattr(k, f.name)}, and follows from the rest: "
                    f"{getattr(own[0], f.name)}"
                )
        kinds = _kinds(plan, k, [o.kind for o in own])
        if k.kind not in kinds:
            raise PlanError(f"k{i} is {k.kind!r}; this contraction can be {', '.join(kinds)}")
        if k.kind in (*CUDA_KINDS, "call") and k.tile != own[-1].tile:
            raise PlanError(f"k{i}: the tile of a {k.kind!r} kernel follows from the chain")


def _key(k: Kernel) -> Key:
    return k.roots, k.push, k.out


def _kinds(plan: Plan, k: Kernel, kinds: list[str]) -> list[str]:
    """The kinds that serve where the planner had these, before and after tiling."""
    if kinds[0] == "dot":
        node = plan.graph.nodes[k.roots[0]]
        assert isinstance(node, Contract)
        tensor_cores = dot_tile(node.spec, plan.dtype) is not None
        return ["dot", "fma"] if tensor_cores else ["fma"]
    return sorted(set(kinds))
