"""Association: where a chain of factors is cut into factors that are stored.

Weights are constants: whatever is multiplied out is multiplied once. So a chain A_1 ... A_k costs
what the factors cost that are left after some of its intervals are multiplied out, and the plan is
a partition of the chain into intervals. The classical dynamic program over intervals (Godbole, On
efficient computation of matrix chain products, 1973; with the cost of structured factors, as in
Barthels, Psarras, Bientinesi, Linnea: automatic generation of efficient linear algebra programs,
2021) needs the cost of an interval, and one fact gives it for every structure:

    the product of two Kronecker-sparse patterns (a1, b1, c1, d1)(a2, b2, c2, d2) lies in the
    pattern with a = gcd(a1, a2) and d = gcd(d1, d2),

because (a, b, c, d) lies in the pattern (a', b a d / a'd', c a d / a'd', d') of the same sides for
all a' | a and d' | d, and two patterns with the same a and d multiply cell by cell. Chainable
patterns (Le, Zheng, Riccietti, Gribonval, 2024) are the case without fill. Dense is a = d = 1, a
diagonal has every pattern (gcd(0, a) = a), and what has no pattern (a permutation, a transform, a
sum) counts as dense. Low-rank, Monarch and butterfly matrices are chains of patterns themselves,
so a low-rank product, a Monarch matrix that swallows a neighbour, and staying lazy are partitions.

An interval may be multiplied out where that costs fewer flops or bytes and not more of either, or,
if ``materialize`` is asked for, where it costs less in total. Of all partitions into such intervals
the one with the least ``batch * flops + bytes stored`` is taken, in O(k^2) for k factors; then the
order in which an interval is multiplied out follows from the chain program proper, in O(k^3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import gcd, prod

import torch
from torch import Tensor

from structmat.compose import Product, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal
from structmat.leaves.monarch import Monarch
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import mul, promoted, strong
from structmat.rules.blocks import chained, leaf_of, values_of
from structmat.rules.measure import Measurer, Weigher, memory
from structmat.rules.table import rule

SOURCE = "Godbole (1973); Barthels, Psarras, Bientinesi, Linnea (2021)"


Part = Diagonal | Tensor | LinearOperator


@dataclass(frozen=True)
class Atom:
    """A factor of the chain, or of one of its factors.

    Attributes:
        child: the factor of the product to which it belongs.
        part: a diagonal, values (..., a, b, c, d), or an operator that has no pattern.
        sides: (rows, columns).
        grid: (a, d) of its pattern; (0, 0) for a diagonal, (1, 1) for what has none.
        flops: of applying it to a vector.
        stored: the tensors it is made of, as (name, bytes).
        dtype: as :attr:`LinearOperator.strong_dtype`.
        batch: its batch shape.
    """

    child: int
    part: Part
    sides: tuple[int, int]
    grid: tuple[int, int]
    flops: int
    stored: tuple[tuple[Hashable, int], ...]
    dtype: torch.dtype | None
    batch: tuple[int, ...]


def atoms_of(op: Product | MonarchChain, measure: Measurer) -> list[Atom]:
    """The factors of a product, those that are chains of patterns taken apart."""
    return [atom for i, child in enumerate(op.children) for atom in _atoms(i, child, measure)]


def _atoms(i: int, op: LinearOperator, measure: Measurer) -> list[Atom]:
    match op:
        case Dense() | BlockDiagonal() | KroneckerSparse():
            (t,) = op.tensors.values()
            return [_of_values(i, values_of(op), memory(t))]
        case LowRank():
            return [_of_values(i, w[..., None, :, :, None], memory(w)) for w in (op.left, op.right)]
        case Monarch():
            pairs = zip(op.factors(), (op.left, op.right), strict=True)
            return [_of_values(i, f.values, memory(t)) for f, t in pairs]
        case Butterfly():
            return [
                _of_values(i, f.values, (memory(op.twiddle), t)) for t, f in enumerate(op.factors())
            ]
    grid = (0, 0) if isinstance(op, Diagonal) else (1, 1)
    stored = tuple((memory(t), t.numel() * t.element_size()) for t in op.parameters())
    dtype, batch = op.strong_dtype, op.batch_shape
    return [Atom(i, op, op.shape, grid, measure(op).flops, stored, dtype, batch)]


def _of_values(i: int, v: Tensor, name: Hashable) -> Atom:
    a, b, c, d = v.shape[-4:]
    sides, flops = (a * b * d, a * c * d), a * b * d * max(2 * c - 1, 0)
    stored = ((name, v.numel() * v.element_size()),)
    return Atom(i, v, sides, (a, d), flops, stored, v.dtype, tuple(v.shape[:-4]))


def partition(atoms: Sequence[Atom], weigher: Weigher) -> list[tuple[int, int]]:
    """The intervals (i, j) of the cheapest plan: atoms i, ..., j - 1 are multiplied out.

    Of plans of equal cost the one that multiplies the fewest atoms is taken. A tensor that is used
    outside of an interval is not freed by multiplying it out.
    """
    price = weigher.price
    needed = Counter(name for atom in atoms for name, _ in atom.stored)
    for name in needed:
        needed[name] = max(needed[name], weigher.uses(name))
    best: list[tuple[int, int, int]] = [(0, 0, 0)]
    for j in range(1, len(atoms) + 1):
        last = atoms[j - 1]
        single = price(last.flops, sum(size for _, size in last.stored))
        choice = (best[-1][0] + single, best[-1][1], j - 1)
        (a, d), dtype, many = last.grid, last.dtype, last.batch
        lazy_flops, freed, cols = 0, 0, last.sides[1]
        met = Counter[Hashable]()
        for i in range(j - 1, -1, -1):
            atom = atoms[i]
            a, d = gcd(a, atom.grid[0]), gcd(d, atom.grid[1])
            lazy_flops += atom.flops
            for name, size in atom.stored:
                met[name] += 1
                freed += size if met[name] == needed[name] else 0
            if atom.dtype is not None and atom.dtype != dtype:
                dtype = atom.dtype if dtype is None else torch.promote_types(dtype, atom.dtype)
            if atom.batch and atom.batch != many:
                many = tuple(torch.broadcast_shapes(many, atom.batch))
            if dtype is None or i == j - 1:
                continue
            numbers = atom.sides[0] * cols // (a * d or cols)
            flops, stored = 2 * numbers - atom.sides[0], prod(many) * numbers * dtype.itemsize
            if weigher.pays(flops, stored, lazy_flops, freed):
                cost = best[i][0] + price(flops, stored)
                choice = min(choice, (cost, best[i][1] + j - i, i))
        best.append(choice)
    cuts, j = [], len(atoms)
    while j > 0:
        cuts.append((best[j][2], j))
        j = best[j][2]
    return cuts[::-1]


# multiplying out ---------------------------------------------------------------------------------


def _times(a: Part, b: Part, device: torch.device) -> Part:
    """The product of two parts of a chain; ``device`` is where it is, should neither say so."""
    match a, b:
        case Diagonal(), Diagonal():
            return Diagonal(mul(a.d, b.d))
        case Diagonal(), Tensor():
            k, q, _, r = b.shape[-4:]
            return mul(a.d.reshape(*a.d.shape[:-1], k, q, 1, r), b)
        case Tensor(), Diagonal():
            k, _, p, r = a.shape[-4:]
            return mul(a, b.d.reshape(*b.d.shape[:-1], k, 1, p, r))
        case Tensor(), Tensor():
            return _values_times_values(a, b)
        case LinearOperator(), Tensor():
            return _plain(a @ _matrix(b)) if _is_plain(b) else _times(a, _leaf(b), device)
        case Tensor(), LinearOperator():
            return _plain(_matrix(a) @ b) if _is_plain(a) else _times(_leaf(a), b, device)
        case LinearOperator(), LinearOperator():
            (m, n), dtype = (a.shape[0], b.shape[1]), strong(a, b)
            eye = torch.eye(min(m, n), dtype=dtype, device=device)
            return _plain((eye @ a) @ b if m < n else a @ (b @ eye))
    raise TypeError(f"no product of {type(a).__name__} and {type(b).__name__}")


def _values_times_values(v: Tensor, w: Tensor) -> Tensor:
    new = chained(v, w)
    if new is None:
        turned = chained(w.transpose(-3, -2), v.transpose(-3, -2))
        new = None if turned is None else turned.transpose(-3, -2)
    if new is not None:
        return new
    # a dense matrix times a factor stays as small as it is: the factor acts on its rows or columns
    if _is_plain(v) and not _is_plain(w):
        return _plain(_matrix(v) @ _leaf(w))
    if _is_plain(w) and not _is_plain(v):
        return _plain(_leaf(v) @ _matrix(w))
    grid = gcd(v.shape[-4], w.shape[-4]), gcd(v.shape[-1], w.shape[-1])
    v, w = promoted(_coarser(v, *grid), _coarser(w, *grid))
    return torch.einsum("...aijd,...ajkd->...aikd", v, w)


def _coarser(v: Tensor, a: int, d: int) -> Tensor:
    """The same matrix as values of a pattern with fewer cells: a divides a_v, and d divides d_v."""
    *lead, a0, b, c, d0 = v.shape
    f, e = a0 // a, d0 // d
    if f == e == 1:
        return v
    v = v.reshape(*lead, a, f, b, c, e, d)
    v = torch.diag_embed(v.movedim(-5, -1))  # a b c e d f f
    v = torch.diag_embed(v.movedim(-4, -1))  # a b c d f f e e
    v = v.movedim((-8, -4, -7, -2, -3, -6, -1, -5), tuple(range(-8, 0)))
    return v.reshape(*lead, a, f * b * e, f * c * e, d)


def _matrix(v: Tensor) -> Tensor:
    return _coarser(v, 1, 1)[..., 0, :, :, 0]


def _is_plain(v: Tensor) -> bool:
    """Whether v are the values of a dense matrix."""
    return v.shape[-4] == v.shape[-1] == 1


def _plain(w: Tensor) -> Tensor:
    return w[..., None, :, :, None]


def multiplied(atoms: Sequence[Atom], device: torch.device) -> LinearOperator:
    """The product of the atoms, in the order that needs the fewest operations."""
    k = len(atoms)
    grids = {(i, i + 1): atoms[i].grid for i in range(k)}
    cost: dict[tuple[int, int], tuple[int, int]] = {(i, i + 1): (0, i) for i in range(k)}
    for length in range(2, k + 1):
        for i in range(k - length + 1):
            j = i + length
            (a, d), (e, f) = grids[i, j - 1], atoms[j - 1].grid
            grids[i, j] = a, d = gcd(a, e), gcd(d, f)
            cells = (a * d or atoms[i].sides[0]) ** 2
            cost[i, j] = min(
                (cost[i, s][0] + cost[s, j][0] + _work(atoms, i, s, j, cells), s)
                for s in range(i + 1, j)
            )

    def value(i: int, j: int) -> Part:
        if j == i + 1:
            return atoms[i].part
        s = cost[i, j][1]
        return _times(value(i, s), value(s, j), device)

    return _leaf(value(0, k))


def _work(atoms: Sequence[Atom], i: int, s: int, j: int, cells: int) -> int:
    """Operations of the product of two intervals that are multiplied out, up to lower orders."""
    rows, cols = atoms[i].sides[0], atoms[j - 1].sides[1]
    left = s == i + 1 and isinstance(atoms[i].part, LinearOperator)
    right = j == s + 1 and isinstance(atoms[s].part, LinearOperator)
    if left and right:
        return min(rows, cols) * (atoms[i].flops + atoms[s].flops)
    if left or right:
        return cols * atoms[i].flops * left + (cols if left else rows) * atoms[s].flops * right
    return 2 * rows * atoms[s].sides[0] * cols // cells


def _leaf(part: Part) -> LinearOperator:
    return leaf_of(part) if isinstance(part, Tensor) else part


def _example(g: torch.Generator) -> LinearOperator:
    return Product(ex.dense(g, 4, 4), ex.shuffle(g, 4), ex.dense(g, 4, 4))


@rule((Product, MonarchChain), late=True, source=SOURCE, example=_example)
def association(
    op: Product | MonarchChain, weigher: Weigher | None = None
) -> LinearOperator | None:
    """A B C ... is cut where batch * flops + bytes is least; what lies between is multiplied."""
    if any(0 in c.shape for c in op.children):
        return None
    weigher = weigher or Weigher()
    atoms = atoms_of(op, weigher.measure)
    cuts = partition(atoms, weigher)
    merged = {atom.child for i, j in cuts if j > i + 1 for atom in atoms[i:j]}
    if not merged:
        return None
    factors: list[LinearOperator] = []
    for i, j in cuts:
        atom = atoms[i]
        if j > i + 1:
            factors.append(multiplied(atoms[i:j], weigher.device or op.device))
        elif atom.child in merged:
            factors.append(_leaf(atom.part))
        elif i == 0 or atoms[i - 1].child != atom.child:
            factors.append(op.children[atom.child])
    return factors[0] if len(factors) == 1 else Product(*factors)


@rule(
    LinearOperator,
    late=True,
    example=lambda g: ex.monarch(g, (2, 2, 4), (2, 4, 2)),
)
def dense_where_dense_wins(
    op: LinearOperator, weigher: Weigher | None = None
) -> LinearOperator | None:
    """A is dense, where the dense matrix needs fewer flops or bytes and not more of either."""
    m, n = op.shape
    dtype = op.strong_dtype
    if isinstance(op, Dense | Product | MonarchChain | Transpose) or 0 in (m, n) or dtype is None:
        return None
    weigher = weigher or Weigher()
    flops, stored = m * (2 * n - 1), prod(op.batch_shape) * m * n * dtype.itemsize
    if not weigher.pays(flops, stored, weigher.measure(op).flops, weigher.freed(op)):
        return None
    return Dense(op @ torch.eye(n, dtype=dtype, device=weigher.device or op.device))
