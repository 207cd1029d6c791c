"""Inferred properties against dense matrices: never wrong, and known where they ought to be."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from market import MARKET, entries
from torch import Tensor

import structmat as sm
from structmat.operator import from_spec
from structmat.properties import unitary_scale
from structmat.testing import Grower, operators

FAST = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
LONG = settings(FAST, max_examples=400)


def shift(n: int, f: int) -> Tensor:
    """Z_f: ones below the diagonal, f in the upper right corner."""
    out = torch.diag(torch.ones(max(n - 1, 0), dtype=torch.float64), -1)
    out = out[:n, :n]
    out[:1, n - 1 :] += f
    return out


def largest(w: Tensor) -> float:
    return w.abs().max().item() if w.numel() else 0.0


def rank(w: Tensor, noise: float) -> int:
    if not w.numel():
        return 0
    return int((torch.linalg.svdvals(w) > 1e-9 + 100 * noise * max(w.shape)).sum(-1).max())


def verify(op: sm.LinearOperator) -> None:
    """Every answer about ``op`` agrees with its dense matrices."""
    if 0 in op.batch_shape:
        return
    m, n = op.shape
    dtype = torch.complex128 if op.dtype.is_complex else torch.float64
    dense = op._dense(dtype, op.device).detach().expand(*op.batch_shape, m, n)
    wide = dense.reshape(math.prod(op.batch_shape), m, n).to(torch.complex128)
    eps = 1e-11 * (1 + largest(wide)) * max(m, n, 1)
    square = m == n

    def holds(gap: Callable[[Tensor], Tensor], tol: float = eps) -> bool:
        return all(largest(gap(w)) <= tol for w in wide)

    def definite(w: Tensor) -> bool:
        if largest(w - w.mH) > eps:
            return False
        return not n or torch.linalg.eigvalsh(w).min().item() >= -eps * 10

    eye = torch.eye(n, dtype=wide.dtype)
    lower, upper = sm.bandwidth(op)
    truth = {
        "symmetric": (sm.is_symmetric(op), square and holds(lambda w: w - w.mT)),
        "hermitian": (sm.is_hermitian(op), square and holds(lambda w: w - w.mH)),
        "psd": (sm.is_psd(op), square and all(map(definite, wide))),
        "unitary": (
            sm.is_unitary(op),
            square and holds(lambda w: w.mH @ w - eye, eps * (1 + largest(wide)) * 10),
        ),
        "real": (sm.is_real(op), holds(lambda w: w.imag)),
        "lower": (sm.is_triangular(op, "lower"), holds(lambda w: w.triu(1))),
        "upper": (sm.is_triangular(op, "upper"), holds(lambda w: w.tril(-1))),
        "diagonal": (
            sm.is_diagonal(op),
            holds(lambda w: w.triu(1)) and holds(lambda w: w.tril(-1)),
        ),
    }
    for name, (said, true) in truth.items():
        assert said is None or said == true, f"{op._label()}: {name} is {true}, said {said}"
    triangular = truth["lower"][1] or truth["upper"][1]
    assert sm.is_triangular(op) in (None, triangular), op._label()
    beyond = holds(lambda w: w.triu(upper + 1)) and holds(lambda w: w.tril(-lower - 1))
    assert beyond, f"{op._label()}: bandwidth {lower, upper}"
    assert max(rank(w, eps) for w in wide) <= sm.rank_bound(op), f"{op._label()}: rank"
    for shifts in ((1, -1), (-1, 1), (1, 1), (-1, -1)):
        found = sm.displacement_rank(op, shifts)
        left, right = (shift(k, f).to(wide.dtype) for k, f in zip((m, n), shifts, strict=True))
        if found is not None:
            true_rank = max(rank(left @ w - w @ right, eps) for w in wide)
            assert true_rank <= found, f"{op._label()}: displacement rank {true_rank} > {found}"
    s = unitary_scale(op)
    if s is not None:
        tolerance = eps * (1 + largest(wide)) * 10
        assert holds(lambda w: w.mH @ w - s**2 * eye, tolerance), f"{op._label()}: scale {s}"


@settings(FAST, max_examples=100)
@given(operators(max_side=8))
def test_never_wrong(op: sm.LinearOperator) -> None:
    verify(op)


@settings(FAST, max_examples=100)
@given(operators(transforms=True, max_side=8, max_depth=2))
def test_never_wrong_with_transforms(op: sm.LinearOperator) -> None:
    verify(op)


@pytest.mark.slow
@LONG
@given(operators(max_side=12, max_depth=4, transforms=True))
def test_never_wrong_on_deep_trees(op: sm.LinearOperator) -> None:
    verify(op)


@st.composite
def mirrored(draw: Any) -> sm.LinearOperator:
    """Expressions that hold a part and its transpose or adjoint, and declared properties."""

    def choose(options: Any) -> Any:
        return draw(st.sampled_from(options))

    n = choose([3, 4, 2, 1])
    grower = Grower(choose, draw(st.integers(0, 2**16)), max_side=6, complex_=choose((True, False)))
    a = grower.tree(n, n, 1)
    b = grower.tree(choose([n, 2, 5]), n, 1)
    d = sm.assume(sm.Diagonal(grower.numbers(b.shape[0]).abs()), psd=True)
    c = sm.Dense(grower.numbers(n, n))
    c = choose([c, sm.assume(c + c.H, hermitian=True), sm.assume(c @ c.H, psd=True)])
    made: sm.LinearOperator = choose(
        [
            b.H @ b,
            b.T @ b,
            b.H @ d @ b,
            a + a.T,
            a + a.H,
            a + a.conj(),
            a @ a.conj(),
            b.T @ d @ d @ b,
            a.H @ c @ a,
            c @ a @ c,
            sm.kron(a, a.T) @ sm.kron(a.T, a),
            sm.direct_sum(a.H, d) @ sm.direct_sum(a, d),
        ]
    )
    other = choose([made, c if made.shape == c.shape else made, sm.Identity(made.shape[0])])
    out: sm.LinearOperator = choose(
        [
            made,
            made + other,
            made - other,
            2 * made,
            -0.5 * made,
            1j * made,
            made.T,
            made.conj(),
            sm.kron(made, c),
            sm.direct_sum(c, made),
            made.simplify(),
            (made @ made.H).simplify(),
        ]
    )
    return out


@settings(FAST, max_examples=50)
@given(mirrored())
def test_never_wrong_on_mirrored_parts(op: sm.LinearOperator) -> None:
    verify(op)
    verify(op.simplify())


@pytest.mark.slow
@LONG
@given(mirrored())
def test_never_wrong_on_many_mirrored_parts(op: sm.LinearOperator) -> None:
    verify(op)
    verify(op.simplify())


SMALL = {k: make for k, make in MARKET.items() if max(make(entries(0)).shape) <= 100}


@pytest.mark.parametrize("name", SMALL)
def test_never_wrong_on_the_market(name: str) -> None:
    op = MARKET[name](entries(3))
    verify(op)
    verify(op.T)


def leaves() -> list[sm.LinearOperator]:
    r = entries(2)
    z = torch.complex(r(5), r(5))
    out: list[sm.LinearOperator] = []
    for n in (1, 2, 3, 4, 5):
        for norm in ("ortho", "backward", "forward"):
            out += [sm.DFT(n, norm), sm.IDFT(n, norm), sm.RDFT(n, norm), sm.IRDFT(n, norm)]
            out += [sm.DST(n, t, norm) for t in (1, 2, 3, 4)]
            out += [sm.DCT(n, t, norm) for t in (1, 2, 3, 4) if t > 1 or n > 1]
        out += [sm.Circulant(r(n), f) for f in (1, -1, 0, 2, 1j)]
        out += [
            sm.Toeplitz(r(n)),
            sm.Toeplitz(z[:n]),
            sm.Toeplitz(r(n), r(n)),
            sm.Toeplitz(r(n), r(3)),
        ]
        out += [sm.Hankel(r(n)), sm.Hankel(r(n), r(3)), sm.cyclic_shift(n), sm.reversal(n)]
        out += [sm.Companion(1 + r(n + 1).abs()), sm.StateSpace(r(2), r(2), r(2), None, n)]
        out += [sm.LowDisplacementRank(r(n, 1), r(1, n), f) for f in (1, -1)]
        for mode in ("causal", "circular", "full", "same"):
            out += [sm.Convolution(r(k), n, mode) for k in (1, 2, 3, 6)]
            out.append(sm.Convolution(r(2, 2), (n, 2), mode))
        out += [sm.Selection([k % n for k in (0, 2, 1, 3, 1)][:m], n) for m in (1, 2, 3, 5)]
    out += [
        sm.Hadamard(n, k, o)
        for n in (1, 2, 8)
        for k in (False, True)
        for o in ("natural", "sequency")
    ]
    out += [sm.Wavelet(8, w, k) for w in ("haar", "db2", (1.0, 2.0)) for k in (0, 1, 2)]
    return out


@pytest.mark.parametrize("turned", [False, True])
def test_never_wrong_on_leaves(turned: bool) -> None:
    for op in leaves():
        verify(op.T.simplify() if turned else op)
        if turned:
            verify(op.T)


def test_unknown_where_terms_may_cancel() -> None:
    """Each of the terms is known not to be it; their sum is."""
    shift = sm.cyclic_shift(3)
    assert sm.is_symmetric(shift) is False
    assert sm.is_symmetric(shift + shift @ shift) is not False
    assert sm.is_triangular(shift - shift, "lower") is not False
    assert sm.is_real(sm.DFT(3) + sm.IDFT(3, "forward")) is not False


r = entries(7)
W, V = sm.Dense(r(4, 4)), sm.Dense(r(3, 4))
Z = sm.Dense(torch.complex(r(4, 4), r(4, 4)))
D, E = sm.Diagonal(r(4)), sm.Diagonal(r(4))
R = sm.Dense(r(2, 9))
P = sm.Permutation([2, 0, 3, 1])
ALPHA = r()
L = sm.LowRank(r(4, 1), r(1, 4))
PSD = sm.assume(W, psd=True)
CPSD = sm.assume(Z, psd=True)

SYMMETRIC: dict[str, sm.LinearOperator] = {
    "sum": W + W.T,
    "sum_of_tensor_and_view": W + sm.Dense(W.weight.mT),
    "gram": V.T @ V,
    "gram_simplified": (R.T @ R).simplify(),
    "gram_in_the_middle": V.T @ sm.reversal(3) @ V,
    "gram_of_product": (V @ P @ W).T @ (V @ P @ W),
    "diagonals": D @ E,
    "around_diagonals": W.T @ D @ E @ W,
    "permuted": P @ D @ P.T,
    "kronecker": sm.kron(W + W.T, D),
    "kronecker_gram": sm.kron(V, W).T @ sm.kron(V, W),
    "direct_sum": sm.direct_sum(D, W + W.T),
    "scaled": ALPHA * (W + W.T) * 3,
    "complex": Z + Z.T,
    "complex_gram": Z @ Z.T,
    "power": (W + W.T) ** 3,
    "low_rank": sm.LowRank(V.weight.mT, V.weight),
    "monarch": (lambda m: m.T @ m)(sm.Monarch(r(2, 2, 2), r(2, 2, 2))),
    "butterfly": (lambda b: b.T @ b)(sm.Butterfly(r(2, 2, 2, 2))),
    "toeplitz": sm.Toeplitz(r(5)),
    "toeplitz_twice": sm.Toeplitz(W.weight[0], W.weight[0]),
    "hankel": sm.Hankel(r(5), r(5)),
    "dft": sm.DFT(5),
    "dft_conj": sm.DFT(5).conj(),
    "dct4": sm.DCT(5, 4),
    "dct1": sm.DCT(5, 1, "ortho"),
    "dst1": sm.DST(5, 1),
    "hadamard": sm.Hadamard(8, order="sequency"),
    "involution": sm.bit_reversal(8),
    "zero": sm.Zero(3),
    "assumed": W.T @ PSD @ W,
    "block": sm.block([[W + W.T, V.T], [V, sm.reversal(3)]]),
    "kronecker_sum": sm.kron_sum(W + W.T, D),
    "submatrix": (W + W.T)[1:3, 1:3],
    "inverse": sm.inv(W @ W.T + D),
    "selection": sm.Selection([1, 0, 2], 3),
    "elementwise": sm.elementwise(sm.LowRank(V.weight.mT, V.weight), W + W.T),
}

PSDS: dict[str, sm.LinearOperator] = {
    "gram": V.T @ V,
    "gram_simplified": (R.T @ R).simplify(),
    "gram_of_difference": (W - W.T) @ (W - W.T).T,
    "square": (W + W.T) ** 2,
    "complex_gram": Z @ Z.H,
    "regularised": V.T @ V + 0.1 * sm.Identity(4),
    "weighted": Z.H @ sm.assume(D, psd=True) @ Z,
    "kronecker": sm.kron(V.T @ V, Z @ Z.H),
    "direct_sum": sm.direct_sum(V.T @ V, sm.Zero(2)),
    "scalar": (ALPHA * V.T) @ (ALPHA * V),
    "complex_scalar": ((1 + 2j) * Z) @ ((1 + 2j) * Z).H,
    "low_rank": sm.LowRank(Z.weight, Z.weight.mH),
    "sandwich": W @ PSD @ W.T,
    "transposed": PSD.T,
    "adjoint": CPSD.H,
    "conjugate": sm.kron(CPSD, CPSD).conj(),
    "diagonals": sm.assume(D, psd=True) @ sm.assume(E, psd=True),
    "toeplitz": (lambda t: t.T @ t)(sm.Toeplitz(r(5), r(4))),
    "kronecker_sum": sm.kron_sum(V.T @ V, PSD),
    "elementwise": sm.elementwise(sm.LowRank(V.weight.mT, V.weight), PSD),
    "submatrix": (Z @ Z.H)[1:3, 1:3],
    "inverse": sm.inv(V.T @ V + sm.Identity(4)),
    "wavelet": sm.Haar(8).T @ sm.assume(sm.Diagonal(r(8)), psd=True) @ sm.Haar(8),
}

UNITARY: dict[str, sm.LinearOperator] = {
    "permutation": P,
    "dft": sm.DFT(6, "ortho"),
    "dft_scaled": sm.DFT(6) / 6**0.5,
    "dft_inverse": sm.DFT(6) @ sm.IDFT(6),
    "hadamard": sm.Hadamard(8, normalized=True),
    "hadamard_scaled": 0.25 * sm.Hadamard(16),
    "dct2": sm.DCT(6, 2, "ortho"),
    "dst1": sm.DST(6, 1, "ortho"),
    "dct1": sm.DCT(6, 1, "ortho"),
    "dct4_scaled": sm.DCT(8, 4) / 4,
    "wavelet": sm.Wavelet(16, "db2"),
    "haar": sm.Haar(16).T,
    "phase": -1j * sm.DFT(4, "ortho"),
    "product": P @ sm.DCT(4, 2, "ortho") @ sm.Identity(4),
    "kronecker": sm.kron(P, sm.DFT(3, "ortho")),
    "direct_sum": sm.direct_sum(P, sm.Identity(2)),
    "assumed": sm.assume(W, unitary=True) @ P,
    "inverse": sm.Inverse(sm.assume(W, unitary=True)),
    "selection": sm.Selection([2, 0, 1], 3),
}

LOWER: dict[str, sm.LinearOperator] = {
    "convolution": sm.Convolution(r(3), 6),
    "circulant_0": sm.Circulant(r(5), 0),
    "full": sm.Convolution(r(3), 6, "full"),
    "product": sm.Convolution(r(3), 6) @ sm.Convolution(r(2), 6) @ sm.Diagonal(r(6)),
    "sum": sm.Convolution(r(3), 6) + sm.Identity(6),
    "transposed": (sm.Convolution(r(3), 6).T + sm.Identity(6)).T,
    "kronecker": sm.kron(sm.Convolution(r(3), 3), D),
    "image": sm.Convolution(r(2, 3), (3, 4)),
    "direct_sum": sm.direct_sum(D, sm.Convolution(r(3), 6)),
    "assumed": sm.assume(W, triangular="lower") @ D,
    "block": sm.block([[sm.Convolution(r(2), 3), 0], [W[:2, :3], sm.Identity(2)]]),
    "kronecker_sum": sm.kron_sum(D, sm.Convolution(r(3), 3)),
    "state_space": sm.StateSpace(r(2), r(2), r(2), 1.0, 5),
    "inverse": sm.Inverse(sm.Convolution(r(3), 6)),
    "sparse": sm.Sparse((r(3), ([0, 1, 2], [0, 0, 1])), shape=(3, 3)),
    "assumed_upper": sm.assume(W, triangular="upper").T,
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric(name: str) -> None:
    assert sm.is_symmetric(SYMMETRIC[name]) is True


@pytest.mark.parametrize("name", PSDS)
def test_psd(name: str) -> None:
    assert sm.is_psd(PSDS[name]) is True
    assert sm.is_hermitian(PSDS[name]) is True


@pytest.mark.parametrize("name", UNITARY)
def test_unitary(name: str) -> None:
    assert sm.is_unitary(UNITARY[name]) is True


@pytest.mark.parametrize("name", LOWER)
def test_lower_triangular(name: str) -> None:
    op = LOWER[name]
    assert sm.is_triangular(op, "lower") is True
    assert sm.is_triangular(op.T, "upper") is True
    assert sm.is_triangular(op) is True


def test_hermitian_and_real() -> None:
    assert sm.is_hermitian(Z + Z.H) is True
    assert sm.is_hermitian(Z.H @ (Z + Z.H) @ Z) is True
    assert sm.is_real(Z + Z.conj()) is True
    assert sm.is_real(sm.Identity(2, torch.complex64) + sm.DFT(2)) is True
    assert sm.is_hermitian(sm.Toeplitz(Z.weight[0])) is None, "c[0] need not be real"
    assert sm.is_hermitian(sm.Toeplitz(r(3))) is True


def test_diagonal() -> None:
    for op in (D @ E, P @ D @ P.T, sm.kron(D, E), sm.direct_sum(D, sm.Zero(2, 3)), D + sm.Zero(4)):
        assert sm.is_diagonal(op) is True


@pytest.mark.parametrize(
    "question", [sm.is_symmetric, sm.is_hermitian, sm.is_psd, sm.is_unitary, sm.is_diagonal]
)
def test_certainly_not(question: Callable[[sm.LinearOperator], bool | None]) -> None:
    may = {"Permutation": sm.is_unitary, "DFT": sm.is_symmetric}
    for op in (sm.cyclic_shift(5), sm.DFT(5), sm.DCT(5)):
        want = may.get(op.structure.kind) is question
        assert question(op) is want
        assert question(sm.direct_sum(sm.Identity(2), op)) is want
    if question is not sm.is_diagonal:
        assert question(V) is False, "not square"
    assert question(W) is None, "free numbers"


def test_bounds() -> None:
    assert sm.rank_bound(L + L + sm.Zero(4)) == 2
    assert sm.rank_bound(sm.kron(L, V) @ sm.kron(L, V).T) == 3
    assert sm.rank_bound(sm.BlockDiagonal(r(3, 4, 2))) == 6
    assert sm.bandwidth(sm.kron(sm.Identity(3), W)) == (3, 3)
    assert sm.bandwidth(sm.Convolution(r(5), 9, "same")) == (2, 2)
    t = sm.Toeplitz(r(9), r(9))
    assert sm.displacement_rank(t) == 2
    assert sm.displacement_rank(t @ t.T) == 4
    assert sm.displacement_rank(t + sm.Identity(9)) == 3
    assert sm.displacement_rank(sm.Circulant(r(9)) @ t) == 2
    assert sm.displacement_rank(sm.Circulant(r(9)), (1, 1)) == 0
    assert sm.displacement_rank(sm.LowRank(r(9, 2), r(2, 9))) == 4
    assert sm.displacement_rank(sm.Dense(r(9, 9))) is None
    ldr = sm.LowDisplacementRank(r(9, 3), r(3, 9))
    assert sm.displacement_rank(ldr) == 3
    assert sm.displacement_rank(ldr.T, (-1, 1)) == 3
    assert sm.displacement_rank(sm.Inverse(t)) == 2
    assert sm.displacement_rank(sm.StateSpace(r(2), r(2), r(2), 1.0, 9)) == 2
    assert sm.rank_bound(sm.vstack(L, L, V)) == 4
    assert sm.rank_bound(sm.block([[L, L], [sm.Zero(3, 4), V]])) == 5
    assert sm.bandwidth(sm.Convolution(r(3), 9)[2:7, 2:]) == (2, 0)
    assert sm.bandwidth(sm.Convolution(r(3), 9)[2:]) == (0, 2)
    assert sm.bandwidth(sm.Convolution(r(3), 9)[:, 1:]) == (3, 0)
    assert (
        sm.rank_bound(sm.elementwise(sm.LowRank(r(7, 2), r(2, 7)), sm.LowRank(r(7, 3), r(3, 7))))
        == 6
    )
    band = sm.elementwise(sm.LowRank(r(9, 1), r(1, 9)), sm.Convolution(r(3), 9))
    assert sm.bandwidth(band) == (2, 0)
    assert sm.rank_bound(sm.Selection([1, 1, 2], 4)) == 2
    assert sm.bandwidth(sm.block([[D, D], [0, D]])) == (0, 4)
    assert sm.bandwidth(sm.Companion(torch.ones(5))) == (1, 3)


def test_declared_properties_travel() -> None:
    op = sm.assume(Z @ Z.H, psd=True)
    assert "psd" in repr(op)
    leaves, spec = torch.utils._pytree.tree_flatten(op)
    for other in (
        op.to(torch.complex64),
        op.conj(),
        copy.deepcopy(op),
        pickle.loads(pickle.dumps(op)),
        from_spec(op.spec(), op.named_tensors()),
        torch.utils._pytree.tree_unflatten(leaves, spec),
        sm.assume(op.T, symmetric=True).T,
        op.simplify(),
    ):
        assert "psd" in other.assumed
    assert op.structure != (Z @ Z.H).structure
    assert (op + Z).children[0] is op, "a sum whose property is declared is one term"
    assert len((op + Z).simplify().children or (0,)) <= 2
    assert sm.assume(op, psd=True) is op


def test_declared_sides_turn() -> None:
    below = sm.assume(W.T, triangular="lower")
    assert sm.is_triangular(below, "lower") is True
    assert sm.is_triangular(below.T, "upper") is True
    assert sm.is_triangular(below.T, "lower") is None


@pytest.mark.parametrize(
    ("declared", "method"),
    [
        ({"psd": True}, "cholesky"),
        ({"unitary": True}, "adjoint"),
        ({"triangular": "lower"}, "triangular"),
        ({"triangular": "upper"}, "triangular"),
        ({}, "dense lu"),
    ],
)
def test_solve_uses_what_is_declared(declared: dict[str, Any], method: str) -> None:
    w = torch.linspace(-1, 1, 25, dtype=torch.float64).reshape(5, 5).sin() + 3 * torch.eye(5)
    w = w + 0.03j * (w.mT @ w)
    if "psd" in declared:
        w = w @ w.mH
    if "unitary" in declared:
        w = torch.linalg.qr(w)[0]
    if "triangular" in declared:
        w = w.tril() if declared["triangular"] == "lower" else w.triu()
    w = w.requires_grad_()
    op = sm.assume(sm.Dense(w), **declared)
    b = r(5).to(torch.complex128)
    for a, dense in ((op, w), (op.T, w.mT), (op.H, w.mH), (2 * op, 2 * w)):
        solution = sm.solve(a, b)
        assert method in solution.method
        want = torch.linalg.solve(dense, b)
        torch.testing.assert_close(solution.x, want)
        got_grad, want_grad = (
            torch.autograd.grad(x.abs().square().sum(), w)[0] for x in (solution.x, want)
        )
        torch.testing.assert_close(got_grad, want_grad)


def test_declared_properties_dissolve_in_simplification() -> None:
    inner = sm.assume(W + V.T @ V, symmetric=True)
    out = (inner + W).simplify()
    want = inner.to_dense() + W.to_dense()
    assert torch.equal(out.to_dense(), want)
    assert not any(isinstance(c, sm.Sum) for c in out.children)


def test_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="cannot be psd"):
        sm.assume(V, psd=True)
    with pytest.raises(ValueError, match="cannot be unitary"):
        sm.assume(L, unitary=True)
    with pytest.raises(ValueError, match="side 'left'"):
        sm.is_triangular(W, "left")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'left'"):
        sm.assume(W, triangular="left")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shifts"):
        sm.displacement_rank(W, (2, 1))


def test_deep_expressions_are_asked_once() -> None:
    """Answers in a time that does not double at every level: this would not end otherwise."""
    w = sm.Dense(r(4, 4))
    deep: sm.LinearOperator = w
    for _ in range(25):
        deep = 0.5 * (deep.T + w.T @ w) @ sm.Identity(4)
    questions = (sm.is_symmetric, sm.is_hermitian, sm.is_psd, sm.is_unitary, sm.is_real)
    assert [ask(deep) for ask in questions] == [None, None, None, None, True]
    assert sm.is_psd(deep @ deep.T) is True
    assert sm.is_triangular(deep) is None


def test_numbers_are_not_looked_at() -> None:
    """Answers on the meta device, where there are none, and inside vmap."""
    op = (V.T @ V + sm.Identity(4)).to("meta")
    assert sm.is_psd(op) is True
    assert sm.is_triangular(sm.Convolution(r(3), 6).to("meta"), "lower") is True

    def inside(w: Tensor) -> Tensor:
        assert sm.is_symmetric(sm.Dense(w).T @ sm.Dense(w)) is True
        return w

    torch.vmap(inside)(torch.ones(2, 3, 3))
