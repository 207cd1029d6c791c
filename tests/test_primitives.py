"""Primitives against the matrices they stand for, and their gradients against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

import structmat as sm
from structmat.primitives import Circular, Cosine, Fourier, Hadamards, Primitive, Sine

SIZES = [1, 2, 3, 4, 5, 7, 8, 12, 16, 30, 31]


def cosine_matrix(n: int, kind: int) -> Tensor:
    k, j = np.arange(n)[:, None], np.arange(n)[None]
    angles = {
        1: k * j / max(n - 1, 1),
        2: k * (2 * j + 1) / (2 * n),
        3: (2 * k + 1) * j / (2 * n),
        4: (2 * k + 1) * (2 * j + 1) / (4 * n),
    }
    return torch.from_numpy(np.cos(np.pi * angles[kind]))


def sine_matrix(n: int, kind: int) -> Tensor:
    k, j = np.arange(n)[:, None], np.arange(n)[None]
    angles = {
        1: (k + 1) * (j + 1) / (n + 1),
        2: (k + 1) * (2 * j + 1) / (2 * n),
        3: (2 * k + 1) * (j + 1) / (2 * n),
        4: (2 * k + 1) * (2 * j + 1) / (4 * n),
    }
    return torch.from_numpy(np.sin(np.pi * angles[kind]))


def check(op: Primitive, matrix: Tensor, dtype: torch.dtype) -> None:
    x = torch.randn(2, op.ins, 3, dtype=dtype)
    matrix = matrix.to(dtype)
    torch.testing.assert_close(op(x), matrix @ x, rtol=1e-12, atol=1e-12)
    y = torch.randn(2, op.outs, 3, dtype=dtype)
    torch.testing.assert_close(op.transposed()(y), matrix.mT @ y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(op.conjugated()(x), matrix.conj() @ x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("n", SIZES)
def test_constants(n: int, dtype: torch.dtype) -> None:
    for kind in (1, 2, 3, 4) if n > 1 else (2, 3, 4):
        check(Cosine(n, kind), cosine_matrix(n, kind), dtype)
    for kind in (1, 2, 3, 4):
        check(Sine(n, kind), sine_matrix(n, kind), dtype)
        ends = torch.ones(n, dtype=torch.float64)
        ends[-1] *= 0.5
        check(Sine(n, kind, (1.0, 0.5)), sine_matrix(n, kind) * ends, dtype)
    k, j = np.arange(n)[:, None], np.arange(n)[None]
    if dtype.is_complex:
        matrix = torch.from_numpy(np.exp(-2j * np.pi * k * j / n))
        check(Fourier(n), matrix, dtype)
        check(Fourier(n, inverse=True), matrix.conj(), dtype)


@pytest.mark.parametrize("n", [1, 2, 8, 64, 2048])
def test_hadamard_is_exact(n: int) -> None:
    x = torch.randint(-3, 4, (2, n, 3)).double()
    assert torch.equal(Hadamards(n)(x), torch.from_numpy(scipy.linalg.hadamard(n)).double() @ x)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("sizes", [(7, 7, 7), (9, 4, 6), (8, 8, 3), (12, 5, 7), (1, 1, 1)], ids=str)
def test_circular(sizes: tuple[int, int, int], dtype: torch.dtype, flip: bool) -> None:
    length, ins, outs = sizes
    op = Circular((length,), (ins,), (outs,), flip)
    w = torch.randn(2, 1, length, dtype=dtype, requires_grad=True)
    x = torch.randn(2, 3, ins, 4, dtype=dtype)
    at = (torch.arange(outs)[:, None] - torch.arange(ins)) % length
    matrix = w[..., -at % length if flip else at]
    y = op(x, w)
    torch.testing.assert_close(y, matrix @ x, rtol=1e-12, atol=1e-12)
    g = torch.randn_like(y)
    (want,) = torch.autograd.grad(matrix @ x, w, g, retain_graph=True)
    torch.testing.assert_close(op.gradient(x, g), want.squeeze(1), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(op.transposed()(g, w), matrix.mT @ g, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_circular_on_two_axes(dtype: torch.dtype, flip: bool) -> None:
    op = Circular((5, 6), (2, 6), (5, 3), flip)
    w = torch.randn(5, 6, dtype=dtype, requires_grad=True)
    x = torch.randn(1, 2, 12, 4, dtype=dtype)
    rows = (torch.arange(5)[:, None] - torch.arange(2)) % 5
    cols = (torch.arange(3)[:, None] - torch.arange(6)) % 6
    if flip:
        rows, cols = -rows % 5, -cols % 6
    matrix = w[rows[:, None, :, None], cols[None, :, None, :]].reshape(15, 12)
    y = op(x, w)
    torch.testing.assert_close(y, matrix @ x, rtol=1e-12, atol=1e-12)
    g = torch.randn_like(y)
    (want,) = torch.autograd.grad(matrix @ x, w, g)
    torch.testing.assert_close(op.gradient(x, g)[0], want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_computes_in_single(dtype: torch.dtype) -> None:
    x = torch.randn(8, 3, dtype=dtype)
    for op in (Cosine(8, 2), Sine(8, 1), Hadamards(8)):
        y = op(x)
        assert y.dtype == dtype
        torch.testing.assert_close(y, op(x.double()).to(dtype), rtol=2e-2, atol=2e-2)
    w = torch.randn(8, dtype=dtype)
    y = Circular((8,), (8,), (8,))(x, w)
    assert y.dtype == dtype


@pytest.mark.parametrize("left", [False, True])
def test_gradients_of_values_beside_a_permutation(left: bool) -> None:
    """What a primitive reads may lie by columns while its gradient comes by rows."""
    shuffle = sm.Permutation(torch.tensor([3, 0, 5, 1, 6, 2, 4]))
    x, g = (torch.randn(3, 7, dtype=torch.float64) for _ in range(2))
    made: list[sm.LinearOperator] = [
        sm.Circulant(torch.randn(7, dtype=torch.float64, requires_grad=True)),
        sm.Toeplitz(*(torch.randn(7, dtype=torch.float64, requires_grad=True) for _ in range(2))),
        sm.Hankel(*(torch.randn(7, dtype=torch.float64, requires_grad=True) for _ in range(2))),
    ]
    for op in made:
        both = shuffle @ op if left else op @ shuffle
        tensors = list(op.parameters())
        got = torch.autograd.grad((sm.compile(both, backend="torch")(x) * g).sum(), tensors)
        want = torch.autograd.grad((x @ both.to_dense().mT * g).sum(), tensors)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b)
