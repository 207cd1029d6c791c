"""The table of rules: what a rule is, how it is registered, which rules may match where.

A rule is a function from operators to an equal operator, or to None where it does not match. It
sees one node (``inside=None``), or neighbours under a common parent: factors next to each other in
a product, a Kronecker product or a direct sum, or any two terms of a sum. It looks at structure
only (classes, shapes, static arguments, which tensors are the same object) and never at numbers,
so that what was simplified once can be replayed on other numbers by tracing its tensor operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from structmat.operator import LinearOperator

__all__ = ["Rule", "Step", "candidates", "rule", "rules"]

Classes = type[LinearOperator] | tuple[type[LinearOperator], ...]
Apply = Callable[..., LinearOperator | None]
Key = Callable[[LinearOperator], LinearOperator]
Build = Callable[[torch.Generator], LinearOperator]

TABLE: list[Rule] = []
MATCHES: dict[tuple[object, ...], tuple[Rule, ...]] = {}
"""What :func:`candidates` found; emptied when a rule is registered."""


@dataclass(frozen=True)
class Rule:
    """A named identity between expressions.

    Attributes:
        name: how traces call it.
        statement: the identity, in one line.
        source: where it comes from.
        apply: the function itself: operators -> equal operator, or None where it does not match.
        inside: the class of the common parent of the operators it takes; None for a single node.
        classes: the classes it may match, one entry an operand.
        early: also tried before the children are simplified. For rules that recognise equal
            operators by their tensors, and for those that make work on the children needless.
        late: tried on a node when no other rule fires; for rules that weigh the whole node, by
            the :class:`structmat.rules.measure.Weigher` that they take as a second argument.
        key: for a rule on two operands that compares parts of them by identity, the part of one
            operand; the engine calls the rule only where the parts look alike.
        build: how :meth:`example` makes its expression.
        exact: whether integers stay integers; not where numbers pass through a Fourier transform.

    Example:
        >>> import structmat as sm
        >>> rule = {r.name: r for r in sm.rules()}["transpose_of_product"]
        >>> rule.statement
        '(A B)^T = B^T A^T'
        >>> rule.example()._label()
        '(Dense(2x3) @ Dense(3x4)).T'
    """

    name: str
    statement: str
    source: str
    apply: Apply = field(repr=False)
    inside: type[LinearOperator] | None
    classes: tuple[Classes, ...] = field(repr=False)
    early: bool = field(repr=False)
    build: Build = field(repr=False)
    exact: bool = field(default=True, repr=False)
    late: bool = field(default=False, repr=False)
    key: Key | None = field(default=None, repr=False)

    def example(self, seed: int = 0) -> LinearOperator:
        """An expression at whose root the rule fires, with entries in {-1, 0, 1}, float64.

        Args:
            seed: of the entries; the structure is the same for every seed.
        """
        return self.build(torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Step:
    """One firing of a rule.

    Attributes:
        rule: the rule.
        before: the expression it saw, a part of the whole.
        after: the equal expression it put there.

    Example:
        >>> import structmat as sm
        >>> _, steps = sm.simplify(sm.reversal(4) @ sm.reversal(4), trace=True)
        >>> print(steps[0])
        permutation_times_permutation: Permutation(affine(3*i + 3 mod 4)) @
        Permutation(affine(3*i + 3 mod 4)) -> Permutation(identity(4))
    """

    rule: Rule
    before: LinearOperator
    after: LinearOperator

    def __str__(self) -> str:
        return f"{self.rule.name}: {self.before._label()} -> {self.after._label()}"


def rule(
    *classes: Classes,
    inside: type[LinearOperator] | None = None,
    source: str = "definition",
    early: bool = False,
    late: bool = False,
    exact: bool = True,
    key: Key | None = None,
    example: Build,
) -> Callable[[Apply], Apply]:
    """Register the decorated function; the first line of its docstring is the statement.

    Args:
        *classes: what each operand may be.
        inside: parent of the operands; None for a rule on a single node.
        source: reference.
        early: also try it before the children are simplified.
        late: try it only when no other rule fires.
        key: the part of an operand that has to be the same in both.
        exact: False for rules whose numbers pass through a Fourier transform.
        example: from a seeded generator to an expression at whose root the rule fires.

    Raises:
        ValueError: a rule of that name exists, or the function says nothing about itself.
    """

    def register(fn: Apply) -> Apply:
        statement = (fn.__doc__ or "").strip().split("\n")[0].rstrip(".")
        if not statement or any(r.name == fn.__name__ for r in TABLE):
            raise ValueError(f"rule {fn.__name__}: needs a docstring, and a name of its own")
        about = Rule(
            fn.__name__, statement, source, fn, inside, classes, early, example, exact, late
        )
        TABLE.append(about)
        MATCHES.clear()
        return fn

    return register


def candidates(
    inside: type[LinearOperator] | None,
    kinds: tuple[type[LinearOperator], ...],
    early: bool = False,
    late: bool = False,
) -> tuple[Rule, ...]:
    """The rules that may match operands of these classes, in the order of the table."""
    key = (inside, kinds, early, late)
    if key not in MATCHES:
        MATCHES[key] = tuple(
            r
            for r in TABLE
            if r.inside is inside
            and (r.early or not early)
            and r.late == late
            and len(r.classes) == len(kinds)
            and all(issubclass(k, c) for k, c in zip(kinds, r.classes, strict=True))
        )
    return MATCHES[key]


def has_triples(inside: type[LinearOperator], early: bool) -> bool:
    """Whether any rule takes three neighbours under such a parent."""
    key = (inside, "triples", early)
    if key not in MATCHES:
        MATCHES[key] = tuple(
            r for r in TABLE if r.inside is inside and len(r.classes) == 3 and r.early >= early
        )
    return bool(MATCHES[key])


def rules() -> list[Rule]:
    """Every rule of the simplifier, in the order in which they are tried.

    Example:
        >>> import structmat as sm
        >>> len(sm.rules()) > 50
        True
        >>> sm.rules()[0].name
        'single'
    """
    return list(TABLE)
