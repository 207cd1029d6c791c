"""Symbolic sizes: counts equal the concrete ones, shape checks decide what can be decided, bind."""

from __future__ import annotations

import inspect
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import structmat as sm
from structmat import sized
from structmat.operator import REGISTRY
from structmat.sized import FAMILIES, Sized, bind, free_symbols
from structmat.sized.functions import log2
from structmat.sized.table import Row, cost_table, rows

n, m, k = sm.dim("n"), sm.dim("m"), sm.dim("k")


def root(value: Any) -> Any:
    import sympy

    return sympy.sqrt(value)


Make = Callable[[], sm.LinearOperator]
POWERS = (4, 16, 64, 256)
ANY = (3, 8, 12, 100, 127)

EXAMPLES: dict[str, tuple[Make, tuple[int, ...]]] = {
    "Dense": (lambda: sized.Dense(n + 1, n), ANY),
    "LowRank": (lambda: sized.LowRank(2 * n, n, rank=3), ANY),
    "Identity": (lambda: sm.Identity(n), ANY),
    "Zero": (lambda: sm.Zero(n, 2 * n), ANY),
    "Diagonal": (lambda: sized.Diagonal(n), ANY),
    "Permutation": (lambda: sized.Permutation(n), ANY),
    "stride_permutation": (lambda: sm.stride_permutation(6 * n, 3), ANY),
    "bit_reversal": (lambda: sm.bit_reversal(n), POWERS),
    "cyclic_shift": (lambda: sm.cyclic_shift(n, -2), ANY),
    "reversal": (lambda: sm.reversal(n), ANY),
    "Selection": (lambda: sized.Selection(2 * n, n - 1, 2 * n), ANY),
    "Selection_checked_late": (lambda: sized.Selection(n, 1, 2), (2, *POWERS[1:])),
    "BlockDiagonal": (lambda: sized.BlockDiagonal(4 * n, 8 * n, nblocks=4), ANY),
    "KroneckerSparse": (lambda: sized.KroneckerSparse(n, 2, 3, n + 1), ANY),
    "Monarch": (lambda: sized.Monarch(n), POWERS),
    "Monarch_blocks": (lambda: sized.Monarch(n, nblocks=2), POWERS),
    "Monarch_rectangular": (lambda: sized.Monarch(2 * n, 4 * n, nblocks=(4, 2), rank=3), ANY),
    "MonarchChain": (lambda: sized.MonarchChain(n, order=3), (8, 27, 64, 1000)),
    "Butterfly": (lambda: sized.Butterfly(n), POWERS),
    "Butterfly_decreasing": (lambda: sized.Butterfly(n, increasing_stride=False), POWERS),
    "Toeplitz": (lambda: sized.Toeplitz(n, 2 * n), ANY),
    "Toeplitz_complex": (lambda: sized.Toeplitz(n, dtype=torch.complex64), ANY),
    "LowDisplacementRank_complex": (
        lambda: sized.LowDisplacementRank(n, rank=2, dtype=torch.complex128),
        ANY,
    ),
    "Hankel": (lambda: sized.Hankel(n), ANY),
    "Circulant": (lambda: sized.Circulant(n), (2, 8, 12, 100)),
    "Circulant_complex": (lambda: sized.Circulant(n, dtype=torch.complex64), (2, 8, 12, 100)),
    "Convolution": (lambda: sized.Convolution(n, size=3), ANY),
    "Convolution_full": (lambda: sized.Convolution(n, size=n, mode="full"), ANY),
    "Convolution_same": (lambda: sized.Convolution(n, size=4, mode="same"), (8, 12, 100, 127)),
    "Convolution_circular": (lambda: sized.Convolution(n, size=2, mode="circular"), (2, 12, 100)),
    "Convolution_images": (lambda: sized.Convolution((n, n + 3), size=(n, 5)), ANY),
    "Sparse": (lambda: sized.Sparse(2 * n, n, per_row=3), ANY),
    "BlockSparse": (lambda: sized.BlockSparse(8 * n, 4 * n, block=4, per_row=2), ANY),
    "Vandermonde": (lambda: sized.Vandermonde(n + 1, n), ANY),
    "Cauchy": (lambda: sized.Cauchy(n + 1, n), ANY),
    "Companion": (lambda: sized.Companion(n), ANY),
    "LowDisplacementRank": (lambda: sized.LowDisplacementRank(n, rank=3), ANY),
    "StateSpace": (lambda: sized.StateSpace(n, states=4), ANY),
    "StateSpace_dense": (lambda: sized.StateSpace(n, states=3, kind="dense"), ANY),
    "StateSpace_low_rank": (lambda: sized.StateSpace(n, states=3, rank=1), ANY),
    "RDFT": (lambda: sm.RDFT(n), ANY),
    "RDFT_ortho": (lambda: sm.RDFT(n, "ortho"), ANY),
    "IRDFT": (lambda: sm.IRDFT(n), ANY),
    "DFT": (lambda: sm.DFT(n), (2, *ANY)),
    "DFT_ortho": (lambda: sm.DFT(n, "ortho"), ANY),
    "IDFT": (lambda: sm.IDFT(n), ANY),
    "DCT_1": (lambda: sm.DCT(n, 1), ANY),
    "DCT": (lambda: sm.DCT(n), ANY),
    "DCT_3": (lambda: sm.DCT(n, type=3), ANY),
    "DCT_4": (lambda: sm.DCT(n, type=4, norm="ortho"), (4, 8, 12, 100)),
    "DST_1": (lambda: sm.DST(n, 1), ANY),
    "DST": (lambda: sm.DST(n, norm="ortho"), ANY),
    "Hadamard": (lambda: sm.Hadamard(n), POWERS),
    "Hadamard_normalized": (lambda: sm.Hadamard(n, normalized=True, order="sequency"), POWERS),
    "Haar": (lambda: sm.Haar(n), POWERS),
    "Haar_levels": (lambda: sm.Haar(8 * n, levels=2), ANY),
    "Wavelet": (lambda: sm.Wavelet(n, "db3"), (8, 16, 64, 256)),
}
every = pytest.mark.parametrize("name", EXAMPLES)


