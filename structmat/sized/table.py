"""The table of costs: parameters, products and sums of every family as functions of its sizes.

``docs/write_costs.py`` writes it into ``docs/costs.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from structmat.cost import dim
from structmat.operator import LinearOperator
from structmat.sized.bind import bind, free_symbols
from structmat.sized.form import FAMILIES
from structmat.sizes import has_symbols, tidy

__all__ = ["Row", "cost_table", "rows"]

AT = {"n": 4096, "m": 4096, "r": 16, "k": 16, "b": 16, "a": 4, "c": 32, "d": 32}
"""The sizes of the numbers in the last columns."""

EXAMPLES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Dense": lambda s: {"m": s.m, "n": s.n},
    "LowRank": lambda s: {"m": s.m, "n": s.n, "rank": s.r},
    "Selection": lambda s: {"n": s.n, "start": 0, "stop": s.k},
    "Zero": lambda s: {"m": s.m, "n": s.n},
    "stride_permutation": lambda s: {"n": s.n, "s": s.k},
    "BlockDiagonal": lambda s: {"m": s.m, "n": s.n, "nblocks": s.k},
    "KroneckerSparse": lambda s: {"a": s.a, "b": s.b, "c": s.c, "d": s.d},
    "Monarch": lambda s: {"m": s.n, "nblocks": s.k},
    "MonarchChain": lambda s: {"n": s.n, "order": 3},
    "Toeplitz": lambda s: {"m": s.n},
    "Hankel": lambda s: {"m": s.n},
    "Convolution": lambda s: {"n": s.n, "size": s.n},
    "Wavelet": lambda s: {"n": s.n, "wavelet": "db2"},
    "LowDisplacementRank": lambda s: {"n": s.n, "rank": s.r},
    "StateSpace": lambda s: {"length": s.n, "states": s.k},
    "Sparse": lambda s: {"m": s.m, "n": s.n, "per_row": s.k},
    "BlockSparse": lambda s: {"m": s.m, "n": s.n, "block": s.b, "per_row": s.k},
    "Vandermonde": lambda s: {"m": s.m, "n": s.n},
    "Cauchy": lambda s: {"m": s.m, "n": s.n},
}
"""Sizes of a family in the table; by default n alone."""


class _Symbols:
    def __getattr__(self, name: str) -> Any:
        return dim(name)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        op: the symbolic operator.
        parameters: numbers stored.
        products: of one application, without roundings where the condition holds.
        sums: likewise.
        condition: what the sizes must satisfy.
    """

    op: LinearOperator
    parameters: Any
    products: Any
    sums: Any
    condition: str


def _plain(count: Any) -> Any:
    """The count at powers of two: fast(2^L - 1) is 2^L beyond 15, and nothing is rounded."""
    if not has_symbols(count):
        return count
    from structmat.sized.functions import fast_length, when_power_of_two

    count = count.replace(fast_length, lambda length: length + 1)
    return tidy(when_power_of_two(count))


def rows() -> Iterator[Row]:
    """The lines of the table, one a family, two for Monarch and Convolution."""
    from sympy import sqrt

    symbols = _Symbols()
    for name, known in FAMILIES.items():
        sizes = EXAMPLES.get(name, lambda s: {"n": s.n})(symbols)
        image = (symbols.m, symbols.n)
        second = {
            "Monarch": ({**sizes, "nblocks": sqrt(symbols.n)}, "$n = k^2$"),
            "Convolution": ({"n": image, "size": image}, "$m = 2^K$, $n = 2^L$, $m, n > 8$"),
        }
        many = [(sizes, known.condition), *([second[name]] if name in second else [])]
        for arguments, condition in many:
            op = known.make(**arguments)
            products, sums = (_plain(v) for v in op.operations())
            yield Row(op, op.cost().params, products, sums, condition)


def cost_table() -> str:
    """The table in Markdown with formulas, as ``docs/costs.md`` shows it.

    Example:
        >>> import structmat as sm
        >>> print(sm.sized.cost_table().splitlines()[2])
        | `Dense(m, n)` | $m n$ | $m n$ | $m n - m$ | 16.8 M | 33.6 M |  |
    """
    from structmat.visual.latex import number

    lines = [
        "| structure | parameters | products | sums | parameters at 4096 | flops at 4096 | where |",
        "|---|---|---|---|--:|--:|---|",
    ]
    for row in rows():
        concrete = bind(row.op, {k: v for k, v in AT.items() if k in _names(row.op)}, device="meta")
        formulas = " | ".join(f"${number(v)}$" for v in (row.parameters, row.products, row.sums))
        cost = concrete.cost()
        numbers = f"{_short(cost.params)} | {_short(cost.flops)}"
        lines.append(f"| `{row.op._label()}` | {formulas} | {numbers} | {row.condition} |")
    return "\n".join(lines) + "\n"


def _names(op: LinearOperator) -> set[str]:
    return set(map(str, free_symbols(op)))


def _short(count: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
