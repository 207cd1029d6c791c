"""The demo's encoder against published-model numbers, its measures, its files, its output."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("safetensors", reason="needs the extra structmat[cli]")
pytest.importorskip("tokenizers", reason="needs the extra structmat[cli]")

import structmat as sm
from structmat.demo.compress import (
    DEFAULT_SETTINGS,
    Setting,
    compare_embeddings,
    measure_times,
    parse_settings,
)
from structmat.demo.encoder import Encoder, model_folder, sentences
from structmat.interop import MissingExtra, require, safetensors
from structmat.operator import LinearOperator


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    try:
        return Encoder.load()
    except MissingExtra as error:
        pytest.skip(str(error))


# Cosines of sentence pairs computed by transformers 5.23.0 (BertModel and BertTokenizerFast on the
# same checkpoint, mean over the attention mask, normalised), torch 2.13.0, float32, on a CPU. The
# first one is also the value in the sentence-transformers documentation.
REFERENCE = [
    ("A man is eating food.", "A man is eating a piece of bread.", 0.755337),
    ("This is an example sentence", "Each sentence is converted", 0.404559),
    (
        "Light from the Sun takes a little more than eight minutes to reach the Earth.",
        "Sunlight needs about eight minutes to travel to our planet.",
        0.773730,
    ),
    (
        "A blue whale is heavier than any dinosaur known from a nearly complete skeleton.",
        "Honeybees tell one another where flowers are by dancing on the comb.",
        0.034785,
    ),
]
# First four entries of the embedding of "This is an example sentence", from the same run.
REFERENCE_HEAD = (0.067657, 0.063496, 0.048713, 0.079305)


class TestEncoder:
    @pytest.mark.parametrize(("a", "b", "cosine"), REFERENCE)
    def test_cosines_are_those_of_transformers(
        self, encoder: Encoder, a: str, b: str, cosine: float
    ) -> None:
        e = encoder.encode([a, b])
        assert float(e[0] @ e[1]) == pytest.approx(cosine, abs=1e-4)

    def test_embedding_is_that_of_transformers(self, encoder: Encoder) -> None:
        e = encoder.encode(["This is an example sentence"])[0]
        torch.testing.assert_close(e[:4], torch.tensor(REFERENCE_HEAD), atol=1e-5, rtol=0)

    def test_padding_and_order_change_nothing(self, encoder: Encoder) -> None:
        texts = sentences()[:9]
        together = encoder.encode(texts)
        alone = torch.cat([encoder.encode([text]) for text in texts])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(together, encoder.encode(texts, batch_size=4), atol=1e-5, rtol=0)

    def test_long_text_is_cut(self, encoder: Encoder) -> None:
        e = encoder.encode(["word " * 1000, "word " * 900])
        assert torch.equal(e[0], e[1])

    def test_unit_length(self, encoder: Encoder) -> None:
        norms = encoder.encode(sentences()).norm(dim=1)
        torch.testing.assert_close(norms, torch.ones(len(norms)))

    def test_maps_replace_the_matrices(self, encoder: Encoder) -> None:
        seen: list[tuple[int, ...]] = []

        def map_of(name: str) -> LinearOperator:
            seen.append(encoder.matrix(name).shape)
            return sm.Dense(encoder.matrix(name))

        same = encoder.replace({name: map_of(name) for name in encoder.linear_names})
        texts = sentences()[:5]
        torch.testing.assert_close(same.encode(texts), encoder.encode(texts), atol=1e-5, rtol=0)
        assert len(seen) == 36
        assert set(seen) == {(384, 384), (1536, 384), (384, 1536)}

    def test_unknown_map(self, encoder: Encoder) -> None:
        with pytest.raises(ValueError, match="'nonsense' is not one of"):
            encoder.replace({"nonsense": lambda x: x})

    def test_missing_matrix(self, encoder: Encoder) -> None:
        with pytest.raises(ValueError, match="neither a map nor a matrix"):
            Encoder({}, encoder.config, encoder.tokenizer)

    def test_empty_and_bad_batch(self, encoder: Encoder) -> None:
        assert encoder.encode([]).shape == (0, 384)
        with pytest.raises(ValueError, match="batch_size"):
            encoder.encode(["a"], batch_size=0)

    def test_missing_package_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("structmat.demo.encoder.PACKAGE", "no_such_package_here")
        with pytest.raises(MissingExtra, match=r"pip install 'structmat\[demo\]'"):
            model_folder()
        with pytest.raises(MissingExtra, match=r"no_such_module is not installed; run: pip"):
            require("no_such_module.part")


def test_sentences_are_many_and_different() -> None:
    texts = sentences()
    assert len(texts) >= 64
    assert len(set(texts)) == len(texts)
    assert min(len(t) for t in texts) < 30
    assert max(len(t) for t in texts) > 100


class TestSettings:
    def test_parse(self) -> None:
        assert parse_settings("4:12, 16:1,4:12") == (Setting(4, 12), Setting(16, 1))

    @pytest.mark.parametrize("text", ["", "4", "4:", ":4", "4:0", "0:4", "4x2", "4:2,,", "-4:2"])
    def test_parse_errors(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not NBLOCKS:RANK"):
            parse_settings(text)

    @pytest.mark.parametrize("setting", DEFAULT_SETTINGS, ids=str)
    @pytest.mark.parametrize("shape", [(384, 384), (1536, 384), (384, 1536)])
    def test_sizes_are_those_of_the_docstring(
        self, setting: Setting, shape: tuple[int, int]
    ) -> None:
        m, n = shape
        k, l = setting.blocks(shape)
        assert m // l == n // k == 384 // setting.nblocks
        assert setting.rank * (l * n + k * m) == 2 * setting.rank * m * n * setting.nblocks // 384

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="choose a divisor of 384"):
            Setting(5, 1).blocks((384, 384))
        with pytest.raises(ValueError, match="rank is at most 96"):
            Setting(4, 97).blocks((384, 1536))


def test_compare_embeddings() -> None:
    torch.manual_seed(0)
    e = torch.nn.functional.normalize(torch.randn(6, 4, dtype=torch.float64), dim=1)
    same = compare_embeddings(e, e)
    assert same["cosine_mean"] == pytest.approx(1)
    assert same["spearman"] == pytest.approx(1)
    assert same["same_neighbour"] == 1
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    turned = compare_embeddings(e @ rotation, e)  # similarities stay, directions don't
    assert turned["spearman"] == pytest.approx(1)
    assert turned["same_neighbour"] == 1
    assert turned["cosine_min"] < 0.9
    assert compare_embeddings(-e, e)["cosine_mean"] == pytest.approx(-1)


def test_measure_times_calls_in_turns() -> None:
    calls: list[str] = []

    def record(name: str, x: Tensor) -> Tensor:
        calls.append(name)
        return x

    times = measure_times(
        [lambda x: record("a", x), lambda x: record("b", x)], torch.ones(1), repeats=2
    )
    assert calls == ["a", "b"] * 3
    assert len(times) == 2
    assert min(times) >= 0


class TestSafetensors:
    def test_round_trip_of_a_nested_expression(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        d = torch.randn(6, dtype=torch.float64)
        shared = sm.Dense(torch.randn(6, 6, dtype=torch.float64))
        expression = (
            2.5 * (shared @ sm.Diagonal(d) @ shared.T)
            + sm.Permutation(torch.tensor([3, 1, 2, 0, 5, 4]))
            - sm.kron(sm.LowRank(torch.ones(2, 1), torch.ones(1, 3)), sm.Dense(torch.ones(3, 2)))
        )
        path = tmp_path / "expression.safetensors"
        plain = torch.arange(3, dtype=torch.int64)
        safetensors.save(path, {"A": expression, "plain": plain})
        loaded = safetensors.load(path)
        assert list(loaded) == ["A", "plain"]
        back = loaded["A"]
        assert isinstance(back, LinearOperator)
        assert back.structure == expression.structure
        assert torch.equal(back.to_dense(), expression.to_dense())
        assert isinstance(loaded["plain"], Tensor)
        assert torch.equal(loaded["plain"], plain)
        # the shared leaf is stored once and shared again
        assert len(list(back.parameters())) == len(list(expression.parameters()))

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.bfloat16])
    def test_dtypes(self, tmp_path: Path, dtype: torch.dtype) -> None:
        w = torch.randn(3, 4).to(dtype)
        safetensors.save(tmp_path / "w.safetensors", {"w": sm.Dense(w), "conj": w.conj()})
        loaded = safetensors.load(tmp_path / "w.safetensors")
        operator, conj = loaded["w"], loaded["conj"]
        assert isinstance(operator, LinearOperator)
        assert isinstance(conj, Tensor)
        assert operator.dtype == dtype
        assert torch.equal(operator.to_dense(), w)
        assert torch.equal(conj, w.conj().resolve_conj())

    def test_views_empty_and_strided_tensors(self, tmp_path: Path) -> None:
        base = torch.arange(12.0).reshape(3, 4)
        mapping = {
            "base": base,
            "row": base[1],
            "transposed": base.T,
            "empty": torch.empty(0, 3),
            "scalar": torch.tensor(2.0),
            "expanded": torch.ones(1).expand(5),
        }
        safetensors.save(tmp_path / "t.safetensors", mapping)
        loaded = safetensors.load(tmp_path / "t.safetensors")
        for name, tensor in mapping.items():
            value = loaded[name]
            assert isinstance(value, Tensor)
            assert torch.equal(value, tensor), name

    def test_gradients_do_not_matter(self, tmp_path: Path) -> None:
        w = torch.nn.Parameter(torch.ones(2, 2))
        safetensors.save(tmp_path / "p.safetensors", {"p": sm.Dense(w)})
        back = safetensors.load(tmp_path / "p.safetensors")["p"]
        assert isinstance(back, LinearOperator)
        assert torch.equal(back.to_dense(), w.detach())

    def test_empty_mapping(self, tmp_path: Path) -> None:
        safetensors.save(tmp_path / "e.safetensors", {})
        assert safetensors.load(tmp_path / "e.safetensors") == {}

    def test_save_errors(self, tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        with pytest.raises(TypeError, match="'x' is a str; expected a LinearOperator"):
            safetensors.save(path, {"x": "text"})  # type: ignore[dict-item]
        leaf = sm.Dense(torch.ones(1, 1))
        with pytest.raises(ValueError, match=r"two entries use the tensor name 'a\.weight'"):
            safetensors.save(path, {"a": leaf, "a.weight": torch.ones(1)})
        with pytest.raises(ValueError, match="cannot be the name"):
            safetensors.save(path, {"": torch.ones(1)})
        with pytest.raises(FileNotFoundError):
            safetensors.save(tmp_path / "no" / "such.safetensors", {})
        assert os.listdir(tmp_path) == []

    def test_a_failed_save_keeps_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "x.safetensors"
        safetensors.save(path, {"a": torch.ones(2)})

        def full(*args: object, **kwargs: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(OSError, match="disk full"):
            safetensors.save(path, {"a": torch.zeros(2)})
        kept = safetensors.load(path)["a"]
        assert isinstance(kept, Tensor)
        assert torch.equal(kept, torch.ones(2))
        assert os.listdir(tmp_path) == ["x.safetensors"]

    def test_load_errors(self, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        path = tmp_path / "x.safetensors"
        with pytest.raises(FileNotFoundError, match="no such file"):
            safetensors.load(path)
        path.write_bytes(b"not a safetensors file at all")
        with pytest.raises(safetensors.FormatError, match="is not a safetensors file"):
            safetensors.load(path)
        save_file({"a": torch.ones(1)}, path)
        with pytest.raises(safetensors.FormatError, match="no structmat metadata"):
            safetensors.load(path)
        save_file({"a": torch.ones(1)}, path, metadata={"structmat": "{"})
        with pytest.raises(safetensors.FormatError, match="damaged"):
            safetensors.load(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"version": 99}, "format version 99.*install a newer structmat"),
            ({"version": "1"}, "format version '1'"),
            ({"entries": None}, "lacks 'entries'"),
            ({"entries": {"A": {"kind": "tensor"}}}, "lacks the tensor 'A'"),
            ({"entries": {"A": {"kind": "song"}}}, "unknown kind 'song'"),
            ({"aliases": {"b": "c"}}, "lacks the tensor 'c'"),
            ({"complex128": ["c"]}, "lacks the tensor 'c'"),
        ],
    )
    def test_damaged_metadata(
        self, tmp_path: Path, change: dict[str, object], message: str
    ) -> None:
        path = tmp_path / "x.safetensors"
        safetensors.save(path, {"A": sm.Dense(torch.ones(2, 2))})
        _edit(path, change)
        with pytest.raises(safetensors.FormatError, match=message):
            safetensors.load(path)

    def test_unknown_class(self, tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        safetensors.save(path, {"A": sm.Dense(torch.ones(2, 2))})
        path.write_bytes(path.read_bytes().replace(b"Dense", b"Mensa"))
        with pytest.raises(safetensors.FormatError, match=r"cannot rebuild 'A'.*Mensa"):
            safetensors.load(path)

    def test_tensor_of_another_shape(self, tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        safetensors.save(path, {"A": sm.Dense(torch.ones(2, 8))})
        content = path.read_bytes()
        path.write_bytes(content.replace(b'"shape":[2,8]', b'"shape":[8,2]'))
        with pytest.raises(safetensors.FormatError, match=r"cannot rebuild 'A'.*shape"):
            safetensors.load(path)


def _edit(path: Path, change: dict[str, object]) -> None:
    """Change keys of the structmat metadata in place; the tensors stay."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    info = json.loads(header["__metadata__"]["structmat"]) | change
    header["__metadata__"]["structmat"] = json.dumps(info)
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + size :])
