"""What a projection is: an operator, its distance from W, and why nothing in the family is nearer.

All distances are Frobenius norms. ``error`` is measured on the operator that is returned, in its
own dtype; ``lower_bound`` comes from the certificate alone, so that error = lower_bound up to
rounding says "this is optimal" without trusting the code that found it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from structmat.operator import LinearOperator, as_tensor

__all__ = ["Certificate", "Projection", "checked_matrix", "finish", "project", "register"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Certificate:
    """Evidence for a lower bound on the distance from W to every member of the family.

    Attributes:
        statement: the theorem used, with its source.
        tail: numbers whose squares sum to lower_bound^2: dropped singular values or entries,
            shape batch_shape + (...).
        kept: the singular values that were kept, or None.
        unique: batch-shaped bool: no tie between kept and dropped values, so that the nearest
            member is unique; None where it does not apply.

    Example:
        >>> import torch, structmat as sm
        >>> p = sm.project(torch.eye(4), sm.LowRank, rank=3)
        >>> p.certificate.tail
        tensor([0., 0., 0., 1.])
    """

    statement: str
    tail: Tensor
    kept: Tensor | None = None
    unique: Tensor | None = None


@dataclass(frozen=True)
class Projection:
    """The result of :func:`project`.

    Attributes:
        operator: the nearest member of the family that was found.
        error: ||W - operator||_F, of W's batch shape.
        relative_error: error / ||W||_F; 0 where W is 0.
        lower_bound: no member of the family is nearer than this; of W's batch shape.
        certificate: why.

    Example:
        >>> import torch, structmat as sm
        >>> sm.project(torch.eye(4), sm.LowRank, rank=3)
        Projection(LowRank(4x4, rank=3), relative error 0.5, error 1 >= 1)
    """

    operator: LinearOperator
    error: Tensor
    relative_error: Tensor
    lower_bound: Tensor
    certificate: Certificate

    def __repr__(self) -> str:
        if self.error.ndim:
            return f"Projection({self.operator._label()}, batch {tuple(self.error.shape)})"
        return (
            f"Projection({self.operator._label()}, relative error {float(self.relative_error):.4g},"
            f" error {float(self.error):.4g} >= {float(self.lower_bound):.4g})"
        )


_FAMILIES: dict[type[LinearOperator], Callable[..., Projection]] = {}


def register(family: type[LinearOperator]) -> Callable[[Any], Any]:
    """Register a projection onto ``family`` with :func:`project`."""

    def put(fn: Callable[..., Projection]) -> Callable[..., Projection]:
        _FAMILIES[family] = fn
        return fn

    return put


def project(w: Any, structure: type[LinearOperator], **options: Any) -> Projection:
    """The nearest operator of a family to a dense matrix, in Frobenius norm.

    Args:
        w: W of shape (..., m, n); leading dimensions make a batch of projections.
        structure: the family: :class:`structmat.Monarch` (nblocks, rank; see
            :func:`structmat.projection.project_monarch`), :class:`structmat.LowRank` (rank),
            :class:`structmat.BlockDiagonal` (nblocks), :class:`structmat.Sparse` (density or nnz),
            :class:`structmat.BlockSparse` (block, and density or nblocks).
        **options: of the family.

    Returns:
        :class:`Projection`. It carries no gradient: projection is a decision, not a layer.

    Raises:
        TypeError: integer W, an operator in place of W, or a family without a projection.
        ValueError: NaN or Inf in W, wrong shape, options that do not fit.

    Example:
        >>> import torch, structmat as sm
        >>> torch.manual_seed(0)
        <torch._C.Generator object at ...>
        >>> p = sm.project(torch.randn(16, 16), sm.Monarch, nblocks=4)
        >>> p.operator.shape, bool(p.error - p.lower_bound < 1e-5)
        ((16, 16), True)
    """
    if structure not in _FAMILIES:
        known = ", ".join(sorted(f.__name__ for f in _FAMILIES))
        name = getattr(structure, "__name__", repr(structure))
        raise TypeError(f"project: no projection onto {name}; there are {known}")
    return _FAMILIES[structure](w, **options)


def checked_matrix(w: Any, who: str) -> Tensor:
    """W as a detached floating-point tensor of at least two dimensions with finite entries."""
    if isinstance(w, LinearOperator):
        raise TypeError(f"{who}: W is an operator, {w._label()}; pass W.to_dense() to densify it")
    out = as_tensor(w, f"{who}: W").detach()
    if out.ndim < 2:
        raise ValueError(f"{who}: W has shape {tuple(out.shape)}, needs (..., m, n)")
    if out.numel() and not bool(torch.isfinite(out).all()):
        bad = int((~torch.isfinite(out)).sum())
        raise ValueError(f"{who}: W has {bad} NaN or infinite entries; no matrix is nearest to it")
    return out


def working(w: Tensor) -> Tensor:
    """W in a dtype that LAPACK and cuSOLVER have: 16-bit types widen to float32."""
    return w.float() if w.dtype in (torch.bfloat16, torch.float16) else w


def frobenius(w: Tensor) -> Tensor:
    """Frobenius norms of (..., m, n), accumulated without overflow of the squares."""
    if w.shape[-1] == 0 or w.shape[-2] == 0:
        return w.new_zeros(w.shape[:-2]).abs()
    norm: Tensor = torch.linalg.vector_norm(w, dim=(-2, -1))
    return norm


def finish(
    w: Tensor, operator: LinearOperator, error: Tensor, bound: Tensor, certificate: Certificate
) -> Projection:
    """Assemble the result; relative errors of zero matrices are zero."""
    norm = frobenius(working(w))
    relative = torch.where(norm > 0, error / norm.clamp_min(torch.finfo(norm.dtype).tiny), 0.0)
    return Projection(operator, error, relative.to(error.dtype), bound, certificate)
