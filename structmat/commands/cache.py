"""``structmat cache``: the generated modules on disk."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    cache = commands.add_parser(
        "cache",
        help="list or remove the generated modules on disk",
        description="List the modules that sm.compile keeps in $STRUCTMAT_CACHE (by default "
        "structmat under $XDG_CACHE_HOME or ~/.cache), or remove them.",
    )
    cache.add_argument("--clear", action="store_true", help="remove them all")
    cache.set_defaults(command=_cache)


def _cache(options: argparse.Namespace) -> int:
    from structmat.lowering.cache import cache_dir, clear, entries

    found = entries()
    size = sum(e.bytes for e in found) / 1e6
    if options.clear:
        print(f"removed {clear()} modules, {size:.1f} MB, from {cache_dir()}")
        return 0
    for e in found:
        what = (
            f"{e.backend:<7} {e.dtype:<9} {e.title}"
            if e.sound
            else "damaged, or of an older version"
        )
        print(f"{e.key[:8]}  {e.bytes / 1e3:>8.1f} kB  {what}")
    print(f"{len(found)} modules, {size:.1f} MB, in {cache_dir()}")
    return 0
