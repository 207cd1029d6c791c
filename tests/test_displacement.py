"""Real Fourier transforms, companion, Vandermonde, Cauchy and low-displacement-rank matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fftpack
import scipy.linalg
import torch

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
