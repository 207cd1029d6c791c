r"""Expressions as formulas.

Leaves have the letters of the field with their sizes below: $I$, $0$, $D$ (diagonal), $P$
(permutation; $J$ reversal, $Z^k$ shift, $L^n_s$ stride permutation as in SPIRAL), $W$ (dense),
$U\,V$ (low rank), $F$ (Fourier), $H$ (Hadamard), $M$ (Monarch), $T$ (Toeplitz), $C$ (circulant);
others are written out. Different leaves that have one letter are numbered above it. $\otimes$ is
the Kronecker product, $\boxplus$ the Kronecker sum, $\oplus$ the direct sum, $\odot$ the
elementwise product.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from structmat.compose import Scaled
from structmat.index import AffineMap, DigitMap
from structmat.operator import LinearOperator
from structmat.sized.form import Sized
from structmat.sizes import has_symbols

__all__ = ["latex", "number"]

SUM, PRODUCT, SPACE, POWER, ATOM = range(5)
"""How tightly an expression binds; SPACE is that of Kronecker products and direct sums."""

Written = tuple[str, int]

LETTERS = {
    "Dense": "W",
    "Diagonal": "D",
    "Permutation": "P",
    "BlockDiagonal": "B",
    "KroneckerSparse": "K",
    "Monarch": "M",
    "Butterfly": r"\mathcal{B}",
    "Toeplitz": "T",
    "Circulant": "C",
    "Sparse": "S",
    "Identity": "I",
    "Zero": "0",
    "DFT": "F",
    "Hadamard": "H",
    "reversal": "J",
    "cyclic_shift": "Z",
    "stride_permutation": "L",
    "bit_reversal": "R",
    "Vandermonde": "V",
}
ROMAN = {1: "I", 2: "II", 3: "III", 4: "IV"}


def latex(op: LinearOperator) -> str:
    r"""The formula of an expression, without dollar signs.

    Args:
        op: the expression, concrete or with symbolic sizes.

    Example:
        >>> import structmat as sm
        >>> from structmat.visual import latex
        >>> n = sm.dim("n")
        >>> latex(sm.kron(sm.Identity(2), sm.DFT(n)).T)
        '\\left(I_{2} \\otimes F_{n}\\right)^{\\top}'
    """
    return _Writer(op).write(op)[0]


def number(value: Any) -> str:
    """An integer, a float, a complex number or an expression of sympy."""
    if has_symbols(value):
        import sympy

        order, terms = "grevlex", value.as_ordered_terms("grevlex")
        first = next((t for t in terms if not t.could_extract_minus_sign()), terms[0])
        if first is not terms[0]:  # a - b rather than -b + a
            rest = [t for t in terms if t is not first]
            order, value = "none", sympy.Add(first, *rest, evaluate=False)
        text: str = sympy.latex(value, order=order, fold_frac_powers=True)
        return text
    if isinstance(value, complex):
        sign = "-" if value.imag < 0 else "+"
        return rf"\left({number(value.real)} {sign} {number(abs(value.imag))} i\right)"
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return r"\mathrm{nan}" if math.isnan(value) else r"\infty" if value > 0 else r"-\infty"
    mantissa, _, exponent = f"{value:g}".partition("e")
    return rf"{mantissa} \times 10^{{{int(exponent)}}}" if exponent else mantissa


def _size(m: Any, n: Any) -> str:
    return number(m) if m is n or m == n else rf"{number(m)} \times {number(n)}"


def _words(name: str) -> str:
    return rf"\mathrm{{{name}}}".replace("_", r"\_")


class _Writer:
    """Writes one expression; knows which leaves need numbers."""

    def __init__(self, op: LinearOperator) -> None:
        found: dict[str, dict[Any, int]] = {}
        for leaf in _leaves(op):
            if leaf.tensors or type(leaf).__name__ in ("Permutation", "Selection"):
                same = found.setdefault(_letter(leaf), {})
                same.setdefault(_identity(leaf), len(same) + 1)
        self.numbers = {k: v for k, v in found.items() if len(v) > 1}

    def write(self, op: LinearOperator) -> Written:
        """The text, and how tightly it binds."""
        writer = next(
            (WRITERS[c.__name__] for c in type(op).__mro__ if c.__name__ in WRITERS), None
        )
        if writer is not None:
            return writer(self, op)
        if op.children:
            inner = ", ".join(self.write(c)[0] for c in op.children)
            return rf"{_words(type(op).__name__)}\left({inner}\right)", ATOM
        return self.leaf(op)

    def wrapped(self, op: LinearOperator, least: int) -> str:
        """The text, in parentheses where it binds less than ``least``."""
        text, binds = self.write(op)
        return text if binds >= least else rf"\left({text}\right)"

    def count(self, op: LinearOperator) -> str:
        """The superscript of a leaf that shares its letter with others."""
        found = self.numbers.get(_letter(op), {}).get(_identity(op))
        return "" if found is None else f"({found})"

    def leaf(self, op: LinearOperator) -> Written:
        """A letter with its sizes."""
        letter, above = _letter(op), self.count(op)
        m, n = op.shape
        below = _size(m, n)
        if isinstance(op, Sized):
            arguments = dict(op.arguments)
            form_m, form_n = op.form.shape
            below, name = _size(form_m, form_n), op.family
        else:
            arguments, name = op.static, type(op).__name__
        before = ""
        match name:
            case "LowRank":
                return self.low_rank(op, above), PRODUCT
            case "KroneckerSparse":
                below = _pattern(op)
            case "DCT" | "DST":
                above = rf"\mathrm{{{ROMAN[arguments.get('type', 2)]}}}"
                if arguments.get("norm") not in (None, "backward"):
                    above += rf",\mathrm{{{arguments['norm']}}}"
            case "DFT" | "IDFT":
                text = _fourier(op, name == "IDFT" or arguments.get("inverse", False))
                binds = PRODUCT if "tfrac" in text else POWER if "^" in text else ATOM
                return text, binds
            case "Hadamard":
                before = (
                    rf"\tfrac{{1}}{{\sqrt{{{below}}}}} \, " if arguments.get("normalized") else ""
                )
                above = r"\mathrm{seq}" if arguments.get("order") == "sequency" else ""
            case "Wavelet" if len(arguments.get("taps", ())) == 2:
                letter = r"\mathrm{Haar}"
            case "stride_permutation":
                below, above = number(arguments["s"]), below
            case "cyclic_shift":
                k = arguments.get("k", 1)
                above = "" if k == 1 else number(k)
            case "Permutation" if not isinstance(op, Sized):
                return _permutation(op, above), POWER
        text = f"{letter}_{{{below}}}" + (f"^{{{above}}}" if above else "")
        binds = POWER if above else ATOM
        if _conjugate(op):
            text, binds = rf"\overline{{{text}}}", ATOM
        if getattr(op, "transposed", False):
            text, binds = _power(text, binds, r"\top"), POWER
        return (before + text, PRODUCT) if before else (text, binds)

    def low_rank(self, op: LinearOperator, above: str) -> str:
        """U V with the rank between them; a transposed one is V^T U^T."""
        up = f"^{{{above}}}" if above else ""
        left, right = op.tensors["left"].shape[-2:], op.tensors["right"].shape[-2:]
        u, v = (
            rf"{name}_{{{number(a)} \times {number(b)}}}{up}"
            for name, (a, b) in (("U", left), ("V", right))
        )
        if _conjugate(op):
            u, v = rf"\overline{{{u}}}", rf"\overline{{{v}}}"
        if getattr(op, "transposed", False):
            return rf"{{{v}}}^{{\top}} \, {{{u}}}^{{\top}}"
        return rf"{u} \, {v}"

    # combinators -------------------------------------------------------------------------------

    def product(self, op: LinearOperator) -> Written:
        """Factors side by side, equal neighbours as a power."""
        parts = []
        for i, (_, run) in enumerate(itertools.groupby(op.children, id)):
            same = list(run)
            if len(same) > 1:
                text, binds = self.write(same[0])
                parts.append(_power(text, binds, str(len(same))))
            else:
                first = i == 0 and isinstance(same[0], Scaled)
                parts.append(self.wrapped(same[0], PRODUCT if first else _inside(same[0])))
        return r" \, ".join(parts), PRODUCT

    def sum(self, op: LinearOperator) -> Written:
        """Terms with their signs."""
        text = ""
        for c in op.children:
            term = self.wrapped(c, PRODUCT)
            if not text:
                text = term
            else:
                text += f" - {term[1:].lstrip()}" if term.startswith("-") else f" + {term}"
        return text, SUM

    def scaled(self, op: LinearOperator) -> Written:
        """A number before the matrix."""
        alpha = op.tensors["alpha"] if op.tensors else op.static["alpha"]
        child = self.wrapped(op.children[0], PRODUCT)
        if isinstance(alpha, Tensor):
            return rf"\alpha{_up(self.count(op))} \, {child}", PRODUCT
        if alpha == 1 or (alpha == -1 and not child.startswith("-")):
            return ("" if alpha == 1 else "-") + child, PRODUCT
        if isinstance(op.children[0], Scaled):
            child = rf"\left({child}\right)"
        return rf"{number(alpha)} \, {child}", PRODUCT

    def transpose(self, op: LinearOperator) -> Written:
        """The matrix with a T above."""
        text, binds = self.write(op.children[0])
        return _power(text, binds, r"\top"), POWER

    def joined(self, op: LinearOperator, sign: str) -> Written:
        """Operands with a sign between them."""
        return f" {sign} ".join(self.wrapped(c, POWER) for c in op.children), SPACE

    def block(self, op: Any) -> Written:
        """Rows of blocks in brackets."""
        rows = (" & ".join(self.write(c)[0] for c in row) for row in op.rows())
        inner = r" \\ ".join(rows)
        return rf"\begin{{bmatrix}} {inner} \end{{bmatrix}}", ATOM

    def inverse(self, op: LinearOperator) -> Written:
        """The matrix with -1 above."""
        text, binds = self.write(op.children[0])
        return _power(text, binds, "-1"), POWER

    def chain(self, op: LinearOperator) -> Written:
        """The factors of a chain."""
        return r" \, ".join(self.wrapped(c, PRODUCT) for c in op.children), PRODUCT


WRITERS: dict[str, Callable[[_Writer, Any], Written]] = {
    "Product": _Writer.product,
    "Sum": _Writer.sum,
    "Scaled": _Writer.scaled,
    "Transpose": _Writer.transpose,
    "Kronecker": lambda w, op: w.joined(op, r"\otimes"),
    "DirectSum": lambda w, op: w.joined(op, r"\oplus"),
    "KroneckerSum": lambda w, op: w.joined(op, r"\boxplus"),
    "Elementwise": lambda w, op: w.joined(op, r"\odot"),
    "Block": _Writer.block,
    "Inverse": _Writer.inverse,
    "MonarchChain": _Writer.chain,
}
"""How a class is written; by name, so that a user's class can be added."""


