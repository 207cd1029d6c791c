"""Circuits: equal to the matrix in every arithmetic, with the published counts."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from market import MARKET, ROUNDED, entries

import structmat as sm
from structmat.circuit import Boolean, Circuit, MaxPlus, Modular, Rational

ALL = {**MARKET, **ROUNDED}
CALLED = {"inverse_vandermonde"}
"""Inverses that solve anew at every call."""
EXACT = {k: make for k, make in MARKET.items() if k not in CALLED}
LARGE = {"monarch_1024", "monarch_flat", "kronecker_sparse"}
named = pytest.mark.parametrize(
    "name",
    [pytest.param(k, marks=[pytest.mark.slow] * (k in LARGE)) for k in ALL if k not in CALLED],
)
exact = pytest.mark.parametrize("name", EXACT)
P = 2**31 - 1


def operator(name: str, seed: int = 3) -> sm.LinearOperator:
    return ALL[name](entries(seed))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, atol=1e-10)


@named
def test_the_matrix_its_transpose_and_its_layers(name: str) -> None:
    A = operator(name)
    c, dense = sm.circuit(A), A.to_dense()
    assert c.shape == A.shape
    assert close(c.to_dense(), dense)
    assert close(c.T.to_dense(), dense.mT)
    assert close(c.to_operator().to_dense(), dense)
    assert close(c.folded().to_dense(), dense)
    if c.weights.ndim == 1:
        assert close(c.shared().to_dense(), dense)
        assert close(c.as_real().to_dense(), _real_matrix(dense))
        x = torch.randn(4, 2, A.shape[1], dtype=A.dtype)
        assert close(c(x), A(x))


def _real_matrix(a: torch.Tensor) -> torch.Tensor:
    a = a.contiguous()
    if not a.is_complex():
        return torch.kron(a, torch.eye(2, dtype=a.dtype))
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=a.real.dtype)
    return torch.kron(a.real, torch.eye(2, dtype=a.real.dtype)) + torch.kron(a.imag, turn)


@exact
def test_exactly_over_residues_and_fractions(name: str) -> None:
    A = operator(name)
    dense = A.to_dense()
    if A.batch_shape or dense.is_complex():
        pytest.skip("rings evaluate one real matrix")
    c = sm.circuit(A)
    m, n = A.shape
    x = np.random.default_rng(0).integers(0, P, (3, n))
    w = dense.numpy().astype(np.int64)
    want = np.array(
        [[sum(int(a) * int(b) for a, b in zip(r, v, strict=True)) % P for r in w] for v in x]
    )
    for other in (c, c.folded(), c.shared(), c.T.T):
        assert (other.evaluate(x, Modular(P)) == want.reshape(3, m)).all()
    y = c.T.evaluate(np.arange(m), Rational())
    assert [Fraction(int(v)) for v in np.arange(m) @ w] == y.tolist()


@settings(max_examples=60, deadline=None)
@given(sm.testing.operators(max_side=8, max_depth=3, batch=False, complex_=False))
def test_random_expressions_exactly(A: sm.LinearOperator) -> None:
    c, w = sm.circuit(A), A.to_dense().numpy().astype(np.int64)
    eye = np.eye(A.shape[1], dtype=np.int64)
    assert (c.evaluate(eye, Modular(P)).T == w % P).all()
    assert (c.T.evaluate(np.eye(A.shape[0], dtype=np.int64), Modular(P)) == w % P).all()
    back = sm.circuit(c.to_operator())
    assert (back.evaluate(eye, Modular(P)).T == w % P).all()
    assert c.adds == c.wires - c.size
    small = c.folded().shared()
    assert (small.evaluate(eye, Modular(P)).T == w % P).all()
    assert small.adds <= c.adds


@settings(max_examples=60, deadline=None)
@given(sm.testing.operators(max_side=8, max_depth=3, transforms=True))
def test_random_expressions_with_transforms(A: sm.LinearOperator) -> None:
    dense = A.to_dense()
    c = sm.circuit(A)
    scale = 1 + float(dense.abs().max()) if dense.numel() else 1.0
    for found, want in ((c.to_dense(), dense), (c.T.to_dense(), dense.mT)):
        assert torch.allclose(found, want.to(found.dtype), atol=1e-9 * scale)


@st.composite
def graphs(draw: st.DrawFn) -> Circuit:
    """Random circuits, with gates that nothing reads, parallel edges, repeated and zero outputs."""
    n, gates = draw(st.integers(0, 4)), draw(st.integers(0, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    heads, tails = [], []
    for v in range(n, n + gates if n else n):
        for _ in range(rng.integers(1, 4)):
            heads.append(v)
            tails.append(rng.integers(0, v))
    count = n + gates if n else 0
    out = rng.integers(-1, count, draw(st.integers(0, 5))) if count else [-1] * 2
    weights = torch.from_numpy(rng.integers(-2, 3, len(heads)).astype(np.float64))
    return Circuit.of(n, np.array(heads, dtype=int), np.array(tails, dtype=int), weights, out)


def matrix(c: Circuit) -> np.ndarray:
    """By the definition: sums over paths, one edge at a time."""
    values = [np.eye(c.n, dtype=np.int64)[i] for i in range(c.n)]
    weights = c.weights.numpy().astype(np.int64)
    for gate in range(c.size):
        edges = range(c.starts[gate], c.starts[gate + 1])
        values.append(sum((weights[e] * values[c.tails[e]] for e in edges), np.zeros(c.n, int)))
    rows = [values[o] if o >= 0 else np.zeros(c.n, dtype=np.int64) for o in c.outputs]
    return np.array(rows, dtype=np.int64).reshape(len(rows), c.n)


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_transformations_of_any_graph(c: Circuit) -> None:
    want = matrix(c)
    assert (c.to_dense().numpy() == want).all()
    for other in (c.pruned(), c.folded(), c.shared(), c.folded().shared()):
        assert (matrix(other) == want).all()
        assert other.adds <= c.adds
        assert other.adds + other.mults <= c.adds + c.mults
    assert (matrix(c.T) == want.T).all()
    layers = c.layers()
    product = np.eye(c.shape[0])
    for f in layers:
        product = product @ f.to_dense().double().numpy()
    assert (product == want).all()
    p = c.pruned()
    stored = sum(int((f.to_dense() != 0).sum()) for f in p.layers())
    assert stored <= p.wires + max(p.depth, 1) * max(p.width, c.shape[0])


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_transposition_adds_m_minus_n(c: Circuit) -> None:
    c = c.pruned()
    m, n = c.shape
    read = np.bincount(c.tails, minlength=c.nodes)
    plain = (c.outputs >= n).all() and len(set(c.outputs)) == m and not read[c.outputs].any()
    if plain and (read[:n] > 0).all():
        assert c.T.wires == c.wires
        assert c.T.mults == c.mults
        assert c.T.adds == c.adds + m - n
        assert c.T.depth == c.depth


@pytest.mark.parametrize(("m", "n"), [(2, 5), (5, 2), (4, 4)])
def test_transposition_of_a_dense_matrix(m: int, n: int) -> None:
    c = sm.circuit(sm.Dense(torch.full((m, n), 3.0)))
    t = c.T
    assert (t.wires, t.mults, t.adds, t.depth) == (c.wires, c.mults, c.adds + m - n, 1)


@pytest.mark.parametrize("k", range(1, 13))
def test_counts_of_transforms(k: int) -> None:
    n = 2**k
    h = sm.circuit(sm.Hadamard(n))
    assert (h.adds, h.mults, h.depth) == (n * k, 0, k)
    if k <= 10:
        for fft in ("split-radix", "conjugate-pair"):
            c = sm.circuit(sm.DFT(n), fft=fft).as_real()
            assert c.adds + c.mults == 4 * n * k - 6 * n + 8
        c = sm.circuit(sm.DFT(n), fft="radix-2").as_real()
        assert c.adds + c.mults == (5 * n * k - 10 * n + 16 if n >= 4 else 4)


@pytest.mark.parametrize(("n", "flops"), [(4, 14), (8, 42), (16, 114), (32, 290), (64, 706)])
def test_counts_of_cosines(n: int, flops: int) -> None:
    """The published count has the factor of y[0]; ``norm=None`` multiplies all outputs by 2."""
    c = sm.circuit(sm.DCT(n, type=2))
    assert c.adds + c.mults - n == flops - 1


def test_counts_of_block_chains() -> None:
    def full(*shape: int) -> torch.Tensor:
        return torch.full(shape, 3.0)

    m, n, k = 5, 7, 3
    c = sm.circuit(sm.Dense(full(m, n)))
    assert (c.mults, c.adds, c.depth, c.width) == (m * n, m * (n - 1), 1, n)
    c = sm.circuit(sm.LowRank(full(m, k), full(k, n)))
    assert (c.mults, c.adds) == (k * (m + n), k * (n - 1) + m * (k - 1))
    b = 4  # n = b^2
    c = sm.circuit(sm.Monarch(full(b, b, b), full(b, b, b)))
    assert (c.mults, c.adds, c.depth) == (2 * b**3, 2 * b**2 * (b - 1), 2)
    L = 5
    c = sm.circuit(sm.Butterfly(full(L, 2 ** (L - 1), 2, 2)))
    assert (c.mults, c.adds, c.depth, c.width) == (2 * 2**L * L, 2**L * L, L, 2**L)
    p, q, s, t = 2, 3, 4, 5
    c = sm.circuit(sm.kron(sm.Dense(full(p, q)), sm.Dense(full(s, t))))
    assert c.mults in (p * q * t + p * s * t, q * s * t + p * q * s)


def test_counts_agree_with_the_cost_of_the_operator() -> None:
    threes = partial(torch.full, fill_value=3.0)
    for A in (
        sm.Dense(threes((5, 7))),
        sm.LowRank(threes((5, 2)), threes((2, 7))),
        sm.Monarch(threes((6, 2, 4)), threes((4, 6, 5))),
        sm.Butterfly(threes((3, 4, 2, 2))),
        sm.BlockDiagonal(threes((3, 2, 4))),
    ):
        c = sm.circuit(A)
        assert c.mults + c.adds == A.cost().flops


@pytest.mark.parametrize("n", [*range(1, 33), 61, 100])
@pytest.mark.parametrize("fft", ["split-radix", "conjugate-pair", "radix-2", "mixed-radix"])
def test_transforms_of_every_size(n: int, fft: str) -> None:
    d = torch.complex128
    for A in (sm.DFT(n, dtype=d), sm.IDFT(n, dtype=d), sm.RDFT(n, dtype=torch.float64)):
        assert close(sm.circuit(A, fft=fft).to_dense(), A.to_dense())  # type: ignore[arg-type]
    if fft == "split-radix":
        for t in (1, 2, 3, 4):
            S = sm.DST(n, type=t, dtype=torch.float64)
            assert close(sm.circuit(S).to_dense(), S.to_dense())
            if n > 1 or t > 1:
                C = sm.DCT(n, type=t, dtype=torch.float64)
                assert close(sm.circuit(C).to_dense(), C.to_dense())


def test_a_prime_takes_less_than_its_square() -> None:
    n = 1021
    c = sm.circuit(sm.DFT(n))
    assert c.wires < n**2 / 4


def test_gradients_of_every_order() -> None:
    A = sm.Monarch(torch.randn(2, 2, 2).double(), torch.randn(2, 2, 2).double())
    c = sm.circuit(A @ sm.Diagonal(torch.randn(4).double()))
    w = c.weights.detach().clone().requires_grad_()
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def f(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return Circuit(c.n, c.levels, c.starts, c.tails, w, c.outputs)(x)

    assert torch.autograd.gradcheck(f, (x, w), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, (x, w))
    z = torch.randn(2, 4, dtype=torch.complex128, requires_grad=True)
    k = sm.circuit(sm.DFT(4, dtype=torch.complex128) @ sm.Diagonal(torch.randn(4).double()))
    assert torch.autograd.gradcheck(k, (z,), check_forward_ad=True)
    rows = torch.func.vmap(c)(torch.randn(5, 3, 4, dtype=torch.float64))
    assert rows.shape == (5, 3, 4)


def test_gradients_reach_the_operator() -> None:
    t = torch.randn(6, dtype=torch.float64, requires_grad=True)
    x = torch.randn(6, dtype=torch.float64)
    A = sm.Toeplitz(t)
    (want,) = torch.autograd.grad(A(x).square().sum(), t)
    for y in (sm.circuit(A)(x), sm.circuit(A).to_operator()(x), sm.circuit(A).folded()(x)):
        (found,) = torch.autograd.grad(y.square().sum(), t)
        assert torch.allclose(found, want)


def test_layers_compile() -> None:
    A = operator("monarch").to(torch.float64)
    B = sm.circuit(A).to_operator().simplify()
    x = torch.randn(3, A.shape[1], dtype=torch.float64)
    assert torch.allclose(sm.compile(B)(x), A(x))


def test_circuits_compose() -> None:
    A, B = operator("monarch"), operator("dense")
    a, b = sm.circuit(A), sm.circuit(A.T)
    assert close((b @ a).to_dense(), (A.T @ A).to_dense())
    assert close((a + a).to_dense(), 2 * A.to_dense())
    assert A.shape[1] != B.shape[0]
    with pytest.raises(ValueError, match="do not compose"):
        a @ sm.circuit(B)


def test_semirings() -> None:
    w = [[2.0, 0.0, 1.0], [0.0, 0.0, 5.0]]
    c = sm.circuit(sm.Dense(w))
    assert c.evaluate([1.0, 2.0, 3.0], MaxPlus()).tolist() == [4.0, 8.0]
    reach = c.evaluate([True, True, False], Boolean())
    assert reach.tolist() == [True, False]
    third = np.array([Fraction(1, 3), 0, 0], dtype=object)
    assert c.evaluate(third, Rational()).tolist() == [Fraction(2, 3), 0]
    half = sm.circuit(0.5 * sm.Identity(1))
    assert half.evaluate([3], Modular(7)).tolist() == [3 * pow(2, -1, 7) % 7]
    narrow = sm.circuit(sm.Dense(torch.tensor([[0.5, 3.0]], dtype=torch.bfloat16)))
    assert narrow.evaluate([2, 1], Rational()).tolist() == [4]
    with pytest.raises(ValueError, match="no rational number"):
        sm.circuit(sm.DFT(4)).evaluate([1, 2, 3, 4], Rational())
    with pytest.raises(ValueError, match="no prime"):
        Modular(12)
    with pytest.raises(ValueError, match="4 inputs"):
        sm.circuit(sm.Hadamard(4)).evaluate([1, 2, 3], Modular(7))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, [1, 2], [2, 1], [1.0, 1.0], [2]), "is on a cycle"),
        ((2, [1], [0], [1.0], [1]), "enters node 1, which is one of the 2 inputs"),
        ((2, [2], [0], [1.0], [4]), "node 3 is used, but no edge enters it"),
        ((2, [2, 2], [0], [1.0], [2]), "not of one length"),
        ((2, [2], [-1], [1.0], [2]), "node numbers are 0 or larger"),
        ((2, [2.5], [0], [1.0], [2]), "must be a list of node numbers"),
    ],
)
def test_bad_graphs_are_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Circuit.of(*arguments)  # type: ignore[arg-type]


def test_errors_name_the_way_out() -> None:
    c = sm.circuit(sm.Hadamard(4))
    with pytest.raises(ValueError, match=r"not \(\.\.\., 4\)"):
        c(torch.ones(3))
    with pytest.raises(ValueError, match="split-radix"):
        sm.circuit(sm.DFT(4), fft="fastest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no sum"):
        c + sm.circuit(sm.Hadamard(2))


def test_what_has_no_circuit_says_so() -> None:
    for name in CALLED:
        with pytest.raises(TypeError, match="acts by a function"):
            sm.circuit(operator(name))


@pytest.mark.parametrize("uplo", ["lower", "upper", None])
def test_inverses(uplo: Literal["lower", "upper"] | None) -> None:
    a = torch.randn(5, 5, dtype=torch.float64) + 5 * torch.eye(5, dtype=torch.float64)
    a = a.tril() if uplo == "lower" else a.triu() if uplo == "upper" else a
    a.requires_grad_()
    A = sm.assume(sm.Dense(a), triangular=uplo) if uplo else sm.Dense(a)
    c = sm.circuit(sm.inv(A))
    x = torch.randn(3, 5, dtype=torch.float64)
    want = torch.linalg.solve(a, x.mT).mT
    assert torch.allclose(c(x), want)
    assert torch.allclose(c.T(x), torch.linalg.solve(a.mT, x.mT).mT)
    (found,) = torch.autograd.grad(c(x).square().sum(), a)
    (true,) = torch.autograd.grad(want.square().sum(), a)
    mask = torch.ones_like(a) if uplo is None else a.detach() != 0
    assert torch.allclose(found * mask, true * mask)
    assert (c.mults, c.adds) == ((15, 10) if uplo else (25, 20))


def test_the_name_is_function_and_package() -> None:
    assert sm.circuit.Circuit is Circuit
    assert sm.circuit.reduce.shared is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sm.circuit.nothing


def test_dead_gates_are_left_out() -> None:
    n = 64
    whole = sm.circuit(sm.DFT(n))
    first = sm.circuit(sm.DFT(n)[:1])
    assert first.adds == n - 1
    assert first.size < whole.size / 2


def test_equal_gates_are_shared() -> None:
    # columns 0 and 2 are equal, rows are negatives: one sum serves both
    w = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [1.0, 2.0]])
    c = sm.circuit(sm.Dense(w))
    s = c.shared()
    assert s.adds == 1
    assert s.mults == 1
    assert torch.equal(s.to_dense(), w)


def test_batches() -> None:
    A = sm.Dense(torch.randn(3, 1, 4, 5)) @ sm.Diagonal(torch.randn(2, 5))
    c = sm.circuit(A)
    x = torch.randn(7, 3, 2, 5)
    assert torch.allclose(c(x), A(x), atol=1e-5)
    assert torch.allclose(c.to_dense(), A.to_dense(), atol=1e-5)
    assert "batch 3, 2" in repr(c)
    with pytest.raises(ValueError, match="batch"):
        c.as_real()


@pytest.mark.slow
def test_ten_million_edges() -> None:
    n, k = 2**19, 19
    c = sm.circuit(sm.Hadamard(n))
    assert c.wires == 2 * n * k > 10**7
    x = torch.zeros(n)
    x[5] = 1
    y = c(x)
    assert set(y.unique().tolist()) == {-1.0, 1.0}
    assert math.isclose(float(y.sum()), 0.0)
