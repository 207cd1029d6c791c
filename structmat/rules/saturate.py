"""Equality saturation: all equal spellings at once, then the cheapest of them.

The rules of :mod:`structmat.rules.table` go one way, downhill. Some laws have no downhill side:
A (B + C) = A B + A C is cheaper on the left for one choice of shapes and on the right for another,
and so are (A B) C = A (B C), (A B)^T = B^T A^T and (A B) (x) (C D) = (A (x) C)(B (x) D). An e-graph
keeps a set of equal expressions as classes of nodes whose children are classes; applying every law
everywhere adds nodes and merges classes, and nothing is forgotten (Nelson, 1980; Tate, Stepp,
Tatlock, Lerner, Equality saturation, 2009). egglog runs the laws (Zhang et al., Better together:
unifying Datalog and equality saturation, 2023).

Leaves are opaque, except that a low-rank matrix is the product of its two factors. A class costs
what its cheapest node costs: flops times batch plus bytes stored, with the costs of the measure,
and with the dense matrix as one more node where :class:`~structmat.rules.measure.Weigher` allows
it. Costs are improved until nothing changes, as in the algorithm of Bellman and Ford: a
materialised product may be cheaper than its factors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from typing import Any

from structmat.compose import Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity
from structmat.leaves.permutation import Permutation
from structmat.operator import LinearOperator
from structmat.rules.arithmetic import same
from structmat.rules.engine import simplify
from structmat.rules.measure import Weigher
from structmat.rules.scalars import product_of

__all__ = ["LAWS", "cheapest_spelling", "saturate"]

LAWS = """
(datatype Number (Known i64) (Times Number Number))
(datatype Matrix (Leaf i64) (Eye i64) (Mul Matrix Matrix) (Add Matrix Matrix)
                 (Scale Number Matrix) (Kron Matrix Matrix) (T Matrix))
(datatype Whole (Root Matrix))
(function rows (Matrix) i64 :no-merge)
(function cols (Matrix) i64 :no-merge)

; shapes
(rule ((= e (Eye n))) ((set (rows e) n) (set (cols e) n)))
(rule ((= e (Mul a b)) (= m (rows a)) (= n (cols b))) ((set (rows e) m) (set (cols e) n)))
(rule ((= e (Add a b)) (= m (rows a)) (= n (cols a))) ((set (rows e) m) (set (cols e) n)))
(rule ((= e (Scale s a)) (= m (rows a)) (= n (cols a))) ((set (rows e) m) (set (cols e) n)))
(rule ((= e (T a)) (= m (rows a)) (= n (cols a))) ((set (rows e) n) (set (cols e) m)))
(rule ((= e (Kron a b)) (= m (rows a)) (= n (cols a)) (= p (rows b)) (= q (cols b)))
      ((set (rows e) (* m p)) (set (cols e) (* n q))))

; association, commutation, distribution, both ways
(birewrite (Mul (Mul a b) c) (Mul a (Mul b c)))
(birewrite (Add (Add a b) c) (Add a (Add b c)))
(rewrite (Add a b) (Add b a))
(birewrite (Add (Mul a b) (Mul a c)) (Mul a (Add b c)))
(birewrite (Add (Mul a c) (Mul b c)) (Mul (Add a b) c))
(rewrite (Add a (Mul a b)) (Mul a (Add (Eye n) b)) :when ((= n (cols a))))
(rewrite (Add a (Mul b a)) (Mul (Add (Eye m) b) a) :when ((= m (rows a))))

; identities and transposes
(rewrite (Mul (Eye n) a) a)
(rewrite (Mul a (Eye n)) a)
(rewrite (T (T a)) a)
(rewrite (T (Eye n)) (Eye n))
(birewrite (T (Mul a b)) (Mul (T b) (T a)))
(birewrite (T (Add a b)) (Add (T a) (T b)))
(birewrite (T (Scale s a)) (Scale s (T a)))
(birewrite (T (Kron a b)) (Kron (T a) (T b)))

; scalars
(birewrite (Scale s (Mul a b)) (Mul (Scale s a) b))
(birewrite (Scale s (Mul a b)) (Mul a (Scale s b)))
(birewrite (Scale s (Add a b)) (Add (Scale s a) (Scale s b)))
(birewrite (Scale s (Kron a b)) (Kron (Scale s a) b))
(rewrite (Scale s (Scale t a)) (Scale (Times s t) a))

; Kronecker products
(birewrite (Kron (Kron a b) c) (Kron a (Kron b c)))
(rewrite (Kron (Eye m) (Eye n)) (Eye (* m n)))
(birewrite (Kron a (Add b c)) (Add (Kron a b) (Kron a c)))
(birewrite (Kron (Add a b) c) (Add (Kron a c) (Kron b c)))
(rewrite (Kron (Mul a c) (Mul b d)) (Mul (Kron a b) (Kron c d)))
(rewrite (Mul (Kron a b) (Kron c d)) (Kron (Mul a c) (Mul b d))
         :when ((= (cols a) (rows c)) (= (cols b) (rows d))))
