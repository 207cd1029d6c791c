"""A call of the library: an operator without words, as one node of the chain.

What acts by a function of its own (a solver that looks at numbers, a class of the user) becomes a
:class:`structmat.primitives.Primitive` whose function builds the operator again from its structure
and its numbers, and applies it. The values are all tensors of the operator, one after the other.
Generated source holds the structure as JSON and imports structmat; long lists of integers in it,
such as the pattern of a sparse matrix, are tables.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from structmat.operator import REGISTRY, LinearOperator, from_spec
from structmat.primitives.base import Function, Primitive
from structmat.primitives.columns import columns_of, from_columns, no_columns
from structmat.tables import Table

__all__ = ["Call", "act", "act_gradient", "called"]

LONGEST = 16
"""Longer lists of integers are tables."""


@dataclass(frozen=True)
class _Skeleton:
    """An operator without its numbers: how its tensors, in order, are shaped and put together."""

    shape: tuple[int, int]
    shapes: tuple[tuple[int, ...], ...]
    real: tuple[bool, ...]
    tree: Any


_KNOWN: dict[str, _Skeleton] = {}
"""What was built from a structure; a structure names its tables by their digests."""

_CLASSES: dict[str, list[tuple[type[LinearOperator], ...]]] = {}
"""The classes behind the names of a structure, the first and those defined again later."""


def _skeleton(text: str, tables: Sequence[Tensor | NDArray[np.int64]]) -> _Skeleton:
    if text not in _KNOWN:
        spec = _with_tables(json.loads(text), tables)
        op = from_spec(spec, dict(_empty(spec, "")))
        tensors, tree = pytree.tree_flatten(op)
        shapes = tuple(tuple(t.shape) for t in tensors)
        _KNOWN[text] = _Skeleton(op.shape, shapes, tuple(not t.is_complex() for t in tensors), tree)
    return _KNOWN[text]


def _with_tables(data: Any, tables: Sequence[Tensor | NDArray[np.int64]]) -> Any:
    """Lists in the place of the names of tables."""
    if isinstance(data, dict):
        if "table" in data:
            return tables[data["table"]].tolist()
        return {k: _with_tables(v, tables) for k, v in data.items()}
    return [_with_tables(v, tables) for v in data] if isinstance(data, list) else data


def _without_tables(data: Any, tables: list[Table]) -> Any:
    """Names of tables in the place of long lists of integers, which are appended to ``tables``."""
    if isinstance(data, dict):
        return {k: _without_tables(v, tables) for k, v in data.items()}
    if not isinstance(data, list | tuple):
        return data
    if len(data) > LONGEST and all(type(v) is int for v in data):
        tables.append(Table.of(data))
        return {"table": len(tables) - 1, "digest": tables[-1].digest}
    return [_without_tables(v, tables) for v in data]


def _empty(spec: dict[str, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors without numbers for a structure, by their paths."""
    for name, about in spec["tensors"].items():
        dtype = getattr(torch, about["dtype"])
        yield prefix + name, torch.empty(about["shape"], dtype=dtype, device="meta")
    for i, child in enumerate(spec["children"]):
        yield from _empty(child, f"{prefix}{i}.")


def _operator(known: _Skeleton, w: Tensor, turned: bool, conj: bool) -> LinearOperator:
    """The operator with the numbers w (..., k); those of a conjugate one are conjugate."""
    w = w.conj() if conj else w
    tensors, at = [], 0
    for shape, real in zip(known.shapes, known.real, strict=True):
        size = math.prod(shape)
        t = w[..., at : at + size].reshape((*w.shape[:-1], *shape))
        tensors.append(t.real if real and t.is_complex() else t)
        at += size
    op: LinearOperator = pytree.tree_unflatten(tensors, known.tree)
    op = op.conj() if conj else op
    return op._turned() if turned else op


def act(x: Tensor, *rest: Any) -> Tensor:
    """A x for x (..., n, cols); ``rest``: values (..., k), if any, tables, arguments."""
    operands = list(rest)
    text, numbers, turned, conj = operands[-4:]
    w = operands[0] if numbers else x.new_empty(0)
    known = _skeleton(text, operands[numbers:-4])
    outs = known.shape[1] if turned else known.shape[0]
    if 0 in (x.numel(), outs):
        return no_columns(x, w, outs)
    dtype = torch.promote_types(x.dtype, w.dtype)
    x, w, lead, p = columns_of(x, w)
    if len(w) == 1:  # a batch of one keeps methods that serve no batch
        y = _operator(known, w[0], turned, conj)._rows(x[0].mT).mT.unsqueeze(0)
    else:
        y = _operator(known, w, turned, conj)._rows(x.mT).mT
    return from_columns(y, lead, p, dtype)


def act_gradient(x: Tensor, g: Tensor, w: Tensor, *rest: Any) -> Tensor:
    """The gradient of the values w (b, k): x (b, p, ins, cols), g (b, p, outs, cols)."""
    found: Any = torch.func.vjp(lambda w: act(x, w, *rest), w.unsqueeze(1))
    out, pull = found
    made: Tensor = pull(g.to(out.dtype))[0].squeeze(1)
    return made


