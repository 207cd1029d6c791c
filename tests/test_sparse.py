"""Sparse and block-sparse matrices against SciPy."""

from __future__ import annotations

import itertools
import json
import pickle
import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import structmat as sm
from structmat.operator import from_spec
from structmat.pattern import Pattern
from structmat.primitives import Bsr, Csr, Primitive
from structmat.sparsity import times
from structmat.testing import check_operator

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
SHAPES = [(0, 0), (0, 3), (4, 0), (1, 1), (1, 5), (7, 1), (13, 11), (8, 16)]
FORMATS = ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"]


def random_sparse(m: int, n: int, density: float = 0.3, seed: int = 0) -> Any:
    made = scipy.sparse.random_array((m, n), density=density, rng=seed, format="csr")
    return scipy.sparse.csr_array(made)


def pattern(m: int, n: int, density: float = 0.3, seed: int = 0) -> Pattern:
    a = random_sparse(m, n, density, seed)
    return Pattern.of(a.shape, a.indptr, a.indices)


# construction ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (6, 9)], ids=str)
@pytest.mark.parametrize("form", FORMATS)
def test_every_scipy_format(form: str, shape: tuple[int, int], kind: Any) -> None:
    if 0 in shape and form == "bsr":
        return  # SciPy has no block shape for it
    a = kind(random_sparse(*shape)).asformat(form)
    op = sm.Sparse(a)
    assert np.array_equal(op.to_dense().numpy(), a.toarray())
    assert op.dtype == torch.float64


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc], ids=str)
def test_every_torch_layout(layout: torch.layout) -> None:
    w = torch.from_numpy(random_sparse(6, 9).toarray())
    op = sm.Sparse(w.to_sparse(layout=layout))
    assert torch.equal(op.to_dense(), w)
    assert op.nnz == int((w != 0).sum())


def test_gradients_reach_a_torch_tensor() -> None:
    w = torch.from_numpy(random_sparse(4, 5).toarray()).to_sparse_coo().requires_grad_()
    sm.Sparse(w)(torch.ones(5, dtype=torch.float64)).sum().backward()
    assert w.grad is not None
    assert torch.equal(w.grad.to_dense(), (w.detach().to_dense() != 0).double())


def test_coordinates_in_order_keep_the_tensor() -> None:
    v = torch.randn(3, requires_grad=True)
    op = sm.Sparse((v, ([0, 0, 2], [1, 3, 0])), shape=(3, 4))
    assert op.values is v
    assert next(iter(op.parameters())) is v


def test_coordinates_in_any_order_are_sorted_and_added() -> None:
    g = torch.Generator().manual_seed(0)
    rows, cols = torch.randint(0, 5, (40,), generator=g), torch.randint(0, 4, (40,), generator=g)
    v = torch.randn(2, 40, dtype=torch.float64, requires_grad=True)
    op = sm.Sparse((v, (rows, cols)), shape=(5, 4))
    for i in range(2):
        want = scipy.sparse.coo_array((v[i].detach().numpy(), (rows, cols)), shape=(5, 4))
        np.testing.assert_allclose(op.to_dense()[i].detach().numpy(), want.toarray(), atol=1e-14)
    check_operator(op.simplify())
    sm.Sparse((v, (rows, cols)), shape=(5, 4))(torch.ones(4).double()).sum().backward()
    assert v.grad is not None
    assert torch.equal(v.grad, torch.ones_like(v))


def test_repeats_in_scipy_are_added() -> None:
    a = scipy.sparse.csr_array(([1.0, 2.0, 4.0], [1, 1, 0], [0, 3]), shape=(1, 2))
    assert sm.Sparse(a).to_dense().tolist() == [[4.0, 3.0]]
    assert a.nnz == 3, "the input was changed"


@dtypes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_operators(shape: tuple[int, int], dtype: torch.dtype) -> None:
    p = pattern(*shape)
    compiled = ("torch",) if dtype in (torch.float64, torch.complex64) else ()
    check_operator(sm.Sparse((torch.randn(p.nnz, dtype=dtype), p)), backends=compiled)
    check_operator(sm.BlockSparse(torch.randn(p.nnz, 2, 3, dtype=dtype), p), backends=compiled)
    if p.nnz < 4:
        large = torch.randn(p.nnz, 33, 32, dtype=dtype)
        check_operator(sm.BlockSparse(large, p), backends=compiled)


