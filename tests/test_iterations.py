"""Eigenvalues, singular values, norms and conditions by iteration: values and first derivatives."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from test_spectra import safe
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import structmat as sm

C = torch.complex128


def numbers(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    out = safe(seed, *shape, 2)
    return torch.view_as_complex(out) if dtype.is_complex else out[..., 0].clone()


@pytest.fixture
def iterated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms and condition numbers of small matrices by iteration, too."""
    for name in ("norm", "condition"):  # of modules, where the package has a function of that name
        monkeypatch.setattr(import_module(f"structmat.linalg.{name}"), "SMALL", 0)


def check_gradient(f: Callable[..., Tensor], *args: Tensor) -> None:
    inputs = [a.clone().requires_grad_() for a in args]
    assert torch.autograd.gradcheck(f, inputs, check_forward_ad=True, fast_mode=True)


dtypes = pytest.mark.parametrize("dtype", [torch.float64, C], ids=["real", "complex"])


@dtypes
@pytest.mark.parametrize("which", ["LM", "SM", "LR", "SR", "LI", "SI"])
def test_gradients_of_eigenvalues(which: str, dtype: torch.dtype) -> None:
    # moduli: of a complex pair either may come first
    def f(w: Tensor) -> Tensor:
        return sm.eigvals(sm.Dense(w), 3, which=which).abs().sort().values

    check_gradient(f, numbers(1, 9, 9, dtype=dtype))


@dtypes
def test_complex_eigenvalues_have_complex_gradients(dtype: torch.dtype) -> None:
    d = numbers(1, 8, dtype=C) + 3 * torch.arange(8)
    basis = sm.DCT(8, norm="ortho", dtype=torch.float64)
    shift = numbers(2, 8, 8, dtype=dtype) / 10

    def ours(d: Tensor, w: Tensor) -> Tensor:
        return sm.eigvals(basis.T @ sm.Diagonal(d) @ basis + sm.Dense(w), 3)

    check_gradient(ours, d, shift)


@dtypes
@pytest.mark.parametrize("which", ["LM", "SM", "LA", "SA", "BE"])
def test_gradients_of_hermitian_eigenvalues(which: str, dtype: torch.dtype) -> None:
    if which == "BE" and dtype.is_complex:
        with pytest.raises(ValueError, match="'BE' is for real matrices"):
            sm.eigvalsh(sm.Dense(numbers(1, 8, 8, dtype=dtype)), 3, which=which)
        return

    def f(w: Tensor) -> Tensor:
        return sm.eigvalsh(sm.Dense(w) + sm.Dense(w).H, 3, which=which)

    check_gradient(f, numbers(1, 8, 8, dtype=dtype))


