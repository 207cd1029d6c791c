"""Specs: what holds after each stage. A pass that breaks its spec is a bug, found where it is.

Every check raises :class:`SpecError` naming the stage, the node and the rule that failed. Checks of
graphs and plans take a few hundredths of the time of the passes, and always run.
"""

from __future__ import annotations

import ast
import math
import os

from structmat.index import DigitMap
from structmat.lowering.ir import (
    Add,
    Apply,
    Concat,
    Contract,
    Correlate,
    Einsum,
    Graph,
    Input,
    Outer,
    Permute,
    Scalar,
    Slice,
)
from structmat.lowering.plan import Plan

__all__ = [
    "SpecError",
    "check_chain",
    "check_merged",
    "check_plan",
    "check_source",
    "check_tiled",
    "verifying",
]


class SpecError(AssertionError):
    """A stage of the compiler broke its specification."""


def verifying() -> bool:
    """Whether ``STRUCTMAT_VERIFY=1`` asks for the check of sources, too."""
    return os.environ.get("STRUCTMAT_VERIFY") == "1"


def _require(ok: bool, stage: str, what: str) -> None:
    if not ok:
        raise SpecError(f"{stage}: {what}")


def _check_spec(spec: Einsum, stage: str, where: str) -> None:
    digits = set(range(len(spec.sizes)))
    for name, ds in (("x", spec.x), ("w", spec.w), ("y", spec.y)):
        _require(len(set(ds)) == len(ds), stage, f"{where}: a digit repeats in {name}")
        _require(set(ds) <= digits, stage, f"{where}: an unknown digit in {name}")
    _require(set(spec.x) | set(spec.y) | set(spec.w) == digits, stage, f"{where}: unused digits")
    _require(set(spec.w) <= set(spec.x) | set(spec.y), stage, f"{where}: w has a digit of its own")


def check_chain(graph: Graph, stage: str = "chain") -> None:
    """Static single assignment, sizes that fit, digits that spell their vectors.

    Raises:
        SpecError: the first violation.
    """
    nodes = graph.nodes
    for v, node in enumerate(nodes):
        at = f"v{v}"
        _require(all(0 <= a < v for a in node.args), stage, f"{at} reads a later value")
        sizes = [nodes[a].size for a in node.args]
        match node:
            case Contract(x=x, w=w, spec=spec):
                _check_spec(spec, stage, at)
                _require(spec.n == nodes[x].size, stage, f"{at}: X spells {spec.n} positions")
                _require(spec.m == node.size, stage, f"{at}: Y spells {spec.m} positions")
                _require(w < len(graph.shapes), stage, f"{at}: no values w{w}")
                _require(
                    math.prod(spec.shape(spec.w)) == math.prod(graph.shapes[w]),
                    stage,
                    f"{at}: W does not spell w{w}",
                )
            case Outer(x=x, g=g, spec=spec):
                _check_spec(spec, stage, at)
                fits = spec.n == nodes[x].size and spec.m == nodes[g].size
                _require(fits, stage, f"{at}: operands do not fit")
            case Apply(w=w, op=op):
                many = node.batch * node.pre * node.post
                _require(sizes == [many * op.ins], stage, f"{at}: x does not fit {op}")
                _require(node.size == many * op.outs, stage, f"{at}: y does not fit {op}")
                _require((w is None) == (op.values is None), stage, f"{at}: values of {op}")
                if w is not None:
                    want_values = node.batch * math.prod(op.values or ())
                    have_values = math.prod(graph.shapes[w])
                    _require(want_values == have_values, stage, f"{at}: w{w} does not fit {op}")
            case Correlate(op=op):
                many = node.batch * node.pre * node.post
                fits = sizes == [many * op.ins, many * op.outs]
                _require(fits, stage, f"{at}: operands do not fit {op}")
            case Permute(index=index):
                _require(sizes == [node.size] == [index.size], stage, f"{at}: sizes differ")
            case Scalar() | Add():
                _require(set(sizes) == {node.size}, stage, f"{at}: sizes differ")
            case Slice():
                whole = node.pre * node.full * node.post
                part = node.pre * (node.stop - node.start) * node.post
                _require(0 <= node.start < node.stop <= node.full, stage, f"{at}: empty slice")
                _require(sizes == [whole] and part == node.size, stage, f"{at}: sizes differ")
            case Concat():
                want = [node.pre * s * node.post for s in node.sizes]
                _require(sizes == want and sum(want) == node.size, stage, f"{at}: sizes differ")
    _require(all(0 <= o < len(nodes) for o in graph.outputs), stage, "an output is undefined")


