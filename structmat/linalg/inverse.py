"""The inverse of an operator, as an operator.

``inv(A)`` is lazy like every composition. What needs no numbers is done at once:

    (A B)^-1 = B^-1 A^-1         (A (x) B)^-1 = A^-1 (x) B^-1      (A^T)^-1 = (A^-1)^T
    (alpha A)^-1 = A^-1 / alpha  diag(A, B)^-1 = diag(A^-1, B^-1)  (A^-1)^-1 = A
    P^-1 = P^T for permutations and wavelets; F, cosine, sine, Hadamard transforms undo each other

and everything else is a node :class:`Inverse`, which acts by solving a system, with the method that
the structure of A offers (:mod:`structmat.linalg.plan`). The rules of
:mod:`structmat.rules.inverses` cancel A A^-1, and put a closed form where the inverse has the
structure of A: diagonal, block-diagonal, Kronecker-sparse, Monarch with square blocks, butterfly,
circulant, diagonal plus low rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from structmat.builder import Words
from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.diagonal import Identity
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.permutation import Permutation
from structmat.leaves.real_fourier import RDFT
from structmat.leaves.trigonometric import Trigonometric
from structmat.leaves.wavelet import Wavelet
from structmat.linalg.plan import Plan, plan, solved, wide
from structmat.linalg.result import SingularError
from structmat.operator import LinearOperator

__all__ = ["Inverse", "inv", "inverse_of", "need_square", "unitary_inverse"]


def need_square(call: str, op: object) -> LinearOperator:
    """``op`` itself, or an error that says what is wrong and what to do."""
    if not isinstance(op, LinearOperator):
        raise TypeError(f"{call}: {type(op).__name__} is not an operator; wrap it: sm.Dense(W)")
    op._require_numbers()
    m, n = op.shape
    if m != n:
        raise ValueError(
            f"{call}: {op._label()} is {m}x{n}, not square; sm.pinv(A) is the pseudoinverse, and "
            "sm.solve(A, b) the least-squares solution"
        )
    return op


class Inverse(LinearOperator):
    """A^-1, applied by solving A y = x. Singular numbers are not looked for: ``sm.solve`` does.

    Args:
        op: A, square.

    Raises:
        TypeError: op is not an operator.
        ValueError: op is not square.

    Cost: that of the method for the structure of A, per vector; a factorisation is shared by the
    vectors of one call and is not counted. ``sm.compile`` keeps it between calls, until the numbers
    of A change (:mod:`structmat.linalg.forms`).

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Dense(torch.tensor([[2.0, 1.0], [0.0, 4.0]]))
        >>> sm.Inverse(A)(torch.tensor([4.0, 4.0]))
        tensor([1.5000, 1.0000])
        >>> (A @ sm.Inverse(A)).simplify()._label()
        'Identity(2)'
    """

    def __init__(self, op: LinearOperator) -> None:
        self._init(children=(need_square("Inverse", op),))

    def _check(self) -> None:
        need_square("Inverse", self.children[0])

    def _shape(self) -> tuple[int, int]:
        return self.children[0].shape

    def plan(self) -> Plan:
        """The method by which it acts; a function of the structure."""
        return plan(self.children[0])

    def _apply(self, x: Tensor) -> Tensor:
        return solved(self.children[0], x.mT, self.plan()).mT

    def _effort(self) -> tuple[int, int]:
        return self.plan().each

    def _words(self) -> Words:
        from structmat.linalg.forms import words

        return words(self.children[0])

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        out: Tensor = torch.linalg.inv(self.children[0]._dense(wide(dtype), device))
        return out.to(dtype)

    def _transpose(self) -> LinearOperator:
        return Inverse(self.children[0].T)

    def _label(self) -> str:
        inner = self.children[0]
        loose = isinstance(inner, Sum | Product | Scaled)
        return f"({inner._label()})^-1" if loose else f"{inner._label()}^-1"


def unitary_inverse(op: LinearOperator) -> LinearOperator | None:
    """The inverse of what has one without arithmetic on its numbers: a leaf, maybe scaled."""
    match op:
        case Identity():
            return op
        case Permutation() | Wavelet():
            return op._transpose()
        case DFT() | RDFT():
            return op._replace({}, (), {**op.static, "inverse": not op.inverse})
        case Hadamard():
            return op if op.normalized else Scaled(1 / op.n, op)
        case Trigonometric():
            other = op._replace({}, (), {**op.static, "type": {2: 3, 3: 2}.get(op.type, op.type)})
            if op.norm == "ortho" or op.n == 0:
                return other
            assert isinstance(other, Trigonometric)
            return Scaled(2 / (op.factor() * other.factor() * op.length), other)
    return None


def inv(A: LinearOperator) -> LinearOperator:
    """The inverse of a square operator; lazy. Numbers are not looked at: ``sm.solve`` does.

    Args:
        A: a square operator.

    Returns:
        An operator. ``simplify`` puts closed forms where there are any.

    Raises:
        TypeError: A is not an operator.
        ValueError: A is not square.
        SingularError: A is zero times an operator, a number and not a tensor.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.kron(sm.Diagonal(torch.tensor([2.0, 4.0])), sm.reversal(2))
        >>> sm.inv(A)(torch.ones(4))
        tensor([0.5000, 0.5000, 0.2500, 0.2500])
        >>> (sm.inv(A) @ A).simplify()._label()
        'Identity(4)'
    """
    need_square("inv", A)
    if isinstance(A, Scaled) and not A.tensors and A.alpha == 0:
        raise SingularError(f"inv: {A._label()} is zero")
    return inverse_of(A)


def inverse_of(op: LinearOperator) -> LinearOperator:
    """``inv`` without checks. Equal for equal operators on the same tensors: rules compare it."""
    parts = op.children
    square = all(c.shape[0] == c.shape[1] for c in parts)
    match op:
        case Inverse():
            return parts[0]
        case Transpose():
            return inverse_of(parts[0]).T
        case Product() if square:
            return Product(*map(inverse_of, reversed(parts)))
        case Kronecker() | DirectSum() if square:
            return type(op)(*map(inverse_of, parts))
        case Scaled() if not op.tensors and op.alpha != 0:
            return Scaled(1 / op.alpha, inverse_of(parts[0]))
    return unitary_inverse(op) or Inverse(op)
