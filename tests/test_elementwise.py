"""Elementwise products: pairs of structures against the dense product, what they become, errors."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

import structmat as sm
from structmat.testing import check_operator

G = torch.Generator().manual_seed(0)
N = 8


def ints(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randint(-1, 2, shape, generator=G).to(dtype)


def dense(*shape: int) -> sm.Dense:
    return sm.Dense(ints(*shape))


PLACES = ([0, 1, 4, 4, 7], [1, 1, 2, 3, 7])
MASK = [[False, True, False, False], [True, False, False, False]]

KINDS: dict[str, sm.LinearOperator] = {
    "dense": dense(N, N),
    "low rank": sm.LowRank(ints(N, 2), ints(2, N)),
    "diagonal": sm.Diagonal(ints(3, N)),
    "identity": sm.Identity(N),
    "zero": sm.Zero(N),
    "permutation": sm.Permutation(torch.randperm(N, generator=G)),
    "selection": sm.Selection([0, 1, 1, 3, 2, 7, 7, 0], N),
    "places": sm.Selection([0, 1, 1, 3, 2, 7, 7, 0], N).T,
    "Toeplitz": sm.Toeplitz(ints(N), ints(N)),
    "Hermitian": sm.Toeplitz(torch.complex(ints(N), ints(N))),
    "circulant": sm.Circulant(ints(N)),
    "skew": sm.Circulant(ints(N), 1j),
    "Hankel": sm.Hankel(ints(N), ints(N)),
    "blocks": sm.BlockDiagonal(ints(3, 4, 2, 2)),
    "factor": sm.KroneckerSparse(ints(2, 2, 2, 2)),
    "sparse": sm.Sparse((ints(5), PLACES), shape=(N, N)),
    "block sparse": sm.BlockSparse(ints(2, 4, 2), MASK),
    "Kronecker": sm.kron(dense(2, 2), dense(4, 4)),
    "direct sum": sm.direct_sum(dense(3, 3), sm.reversal(5)),
    "block": sm.block([[dense(3, 3), dense(3, 5)], [0, sm.reversal(5)]]),
    "Kronecker sum": sm.kron_sum(dense(2, 2), dense(4, 4)),
    "sum": dense(N, N) + 2 * sm.reversal(N),
    "product": (sm.reversal(N) @ sm.Diagonal(ints(N))).T,
    "scaled": 3 * sm.LowRank(ints(N, 1), ints(1, N)).T,
    "butterfly": sm.Butterfly(ints(3, 4, 2, 2)),
}
PATTERNS = {
    "dense", "diagonal", "identity", "zero", "permutation", "selection", "places", "blocks",
    "factor", "sparse", "block sparse", "low rank", "scaled", "product", "sum",
}  # fmt: skip


@pytest.mark.parametrize("first", KINDS)
def test_pairs(first: str) -> None:
    """Every pair, against the product of the dense matrices; errors only where no rule applies."""
    a = KINDS[first]
    for second, b in islice(KINDS.items(), list(KINDS).index(first), None):
        pair = (a, b) if len(second) % 2 else (b, a)
        try:
            op = sm.elementwise(*pair)
        except ValueError:
            assert not {first, second} & PATTERNS, f"{first} o {second} should survive"
            continue
        want = a.to_dense() * b.to_dense()
        assert torch.equal(op.to_dense(), want)
        new, steps = sm.simplify(op, trace=True)
        assert torch.equal(new.to_dense(), want), f"{second}: " + "\n".join(map(str, steps))
        x = ints(2, *(1 for _ in op.batch_shape), N)
        got = op(x)
        torch.testing.assert_close(got, (want.to(got.dtype) @ x.to(got.dtype)[..., None])[..., 0])


CHECKED = [
    ("butterfly", "low rank"), ("dense", "skew"), ("blocks", "Hankel"),
    ("sparse", "Toeplitz"), ("direct sum", "circulant"), ("places", "dense"),
    ("product", "Kronecker"), ("Hermitian", "Hermitian"), ("permutation", "identity"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), CHECKED, ids=map(" o ".join, CHECKED))
def test_everything_an_operator_promises(first: str, second: str) -> None:
    check_operator(sm.elementwise(KINDS[first], KINDS[second]), backends=("torch",))


K = KINDS
BECOMES: list[tuple[str, str, str]] = [
    ("diagonal", "butterfly", "Diagonal(8)"),
    ("identity", "dense", "Diagonal(8)"),
    ("identity", "identity", "Identity(8)"),
    ("low rank", "scaled", "LowRank(8x8, rank=2)"),
    ("Toeplitz", "circulant", "Toeplitz(8x8)"),
    ("Hermitian", "Hermitian", "Toeplitz(8x8)"),
    ("circulant", "skew", "Circulant(8, f=0+1j)"),
    ("Hankel", "Hankel", "Hankel(8x8)"),
    ("blocks", "Toeplitz", "BlockDiagonal(4 of 2x2)"),
    ("factor", "butterfly", "KroneckerSparse(2,2,2,2)"),
    ("sparse", "Toeplitz", "Sparse(8x8, nnz=5)"),
    ("sparse", "sparse", "Sparse(8x8, nnz=5)"),
    ("block sparse", "Kronecker", "BlockSparse(2 of 4x2 in 2x4)"),
    ("Kronecker", "Kronecker", "kron(Dense(2x2), Dense(4x4))"),
    ("direct sum", "Toeplitz",
     "direct_sum(Dense(3x3), Diagonal(5) @ Permutation(affine(4*i + 4 mod 5)))"),
    ("dense", "Kronecker", "Dense(8x8)"),
    ("zero", "butterfly", "Zero(8x8)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "want"), BECOMES, ids=[" o ".join(b[:2]) for b in BECOMES]
)
def test_structure_survives(first: str, second: str, want: str) -> None:
    assert sm.elementwise(K[first], K[second]).simplify()._label() == want
    assert sm.elementwise(K[second], K[first]).simplify().to_dense().shape[-2:] == (N, N)


def test_low_rank_applies_the_other_operand_once_a_column() -> None:
    toeplitz = KINDS["Toeplitz"]
    op = sm.elementwise(KINDS["low rank"], toeplitz)
    mults, adds = toeplitz.operations()
    assert op.operations() == (2 * mults + 4 * N, 2 * adds + N)


def test_many_operands_and_scalars() -> None:
    a, b, c = dense(3, 4), sm.LowRank(ints(3, 1), ints(1, 4)), sm.Toeplitz(ints(3), ints(4))
    op = sm.elementwise(a, -2 * b, c.T.T)
    assert torch.equal(op.to_dense(), a.to_dense() * (-2 * b).to_dense() * c.to_dense())
    check_operator(op)


def test_simplified_operands_are_tried() -> None:
    op = sm.elementwise(KINDS["Hankel"] @ sm.reversal(N), KINDS["Toeplitz"])
    assert op.simplify()._label() == "Toeplitz(8x8)"


def test_parameters_are_those_given() -> None:
    w, v = ints(3, 3).requires_grad_(), ints(3, 3).requires_grad_()
    op = sm.elementwise(sm.Dense(w), sm.Dense(v))
    assert {id(t) for t in op.parameters()} == {id(w), id(v)}
    op(ints(3)).sum().backward()
    assert w.grad is not None
    assert v.grad is not None


ERRORS: list[tuple[str, Any, type[Exception], str]] = [
    ("one", lambda: sm.elementwise(dense(2, 2)), ValueError, "at least two operators, got 1"),
    ("tensor", lambda: sm.elementwise(dense(2, 2), ints(2, 2)), TypeError, r"sm\.Dense\(W\)"),  # type: ignore[arg-type]
    ("shape", lambda: sm.elementwise(dense(2, 2), dense(2, 3)), ValueError,
     r"Dense\(2x2\) of shape \(2, 2\) and Dense\(2x3\) of shape \(2, 3\) differ"),
    ("full", lambda: sm.elementwise(K["butterfly"], K["Toeplitz"]), ValueError,
     r"Butterfly\(8\) and Toeplitz\(8x8\).*sm\.elementwise\(sm\.Dense\(A\.to_dense\(\)\), B\)"),
    ("star", lambda: K["dense"] * K["dense"], TypeError, r"sm\.elementwise\(A, B\)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "kind", "hint"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS]
)
def test_errors(call: Any, kind: type[Exception], hint: str) -> None:
    with pytest.raises(kind, match=hint):
        call()


# linear algebra of what is composed -------------------------------------------------------------

COMPOSED: dict[str, sm.LinearOperator] = {
    "Kronecker sum": sm.kron_sum(dense(2, 2), dense(3, 3), dense(2, 2)),
    "Kronecker sum of batches": sm.kron_sum(dense(4, 2, 2), sm.Diagonal(ints(3))),
    "block triangular": sm.block([[dense(3, 3), dense(3, 2)], [0, dense(2, 2)]]),
    "block": sm.block([[dense(3, 2), dense(3, 3)], [dense(2, 2), dense(2, 1) @ dense(1, 3)]]),
    "slice": dense(9, 9)[1:7, ::-1][:, 3:],
    "selection": sm.Selection([2, 0, 2, 3], 4),
    "sparse": sm.Sparse((ints(5), PLACES), shape=(N, N)),
    "block sparse": sm.BlockSparse(ints(2, 4, 2), MASK),
    "elementwise": sm.elementwise(
        sm.LowRank(ints(5, 1), ints(1, 5)), sm.Toeplitz(ints(5), ints(5))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSED)
def test_linear_algebra_of_what_is_composed(name: str) -> None:
    op = COMPOSED[name]
    w = op.to_dense()
    if op.shape[0] == op.shape[1]:
        close = partial(torch.testing.assert_close, check_dtype=False, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(sm.trace(op), w.diagonal(0, -2, -1).sum(-1), check_dtype=False)
        close(sm.det(op), torch.linalg.det(w))
        # Power sums name the eigenvalues without their order, and without roots of defective ones.
        for k in (1, 2, 3):
            got = (sm.eigvals(op) ** k).sum(-1)
            power = torch.linalg.matrix_power(w, k).diagonal(0, -2, -1).sum(-1)
            close(got.real, power)
    for k in (-1, 0, 1):
        got = sm.diagonal(op, k)
        torch.testing.assert_close(got, w.diagonal(k, -2, -1), check_dtype=False)


def test_the_exponential_of_a_kronecker_sum_is_a_kronecker_product() -> None:
    op = sm.kron_sum(dense(2, 2), dense(3, 3))
    found = sm.expm(op)
    assert isinstance(found, sm.Kronecker)
    torch.testing.assert_close(found.to_dense(), torch.linalg.matrix_exp(op.to_dense()))


def test_methods_are_named() -> None:
    op = COMPOSED["block triangular"]
    assert "block triangular" in sm.eigvals(op, return_method=True).method
    assert "sums" in sm.eigvals(COMPOSED["Kronecker sum"], return_method=True).method
