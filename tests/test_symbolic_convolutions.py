"""Convolutions by their sizes, of signals and images: bound, they cost what the formulas say."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

import structmat as sm
from structmat import sized

h, w, p, q, b = (sm.dim(s) for s in "hwpqb")
SMOOTH = (2, 8, 12, 100)
"""Lengths of circles, which are transformed as they are where their prime factors are small."""


def facts(op: sm.LinearOperator) -> tuple[Any, ...]:
    return (*op.batch_shape, *op.shape, *op.operations(), *vars(op.cost(batch=3)).values())


def check(op: sm.LinearOperator, concrete: sm.LinearOperator, **at: int) -> None:
    values = {sm.dim(s): v for s, v in at.items()}
    wanted = tuple(v.subs(values) if hasattr(v, "subs") else v for v in facts(op))
    assert facts(concrete) == wanted, f"{op._label()} at {at}"
    assert op.bind(at).structure == concrete.structure


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("mode", ["causal", "full", "same", "circular"])
def test_images(mode: str, dtype: torch.dtype) -> None:
    op = sized.Convolution((h, w), size=(p, q), mode=mode, dtype=dtype)
    rows, columns = (SMOOTH, (3, 16)) if mode == "circular" else ((2, 7, 13), (3, 16))
    for m, n, k, l in itertools.product(rows, columns, (1, 2, 5), (1, 4, 20)):
        concrete = sm.Convolution(torch.empty(k, l, dtype=dtype), (m, n), mode)
        at = {"h": m, "w": n, "p": k, "q": l}
        check(op, concrete, **at)
        if k == 2:
            check(op.T, concrete.T, **at)


@pytest.mark.parametrize("mode", ["causal", "full", "same"])
def test_signals_with_kernels_of_every_length(mode: str) -> None:
    op = sized.Convolution(h, size=p, mode=mode)
    for n, k in itertools.product((2, 3, 10, 31, 64), (1, 2, 9, 40, 100)):
        check(op, sm.Convolution(torch.empty(k), n, mode), h=n, p=k)


def test_a_square_kernel_and_a_batch() -> None:
    op = sized.Convolution((h, w), size=3, mode="same", batch=b)
    assert op.shape == (h * w, h * w)
    assert op.cost().params == 9 * b
    check(op, sm.Convolution(torch.empty(4, 3, 3), (5, 6), "same"), h=5, w=6, b=4)
    assert op._label() == "Convolution((h, w), size=3, mode='same', batch=b)"
    read = sized.parse("Convolution((h, w), size=3, mode='same', batch=b)")
    assert read.structure == op.structure


@pytest.mark.parametrize("mode", ["causal", "full", "same", "circular"])
def test_a_bound_image_filter_is_right(mode: str) -> None:
    op = sized.Convolution((h, 4), size=(2, p), mode=mode, dtype=torch.float64).bind(h=3, p=3)
    x = torch.arange(1.0, 13.0, dtype=torch.float64)
    torch.testing.assert_close(op(x), op.to_dense() @ x)
    (kernel,) = op.parameters()
    assert kernel.shape == (2, 3)
    assert op.shape == ((4 * 6, 12) if mode == "full" else (12, 12))
    many = sized.Convolution((64, 64), size=16)
    (kernel,) = many.parameters()
    assert 0.5 < kernel.norm() < 2  # deviation 1 / sqrt(fan-in), where the fan-in is all entries
    assert math.prod(kernel.shape) == 256
