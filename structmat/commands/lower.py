"""``structmat lower``: an expression by its sizes, stage by stage, to source for a device.

No GPU is needed and nothing of the expression's size is allocated: tensors are without entries.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from structmat.commands.common import CommandError

if TYPE_CHECKING:
    from structmat.lowering.offline import Architecture, Offline
    from structmat.operator import LinearOperator

__all__ = ["add"]

STAGES = (*("simplify", "to_chain", "merge_index_maps", "choose_layouts", "fuse", "tile", "emit"),)
ARCHITECTURES = ("sm_80", "sm_89", "sm_90")
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
WIDTH = 100


def add(commands: Any) -> None:
    """Add the command to the parser."""
    lower = commands.add_parser(
        "lower",
        help="show how an expression becomes kernels, and write their source",
        description="Lower an expression, given by its sizes, for a device that need not be here; "
        "print what every pass made of it, and write the generated modules.",
        epilog='example: structmat lower "Monarch(n, nblocks=64) @ Diagonal(n)" --bind n=4096 '
        "-o out/; the structures and their sizes are those of structmat.sized.",
    )
    lower.add_argument("expression", metavar="EXPR", help='such as "Monarch(4096, nblocks=64)"')
    lower.add_argument(
        "--bind", action="append", default=[], metavar="n=4096,...", help="integers for names"
    )
    lower.add_argument(
        "--show",
        metavar="STAGE,...",
        help=f"which of {', '.join(STAGES)}; all, or none (default: all but emit)",
    )
    lower.add_argument(
        "--backend",
        choices=("auto", "torch", "triton", "cuda"),
        default="auto",
        help="default: auto",
    )
    lower.add_argument("--arch", choices=ARCHITECTURES, default="sm_90", help="default: sm_90")
    lower.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="default: bfloat16")
    lower.add_argument(
        "--batch",
        type=int,
        default=1024,
        metavar="N",
        help="vectors, for the bytes and flops of each kernel (default: 1024)",
    )
    lower.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="DIR",
        help="write forward.py, gradient.py, plan.txt, plan.json, and the tables of index maps "
        "where there are any",
    )
    lower.add_argument(
        "--compile",
        action="store_true",
        help="compile the kernels of Triton and print registers, shared memory and spills",
    )
    lower.set_defaults(command=_lower)


def _lower(options: argparse.Namespace) -> int:
    import torch

    from structmat.lowering import offline

    shown = _shown(options.show)
    if options.batch < 1:
        raise CommandError(f"--batch {options.batch}: a positive number of vectors")
    architecture = offline.ARCHITECTURES[options.arch]
    dtype = getattr(torch, options.dtype)
    operator = _operator(options.expression, options.bind, dtype)
    try:
        made = offline.lower_offline(operator, options.backend, dtype, architecture)
    except (RuntimeError, NotImplementedError) as error:
        raise CommandError(str(error)) from error
    report = _report(made, options.batch)
    print("\n".join(_head(made, architecture, options.batch)))
    for name in shown:
        print(f"\n{_section(name, report, shown)}")
    if options.compile:
        table = _compiled(made, architecture)
        statement = f"what Triton makes of the kernels for {options.arch}"
        print(f"\n{_ruler('compile', statement)}\n{table}")
    if options.out is not None:
        print(
            f"\nwrote {', '.join(_write(options.out, made, architecture, report, options.batch))}"
        )
    return 0


# what was asked -----------------------------------------------------------------------------------


def _shown(text: str | None) -> list[str]:
    """The names of the stages to print, in order."""
    if text is None:
        return list(STAGES[:-1])
    wanted = [word.strip() for word in text.split(",") if word.strip()]
    if wanted in (["all"], ["none"]):
        return list(STAGES) if wanted == ["all"] else []
    for word in wanted:
        if word not in STAGES:
            raise CommandError(f"--show {word}: the stages are {', '.join(STAGES)}; or all, none")
    return [s for s in STAGES if s in wanted]


def _operator(text: str, bindings: list[str], dtype: Any) -> LinearOperator:
    """The operator of an expression, without entries.

    Raises:
        CommandError: with a caret at the column where the expression is wrong.
    """
    from structmat.sized import ParseError, free_symbols, parse

    sizes: dict[str, int] = {}
    for part in ",".join(bindings).split(",") if bindings else ():
        match = re.fullmatch(r"\s*([^\W\d]\w*)\s*=\s*(\d+)\s*", part)
        if match is None or int(match[2]) < 1:
            raise CommandError(f"--bind {part!r} is not NAME=NUMBER with a positive number")
        sizes[match[1]] = int(match[2])
        if not re.search(rf"\b{match[1]}\b", text):
            raise CommandError(f"--bind {part}: the expression has no {match[1]}")
    try:
        operator = parse(text, sizes, dtype=dtype, device="meta")
    except ParseError as error:
        raise CommandError(error.message, error.excerpt) from error
    if names := sorted(map(str, free_symbols(operator))):
        raise CommandError(
            f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no number; give it: "
            f"--bind {','.join(f'{n}=1024' for n in names)}"
        )
    return operator


# what is printed ----------------------------------------------------------------------------------


def _ruler(name: str, statement: str = "") -> str:
    from structmat.lowering.pipeline import PASSES

    said = {p.name: p.statement for p in PASSES}
    title = f"{name}: {said.get(name, statement)} "
    return title + "-" * max(4, WIDTH - len(title))


def _section(name: str, report: dict[str, str], shown: list[str]) -> str:
    """A stage under its title; one that changed nothing says so."""
    before = shown[shown.index(name) - 1] if name != shown[0] else None
    same = before is not None and report[before] == report[name]
    return f"{_ruler(name)}\n{f'as after {before}' if same else report[name]}"


def _head(made: Offline, architecture: Architecture, batch: int) -> list[str]:
    """Expression, cost and backend."""
    m, n = made.operator.shape
    cost = made.operator.cost(batch)
    return [
        f"expression  {made.operator._label()}",
        f"            {m} x {n}, {cost.params:,} parameters, {cost.flops / 1e6:,.3f} Mflop and "
        f"{cost.bytes / 1e6:,.3f} MB at batch {batch}",
        *(f"how         {note}" for note in made.notes),
        f"backend     {made.backend}, {made.dtype}, for {architecture.device.name} "
        f"({architecture.device.sms} SMs): {made.reason}",
    ]


def _report(made: Offline, batch: int) -> dict[str, str]:
    """The text of each stage: ``simplify`` with the rules that fired, ``tile`` and ``emit`` also of
    the gradient.
    """
    from structmat.lowering.stages import tile_text

    texts = made.stages(batch)
    steps = [f"{s.rule.name}: {s.before._label()}\n  -> {s.after._label()}" for s in made.steps]
    cost = made.simplified.cost(batch)
    size = f"{cost.params:,} parameters, {cost.flops / 1e6:,.3f} Mflop at batch {batch}"
    texts["simplify"] = "\n".join([*(steps or ["no rule fires"]), texts["simplify"], size])
    gradient = (
        f"no gradient: {made.refusal}"
        if made.gradient is None
        else f"gradient for x and every tensor:\n{tile_text(made.gradient.plan, made.dtype, batch)}"
    )
    texts["tile"] = f"{texts['tile']}\n\n{gradient}"
    texts["emit"] = "\n\n".join(f"# {k}.py\n{m.source}" for k, m in made.modules.items())
    return texts


def _compiled(made: Offline, architecture: Architecture) -> str:
    """Registers, shared memory and spills of each kernel, as a table."""
    from structmat.interop import require
    from structmat.lowering.plan import CUDA_KINDS, kinds_of
    from structmat.lowering.resources import resources

    if made.backend == "torch":
        raise CommandError(f"--compile: the modules have library calls alone ({made.reason})")
    require("triton", "triton")
    lines = ["module    kernel  kind       warps  loop  registers  shared KB  spilled B  products"]
    for name, lowered in made.modules.items():
        if kinds_of(lowered.plan) & CUDA_KINDS:
            require("cuda.core", "cuda")  # the module imports it
        for r in resources(lowered, made.dtype, architecture.capability):
            fits = "" if r.shared <= architecture.device.shared else "  TOO MUCH SHARED MEMORY"
            registers, stack = ("?" if v is None else str(v) for v in (r.registers, r.stack))
            lines.append(
                f"{name:<8}  {r.name:<6}  {r.kind:<9}  {r.warps:>5}  {r.loop:>4}  {registers:>9}  "
                f"{r.shared / 1024:>9.1f}  {stack:>9}  {r.tensor_cores or 'scalar'}{fits}"
            )
        for i, k in enumerate(lowered.plan.kernels):
            if k.kind in CUDA_KINDS:
                lines.append(
                    f"{name:<8}  k{i:<5}  {k.kind:<9}  CUDA C++, which NVRTC compiles there"
                )
    return "\n".join(lines)


# what is written ----------------------------------------------------------------------------------


def _write(
    folder: Path, made: Offline, architecture: Architecture, report: dict[str, str], batch: int
) -> list[str]:
    """Write the modules, the plan and the tables; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = list(STAGES[:-1])
    stages = [f"{_section(name, report, shown)}\n" for name in shown]
    files = {f"{name}.py": lowered.source for name, lowered in made.modules.items()}
    files |= {
        "plan.txt": "\n".join([*_head(made, architecture, batch), "", *stages]),
        "plan.json": made.forward.plan.to_json() + "\n",
    }
    for name, lowered in made.modules.items():
        if lowered.tables:
            tables = [t.array().tolist() for t in lowered.tables]
            files[f"{name}_tables.json"] = json.dumps(tables)
    for name, text in files.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in files]
