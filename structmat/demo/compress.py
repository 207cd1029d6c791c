"""Project every matrix of the encoder to a structure; measure the cost and the damage.

A setting is (nblocks, rank). A matrix W (m, n) is cut into square blocks of side p = min(m, n) /
nblocks, that is k = n / p blocks along the input and l = m / p along the output, and each of the k
l blocks gets rank r. A Monarch of that shape has r (l n + k m) = 2 r m n / p parameters: the
fraction 2 r / p of the dense matrix, the same for the square attention matrices and for the 4:1
feed-forward ones. nblocks = 1 would be plain low rank, which is the baseline: the truncated SVD
with no more parameters than the Monarch.

Per matrix: relative error ||W - M||_F / ||W||_F, its lower bound, parameters, flops, and the time
of the dense product beside the compiled one. Per setting: sentence embeddings e' of the compressed
model against e of the original, by the cosine of e' and e, the Spearman rank correlation of the
pairwise similarities (upper triangles of e' e'^T and e e^T), and how many sentences keep their
nearest neighbour.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

import structmat as sm
from structmat.demo.encoder import FAMILIES, Encoder, LinearMap
from structmat.operator import LinearOperator
from structmat.projection import Projection

__all__ = [
    "DEFAULT_SETTINGS",
    "QUICK_SETTINGS",
    "Compressed",
    "Row",
    "Setting",
    "SettingError",
    "Summary",
    "compare_embeddings",
    "low_rank_model",
    "measure_times",
    "monarch_model",
    "parse_settings",
    "summarise",
]


class SettingError(ValueError):
    """A setting that is not written as NBLOCKS:RANK, or that does not fit the matrices."""


@dataclass(frozen=True, order=True)
class Setting:
    """Monarch sizes: blocks along the shorter side of a matrix, and the rank of each block."""

    nblocks: int
    rank: int

    def __str__(self) -> str:
        return f"{self.nblocks}:{self.rank}"

    def blocks(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(k, l) for a matrix (m, n): blocks along the input and along the output.

        Raises:
            SettingError: The sides do not split into square blocks, or the rank exceeds a block's
                side.
        """
        m, n = shape
        side, rest = divmod(min(m, n), self.nblocks)
        if rest or m % side or n % side:
            raise SettingError(
                f"setting {self}: a matrix {m} x {n} does not split into square blocks with "
                f"{self.nblocks} along its shorter side; choose a divisor of {min(m, n)}"
            )
        if self.rank > side:
            raise SettingError(
                f"setting {self}: blocks of a matrix {m} x {n} are {side} x {side}, so that the "
                f"rank is at most {side}"
            )
        return n // side, m // side


DEFAULT_SETTINGS = tuple(
    Setting(*pair)
    for pair in ((4, 2), (4, 4), (16, 1), (4, 12), (4, 24), (16, 6), (4, 36), (4, 45))
)
QUICK_SETTINGS = (Setting(4, 4), Setting(4, 24))


def parse_settings(text: str) -> tuple[Setting, ...]:
    """Parse ``NBLOCKS:RANK,NBLOCKS:RANK,...``; repeated settings are kept once.

    Raises:
        SettingError: The text is not of that form.

    Example:
        >>> parse_settings("4:12, 16:1")
        (Setting(nblocks=4, rank=12), Setting(nblocks=16, rank=1))
    """
    settings: list[Setting] = []
    for item in text.split(","):
        nblocks, colon, rank = item.strip().partition(":")
        if not (colon and nblocks.isdecimal() and rank.isdecimal() and int(nblocks) and int(rank)):
            raise SettingError(
                f"setting {item.strip()!r} is not NBLOCKS:RANK with positive integers, e.g. 4:12"
            )
        setting = Setting(int(nblocks), int(rank))
        if setting not in settings:
            settings.append(setting)
    return tuple(settings)


@dataclass(frozen=True)
class Row:
    """One matrix under one setting: times in milliseconds, errors relative to ||W||_F."""

    setting: str
    structure: str
    layer: int
    name: str
    family: str
    rows: int
    columns: int
    relative_error: float
    lower_bound: float
    parameters: int
    dense_parameters: int
    flops: int
    dense_flops: int
    dense_ms: float
    compiled_ms: float


@dataclass(frozen=True)
class Compressed:
    """The encoder's matrices in one structure, by linear name, with their table rows."""

    setting: str
    structure: str
    operators: dict[str, LinearOperator]
    maps: dict[str, LinearMap]
    rows: list[Row]

    @property
    def parameter_ratio(self) -> float:
        """Parameters of all matrices over those of the dense ones."""
        return sum(r.parameters for r in self.rows) / sum(r.dense_parameters for r in self.rows)


@dataclass(frozen=True)
class Summary:
    """One setting over the whole model.

    Attributes:
        setting: The setting, or the name of the baseline.
        structure: ``monarch`` or ``low rank``.
        parameter_ratio: Parameters of the compressed matrices over those of the dense ones.
        flop_ratio: The same for floating point operations.
        mean_error: Relative error, mean over the matrices.
        cosine_mean: Cosine of compressed and original embedding, mean over the sentences.
        cosine_min: The smallest of them.
        spearman: Rank correlation of all pairwise similarities with the original ones.
        same_neighbour: Fraction of sentences that keep their nearest neighbour.
        dense_ms: Sum of the dense times of all matrices.
        compiled_ms: Sum of the compiled times.
    """

    setting: str
    structure: str
    parameter_ratio: float
    flop_ratio: float
    mean_error: float
    cosine_mean: float
    cosine_min: float
    spearman: float
    same_neighbour: float
    dense_ms: float
    compiled_ms: float


