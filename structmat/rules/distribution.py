"""A (B + C) = A B + A C, the uphill way: where every product becomes one operator.

Common factors move out of sums at once (:mod:`structmat.rules.sums`), before the products of the
terms are looked at. Where A merges with every term, multiplying out saves A altogether.
"""

from __future__ import annotations

from collections.abc import Iterator

from structmat.compose import Product, Scaled, Sum
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.measure import Weigher
from structmat.rules.merging import merged
from structmat.rules.table import rule


@rule(
    Product,
    late=True,
    example=lambda g: (ex.blocks(g, 3, 3, 3) + ex.low_rank(g, 9, 9, 1)) @ ex.blocks(g, 3, 3, 3),
)
def distribution(op: Product, weigher: Weigher | None = None) -> LinearOperator | None:
    """A (B + C) = A B + A C and (B + C) A = B A + C A, where A merges with B and with C."""
    weigher = weigher or Weigher()
    was, measure = weigher.measure(op), weigher.measure
    pays = [n for n in _distributed(op) if was.accepts(measure(n), weigher.materialize)]
    return min(pays, key=lambda n: measure(n)[:3], default=None)


def _distributed(op: Product) -> Iterator[LinearOperator]:
    """The product with a sum in it multiplied out with the factor before it, or after it."""
    for i, c in enumerate(op.children):
        core = c.children[0] if isinstance(c, Scaled) else c
        if not isinstance(core, Sum):
            continue
        for j in (i - 1, i + 1):
            if 0 <= j < len(op.children):
                other = op.children[j]
                terms = [_term(other, t) if j < i else _term(t, other) for t in core.children]
                total = _all(terms)
                if total is not None:
                    if isinstance(c, Scaled):
                        total = Scaled(c.alpha, total)
                    first = min(i, j)
                    kept = *op.children[:first], total, *op.children[first + 2 :]
                    yield kept[0] if len(kept) == 1 else Product(*kept)


def _term(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """A B as one operator, of a term that may be scaled, term by term where one is a sum itself."""
    for scaled in (a, b):
        if isinstance(scaled, Scaled):
            inner = scaled.children[0]
            new = merged(inner, b) if scaled is a else merged(a, inner)
            return None if new is None else Scaled(scaled.alpha, new)
    whole = merged(a, b)
    if whole is not None:
        return whole
    if isinstance(a, Sum):
        return _all([_term(t, b) for t in a.children])
    return _all([_term(a, t) for t in b.children]) if isinstance(b, Sum) else None


def _all(terms: list[LinearOperator | None]) -> LinearOperator | None:
    made = [t for t in terms if t is not None]
    return Sum(*made) if len(made) == len(terms) else None
