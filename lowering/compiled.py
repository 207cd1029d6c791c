"""sm.compile: an operator as a fast function.

Compilation sees the structure alone. The numbers are read when the function is called: the
tensors of the chain are made from the operator's tensors by a traced function of plain torch
operations (views, casts, and what simplification folded), which is cached while nothing changes
and recorded by autograd while something learns. So ``f`` follows in-place updates of the
parameters, and gradients reach every tensor of the expression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from structmat.linalg.implicit import plain
from structmat.linalg.result import SingularError
from structmat.lowering import ops as _ops  # noqa: F401  (registers structmat::apply)
from structmat.lowering.backends import BACKENDS, choose_backend
from structmat.lowering.given import check_given
from structmat.lowering.ir import Apply, Graph
from structmat.lowering.passes import merge_index_maps
from structmat.lowering.plan import Plan
from structmat.lowering.program import Program, describe_device
from structmat.lowering.record import Recorded, precision_for, record, to_chain
from structmat.lowering.replay import kept, recorded
from structmat.lowering.stages import stage_texts, title_of
from structmat.lowering.verify import check_chain
from structmat.operator import LinearOperator, as_tensor
from structmat.rules.engine import simplify
from structmat.rules.table import Step

__all__ = ["Compiled", "compile"]


def _mapped(tensors: Sequence[Tensor]) -> bool:
    return any(torch._C._functorch.is_functorch_wrapped_tensor(t) for t in tensors)


def _forward_mode(tensors: Iterable[Tensor]) -> bool:
    """Whether torch carries directional derivatives (jvp) of one of the tensors."""
    return forward_ad._current_level >= 0 and any(
        torch._C._functorch.is_functorch_wrapped_tensor(t)
        or forward_ad.unpack_dual(t).tangent is not None
        for t in tensors
    )


@dataclass(frozen=True)
class _Chain:
    """A recorded chain, and its values as a function of the operator's tensors."""

    graph: Graph
    notes: tuple[str, ...]
    prepare: Callable[..., Sequence[Tensor]]

    def check(self, values: Sequence[Tensor]) -> None:
        """Raise where the factors of a matrix are those of a singular one."""
        for node in self.graph.nodes:
            if not isinstance(node, Apply) or node.w is None or not plain(values[node.w]):
                continue
            found = node.op.singular(values[node.w].detach())
            if found is not None and bool(found.any()):
                raise SingularError(f"f(x): a matrix of {node.op.ins} rows is singular")


