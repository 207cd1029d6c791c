"""What a leaf is made of: the operations that every fast matrix is a composition of.

A leaf says once, in ``_lower(builder, x)``, how it acts on a vector. The same words then
*run* (:class:`Eager`), are *counted* (:class:`Counting`), and are *recorded* as the compiler's
chain (``structmat.lowering``). All operations act on the last dimension, and each is
lifted to ``I_pre (x) op (x) I_post`` by its arguments ``pre`` and ``post``:

==========  =========================================================================
contract    y[i, j, l] = sum_k w[i, j, k, l] x[i, k, l], w of shape (..., a, b, c, d)
permute     y[i] = x[index[i]]
scale       y[i] = d[i] x[i]
scalar      y = alpha x
add         y = x_1 + x_2 + ...
slice       y = x[start:stop]
concat      y = (x_1, x_2, ...)
zeros       y = 0
apply       y = T(w) x for a :class:`structmat.primitives.Primitive` (FFT, ...)
call        y = A x by a function of A itself (:class:`Acting`); it compiles to the words that it
            offers (:class:`Words`), or to a call of that function
==========  =========================================================================

``contract`` is the Kronecker-sparse factor with pattern (a, b, c, d) of Le, Zheng, Riccietti,
Gribonval: support I_a (x) 1_{b x c} (x) I_d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from structmat.index import IndexMap
from structmat.primitives.base import Primitive
from structmat.tables import index_tensor

__all__ = [
    "Acting",
    "Builder",
    "Counting",
    "Eager",
    "Lift",
    "Words",
    "counts",
    "index_tensor",
]

Number = int | float | complex


@dataclass(frozen=True)
class Words:
    """How what acts by a function of its own compiles.

    Attributes:
        how: what happens, and what becomes dense, for ``explain()``.
        lower: the action in the words of a builder, whose tensors are made once for all vectors, as
            the factors of a matrix are; None where there are no words, and the function is called.
    """

    how: str
    lower: Callable[[Builder, Any], Any] | None = None


class Acting(Protocol):
    """What acts by a function of its own, not by these words; ``call`` runs it."""

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""

    def _apply(self, x: Tensor) -> Tensor:
        """A x for rows x (..., k, n) -> (..., k, m), differentiable in x and in A's tensors."""

    def _effort(self) -> tuple[int, int]:
        """(products, sums) for one row."""

    def _words(self) -> Words:
        """How it compiles."""


class Builder(Protocol):
    """The operations a leaf may use; ``x`` is whatever the builder computes with."""

    def contract(self, x: Any, w: Tensor, pre: int = 1, post: int = 1) -> Any:
        """y[p,i,j,l,q] = sum_k w[...,i,j,k,l] x[p,i,k,l,q]."""

    def permute(self, x: Any, index: IndexMap, pre: int = 1, post: int = 1) -> Any:
        """y[p,i,q] = x[p,index[i],q]."""

    def scale(self, x: Any, d: Tensor, pre: int = 1, post: int = 1) -> Any:
        """y[p,i,q] = d[...,i] x[p,i,q]."""

    def scalar(self, x: Any, alpha: Number | Tensor) -> Any:
        """Y = alpha x."""

    def add(self, xs: Sequence[Any]) -> Any:
        """Sum of the branches."""

    def slice(self, x: Any, size: int, start: int, stop: int, pre: int = 1, post: int = 1) -> Any:
        """y[p,i,q] = x[p,start+i,q] for a middle axis of ``size``."""

    def concat(self, xs: Sequence[Any], sizes: Sequence[int], pre: int = 1, post: int = 1) -> Any:
        """Join branches along the middle axis; branch b has ``sizes[b]`` there."""

    def zeros(self, x: Any, size: int) -> Any:
        """The zero vector of ``size`` entries, batched like x."""

    def apply(
        self, x: Any, op: Primitive, w: Tensor | None = None, pre: int = 1, post: int = 1
    ) -> Any:
        """y[p,:,q] = op(w) x[p,:,q]; w (..., *op.values)."""

    def call(self, x: Any, op: Acting, pre: int = 1, post: int = 1) -> Any:
        """y[p,:,q] = A x[p,:,q], by the function of A itself."""


