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

    def latex(self) -> str:
        r"""The three lines as aligned equations of LaTeX, without dollar signs.

        Example:
            >>> import structmat as sm
            >>> print(sm.sized.Monarch(sm.dim("n")).cost().latex())
            \begin{aligned}
            \text{parameters} &= 2 n^{3/2} \\
            \text{flops} &= 4 n^{3/2} - 2 n \\
            \text{bytes} &= 8 n^{3/2} + 8 n
            \end{aligned}
        """
        from structmat.visual.latex import number

        names = {"parameters": self.params, "flops": self.flops, "bytes": self.bytes}
        lines = " \\\\\n".join(rf"\text{{{k}}} &= {number(v)}" for k, v in names.items())
        return f"\\begin{{aligned}}\n{lines}\n\\end{{aligned}}"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


def dim(name: str) -> sympy.Symbol:
    """A symbolic dimension: a positive integer symbol of sympy, usable as a batch size.

    Args:
        name: how it prints.

    Returns:
        The symbol; two calls with one name give equal symbols.

    Raises:
        TypeError: name is not a string.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Diagonal(torch.ones(8)).cost(batch=sm.dim("b")).flops
        8*b
    """
    import sympy

    if not isinstance(name, str):
        raise TypeError(f"dim: a dimension is named by a string, as in sm.dim('n'), got {name!r}")
    return sympy.Symbol(name, integer=True, positive=True)
