"""Operators and weights of other libraries come in and go out unchanged.

Tests of a library that is not installed are skipped and say so: ``structmat[interop]`` brings
cola-ml and linear_operator; lazylinop (with psutil), torch-structured and pyfaust are tested where
they are installed.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from market import MARKET, entries
from torch import Tensor

import structmat as sm
from structmat.interop.safetensors import load, save
from structmat.operator import from_spec

r = entries(5)


def optional(name: str) -> Any:
    """The module, or a visible skip; what it warns at import is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (ImportError, AttributeError) as error:  # lazylinop without pandas
            pytest.skip(f"{name} cannot be imported: {error}")


# SciPy -------------------------------------------------------------------------------------------

SINGLE = [k for k, make in MARKET.items() if not make(entries(1)).batch_shape]


@pytest.mark.parametrize("name", SINGLE)
def test_aslinearoperator(name: str) -> None:
    op = MARKET[name](entries(1))
    if op.dtype == torch.float64:
        op = sm.kron(op, sm.Dense(torch.tensor([[1 + 1j]]))) if op.shape[0] < 10 else op
    theirs = sm.interop.aslinearoperator(op)
    w = op.to_dense().numpy()
    m, n = op.shape
    x, y = r(n, 3).numpy(), r(m, 3).numpy()
    assert theirs.shape == (m, n)
    assert theirs.dtype == w.dtype
    for got, want in (
        (theirs.matvec(x[:, 0]), w @ x[:, 0]),
        (theirs.matvec(x[:, :1]), w @ x[:, :1]),
        (theirs.matmat(x), w @ x),
        (theirs.rmatvec(y[:, 0]), w.conj().T @ y[:, 0]),
        (theirs.rmatmat(y), w.conj().T @ y),
        (theirs @ x.astype(int), w @ x),
        (theirs.H @ y, w.conj().T @ y),
        (theirs.T @ y, w.T @ y),
        ((2 * theirs) @ x[::-1], 2 * w @ x[::-1]),
    ):
        np.testing.assert_allclose(got, want, atol=1e-9)
    assert sm.interop.from_scipy(theirs) is op


def test_aslinearoperator_in_scipys_solvers() -> None:
    c = torch.tensor([4.0, -1.0, 0.5, 0, 0, 0], dtype=torch.float64, requires_grad=True)
    op = sm.Toeplitz(c)
    theirs = sm.interop.aslinearoperator(op)
    b = np.arange(6.0)
    x, info = scipy.sparse.linalg.cg(theirs, b, rtol=1e-12)
    assert info == 0
    np.testing.assert_allclose(op.to_dense().detach().numpy() @ x, b, atol=1e-9)
    top = scipy.sparse.linalg.eigsh(theirs, k=1, return_eigenvectors=False)
    want = np.linalg.eigvalsh(op.to_dense().detach().numpy())[-1]
    np.testing.assert_allclose(top, [want], atol=1e-9)


def test_from_scipy() -> None:
    a, b = r(4, 4).numpy(), scipy.sparse.csr_array(r(4, 4).numpy())
    asop = scipy.sparse.linalg.aslinearoperator
    x = 1j * r(4, 4).numpy()
    cases = {
        "array": (a, a),
        "sparse": (b, b.toarray()),
        "matrix": (asop(a), a),
        "sparse_operator": (asop(b), b.toarray()),
        "adjoint": (asop(x).H, x.conj().T),
        "sparse_adjoint": (asop(b).H, b.toarray().T),
        "transpose": (asop(x).T, x.T),
        "sum": (asop(a) + asop(b), a + b.toarray()),
        "difference": (asop(a) - asop(b), a - b.toarray()),
        "product": (asop(a) * asop(b), a @ b.toarray()),
        "product_adjoint": ((asop(x) * asop(b)).H, (x @ b.toarray()).conj().T),
        "scaled": (2 * asop(a), 2 * a),
        "power": (asop(a) ** 3, np.linalg.matrix_power(a, 3)),
    }
    for name, (theirs, want) in cases.items():
        got = sm.interop.from_scipy(theirs).to_dense().numpy()
        np.testing.assert_allclose(got, want, atol=1e-12, err_msg=name)


