"""Block matrices: substitution where they are block-triangular, else elimination of a block.

    [[A, B], [C, D]]: with S = D - C A^-1 B,    y = S^-1 (g - C A^-1 f),    x = A^-1 (f - B y)

for a block A with a method of its own, and D no larger than A; the Schur complement S is dense.
Source: Golub and Van Loan, Matrix computations, section 3.2.11.
"""

from __future__ import annotations

from collections.abc import Sequence

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

__all__: list[str] = []


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
    return _elimination(op, rows) if p == 2 else None


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


def _elimination(op: Block, rows: list[tuple[LinearOperator, ...]]) -> Plan | None:
    """The block with a method of its own goes first; ``turn`` if it is the last one."""
    (a, b), (c, d) = rows
    sizes = list(op.heights)
    turn = structured(a) is None or sizes[1] > sizes[0]
    if turn:
        a, b, c, d = d, c, b, a
    inner = structured(a)
    n, m = a.shape[0], d.shape[0]
    if inner is None or inner.name == "none" or m > n:
        return None
    small, cost = lu_counts(m), c.operations()

    def build(plans: Sequence[Plan]) -> Plan:
        (inner,) = plans

        def run(right: Tensor) -> Tensor:
            f, g = right.split(sizes, -2)
            if turn:
                f, g = g, f
            columns = b._dense(f.dtype, f.device)
            lead = torch.broadcast_shapes(columns.shape[:-2], f.shape[:-2])
            both = [t.expand(*lead, *t.shape[-2:]) for t in (columns, f)]
            solved = inner.run(torch.cat(both, -1))
            ab, af = solved[..., :m], solved[..., m:]
            schur = d._dense(f.dtype, f.device) - c @ ab
            y = lu_solve(schur, g - c @ af)
            x = af - ab @ y
            return _joined([y, x] if turn else [x, y])

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
    return with_fallbacks(build, [inner], dense_fallback(op))
