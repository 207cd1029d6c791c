"""A function of tensors as the straight line of torch operations that it ran.

The function runs once on real tensors, and every operation below autograd is written down in a
``torch.fx`` graph: what runs afterwards on other tensors is these operations, which autograd and
``torch.compile`` follow. Tensors that it did not make are constants, kept by reference, so that
they may change in place.

Decisions that the function made are part of the line, so that it must decide by shapes and never
by numbers. For each tensor is known whether it was made of the arguments, by an operation or by a
write into the memory it shares; reading numbers of such a tensor raises, also the readings that
torch does not count as operations (``tolist``, ``numpy``), and so does what has as many entries as
numbers say. Random numbers raise, which would be others each time, and so do writes into arguments
and constants, which would be repeated each time. What ``no_grad`` encloses is recorded without it:
derivatives end at ``detach``.

This is what ``make_fx`` does, which also finds the fake version of every result and imports all of
``torch._dynamo`` to do so: a millisecond an operation, and seconds once in a process.
Source: https://docs.pytorch.org/docs/stable/fx.html, TorchDispatchMode in torch.utils.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.fx import Graph, GraphModule, Node
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["kept", "recorded"]

READ = frozenset(
    getattr(Tensor, name)
    for name in "numpy tolist __array__ __dlpack__ __deepcopy__ __reduce_ex__".split()
)
"""Read the memory of a tensor past the operations of torch."""
BUILD = frozenset((torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor))
"""Read the tensors in a list that they are given."""


def recorded(
    function: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor]
) -> Callable[..., Sequence[Tensor]]:
    """The operations that ``function`` runs on ``tensors``, as a function.

    Args:
        function: of tensors, to a list of tensors; decides by shapes alone.
        tensors: an example of its arguments, which the result holds no reference to. Not those
            that torch.func wraps.

    Raises:
        RuntimeError: the function reads a number, draws random numbers, or writes into a tensor
            that it did not make.
    """
    with kept(tensors):
        inputs = [t.detach() for t in tensors]
        recorder = _Recorder(inputs)
        with _Reads(recorder), recorder:
            outputs = function(*inputs)
    return recorder.finished(list(outputs))


@contextmanager
def kept(tensors: Sequence[Tensor]) -> Iterator[None]:
    """For what later calls use: without the modes that are on around the first.

    Those are inference mode, gradients, transforms of torch.func and autocast.

    Args:
        tensors: what it is made of, not wrapped by torch.func.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(temporarily_clear_interpreter_stack())
        for device in filter(torch.amp.is_autocast_available, {t.device.type for t in tensors}):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _reads(what: Any) -> RuntimeError:
    return RuntimeError(
        f"compile: {what} reads a number of a tensor, which other tensors of the same "
        "structure do not share; simplification and _lower decide by structure alone"
    )


