"""The demo from beginning to end: load, project, measure, save, reload, report.

Files in the output folder:

- ``compressed.safetensors``: the whole model with the matrices of one setting as Monarch operators;
- ``error_vs_parameters.png``: the figure;
- ``matrices.csv``, ``summary.json``: every number; ``report.txt``: what was printed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import structmat as sm
from structmat.demo import report
from structmat.demo.compress import (
    DEFAULT_SETTINGS,
    QUICK_SETTINGS,
    Compressed,
    Setting,
    Summary,
    low_rank_model,
    monarch_model,
    summarise,
)
from structmat.demo.encoder import Encoder, LinearMap, sentences
from structmat.interop import require
from structmat.operator import LinearOperator

__all__ = ["Options", "ReloadError", "run"]

TITLE = "all-MiniLM-L6-v2: all attention and feed-forward matrices projected, nothing retrained"

TOKENS = 1024
"""Rows of the timing input: about as many as 70 sentences have."""


class ReloadError(RuntimeError):
    """The compressed model differs after it was written and read back."""


@dataclass(frozen=True)
class Options:
    """What ``structmat demo`` takes.

    Attributes:
        out: Output folder; made if missing, files in it are replaced.
        settings: Monarch settings; None for the default ones.
        quick: Fewer settings and timing repeats.
        seed: Seed of the timing inputs.
    """

    out: Path = Path("structmat-demo")
    settings: tuple[Setting, ...] | None = None
    quick: bool = False
    seed: int = 0


def run(options: Options) -> list[Summary]:
    """Run the demo and print it.

    Returns:
        A summary per Monarch setting and per baseline.

    Raises:
        MissingExtra: A package of the extra ``demo`` is missing.
        SettingError: A setting does not fit the matrices of the model.
        ReloadError: The reloaded model differs from the saved one.
    """
    console = _console()
    for module in ("matplotlib", "safetensors", "tokenizers"):
        require(module, "demo")
    start = time.perf_counter()
    encoder, texts = Encoder.load(), sentences()
    settings = options.settings or (QUICK_SETTINGS if options.quick else DEFAULT_SETTINGS)
    shapes = {tuple(encoder.matrix(name).shape) for name in encoder.linear_names}
    for setting in settings:
        for m, n in shapes:
            setting.blocks((m, n))
    options.out.mkdir(parents=True, exist_ok=True)

    original = encoder.encode(texts)
    count = sum(encoder.matrix(name).numel() for name in encoder.linear_names)
    total = sum(t.numel() for t in encoder.weights.values())
    console.print(
        f"[bold]all-MiniLM-L6-v2[/]: {total / 1e6:.1f} M parameters, of which {count / 1e6:.1f} M "
        f"in the {len(encoder.linear_names)} attention and feed-forward matrices that are "
        f"projected; word embeddings and the rest stay. {len(texts)} sentences, "
        f"{encoder.count_tokens(texts)} tokens. Times: {TOKENS} tokens, "
        f"{torch.get_num_threads()} threads, median."
    )
    models, summaries, chosen = _measure(console, encoder, texts, original, settings, options)
    monarch = [row for m in models if m.structure == "monarch" for row in m.rows]
    console.print(f"\n{report.LEGEND}", highlight=False)
    for layer in range(encoder.config.layers):
        console.print(report.layer_table(layer, monarch, _baseline_errors(models)))
    console.print(report.summary_table(summaries))
    console.print(f"{report.SUMMARY_LEGEND}\n", highlight=False)
    for sentence in report.conclusions(monarch, summaries):
        console.print(f"- {sentence}", highlight=False)

    saved = options.out / "compressed.safetensors"
    _save_and_check(console, saved, encoder, chosen, texts)
    picture = options.out / "error_vs_parameters.png"
    rows = [row for m in models for row in m.rows]
    report.figure(picture, rows, summaries, TITLE)
    report.write_csv(options.out / "matrices.csv", rows)
    facts = {
        "structmat": sm.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "tokens": TOKENS,
        "sentences": len(texts),
        "saved_setting": chosen.setting,
    }
    report.write_json(options.out / "summary.json", summaries, facts)
    console.print(
        f"Wrote {picture}, matrices.csv, summary.json, report.txt. "
        f"{time.perf_counter() - start:.0f} s in all.",
        markup=False,
    )
    console.save_text(str(options.out / "report.txt"))
    return summaries


def _console() -> Any:
    """A recording console, wide enough for the tables where the output is no terminal."""
    console = require("rich.console", "demo").Console(record=True)
    if not console.is_terminal:
        console.width = 100
    return console


def _measure(
    console: Any,
    encoder: Encoder,
    texts: Sequence[str],
    original: Tensor,
    settings: Sequence[Setting],
    options: Options,
) -> tuple[list[Compressed], list[Summary], Compressed]:
    """All settings, then a low-rank baseline per distinct size; the third is the model to save."""
    widths = sorted({encoder.matrix(name).shape[1] for name in encoder.linear_names})
    generator = torch.Generator().manual_seed(options.seed)
    inputs = {n: torch.randn(TOKENS, n, generator=generator) for n in widths}
    repeats = 3 if options.quick else 7
    stop = time.perf_counter() + 0.5
    while time.perf_counter() < stop:  # threads and clocks wake up before anything is timed
        encoder.encode(texts[:8])
    models: list[Compressed] = []
    summaries: list[Summary] = []
    chosen: tuple[Summary, Compressed] | None = None
    matrices = len(encoder.linear_names)
    with _progress(console) as progress:
        task = progress.add_task("", total=2 * len(settings) * matrices)

        def step() -> None:
            progress.advance(task)

        for setting in settings:
            progress.update(task, description=f"Monarch, blocks : rank = {setting}")
            model = monarch_model(encoder, setting, inputs, repeats, step)
            summary = summarise(model, encoder, texts, original)
            if chosen is None or _rank(summary) > _rank(chosen[0]):
                chosen = summary, model
            models.append(Compressed(model.setting, model.structure, {}, {}, model.rows))
            summaries.append(summary)
        ratios = list(dict.fromkeys(s.parameter_ratio for s in summaries))
        progress.update(task, total=(len(settings) + len(ratios)) * matrices)
        for ratio in sorted(ratios):
            progress.update(task, description=f"low rank, {ratio:.0%} of the parameters")
            model = low_rank_model(encoder, ratio, inputs, repeats, step)
            summaries.append(summarise(model, encoder, texts, original))
            models.append(Compressed(model.setting, model.structure, {}, {}, model.rows))
    assert chosen is not None  # settings is never empty
    return models, summaries, chosen[1]


def _progress(console: Any) -> Any:
    """One progress bar with the time that is left."""
    rich = require("rich.progress")
    return rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn("matrices"),
        rich.TimeElapsedColumn(),
        rich.TextColumn("left"),
        rich.TimeRemainingColumn(),
        console=console,
    )


def _rank(s: Summary) -> tuple[bool, float]:
    """Order for the model to save: the best embeddings at half the size, else the smallest."""
    fits = s.parameter_ratio <= 0.5
    return fits, s.cosine_mean if fits else -s.parameter_ratio


def _baseline_errors(models: Sequence[Compressed]) -> dict[tuple[str, str], float]:
    """Error of the low-rank baseline of the same size, by (matrix name, Monarch setting)."""
    baselines = [m for m in models if m.structure != "monarch"]
    errors = {}
    for model in models:
        if model.structure == "monarch":
            size = model.parameter_ratio
            nearest = min(baselines, key=lambda b: abs(b.parameter_ratio - size))
            for row in nearest.rows:
                errors[row.name, model.setting] = row.relative_error
    return errors


def _save_and_check(
    console: Any, path: Path, encoder: Encoder, model: Compressed, texts: Sequence[str]
) -> None:
    """Save the compressed model, reload it from the file alone, compare bit by bit."""
    from structmat.interop import safetensors

    matrices = {f"{name}.weight": operator for name, operator in model.operators.items()}
    rest = {name: t for name, t in encoder.weights.items() if name not in matrices}
    safetensors.save(path, {**rest, **matrices})

    weights: dict[str, Tensor] = {}
    maps: dict[str, LinearMap] = {}
    same = True
    for name, value in safetensors.load(path).items():
        if isinstance(value, LinearOperator):
            ours, theirs = value.named_tensors(), matrices[name].named_tensors()
            same = same and value.structure == matrices[name].structure
            same = same and all(torch.equal(ours[key], theirs[key]) for key in theirs)
            maps[name.removesuffix(".weight")] = sm.compile(value)
        else:
            same = same and torch.equal(value, rest[name])
            weights[name] = value
    if not same or len(weights) + len(maps) != len(encoder.weights):
        raise ReloadError(f"{path}: the tensors read back differ from those that were saved")
    reloaded = Encoder(weights, encoder.config, encoder.tokenizer, maps)
    if not torch.equal(reloaded.encode(texts), encoder.replace(model.maps).encode(texts)):
        raise ReloadError(f"{path}: the reloaded model computes other embeddings")
    before = sum(t.numel() * t.element_size() for t in encoder.weights.values())
    dense = sum(4 * row.dense_parameters for row in model.rows)
    kept = sum(4 * row.parameters for row in model.rows)
    console.print(
        f"Saved the model of setting {model.setting} and read it back: tensors and embeddings are "
        f"equal bit by bit. {path}: {path.stat().st_size / 1e6:.1f} MB instead of "
        f"{before / 1e6:.1f} MB; the matrices take {kept / 1e6:.1f} MB instead of "
        f"{dense / 1e6:.1f} MB, the rest is mostly word embeddings.",
        markup=False,
    )
