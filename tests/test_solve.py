"""Linear systems: every structure against torch.linalg on the dense matrix, and what goes wrong."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from systems import (
    KINDS,
    SYSTEMS,
    W,
    away,
    close,
    heavy,
    hollow,
    maker,
    regular,
    thin,
)
from torch import Tensor

import structmat as sm

UNREAD = ("triangular", "triangular transposed", "unitary")
"""Numerical differences leave what was declared."""

every_system = pytest.mark.parametrize("name", SYSTEMS)


@every_system
@pytest.mark.parametrize("kind", KINDS)
def test_solve(name: str, kind: str) -> None:
    make, method = SYSTEMS[name]
    op = make(maker(kind))
    n = op.shape[0]
    dense = op.to_dense()
    draw = maker(kind, 1)
    for shape in [(n,), (n, 3), (n, 0), (2, n, 2), (2, 1, n, 1)]:
        b = draw(*shape)
        solution = sm.solve(op, b)
        assert solution.method == method
        assert solution.iterations == 0
        want = torch.promote_types(op.dtype if op.strong_dtype else b.dtype, b.dtype)
        assert solution.x.dtype == want
        assert float(solution.residual) < 1e4 * torch.finfo(want).eps
        square = b if len(shape) > 1 else b[:, None]
        x = solution.x if len(shape) > 1 else solution.x[:, None]
        wide = dense.to(want)
        close(x, wide.expand(*shape[:-2], n, n), square)


@pytest.mark.parametrize("name", [n for n in SYSTEMS if n not in UNREAD])
def test_gradients(name: str) -> None:
    op = SYSTEMS[name][0](maker("real64"))
    tensors = [t.clone().requires_grad_() for t in op.parameters()]
    b = maker("real64", 1)(op.shape[0], 2).requires_grad_()

    def apply(b: Tensor, *tensors: Tensor) -> Tensor:
        table = dict(zip(map(id, op.parameters()), tensors, strict=True))
        new = op._map(lambda t: table[id(t)], None)
        x = sm.solve(new, b, check=False).x
        return torch.view_as_real(x) if x.is_complex() else x

    assert torch.autograd.gradcheck(apply, (b, *tensors), fast_mode=True)
    assert torch.autograd.gradgradcheck(apply, (b, *tensors), fast_mode=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SYSTEMS if n not in UNREAD])
@pytest.mark.parametrize("kind", ["complex128", "real64"])
def test_complex_gradients(name: str, kind: str) -> None:
    op = SYSTEMS[name][0](maker(kind))
    tensors = [t.detach().clone().requires_grad_() for t in op.parameters()]
    places = {id(t): i for i, t in enumerate(op.parameters())}
    b = maker("complex128", 1)(op.shape[0], 2).requires_grad_()

    def apply(b: Tensor, *tensors: Tensor) -> Tensor:
        new = op._map(lambda t: tensors[places[id(t)]], None)._assuming(op.assumed)
        return torch.view_as_real(sm.solve(new, b, check=False).x.to(torch.complex128))

    assert torch.autograd.gradcheck(apply, (b, *tensors))


MANY = [n for n in SYSTEMS if n not in ("toeplitz without regular minors",)]


def batched(name: str, batch: tuple[int, ...]) -> tuple[sm.LinearOperator, list[sm.LinearOperator]]:
    """A batch of operators of one structure, and its members."""
    members = [SYSTEMS[name][0](maker("real64", seed)) for seed in range(math.prod(batch))]
    tables = [list(m.parameters()) for m in members]
    stacked = {
        id(t): torch.stack([table[i] for table in tables]).reshape(*batch, *t.shape)
        for i, t in enumerate(tables[0])
    }
    return members[0]._map(lambda t: stacked[id(t)], None), members


@pytest.mark.parametrize("name", MANY)
def test_batches(name: str) -> None:
    """A batch of operators, b with and without it, and more dimensions in front."""
    op, members = batched(name, (3,))
    if not op.batch_shape:
        return
    n = op.shape[0]
    draw = maker("real64", 7)
    for shape in [(n, 2), (3, n, 2), (2, 3, n, 1), (2, 1, n, 2)]:
        b = draw(*shape)
        x = sm.solve(op, b).x
        wide = b.expand(*torch.broadcast_shapes((3,), shape[:-2]), *shape[-2:])
        assert x.shape == wide.shape
        for i, member in enumerate(members):
            close(
                x[..., i, :, :],
                member.to_dense().expand(*wide.shape[:-3], n, n),
                wide[..., i, :, :],
            )
    x = sm.Inverse(op) @ draw(n, 2)
    assert x.shape == (3, n, 2)
    assert sm.solve(op, draw(n)).x.shape == (3, n)


@every_system
def test_vmap(name: str) -> None:
    """Under torch.vmap no number is looked at: elimination serves where Levinson did."""
    op = SYSTEMS[name][0](maker("real64"))
    b = maker("real64", 1)(3, op.shape[0])
    inverse = sm.Inverse(op)
    x = torch.vmap(inverse)(b)
    close(x.mT, op.to_dense().to(x.dtype), b.mT)


@every_system
def test_devices(name: str) -> None:
    """No step makes a tensor on another device: meta tensors would refuse it."""
    op = SYSTEMS[name][0](maker("real64"))
    if not list(op.parameters()):
        return
    away_ = op._map(lambda t: t.to("meta").requires_grad_(), None)._assuming(op.assumed)
    b = torch.ones(op.shape[0], 2, dtype=W, device="meta")
    x = sm.solve(away_, b).x
    assert (x.device.type, x.shape) == ("meta", (op.shape[0], 2))
    torch.autograd.grad(x.abs().sum(), list(away_.parameters()))


@pytest.mark.parametrize("name", ["dense", "toeplitz", "cauchy", "sparse", "triangular"])
def test_vmap_over_operators_and_forward_mode(name: str) -> None:
    op = SYSTEMS[name][0](maker("real64"))
    r = maker("real64", 3)
    b = r(op.shape[0], 2)
    table = {id(t): i for i, t in enumerate(op.parameters())}

    def apply(b: Tensor, *tensors: Tensor) -> Tensor:
        new = op._map(lambda t: tensors[table[id(t)]], None)._assuming(op.assumed)
        return sm.solve(new, b).x

    tensors = list(op.parameters())
    many = [torch.stack([t, t * 1.5]) for t in tensors]
    x = torch.vmap(apply, in_dims=(None, *(0 for _ in many)))(b, *many)
    for i in range(2):
        torch.testing.assert_close(x[i], apply(b, *(t[i] for t in many)))
    change = [r(*t.shape) * (t != 0) for t in tensors]
    forward: Any = torch.func.jvp(lambda *t: apply(b, *t), tuple(tensors), tuple(change))
    pulled: Any = torch.func.vjp(lambda *t: apply(b, *t), *tensors)
    g = r(*b.shape)
    backward = sum((v * c).sum() for v, c in zip(pulled[1](g), change, strict=True))
    torch.testing.assert_close((forward[1] * g).sum(), torch.as_tensor(backward))


# methods ---------------------------------------------------------------------------------------


def test_many_columns_of_a_toeplitz_matrix() -> None:
    """Gohberg and Semencul where the inverse pays, with its way out where x_0 is zero."""
    r = maker("real64")
    op = sm.Toeplitz(heavy(r, 600), heavy(r, 600))
    b = r(600, 40)
    solution = sm.solve(op, b)
    assert solution.method == "gohberg-semencul"
    close(solution.x, op.to_dense(), b)
    for method in ("levinson", "gko", "gohberg-semencul", "dense", "gmres"):
        assert sm.solve(op, b[:, :2], method=method).method.startswith(method)
    hollow_ = sm.Toeplitz(torch.tensor([0.0, 1.0], dtype=W), torch.tensor([0.0, 1.0], dtype=W))
    assert sm.solve(hollow_, b[:2], method="gohberg-semencul").method == "gko"


def test_iterative() -> None:
    r = maker("real64")
    m = r(12, 12)
    psd = sm.assume(sm.Dense(m @ m.mT + torch.eye(12, dtype=W)), psd=True)
    b = r(12, 3)
    for method in ("cg", "minres", "gmres", "lsmr", "cgls"):
        solution = sm.solve(psd, b, method=method)
        assert (solution.method, solution.iterations > 0) == (method, True)
        close(solution.x, 1e4 * psd.to_dense() / 1e4, b) if method in ("cg", "gmres") else None
        assert float(solution.residual) < 1e-10
    many = sm.assume(sm.Dense(psd.to_dense() * torch.tensor([1.0, 2.0])[:, None, None]), psd=True)
    for method in ("cg", "gmres"):
        x = sm.solve(many, b, method=method).x
        torch.testing.assert_close(x, torch.linalg.solve(many.to_dense(), b), rtol=1e-8, atol=1e-8)
    with pytest.raises(ValueError, match="lsmr runs in SciPy, for one operator on the CPU"):
        sm.solve(many, b, method="lsmr")
    with pytest.warns(sm.linalg.IllConditionedWarning, match="cg reached a relative residual"):
        sm.solve(psd, b, method="cg", maxiter=2)
    assert sm.solve(psd, 0 * b, method="cg").iterations == 0
    both = sm.solve(psd, torch.complex(b, r(12, 3)), method="minres")
    assert both.residual < 1e-10
    with pytest.raises(ValueError, match=r"method 'minres' does not serve.*cg, gmres"):
        sm.solve(psd.to(torch.complex128), b, method="minres")


def test_cg_is_chosen_where_the_matrix_is_known_to_be_definite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = sys.modules["structmat.linalg.choose"]
    monkeypatch.setattr(module, "DENSE", 4)
    r = maker("real64")
    M = sm.Monarch(r(3, 4, 4), r(4, 3, 3))
    other = M + sm.Toeplitz(r(12), r(12))
    for op, want in (
        (other, "gmres"),
        (sm.assume(other, symmetric=True), "minres"),
        (M + M.T, "minres"),
        (sm.assume(other, psd=True), "cg"),
        (M @ M.T + sm.Identity(12), "cg"),
    ):
        assert module.choose(op, None, 1) == want, op


def test_cg_on_request_rests_on_the_residual() -> None:
    """Right where it arrives, whatever is known; a warning with the residual where it does not."""
    r = maker("real64")
    m, b = r(12, 12), r(12)
    definite, other = sm.Dense(m @ m.mT + torch.eye(12, dtype=W)), sm.Dense(regular(r, 12, 12))
    solution = sm.solve(definite, b, method="cg")
    assert solution.residual < 1e-10
    close(solution.x, definite.to_dense(), b)
    with pytest.warns(
        sm.linalg.IllConditionedWarning,
        match=r"cg reached a relative residual of \d.* for positive definite matrices, which this "
        r"one is not known to be: use method='gmres'.*sm.assume",
    ):
        found = sm.solve(other, b, method="cg")
    gap = torch.linalg.vector_norm(other @ found.x - b) / torch.linalg.vector_norm(b)
    torch.testing.assert_close(found.residual, gap)
    with pytest.warns(sm.linalg.IllConditionedWarning, match="minres is for Hermitian matrices"):
        sm.solve(other, b, method="minres")
    with pytest.raises(ValueError, match="'cg' does not serve"):  # known to be neither
        sm.solve(sm.reversal(3) - 2 * sm.cyclic_shift(3, 1), b[:3], method="cg")


@pytest.mark.parametrize("method", ["cg", "minres", "gmres", "cgls", "levinson", "gko"])
def test_gradients_by_the_adjoint(method: str) -> None:
    r = maker("real64")
    c, b = heavy(r, 5).requires_grad_(), r(5, 2).requires_grad_()

    def apply(c: Tensor, b: Tensor) -> Tensor:
        op = sm.assume(sm.Toeplitz(c), psd=True)
        return sm.solve(op, b, method=method).x

    assert torch.autograd.gradcheck(apply, (c, b), atol=1e-4, fast_mode=True)
    if method in ("cg", "levinson"):
        assert torch.autograd.gradgradcheck(apply, (c, b), atol=1e-4, fast_mode=True)


# what goes wrong -------------------------------------------------------------------------------


def test_cholesky_and_its_way_out() -> None:
    r = maker("real64")
    m, b = r(5, 5), r(5, 2)
    psd = sm.assume(sm.Dense(m @ m.mT + torch.eye(5, dtype=W)), psd=True)
    solution = sm.solve(psd, b)
    assert solution.method == "cholesky"
    close(solution.x, psd.to_dense(), b)
    wrong = sm.assume(sm.Dense(regular(r, 5, 5) * torch.tensor([1, -1, 1, 1, 1])), psd=True)
    assert sm.solve(wrong, b).method == "dense lu"
    product = sm.Toeplitz(heavy(r, 5)) @ sm.Toeplitz(heavy(r, 5)).T + sm.Identity(5)
    assert sm.solve(product, b).method in ("dense cholesky", "dense lu")
    assert sm.solve(sm.LinearOperator.__add__(sm.Diagonal(away(r, 5)), psd), b).residual < 1e-12


def test_fallbacks_are_named_also_inside() -> None:
    r = maker("real64")
    b = r(6, 2)
    t = SYSTEMS["toeplitz without regular minors"][0](r)
    k = sm.Hankel(torch.tensor([0.0, 1, 0], dtype=W), torch.tensor([0.0, 0, 1], dtype=W))
    cases = {
        "direct sum (gko; diagonal)": sm.direct_sum(2 * t, sm.Diagonal(away(r, 2))),
        "kronecker (diagonal; gko)": sm.kron(sm.Diagonal(away(r, 2)), k),
        "product (gko; circulant)": sm.Toeplitz(hollow(r, 6)) @ sm.Circulant(heavy(r, 6)),
        "block substitution (gko; diagonal)": sm.block(
            [[t, 0], [r(2, 4), sm.Diagonal(away(r, 2))]]
        ),
        "dense lu": sm.Diagonal(torch.tensor([0.0, 1, 1, 1, 1, 1], dtype=W)) + thin(r, 6, 2),
    }
    for name, op in cases.items():
        solution = sm.solve(op, b)
        assert solution.method == name
        close(solution.x, op.to_dense(), b)
        close(sm.Inverse(op) @ b, op.to_dense(), b) if name != "dense lu" else None


def test_large_orthogonal_matrices_are_well_conditioned() -> None:
    n = 1 << 17
    assert sm.solve(sm.DCT(n, norm="ortho"), torch.ones(n)).residual < 1e-4


def test_vandermonde_nodes_in_an_unfortunate_order() -> None:
    """The Fourier matrix has condition one, and its nodes in order lose every digit."""
    k = torch.arange(64, dtype=W)
    op = sm.Vandermonde(torch.polar(torch.ones_like(k), k * (math.pi / 32)))
    b = maker("complex128")(64, 2)
    for one in (op, op.T):
        solution = sm.solve(one, b)
        assert solution.method == "bjorck-pereyra"
        close(solution.x, one.to_dense(), b)


def test_the_last_resort_is_lu() -> None:
    k = torch.arange(60, dtype=W)
    op = sm.Toeplitz(torch.sinc(k / 2) / 2)  # prolate: half of the eigenvalues are almost zero
    with pytest.warns(sm.linalg.IllConditionedWarning):
        solution = sm.solve(op, op @ torch.ones(60, dtype=W))
    assert solution.method == "dense lu"
    assert solution.residual < 1e-10


def test_singular_systems_raise() -> None:
    n = 4
    b = torch.ones(n, dtype=W)
    ones = torch.ones(n, dtype=W)
    cases: list[tuple[sm.LinearOperator, str]] = [
        (sm.Diagonal(torch.tensor([1.0, 0, 1, 1], dtype=W)), r"Diagonal\(4\) is singular.*pinv"),
        (sm.Dense(torch.ones(n, n, dtype=W)), r"Dense\(4x4\) is singular, by dense lu"),
        (sm.Zero(n), "all its entries are zero"),
        (0 * sm.Identity(n), "the factor in front is zero"),
        (sm.LowRank(ones[:, None], ones[None]), "its rank is at most 1 of 4"),
        (sm.LowDisplacementRank(ones[:, None][:, :0], ones[None][:0]), "its displacement is zero"),
        (sm.Dense(ones[:, None]) @ sm.Dense(ones[None]), "its rank is at most 1 of 4"),
        (sm.BlockDiagonal(torch.ones(2, 2, 2, dtype=W)), "is singular"),
        (sm.Circulant(ones), "singular|ill-conditioned"),
        (sm.Toeplitz(ones, ones), "singular"),
        (sm.kron(sm.Diagonal(ones[:2] * 0), sm.Identity(2)), "singular"),
    ]
    for op, message in cases:
        with pytest.raises(sm.linalg.SingularError, match=message):
            sm.solve(op, b)
        with pytest.raises(torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            sm.solve(op, b)


def test_ill_conditioned_systems_warn() -> None:
    n = 14
    i = torch.arange(1, n + 1, dtype=W)
    hilbert = sm.Dense(1 / (i[:, None] + i - 1))
    b = hilbert @ torch.ones(n, dtype=W)
    with pytest.warns(sm.linalg.IllConditionedWarning, match=r"ill-conditioned, about .*float64"):
        solution = sm.solve(hilbert, b)
    assert float(solution.residual) < 1e-10  # the residual alone would not tell
    sm.solve(hilbert, b, check=False)
    with pytest.warns(sm.linalg.IllConditionedWarning):
        sm.solve(sm.Diagonal(torch.tensor([1.0, 1e-30])), torch.ones(2))


def test_errors() -> None:
    a = sm.Dense(torch.eye(3))
    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: sm.inv(sm.Dense(torch.ones(2, 3))), ValueError, r"2x3, not square; sm.pinv"),
        (lambda: sm.inv(torch.eye(2)), TypeError, r"Tensor is not an operator; wrap it: sm.Dense"),  # type: ignore[arg-type]
        (lambda: sm.Inverse(sm.Zero(2, 3)), ValueError, "Inverse: .* not square"),
        (lambda: sm.inv(0 * a), sm.linalg.SingularError, "is zero"),
        (lambda: sm.solve(torch.eye(2), torch.ones(2)), TypeError, "not an operator"),  # type: ignore[arg-type]
        (lambda: sm.pinv(torch.eye(2)), TypeError, "not an operator"),  # type: ignore[arg-type]
        (lambda: sm.solve(a, torch.ones(4)), ValueError, r"has 3 rows, b has shape \(4,\)"),
        (lambda: sm.solve(a, torch.ones(2, 4)), ValueError, r"for rows \(..., n\) pass b.mT"),
        (lambda: sm.solve(a, torch.ones(3, dtype=torch.int64)), TypeError, r"b.to\(torch.float64"),
        (
            lambda: sm.solve(a, torch.ones(3, device="meta")),
            ValueError,
            r"is on cpu, b on meta; move one: A.to\(b.device\)",
        ),
        (
            lambda: sm.solve(sm.Diagonal(torch.tensor([1.0, math.inf, math.nan])), torch.ones(3)),
            ValueError,
            r"Diagonal\(3\).*holds NaN or infinity",
        ),
        (
            lambda: sm.solve(a, torch.tensor([1.0, math.nan, 0])),
            ValueError,
            "holds NaN or infinity",
        ),
        (lambda: sm.solve(a, torch.tensor(1.0)), ValueError, "at least 1 dim"),
        (lambda: sm.solve(a, torch.ones(3), method="cholesky"), ValueError, "these do: dense lu, "),
        (
            lambda: sm.solve(sm.Dense(torch.ones(2, 3, 3)), torch.ones(4, 3, 1)),
            ValueError,
            r"batch \(2,\) of Dense\(3x3\) does not broadcast",
        ),
        (
            lambda: sm.solve(sm.Dense(torch.ones(2, 3)), torch.ones(2), method="cg"),
            ValueError,
            "these do: pseudoinverse, dense, lsmr, cgls",
        ),
        (
            lambda: sm.pinv(sm.Toeplitz(torch.ones(3000), torch.ones(3001))),
            ValueError,
            "more than 2048 a side to become dense; sm.solve",
        ),
        (lambda: torch.vmap(lambda x: sm.solve(a, x, method="gmres").x)(torch.ones(2, 3)),
         RuntimeError, "gmres looks at numbers"),
    ]  # fmt: skip
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()


def test_what_is_too_large_to_become_dense_is_iterated() -> None:
    n = 2200
    g = torch.Generator().manual_seed(0)
    v = torch.randn(n, generator=g, dtype=W)
    op = sm.Diagonal(v.abs() + 4) + sm.Circulant(heavy(lambda k: v[:k], n))
    solution = sm.solve(op, v)
    assert solution.method == "gmres"
    assert float(solution.residual) < 1e-10


def test_empty_systems() -> None:
    for op in (sm.Dense(torch.ones(0, 0)), sm.Identity(0), sm.Toeplitz(torch.ones(0)), sm.DFT(0)):
        assert sm.solve(op, torch.ones(0)).x.shape == (0,)
        assert sm.solve(op, torch.ones(0, 2)).x.shape == (0, 2)


def test_a_part_without_entries_keeps_the_batch() -> None:
    op = sm.direct_sum(sm.Dense(torch.ones(2, 0, 0)), sm.Diagonal(torch.tensor([2.0, 4.0])))
    assert sm.solve(op, torch.ones(2)).x.tolist() == [[0.5, 0.25], [0.5, 0.25]]


def test_half_precision_is_solved_in_single() -> None:
    r = maker("real32")
    op = sm.Dense(regular(r, 5, 5).to(torch.bfloat16))
    x = sm.solve(op, torch.ones(5, dtype=torch.bfloat16)).x
    assert x.dtype == torch.bfloat16
    assert sm.inv(op)(torch.ones(5, dtype=torch.bfloat16)).dtype == torch.bfloat16