def _promoted(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    if x.dtype == w.dtype:
        return x, w
    dtype = torch.promote_types(x.dtype, w.dtype)
    return x.to(dtype), w.to(dtype)


class Eager:
    """Runs the operations with torch on x of shape (..., t, n): rows are vectors.

    Leading dimensions of operator tensors broadcast against the leading dimensions of x.
    """

    def contract(self, x: Tensor, w: Tensor, pre: int = 1, post: int = 1) -> Tensor:
        """See :class:`Builder`; one einsum, whose inner product is a batched matmul."""
        x, w = _promoted(x, w)
        a, b, c, d = w.shape[-4:]
        *lead, t, _ = x.shape
        if pre == a == d == post == 1:
            return x @ w[..., 0, :, :, 0].mT
        xs = x.reshape(*lead, t, pre, a, c, d, post)
        y = torch.einsum("...abcd,...tpacdq->...tpabdq", w, xs)
        return y.reshape(*y.shape[:-5], pre * a * b * d * post)

    def permute(self, x: Tensor, index: IndexMap, pre: int = 1, post: int = 1) -> Tensor:
        """See :class:`Builder`; digit maps are views, tables are gathers."""
        *lead, n = x.shape
        shape = getattr(index, "shape", None)
        if shape is not None:
            k = len(lead)
            order = [k + 1 + o for o in index.order]  # type: ignore[attr-defined]
            xs = x.reshape(*lead, pre, *shape, post)
            return xs.permute(*range(k + 1), *order, k + 1 + len(shape)).reshape(*lead, n)
        table = index_tensor(index, x.device)
        xs = x.reshape(*lead, pre, index.size, post)
        return xs.index_select(-2, table).reshape(*lead, n)

    def scale(self, x: Tensor, d: Tensor, pre: int = 1, post: int = 1) -> Tensor:
        """See :class:`Builder`."""
        x, d = _promoted(x, d)
        if pre == post == 1:
            return x * d.unsqueeze(-2)
        n = d.shape[-1]
        ds = d[..., None, None, :, None]
        y = x.reshape(*x.shape[:-1], pre, n, post) * ds
        return y.reshape(*y.shape[:-3], pre * n * post)

    def scalar(self, x: Tensor, alpha: Number | Tensor) -> Tensor:
        """See :class:`Builder`; a tensor alpha has the operator's batch shape."""
        if isinstance(alpha, Tensor):
            x, alpha = _promoted(x, alpha)
            # a single number keeps no dimensions: it may then be on the cpu while x is not
            return x * (alpha[..., None, None] if alpha.ndim else alpha)
        return x * alpha

    def add(self, xs: Sequence[Tensor]) -> Tensor:
        """See :class:`Builder`."""
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        return total

    def slice(
        self, x: Tensor, size: int, start: int, stop: int, pre: int = 1, post: int = 1
    ) -> Tensor:
        """See :class:`Builder`."""
        y = x.reshape(*x.shape[:-1], pre, size, post)[..., start:stop, :]
        return y.reshape(*x.shape[:-1], pre * (stop - start) * post)

    def concat(
        self, xs: Sequence[Tensor], sizes: Sequence[int], pre: int = 1, post: int = 1
    ) -> Tensor:
        """See :class:`Builder`."""
        lead = torch.broadcast_shapes(*(x.shape[:-1] for x in xs))
        dtype = xs[0].dtype
        for x in xs[1:]:
            dtype = torch.promote_types(dtype, x.dtype)
        parts = [
            x.to(dtype).reshape(*x.shape[:-1], pre, s, post).expand(*lead, pre, s, post)
            for x, s in zip(xs, sizes, strict=True)
        ]
        return torch.cat(parts, -2).reshape(*lead, pre * sum(sizes) * post)

    def zeros(self, x: Tensor, size: int) -> Tensor:
        """See :class:`Builder`."""
        return x.new_zeros(*x.shape[:-1], size)

    def apply(
        self, x: Tensor, op: Primitive, w: Tensor | None = None, pre: int = 1, post: int = 1
    ) -> Tensor:
        """See :class:`Builder`."""
        *lead, t, _ = x.shape
        xs = x.reshape(*lead, t, pre, op.ins, post)
        if w is not None:
            assert op.values is not None
            ndim = w.ndim - len(op.values)
            w = w.reshape(*w.shape[:ndim], 1, 1, *op.values)
        y = op(xs, w)
        return y.reshape(*y.shape[:-3], pre * op.outs * post)

    def call(self, x: Tensor, op: Acting, pre: int = 1, post: int = 1) -> Tensor:
        """See :class:`Builder`; all t, p and q are rows of one call."""
        *lead, t, _ = x.shape
        m, n = op.shape
        rows = x.reshape(*lead, t, pre, n, post).movedim(-1, -2)
        y = op._apply(rows.reshape(*lead, t * pre * post, n))
        y = y.reshape(*y.shape[:-2], t, pre, post, m).movedim(-1, -2)
        return y.reshape(*y.shape[:-4], t, pre * m * post)


class Counting:
    """Counts multiplications and additions per vector; ``x`` is the length of the vector.

    Args:
        complex_: whether the numbers are complex.
    """

    def __init__(self, complex_: bool = False) -> None:
        self.mults = 0
        self.adds = 0
        self.complex = complex_

    def contract(self, x: int, w: Tensor, pre: int = 1, post: int = 1) -> int:
        """See :class:`Builder`: abcd products, abd(c-1) sums."""
        a, b, c, d = w.shape[-4:]
        self.mults += pre * a * b * c * d * post
        self.adds += pre * a * b * max(c - 1, 0) * d * post
        return pre * a * b * d * post

    def permute(self, x: int, index: IndexMap, pre: int = 1, post: int = 1) -> int:
        """See :class:`Builder`: free."""
        return x

    def scale(self, x: int, d: Tensor, pre: int = 1, post: int = 1) -> int:
        """See :class:`Builder`."""
        self.mults += x
        return x

    def scalar(self, x: int, alpha: Number | Tensor) -> int:
        """See :class:`Builder`: a change of sign is free."""
        if isinstance(alpha, Tensor) or alpha not in (1, -1):
            self.mults += x
        return x

    def add(self, xs: Sequence[int]) -> int:
        """See :class:`Builder`."""
        self.adds += xs[0] * (len(xs) - 1)
        return xs[0]

    def slice(self, x: int, size: int, start: int, stop: int, pre: int = 1, post: int = 1) -> int:
        """See :class:`Builder`: free."""
        return pre * (stop - start) * post

    def concat(self, xs: Sequence[int], sizes: Sequence[int], pre: int = 1, post: int = 1) -> int:
        """See :class:`Builder`: free."""
        return sum(xs)

    def zeros(self, x: int, size: int) -> int:
        """See :class:`Builder`: free."""
        return size

    def apply(
        self, x: int, op: Primitive, w: Tensor | None = None, pre: int = 1, post: int = 1
    ) -> int:
        """See :class:`Builder`: what the primitive says."""
        mults, adds = op.operations(self.complex)
        self.mults += pre * mults * post
        self.adds += pre * adds * post
        return pre * op.outs * post

    def call(self, x: int, op: Acting, pre: int = 1, post: int = 1) -> int:
        """See :class:`Builder`: what A says of itself."""
        mults, adds = op._effort()
        self.mults += pre * mults * post
        self.adds += pre * adds * post
        return pre * op.shape[0] * post


class Lift:
    """A builder that carries every operation to I_pre (x) op (x) I_post."""

    def __init__(self, inner: Builder, pre: int, post: int) -> None:
        self.inner, self.pre, self.post = inner, pre, post

    def contract(self, x: Any, w: Tensor, pre: int = 1, post: int = 1) -> Any:
        """See :class:`Builder`."""
        return self.inner.contract(x, w, self.pre * pre, post * self.post)

    def permute(self, x: Any, index: IndexMap, pre: int = 1, post: int = 1) -> Any:
        """See :class:`Builder`."""
        return self.inner.permute(x, index, self.pre * pre, post * self.post)

    def scale(self, x: Any, d: Tensor, pre: int = 1, post: int = 1) -> Any:
        """See :class:`Builder`."""
        return self.inner.scale(x, d, self.pre * pre, post * self.post)

    def scalar(self, x: Any, alpha: Number | Tensor) -> Any:
        """See :class:`Builder`."""
        return self.inner.scalar(x, alpha)

    def add(self, xs: Sequence[Any]) -> Any:
        """See :class:`Builder`."""
        return self.inner.add(xs)

    def slice(self, x: Any, size: int, start: int, stop: int, pre: int = 1, post: int = 1) -> Any:
        """See :class:`Builder`."""
        return self.inner.slice(x, size, start, stop, self.pre * pre, post * self.post)

    def concat(self, xs: Sequence[Any], sizes: Sequence[int], pre: int = 1, post: int = 1) -> Any:
        """See :class:`Builder`."""
        return self.inner.concat(xs, sizes, self.pre * pre, post * self.post)

    def zeros(self, x: Any, size: int) -> Any:
        """See :class:`Builder`."""
        return self.inner.zeros(x, self.pre * size * self.post)

    def apply(
        self, x: Any, op: Primitive, w: Tensor | None = None, pre: int = 1, post: int = 1
    ) -> Any:
        """See :class:`Builder`."""
        return self.inner.apply(x, op, w, self.pre * pre, post * self.post)

    def call(self, x: Any, op: Acting, pre: int = 1, post: int = 1) -> Any:
        """See :class:`Builder`."""
        return self.inner.call(x, op, self.pre * pre, post * self.post)


def counts(g: Builder) -> bool:
    """Whether ``g`` only counts: values need not be computed, it reads no more than shapes."""
    while isinstance(g, Lift):
        g = g.inner
    return isinstance(g, Counting)
