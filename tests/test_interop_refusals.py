"""A bridge reads the operators of its library: what is none of them is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

import structmat as sm
from structmat import interop

BRIDGES = [interop.from_cola, interop.from_linear_operator, interop.from_scipy]
SPARSE = scipy.sparse.csr_array(np.eye(3))


def every(bridge: Any) -> Any:
    """The bridge as a parameter; a library that is not here skips its own rows."""
    library = {"from_cola": "cola", "from_linear_operator": "linear_operator"}
    pytest.importorskip(library.get(bridge.__name__, "scipy"))
    return bridge


@pytest.mark.parametrize("bridge", BRIDGES)
@pytest.mark.parametrize(
    ("value", "way"),
    [
        (torch.eye(3), r"Tensor is a matrix, no operator of .*; sm.Dense\(W\) makes it one"),
        (torch.nn.Parameter(torch.eye(3)), r"Parameter is a matrix.*sm.Dense\(W\)"),
        (torch.eye(3).to_sparse(), r"Tensor is a matrix.*from_torch_sparse\(W\)"),
        (sm.Identity(3), r"Identity\(3\) is an operator of structmat already"),
        (sm.kron(sm.Identity(3), sm.DFT(2)), r"kron\(Identity\(3\), DFT\(2\)\) is an operator of"),
        ([[1.0]], "list is no "),
        (None, "NoneType is no "),
    ],
    ids=["tensor", "parameter", "sparse tensor", "ours", "ours of theirs' name", "list", "none"],
)
def test_nothing_becomes_dense_at_the_wrong_door(bridge: Any, value: object, way: str) -> None:
    with pytest.raises(TypeError, match=f"{bridge.__name__}: .*{way}"):
        every(bridge)(value)


@pytest.mark.parametrize("bridge", BRIDGES[:2])
@pytest.mark.parametrize(
    ("value", "way"),
    [(np.eye(3), r"ndarray is a matrix.*Dense\(W\)"), (SPARSE, r"from_scipy_sparse\(W\)")],
    ids=["array", "sparse array"],
)
def test_matrices_of_numpy_are_scipys_alone(bridge: Any, value: object, way: str) -> None:
    with pytest.raises(TypeError, match=f"{bridge.__name__}: .*{way}"):
        every(bridge)(value)
    assert isinstance(interop.from_scipy(value), sm.Dense | sm.Sparse)


def test_sparse_matrices_name_the_other_door() -> None:
    with pytest.raises(TypeError, match=r"Tensor is no SciPy sparse matrix; from_torch_sparse"):
        interop.from_scipy_sparse(torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match=r"csr_array is no sparse tensor; from_scipy_sparse"):
        interop.from_torch_sparse(SPARSE)
    for bridge in (interop.to_scipy_sparse, interop.to_torch_sparse):
        with pytest.raises(TypeError, match=r"Tensor is not an operator; wrap it: sm.Dense\(W\)"):
            bridge(torch.eye(3))  # type: ignore[arg-type]
