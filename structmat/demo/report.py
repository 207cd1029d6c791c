"""Tables, plain sentences and the figure of the demo.

Everything that is said is computed from the measured rows; no sentence assumes how a run ended.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from structmat.demo.compress import Row, Summary
from structmat.demo.encoder import FAMILIES
from structmat.interop import require

__all__ = [
    "LEGEND",
    "conclusions",
    "figure",
    "layer_table",
    "summary_table",
    "write_csv",
    "write_json",
]

COLORS = ("#2166ac", "#67a9cf", "#1b7837", "#7fbf7b", "#b35806", "#f1a340")
"""Three hues, dark and light: query and key, value and attn out, the two feed-forward maps."""

GREY = "#555555"
MARKERS = (("s", "#b35806"), ("D", "#1b7837"), ("^", "#762a83"))
"""Series of other block counts: marker and colour."""


LEGEND = """\
error: ||W - M|| / ||W||, Frobenius norms, M the Monarch projection of W
bound: no Monarch of this size is nearer to W than this
low rank: error of the truncated SVD of W with at most as many parameters
size, flops: fraction of the dense matrix; comp. ms: time of the compiled operator"""
"""What the columns of :func:`layer_table` mean."""

SUMMARY_LEGEND = """\
cosine: of the sentence embedding with the original model's, mean and worst sentence
Spearman: rank correlation of all pairwise similarities with the original ones
nearest kept: sentences whose most similar other sentence is still the same
dense ms, comp. ms: sum over the matrices"""
"""What the columns of :func:`summary_table` mean."""


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Any:
    """An empty ``rich.table.Table`` that fits 80 columns, with left- and right-aligned headers."""
    table = require("rich.table").Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=require("rich.box").SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    for header in left:
        table.add_column(header, no_wrap=True)
    for header in right:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def layer_table(layer: int, rows: Sequence[Row], low_rank: dict[tuple[str, str], float]) -> Any:
    """Table of one encoder layer: a line for every matrix and setting; see :data:`LEGEND`.

    Args:
        layer: Number of the layer, from 0.
        rows: Monarch rows of any layers.
        low_rank: Error of the low-rank baseline by (matrix name, setting).

    Returns:
        A ``rich.table.Table``.
    """
    table = _table(
        f"\nLayer {layer}",
        ("\nmatrix", "\nshape"),
        (
            "blocks\n: rank",
            "Monarch\nerror",
            "lower\nbound",
            "low rank\nerror",
            "para-\nmeters",
            "\nsize",
            "\nflops",
            "dense\nms",
            "comp.\nms",
        ),
    )
    mine = [r for r in rows if r.layer == layer]
    for family in FAMILIES.values():
        members = [r for r in mine if r.family == family]
        for i, r in enumerate(members):
            table.add_row(
                family if i == 0 else "",
                f"{r.rows}x{r.columns}" if i == 0 else "",
                r.setting,
                f"{r.relative_error:.4f}",
                f"{r.lower_bound:.4f}",
                f"{low_rank[r.name, r.setting]:.4f}",
                f"{r.parameters:,}",
                f"{r.parameters / r.dense_parameters:.1%}",
                f"{r.flops / r.dense_flops:.1%}",
                f"{r.dense_ms:.2f}",
                f"{r.compiled_ms:.2f}",
                end_section=i == len(members) - 1,
            )
    return table


def summary_table(summaries: Sequence[Summary]) -> Any:
    """Table with a line for every setting and baseline, as a ``rich.table.Table``."""
    table = _table(
        "\nWhole model, all matrices replaced at once",
        ("\nstructure",),
        (
            "blocks\n: rank",
            "\nsize",
            "\nflops",
            "mean\nerror",
            "cosine\nmean",
            "cosine\nmin",
            "Spear-\nman",
            "nearest\nkept",
            "dense\nms",
            "comp.\nms",
        ),
    )
    for i, s in enumerate(summaries):
        last = i + 1 == len(summaries) or summaries[i + 1].structure != s.structure
        table.add_row(
            s.structure,
            s.setting if s.structure == "monarch" else "",
            f"{s.parameter_ratio:.1%}",
            f"{s.flop_ratio:.1%}",
            f"{s.mean_error:.3f}",
            f"{s.cosine_mean:.3f}",
            f"{s.cosine_min:.3f}",
            f"{s.spearman:.3f}",
            f"{s.same_neighbour:.0%}",
            f"{s.dense_ms:.0f}",
            f"{s.compiled_ms:.0f}",
            end_section=last,
        )
    return table


def conclusions(rows: Sequence[Row], summaries: Sequence[Summary]) -> list[str]:
    """What the numbers mean, in plain sentences.

    Args:
        rows: Monarch rows.
        summaries: Monarch settings and low-rank baselines.
    """
    monarch = sorted(
        (s for s in summaries if s.structure == "monarch"),
        key=lambda s: (s.parameter_ratio, -s.mean_error),
    )
    small, large = monarch[0], monarch[-1]
    gap = max(abs(r.relative_error - r.lower_bound) for r in rows)
    out = [
        f"Every projection is the best one there is: error and lower bound differ by at most "
        f"{gap:.0e} of the matrix norm. What is lost below is lost to the structure."
        if gap < 1e-3
        else f"Error and lower bound differ by up to {gap:.1%} of the matrix norm.",
        f"One-shot projection hurts. With {small.parameter_ratio:.0%} of the parameters "
        f"({_sizes(small)}) the matrices are off by {small.mean_error:.0%} on average and the "
        f"embeddings {_verdict(small)}.",
    ]
    half = [s for s in monarch if s.parameter_ratio <= 0.51]
    if half and half[-1] not in (small, large):
        s = half[-1]
        out.append(
            f"With {s.parameter_ratio:.0%} ({_sizes(s)}) the error is {s.mean_error:.0%} and the "
            f"embeddings {_verdict(s)}."
        )
    if large is not small:
        out.append(
            f"Even with {large.parameter_ratio:.0%} ({_sizes(large)}) the error is "
            f"{large.mean_error:.0%} and the embeddings {_verdict(large)}."
        )
    out.append(_against_low_rank(monarch, [s for s in summaries if s.structure != "monarch"]))
    faster = [s for s in monarch if s.compiled_ms < s.dense_ms]
    best = max(monarch, key=lambda s: s.dense_ms / s.compiled_ms)
    out.append(
        f"On this CPU the compiled Monarch is faster than dense in {len(faster)} of "
        f"{len(monarch)} settings; the largest factor is {best.dense_ms / best.compiled_ms:.2f} "
        f"({_sizes(best)}, which needs {best.flop_ratio:.0%} of the flops)."
    )
    out.append(
        "Nothing was trained here: a projection is where fine-tuning starts, not where compression "
        "ends."
    )
    return out


def _sizes(s: Summary) -> str:
    """A Monarch setting in words."""
    nblocks, _, rank = s.setting.partition(":")
    return f"{nblocks} blocks, rank {rank}"


def _verdict(s: Summary) -> str:
    """What a summary says about the embeddings, as the end of a sentence."""
    c = s.cosine_mean
    words = (
        (0.99, "are practically the original ones"),
        (0.95, "stay close to the original ones"),
        (0.80, "are recognisable but clearly damaged"),
        (0.50, "are badly damaged"),
    )
    text = next((word for least, word in words if c >= least), "have little left of the original")
    return (
        f"{text} (cosine {c:.2f} on average, {s.cosine_min:.2f} at worst; "
        f"{s.same_neighbour:.0%} of the sentences keep their nearest neighbour)"
    )


def _against_low_rank(monarch: Sequence[Summary], low_rank: Sequence[Summary]) -> str:
    """Monarch beside the baseline with the same number of parameters."""
    pairs = [
        (s, min(low_rank, key=lambda b: abs(b.parameter_ratio - s.parameter_ratio)))
        for s in monarch
    ]
    by_error = sum(s.mean_error < b.mean_error for s, b in pairs)
    by_cosine = sum(s.cosine_mean > b.cosine_mean for s, b in pairs)
    difference = fmean(s.mean_error - b.mean_error for s, b in pairs)
    return (
        f"Against plain low rank of the same size, Monarch has the smaller matrix error in "
        f"{by_error} and the better embeddings in {by_cosine} of {len(pairs)} settings (its "
        f"error is {abs(difference):.3f} {'higher' if difference > 0 else 'lower'} on average): "
        + (
            "for these weights, without training, the global singular vectors are worth more than "
            "the blocks. (A Monarch matrix can have full rank, a low-rank one cannot.)"
            if by_error <= len(pairs) / 2
            else "for these weights the blocks are worth more than the global singular vectors."
        )
    )


def figure(path: Path, rows: Sequence[Row], summaries: Sequence[Summary], title: str) -> None:
    """Write the PNG: relative error (left) and cosine similarity (right) against parameters.

    Args:
        path: File to write.
        rows: Rows of Monarch settings and of low-rank baselines.
        summaries: The same settings and baselines over the whole model.
        title: Headline of the figure.
    """
    require("matplotlib").use("Agg")
    plt = require("matplotlib.pyplot")
    ticker = require("matplotlib.ticker")
    style = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "grid.color": "#e4e4e4",
        "legend.frameon": False,
        "legend.fontsize": 9,
    }
    with plt.rc_context(style):
        drawing, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.8), layout="constrained")
        _draw_errors(left, rows, summaries)
        _draw_cosines(right, summaries)
        widest = max(1.0, *(s.parameter_ratio for s in summaries))
        for axes in (left, right):
            axes.set_xlim(0, 1.04 * widest)
            axes.set_xlabel("parameters, fraction of the dense matrices")
            axes.xaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
            axes.set_axisbelow(True)
        drawing.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        drawing.savefig(path, dpi=160)
        plt.close(drawing)


def _main_series(summaries: Iterable[Summary]) -> str:
    """The number of blocks with most settings: the series that gets a line."""
    blocks = [s.setting.partition(":")[0] for s in summaries if s.structure == "monarch"]
    return max(dict.fromkeys(blocks), key=blocks.count)


def _draw_errors(axes: Any, rows: Sequence[Row], summaries: Sequence[Summary]) -> None:
    """Left: a solid Monarch line and a dashed low-rank line for each kind of matrix."""
    main = _main_series(summaries)
    for family, color in zip(FAMILIES.values(), COLORS, strict=True):
        lines = ((f"{main}:", "o-", 1.7, family), ("", "--", 1.0, None))
        for prefix, look, width, label in lines:
            points = _mean_points(
                (r.parameters / r.dense_parameters, r.relative_error)
                for r in rows
                if r.family == family
                and (r.structure == "monarch") == bool(prefix)
                and r.setting.startswith(prefix)
            )
            axes.plot(*zip(*points, strict=True), look, color=color, ms=4, lw=width, label=label)
    axes.plot([], [], "--", color=GREY, lw=1.0, label="low rank, same colours")
    axes.plot([1.0], [0.0], "*", color="#222222", ms=11, clip_on=False, label="dense")
    axes.set_ylim(0, 1)
    axes.set_ylabel(r"relative error  $\|W - M\|_F\,/\,\|W\|_F$")
    axes.set_title(f"Optimal Monarch projection, {main} blocks, mean over layers")
    axes.legend(loc="lower left")


def _draw_cosines(axes: Any, summaries: Sequence[Summary]) -> None:
    """Right: the longest Monarch series as a line with a band down to the worst sentence."""
    main = _main_series(summaries)
    series: dict[str, list[Summary]] = {}
    for s in sorted(summaries, key=lambda s: s.parameter_ratio):
        key = "low rank" if s.structure != "monarch" else s.setting.partition(":")[0]
        series.setdefault(key, []).append(s)
    others = sorted((key for key in series if key not in (main, "low rank")), key=int)
    for key in (main, *others, "low rank"):
        x = [s.parameter_ratio for s in series[key]]
        mean = [s.cosine_mean for s in series[key]]
        if key == main:
            worst = [s.cosine_min for s in series[key]]
            axes.fill_between(x, worst, mean, color=COLORS[0], alpha=0.13, lw=0)
            axes.plot(x, mean, "o-", color=COLORS[0], ms=5, lw=1.8, label=f"{key} blocks, mean")
            axes.plot(x, worst, "-", color=COLORS[0], lw=0.8, label=f"{key} blocks, worst sentence")
            for s in series[key]:
                rank = s.setting.partition(":")[2]
                axes.annotate(
                    f"rank {rank}" if s is series[key][-1] else rank,
                    (s.parameter_ratio, s.cosine_mean),
                    textcoords="offset points",
                    xytext=(4, -13),
                    fontsize=8,
                    color=COLORS[0],
                )
        elif key == "low rank":
            axes.plot(x, mean, "--", color=GREY, lw=1.4, label="low rank, mean")
        else:
            marker, color = MARKERS[others.index(key) % len(MARKERS)]
            axes.plot(x, mean, marker, color=color, ms=6, mfc="none", label=f"{key} blocks, mean")
    axes.plot([1.0], [1.0], "*", color="#222222", ms=11, label="dense")
    axes.set_ylim(min(0.0, *(s.cosine_min for s in summaries)), 1.04)
    axes.set_ylabel("cosine with the original embedding")
    axes.set_title("Sentence embeddings of the compressed model")
    axes.legend(loc="upper left")


def _mean_points(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Mean y for every x, in order of x."""
    groups: dict[float, list[float]] = {}
    for x, y in points:
        groups.setdefault(x, []).append(y)
    return [(x, fmean(groups[x])) for x in sorted(groups)]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write every row, Monarch and baseline, as CSV with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def write_json(path: Path, summaries: Sequence[Summary], facts: dict[str, Any]) -> None:
    """Write the summaries and what was measured on (versions, threads, counts) as JSON."""
    content = {**facts, "summaries": [asdict(s) for s in summaries]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
