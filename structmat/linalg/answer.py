"""What the functions of this package hand out, and what they have in common.

By default a plain tensor, as ``torch.linalg`` gives, with the batch dimensions of the operator in
front. With ``return_method=True``, or where an estimate was asked for, an :class:`Answer` that
also says how the number was found and, for an estimate, its standard error.

Numbers of 16 bits are computed and returned in 32 bits. Every value is differentiable in the
tensors of the operator; what an iteration found has a first derivative only, and says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

import torch
from torch import Tensor

from structmat.operator import LinearOperator
from structmat.tracing import blind, record

__all__ = [
    "Answer",
    "DenseWarning",
    "block_size",
    "columns",
    "dense",
    "like",
    "multiplied",
    "name",
    "need_square",
    "spread",
    "traced",
    "unit_rows",
]

DENSE = 2048
"""The largest side of a matrix that becomes dense without a warning."""


class DenseWarning(UserWarning):
    """A large operator became a dense matrix, because no structure of it serves."""


V = TypeVar("V", covariant=True)


@record
@dataclass(frozen=True)
class Answer(Generic[V]):
    """A number of a matrix and how it was found.

    Attributes:
        value: the tensor, or the pair (sign, logabsdet).
        method: in words, such as ``"product of the factors' traces"``.
        error: the standard error of an estimate; None where the value is exact up to rounding.

    Example:
        >>> import structmat as sm
        >>> sm.trace(sm.kron(sm.Identity(2), sm.Identity(3)), return_method=True)
        Answer(value=tensor(6.), method='product of traces (identity)', error=None)
    """

    value: V
    method: str
    error: Tensor | None = None


def like(op: LinearOperator) -> Tensor:
    """An empty tensor of the dtype and device in which the numbers of ``op`` are computed."""
    dtype = op.dtype
    wide = torch.promote_types(dtype, torch.complex64 if dtype.is_complex else torch.float32)
    return torch.empty(0, dtype=wide, device=op.device)


def name(how: str, methods: Iterable[str]) -> str:
    """``"how (method; method)"``, each method once."""
    inner = "; ".join(dict.fromkeys(m for m in methods if m))
    return f"{how} ({inner})" if inner else how


def multiplied(parts: list[Answer[Tensor]]) -> Tensor:
    """The product of values."""
    out = parts[0].value
    for p in parts[1:]:
        out = out * p.value
    return out


def traced(op: LinearOperator) -> bool:
    """Whether numbers cannot be looked at: inside a transform of torch, or while it traces."""
    return blind() or any(
        torch._C._functorch.is_functorch_wrapped_tensor(t) for t in op._all_tensors()
    )


def dense(op: LinearOperator, to: Tensor, function: str, way_out: str = "") -> Tensor:
    """The dense matrix, with a warning where it is large."""
    m, n = op.shape
    if max(m, n) > DENSE:
        warnings.warn(
            f"{function}: the structure of {op._label()} does not give it, so the dense {m} x {n} "
            f"matrix is made{way_out}",
            DenseWarning,
            stacklevel=2,
        )
    return op._dense(to.dtype, to.device)


def need_square(function: str, op: LinearOperator) -> None:
    """Raise ValueError unless the operator is square, TypeError where its sizes are symbols."""
    op._require_numbers()
    m, n = op.shape
    if m != n:
        raise ValueError(
            f"{function}: {op._label()} is {m} x {n}, needs a square operator; for a rectangular "
            "one take singular values, sm.svdvals(A), or the square A.H @ A"
        )


def not_an_operator(function: str, value: object) -> NoReturn:
    """Raise TypeError that says how to get an operator."""
    raise TypeError(
        f"{function}: {type(value).__name__} is not an operator; wrap it: sm.Dense(W), "
        f"or take torch.linalg for a tensor"
    )


def spread(value: Tensor, op: LinearOperator, event: int) -> Tensor:
    """The value with the batch shape of the operator in front of ``event`` dimensions."""
    tail = value.shape[value.ndim - event :]
    return value.expand(*op.batch_shape, *tail) if op.batch_shape else value


def block_size(op: LinearOperator) -> int:
    """How many columns are computed at once: about 2**21 entries, at least 16 columns."""
    m, n = op.shape
    many = max(1, torch.Size(op.batch_shape).numel())
    return max(16, min(n, 2**21 // max(1, m * many, n * many)))


def unit_rows(start: int, stop: int, n: int, to: Tensor) -> Tensor:
    """The rows start, ..., stop - 1 of the identity."""
    rows = torch.arange(start, stop, device=to.device)
    return (rows[:, None] == torch.arange(n, device=to.device)).to(to.dtype)


def columns(op: LinearOperator, start: int, stop: int, to: Tensor) -> Tensor:
    """The columns start, ..., stop - 1 of the matrix, as rows: shape (..., stop - start, m)."""
    return op._rows(unit_rows(start, stop, op.shape[1], to))
