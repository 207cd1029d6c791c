"""Where operators without tensors are: what they remember, and what simplify must not forget.

The meta device stands for an accelerator here: tensors on it meet no tensor of the cpu either.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch

import structmat as sm

META = torch.device("meta")
WIDE = torch.float64
W = sm.Dense(torch.ones(4, 4, dtype=WIDE, device=META))
D = sm.Diagonal(torch.ones(4, dtype=torch.complex64, device=META))

VANISHING: dict[str, Callable[[], sm.LinearOperator]] = {
    "a difference": lambda: W - W,
    "zero times": lambda: 0 * W,
    "an inverse": lambda: sm.inv(W) @ W,
    "an inverse of complex numbers": lambda: D @ sm.inv(D),
    "an inverse of a product": lambda: sm.inv(W @ D) @ W @ D,
    "a Kronecker product": lambda: sm.kron(W, sm.Zero(2)),
    "a product with zero": lambda: W @ sm.Zero(4, 2),
    "no rows": lambda: W[[]] @ W,
    "inside a sum": lambda: sm.reversal(4) + (W - W) + sm.Identity(4),
    "a permutation that was placed": lambda: (sm.reversal(4) @ sm.reversal(4)).to(META),
    "a slice of it": lambda: (sm.reversal(6) @ sm.reversal(6)).to(META)[1:3, 1:3],
    "a power": lambda: W**0,
}


@pytest.mark.parametrize("case", VANISHING)
def test_what_loses_its_tensors_stays_where_it_was(case: str) -> None:
    op = VANISHING[case]()
    new = op.simplify()
    assert not list(new.parameters())
    for made in (new, new.simplify(), copy.deepcopy(new), pickle.loads(pickle.dumps(new)), new.T):
        assert made.device == META
        assert made.dtype == op.dtype
        assert made.to_dense().device == META
        assert made.to_dense().dtype == op.to_dense().dtype
    for dtype in (torch.float32, WIDE, torch.complex64):
        x = torch.ones(op.shape[1], dtype=dtype, device=META)
        for want, got in ((op(x), new(x)), (op @ x[:, None], new @ x[:, None])):
            assert (want.device, want.dtype, want.shape) == (got.device, got.dtype, got.shape)


def test_to_moves_an_operator_without_tensors() -> None:
    for op in (sm.Identity(3), sm.DFT(4), sm.kron(sm.Identity(2), sm.reversal(2)), sm.Zero(2, 3)):
        assert op.device == torch.device("cpu")
        there = op.to(META)
        assert there.device == there.to_dense().device == META
        assert there.to("cpu").device == torch.device("cpu")
        assert there.conj().device == there.T.device == (2 * there).device == META
        assert there.structure == op.structure
        cast = there.to(torch.complex128)
        assert cast.device == META


def test_it_acts_wherever_x_is_and_beside_any_operator() -> None:
    there = sm.Identity(4).to(META)
    assert there(torch.ones(4)).device == torch.device("cpu")
    beside = there @ sm.Dense(torch.ones(4, 4))
    assert beside.device == beside.to_dense().device == torch.device("cpu")
    assert (there @ W).device == META


def test_numbers_are_made_where_the_expression_is() -> None:
    """A transform on the way becomes a matrix of numbers beside those of the accelerator."""
    cosine, sine = sm.DCT(4, dtype=WIDE), sm.DST(4, dtype=WIDE)
    for op in (
        sm.direct_sum(cosine @ sine, W),
        sm.kron(cosine @ sine @ sm.Hadamard(4), W),
        sm.direct_sum(cosine + sine @ sine, W),
        (cosine @ sine).to(META),
    ):
        new = op.simplify(batch=10**6, materialize=True)
        assert new.device == META
        assert {t.device for t in new.parameters()} == {META}