def test_batches_and_products() -> None:
    p = pattern(6, 7)
    a = sm.Sparse((torch.randn(2, 1, p.nnz, dtype=torch.float64), p))
    b = sm.BlockSparse(torch.randn(3, p.nnz, 2, 1, dtype=torch.float64), p)
    c = sm.BlockSparse(torch.randn(3, 2, 32, 33, dtype=torch.float64), [[True], [True]])
    inner = sm.Dense(torch.randn(3, 2).double())
    for op in (a, b, c, sm.kron(inner, a, sm.Identity(2)), b.T @ b + sm.Identity(7)):
        check_operator(op, backends=("torch",))


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_empty_and_full(density: float) -> None:
    p = pattern(5, 4, density)
    assert p.nnz in (0, 20)
    check_operator(sm.Sparse((torch.randn(p.nnz), p)), backends=("torch",))
    check_operator(sm.BlockSparse(torch.randn(p.nnz, 0, 3), p), backends=("torch",))
    check_operator(sm.BlockSparse(torch.randn(p.nnz, 2, 2), p), backends=("torch",))


@pytest.mark.gpu
@dtypes
def test_on_a_gpu(dtype: torch.dtype) -> None:
    p = pattern(13, 11)
    for op in (
        sm.Sparse((torch.randn(p.nnz, dtype=dtype), p)),
        sm.Sparse((torch.randn(2, p.nnz, dtype=dtype), p)),
        sm.BlockSparse(torch.randn(p.nnz, 2, 3, dtype=dtype), p),
        sm.BlockSparse(torch.randn(2, 32, 40, dtype=dtype), [[True, False], [False, True]]),
    ):
        check_operator(op.to("cuda"), backends=("torch",))


def test_half_precision_sums_in_single() -> None:
    p = pattern(64, 64, 0.9)
    x = torch.randn(3, 64).bfloat16()
    for op in (
        sm.Sparse((torch.randn(p.nnz).bfloat16(), p)),
        sm.BlockSparse(torch.randn(1, 64, 64).bfloat16(), [[True]]),
    ):
        want = (op.to_dense().double() @ x.double().mT).mT
        assert op(x).dtype == torch.bfloat16
        torch.testing.assert_close(op(x), want.bfloat16(), rtol=1e-2, atol=1e-2)


def test_patterns_are_structure() -> None:
    p, q = pattern(6, 7), pattern(6, 7)
    assert p == q
    assert hash(p) == hash(q)
    assert p != pattern(6, 7, seed=1)
    assert p.turned[0].turned[0] == p
    assert str(p) != str(pattern(6, 7, seed=1))
    op = sm.Sparse((torch.randn(p.nnz), p))
    again = from_spec(json.loads(json.dumps(op.spec())), op.named_tensors())
    assert again.structure == op.structure
    assert pickle.loads(pickle.dumps(p)) == p
    with pytest.raises(ValueError, match="read-only"):
        p.indices.array()[0] = 1
    twice = sm.Sparse((torch.randn(p.nnz), q))
    assert twice.structure == op.structure


@pytest.mark.parametrize(
    ("field", "value"), [("indptr", [0, 2]), ("indptr", [0, 2, 1, 3]), ("indices", [0, 5, 1])]
)
def test_damaged_files_are_refused(field: str, value: list[int]) -> None:
    op = sm.Sparse((torch.ones(3), ([0, 0, 2], [0, 1, 1])), shape=(3, 2))
    spec = op.spec()
    spec["static"]["pattern"]["pattern"][field] = value
    with pytest.raises(ValueError, match="pattern of 3 x 2"):
        from_spec(spec, op.named_tensors())


# the primitives ----------------------------------------------------------------------------------


def primitives() -> list[tuple[Primitive, Callable[[Tensor], Tensor]]]:
    """Primitives, and the matrix of their values (2, *values)."""
    p = pattern(7, 5)
    at = torch.from_numpy(p.keys.array().copy())

    def matrix(w: Tensor) -> Tensor:
        return w.new_zeros(*w.shape[:-1], 35).index_copy(-1, at, w).reshape(*w.shape[:-1], 7, 5)

    def grid(w: Tensor) -> Tensor:
        full = w.new_zeros(*w.shape[:-3], 35, 2, 3).index_copy(-3, at, w)
        full = full.reshape(*w.shape[:-3], 7, 5, 2, 3).transpose(-3, -2)
        return full.reshape(*w.shape[:-3], 14, 15)

    return [
        (Csr(p), matrix),
        (Csr(p).transposed(), lambda w: matrix(w).mT),
        (Bsr(p, (2, 3)), grid),
        (Bsr(p, (2, 3)).transposed(), lambda w: grid(w).mT),
    ]


