"""The page on your own structure runs, block by block, as it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import structmat as sm
from structmat.linalg.opaque import opaque
from structmat.operator import REGISTRY
from structmat.rules.table import MATCHES, TABLE
from structmat.testing import check_operator

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """The page's names; its rules and classes are forgotten afterwards."""
    before, known = list(TABLE), dict(REGISTRY)
    torch.manual_seed(0)
    yield {"__name__": "extending"}
    TABLE[:] = before
    MATCHES.clear()
    REGISTRY.clear()
    REGISTRY.update(known)


def test_page_runs(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) >= 6
    for i, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, block {i}", "exec"), names)
    printed = capsys.readouterr().out
    assert "torch on cpu" in printed
    assert "Permutation" in printed


class Last(sm.LinearOperator):
    """The last of n entries; says no more than it must."""

    n: int

    def __init__(self, n: int) -> None:
        self._init(static={"n": n, "dtype": None})

    def _shape(self) -> tuple[int, int]:
        return 1, self.n

    def _apply(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., -1:]

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(y, (self.n - 1, 0))

    def _dense(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return torch.eye(self.n, dtype=dtype, device=device)[-1:]


def test_rectangular_leaf_without_words() -> None:
    wide = torch.float64
    check_operator(Last(4))
    check_operator(sm.kron(Last(3), sm.Dense(torch.randn(2, 5, dtype=wide)), Last(2)))
    check_operator(Last(3).T @ Last(3) + sm.Identity(3, wide))
    assert Last(5).T.cost().flops >= 0


class Doubled(Last):
    """The last of n entries, times a number of its own."""

    event_dims: ClassVar[dict[str, int]] = {"by": 0}
    by: torch.Tensor

    def __init__(self, n: int, by: torch.Tensor) -> None:
        self._init({"by": by}, static={"n": n, "dtype": None})

    def _apply(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., -1:] * self.by[..., None, None].to(x.dtype)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        by = self.by[..., None, None].conj().to(y.dtype)
        return torch.nn.functional.pad(y * by, (self.n - 1, 0))

    def _dense(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return super()._dense(dtype, device) * self.by[..., None, None].to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_functions_compile_to_calls(dtype: torch.dtype) -> None:
    """Also transposed, lifted, in sums, and as a batch."""
    by = torch.tensor([2.0, -3.0], dtype=dtype)
    for op in (Last(4), Doubled(4, by[0]), Doubled(4, by)):
        check_operator(op, backends=("torch",))
        check_operator(op.T, backends=("torch",))
        check_operator(op.H @ op + sm.Identity(4, dtype), backends=("torch",))
    lifted = sm.kron(sm.Dense(torch.ones(2, 3, dtype=dtype)), Doubled(4, by[1]), sm.Identity(2))
    check_operator(lifted, backends=("torch",))
    f = sm.compile(lifted.T)
    assert "Doubled(1x4).T: its own function" in f.explain()
    assert "import act" in f.source


def test_classes_of_one_name_are_refused() -> None:
    first = Last

    def again() -> sm.LinearOperator:
        class Last(first):  # type: ignore[valid-type, misc]
            """Another class, which does not take the place of the first."""

        made: sm.LinearOperator = Last(3)
        return made

    other = again()
    if REGISTRY["Last"] is type(other):
        other = first(3)
    with pytest.raises(NotImplementedError, match=r"finds the class .*Last by its name"):
        sm.compile(other)


def test_a_class_defined_again_leaves_what_was_compiled() -> None:
    """Also where its action is a node of a trace."""

    def defined(by: float) -> sm.LinearOperator:
        class Times(sm.LinearOperator):
            def __init__(self) -> None:
                self._init(static={"dtype": None})

            def _shape(self) -> tuple[int, int]:
                return 2, 2

            def _apply(self, x: torch.Tensor) -> torch.Tensor:
                return by * x

        made: sm.LinearOperator = Times()
        return made

    x = torch.ones(1, 2)
    ops, compiled, traced = [], [], []
    for by in (2.0, 3.0):
        ops.append(defined(by))
        compiled.append(sm.compile(ops[-1]))
        traced.append(make_fx(partial(opaque, ops[-1]))(x))
    for functions in (ops, compiled, traced):
        assert [f(x).tolist() for f in functions] == [[[2.0, 2.0]], [[3.0, 3.0]]]
    assert sm.compile(ops[1])._current().key == compiled[1]._current().key
    REGISTRY.pop("Times")


def test_what_is_missing_is_named() -> None:
    class Mute(sm.LinearOperator):
        def __init__(self) -> None:
            self._init()

        def _shape(self) -> tuple[int, int]:
            return 2, 2

    x = torch.ones(2)
    with pytest.raises(NotImplementedError, match=r"Mute does not say how it acts: write _lower"):
        Mute()(x)
    with pytest.raises(NotImplementedError, match=r"Mute does not say how its adjoint acts"):
        Mute().T(x)
    with pytest.raises(NotImplementedError, match=r"Mute does not say its matrix in _dense"):
        Mute().to_dense()
    with pytest.raises(NotImplementedError, match=r"Mute does not say how it acts: write _lower"):
        sm.compile(Mute())(x)
    REGISTRY.pop("Mute")


def test_wrong_adjoint_is_found() -> None:
    class Wrong(Last):
        def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.pad(y, (0, self.n - 1))

    with pytest.raises(AssertionError, match=r"Wrong\(1x4\): multiplies_columns: x @ A"):
        check_operator(Wrong(4))
    REGISTRY.pop("Wrong")
