"""Block matrices: substitution where they are block-triangular, else elimination of a block.

    [[A, B], [C, D]]: with S = D - C A^-1 B,    y = S^-1 (g - C A^-1 f),    x = A^-1 (f - B y)

for a block A with a method of its own, wherever on the diagonal it stands, and all of the others
no larger than A; the Schur complement S is dense. Then det = det A det S, too.
Source: Golub and Van Loan, Matrix computations, section 3.2.11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from structmat.compose import Block
from structmat.compose.blocks import acts
from structmat.linalg.plan import (
    Plan,
    dense_fallback,
    described,
    lu_counts,
    lu_solve,
    plan,
    structured,
    with_fallbacks,
)
from structmat.operator import LinearOperator

__all__ = ["Bordered", "bordered"]


def _joined(parts: list[Tensor]) -> Tensor:
    lead = torch.broadcast_shapes(*(p.shape[:-2] for p in parts))
    return torch.cat([p.expand(*lead, *p.shape[-2:]) for p in parts], -2)


@structured.register
def _(op: Block) -> Plan | None:
    p, q = op.grid
    rows = list(op.rows())
    square = p == q and op.heights == op.widths
    if not square or op.shape[0] == 0:
        return None
    if all(not acts(rows[i][j]) for i in range(p) for j in range(i + 1, p)):
        return _substitution(op, list(range(p)))
    if all(not acts(rows[i][j]) for i in range(p) for j in range(i)):
        return _substitution(op, list(reversed(range(p))))
    return _elimination(op)


def _substitution(op: Block, order: list[int]) -> Plan:
    """Row after row, each with what is known moved to the right-hand side."""
    rows = list(op.rows())
    heights = list(op.heights)
    moved = [rows[i][j] for place, i in enumerate(order) for j in order[:place] if acts(rows[i][j])]
    counts = [c.operations() for c in moved]

    def build(plans: Sequence[Plan]) -> Plan:
        def run(b: Tensor) -> Tensor:
            right = b.split(heights, -2)
            x: dict[int, Tensor] = {}
            for i in order:
                rest = right[i]
                for j, known in x.items():
                    if acts(rows[i][j]):
                        rest = rest - rows[i][j] @ known
                x[i] = plans[i].run(rest) if heights[i] else rest
            return _joined([x[i] for i in range(len(heights))])

        mults = sum(p.each[0] for p in plans) + sum(c[0] for c in counts)
        adds = sum(p.each[1] for p in plans) + sum(
            c[1] + m.shape[0] for c, m in zip(counts, moved, strict=True)
        )
        return Plan(
            described("block substitution", (p.name for p in plans)),
            run,
            (mults, adds),
            sum(p.setup for p in plans),
            max(p.densified for p in plans),
            any(p.refine for p in plans),
        )

    return with_fallbacks(build, [plan(rows[i][i]) for i in range(len(rows))])


@dataclass(frozen=True)
class Bordered:
    """A block matrix seen as [[A, B], [C, D]] after a symmetric exchange of its rows and columns.

    Attributes:
        at: which block on the diagonal is A.
        how: the method that A has of its own.
        a, b, c, d: the blocks; B, C and D of all other rows and columns of blocks.
    """

    at: int
    how: Plan
    a: LinearOperator
    b: LinearOperator
    c: LinearOperator
    d: LinearOperator


def bordered(op: Block) -> Bordered | None:
    """The largest block on the diagonal that has a method, at least as large as all the others."""
    rows, sizes = list(op.rows()), list(op.heights)
    if op.heights != op.widths or len(sizes) < 2:
        return None
    for at in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if 2 * sizes[at] < op.shape[0]:
            return None
        how = structured(rows[at][at])
        if how is None or how.name == "none":
            continue
        rest = [i for i in range(len(sizes)) if i != at]
        b = Block([[rows[at][j] for j in rest]])
        c = Block([[rows[i][at]] for i in rest])
        d = Block([[rows[i][j] for j in rest] for i in rest])
        return Bordered(at, how, rows[at][at], b, c, d)
    return None


def _elimination(op: Block) -> Plan | None:
    """The block with a method of its own goes first."""
    found = bordered(op)
    if found is None:
        return None
    at, a, b, c, d = found.at, found.a, found.b, found.c, found.d
    sizes = list(op.heights)
    n, m = a.shape[0], d.shape[0]
    small, cost = lu_counts(m), c.operations()

    def build(plans: Sequence[Plan]) -> Plan:
        (inner,) = plans

        def run(right: Tensor) -> Tensor:
            parts = list(right.split(sizes, -2))
            f = parts.pop(at)
            g = torch.cat(parts, -2)
            columns = b._dense(f.dtype, f.device)
            lead = torch.broadcast_shapes(columns.shape[:-2], f.shape[:-2])
            both = [t.expand(*lead, *t.shape[-2:]) for t in (columns, f)]
            solved = inner.run(torch.cat(both, -1))
            ab, af = solved[..., :m], solved[..., m:]
            schur = d._dense(f.dtype, f.device) - c @ ab
            y = lu_solve(schur, g - c @ af)
            others = list(y.split([s for i, s in enumerate(sizes) if i != at], -2))
            others.insert(at, af - ab @ y)
            return _joined(others)

        mults = inner.each[0] + cost[0] + n * m + small[0]
        adds = inner.each[1] + cost[1] + n * m + m + small[1]
        return Plan(
            described("block elimination", [inner.name]),
            run,
            (mults, adds),
            inner.setup + m * (sum(inner.each) + sum(cost)) + 2 * m**3 // 3,
            max(inner.densified, m),
            refine=True,
        )

    # the whole may be regular where the first block is not
    return with_fallbacks(build, [found.how], dense_fallback(op))