every_primitive = pytest.mark.parametrize(("op", "matrix"), primitives(), ids=lambda p: str(p)[:20])


@every_primitive
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_primitives(op: Primitive, matrix: Any, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    assert op.values is not None
    w = torch.randn(2, 1, *op.values, dtype=dtype, generator=g, requires_grad=True)
    x = torch.randn(3, 2, 4, op.ins, 6, dtype=dtype, generator=g, requires_grad=True)
    want = matrix(w) @ x
    with torch.no_grad():  # generated modules run below autograd
        generated = type(op).function(x, w, *op.tensors(x.device), *op.args())
    for y in (op(x, w), generated):
        torch.testing.assert_close(y, want)
    cotangent = torch.randn(want[0].shape, dtype=dtype, generator=g)
    (values,) = torch.autograd.grad(want[0], w, cotangent, retain_graph=True)
    correlate = type(op).correlate
    assert correlate is not None
    for found in (
        op.gradient(x[0], cotangent),
        correlate(x[0].detach(), cotangent, *op.tensors(x.device), *op.args()),
    ):
        torch.testing.assert_close(found, values.squeeze(1))
    mapped = torch.vmap(op, in_dims=(1, 0))
    torch.testing.assert_close(mapped(x, w), want.movedim(1, 0))
    torch.testing.assert_close(torch.vmap(op, in_dims=(0, None))(x, w), want)

    def size(x: Tensor, w: Tensor) -> Tensor:
        return op(x, w).abs().sum()

    modes: tuple[Literal["real", "fake"], ...] = ("real", "fake")
    for mode in modes:
        traced = make_fx(torch.func.grad(size), tracing_mode=mode)
        (gx,) = torch.autograd.grad(want.abs().sum(), x, retain_graph=True)
        torch.testing.assert_close(traced(x, w)(x, w), gx)


@every_primitive
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_second_derivatives(op: Primitive, matrix: Any, dtype: torch.dtype) -> None:
    assert op.values is not None
    w = torch.randn(2, 1, *op.values, dtype=dtype, requires_grad=True)
    x = torch.randn(2, 1, op.ins, 1, dtype=dtype, requires_grad=True)
    assert torch.autograd.gradcheck(op, (x, w), check_batched_grad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(op, (x, w), check_batched_grad=True, fast_mode=True)


@every_primitive
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_forward_derivatives(op: Primitive, matrix: Any) -> None:
    assert op.values is not None
    w, dw = torch.randn(2, *op.values).double()
    x, dx = torch.randn(2, op.ins, 2).double()
    dy = torch.func.jvp(op, (x, w), (dx, dw))[1]
    torch.testing.assert_close(dy, matrix(dw) @ x + matrix(w) @ dx)


def test_the_library_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch.sparse has no product, generated code gathers and adds."""
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    for op, matrix in primitives()[:2]:
        w = torch.randn(2, *op.values or (), requires_grad=True)
        x, g = torch.randn(2, op.ins, 3), torch.randn(2, op.outs, 3)
        want = matrix(w) @ x
        torch.testing.assert_close(op(x, w), want)
        (values,) = torch.autograd.grad(want, w, g)
        torch.testing.assert_close(op.gradient(x[:, None], g[:, None]), values)


def test_compiled_second_derivatives() -> None:
    p = pattern(5, 4)
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    v = torch.randn(p.nnz, dtype=torch.float64, requires_grad=True)
    b = torch.randn(p.nnz, 2, 1, dtype=torch.float64, requires_grad=True)
    c = torch.randn(1, 32, 36, dtype=torch.float64, requires_grad=True)

    def apart(x: Tensor, v: Tensor, b: Tensor, c: Tensor) -> Tensor:
        wide = sm.BlockSparse(c, [[True], [False]]) @ sm.Dense(torch.ones(36, 4).double())
        ops = sm.Sparse((v, p)), sm.BlockSparse(b, p), wide
        return torch.cat([sm.compile(op)(x) for op in ops], -1)

    assert torch.autograd.gradcheck(apart, (x, v, b, c), fast_mode=True)
    assert torch.autograd.gradgradcheck(apart, (x, v, b, c), fast_mode=True)


def test_sources_run_alone(tmp_path: Any) -> None:
    """Generated modules need no structmat, and are found on disk with their tables."""
    p = pattern(5, 4)
    op = sm.Sparse((torch.randn(p.nnz), p))
    f = sm.compile(op)
    assert "structmat" not in f.source.split('"""', 2)[2]
    assert f.source.count("tables[") == 2
    scope: dict[str, Any] = {}
    exec(compile(f.source, "generated", "exec"), scope)
    tables = [torch.from_numpy(t.array().copy()) for t in Csr(p).tables()]
    x = torch.randn(3, 4)
    torch.testing.assert_close(scope["run"]([x], [op.values], tables)[0], op(x))


def test_memory_follows_the_entries() -> None:
    """Many rows, one entry in each: nothing of quadratic size is made."""
    n = 1 << 18
    at = torch.arange(n)
    op = sm.Sparse((torch.full((n,), 2.0), (at, at)), shape=(n, n))
    assert torch.equal(op(torch.ones(n)), torch.full((n,), 2.0))
    assert op.cost(3).flops == 3 * n


# algebra ------------------------------------------------------------------------------------------

G = torch.Generator().manual_seed(1)


def ints(*shape: int) -> Tensor:
    return torch.randint(-1, 2, shape, generator=G).double()


def sparse(m: int, n: int, density: float = 0.3, seed: int = 0) -> sm.Sparse:
    p = pattern(m, n, density, seed)
    return sm.Sparse((ints(p.nnz), p))


def blocks(seed: int = 0, p: int = 2, q: int = 3) -> sm.BlockSparse:
    mask = pattern(3, 4, 0.4, seed)
    return sm.BlockSparse(ints(mask.nnz, p, q), mask)


A, B, C = sparse(6, 8), sparse(6, 8, seed=1), sparse(8, 5, 0.05)
P, Q = sm.Permutation([3, 0, 5, 1, 2, 4]), sm.Permutation(torch.randperm(8, generator=G))
D, E = sm.Diagonal(ints(6)), sm.Diagonal(ints(8))
K, L = blocks(), blocks(seed=1)
Square = sparse(6, 6, 0.9)
Full = sm.Sparse((ints(36), Pattern.full(6, 6)))

CASES: list[tuple[str, sm.LinearOperator, str]] = [
    ("sum", A + B, r"Sparse\(6x8, nnz=2\d\)"),
    ("difference", A - B, r"Sparse\(6x8, nnz=2\d\)"),
    ("multiple", 3 * A, r"Sparse\(6x8, nnz=14\)"),
    ("transpose", A.T, r"Sparse\(8x6, nnz=14\)"),
    ("scaled by diagonals", D @ A @ E, r"Sparse\(6x8, nnz=14\)"),
    ("renumbered", P @ A @ Q, r"Sparse\(6x8, nnz=14\)"),
    ("back again", P.T @ P @ A @ Q @ Q.T, r"Sparse\(6x8, nnz=14\)"),
    ("thin product", A @ C, r"Sparse\(6x5, nnz=\d\)"),
    (
        "a product that fills stays",
        sparse(12, 12) @ sparse(12, 12, seed=1),
        r"Sparse\(12x12, nnz=43\) @ Sparse\(12x12, nnz=43\)",
    ),
    ("with a diagonal", Square + D, r"Sparse\(6x6, nnz=3\d\)"),
    ("with what it covers", Full + 2 * sm.Identity(6) - P, r"Dense\(6x6\)"),
    ("without room", sparse(6, 6, 0.1) + sm.Identity(6), r"Sparse\(6x6, nnz=4\) \+ Identity\(6\)"),
    ("into dense", sm.Dense(ints(6, 8)) + A - B, r"Dense\(6x8\)"),
    ("beside", sm.direct_sum(A, B), r"Sparse\(12x16, nnz=28\)"),
    ("nothing", sparse(3, 4, 0.0), r"Zero\(3x4\)"),
    ("full", sparse(3, 4, 1.0), r"Dense\(3x4\)"),
    ("diagonal", sm.Sparse((ints(4), Pattern.diagonal(4))), r"Diagonal\(4\)"),
    ("rows", A[1:4], r"Sparse\(3x8, nnz=\d\)"),
    ("rows and columns", A[[4, 0, 4], ::2], r"Sparse\(3x4, nnz=\d\)"),
    ("rows of blocks", K[2:6], r"BlockSparse\(\d of 2x3 in 2x4\)"),
    ("a row of every block", K[::2, 1::3], r"Sparse\(3x4, nnz=5\)"),
    ("blocks of one mask", K + 2 * K.T.T - K, r"BlockSparse\(5 of 2x3 in 3x4\)"),
    ("blocks of two masks", K - L, r"BlockSparse\(\d of 2x3 in 3x4\)"),
    ("blocks scaled", sm.Diagonal(ints(6)) @ K @ sm.Diagonal(ints(12)), r"BlockSparse\(5 of .*"),
    ("blocks transposed", K.T, r"BlockSparse\(5 of 3x2 in 4x3\)"),
    ("full mask", sm.BlockSparse(ints(6, 2, 1), Pattern.full(2, 3)), r"Dense\(4x3\)"),
    ("diagonal mask", sm.BlockSparse(ints(3, 2, 1), np.eye(3) == 1), r"BlockDiagonal\(3 of 2x1\)"),
    ("blocks of one", blocks(0, 1, 1), r"Sparse\(3x4, nnz=5\)"),
]


@pytest.mark.parametrize(("op", "want"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_simplified(op: sm.LinearOperator, want: str) -> None:
    new, steps = sm.simplify(op, trace=True)
    assert re.fullmatch(want, new._label()), [new._label(), *map(str, steps)]
    assert torch.equal(new.to_dense(), op.to_dense())


def test_no_blocks_fit_anything() -> None:
    nothing = sm.BlockSparse(torch.zeros(0, 1, 2), Pattern.full(0, 0))
    for op in (nothing, sm.BlockDiagonal(torch.zeros(0, 1, 2))):
        assert (op @ op).simplify()._label() == "Zero(0x0)"


def test_products_are_those_of_scipy() -> None:
    for seed in range(5):
        a, b = random_sparse(9, 7, 0.2, seed), random_sparse(7, 11, 0.2, seed + 50)
        made = times(sm.Sparse(a), sm.Sparse(b))
        np.testing.assert_allclose(made.to_dense().numpy(), (a @ b).toarray(), atol=1e-15)
        assert made.nnz == (a @ b).nnz


@pytest.mark.parametrize("op", [A, K, Square, blocks(2, 3, 3)], ids=lambda op: op._label())
def test_what_patterns_say(op: sm.LinearOperator) -> None:
    dense = op.to_dense()
    rows, columns = dense.nonzero().unbind(-1)
    lower, upper = sm.bandwidth(op)
    assert lower >= int((rows - columns).max())
    assert upper >= int((columns - rows).max())
    assert sm.rank_bound(op) >= int(torch.linalg.matrix_rank(dense))
    torch.testing.assert_close(sm.norm(op), dense.norm())
    for kind in (1, float("inf")):
        found = sm.norm(op, kind, return_method=True)
        torch.testing.assert_close(found.value, torch.linalg.matrix_norm(dense, kind))
        assert "columns" not in found.method
    for offset in (0, 2, -1):
        answer = sm.diagonal(op, offset, return_method=True)
        assert torch.equal(answer.value, dense.diagonal(offset))
        assert answer.method == "entries by structure"


def test_triangular_patterns() -> None:
    lower = sm.Sparse(scipy.sparse.tril(random_sparse(7, 7), format="csr"))
    assert sm.is_triangular(lower, "lower")
    assert sm.is_triangular(lower.T, "upper")
    assert sm.is_triangular(lower) is True
    full = sm.BlockSparse(ints(3, 2, 2), np.tril(np.ones((2, 2), bool)))
    assert not sm.is_triangular(full, "upper")
    assert sm.bandwidth(full) == (3, 1)


EXPRESSIONS: list[sm.LinearOperator] = [
    A,
    K,
    D,
    Q,
    sm.Identity(3),
    sm.Zero(2, 5),
    sm.BlockDiagonal(ints(3, 2, 4)),
    sm.KroneckerSparse(ints(2, 3, 2, 4)),
    sm.Monarch(ints(4, 3, 3), ints(3, 4, 4)),
    sm.Butterfly(ints(3, 4, 2, 2)),
    sm.kron(A, sm.Identity(2), K),
    sm.direct_sum(A, P, sm.Zero(1, 2), K.T),
    D @ A @ Q.T - 2 * B,
    (A @ C).T,
    sm.block([[A, 0], [sm.BlockDiagonal(ints(2, 3, 4)), K[:, :12]]]),
    sm.kron_sum(P, Square, sm.Identity(2)),
    sm.Sum(A, B)[[4, 1, 1], 2:7],
    sm.Scaled(torch.tensor(2.0).double(), A) @ sm.BlockDiagonal(ints(2, 4, 1)),
]


@pytest.mark.parametrize("op", EXPRESSIONS, ids=lambda op: op._label()[:40])
def test_expressions_go_out_and_back(op: sm.LinearOperator) -> None:
    dense = op.to_dense()
    for form in FORMATS:
        if 0 in op.shape or (form == "dia" and max(op.shape) > 50):
            continue  # SciPy warns of many diagonals
        out = sm.interop.to_scipy_sparse(op, form)
        assert out.format == form
        assert out.shape == op.shape
        assert np.array_equal(out.toarray(), dense.numpy())
    for layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_coo):
        made = sm.interop.to_torch_sparse(op, layout)
        assert made.layout == layout
        assert torch.equal(made.to_dense(), dense)
        assert torch.equal(sm.interop.from_torch_sparse(made).to_dense(), dense)
    back = sm.interop.from_scipy_sparse(sm.interop.to_scipy_sparse(op))
    assert torch.equal(back.to_dense(), dense)


def test_nothing_dense_is_made_on_the_way_out() -> None:
    n = 1 << 10
    big = sm.kron(sm.Diagonal(torch.ones(n)), sm.reversal(n)) @ sm.Identity(n * n)
    assert sm.interop.to_scipy_sparse(big).nnz == n * n


def test_blocks_go_out_and_back() -> None:
    a = sm.interop.to_scipy_sparse(K, "bsr")
    assert a.blocksize == (2, 3)
    for back in (
        sm.interop.from_scipy_sparse(a),
        sm.interop.from_torch_sparse(sm.interop.to_torch_sparse(K, torch.sparse_bsr)),
    ):
        assert back.structure == K.structure
        assert torch.equal(back.to_dense(), K.to_dense())


def test_gradients_reach_the_tensors_through_torch_sparse() -> None:
    v = ints(A.nnz).requires_grad_()
    d = ints(6).requires_grad_()
    op = sm.Diagonal(d) @ sm.Sparse((v, A.pattern))
    x = ints(8, 2)
    grads = [
        torch.autograd.grad(y.sum(), [v, d]) for y in (sm.interop.to_torch_sparse(op) @ x, op @ x)
    ]
    for a, b in zip(*grads, strict=True):
        assert torch.equal(a, b)


def test_what_is_dense_does_not_go_out() -> None:
    with pytest.raises(TypeError, match=r"Toeplitz\(3x3\) has a part whose matrix is dense"):
        sm.interop.to_scipy_sparse(sm.Toeplitz(torch.ones(3)))
    with pytest.raises(ValueError, match=r"batch of shape \(2,\)"):
        sm.interop.to_torch_sparse(sm.Diagonal(torch.ones(2, 3)))
    with pytest.raises(ValueError, match=r"no torch\.sparse_bsr of Diagonal"):
        sm.interop.to_torch_sparse(sm.Diagonal(torch.ones(3)), torch.sparse_bsr)
    with pytest.raises(TypeError, match=r"SciPy has no torch\.bfloat16"):
        sm.interop.to_scipy_sparse(sm.Diagonal(torch.ones(3)).to(torch.bfloat16))
    with pytest.raises(TypeError, match="ndarray is not an operator"):
        sm.interop.to_scipy_sparse(np.eye(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ndarray is no SciPy sparse matrix"):
        sm.interop.from_scipy_sparse(np.eye(2))
    with pytest.raises(TypeError, match="Tensor is no sparse tensor"):
        sm.interop.from_torch_sparse(torch.eye(2))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sm.interop.nothing


# projection ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128, torch.bfloat16], ids=str)
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_projection_keeps_the_largest(density: float, dtype: torch.dtype) -> None:
    w = torch.randn(12, 10, generator=G).to(dtype)
    p = sm.project(w, sm.Sparse, density=density)
    assert isinstance(p.operator, sm.Sparse)
    assert p.operator.nnz == round(density * 120)
    left = w.flatten().abs().float().sort().values[: 120 - p.operator.nnz]
    want = left.double().square().sum().sqrt()
    for found in (p.error, p.lower_bound, p.certificate.tail.flatten().norm()):
        torch.testing.assert_close(found.double(), want, rtol=1e-5, atol=1e-6)
    gap = (w - p.operator.to_dense()).flatten().abs().float().norm()
    torch.testing.assert_close(gap.double(), want, rtol=1e-5, atol=1e-6)
    again = sm.project(w, sm.Sparse, nnz=round(density * 120))
    assert again.operator.structure == p.operator.structure


def test_projection_is_best_among_all_patterns() -> None:
    w = torch.randn(2, 3, dtype=torch.float64, generator=G)
    best = min(
        float(w.flatten()[list(left)].norm()) for left in itertools.combinations(range(6), 4)
    )
    p = sm.project(w, sm.Sparse, nnz=2)
    assert abs(float(p.error) - best) < 1e-14
    assert bool(p.certificate.unique)
    assert not bool(sm.project(torch.ones(2, 2), sm.Sparse, nnz=2).certificate.unique)


def test_projection_onto_blocks() -> None:
    w = torch.randn(8, 9, dtype=torch.float64, generator=G)
    p = sm.project(w, sm.BlockSparse, block=(2, 3), density=0.5)
    assert isinstance(p.operator, sm.BlockSparse)
    assert p.operator.pattern.nnz == 6
    norms = w.unflatten(1, (3, 3)).unflatten(0, (4, 2)).square().sum((1, 3)).flatten()
    want = norms.sort().values[:6].sum().sqrt()
    torch.testing.assert_close(p.error, want)
    torch.testing.assert_close(p.lower_bound, want)
    kept = p.operator.to_dense() != 0
    assert torch.equal(p.operator.to_dense()[kept], w[kept])
    torch.testing.assert_close((w - p.operator.to_dense()).norm(), want)


def test_projection_of_a_batch_shares_the_pattern() -> None:
    w = torch.randn(3, 2, 6, 4, dtype=torch.float64, generator=G)
    for p in (
        sm.project(w, sm.Sparse, density=0.25),
        sm.project(w, sm.BlockSparse, block=(3, 2), nblocks=1),
    ):
        assert p.error.shape == p.lower_bound.shape == (3, 2)
        assert bool((p.lower_bound <= p.error + 1e-12).all())
        gap = (w - p.operator.to_dense()).flatten(-2).norm(dim=-1)
        torch.testing.assert_close(p.error, gap)
    equal = sm.project(w[:1, :1].expand(3, 2, 6, 4), sm.Sparse, nnz=5)
    torch.testing.assert_close(equal.error, equal.lower_bound)


# errors -------------------------------------------------------------------------------------------

ERRORS: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: sm.Sparse(torch.eye(3)), TypeError, "Tensor is no sparse matrix.*density"),
    (lambda: sm.Sparse(np.eye(3)), TypeError, "ndarray is no sparse matrix"),
    (lambda: sm.Sparse(sm.Identity(3)), TypeError, r"Identity\(3\) is an operator"),
    (
        lambda: sm.Sparse(scipy.sparse.eye_array(3, dtype=np.int64, format="csr")),
        TypeError,
        "values is torch.int64.*convert",
    ),
    (
        lambda: sm.Sparse(scipy.sparse.coo_array(np.ones(3))),
        ValueError,
        "1 dimensions, needs 2",
    ),
    (lambda: sm.Sparse((torch.ones(2), ([0, 1], [0, 1]))), ValueError, r"pass shape=\(m, n\)"),
    (
        lambda: sm.Sparse((torch.ones(2), ([0, 1], [0, 2])), shape=(2, 2)),
        ValueError,
        "col ranges from 0 to 2, outside of 0..1",
    ),
    (
        lambda: sm.Sparse((torch.ones(2), ([0, -1], [0, 1])), shape=(2, 2)),
        ValueError,
        "row ranges from -1",
    ),
    (
        lambda: sm.Sparse((torch.ones(2), ([0, 1, 1], [0, 1, 0])), shape=(2, 2)),
        ValueError,
        r"3 rows and 3 columns for values of shape \(2,\)",
    ),
    (
        lambda: sm.Sparse((torch.ones(2), ([0.0, 1.0], [0, 1])), shape=(2, 2)),
        TypeError,
        "row is float64, needs integers",
    ),
    (
        lambda: sm.Sparse((torch.ones(1), ([[0]], [[0]])), shape=(2, 2)),
        ValueError,
        r"row has shape \(1, 1\)",
    ),
    (
        lambda: sm.Sparse((torch.ones(2), ([0, 1], [0, 1])), shape=(2, -2)),
        ValueError,
        "two non-negative integers",
    ),
    (
        lambda: sm.Sparse((torch.ones(2), [0, 1, 1]), shape=(2, 2)),
        TypeError,
        r"needs \(values, \(row, col\)\)",
    ),
    (
        lambda: sm.Sparse(random_sparse(3, 4), shape=(4, 3)),
        ValueError,
        r"shape=\(4, 3\), but the matrix has shape \(3, 4\)",
    ),
    (
        lambda: sm.Sparse(torch.ones(2, 2, 2).to_sparse_coo()),
        ValueError,
        r"shape \(2, 2, 2\) with 0 dense",
    ),
    (
        lambda: sm.Sparse(torch.ones(2, 2).to_sparse_bsr((1, 1))),
        ValueError,
        "from_torch_sparse makes a BlockSparse",
    ),
    (
        lambda: sm.Sparse((torch.ones(2), pattern(3, 3, 1.0))),
        ValueError,
        r"values of shape \(2,\) for a pattern of 9 entries",
    ),
    (
        lambda: sm.BlockSparse(torch.ones(2, 2, 2), [[True, True], [True, False]]),
        ValueError,
        r"blocks of shape \(2, 2, 2\) for a 2 x 2 mask with 3 blocks; needs \(..., 3, bm, bn\)",
    ),
    (
        lambda: sm.BlockSparse(torch.ones(2, 2, 2), torch.eye(2)),
        TypeError,
        "mask is float32, needs booleans",
    ),
    (
        lambda: sm.BlockSparse(torch.ones(2, 2, 2), torch.ones(2, dtype=torch.bool)),
        ValueError,
        r"mask has shape \(2,\)",
    ),
    (lambda: sm.project(torch.eye(3), sm.Sparse), ValueError, "either density or nnz"),
    (lambda: sm.project(torch.eye(3), sm.Sparse, density=1.5), ValueError, "density=1.5 must be"),
    (lambda: sm.project(torch.eye(3), sm.Sparse, nnz=10), ValueError, "nnz=10 must be .* 0 to 9"),
    (
        lambda: sm.project(torch.eye(3), sm.BlockSparse, block=(2, 3), density=0.5),
        ValueError,
        "blocks of 2 x 3 do not divide W of 3 x 3",
    ),
    (
        lambda: sm.project(torch.eye(3), sm.BlockSparse, block=2, density=0.5),
        ValueError,
        "block is 2, needs two positive",
    ),
    (
        lambda: sm.BlockSparse(torch.ones(2, 2), torch.ones(2, 1, dtype=torch.bool)),
        ValueError,
        "needs at least 3 dimensions",
    ),
    (
        lambda: sm.BlockSparse(torch.ones(1, 1, 1).int(), [[True]]),
        TypeError,
        "blocks.*torch.int32",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[e[2][:30] for e in ERRORS])
def test_errors(call: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("turned", [False, True])
def test_block_products_in_several_pieces(turned: bool) -> None:
    """More results than are made at a time: the last piece is shorter, rows go on in the next."""
    gen = torch.Generator().manual_seed(3)
    mask = torch.rand(24, 20, generator=gen) < 0.95
    blocks = torch.randint(-2, 3, (int(mask.sum()), 32, 32), generator=gen).double()
    x = torch.randint(-2, 3, (70, 768 if turned else 640), generator=gen).double()
    assert blocks.shape[0] * 32 * 70 > 1.5 * max(2**19, 70 * 768)
    w = blocks.clone().requires_grad_()
    A = sm.BlockSparse(w, mask)
    op = A.T if turned else A
    y, dense = op(x), x @ op.to_dense().mT
    assert torch.equal(y, dense)
    assert torch.equal(sm.compile(op)(x), dense)
    found, want = (torch.autograd.grad(v.square().sum(), w)[0] for v in (y, dense))
    assert torch.equal(found, want)
