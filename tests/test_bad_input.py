"""Bad input gets an error that names the operator, what was given, and the way out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

import structmat as sm
from structmat.interop import safetensors

o = torch.ones
TENSOR: Any = torch.ones(2, 2)
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
    # linear systems
    "rows of b": (lambda: sm.solve(sm.Identity(3), o(2)), ValueError, "3 rows, b has shape .2,."),
    "integer b": (lambda: sm.solve(sm.Identity(3), whole), TypeError, "solve: b is torch.int64"),
    "batch of b": (
        lambda: sm.solve(sm.Dense(o(2, 3, 3)), o(5, 3, 1)),
        ValueError,
        r"batch \(2,\) of Dense\(3x3\) does not broadcast",
    ),
    "method": (
        lambda: sm.solve(sm.Identity(3), o(3), "qr"),
        ValueError,
        "'qr' does not serve Identity.3.; these do: identity, dense",
    ),
    "b of NaN": (lambda: sm.solve(sm.Identity(4), nan), ValueError, "b of shape .4, 4. holds NaN"),
    "A of NaN": (
        lambda: sm.solve(sm.Dense(nan), o(4)),
        ValueError,
        "solve: Dense.4x4. .*holds NaN",
    ),
    "A of NaN inside": (
        lambda: sm.inv(sm.kron_sum(sm.Dense(nan), sm.Identity(2))) @ o(8),
        ValueError,
        "Dense.4x4. of shape .4, 4. holds NaN",
    ),
    "tolerance": (
        lambda: sm.solve(sm.Dense(o(3, 3)), o(3), "gmres", tol=-1),
        ValueError,
        "tol = -1 must be a number from 0",
    ),
    "iterations": (
        lambda: sm.solve(sm.Dense(o(3, 3)), o(3), "gmres", maxiter=0),
        ValueError,
        "maxiter = 0 must be a positive integer",
    ),
    "b elsewhere": (
        lambda: sm.solve(sm.Dense(o(3, 3)), o(3, device="meta")),
        ValueError,
        "Dense.3x3. is on cpu, b on meta; move one",
    ),
    "inverse of a rectangle": (lambda: sm.inv(sm.Zero(2, 3)), ValueError, "not square; sm.pinv"),
    "negative power": (lambda: sm.Zero(2, 3) ** -1, ValueError, "needs a square operator"),
    "pseudoinverse of NaN": (lambda: sm.pinv(sm.Dense(nan)), ValueError, "pinv: Dense.*holds NaN"),
    # spectra
    "eigenvalues of NaN": (lambda: sm.eigvals(sm.Dense(nan)), ValueError, "eigvals: Dense.*NaN"),
    "eigvalsh of NaN": (lambda: sm.eigvalsh(sm.Dense(nan)), ValueError, "eigvalsh: Dense.*NaN"),
    "singular values of NaN": (lambda: sm.svdvals(sm.Dense(nan)), ValueError, "svdvals: .*NaN"),
    "condition of NaN": (lambda: sm.cond(sm.Dense(nan)), ValueError, "cond: Dense.4x4. .*NaN"),
    "condition of a tensor": (lambda: sm.cond(o(2, 2)), TypeError, "wrap it: sm.Dense"),  # type: ignore[call-overload]
    "exponential": (lambda: sm.expm(sm.Zero(2, 3)), ValueError, "expm: .* needs a square operator"),
    "several times": (
        lambda: sm.expm_multiply(sm.Identity(3), o(3), o(2)),
        ValueError,
        "t has shape .2,., needs a number",
    ),
    "infinite time": (
        lambda: sm.expm_multiply(sm.Identity(3), o(3), float("inf")),
        ValueError,
        "t = inf is no finite number",
    ),
    "time as text": (
        lambda: sm.expm_multiply(sm.Identity(3), o(3), "1"),
        TypeError,
        "t is str, needs a number",
    ),
    "negative norm": (
        lambda: sm.expm_multiply(sm.Toeplitz(o(3)), o(3), bound=-1.0),
        ValueError,
        "bound = -1.0 is no norm",
    ),
    "half an offset": (lambda: sm.diagonal(sm.Identity(3), 0.5), TypeError, "offset is float"),  # type: ignore[call-overload]
    "offset": (lambda: sm.diagonal(sm.Identity(3), 7), ValueError, "offsets from -3 to 3 exist"),
    "samples": (
        lambda: sm.trace(sm.Identity(3), method="hutchinson", samples=0),
        ValueError,
        "0 samples give no standard error",
    ),
    # properties
    **{
        f"{question.__name__} of a tensor": (
            partial(question, TENSOR),
            TypeError,
            f"{question.__name__}: Tensor is not an operator; wrap it",
        )
        for question in (
            *(sm.is_symmetric, sm.is_hermitian, sm.is_psd, sm.is_unitary, sm.is_triangular),
            *(sm.is_real, sm.bandwidth, sm.displacement_rank, sm.rank_bound, sm.assume),
        )
    },
    "impossible": (
        lambda: sm.assume(sm.Zero(2, 3), psd=True),
        ValueError,
        "Zero.2x3. of shape .2, 3. cannot be psd",
    ),
    "side": (lambda: sm.is_triangular(sm.Identity(2), "left"), ValueError, "'left' is none of"),  # type: ignore[arg-type]
    # blocks, slices
    "heights": (
        lambda: sm.block([[sm.Identity(2), sm.Identity(3)]]),
        ValueError,
        r"block \(0, 1\), Identity\(3\) of shape \(3, 3\), needs 2 rows",
    ),
    "rows of blocks": (
        lambda: sm.block([[sm.Identity(2), 0], [sm.Identity(2)]]),
        ValueError,
        "row 0 has 2 blocks, row 1 has 1",
    ),
    "no rows of blocks": (lambda: sm.block([]), ValueError, "at least one block"),
    "unknown zero": (lambda: sm.block([[0]]), ValueError, r"zero block \(0, 0\) is unknown"),
    "row": (lambda: sm.Identity(3)[5], IndexError, "has no row 5; rows are 0 to 2"),
    "step zero": (
        lambda: sm.DFT(4)[::0],
        ValueError,
        r"DFT\(4\) of shape \(4, 4\): slice\(None, None, 0\) has step 0; rows.*A\[\[i\] \* k\]",
    ),
    "step zero of columns": (lambda: sm.DFT(4)[:, 3:0:0], ValueError, "step 0; columns follow"),
    "slice of floats": (
        lambda: sm.Zero(4, 3)[:, 1.0:2],
        TypeError,
        r"Zero\(4x3\) of shape \(4, 3\): slice\(1.0, 2, None\) is no slice of columns.*A\[1:5:2\]",
    ),
    "slice of text": (lambda: sm.Zero(4)["a":], TypeError, "is no slice of rows"),
    "index of one float": (
        lambda: sm.Zero(4, 3)[1.5],
        TypeError,
        r"Zero\(4x3\) of shape \(4, 3\): float is no index; .*; convert it, int\(i\)",
    ),
    "index of infinity": (lambda: sm.Zero(4, 3)[float("inf")], TypeError, r"int\(i\)"),
    "index of rounded floats": (
        lambda: sm.Zero(4, 3)[o(2)],
        TypeError,
        r"of shape \(4, 3\): an index of float32; .*index.astype\(int\)",
    ),
    "index of unequal lists": (
        lambda: sm.Zero(4, 3)[[[0], [1, 2]]],
        TypeError,
        r"lists of unequal lengths are no index; .*np.ix_\(rows, columns\)",
    ),
    "new axis": (
        lambda: sm.Zero(4, 3)[..., None],
        TypeError,
        r"Zero\(4x3\) of shape \(4, 3\) cannot get a new axis; .*to_dense\(\)\[..., None\]",
    ),
    "new axis first": (lambda: sm.Zero(4, 3)[None], TypeError, "cannot get a new axis"),
    "index of a batch": (
        lambda: sm.Dense(o(2, 3, 3))[0, 0, 0],
        IndexError,
        r"of shape \(3, 3\): 3 indices and 0 ellipses; .*batch dimensions are not indexed",
    ),
    "mask of the wrong length": (
        lambda: sm.Zero(4, 3)[:, o(4) > 0],
        IndexError,
        r"of shape \(4, 3\): a mask of shape \(4,\) does not fit 3 columns; one of shape",
    ),
    "mask of entries": (
        lambda: sm.Zero(4, 3)[o(4, 3) > 0],
        IndexError,
        r"a mask of shape \(4, 3\) does not fit 4 rows; .*A.to_dense\(\)\[mask\]",
    ),
    "mask of one": (lambda: sm.Zero(4, 3)[True], TypeError, "a single True is no index; a mask"),
    "mask of one tensor": (lambda: sm.Zero(4, 3)[o(()) > 0], TypeError, "a single True is no"),
    "index without numbers": (
        lambda: sm.Zero(4, 3)[torch.ones(2, dtype=torch.int64, device="meta")],
        TypeError,
        r"Zero\(4x3\) of shape \(4, 3\): an index on the meta device has no numbers",
    ),
    "index of text": (lambda: sm.Identity(3)["a"], TypeError, "str is no index"),
    "three indices": (lambda: sm.Identity(3)[0, 0, 0], IndexError, "has rows and columns"),
    "mask of rows": (
        lambda: sm.Identity(3)[torch.tensor([True, False])],
        IndexError,
        "a mask of shape .2,. does not fit 3 rows",
    ),
    "shapes of an elementwise product": (
        lambda: sm.elementwise(sm.Identity(2), sm.Identity(3)),
        ValueError,
        "differ in shape",
    ),
    "rectangles in a Kronecker sum": (
        lambda: sm.kron_sum(sm.Zero(2, 3), sm.Identity(2)),
        ValueError,
        "Zero.2x3. of shape .2, 3. is not square",
    ),
    "states": (
        lambda: sm.StateSpace(o(2), o(2), o(3), None, 5),
        ValueError,
        "C has shape .3,., needs",
    ),
    "through a state space": (
        lambda: sm.StateSpace(o(2), o(2), o(2), "x", 5),
        TypeError,
        "StateSpace: D: str is no array of numbers",
    ),
    # symbols
    "unknown symbol": (
        lambda: sm.Identity(sm.dim("n")).bind(k=3),
        ValueError,
        "'k' is no symbol of Identity.n.; it has: n",
    ),
    "symbol below zero": (lambda: sm.Identity(sm.dim("n")).bind(n=-3), ValueError, "n = -3 must"),
    "numbers of a symbol": (lambda: sm.Identity(sm.dim("n"))(o(3)), TypeError, "A.bind.n=...."),
    "layer of symbols": (
        lambda: sm.nn.StructuredLinear(sm.Identity(sm.dim("n"))),
        TypeError,
        "A.bind.n=....",
    ),
    "bias": (
        lambda: sm.nn.StructuredLinear(sm.Identity(3), bias=o(3)),  # type: ignore[arg-type]
        TypeError,
        "bias is Tensor, needs True or False",
    ),
    "batch in a layer": (
        lambda: sm.nn.StructuredLinear(sm.Dense(o(2, 3, 3))),
        ValueError,
        "a layer holds one operator",
    ),
    # other libraries
    "layout of Monarch": (
        lambda: sm.interop.from_blockdiag_butterfly(o(2, 3, 4), o(5, 6, 7)),
        ValueError,
        "left has .* = 35 inner features, right has .* = 6",
    ),
    "layout of a twiddle": (
        lambda: sm.interop.from_torch_butterfly(o(1, 1, 2, 4, 2, 2)),
        ValueError,
        "twiddle has shape .1, 1, 2, 4, 2, 2., needs",
    ),
    "no chain": (
        lambda: sm.interop.from_lazylinop(sm.Identity(2)),
        TypeError,
        "Identity has no Kronecker-sparse factors",
    ),
    "no Faust": (lambda: sm.interop.from_faust([]), TypeError, "list is no Faust"),
    "tensor for CoLA": (lambda: sm.interop.to_cola(o(2, 2)), TypeError, "to_cola: Tensor is not"),  # type: ignore[arg-type]
    "no sparse tensor": (
        lambda: sm.interop.from_torch_sparse(o(3, 3)),
        TypeError,
        "Tensor is no sparse tensor",
    ),
    "file of an operator": (
        lambda: safetensors.save("a.safetensors", sm.Identity(2)),  # type: ignore[arg-type]
        TypeError,
        "Identity is no mapping of names",
    ),
    # devices
    "x elsewhere": (
        lambda: sm.Dense(o(2, 2))(o(2, device="meta")),
        ValueError,
        r"is on cpu, x is on meta; move one of them: A.to\('meta'\)",
    ),
    "operators elsewhere": (
        lambda: sm.trace(sm.Dense(o(2, 2, device="meta")) + sm.Dense(o(2, 2))),
        ValueError,
        "on meta and Dense.2x2. on cpu cannot act together",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_error(name: str) -> None:
    call, kind, message = CASES[name]
    with pytest.raises(kind, match=message):
        call()


def test_table_is_long() -> None:
    assert len(CASES) >= 60
