"""emit (torch): a readable function of library calls, batched matrix products throughout.

Values between contractions are kept *features first*, as (digits..., t) with the batch t
contiguous: a permutation of digits is then a view, and each contraction is one batched product

    [parallel, out, reduced] @ [parallel, reduced, t] -> [parallel, out, t]

that reads its operands through strides. Values that no parallel digit distinguishes multiply in
place where those digits lead: I (x) A (x) I moves nothing. Contractions without parallel digits
keep rows (t, n) as rows, and so does a result of few or of large blocks, whose rows are joined from
runs of the outputs; the rows of many small blocks come from one transposition at the end. (Which is
faster was measured: one transposed copy reads a cache line a number, joined rows write runs as long
as a block, and products of rows with a small block are slow.) Rows whose last digit is parallel
give bmm no unit stride, and it would copy block by block: they are copied once, blocks first.

Columns, inputs (n, t) and results (m, t), are features first already: nothing is transposed.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

from structmat.index import DigitMap
from structmat.lowering.ir import (
    Add,
    Apply,
    Concat,
    Contract,
    Correlate,
    Einsum,
    Gradient,
    Graph,
    Input,
    Outer,
    Permute,
    Scalar,
    Slice,
    Zeros,
)
from structmat.lowering.plan import Plan
from structmat.tables import Indices

__all__ = ["emit_torch"]

FEW_COLUMNS = 8
FEW_BLOCKS = 8
LARGE_BLOCK = 16
"""Up to so many blocks, or of so many outputs, a result is joined from rows."""


def emit_torch(plan: Plan, title: str, columns: bool = False) -> tuple[str, list[Indices]]:
    """Source of ``run(inputs, values, tables)`` for a plan of library calls.

    Args:
        plan: from ``fuse``.
        title: first line of the module.
        columns: vectors are columns, (n, t) and (m, t), instead of rows.

    Returns:
        The module source, and what has the tables that ``run`` expects in ``tables``.
    """
    return _Emitter(plan.graph, columns).module(title)


class _Emitter:
    def __init__(self, graph: Graph, columns: bool) -> None:
        self.graph = graph
        self.columns = columns
        self.lines: list[str] = []
        self.dims: list[tuple[int, ...]] = []  # digits of each value, as its variable is shaped
        self.in_rows: set[int] = set()  # values whose variable is (t, n)
        self.tables: list[Indices] = []
        self.copies: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
        self.functions: dict[str, Callable[..., object]] = {}

    def module(self, title: str) -> tuple[str, list[Indices]]:
        for v, node in enumerate(self.graph.nodes):
            self.lines.append(f"    # v{v}: {node}")
            self.emit(v)
        results = []
        for o in self.graph.outputs:
            node = self.graph.nodes[o]
            if isinstance(node, Gradient):
                results.append(f"v{o}")
            else:
                results.append(self.shaped(o, (node.size,)) if self.columns else self.rows(o))
        body = "\n".join(self.lines)
        layout, many = ("columns ({}, t)", 1) if self.columns else ("rows (t, {})", 0)
        source = (
            f'"""{title}"""\n\n{self.preamble()}\n\n'
            "def run(inputs, values, tables=()):\n"
            f'    """inputs: {layout.format("n")}; values: tensors of the factors; '
            f'returns {layout.format("m")}."""\n'
            f"    t = inputs[0].shape[{many}]\n{body}\n    return [{', '.join(results)}]\n"
        )
        return source, self.tables

    def preamble(self) -> str:
        """Imports, and the functions that primitives call."""
        if not self.functions:
            return "import torch\n"
        imports = (
            "from __future__ import annotations\n\nimport math\n"
            "from collections.abc import Callable, Sequence\n\n"
            "import torch\nfrom torch import Tensor\n"
        )
        return "\n\n".join([imports, *map(inspect.getsource, self.functions.values())])

    def rows(self, v: int) -> str:
        if v in self.in_rows:
            return f"v{v}"
        return f"{self.shaped(v, (self.graph.nodes[v].size,))}.mT.contiguous()"

    def shaped(self, v: int, sizes: tuple[int, ...]) -> str:
        """An expression for value v with these digits, t last."""
        name = f"v{v}.mT" if v in self.in_rows else f"v{v}"
        return name if self.dims[v] == sizes else f"{name}.reshape({_list(sizes)}t)"

    def blocks(self, x: int, spec: Einsum, have: tuple[int, ...], want: list[int]) -> str:
        """Value x with digits ``have``, as digits ``want`` and t last, for a product by block."""
        shape = spec.shape(have)
        parallel = spec.parallel
        if x not in self.in_rows or len(want) < 2 or have[-1] not in parallel or shape[-1] == 1:
            return _permute(self.shaped(x, shape), have, want, keep_last=True)
        order = tuple(have.index(d) for d in want)
        key = x, shape, order
        if key not in self.copies:
            name = f"v{x}_{len(self.copies)}"
            axes = ", ".join(str(o + 1) for o in order)
            text = f"v{x}.reshape(t, {_tuple(shape)}).permute(0, {axes}).contiguous()"
            self.lines.append(f"    {name} = {text}")
            self.copies[key] = name
        last = ", ".join(str(i + 1) for i in range(len(order)))
        return f"{self.copies[key]}.permute({last}, 0)"

    def table(self, index: Indices) -> str:
        """The name of a table; equal ones are passed once."""
        if index not in self.tables:
            self.tables.append(index)
        return f"tables[{self.tables.index(index)}]"

    def put(self, v: int, text: str, dims: tuple[int, ...], rows: bool = False) -> None:
        self.lines.append(f"    v{v} = {text}")
        self.dims.append((self.graph.nodes[v].size,) if rows else dims)
        if rows:
            self.in_rows.add(v)

    def emit(self, v: int) -> None:
        node = self.graph.nodes[v]
        size = (node.size,)
        match node:
            case Input(which=which):
                self.put(v, f"inputs[{which}]", size, rows=not self.columns)
            case Contract(x=x, w=w, spec=spec, conj=conj):
                text = f"values[{w}]" + (".conj()" if conj else "")
                if spec.shape(spec.w) != self.graph.shapes[w]:
                    text += f".reshape({_tuple(spec.shape(spec.w))})"
                self.contract(v, x, text, spec)
            case Outer(x=x, g=g, spec=spec):
                self.outer(v, x, g, spec)
            case Apply():
                self.apply(v, node)
            case Correlate():
                self.correlate(v, node)
            case Permute(x=x, index=index):
                if isinstance(index, DigitMap):
                    order = ", ".join(str(o) for o in (*index.order, len(index.order)))
                    dims = tuple(index.shape[o] for o in index.order)
                    self.put(v, f"{self.shaped(x, index.shape)}.permute({order})", dims)
                else:
                    at = self.table(index)
                    self.put(v, f"{self.shaped(x, size)}.index_select(0, {at})", size)
            case Scalar(x=x, alpha=alpha):
                self.put(v, f"v{x} * {alpha!r}", self.dims[x], x in self.in_rows)
            case Add(xs=xs) if self.in_rows.issuperset(xs):
                self.put(v, " + ".join(f"v{a}" for a in xs), size, rows=True)
            case Add(xs=xs):
                self.put(v, " + ".join(self.shaped(a, size) for a in xs), size)
            case Slice(x=x, pre=pre, full=full, post=post, start=start, stop=stop):
                if pre == post == 1 and x in self.in_rows:
                    self.put(v, f"v{x}[:, {start}:{stop}]", size, rows=True)
                elif pre == post == 1:
                    self.put(v, f"{self.shaped(x, (full,))}[{start}:{stop}]", size)
                else:
                    text = f"{self.shaped(x, (pre, full, post))}[:, {start}:{stop}]"
                    self.put(v, text, (pre, stop - start, post))
            case Concat(xs=xs, pre=1, post=1) if v in self.graph.outputs and not self.columns:
                parts = ", ".join(self.rows(a) for a in xs)
                self.put(v, f"torch.cat([{parts}], 1)", size, rows=True)
            case Concat(xs=xs, pre=pre, sizes=sizes, post=post):
                parts = ", ".join(
                    self.shaped(a, (pre, s, post)) for a, s in zip(xs, sizes, strict=True)
                )
                self.put(v, f"torch.cat([{parts}], 1)", (pre, sum(sizes), post))
            case Zeros():
                self.put(v, f"inputs[0].new_zeros({node.size}, t)", size)

    def contract(self, v: int, x: int, w: str, spec: Einsum) -> None:
        if not spec.reduced:
            self.pointwise(v, x, w, spec)
            return
        batch = tuple(d for d in spec.parallel if d in spec.w)
        shared = tuple(d for d in spec.parallel if d not in spec.w)
        order = [*batch, *spec.reduced, *shared]
        b, o, r = (math.prod(spec.shape(ds)) for ds in (batch, spec.out, spec.reduced))
        many = math.prod(spec.shape(shared))
        columns = "t" if many == 1 else f"{many} * t"
        ends = v in self.graph.outputs and (b <= FEW_BLOCKS or o >= LARGE_BLOCK)
        if not shared and not self.columns and (ends or (not batch and x in self.in_rows)):
            self.contract_rows(v, x, w, spec, batch)
            return
        first = _leading(spec, shared)
        if first and not batch:
            self.contract_in_place(v, x, w, spec, first)
            return
        xs = self.blocks(x, spec, spec.x, order)
        ws = _permute(w, spec.w, [*batch, *spec.out, *spec.reduced])
        lead = [b] if batch else []
        xs = _view(xs, spec.shape(order), [*lead, r], columns)
        ws = _view(ws, spec.shape([*batch, *spec.out, *spec.reduced]), [*lead, o, r])
        made = (*batch, *spec.out, *shared)
        text = f"({ws} @ {xs})"
        if spec.shape(made) != (*lead, o) or shared:
            text += f".reshape({_list(spec.shape(made))}t)"
        self.put(v, _permute(text, made, list(spec.y), keep_last=True), spec.shape(spec.y))

    def contract_in_place(self, v: int, x: int, w: str, spec: Einsum, first: int) -> None:
        """w @ [leading, reduced, trailing t] -> [leading, out, trailing t]: nothing moves."""
        lead, trail = spec.y[:first], spec.y[first + len(spec.out) :]
        p, o, r, s = (math.prod(spec.shape(ds)) for ds in (lead, spec.out, spec.reduced, trail))
        xs = self.shaped(x, spec.shape(spec.x))
        xs = _view(xs, spec.shape(spec.x), [p, r], "t" if s == 1 else f"{s} * t")
        into = [*spec.out, *spec.reduced]
        ws = _view(_permute(w, spec.w, into), spec.shape(into), [o, r])
        text = f"({ws} @ {xs})"
        if s < FEW_COLUMNS:  # many products with few columns are slow: one of many rows instead
            many = f"t >= {FEW_COLUMNS}" if s == 1 else f"{s} * t >= {FEW_COLUMNS}"
            text = f"({ws} @ {xs} if {many} else ({xs}.mT @ {ws}.mT).mT)"
        if spec.shape(spec.y) != (p, o):
            text += f".reshape({_list(spec.shape(spec.y))}t)"
        self.put(v, text, spec.shape(spec.y))

    def contract_rows(self, v: int, x: int, w: str, spec: Einsum, batch: tuple[int, ...]) -> None:
        """[parallel, t, reduced] @ [parallel, reduced, out], joined to rows (t, m)."""
        b, o, r = (math.prod(spec.shape(ds)) for ds in (batch, spec.out, spec.reduced))
        lead = [b] if batch else []
        order = [*batch, *spec.reduced]
        if not batch and x in self.in_rows:
            xs = f"v{x}"  # nothing is parallel: all of x, in order, is reduced
        else:
            xs = self.blocks(x, spec, spec.x, order)
            xs = f"{_view(xs, spec.shape(order), [*lead, r], 't')}.mT"
            if batch and x not in self.in_rows:
                self.lines.append(f"    v{v} = {xs}")
                self.lines.append(f"    v{v} = v{v}.contiguous() if t == 1 else v{v}")
                xs = f"v{v}"  # the strides of a single row, permuted, take bmm's slow path
        into = [*batch, *spec.out, *spec.reduced]
        ws = _view(_permute(w, spec.w, into), spec.shape(into), [*lead, o, r])
        text = f"{xs} @ {ws}.mT"
        made = [*batch, -1, *spec.out]
        want = [-1, *spec.y]
        if made != want:
            sizes = ["t" if d < 0 else str(spec.sizes[d]) for d in made]
            plain = len(batch) == len(lead) and len(spec.out) == 1
            text = f"({text})" if plain else f"({text}).reshape({', '.join(sizes)})"
            text = f"{text}.permute({', '.join(str(made.index(d)) for d in want)})"
            text += f".reshape(t, {spec.m})"
        elif len(spec.out) != 1:
            text = f"({text}).reshape(t, {spec.m})"
        self.put(v, text, (spec.m,), rows=True)

    def pointwise(self, v: int, x: int, w: str, spec: Einsum) -> None:
        """No reduction: a broadcast product; digits of y missing from x repeat x."""
        elementwise = spec.x == spec.y and spec.w in ((), spec.x)
        if x in self.in_rows and (elementwise or (not spec.x and spec.w == spec.y)):
            self.put(v, f"v{x} * {w}", (spec.m,), rows=True)
            return
        xs = _permute(
            self.shaped(x, spec.shape(spec.x)), spec.x, list(spec.parallel), keep_last=True
        )
        ones = [spec.sizes[d] if d in spec.x else 1 for d in spec.y]
        if spec.out:
            xs = f"{xs}.reshape({_list(ones)}t)"
        order = [d for d in spec.y if d in spec.w]
        ws = _permute(w, spec.w, order)
        wide = [spec.sizes[d] if d in spec.w else 1 for d in spec.y]
        self.put(v, f"{xs} * {ws}.reshape({_list(wide)}1)", spec.shape(spec.y))

    def apply(self, v: int, node: Apply) -> None:
        """On rows where x is in rows, features first otherwise."""
        op = node.op.conjugated() if node.conj else node.op
        self.functions.update((f.__name__, f) for f in op.functions())
        w = None
        if node.w is not None:
            w = f"values[{node.w}]" + (".conj()" if node.conj else "")
            if node.batch > 1:
                w += f".unsqueeze(1).reshape({node.batch}, 1, {_tuple(op.values or ())})"
        tables = [self.table(t) for t in op.tables()]
        sides = (node.batch, node.pre, op.ins, node.post)
        if node.x in self.in_rows:
            plain = sides[0] == sides[1] == sides[3] == 1
            x = f"v{node.x}"
            x += ".unsqueeze(-1)" if plain else f".reshape(t, {_tuple(sides)})"
            text = op.text(x, w, tables)
            self.put(v, f"{text}.reshape(t, {node.size})", (node.size,), rows=True)
            return
        x = self.shaped(node.x, sides if node.post > 1 else sides[:3])
        if node.post > 1:
            x += f".reshape({_list(sides[:3])}{node.post} * t)"
        made = (node.batch, node.pre, op.outs, node.post)
        self.put(v, f"{op.text(x, w, tables)}.reshape({_list(made)}t)", made)

    def correlate(self, v: int, node: Correlate) -> None:
        """The gradient of a primitive's values; rows are summed like columns."""
        self.functions.update((f.__name__, f) for f in node.op.functions())
        b, p, q = node.batch, node.pre, node.post
        rows = self.in_rows.issuperset((node.x, node.g))  # both operands number them alike

        def operand(x: int, size: int) -> str:
            if not rows:
                return f"{self.shaped(x, (b, p, size, q))}.reshape({b}, {p}, {size}, {q} * t)"
            name = f"v{x}"
            if b > 1:
                name += f".reshape(t, {b}, {p * size * q}).movedim(1, 0)"
            return f"{name}.reshape({b}, {p} * t, {size}, {q})"

        tables = [self.table(t) for t in node.op.tables()]
        shape = self.graph.shapes[node.w]
        w = f"values[{node.w}].reshape({_tuple((b, *(node.op.values or ())))})"
        operands = operand(node.x, node.op.ins), operand(node.g, node.op.outs), w
        text = node.op.gradient_text(*operands, tables)
        self.put(v, f"{text}.reshape({_tuple(shape)})", shape)

    def outer(self, v: int, x: int, g: int, spec: Einsum) -> None:
        batch = tuple(d for d in spec.parallel if d in spec.w)
        shared = tuple(d for d in spec.parallel if d not in spec.w)
        b, o, r, s = (math.prod(spec.shape(ds)) for ds in (batch, spec.out, spec.reduced, shared))
        xs = self.blocks(x, spec, spec.x, [*batch, *spec.reduced, *shared])
        gs = self.blocks(g, spec, spec.y, [*batch, *spec.out, *shared])
        width = "t" if s == 1 else f"{s} * t"
        made = (*batch, *spec.out, *spec.reduced)
        gs = _view(gs, spec.shape([*batch, *spec.out, *shared]), [b, o], width)
        xs = _view(xs, spec.shape([*batch, *spec.reduced, *shared]), [b, r], width)
        text = f"({gs} @ {xs}.mH)"
        if spec.shape(made) != (b, o, r):
            text += f".reshape({_tuple(spec.shape(made))})"
        self.put(v, _permute(text, made, list(spec.w)), spec.shape(spec.w))


