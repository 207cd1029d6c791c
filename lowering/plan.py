"""fuse: which values exist in memory, and which kernel makes each.

Nodes without a reduction (diagonals, numbers, permutations, slices, joins, sums) cost no kernel of
their own: a kernel *pulls* them, computing the index they would have been read at, or *pushes* its
result through them before it stores. What remains is one kernel for a contraction, one for a
weight gradient, and a pointwise kernel where an output has no contraction to live in. Consecutive
contractions whose whole vectors fit on the chip become one ``chip`` kernel.

The torch backend keeps one library call a node: its plan has a kernel for every node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from structmat.index import DigitMap, refine
from structmat.kernels import cluster as cluster_template
from structmat.lowering.ir import (
    Add,
    Apply,
    Contract,
    Correlate,
    Einsum,
    Gradient,
    Graph,
    Input,
    Node,
    Outer,
    Permute,
    Scalar,
)
from structmat.lowering.portable import from_data, from_text, to_data, to_text
from structmat.lowering.radix import ITEMSIZE, longest, runs, stages
from structmat.lowering.radix_grad import GradientChain, groups, plan_of, served
from structmat.lowering.schedule import schedule

__all__ = [
    "CUDA_KINDS",
    "Device",
    "Kernel",
    "Plan",
    "Tile",
    "fuse",
    "join_clusters",
    "kinds_of",
    "tile",
]

CUDA_KINDS = frozenset({"radix", "radix_grad", "cluster"})
"""Kinds of kernels that are CUDA C++; the others are Triton's, or calls of the library."""

FORMAT, VERSION = "structmat plan", 1
"""What the JSON of a plan says of itself; a new version where an old reader would go wrong."""


@dataclass(frozen=True)
class Device:
    """What the planner knows of a device; the defaults are an H100's.

    Attributes:
        name: for the cache key and ``explain``.
        sms: multiprocessors.
        shared: bytes of shared memory that a block of threads may have.
        capability: compute capability, 90 for 9.0.
    """

    name: str = "cpu"
    sms: int = 132
    shared: int = 227 * 1024
    capability: int = 90


H100 = Device("NVIDIA H100 sm_90")
"""What is planned for where no device is known."""


@dataclass(frozen=True)
class Tile:
    """Launch configuration of a kernel.

    Attributes:
        rows: vectors of the batch a program handles.
        group: parallel blocks a program handles side by side (0: the kernel has no such loop).
        out: outputs of each block a program makes.
        reduce: reduced positions a step consumes.
        warps: warps a program.
        stages: software pipelining depth.
        loop: most tiles of rows a program walks with the same values.
    """

    rows: int = 64
    group: int = 1
    out: int = 64
    reduce: int = 64
    warps: int = 4
    stages: int = 2
    loop: int = 1


@dataclass(frozen=True)
class Kernel:
    """One launch.

    Attributes:
        kind: ``radix`` (short contractions, whole vectors on chip), ``radix_grad`` (gradients of
            these for x and for the values), ``cluster`` (two contractions whose values stay in the
            registers of a cluster of blocks), ``dot`` (tensor cores),
            ``fma`` (any size and dtype), ``chip`` (several contractions, intermediates on chip),
            ``pointwise``, ``grad`` (weight gradient on tensor cores), ``outer`` (weight gradient
            by the library) or ``call`` (library).
        roots: the contractions it runs, in order (empty for pointwise).
        push: nodes applied to the result before the store, in order.
        out: the value it makes.
        reads: values in memory that it loads.
        weights: values tensors that it loads.
        row_bytes: bytes moved for each vector of the batch, in units of the item size.
        fixed_bytes: bytes moved once, in units of the item size.
        row_flops: real multiply-adds counted as two, for each vector.
        tile: launch configuration.
        more: other values that it makes: gradients of values.
    """

    kind: str
    roots: tuple[int, ...]
    push: tuple[int, ...]
    out: int
    reads: tuple[int, ...]
    weights: tuple[int, ...]
    row_bytes: int
    fixed_bytes: int
    row_flops: int
    tile: Tile = field(default_factory=Tile)
    more: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Kernels in order over a graph.

    Attributes:
        graph: the merged chain.
        kernels: launches in order.
        stored: values that exist in memory.
        backend: that it is for.
        dtype: of rows and values, by torch's name.
    """

    graph: Graph
    kernels: tuple[Kernel, ...]
    stored: frozenset[int]
    backend: str = ""
    dtype: str = ""

    def to_json(self) -> str:
        """The plan as JSON, to keep, to read, and to edit: ``sm.compile(A, plan=...)`` takes it.

        Example:
            >>> import torch, structmat as sm
            >>> plan = sm.compile(sm.Dense(torch.ones(2, 3))).plan
            >>> Plan.from_json(plan.to_json()) == plan
            True
        """
        data = to_data(self, Plan)
        head = {"format": FORMAT, "version": VERSION, "backend": self.backend, "dtype": self.dtype}
        return to_text(head | data)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """A plan from what :meth:`to_json` wrote; ``sm.compile`` checks what it computes.

        Raises:
            PlanError: not JSON, of a newer version, or not a plan; with the path of what is wrong.
        """
        data = from_text(text, FORMAT, VERSION)
        plan: Plan = from_data(data, cls)
        return plan

    def describe(self, itemsize: int, batch: int) -> str:
        """The plan as text, with bytes and flops of each kernel at this batch."""
        lines = []
        for i, k in enumerate(self.kernels):
            moved = (k.row_bytes * batch + k.fixed_bytes) * itemsize
            path = "".join(f" then {type(self.graph.nodes[p]).__name__.lower()}" for p in k.push)
            what = " ; ".join(str(self.graph.nodes[r]) for r in k.roots)
            what = what or str(self.graph.nodes[k.out])
            lines.append(
                f"k{i} {k.kind}: {what}{path} -> v{k.out}\n"
                f"   {moved / 1e6:.3f} MB, {k.row_flops * batch / 1e6:.3f} Mflop at batch {batch}"
            )
        return "\n".join(lines) if lines else "no kernels: the result is the input"


def kinds_of(plan: Plan) -> set[str]:
    """The kinds of a plan's kernels."""
    return {k.kind for k in plan.kernels}


