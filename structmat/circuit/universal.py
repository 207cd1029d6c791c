"""Matrices as products of butterflies: the kaleidoscope hierarchy (B B*)^w_e.

B is the set of products of log2 N butterfly factors of block sizes N, ..., 4, 2, and (B B*)^w_e are
the first n rows and columns of products of w matrices M_1 M_2^*, M_1 and M_2 in B, of size
N = e n. Here w is the *width*, e the *expansion*.

Theorem (Dao et al., "Kaleidoscope: an efficient, learnable representation for all structured linear
maps", ICLR 2020, arXiv 2012.14966). A matrix with a linear arithmetic circuit of s gates and depth
d is in (B B*)^O(d)_O(s/n), so it takes O(d s log s) parameters and operations.

The theorem leaves its constants open. Measured here, parameters over d s log2 s: 4 for permutations
and at most 16 for n nonzeros (n a power of two), 0.011 for DFT(4096), 0.7 for the circuit of
DCT(64). The constructions are in :mod:`structmat.circuit.constructions`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from structmat.circuit.butterflies import fewest, paired
from structmat.circuit.constructions import words_of
from structmat.circuit.core import Circuit
from structmat.compose import Product
from structmat.leaves.butterfly import Butterfly
from structmat.operator import LinearOperator

__all__ = ["Bound", "Kaleidoscope", "kaleidoscope"]


@dataclass(frozen=True)
class Bound:
    """What the theorem says of a circuit, without the constants that it leaves open.

    Attributes:
        depth: d of the circuit, at least 1.
        size: s, the wires of the circuit (its gates have any number of them), at least m and n.
    """

    depth: int
    size: int

    @property
    def params(self) -> float:
        """d s log2 s."""
        return self.depth * self.size * math.log2(max(self.size, 2))


@dataclass(frozen=True, eq=False)
class Kaleidoscope:
    """A matrix in (B B*)^w_e, made by :func:`structmat.circuit.kaleidoscope`.

    Attributes:
        operator: the product of the factors, its first m rows and n columns where it is larger.
        factors: M_1, M_2^*, M_3, ... as 2 w operators ``Butterfly`` of one size N, alternately of
            increasing and of decreasing stride.
        how: the constructions used.
        of: the operator or circuit it was made from.
    """

    operator: LinearOperator
    factors: tuple[Butterfly, ...]
    how: str
    of: LinearOperator | Circuit

    @property
    def width(self) -> int:
        """w: pairs of factors."""
        return len(self.factors) // 2

    @property
    def expansion(self) -> float:
        """e: the size of the factors over the larger side of the matrix."""
        return self.factors[0].shape[0] / max(self.operator.shape)

    @property
    def params(self) -> int:
        """Numbers in the factors, 4 w N log2 N; products that it takes to apply them."""
        return sum(b.twiddle.numel() for b in self.factors)

    @cached_property
    def bound(self) -> Bound:
        """The theorem's bound for the circuit that the matrix was made from, or ``circuit(of)``.

        Raises:
            TypeError: the operator has no circuit.
        """
        from structmat.circuit.words import circuit

        c = self.of if isinstance(self.of, Circuit) else circuit(self.of)
        return Bound(max(c.depth, 1), max(c.wires, *c.shape))

    def __repr__(self) -> str:
        m, n = self.operator.shape
        return (
            f"Kaleidoscope({m}x{n}: width {self.width}, expansion {self.expansion:g}, "
            f"params {self.params}; {self.how})"
        )


def kaleidoscope(A: LinearOperator | Circuit, dtype: torch.dtype | None = None) -> Kaleidoscope:
    """A matrix as a product of butterflies, M_1 M_2^* M_3 M_4^* ...

    Args:
        A: m x n, not a batch: ``Permutation``, ``Selection``, ``Diagonal``, ``Identity``, ``Zero``,
            ``Circulant``, ``Toeplitz``, ``Hankel``, ``DFT``, ``Hadamard``, ``LowRank``, ``Sparse``,
            ``Butterfly``; products, sums, multiples and transposes of these; or a
            :class:`structmat.circuit.Circuit`, which ``sm.circuit`` makes from most others.
        dtype: of the factors of structures without numbers; by default that of A, or torch's
            default dtype.

    Returns:
        The product with its width, its expansion, and the theorem's bound. Factors are complex
        where a Fourier transform is involved, also for a real A. Gradients reach the tensors of A.

    Raises:
        TypeError: a structure without a construction; its circuit, if it has one, does.
        ValueError: a batch, or a matrix without rows or columns.

    Source: Dao et al., ICLR 2020, arXiv 2012.14966. Width and expansion of each structure:
    width 1 for permutations, diagonal and rank-one matrices, Hadamard (natural order), circulant,
    Toeplitz and Hankel matrices; rank r has width 1 at r times the size, a sum of k the widest
    width at k times the size; a sparse matrix of s entries width 2 to 4 at a size >= s; DFT(2^k)
    width 2, other DFT(n) width 1 at a size >= 2n - 1; a circuit of depth d at most 4 d; a product
    at most the sum. Sizes are rounded up to powers of two.

    Example:
        >>> import torch, structmat as sm
        >>> k = sm.circuit.kaleidoscope(sm.DFT(8))
        >>> k
        Kaleidoscope(8x8: width 2, expansion 1, params 192; Fourier butterfly of a bit reversal)
        >>> k.width, k.expansion, k.params, k.bound
        (2, 1.0, 192, Bound(depth=4, size=54))
        >>> torch.allclose(k.operator.to_dense(), sm.DFT(8).to_dense(), atol=1e-5)
        True
    """
    if not isinstance(A, Circuit | LinearOperator):
        raise TypeError(f"kaleidoscope: {type(A).__name__} is no operator and no circuit")
    made = A.weights if isinstance(A, Circuit) else A
    own = A.dtype if isinstance(A, Circuit) else A.strong_dtype
    batch = tuple(A.weights.shape[:-1]) if isinstance(A, Circuit) else A.batch_shape
    if batch:
        raise ValueError(f"kaleidoscope: a batch of shape {batch}; take one matrix of it")
    if 0 in A.shape:
        raise ValueError(f"kaleidoscope: a matrix of shape {A.shape} has no entries")
    like = torch.empty((), dtype=dtype or own or torch.get_default_dtype(), device=made.device)
    words, how = words_of(A, like)
    factors = paired(fewest([words]))
    m, n = A.shape
    whole: LinearOperator = Product(*factors)
    inside = whole if whole.shape == (m, n) else whole[:m, :n]
    return Kaleidoscope(inside, tuple(factors), how, A)
