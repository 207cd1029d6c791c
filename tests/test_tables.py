"""Tables of integers: their width, on devices and on disk, and the products that read them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor

import structmat as sm
from structmat.lowering.cache import _packed, _unpacked
from structmat.pattern import Pattern
from structmat.primitives.sparse import Csr
from structmat.tables import Table, index_tensor

CPU = torch.device("cpu")


def test_narrow_tables_are_int32() -> None:
    table = Table.of([0, 3, 2**31 - 1])
    narrow = table.narrowed()
    assert narrow != table
    assert narrow == table.narrowed()
    assert index_tensor(table, CPU).dtype == torch.int64
    assert index_tensor(narrow, CPU).dtype == torch.int32
    assert index_tensor(narrow, CPU).tolist() == [0, 3, 2**31 - 1]
    wide = Table.of([2**31])
    assert wide.narrowed() is wide
    assert Table.of([]).narrowed().narrow


@pytest.mark.parametrize("table", [Table.of([5, 0, -1]), Table.of([7, 2]).narrowed(), Table.of([])])
def test_tables_on_disk_keep_their_width(table: Table) -> None:
    read = _unpacked(_packed(table))
    assert read == table
    assert np.array_equal(read.array(), table.array())
    with pytest.raises((ValueError, KeyError)):
        _unpacked("f8 " + _packed(table).split(" ")[1])


def test_sparse_products_read_narrow_rows() -> None:
    pattern = Pattern.at((4, 5), np.array([1, 7, 8, 19]))
    csr = Csr(pattern)
    for op in (csr, csr.transposed()):
        assert [t.narrow for t in op.tables()[:2]] == [True, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
def test_products_do_not_read_what_they_write_over(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    matrix = scipy.sparse.random_array((30, 20), density=0.2, rng=rng).tocsr()
    A = sm.interop.from_scipy_sparse(matrix).to(dtype)
    x = torch.randn(20, 7, dtype=dtype)
    assert isinstance(A, sm.Sparse)
    want = A.to_dense() @ x

    def poisoned(self: Tensor, *size: int) -> Tensor:
        return self.new_full(size[0] if len(size) == 1 else size, math.nan)  # type: ignore[arg-type]

    f = sm.compile(A)
    f @ x
    monkeypatch.setattr(Tensor, "new_empty", poisoned)
    assert torch.allclose(A @ x, want, atol=1e-5)
    assert torch.allclose(f @ x, want, atol=1e-5)
    with torch.no_grad():
        A.values.mul_(2)  # compiled functions follow
    assert torch.allclose(f @ x, 2 * want, atol=1e-5)
