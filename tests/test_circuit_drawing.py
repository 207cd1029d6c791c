"""Pictures of circuits: every wire and node is drawn once, and nothing lies over another."""

from __future__ import annotations

import doctest
import io
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PathCollection

import structmat as sm
from structmat.circuit import Circuit
from structmat.visual.circuits import rows

CIRCUITS = {
    "hadamard": sm.circuit(sm.Hadamard(16)),
    "fourier": sm.circuit(sm.DFT(16)),
    "cosine": sm.circuit(sm.DCT(8)),
    "haar": sm.circuit(sm.Haar(8)),
    "monarch": sm.circuit(sm.sized.Monarch(16, nblocks=4).bind()),
    "toeplitz": sm.circuit(sm.Toeplitz(torch.arange(1.0, 5.0), torch.tensor([1.0, 6, 7, 8]))),
    "wide": sm.circuit(sm.sized.Dense(2, 5).bind()),
    "tall": sm.circuit(sm.sized.Dense(5, 2).bind()),
    "permutation": sm.circuit(sm.reversal(4)),
    "zero": sm.circuit(sm.Zero(2, 3)),
}
every = pytest.mark.parametrize("name", CIRCUITS)


def drawn(c: Circuit) -> tuple[list[LineCollection], dict[str, PathCollection]]:
    found = c.plot().axes[0].collections
    wires = [k for k in found if isinstance(k, LineCollection) and k.get_gid() == "wires"]
    return wires, {str(k.get_gid()): k for k in found if isinstance(k, PathCollection)}


@every
def test_every_wire_and_every_node_is_drawn(name: str) -> None:
    c = CIRCUITS[name]
    wires, nodes = drawn(c)
    assert sum(len(k.get_segments()) for k in wires) == c.wires
    assert len(np.asarray(nodes["inputs"].get_offsets())) == c.n
    assert len(np.asarray(nodes["gates"].get_offsets())) == c.size
    x = np.asarray(nodes["gates"].get_offsets())[:, 0] if c.size else np.zeros(0)
    assert (x == c.level[c.n :]).all()


@every
def test_lines_end_at_the_nodes_of_their_wires(name: str) -> None:
    c = CIRCUITS[name]
    row = rows(c)
    ends = sorted(
        (*map(float, line[0]), *map(float, line[-1]))
        for k in drawn(c)[0]
        for line in k.get_segments()
    )
    at = [(float(c.level[v]), float(row[v])) for v in range(c.nodes)]
    pairs = zip(c.tails.tolist(), c.heads.tolist(), strict=True)
    assert ends == sorted((*at[t], *at[h]) for t, h in pairs)


@every
def test_no_value_lies_in_the_row_of_another(name: str) -> None:
    c = CIRCUITS[name]
    row = rows(c)
    for step in range(c.depth + 1):
        held = ((c.level < step) & (c.last_level > step)) | (c.level == step)
        assert np.unique(row[held]).size == held.sum()


@every
def test_inputs_and_outputs_have_their_names(name: str) -> None:
    c = CIRCUITS[name]
    words = re.findall(r"[xy]\d+", " ".join(t.get_text() for t in c.plot().axes[0].texts))
    m, n = c.shape
    assert sorted(words) == sorted([f"x{i}" for i in range(n)] + [f"y{o}" for o in range(m)])


def test_a_hadamard_transform_is_drawn_in_place() -> None:
    c = CIRCUITS["hadamard"]
    row = rows(c)
    assert (row[c.outputs] == np.arange(16)).all()
    read = row[c.tails].reshape(c.size, 2)
    assert (read == row[c.n :, None]).any(1).all()


def test_lines_show_the_weights() -> None:
    c = Circuit.of(
        2, [2] * 2 + [3] * 2 + [4] * 2, [0, 1, 0, 1, 2, 3], [1.0, -1, 1, 1, 0.5, -0.5], [4]
    )
    legend = c.plot().axes[0].get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == ["1", "-1", "0.5", "-0.5"]
    sizes = [len(k.get_segments()) for k in drawn(c)[0]]
    styles: list[Any] = [k.get_linestyle() for k in drawn(c)[0]]
    dashed = [style[0][1] is not None for style in styles]
    assert sizes == [3, 1, 1, 1]
    assert dashed == [False, True, False, True]


def test_many_constants_share_a_colour() -> None:
    c = sm.circuit(sm.Dense(torch.arange(2.0, 18.0).reshape(4, 4)))
    legend = c.plot().axes[0].get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == ["others (16 up to sign)"]


def test_weights_of_a_batch_are_told() -> None:
    c = sm.circuit(sm.Diagonal(torch.tensor([[1.0, 2.0], [1.0, 3.0]])))
    legend = c.plot().axes[0].get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == ["1", "differs in the batch"]


@pytest.mark.parametrize(("kind", "begin"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_saves_as(kind: str, begin: bytes) -> None:
    out = io.BytesIO()
    CIRCUITS["fourier"].plot().savefig(out, format=kind)
    assert out.getvalue().startswith(begin)


def test_draws_into_axes() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert CIRCUITS["haar"].plot(ax=right) is figure
    assert not left.collections
    assert right.collections


def test_large_circuits_name_the_way_out() -> None:
    c = sm.circuit(sm.Hadamard(128))
    with pytest.raises(ValueError, match=r"1792 wires.*c\.spy\(\)"):
        c.plot()
    assert len(c.spy().axes) == c.depth == 7


def test_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [k for k in sys.modules if k.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "structmat.visual.circuits", raising=False)
    with pytest.raises(ImportError, match=r"structmat\[plot\]"):
        CIRCUITS["haar"].plot()


# the page ----------------------------------------------------------------------------------------

DOCS = Path(__file__).parent.parent / "docs"


def test_the_examples_of_the_page() -> None:
    flags = doctest.NORMALIZE_WHITESPACE
    found = doctest.testfile(
        str(DOCS / "circuits.md"), module_relative=False, optionflags=flags, encoding="utf-8"
    )
    assert found.attempted > 10
    assert found.failed == 0


def test_the_tables_of_the_page_are_up_to_date() -> None:
    tables = runpy.run_path(str(DOCS / "write_circuits.py"))["TABLES"]
    page = (DOCS / "circuits.md").read_text(encoding="utf-8")
    for table in tables.values():
        assert table() in page, "run: python docs/write_circuits.py"


def test_the_pictures_of_the_page_are_of_its_circuits() -> None:
    pictures = runpy.run_path(str(DOCS / "draw_circuits.py"))["PICTURES"]
    page = (DOCS / "circuits.md").read_text(encoding="utf-8")
    for name, c in pictures.items():
        assert f"images/{name}.svg" in page
        image = (DOCS / "images" / f"{name}.svg").read_text(encoding="utf-8")
        assert f"{c.adds} additions, {c.mults} products, depth {c.depth}" in image
        for o in range(c.shape[0]):
            assert f">y{o}</text>" in image