def check_merged(graph: Graph) -> None:
    """A chain in which no digit permutation is left next to a contraction that could spell it.

    Raises:
        SpecError: the first violation.
    """
    from structmat.lowering.passes import merge_index_maps

    check_chain(graph, "merged")
    for v, node in enumerate(graph.nodes):
        if isinstance(node, Permute):
            _require(not node.index.is_identity, "merged", f"v{v} permutes by the identity")
            below = graph.nodes[node.x]
            _require(not isinstance(below, Permute), "merged", f"v{v}: two permutations in a row")
        if isinstance(node, Contract):
            _require(node.spec == node.spec.canonical(), "merged", f"v{v} is not canonical")
            below = graph.nodes[node.x]
            if isinstance(below, Permute) and isinstance(below.index, DigitMap):
                again = merge_index_maps(graph)
                _require(again == graph, "merged", f"v{v} reads a permutation it could spell")


def check_plan(plan: Plan) -> None:
    """Kernels in an order that can run; every stored value is made exactly once.

    Raises:
        SpecError: the first violation.
    """
    have = {v for v, nd in enumerate(plan.graph.nodes) if isinstance(nd, Input)}
    for i, k in enumerate(plan.kernels):
        _require(set(k.reads) <= have, "plan", f"k{i} reads what is not made yet")
        for v in (k.out, *k.more):
            _require(v not in have, "plan", f"k{i} makes v{v} again")
            _require(v in plan.stored, "plan", f"k{i} makes v{v}, which is not stored")
            have.add(v)
    _require(set(plan.graph.outputs) <= have, "plan", "an output is never made")
    _require(have == set(plan.stored), "plan", "a stored value is never made")


def check_tiled(plan: Plan) -> None:
    """Launch configurations that Triton accepts.

    Raises:
        SpecError: the first violation.
    """
    check_plan(plan)
    for i, k in enumerate(plan.kernels):
        t = k.tile
        for name in ("rows", "group", "out", "reduce", "warps"):
            size = getattr(t, name)
            _require(size > 0 and size & (size - 1) == 0, "tiled", f"k{i}: {name}={size}")
        for name, most in (("warps", 32), ("stages", 16), ("loop", 1024)):
            size = getattr(t, name)
            _require(1 <= size <= most, "tiled", f"k{i}: {name}={size}, at most {most}")
        if k.kind == "chip":
            _require(t.rows >= 16, "tiled", f"k{i}: rows={t.rows} under 16")
        if k.kind in ("dot", "grad"):
            _require(min(t.rows, t.out, t.reduce) >= 16, "tiled", f"k{i}: tile under 16")
        if k.kind == "grad":
            spec = plan.graph.nodes[k.out].spec  # type: ignore[attr-defined]
            reduced = math.prod(spec.shape(spec.reduced))
            _require(t.reduce >= reduced, "tiled", f"k{i}: reduce={t.reduce}, needs all {reduced}")
        if k.kind == "dot":
            elements = t.group * max(t.rows * t.out, t.rows * t.reduce, t.out * t.reduce)
            _require(elements <= 2**17, "tiled", f"k{i}: a tile of {elements} elements")


def check_source(source: str) -> None:
    """Source that parses and defines ``run``.

    Raises:
        SpecError: it does not.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise SpecError(f"source: line {error.lineno}: {error.msg}") from error
    names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    _require("run" in names, "source", "no function run")
