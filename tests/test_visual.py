"""Formulas, trees, pictures: what they say is what the operator is."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from market import MARKET, entries

import structmat as sm
from structmat import sized
from structmat.visual.html import html
from structmat.visual.latex import number
from structmat.visual.paint import paint
from structmat.visual.support import factors, support

n, m, k = sm.dim("n"), sm.dim("m"), sm.dim("k")
every = pytest.mark.parametrize("name", MARKET)


def market(name: str) -> sm.LinearOperator:
    return MARKET[name](entries(0))


def covered(op: sm.LinearOperator) -> np.ndarray[Any, np.dtype[np.bool_]]:
    out = np.zeros(op.shape, dtype=bool)
    for s in support(op):
        for top, bottom, left, right in s.boxes.tolist():
            assert 0 <= top < bottom <= op.shape[0]
            assert 0 <= left < right <= op.shape[1]
            out[top:bottom, left:right] = True
    return out


def nonzero(op: sm.LinearOperator) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where the dense matrix of the structure has entries, in any operator of the batch."""
    dense = op.to_dense() != 0
    for _ in op.batch_shape:
        dense = dense.any(0)
    return np.asarray(dense)


# where the entries are ---------------------------------------------------------------------------


@every
def test_support_covers_every_entry(name: str) -> None:
    op = market(name)
    assert not (nonzero(op) & ~covered(op)).any()


EXACT: dict[str, sm.LinearOperator] = {
    "diagonal": sized.Diagonal(7),
    "identity": sm.Identity(5),
    "zero": sm.Zero(3, 4),
    "permutation": sm.Permutation([2, 0, 1]),
    "blocks": sized.BlockDiagonal(6, 9, nblocks=3),
    "factor": sized.KroneckerSparse(3, 2, 4, 5),
    "factor_transposed": sized.KroneckerSparse(3, 2, 4, 5).T,
    "monarch": sized.Monarch(8, 12, nblocks=(2, 4), rank=1),
    "butterfly": sized.Butterfly(8),
    "chain": sized.MonarchChain(27, order=3),
    "haar": sm.Haar(16),
    "wavelet": sm.Wavelet(16, "db3", levels=2),
    "wavelet_transposed": sm.Wavelet(16, "db2", levels=2)._transpose(),
    "causal": sized.Convolution(9, size=3),
    "full": sized.Convolution(9, size=4, mode="full"),
    "same": sized.Convolution(9, size=4, mode="same"),
    "circular": sized.Convolution(9, size=4, mode="circular"),
    "circular_transposed": sized.Convolution(9, size=4, mode="circular")._transpose(),
    "direct_sum": sm.direct_sum(sized.Dense(2, 3), sm.Zero(1, 2), sm.reversal(3)),
    "kronecker": sm.kron(sm.reversal(3), sized.BlockDiagonal(4, nblocks=2), sm.Identity(2)),
    "kronecker_dense": sm.kron(sized.Dense(2, 3), sm.cyclic_shift(3, 1)),
    "product": sized.BlockDiagonal(6, nblocks=3) @ sm.stride_permutation(6, 2),
    "scaled": 3 * sized.Diagonal(4).T,
    "sum": sized.Diagonal(6) + sm.reversal(6),
    "sparse": sized.Sparse(8, 6, per_row=2),
    "sparse_transposed": sized.Sparse(8, 6, per_row=2).T,
    "block_sparse": sized.BlockSparse(8, 12, block=2, per_row=2),
    "companion": sized.Companion(5),
    "companion_transposed": sized.Companion(5)._transpose(),
    "state_space": sized.StateSpace(6, states=2),
    "state_space_transposed": sized.StateSpace(6, states=2)._transpose(),
    "block": sm.block([[sized.Diagonal(3), 0], [sm.reversal(3), sized.Dense(3, 2)]]),
    "kron_sum": sm.kron_sum(sized.Dense(3), sm.cyclic_shift(4, 1)),
    "slice": sm.reversal(6)[1:4, ::2],
    "rows": sized.Dense(5, 4)[[3, 0]],
}


