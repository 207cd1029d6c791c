"""Regular systems of every structure, with the method that solves each, and how to compare."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import structmat as sm

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


def hollow(make: Make, n: int) -> Tensor:
    """A first column that begins with zero."""
    t = make(n) / n
    return torch.cat([t[:1] * 0, t[1:2] + 2, t[2:]])


def nodes(make: Make, n: int) -> Tensor:
    """Nodes that lie apart."""
    t = make(n)
    return torch.arange(n).to(t.dtype) - 2 + t / 8


def eye(make: Make) -> Tensor:
    """A corner that outweighs its border."""
    return 4 * torch.eye(2, dtype=make(1).dtype)


def grid(make: Make, n: int) -> sm.LinearOperator:
    """A sparse matrix that is heavy on its diagonal."""
    i = torch.arange(n)
    values = torch.cat([away(make, n), make(n) / 2, make(n) / 2])
    return sm.Sparse(
        (values, (i.repeat(3), torch.cat([i, (i + 1) % n, (i + 4) % n]))), shape=(n, n)
    )


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
    "triangular toeplitz transposed": (
        lambda r: sm.Circulant(heavy(r, 6), 0).T,
        "triangular toeplitz",
    ),
    "toeplitz": (lambda r: sm.Toeplitz(heavy(r, 7), heavy(r, 7)), "dense lu"),
    "toeplitz hermitian": (lambda r: sm.Toeplitz(heavy(r, 7)), "dense lu"),
    "toeplitz without regular minors": (
        lambda r: sm.Toeplitz(hollow(r, 4), hollow(r, 4)),
        "dense lu",
    ),
    "hankel": (lambda r: sm.Hankel(heavy(r, 6).flip(-1), heavy(r, 6)), "dense lu"),
    "causal": (lambda r: sm.Convolution(heavy(r, 3), 7), "triangular toeplitz"),
    "causal transposed": (lambda r: sm.Convolution(heavy(r, 9), 7).T, "triangular toeplitz"),
    "same": (lambda r: sm.Convolution(heavy(r, 3).roll(1), 7, "same"), "dense lu"),
    "circular": (lambda r: sm.Convolution(heavy(r, 9), 7, "circular").T, "circulant"),
    "circular image": (
        lambda r: sm.Convolution(heavy(r, 6).reshape(3, 2), (4, 5), "circular"),
        "circulant",
    ),
    "displacement": (
        lambda r: sm.LowDisplacementRank.from_product(
            sm.Toeplitz(heavy(r, 6)), sm.Toeplitz(heavy(r, 6), heavy(r, 6))
        ),
        "gko",
    ),
    "cauchy": (lambda r: sm.Cauchy(nodes(r, 5), nodes(r, 5) + 0.5), "gko"),
    "vandermonde": (lambda r: sm.Vandermonde(nodes(r, 5)), "bjorck-pereyra"),
    "vandermonde transposed": (lambda r: sm.Vandermonde(nodes(r, 5)).T, "bjorck-pereyra"),
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
    "triangular": (
        lambda r: sm.assume(sm.Dense(regular(r, 5, 5).tril()), triangular="lower"),
        "triangular",
    ),
    "triangular transposed": (
        lambda r: sm.assume(sm.Dense(regular(r, 5, 5).tril()), triangular="lower").T,
        "triangular",
    ),
    "unitary": (
        lambda r: sm.assume(sm.Dense(torch.linalg.qr(r(5, 5)).Q), unitary=True),
        "adjoint",
    ),
    "state space": (
        lambda r: sm.StateSpace(r(3) / 2, r(3), r(3), away(r, 1)[0], length=8),
        "triangular toeplitz",
    ),
    "sparse": (lambda r: grid(r, 12), "sparse lu"),
    "block sparse": (
        lambda r: sm.BlockSparse(regular(r, 3, 2, 2), torch.eye(3, dtype=torch.bool)),
        "sparse lu",
    ),
    "kronecker sum": (
        lambda r: sm.kron_sum(sm.Dense(regular(r, 3, 3)), sm.Diagonal(2 + r(4) / 4)),
        "eigenvectors of the factors",
    ),
    "kronecker and shift": (
        lambda r: 4 * sm.Identity(12) + sm.kron(sm.Dense(r(3, 3) / 3), sm.Dense(r(4, 4) / 4)),
        "eigenvectors of the factors",
    ),
    "hermitian kronecker and shift": (
        lambda r: sm.kron(sm.Toeplitz(heavy(r, 3)), sm.Diagonal(2 + r(2) / 2)) + sm.Identity(6),
        "eigenvectors of the factors",
    ),
    "block triangular": (
        lambda r: sm.block(
            [[sm.Diagonal(away(r, 3)), sm.Dense(r(3, 4))], [0, sm.Circulant(heavy(r, 4))]]
        ),
        "block substitution (diagonal; circulant)",
    ),
    "bordered": (
        lambda r: sm.block([[sm.Diagonal(away(r, 6)), r(6, 2) / 4], [r(2, 6) / 4, eye(r)]]),
        "block elimination (diagonal)",
    ),
    "bordered on top": (
        lambda r: sm.block([[eye(r), r(2, 6) / 4], [r(6, 2) / 4, sm.Diagonal(away(r, 6))]]),
        "block elimination (diagonal)",
    ),
    "bordered in the middle": (
        lambda r: sm.block(
            [
                [eye(r), r(2, 6) / 4, r(2, 1) / 4],
                [r(6, 2) / 4, sm.Circulant(heavy(r, 6)), r(6, 1) / 4],
                [r(1, 2) / 4, 0, away(r, 1)[:, None]],
            ]
        ),
        "block elimination (circulant)",
    ),
    "convolution and shift": (
        lambda r: sm.Convolution(heavy(r, 3), 7) + 2 * sm.Identity(7),
        "triangular toeplitz",
    ),
    "convolution transposed and shift": (
        lambda r: sm.Convolution(heavy(r, 3), 7).T + sm.Scaled(away(r, 1)[0], sm.Identity(7)),
        "triangular toeplitz",
    ),
    "same and shift": (
        lambda r: sm.Convolution(heavy(r, 3).roll(1), 7, "same").T + 2 * sm.Identity(7),
        "levinson",
    ),
    "circular image and shift": (
        lambda r: sm.Convolution(heavy(r, 6).reshape(3, 2), (4, 5), "circular").T
        + 2 * sm.Identity(20),
        "circulant",
    ),
    "state space and shift": (
        lambda r: sm.StateSpace(r(3) / 2, r(3), r(3), None, length=8).T + 2 * sm.Identity(8),
        "triangular toeplitz",
    ),
    "direct sum and shift": (
        lambda r: sm.direct_sum(sm.Diagonal(away(r, 2)), sm.Convolution(heavy(r, 3), 7))
        + sm.Identity(9) / 2,
        "direct sum (diagonal; triangular toeplitz)",
    ),
    "block triangular and shift": (
        lambda r: sm.block(
            [[sm.Diagonal(away(r, 3)), sm.Dense(r(3, 4))], [0, sm.Circulant(heavy(r, 4))]]
        )
        + sm.Identity(7) / 2,
        "block substitution (diagonal; circulant)",
    ),
    "lifted and shift": (
        lambda r: sm.kron(sm.Identity(3), sm.Convolution(heavy(r, 3), 5)) + 2 * sm.Identity(15),
        "kronecker (identity; triangular toeplitz)",
    ),
    "inverse and shift": (
        lambda r: 2 * sm.Inverse(sm.Convolution(heavy(r, 3), 7)) + sm.Identity(7) / 3,
        "product (inverse of an inverse; triangular toeplitz)",
    ),
    "dft and shift": (
        lambda r: 3 * sm.DFT(6, dtype=(r(1) + 0j).dtype) + 2 * sm.Identity(6),
        "powers that return",
    ),
    "idft and shift": (
        lambda r: sm.Scaled(away(r, 1)[0], sm.IDFT(7, dtype=(r(1) + 0j).dtype)) + sm.Identity(7),
        "powers that return",
    ),
    "hadamard and shift": (
        lambda r: sm.Hadamard(8, dtype=r(1).dtype) + sm.Scaled(away(r, 1)[0], sm.Identity(8)),
        "powers that return",
    ),
    "dct 1 and shift": (
        lambda r: sm.DCT(6, 1, "forward", dtype=r(1).dtype) - 3 * sm.Identity(6),
        "powers that return",
    ),
    "permutation and diagonal": (
        lambda r: sm.cyclic_shift(20, 3) + sm.Diagonal(away(r, 20)),
        "sparse lu",
    ),
    "companion and shift": (lambda r: sm.Companion(away(r, 31)) + 3 * sm.Identity(30), "sparse lu"),
    "woodbury of a shift": (
        lambda r: sm.Hadamard(8, dtype=r(1).dtype) + 5 * sm.Identity(8) + thin(r, 8, 1),
        "woodbury (powers that return)",
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
