"""``structmat project``: a matrix from a file to a structure."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from structmat.commands.common import CommandError, print_pairs

__all__ = ["add"]

STRUCTURES = {
    "monarch": ("Monarch", ("nblocks", "rank", "pad")),
    "low-rank": ("LowRank", ("rank",)),
    "block-diagonal": ("BlockDiagonal", ("nblocks",)),
}
"""Name on the command line -> (class, the options it takes)."""

SUFFIXES = ("npy", "pt", "pth", "safetensors")


def add(commands: Any) -> None:
    """Add the command to the parser."""
    project = commands.add_parser(
        "project",
        help="project a matrix from a file to a structure",
        description="Find the structured matrix that is nearest to the one in FILE (Frobenius "
        "norm), print its error and size, and save it.",
        epilog="examples: structmat project w.npy --structure monarch --nblocks 4 --rank 2; "
        "structmat project model.safetensors:layer.weight --nblocks 4,16 --out m.safetensors",
    )
    project.add_argument(
        "file",
        metavar="FILE[:TENSOR]",
        help=".npy, .pt, .pth or .safetensors; TENSOR picks one of several in the file",
    )
    project.add_argument(
        "--structure", choices=sorted(STRUCTURES), default="monarch", help="default: monarch"
    )
    project.add_argument(
        "--nblocks",
        metavar="N|K,L",
        help="blocks: one number, or K on the input side and L on the output side",
    )
    project.add_argument("--rank", type=int, help="rank of each block, or of a low-rank matrix")
    project.add_argument(
        "--pad", action="store_true", help="pad with zeros where nblocks does not divide the sides"
    )
    project.add_argument(
        "--out", type=Path, metavar="OUT.safetensors", help="where to save the operator"
    )
    project.set_defaults(command=_project)


def _project(options: argparse.Namespace) -> int:
    import structmat as sm
    from structmat.interop import safetensors

    if options.out is not None and options.out.suffix != ".safetensors":
        raise CommandError(f"--out {options.out}: the name must end in .safetensors")
    class_name, allowed = STRUCTURES[options.structure]
    given = {
        "nblocks": _nblocks(options.nblocks),
        "rank": options.rank,
        "pad": options.pad or None,
    }
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if key not in allowed:
            raise CommandError(f"--{key} does not apply to --structure {options.structure}")
    needed = "rank" if options.structure == "low-rank" else "nblocks"
    if needed not in given:
        raise CommandError(f"--structure {options.structure} needs --{needed}")

    name, w = _read_matrix(options.file)
    try:
        found = sm.project(w, getattr(sm, class_name), **given)
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error
    operator, norm = found.operator, float(w.double().norm())
    cost, dense = operator.cost(batch=1), sm.Dense(w).cost(batch=1)

    def share(bound: Any) -> str:
        return f"{float(bound) / norm:.5g} relative" if norm else "matrix is zero"

    def ratio(part: int, whole: int) -> str:
        return f"{part:,} of {whole:,} dense ({part / whole:.1%})" if whole else f"{part:,}"

    lines = [
        ("matrix", f"{name}, {w.shape[0]} x {w.shape[1]}, {str(w.dtype).removeprefix('torch.')}"),
        ("operator", repr(operator).splitlines()[0]),
        ("error", f"{float(found.error):.5g} ({share(found.error)})"),
        ("lower bound", f"{float(found.lower_bound):.5g} ({share(found.lower_bound)})"),
        ("why", found.certificate.statement),
        ("parameters", ratio(int(cost.params), int(dense.params))),
        ("flops", ratio(int(cost.flops), int(dense.flops))),
    ]
    if options.out is not None:
        safetensors.save(options.out, {name: operator})
        size = options.out.stat().st_size
        lines.append(("saved", f"{options.out}, {size:,} bytes, entry {name!r}"))
    print_pairs(lines)
    return 0


def _nblocks(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d+(,\d+)?", text):
        raise CommandError(f"--nblocks {text!r} is not a number N or a pair K,L")
    k, *l = (int(part) for part in text.split(","))
    return (k, l[0]) if l else k


def _read_matrix(source: str) -> tuple[str, Any]:
    """Name and 2-D tensor that ``FILE[:TENSOR]`` names.

    Raises:
        CommandError: No such tensor, several tensors and no choice, or not a matrix.
        OSError: The file cannot be read.
    """
    match = re.fullmatch(rf"(.+\.({'|'.join(SUFFIXES)}))(?::(.+))?", source)
    if match is None:
        raise CommandError(f"{source}: expected a file that ends in .{', .'.join(SUFFIXES)}")
    path, suffix, wanted = Path(match[1]), match[2], match[3]
    if not path.is_file():
        raise CommandError(f"{path}: no such file")
    tensors = _readers()[suffix](path, wanted)
    if wanted is None and len(tensors) != 1:
        raise CommandError(
            f"{path} holds {len(tensors)} tensors; choose one with {path}:NAME, e.g. "
            f"{_some(tensors)}"
        )
    name = next(iter(tensors)) if wanted is None else wanted
    if name not in tensors:
        raise CommandError(f"{path} has no tensor {name!r}; it has {_some(tensors)}")
    tensor = tensors[name]()
    if tensor.ndim != 2:
        raise CommandError(f"{name} has shape {tuple(tensor.shape)}; expected a matrix (m, n)")
    return name, tensor


def _readers() -> dict[str, Callable[[Path, str | None], dict[str, Callable[[], Any]]]]:
    """Suffix -> reader: (path, wanted name) -> tensors by name, read when called."""
    import numpy as np
    import torch

    from structmat.interop import require

    def npy(path: Path, wanted: str | None) -> dict[str, Callable[[], Any]]:
        try:
            array = np.load(path, allow_pickle=False)
            tensor = torch.from_numpy(array)
        except (ValueError, TypeError, EOFError) as error:
            raise CommandError(f"{path}: cannot be read as an array of numbers: {error}") from error
        return {path.stem: lambda: tensor}

    def pt(path: Path, wanted: str | None) -> dict[str, Callable[[], Any]]:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises pickle, zip, runtime and end-of-file errors
            raise CommandError(
                f"{path}: torch.load(weights_only=True) cannot read it ({type(error).__name__})"
            ) from error
        if isinstance(content, torch.Tensor):
            content = {path.stem: content}
        if not isinstance(content, dict):
            raise CommandError(f"{path}: holds a {type(content).__name__}, expected tensors")
        found = {str(k): t for k, t in content.items() if isinstance(t, torch.Tensor)}
        return {name: t.detach for name, t in found.items()}

    def safe(path: Path, wanted: str | None) -> dict[str, Callable[[], Any]]:
        module = require("safetensors")
        try:
            file = module.safe_open(str(path), framework="pt")
            return {key: partial(file.get_tensor, key) for key in file.keys()}
        except module.SafetensorError as error:
            raise CommandError(f"{path}: not a safetensors file ({error})") from error

    return {"npy": npy, "pt": pt, "pth": pt, "safetensors": safe}


def _some(names: Iterable[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "none"
