"""Toeplitz, Hankel, circulant matrices and convolutions against SciPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import scipy.signal
import torch
from torch import Tensor

import structmat as sm
from structmat.leaves.toeplitz import _fast_length, fast_length
from structmat.testing import check_operator

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def close(op: sm.LinearOperator, want: np.ndarray) -> bool:
    return np.allclose(op.to_dense().numpy(), want, rtol=1e-6, atol=1e-6)


@dtypes
@pytest.mark.parametrize("m", [0, 1, 2, 7, 16])
@pytest.mark.parametrize("n", [0, 1, 3, 13])
def test_toeplitz_and_hankel(m: int, n: int, dtype: torch.dtype) -> None:
    c, r = torch.randn(m, dtype=dtype), torch.randn(n, dtype=dtype)
    for op in (sm.Toeplitz(c, r), sm.Hankel(c, r), sm.Toeplitz(c), sm.Hankel(c)):
        check_operator(op, backends=("torch",))
    if m and n:
        assert close(sm.Toeplitz(c, r), scipy.linalg.toeplitz(c, r))
        assert close(sm.Hankel(c, r), scipy.linalg.hankel(c, r))
        assert close(sm.Toeplitz(c), scipy.linalg.toeplitz(c))
        assert close(sm.Hankel(c), scipy.linalg.hankel(c))


@dtypes
@pytest.mark.parametrize("f", [1, -1, 0, 2.5, 1j])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 37])
def test_circulant(n: int, f: complex, dtype: torch.dtype) -> None:
    c = torch.randn(2, n, dtype=dtype)
    op = sm.Circulant(c, f)
    check_operator(op, backends=("torch",))
    if n and f == 1:
        assert close(sm.Circulant(c[0]), scipy.linalg.circulant(c[0]))
    if n:
        shift = torch.diag(torch.ones(n - 1, dtype=op.dtype), -1)
        shift[0, -1] += f
        powers = [torch.linalg.matrix_power(shift, k) for k in range(n)]
        want = sum(c[1, k] * p for k, p in enumerate(powers))
        torch.testing.assert_close(op.to_dense()[1], want, rtol=1e-4, atol=1e-4)


@dtypes
@pytest.mark.parametrize("mode", ["causal", "circular", "full", "same"])
def test_convolution_of_signals(mode: str, dtype: torch.dtype) -> None:
    for n, size in itertools.product([0, 1, 3, 8, 13], [1, 2, 5, 20]):
        kernel = torch.randn(size, dtype=dtype)
        op = sm.Convolution(kernel, n, mode)
        check_operator(op)
        if n:
            x = torch.randn(n, dtype=dtype)
            whole = scipy.signal.convolve(x.numpy(), kernel.numpy())
            if mode == "circular":
                folded = np.zeros(-(-len(whole) // n) * n, dtype=whole.dtype)
                folded[: len(whole)] = whole
                want = folded.reshape(-1, n).sum(0)
            else:
                first = (size - 1) // 2 if mode == "same" else 0
                want = whole if mode == "full" else whole[first : first + n]
            np.testing.assert_allclose(op(x).numpy(), want, rtol=1e-3, atol=1e-4)
    check_operator(sm.Convolution(torch.randn(5, dtype=dtype), 11, mode), backends=("torch",))
    batch = sm.Convolution(torch.randn(2, 1, 5, dtype=dtype), 4, mode)
    check_operator(batch, backends=("torch",))
    check_operator(batch._transpose())


@pytest.mark.parametrize("mode", ["causal", "circular", "full", "same"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 1), (8, 6)], ids=str)
def test_convolution_of_images(mode: str, size: tuple[int, int]) -> None:
    for n in [(1, 1), (3, 4), (7, 2)]:
        kernel = torch.randn(2, *size, dtype=torch.float64)
        op = sm.Convolution(kernel, n, mode)
        check_operator(op, backends=("torch",))
        x = torch.randn(*n, dtype=torch.float64)
        if mode in ("full", "same"):
            want = scipy.signal.convolve2d(x.numpy(), kernel[1].numpy(), mode="full")
            if mode == "same":
                top, left = (size[0] - 1) // 2, (size[1] - 1) // 2
                want = want[top : top + n[0], left : left + n[1]]
            np.testing.assert_allclose(op(x.reshape(-1))[1].reshape(want.shape), want, atol=1e-12)


def test_fast_lengths_are_those_of_scipy() -> None:
    for n in [*range(1, 2000), 4097, 8191, 65537, 10**6 + 3]:
        assert _fast_length(n) == scipy.fft.next_fast_len(n, real=True)
    assert fast_length(0) == _fast_length(0) == 1


def test_long_kernels_learn() -> None:
    k = torch.randn(40, dtype=torch.float64, requires_grad=True)

    def apply(k: Tensor, x: Tensor) -> Tensor:
        return sm.compile(sm.Convolution(k, 40))(x)

    x = torch.randn(3, 40, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(apply, (k, x))
    assert torch.autograd.gradgradcheck(apply, (k, x))


def test_memory_is_linear() -> None:
    """A convolution of 2 ** 20 samples: nothing of quadratic size is made."""
    n, wide = 1 << 20, torch.float64
    ones = torch.ones(n, dtype=wide)
    y = sm.Convolution(ones, n)(ones)
    torch.testing.assert_close(y[[0, 1, n - 1]], torch.tensor([1.0, 2.0, n], dtype=wide))


def test_toeplitz_algebra() -> None:
    t, u = sm.Toeplitz(torch.randn(5), torch.randn(7)), sm.Toeplitz(torch.randn(5), torch.randn(7))
    assert isinstance((t + 2 * u).simplify(), sm.Toeplitz)
    assert isinstance(t.T.simplify(), sm.Toeplitz)
    c, d = sm.Circulant(torch.randn(8)), sm.Circulant(torch.randn(8))
    assert isinstance((c @ d @ sm.cyclic_shift(8, 3) - 3 * c.T).simplify(), sm.Circulant)
    assert isinstance((t @ sm.reversal(7)).simplify(), sm.Hankel)
    f = sm.DFT(8, dtype=torch.complex128)
    diag = sm.Diagonal(torch.randn(8, dtype=torch.complex128))
    inverse = sm.IDFT(8, dtype=torch.complex128)
    assert isinstance((inverse @ diag @ f).simplify(), sm.Circulant)
    wide = sm.Circulant(torch.randn(8, dtype=torch.complex128))
    assert isinstance((f @ wide @ inverse).simplify(), sm.Diagonal)
    assert isinstance((f @ inverse).simplify(), sm.Identity)


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"Toeplitz: first column c is torch.int64.*convert"):
        sm.Toeplitz(torch.arange(3))
    with pytest.raises(TypeError, match="Circulant: f is str, needs a number"):
        sm.Circulant(torch.ones(3), "skew")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode 'valid' is none of causal, circular, full, same"):
        sm.Convolution(torch.ones(3), 4, "valid")
    with pytest.raises(ValueError, match="n = -4 must be a non-negative integer"):
        sm.Convolution(torch.ones(3), -4)
    with pytest.raises(ValueError, match=r"kernel of shape \(0,\) is empty"):
        sm.Convolution(torch.ones(0), 4)
    with pytest.raises(ValueError, match=r"kernel has shape \(3,\), needs at least 2"):
        sm.Convolution(torch.ones(3), (4, 4))
    with pytest.raises(RuntimeError, match="Circular runs in library calls; use backend='torch'"):
        sm.compile(sm.Toeplitz(torch.ones(3)), backend="triton")(torch.ones(3))
