"""Sparse matrices: numbers, or blocks, at the positions of a static pattern.

    Sparse        y[i] = sum of values[k] x[column[k]] over the entries k of row i
    BlockSparse   the same with p x q blocks in place of numbers

The pattern is structure: immutable, hashed by content. The values are a tensor, one number (one
block) an entry in row-major order; leading dimensions make a batch that shares the pattern.
SciPy's and torch's formats are read by the constructor; duplicates are summed, as they do.

Cost: one product an entry, one sum for each but the first of a row; p q of both in a block.
Source: Davis, Direct methods for sparse linear systems (2006), chapter 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from structmat.builder import Builder, index_tensor
from structmat.operator import LinearOperator, as_tensor
from structmat.pattern import Pattern, canonical, expanded
from structmat.primitives import Bsr, Csr
from structmat.tables import Table
from structmat.tracing import need_static, of_numbers

__all__ = ["BlockSparse", "Sparse", "gathered", "scattered"]

LARGE = 32
"""Blocks with shorter sides act by the compressed rows of their numbers: the library's sparse
product was faster than a batched product of blocks of up to 16 x 16 on CPU and GPU, slower from
32 x 32 on.
"""


def gathered(values: Tensor, order: Table, dim: int = -1) -> Tensor:
    """``values[order]`` along ``dim``."""
    return values.index_select(dim, index_tensor(order, values.device))


def scattered(values: Tensor, entry: Table, size: int, dim: int = -1) -> Tensor:
    """Zeros of ``size`` along ``dim``, to which values[k] is added at entry[k]."""
    shape = list(values.shape)
    shape[dim] = size
    at = index_tensor(entry, values.device)
    return values.new_zeros(shape).index_add(dim, at, values)


class Sparse(LinearOperator):
    """A sparse matrix, from any sparse format of SciPy or torch, or from coordinates.

    Args:
        matrix: a SciPy sparse array or matrix of any format; a torch tensor of layout COO, CSR or
            CSC; a pair ``(values, (row, col))`` of values (..., nnz) and their coordinates; or a
            pair ``(values, pattern)`` with a :class:`structmat.pattern.Pattern`. Leading
            dimensions of the values make a batch of matrices of one pattern. Coordinates may come
            in any order, and values at the same place are added; where they are in row-major
            order without repeats, the tensor of values is kept as it is.
        shape: (m, n), where the matrix is given by coordinates.

    Raises:
        TypeError: a dense matrix, integer values, or coordinates that are not integers.
        ValueError: coordinates outside of the shape, numbers of values and of coordinates that
            differ, no shape, or a sparse tensor that is no matrix.

    Cost: nnz products, and nnz sums less one a row, for each vector.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Sparse((torch.tensor([1.0, 2.0, 3.0]), ([0, 1, 1], [2, 0, 1])), shape=(2, 3))
        >>> A.to_dense()
        tensor([[0., 0., 1.],
                [2., 3., 0.]])
        >>> A(torch.ones(3))
        tensor([1., 5.])
    """

    fields = ("values",)
    event_dims: ClassVar[dict[str, int]] = {"values": 1}
    values: Tensor
    pattern: Pattern

    def __init__(self, matrix: Any, shape: tuple[int, int] | None = None) -> None:
        values, pattern = _read(matrix, shape)
        self._init({"values": values}, (), {"pattern": pattern})
        self._check()

    def _check(self) -> None:
        have = self.values.shape[-1] if self.values.ndim else None
        if have != self.pattern.nnz:
            raise ValueError(
                f"Sparse: values of shape {tuple(self.values.shape)} for a pattern of "
                f"{self.pattern.nnz} entries; needs (..., {self.pattern.nnz})"
            )

    @property
    def nnz(self) -> int:
        """The number of entries."""
        return self.pattern.nnz

    def _shape(self) -> tuple[int, int]:
        return self.pattern.shape

    def _lower(self, g: Builder, x: Any) -> Any:
        if self.nnz == 0:
            return g.zeros(x, self.shape[0])
        return g.apply(x, Csr(self.pattern), self.values)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        m, n = self.shape
        at = index_tensor(self.pattern.rows, device) * n
        at = at + index_tensor(self.pattern.indices, device)
        flat = torch.zeros(*self.values.shape[:-1], m * n, dtype=dtype, device=device)
        return flat.index_copy(-1, at, self.values.to(dtype)).reshape(*flat.shape[:-1], m, n)

    def _transpose(self) -> Sparse:
        turned, order = self.pattern.turned
        return self._replace({"values": gathered(self.values, order)}, (), {"pattern": turned})

    def _label(self) -> str:
        m, n = self.shape
        return f"Sparse({m}x{n}, nnz={self.nnz})"


class BlockSparse(LinearOperator):
    """A grid of mb x nb blocks of one shape, zero outside of a mask.

    Args:
        blocks: (..., nnz, bm, bn), the blocks in the mask, row by row of the grid; leading
            dimensions make a batch of matrices of one mask.
        mask: (mb, nb), which blocks are there: booleans as a tensor, array or nested list, or a
            :class:`structmat.pattern.Pattern`.

    Raises:
        TypeError: integer blocks, or a mask that is not boolean.
        ValueError: a mask without two dimensions, or with another number of blocks.

    Cost: nnz bm bn products and as many sums, less one a row of the grid that has blocks.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.BlockSparse(torch.ones(2, 1, 2), [[False, True], [True, False]])
        >>> A.to_dense()
        tensor([[0., 0., 1., 1.],
                [1., 1., 0., 0.]])
    """

    fields = ("blocks",)
    event_dims: ClassVar[dict[str, int]] = {"blocks": 3}
    blocks: Tensor
    pattern: Pattern

    def __init__(self, blocks: Any, mask: Any) -> None:
        tensor = as_tensor(blocks, "BlockSparse: blocks (nnz, bm, bn)", 3)
        if not isinstance(mask, Pattern):
            need_static("BlockSparse: mask", mask)
            mask = _masked(mask)
        self._init({"blocks": tensor}, (), {"pattern": mask})
        self._check()

    def _check(self) -> None:
        have = self.blocks.shape[-3] if self.blocks.ndim >= 3 else None
        if have != self.pattern.nnz:
            mb, nb = self.pattern.shape
            raise ValueError(
                f"BlockSparse: blocks of shape {tuple(self.blocks.shape)} for a {mb} x {nb} mask "
                f"with {self.pattern.nnz} blocks; needs (..., {self.pattern.nnz}, bm, bn), "
                "row by row of the mask"
            )

    @property
    def block(self) -> tuple[int, int]:
        """(bm, bn), the shape of a block."""
        return self.blocks.shape[-2], self.blocks.shape[-1]

    @property
    def mask(self) -> Tensor:
        """(mb, nb), which blocks are there."""
        out = torch.zeros(self.pattern.shape, dtype=torch.bool)
        out[index_tensor(self.pattern.rows, out.device), self.columns(out.device)] = True
        return out.to(self.blocks.device)

    def columns(self, device: torch.device) -> Tensor:
        """(nnz,), the column of the grid of each block."""
        return index_tensor(self.pattern.indices, device)

    def _shape(self) -> tuple[int, int]:
        (mb, nb), (p, q) = self.pattern.shape, self.block
        return mb * p, nb * q

    def _lower(self, g: Builder, x: Any) -> Any:
        if 0 in self.blocks.shape[-3:]:
            return g.zeros(x, self.shape[0])
        if min(self.block) >= LARGE:
            return g.apply(x, Bsr(self.pattern, self.block), self.blocks)
        pattern, order = expanded(self.pattern, self.block)
        return g.apply(x, Csr(pattern), gathered(self.blocks.flatten(-3), order))

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        (mb, nb), (p, q) = self.pattern.shape, self.block
        at = index_tensor(self.pattern.rows, device) * nb + self.columns(device)
        lead = self.blocks.shape[:-3]
        grid = torch.zeros(*lead, mb * nb, p, q, dtype=dtype, device=device)
        grid = grid.index_copy(-3, at, self.blocks.to(dtype)).reshape(*lead, mb, nb, p, q)
        return grid.transpose(-3, -2).reshape(*lead, mb * p, nb * q)

    def _transpose(self) -> LinearOperator:
        turned, order = self.pattern.turned
        blocks = gathered(self.blocks, order, -3).mT
        return self._replace({"blocks": blocks}, (), {"pattern": turned})

    def _label(self) -> str:
        (mb, nb), (p, q) = self.pattern.shape, self.block
        return f"BlockSparse({self.pattern.nnz} of {p}x{q} in {mb}x{nb})"


@of_numbers
def _masked(mask: Any) -> Pattern:
    grid = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)
    if grid.size and grid.dtype != np.bool_:
        raise TypeError(f"BlockSparse: mask is {grid.dtype}, needs booleans: mask != 0")
    if grid.ndim != 2:
        raise ValueError(f"BlockSparse: mask has shape {grid.shape}, needs (mb, nb)")
    return Pattern.mask(grid.astype(np.bool_))


def _read(matrix: Any, shape: tuple[int, int] | None) -> tuple[Tensor, Pattern]:
    """Values (..., nnz) and pattern of any input."""
    if isinstance(matrix, tuple | list) and len(matrix) == 2:
        values = as_tensor(matrix[0], "Sparse: values", 1)
        if isinstance(matrix[1], Pattern):
            _no_shape(shape, matrix[1].shape)
            return values, matrix[1]
        return _from_coordinates(values, matrix[1], shape)
    import scipy.sparse  # here, because it takes as long to import as all of structmat

    if scipy.sparse.issparse(matrix):
        _no_shape(shape, matrix.shape)
        return _from_scipy(matrix)
    if isinstance(matrix, Tensor) and matrix.layout != torch.strided:
        _no_shape(shape, matrix.shape)
        return _from_torch(matrix)
    if isinstance(matrix, LinearOperator):
        raise TypeError(
            f"Sparse: {matrix._label()} is an operator; structmat.interop.to_scipy_sparse(A) "
            "multiplies out what is sparse"
        )
    raise TypeError(
        f"Sparse: {type(matrix).__name__} is no sparse matrix; needs a SciPy or torch sparse "
        "one, or (values, (row, col)) with shape=(m, n); for a dense W, "
        "sm.project(W, sm.Sparse, density=...) keeps its largest entries"
    )


def _no_shape(shape: tuple[int, int] | None, own: Sequence[int]) -> None:
    if shape is not None and tuple(shape) != tuple(own):
        raise ValueError(f"Sparse: shape={tuple(shape)}, but the matrix has shape {tuple(own)}")


def _from_scipy(matrix: Any) -> tuple[Tensor, Pattern]:
    if matrix.ndim != 2:
        raise ValueError(f"Sparse: the SciPy array has {matrix.ndim} dimensions, needs 2")
    rows = matrix.tocsr()
    if not rows.has_canonical_format:
        rows = rows.copy() if rows is matrix else rows
        rows.sum_duplicates()
    data = rows.data if rows.data.flags.writeable else rows.data.copy()
    return as_tensor(data, "Sparse: values"), Pattern.of(rows.shape, rows.indptr, rows.indices)


def _from_torch(matrix: Tensor) -> tuple[Tensor, Pattern]:
    compressed = matrix.layout in (torch.sparse_csr, torch.sparse_csc)
    if matrix.layout == torch.sparse_bsr:
        raise ValueError(
            "Sparse: a tensor of blocks; structmat.interop.from_torch_sparse makes a BlockSparse"
        )
    if not compressed and matrix.layout != torch.sparse_coo:
        raise TypeError(f"Sparse: a tensor of layout {matrix.layout}; needs COO, CSR or CSC")
    plain = matrix.ndim == 2 and matrix.dense_dim() == 0
    if not plain:
        raise ValueError(
            f"Sparse: the tensor has shape {tuple(matrix.shape)} with {matrix.dense_dim()} dense "
            "dimensions, needs a matrix; batches are (values, (row, col)), values (..., nnz)"
        )
    m, n = matrix.shape
    if matrix.layout == torch.sparse_csr:
        starts, columns = matrix.crow_indices().cpu().numpy(), matrix.col_indices().cpu().numpy()
        return _floating(matrix.values()), Pattern.of((m, n), starts, columns)
    if matrix.layout == torch.sparse_csc:
        starts, rows = matrix.ccol_indices().cpu().numpy(), matrix.row_indices().cpu().numpy()
        turned, order = Pattern.of((n, m), starts, rows).turned
        return gathered(_floating(matrix.values()), order), turned
    matrix = matrix.coalesce()
    return _from_coordinates(_floating(matrix.values()), tuple(matrix.indices()), (m, n))


def _floating(values: Tensor) -> Tensor:
    return as_tensor(values, "Sparse: values")


def _from_coordinates(
    values: Tensor, coordinates: Any, shape: tuple[int, int] | None
) -> tuple[Tensor, Pattern]:
    if not isinstance(coordinates, tuple | list | Tensor | np.ndarray) or len(coordinates) != 2:
        raise TypeError("Sparse: needs (values, (row, col)), one row and one column a value")
    if shape is None:
        raise ValueError("Sparse: coordinates do not tell the shape; pass shape=(m, n)")
    if len(shape) != 2 or not all(isinstance(s, int) and s >= 0 for s in shape):
        raise ValueError(f"Sparse: shape={shape!r} must be two non-negative integers")
    need_static("Sparse: (row, col)", coordinates)
    for c in coordinates:
        need_static("Sparse: (row, col)", c)
    pattern, order, entry = _placed(coordinates, (shape[0], shape[1]), tuple(values.shape))
    if order is not None:
        values = gathered(values, order)
    if entry is not None:
        values = scattered(values, entry, pattern.nnz)
    return values, pattern


@of_numbers
def _placed(
    coordinates: Any, shape: tuple[int, int], values: tuple[int, ...]
) -> tuple[Pattern, Table | None, Table | None]:
    """See :func:`structmat.pattern.canonical`."""
    rows, columns = (
        _integers(c, name, size)
        for c, name, size in zip(coordinates, ("row", "col"), shape, strict=True)
    )
    if not len(rows) == len(columns) == values[-1]:
        raise ValueError(
            f"Sparse: {len(rows)} rows and {len(columns)} columns for values of shape {values}; "
            "needs one of each for a value"
        )
    return canonical(rows, columns, shape)


def _integers(values: Any, name: str, size: int) -> NDArray[np.int64]:
    out = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if out.size and not np.issubdtype(out.dtype, np.integer):
        raise TypeError(f"Sparse: {name} is {out.dtype}, needs integers")
    if out.ndim != 1:
        raise ValueError(f"Sparse: {name} has shape {out.shape}, needs one dimension")
    if out.size and (out.min() < 0 or out.max() >= size):
        raise ValueError(
            f"Sparse: {name} ranges from {out.min()} to {out.max()}, outside of 0..{size - 1}"
        )
    return out.astype(np.int64)
