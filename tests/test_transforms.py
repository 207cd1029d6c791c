"""Fourier, cosine, sine, Hadamard and wavelet transforms against SciPy and their definitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch

import structmat as sm
from structmat.testing import check_operator

SIZES = [0, 1, 2, 3, 4, 5, 8, 12, 17, 30]
NORMS = ["backward", "ortho", "forward"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", SIZES)
def test_dft(n: int, norm: str) -> None:
    for make, oracle in ((sm.DFT, scipy.fft.fft), (sm.IDFT, scipy.fft.ifft)):
        op = make(n, norm, torch.complex128)
        check_operator(op, backends=("torch",))
        if n:
            x = np.random.default_rng(0).standard_normal((3, n))
            np.testing.assert_allclose(op(torch.from_numpy(x)), oracle(x, norm=norm), atol=1e-12)
    both = sm.IDFT(n, norm, torch.complex128).to_dense() @ sm.DFT(n, norm, torch.complex128)
    torch.testing.assert_close(both, torch.eye(n, dtype=torch.complex128), rtol=0, atol=1e-13)


def test_dft_takes_its_dtype_from_the_default() -> None:
    assert sm.DFT(4).dtype == torch.complex64
    assert sm.DFT(4)(torch.ones(4, dtype=torch.float64)).dtype == torch.complex128
    check_operator(sm.DFT(6), backends=("torch",))


@pytest.mark.parametrize("norm", [None, "ortho", "forward"])
@pytest.mark.parametrize("kind", [1, 2, 3, 4])
@pytest.mark.parametrize("n", SIZES)
def test_cosine_and_sine(n: int, kind: int, norm: str | None) -> None:
    for make, oracle in ((sm.DCT, scipy.fft.dct), (sm.DST, scipy.fft.dst)):
        if make is sm.DCT and (kind, n) == (1, 1):
            continue
        op = make(n, kind, norm, torch.float64)
        check_operator(op, backends=("torch",))
        check_operator(make(n, kind, norm)._transpose())
        if n:
            x = np.random.default_rng(0).standard_normal((3, n))
            want = oracle(x, type=kind, norm=norm)
            np.testing.assert_allclose(op(torch.from_numpy(x)), want, atol=1e-12)
        if norm == "ortho":
            eye = torch.eye(n, dtype=torch.float64)
            torch.testing.assert_close(op.to_dense() @ op.T, eye, rtol=0, atol=1e-13)
            assert isinstance((op @ op.T).simplify(), sm.Identity) or n == 0


@pytest.mark.parametrize("order", ["natural", "sequency"])
@pytest.mark.parametrize("n", [1, 2, 4, 16, 64])
def test_hadamard(n: int, order: str) -> None:
    op = sm.Hadamard(n, order=order, dtype=torch.float64)
    check_operator(op, exact=True, backends=("torch",))
    check_operator(sm.Hadamard(n, True, order), backends=("torch",))
    dense = op.to_dense()
    if order == "natural":
        assert np.array_equal(dense, scipy.linalg.hadamard(n))
    else:
        assert (dense[:, 1:] != dense[:, :-1]).sum(-1).tolist() == list(range(n))


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db3", "db8"])
@pytest.mark.parametrize("n", [0, 1, 3, 4, 6, 8, 12, 40])
def test_wavelets_are_orthogonal(n: int, wavelet: str) -> None:
    op = sm.Wavelet(n, wavelet, dtype=torch.float64)
    for one in (op, op._transpose()):
        check_operator(one, backends=("torch",))
    eye = torch.eye(n, dtype=torch.float64)
    torch.testing.assert_close(op.to_dense() @ op.T, eye, rtol=0, atol=1e-10)


def test_haar_is_the_matrix_of_the_books() -> None:
    s = np.sqrt(0.5)
    want = [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, -0.5, -0.5], [s, -s, 0, 0], [0, 0, s, -s]]
    np.testing.assert_allclose(sm.Haar(4, dtype=torch.float64).to_dense(), want, atol=1e-15)


def test_daubechies_has_vanishing_moments() -> None:
    """db p annihilates polynomials of degree < p away from the wrapped ends."""
    for p in (2, 3, 4):
        op = sm.Wavelet(64, f"db{p}", levels=1, dtype=torch.float64)
        t = torch.arange(64, dtype=torch.float64) / 64
        details = op(t ** (p - 1))[32:]
        assert details[: 32 - p].abs().max() < 1e-9
    root = np.sqrt(3)
    want = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * np.sqrt(2))
    np.testing.assert_allclose(sm.Wavelet(8, "db2").taps, want, atol=1e-12)


def test_transforms_of_columns() -> None:
    x = torch.randn(24, 5, dtype=torch.float64)
    wide = torch.float64
    for op in (
        sm.DCT(24, dtype=wide),
        sm.Toeplitz(torch.randn(9).to(wide), torch.randn(24).to(wide)),
    ):
        torch.testing.assert_close(sm.compile(op) @ x, op.to_dense() @ x)
    both = sm.kron(sm.DCT(4, dtype=torch.float64), sm.DST(6, dtype=torch.float64))
    torch.testing.assert_close(sm.compile(both) @ x, both.to_dense() @ x)


def test_explain_names_the_library() -> None:
    f = sm.compile(sm.DCT(8))
    f(torch.ones(8))
    assert "apply cosine(2, (1.0, 1.0), (1.0, 1.0), 2.0) to v0[1 1 8 1]" in f.explain()
    assert "def real_cosine(x: Tensor, kind: int)" in f.source


def test_errors() -> None:
    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: sm.DFT(-1), ValueError, "DFT: n must be a non-negative integer, got -1"),
        (lambda: sm.DFT(4, "unitary"), ValueError, "DFT: norm 'unitary' is none of 'backward'"),
        (lambda: sm.DFT(4, dtype=torch.float32), TypeError, "not complex; take torch.complex64"),
        (lambda: sm.DCT(1, type=1), ValueError, "DCT: type 1 needs n >= 2"),
        (lambda: sm.DCT(4, type=5), ValueError, "DCT: type 5 is none of 1, 2, 3, 4"),
        (lambda: sm.Hadamard(12), ValueError, "12 is not a power of two; pad"),
        (lambda: sm.Hadamard(8, order="dyadic"), ValueError, "order 'dyadic' is none of natural"),
        (lambda: sm.Haar(6, levels=2), ValueError, r"n = 6 is not divisible by 2 \*\* 2"),
        (lambda: sm.Wavelet(8, "sym4"), ValueError, "'sym4' is unknown; take 'haar'"),
        (lambda: sm.Wavelet(8, [1.0, 2.0, 3.0]), ValueError, "3 taps; needs an even number"),
        (lambda: sm.Wavelet(8, "db40"), ValueError, "p = 40 is not between 1 and 16"),
    ]
    for make, kind, message in cases:
        with pytest.raises(kind, match=message):
            make()
