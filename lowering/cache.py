"""Generated modules on disk: written once, found again by any process.

An entry is a Python file (Triton reads its kernels' source from it) and a JSON file with the
tables (compressed) and the digest of the source. The key covers the graph, dtype, device, backend,
the versions of structmat, torch and triton, and the compiler's own source. The folder is
``$STRUCTMAT_CACHE``, or ``structmat`` under ``$XDG_CACHE_HOME`` or ``~/.cache``.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from structmat import primitives
from structmat.tables import Indices, Table

__all__ = ["Entry", "cache_dir", "clear", "digest", "entries", "find", "load", "store"]

OURS = re.compile(r"([0-9a-f]{32})\.(py|json|cpython-\d+\.pyc|sm_\w+\.cubin)")
"""Names of the files that an entry may have; others in the folder are left alone."""


def cache_dir() -> Path:
    """The folder of generated modules (not created here)."""
    if own := os.environ.get("STRUCTMAT_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "structmat"


@lru_cache(maxsize=1)
def compiler_digest() -> str:
    """Digest of the compiler's own files: a changed compiler finds no old entries."""
    here = Path(__file__).resolve().parent
    state = hashlib.sha256()
    for folder in (here, here.parent / "kernels", Path(primitives.__path__[0])):
        for path in sorted((*folder.glob("*.py"), *folder.glob("*.cu*"))):
            state.update(path.read_bytes())
    return state.hexdigest()[:16]


def digest(*parts: object) -> str:
    """Key of an entry."""
    text = "\n".join([compiler_digest(), *map(str, parts)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def find(key: str) -> tuple[str, tuple[Indices, ...]] | None:
    """Source and tables of an entry; None where there is none or it is damaged."""
    folder = cache_dir()
    try:
        source = (folder / f"{key}.py").read_text()
        about = json.loads((folder / f"{key}.json").read_text())
        if about["sha256"] != hashlib.sha256(source.encode()).hexdigest():
            return None
        tables = tuple(map(_unpacked, about["tables"]))
    except (OSError, ValueError, KeyError, TypeError, zlib.error):
        return None
    return source, tables


def store(key: str, source: str, tables: tuple[Indices, ...], about: dict[str, Any]) -> None:
    """Write an entry; each file appears whole or not at all."""
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        **about,
        "sha256": hashlib.sha256(source.encode()).hexdigest(),
        "tables": [_packed(t) for t in tables],
    }
    for name, text in ((f"{key}.py", source), (f"{key}.json", json.dumps(about))):
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(text)
        os.replace(file.name, folder / name)


@dataclass(frozen=True)
class Entry:
    """What a module on disk says about itself.

    Attributes:
        key: of the entry.
        title: first line of the module; empty where the entry is damaged.
        backend: that it is for.
        dtype: of rows and values.
        device: by its name.
        bytes: of its files.
        sound: whether ``find`` would return it; damaged entries, and those of older versions, are
            made again when they are needed.
    """

    key: str
    title: str
    backend: str
    dtype: str
    device: str
    bytes: int
    sound: bool


def entries() -> list[Entry]:
    """The modules in the folder, by title."""
    found = []
    for key, paths in sorted(_files().items()):
        sound = find(key) is not None
        about = json.loads((cache_dir() / f"{key}.json").read_text()) if sound else {}
        title, backend, dtype, device = (
            str(about.get(name, "")) for name in ("title", "backend", "dtype", "device")
        )
        size = sum(p.stat().st_size for p in paths)
        found.append(Entry(key, title, backend, dtype, device, size, sound))
    return sorted(found, key=lambda e: e.title)


def clear() -> int:
    """Remove every module from the folder, and nothing else; returns how many."""
    files = _files()
    for paths in files.values():
        for path in paths:
            path.unlink()
    return len(files)


def _files() -> dict[str, list[Path]]:
    """The files of each entry, those of Python's own cache included."""
    out: dict[str, list[Path]] = {}
    for folder in (cache_dir(), cache_dir() / "__pycache__"):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if name := OURS.fullmatch(path.name):
                out.setdefault(name[1], []).append(path)
    return out


def _packed(table: Indices) -> str:
    kind = "<i4" if isinstance(table, Table) and table.narrow else "<i8"
    raw = np.asarray(table.array(), kind).tobytes()
    return f"{kind} {base64.b64encode(zlib.compress(raw, 1)).decode()}"


def _unpacked(text: str) -> Table:
    kind, packed = text.split(" ")
    raw = zlib.decompress(base64.b64decode(packed, validate=True))
    return Table.of(np.frombuffer(raw, {"<i4": "<i4", "<i8": "<i8"}[kind]), kind == "<i4")


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text() == text
    except (OSError, ValueError):
        return False


def load(key: str, source: str) -> Callable[..., Any]:
    """Import an entry and return its ``run``; an unwritable cache falls to a temporary folder."""
    path = cache_dir() / f"{key}.py"
    if not _holds(path, source):
        path = Path(tempfile.mkdtemp(prefix="structmat-")) / f"{key}.py"
        path.write_text(source)
    spec = importlib.util.spec_from_file_location(f"structmat_generated_{key}", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run: Callable[..., Any] = module.run
    return run
