"""emit (GPU): a standalone, readable module from a tiled plan.

The module has one ``@triton.jit`` function or one CUDA C++ function a kernel,
``run(inputs, values, tables)`` that launches them, ``reference`` in plain torch, and a
``__main__`` that checks one against the other on random data. It imports torch, and Triton or
cuda.core where it has kernels for them.
"""

from __future__ import annotations

import math

from structmat.index import IndexMap
from structmat.kernels import module as texts
from structmat.kernels.cuda_prelude import PRELUDE, TYPES, VECTORS
from structmat.lowering.emit_cluster import cluster_kernel
from structmat.lowering.emit_cuda import CudaKernel
from structmat.lowering.emit_radix import radix_kernel
from structmat.lowering.emit_radix_grad import GradientKernel, gradient_kernel
from structmat.lowering.emit_reference import functions, reference, tuple_text
from structmat.lowering.emit_triton import TritonKernels
from structmat.lowering.ir import Graph, Input, Outer
from structmat.lowering.plan import CUDA_KINDS, H100, Device, Kernel, Plan
from structmat.lowering.radix import ITEMSIZE
from structmat.lowering.radix_grad import groups, served

__all__ = ["emit_gpu"]


def emit_gpu(
    plan: Plan, title: str, dtype: str, device: Device = H100
) -> tuple[str, list[IndexMap]]:
    """Source of a module for a tiled plan.

    Args:
        plan: after ``tile``.
        title: the module's docstring.
        dtype: torch's name of the dtype of inputs and values, such as ``"bfloat16"``.
        device: its multiprocessors set how long a program's loop may be, its shared memory what
            stays on chip.

    Returns:
        The source, and the index maps whose int32 tables ``run`` expects in ``tables``.
    """
    graph, triton = plan.graph, TritonKernels(plan, dtype)
    texts_of_triton: list[str] = []
    texts_of_cuda: list[CudaKernel] = []
    made: list[str] = []
    launches: list[str] = []
    library: list[str] = []

    def part_of(kernel: CudaKernel) -> str:
        """The name of the source that holds a kernel."""
        return kernel.name if kernel.alone else next(c.name for c in texts_of_cuda if not c.alone)

    gradient = served(graph, dtype, device.shared) if any(k.more for k in plan.kernels) else None
    cuts = groups(gradient, ITEMSIZE[dtype]) if gradient else []
    for v, nd in enumerate(graph.nodes):
        if isinstance(nd, Input):
            made.append(f"    v{v} = inputs[{nd.which}]")
    for number, k in enumerate(plan.kernels):
        name = f"k{number}"
        if k.kind == "outer":
            library.append(f"    {_outer(graph, k)}")
            continue
        if k.kind == "grad":
            text, call = triton.grad(k, name)
            texts_of_triton.append(text)
            library.append(call)
            continue
        if k.kind == "radix_grad":
            assert gradient is not None
            (group,) = [r for r in cuts if gradient.backward[r.low] == k.out]
            with_sums = gradient_kernel(gradient, group, k, name, dtype, device)
            texts_of_cuda.append(with_sums.kernel)
            before, launch, after = _gradient_calls(graph, k, with_sums, part_of(with_sums.kernel))
            made += before
            launches.append(launch)
            library += after
            continue
        made.append(f"    v{k.out} = inputs[0].new_empty(T, {graph.nodes[k.out].size})")
        if k.kind in CUDA_KINDS:
            if k.kind == "cluster":
                kernel = cluster_kernel(graph, k, name, dtype)
            else:
                kernel = radix_kernel(graph, k, name, dtype, device)
            texts_of_cuda.append(kernel)
            args = ", ".join(map(_argument, (*kernel.reads, f"v{k.out}")))
            launches.append(f"        _launch({kernel.launch(part_of(kernel))}, {args})")
            continue
        text, used, programs = triton.kernel(number, k)
        texts_of_triton.append(text)
        loop = "LOOP=loop, " if "loop :=" in programs else ""
        launches.append(
            f"        {name}[({programs},)]({', '.join(map(_argument, used))}, T, "
            f"{loop}num_warps={k.tile.warps}, num_stages={k.tile.stages})"
        )
    if launches:
        made += ["    if T:", *launches]
    engines = texts.TRITON.format(sms=device.sms) if texts_of_triton or not texts_of_cuda else ""
    if texts_of_cuda:
        engines = texts.CUDA.format(sources=_sources(texts_of_cuda, dtype)) + engines
    tables = triton.tables
    short = sum(t.size for t in tables.values()) <= 4096
    source = texts.MODULE.format(
        title=title,
        engines=engines,
        functions=functions(graph),
        kernels="\n\n\n".join(t.strip("\n") for t in texts_of_triton),
        body="\n".join(["    T = inputs[0].shape[0]", *made, *library]),
        results=", ".join(f"v{o}" for o in graph.outputs),
        reference="\n".join(reference(graph, tables)),
        sizes=[nd.size for nd in graph.nodes if isinstance(nd, Input)],
        shapes=[list(s) for s in graph.shapes],
        tables=f"[{', '.join(str(t.array().tolist()) for t in tables.values())}]"
        if short
        else "None  # the tables of index maps are long: pass them",
        dtype=dtype,
    )
    return source, list(tables.values())