class Compiled:
    """A compiled operator: ``f(x) == A(x)``, differentiable in x and in the tensors of A.

    Made by :func:`structmat.compile`. The batch is dynamic; a new dtype or device compiles anew.
    Forward mode (``torch.func.jvp``, ``jacfwd``) goes through A itself: programs have backward
    passes only.

    Args:
        operator: A.
        backend: ``"auto"``, ``"torch"``, ``"triton"`` or ``"cuda"``.
        plan: of the forward pass, see :func:`structmat.compile`.

    Raises:
        TypeError: A is not an operator.
        ValueError: unknown backend, or a plan that is not one of A.

    Example:
        >>> import torch, structmat as sm
        >>> f = sm.compile(sm.reversal(3))
        >>> f(torch.arange(3.0))
        tensor([2., 1., 0.])

    Attributes:
        operator: A.
        simplified: what the rules made of it.
        steps: the rules that fired.
        given: the plan that was given.
    """

    def __init__(self, operator: LinearOperator, backend: str, plan: Plan | None = None) -> None:
        if not isinstance(operator, LinearOperator):
            raise TypeError(f"compile: {type(operator).__name__} is not an operator")
        if backend not in BACKENDS:
            raise ValueError(f"compile: backend {backend!r} is none of {', '.join(BACKENDS)}")
        self.operator = operator
        self.backend = backend
        self.steps: list[Step]
        with torch.no_grad():
            self.simplified, self.steps = simplify(operator, trace=True)
            recorded = record(self.simplified)
        self._tensors = list(operator.parameters())
        self._own = self._recorded(recorded, None)
        self._chains: dict[torch.dtype, _Chain] = {operator.dtype: self._own}
        self.given = plan
        if plan is not None:
            if not isinstance(plan, Plan):
                raise TypeError(f"compile: plan is a {type(plan).__name__}, not a Plan")
            check_given(plan, self.graph, describe_device(operator.device))
        self._programs: dict[tuple[torch.dtype, torch.device, bool], tuple[Program, str]] = {}
        self._cached: dict[torch.dtype, tuple[Any, list[Tensor]]] = {}
        self._last: tuple[torch.dtype, torch.device, bool] | None = None
        self._shape, self._batch = operator.shape, operator.batch_shape
        self._strong = operator.strong_dtype
        if backend in ("auto", "torch"):
            self.program(operator.dtype, operator.device)  # torch.compile finds it made

    # values ------------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The recorded chain."""
        return self._own.graph

    @property
    def notes(self) -> tuple[str, ...]:
        """How each part acts that has no words of its own, such as an inverse."""
        return self._own.notes

    def _recorded(self, recorded: Recorded, precision: torch.dtype | None) -> _Chain:
        check_chain(recorded.graph)
        prepare = self._trace(recorded.values, precision)
        return _Chain(recorded.graph, recorded.notes, prepare)

    def _chain(self, dtype: torch.dtype) -> _Chain:
        """The chain for vectors of a dtype.

        One whose tensors are made in its precision, see :func:`precision_for`.
        """
        have = self._chains.get(dtype)
        if have is None:
            have, precision = self._own, precision_for(self.operator, dtype)
            if have.notes and precision != self.operator.dtype:
                with torch.inference_mode(False), torch.no_grad():
                    recorded = record(simplify(self.operator.to(precision)))
                have = self._recorded(recorded, precision)
            self._chains[dtype] = have
        return have

    def _trace(
        self, values: Sequence[Tensor], precision: torch.dtype | None
    ) -> Callable[..., Sequence[Tensor]]:
        """The chain's values as a function of the operator's tensors, cast to ``precision``."""
        tensors = self._tensors
        number = {id(t): i for i, t in enumerate(tensors)}
        if all(id(v) in number for v in values):
            picks = [number[id(v)] for v in values]
            return lambda *ts: [ts[i] for i in picks]

        def chain_values(*ts: Tensor) -> list[Tensor]:
            swapped = self.operator._map(lambda t: ts[number[id(t)]], None)
            if precision is not None:
                swapped = swapped.to(precision)
            return to_chain(simplify(swapped))[1]

        if _mapped(tensors):  # inside torch.vmap: a trace would keep this call's numbers
            return chain_values
        return recorded(chain_values, tensors)

    def _values(self, dtype: torch.dtype) -> list[Tensor]:
        tensors, chain = self._tensors, self._chain(dtype)
        learning = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        if torch.compiler.is_compiling() or learning or _mapped(tensors):
            made = [v.to(dtype).contiguous() for v in chain.prepare(*tensors)]
            if chain.notes and not torch.compiler.is_compiling():
                chain.check(made)
            return made
        stamp = tuple((t._version, t.data_ptr()) for t in tensors if not t.is_inference())
        have = self._cached.get(dtype)
        if have is None or have[0] != stamp or len(stamp) != len(tensors):
            # for calls that record gradients, too, and for those outside of autocast
            with kept(tensors):
                made = [v.to(dtype).contiguous() for v in chain.prepare(*tensors)]
                chain.check(made)
            have = stamp, made
            self._cached[dtype] = have
        return have[1]

    # running -----------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n) of the operator."""
        return self.operator.shape

    def program(self, dtype: torch.dtype, device: torch.device, columns: bool = False) -> Program:
        """The program for a dtype and device, compiled at first use.

        Args:
            dtype: of x and of the values.
            device: where x is.
            columns: vectors are columns, which the torch backend can do without transposing.

        Raises:
            RuntimeError: the backend cannot serve them.
        """
        have = self._programs.get((dtype, device, columns))
        if have is None:
            if torch.compiler.is_compiling():
                raise RuntimeError(
                    f"{self!r} has no program for {dtype} on {device} yet: "
                    "call it once on such an x before torch.compile traces it"
                )
            graph = self._chain(dtype).graph
            backend, reason = choose_backend(self.backend, device, dtype, graph)
            title = title_of(self.operator, dtype)
            plan = self._plan_for(dtype, backend, reason)
            have = Program(graph, backend, dtype, device, title, columns, plan), reason
            self._programs[dtype, device, columns] = have
        return have[0]

    def _plan_for(self, dtype: torch.dtype, backend: str, reason: str) -> Plan | None:
        """The given plan, where it is for this dtype."""
        plan = self.given
        if plan is None or str(dtype) != f"torch.{plan.dtype}":
            return None
        if backend != plan.backend:
            way = f"compile(A, backend={plan.backend!r}, plan=plan)"
            raise RuntimeError(
                f"the plan is for the {plan.backend} backend, and {backend} runs here ({reason}); "
                f"{way if plan.backend in BACKENDS else 'it needs a GPU'}, or no plan"
            )
        return plan

    def __call__(self, x: Any) -> Tensor:
        """Act on the last dimension, as ``A(x)``.

        Args:
            x: (..., n); leading dimensions broadcast with A's batch shape.

        Returns:
            (..., m).

        Raises:
            TypeError: integer x.
            ValueError: the last dimension is not n.
            RuntimeError: an explicit backend that cannot serve x.
        """
        m, n = self._shape
        batch, strong = self._batch, self._strong
        if not isinstance(x, Tensor) or x.shape[-1:] != (n,) or not x.dtype.is_floating_point:
            x = as_tensor(x, "x", allow_integer=True)
            self.operator._check_input(x, -1, "f(x)")
        if _forward_mode((x, *self._tensors)):
            return self.operator(x)
        dtype = x.dtype
        if strong is not None and strong != dtype:
            dtype = torch.promote_types(dtype, strong)
        lead = torch.broadcast_shapes(x.shape[:-1], batch) if batch else x.shape[:-1]
        if batch:
            x = x.expand(*lead, n)
        outer = lead[: len(lead) - len(batch)]
        many = math.prod(batch)
        rows = x.to(dtype).reshape(math.prod(outer), many * n)
        program = self.program(dtype, x.device)
        self._last = dtype, x.device, False
        values = self._values(dtype)
        y: Tensor = torch.ops.structmat.apply(rows, values, program.key)
        return y.reshape(*lead, m)

    def __matmul__(self, x: Any) -> Tensor:
        """Columns: x (n,) or (..., n, b), as ``A @ x``.

        Inside ``torch.compile`` write ``f(x.mT).mT``: Dynamo does not trace ``@`` between an object
        and a tensor.
        """
        n = self._shape[1]
        fits = isinstance(x, Tensor) and x.ndim == 2 and x.shape[0] == n
        if not fits or not x.dtype.is_floating_point:
            x = as_tensor(x, "x", allow_integer=True)
            if x.ndim == 1:
                return self(x)
            self.operator._check_input(x, -2, "f @ x")
        if _forward_mode((x, *self._tensors)):
            direct: Tensor = self.operator.__matmul__(x)
            return direct
        if x.ndim == 2 and x.stride(1) == 1 and not self._batch:
            dtype = x.dtype if self._strong is None else torch.promote_types(x.dtype, self._strong)
            program = self._columns(dtype, x.device)
            if program is not None:
                self._last = dtype, x.device, True
                y: Tensor = torch.ops.structmat.apply(x.to(dtype), self._values(dtype), program.key)
                return y
        rows = x.mT
        if not self._batch:
            return self(rows).mT
        # every operator of the batch meets every column: columns lead, the batch is shared
        lead = torch.broadcast_shapes(rows.shape[:-2], self._batch)
        rows = rows.expand(*lead, *rows.shape[-2:]).movedim(-2, 0)
        return self(rows).movedim(0, -2).mT

    def _columns(self, dtype: torch.dtype, device: torch.device) -> Program | None:
        """The program for columns, where there is one that does not transpose."""
        have = self._programs.get((dtype, device, True))
        if have is not None:
            return have[0]
        unmade = torch.compiler.is_compiling()  # rows always have a program
        if unmade:
            return None
        graph = self._chain(dtype).graph
        if choose_backend(self.backend, device, dtype, graph)[0] != "torch":
            return None
        return self.program(dtype, device, columns=True)

    # reading -----------------------------------------------------------------------------------

    def _current(self) -> Program:
        return self.program(*self._used())

    def _used(self) -> tuple[torch.dtype, torch.device, bool]:
        """What ran last, or would run on A's own dtype and device."""
        return self._last or (self.operator.dtype, self.operator.device, False)

    @property
    def source(self) -> str:
        """The generated module that ran last (or would run on A's dtype and device).

        Triton modules run by themselves: ``python file.py`` checks them on random data.
        """
        return self._current().forward.source

    @property
    def plan(self) -> Plan:
        """The tiled plan behind ``source``."""
        return self._current().forward.lowered.plan

    @property
    def stages(self) -> dict[str, str]:
        """Text of the expression after each pass, by the pass's name."""
        program = self._current()
        graph = self._chain(self._used()[0]).graph
        return stage_texts(self.simplified, graph, program.forward.lowered, program.dtype)

    def passes(self) -> list[tuple[str, str, str]]:
        """(name, text before, text after) of each pass, in order; see :attr:`stages`.

        Example:
            >>> import structmat as sm
            >>> f = sm.compile(sm.Identity(2) @ sm.reversal(2))
            >>> f.passes()[0][::2]
            ('simplify', 'Permutation(affine(1*i + 1 mod 2))')
        """
        texts = self.stages
        before = [self.operator._label(), *texts.values()]
        return [(k, b, after) for (k, after), b in zip(texts.items(), before, strict=False)]

    def explain(self, batch: int = 1024) -> str:
        """What happened to the expression, stage by stage, and what runs.

        Args:
            batch: number of vectors for the bytes and flops of each kernel.

        Returns:
            Text: expression, rules that fired, chain, plan, backend with its reason.

        Example:
            >>> import torch, structmat as sm
            >>> f = sm.compile(sm.reversal(4) @ sm.reversal(4))
            >>> print(f.explain().splitlines()[0])
            expression  Permutation(affine(3*i + 3 mod 4)) @ Permutation(affine(3*i + 3 mod 4))
        """
        program = self._current()
        reason = self._programs[self._used()][1]
        dtype = self._used()[0]
        chain = self._chain(dtype)
        c = self.operator.cost(batch)
        s = self.simplified.cost(batch)
        size = torch.empty(0, dtype=dtype).element_size()
        lines = [f"expression  {self.operator._label()}"]
        lines.append(f"            {c.params} params, {c.flops / 1e6:.3f} Mflop at batch {batch}")
        for step in self.steps:
            lines.append(f"rule        {step.rule.name}: {step.before._label()}")
            lines.append(f"            -> {step.after._label()}")
        if self.steps:
            lines.append(f"simplified  {self.simplified._label()}")
            lines.append(
                f"            {s.params} params, {s.flops / 1e6:.3f} Mflop at batch {batch}"
            )
        lines.extend(f"{'how':<12}{note}" for note in chain.notes)
        sections = (
            ("chain", str(merge_index_maps(chain.graph))),
            ("plan", program.forward.lowered.plan.describe(size, batch)),
        )
        for name, text in sections:
            for i, line in enumerate(text.splitlines()):
                lines.append(f"{name if i == 0 else '':<12}{line}")
        lines.append(f"backend     {program.backend} on {program.device.name}, {dtype}: {reason}")
        if self.given is not None:
            used = self._plan_for(dtype, program.backend, reason) is not None
            lines.append(f"given plan  for {self.given.dtype}: {'used' if used else 'not used'}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Compiled({self.operator._label()}, backend={self.backend!r})"


def compile(operator: LinearOperator, backend: str = "auto", plan: Plan | None = None) -> Compiled:
    """Compile an operator to a function with the same values and gradients.

    The expression is simplified, recorded as a chain of indexed block contractions, fused, and
    emitted as source for the backend; see :meth:`Compiled.explain`. Generated modules are kept on
    disk (``$STRUCTMAT_CACHE``).

    Args:
        operator: A.
        backend: ``"auto"`` (on a GPU CUDA C++ and Triton where they serve, torch elsewhere),
            ``"torch"``, ``"triton"`` or ``"cuda"``; an explicit backend never falls back.
        plan: of the forward pass, from ``f.plan`` or ``Plan.from_json``, with tiles or kinds of
            kernels changed; it is checked against A and then taken as it is, for the dtype and
            backend it was made for. Gradients have plans of their own.

    Returns:
        :class:`structmat.lowering.Compiled`: ``f(x) == A(x)``.

    Raises:
        TypeError: A is not an operator.
        ValueError: unknown backend; a plan of another expression, or that cannot run.
        RuntimeError: a plan for another backend than the one that runs here.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Monarch(torch.ones(2, 2, 2), torch.ones(2, 2, 2)) @ sm.Diagonal(torch.ones(4))
        >>> f = sm.compile(A)
        >>> f(torch.arange(4.0))
        tensor([6., 6., 6., 6.])
    """
    return Compiled(operator, backend, plan)
