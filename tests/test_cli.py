"""The command line as a user types it: output, exit status, and one-line errors."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import structmat as sm
from structmat.cli import main
from structmat.interop import MissingExtra
from structmat.operator import LinearOperator

COMMANDS = ("demo", "project", "lower", "doctor", "cache")


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line on stderr of a command that must end with status 2."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"structmat {argv[0]}: error: ")
    return captured.err


def python(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, check=False, timeout=300
    )


class TestProgram:
    @pytest.mark.parametrize("argv", [["--help"], *([c, "--help"] for c in COMMANDS)])
    def test_help(self, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 0
        assert "usage: structmat" in capsys.readouterr().out

    def test_help_lists_the_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--help"])
        text = capsys.readouterr().out
        assert all(command in text for command in COMMANDS)

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--version"])
        assert capsys.readouterr().out.strip() == sm.__version__

    @pytest.mark.parametrize("argv", [[], ["nonsense"], ["project"], ["demo", "--seed", "x"]])
    def test_usage_errors(self, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
        assert "error:" in capsys.readouterr().err

    def test_as_a_module(self) -> None:
        done = python("-m", "structmat.cli", "project", "no.npy", "--nblocks", "2")
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == "structmat project: error: no.npy: no such file\n"

    def test_import_takes_no_command_line(self) -> None:
        done = python(
            "-c",
            "import sys, structmat; print([m for m in sys.modules if m.split('.')[:2] in "
            "(['structmat', 'cli'], ['structmat', 'demo']) or m.split('.')[0] in "
            "('rich', 'matplotlib', 'tokenizers', 'safetensors')])",
        )
        assert done.stdout.strip() == "[]", done.stderr


class TestProject:
    @pytest.fixture
    def matrix(self, tmp_path: Path) -> Path:
        np.save(tmp_path / "w.npy", np.random.default_rng(0).standard_normal((12, 8)))
        return tmp_path / "w.npy"

    def test_monarch_to_a_file(
        self, matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        safetensors = _safetensors()
        out = tmp_path / "m.safetensors"
        argv = ["--structure", "monarch", "--nblocks", "4", "--rank", "1", "--out", str(out)]
        assert main(["project", str(matrix), *argv]) == 0
        text = capsys.readouterr().out
        w = torch.from_numpy(np.load(matrix))
        found = sm.project(w, sm.Monarch, nblocks=4, rank=1)
        assert f"{float(found.error):.5g} ({float(found.relative_error):.5g} relative)" in text
        assert "lower bound" in text
        assert "80 of 96 dense (83.3%)" in text
        operator = safetensors.load(out)["w"]
        assert isinstance(operator, LinearOperator)
        assert torch.equal(operator.to_dense(), found.operator.to_dense())

    @pytest.mark.parametrize(
        "argv",
        [
            ["--nblocks", "2,4"],
            ["--nblocks", "5", "--pad"],
            ["--structure", "low-rank", "--rank", "3"],
            ["--structure", "block-diagonal", "--nblocks", "4"],
        ],
    )
    def test_structures(
        self, matrix: Path, argv: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["project", str(matrix), *argv]) == 0
        assert "relative" in capsys.readouterr().out

    def test_zero_matrix(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        np.save(tmp_path / "zero.npy", np.zeros((4, 4)))
        assert main(["project", str(tmp_path / "zero.npy"), "--nblocks", "2"]) == 0
        assert "matrix is zero" in capsys.readouterr().out

    def test_torch_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        one, many = str(tmp_path / "one.pt"), str(tmp_path / "many.pth")
        torch.save(torch.randn(4, 4), one)
        torch.save({"a": torch.randn(4, 4), "b": torch.randn(4, 4).half(), "n": 3}, many)
        assert main(["project", one, "--nblocks", "2"]) == 0
        assert main(["project", f"{many}:b", "--nblocks", "2"]) == 0
        assert "b, 4 x 4, float16" in capsys.readouterr().out
        assert "holds 2 tensors; choose one" in fails(capsys, "project", many, "--nblocks", "2")
        error = fails(capsys, "project", f"{many}:c", "--nblocks", "2")
        assert "has no tensor 'c'; it has a, b" in error

    def test_safetensors_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        safetensors = _safetensors()
        path = tmp_path / "model.safetensors"
        safetensors.save(path, {"layer.weight": torch.randn(4, 4), "bias": torch.randn(4)})
        assert main(["project", f"{path}:layer.weight", "--nblocks", "2"]) == 0
        capsys.readouterr()
        error = fails(capsys, "project", f"{path}:bias", "--nblocks", "2")
        assert "expected a matrix" in error
        path.write_bytes(b"nothing")
        assert "not a safetensors file" in fails(capsys, "project", str(path), "--nblocks", "2")

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--nblocks", "5"], "must divide"),
            (["--nblocks", "x"], "is not a number N or a pair K,L"),
            (["--nblocks", "0"], "positive"),
            (["--nblocks", "2", "--rank", "0"], "rank is 0"),
            ([], "--structure monarch needs --nblocks"),
            (["--structure", "low-rank"], "needs --rank"),
            (["--structure", "low-rank", "--nblocks", "2"], "--nblocks does not apply"),
            (["--structure", "block-diagonal", "--nblocks", "4", "--rank", "2"], "--rank does not"),
            (["--nblocks", "4", "--out", "x.npy"], "must end in .safetensors"),
            (["--nblocks", "4", "--out", "no/such/x.safetensors"], "No such file or directory"),
        ],
    )
    def test_option_errors(
        self, matrix: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert message in fails(capsys, "project", str(matrix), *argv)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.ones((2, 2), dtype=np.int64), "int64"),
            (np.full((2, 2), np.nan), "NaN"),
            (np.ones(4), "expected a matrix"),
            (np.array([["a", "b"]]), "array of numbers"),
            (np.array([[None]]), "array of numbers"),
        ],
    )
    def test_content_errors(
        self,
        tmp_path: Path,
        array: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        np.save(tmp_path / "w.npy", array)
        assert message in fails(capsys, "project", str(tmp_path / "w.npy"), "--nblocks", "1")

    def test_file_errors(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for name, message in (("w.npy", "cannot be read as"), ("w.pt", "cannot read it")):
            (tmp_path / name).write_bytes(b"nonsense")
            assert message in fails(capsys, "project", str(tmp_path / name), "--nblocks", "1")
        (tmp_path / "w.npy").write_bytes(b"")
        assert "w.npy" in fails(capsys, "project", str(tmp_path / "w.npy"), "--nblocks", "1")
        assert "expected a file that ends in" in fails(capsys, "project", "w.txt", "--nblocks", "1")


class TestDemo:
    @pytest.mark.parametrize("settings", ["4", "5:1", "4:97"])
    def test_bad_settings(
        self, settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _needs_the_demo()
        error = fails(capsys, "demo", "--settings", settings, "--out", str(tmp_path / "out"))
        assert "setting" in error
        assert not (tmp_path / "out").exists()

    def test_missing_extra(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        def missing(module: str, extra: str = "demo") -> None:
            raise MissingExtra(f"{module} is not installed; run: pip install 'structmat[{extra}]'")

        monkeypatch.setattr("structmat.demo.run.require", missing)
        error = fails(capsys, "demo", "--out", str(tmp_path / "out"))
        assert "pip install 'structmat[demo]'" in error

    @pytest.mark.slow
    def test_quick(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _needs_the_demo()
        out = tmp_path / "out"
        assert main(["demo", "--quick", "--out", str(out)]) == 0
        text = capsys.readouterr().out
        for words in (
            "Layer 0",
            "Layer 5",
            "Whole model",
            "One-shot projection hurts",
            "equal bit",
        ):
            assert words in text
        names = {
            "compressed.safetensors",
            "error_vs_parameters.png",
            "matrices.csv",
            "report.txt",
            "summary.json",
        }
        assert {path.name for path in out.iterdir()} == names
        assert (out / "error_vs_parameters.png").read_bytes().startswith(b"\x89PNG")
        assert len((out / "matrices.csv").read_text().splitlines()) == 1 + 4 * 36
        summaries = json.loads((out / "summary.json").read_text())["summaries"]
        monarch = [s for s in summaries if s["structure"] == "monarch"]
        assert [s["setting"] for s in monarch] == ["4:4", "4:24"]
        # the closed-form optimum is deterministic: errors of this checkpoint, to three digits
        assert monarch[0]["mean_error"] == pytest.approx(0.892, abs=1e-3)
        assert monarch[1]["mean_error"] == pytest.approx(0.553, abs=1e-3)
        assert monarch[1]["cosine_mean"] > monarch[0]["cosine_mean"]


def _safetensors() -> ModuleType:
    pytest.importorskip("safetensors", reason="needs the extra structmat[cli]")
    return importlib.import_module("structmat.interop.safetensors")


def _needs_the_demo() -> None:
    for module in ("safetensors", "tokenizers", "rich", "matplotlib"):
        pytest.importorskip(module, reason="needs the extra structmat[cli]")
    from structmat.demo.encoder import model_folder

    try:
        model_folder()
    except MissingExtra as error:
        pytest.skip(str(error))
