"""Lowering for a device that is not here: sizes in, source out.

Nothing is run and no tensor has entries, so that this works for sizes and devices that this
machine has not; Triton need not be installed, because emission writes text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from structmat.lowering.adjoint import adjoint
from structmat.lowering.backends import choose_backend
from structmat.lowering.ir import Graph
from structmat.lowering.passes import merge_index_maps
from structmat.lowering.pipeline import Lowered, lower
from structmat.lowering.plan import H100, Device
from structmat.lowering.record import precision_for, record
from structmat.lowering.stages import stage_texts, title_of
from structmat.lowering.verify import check_chain
from structmat.operator import LinearOperator
from structmat.rules.engine import simplify
from structmat.rules.table import Step

__all__ = ["ARCHITECTURES", "Architecture", "Offline", "lower_offline"]


@dataclass(frozen=True)
class Architecture:
    """A family of devices, by the member that the planner has in mind.

    Attributes:
        capability: compute capability, 90 for 9.0.
        device: what the planner may use; shared memory from the CUDA C++ Programming Guide, table
            of technical specifications for each compute capability.
    """

    capability: int
    device: Device


# Multiprocessors: NVIDIA's architecture papers on the A100, Ada (L40S) and the H100 (SXM5).
ARCHITECTURES = {
    "sm_80": Architecture(80, Device("NVIDIA A100 sm_80", 108, 163 * 1024, 80)),
    "sm_89": Architecture(89, Device("NVIDIA L40S sm_89", 142, 99 * 1024, 89)),
    "sm_90": Architecture(90, H100),
}
"""By the name that the compiler of CUDA gives them."""


@dataclass(frozen=True)
class Offline:
    """An expression lowered to source.

    Attributes:
        operator: as written.
        simplified: what the rules made of it.
        steps: the rules that fired.
        graph: the recorded chain.
        notes: how each part acts that has no words of its own, such as an inverse.
        backend: that serves it.
        reason: why that one.
        dtype: torch's name of the dtype of rows and values.
        forward: the chain of the operator, lowered.
        gradient: the chain of the gradients for x and for every tensor, lowered; None where the
            backend does not serve it.
        refusal: why, then.
    """

    operator: LinearOperator
    simplified: LinearOperator
    steps: list[Step]
    graph: Graph
    notes: tuple[str, ...]
    backend: str
    reason: str
    dtype: str
    forward: Lowered
    gradient: Lowered | None
    refusal: str = ""

    @property
    def modules(self) -> dict[str, Lowered]:
        """``"forward"`` and, where there is one, ``"gradient"``."""
        gradient = {} if self.gradient is None else {"gradient": self.gradient}
        return {"forward": self.forward, **gradient}

    def stages(self, batch: int = 1024) -> dict[str, str]:
        """Text of the expression after each pass, by the pass's name."""
        return stage_texts(self.simplified, self.graph, self.forward, self.dtype, batch)


def lower_offline(
    operator: LinearOperator,
    backend: str = "auto",
    dtype: torch.dtype = torch.bfloat16,
    architecture: Architecture = ARCHITECTURES["sm_90"],
) -> Offline:
    """Lower an operator, whose tensors may be on the ``"meta"`` device.

    Args:
        operator: A, of concrete sizes.
        backend: as for :func:`structmat.compile`.
        dtype: of x; with that of A it makes the dtype of rows and values.
        architecture: what it will run on.

    Raises:
        RuntimeError: an explicit backend that cannot serve the chain in this dtype.
        NotImplementedError: a class of the expression cannot be found by its name.
        TypeError: sizes are symbols.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.sized.Monarch(4096, nblocks=64, device="meta")
        >>> made = lower_offline(A)
        >>> made.backend, [k.kind for k in made.forward.plan.kernels]
        ('triton', ['dot', 'dot'])
    """
    operator._require_numbers()
    with torch.no_grad():
        simplified, steps = simplify(operator, trace=True)
        recorded = record(simplified)
        strong = operator.strong_dtype
        common = dtype if strong is None else torch.promote_types(dtype, strong)
        precision = precision_for(operator, common)
        if recorded.notes and precision != operator.dtype:
            simplified, steps = simplify(operator.to(precision), trace=True)
            recorded = record(simplified)
    graph = recorded.graph
    check_chain(graph)
    device = torch.device("cuda")
    chosen, reason = choose_backend(backend, device, common, graph, offline=architecture.device)
    name = str(common).removeprefix("torch.")
    merged = merge_index_maps(graph)
    title = title_of(operator, common)

    def source(chain: Graph, line: str) -> Lowered:
        return lower(chain, chosen, name, architecture.device, line)

    forward = source(merged, title)
    made = Offline(
        operator, simplified, steps, graph, recorded.notes, chosen, reason, name, forward, None
    )
    try:
        gradient = source(merge_index_maps(adjoint(merged)), f"gradient of {title}")
    except RuntimeError as error:  # as the backward pass would raise
        return replace(made, refusal=str(error))
    return replace(made, gradient=gradient)
