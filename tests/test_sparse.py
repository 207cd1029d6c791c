"""Sparse and block-sparse matrices against SciPy."""

from __future__ import annotations

import json
import pickle
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


def test_batches_and_products() -> None:
    p = pattern(6, 7)
    a = sm.Sparse((torch.randn(2, 1, p.nnz, dtype=torch.float64), p))
    b = sm.BlockSparse(torch.randn(3, p.nnz, 2, 1, dtype=torch.float64), p)
    inner = sm.Dense(torch.randn(3, 2).double())
    for op in (a, b, sm.kron(inner, a, sm.Identity(2)), b.T @ b + sm.Identity(7)):
        check_operator(op, backends=("torch",))


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_empty_and_full(density: float) -> None:
    p = pattern(5, 4, density)
    assert p.nnz in (0, 20)
    check_operator(sm.Sparse((torch.randn(p.nnz), p)), backends=("torch",))
    check_operator(sm.BlockSparse(torch.randn(p.nnz, 0, 3), p), backends=("torch",))
    check_operator(sm.BlockSparse(torch.randn(p.nnz, 2, 2), p), backends=("torch",))


def test_half_precision_sums_in_single() -> None:
    p = pattern(64, 64, 0.9)
    x = torch.randn(3, 64).bfloat16()
    for op in (
        sm.Sparse((torch.randn(p.nnz).bfloat16(), p)),
        sm.BlockSparse(torch.randn(p.nnz, 1, 1).bfloat16(), p),
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

    modes: tuple[Literal["real", "symbolic"], ...] = ("real", "symbolic")
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

    def apart(x: Tensor, v: Tensor, b: Tensor) -> Tensor:
        y: Tensor = sm.compile(sm.Sparse((v, p)))(x)
        return torch.cat([y, sm.compile(sm.BlockSparse(b, p))(x)], -1)

    assert torch.autograd.gradcheck(apart, (x, v, b), fast_mode=True)
    assert torch.autograd.gradgradcheck(apart, (x, v, b), fast_mode=True)


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
    """A million rows, one entry in each: nothing of quadratic size is made."""
    n = 1 << 20
    at = torch.arange(n)
    op = sm.Sparse((torch.full((n,), 2.0), (at, at)), shape=(n, n))
    assert torch.equal(op(torch.ones(n)), torch.full((n,), 2.0))
    assert op.cost(3).flops == 3 * n


# errors ------------------------------------------------------------------------------------------

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
