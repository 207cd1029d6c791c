"""A function of tensors as the straight line of torch operations that it ran.

The function runs once on real tensors, and every operation below autograd is written down in a
``torch.fx`` graph: what runs afterwards on other tensors is these operations, which autograd and
``torch.compile`` follow. Decisions that the function made are part of the line, so that it must
decide by shapes and never by numbers. Tensors that it did not make are constants.

This is what ``make_fx`` does, which also finds the fake version of every result and imports all of
``torch._dynamo`` to do so: a millisecond an operation, and seconds once in a process.
Source: https://docs.pytorch.org/docs/stable/fx.html, TorchDispatchMode in torch.utils.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["recorded"]


def recorded(
    function: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor]
) -> Callable[..., Sequence[Tensor]]:
    """The operations that ``function`` runs on ``tensors``, as a function.

    Args:
        function: of tensors, to a list of tensors; decides by shapes alone.
        tensors: an example of its arguments, which the result holds no reference to.

    Raises:
        RuntimeError: the function reads a number.
    """
    with torch.inference_mode(False), torch.no_grad():
        inputs = [t.detach() for t in tensors]
        recorder = _Recorder(inputs)
        with recorder:
            outputs = function(*inputs)
    return recorder.finished(list(outputs))


class _Recorder(TorchDispatchMode):
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = Graph()
        self.constants: dict[str, Tensor] = {}
        self.nodes: dict[int, tuple[Tensor, Node]] = {}
        """By identity of the tensor, which is kept so that no other one takes its place."""
        for i, t in enumerate(inputs):
            self.nodes[id(t)] = t, self.graph.placeholder(f"t{i}")

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No import of torch._dynamo, which would only learn not to compile this mode."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.data_dependent_output in func.tags:
            raise RuntimeError(
                f"compile: {func} reads a number of a tensor, which other tensors of the same "
                "structure do not share; simplification and _lower decide by structure alone"
            )
        to = pytree.tree_map_only(Tensor, self._node, (args, kwargs))
        out = func(*args, **kwargs)
        if not any(isinstance(part, Tensor) for part in pytree.tree_leaves(out)):
            return out  # dtypes, sizes: part of the decisions
        node = self.graph.call_function(func, *to)
        if isinstance(out, Tensor):
            self.nodes[id(out)] = out, node
        elif isinstance(out, tuple | list):
            for i, part in enumerate(out):
                if isinstance(part, Tensor):
                    made = self.graph.call_function(operator.getitem, (node, i))
                    self.nodes[id(part)] = part, made
        return out

    def _node(self, t: Tensor) -> Node:
        if id(t) not in self.nodes:
            name = f"constant{len(self.constants)}"
            self.constants[name] = t
            self.nodes[id(t)] = t, self.graph.get_attr(name)
        return self.nodes[id(t)][1]

    def finished(self, outputs: list[Tensor]) -> GraphModule:
        self.graph.output([self._node(t) for t in outputs])
        return GraphModule(self.constants, self.graph, "Values")
