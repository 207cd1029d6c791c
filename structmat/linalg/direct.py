"""Direct methods of the leaves and combinators whose systems fall apart.

    diag(d) x = b: x = b / d                       P x = b: x = P^T b
    A B x = b: x = B^-1 (A^-1 b)                   (A (x) B) x = b: one factor after the other
    blocks: each alone                             F^-1 D F x = b: divide the spectrum

A Monarch matrix with square blocks, a butterfly, and any chain of Kronecker-sparse factors with
square blocks are products of block-diagonal matrices up to permutations, and their inverse is the
product of the inverse factors in reverse order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.companion import Companion
from structmat.leaves.dense import LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
from structmat.leaves.real_fourier import RDFT
from structmat.leaves.trigonometric import Trigonometric
from structmat.leaves.wavelet import Wavelet
from structmat.linalg.inverse import Inverse, unitary_inverse
from structmat.linalg.plan import (
    Plan,
    alternatives,
    described,
    lu_solve,
    plan,
    singular,
    structured,
    transposed,
    with_fallbacks,
)
from structmat.operator import LinearOperator

__all__: list[str] = []


@structured.register
def _(op: Diagonal) -> Plan:
    return Plan("diagonal", lambda b: b / op.d.to(b.dtype)[..., None], (op.shape[0], 0))


@structured.register
def _(op: Zero) -> Plan | None:
    return singular(op, "all its entries are zero") if op.shape[0] else None


@structured.register
def _(op: LowRank) -> Plan | None:
    n = op.shape[0]
    return singular(op, f"its rank is at most {op.rank} of {n}") if op.rank < n else None


def _by_operator(name: str, inverse: LinearOperator) -> Plan:
    """The inverse as an operator, whose numbers are those of ``op``."""
    return Plan(name, lambda b: inverse @ b, inverse.operations())


@structured.register(Identity)
@structured.register(Permutation)
@structured.register(DFT)
@structured.register(RDFT)
@structured.register(Hadamard)
@structured.register(Trigonometric)
@structured.register(Wavelet)
def _(op: LinearOperator) -> Plan:
    names: dict[type[LinearOperator], str] = {Identity: "identity", Permutation: "permutation"}
    inverse = unitary_inverse(op)
    assert inverse is not None
    return _by_operator(names.get(type(op), "inverse transform"), inverse)


@structured.register
def _(op: Inverse) -> Plan:
    child = op.children[0]
    return Plan("inverse of an inverse", lambda b: child @ b, child.operations())


# blocks ----------------------------------------------------------------------------------------


def _factor_solve(values: Tensor, b: Tensor) -> Tensor:
    """Solve with the Kronecker-sparse factor of values (..., a, c, c, d)."""
    a, c, _, d = values.shape[-4:]
    k = b.shape[-1]
    columns = b.reshape(*b.shape[:-2], a, c, d, k).transpose(-3, -2)
    x = lu_solve(values.movedim(-1, -3), columns).transpose(-3, -2)
    return x.reshape(*x.shape[:-4], a * c * d, k)


def _factors_plan(name: str, values: Sequence[Tensor]) -> Plan | None:
    """A product of Kronecker-sparse factors, leftmost first; None where blocks are not square."""
    shapes = [v.shape[-4:] for v in values]
    if any(b != c for _, b, c, _ in shapes):
        return None

    def run(b: Tensor) -> Tensor:
        for v in values:
            b = _factor_solve(v, b)
        return b

    mults = sum(a * b * b * d for a, b, _, d in shapes)
    adds = sum(a * b * max(b - 1, 0) * d for a, b, _, d in shapes)
    return Plan(name, run, (mults, adds), sum(2 * a * b**3 * d // 3 for a, b, _, d in shapes))


@structured.register
def _(op: BlockDiagonal) -> Plan | None:
    return _factors_plan("block lu", [op.blocks[..., None]])


@structured.register
def _(op: KroneckerSparse) -> Plan | None:
    return _factors_plan("block lu", [op.values])


@structured.register
def _(op: Monarch) -> Plan | None:
    return _factors_plan("monarch", [f.values for f in op.factors()])


@structured.register
def _(op: MonarchChain) -> Plan | None:
    return _factors_plan("monarch", [f.values for f in op.factors()])


@structured.register
def _(op: Butterfly) -> Plan | None:
    return _factors_plan("butterfly", [f.values for f in op.factors()])


@structured.register
def _(op: Companion) -> Plan | None:
    """C x = b: rows 1.. give x_i = b_{i+1}, row 0 the last entry."""
    n = op.shape[0]
    if n == 0:
        return None

    def run(b: Tensor) -> Tensor:
        row = op.row.to(b.dtype)[..., None]
        if op.transposed:
            last = b[..., n - 1 :, :] / row[..., n - 1 :, :]
            return torch.cat([last, b[..., : n - 1, :] - row[..., : n - 1, :] * last], -2)
        known = b[..., 1:, :]
        rest = b[..., :1, :] - (row[..., : n - 1, :] * known).sum(-2, keepdim=True)
        last = rest / row[..., n - 1 :, :]
        return torch.cat([known.expand(*last.shape[:-2], *known.shape[-2:]), last], -2)

    return Plan("companion", run, (n, n - 1))


# combinators -----------------------------------------------------------------------------------


def _square(op: LinearOperator) -> bool:
    return all(c.shape[0] == c.shape[1] for c in op.children)


def _total(plans: Sequence[Plan], times: Sequence[int]) -> tuple[int, int]:
    pairs = list(zip(plans, times, strict=True))
    return sum(p.each[0] * t for p, t in pairs), sum(p.each[1] * t for p, t in pairs)


def _joined(
    how: str,
    plans: Sequence[Plan],
    run: Callable[[Tensor, Sequence[Plan]], Tensor],
    times: Sequence[int] | None = None,
) -> Plan:
    def build(plans: Sequence[Plan]) -> Plan:
        return Plan(
            described(how, (p.name for p in plans)),
            lambda b: run(b, plans),
            _total(plans, times or [1] * len(plans)),
            sum(p.setup for p in plans),
            max((p.densified for p in plans), default=0),
            any(p.refine for p in plans),
        )

    return with_fallbacks(build, plans)


@structured.register
def _(op: Transpose) -> Plan | None:
    return transposed(op.children[0])


@alternatives.register
def _(op: Transpose) -> list[Plan]:
    own = structured(op)
    turned = op.children[0]._turned()
    several = [] if isinstance(turned, Transpose) else alternatives(turned)
    if own is None or own.name in [p.name for p in several]:
        return several
    return [own]


@structured.register
def _(op: Scaled) -> Plan | None:
    inner = structured(op.children[0])
    return None if inner is None else _scaled(op, inner)


@alternatives.register
def _(op: Scaled) -> list[Plan]:
    return [_scaled(op, inner) for inner in alternatives(op.children[0])]


def _scaled(op: Scaled, inner: Plan) -> Plan:
    if not op.tensors and op.alpha == 0:
        return singular(op, "the factor in front is zero")
    cost = 0 if not op.tensors and op.alpha in (1, -1) else op.shape[0]

    def build(plans: Sequence[Plan]) -> Plan:
        (inner,) = plans

        def run(b: Tensor) -> Tensor:
            alpha = op.alpha
            return inner.run(b / (alpha.to(b.dtype)[..., None, None] if op.tensors else alpha))

        return replace(inner, run=run, each=(inner.each[0] + cost, inner.each[1]), fallback=None)

    return with_fallbacks(build, [inner])


@structured.register
def _(op: Product) -> Plan | None:
    if not _square(op):
        inner = min(c.shape[1] for c in op.children)
        n = op.shape[0]
        return singular(op, f"its rank is at most {inner} of {n}") if inner < n else None

    def run(b: Tensor, plans: Sequence[Plan]) -> Tensor:
        for p in plans:
            b = p.run(b)
        return b

    return _joined("product", [plan(c) for c in op.children], run)


@structured.register
def _(op: Kronecker) -> Plan | None:
    n = op.shape[0]
    if not _square(op) or n == 0:
        return None
    sizes = [c.shape[0] for c in op.children]

    def run(b: Tensor, plans: Sequence[Plan]) -> Tensor:
        pre, k = 1, b.shape[-1]
        for p, size in zip(plans, sizes, strict=True):
            post = n // (pre * size)
            columns = b.reshape(*b.shape[:-2], pre, size, post * k).movedim(-2, -3)
            x = p.run(columns.reshape(*b.shape[:-2], size, pre * post * k))
            x = x.reshape(*x.shape[:-1], pre, post * k).movedim(-3, -2)
            b = x.reshape(*x.shape[:-3], n, k)
            pre *= size
        return b

    plans = [plan(c) for c in op.children]
    return _joined("kronecker", plans, run, [n // s for s in sizes])


@structured.register
def _(op: DirectSum) -> Plan | None:
    if not _square(op):
        return None
    sizes = [c.shape[0] for c in op.children]

    def run(b: Tensor, plans: Sequence[Plan]) -> Tensor:
        parts = [
            p.run(part) if part.shape[-2] else part
            for p, part in zip(plans, b.split(sizes, -2), strict=True)
        ]
        lead = torch.broadcast_shapes(*(p.shape[:-2] for p in parts))
        return torch.cat([p.expand(*lead, *p.shape[-2:]) for p in parts], -2)

    return _joined("direct sum", [plan(c) for c in op.children], run)
