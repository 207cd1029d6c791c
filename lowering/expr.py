"""Index arithmetic in generated kernels: decoding digits, pulling values, pushing results.

A kernel knows a logical index ``i`` of some value and needs either the *value* there (pull:
through permutations, slices, joins, diagonals, down to loads from memory) or the *place* where a
result made there must be stored (push). Both are substitutions on strings; digits are decoded
with the cheapest of ``i``, ``i % s``, ``i // d`` and ``i // d % s``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from structmat.index import AffineMap, DigitMap, IndexMap
from structmat.lowering.ir import (
    Add,
    Concat,
    Contract,
    Einsum,
    Graph,
    Permute,
    Scalar,
    Slice,
    Zeros,
)

__all__ = ["Expressions", "decode", "offset"]


def atom(text: str) -> str:
    """Parenthesised unless it is a name, a number or already a bracketed call."""
    plain = text.replace("_", "").isalnum()
    return text if plain else f"({text})"


def constant(text: str) -> int | None:
    """The number that the text is, if it is one: the index into a vector of length 1."""
    return int(text) if text.removeprefix("-").isdigit() else None


def decode(index: str, size: int, stride: int, total: int) -> str:
    """The digit of ``index`` with this size and stride, where index < total."""
    if size == 1:
        return "0"
    if (number := constant(index)) is not None:
        return str(number // stride % size)
    index = atom(index)
    if stride * size == total:
        return index if stride == 1 else f"{index} // {stride}"
    return f"{index} % {size}" if stride == 1 else f"{index} // {stride} % {size}"


def term(text: str, stride: int) -> str:
    """``text * stride``, simplified."""
    if stride == 0:
        return "0"
    if (number := constant(text)) is not None:
        return str(number * stride)
    return (
        text if stride == 1 else f"{atom(text) if '%' in text or '+' in text else text} * {stride}"
    )


def shifted(text: str, by: int) -> str:
    """``text + by``, as an atom."""
    if (number := constant(text)) is not None:
        return str(number + by)
    return atom(text) if by == 0 else f"({atom(text)} {'+' if by > 0 else '-'} {abs(by)})"


def total(terms: Sequence[str]) -> str:
    """Sum of terms, numbers in one."""
    number = sum(constant(t) or 0 for t in terms)
    rest = [t for t in terms if constant(t) is None]
    kept = [t if "%" not in t or t.startswith("(") or "*" in t else f"({t})" for t in rest]
    return " + ".join([*kept, str(number)] if number or not kept else kept)


def offset(index: str, spec: Einsum, spelled: Sequence[int], into: Sequence[int]) -> str:
    """Where the digits that ``index`` spells lie in the vector spelled by ``into``.

    ``spelled`` are the digits of ``index``, slowest first; those missing from ``into`` add 0.
    """
    whole = math.prod(spec.shape(spelled))
    terms = []
    for d in spelled:
        stride = spec.stride(d, tuple(into))
        if stride is None:
            continue
        own = spec.stride(d, tuple(spelled))
        assert own is not None
        terms.append(term(decode(index, spec.sizes[d], own, whole), stride))
    return total(terms)


def mapped(index: str, table: IndexMap, name: str, mask: str) -> str:
    """``index_map[index]`` as text: arithmetic for symbolic maps, a load for tables."""
    if (number := constant(index)) is not None:  # outside the table where a join masks it
        return str(table.array()[number]) if 0 <= number < table.size else "0"
    if isinstance(table, DigitMap):
        out = [table.shape[o] for o in table.order]
        n = table.size
        terms = []
        for position, o in enumerate(table.order):
            own = math.prod(out[position + 1 :])
            stride = math.prod(table.shape[o + 1 :])
            terms.append(term(decode(index, out[position], own, n), stride))
        return total(terms)
    if isinstance(table, AffineMap):
        if (table.size - 1) * table.a + table.b >= 2**31:
            index = f"{atom(index)}.to(tl.int64)"
        scaled = atom(index) if table.a == 1 else f"{atom(index)} * {table.a}"
        return f"({scaled} + {table.b}) % {table.size}" if table.b else f"({scaled}) % {table.size}"
    return f"tl.load({name} + {atom(index)}, mask={mask}, other=0)"


class Expressions:
    """Pull and push for one kernel of a graph; collects the tables it needs.

    Attributes:
        tables: index maps loaded as tables, by parameter name, shared over the module.
        cast: what turns a load into the dtype of on-chip arithmetic.
        used: parameters of this kernel, in order of first use.
    """

    def __init__(
        self,
        graph: Graph,
        stored: frozenset[int],
        tables: dict[str, IndexMap],
        accumulate: str,
    ) -> None:
        self.graph = graph
        self.stored = stored
        self.tables = tables
        self.cast = f".to({accumulate})"
        self.used: list[str] = []

    def use(self, name: str) -> str:
        """Make ``name`` a parameter of the kernel."""
        if name not in self.used:
            self.used.append(name)
        return name

    def lookup(self, table: IndexMap, index: str, mask: str) -> str:
        """Text of table[index]."""
        if isinstance(table, DigitMap | AffineMap):
            return mapped(index, table, "", mask)
        known = [name for name, have in self.tables.items() if have == table]
        name = known[0] if known else f"m{len(self.tables)}"
        self.tables[name] = table
        return mapped(index, table, self.use(name), mask)

    def load(self, v: int, index: str, row: str, mask: str) -> str:
        """Text of a load of a stored value, in its own dtype."""
        self.use(f"v{v}")
        size = self.graph.nodes[v].size
        place = total([f"{row} * {size}", atom(index) if "%" in index else index])
        return f"tl.load(x{v} + {place}, mask={mask}, other=0.0)"

    def pull(self, v: int, index: str, row: str, mask: str, inside: frozenset[int]) -> str:
        """Text of value v at ``index`` for ``row``; ``inside`` are values not to be loaded."""
        node = self.graph.nodes[v]
        if v in self.stored and v not in inside:
            return self.load(v, index, row, mask) + self.cast
        match node:
            case Contract(x=x, w=w, spec=spec):
                where = offset(index, spec, spec.y, spec.x)
                value = self.pull(x, where, row, mask, inside)
                return f"{atom(value)} * {self.weight(w, spec, index, mask)}"
            case Scalar(x=x, alpha=alpha):
                return f"{atom(self.pull(x, index, row, mask, inside))} * {alpha!r}"
            case Permute(x=x, index=table):
                return self.pull(x, self.lookup(table, index, mask), row, mask, inside)
            case Add(xs=xs):
                return " + ".join(atom(self.pull(a, index, row, mask, inside)) for a in xs)
            case Slice(x=x, pre=pre, full=full, post=post, start=start, stop=stop):
                kept, n = stop - start, node.size
                p = decode(index, pre, kept * post, n)
                i = decode(index, kept, post, n)
                q = decode(index, post, 1, n)
                where = total([term(p, full * post), term(shifted(i, start), post), q])
                return self.pull(x, where, row, mask, inside)
            case Concat(xs=xs, pre=pre, sizes=sizes, post=post):
                n, full = node.size, sum(sizes)
                p = decode(index, pre, full * post, n)
                i = decode(index, full, post, n)
                q = decode(index, post, 1, n)
                parts, at = [], 0
                for a, s in zip(xs, sizes, strict=True):
                    here = f"{mask} & ({atom(i)} >= {at}) & ({atom(i)} < {at + s})"
                    where = total([term(p, s * post), term(shifted(i, -at), post), q])
                    value = self.pull(a, where, row, here, inside)
                    parts.append(f"tl.where({here}, {value}, 0.0)")
                    at += s
                return " + ".join(parts)
            case Zeros():
                # as wide as the index, which the mask alone need not be
                return f"tl.where({mask} & ({atom(index)} >= 0), 0.0, 0.0)"
        raise TypeError(f"cannot pull {type(node).__name__}")

    def weight(self, w: int, spec: Einsum, index: str, mask: str) -> str:
        """Text of the values of a contraction without reduction at result ``index``."""
        where = offset(index, spec, spec.y, spec.w)
        return self.values(w, where, mask)

    def values(self, w: int, where: str, mask: str) -> str:
        """Text of a load of values in the dtype of on-chip arithmetic."""
        self.use(f"w{w}")
        if (number := constant(where)) is not None:  # outside w where a join masks it
            inside = 0 < number < math.prod(self.graph.shapes[w])
            return f"tl.load(w{w}{f' + {number}' if inside else ''}){self.cast}"
        return f"tl.load(w{w} + {where}, mask={mask}, other=0.0){self.cast}"

    def push(
        self, path: Sequence[int], root: int, index: str, value: str, row: str, mask: str
    ) -> list[tuple[str, str]]:
        """Statements that carry ``value`` at ``index`` through ``path``.

        Returns:
            (name, text) assignments to ``index`` and ``value`` names, in order.
        """
        out: list[tuple[str, str]] = []
        last = root
        for v in path:
            node = self.graph.nodes[v]
            match node:
                case Contract(w=w, spec=spec):
                    # index spells x; the values and y are addressed by the same digits
                    where = offset(index, spec, spec.x, spec.w)
                    out.append((value, f"{value} * {self.values(w, where, mask)}"))
                    if spec.x != spec.y:
                        out.append((index, offset(index, spec, spec.x, spec.y)))
                case Scalar(alpha=alpha):
                    out.append((value, f"{value} * {alpha!r}"))
                case Permute(index=table):
                    out.append((index, self.lookup(table.inverse(), index, mask)))
                case Add(xs=xs):
                    for a in xs:
                        if a != last:
                            more = self.pull(a, index, row, mask, frozenset())
                            out.append((value, f"{value} + {atom(more)}"))
                case _:
                    raise TypeError(f"cannot push through {type(node).__name__}")
            last = v
        return out