"""


def saturate(
    op: LinearOperator,
    limit: int = 5_000,
    *,
    iterations: int = 8,
    batch: int = 1,
    materialize: bool = False,
) -> LinearOperator:
    """The cheapest spelling that two-way laws reach, simplified; never dearer than ``simplify``.

    Needs the extra ``structmat[egglog]``. For expressions of some dozen leaves: the number of equal
    spellings grows fast, which ``limit`` bounds.

    Args:
        op: the expression.
        limit: the search stops after the round in which the e-graph has more nodes.
        iterations: at most so many rounds of all laws.
        batch: as for :func:`structmat.simplify`.
        materialize: as for :func:`structmat.simplify`.

    Returns:
        An equal operator on the same tensors.

    Raises:
        ImportError: egglog is not installed.
        TypeError: op is not an operator.

    Example:
        >>> import structmat as sm
        >>> sm.saturate.__module__
        'structmat.rules.saturate'
    """
    default = simplify(op, batch=batch, materialize=materialize)
    made = cheapest_spelling(op, limit, iterations, batch, materialize)
    (f0, s0), (f1, s1), price = _cost(default), _cost(made), Weigher(batch).price
    better = price(f1, s1) < price(f0, s0)
    kept = made.strong_dtype == op.strong_dtype and made.batch_shape == op.batch_shape
    allowed = materialize or (f1 <= f0 and s1 <= s0)
    return (made if better and allowed and kept else default)._on(op.device)


def cheapest_spelling(
    op: LinearOperator,
    limit: int = 5_000,
    iterations: int = 8,
    batch: int = 1,
    materialize: bool = False,
) -> LinearOperator:
    """What the search alone finds, simplified: the plan with which tests compare ``simplify``.

    Arguments, results and errors are those of :func:`saturate`, which takes this one only where it
    is better than ``simplify`` in flops and bytes together and worse in neither. The price that the
    search minimises is one of trees: what spellings share is counted as often as it occurs, so
    its plan may also be the dearer one.
    """
    weigher, leaves = Weigher(batch, materialize), _Leaves()
    found = _cheapest(_nodes(leaves, op, limit, iterations), leaves, weigher)
    return simplify(found, batch=batch, materialize=materialize)


def _cost(op: LinearOperator) -> tuple[int, int]:
    return sum(op.operations()), sum(t.numel() * t.element_size() for t in op.parameters())


class _Leaves:
    """Operators and scalars by number, and the terms that stand for expressions."""

    def __init__(self) -> None:
        self.ops: list[LinearOperator] = []
        self.scalars: list[Any] = []

    def term(self, op: LinearOperator) -> str:
        """The expression in the language of :data:`LAWS`."""
        match op:
            case Identity() if op.strong_dtype is None:
                return f"(Eye {op.n})"
            case Product() | Sum() | Kronecker():
                name = {Product: "Mul", Sum: "Add", Kronecker: "Kron"}[type(op)]
                first, *rest = (self.term(c) for c in op.children)
                for other in rest:
                    first = f"({name} {first} {other})"
                return first
            case Scaled():
                self.scalars.append(op.alpha)
                return f"(Scale (Known {len(self.scalars) - 1}) {self.term(op.children[0])})"
            case Transpose():
                return f"(T {self.term(op.children[0])})"
            case LowRank():
                return f"(Mul {self.leaf(Dense(op.left))} {self.leaf(Dense(op.right))})"
        return self.leaf(op)

    def leaf(self, op: LinearOperator) -> str:
        """Equal leaves have one number."""
        for i, known in enumerate(self.ops):
            if same(known, op):
                return f"(Leaf {i})"
        self.ops.append(op)
        return f"(Leaf {len(self.ops) - 1})"

    def facts(self) -> Iterator[str]:
        """Shapes of the leaves; that permutations are orthogonal."""
        for i, op in enumerate(self.ops):
            m, n = op.shape
            yield f"(set (rows (Leaf {i})) {m})"
            yield f"(set (cols (Leaf {i})) {n})"
            if isinstance(op, Permutation) and op.strong_dtype is None:
                yield f"(rewrite (Mul (Leaf {i}) (T (Leaf {i}))) (Eye {n}))"
                yield f"(rewrite (Mul (T (Leaf {i})) (Leaf {i})) (Eye {n}))"


@dataclass(frozen=True)
class _Node:
    """A node of the e-graph: the class where it is, and the classes of its children."""

    name: str
    where: str
    children: tuple[str, ...]


def _nodes(leaves: _Leaves, op: LinearOperator, limit: int, iterations: int) -> list[_Node]:
    """The saturated e-graph."""
    if find_spec("egglog") is None:
        raise ImportError(
            "structmat.saturate searches with egglog, which is not installed: "
            "pip install 'structmat[egglog]', or use structmat.simplify"
        )
    from egglog import bindings

    graph = bindings.EGraph()

    def run(program: str) -> None:
        graph.run_program(*graph.parse_program(program))

    run(LAWS)
    term = leaves.term(op)
    run("\n".join([f"(Root {term})", *leaves.facts()]))
    nodes = _read(graph.serialize([]).to_json())
    for _ in range(iterations):
        run("(run 1)")
        before, nodes = len(nodes), _read(graph.serialize([]).to_json())
        if len(nodes) == before or len(nodes) > limit:
            break
    return nodes


def _read(text: str) -> list[_Node]:
    nodes = json.loads(text)["nodes"]
    where = {k: n["op"] if k.startswith("primitive") else n["eclass"] for k, n in nodes.items()}
    return [
        _Node(n["op"], n["eclass"], tuple(where[c] for c in n["children"]))
        for k, n in nodes.items()
        if not k.startswith("primitive") and n["op"] not in ("rows", "cols")
    ]


@dataclass(frozen=True)
class _Plan:
    """A spelling of a class, what it costs, and whether it is multiplied out."""

    op: LinearOperator
    flops: int
    stored: int


class _Search:
    """The cheapest plan of every class, improved until nothing changes."""

    def __init__(self, leaves: _Leaves, weigher: Weigher) -> None:
        self.leaves = leaves
        self.weigher = weigher
        self.scalars: dict[str, Any] = {}
        self.best: dict[str, _Plan] = {}

    def improve(self, node: _Node) -> bool:
        """Whether this node makes its class cheaper."""
        if node.name in ("Known", "Times"):
            return self._number(node)
        if node.name == "Root" or not self._known(node):
            return False
        plan = self._materialized(self._plan(node))
        old = self.best.get(node.where)
        price = self.weigher.price
        if old is not None and price(old.flops, old.stored) <= price(plan.flops, plan.stored):
            return False
        self.best[node.where] = plan
        return True

    def _number(self, node: _Node) -> bool:
        if node.where in self.scalars:
            return False
        if node.name == "Known":
            self.scalars[node.where] = self.leaves.scalars[int(node.children[0])]
            return True
        if not all(c in self.scalars for c in node.children):
            return False
        self.scalars[node.where] = product_of(*(self.scalars[c] for c in node.children))
        return True

    def _known(self, node: _Node) -> bool:
        if node.name == "Scale":
            return node.children[0] in self.scalars and node.children[1] in self.best
        return node.name in ("Leaf", "Eye") or all(c in self.best for c in node.children)

    def _plan(self, node: _Node) -> _Plan:
        match node.name:
            case "Leaf":
                return self._measured(self.leaves.ops[int(node.children[0])])
            case "Eye":
                return _Plan(Identity(int(node.children[0])), 0, 0)
            case "Scale":
                alpha, a = self.scalars[node.children[0]], self.best[node.children[1]]
                free = a.stored > 0 or (not hasattr(alpha, "shape") and alpha in (1, -1))
                return _Plan(Scaled(alpha, a.op), a.flops + a.op.shape[0] * (not free), a.stored)
            case "T":
                a = self.best[node.children[0]]
                (m, n), turned = a.op.shape, Transpose(a.op)
                if not a.op.children:
                    return self._measured(a.op._transpose())
                return _Plan(turned, max(a.flops + m - n, 0) if a.flops else 0, a.stored)
        a, b = (self.best[c] for c in node.children)
        stored = a.stored + b.stored
        if node.name == "Add":
            return _Plan(Sum(a.op, b.op), a.flops + b.flops + a.op.shape[0], stored)
        if node.name == "Mul":
            folds = [isinstance(x.op, Diagonal) and y.stored > 0 for x, y in ((a, b), (b, a))]
            if any(folds):
                kept = b if folds[0] else a
                return _Plan(Product(a.op, b.op), kept.flops, kept.stored)
            return _Plan(Product(a.op, b.op), a.flops + b.flops, stored)
        (m, n), (p, q) = a.op.shape, b.op.shape
        flops = min(a.flops * q + b.flops * m, b.flops * n + a.flops * p)
        return _Plan(Kronecker(a.op, b.op), flops, stored)

    def _measured(self, op: LinearOperator) -> _Plan:
        about = self.weigher.measure(op)
        return _Plan(op, about.flops, about.stored)

    def _materialized(self, plan: _Plan) -> _Plan:
        """The plan, or the same with the dense matrix in its place where that pays."""
        (m, n), dtype = plan.op.shape, plan.op.strong_dtype
        if dtype is None or 0 in (m, n):
            return plan
        flops, stored = m * (2 * n - 1), prod(plan.op.batch_shape) * m * n * dtype.itemsize
        pays = self.weigher.pays(flops, stored, plan.flops, plan.stored)
        return _Plan(plan.op, flops, stored) if pays else plan


def _cheapest(nodes: list[_Node], leaves: _Leaves, weigher: Weigher) -> LinearOperator:
    search = _Search(leaves, weigher)
    for _ in range(len(nodes)):
        if not any([search.improve(node) for node in nodes]):
            break
    (root,) = (node for node in nodes if node.name == "Root")
    return search.best[root.children[0]].op
