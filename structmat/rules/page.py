"""The table of rules as a page: every rule under the family that it belongs to.

``docs/write_rules.py`` writes it into ``docs/rules.md``.
"""

from __future__ import annotations

import sys
from itertools import groupby

from structmat.rules.table import Rule, rules

__all__ = ["rule_table"]


def rule_table() -> str:
    """Every rule in the order in which they are tried, in Markdown: name, statement, source.

    Rules that are tried before the children of a node are simplified are marked "first", those
    that come when no other rule fires "last".

    Example:
        >>> from structmat.rules.page import rule_table
        >>> print(rule_table().partition("## Transposes")[2].splitlines()[4])
        | `transpose_of_transpose` | `(A^T)^T = A` | | definition |
    """
    out: list[str] = []
    own = [r for r in rules() if r.apply.__module__.startswith("structmat.")]  # not a user's
    for module, family in groupby(own, key=lambda r: r.apply.__module__):
        about = (sys.modules[module].__doc__ or module).partition("\n")[0].rstrip(".")
        out += [f"## {about}", "", "| rule | statement | when | source |", "|---|---|---|---|"]
        out += [*map(_row, family), ""]
    return "\n".join(out)


def _row(rule: Rule) -> str:
    when = "first" if rule.early else "last" if rule.late else ""
    cells = f"`{rule.name}`", f"`{rule.statement}`", when, rule.source
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