def _inside(op: LinearOperator) -> int:
    """How tightly a factor must bind: a scalar in the middle and a Kronecker product do not."""
    loose = ("Kronecker", "DirectSum", "KroneckerSum", "Elementwise", "Scaled")
    return POWER if type(op).__name__ in loose else PRODUCT


def _up(text: str) -> str:
    return f"^{{{text}}}" if text else ""


def _power(text: str, binds: int, power: str) -> str:
    base = text if binds == ATOM else f"{{{text}}}" if binds == POWER else rf"\left({text}\right)"
    return f"{base}^{{{power}}}"


def _leaves(op: LinearOperator) -> Iterator[LinearOperator]:
    if isinstance(op, Scaled) and op.tensors:
        yield op
    if not op.children:
        yield op
    for c in op.children:
        yield from _leaves(c)


def _letter(op: LinearOperator) -> str:
    name = op.family if isinstance(op, Sized) else type(op).__name__
    if name == "Scaled":
        return r"\alpha"
    return LETTERS.get(name) or _words(name)


def _identity(op: LinearOperator) -> Any:
    """Equal for leaves that are one matrix: views of the same numbers, or the same index."""
    if not op.tensors:
        return op.structure
    return tuple(
        (t.untyped_storage()._cdata, t.storage_offset(), tuple(t.shape), t.stride())
        if isinstance(t, Tensor)
        else id(t)
        for t in op.tensors.values()
    )


