"""What an expression costs: parameters, real floating-point operations, compulsory bytes.

Counts are exact for the algorithm the expression spells (MATH: dense mn products and m(n-1) sums,
Kronecker-sparse abcd and abd(c-1), ...), per batch of vectors. A complex product counts 6 real
operations and a complex sum 2. Bytes are compulsory traffic: every parameter and every input read
once, every output written once, as if the whole chain ran on chip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sympy

__all__ = ["Cost", "dim"]


@dataclass(frozen=True)
class Cost:
    """Cost of applying an operator to a batch of vectors.

    Attributes:
        params: stored scalars; a tensor shared by several leaves counts once.
        flops: real floating-point operations (products plus sums).
        bytes: compulsory bytes moved.

    Each is an int, or a sympy expression when the batch is symbolic.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Dense(torch.ones(3, 4)).cost(batch=2)
        Cost(params=12, flops=42, bytes=104)
    """

    params: Any
    flops: Any
    bytes: Any


def dim(name: str) -> sympy.Symbol:
    """A symbolic dimension: a positive integer symbol of sympy, usable as a batch size.

    Args:
        name: how it prints.

    Returns:
        The symbol; two calls with one name give equal symbols.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Diagonal(torch.ones(8)).cost(batch=sm.dim("b")).flops
        8*b
    """
    import sympy

    return sympy.Symbol(name, integer=True, positive=True)
