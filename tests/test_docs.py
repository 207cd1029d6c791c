"""The examples of the documentation run and print what they say."""

from __future__ import annotations

import doctest
from pathlib import Path

import structmat as sm
from structmat.rules.page import rule_table

DOCS = Path(__file__).parent.parent / "docs"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def test_the_page_of_the_algebra() -> None:
    results = doctest.testfile(
        str(DOCS / "algebra.md"), module_relative=False, optionflags=FLAGS, encoding="utf-8"
    )
    assert results.attempted > 20
    assert results.failed == 0


def test_the_page_of_rules_is_up_to_date() -> None:
    page = (DOCS / "rules.md").read_text(encoding="utf-8")
    assert rule_table() in page, "run: python docs/write_rules.py"
    for rule in sm.rules():
        if rule.apply.__module__.startswith("structmat."):
            assert f"| `{rule.name}` | `{rule.statement}` |" in page
            assert rule.source in page
