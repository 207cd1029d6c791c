"""Cauchy matrices.

    C[i, j] = 1 / (s_i - t_j),    0 <= i < m, 0 <= j < n

for nodes s, t that have no number in common. Displacement rank 1: diag(s) C - C diag(t) = 1 1^T.
The transpose is the Cauchy matrix of the nodes (-t, -s).

Only m + n numbers are stored. Cost per vector: m n products, as for a dense matrix, in tiles that
are made, multiplied and dropped, also in the backward pass. Real nodes, where m n / (m + n) is at
least 2048 (6144 for fewer than 16 vectors at a time), take sums of exponentials between sorted
blocks (:mod:`structmat.primitives.exponentials`): about 580 (m + n) products. Their error, relative
to sum_j |x_j| / |s_i - t_j|, was below 1e-13 in double and 1e-6 in single precision, no worse than
that of tiles in single precision, on even, random, normal and Chebyshev nodes, and below 1e-10 and
1e-6 where the logarithms of the nodes are even over twelve decades; if a target and a source with
64 nodes between them are closer than 1e-13 of the span of all nodes, the result is nan, and
``exact=True`` is the way out.

Complex nodes, where m n / (m + n) is at least 1024 (2048 in single precision, 4096 for fewer than
four vectors), take the fast multipole method (:mod:`structmat.primitives.multipoles`) where numbers
may be looked at, that is on a CPU and outside of torch's transforms: linear time on a circle, a
line, an area, in clusters; errors as above, at most 75 unit roundoffs in double precision as
measured. Nodes of so many scales that tiles cost less take tiles.

The exact algorithms with O(n log^2 n) operations go through polynomials and are unstable in
floating point (Pan, Structured matrices and polynomials, 2001, section 3.1), so none is used.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.leaves.toeplitz import join
from structmat.operator import LinearOperator, as_tensor
from structmat.primitives import Differences

__all__ = ["Cauchy"]


class Cauchy(LinearOperator):
    """C[i, j] = 1 / (s_i - t_j).

    Args:
        s: nodes of the rows, (..., m), real or complex.
        t: nodes of the columns, (..., n). Equal nodes give infinite entries; numbers are not looked
            at, :meth:`check_nodes` does.
        exact: always in tiles, also where there are many nodes.

    Raises:
        TypeError: integer s or t.
        ValueError: s or t has no dimension.

    Cost: m n products per vector, about 580 (m + n) for many real nodes; storage m + n. Source:
    Golub and Van Loan, Matrix computations, section 12.1.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Cauchy(torch.tensor([1.0, 2.0]), torch.tensor([0.0, -2.0])).to_dense()
        tensor([[1.0000, 0.3333],
                [0.5000, 0.2500]])
    """

    fields = ("s", "t")
    event_dims: ClassVar[dict[str, int]] = {"s": 1, "t": 1}
    s: Tensor
    t: Tensor
    exact: bool

    def __init__(self, s: Any, t: Any, exact: bool = False) -> None:
        nodes = {"s": as_tensor(s, "Cauchy: nodes s", 1), "t": as_tensor(t, "Cauchy: nodes t", 1)}
        self._init(nodes, static={"exact": exact})

    def _shape(self) -> tuple[int, int]:
        return self.s.shape[-1], self.t.shape[-1]

    def _lower(self, g: Builder, x: Any) -> Any:
        m, n = self.shape
        if m == 0 or n == 0:
            return g.zeros(x, m)
        return g.apply(x, Differences(m, n, fast=not self.exact), join(self.s, self.t))

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return 1 / (self.s.to(dtype)[..., :, None] - self.t.to(dtype)[..., None, :])

    def _transpose(self) -> LinearOperator:
        return Cauchy(-self.t, -self.s, self.exact)

    def check_nodes(self) -> float:
        """The least distance between a node of s and a node of t, in O(m n) time by tiles.

        Returns:
            The distance; infinity where there is no pair.

        Raises:
            ValueError: two nodes are equal, or a node is not a number.

        Example:
            >>> import torch, structmat as sm
            >>> sm.Cauchy(torch.tensor([1.0, 2.0]), torch.tensor([0.5])).check_nodes()
            0.5
        """
        least = float("inf")
        s, t = self.s.detach(), self.t.detach()
        step = max(1, (1 << 18) // max(1, t.numel()))
        for i in range(0, s.shape[-1] if t.shape[-1] else 0, step):
            gaps = (s[..., i : i + step, None] - t[..., None, :]).abs()
            gap = gaps.min().item() if gaps.numel() else least
            if not gap > 0:
                *_, row, column = (gaps == 0).nonzero()[0].tolist() if gap == 0 else (i, -1)
                where = f"s[..., {i + row}] == t[..., {column}]" if gap == 0 else "a node is nan"
                raise ValueError(
                    f"{self._label()}: {where}, so the matrix has entries that are no numbers; "
                    "nodes of the rows and of the columns must differ"
                )
            least = min(least, gap)
        return least