def heavy(graph: Graph, v: int) -> bool:
    """Whether a node needs a kernel of its own: a contraction that reduces."""
    node = graph.nodes[v]
    return isinstance(node, Contract) and bool(node.spec.reduced)


def pushable(graph: Graph, v: int) -> bool:
    """Whether a node maps each position of its argument to one position of its result."""
    node = graph.nodes[v]
    if isinstance(node, Contract):
        return node.spec.pointwise
    return isinstance(node, Scalar | Permute | Add)


def fuse(graph: Graph, backend: str, dtype: str, device: Device = H100) -> Plan:
    """Group the nodes of a merged chain into kernels.

    Contract:
        Requires a verified graph. Ensures that every output is stored, that each kernel reads
        only stored values, and that each stored value other than an input is made once.
    """
    if backend == "torch":
        kernels = tuple(
            _measure(graph, "call", (), (), v, tuple(nd.args), _own_weights(graph, (v,)))
            for v, nd in enumerate(graph.nodes)
            if not isinstance(nd, Input)
        )
        return Plan(graph, kernels, frozenset(range(len(graph.nodes))))

    gradient = None if backend == "triton" else served(graph, dtype, device.shared)
    if gradient is not None:
        return _gradient_plan(graph, gradient, dtype)
    uses = graph.uses()
    stored = {v for v, nd in enumerate(graph.nodes) if isinstance(nd, Input)}
    stored.update(graph.outputs)
    for nd in graph.nodes:
        if isinstance(nd, Outer):
            stored.update(nd.args)
    chains = (
        [] if backend == "triton" else runs(graph, longest(dtype, device.shared), frozenset(stored))
    )
    for run in chains:
        stored.update((graph.nodes[run[0]].args[0], run[-1]))
    inside_runs = {v for run in chains for v in run}

    ends: dict[int, tuple[int, tuple[int, ...]]] = {}  # value -> (root, push)
    for v in range(len(graph.nodes)):
        if not heavy(graph, v) or v in inside_runs:
            continue
        end, push = v, []
        while end not in stored and len(uses[end]) == 1 and pushable(graph, uses[end][0]):
            user = uses[end][0]
            node = graph.nodes[user]
            if isinstance(node, Permute) and isinstance(node.index, DigitMap):
                break  # merging left it: its stores would be narrow
            if isinstance(node, Add) and any(a > v and a != end for a in node.args):
                break  # a later branch of the sum takes it
            if isinstance(node, Add) and len(set(node.args)) < len(node.args):
                break
            push.append(user)
            end = user
        ends[end] = (v, tuple(push))
        stored.add(end)

    kernels_list: list[Kernel] = []
    last_of = {run[-1]: run for run in chains}
    for v, nd in enumerate(graph.nodes):
        if v not in stored or isinstance(nd, Input):
            continue
        if isinstance(nd, Outer):
            kernels_list.append(_measure(graph, "outer", (v,), (), v, nd.args, ()))
        elif v in last_of:
            run, own = last_of[v], _own_weights(graph, last_of[v])
            weights = tuple(dict.fromkeys(own))
            kernels_list.append(
                _measure(graph, "radix", run, (), v, graph.nodes[run[0]].args, weights)
            )
        elif v in ends:
            root, push_nodes = ends[v]
            inside = {root, *push_nodes}
            reads, weights = _pulled(graph, root, push_nodes, frozenset(stored), inside)
            kernels_list.append(_measure(graph, "dot", (root,), push_nodes, v, reads, weights))
        else:
            reads, weights = _pulled(graph, None, (v,), frozenset(stored), {v})
            kernels_list.append(_measure(graph, "pointwise", (), (), v, reads, weights))
    # A push path may end later than the root of the next kernel: order by what is read.
    ordered = _ordered(kernels_list, graph)
    return Plan(graph, tuple(ordered), frozenset(stored))


