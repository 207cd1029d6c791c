"""Fast Vandermonde products: windows of real nodes, Fourier transforms on a circle."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import jacfwd, jacrev

import structmat as sm
from structmat.primitives import power_windows, powers
from structmat.primitives.power_circle import circle_powers, one_modulus
from structmat.primitives.power_windows import fast_powers, many_powers, window_sizes
from structmat.testing import check_operator

WIDE = torch.float64
dtypes = pytest.mark.parametrize("dtype", [torch.float32, WIDE], ids=str)


def hard_nodes(n: int, dtype: torch.dtype) -> Tensor:
    """Every window, its edges, both signs, numbers beyond 1, duplicates."""
    g = torch.Generator().manual_seed(0)
    info = torch.finfo(dtype)
    *_, near = window_sizes(n, dtype == WIDE)
    edges = near * 2.0 ** torch.arange(-2, 10, dtype=WIDE)
    decay = 10 ** (6 * torch.rand(16, generator=g, dtype=WIDE) - 6) * math.log(info.max)
    growth = torch.rand(6, generator=g, dtype=WIDE) * math.log(info.max) / n
    size = torch.cat([torch.exp(-edges), torch.exp(-decay), torch.exp(growth)])
    special = [0.0, -0.0, 1.0, 1 - info.eps, 1 + info.eps, info.tiny, info.tiny / 8, 0.5, 0.5]
    size = torch.cat([size.to(dtype), torch.tensor(special, dtype=dtype)])
    size = torch.cat([size, torch.nextafter(size[:4], torch.zeros_like(size[:4]))])
    nodes = torch.cat([size, -size])
    return nodes[torch.randperm(len(nodes), generator=g)]


def exact_matrix(z: Tensor, n: int) -> np.ndarray:
    """The entries with 40 digits and no limit to exponents."""
    rows = []
    with mpmath.workdps(40):
        for x in z.tolist():
            row = [mpmath.mpmathify(1)]
            for _ in range(n - 1):
                row.append(row[-1] * x)
            rows.append(row)
    return np.array(rows, dtype=object)


def exact(x: Tensor) -> np.ndarray:
    return np.array([[mpmath.mpmathify(v) for v in row] for row in x.tolist()], dtype=object)


def vectors(count: int, n: int, dtype: torch.dtype) -> Tensor:
    """Columns: equal sizes, the last alone, the first alone, rising and falling by decades."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(count, 5, generator=g, dtype=WIDE)
    j = torch.arange(count, dtype=WIDE)
    span = 0.4 * math.log(torch.finfo(dtype).max)
    x[:-1, 1] = 0
    x[1:, 2] = 0
    x[:, 3] *= torch.exp(span * (2 * j / count - 1))
    x[:, 4] *= torch.exp(-span * (2 * j / count - 1))
    return x.to(dtype)


@dtypes
@pytest.mark.parametrize("n", [1031, pytest.param(1536, marks=pytest.mark.slow)])
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
def test_errors_entry_by_entry(n: int, turned: bool, dtype: torch.dtype) -> None:
    """|error| <= n u |V| |v|, and what entries below the least normal number amount to."""
    info = torch.finfo(dtype)
    z = hard_nodes(n, dtype)
    matrix = exact_matrix(z, n)
    matrix = matrix.T if turned else matrix
    x = vectors(matrix.shape[1], n, dtype)
    found = exact(fast_powers(x[None], z[None], n, turned)[0])
    with mpmath.workdps(40):
        v = exact(x)
        size = np.abs(matrix) @ np.abs(v)
        error = np.abs(found - matrix @ v)
        allowed = n * (info.eps / 2) * size + 8 * info.tiny * np.abs(v).sum(0)
        fits = size < info.max / 1024  # sums of window terms are up to e^(2h) times larger
        assert fits.mean() > 0.5
        assert (error[fits] <= allowed[fits]).all()


