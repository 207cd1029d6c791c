"""Weights in the layouts of other libraries for fast matrices, loaded exactly: no number changes.

- :func:`from_blockdiag_butterfly`: Monarch weights of HazyResearch/fly and Monarch Mixer,
  ``blockdiag_butterfly_multiply(x, w1, w2)`` with w1 (k, q, p) and w2 (l, s, r).
- :func:`from_torch_butterfly`: twiddles of torch_butterfly and torch-structured,
  (nstacks, nblocks, log2 n, n/2, 2, 2), in the order in which they are applied.
- :func:`from_lazylinop`, :func:`from_faust`: chains of Kronecker-sparse factors of lazylinop, and
  of sparse factors of FAuST.

The tests compare with the libraries where they are installed, and last did so with torch-structured
1.3.0, lazylinop 1.24.28 (which needs psutil and pandas without saying so) and pyfaust 3.41.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.compose import Product, vstack
from structmat.leaves.block import KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.monarch import Monarch
from structmat.operator import LinearOperator, as_tensor

__all__ = ["from_blockdiag_butterfly", "from_faust", "from_lazylinop", "from_torch_butterfly"]


def from_blockdiag_butterfly(w1: Any, w2: Any) -> Monarch:
    """The Monarch matrix of ``blockdiag_butterfly_multiply(x, w1, w2)``.

    h[b, k, q] = sum_p w1[k, q, p] x[b, k p]; then h is read as (r, l), l fastest, and
    y[b, (s, l)] = sum_r w2[l, s, r] h[b, r, l].

    Args:
        w1: (k, q, p), the factor that acts first.
        w2: (l, s, r), with l r = k q.

    Raises:
        TypeError: integer weights.
        ValueError: the inner sizes differ.

    Source: Dao et al., Monarch (ICML 2022); HazyResearch/fly, ``blockdiag_butterfly_multiply.py``.

    Example:
        >>> import torch, structmat as sm
        >>> sm.interop.from_blockdiag_butterfly(torch.ones(2, 3, 4), torch.ones(3, 5, 2)).shape
        (15, 8)
    """
    return Monarch(as_tensor(w2, "w2 (l, s, r)", 3), as_tensor(w1, "w1 (k, q, p)", 3))


def from_torch_butterfly(twiddle: Any, increasing_stride: bool = True) -> LinearOperator:
    """The matrix of ``butterfly_multiply(twiddle, x, increasing_stride)``.

    Each stack is a product of ``nblocks`` butterflies, the first acts first, and their strides
    alternate between increasing and decreasing. ``twiddle[s, b, i]`` holds the i-th factor that is
    applied, whose stride is 2^i where strides increase, n / 2^(i+1) where they decrease.

    Args:
        twiddle: (nstacks, nblocks, log2 n, n/2, 2, 2).
        increasing_stride: of the first block.

    Returns:
        The (nstacks n) x n operator: its stacks are below each other, as the outputs of
        ``torch_butterfly.Butterfly`` are. Cut rows and columns, ``A[:out_features, :in_features]``,
        for sizes that are no power of two: the layer pads x with zeros.

    Raises:
        TypeError: integer twiddle.
        ValueError: another shape.

    Source: HazyResearch/butterfly, ``butterfly_multiply_torch``.

    Example:
        >>> import torch, structmat as sm
        >>> sm.interop.from_torch_butterfly(torch.ones(2, 1, 3, 4, 2, 2)).shape
        (16, 8)
    """
    w = as_tensor(twiddle, "from_torch_butterfly: twiddle", 6)
    nstacks, nblocks, log_n, half = w.shape[:4]
    if w.ndim != 6 or w.shape[4:] != (2, 2) or min(nstacks, nblocks) < 1 or half != 1 << log_n - 1:
        raise ValueError(
            f"from_torch_butterfly: twiddle has shape {tuple(w.shape)}, needs "
            "(nstacks, nblocks, log2 n, n/2, 2, 2)"
        )
    stacks: list[LinearOperator] = []
    for stack in w:
        factors: list[LinearOperator] = []
        for b, block in enumerate(stack):
            increasing = increasing_stride == (b % 2 == 0)
            # ours is indexed by stride, theirs by time
            factors.append(Butterfly(block if increasing else block.flip(0), increasing))
        stacks.append(factors[0] if nblocks == 1 else Product(*reversed(factors)))
    if nstacks == 1:
        return stacks[0]
    return vstack(*stacks)


def from_lazylinop(op: Any) -> LinearOperator:
    """The chain of Kronecker-sparse factors that a lazylinop operator is.

    Args:
        op: what ``lazylinop.butterfly.ksm`` or ``ksd`` returns, or the list of its factors:
            arrays (a, b, c, d), the leftmost first. The layout is ours, so arrays share memory.

    Returns:
        A :class:`structmat.KroneckerSparse` for one factor, else a
        :class:`structmat.MonarchChain`.

    Raises:
        TypeError: an operator without Kronecker-sparse factors.

    Source: lazylinop.butterfly; Le, Zheng, Riccietti, Gribonval, Fast learning of fast transforms,
    with guarantees (2022).

    Example:
        >>> import numpy as np, structmat as sm
        >>> sm.interop.from_lazylinop([np.ones((1, 2, 3, 2)), np.ones((2, 3, 4, 1))])._label()
        'MonarchChain[(1,2,3,2), (2,3,4,1)]'
    """
    values = op if isinstance(op, list | tuple) else getattr(op, "ks_values", None)
    if values is None:
        raise TypeError(
            f"from_lazylinop: {type(op).__name__} has no Kronecker-sparse factors; it reads what "
            "lazylinop.butterfly.ksm and ksd return, or a list of arrays (a, b, c, d)"
        )
    factors = [KroneckerSparse(_tensor(v)) for v in values]
    return factors[0] if len(factors) == 1 else MonarchChain(factors)


def from_faust(
    op: Any, patterns: Sequence[tuple[int, int, int, int]] | None = None
) -> LinearOperator:
    """The product of sparse factors that a ``pyfaust.Faust`` is.

    Args:
        op: the Faust: ``op.numfactors()`` factors ``op.factors(i)``, the leftmost first.
        patterns: (a, b, c, d) of each factor, to load it as a Kronecker-sparse factor; by default
            factors are :class:`structmat.Sparse`, or :class:`structmat.Dense` where they are dense.

    Raises:
        ValueError: the number of patterns is another, a factor has another shape than its pattern,
            or an entry outside.

    Source: FAuST, https://faust.inria.fr.

    Example:
        >>> import numpy as np, structmat as sm
        >>> class Two:
        ...     def numfactors(self): return 2
        ...     def factors(self, i): return np.eye(4) * (i + 1)
        >>> sm.interop.from_faust(Two(), patterns=[(2, 2, 2, 1), (1, 2, 2, 2)])._label()
        'MonarchChain[(2,2,2,1), (1,2,2,2)]'
    """
    from structmat.interop.scipy_operators import from_scipy

    if not hasattr(op, "numfactors"):
        raise TypeError(
            f"from_faust: {type(op).__name__} is no Faust, it has no numfactors(); a list of "
            "arrays (a, b, c, d) is for from_lazylinop"
        )
    factors = [op.factors(i) for i in range(op.numfactors())]
    if patterns is None:
        parts = [from_scipy(f) for f in factors]
        return parts[0] if len(parts) == 1 else Product(*parts)
    if len(patterns) != len(factors):
        raise ValueError(f"from_faust: {len(patterns)} patterns for {len(factors)} factors")
    return from_lazylinop([_values(f, p) for f, p in zip(factors, patterns, strict=True)])


def _values(factor: Any, pattern: tuple[int, int, int, int]) -> Any:
    """The values (a, b, c, d) of a sparse or dense matrix with this pattern."""
    a, b, c, d = pattern
    if factor.shape != (a * b * d, a * c * d):
        raise ValueError(
            f"from_faust: a factor of shape {factor.shape} cannot have the pattern {pattern} of "
            f"shape {(a * b * d, a * c * d)}"
        )
    coo = factor.tocoo() if hasattr(factor, "tocoo") else None
    rows, columns = (coo.row, coo.col) if coo is not None else np.nonzero(factor)
    entries = coo.data if coo is not None else factor[rows, columns]
    (i, j), (k, l) = np.divmod(rows, b * d), np.divmod(columns, c * d)
    (j, row_digit), (l, column_digit) = np.divmod(j, d), np.divmod(l, d)
    outside = ((i != k) | (row_digit != column_digit)) & (entries != 0)
    if outside.any():
        at = int(outside.argmax())
        raise ValueError(
            f"from_faust: entry ({rows[at]}, {columns[at]}) of a factor is outside its pattern "
            f"{pattern}"
        )
    out = np.zeros(pattern, dtype=entries.dtype)
    np.add.at(out, (i, j, l, row_digit), np.where(outside, 0, entries))
    return out


def _tensor(value: Any) -> Tensor:
    return as_tensor(
        value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value)),
        "Kronecker-sparse values",
        4,
    )
