"""Named operators for the compiler's tests: all leaves and combinators, odd and wide sizes.

Entries are -1, 0 or 1, so that float64 results are exact and 16-bit products of moderate length
are, too. Products are spelled sm.Product and not A @ B, so that each can also be built where
torch.compile traces.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

import structmat as sm
from structmat.pattern import Pattern

Make = Callable[..., torch.Tensor]


def entries(seed: int, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Make:
    """A function shape -> tensor of entries in {-1, 0, 1}."""
    gen = torch.Generator().manual_seed(seed)

    def make(*shape: int) -> torch.Tensor:
        return torch.randint(-1, 2, shape, generator=gen).to(dtype).to(device)

    return make


def _monarch(r: Make) -> sm.LinearOperator:
    return sm.Monarch(r(6, 2, 4), r(4, 6, 5))


def _permuted(r: Make) -> sm.LinearOperator:
    product = sm.Product(sm.Permutation(SHUFFLED), sm.Monarch(r(16, 6, 16), r(16, 16, 8)))
    return product + sm.Dense(r(96, 128))


def _conjugated(r: Make) -> sm.LinearOperator:
    p = sm.stride_permutation(16, 4)
    return sm.Product(p, sm.BlockDiagonal(r(4, 4, 4)), p.T, sm.BlockDiagonal(r(4, 4, 4)))


def _shared(r: Make) -> sm.LinearOperator:
    w = r(2, 2)
    return sm.Product(sm.kron(sm.Dense(w), sm.Dense(w)), sm.Diagonal(r(4)))


def _companion(r: Make) -> sm.LinearOperator:
    c = r(7)
    c[0] = c[6] = 1
    return sm.Companion(c)


def _pattern(nnz: int) -> Pattern:
    """A pattern of 8 x 6."""
    keys = torch.randperm(48, generator=torch.Generator().manual_seed(7))[:nnz]
    return Pattern.at((8, 6), keys.sort().values.numpy())


# Made here, so that operators may also be built where torch.compile traces.
PATTERNS = {nnz: _pattern(nnz) for nnz in (11, 17)}
SHUFFLED = torch.randperm(96, generator=torch.Generator().manual_seed(5)).tolist()


MARKET: dict[str, Callable[[Make], sm.LinearOperator]] = {
    "identity": lambda r: sm.Identity(5),
    "zero": lambda r: sm.Zero(3, 4),
    "companion": _companion,
    "diagonal": lambda r: sm.Diagonal(r(7)),
    "dense": lambda r: sm.Dense(r(5, 4)),
    "dense_wide": lambda r: sm.Dense(r(130, 200)),
    "low_rank": lambda r: sm.LowRank(r(5, 3), r(3, 4)),
    "rank_one": lambda r: sm.LowRank(r(5, 1), r(1, 4)),
    "block_diagonal": lambda r: sm.BlockDiagonal(r(3, 40, 50)),
    "monarch": _monarch,
    "monarch_transposed": lambda r: _monarch(r).T,
    "monarch_uneven": lambda r: sm.Monarch(r(6, 7, 2), r(4, 3, 5)),
    "monarch_24": lambda r: sm.Monarch(r(24, 17, 18), r(18, 24, 20)),
    "monarch_1024": lambda r: sm.Monarch(r(32, 32, 32), r(32, 32, 32)),
    "monarch_flat": lambda r: sm.Monarch(r(32, 32, 16), r(16, 32, 64)),
    "monarch_few": lambda r: sm.Monarch(r(4, 96, 96), r(4, 96, 96)),
    "monarch_scaled": lambda r: sm.Product(sm.Diagonal(r(12)), _monarch(r), sm.Diagonal(r(20))),
    "monarch_sum": lambda r: 2 * _monarch(r) - _monarch(r) * 3 + _monarch(r),
    "monarch_chain": lambda r: sm.MonarchChain([r(1, 3, 2, 6), r(2, 3, 4, 2), r(4, 4, 5, 1)]),
    "kronecker_sparse": lambda r: sm.KroneckerSparse(r(1, 17, 100, 18)),
    "butterfly": lambda r: sm.Butterfly(r(3, 4, 2, 2)),
    "butterfly_decreasing": lambda r: sm.Butterfly(r(4, 8, 2, 2), increasing_stride=False),
    "conjugated": _conjugated,
    "respelled": lambda r: sm.Product(
        sm.stride_permutation(16, 4),
        sm.BlockDiagonal(r(2, 8, 8)),
        sm.stride_permutation(16, 4),
    ),
    "reversed": lambda r: sm.Product(
        sm.bit_reversal(16), sm.BlockDiagonal(r(4, 4, 4)), sm.reversal(16)
    ),
    "permuted": _permuted,
    "kronecker": lambda r: sm.kron(sm.Dense(r(16, 16)), sm.Dense(r(17, 20))),
    "kronecker_mixed": lambda r: sm.kron(
        sm.Dense(r(2, 3)), _monarch(r), sm.stride_permutation(6, 2)
    ),
    "kronecker_identity": lambda r: sm.kron(sm.Identity(2), sm.Dense(r(3, 4)), sm.Identity(3)),
    "direct_sum": lambda r: sm.direct_sum(_monarch(r), sm.Identity(3), sm.Zero(2, 1)),
    "lifted_sum": lambda r: sm.kron(sm.direct_sum(_monarch(r), sm.Identity(3)), sm.Dense(r(2, 2))),
    "shared": _shared,
    "scalar": lambda r: r()[None][0] * _monarch(r).T,
    "batched": lambda r: sm.Product(sm.Dense(r(3, 5, 4)), sm.Diagonal(r(4))),
    "batched_monarch": lambda r: sm.Monarch(r(7, 6, 2, 4), r(7, 4, 6, 5)),
    "batched_thin": lambda r: sm.Monarch(r(2, 2, 1, 2), r(2, 1, 4, 1)),
    "empty_inside": lambda r: (
        sm.Product(sm.Dense(r(16, 16)), sm.Dense(r(16, 0)), sm.Dense(r(0, 16))) + sm.Identity(16)
    ),
    "block": lambda r: sm.block([[_monarch(r), r(12, 3)], [0, sm.reversal(3)]]),
    "slice": lambda r: _monarch(r)[1:9, ::3],
    "repeated_rows": lambda r: sm.Dense(r(6, 4))[[5, 0, 5, 2, 5]],
    "kronecker_sum": lambda r: sm.kron_sum(sm.Dense(r(3, 3)), sm.Dense(r(4, 4))),
    "lifted_slice": lambda r: sm.kron(sm.Dense(r(2, 2)), sm.Dense(r(6, 4))[1::2, [0, 3, 3]]),
    "elementwise": lambda r: sm.elementwise(sm.LowRank(r(12, 2), r(2, 20)), _monarch(r)),
    "residual": lambda r: sm.Identity(64) + sm.Monarch(r(8, 8, 8), r(8, 8, 8)),
}


def _complex(r: Make) -> torch.dtype:
    return torch.promote_types(r().dtype, torch.complex64)


def _real(r: Make) -> torch.dtype:
    return r().real.dtype


def _steps(r: Make, *numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=r().dtype, device=r().device)


def _regular(r: Make, n: int) -> sm.LinearOperator:
    """n x n, diagonally dominant."""
    return sm.Dense(_heavy(r, 1, n)[0])


def _heavy(r: Make, batch: int, n: int) -> torch.Tensor:
    return r(batch, n, n) + 2 * n * torch.eye(n, dtype=r().dtype, device=r().device)


def _first(r: Make, n: int) -> torch.Tensor:
    """A first column that outweighs what is off the diagonal."""
    return torch.cat([_steps(r, 2 * n), r(n - 1)])


ROUNDED: dict[str, Callable[[Make], sm.LinearOperator]] = {
    "sparse": lambda r: sm.Sparse((r(17), PATTERNS[17])),
    "sparse_batched": lambda r: sm.Sparse((r(3, 17), PATTERNS[17])).T,
    "sparse_lifted": lambda r: sm.kron(
        sm.Dense(r(2, 3)), sm.Sparse((r(11), PATTERNS[11])), sm.Identity(2)
    ),
    "block_sparse": lambda r: sm.BlockSparse(r(17, 4, 3), PATTERNS[17]),
    "rdft": lambda r: sm.RDFT(9, dtype=_real(r)),
    "vandermonde": lambda r: sm.Vandermonde(r(5), 4),
    "cauchy": lambda r: sm.Cauchy(_steps(r, 0, 1, 2), _steps(r, -1, -2, -4, 5)),
    "displacement": lambda r: sm.LowDisplacementRank(r(6, 2), r(2, 6)),
    "state_space": lambda r: sm.StateSpace(r(3) / 2, r(3), r(3), r(), 7),
    "state_space_dense": lambda r: sm.StateSpace(r(2, 2) / 2, r(2), r(2), r(), 6),
    "inverse": lambda r: sm.Product(sm.inv(_regular(r, 5)), sm.Diagonal(r(5))),
    "inverse_lifted": lambda r: sm.kron(sm.inv(_regular(r, 3)), sm.Dense(r(2, 4))),
    "inverse_batched": lambda r: sm.Product(sm.inv(sm.Dense(_heavy(r, 2, 4))), sm.Dense(r(4, 3))),
    "inverse_toeplitz": lambda r: sm.inv(sm.Toeplitz(_first(r, 6), _first(r, 6))),
    "inverse_companion": lambda r: sm.kron(sm.Identity(2), sm.inv(_companion(r))).T,
    "inverse_block": lambda r: sm.inv(
        sm.block([[_regular(r, 3), r(3, 2)], [0, sm.Diagonal(_steps(r, 2, 4))]])
    ),
    "inverse_vandermonde": lambda r: sm.inv(sm.Vandermonde(_steps(r, -1, 0, 2, 3))),
    "toeplitz": lambda r: sm.Toeplitz(r(5), r(7)),
    "toeplitz_hermitian": lambda r: sm.Toeplitz(r(6)),
    "hankel": lambda r: sm.Hankel(r(4), r(6)),
    "circulant": lambda r: sm.Circulant(r(8)),
    "circulant_prime": lambda r: sm.Circulant(r(13)),
    "circulant_skew": lambda r: sm.Circulant(r(6), -1),
    "convolution": lambda r: sm.Convolution(r(3), 8),
    "convolution_2d": lambda r: sm.Convolution(r(3, 2), (4, 5), mode="same"),
    "convolution_full": lambda r: sm.Convolution(r(4), 6, mode="full"),
    "dft": lambda r: sm.DFT(12, dtype=_complex(r)),
    "idft_prime": lambda r: sm.IDFT(7, dtype=_complex(r)),
    "dct": lambda r: sm.DCT(9, dtype=r().dtype),
    "dst": lambda r: sm.DST(8, type=4, norm="ortho", dtype=r().dtype),
    "hadamard": lambda r: sm.Hadamard(16, normalized=True, dtype=r().dtype),
    "haar": lambda r: sm.Haar(12, dtype=r().dtype),
    "wavelet": lambda r: sm.Wavelet(16, "db3", dtype=r().dtype),
    "fourier_chain": lambda r: sm.Product(
        sm.IDFT(8, dtype=_complex(r)), sm.Diagonal(r(8)), sm.DFT(8, dtype=_complex(r))
    ),
    "toeplitz_kronecker": lambda r: sm.kron(sm.Toeplitz(r(3)), sm.Dense(r(2, 3))),
    "toeplitz_batched": lambda r: sm.Product(sm.Toeplitz(r(2, 1, 4), r(3, 5)), sm.Diagonal(r(5))),
}
"""Operators that are applied through Fourier transforms, or whose entries are no integers."""
