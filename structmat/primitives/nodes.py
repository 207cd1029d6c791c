"""What matrices share whose entries are functions of nodes: they read their values nonlinearly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from structmat.primitives.base import Primitive

__all__ = ["Nodes"]


@dataclass(frozen=True)
class Nodes(Primitive):
    """An m x n matrix of nodes, or its transpose.

    Attributes:
        m: rows.
        n: columns.
        turned: the transposed matrix.
    """

    m: int
    n: int
    turned: bool = False

    nonlinear: ClassVar[bool] = True

    @property
    def ins(self) -> int:
        """Length of x."""
        return self.m if self.turned else self.n

    @property
    def outs(self) -> int:
        """Length of y."""
        return self.n if self.turned else self.m
