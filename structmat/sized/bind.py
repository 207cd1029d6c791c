"""Numbers for symbols: a symbolic expression becomes a concrete operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from structmat.operator import LinearOperator
from structmat.sized.form import FAMILIES, Sized
from structmat.sizes import symbols_of

__all__ = ["bind", "free_symbols"]


def free_symbols(op: LinearOperator) -> set[Any]:
    """The symbols in the sizes of an expression; empty for a concrete operator."""
    if not op.symbolic:
        return set()
    found = symbols_of(*op.static.values())
    for c in op.children:
        found |= free_symbols(c)
    if isinstance(op, Sized):
        found |= symbols_of(*(v for _, v in op.arguments))
    return found


def bind(
    op: LinearOperator,
    sizes: Mapping[str, int] | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    tensors: Mapping[str, Tensor] | None = None,
    **named: int,
) -> LinearOperator:
    """Replace symbols by integers; leaves whose sizes become known get numbers.

    Args:
        op: the expression.
        sizes: integers by the name of the symbol; the same as keywords.
        seed: of the entries, which are normal with deviation 1 / sqrt(fan-in).
        device: of the entries that are drawn; ``"meta"`` for none at all.
        tensors: entries by path, as ``op.named_tensors()`` names them; others are drawn.
        **named: integers by the name of the symbol.

    Returns:
        The operator: concrete where every symbol has a number, symbolic in the others.

    Raises:
        ValueError: a name that is no symbol of the expression, a number that is no positive
            integer, sizes that fit no operator (such as nblocks = sqrt(n) at n = 10), tensors of
            other shapes.

    Example:
        >>> import structmat as sm
        >>> n = sm.dim("n")
        >>> A = sm.sized.Monarch(n) @ sm.sized.Diagonal(n)
        >>> A.bind(n=16)
        Monarch(4 of 4x4, 4 of 4x4) @ Diagonal(16)
          16x16 float32, 144 params, 240 flops
    """
    wanted = {**(sizes or {}), **named}
    known = {str(s): s for s in free_symbols(op)}
    for name, value in wanted.items():
        if name not in known:
            options = ", ".join(sorted(known)) or "none"
            raise ValueError(f"bind: {name!r} is no symbol of {op._label()}; it has: {options}")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"bind: {name} = {value!r} must be a positive integer")
    values = {known[k]: v for k, v in wanted.items()}
    run = _Binding(values, seed, device, dict(tensors or {}))
    out = run(op, "")
    unused = set(tensors or {}) - run.used
    if unused:
        raise ValueError(
            f"bind: no symbolic tensor {', '.join(sorted(unused))}; "
            f"there are: {', '.join(op.named_tensors())}"
        )
    return out


class _Binding:
    """The state of one binding: what was shared stays shared."""

    def __init__(
        self, values: dict[Any, int], seed: int, device: str, given: dict[str, Tensor]
    ) -> None:
        self.values = values
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)
        self.given = given
        self.used: set[str] = set()
        self.done: dict[int, LinearOperator] = {}
        self.drawn: dict[int, Tensor] = {}
        self.partly: dict[int, Any] = {}

    def __call__(self, op: LinearOperator, path: str) -> LinearOperator:
        if id(op) not in self.done:
            self.done[id(op)] = (
                self.leaf(op, path) if isinstance(op, Sized) else self.node(op, path)
            )
        return self.done[id(op)]

    def node(self, op: LinearOperator, path: str) -> LinearOperator:
        children = [self(c, f"{path}{i}.") for i, c in enumerate(op.children)]
        same = all(a is b for a, b in zip(children, op.children, strict=True))
        if same and not free_symbols(op):
            return op
        new = op._replace(
            op.tensors, children, {k: self.substituted(v) for k, v in op.static.items()}
        )
        new._check()
        return new

    def substituted(self, value: Any) -> Any:
        """The value with numbers for symbols."""
        if isinstance(value, tuple):
            return tuple(map(self.substituted, value))
        if not symbols_of(value):
            return value
        new = value.subs(self.values)
        return int(new) if new.is_Integer else new

    def leaf(self, op: Sized, path: str) -> LinearOperator:
        arguments = tuple((k, self.substituted(v)) for k, v in op.arguments)
        known = FAMILIES[op.family]
        try:
            arguments = known.arguments(**dict(arguments))
            if symbols_of(*(v for _, v in arguments)):
                new = Sized(op.family, arguments, op.static["dtype"])
                return new._replace(
                    {k: self.resized(t, new.tensors[k]) for k, t in op.tensors.items()},
                    (),
                    {**op.static, "arguments": arguments},
                )
            form = known.at(arguments)
            stand_ins: Mapping[str, Any] = op.tensors
            tensors = {
                name: self.tensor(stand_ins[name], shape, path + name)
                for name, (shape, _) in form.tensors.items()
            }
            out = form.build(tensors, op.static["dtype"])
        except ValueError as error:
            numbers = ", ".join(f"{s} = {v}" for s, v in self.values.items())
            raise ValueError(f"bind: {op._label()} at {numbers}: {error}") from None
        out = out.conj() if op.conjugated else out
        return out.T if op.transposed else out

    def resized(self, old: Any, new: Any) -> Any:
        """The stand-in at the sizes known so far; one stays one."""
        known = self.partly.get(id(old))
        if known is None:
            base = None if old.base is None else self.resized(old.base, new)
            known = replace(new, dtype=old.dtype, base=base)
            self.partly[id(old)] = known
        return known

    def tensor(self, stand_in: Any, shape: tuple[Any, ...], path: str) -> Tensor:
        """Given, or drawn; one stand-in becomes one tensor."""
        self.used |= {path} & set(self.given)
        stand_in = stand_in.base or stand_in
        if id(stand_in) in self.drawn:
            return self.drawn[id(stand_in)]
        if path in self.given:
            found = self.given[path]
            if tuple(found.shape) != tuple(shape):
                raise ValueError(f"tensor {path!r} has shape {tuple(found.shape)}, needs {shape}")
        else:
            from structmat.sized.form import SizedTensor

            fan_in = self.substituted(stand_in.fan_in)
            found = SizedTensor(shape, fan_in, stand_in.dtype).draw(self.generator, self.device)
        self.drawn[id(stand_in)] = found
        return found
