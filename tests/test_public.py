"""Every public name says what it is, shows an example, and documents what it takes and raises."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import structmat as sm
import structmat.rules
import structmat.testing

FROM_TESTING = ["check_operator", "operators", "random_operator"]
NAMES = [n for n in sm.__all__ if callable(getattr(sm, n))]


def public() -> list[tuple[str, Any]]:
    found = [(n, getattr(sm, n)) for n in NAMES]
    return found + [(f"testing.{n}", getattr(sm.testing, n)) for n in FROM_TESTING]


everything = pytest.mark.parametrize(("name", "thing"), public(), ids=[n for n, _ in public()])


def test_all_is_sorted_and_exists() -> None:
    assert sorted(sm.__all__) == sorted(set(sm.__all__))
    for name in sm.__all__:
        assert hasattr(sm, name)


@everything
def test_docstring_with_example(name: str, thing: Any) -> None:
    doc = inspect.getdoc(thing) or ""
    assert doc, "has no docstring"
    assert "Example:" in doc, "has no example"
    assert ">>>" in doc, "its example does not run"


@everything
def test_arguments_are_documented(name: str, thing: Any) -> None:
    doc = inspect.getdoc(thing) or ""
    if thing is sm.LinearOperator:
        return  # not built directly
    fields = getattr(thing, "__dataclass_fields__", None)
    names = fields or [p for p in inspect.signature(thing).parameters if p != "self"]
    if not names:
        return
    assert "Args:" in doc or "Attributes:" in doc, "has no section on its arguments"
    for argument in names:
        assert f"{argument}:" in doc or f"{argument} (" in doc, f"does not document {argument!r}"


@everything
def test_errors_are_documented(name: str, thing: Any) -> None:
    if inspect.isclass(thing):
        own = [m for m in ("__init__", "__post_init__", "_check") if m in vars(thing)]
        if hasattr(thing, "__dataclass_fields__"):
            own.remove("__init__")  # made by dataclass
        bodies = [inspect.getsource(vars(thing)[m]) for m in own]
    else:
        bodies = [inspect.getsource(thing)]
    if any("raise " in body.replace(inspect.getdoc(thing) or "", "") for body in bodies):
        assert "Raises:" in (inspect.getdoc(thing) or ""), "raises, but does not say what"


def test_names_that_hide_modules_are_the_functions() -> None:
    assert callable(sm.rules)
    assert sm.rules() == structmat.rules()
    assert sm.simplify is sys.modules["structmat.rules"].simplify


def test_import_takes_no_triton_and_no_hypothesis() -> None:
    code = (
        "import sys, structmat; structmat.testing.check_operator(structmat.Identity(2));"
        "bad = {'triton', 'hypothesis', 'matplotlib', 'transformers'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
