"""What the simplifier makes of every kind of expression: a table of (expression, expected).

Each row gives the label of the result and, where a choice was made by cost, its flops; every row is
also checked against the dense matrix and against the promises (never costlier, nothing left to do).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import structmat as sm
from structmat.rules.measure import flops

G = torch.Generator().manual_seed(0)
N = 64
WIDE = torch.float64


def ints(*shape: int) -> Tensor:
    return torch.randint(-1, 2, shape, generator=G).to(torch.float64)


def complex_ints(*shape: int) -> Tensor:
    return torch.complex(ints(*shape), ints(*shape))


def stored(op: sm.LinearOperator) -> int:
    return sum(t.numel() * t.element_size() for t in op.parameters())


P, Q = sm.stride_permutation(N, 8), sm.Permutation(torch.randperm(N, generator=G))
J, shift = sm.reversal(N), sm.cyclic_shift(N, 3)
D, E = sm.Diagonal(ints(N)), sm.Diagonal(ints(N))
W, V = sm.Dense(ints(N, N)), sm.Dense(ints(N, N))
B, C = sm.BlockDiagonal(ints(8, 8, 8)), sm.BlockDiagonal(ints(8, 8, 8))
K = sm.KroneckerSparse(ints(1, 8, 8, 8))
U, X = sm.LowRank(ints(N, 2), ints(2, N)), sm.LowRank(ints(N, 3), ints(3, N))
M, L = sm.Monarch(ints(8, 8, 8), ints(8, 8, 8)), sm.Monarch(ints(8, 8, 8), ints(8, 8, 8))
H = sm.Butterfly(ints(6, 32, 2, 2))
R = sm.Butterfly(ints(6, 32, 2, 2), increasing_stride=False)
I = sm.Identity(N)
T, S = sm.Toeplitz(ints(N), ints(N)), sm.Toeplitz(ints(N), ints(N))
A, Z = sm.Circulant(ints(N)), sm.Circulant(ints(N))
Y = sm.Hankel(ints(N), ints(N))
F, Fi = sm.DFT(N, dtype=torch.complex128), sm.IDFT(N, dtype=torch.complex128)
a, b, c = (sm.Dense(ints(8, 8)) for _ in range(3))
tall, wide = sm.Dense(ints(N, 2)), sm.Dense(ints(2, N))
I8 = sm.Identity(8)
g, h = (sm.Dense(ints(8, 8) + 9 * torch.eye(8, dtype=torch.float64)) for _ in range(2))


def factor(*pattern: int) -> sm.KroneckerSparse:
    return sm.KroneckerSparse(ints(*pattern))


def disp(r: int) -> sm.LinearOperator:
    return sm.LowDisplacementRank(ints(N, r), ints(r, N))


def label(op: sm.LinearOperator) -> str:
    return op._label()


m, low, kr = label(M), label(U), "kron(Dense(8x8), Dense(8x8))"
q, p = label(Q), label(P)

TABLE: list[tuple[str, sm.LinearOperator, str]] = [
    # like terms and scalars
    ("like terms", 2 * M + 3 * M, m),
    ("terms that cancel", M + L - M, label(L)),
    ("terms that all cancel", M - M, f"Zero({N}x{N})"),
    ("terms far apart", M + Q + W + Q - W, f"{m} + 2 * {q}"),
    ("a zero times anything", (0 * M) @ W + 0 * H, f"Zero({N}x{N})"),
    ("a zero beside a term", 0 * M + L, label(L)),
    ("scalars of a product", (2 * P) @ (3 * Q), f"6 * {label((P @ Q).simplify())}"),
    ("scalars of a Kronecker product", sm.kron(2 * sm.reversal(8), 3 * sm.reversal(8)),
     f"6 * {label(J)}"),
    ("a scalar common to terms", 2 * P + 2 * Q, f"2 * ({p} + {q})"),
    ("a scalar common to blocks", sm.direct_sum(2 * sm.reversal(3), 2 * sm.reversal(4)),
     "2 * " + label(sm.direct_sum(sm.reversal(3), sm.reversal(4)).simplify())),
    ("signs", M * -1 * -1, m),
    ("signs in a product", (-W) @ (-Q), f"Dense({N}x{N}) @ {q}"),
    ("a scalar into numbers", 5 * U, low),
    # permutations and transforms
    ("P P^T", Q @ Q.T, f"Identity({N})"),
    ("P^T P", P.T @ P, f"Identity({N})"),
    ("P^T D P", Q.T @ D @ Q, f"Diagonal({N})"),
    ("a permutation through a diagonal", D @ Q @ W, f"{q} @ Dense({N}x{N})"),
    ("F^-1 F", Fi @ F, f"Identity({N})"),
    ("F F^-1", F @ Fi, f"Identity({N})"),
    ("F F", F @ F, f"64 * Permutation(affine(63*i + 0 mod {N}))"),
    ("H H = n I", sm.Hadamard(N) @ sm.Hadamard(N), f"64 * Identity({N})"),
    ("H H = I", sm.Hadamard(N, True) @ sm.Hadamard(N, True), f"Identity({N})"),
    ("cosine transforms", sm.DCT(N, 3, "ortho", WIDE) @ sm.DCT(N, 2, "ortho", WIDE),
     f"Identity({N})"),
    ("F^-1 D F", Fi @ sm.Diagonal(complex_ints(N)) @ F, f"Circulant({N})"),
    ("F A F^-1", F @ sm.Circulant(complex_ints(N)) @ Fi, f"Diagonal({N})"),
    ("F A F^-1 of real numbers", F @ A @ Fi, f"{label(F)} @ Circulant({N}) @ {label(Fi)}"),
    # circulant, Toeplitz and Hankel matrices
    ("sum of circulants", A + Z, f"Circulant({N})"),
    ("product of circulants", A @ Z, f"Circulant({N})"),
    ("power of a circulant", A**3, f"Circulant({N})"),
    ("A^T A of a circulant", A.T @ A, f"Circulant({N})"),
    ("difference of circulants", A - 2 * Z, f"Circulant({N})"),
    ("circulant plus identity", A + 2 * I, f"Circulant({N})"),
    ("circulant plus shift", A + shift - 2 * shift.T, f"Circulant({N})"),
    ("shift times circulant", shift @ A @ shift, f"Circulant({N})"),
    ("factors common to circulants", A @ D + Z @ D, f"Circulant({N}) @ Diagonal({N})"),
    ("sum of Toeplitz", T + T.T, f"Toeplitz({N}x{N})"),
    ("difference of Toeplitz", T - 3 * S, f"Toeplitz({N}x{N})"),
    ("Toeplitz plus circulant", T + A - I, f"Toeplitz({N}x{N})"),
    ("T J", T @ J, f"Hankel({N}x{N})"),
    ("J T", J @ T, f"Hankel({N}x{N})"),
    ("J T J", J @ T @ J, f"Toeplitz({N}x{N})"),
    ("J Y", J @ Y, f"Toeplitz({N}x{N})"),
    ("sum of Hankel", Y + Y.T - J @ T, f"Hankel({N}x{N})"),
    ("sum of convolutions", sm.Convolution(ints(3), N) - sm.Convolution(ints(3), N),
     f"Convolution(3 on {N}, causal)"),
    # Kronecker products
    ("mixed product", sm.kron(a, b) @ sm.kron(b, c), kr),
    ("mixed product with identities", sm.kron(I8, a) @ sm.kron(b, I8), kr),
    ("power of a Kronecker product", sm.kron(a, b) ** 3, kr),
    ("mixed product among others", M @ Q @ sm.kron(a, b) @ sm.kron(b, c) @ H,
     f"{m} @ {q} @ {kr} @ {label(H)}"),
    ("transpose of a Kronecker product", sm.kron(a, b).T, kr),
    ("Kronecker products with a common factor", sm.kron(a, b) + sm.kron(a, c), kr),
    ("nested Kronecker products", sm.kron(sm.kron(a, sm.Identity(1)), sm.kron(b)), kr),
    ("Kronecker product of identities", sm.kron(I8, I8) @ B, label(B)),
    ("Kronecker product with zero", sm.kron(a, sm.Zero(8)), f"Zero({N}x{N})"),
    ("Kronecker product with a number", sm.kron(sm.Dense(ints(1, 1)), M), m),
    ("Kronecker product of permutations", sm.kron(sm.reversal(8), sm.reversal(8)), label(J)),
    ("transforms of both digits", sm.kron(sm.Hadamard(8), a) @ sm.kron(sm.Hadamard(8), b),
     "kron(Identity(8), Dense(8x8))"),
    ("digits exchanged", P @ sm.kron(a, I8) @ P.T, "kron(Identity(8), Dense(8x8))"),
    # low rank
    ("sum of low rank", U + X, f"LowRank({N}x{N}, rank=5)"),
    ("difference of low rank", U - 2 * X, f"LowRank({N}x{N}, rank=5)"),
    ("sum with a common factor", U + sm.LowRank(U.left, ints(2, N)), low),
    ("product of low rank", U @ X, low),
    ("product through a dense matrix", X @ W @ U, low),
    ("low rank between fast matrices", M @ U @ H, low),
    ("low rank beside a transform", T @ U @ A, low),
    ("low rank beside a permutation", W @ Q @ U, low),
    ("U U^T", U @ U.T, low),
    ("rank 0", sm.LowRank(ints(N, 0), ints(0, N)), f"Zero({N}x{N})"),
    ("rank above the sides", sm.LowRank(ints(4, 6), ints(6, 4)), "Dense(4x4)"),
    ("rank that does not pay", sm.LowRank(ints(4, 3), ints(3, 5)), "Dense(4x5)"),
    ("rank that pays", sm.LowRank(ints(4, 3), ints(3, 40)), "LowRank(4x40, rank=3)"),
    ("ranks that add up to full", sm.Sum(*(sm.LowRank(ints(8, 2), ints(2, 8)) for _ in range(3))),
     "Dense(8x8)"),
    ("tall times wide", tall @ wide, low),
    ("wide times tall", wide @ tall, "Dense(2x2)"),
    ("tall, wide, tall", tall @ wide @ sm.Dense(ints(N, 2)), f"Dense({N}x2)"),
    ("an update of a dense matrix", W + U, f"Dense({N}x{N})"),
    ("rank bookkeeping along a chain", U @ M @ X @ T @ sm.LowRank(ints(N, 1), ints(1, N)),
     f"LowRank({N}x{N}, rank=1)"),
    # block-diagonal matrices and direct sums
    ("product of blocks", B @ C, label(B)),
    ("sum of blocks", B - 2 * C, label(B)),
    ("blocks plus identity", B - 3 * I, label(B)),
    ("blocks plus diagonal", B + D, label(B)),
    ("strided blocks plus diagonal", K + D - I, label(K)),
    ("direct sum of equal shapes", sm.direct_sum(a, b, c), "BlockDiagonal(3 of 8x8)"),
    ("direct sum of equals", sm.direct_sum(M, M, M), f"kron(Identity(3), {m})"),
    ("direct sums factor by factor", sm.direct_sum(a, U) @ sm.direct_sum(b, X),
     f"direct_sum(Dense(8x8), {low})"),
    ("sum of direct sums", sm.direct_sum(a, U) + sm.direct_sum(b, U),
     f"direct_sum(Dense(8x8), {low})"),
    ("transpose of a direct sum", sm.direct_sum(a, U).T, f"direct_sum(Dense(8x8), {low})"),
    ("diagonal into a direct sum", sm.Diagonal(ints(72)) @ sm.direct_sum(a, U),
     f"direct_sum(Dense(8x8), {low})"),
    ("identity plus a direct sum", sm.direct_sum(a, b) + sm.Identity(16),
     "BlockDiagonal(2 of 8x8)"),
    ("nested direct sums", sm.direct_sum(sm.direct_sum(a, M), sm.direct_sum(b)),
     f"direct_sum(Dense(8x8), {m}, Dense(8x8))"),
    ("direct sum of zeros", sm.direct_sum(sm.Zero(2), sm.Zero(3)), "Zero(5x5)"),
    # butterfly and Monarch matrices
    ("P B P^T C", P @ B @ P.T @ C, m),
    ("two factors", K @ B, m),
    ("a chain of two factors", sm.MonarchChain([K, ints(8, 8, 8, 1)]), m),
    ("a permuted Monarch matrix", Q @ P @ B @ P.T @ C, f"{q} @ {m}"),
    ("diagonals into a Monarch matrix", D @ M @ E, m),
    ("blocks into a Monarch matrix", M @ B, m),
    ("strided blocks into a Monarch matrix", K @ M, m),
    ("Monarch matrices with a common factor", M + sm.Monarch(ints(8, 8, 8), M.right), m),
    ("blocks conjugated back", P.T @ K @ P, label(B)),
    ("chainable factors that merge", factor(2, 2, 4, 8) @ factor(4, 2, 1, 8),
     "KroneckerSparse(2,2,2,8)"),
    ("chainable factors that stay", factor(1, 4, 4, 16) @ factor(4, 4, 4, 4) @ factor(16, 4, 4, 1),
     "MonarchChain[(1,4,4,16), (4,4,4,4), (16,4,4,1)]"),
    ("a butterfly from its factors", sm.Product(*H.factors()), label(H)),
    ("a butterfly from a chain", sm.MonarchChain(R.factors()), label(R)),
    ("a butterfly inside a product", sm.Product(Q, *H.factors(), M), f"{q} @ {label(H)} @ {m}"),
    ("a factor into a butterfly", H @ sm.BlockDiagonal(ints(32, 2, 2)), label(H)),
    ("transpose of a butterfly", H.T, label(R)),
    ("diagonals into a butterfly", D @ H @ E, label(H)),
    # diagonals and transposes
    ("diagonals", D @ E @ D, f"Diagonal({N})"),
    ("diagonals into a dense matrix", D @ W @ E, f"Dense({N}x{N})"),
    ("diagonals into strided blocks", D @ K @ E, label(K)),
    ("diagonals into low rank", D @ U @ E, low),
    ("diagonal plus identity", D + 2 * I, f"Diagonal({N})"),
    ("(A^T)^T", sm.Transpose(sm.Transpose(M)), m),
    ("(A B)^T", (M @ Q).T.T, f"{m} @ {q}"),
    ("(A + B)^T", (W + Q).T, f"Dense({N}x{N})"),
    ("identities in a product", I @ M @ I, m),
    # factors common to terms
    ("a common left factor", M @ D + M @ Q, f"{m} @ (Diagonal({N}) + {q})"),
    ("a common right factor of many terms", M @ Q + T @ Q + H @ Q,
     f"({m} + Toeplitz({N}x{N}) + {label(H)}) @ {q}"),
    ("a term that is the common factor", M + M @ Q, f"{m} @ (Identity({N}) + {q})"),
    # inverses
    ("A^-1 A", sm.inv(g) @ g, "Identity(8)"),
    ("A A^-1 among factors", sm.kron(I8, h) @ sm.inv(sm.kron(I8, h)) @ M, m),
    ("(A^-1)^-1", sm.inv(sm.inv(g)) @ a, "Dense(8x8)"),
    ("inverse of a diagonal", sm.inv(D + 5 * I), f"Diagonal({N})"),
    ("inverse of a permutation", sm.inv(Q) @ Q, f"Identity({N})"),
    ("inverse of a transform", sm.inv(F) @ F, f"Identity({N})"),
    ("inverse of a circulant", sm.inv(A + 65 * I), f"Circulant({N})"),
    ("inverse of blocks", sm.inv(B + 9 * I), label(B)),
    ("inverse of a Kronecker product", sm.inv(sm.kron(g, h)) @ sm.kron(g, h), f"Identity({N})"),
    # block matrices and slices
    ("blocks on the diagonal", sm.block([[M, sm.Zero(N)], [sm.Zero(N), L]]),
     f"direct_sum({m}, {label(L)})"),
    ("dense blocks", sm.hstack([a, b]), "Dense(8x16)"),
    ("a slice of a dense matrix", W[2:5, 1:7], "Dense(3x6)"),
    ("a slice of a product", (M @ W)[3:4], f"Dense(1x{N})"),
    ("a slice of low rank", U[:4], f"LowRank(4x{N}, rank=2)"),
    ("a slice of Toeplitz", T[2:5, 1:4], "Toeplitz(3x3)"),
    ("a slice of a diagonal", D[2:4, 2:4], "Diagonal(2)"),
    ("a slice of everything", M[:, :], m),
    # displacement rank
    ("displacement ranks add", disp(1) + disp(2), f"LowDisplacementRank({N}x{N}, rank=3)"),
    ("displacement ranks of a difference", disp(1) - 2 * disp(2),
     f"LowDisplacementRank({N}x{N}, rank=3)"),
    # what pays only one step later
    ("distribution where every term merges", (sm.kron(a, b) + U) @ sm.kron(b, a), f"{kr} + {low}"),
    # association
    ("dense matrices apart", W @ Q @ V, f"Dense({N}x{N})"),
    ("a thin right side", W @ V @ tall, f"Dense({N}x2)"),
    ("a thin right side behind a permutation", M @ Q @ H @ Q @ tall, f"Dense({N}x2)"),
    ("dense absorbs what is added", W + M + T - Q, f"Dense({N}x{N})"),
    ("fast factors stay apart", M @ Q @ H, f"{m} @ {q} @ {label(H)}"),
    ("a dense block inside", sm.kron(I8, a @ sm.reversal(8) @ b), "kron(Identity(8), Dense(8x8))"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "want"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE])
def test_table(op: sm.LinearOperator, want: str) -> None:
    new, steps = sm.simplify(op, trace=True)
    shown = "\n".join(map(str, steps))
    assert label(new) == want, shown
    torch.testing.assert_close(new.to_dense(), op.to_dense(), rtol=0, atol=1e-9)
    assert flops(new) <= flops(op), shown
    assert stored(new) <= stored(op), shown
    assert not sm.simplify(new, trace=True)[1]


@pytest.mark.parametrize(("batch", "larger"), [(1, 1), (1, 3), (50, 1)])
def test_a_spectrum_may_be_stored_where_the_batch_pays(batch: int, larger: int) -> None:
    """It is complex, and takes twice the bytes of real numbers."""
    n = N * larger
    F, Fi = sm.DFT(n, dtype=torch.complex128), sm.IDFT(n, dtype=torch.complex128)
    A = sm.Circulant(ints(n))
    for op, want in (
        (F @ A @ Fi, f"Diagonal({n})"),
        (Fi @ A @ F, f"Diagonal({n})"),
        (F @ A, f"Diagonal({n}) @ {label(F)}"),
        (A @ F, f"{label(F)} @ Diagonal({n})"),
    ):
        assert op.simplify(batch=batch) is op
        new = op.simplify(batch=batch, materialize=True)
        assert label(new) == want
        assert batch * flops(new) + stored(new) < batch * flops(op) + stored(op)
        torch.testing.assert_close(new.to_dense(), op.to_dense(), rtol=0, atol=1e-9)


def test_the_table_is_long_and_names_its_rows() -> None:
    names = [r[0] for r in TABLE]
    assert len(set(names)) == len(names) > 130


def test_most_rules_fire_in_the_table() -> None:
    """What the table leaves out is tested on the rules' own examples."""
    fired = {s.rule.name for _, op, _ in TABLE for s in sm.simplify(op, trace=True)[1]}
    assert len(fired) >= 60, sorted({r.name for r in sm.rules()} - fired)
