"""The command ``structmat``: demo, project, lower, doctor, cache.

A command that cannot do what was asked prints one line on stderr, maybe with the place of the error
below it, and exits with 2; a failed self-test of ``doctor`` exits with 1. Optional packages are
imported by the command that needs them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from structmat import __version__
from structmat.commands import cache, demo, doctor, lower, project
from structmat.commands.common import CommandError

__all__ = ["main"]

COMMANDS = (demo, project, lower, doctor, cache)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        Exit status: 0 success, 1 a failed self-test, 2 an error of the user or the machine.
    """
    from structmat.interop import MissingExtra

    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (CommandError, MissingExtra, OSError) as error:
        line = " ".join(str(error).split())
        print(f"structmat {options.name}: error: {line}", file=sys.stderr)
        if isinstance(error, CommandError) and error.detail:
            print(error.detail, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"structmat {options.name}: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="structmat",
        description="Structured matrices for PyTorch: project, compress, compile, check.",
        epilog="structmat COMMAND --help explains a command.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        title="commands", dest="name", metavar="COMMAND", required=True
    )
    for module in COMMANDS:
        module.add(commands)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