def test_scipy_refusals() -> None:
    function = scipy.sparse.linalg.LinearOperator((2, 2), matvec=lambda v: v, dtype=float)
    with pytest.raises(TypeError, match=r"sm\.Dense\(op @ np\.eye"):
        sm.interop.from_scipy(function)
    with pytest.raises(ValueError, match="batch of shape"):
        sm.interop.aslinearoperator(sm.Dense(r(3, 2, 2)))
    with pytest.raises(TypeError, match="NumPy has no"):
        sm.interop.aslinearoperator(sm.Dense(torch.ones(2, 2, dtype=torch.bfloat16)))
    with pytest.raises(ValueError, match="move it"):
        sm.interop.aslinearoperator(sm.Dense(r(2, 2)).to("meta"))
    with pytest.raises(TypeError, match="needs an operator"):
        sm.interop.aslinearoperator(np.eye(2))  # type: ignore[arg-type]


# files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MARKET)
def test_safetensors_of_every_operator(name: str, tmp_path: Path) -> None:
    op = MARKET[name](entries(1))
    op = sm.assume(op, real=True)
    z = sm.Scaled(2j, op.T) if op.shape[0] < 10 else op
    save(tmp_path / "f.safetensors", {"op": op, "z": z})
    for key, want in (("op", op), ("z", z)):
        got = load(tmp_path / "f.safetensors")[key]
        assert isinstance(got, sm.LinearOperator)
        assert got.structure == want.structure
        assert got.assumed == want.assumed
        assert torch.equal(got.to_dense(), want.to_dense())
        assert len(list(got.parameters())) == len(list(want.parameters())), "sharing is kept"


def test_complex_numbers_from_files_are_aligned(tmp_path: Path) -> None:
    # torch reads complex128 in units of 16 bytes and crashes where they start between two
    for size in range(1, 9):
        c = torch.randn(size, dtype=torch.complex128)
        for name in ("A", "AB", "ABC", "ABCDEFGHIJK"):
            save(tmp_path / "f", {name: sm.Circulant(c), "x": torch.ones(3, dtype=torch.float64)})
            got = load(tmp_path / "f")[name]
            assert isinstance(got, sm.Circulant)
            assert got.c.data_ptr() % 16 == 0
            assert torch.equal(got.c, c)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "os.system"},
        {"kind": "Structure"},
        {"static": {"n": 3, "dtype": {"dtype": "load"}}},
        {"static": {"n": 3, "dtype": {"dtype": "__class__"}}},
    ],
)
def test_files_name_classes_and_dtypes_only(change: dict[str, Any]) -> None:
    spec = {**sm.Identity(3).spec(), **change}
    with pytest.raises(ValueError, match=r"unknown operator class|is no dtype"):
        from_spec(spec, {})


# weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "q", "p", "l", "s", "t"), [(2, 2, 2, 2, 2, 2), (4, 3, 5, 6, 7, 2), (3, 4, 2, 2, 5, 6)]
)
def test_blockdiag_butterfly(k: int, q: int, p: int, l: int, s: int, t: int) -> None:
    """The index formula, written out: h[k, q] = w1 x, then (r, l) with l fastest, y[s, l]."""
    w1, w2, x = r(k, q, p), r(l, s, t), r(3, k * p)
    want = torch.zeros(3, s, l, dtype=torch.float64)
    for b in range(3):
        h = [
            sum((w1[kk, qq, pp] * x[b, kk * p + pp]).item() for pp in range(p))
            for kk in range(k)
            for qq in range(q)
        ]
        for ll in range(l):
            for ss in range(s):
                want[b, ss, ll] = sum(w2[ll, ss, rr].item() * h[rr * l + ll] for rr in range(t))
    op = sm.interop.from_blockdiag_butterfly(w1, w2)
    assert torch.equal(op(x), want.reshape(3, s * l))
    assert op.right is w1
    assert op.left is w2