@dtypes
def test_overflow_as_in_the_dense_matrix(dtype: torch.dtype) -> None:
    n = 1200
    powers_ = torch.tensor([1e30, 1.5, 1.01, 0.999, 0.0, math.inf], dtype=dtype)
    top = math.log(torch.finfo(dtype).max)
    z = torch.cat([powers_, torch.exp(torch.tensor([0.9, 0.99, 1.01, 2.0]) * top / n).to(dtype)])
    dense = sm.Vandermonde(z, n).to_dense()
    ones = torch.full((n, 1), 1e-9, dtype=dtype)
    want, found = dense @ ones, fast_powers(ones[None], z[None], n, False)[0]
    assert torch.equal(found.isinf(), want.isinf())
    assert not found.isnan().any()
    for subset in (z[5:], z[:1], z[1:5], z[3:5], z[6:7], z[7:9], -z[:3]):
        dense = sm.Vandermonde(subset, n).to_dense()
        ones = torch.full((len(subset), 1), 1e-9, dtype=dtype)
        want, found = dense.mT @ ones, fast_powers(ones[None], subset[None], n, True)[0]
        finite = want.isfinite()
        assert torch.equal(found.isfinite(), finite)
        torch.testing.assert_close(found[finite], want[finite], rtol=1e-3, atol=0)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows at every size that has two powers."""

    def choose(m: int, n: int, cols: int, double: bool, cuda: bool) -> bool:
        return n >= 2

    monkeypatch.setattr(powers, "many_powers", choose)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("complex_", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
def test_windows_learn(turned: bool, complex_: bool) -> None:
    """First and second derivatives in vectors and nodes, both modes, batches by vmap."""

    def apply(x: Tensor, z: Tensor) -> Tensor:
        op = sm.Vandermonde(z, 4)
        return (op.T if turned else op)(x)

    z = torch.tensor([0.3, -0.9, 1.2, 0.999, -1.05], dtype=WIDE, requires_grad=True)
    kind = torch.complex128 if complex_ else WIDE
    x = torch.randn(2, 5 if turned else 4, dtype=kind, requires_grad=True)
    assert torch.autograd.gradcheck(apply, (x, z))
    assert torch.autograd.gradgradcheck(apply, (x, z))
    x, z = x.detach(), z.detach()
    if not complex_:
        for i in range(2):
            torch.testing.assert_close(jacfwd(apply, i)(x, z), jacrev(apply, i)(x, z))
    many = torch.stack([z, 0.5 * z, -z])
    want = torch.stack([apply(x, one) for one in many])
    torch.testing.assert_close(torch.vmap(apply, (None, 0))(x, many), want)
    torch.testing.assert_close(torch.vmap(apply, (0, None))(x, z), apply(x, z))
    batch = sm.Vandermonde(many, 4)
    each = (batch.T if turned else batch)(x[:, None])
    torch.testing.assert_close(each, want.movedim(0, 1))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("dtype", [torch.float32, WIDE, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("m", "n"), [(0, 3), (1, 2), (3, 1), (40, 7), (7, 101), (97, 400)])
def test_small_sizes(m: int, n: int, dtype: torch.dtype) -> None:
    z = (torch.rand(m) * 2 - 1).to(dtype)
    x, g = torch.randn(3, n).to(dtype), torch.randn(2, m).to(dtype)
    op = sm.Vandermonde(z, n)
    dense = op.to(WIDE).to_dense()
    error = {torch.float32: 1e-5, WIDE: 1e-13, torch.bfloat16: 2e-2}[dtype]
    for found, matrix, v in ((op(x), dense, x), (op.T(g), dense.mT, g)):
        size = v.to(WIDE).abs() @ matrix.mT.abs() + 1e-30
        assert ((found.to(WIDE) - v.to(WIDE) @ matrix.mT).abs() <= error * size).all()


@dtypes
def test_many_real_nodes_take_windows(dtype: torch.dtype) -> None:
    """At a size where they are chosen: real and complex vectors, compiled, traced, exported."""
    n = 3200
    assert many_powers(n, n, 16, dtype == WIDE, False)
    z = torch.linspace(-1, 1, n, dtype=dtype)
    op = sm.Vandermonde(z)
    wide = op.to(WIDE).to_dense()
    x = torch.randn(16, n, dtype=dtype)
    f = sm.compile(op)
    assert "def fast_powers(" in f.source
    traced = torch.compile(lambda v: op(v), fullgraph=True, backend="eager")
    exported = torch.export.export(sm.nn.StructuredLinear(op, bias=False), (x,)).module()
    twisted = torch.complex(x[:8], x[8:])
    error = 1e-5 if dtype == torch.float32 else 1e-12
    for y, v in ((op(x), x), (f(x), x), (traced(x), x), (exported(x), x), (op(twisted), twisted)):
        kind = torch.complex128 if v.is_complex() else WIDE
        gap = (y.to(kind) - v.to(kind) @ wide.mT.to(kind)).abs()
        assert (gap <= error * (v.abs().to(WIDE) @ wide.mT.abs())).all()
    empty = op.to("meta")(torch.empty(3, n, dtype=dtype, device="meta"))
    assert empty.shape == (3, n)


def test_complex_vectors_of_real_nodes_are_pairs_of_columns() -> None:
    x = torch.randn(3, 6, dtype=torch.complex128)
    z = torch.rand(6, dtype=WIDE)
    for op in (sm.Vandermonde(z), sm.Vandermonde(z).T, sm.Cauchy(z, z + 2)):
        want = x @ op.to_dense().mT.to(x.dtype)
        torch.testing.assert_close(op(x), want)
        torch.testing.assert_close(op(x.conj()), x.conj() @ op.to_dense().mT.to(x.dtype))
        torch.testing.assert_close(torch.vmap(op)(x), want)
        check_operator(op)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
@pytest.mark.parametrize("rate", [0.0, -0.03, 0.03], ids=["unit", "inside", "outside"])
@pytest.mark.parametrize("spread", [0.0, 0.99], ids=["circle", "ring"])
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
def test_errors_on_a_circle(turned: bool, spread: float, rate: float, dtype: torch.dtype) -> None:
    """|error| <= 2 sqrt(2) n u |V| |v|, the bound of n complex products; roots of unity too."""
    n, m, u = 521, 30, torch.finfo(dtype).eps / 2
    g = torch.Generator().manual_seed(0)
    angles = 2 * math.pi * torch.rand(m, generator=g, dtype=WIDE)
    angles[:12] = torch.arange(-6, 6) * (math.pi / 4)
    beside = spread * (torch.rand(m, generator=g, dtype=WIDE) - 0.5) / (n - 1)
    z = torch.polar(torch.exp(rate + beside), angles).to(dtype)
    matrix = exact_matrix(z, n)
    matrix = matrix.T if turned else matrix
    x = torch.randn(matrix.shape[1], 3, generator=g, dtype=dtype)
    x[:-1, 1] = 0
    x[1:, 2] = 0
    middle = one_modulus(z[None], n)
    assert middle is not None
    found = exact(circle_powers(x[None], z[None], n, turned, middle)[0])
    with mpmath.workdps(40):
        v = exact(x)
        gap = np.abs(found - matrix @ v)
        assert (gap <= 2.83 * n * u * (np.abs(matrix) @ np.abs(v))).all()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_many_nodes_on_a_circle_take_fourier_transforms(dtype: torch.dtype) -> None:
    """Where numbers may be looked at; elsewhere tiles, with the same values and gradients."""
    n = 1100
    z = torch.polar(torch.ones(2, n, dtype=WIDE), 7 * torch.rand(2, n, dtype=WIDE)).to(dtype)
    x = torch.randn(2, n, 16, dtype=dtype)
    error = 1e-3 if dtype == torch.complex64 else 1e-11
    seen = []

    def watched(*given: object) -> Tensor:
        seen.append(1)
        return circle_powers(*given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(powers, "circle_powers", watched)
        for turned in (False, True):
            nodes, vectors_ = z.clone().requires_grad_(), x.clone().requires_grad_()
            op = sm.Vandermonde(nodes)
            y = (op.T if turned else op) @ vectors_
            dense = (op.to_dense().mT if turned else op.to_dense()) @ vectors_
            torch.testing.assert_close(y, dense, rtol=error, atol=error)
            got = torch.autograd.grad(y.abs().square().mean(), (nodes, vectors_))
            want = torch.autograd.grad(dense.abs().square().mean(), (nodes, vectors_))
            for a, b in zip(got, want, strict=True):
                assert (a - b).abs().max() <= error * b.abs().max()
            assert len(seen) == 3
            seen.clear()
        mapped = torch.vmap(lambda z, v: sm.Vandermonde(z)(v))(z, x.mT).mT
        sm.Vandermonde(z + torch.linspace(0, 0.1, n)) @ x
        assert not seen
        each = [sm.Vandermonde(nodes) for nodes in z]
        traced = torch.compile(
            lambda v: torch.stack([op(rows.mT).mT for op, rows in zip(each, v, strict=True)]),
            fullgraph=True,
            backend="eager",
        )(x)
        seen.clear()  # the graph of the eager backend runs a node of its own on numbers, or tiles
        plain = sm.Vandermonde(z) @ x
        assert len(seen) == 1
    for other in (mapped, traced):
        assert (other - plain).abs().max() <= error * plain.abs().max()
    f = sm.compile(sm.Vandermonde(z[0]))
    assert "def circle_powers(" in f.source
    torch.testing.assert_close(f @ x[0], plain[0])


def test_counts_of_windows() -> None:
    m, n = 5000, 6000
    for turned, op in (
        (False, sm.Vandermonde(torch.rand(m), n)),
        (True, sm.Vandermonde(torch.rand(m), n).T),
    ):
        products = power_windows.window_products(m, n, turned)
        assert op.cost().flops == 2 * products < m * n / 2
