"""Indexing against NumPy, selections, slices by structure, and what is no index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import structmat as sm
from structmat.compose.routes import Copies, route
from structmat.gather import Gather
from structmat.testing import check_operator

G = torch.Generator().manual_seed(0)
FAST = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def ints(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randint(-1, 2, shape, generator=G).to(dtype)


def dense(*shape: int) -> sm.Dense:
    return sm.Dense(ints(*shape))


def indexed(op: sm.LinearOperator, key: Any) -> np.ndarray:
    out = op[key]
    return np.asarray(out if isinstance(out, sm.LinearOperator) else out.numpy())


# NumPy is the oracle ---------------------------------------------------------------------------


@st.composite
def lines(draw: Any, n: int) -> Any:
    """A slice, an integer, a list, or a mask for a dimension of n entries."""
    ends = st.none() | st.integers(-n - 3, n + 3)
    options = [
        st.builds(slice, ends, ends, st.none() | st.sampled_from([1, 2, 3, -1, -2, -5])),
        st.lists(st.booleans(), min_size=n, max_size=n),
    ]
    if n:
        options += [st.integers(-n, n - 1), st.lists(st.integers(-n, n - 1), max_size=2 * n)]
    return draw(st.one_of(options))


@st.composite
def keys(draw: Any) -> tuple[int, int, Any]:
    m, n = draw(st.integers(0, 7)), draw(st.integers(0, 7))
    rows, columns = draw(lines(m)), draw(lines(n))
    if isinstance(rows, list) and isinstance(columns, list):
        return m, n, np.ix_(*(np.array(k, dtype=bool if k and isinstance(k[0], bool) else int)
                              for k in (rows, columns)))  # fmt: skip
    options = [(rows, columns), (rows, ..., columns), (..., rows, columns), (rows, columns, ...)]
    return m, n, draw(st.sampled_from([*options, rows, (rows, ...), (..., columns)]))


@FAST
@given(keys())
def test_indexing_is_that_of_numpy(case: tuple[int, int, Any]) -> None:
    m, n, key = case
    w = torch.arange(1.0, m * n + 1, dtype=torch.float64).reshape(m, n)
    want = w.numpy()[key]
    got = indexed(sm.Dense(w) + sm.Zero(m, n), key)
    assert got.shape == want.shape
    assert np.array_equal(got, want)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[1], np.s_[-1], np.s_[1:3], np.s_[::-1], np.s_[..., 2], np.s_[:, -2], np.s_[2, 3],
        np.s_[np.int64(1)], np.s_[[0, 2, 2]], np.s_[:, [3, 0]], np.s_[[True, False, True]],
        np.s_[[0, 2], [1, 3]], np.s_[1, [0, 2]], np.s_[[0, 2], 1], np.s_[1, 1:], np.s_[[]],
        np.ix_([0, 2], [1, 1, 3]), np.s_[...], np.s_[range(2)], np.s_[(2, 1), :],
    ],
    ids=str,
)  # fmt: skip
def test_kinds_of_indices(key: Any) -> None:
    w = ints(3, 4)
    assert np.array_equal(indexed(sm.Dense(w), key), w.numpy()[key])


def test_tensors_are_indices() -> None:
    w = ints(3, 4)
    op = sm.Dense(w)
    for key in (torch.tensor([2, 0]), torch.tensor(1), torch.tensor([True, False, True])):
        assert np.array_equal(indexed(op, key), w[key].numpy())
    assert torch.equal(op[torch.tensor([0, 1]), torch.tensor([2, 3])], w[[0, 1], [2, 3]])


def test_batches_are_not_indexed() -> None:
    w = ints(5, 2, 3, 4)
    op = sm.Dense(w)
    assert torch.equal(op[1], w[..., 1, :])
    assert torch.equal(op[:, 1], w[..., 1])
    assert torch.equal(op[2, 1], w[..., 2, 1])
    assert torch.equal(op[1:, [0, 2]].to_dense(), w[..., 1:, [0, 2]])
    assert torch.equal(op[[0, 2], [1, 3]], w[..., [0, 2], [1, 3]])
    assert op[2, 1].shape == op.batch_shape


def test_rows_of_a_large_matrix_are_not_made_dense() -> None:
    n = 1 << 20
    c = torch.arange(1.0, n + 1, dtype=torch.float64)
    op = sm.Toeplitz(c, -c)
    assert op[n - 1, 0] == n
    assert torch.allclose(op[3][:5].double(), torch.tensor([4.0, 3.0, 2.0, 1.0, -2.0]).double())
    assert torch.allclose(op[:4, 2].double(), torch.tensor([-3.0, -2.0, 1.0, 2.0]).double())
    assert op[5:9, ::2].shape == (4, n // 2)


def test_many_pairs_are_read_by_their_formula_or_a_few_at_a_time() -> None:
    n = 1 << 18
    c = torch.arange(1.0, n + 1, dtype=torch.float64)
    at = torch.arange(n)
    assert torch.equal(sm.Toeplitz(c, -c)[at, at * 0], c)
    dct = sm.DCT(300, dtype=torch.float64)
    inverse = sm.inv(dct)[torch.arange(200), 7 + torch.arange(200)]  # no formula for its entries
    want = torch.linalg.inv(dct.to_dense()).diagonal(7)[:200]
    torch.testing.assert_close(inverse, want)


def test_a_loop_over_an_operator_is_over_its_rows() -> None:
    w = ints(3, 4)
    assert torch.equal(torch.stack(list(sm.Dense(w))), w)


def test_gradients_reach_through_slices() -> None:
    w = ints(4, 4).requires_grad_()
    op = sm.Dense(w)
    (op[1].sum() + op[2, 3] + op[1:3, ::2](ints(2)).sum() * 0).backward()
    want = torch.zeros(4, 4, dtype=torch.float64)
    want[1] = 1
    want[2, 3] = 1
    assert torch.equal(w.grad if w.grad is not None else want * 0, want)


# selections ------------------------------------------------------------------------------------


@FAST
@given(st.integers(0, 12).flatmap(lambda n: st.tuples(
    st.just(n), st.lists(st.integers(0, max(n - 1, 0)), max_size=15 if n else 0))))  # fmt: skip
def test_selection(case: tuple[int, list[int]]) -> None:
    n, index = case
    op = sm.Selection(index, n)
    x = torch.arange(1.0, n + 1)
    y = torch.arange(1.0, len(index) + 1)
    assert torch.equal(op(x), x[index])
    assert torch.equal(op.T(y), torch.zeros(n).index_add(0, torch.tensor(index).long(), y))
    assert op.operations() == (0, 0)
    assert op.T.operations() == (0, len(index) - len(set(index)))


@pytest.mark.parametrize("n", [0, 1, 7, 16])
@pytest.mark.parametrize("step", [1, 2, 3, -1, -4])
def test_strided_selections(n: int, step: int) -> None:
    run = range(n)[1::step] if step > 0 else range(n)[::step]
    check_operator(sm.Selection(run, n), exact=True, backends=("torch",))


@pytest.mark.parametrize("index", [[], [3], [3, 3, 3], [0, 3, 0, 1, 3, 3], [3, 1]], ids=str)
def test_selections_of_a_list(index: list[int]) -> None:
    op = sm.Selection(index, 4)
    for each in (op, op.T, sm.kron(op, dense(2, 3)), sm.kron(dense(2, 3), op.T)):
        check_operator(each, exact=True, backends=("torch",))
    check_operator(sm.Selection(index, 4, torch.float32), exact=True)


def test_many_copies_take_few_steps() -> None:
    """A thousand copies of one entry are made by doubling, and added by halving."""
    steps = route(Gather.of([0] * 1000, 5))
    assert [s.groups for s in steps if isinstance(s, Copies)] == [((1, 1000),)]
    words: list[str] = []

    class Noted:
        def __getattr__(self, word: str) -> Any:
            return lambda *args, **kwargs: words.append(word)

    op = sm.Selection([0] * 1000, 5)
    op._lower(Noted(), None)
    op._transpose()._lower(Noted(), None)
    assert len(words) < 60


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize("index", [[2, 0, 2], range(1, 4, 2)], ids=str)
def test_torch_compile_traces_a_selection(index: Any) -> None:
    op = sm.Selection(index, 4)
    for each in (op, op._transpose()):
        x = ints(3, each.shape[1])
        traced = torch.compile(lambda x, op=each: op(x), fullgraph=True, backend="eager")
        assert torch.equal(traced(x), each(x))


def test_equal_selections_have_equal_structures() -> None:
    assert sm.Selection([1, 3, 5], 8).structure == sm.Selection(range(1, 7, 2), 8).structure
    assert (
        sm.Selection([1, 3, 4], 8).structure == sm.Selection(torch.tensor([1, 3, 4]), 8).structure
    )
    assert sm.Selection([1, 3, 4], 8).structure != sm.Selection([1, 4, 3], 8).structure
    assert sm.Selection([2], 8).structure == sm.Selection(range(2, 8, 6), 8).structure


# slices by structure ---------------------------------------------------------------------------

T9 = sm.Toeplitz(ints(9), ints(9))
K = sm.kron(dense(3, 3), dense(4, 4))
B = sm.BlockDiagonal(ints(4, 3, 3))
S = sm.direct_sum(dense(3, 3), dense(4, 4), dense(2, 2))
M = sm.Monarch(ints(4, 4, 4), ints(4, 4, 4))

SLICES: list[tuple[str, Any, str]] = [
    ("dense", dense(5, 6)[1:3, ::2], "Dense(2x3)"),
    ("low rank", sm.LowRank(ints(9, 1), ints(1, 9))[2:8, [0, 5, 3]], "LowRank(6x3, rank=1)"),
    ("diagonal", sm.Diagonal(ints(9))[2:5, 2:5], "Diagonal(3)"),
    ("diagonal of a list", sm.Diagonal(ints(9))[np.ix_([2, 7], [2, 7])], "Diagonal(2)"),
    ("identity", sm.Identity(9)[2:5, 2:5], "Identity(3)"),
    ("identity beside", sm.Identity(9)[2:5, 5:7], "Zero(3x2)"),
    ("zero", sm.Zero(5, 6)[1:, :4], "Zero(4x4)"),
    ("permutation", sm.reversal(6)[1:4], "Selection(4:1:-1 of 6)"),
    ("permutation, all", sm.reversal(6)[::-1], "Identity(6)"),
    ("Toeplitz", T9[2:5, 1:8], "Toeplitz(3x7)"),
    ("Toeplitz, steps", T9[::2, 1::2], "Toeplitz(5x4)"),
    ("Toeplitz, reversed", T9[:, ::-1], "Hankel(9x9)"),
    ("circulant", sm.Circulant(ints(20))[3:9, 2:6], "Toeplitz(6x4)"),
    ("Hankel", sm.Hankel(ints(8), ints(8))[::3, ::-3], "Toeplitz(3x3)"),
    ("Kronecker", K[4:8, :8], "kron(Dense(1x2), Dense(4x4))"),
    ("Kronecker inside", K[5:7, 8:11], "Dense(2x3)"),
    ("Kronecker, steps", K[::4, 1::4], "Dense(3x3)"),
    ("block-diagonal", B[3:9, 3:9], "BlockDiagonal(2 of 3x3)"),
    ("direct sum", S[3:9, 3:9], "direct_sum(Dense(4x4), Dense(2x2))"),
    ("direct sum inside", S[4:6, 3:5], "Dense(2x2)"),
    ("block", sm.block([[dense(2, 2), dense(2, 3)], [dense(1, 2), 0]])[2:, :2], "Dense(1x2)"),
    ("factor", sm.KroneckerSparse(ints(2, 3, 2, 2))[:6, :4], "KroneckerSparse(1,3,2,2)"),
    ("Monarch", M[:4, :4], "Dense(4x4)"),
    ("product", (dense(5, 5) @ sm.Diagonal(ints(5)) @ dense(5, 5))[1:3, [0, 2]], "Dense(2x2)"),
    ("sum", (dense(5, 5) + 2 * sm.Diagonal(ints(5)))[:2, 3:], "Dense(2x2)"),
    ("slice of a slice", dense(9, 9)[1:8][::2, 3:][1:3], "Dense(2x6)"),
    ("transpose", (dense(3, 4) @ dense(4, 5)).T[1:2], "Dense(1x3)"),
    ("Kronecker sum", sm.kron_sum(dense(3, 3), dense(2, 2))[2:4, 2:4],
     "Dense(2x2)"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "want"), [c[1:] for c in SLICES], ids=[c[0] for c in SLICES])
def test_slices_by_structure(op: sm.LinearOperator, want: str) -> None:
    new, steps = sm.simplify(op, trace=True)
    assert new._label() == want, "\n".join(map(str, steps))
    torch.testing.assert_close(new.to_dense(), op.to_dense(), rtol=0, atol=1e-13)
    check_operator(op)


# errors ----------------------------------------------------------------------------------------

ERRORS: list[tuple[str, Any, type[Exception], str]] = [
    ("row", np.s_[3], IndexError, r"Dense\(3x4\) of shape \(3, 4\) has no row 3; rows are 0 to 2"),
    ("column", np.s_[:, -5], IndexError, "has no column -5; columns are 0 to 3, or -4 to -1"),
    ("list", np.s_[[0, 7]], IndexError, "has no row 7"),
    ("mask", np.s_[[True, False]], IndexError, r"mask of shape \(2,\) does not fit 3 rows"),
    ("float", np.s_[[0.5]], TypeError, "an index of float64; .* lists of integers or booleans"),
    ("text", np.s_["x"], TypeError, "str is no index"),
    ("bool", np.s_[True], TypeError, "a single True is no index"),
    ("axis", np.s_[None], TypeError, "cannot get a new axis"),
    ("three", np.s_[0, 0, 0], IndexError, "3 indices.*batch dimensions are not indexed"),
    ("two ellipses", np.s_[..., ..., 0], IndexError, "2 ellipses"),
    ("matrix", np.s_[np.zeros((2, 2), int)], IndexError, r"np.ix_\(rows, columns\)"),
    ("pairs", np.s_[[0, 1], [1, 2, 3]], IndexError, "2 rows and 3 columns do not pair up"),
    ("pairs of matrices", np.s_[np.zeros((2, 2), int), [0, 1]], IndexError, r"np.ix_"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "kind", "hint"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS]
)
def test_errors(key: Any, kind: type[Exception], hint: str) -> None:
    with pytest.raises(kind, match=hint):
        dense(3, 4)[key]


def test_selection_errors() -> None:
    with pytest.raises(IndexError, match="positions range from 1 to 4, need 0 to 3"):
        sm.Selection([1, 4], 4)
    with pytest.raises(TypeError, match="index is float64, needs integers"):
        sm.Selection([0.5], 4)
    with pytest.raises(ValueError, match=r"shape \(1, 2\), needs one dimension"):
        sm.Selection([[0, 1]], 4)
    with pytest.raises(ValueError, match="n must be a non-negative integer, got -1"):
        sm.Selection([], -1)
    with pytest.raises(ValueError, match="reads from 4 entries, n is 5"):
        sm.Selection(Gather.of([0], 4), 5)