def test_blockdiag_butterfly_of_torch_structured() -> None:
    theirs = optional("torch_structured.monarch.blockdiag_butterfly_multiply")
    w1, w2, x = r(4, 3, 5), r(6, 7, 2), r(3, 20)
    want = theirs.blockdiag_butterfly_multiply_reference(x, w1, w2)
    assert torch.equal(sm.interop.from_blockdiag_butterfly(w1, w2)(x), want)


def butterfly_multiply(twiddle: Tensor, x: Tensor, increasing: bool) -> Tensor:
    """HazyResearch/butterfly's definition: factor i of block b, applied in that order."""
    nstacks, nblocks, log_n = twiddle.shape[:3]
    n = 1 << log_n
    out = x
    for b in range(nblocks):
        up = increasing == (b % 2 == 0)
        for i in range(log_n):
            stride = 1 << (i if up else log_n - 1 - i)
            t = twiddle[:, b, i].reshape(nstacks, n // (2 * stride), stride, 2, 2)
            t = t.permute(0, 1, 3, 4, 2)
            pairs = out.reshape(-1, nstacks, n // (2 * stride), 1, 2, stride)
            out = (t * pairs).sum(4).reshape(-1, nstacks, n)
    return out


TWIDDLES = [(1, 1, 3, True), (1, 1, 3, False), (1, 2, 3, True), (2, 3, 2, False), (3, 1, 1, True)]


@pytest.mark.parametrize(("nstacks", "nblocks", "log_n", "increasing"), TWIDDLES)
def test_torch_butterfly(nstacks: int, nblocks: int, log_n: int, increasing: bool) -> None:
    n = 1 << log_n
    twiddle, x = r(nstacks, nblocks, log_n, n // 2, 2, 2), r(4, n)
    op = sm.interop.from_torch_butterfly(twiddle, increasing)
    stacked = x[:, None].expand(4, nstacks, n)
    want = butterfly_multiply(twiddle, stacked, increasing)
    assert torch.equal(op(x), want.reshape(4, nstacks * n))


@pytest.mark.parametrize(("nstacks", "nblocks", "log_n", "increasing"), TWIDDLES)
def test_torch_butterfly_of_torch_structured(
    nstacks: int, nblocks: int, log_n: int, increasing: bool
) -> None:
    optional("torch_structured")
    theirs = optional("torch_structured._torch_ref.butterfly")
    n = 1 << log_n
    twiddle, x = r(nstacks, nblocks, log_n, n // 2, 2, 2), r(4, n)
    stacked = x[:, None].expand(4, nstacks, n)
    want = theirs.butterfly_multiply_torch(twiddle, stacked, increasing)
    assert torch.equal(butterfly_multiply(twiddle, stacked, increasing), want)
    op = sm.interop.from_torch_butterfly(twiddle, increasing)
    assert torch.equal(op(x), want.reshape(4, nstacks * n))


def test_torch_butterfly_layer() -> None:
    """A layer with sizes that are no powers of two: x is padded, outputs are cut."""
    twiddle, x = r(2, 1, 2, 2, 2, 2), r(5, 3)
    op = sm.interop.from_torch_butterfly(twiddle)[:7, :3]
    padded = torch.cat([x, torch.zeros(5, 1, dtype=torch.float64)], -1)
    want = butterfly_multiply(twiddle, padded[:, None].expand(5, 2, 4), True).reshape(5, 8)[:, :7]
    assert torch.equal(op(x), want)
    with pytest.raises(ValueError, match="nstacks, nblocks"):
        sm.interop.from_torch_butterfly(r(1, 1, 3, 2, 2, 2))


@pytest.mark.filterwarnings("ignore")
def test_lazylinop() -> None:
    optional("lazylinop")
    butterfly = optional("lazylinop.butterfly")
    values = [r(1, 2, 3, 4).numpy(), r(3, 4, 2, 1).numpy()]
    theirs = butterfly.ksm(values)
    op = sm.interop.from_lazylinop(theirs)
    assert isinstance(op, sm.MonarchChain)
    x = r(6, 2).numpy()
    for factor, v in zip(op.factors(), values, strict=True):
        np.testing.assert_array_equal(factor.values.numpy(), v)
    np.testing.assert_allclose(op.to_dense().numpy(), theirs.toarray(), atol=1e-12)
    np.testing.assert_allclose((op @ torch.from_numpy(x)).numpy(), theirs @ x, atol=1e-12)
    chain = butterfly.Chain([(1, 2, 2, 4), (2, 2, 2, 2), (4, 2, 2, 1)])
    hadamard = sm.Hadamard(8, dtype=torch.float64)
    factored = butterfly.ksd(hadamard.to_dense().numpy(), chain)
    got = sm.interop.from_lazylinop(factored)
    np.testing.assert_allclose(got.to_dense().numpy(), factored.toarray(), atol=1e-12)
    torch.testing.assert_close(got.to_dense(), hadamard.to_dense())
    one = sm.interop.from_lazylinop(butterfly.ksm([torch.ones(2, 3, 1, 2)]))
    assert isinstance(one, sm.KroneckerSparse)


def test_lists_of_kronecker_sparse_values() -> None:
    values = [r(1, 2, 3, 4), r(3, 4, 2, 1)]
    op = sm.interop.from_lazylinop(values)
    assert isinstance(op, sm.MonarchChain)
    assert [f.values is v for f, v in zip(op.factors(), values, strict=True)] == [True, True]
    theirs = SimpleNamespace(ks_values=[v.numpy() for v in values])  # what ksm and ksd return
    read = sm.interop.from_lazylinop(theirs)
    assert isinstance(read, sm.MonarchChain)
    assert torch.equal(read.to_dense(), op.to_dense())
    assert all(
        f.values.data_ptr() == v.data_ptr() for f, v in zip(read.factors(), values, strict=True)
    )
    with pytest.raises(TypeError, match="no Kronecker-sparse factors"):
        sm.interop.from_lazylinop(3)


class FakeFaust:
    """The two methods that are read of a pyfaust.Faust."""

    def __init__(self, factors: list[Any]) -> None:
        self.parts = factors

    def numfactors(self) -> int:
        return len(self.parts)

    def factors(self, i: int) -> Any:
        return self.parts[i]


@pytest.mark.parametrize("library", ["two methods", "pyfaust"])
def test_faust(library: str) -> None:
    make: Any = FakeFaust if library == "two methods" else optional("pyfaust").Faust
    factors = [sm.KroneckerSparse(r(1, 2, 3, 4)), sm.KroneckerSparse(r(3, 4, 2, 1))]
    want = (factors[0] @ factors[1]).to_dense()
    faust = make([scipy.sparse.csr_matrix(f.to_dense().numpy()) for f in factors])
    assert torch.equal(sm.interop.from_faust(faust).to_dense(), want)
    chain = sm.interop.from_faust(faust, patterns=[f.pattern for f in factors])
    assert isinstance(chain, sm.MonarchChain)
    for got, f in zip(chain.factors(), factors, strict=True):
        assert torch.equal(got.values, f.values)
    with pytest.raises(ValueError, match="1 patterns for 2"):
        sm.interop.from_faust(faust, patterns=[(1, 2, 3, 4)])
    with pytest.raises(ValueError, match="cannot have the pattern"):
        sm.interop.from_faust(faust, patterns=[(1, 2, 3, 5), (3, 4, 2, 1)])
    with pytest.raises(ValueError, match="outside its pattern"):
        sm.interop.from_faust(faust, patterns=[(4, 2, 3, 1), (3, 4, 2, 1)])


# CoLA --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_from_cola() -> None:
    cola = optional("cola")
    ops = cola.ops
    a, b, d = r(3, 3), r(3, 4), r(3)
    coo = scipy.sparse.coo_array(r(3, 4).numpy())
    made = {
        "dense": ops.Dense(b),
        "triangular": ops.Triangular(a.tril(), lower=True),
        "diagonal": ops.Diagonal(d),
        "tridiagonal": ops.Tridiagonal(r(2), r(3), r(2)),
        "scalar": ops.ScalarMul(2.0, (3, 3), torch.float64),
        "identity": ops.Identity((3, 3), torch.float64),
        "permutation": ops.Permutation(torch.tensor([2, 0, 1]), torch.float64),
        "sparse": ops.Sparse(
            torch.from_numpy(coo.data), torch.from_numpy(coo.row), torch.from_numpy(coo.col), (3, 4)
        ),
        "householder": ops.Householder(r(3, 1), beta=0.5),
        "block_diag": ops.BlockDiag(ops.Dense(b), ops.Diagonal(d), multiplicities=[2, 1]),
        "kronecker": ops.Kronecker(ops.Dense(a), ops.Diagonal(d)),
        "kron_sum": ops.KronSum(ops.Dense(a), ops.Diagonal(d)),
        "product": ops.Dense(a) @ ops.Diagonal(d) @ ops.Dense(b),
        "sum": ops.Sum(ops.Dense(a), ops.Diagonal(d), ops.Dense(a)),
        "scaled": 2.0 * ops.Dense(a),
        "transpose": ops.Dense(b).T,
        "adjoint": ops.Dense(b * (1 + 2j)).H,
        "transpose_of_product": ops.Transpose(ops.Product(ops.Dense(a), ops.Dense(b))),
        "sliced": ops.Sliced(ops.Dense(b), (slice(0, 2), slice(1, 4))),
    }
    for name, theirs in made.items():
        op = sm.interop.from_cola(theirs)
        want = theirs.to_dense()
        assert torch.allclose(op.to_dense(), want), name
    dense = sm.interop.from_cola(made["product"])
    assert any(t is a for t in dense.parameters()), "tensors are shared"
    fft = sm.interop.from_cola(ops.FFT(4, torch.complex128))
    torch.testing.assert_close(fft.to_dense(), sm.DFT(4, "ortho", torch.complex128).to_dense())
    assert sm.is_psd(sm.interop.from_cola(cola.PSD(ops.Dense(a @ a.T)))) is True
    assert sm.is_triangular(sm.interop.from_cola(made["triangular"]), "lower") is True


def test_to_cola() -> None:
    cola = optional("cola")
    op = sm.Toeplitz(torch.tensor([4.0, 1.0, 0.5, 0.0], dtype=torch.float64)) @ sm.Diagonal(
        torch.ones(4, dtype=torch.float64)
    )
    theirs = sm.interop.to_cola(op)
    x = r(4, 2)
    torch.testing.assert_close(theirs @ x, op @ x)
    torch.testing.assert_close(x.mT @ theirs, x.mT @ op)
    torch.testing.assert_close(theirs.to_dense(), op.to_dense())
    torch.testing.assert_close((theirs @ theirs.T).to_dense(), (op @ op.T).to_dense())
    assert sm.interop.from_cola(theirs) is op
    gram = sm.interop.to_cola(op.T @ op + sm.Identity(4))
    assert gram.isa(cola.PSD)
    b = r(4)
    got = cola.linalg.inv(gram, cola.linalg.CG(tol=1e-10)) @ b
    torch.testing.assert_close(gram.to_dense() @ got, b, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="batch of shape"):
        sm.interop.to_cola(sm.Dense(r(3, 2, 2)))


# linear_operator ---------------------------------------------------------------------------------


def made_of_linear_operator(lo: Any) -> dict[str, Any]:
    a, b, d = r(3, 3), r(3, 4), r(3)
    ops = lo.operators
    lower = ops.TriangularLinearOperator(torch.eye(3, dtype=torch.float64) + a.tril(-1))
    return {
        "dense": ops.DenseLinearOperator(b),
        "batch": ops.DenseLinearOperator(r(2, 3, 4)),
        "diag": ops.DiagLinearOperator(d),
        "constant_diag": ops.ConstantDiagLinearOperator(r(1), 3),
        "identity": ops.IdentityLinearOperator(3, dtype=torch.float64),
        "zero": ops.ZeroLinearOperator(2, 3, dtype=torch.float64),
        "triangular": lower,
        "upper": ops.TriangularLinearOperator(a.triu(), upper=True),
        "toeplitz": ops.ToeplitzLinearOperator(r(5)),
        "permutation": ops.PermutationLinearOperator(torch.tensor([2, 0, 1])),
        "transposition": ops.TransposePermutationLinearOperator(3),
        "block_diag": ops.BlockDiagLinearOperator(ops.DenseLinearOperator(r(2, 3, 3))),
        "kronecker": ops.KroneckerProductLinearOperator(
            ops.DenseLinearOperator(a), ops.ToeplitzLinearOperator(r(3))
        ),
        "kronecker_diag": ops.KroneckerProductDiagLinearOperator(
            ops.DiagLinearOperator(d), ops.DiagLinearOperator(r(2))
        ),
        "matmul": ops.DenseLinearOperator(a) @ ops.DenseLinearOperator(b),
        "toeplitz_matmul": ops.ToeplitzLinearOperator(d) @ ops.DenseLinearOperator(b),
        "constant_mul": ops.ToeplitzLinearOperator(d) * 2.5,
        "root": ops.RootLinearOperator(b),
        "low_rank_root": ops.LowRankRootLinearOperator(b.mT),
        "chol": ops.CholLinearOperator(lower),
        "sum": ops.DenseLinearOperator(a) + ops.ToeplitzLinearOperator(d),
        "added_diag": ops.AddedDiagLinearOperator(
            ops.DenseLinearOperator(a), ops.DiagLinearOperator(d)
        ),
        "low_rank_added": ops.LowRankRootLinearOperator(b.mT[:3])
        + ops.DiagLinearOperator(d.abs() + 1),
        "cat_rows": ops.CatLinearOperator(
            ops.DenseLinearOperator(b), ops.DenseLinearOperator(r(2, 4)), dim=-2
        ),
        "cat_columns": ops.CatLinearOperator(
            ops.DenseLinearOperator(a), ops.ToeplitzLinearOperator(d), dim=-1
        ),
    }


@pytest.mark.filterwarnings("ignore")
def test_from_linear_operator() -> None:
    lo = optional("linear_operator")
    for name, theirs in made_of_linear_operator(lo).items():
        op = sm.interop.from_linear_operator(theirs)
        got, want = op.to_dense(), theirs.to_dense()
        assert got.shape == want.shape, name
        assert torch.allclose(got.to(want.dtype), want), name
    with pytest.raises(TypeError, match="no counterpart"):
        sm.interop.from_linear_operator(
            lo.operators.SumBatchLinearOperator(lo.operators.DenseLinearOperator(r(2, 3, 3)))
        )


@pytest.mark.filterwarnings("ignore")
def test_to_linear_operator() -> None:
    lo = optional("linear_operator")
    w = (r(4, 4) * 0.1 + 2 * torch.eye(4, dtype=torch.float64)).requires_grad_()
    op = sm.Dense(w) @ sm.Dense(w).T + sm.Identity(4, torch.float64)
    theirs = sm.interop.to_linear_operator(op)
    assert isinstance(theirs, lo.LinearOperator)
    x = r(4, 2)
    torch.testing.assert_close(theirs @ x, op @ x)
    torch.testing.assert_close(theirs.to_dense(), op.to_dense())
    torch.testing.assert_close(theirs.T @ x, op.T @ x)
    assert sm.interop.from_linear_operator(theirs).structure == op.structure
    (gradient,) = torch.autograd.grad((theirs @ x).square().sum(), w)
    (want,) = torch.autograd.grad((op @ x).square().sum(), w)
    torch.testing.assert_close(gradient, want)
    solved = theirs.solve(x)
    torch.testing.assert_close(op @ solved, x, atol=1e-4, rtol=1e-4)
    batch = sm.interop.to_linear_operator(sm.Dense(r(3, 4, 4)))
    assert batch.shape == (3, 4, 4)
    total = theirs + lo.operators.DenseLinearOperator(r(4, 4))
    assert total.shape == (4, 4)


# what is not installed ---------------------------------------------------------------------------


def test_missing_libraries_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name.partition(".")[0] in ("cola", "linear_operator"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    for call in (sm.interop.to_cola, sm.interop.to_linear_operator):
        with pytest.raises(ImportError, match=r"structmat\[interop\]"):
            call(sm.Identity(2))
