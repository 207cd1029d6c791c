"""One step ahead: the product of two operators where a rule for the two makes it smaller.

Some rewritings pay only because of what comes next: (A (x) B)(C (x) D) = AC (x) BD beside other
factors where AC and BD are multiplied, A (B + C) = A B + A C where A B and A C are. They look here.
"""

from __future__ import annotations

from structmat.compose import Product
from structmat.leaves.diagonal import Identity
from structmat.operator import LinearOperator
from structmat.rules.measure import Measurer
from structmat.rules.table import candidates

__all__ = ["merged"]


def merged(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """A B with fewer factors where a rule makes it so; products merge where they meet."""
    if isinstance(b, Identity) or isinstance(a, Identity):
        return a if isinstance(b, Identity) else b
    *before, last = a.children if isinstance(a, Product) else (a,)
    first, *after = b.children if isinstance(b, Product) else (b,)
    new = _pair(last, first)
    return None if new is None else _joined(*before, new, *after)


def _pair(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    whole, measure = Product(a, b), Measurer()
    for found in candidates(Product, (type(a), type(b))):
        new = found.apply(a, b)
        if new is not None and measure(whole).accepts(measure(new)):
            return new
    return None


def _joined(*ops: LinearOperator) -> LinearOperator:
    return ops[0] if len(ops) == 1 else Product(*ops)
