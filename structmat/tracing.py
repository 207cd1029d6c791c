"""What torch.compile does not read: an operator at work, and functions of integers alone.

Dynamo, the front end of ``torch.compile``, follows Python line by line. It follows how operators
are built and composed. What they do is decided by their structure, with tables, hashes, caches and
rules that it cannot follow, or only at great length:

whole        operators and tensors in, tensors out: applying, solving, determinants. Such a function
             is one node of Dynamo's graph. The next stage, AOTAutograd, runs it on tensors without
             numbers, as ``torch.export`` does, so that the products, transforms and gathers that it
             comes to are what is compiled and differentiated.
of_numbers   numbers, strings and lists of them in, static data out: the digits of a permutation.
             Such a function runs while Dynamo traces.

An operator enters a node of the graph as a pytree, whose context must be made of what Dynamo takes
for constants: :func:`spelled` says static data in literals, :func:`meant` reads them back.

Source: https://docs.pytorch.org/docs/main/compile/programming_model.dynamo_nonstrict_trace.html
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, is_dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = [
    "Sent",
    "Static",
    "blind",
    "constant",
    "meant",
    "need_static",
    "of_numbers",
    "record",
    "spelled",
    "whole",
]

P = ParamSpec("P")
R = TypeVar("R")


def constant(fn: Callable[P, R]) -> Callable[P, R]:
    """A function that Dynamo calls while it traces, and whose result it takes as a constant.

    Args:
        fn: from literals to literals; the same for the same arguments.
    """
    # what torch.compiler.assume_constant_result does, which would import Dynamo with structmat
    fn._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return fn


# static data -------------------------------------------------------------------------------------

STATIC = "structmat static data"
"""What a tuple that spells static data begins with."""

KINDS: dict[str, type[Static]] = {}
"""The classes of static data by name."""


class Static:
    """Static data of an operator: immutable, hashable, compared by content."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        KINDS[cls.__name__] = cls

    def _parts(self) -> tuple[Any, ...]:
        """What the class is called with to make it again: literals and other static data."""
        raise NotImplementedError(f"{type(self).__name__} does not say its parts")


def spelled(value: Any) -> Any:
    """Static data in literals; what are literals stays as it is.

    Args:
        value: a static argument of an operator.
    """
    if isinstance(value, Static):
        return (STATIC, type(value).__name__, *(spelled(p) for p in value._parts()))
    return tuple([spelled(v) for v in value]) if isinstance(value, tuple) else value


def meant(value: Any) -> Any:
    """What :func:`spelled` said.

    Args:
        value: what it returned.
    """
    if not isinstance(value, tuple):
        return value
    if value and isinstance(value[0], str) and value[0] == STATIC:
        return KINDS[value[1]](*[meant(p) for p in value[2:]])
    return tuple([meant(v) for v in value])


def need_static(what: str, value: Any) -> None:
    """Raise TypeError where numbers of the structure come from a tensor while Dynamo traces.

    Args:
        what: how errors call it, such as ``"Permutation: index"``.
        value: what was given.
    """
    if torch.compiler.is_dynamo_compiling() and isinstance(value, Tensor | np.ndarray):
        raise TypeError(
            f"{what} is a tensor or an array, whose numbers torch.compile does not see; they are "
            "part of the structure: build the operator outside, or give integers, slices or lists"
        )


def of_numbers(fn: Callable[P, R]) -> Callable[P, R]:
    """A function of numbers, strings and lists of them, which Dynamo calls while it traces.

    Args:
        fn: returns static data, the same for the same arguments, which are positional.
    """

    @constant
    def run(*args: Any) -> Any:
        return spelled(fn(*args))  # type: ignore[call-arg]

    @wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not torch.compiler.is_dynamo_compiling():
            return fn(*args, **kwargs)
        out: R = meant(run(*args))
        return out

    return call


# functions of operators --------------------------------------------------------------------------


_blind: ContextVar[bool] = ContextVar("blind", default=False)


def blind() -> bool:
    """Whether numbers may not be looked at because this is, or will be, part of a graph.

    Inside torch.compile, also where its backend runs the function again on numbers: what is
    decided must not change. Not in the body of an operator of ``torch.library`` that runs while
    torch traces: it has numbers, and no mode is left.
    """
    modes: int = torch._C._len_torch_dispatch_stack()
    return _blind.get() or modes > 0 or torch.compiler.is_compiling()


class Sent:
    """What a node of the graph returns in another form, because Dynamo must know its pytree."""

    def _sent(self) -> Any:
        """A pytree of tensors, with a context of literals, that unflattens to the thing itself."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is sent")


RECORDS: dict[str, type[Any]] = {}
"""The dataclasses and named tuples that whole functions return, by name."""

C = TypeVar("C", bound=type[Any])


def record(cls: C) -> C:
    """A dataclass or named tuple of tensors, literals and other records, for whole functions.

    Args:
        cls: the class, whose name no other record has.
    """
    RECORDS[cls.__name__] = cls
    return cls


@dataclass(frozen=True)
class _Record:
    """A record on its way into a graph: what is no tensor is its context."""

    kind: str
    fields: dict[str, Any]


def _flatten_record(sent: _Record) -> tuple[list[Any], Any]:
    values = [v for v in sent.fields.values() if not _literal(v)]
    fields = tuple((k, _literal(v), v if _literal(v) else None) for k, v in sent.fields.items())
    return values, (sent.kind, fields)


def _unflatten_record(values: Any, context: Any) -> Any:
    kind, fields = context
    rest = list(values)
    return RECORDS[kind](**{k: v if literal else rest.pop(0) for k, literal, v in fields})


pytree.register_pytree_node(_Record, _flatten_record, _unflatten_record)


def _literal(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _outgoing(value: Any) -> Any:
    if isinstance(value, Sent):
        return value._sent()
    name = type(value).__name__
    if RECORDS.get(name) is not type(value):
        return value
    fields = vars(value) if is_dataclass(value) else value._asdict()
    return _Record(name, {k: _outgoing(v) for k, v in fields.items()})


def whole(fn: Callable[P, R]) -> Callable[P, R]:
    """A function that is one node of Dynamo's graph.

    Args:
        fn: its arguments are pytrees of tensors, numbers and strings, as operators are, and it
            returns a tensor, an operator or a record. A keyword argument that is None by default
            may be None.

    Raises:
        torch._dynamo.exc.UserError: while torch traces, in place of what ``fn`` raised.
    """

    @wraps(fn)
    def node(*args: P.args, **kwargs: P.kwargs) -> Any:
        token = _blind.set(True)
        try:
            return _outgoing(fn(*args, **kwargs))
        except Exception as e:
            if not is_in_torch_dispatch_mode():
                raise
            # of all errors Dynamo of torch 2.13 keeps the words of this one, as a UserError; for
            # others it says that the result has an unsupported type
            from torch.utils._sympy.value_ranges import ValueRangeError

            raise ValueRangeError(f"{type(e).__name__}: {e}") from e
        finally:
            _blind.reset(token)

    @wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not torch.compiler.is_dynamo_compiling():
            return fn(*args, **kwargs)
        # None cannot enter a graph
        given: Any = {k: v for k, v in kwargs.items() if v is not None}
        out: R = torch._dynamo.nonstrict_trace(node)(*args, **given)
        return out

    return call
