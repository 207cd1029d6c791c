"""Cauchy products of many complex nodes, against the dense matrix in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import structmat as sm
from structmat.primitives.multipoles import fast_poles, many_poles

M, N = 2304, 2100
BOTH = [torch.complex64, torch.complex128]


def nodes(kind: str, n: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    u, v = torch.rand(2, n, generator=g, dtype=torch.float64)
    turn = 2 * math.pi
    match kind:
        case "circle":
            return torch.polar(torch.ones_like(u), turn * u)
        case "square":
            return torch.complex(u, v)
        case "clusters":
            return torch.complex((u * 5).floor() * 10 + v * 1e-3, (v * 4).floor() * 7 + u * 1e-2)
        case "line":
            return torch.complex(u, 2 * u)
        case "far":
            return torch.complex(u, v) + 1e4
        case "roots":  # between the roots of unity
            k = torch.arange(n, dtype=torch.float64) + seed / 2
            return torch.polar(torch.ones_like(k), turn * k / n)
    raise ValueError(kind)


KINDS = ["circle", "square", "clusters", "line", "far", "roots"]


def operands(
    kind: str, dtype: torch.dtype, cols: int = 3, m: int = M, n: int = N
) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(n, cols, dtype=torch.complex128, generator=torch.Generator().manual_seed(5))
    return x.to(dtype), nodes(kind, m, 1).to(dtype), nodes(kind, n, 2).to(dtype)


def error(y: Tensor, x: Tensor, s: Tensor, t: Tensor, power: int) -> float:
    """In unit roundoffs of |C| |x|, entry by entry, of rows without a coincidence."""
    wide = torch.complex128
    C = (s.to(wide)[:, None] - t.to(wide)[None]).reciprocal().pow(power)
    apart = C.abs().isfinite().all(1)
    want, scale = C[apart] @ x.to(wide), C[apart].abs() @ x.to(wide).abs()
    assert y[apart].isfinite().all()
    return float(((y[apart] - want).abs() / scale).max()) / torch.finfo(y.dtype).eps


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("power", [1, 2, 3])
def test_errors_are_roundings(kind: str, dtype: torch.dtype, power: int) -> None:
    x, s, t = operands(kind, dtype)
    y = fast_poles(x, s, t, power)
    if y is None:  # in double precision an area of so few nodes takes tiles
        assert dtype == torch.complex128
        assert kind in ("square", "far", "clusters")
        x, s, t = operands(kind, dtype, m=4096, n=4000)
        y = fast_poles(x, s, t, power)
    assert y is not None
    # a sum of n complex products may have 2 sqrt(2) n unit roundoffs
    assert error(y, x, s, t, power) < 200


def test_nodes_of_many_scales_take_tiles() -> None:
    u, v = torch.rand(2, N, dtype=torch.float64)
    z = torch.polar(10 ** (-12 * u), 2 * math.pi * v)
    assert fast_poles(torch.ones(N, 1, dtype=z.dtype), z * 1.5, z, 1) is None
    assert fast_poles(torch.ones(N, 1, dtype=z.dtype), z * math.inf, z, 1) is None


@pytest.mark.parametrize("dtype", BOTH)
def test_the_operator_takes_them_and_so_do_its_gradients(dtype: torch.dtype) -> None:
    m, n = 4400, 4300
    x, s, t = operands("circle", dtype, 4, m, n)
    t = 0.9 * t
    assert many_poles(m, n, 4, dtype == torch.complex128)
    eps = torch.finfo(dtype).eps
    fast = [v.clone().requires_grad_() for v in (s, t)]
    slow = [v.clone().requires_grad_() for v in (s, t)]
    A = sm.Cauchy(fast[0], fast[1])
    y, g = A @ x, torch.randn(m, 4, dtype=dtype)
    C = (slow[0][:, None] - slow[1][None]).reciprocal()
    size = float((C.detach().abs() @ x.abs()).max())
    assert torch.allclose(y, C @ x, rtol=0, atol=300 * eps * size)
    found = torch.autograd.grad(y, fast, g)
    want = torch.autograd.grad(C @ x, slow, g)
    for a, b in zip(found, want, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=3000 * eps * float(b.abs().max()))
    turned = A.T @ g
    assert torch.allclose(turned, C.detach().mT @ g, rtol=0, atol=300 * eps * size * 10)
    f = sm.compile(A)
    assert torch.allclose(f(x.mT).mT, y, rtol=0, atol=300 * eps * size)


def test_batches_mix_multipoles_and_tiles() -> None:
    n = 2200
    s = torch.stack([nodes("circle", n, 1), nodes("circle", n, 3) * 2])
    u = torch.rand(n, dtype=torch.float64)
    t = torch.stack([nodes("circle", n, 2), 10 ** (-12 * u) * nodes("circle", n, 4)])
    A = sm.Cauchy(s, t)
    x = torch.randn(n, 3, dtype=torch.complex128)
    for i in range(2):
        assert error((A @ x)[i], x, s[i], t[i], 1) < 300


def test_exact_keeps_to_the_entries() -> None:
    x, s, t = operands("circle", torch.complex128)
    A = sm.Cauchy(s, t, exact=True)
    assert error(A @ x, x, s, t, 1) < 20


def test_boxes_of_one_value_have_the_radius_around_them() -> None:
    # 4300 nodes are padded to 4352 with copies of one: a leaf of radius 0 beside ordinary ones
    x, s, t = operands("circle", torch.complex64, 4, 4400, 4300)
    g = torch.randn(4400, 4, dtype=torch.complex64)
    y = fast_poles(g, 0.9 * t, s, 1)
    assert y is not None
    assert error(y, g, 0.9 * t, s, 1) < 200


def test_empty_places_and_equal_nodes() -> None:
    z = torch.complex(
        *torch.meshgrid(*[torch.arange(10.0, dtype=torch.float64)] * 2, indexing="ij")
    )
    s = z.reshape(-1).repeat(30)
    t = s[:2500] + 0.5
    x = torch.randn(2500, 2, dtype=torch.complex128)
    y = fast_poles(x, s, t, 1)
    assert y is not None
    assert error(y, x, s, t, 1) < 20
