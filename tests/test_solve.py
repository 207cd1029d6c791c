"""Linear systems: every structure against torch.linalg on the dense matrix, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import structmat as sm
from structmat.testing import check_operator

Make = Callable[..., Tensor]
W = torch.float64


def regular(make: Make, *shape: int) -> Tensor:
    """Square blocks that are safely regular: small off the diagonal."""
    n = shape[-1]
    return make(*shape) / (2 * n) + torch.eye(n, dtype=make(1).dtype)


def away(make: Make, n: int) -> Tensor:
    """n entries that are safely not zero."""
    t = make(n)
    return t + 3 * torch.where(t.real < 0, -1.0, 1.0).to(t.dtype)


def heavy(make: Make, n: int) -> Tensor:
    """A first column whose first entry outweighs the others."""
    t = make(n) / n
    return torch.cat([t[:1] + 3, t[1:]])


def thin(make: Make, n: int, r: int) -> sm.LinearOperator:
    return sm.LowRank(make(n, r) / n, make(r, n))


SYSTEMS: dict[str, tuple[Callable[[Make], sm.LinearOperator], str]] = {
    "identity": (lambda r: sm.Identity(5), "identity"),
    "diagonal": (lambda r: sm.Diagonal(away(r, 7)), "diagonal"),
    "permutation": (lambda r: sm.cyclic_shift(7, 3), "permutation"),
    "dense": (lambda r: sm.Dense(regular(r, 6, 6)), "dense lu"),
    "blocks": (lambda r: sm.BlockDiagonal(regular(r, 3, 4, 4)), "block lu"),
    "factor": (
        lambda r: sm.KroneckerSparse(regular(r, 2, 3, 4, 4).movedim(1, -1)),
        "block lu",
    ),
    "monarch": (lambda r: sm.Monarch(regular(r, 4, 3, 3), regular(r, 3, 4, 4)), "monarch"),
    "monarch transposed": (
        lambda r: sm.Monarch(regular(r, 4, 3, 3), regular(r, 3, 4, 4)).T,
        "monarch",
    ),
    "butterfly": (lambda r: sm.Butterfly(regular(r, 3, 4, 2, 2)), "butterfly"),
    "butterfly decreasing": (lambda r: sm.Butterfly(regular(r, 3, 4, 2, 2), False), "butterfly"),
    "dft": (lambda r: sm.DFT(6, dtype=(r(1) + 0j).dtype), "inverse transform"),
    "dct": (lambda r: sm.DCT(6, dtype=r(1).dtype), "inverse transform"),
    "dct 1": (lambda r: sm.DCT(6, 1, "forward", dtype=r(1).dtype), "inverse transform"),
    "dst": (lambda r: sm.DST(6, 3, "ortho", dtype=r(1).dtype), "inverse transform"),
    "rdft": (lambda r: sm.RDFT(7, dtype=r(1).dtype), "inverse transform"),
    "hadamard": (lambda r: sm.Hadamard(8, order="sequency", dtype=r(1).dtype), "inverse transform"),
    "wavelet": (lambda r: sm.Wavelet(8, "db2", dtype=r(1).dtype), "inverse transform"),
    "circulant": (lambda r: sm.Circulant(heavy(r, 6)), "circulant"),
    "circulant prime": (lambda r: sm.Circulant(heavy(r, 13)), "circulant"),
    "circulant skew": (lambda r: sm.Circulant(heavy(r, 6), -1), "circulant"),
    "circulant of f": (lambda r: sm.Circulant(heavy(r, 5), 2.5), "circulant"),
    "triangular toeplitz": (lambda r: sm.Circulant(heavy(r, 6), 0), "triangular toeplitz"),
    "companion": (lambda r: sm.Companion(away(r, 6)), "companion"),
    "companion transposed": (lambda r: sm.Companion(away(r, 6)).T, "companion"),
    "scaled": (lambda r: 2 * sm.Diagonal(away(r, 4)), "diagonal"),
    "scaled by a tensor": (
        lambda r: sm.Scaled(away(r, 1)[0], sm.Circulant(heavy(r, 4))),
        "circulant",
    ),
    "transpose": (lambda r: sm.Dense(regular(r, 4, 4)).T, "dense lu"),
    "inverse": (lambda r: sm.Inverse(sm.Dense(regular(r, 4, 4))), "inverse of an inverse"),
    "product": (
        lambda r: sm.Diagonal(away(r, 6)) @ sm.Circulant(heavy(r, 6)) @ sm.reversal(6),
        "product (diagonal; circulant; permutation)",
    ),
    "kronecker": (
        lambda r: sm.kron(sm.Diagonal(away(r, 2)), sm.Dense(regular(r, 3, 3)), sm.reversal(2)),
        "kronecker (diagonal; dense lu; permutation)",
    ),
    "direct sum": (
        lambda r: sm.direct_sum(sm.Diagonal(away(r, 2)), sm.Dense(regular(r, 3, 3))),
        "direct sum (diagonal; dense lu)",
    ),
    "woodbury": (lambda r: sm.Diagonal(away(r, 8)) + thin(r, 8, 2), "woodbury (diagonal)"),
    "woodbury identity": (
        lambda r: 3 * sm.Identity(8) + thin(r, 8, 1) - 2 * thin(r, 8, 1),
        "woodbury (identity)",
    ),
    "woodbury kronecker": (
        lambda r: sm.kron(sm.Dense(regular(r, 3, 3)), sm.Diagonal(away(r, 3))) + thin(r, 9, 1),
        "woodbury (kronecker (dense lu; diagonal))",
    ),
}  # fmt: skip

KINDS = {"real64": torch.float64, "complex128": torch.complex128, "real32": torch.float32}


def maker(kind: str, seed: int = 0, batch: tuple[int, ...] = ()) -> Make:
    g = torch.Generator().manual_seed(seed)
    dtype = KINDS[kind]

    def make(*shape: int) -> Tensor:
        return 2 * torch.rand(*batch, *shape, generator=g, dtype=dtype) - 1

    return make


def close(got: Tensor, a: Tensor, b: Tensor) -> None:
    """x against the dense solution, with a tolerance that knows the condition of the matrix."""
    want = torch.linalg.solve(a, b.to(a.dtype))
    assert got.shape == want.shape
    eps = torch.finfo(got.dtype).eps
    size = want.abs().max().item() if want.numel() else 0.0
    cond = torch.linalg.cond(a).max().item() if a.numel() else 1.0
    torch.testing.assert_close(got, want.to(got.dtype), rtol=0, atol=100 * eps * cond * size)


every_system = pytest.mark.parametrize("name", SYSTEMS)


@every_system
@pytest.mark.parametrize("kind", KINDS)
def test_solve(name: str, kind: str) -> None:
    make, method = SYSTEMS[name]
    op = make(maker(kind))
    n = op.shape[0]
    dense = op.to_dense()
    draw = maker(kind, 1)
    for shape in [(n,), (n, 3), (n, 0), (2, n, 2), (2, 1, n, 1)]:
        b = draw(*shape)
        solution = sm.solve(op, b)
        assert solution.method == method
        assert solution.iterations == 0
        want = torch.promote_types(op.dtype if op.strong_dtype else b.dtype, b.dtype)
        assert solution.x.dtype == want
        assert float(solution.residual) < 1e4 * torch.finfo(want).eps
        square = b if len(shape) > 1 else b[:, None]
        x = solution.x if len(shape) > 1 else solution.x[:, None]
        wide = dense.to(want)
        close(x, wide.expand(*shape[:-2], n, n), square)


@every_system
def test_inverse(name: str) -> None:
    """inv(A) is an operator like any other, and cancels with A."""
    op = SYSTEMS[name][0](maker("real64"))
    inverse = sm.inv(op)
    check_operator(sm.Inverse(op))
    eye = torch.eye(op.shape[0], dtype=op.dtype)
    torch.testing.assert_close(inverse.to_dense() @ op.to_dense(), eye, rtol=0, atol=1e-11)
    for product in (op @ inverse, inverse @ op):
        assert isinstance(product.simplify(), sm.Identity), product.simplify()
    assert sm.inv(inverse).simplify().structure == op.simplify().structure


@every_system
def test_gradients(name: str) -> None:
    op = SYSTEMS[name][0](maker("real64"))
    tensors = [t.clone().requires_grad_() for t in op.parameters()]
    b = maker("real64", 1)(op.shape[0], 2).requires_grad_()

    def apply(b: Tensor, *tensors: Tensor) -> Tensor:
        table = dict(zip(map(id, op.parameters()), tensors, strict=True))
        new = op._map(lambda t: table[id(t)], None)
        x = sm.solve(new, b, check=False).x
        return torch.view_as_real(x) if x.is_complex() else x

    assert torch.autograd.gradcheck(apply, (b, *tensors), fast_mode=True)
    assert torch.autograd.gradgradcheck(apply, (b, *tensors), fast_mode=True)