def _gradient_plan(graph: Graph, gradient: GradientChain, dtype: str) -> Plan:
    """One kernel for each group of stages, from the last to the first."""
    kernels, g = [], gradient.g
    for group in groups(gradient, ITEMSIZE[dtype]):
        own = range(group.low, group.high)
        out = gradient.backward[group.low]
        values = [s.w for s in gradient.chain.stages[: group.high] if s.w is not None]
        kernel = _measure(
            graph,
            "radix_grad",
            tuple(gradient.backward[i] for i in reversed(own)),
            (),
            out,
            (gradient.x, g),
            tuple(values),
        )
        outers = tuple(o for i in own if (o := gradient.outers[i]) is not None)
        specs = [graph.nodes[o].spec for o in outers]  # type: ignore[attr-defined]
        flops = sum(2 * math.prod(s.sizes) for s in specs)
        kernels.append(replace(kernel, more=outers, row_flops=kernel.row_flops + flops))
        g = out
    made = [v for k in kernels for v in (k.out, *k.more)]
    return Plan(graph, tuple(kernels), frozenset((gradient.x, gradient.g, *made)))


def _ordered(kernels: list[Kernel], graph: Graph) -> list[Kernel]:
    have = {v for v, nd in enumerate(graph.nodes) if isinstance(nd, Input)}
    left, out = list(kernels), []
    while left:
        ready = next(k for k in left if set(k.reads) <= have)
        left.remove(ready)
        out.append(ready)
        have.add(ready.out)
    return out