@every
def test_counts_are_the_concrete_ones(name: str) -> None:
    make, sizes = EXAMPLES[name]
    op = make()
    assert isinstance(op, Sized)
    cases = [op, op.T, sm.kron(sm.Identity(3), op, sm.Identity(2))]
    if op.shape[0] == op.shape[1]:
        cases.append(op @ op + 2 * op)
    for case in cases:
        symbolic = (*case.shape, *case.operations(), *vars(case.cost()).values())
        for size in sizes:
            concrete = bind(case, n=size)
            assert not free_symbols(concrete)
            found = (*concrete.shape, *concrete.operations(), *vars(concrete.cost()).values())
            wanted = tuple(v.subs(n, size) if hasattr(v, "subs") else v for v in symbolic)
            assert found == wanted, f"{case._label()} at {size}"


@pytest.mark.parametrize("seed", range(20))
def test_counts_of_random_expressions(seed: int) -> None:
    """Square leaves in all combinators: what is counted in symbols is what is counted bound."""
    draw = random.Random(seed)
    square = [make for make, sizes in EXAMPLES.values() if 64 in sizes or 100 in sizes]
    leaves = [op for op in (make() for make in square) if op.shape == (n, n)]

    def tree(depth: int) -> sm.LinearOperator:
        if depth == 0:
            return draw.choice(leaves)
        a, b = tree(depth - 1), tree(depth - 1)
        options: list[Make] = [
            lambda: a @ a,
            lambda: 3 * a - a.T,
            lambda: sm.kron_sum(sm.reversal(3), a.H),
            lambda: sm.kron(sm.Identity(2), a) @ sm.direct_sum(a, a),
            lambda: sm.block([[a, 0], [0, b]]),
        ]
        if a.shape == b.shape:
            options += [lambda: a @ b, lambda: a + b, lambda: sm.block([[a, b], [b.T, a]])]
        return draw.choice(options)()

    op = tree(2)
    concrete = op.bind(n=64)
    found = (*concrete.shape, *concrete.operations(), *vars(concrete.cost()).values())
    symbolic = (*op.shape, *op.operations(), *vars(op.cost()).values())
    assert found == tuple(v.subs(n, 64) if hasattr(v, "subs") else v for v in symbolic)


def test_every_family_has_an_example() -> None:
    assert {name.partition("_")[0] for name in EXAMPLES} | set(EXAMPLES) >= set(FAMILIES)


