"""The operator: an immutable tree of named tensors over a static, hashable structure.

Every class of the library is a :class:`LinearOperator`. It stores tensors by name, children, and
static arguments, and says three things about itself: its shape, how it acts on a vector
(``_lower``, in the words of :mod:`structmat.builder`), and its dense matrix (``_dense``, written
independently, because it is the oracle for everything else). Application, cost, compilation,
dtype and batch rules follow from these.

Conventions. ``A @ x`` is the matrix product: x of shape (n,) or (..., n, b). ``A(x)`` acts on the
last dimension: (..., n) -> (..., m). Leading dimensions of the tensors of A make a batch of
operators and broadcast as in ``torch.matmul``. dtypes promote as torch does; an operator without
tensors (a permutation, an identity) takes the dtype of x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from structmat.builder import Builder, Counting, Eager, Words
from structmat.cost import Cost
from structmat.sizes import broadcast, has_symbols, symbols_of, tidy
from structmat.static import from_json, to_json
from structmat.tracing import Sent, meant, spelled, whole
from structmat.views import Views

__all__ = ["LinearOperator", "Structure", "as_tensor", "from_spec"]

REGISTRY: dict[str, type[LinearOperator]] = {}
"""Every operator class by name, for reading an operator back from its spec."""


@dataclass(frozen=True)
class Structure:
    """What an operator is, without its numbers: hashable, comparable, the key of every cache.

    Attributes:
        kind: class name.
        static: static arguments as (name, value) pairs.
        tensors: (name, shape, dtype) of each tensor, batch dimensions included.
        children: structures of the children, leftmost factor first.
    """

    kind: str
    static: tuple[tuple[str, Hashable], ...]
    tensors: tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
    children: tuple[Structure, ...]


class LinearOperator(Views, Sent):
    """An m x n matrix, or a batch of them, known by its structure.

    Not built directly: use the leaves (:class:`structmat.Dense`, :class:`structmat.Monarch`, ...)
    and compose them with ``@``, ``+``, ``-``, ``*``, ``**``, ``.T``, :func:`structmat.kron`,
    :func:`structmat.direct_sum`. A subclass declares ``event_dims`` and writes ``_shape``,
    ``_dense``, and how it acts: ``_apply`` and ``_adjoint``, or ``_lower`` and ``_transpose`` in
    words that compile to kernels; the page "Your own structure" of the documentation shows both.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Diagonal(torch.tensor([1.0, 2.0])) @ sm.Dense(torch.ones(2, 3))
        >>> A(torch.ones(3))
        tensor([3., 6.])
        >>> A.shape, A.T.shape
        ((2, 3), (3, 2))
    """

    fields: ClassVar[tuple[str, ...]] = ()
    event_dims: ClassVar[dict[str, int]] = {}
    """How many trailing dimensions of each tensor belong to one operator (the rest is batch)."""

    tensors: dict[str, Tensor]
    children: tuple[LinearOperator, ...]
    static: dict[str, Any]
    assumed: frozenset[str] = frozenset()
    """Properties that the user declared, see :func:`structmat.assume`."""
    home: torch.device | None = None
    """Where the matrix of a leaf without tensors is made; it acts on x wherever x is."""
    symbolic: bool = False
    """Whether sizes are symbols, see :mod:`structmat.sized`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A class defined again, as in a notebook, replaces its first version; a class elsewhere
        # that has the name of one of ours does not take its place in files.
        old = REGISTRY.get(cls.__name__)
        if old is None or (old.__module__, old.__qualname__) == (cls.__module__, cls.__qualname__):
            REGISTRY[cls.__name__] = cls
        pytree.register_pytree_node(
            cls,
            _flatten,
            _unflatten,
            serialized_type_name=f"structmat.{cls.__name__}",
            to_dumpable_context=_dump_context,
            from_dumpable_context=_load_context,
            flatten_with_keys_fn=_flatten_with_keys,
        )

    # construction ------------------------------------------------------------------------------

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """A leaf that takes sizes becomes one of :mod:`structmat.sized` where they are symbols."""
        if symbols_of(*args, *kwargs.values()):
            from structmat.sized.form import FAMILIES

            name = cls.__name__
            if name in FAMILIES and REGISTRY[name] is cls:
                if cls.fields or _has_tensors(args):
                    raise TypeError(
                        f"{name} takes tensors, which have no symbols for sizes; "
                        f"sm.sized.{name} makes one by its sizes"
                    )
                return FAMILIES[name].make(*args, **kwargs)  # type: ignore[return-value]
        return object.__new__(cls)

    def _init(
        self,
        tensors: Mapping[str, Tensor] | None = None,
        children: Sequence[LinearOperator] = (),
        static: Mapping[str, Any] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "tensors", dict(tensors or {}))
        put(self, "children", tuple(children))
        put(self, "static", dict(static or {}))
        for name, value in (*self.tensors.items(), *self.static.items()):
            if name != "dtype":  # the property below answers for the whole expression
                put(self, name, value)
        if any(getattr(c, "symbolic", False) for c in self.children):
            put(self, "symbolic", True)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: build a new operator instead")

    def _replace(
        self, tensors: Mapping[str, Any], children: Sequence[Any], static: Mapping[str, Any]
    ) -> Self:
        """The same class with other parts, without checks (leaves of a pytree may be anything)."""
        new = object.__new__(type(self))
        new._init(tensors, children, static)
        return new

    def _assuming(self, names: frozenset[str]) -> Self:
        """The same operator with these declared properties besides its own."""
        if names <= self.assumed:
            return self
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        object.__setattr__(new, "assumed", self.assumed | names)
        return new

    def _on(self, device: torch.device) -> Self:
        """The same operator; where it has no tensors to say so, its leaves remember this device."""
        if self.device == device or self._placed() is not None:
            return self
        new = self._replace(self.tensors, [c._on(device) for c in self.children], self.static)
        if not self.children:
            object.__setattr__(new, "home", device)
        return new._assuming(self.assumed)

    def _sent(self) -> Any:
        return _Sent(self)

    def _turned(self) -> LinearOperator:
        """``_transpose``, with what is declared of this operator turned, too."""
        other = {"lower": "upper", "upper": "lower"}
        return self._transpose()._assuming(frozenset(other.get(k, k) for k in self.assumed))

    # what a subclass says ----------------------------------------------------------------------

    def _shape(self) -> tuple[int, int]:
        """(m, n), from the shapes of the tensors and the static arguments."""
        raise NotImplementedError(f"{type(self).__name__} does not say its _shape()")

    def _lower(self, g: Builder, x: Any) -> Any:
        """A x in the words of the builder; by default in one, a call of ``_apply``."""
        return g.call(x, self)

    def _apply(self, x: Tensor) -> Tensor:
        """A x for rows x (..., k, n) -> (..., k, m), for classes that do not write ``_lower``."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say how it acts: write _lower(g, x) in the words of "
            "structmat.builder, or _apply(x) and _adjoint(y) as functions of rows"
        )

    def _adjoint(self, y: Tensor) -> Tensor:
        """A^H y for rows y (..., k, m) -> (..., k, n), where ``_transpose`` is not written."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say how its adjoint acts: write _transpose() as an "
            "operator, or _adjoint(y) as a function of rows"
        )

    def _effort(self) -> tuple[int, int]:
        """(products, sums) of ``_apply`` for one row; by default those of a dense matrix."""
        m, n = self.shape
        return m * n, m * max(n - 1, 0)

    def _words(self) -> Words:
        """How a class that acts by ``_apply`` compiles; by default to a call of that function."""
        return Words("its own function")

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The matrix, written without using ``_lower``; shape batch_shape + (m, n)."""
        raise NotImplementedError(f"{type(self).__name__} does not say its matrix in _dense()")

    def _transpose(self) -> LinearOperator:
        """The transpose; by default it acts by ``_adjoint``."""
        from structmat.compose.turned import Turned

        return Turned(self)

    def _zeros(self, *shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Zeros to write entries of tensors into: mapped by torch.vmap where a tensor is."""
        seed = torch.zeros((), dtype=dtype, device=device)
        for t in self._all_tensors():
            seed = seed + t.new_zeros((), dtype=dtype, device=device)
        return seed.new_zeros(shape)

    def _label(self) -> str:
        m, n = self.shape
        return f"{type(self).__name__}({m}x{n})"

    def _check(self) -> None:
        """Raise where the parts don't fit; for operators that are rebuilt from files."""

    def _require_numbers(self) -> None:
        """Raise TypeError where a leaf has symbols for sizes."""
        if self.symbolic:
            for c in self.children:
                c._require_numbers()

    # what follows ------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): the matrix of one operator of the batch."""
        return self._shape()

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions of a batch of operators; () for one."""
        shapes = [t.shape[: t.ndim - self.event_dims[k]] for k, t in self.tensors.items()]
        if self.symbolic:
            return broadcast(*map(tuple, shapes), *(c.batch_shape for c in self.children))
        shapes += [torch.Size(c.batch_shape) for c in self.children]
        if not any(shapes):
            return ()  # torch takes 15 us for that, and 0.4 s the first time
        try:
            return tuple(torch.broadcast_shapes(*shapes))
        except RuntimeError:
            found = ", ".join(str(tuple(s)) for s in shapes)
            raise ValueError(
                f"{type(self).__name__}: batch dimensions {found} do not broadcast; "
                "leading dimensions of all tensors follow the rules of torch.matmul"
            ) from None

    @property
    def strong_dtype(self) -> torch.dtype | None:
        """The dtype that takes part in promotion; None for an operator that has no numbers."""
        return self._parts_dtype()

    def _parts_dtype(self) -> torch.dtype | None:
        """What the parts promote to; torch.compile cannot follow ``super().strong_dtype``."""
        found: torch.dtype | None = self.static.get("dtype")
        for t in self.tensors.values():
            found = t.dtype if found is None else torch.promote_types(found, t.dtype)
        for c in self.children:
            other = c.strong_dtype
            if other is not None:
                found = other if found is None else torch.promote_types(found, other)
        return found

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the matrix; torch's default where the operator has no numbers of its own."""
        return self.strong_dtype or torch.get_default_dtype()

    @property
    def device(self) -> torch.device:
        """The device of the tensors; without any, where :meth:`to` put it, by default the cpu."""
        return self._placed() or self._home() or torch.device("cpu")

    def _home(self) -> torch.device | None:
        """The device that a leaf remembers, the first that does."""
        if not self.children:
            return self.home
        return next((h for c in self.children if (h := c._home()) is not None), None)

    def _placed(self) -> torch.device | None:
        """The device that the tensors need; a single number may stay on the cpu, as in torch."""
        for t in self._all_tensors():
            if t.ndim or t.device.type != "cpu":
                return t.device
        return None

    def _check_device(self, device: torch.device, what: str) -> None:
        """Raise where a tensor is on another device than ``what``."""
        for t in self._all_tensors():
            if t.device != device and (t.ndim or t.device.type != "cpu"):
                raise ValueError(
                    f"{self._label()}: a tensor of shape {tuple(t.shape)} is on {t.device}, {what} "
                    f"on {device}; move one of them: A.to({str(device)!r}), x.to({str(t.device)!r})"
                )

    def _all_tensors(self) -> Iterator[Tensor]:
        yield from self.tensors.values()
        for c in self.children:
            yield from c._all_tensors()

    def parameters(self) -> Iterator[Tensor]:
        """The tensors of the expression, each once even where a leaf is shared.

        Yields:
            Tensors, the very objects the leaves were built from, so that gradients reach them.
        """
        seen: set[int] = set()
        for t in self._all_tensors():
            if id(t) not in seen:
                seen.add(id(t))
                yield t

    def named_tensors(self) -> dict[str, Tensor]:
        """Tensors by path, such as ``"0.left"`` for the left factor of the first child."""
        out = dict(self.tensors)
        for i, c in enumerate(self.children):
            out.update({f"{i}.{k}": t for k, t in c.named_tensors().items()})
        return out

    @property
    def structure(self) -> Structure:
        """The expression without its numbers; equal structures compile to one kernel."""
        static: list[tuple[str, Hashable]] = [(k, _hashable(v)) for k, v in self.static.items()]
        if self.assumed:
            static.append(("assumed", tuple(sorted(self.assumed))))
        return Structure(
            type(self).__name__,
            tuple(sorted(static)),
            tuple((k, tuple(t.shape), t.dtype) for k, t in self.tensors.items()),
            tuple(c.structure for c in self.children),
        )

    def spec(self) -> dict[str, Any]:
        """The structure as JSON-able data; :func:`structmat.operator.from_spec` reads it back."""
        return {
            "kind": type(self).__name__,
            **({"assumed": sorted(self.assumed)} if self.assumed else {}),
            "static": to_json(self.static),
            "tensors": {
                k: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")}
                for k, t in self.tensors.items()
            },
            "children": [c.spec() for c in self.children],
        }

    # application -------------------------------------------------------------------------------

    def _rows(self, x: Tensor) -> Tensor:
        """x (..., t, n) -> (..., t, m); batch dimensions broadcast against the leading ones."""
        strong = self.strong_dtype
        if strong is not None:
            x = x.to(torch.promote_types(x.dtype, strong))
        y: Tensor = self._lower(Eager(), x)
        if self.batch_shape:
            lead = torch.broadcast_shapes(self.batch_shape, y.shape[:-2])
            y = y.expand(*lead, *y.shape[-2:])
        return y

    def _check_input(self, x: Tensor, axis: int, call: str) -> None:
        n, batch = self.shape[1], self.batch_shape
        self._require_numbers()
        self._check_device(x.device, "x is")
        if not (x.is_floating_point() or x.is_complex()):
            raise TypeError(
                f"{self._label()}: x is {x.dtype}; structured products need floating point: "
                "convert first, x.to(torch.float64) keeps integers exact to 2**53"
            )
        if x.ndim < -axis or x.shape[axis] != n:
            other = "A(x) acts on the last dimension" if axis == -2 else "A @ x acts on columns"
            raise ValueError(
                f"{self._label()}: {call} needs dimension {axis} of x to be {n}, "
                f"got x of shape {tuple(x.shape)}; {other}"
            )
        lead = tuple(x.shape[:axis])
        if batch and any(1 != b != a != 1 for a, b in zip(lead[::-1], batch[::-1], strict=False)):
            raise ValueError(
                f"{self._label()}: x of shape {tuple(x.shape)} has leading dimensions {lead}, "
                f"which do not broadcast with the operator's batch {batch}"
            )

    def __call__(self, x: Any) -> Tensor:
        """Act on the last dimension; one node of the graph inside ``torch.compile``.

        Args:
            x: tensor or array of shape (..., n); leading dimensions broadcast with batch_shape.

        Returns:
            Tensor of shape (..., m).

        Raises:
            TypeError: integer or boolean x.
            ValueError: the last dimension is not n.
        """
        return _on_rows(self, as_tensor(x, "x", allow_integer=True))

    @overload
    def __matmul__(self, other: LinearOperator) -> LinearOperator: ...
    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    def __matmul__(self, other: Any) -> Any:
        """Product with an operator (lazy), or with columns x of shape (n,) or (..., n, b)."""
        from structmat.compose import Product

        if isinstance(other, LinearOperator):
            return Product(self, other)
        return _on_columns(self, as_tensor(other, "x", allow_integer=True))

    def __rmatmul__(self, other: Any) -> Tensor:
        x = as_tensor(other, "x", allow_integer=True)
        return self.T(x) if x.ndim == 1 else self.T.__matmul__(x.mT).mT

    # algebra -----------------------------------------------------------------------------------

    def __add__(self, other: LinearOperator) -> LinearOperator:
        from structmat.compose import Sum

        if isinstance(other, LinearOperator):
            return Sum(self, other)
        return self._refuse(other, "+")

    def __radd__(self, other: Any) -> LinearOperator:
        start = isinstance(other, int) and other == 0  # where sum(operators) begins
        return self if start else self._refuse(other, "+")

    def _refuse(self, other: Any, sign: str) -> LinearOperator:
        """What is no operator does not add: a number could mean alpha I or alpha everywhere."""
        if not isinstance(other, Tensor | np.ndarray | np.number | int | float | complex):
            return NotImplemented  # type: ignore[no-any-return]
        raise TypeError(
            f"{self._label()} {sign} {type(other).__name__}: operators add to operators only; "
            "a number times the identity is alpha * sm.Identity(n), a matrix is sm.Dense(W)"
        )

    def __rsub__(self, other: Any) -> LinearOperator:
        return self._refuse(other, "-")

    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return self + (-other) if isinstance(other, LinearOperator) else self._refuse(other, "-")

    def __neg__(self) -> LinearOperator:
        return self * -1

    def __mul__(self, alpha: Any) -> LinearOperator:
        from structmat.compose import Scaled

        if isinstance(alpha, LinearOperator):
            raise TypeError(
                f"{self._label()} * {alpha._label()}: A @ B is the matrix product, "
                "sm.elementwise(A, B) the product entry by entry"
            )
        return Scaled(alpha, self) if _is_scalar(alpha) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, alpha: Any) -> LinearOperator:
        return self * (1 / alpha) if _is_scalar(alpha) else NotImplemented

    def __pow__(self, k: int) -> LinearOperator:
        """A @ A @ ... @ A; ``A ** 0`` is the identity, ``A ** -k`` is ``inv(A) ** k``.

        Raises:
            ValueError: not square, or k is not an integer.
        """
        from structmat.compose import Product
        from structmat.leaves.diagonal import Identity

        m, n = self.shape
        if m != n or not isinstance(k, int):
            raise ValueError(
                f"{self._label()} ** {k}: needs a square operator and an integer power"
            )
        if k < 0:
            from structmat.linalg.inverse import inv

            return inv(self) ** -k
        if k == 0:
            return Identity(n, dtype=self.strong_dtype)._on(self.device)
        return self if k == 1 else Product(*[self] * k)

    def __getitem__(self, key: Any) -> Any:
        """Rows, columns, submatrices and entries, indexed as in NumPy.

        Args:
            key: one or two of: slices, integers, lists, arrays or tensors of integers or booleans,
                an ellipsis. Negative integers count from the end. ``np.ix_(rows, columns)`` is a
                submatrix; two lists pair up. Bounds of slices may be symbols, as in
                ``A[:k, k : n + k]``, where their assumptions put them in order.

        Returns:
            A lazy operator where both dimensions are kept, as in ``A[1:3]``, ``A[:, [0, 2]]``. A
            tensor where an integer drops one, as in ``A[i]`` of shape batch_shape + (n,), or both,
            as in ``A[i, j]`` of shape batch_shape, and for two lists. Batch dimensions are not
            indexed.

        Raises:
            IndexError: a position out of range, a mask of the wrong length, too many indices.
            TypeError: not an index.
            ValueError: symbolic bounds whose order is wrong or not known.

        Example:
            >>> import numpy as np, torch, structmat as sm
            >>> A = sm.Toeplitz(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 5.0, 6.0]))
            >>> A[1:3, ::2].to_dense()
            tensor([[2., 5.],
                    [3., 1.]])
            >>> A[1:3].simplify()._label(), A[np.ix_([3, 0], [1, 1])].shape
            ('Toeplitz(2x3)', (2, 2))
        """
        from structmat.compose.indexing import index

        return index(self, key)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(self.shape[0]))

    @property
    def T(self) -> LinearOperator:
        """The transpose, n x m."""
        from structmat.compose import Transpose

        if not isinstance(self, Transpose):
            return Transpose(self)
        turned = {"lower": "upper", "upper": "lower"}
        return self.children[0]._assuming(frozenset(turned.get(k, k) for k in self.assumed))

    @property
    def mT(self) -> LinearOperator:
        """The transpose, under torch's name for the last two dimensions."""
        return self.T

    @property
    def H(self) -> LinearOperator:
        """The adjoint (conjugate transpose), n x m."""
        return self.conj().T

    def conj(self) -> LinearOperator:
        """The entrywise conjugate; the operator itself where it is real."""
        return self._conjugated({})._assuming(self.assumed)._on(self.device)

    def _conjugated(self, memo: dict[int, Tensor]) -> LinearOperator:
        """``memo`` holds what each tensor became: shared tensors stay shared."""
        strong = self.strong_dtype
        if strong is None or not strong.is_complex:
            return self
        static = {k: v.conjugate() if isinstance(v, complex) else v for k, v in self.static.items()}
        return self._replace(
            {k: memo.setdefault(id(t), t.conj()) for k, t in self.tensors.items()},
            [c._conjugated(memo)._assuming(c.assumed) for c in self.children],
            static,
        )

    # conversion --------------------------------------------------------------------------------

    def bind(
        self,
        sizes: Mapping[str, int] | None = None,
        *,
        seed: int = 0,
        device: str = "cpu",
        tensors: Mapping[str, Tensor] | None = None,
        **named: int,
    ) -> LinearOperator:
        """Numbers for symbolic sizes, as ``A.bind(n=4096)``; see :func:`structmat.sized.bind`."""
        from structmat.sized.bind import bind

        return bind(self, sizes, seed=seed, device=device, tensors=tensors, **named)

    def to_dense(self) -> Tensor:
        """The matrix as a tensor of shape batch_shape + (m, n)."""
        return _to_dense(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        out: np.ndarray[Any, Any] = self.to_dense().detach().cpu().resolve_conj().numpy()
        return out if dtype is None else out.astype(dtype)

    __array_ufunc__ = None  # numpy defers to our operators

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """torch's functions on operators, see :mod:`structmat.torch_function`."""
        from structmat.torch_function import call

        return call(func, args, kwargs or {})

    def to(self, *args: Any, **kwargs: Any) -> LinearOperator:
        """Move or cast every tensor, as ``Tensor.to``; shared tensors stay shared.

        An operator without tensors remembers the device: its dense matrix is made there. It goes
        on to act on x wherever x is, and beside operators on any device.

        Raises:
            TypeError: the target is an integer dtype.
        """
        probe = torch.empty(0, dtype=self.dtype, device="cpu").to(*args, **kwargs)
        named = any(isinstance(v, str | torch.device | Tensor) for v in (*args, *kwargs.values()))
        stays = probe.device.type == "cpu" and not named
        if not (probe.dtype.is_floating_point or probe.dtype.is_complex):
            raise TypeError(f"{self._label()}.to({probe.dtype}): operators are floating point")
        changed = probe.dtype if probe.dtype != self.dtype else None
        memo: dict[int, Tensor] = {}

        def move(t: Tensor) -> Tensor:
            if id(t) not in memo:
                memo[id(t)] = t.to(*args, **kwargs)
            return memo[id(t)]

        return self._map(move, changed)._on(self.device if stays else probe.device)

    def _map(self, fn: Callable[[Tensor], Tensor], dtype: torch.dtype | None) -> LinearOperator:
        static = dict(self.static)
        if dtype is not None and "dtype" in static:
            static["dtype"] = dtype
        return self._replace(
            {k: fn(t) for k, t in self.tensors.items()},
            [c._map(fn, dtype) for c in self.children],
            static,
        )._assuming(self.assumed)

    # meaning -----------------------------------------------------------------------------------

    def simplify(self, *, batch: int = 1, materialize: bool = False) -> LinearOperator:
        """An equal expression that costs no more; see :func:`structmat.simplify`."""
        from structmat.rules import simplify

        return simplify(self, batch=batch, materialize=materialize)

    def cost(self, batch: Any = 1) -> Cost:
        """Parameters, flops and compulsory bytes of ``A(x)`` for ``batch`` vectors.

        Args:
            batch: number of vectors for each operator of a batch; an int or a sympy symbol.
        """
        params = sum(t.numel() for t in self.parameters())
        size = torch.empty(0, dtype=self.dtype).element_size()
        stored = sum(t.numel() * t.element_size() for t in self.parameters())
        many = math.prod(self.batch_shape)
        mults, adds = self.operations()
        per = 6 * mults + 2 * adds if self.dtype.is_complex else mults + adds
        m, n = self.shape
        moved = stored + size * (m + n) * many * batch
        return Cost(tidy(params), tidy(per * many * batch), tidy(moved))

    def operations(self) -> tuple[int, int]:
        """(products, sums) for one vector, as the expression spells them."""
        counter = Counting(self.dtype.is_complex)
        self._lower(counter, self.shape[1])
        return tidy(counter.mults), tidy(counter.adds)

    def __repr__(self) -> str:
        m, n = self.shape
        c = self.cost()
        batch = "x".join(map(str, self.batch_shape))
        batch = f"batch {batch} of " if batch else ""
        dtype = str(self.dtype).removeprefix("torch.")
        known = f", assumed {', '.join(sorted(self.assumed))}" if self.assumed else ""
        size = f"{batch}{m}x{n} {dtype}"
        return f"{self._label()}\n  {size}, {c.params} params, {c.flops} flops{known}"


@whole
def _on_rows(op: LinearOperator, x: Tensor) -> Tensor:
    op._check_input(x, -1, "A(x)")
    if op.batch_shape or x.ndim == 1:
        return op._rows(x.unsqueeze(-2)).squeeze(-2)
    return op._rows(x)


@whole
def _on_columns(op: LinearOperator, x: Tensor) -> Tensor:
    if x.ndim == 1:
        op._check_input(x, -1, "A @ x")
        return op._rows(x.unsqueeze(-2)).squeeze(-2)
    op._check_input(x, -2, "A @ x")
    return op._rows(x.mT).mT


@whole
def _to_dense(op: LinearOperator) -> Tensor:
    op._check_device(op.device, "others are")
    out = op._dense(op.dtype, op.device)
    return out.expand(*op.batch_shape, *op.shape) if op.batch_shape else out


def _flatten(op: LinearOperator) -> tuple[list[Any], Any]:
    static = tuple(op.static.items())
    if torch.compiler.is_dynamo_compiling():
        static = tuple([(k, spelled(v)) for k, v in static])
    context = (type(op), tuple(op.tensors), len(op.children), static, op.assumed)
    return [*op.tensors.values(), *op.children], context


@dataclass(frozen=True)
class _Sent:
    """An operator on its way into a graph of torch.compile."""

    op: LinearOperator


def _flatten_sent(sent: _Sent) -> tuple[list[Any], Any]:
    values, (cls, names, count, static, assumed) = _flatten(sent.op)
    static = tuple([(k, spelled(v)) for k, v in static])
    values = [_Sent(v) if isinstance(v, LinearOperator) else v for v in values]
    # by name, as Dynamo must find the class of what leaves a compiled function
    name = cls.__name__
    kind = name if REGISTRY.get(name) is cls else cls
    return values, (kind, names, count, static, assumed)


def _unflatten(values: Any, context: Any) -> LinearOperator:
    cls, names, _, static, assumed = context
    values = list(values)
    new: LinearOperator = object.__new__(REGISTRY[cls] if isinstance(cls, str) else cls)
    static = {k: meant(v) for k, v in static}
    new._init(dict(zip(names, values, strict=False)), values[len(names) :], static)
    return new._assuming(assumed)


pytree.register_pytree_node(_Sent, _flatten_sent, _unflatten)


def _dump_context(context: Any) -> Any:
    """The context as JSON-able data, for ``torch.export.save``."""
    cls, names, children, static, assumed = context
    return [cls.__name__, names, children, to_json(dict(static)), sorted(assumed)]


def _load_context(data: Any) -> Any:
    kind, names, children, static, assumed = data
    static = tuple(from_json(static).items())
    return REGISTRY[kind], tuple(names), children, static, frozenset(assumed)


def _flatten_with_keys(op: LinearOperator) -> tuple[list[Any], Any]:
    values, context = _flatten(op)
    # attribute paths are Python: torch.export evaluates them
    names = [*op.tensors, *(f"child{i}" for i in range(len(op.children)))]
    return [(pytree.GetAttrKey(k), v) for k, v in zip(names, values, strict=True)], context


def _hashable(value: Any) -> Hashable:
    return tuple(value) if isinstance(value, list) else value


def _has_tensors(values: tuple[Any, ...]) -> bool:
    return any(isinstance(v, Tensor | np.ndarray) for v in values)


def _is_scalar(alpha: Any) -> bool:
    if isinstance(alpha, bool):
        return False
    return isinstance(alpha, int | float | complex | np.number) or isinstance(alpha, Tensor)


def as_tensor(value: Any, name: str, ndim: int = 0, allow_integer: bool = False) -> Tensor:
    """A floating-point or complex tensor from a tensor, array or nested list.

    Args:
        value: the data.
        name: how errors call it, such as ``"Monarch: left"``.
        ndim: the least number of dimensions.
        allow_integer: leave integers for the caller to judge.

    Raises:
        TypeError: integer or boolean data, or a symbolic size.
        ValueError: fewer than ``ndim`` dimensions.
    """
    if has_symbols(value):
        raise TypeError(f"{name} is the symbol {value}; sm.sized has the operators by their sizes")
    if not isinstance(value, Tensor):
        try:
            value = (
                torch.from_numpy(value) if isinstance(value, np.ndarray) else torch.tensor(value)
            )
        except (TypeError, ValueError, RuntimeError) as e:
            why = str(e).splitlines()[0]
            raise TypeError(
                f"{name}: {type(value).__name__} is no array of numbers ({why}); "
                "give a tensor, a NumPy array or nested lists of equal lengths"
            ) from None
    if not allow_integer and not (value.is_floating_point() or value.is_complex()):
        raise TypeError(
            f"{name} is {value.dtype}; operators are floating point: "
            f"convert first, for example with .to(torch.get_default_dtype())"
        )
    if value.ndim < ndim:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, needs at least {ndim} dimensions")
    return value  # type: ignore[no-any-return]


def from_spec(spec: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LinearOperator:
    """Rebuild an operator from :meth:`LinearOperator.spec` and its named tensors.

    Args:
        spec: JSON-able structure.
        tensors: by dotted path, as :meth:`LinearOperator.named_tensors` gives them.

    Raises:
        ValueError: unknown class, missing tensor, or parts that do not fit.
    """
    kind = spec["kind"]
    if kind not in REGISTRY:
        raise ValueError(f"unknown operator class {kind!r}; this file needs a newer structmat")
    own = {}
    for name, about in spec["tensors"].items():
        if name not in tensors:
            raise ValueError(f"{kind}: tensor {name!r} is missing")
        if list(tensors[name].shape) != list(about["shape"]):
            raise ValueError(
                f"{kind}: tensor {name!r} has shape {tuple(tensors[name].shape)}, "
                f"its structure says {tuple(about['shape'])}"
            )
        own[name] = tensors[name]
    children = []
    for i, child in enumerate(spec["children"]):
        prefix = f"{i}."
        inner = {k[len(prefix) :]: t for k, t in tensors.items() if k.startswith(prefix)}
        children.append(from_spec(child, inner))
    new = object.__new__(REGISTRY[kind])
    new._init(own, children, from_json(spec["static"]))
    new._check()
    return new._assuming(frozenset(map(str, spec.get("assumed", ()))))
