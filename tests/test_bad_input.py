"""Bad input gets an error that names the operator, what was given, and the way out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import structmat as sm

o = torch.ones
whole = torch.ones(3, dtype=torch.int64)
nan = torch.full((4, 4), float("nan"))

Case = tuple[Callable[[], object], type[Exception], str]

CASES: dict[str, Case] = {
    # data of a leaf
    "integers": (
        lambda: sm.Dense(whole[:, None]),
        TypeError,
        r"Dense: weight is torch.int64.*\.to\(",
    ),
    "booleans": (lambda: sm.Diagonal(whole > 0), TypeError, "Diagonal: d is torch.bool"),
    "text": (lambda: sm.Dense("abc"), TypeError, "Dense: weight: str is no array of numbers"),
    "ragged": (lambda: sm.Dense([[1.0, 2.0], [3.0]]), TypeError, "nested lists of equal lengths"),
    "vector for a matrix": (lambda: sm.Dense(o(2)), ValueError, "Dense: weight has shape .2,."),
    "scalar for a vector": (lambda: sm.Diagonal(o(())), ValueError, "needs at least 1 dim"),
    "rank mismatch": (
        lambda: sm.LowRank(o(2, 1), o(2, 2)),
        ValueError,
        "U has rank dimension 1, V has 2; U is",
    ),
    "batch mismatch": (
        lambda: sm.LowRank(o(2, 3, 1), o(5, 1, 2)).batch_shape,
        ValueError,
        r"LowRank: batch dimensions \(2,\), \(5,\) do not broadcast",
    ),
    # sizes
    "negative size": (lambda: sm.Identity(-1), ValueError, "Identity: n must be a non-negative"),
    "boolean size": (lambda: sm.Identity(True), ValueError, "non-negative integer, got True"),
    "fractional size": (lambda: sm.Identity(2.0), ValueError, "integer, got 2.0"),  # type: ignore[arg-type]
    "negative columns": (lambda: sm.Zero(2, -1), ValueError, "Zero: n must be a non-negative"),
    "negative reversal": (lambda: sm.reversal(-2), ValueError, "reversal: n must be"),
    "negative transform": (lambda: sm.DFT(-1), ValueError, "DFT: n must be a non-negative"),
    "negative real transform": (lambda: sm.RDFT(-1), ValueError, "RDFT: n must be"),
    "no power of two": (lambda: sm.Hadamard(6), ValueError, "6 is not a power of two; pad"),
    "no power of two, bits": (lambda: sm.bit_reversal(12), ValueError, "12 is not a power of two"),
    "levels": (lambda: sm.Haar(6, levels=3), ValueError, "not divisible by 2 .. 3; pad the signal"),
    "dimension's name": (lambda: sm.dim(3), TypeError, r"named by a string, as in sm.dim\('n'\)"),  # type: ignore[arg-type]
    "symbolic size": (lambda: sm.sized.Dense(-1, 2), ValueError, r"-1 is no size.*sm.dim\('n'\)"),
    # permutations
    "index of floats": (lambda: sm.Permutation([0.0, 1.0]), TypeError, "needs integers"),
    "index of booleans": (lambda: sm.Permutation([True, False]), TypeError, "is bool, needs int"),
    "index repeats": (lambda: sm.Permutation([0, 0]), ValueError, "repeat"),
    "index out of range": (lambda: sm.Permutation([0, 5]), ValueError, "range from 0 to 5"),
    "index of two axes": (lambda: sm.Permutation([[0]]), ValueError, "needs one dimension"),
    "stride": (lambda: sm.stride_permutation(6, 4), ValueError, "stride 4 does not divide 6"),
    "stride zero": (lambda: sm.stride_permutation(6, 0), ValueError, "stride 0 does not divide 6"),
    "half a step": (lambda: sm.cyclic_shift(3, 0.5), ValueError, "k must be an integer, got 0.5"),  # type: ignore[arg-type]
    # structures
    "no blocks": (lambda: sm.BlockDiagonal([]), ValueError, "BlockDiagonal.*empty"),
    "block of one axis": (
        lambda: sm.BlockDiagonal([o(2, 2), o(3)]),
        ValueError,
        r"block has shape \(3,\), needs at least 2",
    ),
    "stages": (
        lambda: sm.Butterfly(o(3, 2, 2, 2)),
        ValueError,
        r"needs \(..., log2 n, n/2, 2, 2\)",
    ),
    "inner features": (
        lambda: sm.Monarch(o(2, 2, 3), o(2, 2, 2)),
        ValueError,
        r"left has l\*r = 2\*3 = 6 inner features, right has k\*q = 2\*2 = 4",
    ),
    "empty chain": (lambda: sm.MonarchChain([]), ValueError, "the list of factors is empty"),
    "chain of others": (lambda: sm.MonarchChain([sm.Identity(2)]), TypeError, "not a KroneckerSp"),
    "wrap-around": (lambda: sm.Circulant(o(3), f="x"), TypeError, "f is str, needs a number"),  # type: ignore[arg-type]
    "mode": (lambda: sm.Convolution(o(3), 4, "valid"), ValueError, "'valid' is none of causal"),
    "empty kernel": (lambda: sm.Convolution(o(0), 4), ValueError, "a zero convolution is Zero"),
    "signal length": (lambda: sm.Convolution(o(3), -4), ValueError, "or a pair .h, w. of them"),
    "norm of a transform": (lambda: sm.DFT(4, "unit"), ValueError, "none of 'backward', 'ortho'"),
    "real transform": (lambda: sm.DFT(4, dtype=torch.float32), TypeError, "take torch.complex64"),
    "type": (lambda: sm.DCT(4, 5), ValueError, "type 5 is none of 1, 2, 3, 4"),
    "type of one": (lambda: sm.DCT(1, 1), ValueError, "type 1 needs n >= 2"),
    "wavelet": (lambda: sm.Wavelet(8, "sym4"), ValueError, "'sym4' is unknown; take 'haar'"),
    "no coefficients": (
        lambda: sm.Companion(o(0)),
        ValueError,
        "a polynomial of degree n has n . 1",
    ),
    "powers": (lambda: sm.Vandermonde(o(3), -1), ValueError, "Vandermonde: n must be"),
    "nodes": (lambda: sm.Cauchy(o(3), whole), TypeError, "Cauchy: nodes t is torch.int64"),
    "generators": (
        lambda: sm.LowDisplacementRank(o(4, 2), o(3, 4)),
        ValueError,
        r"G is \(..., n, r\) and H \(..., r, n\), got \(4, 2\) and \(3, 4\)",
    ),
    "dense for sparse": (lambda: sm.Sparse(o(3, 3)), TypeError, r"project\(W, sm.Sparse, density"),
    "sparse index": (
        lambda: sm.Sparse((o(2), ([0, 5], [0, 1])), shape=(2, 2)),
        ValueError,
        "row ranges from 0 to 5, outside of 0..1",
    ),
    "sparse lengths": (
        lambda: sm.Sparse((o(2), ([0], [0])), shape=(2, 2)),
        ValueError,
        "1 rows and 1 columns for values of shape .2,.",
    ),
    "mask and values": (
        lambda: sm.BlockSparse(o(3, 2, 2), torch.ones(2, 2, dtype=torch.bool)),
        ValueError,
        "for a 2 x 2 mask with 4 blocks",
    ),
    # composition
    "product": (
        lambda: sm.Identity(2) @ sm.Identity(3),
        ValueError,
        r"cannot multiply Identity\(2\) by Identity\(3\): 2 columns on the left, 3 rows",
    ),
    "sum": (lambda: sm.Identity(2) + sm.Zero(2, 3), ValueError, "cannot add Identity.2. of shape"),
    "sum with a number": (lambda: sm.Identity(2) + 1, TypeError, r"alpha \* sm.Identity\(n\)"),  # type: ignore[operator]
    "number plus": (lambda: 1 + sm.Identity(2), TypeError, r"alpha \* sm.Identity\(n\)"),
    "difference": (lambda: sm.Identity(2) - o(2, 2), TypeError, r"a matrix is sm.Dense\(W\)"),  # type: ignore[operator]
    "kron of nothing": (lambda: sm.kron(), ValueError, "at least one operator"),
    "kron of tensors": (lambda: sm.kron(o(2, 2)), TypeError, r"wrap it: sm.Dense\(W\)"),  # type: ignore[arg-type]
    "direct sum": (lambda: sm.direct_sum("a"), TypeError, "str is not an operator"),  # type: ignore[arg-type]
    "integer scalar": (
        lambda: sm.Scaled(torch.tensor(1), sm.Identity(2)),
        TypeError,
        "alpha is a tensor of torch.int64; convert it first",
    ),
    "power of a rectangle": (lambda: sm.Zero(2, 3) ** 2, ValueError, "needs a square operator"),
    "root": (lambda: sm.Identity(2) ** 0.5, ValueError, "integer power"),  # type: ignore[operator]
    # application
    "short x": (lambda: sm.Identity(3)(o(2)), ValueError, "needs dimension -1 of x to be 3"),
    "rows for columns": (
        lambda: sm.Identity(3) @ o(2, 3),
        ValueError,
        r"A @ x needs dimension -2.*A\(x\) acts on the last dimension",
    ),
    "scalar x": (lambda: sm.Identity(3) @ o(()), ValueError, "got x of shape ()"),
    "integer x": (
        lambda: sm.Identity(3)(whole),
        TypeError,
        r"convert first, x.to\(torch.float64\)",
    ),
    "text x": (lambda: sm.Identity(3)("abc"), TypeError, "x: str is no array of numbers"),
    "batch of x": (
        lambda: sm.Dense(o(2, 3, 3))(o(5, 3)),
        ValueError,
        r"do not broadcast with the operator's batch \(2,\)",
    ),
    "integer cast": (lambda: sm.Identity(3).to(torch.int32), TypeError, "are floating point"),
    "assignment": (lambda: setattr(sm.Identity(2), "n", 3), AttributeError, "build a new operator"),
    # functions
    "simplify a tensor": (lambda: sm.simplify(o(2, 2)), TypeError, r"wrap it: sm.Dense\(W\)"),  # type: ignore[call-overload]
    "compile a tensor": (lambda: sm.compile(o(2, 2)), TypeError, "Tensor is not an operator"),  # type: ignore[arg-type]
    "backend": (
        lambda: sm.compile(sm.Identity(2), backend="opencl"),
        ValueError,
        "'opencl' is none of auto, torch, triton, cuda",
    ),
    "blocks that do not divide": (
        lambda: sm.project(o(4, 4), sm.Monarch, nblocks=3),
        ValueError,
        "pad=True pads W with zeros to 6 x 6",
    ),
    "NaN": (
        lambda: sm.project(nan, sm.Monarch, nblocks=2),
        ValueError,
        "W has 16 NaN or infinite entries",
    ),
    "integer weights": (
        lambda: sm.project(whole[:, None], sm.LowRank, rank=1),
        TypeError,
        "W is torch.int64",
    ),
    "no projection": (lambda: sm.project(o(4, 4), sm.Zero), TypeError, "no projection onto Zero"),
    "rank": (lambda: sm.project(o(4, 4), sm.LowRank, rank=-1), ValueError, "a positive integer"),
    "trace of a rectangle": (lambda: sm.trace(sm.Zero(2, 3)), ValueError, "is 2 x 3.*svdvals"),
    "determinant": (lambda: sm.slogdet(sm.Zero(2, 3)), ValueError, "needs a square operator"),
    "eigenvalues": (lambda: sm.eigvals(sm.Zero(2, 3)), ValueError, "needs a square operator"),
    "norm": (lambda: sm.norm(sm.Identity(3), ord=7), ValueError, "ord 7 is none of 'fro', 1, inf"),
    "trace of a tensor": (lambda: sm.trace(o(2, 2)), TypeError, "take torch.linalg for a tensor"),  # type: ignore[call-overload]
}


@pytest.mark.parametrize("name", CASES)
def test_error(name: str) -> None:
    call, kind, message = CASES[name]
    with pytest.raises(kind, match=message):
        call()


def test_table_is_long() -> None:
    assert len(CASES) >= 60
