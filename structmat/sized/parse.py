"""Expressions as text: ``"Monarch(n, nblocks=64) @ DFT(n) + LowRank(n, rank=8)"``.

The spelling is that of :mod:`structmat.sized`: structures by their sizes, symbols for sizes. Text
is parsed by ``ast.parse``, which builds a tree and runs nothing; then each node of the tree that
this grammar has is computed here, and every other node is an error at its column.

    expression   expression @ + - expression, number * expression, expression / number,
                 expression ** integer, -expression, (expression)
                 expression.T .H .mT .conj(), expression[i:j, k:l]
                 Structure(sizes, name=value), kron(...), block([[...], ...]), inv(...), ...
    size         integer, name, size + - * / // ** size, sqrt(size)
    value        size, number, 'text', True, False, None, torch.dtype, (value, ...)

Names may be written as in a program, ``sm.kron`` and ``sm.sized.Monarch``.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import torch

from structmat.compose import block, direct_sum, elementwise, hstack, kron, kron_sum, vstack
from structmat.operator import LinearOperator
from structmat.sized.form import FAMILIES, form_of
from structmat.sized.numbers import ARITHMETIC, arithmetic, is_number, plain, root
from structmat.sized.text import SIGNS, ParseError, Text
from structmat.sizes import has_symbols, symbols_of

__all__ = ["ParseError", "known_names", "parse"]

LONGEST = 10_000
"""Characters of a text: more is no formula."""

LARGEST = 2**26
"""Rows or columns: a random permutation of this size is a table of half a gigabyte."""

MOST_FACTORS = 256
"""The largest k of A ** k, which is a product of k factors."""


def parse(
    text: str,
    sizes: Mapping[str, int] | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> LinearOperator:
    """The operator that a text describes; nothing in the text is executed.

    Args:
        text: an expression in the spelling of :mod:`structmat.sized`, on one line or several.
        sizes: integers for names; a name without one is a symbol, as by :func:`structmat.dim`.
        dtype: of the entries; structures without entries take that of x.
        device: of the entries; ``"meta"`` for none at all.
        seed: of the entries, which differ from leaf to leaf.

    Returns:
        A concrete operator with random entries where all sizes are known, else a symbolic one.

    Raises:
        ParseError: anything else than an expression of the grammar, and what the structures
            themselves refuse, such as shapes that do not fit, at its column.

    Example:
        >>> import structmat as sm
        >>> sm.sized.parse("Monarch(n, nblocks=4) @ Diagonal(n)", {"n": 16})
        Monarch(4 of 4x4, 4 of 4x4) @ Diagonal(16)
          16x16 float32, 144 params, 240 flops
        >>> sm.sized.parse("2 * Dense(n) @ Hadamard(n)").cost().params
        n**2
        >>> sm.sized.parse("Hadmard(16)")
        Traceback (most recent call last):
            ...
        structmat.sized.text.ParseError: unknown name 'Hadmard'; did you mean Hadamard or Haar?
          Hadmard(16)
          ^
    """
    if len(text) > LONGEST:
        raise ParseError(f"{len(text)} characters are no formula: {LONGEST} at most", text[:40], 0)
    line = " ".join(text.strip().splitlines())
    reader = _Reader(line, dict(sizes or {}), dtype, device, seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            tree = ast.parse(line, mode="eval")
        return reader.operator(tree.body)
    except ParseError:
        raise
    except SyntaxError as error:
        message = error.msg if line else "an empty expression"
        raise reader.text.at((error.offset or 1) - 1, message) from None
    except (RecursionError, MemoryError):
        raise reader.text.at(0, "nested too deeply") from None
    except ValueError as error:  # null characters, lone surrogates
        raise reader.text.at(0, str(error)) from None


def known_names() -> list[str]:
    """The names that an expression may call, sorted.

    Example:
        >>> import structmat as sm
        >>> {"Monarch", "kron", "inv", "sqrt"} <= set(sm.sized.known_names())
        True
    """
    return sorted([*FAMILIES, *COMBINATORS, "sqrt"], key=str.lower)


def _inv(op: LinearOperator) -> LinearOperator:
    from structmat.linalg.inverse import inv

    return inv(op)


COMBINATORS: dict[str, Callable[..., LinearOperator]] = {
    "block": block,
    "direct_sum": direct_sum,
    "elementwise": elementwise,
    "hstack": hstack,
    "inv": _inv,
    "kron": kron,
    "kron_sum": kron_sum,
    "vstack": vstack,
}

PREFIXES = ("sm", "structmat", "sm.sized", "structmat.sized", "sized")

REFUSED: dict[type[ast.AST], str] = {
    ast.Lambda: "functions",
    ast.ListComp: "comprehensions",
    ast.SetComp: "comprehensions",
    ast.DictComp: "comprehensions",
    ast.GeneratorExp: "comprehensions",
    ast.Compare: "comparisons",
    ast.BoolOp: "and, or",
    ast.IfExp: "conditions",
    ast.JoinedStr: "f-strings",
    ast.NamedExpr: "assignments",
    ast.Starred: "* before an argument",
    ast.Dict: "dictionaries",
    ast.Set: "sets",
    ast.UnaryOp: "not, ~",
}


class _Reader:
    """Computes a tree of :mod:`ast`, one method for each kind of result."""

    def __init__(
        self, text: str, sizes: dict[str, int], dtype: torch.dtype | None, device: str, seed: int
    ) -> None:
        self.text = Text(text)
        self.sizes = sizes
        self.dtype, self.device, self.seed = dtype, device, seed

    @contextmanager
    def at(self, node: ast.AST) -> Iterator[None]:
        """What the operators refuse is an error at this node."""
        try:
            yield
        except ParseError:
            raise
        except (
            ArithmeticError,
            IndexError,
            NotImplementedError,
            RuntimeError,  # of torch: memory
            TypeError,
            ValueError,
        ) as error:
            if isinstance(error, RecursionError):
                raise
            message = " ".join(str(error).split()) or type(error).__name__
            if isinstance(node, ast.BinOp):
                raise self.text.between(node, message) from error
            raise self.text.error(node, message) from error

    def unknown(self, node: ast.AST, name: str, names: list[str], what: str = "name") -> ParseError:
        """An unknown name, with those near it."""
        lower = {n.lower(): n for n in names}
        near = [lower[n] for n in difflib.get_close_matches(name.lower(), lower, 3)]
        many = len(names) > len(DTYPES)
        hint = f"known: {', '.join(names)}" if not many else "sm.sized.known_names() lists them"
        hint = f"did you mean {' or '.join(near)}?" if near else hint
        return self.text.error(node, f"unknown {what} {name!r}; {hint}")

    def refused(self, node: ast.AST) -> ParseError:
        """A node of Python that the grammar has not."""
        what = next((w for kind, w in REFUSED.items() if isinstance(node, kind)), None)
        shown = type(node).__name__ if what is None else what
        return self.text.error(node, f"not part of an expression of operators: {shown}")

    # operators ---------------------------------------------------------------------------------

    def operator(self, node: ast.expr) -> LinearOperator:
        """The value of a node, which must be an operator."""
        value = self.value(node)
        if not isinstance(value, LinearOperator):
            name = node.id if isinstance(node, ast.Name) and node.id not in self.sizes else ""
            if near := difflib.get_close_matches(name, known_names(), 1):
                raise self.text.error(node, f"{name} is a symbol; did you mean {near[0]}(...)?")
            raise self.text.error(node, f"expected an operator, found {_kind(value)}")
        return value

    def value(self, node: ast.expr) -> Any:
        """The value of a node: an operator, a size, or an argument."""
        match node:
            case ast.BinOp():
                return self.binary(node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                found = self.value(node.operand)
                if not isinstance(found, LinearOperator) and not is_number(found):
                    raise self.text.error(node, f"a sign before {_kind(found)}")
                return found if isinstance(node.op, ast.UAdd) else plain(-found)
            case ast.Constant():
                return self.constant(node)
            case ast.Name():
                return self.name(node)
            case ast.Call():
                return self.call(node)
            case ast.Attribute():
                return self.attribute(node)
            case ast.Subscript():
                return self.subscript(node)
            case ast.List():
                return [self.value(e) for e in node.elts]
            case ast.Tuple():
                return tuple(self.value(e) for e in node.elts)
        raise self.refused(node)

    def constant(self, node: ast.Constant) -> Any:
        """Numbers, texts, True, False, None."""
        if isinstance(node.value, bytes) or node.value is ...:
            raise self.text.error(node, f"not part of an expression of operators: {node.value!r}")
        with self.at(node):
            return arithmetic(ast.Add, node.value, 0) if is_number(node.value) else node.value

    def name(self, node: ast.Name) -> Any:
        """An integer that was given for the name, or a symbol."""
        if node.id in self.sizes:
            return self.sizes[node.id]
        if node.id in (*FAMILIES, *COMBINATORS, "sqrt"):
            raise self.text.error(node, f"{node.id} needs its arguments: {node.id}(...)")
        from structmat.cost import dim

        return dim(node.id)

    def binary(self, node: ast.BinOp) -> Any:
        """Products, sums, multiples and powers of operators; arithmetic of sizes."""
        a, b = self.value(node.left), self.value(node.right)
        left, right = (isinstance(v, LinearOperator) for v in (a, b))
        for side, found in ((node.left, a), (node.right, b)):
            if not isinstance(found, LinearOperator) and not is_number(found):
                raise self.text.error(
                    side, f"expected an operator or a number, found {_kind(found)}"
                )
        with self.at(node):
            match node.op:
                case ast.MatMult() if left and right:
                    return self.checked(node, a @ b)
                case ast.MatMult():
                    raise self.text.error(
                        node.right if left else node.left,
                        "@ is the product of two operators; a number times an operator is "
                        "2 * A, and 2 * B in a product needs parentheses: A @ (2 * B)",
                    )
                case ast.Add() | ast.Sub() if left or right:
                    return self.checked(node, ARITHMETIC[type(node.op)](a, b))
                case ast.Mult() if left and not right:
                    return a * self.scalar(node.right, b)
                case ast.Mult() if right and not left:
                    return self.scalar(node.left, a) * b
                case ast.Div() if left and not right:
                    return a / self.scalar(node.right, b)
                case ast.Pow() if left:
                    return self.power(node, a, b)
                case ast.Mult() if left and right:
                    return a * b  # raises, and says what to write
            if left or right or type(node.op) not in ARITHMETIC:
                raise self.text.between(
                    node, f"no {SIGNS[type(node.op)]} between {_kind(a)} and {_kind(b)}"
                )
            return arithmetic(type(node.op), a, b)

    def scalar(self, node: ast.AST, value: Any) -> int | float | complex:
        """A number that multiplies an operator."""
        if symbols_of(value):
            raise self.text.error(node, f"a number times an operator: {value} has no number yet")
        number: int | float | complex = _argument(value)
        return number

    def power(self, node: ast.BinOp, op: LinearOperator, k: Any) -> LinearOperator:
        """op ** k for an integer k."""
        if not isinstance(k, int):
            raise self.text.error(
                node.right, f"the power of an operator is an integer, not {_kind(k)}"
            )
        if abs(k) > MOST_FACTORS:
            raise self.text.error(
                node.right, f"a product of {abs(k)} factors: {MOST_FACTORS} at most"
            )
        return op**k

    def checked(self, node: ast.AST, op: Any) -> LinearOperator:
        """The operator, where it is one and its sides are not absurdly long."""
        if not isinstance(op, LinearOperator):
            raise self.text.error(node, f"this is {_kind(op)}, not an operator")
        for side in op.shape:
            if not has_symbols(side) and side > LARGEST:
                raise self.text.error(node, f"{op.shape[0]} x {op.shape[1]} is too large")
        return op

    # calls -------------------------------------------------------------------------------------

    def call(self, node: ast.Call) -> Any:
        """A structure by its sizes, a combinator, sqrt, or .conj()."""
        func = node.func
        if isinstance(func, ast.Attribute) and func.attr == "conj":
            if node.args or node.keywords:
                raise self.text.error(node, ".conj() takes no arguments")
            return self.operator(func.value).conj()
        name = self.called(func)
        arguments = [self.argument(a) for a in node.args]
        named: dict[str, Any] = {}
        for k in node.keywords:
            if k.arg is None:
                raise self.text.error(k.value, "not part of an expression of operators: **")
            if k.arg in named:
                raise self.text.error(k.value, f"{k.arg}= is given twice")
            named[k.arg] = self.argument(k.value)
        with self.at(node):
            if name in FAMILIES:
                return self.structure(node, name, arguments, named)
            if named:
                raise self.text.error(node, f"{name} takes no named arguments")
            if name == "sqrt":
                if len(arguments) != 1 or not is_number(arguments[0]):
                    raise self.text.error(node, "sqrt takes one size")
                return root(arguments[0])
            self.parts(node, name, arguments)
            return self.checked(node, COMBINATORS[name](*arguments))

    def called(self, func: ast.expr) -> str:
        """The name of what is called, without ``sm.`` or ``sm.sized.``."""
        name = _dotted(func)
        if name is None:
            raise self.text.error(func, "only structures and combinators by their names are called")
        prefix, _, last = name.rpartition(".")
        if prefix and prefix not in PREFIXES:
            raise self.text.error(
                func, f"unknown name {name!r}; structures are called by their names"
            )
        if last not in FAMILIES and last not in COMBINATORS and last != "sqrt":
            raise self.unknown(func, last, known_names())
        return last

    def argument(self, node: ast.expr) -> Any:
        """An argument: any value, and dtypes as ``torch.float32``."""
        name = _dotted(node)
        if name is not None and name.startswith("torch."):
            found = getattr(torch, name.removeprefix("torch."), None) if name in DTYPES else None
            if not isinstance(found, torch.dtype):
                raise self.unknown(node, name, list(DTYPES), "dtype")
            return found
        return self.value(node)

    def structure(
        self, node: ast.Call, name: str, args: list[Any], named: dict[str, Any]
    ) -> LinearOperator:
        """A structure by its sizes, with entries of its own."""
        dtype = named.pop("dtype", None)
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise self.text.error(node, f"dtype={dtype!r} is none: write dtype=torch.float32")
        if any(isinstance(v, LinearOperator) for v in _flat([*args, *named.values()])):
            raise self.text.error(node, f"{name} takes sizes, not operators")
        args = [_argument(a) for a in args]
        named = {k: _argument(v) for k, v in named.items()}
        sizes = FAMILIES[name].arguments(*args, **named)
        for value in _flat(v for _, v in sizes):
            if isinstance(value, int) and abs(value) > LARGEST:
                raise self.text.error(node, f"{name}: {value} is too large, {LARGEST} at most")
        form = form_of(name, sizes)
        for side in form.shape:
            if not has_symbols(side) and side > LARGEST:
                raise self.text.error(
                    node, f"{name}: {form.shape[0]} x {form.shape[1]} is too large"
                )
        if dtype is None and form.tensors:
            dtype = self.dtype
        self.seed += 1
        return FAMILIES[name].make(
            *args, dtype=dtype, seed=self.seed - 1, device=self.device, **named
        )

    def parts(self, node: ast.Call, name: str, arguments: list[Any]) -> None:
        """Raise unless the arguments of a combinator are operators (or 0, in a block matrix)."""
        blocks = name in ("block", "hstack", "vstack")
        for value in _flat(arguments) if blocks else arguments:
            zero = blocks and isinstance(value, int) and value == 0
            if not isinstance(value, LinearOperator) and not zero:
                raise self.text.error(node, f"{name}: expected operators, found {_kind(value)}")

    # attributes and slices ---------------------------------------------------------------------

    def attribute(self, node: ast.Attribute) -> LinearOperator:
        """.T, .mT, .H"""
        name = _dotted(node)
        if name is not None and name.rpartition(".")[0] in (*PREFIXES, "torch"):
            raise self.text.error(node, f"{name} is called with its arguments, or names a dtype=")
        known = ["T", "H", "mT", "conj()"]
        if node.attr not in known:
            raise self.unknown(node, node.attr, known, "attribute")
        op = self.operator(node.value)
        with self.at(node):
            return op.H if node.attr == "H" else op.T

    def subscript(self, node: ast.Subscript) -> LinearOperator:
        """A[i:j, k:l], and lists of rows or columns."""
        op = self.operator(node.value)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        keys = tuple(self.key(p) for p in parts)
        with self.at(node):
            return self.checked(node, op[keys if len(keys) > 1 else keys[0]])

    def key(self, node: ast.expr) -> Any:
        """A slice of sizes, or a list of integers."""
        if isinstance(node, ast.Slice):
            return slice(*(self.bound(b) for b in (node.lower, node.upper, node.step)))
        if isinstance(node, ast.List):
            return [self.integer(e) for e in node.elts]
        raise self.text.error(node, "rows and columns are slices i:j or lists: A[i:j, k:l]")

    def bound(self, node: ast.expr | None) -> Any:
        """An integer or a symbolic size of a slice; None where nothing is written."""
        if node is None:
            return None
        value = self.value(node)
        return value if symbols_of(value) else self.integer(node)

    def integer(self, node: ast.expr) -> int:
        """An integer."""
        value = self.value(node)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.text.error(node, f"expected an integer, found {_kind(value)}")
        return value


DTYPES = tuple(
    f"torch.{t}" for t in ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
)


def _dotted(node: ast.expr) -> str | None:
    """``a.b.c`` as text, None for other nodes."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return None if inner is None else f"{inner}.{node.attr}"
    return None


def _kind(value: Any) -> str:
    """A value as errors name it."""
    if isinstance(value, LinearOperator):
        return "an operator"
    if isinstance(value, list | tuple):
        return "a list"
    if has_symbols(value):
        return f"the size {value}"
    return f"the number {value}" if is_number(value) else f"{value!r}"


def _flat(values: Any) -> Iterator[Any]:
    for v in values:
        if isinstance(v, list | tuple):
            yield from _flat(v)
        else:
            yield v


def _argument(value: Any) -> Any:
    """As structures take it: fractions are no sizes, but may be numbers."""
    if isinstance(value, tuple | list):
        return tuple(map(_argument, value))
    return float(value) if isinstance(value, Fraction) else value
