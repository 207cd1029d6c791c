"""Convolutions in sums, products and elementwise products, and identities left by transforms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import structmat as sm

G = torch.Generator().manual_seed(3)


def r(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=G, dtype=torch.float64)


def conv(size: int, n: int, mode: str = "causal", *batch: int) -> sm.Convolution:
    return sm.Convolution(r(*batch, size), n, mode)


CASES: dict[str, tuple[sm.LinearOperator, type[sm.LinearOperator]]] = {
    "causal sum": (conv(3, 16) + conv(5, 16), sm.Convolution),
    "causal sum, longer than the signal": (conv(3, 4) + conv(9, 4), sm.Convolution),
    "circular sum, wrapped": (
        conv(2, 4, "circular") + conv(7, 4, "circular"),
        sm.Convolution,
    ),
    "image sum": (
        sm.Convolution(r(3, 3), (5, 4)) + sm.Convolution(r(2, 3), (5, 4)),
        sm.Convolution,
    ),
    "batched sum": (conv(3, 8, "causal", 2) + conv(5, 8), sm.Convolution),
    "causal product": (conv(3, 16) @ conv(5, 16), sm.Convolution),
    "causal product, cut": (conv(4, 5) @ conv(4, 5), sm.Convolution),
    "causal product, transposed": (conv(3, 16).T @ conv(5, 16).T, sm.Convolution),
    "circular product": (conv(3, 16, "circular") @ conv(5, 16, "circular"), sm.Convolution),
    "full product": (conv(3, 20, "full") @ conv(5, 16, "full"), sm.Convolution),
    "full product, transposed": ((conv(3, 20, "full") @ conv(5, 16, "full")).T, sm.Convolution),
    "circular times circulant": (conv(3, 16, "circular") @ sm.Circulant(r(16)), sm.Circulant),
    "transposed times circulant": (conv(3, 16, "circular").T @ sm.Circulant(r(16)), sm.Circulant),
    "circulant times circular": (sm.Circulant(r(16)) @ conv(3, 16, "circular"), sm.Circulant),
    "circular plus circulant": (conv(3, 16, "circular") + sm.Circulant(r(16)), sm.Circulant),
    "elementwise": (sm.elementwise(conv(3, 8, "same"), conv(3, 8, "same")), sm.Convolution),
    "elementwise, transposed": (
        sm.elementwise(conv(3, 8, "circular").T, conv(3, 8, "circular").T),
        sm.Convolution,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_convolutions_meet(name: str) -> None:
    op, kind = CASES[name]
    simple, steps = sm.simplify(op, trace=True)
    assert isinstance(simple, kind), [step.rule.name for step in steps]
    torch.testing.assert_close(simple.to_dense(), op.to_dense())
    x = r(op.shape[1], 2)
    torch.testing.assert_close(simple @ x, op.to_dense() @ x)


def test_what_differs_stays() -> None:
    for op in (
        conv(3, 8, "same") + conv(4, 8, "same"),  # centred elsewhere
        conv(3, 8) + conv(3, 8, "circular"),
        conv(3, 8) @ conv(3, 8).T,
        conv(3, 8, "same") @ conv(3, 8, "same"),
    ):
        assert isinstance(op.simplify(), sm.Sum | sm.Product)
    with pytest.raises(ValueError, match="no product"):  # two entries of a kernel in one place
        sm.elementwise(conv(7, 4, "circular"), conv(7, 4, "circular"))


def test_transforms_that_cancel_leave_no_identity_behind() -> None:
    f = sm.DFT(16, dtype=torch.complex128)
    op = sm.inv(f) @ sm.Diagonal(r(16)) @ f @ sm.inv(f) @ sm.Diagonal(r(16)) @ f
    simple = op.simplify()
    assert [type(c) for c in simple.children] == [sm.DFT, sm.Diagonal, sm.DFT]
    torch.testing.assert_close(simple.to_dense(), op.to_dense())
    kept = sm.Diagonal(r(4)) @ sm.Identity(4, torch.complex128)  # nothing else is complex
    assert kept.simplify().dtype == torch.complex128
