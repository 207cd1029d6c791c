"""Inverses in words, by structure; A^-1 is made of tensors that are computed once.

    Toeplitz, Hankel, displacement    A^-1 has the generators -A^-1 G and H A^-1 of the same rank
    circular convolution              1 / spectrum
    causal convolution, state space   the power series 1 / (c_0 + c_1 z + ...)
    companion                         a companion matrix turned around
    A + U V                           A^-1 - A^-1 U (I + V A^-1 U)^-1 V A^-1
    blocks                            substitution; elimination with a dense Schur complement

Where a plan refines its solution, so does its form: y = N x, then 2 y - N A y, for N close to A^-1.
Sources: Pan, Structured matrices and polynomials (2001), section 1.5; Hager, Updating the inverse
of a matrix (1989); Golub and Van Loan, Matrix computations, sections 3.2.11 and 3.5.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.compose import Block, Sum
from structmat.compose.blocks import acts
from structmat.leaves.companion import Companion
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.displacement import LowDisplacementRank, toeplitz_generators
from structmat.leaves.permutation import reversal
from structmat.leaves.statespace import StateSpace
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz
from structmat.linalg.forms import Form, forms, inverted, refined
from structmat.linalg.inverse import Inverse
from structmat.linalg.low_rank import split_low_rank
from structmat.linalg.opaque import opaque
from structmat.linalg.plan import Plan, lu_counts, plan, structured
from structmat.linalg.toeplitz import banded, series_inverse, wrapped_kernel
from structmat.linalg.toeplitz_plans import reversed_columns
from structmat.operator import LinearOperator
from structmat.primitives import Circular, Displacement

__all__: list[str] = []

Act = Callable[[Any], Any]


def _solved(op: LinearOperator, columns: Tensor) -> Tensor:
    """A^-1 columns, by the plan of A."""
    dtype = torch.promote_types(columns.dtype, op.strong_dtype or columns.dtype)
    return opaque(Inverse(op), columns.to(dtype).mT).mT


def _refined(g: Builder, x: Any, op: LinearOperator, near: Act) -> Any:
    """A^-1 x where ``near`` is close to A^-1."""
    y = near(x)
    return g.add([g.scalar(y, 2), g.scalar(near(op._lower(g, y)), -1)])


# displacement ------------------------------------------------------------------------------------


def _displacement_form(op: LinearOperator, rank: int, f: int) -> Form:
    """From Z_f A - A Z_-f = G H follows Z_-f A^-1 - A^-1 Z_f = -(A^-1 G)(H A^-1)."""
    n = op.shape[0]
    how = plan(op)

    def lower(g: Builder, x: Any) -> Any:
        if isinstance(op, LowDisplacementRank):
            left, right = op.left, op.right
        else:
            left, right = toeplitz_generators(op, f, -f)
        turned = op._transpose()
        made = LowDisplacementRank(-_solved(op, left), _solved(turned, right.mT).mT, -f)
        return _refined(g, x, op, lambda y: made._lower(g, y))

    each = Displacement(n, rank, -f).operations(op.dtype.is_complex)
    setup = 2 * (how.setup + rank * sum(how.each))
    return Form("displacement generators of the inverse", lower, refined(each, op), setup)


@forms.register
def _(op: LowDisplacementRank) -> list[Form]:
    return [_displacement_form(op, op.rank, op.f)] if 0 < op.rank and op.shape[0] else []


@forms.register
def _(op: Toeplitz) -> list[Form]:
    return [_displacement_form(op, 2, 1)] if op.shape[0] else []


@forms.register
def _(op: Hankel) -> list[Form]:
    """H = T J, so that H^-1 = J T^-1."""
    n = op.shape[0]
    if n == 0:
        return []
    turn = reversal(n)

    def turned(form: Form) -> Form:
        return replace(form, lower=lambda g, x: turn._lower(g, form.lower(g, x)))

    return [turned(f) for f in forms(reversed_columns(op))]


# convolutions ------------------------------------------------------------------------------------


def _series_form(op: LinearOperator, column: Callable[[], Tensor], turned: bool) -> Form:
    """Lower triangular Toeplitz with this first column, or its transpose: a power series."""
    n = op.shape[0]

    def lower(g: Builder, x: Any) -> Any:
        inverse = Circulant(series_inverse(column().to(op.dtype)), 0)
        near = inverse._transpose() if turned else inverse
        return _refined(g, x, op, lambda y: near._lower(g, y))

    each = Circulant(torch.empty(n, dtype=op.dtype, device="meta"), 0).operations()
    return Form("power series of the inverse", lower, refined(each, op), 8 * sum(each))


@forms.register
def _(op: StateSpace) -> list[Form]:
    known = "D" in op.tensors and op.length
    return [_series_form(op, op.kernel, op.transposed)] if known else []


@forms.register
def _(op: Convolution) -> list[Form]:
    n = op.shape[0]
    if n == 0:
        return []
    if op.mode == "circular":
        solve = Circular(op.n, op.n, op.n, op.transposed)

        def lower(g: Builder, x: Any) -> Any:
            axes = tuple(range(-len(op.n), 0))
            kernel = torch.fft.ifftn(1 / torch.fft.fftn(wrapped_kernel(op), dim=axes), dim=axes)
            return g.apply(x, solve, kernel if op.dtype.is_complex else kernel.real)

        each = solve.operations(op.dtype.is_complex)
        return [Form("reciprocal of the spectrum", lower, each, sum(each))]
    if len(op.n) > 1:
        return []
    found = banded(op)
    if isinstance(found, Circulant):
        return [_series_form(op, lambda: found.c, op.transposed)]
    return forms(found)


# companion ---------------------------------------------------------------------------------------


@forms.register
def _(op: Companion) -> list[Form]:
    """C x = b: rows 1.. give x_i = b_{i+1}, row 0 the last entry."""
    n = op.shape[0]
    if n == 0:
        return []

    def lower(g: Builder, x: Any) -> Any:
        row = op.row
        last = row[..., n - 1 :]
        if op.transposed:
            known = g.scale(g.slice(x, n, n - 1, n), 1 / last)
            if n == 1:
                return known
            moved = g.contract(known, -row[..., None, : n - 1, None, None])
            return g.concat([known, g.add([g.slice(x, n, 0, n - 1), moved])], [1, n - 1])
        weights = torch.cat([torch.ones_like(last), -row[..., : n - 1]], -1) / last
        found = g.contract(x, weights[..., None, None, :, None])
        return g.concat([g.slice(x, n, 1, n), found], [n - 1, 1])

    return [Form("companion", lower, (n, n - 1), n)]


# updates -----------------------------------------------------------------------------------------


@forms.register
def _(op: Sum) -> list[Form]:
    """A + U V where A has a method of its own."""
    found = split_low_rank(op)
    if found is None:
        return []
    base, u, v = found
    inner, n, r = structured(base), op.shape[0], u.shape[-1]
    if inner is None or inner.name == "none" or 2 * r > n:
        return []

    def lower(g: Builder, x: Any) -> Any:
        thin = _solved(base, u)
        small = torch.eye(r, dtype=op.dtype, device=op.device) + v @ thin
        inverse = inverted(base)
        update = LowRank(-thin, torch.linalg.solve_ex(small, v).result)

        def near(y: Any) -> Any:
            y = inverse._lower(g, y)
            return g.add([y, update._lower(g, y)])

        return _refined(g, x, op, near)

    each = inner.each[0] + 2 * r * n, inner.each[1] + 2 * r * n
    setup = inner.setup + r * sum(inner.each) + 2 * r * r * n
    return [Form("woodbury", lower, refined(each, op), setup, inner.densified)]


# blocks ------------------------------------------------------------------------------------------


@forms.register
def _(op: Block) -> list[Form]:
    p, q = op.grid
    rows = list(op.rows())
    if p != q or op.heights != op.widths or op.shape[0] == 0:
        return []
    for order in (list(range(p)), list(range(p))[::-1]):
        later = [(i, j) for k, i in enumerate(order) for j in order[k + 1 :]]
        if not any(acts(rows[i][j]) for i, j in later):
            return [_substitution(op, rows, order)]
    return _elimination(op, rows) if p == 2 else []


def _slices(g: Builder, x: Any, op: Block) -> list[Any]:
    """The parts of x that belong to the rows of blocks."""
    parts, start = [], 0
    for height in op.heights:
        parts.append(g.slice(x, op.shape[0], start, start + height))
        start += height
    return parts


def _substitution(op: Block, rows: list[tuple[LinearOperator, ...]], order: list[int]) -> Form:
    """Row after row, each with what is known moved to the right-hand side."""
    heights = op.heights
    plans = [plan(rows[i][i]) for i in range(len(rows)) if heights[i]]
    moved = [c for i, row in enumerate(rows) for j, c in enumerate(row) if i != j and acts(c)]
    counts = [c.operations() for c in moved]

    def lower(g: Builder, x: Any) -> Any:
        parts = _slices(g, x, op)
        found: dict[int, Any] = {}
        for i in order:
            known = [rows[i][j]._lower(g, y) for j, y in found.items() if acts(rows[i][j])]
            right = g.add([parts[i], *(g.scalar(y, -1) for y in known)]) if known else parts[i]
            found[i] = inverted(rows[i][i])._lower(g, right) if heights[i] else right
        return g.concat([found[i] for i in range(len(heights))], heights)

    each = (
        sum(p.each[0] for p in plans) + sum(c[0] for c in counts),
        sum(p.each[1] for p in plans)
        + sum(c[1] + m.shape[0] for c, m in zip(counts, moved, strict=True)),
    )
    densified = max(p.densified for p in plans)
    return Form("block substitution", lower, each, sum(p.setup for p in plans), densified)


def _elimination(op: Block, rows: list[tuple[LinearOperator, ...]]) -> list[Form]:
    """S = D - C A^-1 B is made once, for a block A with a method of its own and D no larger."""
    (a, b), (c, d) = rows
    turn = structured(a) is None or op.heights[1] > op.heights[0]
    if turn:
        a, b, c, d = d, c, b, a
    n, m = a.shape[0], d.shape[0]
    inner: Plan | None = structured(a)
    if inner is None or inner.name == "none" or m > n:
        return []

    def lower(g: Builder, x: Any) -> Any:
        columns = _solved(a, b._dense(op.dtype, op.device))
        schur = Dense(d._dense(op.dtype, op.device) - c @ columns)
        thin, inverse = Dense(-columns), inverted(a)

        def near(x: Any) -> Any:
            f, right = reversed(_slices(g, x, op)) if turn else _slices(g, x, op)
            af = inverse._lower(g, f)
            right = g.add([right, g.scalar(c._lower(g, af), -1)])
            y = Inverse(schur)._lower(g, right)
            found = g.add([af, thin._lower(g, y)])
            return g.concat([y, found] if turn else [found, y], op.heights)

        return _refined(g, x, op, near)

    small, cost = lu_counts(m), c.operations()
    each = inner.each[0] + cost[0] + n * m + small[0], inner.each[1] + cost[1] + n * m + small[1]
    setup = inner.setup + m * (sum(inner.each) + sum(cost)) + 2 * m**3 // 3
    return [Form("block elimination", lower, refined(each, op), setup, max(inner.densified, m))]
