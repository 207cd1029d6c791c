"""Permutations as Benes networks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import structmat as sm
from structmat.circuit.network import mirrored, swaps

F64 = torch.float64


def matrix(index: np.ndarray) -> torch.Tensor:
    return torch.eye(len(index))[torch.as_tensor(index)]


def test_every_permutation_of_four_and_five() -> None:
    for n in (1, 2, 3, 4, 5):
        for p in itertools.permutations(range(n)):
            index = np.array(p)
            net = sm.circuit.benes(index)
            assert torch.equal(net.operator.to_dense(), matrix(index))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40).flatmap(lambda n: st.permutations(range(n))))
def test_the_network_is_the_permutation(p: list[int]) -> None:
    n, index = len(p), np.array(p)
    net = sm.circuit.benes(sm.Permutation(index), dtype=F64)
    size = max(2, 1 << (n - 1).bit_length())
    assert net.left.shape == net.right.shape == (size, size)
    assert net.left.increasing_stride
    assert not net.right.increasing_stride
    assert net.expansion == size / n
    whole = (net.left @ net.right).to_dense()
    padded = np.append(index, np.arange(n, size))
    assert torch.equal(whole, matrix(padded).to(F64))
    assert torch.equal(net.operator.to_dense(), matrix(index).to(F64))
    assert net.inputs.shape == net.outputs.shape == (size.bit_length() - 1, size // 2)


@pytest.mark.parametrize("n", [8, 256, 4096, 65536])
def test_large_random_permutations(n: int) -> None:
    index = np.random.default_rng(n).permutation(n)
    x = torch.arange(n, dtype=F64)
    assert torch.equal(sm.circuit.benes(index).operator(x), x[torch.from_numpy(index)])


def test_the_identity_crosses_nothing_and_a_swap_one_switch() -> None:
    still = sm.circuit.benes(range(16))
    assert not still.inputs.any()
    assert not still.outputs.any()
    turned = sm.circuit.benes(sm.reversal(2))
    assert turned.inputs.sum() + turned.outputs.sum() == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5).flatmap(lambda k: st.permutations(range(1 << k))))
def test_the_network_that_begins_with_neighbours(p: list[int]) -> None:
    first, second = mirrored(np.array(p))
    whole = swaps(second, False, F64) @ swaps(first, True, F64)
    assert torch.equal(whole.to_dense(), matrix(np.array(p)).to(F64))


def test_what_has_no_network() -> None:
    with pytest.raises(ValueError, match="n >= 1"):
        sm.circuit.benes(np.array([], dtype=int))
    with pytest.raises(ValueError, match="not a permutation"):
        sm.circuit.benes([0, 0, 1])
    with pytest.raises(TypeError, match="needs integers"):
        sm.circuit.benes([0.5, 1.5])