def _leading(spec: Einsum, shared: tuple[int, ...]) -> int:
    """How many shared digits lead x and y alike, the rest of them trailing; 0 for other orders."""
    first = 0
    while spec.x[first : first + 1] == spec.y[first : first + 1] and spec.x[first] in shared:
        first += 1
    lead, trail = shared[:first], shared[first:]
    fits = spec.x == (*lead, *spec.reduced, *trail) and spec.y == (*lead, *spec.out, *trail)
    return first if fits else 0


def _list(sizes: tuple[int, ...] | list[int]) -> str:
    return "".join(f"{s}, " for s in sizes)


def _permute(text: str, have: tuple[int, ...], want: list[int], keep_last: bool = False) -> str:
    order = [have.index(d) for d in want]
    if order == list(range(len(have))):
        return text
    if keep_last:
        order.append(len(have))
    return f"{text}.permute({', '.join(map(str, order))})"


def _view(text: str, have: tuple[int, ...], want: list[int], last: str = "") -> str:
    """A reshape, left out where the shape is already that one."""
    if list(have) == want and last in ("", "t"):
        return text
    return f"{text}.reshape({_list(want)}{last})" if last else f"{text}.reshape({_tuple(want)})"


def _tuple(sizes: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, sizes)) if sizes else "()"