@pytest.mark.parametrize("name", EXACT)
def test_support_is_no_larger(name: str) -> None:
    op = EXACT[name]
    assert (covered(op) == nonzero(op)).all()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(sm.testing.operators(max_side=12, max_depth=3))
def test_random_expressions_show_themselves(op: sm.LinearOperator) -> None:
    assert not (nonzero(op) & ~covered(op)).any()
    formula = op.latex()
    assert formula.count("{") == formula.count("}")
    assert formula.count(r"\left") == formula.count(r"\right")
    lines = op.tree().splitlines()
    assert len(lines) == 1 + nodes(op)
    paint(op)


def nodes(op: sm.LinearOperator) -> int:
    return 1 + sum(map(nodes, op.children))


def test_factors_multiply_to_the_operator() -> None:
    op = 2 * (sized.Monarch(16) @ sized.LowRank(16, 16, rank=3)).T @ sized.Butterfly(16)
    parts = factors(op)
    assert [p.title for p in parts[:2]] == ["2 LowRank, V, transposed", "LowRank, U, transposed"]
    product = sm.Product(*(p.op for p in parts))
    torch.testing.assert_close(product.to_dense(), op.to_dense())


def test_large_structures_stay_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("made dense")

    monkeypatch.setattr(sm.LinearOperator, "to_dense", refuse)
    size = 4096
    for op in (
        sized.Monarch(size),
        sized.Butterfly(size),
        sized.Diagonal(size),
        sm.bit_reversal(size),
        sm.Haar(size),
        sized.Toeplitz(size),
        sm.kron(sm.Identity(64), sized.Dense(64)),
        sm.kron(sized.Dense(64), sm.Identity(64)),
    ):
        for part in factors(op):
            image, found = paint(part.op, (400, 400), part.family)
            assert image.shape == (400, 400, 3)
            assert sum(len(s.boxes) for s in found) <= 1 << 21


def test_pixels_are_where_the_blocks_are() -> None:
    image, _ = paint(sized.BlockDiagonal(4, nblocks=2))
    ink = (image != image[0, 3]).any(-1)
    assert ink.tolist() == np.kron(np.eye(2), np.ones((2, 2))).astype(bool).tolist()
    coarse, _ = paint(sized.BlockDiagonal(4096, nblocks=64), (128, 128))
    ink = (coarse != coarse[0, -1]).any(-1)
    assert (ink == np.kron(np.eye(64), np.ones((2, 2))).astype(bool)).all()


def test_families_of_kronecker_products() -> None:
    eye, block, toeplitz = sm.Identity(3), sized.BlockDiagonal(4, nblocks=2), sized.Toeplitz(2)
    for op, families in (
        (sm.kron(eye, block), {"BlockDiagonal"}),
        (sm.kron(block, eye), {"BlockDiagonal"}),
        (sm.kron(eye, toeplitz, eye), {"Toeplitz"}),
        (sm.kron(eye, eye), {"Identity"}),
        (sm.kron_sum(sized.Dense(2), toeplitz), {"Dense", "Toeplitz"}),
        (sm.kron(eye, sm.Zero(2)), set()),
    ):
        assert {s.family for s in support(op) if len(s.boxes)} == families
        assert {s.family for s in support(op, (64, 64)) if len(s.boxes)} == families


def test_toeplitz_shades_are_constant_along_diagonals() -> None:
    image, _ = paint(sized.Toeplitz(9, 12))
    assert np.allclose(image[1:, 1:], image[:-1, :-1])
    assert not np.allclose(image[0, 1:], image[0, :-1])


@pytest.mark.parametrize("name", ["monarch", "kronecker_mixed", "direct_sum", "batched", "zero"])
def test_spy_draws(name: str) -> None:
    figure = market(name).spy()
    assert len(figure.axes) == len(factors(market(name)))
    titles = [ax.get_title() for ax in figure.axes]
    assert all("×" in t for t in titles)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_spy_on_axes_and_whole() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.add_subplot()
    assert sized.Monarch(16).spy(ax=ax) is figure
    assert len(sized.Monarch(16).spy(factors=False).axes) == 1
    assert len(sm.Identity(0).spy().axes) == 1
    long = sm.Product(*[sized.Diagonal(4)] * 30)
    assert len(long.spy().axes) == 1
    assert len(sized.Butterfly(256).spy().axes) == 8