@dtypes
@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (2, 6, 6)])
def test_gradients_of_singular_values(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    check_gradient(lambda w: sm.svdvals(sm.Dense(w), 3), numbers(2, *shape, dtype=dtype))


@dtypes
def test_gradients_reach_every_tensor(dtype: torch.dtype) -> None:
    left, right = numbers(3, 3, 2, 2, dtype=dtype), numbers(4, 2, 3, 3, dtype=dtype)
    d = numbers(5, 6, dtype=dtype)

    def f(left: Tensor, right: Tensor, d: Tensor) -> Tensor:
        A = sm.Monarch(left, right) @ sm.Diagonal(d) + sm.Monarch(left, right).H
        return torch.cat([sm.svdvals(A, 2), sm.eigvals(A, 1, which="LR").abs()])

    check_gradient(f, left, right, d)


@dtypes
def test_gradients_of_norms_and_conditions(iterated: None, dtype: torch.dtype) -> None:
    u, v = numbers(6, 6, 2, dtype=dtype), numbers(7, 2, 6, dtype=dtype)
    d = numbers(8, 6, dtype=dtype) + 4

    def make(u: Tensor, v: Tensor, d: Tensor) -> sm.LinearOperator:
        return sm.Diagonal(d) + sm.LowRank(u, v)

    A = make(u, v, d)
    for found, want in (
        (sm.norm(A, 2, return_method=True), torch.linalg.matrix_norm(A.to_dense(), 2)),
        (sm.cond(A, return_method=True), torch.linalg.cond(A.to_dense())),
    ):
        assert "Lanczos" in found.method
        assert torch.allclose(found.value, want)
    check_gradient(lambda *t: sm.norm(make(*t), 2), u, v, d)
    check_gradient(lambda *t: sm.cond(make(*t)), u, v, d)


def test_batches_go_one_by_one() -> None:
    w, d = safe(1, 3, 1, 7, 7), safe(2, 2, 7)
    A = sm.Dense(w) @ sm.Diagonal(d)
    dense = A.to_dense()
    assert A.batch_shape == (3, 2)
    assert torch.allclose(sm.svdvals(A, 2), torch.linalg.svdvals(dense)[..., :2])
    biggest = sm.eigvals(A, 1).abs()
    assert torch.allclose(biggest[..., 0], torch.linalg.eigvals(dense).abs().amax(-1))
    H = A + A.H
    assert torch.allclose(
        sm.eigvalsh(H, 1, which="LA"), torch.linalg.eigvalsh(H.to_dense())[..., -1:]
    )
    none = sm.Dense(safe(1, 0, 7, 7))
    assert sm.svdvals(none, 2).shape == sm.eigvals(none, 2).shape == (0, 2)
    assert sm.eigvals(none, 2).dtype == C


def test_norms_of_batches_are_iterated(iterated: None) -> None:
    A = sm.Dense(safe(1, 2, 6, 6)) @ sm.Toeplitz(safe(2, 6))
    found = sm.norm(A, 2, return_method=True)
    assert "Lanczos" in found.method
    assert torch.allclose(found.value, torch.linalg.matrix_norm(A.to_dense(), 2))


def test_under_transforms_of_torch() -> None:
    w = safe(1, 3, 6, 6)

    def f(w: Tensor) -> Tensor:
        return sm.svdvals(sm.Dense(w), 2).sum() + sm.eigvals(sm.Dense(w), 2).abs().sum()

    def dense(w: Tensor) -> Tensor:
        values = torch.linalg.eigvals(w)
        at = values.abs().argsort(descending=True)[:2]
        out: Tensor = torch.linalg.svdvals(w)[:2].sum() + values[at].abs().sum()
        return out

    assert torch.allclose(torch.vmap(f)(w), torch.stack([dense(t) for t in w]))
    want = torch.stack([torch.func.grad(dense)(t) for t in w])
    assert torch.allclose(torch.vmap(torch.func.grad(f))(w), want)
    assert torch.allclose(torch.func.jvp(f, (w[0],), (w[1],))[1], (want[0] * w[1]).sum())
    with pytest.raises(RuntimeError, match=r"svdvals: an iteration looks at the numbers.*tracing"):
        make_fx(f)(w[0])


HESSIANS: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Any]] = {
    "backward twice": torch.autograd.functional.hessian,
    "reverse over reverse": lambda f, w: torch.func.jacrev(torch.func.grad(f))(w),
    "forward over reverse": lambda f, w: torch.func.hessian(f)(w),
    "reverse over forward": lambda f, w: torch.func.jacrev(torch.func.jacfwd(f))(w),
    "forward over forward": lambda f, w: torch.func.jacfwd(torch.func.jacfwd(f))(w),
}


@pytest.mark.parametrize("hessian", HESSIANS.values(), ids=HESSIANS)
def test_second_derivatives_raise(hessian: Callable[..., Any], iterated: None) -> None:
    w = safe(1, 6, 6)
    functions: list[Callable[[sm.LinearOperator], Tensor]] = [
        lambda A: sm.svdvals(A, 2).sum(),
        lambda A: sm.eigvals(A, 2).abs().sum(),
        lambda A: sm.eigvalsh(A + A.T, 2).sum(),
        lambda A: sm.norm(A @ A, 2),
    ]
    for f in functions:
        with pytest.raises(NotImplementedError, match=r"has first derivatives only.*to_dense"):
            hessian(lambda w, f=f: f(sm.Dense(w)), w)


def test_second_derivatives_of_an_estimate_raise() -> None:
    def f(d: Tensor) -> Tensor:
        return sm.logdet(sm.Diagonal(d), method="slq", samples=2, steps=4).value

    with pytest.raises(NotImplementedError, match=r"logdet: .*first derivatives only"):
        torch.autograd.functional.hessian(f, torch.linspace(1, 2, 4))


