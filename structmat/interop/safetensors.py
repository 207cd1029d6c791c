"""Operators and tensors in one ``.safetensors`` file.

A safetensors file is a table of named tensors plus a string-to-string dictionary. An operator is
stored as

- its tensors, under ``name.tensorname`` (``encoder.layer.0.query.left``), readable by any
  safetensors reader;
- its structure (class, static arguments, children) as JSON under the metadata key ``structmat``:

      {"version": 1,
       "entries": {name: {"kind": "operator", "spec": {...}} or {"kind": "tensor"}},
       "aliases": {key: key of the stored tensor},
       "complex128": [keys stored as float64 with a last dimension of 2]}

A tensor that occurs several times (a shared leaf, ``A @ A.T``) is stored once and is one tensor
again after loading. Loading rebuilds operators from a fixed set of classes and executes nothing
from the file.

Source of the container format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from structmat.interop import require
from structmat.operator import LinearOperator, from_spec

__all__ = ["VERSION", "FormatError", "load", "save"]

VERSION = 1
"""Version of the metadata that :func:`save` writes; :func:`load` reads this one and older ones."""

_KEY = "structmat"


class FormatError(ValueError):
    """The file is no safetensors file, has no structmat metadata, or has one that cannot be
    read.
    """


def save(path: str | os.PathLike[str], mapping: Mapping[str, LinearOperator | Tensor]) -> None:
    """Write operators and tensors to ``path``.

    The file appears in one step (written beside ``path``, then renamed), so an interrupted save
    leaves the old file.

    Args:
        path: File to write.
        mapping: Name -> operator or tensor, any shapes and devices; names must not be empty.

    Raises:
        MissingExtra: safetensors is not installed.
        TypeError: A value is neither an operator nor a tensor.
        ValueError: Two entries would use the same tensor name.

    Example:
        >>> import tempfile, torch, structmat as sm
        >>> A = sm.Diagonal(torch.tensor([1.0, 2.0])) @ sm.Dense(torch.ones(2, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/a.safetensors", {"A": A})
        ...     B = load(f"{folder}/a.safetensors")["A"]
        >>> torch.equal(B.to_dense(), A.to_dense())
        True
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(
            f"save: {type(mapping).__name__} is no mapping of names to operators and tensors; "
            "for one operator: save(path, {'A': A})"
        )
    save_file = require("safetensors.torch").save_file
    entries: dict[str, dict[str, Any]] = {}
    named: dict[str, Tensor] = {}
    for name, value in mapping.items():
        if not isinstance(name, str) or not name or name == "__metadata__":
            raise ValueError(f"save: {name!r} cannot be the name of an entry")
        if isinstance(value, LinearOperator):
            entries[name] = {"kind": "operator", "spec": value.spec()}
            tensors = {f"{name}.{part}": t for part, t in value.named_tensors().items()}
        elif isinstance(value, Tensor):
            entries[name] = {"kind": "tensor"}
            tensors = {name: value}
        else:
            raise TypeError(
                f"save: {name!r} is a {type(value).__name__}; expected a LinearOperator or a tensor"
            )
        for key, tensor in tensors.items():
            if key in named:
                raise ValueError(f"save: two entries use the tensor name {key!r}; rename one")
            named[key] = tensor

    stored, aliases, complex128 = _storable(named)
    info = {"version": VERSION, "entries": entries, "aliases": aliases, "complex128": complex128}
    target = Path(path)
    handle, scratch = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    try:
        save_file(stored, scratch, metadata={"format": "pt", _KEY: json.dumps(info)})
        os.chmod(scratch, 0o666 & ~_umask())
        os.replace(scratch, target)
    except BaseException:
        os.unlink(scratch)
        raise


def load(
    path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> dict[str, LinearOperator | Tensor]:
    """Read what :func:`save` wrote.

    Args:
        path: File to read.
        device: Where the tensors go.

    Returns:
        Name -> operator or tensor, in the order in which they were saved.

    Raises:
        MissingExtra: safetensors is not installed.
        FileNotFoundError: There is no such file.
        FormatError: The file is no safetensors file, was not written by :func:`save`, comes from a
            newer version, or its tensors do not match its metadata.
    """
    safetensors = require("safetensors")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load: no such file: {path}")
    try:
        with safetensors.safe_open(str(path), framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except safetensors.SafetensorError as error:
        raise FormatError(f"load: {path} is not a safetensors file ({error})") from error
    info = _read_info(path, metadata)
    try:
        for key in info["complex128"]:
            # the file aligns tensors to 8 bytes, kernels read complex128 in 16: a copy is aligned
            tensors[key] = torch.view_as_complex(tensors[key].clone())
        for key, stored in info["aliases"].items():
            tensors[key] = tensors[stored]
        return {
            name: _rebuild(path, name, entry, tensors) for name, entry in info["entries"].items()
        }
    except KeyError as error:
        raise FormatError(f"load: {path} lacks the tensor {error.args[0]!r}") from error


def _storable(
    named: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Split into stored tensors (contiguous, no shared memory), aliases, and complex128 keys."""
    first: dict[int, str] = {}
    memory: set[int] = set()
    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    complex128: list[str] = []
    for key, original in named.items():
        if id(original) in first:
            aliases[key] = first[id(original)]
            continue
        first[id(original)] = key
        tensor = original.detach().resolve_conj().resolve_neg()
        if tensor.dtype == torch.complex128:  # safetensors has no such type
            tensor = torch.view_as_real(tensor)
            complex128.append(key)
        tensor = tensor.contiguous()
        if tensor.untyped_storage().data_ptr() in memory:  # a view of a tensor already stored
            tensor = tensor.clone()
        memory.add(tensor.untyped_storage().data_ptr())
        stored[key] = tensor
    return stored, aliases, complex128


def _read_info(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The parsed and checked ``structmat`` metadata of a file."""
    if _KEY not in metadata:
        raise FormatError(
            f"load: {path} has no structmat metadata; it holds plain tensors, which "
            "safetensors.torch.load_file reads"
        )
    try:
        info = json.loads(metadata[_KEY])
        version = info["version"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise FormatError(f"load: the structmat metadata of {path} is damaged ({error})") from error
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise FormatError(
            f"load: {path} has format version {version!r}, this structmat reads up to {VERSION}; "
            "install a newer structmat"
        )
    for key, kind in (("entries", dict), ("aliases", dict), ("complex128", list)):
        if not isinstance(info.get(key), kind):
            raise FormatError(f"load: the structmat metadata of {path} lacks {key!r}")
    return dict(info)


def _rebuild(
    path: Path, name: str, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> LinearOperator | Tensor:
    """One entry of the file as the operator or tensor that was saved."""
    kind = entry.get("kind")
    if kind == "tensor":
        return tensors[name]
    if kind != "operator":
        raise FormatError(f"load: {path}: entry {name!r} is of the unknown kind {kind!r}")
    prefix = f"{name}."
    mine = {key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix)}
    try:
        return from_spec(entry["spec"], mine)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"load: {path}: cannot rebuild {name!r}: {error}") from error


def _umask() -> int:
    """The process's file mode mask (readable only by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
