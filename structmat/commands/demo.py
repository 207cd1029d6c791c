"""``structmat demo``: a real sentence encoder, compressed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from structmat.commands.common import CommandError

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
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


def _demo(options: argparse.Namespace) -> int:
    from structmat.demo.compress import SettingError, parse_settings
    from structmat.demo.run import Options, ReloadError, run

    try:
        settings = None if options.settings is None else parse_settings(options.settings)
        run(Options(options.out, settings, options.quick, options.seed))
    except (SettingError, ReloadError) as error:
        raise CommandError(str(error)) from error
    return 0
