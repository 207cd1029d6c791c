"""``structmat doctor``: what runs here, why, and whether it is right."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

from structmat.commands.common import print_pairs

__all__ = ["add"]

CORE = ("structmat", "torch", "numpy", "scipy", "sympy")

EXTRAS = {
    "triton": ("triton",),
    "cuda": ("cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc"),
    "cli": ("safetensors", "tokenizers", "rich", "matplotlib"),
    "models": ("transformers",),
    "interop": ("cola-ml", "linear_operator"),
    "egglog": ("egglog",),
}
"""Extra of the distribution -> what it brings, as pyproject.toml says."""

VARIABLES = {
    "STRUCTMAT_CACHE": "folder of generated modules",
    "STRUCTMAT_VERIFY": "1: check emitted sources, too",
    "TRITON_INTERPRET": "1: run Triton kernels on the CPU, slowly, to check them",
    "CUDA_VISIBLE_DEVICES": "the GPUs that torch sees",
    "OMP_NUM_THREADS": "threads of torch on the CPU",
}


def add(commands: Any) -> None:
    """Add the command to the parser."""
    doctor = commands.add_parser(
        "doctor",
        help="what runs here and why, and whether it is right",
        description="Print versions, devices, backends, the cache folder and the environment; "
        "then compile small expressions on every backend that works here, run them forward and "
        "backward, and compare with the dense matrix. Exit status 1 if one is wrong.",
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    import dataclasses

    from structmat.commands import selftest

    report: dict[str, Any] = {
        "versions": _versions(),
        "extras": _extras(),
        "devices": _devices(),
        "backends": _backends(),
        "cache": _cache(),
        "environment": {name: os.environ.get(name) for name in VARIABLES},
    }
    if not options.json:
        _print(report)
    results = []
    for about in report["backends"]:
        again = about["backend"] == "auto" and about["runs"] == "torch"
        if again or not about["works"]:
            continue
        for result in selftest.run(about["backend"], about["device"]):
            results.append(result)
            if not options.json:
                print(_line(result), flush=True)
    bad = sum(not r.ok for r in results)
    report["tests"] = [{**dataclasses.asdict(r), "ok": r.ok} for r in results]
    report["ok"] = not bad
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        seconds = sum(r.seconds for r in results)
        verdict = f"{bad} of {len(results)} self-tests FAILED" if bad else "all is well"
        print(f"\n{verdict} ({len(results)} self-tests in {seconds:.1f} s)")
    return 1 if bad else 0


# what there is ------------------------------------------------------------------------------------


def _versions() -> dict[str, str | None]:
    """Versions by distribution, None for what is not installed."""
    import torch

    from structmat import __version__

    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in CORE:
        found[package] = __version__ if package == "structmat" else _version(package)
    found["torch"] = torch.__version__
    found["torch's CUDA"] = torch.version.cuda
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extras() -> dict[str, dict[str, str | None]]:
    """Versions of what each extra brings."""
    return {extra: {p: _version(p) for p in packages} for extra, packages in EXTRAS.items()}


def _devices() -> list[dict[str, Any]]:
    """The CPU and the GPUs of NVIDIA."""
    import torch

    found: list[dict[str, Any]] = [
        {
            "device": "cpu",
            "name": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        }
    ]
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        found.append(
            {
                "device": f"cuda:{i}",
                "name": p.name,
                "arch": f"sm_{p.major}{p.minor}",
                "multiprocessors": p.multi_processor_count,
                "memory": p.total_memory,
                "shared_memory": p.shared_memory_per_multiprocessor,
                "l2": p.L2_cache_size,
                "driver": _driver(),
            }
        )
    return found


def _driver() -> str | None:
    """The version of NVIDIA's kernel module, None where the system does not say."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    match = re.search(r"\b(\d+\.\d+(\.\d+)?)\b", text)
    return match[1] if match else None


