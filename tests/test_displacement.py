"""Real Fourier transforms, companion, Vandermonde, Cauchy and low-displacement-rank matrices."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.fftpack
import scipy.linalg
import torch
from torch import Tensor
from torch.func import jacfwd, jacrev
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

import structmat as sm
from structmat.primitives.exponentials import fast_differences
from structmat.testing import check_operator

WIDE = torch.float64


def curvature(apply: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """Second derivatives of |apply|^2, summed over one of the two places."""
    loss = (apply(*inputs).abs() ** 2).sum()
    first = torch.autograd.grad(loss, inputs, create_graph=True)
    sizes = torch.stack([g.abs().square().sum() for g in first])
    return list(torch.autograd.grad(sizes.sum(), inputs))


DTYPES = [
    torch.float64,
    torch.complex64,
    pytest.param(torch.float32, marks=pytest.mark.slow),
    pytest.param(torch.complex128, marks=pytest.mark.slow),
]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
TORCH = ("torch",)


def backends(dtype: torch.dtype) -> tuple[str, ...]:
    """Compiled in one real and one complex dtype: the generated source is the same in others."""
    return TORCH if dtype in (torch.float64, torch.complex64) else ()


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 17, 30])
def test_real_fourier(n: int, norm: str) -> None:
    forward, inverse = sm.RDFT(n, norm, WIDE), sm.IRDFT(n, norm, WIDE)
    for op in (forward, inverse):
        check_operator(op, backends=TORCH if norm == "backward" else ())
        check_operator(op._transpose(), backends=TORCH if n == 8 else ())
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
    for op in (sm.Companion(c), sm.Companion(c[0])._transpose()):
        check_operator(op, backends=backends(dtype))
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
    check_operator(sm.Cauchy(s, t), backends=backends(dtype))
    check_operator(sm.Cauchy(torch.stack([s, s + 1]), t[None, None])._transpose())
    if m and n:
        want = [[1 / (a - b) for b in t.tolist()] for a in s.tolist()]
        np.testing.assert_allclose(sm.Cauchy(s, t).to_dense(), want, rtol=1e-5)


@dtypes
@pytest.mark.parametrize(("m", "n"), [(0, 0), (0, 3), (3, 0), (1, 1), (4, 7), (3, 131)])
def test_vandermonde(m: int, n: int, dtype: torch.dtype) -> None:
    x = torch.randn(2, m, dtype=dtype).clamp(-1, 1) if not dtype.is_complex else None
    x = torch.randn(2, m, dtype=dtype) / 2 if x is None else x
    check_operator(sm.Vandermonde(x, n), backends=backends(dtype))
    check_operator(sm.Vandermonde(x[0], n)._transpose(), backends=backends(dtype))
    if m and n:
        want = np.vander(x[1].numpy(), n, increasing=True)
        np.testing.assert_allclose(sm.Vandermonde(x, n).to_dense()[1], want, rtol=2e-4, atol=1e-6)
    assert sm.Vandermonde(x).shape == (m, m)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("kind", ["cauchy", "vandermonde", "turned"])
def test_nodes_learn(kind: str, dtype: torch.dtype) -> None:
    """Gradients of the nodes to second order, compiled too; forward mode where not compiled."""

    def operator(s: Tensor, t: Tensor) -> sm.LinearOperator:
        if kind == "cauchy":
            return sm.Cauchy(s, t)
        return sm.Vandermonde(s, 3) if kind == "vandermonde" else sm.Vandermonde(t, 4).T

    def apply(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return operator(s, t)(x)

    x = torch.randn(2, 3, dtype=dtype, requires_grad=True)
    s = torch.randn(4, dtype=dtype, requires_grad=True)
    t = (torch.randn(3, dtype=dtype) + 4).requires_grad_()
    used = {"cauchy": (x, s, t), "vandermonde": (x, s), "turned": (x, t)}[kind]
    assert torch.autograd.gradcheck(apply, (x, s, t))
    assert torch.autograd.gradgradcheck(apply, (x, s, t))

    def compiled(*given: Tensor) -> Tensor:
        return sm.compile(operator(s, t))(x)

    def eager(*given: Tensor) -> Tensor:
        return apply(x, s, t)

    for got, want in zip(curvature(compiled, *used), curvature(eager, *used), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    if not dtype.is_complex:
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["even", "random", "chebyshev", "logarithmic", "clustered"])
def test_many_real_nodes_take_sums_of_exponentials(kind: str, dtype: torch.dtype) -> None:
    """Errors relative to sum |x_j| / |s_i - t_j|^p, also where a batch has other nodes."""
    m, n = 700, 900
    g = torch.Generator().manual_seed(0)
    i, j = torch.arange(m, dtype=WIDE), torch.arange(n, dtype=WIDE)
    s, t = {
        "even": (i / m + 0.3 / n, j / n),
        "random": (torch.rand(m, generator=g), torch.rand(n, generator=g)),
        "chebyshev": (torch.cos((i + 0.5) * torch.pi / m), torch.cos((j + 1) * torch.pi / (n + 1))),
        "logarithmic": (10 ** (-12 * (i + 0.3) / m), 10 ** (-12 * j / n)),
        "clustered": (torch.rand(m, generator=g) ** 9, 1e-6 * torch.rand(n, generator=g)),
    }[kind]
    s, t = torch.stack([s.to(dtype), -3 * s.to(dtype)]), t.to(dtype).expand(2, n)
    x = torch.randn(2, n, 2, dtype=dtype, generator=g)
    wide = [v.to(WIDE) for v in (s, t, x)]
    allowed = {torch.float32: 2e-6, WIDE: 1e-8 if kind == "logarithmic" else 2e-11}[dtype]
    for power in (1, 2, 3):
        entries = (wide[0][:, :, None] - wide[1][:, None]) ** -power
        rows = (entries @ wide[2]).abs().isfinite() & (entries.abs() < 1e15).all(-1, keepdim=True)
        gap = (fast_differences(x, s, t, power).to(WIDE) - entries @ wide[2]).abs()
        size = entries.abs() @ wide[2].abs()
        assert (gap / size)[rows].max() < allowed


def test_fast_cauchy_is_the_tiled_one() -> None:
    """Both ways at a size where the fast one is taken: values and gradients."""
    n = 4096
    s = torch.linspace(0, 1, n, dtype=WIDE) + 0.4 / n
    t = torch.linspace(0, 1, n, dtype=WIDE)
    x = torch.randn(16, n, dtype=WIDE)
    found = []
    for exact in (False, True):
        s, t = s.detach().requires_grad_(), t.detach().requires_grad_()
        op = sm.Cauchy(s, t, exact)
        y = op.T(op(x))
        found.append((y.detach(), *torch.autograd.grad(y.square().sum(), (s, t))))
    for got, want in zip(*found, strict=True):
        assert (got - want).abs().max() < 1e-11 * want.abs().max()
    fast, tiled = sm.Cauchy(s, t), sm.Cauchy(s, t, exact=True)
    assert fast.cost().flops < tiled.cost().flops / 3
    f = sm.compile(fast)
    torch.testing.assert_close(f(x), fast(x))
    assert "def fast_differences(" in f.source


def test_fast_cauchy_says_where_it_has_no_digits() -> None:
    close = 1e-20 * torch.arange(300, dtype=WIDE)
    s, t = torch.cat([close + 0.5e-20, torch.ones(1, dtype=WIDE)]), close
    x = torch.ones(1, 300, 1, dtype=WIDE)
    assert fast_differences(x, s[None], t[None], 1).isnan().all()
    assert sm.Cauchy(s, t, exact=True)(x[0, :, 0]).isfinite().all()


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


def sylvester(op: sm.LowDisplacementRank) -> Tensor:
    """Z_f M - M Z_-f."""
    n, m = op.shape[0], op.to_dense()
    shifts = []
    for f in (op.f, -op.f):
        z = torch.diag(torch.ones(max(n - 1, 0), dtype=m.dtype), -1)[:n, :n]
        z[0, -1] = f
        shifts.append(z)
    return shifts[0] @ m - m @ shifts[1]


@dtypes
@pytest.mark.parametrize("f", [1, -1])
@pytest.mark.parametrize(("n", "r"), [(0, 2), (1, 1), (2, 0), (3, 2), (8, 3), (7, 1)])
def test_low_displacement_rank(n: int, r: int, f: int, dtype: torch.dtype) -> None:
    g, h = torch.randn(n, r, dtype=dtype), torch.randn(r, n, dtype=dtype)
    op = sm.LowDisplacementRank(g, h, f)
    check_operator(op, backends=backends(dtype))
    if n:
        torch.testing.assert_close(sylvester(op), g @ h, rtol=1e-4, atol=1e-4)
    if dtype == WIDE:
        batch = sm.LowDisplacementRank(torch.stack([g, 2 * g]), h[None, None], f)
        check_operator(batch._transpose(), backends=TORCH)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("n", [0, 1, 2, 5, 8])
def test_generators_of_toeplitz_matrices(n: int, dtype: torch.dtype) -> None:
    made = sm.LowDisplacementRank
    t = sm.Toeplitz(torch.randn(2, n, dtype=dtype), torch.randn(n, dtype=dtype))
    c = sm.Circulant(torch.randn(n, dtype=dtype))
    both: tuple[sm.Toeplitz | sm.Circulant, ...] = (t, c)
    for f, a in itertools.product((1, -1), both):
        torch.testing.assert_close(made.from_toeplitz(a, f).to_dense(), a.to_dense())
    if n:
        best = sm.Toeplitz(torch.cat([torch.full((1,), 3.0 * n, dtype=dtype), t.c[0, 1:]]))
        inverse = made.from_toeplitz_inverse(best)
        assert inverse.rank == 2
        torch.testing.assert_close(inverse.to_dense(), torch.linalg.inv(best.to_dense()))
        given = made.from_toeplitz_inverse(best, lambda a, b: torch.linalg.solve(a.to_dense(), b))
        torch.testing.assert_close(given.to_dense(), inverse.to_dense())
    factors = (*both, made.from_toeplitz(t), made.from_toeplitz(c, -1))
    for left, right in itertools.product(factors, factors):
        product = made.from_product(left, right)
        torch.testing.assert_close(product.to_dense(), left.to_dense() @ right.to_dense())
        assert product.rank <= 5


def test_low_displacement_rank_stays_real_and_learns() -> None:
    made = sm.LowDisplacementRank
    g = torch.randn(5, 2, dtype=WIDE, requires_grad=True)
    h = torch.randn(2, 5, dtype=WIDE, requires_grad=True)
    x = torch.randn(2, 5, dtype=WIDE, requires_grad=True)
    assert made(g, h)(x).dtype == WIDE

    op = made(g, h, -1).T
    fast, dense = (
        curvature(apply, g, h, x)
        for apply in (lambda *_: sm.compile(op)(x), lambda *_: x @ op.to_dense().mT)
    )
    for got, want in zip(fast, dense, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    a, b = made(g, h), made(h.mT, g.mT)
    total = (a + 2 * b - a.T.T).simplify()
    assert isinstance(total, sm.LowDisplacementRank)
    torch.testing.assert_close(total.to_dense(), 2 * b.to_dense())
    large = made(torch.randn(60, 2), torch.randn(2, 60))
    both = large + 2 * made(torch.randn(60, 1), torch.randn(1, 60))
    assert both.simplify()._label() == "LowDisplacementRank(60x60, rank=3)"
    assert isinstance((large + 2 * large.T).simplify(), sm.Sum)
    lifted = sm.kron(sm.Dense(torch.randn(2, 3, dtype=WIDE)), made(g, h), sm.Identity(2))
    check_operator(lifted, backends=TORCH)


def test_low_displacement_rank_says_what_does_not_fit() -> None:
    made = sm.LowDisplacementRank
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(2, 4\): G H must be square"):
        made(torch.ones(3, 2), torch.ones(2, 4))
    with pytest.raises(ValueError, match="f is 0, must be 1 or -1"):
        made(torch.ones(3, 2), torch.ones(2, 3), 0)
    with pytest.raises(TypeError, match=r"Dense\(2x2\) is no Toeplitz matrix"):
        made.from_toeplitz(sm.Dense(torch.eye(2)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Toeplitz\(2x3\) is not square"):
        made.from_toeplitz(sm.Toeplitz(torch.ones(2), torch.ones(3)))
    with pytest.raises(ValueError, match="sizes of"):
        made.from_product(sm.Toeplitz(torch.ones(2)), sm.Toeplitz(torch.ones(3)))


def operators() -> dict[str, sm.LinearOperator]:
    """One of each, of 6 columns, in double precision, with the convolutions beside them."""
    g = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.rand(shape, generator=g, dtype=WIDE)

    state, ones = numbers(2) / 2, torch.ones(2, dtype=WIDE)
    return {
        "real_fourier": sm.RDFT(6),
        "companion": sm.Companion(1 + numbers(7)),
        "cauchy": sm.Cauchy(numbers(6), 2 + numbers(6)),
        "vandermonde": sm.Vandermonde(numbers(6)),
        "vandermonde_turned": sm.Vandermonde(numbers(6)).T,
        "displacement": sm.LowDisplacementRank(numbers(6, 2), numbers(2, 6)),
        "displacement_back": sm.LowDisplacementRank(numbers(6, 2), numbers(2, 6), -1),
        "state_dense": sm.StateSpace(numbers(2, 2) / 3, ones, ones, 1.0, 6),
        "state_diagonal": sm.StateSpace(state, ones, ones, None, 6, diagonal=True),
        "state_low_rank": sm.StateSpace((state, numbers(2, 1), numbers(2, 1)), ones, ones, 0.5, 6),
        "signal": sm.Convolution(numbers(3), 6),
        "image": sm.Convolution(numbers(2, 2), (2, 3), "same"),
    }


every = pytest.mark.parametrize("name", operators())


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    op = operators()[name].to(dtype)
    x = torch.randn(3, 6).to(dtype)
    want = x.to(WIDE) @ op.to(WIDE).to_dense().mT
    for y in (op(x), sm.compile(op)(x)):
        assert y.dtype == dtype
        assert (y.to(WIDE) - want).abs().max() <= 0.05 * (1 + want.abs().max())


@every
def test_odd_inputs(name: str) -> None:
    """Strided, expanded, empty and meta inputs."""
    op = operators()[name]
    dense = op.to_dense().to(WIDE)
    strided, turned = torch.randn(5, 12, dtype=WIDE)[:, ::2], torch.randn(6, 5, dtype=WIDE).mT
    for x in (strided, turned, torch.randn(1, 6, dtype=WIDE).expand(4, 6), strided[:0]):
        torch.testing.assert_close(op(x), x @ dense.mT)
        torch.testing.assert_close(sm.compile(op)(x), x @ dense.mT)
    empty = op.to("meta")(torch.empty(3, 6, dtype=WIDE, device="meta"))
    assert (empty.shape, empty.device.type) == ((3, op.shape[0]), "meta")


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("cauchy", "displacement", "state_diagonal")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in operators()
    ],
)
def test_tracing_and_transforms(name: str) -> None:
    """make_fx, vmap over batches of operators, forward mode, second derivatives, dynamo."""
    op = operators()[name]
    leaves, spec = pytree.tree_flatten(op)
    x = torch.randn(3, 6, dtype=WIDE)

    def with_input(x: Tensor, *tensors: Tensor) -> Tensor:
        rebuilt: sm.LinearOperator = pytree.tree_unflatten(list(tensors), spec)
        return rebuilt(x)

    def apply(*tensors: Tensor) -> Tensor:
        return with_input(x, *tensors)

    graph = make_fx(with_input, tracing_mode="fake")(x, *leaves)
    torch.testing.assert_close(graph(x, *leaves), op(x))
    torch.testing.assert_close(torch.vmap(op)(x[:, None])[:, 0], op(x))
    torch._dynamo.reset()
    traced = torch.compile(lambda x: op(x), fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(x), op(x))
    if not leaves:
        return
    stacked = [torch.stack([t, 1.1 * t]) for t in leaves]
    torch.testing.assert_close(torch.vmap(apply)(*stacked)[0], op(x))
    places = tuple(range(len(leaves)))
    forward, back = (f(apply, places)(*leaves) for f in (jacfwd, jacrev))
    for got, want in zip(forward, back, strict=True):
        torch.testing.assert_close(got, want)
