"""``structmat doctor`` and ``structmat cache``: what they say, and what they find broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import structmat as sm
from structmat.cli import main
from structmat.commands import doctor, selftest
from structmat.commands.selftest import CUDA_EXPRESSIONS, EXPRESSIONS, TOLERANCE
from structmat.lowering import cache
from structmat.lowering.offline import lower_offline
from structmat.operator import LinearOperator


def report(capsys: pytest.CaptureFixture[str], status: int = 0) -> dict[str, Any]:
    assert main(["doctor", "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for words in (
        f"torch         {torch.__version__}",
        f"structmat     {sm.__version__}",
        "torch on cpu ",
        str(cache.cache_dir()),
        "all is well",
        *doctor.VARIABLES,
        *EXPRESSIONS,
    ):
        assert words in text
    assert "FAILED" not in text


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys)
    assert found["ok"] is True
    assert found["versions"]["structmat"] == sm.__version__
    assert found["devices"][0]["device"] == "cpu"
    assert len(found["devices"]) == 1 + torch.cuda.device_count()
    works = {(b["backend"], b["device"]) for b in found["backends"] if b["works"]}
    assert {("auto", "cpu"), ("torch", "cpu")} <= works
    tested = {(t["backend"], t["device"]) for t in found["tests"]}
    assert tested == works - {("auto", "cpu")}
    assert len(found["tests"]) == len(tested) * len(EXPRESSIONS)
    assert all(t["ok"] and 0 < t["error"] <= TOLERANCE and t["seconds"] > 0 for t in found["tests"])


def test_an_interpreted_backend_is_tested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What claims to work is run; here the claim is false, because triton was imported before."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("on a GPU the kernels run")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(selftest, "EXPRESSIONS", EXPRESSIONS[:1])
    assert main(["doctor"]) in (0, 1)
    text = capsys.readouterr().out
    assert "triton on cpu  works, interpreted" in text
    assert "triton on cpu " in text.partition("OMP_NUM_THREADS")[2]


@pytest.mark.parametrize("backend", ["torch", "triton", "cuda", "auto"])
def test_every_backend_serves_its_expressions(backend: str) -> None:
    """On a machine where it works, that is: forward and backward are lowered."""
    for text in CUDA_EXPRESSIONS if backend == "cuda" else EXPRESSIONS:
        operator = sm.sized.parse(text, dtype=torch.float32)
        made = lower_offline(operator, backend, torch.float32)
        assert made.gradient is not None, made.refusal
        assert backend in ("auto", made.backend)
    assert len(CUDA_EXPRESSIONS) == len(EXPRESSIONS)


def test_extras_come_with_their_pip_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"cli": ("torch", "no-such-package")})
    monkeypatch.setattr(selftest, "EXPRESSIONS", ())
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "no-such-package missing: pip install 'structmat[cli]'" in text
    assert f"torch {torch.__version__}; " in text


def test_extras_are_those_of_the_distribution() -> None:
    import tomllib

    path = Path(__file__).parent.parent / "pyproject.toml"
    extras = tomllib.loads(path.read_text())["project"]["optional-dependencies"]
    for name, packages in doctor.EXTRAS.items():
        said = " ".join(extras[name])
        assert all(p in said for p in packages), name


def test_the_environment_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("STRUCTMAT_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr(selftest, "EXPRESSIONS", ())
    found = report(capsys)
    assert found["environment"]["STRUCTMAT_CACHE"] == str(tmp_path / "none")
    assert found["cache"] == {
        "path": str(tmp_path / "none"),
        "exists": False,
        "writable": True,
        "entries": 0,
        "bytes": 0,
        "damaged": 0,
    }


class Wrong:
    """Compiled operators that are off in the result, or in the gradient alone."""

    def __init__(self, part: str) -> None:
        self.part = part

    def __call__(self, A: LinearOperator, backend: str) -> Any:
        def f(x: torch.Tensor) -> torch.Tensor:
            if self.part == "result":
                return A(x) * (1 + 1e-4)
            return A(x) + 1e-4 * (x - x.detach()).sum()

        return f


@pytest.mark.parametrize("part", ["result", "gradient"])
def test_a_wrong_backend_is_found(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sm, "compile", Wrong(part))
    found = report(capsys, status=1)
    assert found["ok"] is False
    assert all(t["error"] > TOLERANCE for t in found["tests"])
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "FAILED torch on cpu" in text
    assert f"3 of {len(found['tests'])} self-tests FAILED" in text or torch.cuda.is_available()


def test_a_broken_backend_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("no compiler\nanywhere")

    monkeypatch.setattr(sm, "compile", broken)
    assert main(["doctor"]) == 1
    assert "RuntimeError: no compiler  Monarch(64" in capsys.readouterr().out


def test_nan_is_no_small_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sm, "compile", lambda A, backend: lambda x: A(x) * float("nan"))
    assert main(["doctor"]) == 1
    assert "FAILED" in capsys.readouterr().out


# cache --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two modules, one damaged module, and a file of somebody else."""
    monkeypatch.setenv("STRUCTMAT_CACHE", str(tmp_path))
    for digit, title in (("1", "b, 2 x 2"), ("2", "a, 2 x 2"), ("3", "c")):
        about = {"title": title, "backend": "torch", "dtype": "float32", "device": "cpu"}
        cache.store(digit * 32, "def run(): ...", (), about)
    (tmp_path / f"{'3' * 32}.py").write_text("something else")
    (tmp_path / f"{'2' * 32}.sm_90a.cubin").write_text("")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / f"{'1' * 32}.cpython-311.pyc").write_text("")
    return tmp_path


def test_entries(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = cache.entries()
    assert [(e.key[0], e.title, e.sound) for e in found] == [
        ("3", "", False),
        ("2", "a, 2 x 2", True),
        ("1", "b, 2 x 2", True),
    ]
    assert all(e.bytes > 0 for e in found)
    assert main(["cache"]) == 0
    text = capsys.readouterr().out
    assert "torch   float32   a, 2 x 2" in text
    assert "33333333" in text
    assert f"3 modules, 0.0 MB, in {folder}" in text


def test_doctor_counts_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "EXPRESSIONS", ())
    assert main(["doctor"]) == 0
    assert "3 modules, 0.0 MB, 1 of them damaged or of an older version" in capsys.readouterr().out


def test_clear_leaves_other_files_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--clear"]) == 0
    assert f"removed 3 modules, 0.0 MB, from {folder}" in capsys.readouterr().out
    left = sorted(p.name for p in folder.rglob("*") if p.is_file())
    assert left == ["notes.txt"]
    assert cache.entries() == []


def test_no_folder_no_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRUCTMAT_CACHE", str(tmp_path / "none"))
    assert main(["cache"]) == 0
    assert "0 modules" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
