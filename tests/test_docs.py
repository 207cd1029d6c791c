"""The examples of the documentation run and print what they say."""

from __future__ import annotations

import doctest
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def test_the_page_of_the_algebra() -> None:
    results = doctest.testfile(
        str(DOCS / "algebra.md"), module_relative=False, optionflags=FLAGS, encoding="utf-8"
    )
    assert results.attempted > 20
    assert results.failed == 0
