"""What a linear solve returns, and what it says where the numbers are bad."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from structmat.tracing import record

__all__ = ["IllConditionedWarning", "SingularError", "Solution"]


class IllConditionedWarning(UserWarning):
    """A linear system was solved, but few digits of the solution can be trusted."""


class SingularError(LinAlgError):  # type: ignore[misc]
    """A linear system has no unique solution."""


@record
@dataclass(frozen=True)
class Solution:
    """The solution of A x = b and how it was found.

    Attributes:
        x: the solution, of the shape of b (broadcast over the batch of A).
        method: in words, such as ``"kronecker (diagonal; dense lu)"``, ``"woodbury (diagonal)"``,
            ``"levinson"`` or ``"cg"``.
        residual: the largest norm(b - A x) / norm(b) of all columns, a tensor of no dimension.
        iterations: of an iterative method; 0 for a direct one.

    Example:
        >>> import torch, structmat as sm
        >>> s = sm.solve(sm.Diagonal(torch.tensor([2.0, 4.0])), torch.tensor([2.0, 2.0]))
        >>> s.x, s.method, float(s.residual), s.iterations
        (tensor([1.0000, 0.5000]), 'diagonal', 0.0, 0)
    """

    x: Tensor
    method: str
    residual: Tensor
    iterations: int = 0
