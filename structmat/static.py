"""Static arguments of operators as JSON-able data, and back, without executing anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from structmat.gather import Gather
from structmat.index import IndexMap, recognise
from structmat.pattern import Pattern

__all__ = ["from_json", "to_json"]


def to_json(static: Mapping[str, Any]) -> dict[str, Any]:
    """Static arguments as JSON-able data."""
    out: dict[str, Any] = {}
    for k, v in static.items():
        match v:
            case IndexMap():
                out[k] = {"index": v.array().tolist()}
            case Pattern():
                out[k] = {"pattern": v.data()}
            case Gather():
                run = v.run and [v.run.start, v.run.stop, v.run.step]
                out[k] = {"gather": run or v.array().tolist(), "run": bool(run), "of": v.size}
            case torch.dtype():
                out[k] = {"dtype": str(v).removeprefix("torch.")}
            case complex():
                out[k] = {"complex": [v.real, v.imag]}
            case _:
                out[k] = v
    return out


def from_json(data: Mapping[str, Any]) -> dict[str, Any]:
    """Static arguments from what :func:`to_json` made of them."""
    out: dict[str, Any] = {}
    for k, v in data.items():
        match v:
            case {"index": table}:
                out[k] = recognise(np.asarray(table, dtype=np.int64))
            case {"pattern": about}:
                out[k] = Pattern.of(**about)
            case {"gather": places, "run": run, "of": size}:
                out[k] = Gather.of(range(*places) if run else places, size)
            case {"dtype": name}:
                out[k] = getattr(torch, name, None)
                if not isinstance(out[k], torch.dtype):
                    raise ValueError(f"static argument {k!r}: {name!r} is no dtype")
            case {"complex": parts}:
                out[k] = complex(*parts)
            case _:
                out[k] = tuple(v) if isinstance(v, list) else v
    return out