@every
def test_bound_operator_is_right(name: str) -> None:
    make, sizes = EXAMPLES[name]
    op = make().bind(n=sizes[0], seed=3)
    x = torch.randn(op.shape[1], dtype=op.dtype, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(op(x), op.to_dense() @ x)
    again = make().bind(n=sizes[0], seed=3)
    if name != "Permutation":
        torch.testing.assert_close(op.to_dense(), again.to_dense())


def test_integers_make_the_operator_itself() -> None:
    op = sized.Monarch(1024, nblocks=32)
    assert isinstance(op, sm.Monarch)
    assert op.right.shape == (32, 32, 32)
    wide = sized.Monarch(4096, nblocks=4)
    assert isinstance(wide, sm.Monarch)
    assert wide.left.shape == wide.right.shape == (4, 1024, 1024)
    norm = (op.to_dense() @ torch.ones(1024)).std()
    assert 0.5 < norm < 2  # entries of deviation 1 / sqrt(fan-in) keep the size of a vector
    assert sized.Dense(3, 4, dtype=torch.float64).dtype == torch.float64
    assert sized.Dense(10**6, device="meta").device.type == "meta"
    assert not torch.equal(sized.Dense(3).to_dense(), sized.Dense(3, seed=1).to_dense())


def test_costs_of_the_issue() -> None:
    import sympy

    assert sized.Monarch(n, nblocks=root(n)).operations()[0] == 2 * n ** sympy.Rational(3, 2)
    assert sm.DFT(n).operations()[1] == sympy.ceiling(n * log2(n))
    b = sm.dim("b")
    assert sized.Dense(m, n).cost(batch=b).flops == sympy.expand(b * m * (2 * n - 1))


def test_shapes_that_cannot_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"m columns on the left, k rows.*A\.bind\(k=\.\.\., m="):
        sized.Dense(n, m) @ sized.Dense(k, n)
    with pytest.raises(ValueError, match=r"m columns on the left, m \+ 1 rows on the right$"):
        sized.Dense(n, m) @ sized.Dense(m + 1, n)
    with pytest.raises(ValueError, match=r"whether 4 = n is not known"):
        sm.Identity(4) @ sm.Identity(n)
    with pytest.raises(ValueError, match=r"cannot add .* whether m = n is not known"):
        sized.Dense(n, m) + sized.Dense(n)
    assert (sized.Dense(n, (m + 1) ** 2) @ sized.Dense(m**2 + 2 * m + 1, n)).shape == (n, n)


QUESTIONS = (
    *("trace", "logdet", "diagonal", "eigvals", "svdvals", "norm", "cond", "expm", "inv", "det"),
    *("is_symmetric", "is_hermitian", "is_psd", "is_unitary", "is_diagonal", "is_triangular"),
    *("is_real", "rank_bound", "bandwidth", "displacement_rank", "assume"),
)


def test_applying_says_bind() -> None:
    op = sized.Dense(8, n) @ sized.Diagonal(n) @ sized.Dense(n, 8)
    uses: list[Callable[[], object]] = [
        lambda: op(torch.ones(8)),
        lambda: op @ torch.ones(8, 2),
        lambda: sm.Identity(n)(torch.ones(8)),
        op.to_dense,
        op.spec,
        op.simplify,
        lambda: sm.compile(op),
        lambda: op[1],
        lambda: op[[0, 1], [1, 2]],
        lambda: sized.Dense(n)[::2],
        lambda: op**-1,
        lambda: torch.ones(8) @ op,
        *(partial(getattr(sm, name), op) for name in QUESTIONS),
    ]
    for use in uses:
        with pytest.raises(TypeError, match=r"symbolic sizes and no numbers: A.bind\(n=\.\.\.\)"):
            use()


def test_bind_in_steps_and_sharing() -> None:
    op = sized.Dense(n, m)
    both = op.T @ op
    part = both.bind(m=3)
    assert part.shape == (3, 3)
    assert free_symbols(part) == {n}
    whole = part.bind({"n": 5})
    assert len(list(whole.parameters())) == 1
    gram = whole.to_dense()
    torch.testing.assert_close(gram, gram.T)
    shared = sm.Product(op, op._transpose())
    assert shared.bind(m=3).cost().params == 3 * n
    assert len(list(shared.bind(m=3).bind(n=5).parameters())) == 1
    blocks = sized.Monarch(n, nblocks=k).bind(k=4)
    assert blocks.cost().params == n**2 / 2
    assert blocks.bind(n=16).structure == sized.Monarch(16, nblocks=4).structure
    concrete = sm.Identity(3)
    assert (concrete @ sized.Dense(3, n)).bind(n=3).children[0] is concrete


