"""A canonical form of expressions, in which A is compared with its own transpose and conjugate.

Two expressions of equal form are equal matrices, whatever numbers their tensors hold; expressions
of different form may be equal all the same. The form pushes transposition and conjugation to the
leaves, multiplies scalars out of products, flattens products, and forgets the order of sums and of
neighbouring square diagonal matrices:

    (A + B)^T = A^T + B^T,  (A B)^T = B^T A^T,  (A (x) B)^T = A^T (x) B^T,  D E = E D

so that ``canon.form(A, t=True) == canon.form(A)`` finds A + A^T, B^T D B, (B (x) B^T)(B^T (x) B),
and sums, scalings and direct sums of symmetric matrices. A tensor is known by its place in memory
(storage, offset, strides), never by its numbers: views of one place are one tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from functools import singledispatch

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.companion import Companion
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity
from structmat.leaves.monarch import Monarch
from structmat.operator import LinearOperator
from structmat.properties.band import bandwidth
from structmat.properties.leaves import hermitian_leaf, real_leaf, symmetric_leaf
from structmat.properties.place import place, stored

__all__ = ["Atom", "Canon", "Factors", "node_form"]

Key = Hashable
VIEWED = (BlockDiagonal, Companion, Convolution, Dense, Diagonal, KroneckerSparse)
"""Leaves whose transpose is the same class on views of the same tensors."""


@dataclass(frozen=True)
class Atom:
    """One factor of a product: an operator, perhaps transposed, perhaps conjugated."""

    op: LinearOperator
    t: bool = False
    c: bool = False


@dataclass
class Factors:
    """alpha_1 alpha_2 ... A_1 A_2 ..., the scalars in front.

    Attributes:
        number: the product of the scalars that are numbers.
        scalars: the scalars that are tensors, by (place, complex), with how often they occur.
        atoms: the other factors, leftmost first; none for an identity.
    """

    number: complex = 1
    scalars: Counter[tuple[Key, bool]] = field(default_factory=Counter)
    atoms: list[Atom] = field(default_factory=list)


class Canon:
    """Forms that may be compared with each other: temporary tensors live as long as this.

    A form is a number that stands for a node and the forms of its parts, so that it costs the same
    to compare for small and for large expressions.
    """

    def __init__(self) -> None:
        self.kept: list[object] = []
        self.names: dict[Key, int] = {}
        self.known: dict[tuple[int, bool, bool], int] = {}

    def form(self, op: LinearOperator, t: bool = False, c: bool = False) -> int:
        """The canonical form of ``op``, of its transpose (t), of its conjugate (c).

        Args:
            op: the expression.
            t: of the transpose.
            c: of the conjugate.
        """
        asked = id(op), t, c
        if asked not in self.known:
            self.kept.append(op)  # its id must not be used again
            op, t, c = self.reduced(op, t, c)
            if isinstance(op, Transpose):
                self.known[asked] = self.form(op.children[0], not t, c)
            else:
                key = node_form(op, self, t, c)
                self.known[asked] = self.names.setdefault(key, len(self.names))
        return self.known[asked]

    def equal(self, a: Atom, b: Atom) -> bool:
        """Whether two factors are equal for certain."""
        return a.op.shape in (b.op.shape, b.op.shape[::-1]) and (
            self.form(a.op, a.t, a.c) == self.form(b.op, b.t, b.c)
        )

    def reduced(self, op: LinearOperator, t: bool, c: bool) -> tuple[LinearOperator, bool, bool]:
        """Without the operations that change nothing, by what is known of this very node."""
        if c and ("real" in op.assumed or real_leaf(op) is True):
            c = False
        if t and ("symmetric" in op.assumed or symmetric_leaf(op) is True):
            t = False
        if t and ("hermitian" in op.assumed or hermitian_leaf(op) is True):
            t, c = False, not c
        if c and not op.children:
            op, c = op._conjugated({}), False
            self.kept.append(op)
        if t and not op.children and (not op.tensors or _viewed(op)):
            op, t = op._transpose(), False
            self.kept.append(op)
        return op, t, c

    def factors(self, op: LinearOperator, t: bool = False, c: bool = False) -> Factors:
        """The product that ``op`` is; of one atom for what is no product.

        Args:
            op: the expression.
            t: of the transpose.
            c: of the conjugate.
        """
        out = Factors()
        self._collect(op, t, c, out, top=True)
        return out

    def _collect(self, op: LinearOperator, t: bool, c: bool, out: Factors, top: bool) -> None:
        parts: list[LinearOperator]
        if op.assumed and not top:  # its own factors do not have what is assumed of it
            out.atoms.append(Atom(op, t, c))
            return
        match op:
            case Identity():
                return
            case Transpose():
                self._collect(op.children[0], not t, c, out, top)
                return
            case Scaled():
                if op.tensors:
                    alpha = op.alpha.conj() if c else op.alpha
                    self.kept.append(alpha)
                    out.scalars[place(alpha), alpha.is_complex()] += 1
                else:
                    out.number *= complex(op.alpha).conjugate() if c else op.alpha
                parts = [op.children[0]]
            case Product() | MonarchChain():
                parts = list(op.children)
            case Monarch() | Butterfly():
                parts = list(op.factors())
            case LowRank():
                parts = [Dense(op.left), Dense(op.right)]
            case _:
                out.atoms.append(Atom(op, t, c))
                return
        self.kept.append(parts)
        for part in reversed(parts) if t else parts:
            self._collect(part, t, c, out, top=False)


@singledispatch
def node_form(op: LinearOperator, canon: Canon, t: bool, c: bool) -> Key:
    """The form of a node by class, after ``reduced``; an unknown class is opaque.

    A class whose transpose and conjugate are those of its parts registers a function that returns
    a hashable made of ``canon.form(part, t, c)``.
    """
    if c:
        op = op._conjugated({})
        canon.kept.append(op)
    static = tuple((k, v) for k, v in op.structure.static if k not in ("assumed", "dtype"))
    tensors = tuple((k, place(v)) for k, v in op.tensors.items())
    children = tuple(canon.form(child) for child in op.children)
    return type(op).__name__, t, static, tensors, children


@node_form.register
def _(op: Sum, canon: Canon, t: bool, c: bool) -> Key:
    return "Sum", _unordered(canon.form(child, t, c) for child in op.children)


@node_form.register(Kronecker)
@node_form.register(DirectSum)
def _(op: LinearOperator, canon: Canon, t: bool, c: bool) -> Key:
    return type(op).__name__, tuple(canon.form(child, t, c) for child in op.children)


@node_form.register(Identity)
@node_form.register(Product)
@node_form.register(Scaled)
@node_form.register(MonarchChain)
@node_form.register(Monarch)
@node_form.register(Butterfly)
@node_form.register(LowRank)
def _(op: LinearOperator, canon: Canon, t: bool, c: bool) -> Key:
    found = canon.factors(op, t, c)
    if found.number == 0:
        return "Zero", op.shape[::-1] if t else op.shape
    keys: list[Key] = []
    run: list[Key] = []
    for atom in found.atoms:
        key = canon.form(atom.op, atom.t, atom.c)
        if atom.op.shape[0] == atom.op.shape[1] and bandwidth(atom.op) == (0, 0):
            run.append(key)
            continue
        keys += [*([_unordered(run)] if run else []), key]
        run = []
    if len(found.atoms) == 1 and found.number == 1 and not found.scalars:
        return keys[0] if keys else run[0]
    keys += [_unordered(run)] if run else []
    shape = op.shape[::-1] if t else op.shape
    return "Product", shape, found.number, frozenset(found.scalars.items()), tuple(keys)


def _viewed(op: LinearOperator) -> bool:
    return isinstance(op, VIEWED) and all(map(stored, op.tensors.values()))


def _unordered(keys: Iterable[Key]) -> Key:
    return frozenset(Counter(keys).items())
