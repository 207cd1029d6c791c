"""Block matrices and Kronecker sums against NumPy, their rules and their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import structmat as sm
from structmat.testing import check_operator

G = torch.Generator().manual_seed(0)
DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


def ints(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randint(-1, 2, shape, generator=G).to(dtype)


def dense(*shape: int, dtype: torch.dtype = torch.float64) -> sm.Dense:
    return sm.Dense(ints(*shape, dtype=dtype))


# against NumPy ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("heights", [(3,), (2, 0, 5)], ids=str)
@pytest.mark.parametrize("widths", [(4,), (1, 3, 0)], ids=str)
def test_block(heights: tuple[int, ...], widths: tuple[int, ...], dtype: torch.dtype) -> None:
    blocks = [[ints(m, n, dtype=dtype) for n in widths] for m in heights]
    op = sm.block([list(map(sm.Dense, row)) for row in blocks])
    assert np.array_equal(np.asarray(op), np.block([[b.numpy() for b in r] for r in blocks]))
    check_operator(op, exact=True, backends=("torch",))


def test_stacks() -> None:
    a, b, c = ints(3, 2), ints(3, 4), ints(2, 4)
    assert torch.equal(sm.hstack(sm.Dense(a), b).to_dense(), torch.hstack([a, b]))
    assert torch.equal(sm.vstack(sm.Dense(b), c.numpy()).to_dense(), torch.vstack([b, c]))
    assert torch.equal(sm.vstack([b, c]).to_dense(), torch.vstack([b, c]))
    assert torch.equal(sm.block([a, b]).to_dense(), torch.hstack([a, b]))


def test_zero_blocks_take_their_shape_from_neighbours() -> None:
    op = sm.block([[0, dense(2, 3), None], [dense(4, 1), 0.0, dense(4, 2)]])
    assert op.grid == (2, 3)
    assert op.shape == (6, 6)
    assert [type(c) for c in op.children[:1]] == [sm.Zero]
    check_operator(op, exact=True)


def test_batches_broadcast() -> None:
    op = sm.block([[dense(2, 3, 4), dense(5, 1, 3, 2)], [sm.Identity(4), 0]])
    assert op.batch_shape == (5, 2)
    check_operator(op, exact=True, backends=("torch",))


def test_lifted_blocks() -> None:
    op = sm.kron(sm.block([[dense(2, 3), 0], [sm.reversal(3), dense(3, 2)]]), dense(2, 3))
    check_operator(op, exact=True, backends=("torch",))


def test_cost_is_the_sum_of_the_blocks() -> None:
    a, b, c = dense(4, 5), sm.Monarch(ints(2, 2, 3), ints(3, 2, 2)), sm.Diagonal(ints(3))
    op = sm.block([[a, b], [0, sm.kron(c, sm.Dense(ints(1, 2)))]])
    flops = sum(sum(x.operations()) for x in op.children)
    assert sum(op.operations()) == flops + 4


@pytest.mark.parametrize("sizes", [(3,), (2, 3), (1, 4, 2), (2, 0), (2, 2, 2, 2)], ids=str)
def test_kronecker_sum(sizes: tuple[int, ...]) -> None:
    parts = [ints(n, n) for n in sizes]
    op = sm.kron_sum(*map(sm.Dense, parts))
    want = torch.zeros(op.shape, dtype=torch.float64)
    for i, p in enumerate(parts):
        term = torch.ones(1, 1, dtype=torch.float64)
        for j, n in enumerate(sizes):
            term = torch.kron(term, p if i == j else torch.eye(n, dtype=torch.float64))
        want = want + term
    assert torch.equal(op.to_dense(), want)
    check_operator(op, exact=True, backends=("torch",))


def test_kronecker_sum_of_batches_and_eigenvalues() -> None:
    op = sm.kron_sum(dense(2, 3, 3), sm.kron_sum(dense(2, 2), dense(2, 1, 1)))
    assert len(op.children) == 3
    check_operator(op, exact=True)
    a, b = sm.Diagonal(torch.tensor([1.0, 2.0])), sm.Diagonal(torch.tensor([10.0, 20.0]))
    assert sm.kron_sum(a, b).to_dense().diag().tolist() == [11.0, 21.0, 12.0, 22.0]


# simplified ------------------------------------------------------------------------------------

P, Q = sm.stride_permutation(6, 2), sm.reversal(6)
B = sm.Butterfly(ints(2, 2, 2, 2))
U = ints(6, 1)
V = ints(1, 6)
W = dense(3, 3)

CASES: list[tuple[str, sm.LinearOperator, str]] = [
    ("diagonal only", sm.block([[P, 0], [0, dense(3, 2)]]),
     f"direct_sum({P._label()}, Dense(3x2))"),
    ("permutations", sm.block([[P, 0], [0, P.T]]) @ sm.block([[P.T, 0], [0, P]]), "Identity(12)"),
    ("zeros", sm.block([[sm.Zero(2, 3), 0], [0, sm.Zero(1, 2)]]), "Zero(3x5)"),
    ("dense", sm.block([[dense(2, 2), dense(2, 1)], [dense(1, 2), dense(1, 1)]]), "Dense(3x3)"),
    ("one block", sm.block([[P]]), P._label()),
    ("empty lines", sm.block([[dense(0, 2), dense(0, 6)], [dense(6, 2), P]]),
     f"block([[Dense(6x2), {P._label()}]])"),
    ("row times column", sm.hstack(dense(2, 3), dense(2, 4)) @ sm.vstack(dense(3, 2), dense(4, 2)),
     "Dense(2x2)"),
    ("unit triangular", sm.block([[sm.Identity(3), W], [0, sm.Identity(3)]])
     @ sm.block([[sm.Identity(3), -W], [0, sm.Identity(3)]]), "Identity(6)"),
    ("sum", sm.block([[P, Q], [0, P]]) - sm.block([[P, Q], [0, P]]), "Zero(12x12)"),
    ("sum with a direct sum", sm.block([[dense(2, 2), P[:2]], [0, Q]]) + sm.direct_sum(
        dense(2, 2), sm.Identity(6)),
     f"block([[Dense(2x2), {P[:2].simplify()._label()}], "
     f"[Zero(6x2), {Q._label()} + Identity(6)]])"),
    ("common left factor", sm.hstack(B @ sm.reversal(4), B @ dense(4, 2)),
     f"Butterfly(4) @ block([[{sm.reversal(4)._label()}, Dense(4x2)]])"),
    ("common right factor", sm.vstack(sm.reversal(4) @ B, dense(2, 4) @ B),
     f"block([[{sm.reversal(4)._label()}], [Dense(2x4)]]) @ Butterfly(4)"),
    ("low-rank row", sm.hstack(sm.LowRank(U, ints(1, 5)), sm.LowRank(U, ints(1, 7))),
     "LowRank(6x12, rank=1)"),
    ("low-rank column", sm.vstack(sm.LowRank(ints(5, 1), V), sm.LowRank(ints(7, 1), V)),
     "LowRank(12x6, rank=1)"),
    ("scalar", sm.hstack(2 * P, 2 * Q), f"2 * block([[{P._label()}, {Q._label()}]])"),
    ("blocks of blocks", sm.hstack(sm.vstack(dense(1, 2), dense(2, 2)), dense(3, 4)),
     "Dense(3x6)"),
    ("scaled rows", sm.Diagonal(ints(8)) @ sm.block([[dense(2, 2), 0], [dense(6, 2), P @ P.T]])
     @ sm.direct_sum(sm.Diagonal(ints(2)), sm.Identity(6)),
     "Diagonal(8) @ block([[Dense(2x2), Zero(2x6)], [Dense(6x2), Identity(6)]])"),
    ("Kronecker sum of zero", sm.kron_sum(dense(2, 2), sm.Zero(3)),
     "kron(Dense(2x2), Identity(3))"),
    ("Kronecker sums add", sm.kron_sum(W, P) + sm.kron_sum(W, Q),
     f"kron_sum(Dense(3x3), {P._label()} + {Q._label()})"),
    ("transposed Kronecker sum", sm.kron_sum(W, P).T,
     f"kron_sum(Dense(3x3), {P.T.simplify()._label()})"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "want"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_simplified(op: sm.LinearOperator, want: str) -> None:
    new, steps = sm.simplify(op, trace=True)
    assert new._label() == want, "\n".join(map(str, steps))
    assert torch.equal(new.to_dense(), op.to_dense())


def test_full_block_matrices_are_not_multiplied_out() -> None:
    """Eight products for four: the product of two block matrices stays one."""
    blocks = [[sm.Monarch(ints(3, 3, 3), ints(3, 3, 3)) for _ in range(2)] for _ in range(2)]
    op = sm.block(blocks) @ sm.block(blocks)
    assert op.simplify() is op


# errors ----------------------------------------------------------------------------------------

ERRORS: list[tuple[str, Any, type[Exception], str]] = [
    ("not rows", lambda: sm.block(dense(2, 2)), TypeError, r"\[\[A, B\], \[C, D\]\]"),  # type: ignore[arg-type]
    ("empty", lambda: sm.block([]), ValueError, "got an empty list"),
    ("empty row", lambda: sm.block([[dense(2, 2)], []]), ValueError, "got an empty list"),
    ("empty stack", lambda: sm.hstack(), ValueError, "got an empty list"),
    ("empty column", lambda: sm.vstack(), ValueError, "got an empty list"),
    ("ragged", lambda: sm.block([[dense(2, 2), dense(2, 2)], [dense(2, 2)]]), ValueError,
     "row 0 has 2 blocks, row 1 has 1; write 0 where a block is zero"),
    ("height", lambda: sm.hstack(dense(2, 2), dense(3, 2)), ValueError,
     r"block \(0, 1\), Dense\(3x2\) of shape \(3, 2\), needs 2 rows like block \(0, 0\), Dense"),
    ("width", lambda: sm.vstack(dense(2, 2), dense(3, 4)), ValueError,
     r"block \(1, 0\), Dense\(3x4\).*needs 2 columns like block \(0, 0\)"),
    ("unknown zero", lambda: sm.block([[dense(2, 2), 0]]), ValueError,
     r"zero block \(0, 1\) is unknown, column 1 has no other block; write sm.Zero\(m, n\)"),
    ("nonzero number", lambda: sm.block([[dense(2, 2), 3]]), TypeError,
     r"block \(0, 1\) is int; needs an operator, a matrix, or 0"),
    ("integers", lambda: sm.block([[torch.ones(2, 2, dtype=torch.int64)]]), TypeError,
     r"block \(0, 0\) is torch.int64.*convert"),
    ("vector", lambda: sm.block([[torch.ones(2)]]), ValueError, "at least 2 dimensions"),
    ("Kronecker sum", lambda: sm.kron_sum(dense(2, 2), dense(2, 3)), ValueError,
     r"Dense\(2x3\) of shape \(2, 3\) is not square"),
    ("no Kronecker sum", lambda: sm.kron_sum(), ValueError, "at least one operator"),
    ("star", lambda: dense(2, 2) * dense(2, 2), TypeError,
     r"A @ B is the matrix product, sm.elementwise\(A, B\)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "kind", "hint"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS]
)
def test_errors(call: Any, kind: type[Exception], hint: str) -> None:
    with pytest.raises(kind, match=hint):
        call()


def test_powers_are_cheap_to_build() -> None:
    op = sm.block([[W, 0], [W, sm.Identity(3)]])
    assert len((op**50).children) == 50
    assert (op**0)._label() == "Identity(6)"
    assert torch.equal((op**3).to_dense(), torch.linalg.matrix_power(op.to_dense(), 3))
