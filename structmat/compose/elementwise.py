"""The elementwise (Hadamard, Schur) product, (A o B)[i, j] = A[i, j] B[i, j].

It survives in structure where one operand has few entries or both have one pattern; see
:mod:`structmat.compose.patterns`. Beside a low-rank U V any structure survives, as a sum of r
copies between diagonals,

    (U V) o A = sum_k diag(U[:, k]) A diag(V[k, :])

(Horn and Johnson, Topics in matrix analysis, section 5.1, gives both rules). For everything else
there is no way to apply the product but to form one of the matrices, which is for the caller to
say: A o B with a Dense operand is dense.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from structmat.builder import Builder, Counting, Lift
from structmat.compose.basic import Transpose, _operands
from structmat.leaves.dense import LowRank
from structmat.operator import LinearOperator

__all__ = ["Elementwise", "elementwise"]


class Elementwise(LinearOperator):
    """A o B, lazily, as :func:`structmat.elementwise` writes it.

    Args:
        *ops: two operators of one shape.

    Raises:
        TypeError: an operand is not an operator.
        ValueError: not two operands, different shapes, or a product that cannot be applied without
            forming a matrix.

    Example:
        >>> import torch, structmat as sm
        >>> ramp = torch.tensor([[1.0, 2.0, 3.0]])
        >>> A = sm.Elementwise(sm.LowRank(ramp.T, ramp), sm.reversal(3))
        >>> A(torch.ones(3))
        tensor([3., 4., 3.])
    """

    def __init__(self, *ops: LinearOperator) -> None:
        self._init(children=_operands("elementwise", ops))
        self._check()

    def _check(self) -> None:
        if len(self.children) != 2:
            raise ValueError(f"Elementwise takes two operators, got {len(self.children)}")
        a, b = self.children
        for c in self.children:
            c._require_numbers()
        if a.shape != b.shape:
            raise ValueError(
                f"elementwise: {a._label()} of shape {a.shape} and {b._label()} of shape {b.shape} "
                "differ in shape"
            )
        if not survives(a, b):
            raise ValueError(
                f"elementwise: {a._label()} and {b._label()} have no product that can be applied "
                "without forming a matrix; form one of them yourself: "
                "sm.elementwise(sm.Dense(A.to_dense()), B)"
            )

    def _shape(self) -> tuple[int, int]:
        return self.children[0].shape

    def _lower(self, g: Builder, x: Any) -> Any:
        from structmat.compose.patterns import met

        inner = g
        while isinstance(inner, Lift):
            inner = inner.inner
        # Counting needs shapes only: no numbers are multiplied for it.
        a, b = map(_sizes, self.children) if isinstance(inner, Counting) else self.children
        found = met(a, b)
        if found is not None:
            return found._lower(g, x)
        low, other = (a, b) if low_rank(a) is not None else (b, a)
        factors = low_rank(low)
        assert factors is not None
        if factors.rank == 0:
            return g.zeros(x, self.shape[0])
        terms = []
        for k in range(factors.rank):
            inside = other._lower(g, g.scale(x, factors.right[..., k, :]))
            terms.append(g.scale(inside, factors.left[..., :, k]))
        return g.add(terms)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        a, b = (c._dense(dtype, device) for c in self.children)
        return a * b

    def _transpose(self) -> LinearOperator:
        return self._replace({}, [c.T for c in self.children], {})

    def _label(self) -> str:
        return f"elementwise({', '.join(c._label() for c in self.children)})"


def low_rank(op: LinearOperator) -> LowRank | None:
    """The operator where it is U V, or the transpose of one."""
    if isinstance(op, Transpose):
        op = op.children[0]._transpose()
    return op if isinstance(op, LowRank) else None


def _sizes(op: LinearOperator) -> LinearOperator:
    """The operator on tensors without numbers."""
    return op._map(lambda t: torch.empty(t.shape, dtype=t.dtype, device="meta"), None)


def survives(a: LinearOperator, b: LinearOperator) -> bool:
    """Whether A o B can be applied without forming a matrix of its size."""
    from structmat.compose.patterns import met

    if low_rank(a) is not None or low_rank(b) is not None:
        return True
    return met(_sizes(a), _sizes(b)) is not None


def elementwise(*ops: LinearOperator) -> LinearOperator:
    """The elementwise product A o B of operators of one shape.

    Diagonals, permutations, selections, sparse and block-sparse matrices, block-diagonal and
    Kronecker-sparse factors keep their pattern beside any operator whose entries have a formula;
    Toeplitz, Hankel, circulant and low-rank matrices, Kronecker products, direct sums, block
    matrices and sums of equal partitions keep their kind beside their kind; a low-rank matrix
    goes with everything. With a :class:`structmat.Dense` operand the product is dense.

    Args:
        *ops: two or more operators.

    Returns:
        A lazy operator; ``simplify`` gives the structure that it has.

    Raises:
        TypeError: an operand is not an operator.
        ValueError: fewer than two, different shapes, or a product that cannot be applied without
            forming a matrix: the message says which to form.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.elementwise(sm.Toeplitz(torch.ones(3)), sm.Toeplitz(torch.arange(3.0)))
        >>> A.simplify()._label()
        'Toeplitz(3x3)'
    """
    if len(ops) < 2:
        raise ValueError(f"elementwise needs at least two operators, got {len(ops)}")
    given = _operands("elementwise", ops)
    out = given[0]
    for op in given[1:]:
        out = _pair(out, op)
    return out


def _pair(a: LinearOperator, b: LinearOperator) -> Elementwise:
    """A o B; of the simplified operands where only these have a structure that survives."""
    if a.shape == b.shape and not survives(a, b):
        simple = a.simplify(), b.simplify()
        if survives(*simple):
            return Elementwise(*simple)
    return Elementwise(a, b)