class _Recorder(TorchDispatchMode):
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = Graph()
        self.inputs = inputs
        self.constants: dict[str, Tensor] = {}
        self.nodes: Any = WeakTensorKeyDictionary()
        """The node of each tensor that still lives."""
        self.made: Any = WeakTensorKeyDictionary()
        """Whether it is made of the inputs."""
        for i, t in enumerate(inputs):
            self._put(t, self.graph.placeholder(f"t{i}"), True)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No import of torch._dynamo, which would only learn not to compile this mode."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        known = any(self.depends(t) for t in _tensors((args, kwargs)))
        self._check(func, args, kwargs, known)
        with torch._C.DisableTorchFunction():  # a kernel may read what it is given
            if func is torch.ops.aten.lift_fresh.default and args[0] not in self.nodes:
                return self._fresh(func(*args, **kwargs))
            to = pytree.tree_map_only(Tensor, self._node, (args, kwargs))
            out = func(*args, **kwargs)
        leaves = pytree.tree_leaves(out)
        if any(not isinstance(v, Tensor) and v is not None for v in leaves) and not any(
            isinstance(v, Tensor) for v in leaves
        ):
            return out  # dtypes, sizes: part of the decisions
        written = _written(func, args, kwargs)
        if known and written:  # whatever shares their memory is made of the inputs now
            for t in [t for t in self.nodes if any(_share(t, w) for w in written)]:
                self.made[t] = True
        self._results(out, self.graph.call_function(func, *to), known)
        return out

    def depends(self, t: Tensor) -> bool:
        """Whether a tensor is made of the inputs."""
        return bool(self.made.get(t, False))

    def _put(self, t: Tensor, node: Node, known: bool) -> None:
        self.nodes[t] = node
        self.made[t] = known or self.depends(t)

    def _results(self, out: Any, node: Node, known: bool) -> None:
        if isinstance(out, Tensor):
            self._put(out, node, known)
        elif isinstance(out, tuple | list):
            for i, part in enumerate(out):
                self._results(part, self.graph.call_function(operator.getitem, (node, i)), known)

    def _check(self, func: Any, args: tuple[Any, ...], kwargs: Any, known: bool) -> None:
        tags = func.tags
        if torch.Tag.nondeterministic_seeded in tags:
            raise RuntimeError(
                f"compile: {func} draws random numbers, which would be others at every call; "
                "simplification and _lower are functions of the operator's tensors"
            )
        if known and torch.Tag.data_dependent_output in tags:
            raise _reads(func)
        if known and torch.Tag.dynamic_output_shape in tags:
            picks = [t for t in _tensors(args[1:]) if t.dtype in (torch.bool, torch.uint8)]
            if func is not torch.ops.aten.index.Tensor or any(map(self.depends, picks)):
                raise _reads(func)
        foreign = [*self.inputs, *self.constants.values()]
        for w in _written(func, args, kwargs):
            if w not in self.nodes or any(_share(w, t) for t in foreign):
                raise RuntimeError(
                    f"compile: {func} writes into a tensor that was not made there, and would at "
                    "every call; simplification and _lower leave the operator's tensors as they are"
                )

    def _fresh(self, t: Tensor) -> Tensor:
        """A tensor just made of numbers: every run has one of its own to write into."""
        held = self._constant(t.clone())
        self._put(t, self.graph.call_function(torch.ops.aten.clone.default, (held,)), False)
        return t

    def _constant(self, t: Tensor) -> Node:
        name = f"constant{len(self.constants)}"
        self.constants[name] = t
        node = self.graph.get_attr(name)
        self._put(t, node, False)
        return node

    def _node(self, t: Tensor) -> Node:
        node: Node | None = self.nodes.get(t)
        if node is not None:
            return node
        if torch._C._functorch.is_functorch_wrapped_tensor(t):
            raise RuntimeError("compile: a tensor that torch.func wraps is no constant")
        return self._constant(t)

    def finished(self, outputs: list[Tensor]) -> GraphModule:
        self.graph.output([self._node(t) for t in outputs])
        return GraphModule(self.constants, self.graph, "Values")


class _Reads(TorchFunctionMode):
    """Refuses what reads numbers of tensors made of the inputs without an operation."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        read: Any = ()
        if func in READ:
            read = args[:1]
        elif func in BUILD:
            read = [a for a in (*args, *kwargs.values()) if isinstance(a, tuple | list)]
        if any(self.recorder.depends(t) for t in _tensors(read)):
            raise _reads(func.__name__)
        return func(*args, **kwargs)


def _share(a: Tensor, b: Tensor) -> bool:
    """Whether they have the same memory."""
    shared: bool = torch._C._is_alias_of(a, b)  # type: ignore[attr-defined]
    return shared


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (t for t in pytree.tree_leaves(tree) if isinstance(t, Tensor))


def _written(func: Any, args: tuple[Any, ...], kwargs: Any) -> list[Tensor]:
    """The arguments that an operation writes into."""
    if not func._schema.is_mutable:
        return []
    named = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
    outs = [a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
    return list(_tensors([named.get(name) for name in outs]))
