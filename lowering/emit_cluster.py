"""emit (cluster): a kernel for two contractions whose values stay in registers."""

from __future__ import annotations

from dataclasses import replace

from structmat.kernels.cluster import ROWS, served
from structmat.lowering.emit_cuda import CudaKernel
from structmat.lowering.ir import Contract, Graph
from structmat.lowering.plan import Kernel

__all__ = ["cluster_kernel"]


def cluster_kernel(graph: Graph, k: Kernel, name: str, dtype: str) -> CudaKernel:
    """The source of a cluster kernel of a plan."""
    first, second = (graph.nodes[r] for r in k.roots)
    assert isinstance(first, Contract)
    assert isinstance(second, Contract)
    config, reason = served(first.spec, second.spec, dtype)
    assert config is not None, reason
    config = replace(config, name=name)
    reads = (f"v{first.x}", f"w{first.w}", f"w{second.w}")
    what = f"// {first}; {second}\n"
    return CudaKernel(
        name,
        what + config.source(),
        reads,
        config.threads,
        config.shared,
        ROWS,
        config.cluster,
        alone=True,
    )