def test_bind_takes_tensors_by_path() -> None:
    w = torch.ones(3, 3)
    op = (sized.Dense(n) @ sized.Diagonal(n)).bind(n=3, tensors={"0.weight": w})
    assert op.named_tensors()["0.weight"] is w
    with pytest.raises(ValueError, match=r"tensor '0\.weight' has shape \(3, 3\), needs \(4, 4\)"):
        (sized.Dense(n) @ sized.Diagonal(n)).bind(n=4, tensors={"0.weight": w})
    with pytest.raises(ValueError, match=r"no symbolic tensor 2\.weight; there are: 0\.weight"):
        (sized.Dense(n) @ sized.Diagonal(n)).bind(n=3, tensors={"2.weight": w})


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "unknown symbol": (lambda: sized.Dense(n).bind(m=3), r"'m' is no symbol of Dense\(n\); .*: n"),
    "zero": (lambda: sized.Dense(n).bind(n=0), "n = 0 must be a positive integer"),
    "no integer": (lambda: sized.Dense(n).bind(n=2.5), r"n = 2\.5 must be"),  # type: ignore[arg-type]
    "no square": (lambda: sized.Monarch(n).bind(n=10), r"Monarch\(n\) at n = 10: .* 2-th power"),
    "no divisor": (
        lambda: sized.BlockDiagonal(n, nblocks=4).bind(n=6),
        "at n = 6: BlockDiagonal: nblocks: 4 does not divide 6",
    ),
    "no power of two": (lambda: sm.Hadamard(n).bind(n=6), "at n = 6: Hadamard: 6 is not a power"),
    "sympy": (lambda: sm.Identity(n - n - 1), r"Identity: n must be a non-negative integer"),
    "half": (lambda: sm.Identity(n / 2).bind(n=5), r"Identity: n = 5/2 is no size"),
    "pair": (lambda: sized.Butterfly((2, 2)), r"Butterfly: n = \(2, 2\) is no size"),
    "string": (lambda: sized.Dense("n"), "needs"),
    "negative": (lambda: sized.Dense(-3), "m = -3 is no size"),
    "rank": (lambda: sized.Monarch(m, n, nblocks=4), r"give rank="),
    "norm": (lambda: sm.DFT(n, "left"), "norm 'left' is none of"),
    "kind": (lambda: sized.StateSpace(n, states=3, kind="full"), "kind 'full' is neither"),
    "pair and triple": (
        lambda: sized.Convolution((n, n), size=(3, 3, 3)),
        r"Convolution: n = \(n, n\) and size = \(3, 3, 3\); needs two sizes, or two pairs",
    ),
    "kernel of another kind": (lambda: sized.Convolution(n, size=(3, 3)), "or two pairs of them"),
    "axes": (lambda: sized.Convolution((n, n, n), size=3), "needs two sizes, or two pairs"),
    "side": (lambda: sized.Convolution((n, -1), size=3), "Convolution: n = -1 is no size"),
    "mode": (lambda: sized.Convolution(n, size=3, mode="left"), "mode 'left' is none of"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sizes(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_arguments_show_the_usage() -> None:
    with pytest.raises(TypeError, match=r"sized\.Sparse\(m: .*, \*, per_row: .*\): missing"):
        sized.Sparse(n)
    with pytest.raises(ValueError, match=r"LowRank: a rank is needed"):
        sized.LowRank(n)


def test_a_square_matrix_of_low_rank_takes_two_sizes() -> None:
    assert sized.LowRank(64, 4).structure == sized.LowRank(64, 64, rank=4).structure
    symbolic = sized.LowRank(n, k)
    assert symbolic.shape == (n, n)
    assert symbolic.cost() == sized.LowRank(n, rank=k).cost()
    assert symbolic.bind(n=64, k=4).structure == sized.LowRank(64, 4).structure


def test_numbers_of_sympy_are_numbers() -> None:
    assert isinstance(sm.Identity(0 * n), sm.Identity)
    assert type(sm.Identity(0 * n).shape[0]) is int
    assert isinstance(sm.stride_permutation(n - n + 6, 2), sm.Permutation)
    assert sized.Dense(n / n + 1).shape == (2, 2)


def test_tensors_are_no_symbols() -> None:
    with pytest.raises(TypeError, match=r"Dense takes tensors.*; sm\.sized\.Dense makes one"):
        sm.Dense(n)
    with pytest.raises(TypeError, match=r"sm\.sized\.Monarch makes one"):
        sm.Monarch(n, nblocks=k)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"sm\.sized\.Convolution makes one"):
        sm.Convolution(torch.ones(3), n)
    with pytest.raises(TypeError, match=r"BlockDiagonal: blocks .* is the symbol n; sm\.sized"):
        sm.BlockDiagonal(n)


def test_conjugates_and_casts() -> None:
    op = sm.DFT(n)
    concrete = op.H.bind(n=4)
    torch.testing.assert_close(concrete.to_dense(), sm.DFT(4).to_dense().mH)
    assert op.conj().conj().structure == op.structure
    wide = sized.Dense(n).to(torch.float64)
    assert wide.dtype == torch.float64
    assert wide.cost().bytes == 8 * n**2 + 16 * n
    assert wide.bind(n=2).dtype == torch.float64
    mixed = sized.Dense(n, dtype=torch.complex64).H
    assert mixed.bind(n=3).shape == (3, 3)


def test_conjugates_are_of_the_same_numbers() -> None:
    op = sized.Dense(n, dtype=torch.complex64)
    gram = op.H @ op
    concrete = gram.bind(n=5)
    assert gram.cost().params.subs(n, 5) == concrete.cost().params
    dense = concrete.to_dense()
    torch.testing.assert_close(dense, dense.mH)
    again = (op.conj() @ op.conj().conj()).bind(n=3)
    torch.testing.assert_close(again.children[0].to_dense(), again.children[1].to_dense().conj())


def test_symbolic_structures_compare_and_copy() -> None:
    import copy
    import pickle

    a, b = sized.Monarch(n, nblocks=k), sized.Monarch(n, nblocks=k)
    assert a.structure == b.structure
    assert hash(a.structure) == hash(b.structure)
    assert a.structure != sized.Monarch(n, nblocks=m).structure
    assert pickle.loads(pickle.dumps(a)).structure == a.structure
    assert copy.deepcopy(a @ a).structure == (a @ a).structure


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_documented(name: str) -> None:
    function = getattr(sized, name)
    assert function.__doc__
    assert list(inspect.signature(function).parameters)[-3:] == ["dtype", "seed", "device"]


def test_import_takes_no_sympy() -> None:
    code = (
        "import sys, structmat as sm; sm.sized.Dense(4) @ sm.Identity(4);"
        "assert 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# the table of costs ------------------------------------------------------------------------------

ROWS = list(rows())


def test_the_table_has_every_family() -> None:
    assert {r.op.family for r in ROWS if isinstance(r.op, Sized)} == set(FAMILIES)
    leaves = {
        name
        for name, cls in REGISTRY.items()
        if cls.__module__.startswith("structmat.leaves.") and name != "Trigonometric"
    }
    missing = leaves - set(FAMILIES)
    assert not missing, f"add {missing} to structmat/sized, tests/test_symbolic.py, docs/costs.md"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.op._label())
def test_the_formulas_of_the_table(row: Row) -> None:
    """Shown without roundings, they are exact where the condition holds."""
    small = {"r": 3, "k": 4, "b": 4, "a": 2, "c": 3, "d": 5, "m": 32}
    for size in (16, 64, 256):
        sizes = {**small, "n": 4 if "KroneckerSparse" in row.op._label() else size}
        sizes = {str(s): sizes[str(s)] for s in free_symbols(row.op)}
        if "b^3" in row.condition:
            sizes["n"] = 64
        concrete = bind(row.op, sizes)
        values = {sm.dim(name): value for name, value in sizes.items()}
        shown = [
            v.subs(values) if hasattr(v, "subs") else v
            for v in (row.parameters, row.products, row.sums)
        ]
        assert shown == [concrete.cost().params, *concrete.operations()]


def test_the_page_of_costs_is_up_to_date() -> None:
    path = Path(__file__).parent.parent / "docs" / "costs.md"
    assert cost_table() in path.read_text(encoding="utf-8"), "run: python docs/write_costs.py"
