"""Which backend serves a chain: by device, dtype, what is installed, and what the chain holds.

``"gpu"`` is not asked for by name: its modules hold Triton and CUDA C++ kernels side by side, and
the plan takes whichever kind is faster for a group of nodes.
"""

from __future__ import annotations

import importlib.util
import os

import torch

from structmat.lowering.ir import Apply, Graph, Input
from structmat.lowering.passes import choose_layouts, merge_index_maps
from structmat.lowering.plan import CUDA_KINDS, Device, fuse, join_clusters
from structmat.lowering.program import describe_device

__all__ = ["BACKENDS", "choose_backend", "has_cuda_core", "has_triton"]

BACKENDS = ("auto", "torch", "triton", "cuda")
TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
CUDA_DTYPES = (*TRITON_DTYPES, torch.float64)


def has_triton() -> bool:
    """Whether Triton can be imported, without importing it."""
    return importlib.util.find_spec("triton") is not None


def has_cuda_core() -> bool:
    """Whether cuda.core, which compiles CUDA C++ by NVRTC, can be imported."""
    return importlib.util.find_spec("cuda") is not None and (
        importlib.util.find_spec("cuda.core") is not None
    )


def choose_backend(
    wanted: str,
    device: torch.device,
    dtype: torch.dtype,
    graph: Graph,
    offline: Device | None = None,
) -> tuple[str, str]:
    """The backend that serves this chain, and why.

    Args:
        wanted: one of ``BACKENDS``.
        device: where x is.
        dtype: of x and of the values.
        graph: the recorded chain.
        offline: source is written for this device, on another machine: what is installed here
            does not matter.

    Returns:
        ``"torch"``, ``"triton"``, ``"cuda"`` or ``"gpu"``, and the reason.

    Raises:
        RuntimeError: an explicit backend that cannot serve this device, dtype or chain.
    """
    if wanted == "torch":
        return "torch", "asked for"
    if wanted == "triton":
        return "triton", _triton(device, dtype, graph, offline)
    if wanted == "cuda":
        return "cuda", _cuda(device, dtype, graph, offline)
    if device.type != "cuda":
        return "torch", f"x is on {device.type}: library calls are the fast path there"
    inside = frozenset[int]()
    if (offline or has_cuda_core()) and dtype in CUDA_DTYPES:
        inside = _inside(graph, dtype, offline or describe_device(device))
    library = _library_calls(graph, inside)
    if library:
        return "torch", f"{library} runs in library calls"
    if inside and not _outside(graph, inside):
        return "gpu", f"x is on cuda in {dtype}: one launch, the vector on chip, in CUDA C++"
    if not offline and not has_triton():
        return "torch", "Triton is not installed"
    if dtype not in TRITON_DTYPES:
        return "torch", f"{dtype} products run in the vendor's libraries"
    if inside:
        return "gpu", f"x is on cuda in {dtype}: fused kernels, CUDA C++ and Triton"
    return "triton", f"x is on {device.type} in {dtype}: fused kernels"


def _triton(device: torch.device, dtype: torch.dtype, graph: Graph, offline: Device | None) -> str:
    if not offline and not has_triton():
        raise RuntimeError("backend='triton': Triton is not installed; pip install triton")
    library = _library_calls(graph)
    if library:
        raise RuntimeError(
            f"backend='triton': {library} runs in library calls; use backend='torch'"
        )
    if dtype.is_complex:
        raise RuntimeError(
            f"backend='triton': Triton has no {dtype}; use backend='torch' for complex numbers"
        )
    if device.type == "cuda":
        return "asked for"
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError(
            f"backend='triton': x is on {device}; move it to a GPU, use backend='torch', or "
            "set TRITON_INTERPRET=1 to run Triton's interpreter"
        )
    return "asked for, interpreted"


def _cuda(device: torch.device, dtype: torch.dtype, graph: Graph, offline: Device | None) -> str:
    if device.type != "cuda":
        raise RuntimeError(
            f"backend='cuda': x is on {device}; move it to a GPU, or use backend='torch'"
        )
    if not offline and not has_cuda_core():
        raise RuntimeError(
            "backend='cuda': cuda.core is not installed; pip install 'structmat[cuda]'"
        )
    if dtype not in CUDA_DTYPES:
        raise RuntimeError(f"backend='cuda': no kernels for {dtype}; use backend='torch'")
    outside = _outside(graph, _inside(graph, dtype, offline or describe_device(device)))
    if outside:
        raise RuntimeError(
            f"backend='cuda': no CUDA kernel makes {outside}; CUDA C++ serves contractions of 2, 4 "
            "or 8 entries on vectors of up to 2^15 and, on Hopper, square Monarch matrices of 16, "
            "32 or 64 blocks in 16 bits; use backend='auto'"
        )
    return "asked for"


def _inside(graph: Graph, dtype: torch.dtype, device: Device) -> frozenset[int]:
    """The nodes that CUDA kernels make."""
    name = str(dtype).removeprefix("torch.")
    plan = fuse(choose_layouts(merge_index_maps(graph)), "cuda", name, device)
    plan = join_clusters(plan, name, device)
    mine = [k for k in plan.kernels if k.kind in CUDA_KINDS]
    return frozenset(v for k in mine for v in k.roots)


def _outside(graph: Graph, inside: frozenset[int]) -> str:
    """The first node that no CUDA kernel makes."""
    nodes = choose_layouts(merge_index_maps(graph)).nodes
    rest = (nd for v, nd in enumerate(nodes) if v not in inside and not isinstance(nd, Input))
    return str(next(rest, ""))


def _library_calls(graph: Graph, inside: frozenset[int] = frozenset()) -> str:
    """The primitives of a chain that have no kernel, by name."""
    nodes = choose_layouts(merge_index_maps(graph)).nodes if inside else graph.nodes
    kept = (n.op for v, n in enumerate(nodes) if isinstance(n, Apply) and v not in inside)
    return ", ".join(sorted({op.name for op in kept}))