def monarch_model(
    encoder: Encoder,
    setting: Setting,
    inputs: Mapping[int, Tensor],
    repeats: int,
    progress: Callable[[], None] = lambda: None,
) -> Compressed:
    """Project every matrix to Monarch, compile it and time it.

    Args:
        encoder: The original model.
        setting: Blocks and rank.
        inputs: Timing inputs (tokens, n) by n.
        repeats: Timed calls per product.
        progress: Called after every matrix.

    Returns:
        The compressed matrices, with a table row for each.
    """

    def project(w: Tensor) -> Projection:
        m, n = w.shape
        return sm.project(w, sm.Monarch, nblocks=setting.blocks((m, n)), rank=setting.rank)

    return _compress(encoder, str(setting), "monarch", project, inputs, repeats, progress)


def low_rank_model(
    encoder: Encoder,
    ratio: float,
    inputs: Mapping[int, Tensor],
    repeats: int,
    progress: Callable[[], None] = lambda: None,
) -> Compressed:
    """The baseline: truncated SVDs with at most ``ratio`` of the dense parameters.

    Other arguments and the result are those of :func:`monarch_model`.
    """

    def project(w: Tensor) -> Projection:
        m, n = w.shape
        return sm.project(w, sm.LowRank, rank=max(1, int(ratio * m * n / (m + n) + 1e-9)))

    return _compress(encoder, f"{ratio:.0%}", "low rank", project, inputs, repeats, progress)


def _compress(
    encoder: Encoder,
    setting: str,
    structure: str,
    project: Callable[[Tensor], Projection],
    inputs: Mapping[int, Tensor],
    repeats: int,
    progress: Callable[[], None],
) -> Compressed:
    """Every matrix through ``project``, ``compile`` and the clock."""
    operators: dict[str, LinearOperator] = {}
    maps: dict[str, LinearMap] = {}
    rows: list[Row] = []
    for name in encoder.linear_names:
        w = encoder.matrix(name)
        m, n = w.shape
        projection = project(w)
        operator = operators[name] = projection.operator
        maps[name] = sm.compile(operator)
        dense_ms, compiled_ms = measure_times(
            [partial(F.linear, weight=w), maps[name]], inputs[n], repeats
        )
        cost, dense = operator.cost(batch=1), sm.Dense(w).cost(batch=1)
        layer, family = name.removeprefix("encoder.layer.").split(".", 1)
        rows.append(
            Row(
                setting=setting,
                structure=structure,
                layer=int(layer),
                name=name,
                family=FAMILIES[family],
                rows=m,
                columns=n,
                relative_error=float(projection.relative_error),
                lower_bound=float(projection.lower_bound) / float(torch.linalg.matrix_norm(w)),
                parameters=int(cost.params),
                dense_parameters=int(dense.params),
                flops=int(cost.flops),
                dense_flops=int(dense.flops),
                dense_ms=dense_ms,
                compiled_ms=compiled_ms,
            )
        )
        progress()
    return Compressed(setting, structure, operators, maps, rows)


@torch.no_grad()
def measure_times(functions: Sequence[LinearMap], x: Tensor, repeats: int) -> list[float]:
    """Median milliseconds of each function of ``x``, called in turns after a warm-up.

    Args:
        functions: What to time.
        x: The input of every call.
        repeats: Timed calls per function.

    Returns:
        One median per function.
    """
    for function in functions:
        function(x)
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, record in zip(functions, times, strict=True):
            start = time.perf_counter()
            function(x)
            record.append(1e3 * (time.perf_counter() - start))
    return [median(record) for record in times]


def compare_embeddings(e: Tensor, original: Tensor) -> dict[str, float]:
    """How far embeddings moved.

    Args:
        e: Embeddings (N, d) of unit length.
        original: Embeddings (N, d) of the same N >= 3 sentences, of unit length.

    Returns:
        ``cosine_mean``, ``cosine_min``, ``spearman``, ``same_neighbour``; see :class:`Summary`.
    """
    cosine = (e * original).sum(1)
    ours, theirs = e @ e.T, original @ original.T
    i, j = torch.triu_indices(len(e), len(e), offset=1)
    rank = spearmanr(ours[i, j].numpy(), theirs[i, j].numpy()).statistic
    nearest = [s.clone().fill_diagonal_(-torch.inf).argmax(1) for s in (ours, theirs)]
    return {
        "cosine_mean": float(cosine.mean()),
        "cosine_min": float(cosine.min()),
        "spearman": float(rank),
        "same_neighbour": float((nearest[0] == nearest[1]).double().mean()),
    }


def summarise(
    model: Compressed, encoder: Encoder, texts: Sequence[str], original: Tensor
) -> Summary:
    """Embed ``texts`` with the compressed model; compare with ``original`` (N, hidden)."""

    def total(values: Iterable[float]) -> float:
        return float(sum(values))

    rows = model.rows
    return Summary(
        setting=model.setting,
        structure=model.structure,
        parameter_ratio=model.parameter_ratio,
        flop_ratio=total(r.flops for r in rows) / total(r.dense_flops for r in rows),
        mean_error=total(r.relative_error for r in rows) / len(rows),
        dense_ms=total(r.dense_ms for r in rows),
        compiled_ms=total(r.compiled_ms for r in rows),
        **compare_embeddings(encoder.replace(model.maps).encode(texts), original),
    )