def library_call(x: Tensor, *rest: object) -> Tensor:
    """An operator of structmat, built from its structure, applied to x (..., ins, cols)."""
    from structmat.lowering.calls import act

    return act(x, *rest)


def library_call_gradient(x: Tensor, g: Tensor, w: Tensor, *rest: object) -> Tensor:
    """The gradient of the numbers of such an operator."""
    from structmat.lowering.calls import act_gradient

    return act_gradient(x, g, w, *rest)


@dataclass(frozen=True)
class Call(Primitive):
    """An operator, applied by its own function.

    Attributes:
        spec: structure of one operator of a batch, as JSON.
        shape: (m, n) of it.
        numbers: how many numbers it has.
        label: its name, for people.
        work: (products, sums) for one vector.
        lists: tables of the structure.
        turned: the transposed matrix.
        conj: the conjugate matrix.
    """

    spec: str
    shape: tuple[int, int]
    numbers: int
    label: str
    work: tuple[int, int]
    lists: tuple[Table, ...]
    turned: bool = False
    conj: bool = False

    function: ClassVar[Function] = staticmethod(library_call)
    correlate: ClassVar[Function | None] = staticmethod(library_call_gradient)
    nonlinear: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The operator's."""
        return self.label

    @property
    def ins(self) -> int:
        """Length of x."""
        return self.shape[0] if self.turned else self.shape[1]

    @property
    def outs(self) -> int:
        """Length of y."""
        return self.shape[1] if self.turned else self.shape[0]

    @property
    def values(self) -> tuple[int, ...] | None:
        """All numbers of the operator."""
        return (self.numbers,) if self.numbers else None

    def args(self) -> tuple[Any, ...]:
        """The structure, whether it has numbers, direction, conjugation."""
        return self.spec, self.numbers > 0, self.turned, self.conj

    def tables(self) -> tuple[Table, ...]:
        """Long lists of the structure."""
        return self.lists

    def transposed(self) -> Primitive:
        """The other direction."""
        return replace(self, turned=not self.turned)

    def conjugated(self) -> Primitive:
        """The other conjugation."""
        return replace(self, conj=not self.conj)

    def operations(self, complex_: bool) -> tuple[int, int]:
        """What the operator says of its function."""
        return self.work

    def __str__(self) -> str:
        digest = hashlib.sha256(self.spec.encode()).hexdigest()[:16]
        sign = ("T" if self.turned else "") + ("*" if self.conj else "")
        return f"call({self.label}{'.' + sign if sign else ''}, {digest})"


def called(op: LinearOperator) -> tuple[Call, Tensor | None]:
    """The primitive that calls ``op``, and its values (..., k) with the batch of ``op``.

    Raises:
        NotImplementedError: a class of the expression cannot be found by its name.
    """
    for part in _parts(op):
        if REGISTRY.get(type(part).__name__) is not type(part):
            raise NotImplementedError(
                f"{part._label()}: a compiled function finds the class {type(part).__qualname__} "
                "by its name, which another class has; rename it"
            )
    lists: list[Table] = []
    spec = _without_tables(_one(op, op.spec()), lists)
    text = _named(spec, tuple(type(part) for part in _parts(op)))
    flat = _flat(op)
    numbers = 0 if flat is None else flat.shape[-1]
    call = Call(text, op.shape, numbers, op._label(), op._effort(), tuple(lists))
    _skeleton(text, [t.array() for t in lists])
    return call, flat if numbers else None


def _named(spec: dict[str, Any], classes: tuple[type[LinearOperator], ...]) -> str:
    """The structure as JSON; what was compiled before a class was defined again keeps its own."""
    text = json.dumps(spec, separators=(",", ":"))
    known = _CLASSES.setdefault(text, [])
    if classes not in known:
        known.append(classes)
    version = known.index(classes)
    return json.dumps({**spec, "version": version}, separators=(",", ":")) if version else text


def _parts(op: LinearOperator) -> Iterator[LinearOperator]:
    yield op
    for c in op.children:
        yield from _parts(c)


def _one(op: LinearOperator, spec: dict[str, Any]) -> dict[str, Any]:
    """The spec of one operator of the batch."""
    tensors = {
        k: {**about, "shape": about["shape"][len(about["shape"]) - op.event_dims[k] :]}
        for k, about in spec["tensors"].items()
    }
    children = [_one(c, s) for c, s in zip(op.children, spec["children"], strict=True)]
    return {**spec, "tensors": tensors, "children": children}


def _flat(op: LinearOperator) -> Tensor | None:
    """All numbers of the operator in a row, (..., k), in its dtype."""
    batch, dtype = op.batch_shape, op.dtype
    parts = []
    for part in _parts(op):
        for name, t in part.tensors.items():
            lead = t.ndim - part.event_dims[name]
            event = math.prod(t.shape[lead:])
            parts.append(t.to(dtype).reshape(*t.shape[:lead], event).expand(*batch, event))
    return torch.cat(parts, -1) if parts else None
