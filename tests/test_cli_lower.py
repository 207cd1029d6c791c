"""``structmat lower``: stages, files, options and errors with a caret."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import import_source

import structmat as sm
from structmat.cli import main
from structmat.commands.lower import ARCHITECTURES, STAGES
from structmat.lowering import offline
from structmat.lowering.ir import Gradient, Graph, Input, interpret
from structmat.lowering.offline import lower_offline
from structmat.lowering.pipeline import PASSES, Lowered, lower
from structmat.lowering.plan import Plan

MONARCH = "Monarch(1024, nblocks=32) @ Diagonal(1024)"
TABLES = "Monarch(n, nblocks=8) @ Permutation(n) + LowRank(n, 3)"


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What the command prints where it succeeds."""
    assert main(["lower", *argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    """The lines on stderr of a command that must end with status 2."""
    assert main(["lower", *argv]) == 2
    captured = capsys.readouterr()
    first, *rest = captured.err.splitlines()
    assert first.startswith("structmat lower: error: ")
    return [first.removeprefix("structmat lower: error: "), *rest]


def test_names_are_those_of_the_compiler() -> None:
    assert tuple(p.name for p in PASSES) == STAGES
    assert tuple(offline.ARCHITECTURES) == ARCHITECTURES


def test_stages_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, MONARCH, "--show", "all")
    assert "diagonal_into_columns: Monarch(32 of 32x32, 32 of 32x32) @ Diagonal(1024)" in text
    places = [text.index(f"\n{p.name}: {p.statement} ---") for p in PASSES]
    assert places == sorted(places)
    assert text.count("\ndef run(inputs, values, tables=()):") == 2
    assert "backend     gpu, bfloat16, for NVIDIA H100 sm_90 (132 SMs)" in text


def test_some_stages(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, MONARCH, "--show", "fuse,to_chain")
    assert text.index("\nto_chain: ") < text.index("\nfuse: ")
    assert "simplify: " not in text
    assert "---" not in run(capsys, MONARCH, "--show", "none")
    assert "emit: " not in run(capsys, MONARCH)


def test_inverses(capsys: pytest.CaptureFixture[str]) -> None:
    """Kept where there are digits enough, called where not; nothing is factored here."""
    text = run(capsys, "inv(Dense(4096))", "--dtype", "float32")
    assert "\nhow         Dense(4096x4096)^-1: lu factors, made when its numbers change\n" in text
    assert "apply solve(4096, 'lu', False) w0 to v0[1 1 4096 1]" in text
    assert "backend     torch, float32, for NVIDIA H100 sm_90 (132 SMs): Solve runs" in text
    text = run(capsys, "inv(Dense(4096))")
    assert "dense lu, at every call: factors in torch.bfloat16" in text
    assert "apply call(Dense(4096x4096)^-1, " in text
    narrow = sm.inv(sm.sized.Dense(64, dtype=torch.bfloat16, device="meta"))
    made = offline.lower_offline(narrow, dtype=torch.float32)
    assert made.notes == ("Dense(64x64)^-1: lu factors, made when its numbers change",)


def test_options_reach_the_planner(capsys: pytest.CaptureFixture[str]) -> None:
    bytes_of = "4.325 MB, 134.218 Mflop at batch 1024"
    assert bytes_of in run(capsys, MONARCH)
    assert "33.686 MB, 1073.742 Mflop at batch 8192" in run(capsys, MONARCH, "--batch", "8192")
    assert "SMS = 108" in run(capsys, MONARCH, "--show", "emit", "--arch", "sm_80")
    assert "SMS = 142" in run(capsys, MONARCH, "--show", "emit", "--arch", "sm_89")
    wide = run(capsys, MONARCH, "--dtype", "float32", "--show", "all")
    assert "DTYPE = torch.float32" in wide
    assert "torch.float64 products run in the vendor's" in run(
        capsys, MONARCH, "--dtype", "float64", "--show", "none"
    )
    library = run(capsys, "DFT(n) @ Dense(n)", "--bind", "n=8", "--show", "none")
    assert "backend     torch, complex64" in library


def test_nothing_of_the_size_is_allocated(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "Dense(n) @ Monarch(n, nblocks=1024)", "--bind", f"n={2**20}")
    assert f"{2**40 + 2 * 2**30:,} parameters" in text


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "out"
    text = run(capsys, TABLES, "--bind", "n=64", "--backend", "torch", "-o", str(out))
    names = ["forward.py", "gradient.py", "plan.txt", "plan.json"]
    names += ["forward_tables.json", "gradient_tables.json"]
    assert sorted(p.name for p in out.iterdir()) == sorted(names)
    assert f"wrote {', '.join(str(out / n) for n in names)}" in text
    plan = (out / "plan.txt").read_text()
    assert all(f"\n{p.name}: " in plan for p in PASSES[:-1])
    made = lower_offline(sm.sized.parse(TABLES, {"n": 64}), "torch", torch.float64)
    kept = Plan.from_json((out / "plan.json").read_text())
    assert kept == replace(made.forward.plan, dtype="bfloat16")
    assert list(made.modules) == ["forward", "gradient"]
    for name, lowered in made.modules.items():
        graph = lowered.plan.graph
        generator = torch.Generator().manual_seed(0)
        sizes = [nd.size for nd in graph.nodes if isinstance(nd, Input)]
        inputs = [torch.randn(3, n, generator=generator, dtype=torch.float64) for n in sizes]
        values = [torch.randn(s, generator=generator, dtype=torch.float64) for s in graph.shapes]
        tables = json.loads((out / f"{name}_tables.json").read_text())
        module = import_source((out / f"{name}.py").read_text(), tmp_path)
        got = module.run(inputs, values, [torch.tensor(t) for t in tables])
        for a, b in zip(got, interpret(graph, inputs, values), strict=True):
            torch.testing.assert_close(a.reshape(b.shape), b)


def test_no_tables_no_files_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, MONARCH, "--out", str(tmp_path))
    names = ["forward.py", "gradient.py", "plan.json", "plan.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert "gradient of Monarch(" in (tmp_path / "gradient.py").read_text()


WITHOUT_TRITON = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from structmat.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_triton_need_not_be_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [MONARCH, "--backend", "triton", "--show", "all"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRITON, "lower", *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stderr == ""
    assert done.stdout == run(capsys, *argv)
    monkeypatch.setitem(sys.modules, "triton", None)
    (line,) = fails(capsys, MONARCH, "--compile", "--show", "none")
    assert line == "triton is not installed; run: pip install 'structmat[triton]'"


@pytest.mark.skipif(find_spec("triton") is None, reason="needs the extra structmat[triton]")
def test_compile_reports_resources(capsys: pytest.CaptureFixture[str]) -> None:
    triton = ("--backend", "triton")
    text = run(capsys, MONARCH, "--compile", "--show", "none", *triton)
    rows = [
        line.split() for line in text.splitlines() if line.startswith(("forward ", "gradient "))
    ]
    made = lower_offline(sm.sized.parse(MONARCH, dtype=torch.bfloat16, device="meta"), "triton")
    own = [k.kind for k in made.forward.plan.kernels]
    assert [r[2] for r in rows if r[0] == "forward" and r[4] == "1"] == own
    for _, _, _, warps, loop, registers, shared, spilled, *_ in rows:
        assert int(warps) in (1, 2, 4, 8, 16)
        assert int(loop) >= 1
        assert 16 <= int(registers) <= 255
        assert 0 <= float(shared) <= 227
        assert int(spilled) <= 64
    assert any(r[-1] in ("mma.sync", "wgmma") for r in rows)
    older = run(capsys, MONARCH, "--compile", "--show", "none", "--arch", "sm_80", *triton)
    assert "wgmma" not in older  # an instruction of sm_90


def test_cuda_modules(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "Butterfly(64)", "--backend", "cuda", "--show", "all")
    assert "backend     cuda, bfloat16" in text
    assert text.count("__global__") >= 2
    assert "@triton.jit" not in text
    both = run(capsys, "Hadamard(1024) @ Monarch(1024)", "--show", "all")
    assert "backend     gpu, bfloat16" in both
    assert "@triton.jit" in both
    assert "__global__" in both


def test_a_backend_may_serve_the_forward_pass_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forward_alone(graph: Graph, *arguments: Any) -> Lowered:
        if any(isinstance(node, Gradient) for node in graph.nodes):
            raise RuntimeError("backend='cuda': no kernel of that kind")
        return lower(graph, *arguments)

    monkeypatch.setattr("structmat.lowering.offline.lower", forward_alone)
    text = run(capsys, MONARCH, "--show", "tile", "-o", str(tmp_path))
    assert "\n\nno gradient: backend='cuda': no kernel of that kind\n" in text
    names = ["forward.py", "plan.json", "plan.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


ERRORS = [
    (["Monrach(16)"], "unknown name 'Monrach'; did you mean Monarch", 0),
    (["Dense(4) @ Dense(5)"], "cannot multiply Dense(4x4) by Dense(5x5)", 9),
    (["é + Dnse(4)"], "unknown name 'Dnse'; did you mean Dense", 4),
    (["__import__('os').system('true')"], "only structures and combinators", 0),
    (["Dense(4"], "'(' was never closed", 5),
    ([""], "an empty expression", 0),
]


@pytest.mark.parametrize(("argv", "message", "column"), ERRORS, ids=[e[0][0] for e in ERRORS])
def test_a_caret_at_the_column(
    argv: list[str], message: str, column: int, capsys: pytest.CaptureFixture[str]
) -> None:
    first, shown, caret = fails(capsys, *argv)
    assert message in first
    assert shown == f"  {argv[0]}"
    assert caret == f"  {' ' * column}^"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["Monarch(n, nblocks=k)"], "k, n have no number; give it: --bind k=1024,n=1024"),
        (["Dense(n)", "--bind", "n"], "--bind 'n' is not NAME=NUMBER"),
        (["Dense(n)", "--bind", "n=0"], "--bind 'n=0' is not NAME=NUMBER with a positive"),
        (["Dense(n)", "--bind", "n=4,m=4"], "--bind m=4: the expression has no m"),
        (["Dense(4)", "--show", "fuze"], "--show fuze: the stages are simplify, to_chain"),
        (["Dense(4)", "--batch", "0"], "--batch 0"),
        (["Hankel(8)", "--backend", "triton"], "runs in library calls; use backend='torch'"),
        (["DFT(8) @ Dense(8)", "--backend", "triton"], "backend='triton'"),
        (["inv(Dense(8))", "--backend", "triton"], "Dense(8x8)^-1 runs in library calls"),
        (["Hankel(8)", "--compile", "--show", "none"], "--compile: the modules have library calls"),
    ],
)
def test_errors(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = fails(capsys, *argv)
    assert message in line


def test_the_folder_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    (line,) = fails(capsys, "Dense(4)", "-o", str(tmp_path / "file" / "out"))
    assert "Not a directory" in line


@pytest.mark.parametrize("option", ["--backend", "--arch", "--dtype"])
def test_choices(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["lower", "Dense(4)", option, "nonsense"])
    assert stop.value.code == 2
    assert "invalid choice: 'nonsense'" in capsys.readouterr().err