def _own_weights(graph: Graph, nodes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(w for v in nodes if (w := _weight(graph.nodes[v])) is not None)


def _weight(node: Node) -> int | None:
    """The values that a node reads."""
    if isinstance(node, Contract | Apply):
        return node.w
    return node.w if isinstance(node, Correlate) and node.op.nonlinear else None


def _pulled(
    graph: Graph,
    root: int | None,
    push: tuple[int, ...],
    stored: frozenset[int],
    inside: set[int],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Stored values and weights that a kernel reads, through the nodes it computes on the fly."""
    reads: list[int] = []
    weights: list[int] = []

    def visit(v: int) -> None:
        node = graph.nodes[v]
        if v in stored and v not in inside:
            if v not in reads:
                reads.append(v)
            return
        if isinstance(node, Contract) and node.w not in weights:
            weights.append(node.w)
        for a in node.args:
            visit(a)

    visit(push[-1] if push else root)  # type: ignore[arg-type]
    return tuple(reads), tuple(weights)


def _measure(
    graph: Graph,
    kind: str,
    roots: tuple[int, ...],
    push: tuple[int, ...],
    out: int,
    reads: tuple[int, ...],
    weights: tuple[int, ...],
) -> Kernel:
    node = graph.nodes[out]
    sizes = graph.shapes
    row = sum(graph.nodes[r].size for r in reads) + (0 if isinstance(node, Gradient) else node.size)
    fixed = sum(math.prod(sizes[w]) for w in weights)
    if isinstance(node, Outer):
        fixed += math.prod(node.spec.shape(node.spec.w))
    if isinstance(node, Correlate):
        fixed += node.batch * math.prod(node.op.values or ())
    flops = 0
    for v in {*roots, *push, out}:
        nd = graph.nodes[v]
        if isinstance(nd, Contract | Outer):
            work = math.prod(nd.spec.sizes)
            flops += work if isinstance(nd, Contract) and not nd.spec.reduced else 2 * work
        elif isinstance(nd, Apply | Correlate):
            flops += nd.batch * nd.pre * nd.post * sum(nd.op.operations(False))
        elif isinstance(nd, Scalar | Add):
            flops += nd.size * max(len(nd.args) - 1, 1)
    return Kernel(kind, roots, push, out, reads, weights, row, fixed, flops)


def join_clusters(plan: Plan, dtype: str, device: Device) -> Plan:
    """Two contractions in a row that a cluster of blocks holds become one kernel.

    Contract:
        Requires a fused plan. Ensures that the value between the two exists nowhere in memory.
    """
    if device.capability != 90:  # instructions of Hopper, which later devices do not have
        return plan
    graph, uses = plan.graph, plan.graph.uses()
    out: list[Kernel] = []
    for k in plan.kernels:
        last = out[-1] if out else None
        if last is not None and _clusters(last, k, graph, uses, dtype):
            joined = _measure(graph, "cluster", (*last.roots, *k.roots), (), k.out, last.reads, ())
            weights = (*last.weights, *k.weights)
            fixed = last.fixed_bytes + k.fixed_bytes
            out[-1] = replace(joined, weights=weights, fixed_bytes=fixed)
        else:
            out.append(k)
    gone = plan.stored - {v for k in out for v in (k.out, *k.more, *k.reads)}
    inputs = {v for v in plan.stored if isinstance(graph.nodes[v], Input)}
    return replace(plan, kernels=tuple(out), stored=plan.stored - gone | inputs)


def _clusters(a: Kernel, b: Kernel, graph: Graph, uses: dict[int, list[int]], dtype: str) -> bool:
    """Whether b reads what a makes, alone, and a cluster serves both."""
    if a.kind != "dot" or b.kind != "dot" or a.push or b.push or a.out in graph.outputs:
        return False
    (one,), (two,) = a.roots, b.roots
    first, second = graph.nodes[one], graph.nodes[two]
    assert isinstance(first, Contract)
    assert isinstance(second, Contract)
    if uses[one] != [two] or second.x != one or first.x not in a.reads:
        return False
    return cluster_template.served(first.spec, second.spec, dtype)[0] is not None


# tile: launch configurations ---------------------------------------------------------------------


def tile(plan: Plan, dtype: str, device: Device = H100) -> Plan:
    """Choose kernels' kinds and launch configurations, and fuse on chip.

    Contract:
        Requires a fused plan. Ensures that ``dot`` and ``chip`` kernels have tiles of at least 16
        along each side of a tensor-core product.
    """
    graph = plan.graph
    kernels = []
    for k in plan.kernels:
        if k.kind == "cluster":
            k = replace(k, tile=Tile(rows=16))
        elif k.kind == "radix":
            k = replace(k, tile=radix_tile(graph, k, dtype))
        elif k.kind == "radix_grad":
            found = served(graph, dtype, device.shared)
            assert found is not None
            p = plan_of(found, ITEMSIZE[dtype])
            entries = 1 << len(p.passes[0].registers)
            k = replace(k, tile=Tile(1 << p.rows, 1, entries, 1, p.threads // 32, len(p.passes)))
        elif k.kind == "dot":
            spec = graph.nodes[k.roots[0]].spec  # type: ignore[attr-defined]
            chosen = dot_tile(spec, dtype)
            k = (
                replace(k, kind="fma", tile=Tile(rows=16, out=128))
                if chosen is None
                else replace(k, tile=chosen)
            )
        elif k.kind == "outer":
            spec = graph.nodes[k.out].spec  # type: ignore[attr-defined]
            chosen = grad_tile(spec, dtype)
            k = k if chosen is None else replace(k, kind="grad", tile=chosen)
        elif k.kind == "pointwise":
            k = replace(k, tile=Tile(rows=8, out=256))
        kernels.append(k)
    plan = replace(plan, kernels=tuple(kernels))
    return _on_chip(plan, dtype)


def radix_tile(graph: Graph, k: Kernel, dtype: str) -> Tile:
    """Rows of a tile, rows and entries that a thread holds (``group``, ``out``), warps."""
    chain = stages(graph, k.roots)
    assert chain is not None
    plan = schedule(chain, ITEMSIZE[dtype])
    held = 1 << plan.held
    entries = len(plan.passes[0].registers) - plan.held
    return Tile(1 << plan.rows, held, 1 << entries, 1, plan.threads // 32, len(plan.passes))


def dot_tile(spec: Einsum, dtype: str) -> Tile | None:
    """The configuration of a tensor-core contraction, or None where it should run as fma."""
    reduced = math.prod(spec.shape(spec.reduced))
    out = math.prod(spec.shape(spec.out))
    if dtype not in ("float32", "float16", "bfloat16") or reduced < 16 or out < 16:
        return None
    wide = dtype == "float32"
    if grouped_digit(spec, dtype) is None:
        step = min(_pow2(reduced), 32 if wide else 64)
        cols = min(_pow2(out), 64 if wide else 256)
        if reduced <= step:  # a short reduction is bound by memory: many small programs
            return Tile(rows=64, out=min(cols, 128), reduce=step, warps=8, stages=1)
        return Tile(rows=128, out=cols, reduce=step, warps=8, stages=4 if not wide else 3)
    step = min(_pow2(reduced), 32 if wide else 64)
    cols = min(_pow2(out), 32 if wide else 64)
    if reduced > step:
        return Tile(rows=32 if not wide else 16, group=16, out=cols, reduce=step, warps=16)
    return Tile(rows=16, group=16, out=cols, reduce=step, warps=8, stages=3, loop=8)


def grad_tile(spec: Einsum, dtype: str) -> Tile | None:
    """The configuration of a weight gradient, or None where the library's product serves.

    The library serves where the digits it must batch over are slow in both operands.
    """
    group = grouped_digit(spec, dtype)
    if group is None or set(spec.parallel) - set(spec.w):
        return None
    reduced = math.prod(spec.shape(spec.reduced))
    out = math.prod(spec.shape(spec.out))
    if dtype not in ("float16", "bfloat16") or reduced < 16 or out < 16:
        return None
    cols = min(_pow2(out), 16)
    # two stages of [group, rows, reduce] and the sums must fit shared memory and registers
    rows, warps = (32, 8) if reduced <= 64 else (16, 16)
    return Tile(rows=rows, group=16, out=cols, reduce=_pow2(reduced), warps=warps, stages=3)


def grouped_digit(spec: Einsum, dtype: str) -> int | None:
    """The parallel digit along which memory is contiguous, if tiles should be wide along it.

    A product that reduces much hides narrow stores behind its arithmetic, and a digit shorter
    than a memory sector gives no width: both run two-dimensional.
    """
    if math.prod(spec.shape(spec.reduced)) > 128:
        return None
    for digits in (spec.y, spec.x):
        last = digits[-1] if digits else None
        if last is not None and last in spec.x and last in spec.y and spec.sizes[last] >= 16:
            return last
    return None


def _pow2(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


ON_CHIP_POSITIONS = 1024
"""Longest vector whose whole chain is kept on chip (16-bit): 16 rows of 1024 are 32 KB."""


def _on_chip(plan: Plan, dtype: str) -> Plan:
    """Join runs of dot kernels, each the only reader of the one before, into chip kernels."""
    if dtype not in ("float16", "bfloat16"):
        return plan
    graph, uses = plan.graph, plan.graph.uses()
    out: list[Kernel] = []
    for k in plan.kernels:
        last = out[-1] if out else None
        if last is not None and _joins(last, k, graph, uses):
            out[-1] = Kernel(
                "chip",
                (*last.roots, *k.roots),
                k.push,
                k.out,
                last.reads,
                (*last.weights, *k.weights),
                sum(graph.nodes[r].size for r in last.reads) + graph.nodes[k.out].size,
                last.fixed_bytes + k.fixed_bytes,
                last.row_flops + k.row_flops,
                Tile(rows=16, warps=8, stages=3, loop=8),
            )
        else:
            out.append(k)
    made = {v for k in out for v in (k.out, *k.more)}
    stored = frozenset(v for v in plan.stored if v in made or isinstance(graph.nodes[v], Input))
    return replace(plan, kernels=tuple(out), stored=stored)


def _joins(a: Kernel, b: Kernel, graph: Graph, uses: dict[int, list[int]]) -> bool:
    if a.kind not in ("dot", "chip") or b.kind != "dot" or a.push:
        return False
    if b.reads != (a.out,) or a.out in graph.outputs:
        return False
    if uses[a.out] != [b.roots[0]] or graph.nodes[b.roots[0]].args != (a.out,):
        return False
    specs = [graph.nodes[r].spec for r in (*a.roots, *b.roots)]  # type: ignore[attr-defined]
    for s in specs:
        if any(z & (z - 1) for z in s.sizes) or max(s.n, s.m) > ON_CHIP_POSITIONS:
            return False
        if math.prod(s.shape(s.reduced)) < 16 or math.prod(s.shape(s.out)) < 16:
            return False
    ahead = specs[-2]
    return refine(ahead.shape(ahead.y), specs[-1].shape(specs[-1].x)) is not None
