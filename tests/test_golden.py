"""Golden text: every form of four named expressions, a run of ``structmat lower``, and hashes of
all generated sources.

A change of the compiler shows here what it changed. To accept it:

    STRUCTMAT_ACCEPT=1 python -m pytest tests/test_golden.py

and read ``git diff tests/golden`` before the commit.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from market import MARKET, Make, entries
from oracle import chains

import structmat as sm
from structmat.cli import main
from structmat.lowering.adjoint import adjoint
from structmat.lowering.passes import choose_layouts, merge_index_maps
from structmat.lowering.pipeline import lower
from structmat.lowering.plan import Device, Plan
from structmat.lowering.record import to_chain

GOLDEN = Path(__file__).with_name("golden")
CONFIGURATIONS = (("torch", "float64"), ("triton", "float32"), ("triton", "bfloat16"))


def compare(name: str, text: str) -> None:
    """The text equals the file, or becomes it with STRUCTMAT_ACCEPT=1; a failure shows a diff."""
    path = GOLDEN / name
    if os.environ.get("STRUCTMAT_ACCEPT") == "1":
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text)
    old = path.read_text() if path.exists() else ""
    if old != text:
        lines = difflib.unified_diff(
            old.splitlines(), text.splitlines(), f"accepted {name}", "now", lineterm=""
        )
        shown = "\n".join(lines)
        pytest.fail(f"{shown}\n\nSTRUCTMAT_ACCEPT=1 accepts it", pytrace=False)


def conjugated(r: Make) -> sm.LinearOperator:
    p = sm.stride_permutation(16, 4)
    return p @ sm.BlockDiagonal(r(4, 4, 4)) @ p.T @ sm.BlockDiagonal(r(4, 4, 4))


def low_rank_and_permutation(r: Make) -> sm.LinearOperator:
    table = torch.randperm(24, generator=torch.Generator().manual_seed(5))
    low_rank = sm.LowRank(r(24, 2), r(2, 24))
    return sm.Permutation(table) @ (low_rank + sm.Diagonal(r(24))) @ sm.stride_permutation(24, 6)


EXPRESSIONS: dict[str, Callable[[Make], sm.LinearOperator]] = {
    "monarch": lambda r: sm.Monarch(r(32, 32, 32), r(32, 32, 32)),
    "conjugated": conjugated,
    "kronecker_mixed": MARKET["kronecker_mixed"],
    "low_rank_and_permutation": low_rank_and_permutation,
}


def stages(op: sm.LinearOperator) -> str:
    """Every form of the expression and of its gradient, as bfloat16 for Triton."""
    simple, steps = sm.simplify(op, trace=True)
    graph = to_chain(simple)[0]
    merged = merge_index_maps(graph)
    gradient = merge_index_maps(adjoint(merged))
    sections = [
        ("expression", op._label()),
        ("simplify", "\n".join([*(step.rule.name for step in steps), simple._label()])),
        ("to_chain", str(graph)),
        ("merge_index_maps", str(merged)),
        ("choose_layouts", str(choose_layouts(merged))),
    ]
    for prefix, chain in (("", merged), ("gradient: ", gradient)):
        low = lower(chain, "triton", "bfloat16", Device(), "golden")
        if prefix:
            sections.append((f"{prefix}chain", str(chain)))
            sections.append((f"{prefix}choose_layouts", str(choose_layouts(chain))))
        sections.append((f"{prefix}fuse", low.fused.describe(2, 1024)))
        sections.append((f"{prefix}tile", tiles(low.plan)))
    return "".join(f"== {name}\n{text}\n\n" for name, text in sections)


def tiles(plan: Plan) -> str:
    """The tiled plan with its launch configurations."""
    return "\n".join(
        [plan.describe(2, 1024), *(f"k{i} {k.tile}" for i, k in enumerate(plan.kernels))]
    )


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_stages(name: str) -> None:
    compare(f"{name}.txt", stages(EXPRESSIONS[name](entries(0))))


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What ``structmat lower`` prints of an expression, by its sizes."""
    expression = "Monarch(n, nblocks=32) @ Diagonal(n) + LowRank(n, 16) @ stride_permutation(n, 4)"
    argv = ["lower", expression, "--bind", "n=1024", "--backend", "triton", "--dtype", "bfloat16"]
    assert main([*argv, "--arch", "sm_90", "--batch", "4096"]) == 0
    compare("lower.txt", capsys.readouterr().out)


def test_plan_as_json() -> None:
    """The schema is read by later versions: a change needs a new version number, or a default."""
    graph = chains(EXPRESSIONS["low_rank_and_permutation"](entries(0)))[0]
    plan = lower(graph, "triton", "bfloat16", Device(), "golden").plan
    compare("plan.json", plan.to_json() + "\n")
    assert Plan.from_json((GOLDEN / "plan.json").read_text()) == plan


@cache
def sources() -> tuple[tuple[str, str], ...]:
    """(what it is, source) for the market, its gradients, and every configuration."""
    out = []
    for name, make in MARKET.items():
        forward, gradient, _ = chains(make(entries(0)))
        for which, graph in (("forward", forward), ("gradient", gradient)):
            for backend, dtype in CONFIGURATIONS:
                low = lower(graph, backend, dtype, Device(), name)
                out.append((f"{name} {which} {backend} {dtype}", low.source))
    return tuple(out)


def test_hashes_of_sources() -> None:
    lines = [f"{hashlib.sha256(s.encode()).hexdigest()[:16]}  {what}" for what, s in sources()]
    compare("sources.txt", "\n".join(lines) + "\n")


def test_lowering_is_deterministic() -> None:
    before = dict(sources())
    for what, source in before.items():
        name, which, backend, dtype = what.split()
        if name in ("monarch", "permuted", "lifted_sum"):
            forward, gradient, _ = chains(MARKET[name](entries(1)))
            graph = gradient if which == "gradient" else forward
            assert lower(graph, backend, dtype, Device(), name).source == source


def test_a_difference_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.modules[__name__], "GOLDEN", tmp_path)
    monkeypatch.delenv("STRUCTMAT_ACCEPT", raising=False)
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    with pytest.raises(pytest.fail.Exception, match=r"(?s)-two.*\+three.*STRUCTMAT_ACCEPT=1"):
        compare("a.txt", "one\nthree\n")
    monkeypatch.setenv("STRUCTMAT_ACCEPT", "1")
    compare("a.txt", "one\nthree\n")
    assert (tmp_path / "a.txt").read_text() == "one\nthree\n"
