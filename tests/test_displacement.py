"""Real Fourier transforms, companion, Vandermonde, Cauchy and low-displacement-rank matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fftpack
import scipy.linalg
import torch
from torch import Tensor
from torch.func import jacfwd, jacrev

import structmat as sm
from structmat.testing import check_operator

WIDE = torch.float64
DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
TORCH = ("torch",)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 8, 17, 30])
def test_real_fourier(n: int, norm: str) -> None:
    forward, inverse = sm.RDFT(n, norm, WIDE), sm.IRDFT(n, norm, WIDE)
    for op in (forward, inverse):
        check_operator(op, backends=TORCH)
        check_operator(op._transpose(), backends=TORCH)
    eye = torch.eye(n, dtype=WIDE)
    torch.testing.assert_close(inverse.to_dense() @ forward.to_dense(), eye, rtol=0, atol=1e-14)
    x = np.random.default_rng(0).standard_normal((3, n))
    if n and norm == "backward":
        np.testing.assert_allclose(forward(x), scipy.fftpack.rfft(x), atol=1e-12)
        np.testing.assert_allclose(inverse(x), scipy.fftpack.irfft(x), atol=1e-12)


def test_real_fourier_cancels() -> None:
    for norm in ("backward", "ortho", "forward"):
        f, g = sm.RDFT(12, norm), sm.IRDFT(12, norm)
        for product in (f @ g, g @ f, f.T @ g.T, g.T @ f.T):
            assert isinstance(product.simplify(), sm.Identity)
        assert not isinstance((f.T @ g).simplify(), sm.Identity)
    with pytest.raises(ValueError, match="RDFT: norm 'unitary' is none of 'backward'"):
        sm.RDFT(4, "unitary")


@dtypes
@pytest.mark.parametrize("n", [0, 1, 2, 3, 8])
def test_companion(n: int, dtype: torch.dtype) -> None:
    c = torch.randn(2, n + 1, dtype=dtype)
    for op in (sm.Companion(c), sm.Companion(c)._transpose(), sm.Companion(c[0])):
        check_operator(op, backends=TORCH)
    if n:
        want = scipy.linalg.companion(c[1].numpy())
        np.testing.assert_allclose(sm.Companion(c).to_dense()[1], want, rtol=1e-5)


def test_companion_steps_a_recurrence_and_refuses_nothing() -> None:
    fibonacci = sm.Companion(torch.tensor([1.0, -1.0, -1.0], dtype=WIDE))
    assert (fibonacci**10)(torch.tensor([1.0, 0.0], dtype=WIDE)).tolist() == [89.0, 55.0]
    mixed = sm.kron(sm.Dense(torch.randn(2, 3)), sm.Companion(torch.randn(3, 5)), sm.Identity(2))
    check_operator(mixed, backends=TORCH)
    with pytest.raises(ValueError, match=r"c of shape \(2, 0\) holds no coefficients"):
        sm.Companion(torch.ones(2, 0))


@dtypes
@pytest.mark.parametrize(("m", "n"), [(0, 0), (0, 3), (3, 0), (1, 1), (4, 7), (7, 5)])
def test_cauchy(m: int, n: int, dtype: torch.dtype) -> None:
    s, t = torch.randn(m, dtype=dtype), torch.randn(n, dtype=dtype) + 6
    check_operator(sm.Cauchy(s, t), backends=TORCH)
    check_operator(sm.Cauchy(torch.stack([s, s + 1]), t[None, None])._transpose(), backends=TORCH)
    if m and n:
        want = [[1 / (a - b) for b in t.tolist()] for a in s.tolist()]
        np.testing.assert_allclose(sm.Cauchy(s, t).to_dense(), want, rtol=1e-5)


@dtypes
@pytest.mark.parametrize(("m", "n"), [(0, 0), (0, 3), (3, 0), (1, 1), (4, 7), (3, 131)])
def test_vandermonde(m: int, n: int, dtype: torch.dtype) -> None:
    x = torch.randn(2, m, dtype=dtype).clamp(-1, 1) if not dtype.is_complex else None
    x = torch.randn(2, m, dtype=dtype) / 2 if x is None else x
    for op in (sm.Vandermonde(x, n), sm.Vandermonde(x[0], n), sm.Vandermonde(x, n)._transpose()):
        check_operator(op, backends=TORCH)
    if m and n:
        want = np.vander(x[1].numpy(), n, increasing=True)
        np.testing.assert_allclose(sm.Vandermonde(x, n).to_dense()[1], want, rtol=2e-4, atol=1e-6)
    assert sm.Vandermonde(x).shape == (m, m)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("kind", ["cauchy", "vandermonde", "turned"])
@pytest.mark.parametrize("compiled", [False, True])
def test_nodes_learn(kind: str, compiled: bool, dtype: torch.dtype) -> None:
    """Gradients of the nodes, to second order; forward mode in the uncompiled operator."""

    def apply(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        op: sm.LinearOperator
        if kind == "cauchy":
            op = sm.Cauchy(s, t)
        else:
            op = sm.Vandermonde(s, 3) if kind == "vandermonde" else sm.Vandermonde(t, 4).T
        return sm.compile(op)(x) if compiled else op(x)

    x = torch.randn(2, 3, dtype=dtype, requires_grad=True)
    s = torch.randn(4, dtype=dtype, requires_grad=True)
    t = (torch.randn(3, dtype=dtype) + 4).requires_grad_()
    assert torch.autograd.gradcheck(apply, (x, s, t))
    assert torch.autograd.gradgradcheck(apply, (x, s, t))
    if not compiled and not dtype.is_complex:
        inputs = x.detach(), s.detach(), t.detach()
        for i in range(3):
            forward, back = jacfwd(apply, i)(*inputs), jacrev(apply, i)(*inputs)
            torch.testing.assert_close(forward, back)


def test_nodes_under_kronecker_and_batches() -> None:
    s, t = torch.randn(2, 3), torch.randn(4) + 6
    parts = sm.Dense(torch.randn(2, 3)), sm.Cauchy(s, t), sm.Vandermonde(torch.rand(3), 2)
    check_operator(sm.kron(*parts), backends=TORCH)
    check_operator(sm.direct_sum(sm.Cauchy(s, t), parts[2].T), backends=TORCH)
    x = torch.randn(5, 4)
    each = torch.vmap(lambda s: sm.Cauchy(s, t)(x))(s)
    torch.testing.assert_close(each, torch.stack([sm.Cauchy(one, t)(x) for one in s]))


def test_nodes_never_store_their_matrix() -> None:
    """2^16 x 2^11 and its gradient: no tensor of that size is kept for the backward pass."""
    m, n = 1 << 16, 1 << 11
    kept: list[int] = []

    def kept_size(t: Tensor) -> Tensor:
        kept.append(t.numel())
        return t

    x = torch.ones(n, requires_grad=True)
    s = torch.linspace(2, 3, m, requires_grad=True)
    z = torch.linspace(-1, 1, m, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(kept_size, lambda t: t):
        for op in (sm.Cauchy(s, torch.linspace(0, 1, n)), sm.Vandermonde(z, n)):
            op(x).sum().backward()
    assert max(kept) <= m + n


def test_cauchy_checks_its_nodes_when_asked() -> None:
    good = sm.Cauchy(torch.tensor([[1.0, 2.0]]), torch.tensor([0.25, 3.0]))
    assert good.check_nodes() == 0.75
    assert sm.Cauchy(torch.ones(0), torch.ones(3)).check_nodes() == float("inf")
    bad = sm.Cauchy(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0]))
    with pytest.raises(ValueError, match=r"Cauchy\(2x2\): s\[..., 1\] == t\[..., 1\]"):
        bad.check_nodes()
    with pytest.raises(ValueError, match="a node is nan"):
        sm.Cauchy(torch.tensor([float("nan")]), torch.ones(2)).check_nodes()
    assert bad.to_dense().isinf().sum() == 1
    with pytest.raises(ValueError, match="Vandermonde: n must be a non-negative integer, got -1"):
        sm.Vandermonde(torch.ones(3), -1)
    with pytest.raises(TypeError, match=r"Vandermonde: nodes x is torch\.int64"):
        sm.Vandermonde(torch.arange(3))
