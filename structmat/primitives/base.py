"""What a primitive says: a function of torch, its static arguments, its adjoint, its cost.

A primitive maps vectors of length ``ins`` to vectors of length ``outs``, with or without values w
(of trailing shape ``values``). Its function acts on the second-to-last dimension,

    function(x, w, *tables, *args):  x (..., ins, cols), w (..., *values)  ->  (..., outs, cols),

where the leading dimensions of w broadcast against those of x. It is plain torch code that uses
nothing but torch, math and the functions in ``helpers``: generated modules contain its source.
Static integers that are too many for source text (the columns of a sparse matrix) are ``tables``:
int64 tensors on the device of x, which generated modules receive with the tables of index maps.
``correlate(x, g, *tables, *args)`` is the gradient of the values; where y is not linear in w
(``nonlinear``), it needs them too: ``correlate(x, g, w, *tables, *args)``. The solution of a system
(``implicit``) has its gradient in y and in the gradient of x: ``correlate(y, gx, *tables, *args)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.tables import Table, index_tensor

__all__ = ["Primitive", "Square"]

Function = Callable[..., Tensor]
Helper = Callable[..., object]


@dataclass(frozen=True)
class Primitive:
    """A linear map known by name; immutable, hashable, the same for equal arguments.

    A subclass declares ``function`` (and ``correlate`` where it has values), ``helpers``, and
    writes the methods below.
    """

    function: ClassVar[Function]
    correlate: ClassVar[Function | None] = None
    helpers: ClassVar[tuple[Helper, ...]] = ()
    nonlinear: ClassVar[bool] = False
    implicit: ClassVar[bool] = False
    walsh: ClassVar[bool] = False
    """Whether the matrix is the Kronecker product of [[1, 1], [1, -1]] with itself."""

    @property
    def ins(self) -> int:
        """Length of x."""
        raise NotImplementedError

    @property
    def outs(self) -> int:
        """Length of y."""
        raise NotImplementedError

    @property
    def values(self) -> tuple[int, ...] | None:
        """Trailing shape of the values; None for a constant matrix."""
        return None

    @property
    def name(self) -> str:
        """What runs, for people."""
        return type(self).__name__

    def args(self) -> tuple[Any, ...]:
        """Static arguments of ``function`` and ``correlate``, as literals."""
        raise NotImplementedError

    def tables(self) -> tuple[Table, ...]:
        """Static tables of ``function`` and ``correlate``; ``str`` must tell them apart."""
        return ()

    def transposed(self) -> Primitive:
        """The primitive of the transposed matrix, on the same values."""
        raise NotImplementedError

    def conjugated(self) -> Primitive:
        """The primitive of the conjugate matrix on conjugate values; itself where it is real."""
        return self

    def operations(self, complex_: bool) -> tuple[int, int]:
        """(products, sums) for one vector, in numbers of the operator's kind."""
        raise NotImplementedError

    def singular(self, w: Tensor) -> Tensor | None:
        """Whether the values (b * prod(values)) are of a map that does not exist; None: it does."""
        return None

    # what follows ------------------------------------------------------------------------------

    def __call__(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        """x (..., ins, cols) -> (..., outs, cols)."""
        operands = (x,) if w is None else (x, w)
        return type(self).function(*operands, *self.tensors(x.device), *self.args())

    def gradient(self, x: Tensor, g: Tensor, w: Tensor | None = None) -> Tensor:
        """The gradient of the values: x (b, p, ins, cols), g (b, p, outs, cols) -> (b, *values).

        Sums over p and the columns; multiplies by the conjugate of x, as torch does. The values
        w (b, *values) are read where the primitive is not linear in them. An ``implicit`` primitive
        takes y in the place of x, and the gradient of x in the place of g.
        """
        correlate = type(self).correlate
        assert correlate is not None
        operands = (x, g, w) if self.nonlinear else (x, g)
        return correlate(*operands, *self.tensors(x.device), *self.args())

    def tensors(self, device: torch.device) -> list[Tensor]:
        """The tables on a device."""
        return [index_tensor(t, device) for t in self.tables()]

    def text(self, x: str, w: str | None = None, tables: Sequence[str] = ()) -> str:
        """The call as source; ``tables`` are the names of the tables there."""
        return self._text(type(self).function, [x, *([] if w is None else [w]), *tables])

    def gradient_text(self, x: str, g: str, w: str, tables: Sequence[str] = ()) -> str:
        """The call of the gradient as source."""
        correlate = type(self).correlate
        assert correlate is not None
        return self._text(correlate, [x, g, *([w] if self.nonlinear else []), *tables])

    def _text(self, function: Function, operands: list[str]) -> str:
        return f"{function.__name__}({', '.join([*operands, *map(repr, self.args())])})"

    def functions(self) -> tuple[Helper, ...]:
        """Everything that generated source must contain, callees first."""
        own = (type(self).function, type(self).correlate)
        return (*type(self).helpers, *(f for f in own if f is not None))

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}{self.args()}"


@dataclass(frozen=True)
class Square(Primitive):
    """A linear map of vectors of length n to vectors of length n."""

    n: int

    @property
    def ins(self) -> int:
        """Length of x."""
        return self.n

    @property
    def outs(self) -> int:
        """Length of y."""
        return self.n
