"""A program: a chain lowered for one dtype, device and backend, with its gradients.

Programs live in a table by key; ``torch.library`` operators name them. The gradient for each
subset of arguments is lowered when it is first asked for, through the same passes, from the
adjoint of the merged chain.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from structmat._version import __version__
from structmat.lowering import cache
from structmat.lowering.adjoint import adjoint
from structmat.lowering.ir import Gradient, Graph
from structmat.lowering.passes import merge_index_maps
from structmat.lowering.pipeline import Lowered, lower
from structmat.lowering.plan import Device, Plan
from structmat.tables import Indices, index_tensor

__all__ = ["Program", "describe_device"]


def describe_device(device: torch.device) -> Device:
    """What the planner may know of a device."""
    if device.type != "cuda":
        return Device(name=device.type)
    p = torch.cuda.get_device_properties(device)
    return Device(
        name=f"{p.name} sm_{p.major}{p.minor}",
        sms=p.multi_processor_count,
        capability=10 * p.major + p.minor,
        shared=p.shared_memory_per_block_optin,  # type: ignore[attr-defined]
    )


def _versions(backend: str) -> str:
    text = f"structmat {__version__} torch {torch.__version__}"
    packages = {"triton": ("triton",), "cuda": ("cuda-core",), "gpu": ("triton", "cuda-core")}
    for name in packages.get(backend, ()):
        try:
            text += f" {name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:  # a plan may do without one of the two
            text += f" no {name}"
    return text


class _Runner:
    """One generated module and its tables on each device."""

    def __init__(
        self,
        graph: Graph,
        backend: str,
        dtype: str,
        device: Device,
        title: str,
        columns: bool,
        plan: Plan | None = None,
    ) -> None:
        self.arguments = (graph, backend, dtype, device, title, columns, plan)
        versions = _versions(backend)
        given = "" if plan is None else plan.to_json()
        self.key = cache.digest(
            graph, graph.shapes, backend, dtype, device, columns, versions, given
        )
        self._lowered: Lowered | None = None
        found = cache.find(self.key)
        if found is None:
            made = self.lowered
            found = made.source, made.tables
            try:
                about = {"title": title, "backend": backend, "dtype": dtype, "device": device.name}
                cache.store(self.key, *found, about)
            except OSError:
                pass  # an unwritable cache costs time in the next process, nothing else
        self.source: str = found[0]
        self.maps: tuple[Indices, ...] = found[1]
        self.run = cache.load(self.key, self.source)
        self.tables: dict[torch.device, list[Tensor]] = {}

    @property
    def lowered(self) -> Lowered:
        """Plan and source, lowered again where the source came from disk."""
        if self._lowered is None:
            self._lowered = lower(*self.arguments)
        return self._lowered

    def __call__(self, inputs: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
        device = inputs[0].device
        if device not in self.tables:
            made = [index_tensor(m, device) for m in self.maps]
            narrow = self.arguments[1] != "torch"  # kernels read int32
            self.tables[device] = [t.int() for t in made] if narrow else made
        out: list[Tensor] = self.run(inputs, values, self.tables[device])
        return [_own(o, inputs) for o in out]


def _own(y: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """Contiguous, and never a view of an input: an operator's result is its own."""
    y = y.contiguous()
    shared = any(_same(x, y) for x in inputs)
    return y.clone() if shared else y


def _same(x: Tensor, y: Tensor) -> bool:
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


class Program:
    """A lowered chain; ``run`` maps rows (t, n), or columns (n, t), and values to the like.

    Args:
        graph: the recorded chain.
        backend: ``"torch"``, ``"triton"``, ``"cuda"`` or ``"gpu"``.
        dtype: common dtype of rows and values.
        device: where it runs.
        title: first line of generated modules.
        columns: vectors are columns; the torch backend alone.
        plan: of the forward chain, for this backend and dtype; by default the planner's.
    """

    _TABLE: ClassVar[dict[str, Program]] = {}

    def __init__(
        self,
        graph: Graph,
        backend: str,
        dtype: torch.dtype,
        device: torch.device,
        title: str,
        columns: bool = False,
        plan: Plan | None = None,
    ) -> None:
        self.graph = merge_index_maps(graph)
        self.backend = backend
        self.dtype = str(dtype).removeprefix("torch.")
        self.device = describe_device(device)
        self.title = title
        self.columns = columns
        self.forward = self._runner(self.graph, title, plan)
        self.key = self.forward.key
        self._gradients: dict[tuple[bool, ...], _Runner] = {}
        self._graphs: dict[tuple[bool, ...], tuple[Graph, list[tuple[int, ...] | None]]] = {}
        self.size = self.graph.nodes[self.graph.outputs[0]].size
        Program._TABLE[self.key] = self

    def _runner(self, graph: Graph, title: str, plan: Plan | None = None) -> _Runner:
        return _Runner(graph, self.backend, self.dtype, self.device, title, self.columns, plan)

    @classmethod
    def named(cls, key: str) -> Program:
        """The program of a key.

        Raises:
            KeyError: it was compiled in another process; call ``sm.compile`` here first.
        """
        try:
            return cls._TABLE[key]
        except KeyError:
            raise KeyError(
                f"no structmat program {key} in this process; run sm.compile(A)(x) once before "
                "calling a graph that was captured elsewhere"
            ) from None

    def run(self, inputs: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
        """Rows (t, n) -> [rows (t, m)], or columns (n, t) -> [columns (m, t)]."""
        return self.forward([t.contiguous() for t in inputs], [v.contiguous() for v in values])

    def gradient_graph(self, need: tuple[bool, ...]) -> tuple[Graph, list[tuple[int, ...] | None]]:
        """The gradient chain for the arguments (x, values...) marked in ``need``.

        Returns:
            The graph, and for each output the shape of its tensor (None for rows).
        """
        if need not in self._graphs:
            whole = adjoint(self.graph)
            at = {nd.w: o for o in whole.outputs[1:] if isinstance(nd := whole.nodes[o], Gradient)}
            kept = ([whole.outputs[0]] if need[0] else []) + [
                at[w] for w, n in enumerate(need[1:]) if n and w in at
            ]
            shapes: list[tuple[int, ...] | None] = [None] * bool(need[0])
            shapes += [self.graph.shapes[w] for w, n in enumerate(need[1:]) if n and w in at]
            graph = Graph(whole.nodes, tuple(kept), whole.shapes).pruned()
            self._graphs[need] = merge_index_maps(graph), shapes
        return self._graphs[need]

    def gradients(
        self, x: Tensor, g: Tensor, values: Sequence[Tensor], need: tuple[bool, ...]
    ) -> list[Tensor]:
        """Gradients for the arguments marked in ``need``, in order, shaped like them."""
        graph, _ = self.gradient_graph(need)
        if need not in self._gradients and graph.outputs:
            title = f"gradient of {self.title}"
            self._gradients[need] = self._runner(graph, title)
        made: dict[int, Tensor] = {}
        if graph.outputs:
            outs = self._gradients[need]([x.contiguous(), g.contiguous()], list(values))
            rest = list(outs)
            if need[0]:
                made[0] = rest.pop(0)
            for o, t in zip(graph.outputs[bool(need[0]) :], rest, strict=True):
                node = graph.nodes[o]
                assert isinstance(node, Gradient)
                made[node.w + 1] = t.reshape(values[node.w].shape).contiguous()
        arguments = [x, *values]
        return [
            made[i] if i in made else torch.zeros_like(arguments[i])
            for i, n in enumerate(need)
            if n
        ]