def test_sums_of_multiple_values_have_a_derivative() -> None:
    # A = S (B (+) B) S^-1: every eigenvalue twice, not normal
    s = safe(1, 8, 8)
    base = s @ torch.block_diag(*[safe(2, 4, 4)] * 2) @ torch.linalg.inv(s)
    values = torch.linalg.eigvals(base).abs().sort(descending=True).values
    k = 2 if float(values[2]) < 0.99 * float(values[0]) else 4

    def total(w: Tensor) -> Tensor:
        return (sm.eigvals(sm.Dense(w), k) ** 2).sum().real

    change = safe(3, 8, 8)

    def dense(t: float) -> Tensor:
        found = torch.linalg.eigvals(base + t * change)
        out: Tensor = (found[found.abs().argsort(descending=True)[:k]] ** 2).sum().real
        return out

    step = 1e-5
    want = (dense(step) - dense(-step)) / (2 * step)
    got = torch.func.jvp(total, (base,), (change,))[1]
    assert torch.allclose(got, want, rtol=1e-5)


def test_left_vectors_of_values_of_one_modulus() -> None:
    # the iterations with A and with its transpose may find either of 2 and -2 first
    d = torch.tensor([2.0, -2.0, 1.0, 0.5, 0.3, 0.2, 0.1], dtype=torch.float64)
    s = torch.eye(7, dtype=torch.float64) + 0.2 * safe(4, 7, 7)

    def f(d: Tensor) -> Tensor:
        return sm.eigvals(sm.Dense(s) @ sm.Diagonal(d) @ sm.Dense(torch.linalg.inv(s)), 1)

    value = float(f(d).real[0])
    gradient = torch.func.jacrev(lambda d: f(d).real[0])(d)
    want = torch.zeros_like(d)
    want[0 if value > 0 else 1] = 1
    assert torch.allclose(gradient, want, atol=1e-8)


def test_results_repeat_and_do_not_depend_on_gradients() -> None:
    A = sm.LowRank(safe(1, 30, 2), safe(2, 2, 30))  # the space of the iteration ends after 2 steps
    functions: list[Callable[[sm.LinearOperator], Tensor]] = [
        lambda A: sm.svdvals(A, 4),
        lambda A: sm.eigvals(A, 4),
        lambda A: sm.eigvalsh(A + A.H, 4),
    ]
    for f in functions:
        first = f(A)
        torch.rand(3)  # the state of torch's generator is another one
        assert torch.equal(f(A), first)
    B = sm.Dense(safe(3, 9, 9))
    with_gradient = sm.Dense(B.weight.clone().requires_grad_())
    assert torch.equal(sm.eigvals(with_gradient, 3), sm.eigvals(B, 3))
    assert torch.equal(sm.svdvals(with_gradient, 3), sm.svdvals(B, 3))


def test_zero_and_single_precision() -> None:
    zero = sm.Toeplitz(torch.zeros(7))
    assert sm.svdvals(zero, 2).tolist() == sm.eigvalsh(zero, 2).tolist() == [0, 0]
    assert sm.eigvals(zero, 2).tolist() == [0, 0]
    w = safe(1, 9, 9).float().requires_grad_()
    for values, want in (
        (sm.svdvals(sm.Dense(w * 1e25), 2) / 1e25, torch.linalg.svdvals(w)[:2]),
        (sm.svdvals(sm.Dense(w.bfloat16()), 2), torch.linalg.svdvals(w.bfloat16().float())[:2]),
    ):
        assert values.dtype == torch.float32
        assert torch.allclose(values, want, rtol=1e-5)
        got, other = (torch.autograd.grad(v.sum(), w, retain_graph=True)[0] for v in (values, want))
        assert torch.allclose(got, other, atol=1e-2 if values is not want else 0, rtol=1e-2)


def test_errors_say_the_way_out() -> None:
    A = sm.Dense(numbers(1, 4, 4, dtype=C))
    with pytest.raises(ValueError, match="svdvals: k = 3 of 4 is too many for an iteration"):
        sm.svdvals(A, 3)
    with pytest.raises(ValueError, match="not between 1 and 4"):
        sm.svdvals(A, 0)