def test_symbols_have_no_picture() -> None:
    with pytest.raises(TypeError, match=r"A\.bind\(n=\.\.\.\)"):
        sized.Monarch(n).spy()
    assert "<img" not in html(sized.Monarch(n))


def test_without_matplotlib() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import structmat as sm\n"
        "A = sm.Identity(3)\n"
        "assert '<img' not in A._repr_html_() and '3 × 3' in A._repr_html_()\n"
        "try: A.spy()\n"
        "except ImportError as e: assert \"pip install 'structmat[plot]'\" in str(e), e\n"
        "else: raise SystemExit('drew')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# formulas ----------------------------------------------------------------------------------------

W, V = sized.Dense(3, 4), sized.Dense(4, 3)
FORMULAS: list[tuple[sm.LinearOperator, str]] = [
    (W, r"W_{3 \times 4}"),
    (W.T, r"W_{3 \times 4}^{\top}"),
    (W @ V, r"W_{3 \times 4}^{(1)} \, W_{4 \times 3}^{(2)}"),
    (W @ W.T, r"W_{3 \times 4} \, {W_{3 \times 4}}^{\top}"),
    (2 * W - 0.5 * W, r"2 \, W_{3 \times 4} - 0.5 \, W_{3 \times 4}"),
    (W - (W - W), r"W_{3 \times 4} - \left(W_{3 \times 4} - W_{3 \times 4}\right)"),
    ((2 - 1j) * sm.Identity(3), r"\left(2 - 1 i\right) \, I_{3}"),
    (1e-7 * sm.Identity(3), r"1 \times 10^{-7} \, I_{3}"),
    (torch.tensor(2.0) * sm.Identity(3), r"\alpha \, I_{3}"),
    (sm.Hadamard(4) ** 3, r"H_{4}^{3}"),
    (sm.kron(sm.Identity(2), W + W), r"I_{2} \otimes \left(W_{3 \times 4} + W_{3 \times 4}\right)"),
    (sm.direct_sum(sm.Identity(2), sm.Zero(1, 3)), r"I_{2} \oplus 0_{1 \times 3}"),
    (sm.stride_permutation(6, 2), r"L_{2}^{6}"),
    (sm.stride_permutation(n, k), r"L_{k}^{n}"),
    (sm.reversal(5) @ sm.cyclic_shift(5, 2), r"J_{5} \, Z_{5}^{2}"),
    (sm.reversal(n) @ sm.cyclic_shift(n, 2), r"J_{n} \, Z_{n}^{2}"),
    (sm.IDFT(n) @ sm.DFT(n), r"F_{n}^{-1} \, F_{n}"),
    (sm.DFT(4).H, r"\overline{F_{4}}^{\top}"),
    (sm.DFT(4, "ortho"), r"\tfrac{1}{\sqrt{4}} \, F_{4}"),
    (sm.DCT(n), r"\mathrm{DCT}_{n}^{\mathrm{II}}"),
    (sized.LowRank(m, n, rank=k), r"U_{m \times k} \, V_{k \times n}"),
    (sized.KroneckerSparse(1, 2, 3, 4), r"K_{(1, 2, 3, 4)}"),
    (sized.Monarch(n) @ sized.Diagonal(n), r"M_{n} \, D_{n}"),
    (sized.Diagonal(n) @ sized.Diagonal(n), r"D_{n}^{(1)} \, D_{n}^{(2)}"),
    (sized.Dense(n + 1, n), r"W_{n + 1 \times n}"),
    (sm.kron_sum(sm.Identity(2), sm.reversal(2)), r"I_{2} \boxplus J_{2}"),
    (sm.Inverse(W @ V), r"\left(W_{3 \times 4}^{(1)} \, W_{4 \times 3}^{(2)}\right)^{-1}"),
    (
        sm.block([[sm.Identity(2), sm.Zero(2)], [sm.reversal(2), sm.Identity(2)]]),
        r"\begin{bmatrix} I_{2} & 0_{2} \\ J_{2} & I_{2} \end{bmatrix}",
    ),
    (sm.Haar(8), r"\mathrm{Haar}_{8}"),
]