def _conjugate(op: LinearOperator) -> bool:
    if isinstance(op, Sized):
        return op.conjugated
    return any(t.is_conj() for t in op.tensors.values())


def _pattern(op: Any) -> str:
    sizes = dict(op.arguments).values() if isinstance(op, Sized) else op.pattern
    return f"({', '.join(map(number, sizes))})"


def _fourier(op: Any, inverse: bool) -> str:
    """F, its inverse, or its conjugate, and what it is scaled by."""
    n = number(op.shape[0])
    plain = rf"F_{{{n}}}"
    norm = dict(op.arguments).get("norm", "backward") if isinstance(op, Sized) else op.norm
    if isinstance(op, Sized) and op.conjugated:
        inverse = not inverse
        norm = {"backward": "forward", "forward": "backward"}.get(norm, norm)
    if inverse and norm == "backward":
        return f"{plain}^{{-1}}"
    scale = {"ortho": rf"\tfrac{{1}}{{\sqrt{{{n}}}}} \, "}.get(norm, "")
    if norm == "forward" and not inverse:
        scale = rf"\tfrac{{1}}{{{n}}} \, "
    return scale + (rf"\overline{{{plain}}}" if inverse else plain)


def _permutation(op: Any, above: str) -> str:
    index, n = op.index, op.shape[0]
    if index.is_identity:
        return f"I_{{{n}}}"
    match index:
        case AffineMap() if (index.a % n, index.b % n) == (n - 1, n - 1):
            return f"J_{{{n}}}"
        case AffineMap() if index.a % n == 1:
            k = -index.b % n
            return f"Z_{{{n}}}" + _up("" if k == 1 else str(k))
        case DigitMap() if index.order == (1, 0):
            return f"L_{{{index.shape[1]}}}^{{{n}}}"
    return f"P_{{{n}}}{_up(above)}"