def _sources(kernels: list[CudaKernel], dtype: str) -> str:
    """The sources for NVRTC: one of the kernels that share a prelude, one of each other kernel."""
    together = [c for c in kernels if not c.alone]
    found = {c.name: c.text for c in kernels if c.alone}
    if together:
        prelude = PRELUDE + TYPES[dtype] + VECTORS
        found[together[0].name] = "\n".join([prelude, *(c.text for c in together)])
    return "\n".join(f'CUDA["{name}"] = r"""\n{text}"""' for name, text in sorted(found.items()))


def _gradient_calls(
    graph: Graph, k: Kernel, made: GradientKernel, part: str
) -> tuple[list[str], str, list[str]]:
    """What allocates, launches, and sums the parts of blocks."""
    c, size = made.kernel, graph.nodes[k.out].size
    rows = f"-(-T // {c.rows}) * {c.rows}" if made.whole_tiles else "T"
    how = c.launch(part)
    accumulate = "torch.float64 if inputs[0].dtype == torch.float64 else torch.float32"
    before = [
        f"    v{k.out} = inputs[0].new_empty({rows}, {size})",
        f"    parts_{c.name} = inputs[0].new_zeros(_blocks({how}, inputs[0]), {made.parts}, "
        f"dtype={accumulate})",
    ]
    args = ", ".join([*map(_argument, c.reads), f"v{k.out}", f"parts_{c.name}"])
    after = [f"    parts_{c.name} = parts_{c.name}.sum(0)"]
    for node, at, shape in made.slices:
        count = math.prod(shape)
        after.append(
            f"    v{node} = parts_{c.name}[{at}:{at + count}].reshape{tuple_text(shape)}"
            ".to(inputs[0].dtype)"
        )
    return before, f"        _launch({how}, {args})", after


def _argument(name: str) -> str:
    """A kernel's parameter in the words of ``run``."""
    words = {"v": "{}", "w": "values[{}]", "m": "tables[{}]"}
    return name if name[0] == "v" else words[name[0]].format(name[1:])


def _outer(graph: Graph, k: Kernel) -> str:
    """Gradient of values: one library contraction over the batch (cuBLAS)."""
    node = graph.nodes[k.out]
    assert isinstance(node, Outer)
    s = node.spec
    total_digits = len(s.sizes)
    return (
        f"v{k.out} = torch.einsum("
        f"v{node.x}.reshape(T, {tuple_text(s.shape(s.x))[1:-1]}), {[total_digits, *s.x]}, "
        f"v{node.g}.reshape(T, {tuple_text(s.shape(s.y))[1:-1]}), {[total_digits, *s.y]}, "
        f"{list(s.w)})"
    )
