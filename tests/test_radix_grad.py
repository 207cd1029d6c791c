"""Gradients of radix chains: found in graphs, cut into groups, equal to autograd's, compiled."""

from __future__ import annotations

import pytest
import torch
from test_radix import compile_source, signs

import structmat as sm
from structmat.kernels.radix_grad import reference
from structmat.lowering.adjoint import adjoint
from structmat.lowering.ir import Graph, Outer
from structmat.lowering.passes import merge_index_maps
from structmat.lowering.pipeline import lower
from structmat.lowering.plan import Device
from structmat.lowering.radix_grad import SUMS, gradient_chain, groups, plan_of
from structmat.lowering.record import to_chain


def gradient_of(operator: sm.LinearOperator) -> Graph:
    return merge_index_maps(adjoint(merge_index_maps(to_chain(operator.simplify())[0])))


def butterfly(log2: int, increasing: bool = True) -> sm.Butterfly:
    return sm.Butterfly(signs(log2, log2, 1 << log2 - 1, 2, 2), increasing_stride=increasing)


SERVED = {
    "butterfly 16": butterfly(4),
    "butterfly 1024": butterfly(10),
    "butterfly 1024, decreasing": butterfly(10, False),
    "butterfly 64, transposed": butterfly(6).T,
    "radix 4": sm.KroneckerSparse(signs(0, 16, 4, 4, 1))
    @ sm.KroneckerSparse(signs(1, 1, 4, 4, 16)),
    "one factor": sm.KroneckerSparse(signs(0, 4, 4, 4, 4)),
}

NOT_SERVED = {
    "hadamard": sm.Hadamard(64),
    "shared values": sm.kron(sm.Dense(signs(0, 4, 4)), sm.Dense(signs(1, 4, 4))),
    "monarch": sm.Monarch(signs(0, 16, 16, 16), signs(1, 16, 16, 16)),
    "a sum": butterfly(4) + butterfly(4, False),
}


@pytest.mark.parametrize("name", SERVED)
def test_groups_cover_every_stage_once(name: str) -> None:
    graph = gradient_of(SERVED[name])
    found = gradient_chain(graph)
    assert found is not None
    outers = [v for v, nd in enumerate(graph.nodes) if isinstance(nd, Outer)]
    assert sorted(o for o in found.outers if o is not None) == outers
    for itemsize in (2, 4, 8):
        cuts = groups(found, itemsize)
        stages = [i for c in cuts for i in reversed(range(c.low, c.high))]
        assert stages == list(reversed(range(len(found.chain.stages))))
        entries = 1 << len(plan_of(found, itemsize).passes[0].registers)
        for c in cuts:
            held = sum(entries * s.radix for s in found.chain.stages[c.low : c.high])
            assert held * (2 if itemsize == 8 else 1) <= SUMS or c.high - c.low == 1


@pytest.mark.parametrize("name", NOT_SERVED)
def test_other_gradients_keep_their_kernels(name: str) -> None:
    assert gradient_chain(gradient_of(NOT_SERVED[name])) is None


def test_a_plan_makes_every_gradient_once() -> None:
    low = lower(gradient_of(butterfly(10)), "gpu", "float32", Device(), "gradient")
    assert [k.kind for k in low.plan.kernels] == ["radix_grad"] * 2
    made = [v for k in low.plan.kernels for v in (k.out, *k.more)]
    assert set(low.plan.graph.outputs) <= set(made)
    assert len(made) == len(set(made))


def test_the_naive_twin_is_autograd() -> None:
    twiddle, x, g = signs(0, 4, 8, 2, 2), signs(1, 5, 16), signs(2, 5, 16)
    leaves = [x.requires_grad_(), twiddle.requires_grad_()]
    want = torch.autograd.grad(sm.Butterfly(twiddle)(x), leaves, g)
    for a, b in zip(reference(x, g, twiddle), want, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("butterfly 16", "float32"),
        ("butterfly 1024", "float32"),
        ("butterfly 1024", "bfloat16"),
        ("butterfly 64, transposed", "float64"),
        ("radix 4", "float16"),
    ],
)
def test_nvrtc_compiles_the_kernels(name: str, dtype: str) -> None:
    compile_source(lower(gradient_of(SERVED[name]), "gpu", dtype, Device(), "offline").source)
