"""The command ``structmat``: demo, project, doctor.

A command that cannot do what was asked prints one line on stderr and exits with 2; a failed
self-check of ``doctor`` exits with 1. Optional packages are imported by the command that needs
them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["main"]

EXTRAS = ("safetensors", "tokenizers", "rich", "matplotlib")
STRUCTURES = {
    "monarch": ("Monarch", ("nblocks", "rank", "pad")),
    "low-rank": ("LowRank", ("rank",)),
    "block-diagonal": ("BlockDiagonal", ("nblocks",)),
}
"""Name on the command line -> (class, the options it takes)."""

SUFFIXES = ("npy", "pt", "pth", "safetensors")


class CommandError(Exception):
    """What was asked cannot be done; the message is one line for the user."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        Exit status: 0 success, 1 a failed self-check, 2 an error of the user or the machine.
    """
    from structmat.interop import MissingExtra

    parser = _parser()
    options = parser.parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (CommandError, MissingExtra, OSError) as error:
        line = " ".join(str(error).split())
        print(f"structmat {options.name}: error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"structmat {options.name}: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="structmat",
        description="Structured matrices for PyTorch: project, compress, check.",
        epilog="structmat COMMAND --help explains a command.",
    )
    parser.add_argument("--version", action="version", version=_versions(("structmat",))[0][1])
    commands = parser.add_subparsers(
        title="commands", dest="name", metavar="COMMAND", required=True
    )

    demo = commands.add_parser(
        "demo",
        help="compress a real sentence encoder and show what it costs",
        description="Project every attention and feed-forward matrix of all-MiniLM-L6-v2 to "
        "Monarch at several sizes; print errors, sizes and times per matrix and the effect on "
        "sentence embeddings; save the compressed model, the numbers and a figure. "
        "No network is used.",
    )
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("structmat-demo"),
        metavar="DIR",
        help="output folder (default: ./structmat-demo)",
    )
    demo.add_argument(
        "--settings",
        metavar="NBLOCKS:RANK,...",
        help="Monarch sizes: blocks along the shorter side of a matrix, rank of each block; "
        "e.g. 4:12,16:1 (default: eight, from 4%% to 94%% of the dense parameters)",
    )
    demo.add_argument("--quick", action="store_true", help="two settings and fewer repeats")
    demo.add_argument("--seed", type=int, default=0, help="seed of the timing inputs (default: 0)")
    demo.set_defaults(command=_demo)

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

    doctor = commands.add_parser(
        "doctor",
        help="show versions and devices, and check that compiled operators are right",
        description="Print versions, devices, backends and the cache folder, then compile a small "
        "Monarch on every available backend and compare it with the dense product.",
    )
    doctor.set_defaults(command=_doctor)
    return parser


# demo ---------------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    from structmat.demo.compress import SettingError, parse_settings
    from structmat.demo.run import Options, ReloadError, run

    try:
        settings = None if options.settings is None else parse_settings(options.settings)
        run(Options(options.out, settings, options.quick, options.seed))
    except (SettingError, ReloadError) as error:
        raise CommandError(str(error)) from error
    return 0


# project ------------------------------------------------------------------------------------------


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
    _print_pairs(lines)
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


# doctor -------------------------------------------------------------------------------------------


def _doctor(options: argparse.Namespace) -> int:
    import torch

    _print_pairs(
        [
            ("python", f"{platform.python_version()} ({sys.executable})"),
            *_versions(("structmat", "torch", "numpy", "scipy", "sympy", "triton", *EXTRAS)),
        ]
    )
    print()
    cuda = [
        f"cuda:{i} {torch.cuda.get_device_name(i)}, capability "
        f"{'.'.join(map(str, torch.cuda.get_device_capability(i)))}"
        for i in range(torch.cuda.device_count())
    ]
    _print_pairs(
        [
            ("cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"),
            ("gpu", "; ".join(cuda) or "none"),
            ("triton", _triton_state(bool(cuda))),
            ("cache folder", _cache_folder()),
        ]
    )
    print()
    checks = list(_self_checks(bool(cuda)))
    _print_pairs([(f"check {backend}", result) for backend, result, _ in checks])
    return 0 if all(good for _, _, good in checks) else 1


def _self_checks(gpu: bool) -> Iterable[tuple[str, str, bool]]:
    """(backend, what happened, whether that is all right) for every backend."""
    import torch

    import structmat as sm

    generator = torch.Generator().manual_seed(0)
    left, right, x = (torch.randn(4, 4, s, generator=generator) for s in (4, 4, 16))
    operator = sm.Monarch(left, right)
    expected = x.double() @ operator.to(torch.float64).to_dense().T
    for backend in ("torch", "triton"):
        state = _triton_state(gpu)
        if backend == "triton" and not state.startswith("usable"):
            yield backend, f"not run: {state}", True
            continue
        device = "cuda" if gpu else "cpu"
        try:
            compiled = sm.compile(operator.to(device), backend=backend)
            y = compiled(x.to(device)).cpu().double()
        except Exception as error:  # whatever is broken on this machine is the finding
            yield backend, f"FAILED: {type(error).__name__}: {error}".splitlines()[0], False
            continue
        difference = float((y - expected).abs().max() / expected.abs().max())
        good = difference < 1e-4 if gpu else difference < 1e-5  # a GPU may multiply in TF32
        verdict = "ok" if good else "FAILED"
        yield (
            backend,
            f"{verdict}: compiled Monarch on {device} differs from dense by {difference:.0e}",
            good,
        )


def _triton_state(gpu: bool) -> str:
    if importlib.util.find_spec("triton") is None:
        return "not installed"
    if gpu:
        return "usable on the GPU"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "usable through its interpreter (TRITON_INTERPRET=1)"
    return "installed, but there is no GPU"


def _cache_folder() -> str:
    from structmat.lowering.cache import cache_dir

    folder = cache_dir()
    if not folder.is_dir():
        return f"{folder} (not made yet)"
    files = [path for path in folder.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    writable = "" if os.access(folder, os.W_OK) else ", NOT writable"
    return f"{folder} ({len(files)} files, {size / 1e6:.1f} MB{writable})"


def _versions(packages: Iterable[str]) -> list[tuple[str, str]]:
    """(package, version or what is missing) for each distribution."""
    from structmat import __version__

    found = []
    for package in packages:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
            if package in EXTRAS:
                version += "; pip install 'structmat[cli]'"
        found.append((package, __version__ if package == "structmat" else version))
    return found


def _print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    width = max(len(key) for key, _ in pairs)
    for key, value in pairs:
        print(f"{key:<{width}}  {value}")


if __name__ == "__main__":
    raise SystemExit(main())
