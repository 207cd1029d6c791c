"""Operators that are known by their sizes: symbols or integers in place of tensors.

A *family* is a function of sizes that says what :class:`Form` holds: shape, shapes of the tensors,
operations, and how the operator is built from tensors. With integers the family makes the operator
itself, with random entries; with symbols it makes a :class:`Sized` leaf, which composes, checks
shapes and has a cost like every other operator, and becomes a concrete one by ``bind``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, update_wrapper
from typing import Any

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.operator import LinearOperator
from structmat.sizes import as_size, symbols_of

__all__ = [
    "FAMILIES",
    "Family",
    "Form",
    "Sized",
    "SizedTensor",
    "counts_of_chain",
    "family",
    "form_of",
]

Count = tuple[Any, Any]
Sizes = Any
"""Annotation of an argument that is a size or a tuple of sizes; that of a size is Any."""

Pattern = tuple[Any, Any, Any, Any]


@dataclass(frozen=True)
class Form:
    """An operator of a family at given sizes, in integers or in symbols.

    Attributes:
        shape: (m, n).
        build: makes the operator from its tensors and a dtype.
        tensors: name to (shape, fan-in): entries are drawn normal with deviation 1 / sqrt(fan-in),
            or uniform between the numbers of a pair in place of the fan-in.
        count: (products, sums) of one application, given whether the numbers are complex.
        turned: the same for the transpose; by default equal.
        complex: whether the numbers are complex unless a dtype says otherwise.
        batch: leading dimensions of a batch of operators, which every tensor has.
    """

    shape: tuple[Any, Any]
    build: Callable[[dict[str, Tensor], torch.dtype | None], LinearOperator]
    tensors: Mapping[str, tuple[tuple[Any, ...], Any]] = field(default_factory=dict)
    count: Callable[[bool], Count] = lambda _: (0, 0)
    turned: Callable[[bool], Count] | None = None
    complex: bool = False
    batch: tuple[Any, ...] = ()

    def batched(self, batch: tuple[Any, ...]) -> Form:
        """A batch of these operators: each has numbers of its own, drawn alike."""
        tensors = {k: ((*batch, *shape), fan_in) for k, (shape, fan_in) in self.tensors.items()}
        return replace(self, tensors=tensors, batch=batch)

    def operations(self, complex_: bool, transposed: bool = False) -> Count:
        """(products, sums) of A x, or of A^T x."""
        count = self.turned if transposed and self.turned is not None else self.count
        return count(complex_)


def counts_of_chain(
    patterns: Sequence[Pattern],
) -> tuple[Callable[[bool], Count], Callable[[bool], Count]]:
    """``count`` and ``turned`` of a product of Kronecker-sparse factors (a, b, c, d).

    abcd products and abd(c - 1) sums a factor; its transpose has b and c exchanged.
    """
    products = sum(a * b * c * d for a, b, c, d in patterns)
    sums = sum(a * b * d * (c - 1) for a, b, c, d in patterns)
    turned = sum(a * c * d * (b - 1) for a, b, c, d in patterns)
    return lambda _: (products, sums), lambda _: (products, turned)


@dataclass(frozen=True)
class Family:
    """A structure as a function of sizes.

    Attributes:
        name: of the class or function that makes it from tensors.
        form: sizes to :class:`Form`.
        condition: what the sizes must satisfy for the counts, in Markdown with LaTeX.
    """

    name: str
    form: Callable[..., Form]
    condition: str = ""

    def arguments(
        self, *args: Any, batch: Any = None, **kwargs: Any
    ) -> tuple[tuple[str, Any], ...]:
        """Names and values as the form takes them, checked: Any is a size, Sizes one or several.

        A batch comes last, as a tuple, where there is one.

        Raises:
            TypeError: not the arguments of the form.
            ValueError: a value that is no size.
        """
        signature = inspect.signature(self.form)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            usage = str(signature).partition(" ->")[0]
            raise TypeError(f"sized.{self.name}{usage}: {error}") from None

        def clean(name: str, value: Any) -> Any:
            kind = str(signature.parameters[name].annotation).removeprefix("typing.")
            if isinstance(value, tuple | list) and kind != "Any":
                return tuple(clean(name, v) for v in value)
            return as_size(value, f"{self.name}: {name}") if kind in ("Any", "Sizes") else value

        found = tuple((k, clean(k, v)) for k, v in bound.arguments.items() if v is not None)
        lead = batch if isinstance(batch, tuple | list) else () if batch is None else (batch,)
        checked = tuple(as_size(b, f"{self.name}: batch") for b in lead)
        return (*found, ("batch", checked)) if checked else found

    def at(self, arguments: tuple[tuple[str, Any], ...]) -> Form:
        """The form at arguments that are checked.

        Raises:
            ValueError: sizes that do not fit; a batch of what has no numbers.
        """
        sizes = dict(arguments)
        batch = sizes.pop("batch", ())
        form = self.form(**sizes)
        if batch and not form.tensors:
            raise ValueError(
                f"{self.name}: batch = {batch}, but it has no numbers in which the operators of a "
                "batch could differ; one acts on every batch of vectors and of operators"
            )
        return form.batched(batch) if batch else form

    def make(
        self,
        *args: Any,
        batch: Any = None,
        dtype: torch.dtype | None = None,
        seed: int = 0,
        device: str = "cpu",
        **kwargs: Any,
    ) -> LinearOperator:
        """The operator: concrete with random entries, or symbolic.

        Args:
            *args: sizes, as the family takes them.
            batch: how many such operators, a size or a tuple of them: the leading dimensions of
                every tensor.
            dtype: of the entries.
            seed: of the entries, where all sizes are integers.
            device: of the entries; ``"meta"`` for none at all.
            **kwargs: sizes by name.
        """
        arguments = self.arguments(*args, batch=batch, **kwargs)
        if symbols_of(*(v for _, v in arguments)):
            return Sized(self.name, arguments, dtype)
        form = self.at(arguments)
        generator = torch.Generator().manual_seed(seed)
        entries = dtype or torch.get_default_dtype()
        return form.build(
            {
                name: SizedTensor(shape, fan_in, entries).draw(generator, device)
                for name, (shape, fan_in) in form.tensors.items()
            },
            dtype,
        )


FAMILIES: dict[str, Family] = {}
"""Every family by name, in the order of the cost table."""


def family(condition: str = "") -> Callable[[Callable[..., Form]], Callable[..., LinearOperator]]:
    """Register a function of sizes that returns a form; what it becomes returns the operator."""

    def register(form: Callable[..., Form]) -> Callable[..., LinearOperator]:
        made = FAMILIES[form.__name__] = Family(form.__name__, form, condition)

        def call(*args: Any, **kwargs: Any) -> LinearOperator:
            return made.make(*args, **kwargs)

        update_wrapper(call, form)
        signature = inspect.signature(form)
        extra = [
            p
            for p in inspect.signature(Family.make).parameters.values()
            if p.name in ("batch", "dtype", "seed", "device")
        ]
        call.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*signature.parameters.values(), *extra], return_annotation=LinearOperator
        )
        return call

    return register


@dataclass(frozen=True, eq=False)
class SizedTensor:
    """What stands for a tensor whose sizes are symbols: shape, dtype, and how to draw numbers.

    Two are equal only if they are one object, as with tensors: a shared leaf counts once. A
    conjugate is another one, that is drawn with its ``base``.
    """

    shape: tuple[Any, ...]
    fan_in: Any
    dtype: torch.dtype
    base: SizedTensor | None = None

    device = torch.device("meta")

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def conj(self) -> SizedTensor:
        """Stands for the conjugate of the same numbers."""
        return replace(self, base=self.base or self)

    def numel(self) -> Any:
        """The number of entries."""
        return math.prod(self.shape)

    def element_size(self) -> int:
        """Bytes of one entry."""
        return torch.empty(0, dtype=self.dtype).element_size()

    def to(self, *args: Any, **kwargs: Any) -> SizedTensor:
        """With another dtype, as ``Tensor.to``."""
        return replace(self, dtype=torch.empty(0, dtype=self.dtype).to(*args, **kwargs).dtype)

    def draw(self, generator: torch.Generator, device: str = "cpu") -> Tensor:
        """Normal entries of deviation 1 / sqrt(fan-in), or uniform ones; all sizes are integers."""
        shape = tuple(int(s) for s in self.shape)
        if device == "meta":
            return torch.empty(shape, dtype=self.dtype, device=device)
        if isinstance(self.fan_in, tuple):
            low, high = self.fan_in
            drawn = torch.rand(shape, generator=generator, dtype=self.dtype.to_real())
            spread: Tensor = low + (high - low) * drawn
            return spread.to(self.dtype).to(device)
        drawn = torch.randn(shape, generator=generator, dtype=self.dtype)
        scaled: Tensor = drawn / math.sqrt(max(int(self.fan_in), 1))
        return scaled.to(device)


@lru_cache(maxsize=1024)
def form_of(name: str, arguments: tuple[tuple[str, Any], ...]) -> Form:
    """The form of a family at arguments that the family has checked."""
    return FAMILIES[name].at(arguments)


class Sized(LinearOperator):
    """A leaf whose sizes are symbols; made by the functions of :mod:`structmat.sized`.

    Args:
        family: name of the family.
        arguments: sizes by name.
        dtype: of its entries; by default torch's default dtype, or that of x without entries.

    Example:
        >>> import structmat as sm
        >>> n = sm.dim("n")
        >>> A = sm.sized.Dense(n) @ sm.Hadamard(n)
        >>> A.cost().params
        n**2
        >>> A.bind(n=8).shape
        (8, 8)
    """

    symbolic = True
    family: str
    arguments: tuple[tuple[str, Any], ...]
    transposed: bool
    conjugated: bool

    def __init__(
        self, family: str, arguments: tuple[tuple[str, Any], ...], dtype: torch.dtype | None = None
    ) -> None:
        form = form_of(family, arguments)
        if form.complex:
            dtype = dtype or torch.get_default_dtype().to_complex()
        entries = dtype or torch.get_default_dtype()
        tensors: dict[str, Any] = {
            name: SizedTensor(shape, fan_in, entries)
            for name, (shape, fan_in) in form.tensors.items()
        }
        static = {"family": family, "arguments": arguments, "dtype": None if tensors else dtype}
        self._init(tensors, (), {**static, "transposed": False, "conjugated": False})

    @property
    def form(self) -> Form:
        """Shape, tensors and operations, before transposition."""
        return form_of(self.family, self.arguments)

    @property
    def event_dims(self) -> dict[str, int]:  # type: ignore[override]
        """What follows the dimensions of the batch belongs to the operator."""
        lead = len(self.form.batch)
        return {k: t.ndim - lead for k, t in self.tensors.items()}

    def _shape(self) -> tuple[Any, Any]:
        m, n = self.form.shape
        return (n, m) if self.transposed else (m, n)

    def _lower(self, g: Builder, x: Any) -> Any:
        return g.apply(x, _Map(self))  # type: ignore[arg-type]

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        raise self.unbound()

    def _require_numbers(self) -> None:
        raise self.unbound()

    def unbound(self) -> TypeError:
        """The error of whoever needs numbers."""
        names = "=..., ".join(sorted(map(str, symbols_of(*(v for _, v in self.arguments)))))
        return TypeError(
            f"{self._label()} has symbolic sizes and no numbers: A.bind({names}=...) makes it "
            "concrete; shape, cost, latex and tree need none"
        )

    def _transpose(self) -> LinearOperator:
        static = {**self.static, "transposed": not self.transposed}
        return self._replace(self.tensors, (), static)

    def _conjugated(self, memo: dict[int, Tensor]) -> LinearOperator:
        if not self.dtype.is_complex:
            return self
        static = {**self.static, "conjugated": not self.conjugated}
        tensors = {k: memo.setdefault(id(t), t.conj()) for k, t in self.tensors.items()}
        return self._replace(tensors, (), static)

    def spec(self) -> dict[str, Any]:
        """Files hold numbers: raises TypeError."""
        raise self.unbound()

    def _label(self) -> str:
        known = inspect.signature(FAMILIES[self.family].form).parameters
        sizes: list[str] = []
        for (k, v), expected in zip(self.arguments, [*known, "batch"], strict=False):
            if k == "batch":
                sizes.append(f"batch={v[0] if len(v) == 1 else v}")
                continue
            about = known[k]
            size = about.annotation in (Any, "Any", "Sizes")
            plain = size and about.kind is not about.KEYWORD_ONLY
            shown = repr(v) if isinstance(v, str) else str(v)
            sizes.append(shown if plain and k == expected else f"{k}={shown}")
        name = f"{self.family}({', '.join(sizes)})"
        return name + (".conj()" if self.conjugated else "") + (".T" if self.transposed else "")


@dataclass(frozen=True)
class _Map:
    """A sized leaf as builders meet it: they count it, and who needs its numbers is refused."""

    leaf: Sized

    @property
    def outs(self) -> Any:
        """Length of y."""
        return self.leaf.shape[0]

    @property
    def ins(self) -> int:
        """Length of x, which only who computes asks for."""
        raise self.leaf.unbound()

    def operations(self, complex_: bool) -> Count:
        """See :class:`Form`."""
        return self.leaf.form.operations(complex_, self.leaf.transposed)
