"""Frozen dataclasses as data of JSON, and back, by their annotations alone.

A dataclass becomes an object with its fields; where the annotation is a base class, as that of a
node or a primitive, ``"is"`` names the class. Tuples and sets become lists. What is read is checked
against the annotations, names no class that the annotations do not reach, and runs no code of its
own, so that a file may come from anywhere.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Callable
from typing import Any

import numpy as np

from structmat.index import ArrayMap, recognise
from structmat.pattern import Pattern

__all__ = ["PlanError", "from_data", "from_text", "to_data", "to_text"]

WIDTH = 100
"""Longest line of text, where it can be broken."""


class PlanError(ValueError):
    """A plan that cannot be read, or that is not one of this expression."""


TEXT = re.compile(r"[\w .+-]*")
"""What a string may hold: names end up in source."""

Hook = tuple[Callable[[Any], dict[str, Any]], Callable[..., Any]]

HOOKS: dict[type, Hook] = {
    ArrayMap: (
        lambda v: {"table": v.array().tolist()},
        lambda table: recognise(np.asarray(_integers(table), np.int64)),
    ),
    Pattern: (
        lambda v: {
            "shape": list(v.shape),
            "indptr": v.indptr.array().tolist(),
            "indices": v.indices.array().tolist(),
        },
        lambda shape, indptr, indices: Pattern.of(*map(_integers, (shape, indptr, indices))),
    ),
}
"""Classes with fields that follow from others: to their data, and from it, checked."""


def to_data(value: Any, hint: Any) -> Any:
    """A value as data of JSON.

    Args:
        value: of the annotated type.
        hint: the annotation; a dataclass for a whole object.
    """
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, frozenset):
        (inner,) = typing.get_args(hint)
        return [to_data(v, inner) for v in sorted(value)]
    if isinstance(value, tuple):
        return [to_data(v, h) for v, h in zip(value, _elements(hint, len(value)), strict=True)]
    if not dataclasses.is_dataclass(value):
        return value
    cls: type[Any] = type(value)
    data = {"is": cls.__name__} if len(_classes(hint)) > 1 else {}
    if cls in HOOKS:
        return data | HOOKS[cls][0](value)
    return data | {k: to_data(getattr(value, k), h) for k, h in _fields(cls).items()}


def from_data(data: Any, hint: Any, where: str = "") -> Any:
    """A value from its data; fields may be missing where they have a default.

    Args:
        data: what ``json.loads`` gives.
        hint: the annotation; a dataclass for a whole object.
        where: path of the data, for errors.

    Raises:
        PlanError: data that is not of the annotated type, with its path.
    """
    if hint is complex and isinstance(data, dict) and set(data) == {"complex"}:
        return complex(*from_data(data["complex"], tuple[float, float], f"{where}.complex"))
    if isinstance(hint, types.UnionType):
        return _one_of(data, hint, where)
    origin = typing.get_origin(hint)
    if origin is frozenset:
        (inner,) = typing.get_args(hint)
        return frozenset(from_data(data, types.GenericAlias(tuple, (inner, ...)), where))
    if origin is tuple:
        _require(isinstance(data, list), where, f"expected a list, found {data!r}")
        hints = _elements(hint, len(data))
        _require(len(hints) == len(data), where, f"{len(data)} entries, expected {len(hints)}")
        each = enumerate(zip(data, hints, strict=True))
        return tuple(from_data(v, h, f"{where}[{i}]") for i, (v, h) in each)
    if dataclasses.is_dataclass(hint) or len(_classes(hint)) > 1:
        return _object(data, hint, where)
    good = isinstance(data, int | float if hint is float else hint)
    good &= hint is bool or not isinstance(data, bool)
    _require(good, where, f"expected {getattr(hint, '__name__', hint)}, found {data!r}")
    _require(not isinstance(data, str) or TEXT.fullmatch(data), where, f"{data!r} is no name")
    return data


def to_text(data: Any, indent: int = 0) -> str:
    """Data as JSON for people: what fits on a line is on one, and so are lists of numbers."""
    flat = json.dumps(data)
    inner = list(data.values()) if isinstance(data, dict) else data
    if len(flat) + indent <= WIDTH or not any(isinstance(v, dict | list) for v in inner):
        return flat
    names = [f"{json.dumps(k)}: " for k in data] if isinstance(data, dict) else [""] * len(data)
    pad = "\n" + " " * (indent + 1)
    parts = (f"{pad}{name}{to_text(v, indent + 1)}" for name, v in zip(names, inner, strict=True))
    start, end = flat[0], flat[-1]
    return f"{start}{','.join(parts)}{pad[:-1]}{end}"


def from_text(text: str, format: str, version: int) -> dict[str, Any]:
    """The data of a JSON text that says its format and version.

    Raises:
        PlanError: not JSON, of another format, or of a newer version.
    """
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"not JSON: {error}") from None
    _require(isinstance(data, dict), "", f"expected an object, found a {type(data).__name__}")
    found, number = data.pop("format", None), data.pop("version", None)
    _require(found == format, "format", f"{found!r} is not {format!r}")
    _require(type(number) is int and number >= 1, "version", f"{number!r} is no version")
    _require(
        number <= version,
        "version",
        f"{number} is newer than this structmat, which reads {version}",
    )
    return dict(data)


def _one_of(data: Any, hint: Any, where: str) -> Any:
    """A value of a union: of its first member that takes it."""
    for member in typing.get_args(hint):
        try:
            return from_data(data, member, where)
        except PlanError:
            continue
    raise PlanError(f"{where}: expected {hint}, found {data!r}")


def _object(data: Any, hint: type, where: str) -> Any:
    _require(isinstance(data, dict), where, f"expected an object, found {data!r}")
    classes, data = _classes(hint), dict(data)
    name = data.pop("is", None) if len(classes) > 1 else hint.__name__
    known = ", ".join(sorted(classes))
    _require(isinstance(name, str) and name in classes, where, f"'is' is {name!r}, not of {known}")
    cls = classes[name]
    if cls in HOOKS:
        try:
            return HOOKS[cls][1](**data)
        except (TypeError, ValueError, OverflowError) as error:
            raise PlanError(f"{where}: {error}") from None
    fields = _fields(cls)
    strange, missing = set(data) - set(fields), _required(cls) - set(data)
    _require(not strange, where, f"{name} has no {_names(strange)}; it has {_names(fields)}")
    _require(not missing, where, f"{name} lacks {_names(missing)}")
    path = f"{where}." if where else ""
    values = {k: from_data(v, fields[k], f"{path}{k}") for k, v in data.items()}
    try:
        return cls(**values)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise PlanError(f"{where}: {error}") from None


def _require(ok: object, where: str, what: str) -> None:
    if not ok:
        raise PlanError(f"{where}: {what}" if where else what)


def _names(names: Any) -> str:
    return ", ".join(sorted(names))


def _integers(values: Any) -> list[int]:
    if not isinstance(values, list) or not all(type(v) is int for v in values):
        raise TypeError("expected a list of integers")
    return values


def _elements(hint: Any, count: int) -> tuple[Any, ...]:
    """The annotations of the entries of a tuple."""
    inner = typing.get_args(hint)
    return (inner[0],) * count if inner[1:] == (...,) else inner


def _fields(cls: type) -> dict[str, Any]:
    """Names and annotations of what makes an object."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def _required(cls: type) -> set[str]:
    """Names of the fields without a default."""
    empty = dataclasses.MISSING
    return {
        f.name
        for f in dataclasses.fields(cls)
        if f.init and f.default is empty and f.default_factory is empty
    }


def _classes(hint: Any) -> dict[str, type]:
    """The dataclasses that an annotation admits, by name: itself and those below it."""
    if not isinstance(hint, type) or typing.get_origin(hint) is not None:
        return {}
    found = {hint.__name__: hint} if dataclasses.is_dataclass(hint) else {}
    subclasses: list[type] = hint.__subclasses__()
    for below in subclasses:
        found |= _classes(below)
    return found