def _backends() -> list[dict[str, Any]]:
    """For each backend and kind of device whether it works, and why."""
    import torch

    import structmat as sm
    from structmat.lowering.backends import BACKENDS, choose_backend
    from structmat.lowering.record import to_chain

    dense, short = (to_chain(a)[0] for a in (sm.sized.Dense(4), sm.Hadamard(4)))
    found = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for backend in BACKENDS:
            about: dict[str, Any] = {"backend": backend, "device": device}
            graph = short if backend == "cuda" else dense  # CUDA C++ has short contractions alone
            try:
                chosen, why = choose_backend(backend, torch.device(device), torch.float32, graph)
                why = why.replace("asked for", "works")
                found.append({**about, "works": True, "runs": chosen, "why": why})
            except (RuntimeError, NotImplementedError) as error:
                found.append({**about, "works": False, "runs": None, "why": str(error)})
    return found


def _cache() -> dict[str, Any]:
    """The folder of generated modules."""
    from structmat.lowering.cache import cache_dir, entries

    folder = cache_dir()
    found = entries()
    near = next(p for p in (folder, *folder.parents) if p.exists())
    return {
        "path": str(folder),
        "exists": folder.is_dir(),
        "writable": near.is_dir() and os.access(near, os.W_OK),
        "entries": len(found),
        "bytes": sum(e.bytes for e in found),
        "damaged": sum(not e.sound for e in found),
    }


# text ---------------------------------------------------------------------------------------------


def _print(report: dict[str, Any]) -> None:
    """Everything but the self-tests."""
    versions = {k: v or "not installed" for k, v in report["versions"].items()}
    versions["python"] += f" ({sys.executable})"
    if report["versions"]["torch's CUDA"] is None:
        versions["torch's CUDA"] = "none: this build of torch runs on the CPU alone"
    print_pairs(list(versions.items()))
    print()
    print_pairs([(f"structmat[{k}]", _extra(k, v)) for k, v in report["extras"].items()])
    print()
    print_pairs([(d["device"], _device(d)) for d in report["devices"]])
    if len(report["devices"]) == 1:
        print("no NVIDIA GPU that torch can use")
    print()
    print_pairs([(f"{b['backend']} on {b['device']}", _backend(b)) for b in report["backends"]])
    print()
    cache = report["cache"]
    state = (
        f"{cache['entries']} modules, {cache['bytes'] / 1e6:.1f} MB" if cache["exists"] else "empty"
    )
    if cache["damaged"]:
        state += f", {cache['damaged']} of them damaged or of an older version"
    if not cache["writable"]:
        state += "; NOT writable: modules are made again in every process"
    print_pairs([("cache", cache["path"]), ("", state)])
    print()
    environment = report["environment"]
    print_pairs([(k, f"{environment[k] or 'not set':<8}  {VARIABLES[k]}") for k in environment])
    print()


def _extra(extra: str, packages: dict[str, str | None]) -> str:
    have = ", ".join(f"{k} {v}" for k, v in packages.items() if v is not None)
    lack = ", ".join(k for k, v in packages.items() if v is None)
    if not lack:
        return have
    line = f"{lack} missing: pip install 'structmat[{extra}]'"
    return f"{have}; {line}" if have else line


def _device(d: dict[str, Any]) -> str:
    if d["device"] == "cpu":
        return f"{d['name']}, {d['cores']} cores, torch uses {d['threads']} threads"
    driver = f", driver {d['driver']}" if d["driver"] else ""
    return (
        f"{d['name']}, {d['arch']}, {d['multiprocessors']} SMs of {d['shared_memory'] / 1024:.0f} "
        f"KB shared memory, {d['l2'] / 2**20:.0f} MB L2, {d['memory'] / 2**30:.0f} GB{driver}"
    )


def _backend(b: dict[str, Any]) -> str:
    if not b["works"]:
        return f"no: {b['why'].removeprefix('backend=').partition(': ')[2] or b['why']}"
    return f"takes {b['runs']}: {b['why']}" if b["backend"] == "auto" else b["why"]


def _line(result: Any) -> str:
    found = result.message or f"error {result.error:.0e}"
    state = "ok    " if result.ok else "FAILED"
    where = f"{result.backend} on {result.device}"
    return f"{state} {where:<15} {result.seconds:6.2f} s  {found}  {result.expression}"
