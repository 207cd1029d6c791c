"""Where in a text something is wrong: one line, and a caret under the column."""

from __future__ import annotations

import ast

__all__ = ["SIGNS", "ParseError", "Text"]

WINDOW = 48
"""Characters on each side of the column that are shown of a long line."""

SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Pow: "**",
    ast.MatMult: "@",
    ast.Mod: "%",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
}
"""How the binary operators of Python are written."""


class ParseError(ValueError):
    """Text that is no expression; the message shows the line and where in it.

    Attributes:
        message: what is wrong, in a line.
        text: the text, as one line.
        column: where, from 0.
    """

    def __init__(self, message: str, text: str, column: int) -> None:
        self.message, self.text = message, text
        self.column = min(max(column, 0), len(text))
        super().__init__(f"{message}\n{self.excerpt}")

    @property
    def excerpt(self) -> str:
        """The line, or what is around the column in a long one, and a caret."""
        first = max(0, self.column - WINDOW)
        shown = "".join(c if c.isprintable() else " " for c in self.text[first:])
        if len(shown) > 2 * WINDOW:
            shown = f"{shown[: 2 * WINDOW]}..."
        before = "..." if first else ""
        return f"  {before}{shown}\n  {' ' * (len(before) + self.column - first)}^"


class Text:
    """A line of text and the places of the nodes that ``ast`` made of it.

    Args:
        line: what was parsed.
    """

    def __init__(self, line: str) -> None:
        self.line = line

    def error(self, node: ast.AST, message: str) -> ParseError:
        """An error where a node begins."""
        return self.at(self._characters(getattr(node, "col_offset", 0)), message)

    def between(self, node: ast.BinOp, message: str) -> ParseError:
        """An error at the sign between two operands."""
        start = self._characters(node.left.end_col_offset or 0)
        stop = self._characters(node.right.col_offset)
        found = self.line.find(SIGNS[type(node.op)], start, stop)
        return self.at(found if found >= 0 else stop, message)

    def at(self, column: int, message: str) -> ParseError:
        """An error at a column, from 0."""
        return ParseError(message, self.line, column)

    def _characters(self, count: int) -> int:
        """Bytes, which ``ast`` counts, as characters."""
        return len(self.line.encode()[:count].decode(errors="ignore"))