@pytest.mark.parametrize("case", range(len(FORMULAS)))
def test_formula(case: int) -> None:
    op, text = FORMULAS[case]
    assert op.latex().replace("{W_{3 \\times 4}}", "W_{3 \\times 4}") == text.replace(
        "{W_{3 \\times 4}}", "W_{3 \\times 4}"
    )
    assert op._repr_latex_() == f"$\\displaystyle {op.latex()}$"


def test_conjugate_tensors_are_overlined() -> None:
    c = sized.Dense(2, dtype=torch.complex64)
    assert (c @ c.H).latex() == r"W_{2} \, \overline{W_{2}}^{\top}"


def test_formula_of_a_users_class() -> None:
    class Mine(sm.LinearOperator):
        def __init__(self, op: sm.LinearOperator | None = None) -> None:
            self._init(children=[op] if op else [])

        def _shape(self) -> tuple[int, int]:
            return 2, 3

    assert Mine().latex() == r"\mathrm{Mine}_{2 \times 3}"
    assert Mine(sm.Identity(2)).latex() == r"\mathrm{Mine}\left(I_{2}\right)"


def test_cost_formula() -> None:
    text = sized.Monarch(n).cost().latex()
    assert r"\text{parameters} &= 2 n^{3/2} \\" in text
    assert sm.Identity(4).cost()._repr_latex_().startswith(r"$\displaystyle \begin{aligned}")
    assert sized.Butterfly(n).operations() == (2 * n * log2(n), n * log2(n))
    assert number(log2(n + 1)) == r"\log_2 \left(n + 1\right)"


def log2(value: Any) -> Any:
    from structmat.sized.functions import log2

    return log2(value)


# trees -------------------------------------------------------------------------------------------


def test_tree_shows_shapes_costs_and_sharing() -> None:
    w = sm.Dense(torch.ones(2, 2))
    op = sm.kron(w, w) @ (2 * sm.Diagonal(torch.ones(4))) + sm.Identity(4)
    lines = op.tree().splitlines()
    assert re.fullmatch(r"operator +shape +params +flops", lines[0])
    assert re.fullmatch(r"Sum +4×4 +8 +36", lines[1])
    assert re.fullmatch(r"├─ Product +4×4 +8 +32", lines[2])
    assert re.fullmatch(r"│  │  ├─ Dense +2×2 +4 +6", lines[4])
    assert re.fullmatch(r"│  │  └─ Dense +2×2 +shared +6", lines[5])
    assert re.fullmatch(r"│  └─ 2 \* +4×4 +4 +8", lines[6])
    assert re.fullmatch(r"└─ Identity\(4\) +4×4 +0 +0", lines[8])
    assert op.tree(ascii=True).isascii()
    assert "3 of 5×4" in sm.Dense(torch.ones(3, 5, 4)).tree()
    assert "2*n**(3/2)" in sized.Monarch(n).tree()


# notebooks ---------------------------------------------------------------------------------------


@every
def test_html_is_well_formed(name: str) -> None:
    from xml.etree import ElementTree

    text = market(name)._repr_html_()
    ElementTree.fromstring(re.sub(r"<img[^>]*>", "", text).replace("details open", "details"))
    assert len(text) < 200_000


def test_html_escapes() -> None:
    class Bad(sm.LinearOperator):
        def __init__(self) -> None:
            self._init()

        def _shape(self) -> tuple[int, int]:
            return 0, 0

        def _lower(self, g: Any, x: Any) -> Any:
            return x

        def _label(self) -> str:
            return "<script>alert('x')</script>"

    assert "<script" not in Bad()._repr_html_()
    assert "&lt;script" in Bad()._repr_html_()
