"""The chain, its passes, its gradient and their specifications, against dense matrices, exactly."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from market import MARKET, entries
from oracle import chains, dense_of

from structmat.index import DigitMap
from structmat.lowering import verify
from structmat.lowering.ir import (
    Contract,
    Einsum,
    Gradient,
    Graph,
    Input,
    Permute,
    interpret,
    to_dense,
)
from structmat.lowering.passes import choose_layouts, merge_index_maps, respell_x, respell_y
from structmat.lowering.plan import fuse, tile
from structmat.lowering.record import to_chain
from structmat.operator import LinearOperator
from structmat.testing import random_operator

SEEDS = range(150)


def check_chain_of(op: LinearOperator) -> None:
    """Every form of the chain is the matrix; the gradient graph is autograd's gradient."""
    dense = dense_of(op)
    graph, values = to_chain(op)
    verify.check_chain(graph)
    merged = merge_index_maps(graph)
    verify.check_merged(merged)
    assert merge_index_maps(merged) == merged
    laid_out = choose_layouts(merged)
    verify.check_chain(laid_out)
    for g in (graph, merged, laid_out):
        assert torch.equal(to_dense(g, values, op.dtype), dense), str(g)

    forward, gradient, values = chains(op)
    verify.check_chain(gradient, "gradient")
    leaves = [v.detach().clone().requires_grad_() for v in values]
    x = entries(1, op.dtype)(3, forward.nodes[0].size).requires_grad_()
    (y,) = interpret(forward, [x], leaves)
    g_out = entries(2, op.dtype)(*y.shape)
    want: list[torch.Tensor | None] = [None] * (1 + len(leaves))
    if y.requires_grad:
        want = list(torch.autograd.grad(y, [x, *leaves], g_out, allow_unused=True))
    for g in (gradient, choose_layouts(gradient)):
        outs = interpret(g, [x, g_out], leaves)
        places = [0]
        for o in g.outputs[1:]:
            node = g.nodes[o]
            assert isinstance(node, Gradient)
            places.append(node.w + 1)
        for place, out in zip(places, outs, strict=True):
            ref = want[place]
            if ref is None:
                assert not out.any()
            else:
                assert torch.equal(out.reshape(ref.shape), ref), str(g)


@pytest.mark.parametrize("name", MARKET)
def test_market(name: str) -> None:
    check_chain_of(MARKET[name](entries(0)))


@pytest.mark.parametrize("block", range(5))
def test_random_trees(block: int) -> None:
    for seed in SEEDS[block::5]:
        check_chain_of(random_operator(seed))


def factorisations(n: int) -> list[tuple[int, ...]]:
    """Ordered factorisations of n into factors of at least 2."""
    out: list[tuple[int, ...]] = [(n,)] if n > 1 else []
    for d in range(2, n):
        if n % d == 0:
            out += [(d, *rest) for rest in factorisations(n // d)]
    return out


@pytest.mark.parametrize("n", range(2, 17))
def test_respelling_is_permuting(n: int) -> None:
    """Exhaustively: contract(P x) and P contract(x), for all digit maps and all block sizes."""
    done = 0
    for shape in factorisations(n):
        for order in itertools.permutations(range(len(shape))):
            index = DigitMap(shape, order)
            table = torch.from_numpy(index.array())
            for blocks in (d for d in range(1, n + 1) if n % d == 0):
                p = n // blocks
                spec = Einsum((blocks, p, 2), (0, 1), (0, 2, 1), (0, 2))
                w = entries(n)(blocks, 2, p)
                x = entries(n + 1)(3, n)
                graph = Graph((Input(n), Contract(blocks * 2, 0, 0, spec)), (1,), ((blocks, 2, p),))
                if (moved := respell_x(spec, index)) is not None:
                    again = replace(
                        graph, nodes=(graph.nodes[0], Contract(blocks * 2, 0, 0, moved))
                    )
                    want = interpret(graph, [x[:, table]], [w])[0]
                    assert torch.equal(interpret(again, [x], [w])[0], want)
                    done += 1
                back = spec.transposed()
                graph = Graph((Input(blocks * 2), Contract(n, 0, 0, back)), (1,), ((blocks, 2, p),))
                if (moved := respell_y(back, index)) is not None:
                    again = replace(graph, nodes=(graph.nodes[0], Contract(n, 0, 0, moved)))
                    y = entries(n + 2)(3, blocks * 2)
                    want = interpret(graph, [y], [w])[0][:, table]
                    assert torch.equal(interpret(again, [y], [w])[0], want)
                    done += 1
    assert done >= 2 * len(factorisations(n))


def test_canonical_specs_agree() -> None:
    spec = Einsum((1, 2, 3, 4), (0, 1, 2, 3), (1, 2, 3), (0, 1, 2))
    small = spec.canonical()
    assert small.sizes == (6, 4)
    assert small.canonical() == small
    assert (small.n, small.m) == (spec.n, spec.m)


def broken(name: str) -> Graph:
    """A chain that breaks one rule."""
    spec = Einsum((2, 3), (0, 1), (0, 1), (0,))
    good = Contract(2, 0, 0, spec)
    nodes = {
        "reads a later value": Contract(2, 3, 0, spec),
        "X spells": replace(good, spec=Einsum((2, 2), (0, 1), (0, 1), (0,))),
        "Y spells": replace(good, size=5),
        "no values": replace(good, w=1),
        "digit repeats": replace(good, spec=Einsum((2, 3), (0, 1, 1), (0, 1), (0,))),
        "unused digits": replace(good, spec=Einsum((2, 3, 4), (0, 1), (0, 1), (0,))),
        "sizes differ": Permute(6, 0, DigitMap((4, 2), (1, 0))),
    }
    return Graph((Input(6), nodes[name]), (1,), ((2, 3),))


@pytest.mark.parametrize(
    "name",
    [
        "reads a later value",
        "X spells",
        "Y spells",
        "no values",
        "digit repeats",
        "unused digits",
        "sizes differ",
    ],
)
def test_chain_verifier(name: str) -> None:
    with pytest.raises(verify.SpecError, match=name):
        verify.check_chain(broken(name))


def test_merged_verifier() -> None:
    spec = Einsum((3, 2), (0, 1), (0, 1), (0,)).canonical()
    turn = DigitMap((2, 3), (1, 0))
    base = (Input(6), Permute(6, 0, turn), Permute(6, 1, turn.inverse()))
    with pytest.raises(verify.SpecError, match="two permutations"):
        verify.check_merged(Graph(base, (2,), ()))
    with pytest.raises(verify.SpecError, match="could spell"):
        verify.check_merged(Graph((*base[:2], Contract(3, 1, 0, spec)), (2,), ((3, 2),)))
    same = DigitMap((6,), (0,))
    with pytest.raises(verify.SpecError, match="identity"):
        verify.check_merged(Graph((Input(6), Permute(6, 0, same)), (1,), ()))


def test_plan_verifiers() -> None:
    graph, _ = to_chain(MARKET["monarch_1024"](entries(0)))
    plan = fuse(graph, "triton", "bfloat16")
    verify.check_plan(plan)
    with pytest.raises(verify.SpecError, match="not made yet"):
        verify.check_plan(replace(plan, kernels=plan.kernels[::-1]))
    with pytest.raises(verify.SpecError, match="again"):
        verify.check_plan(replace(plan, kernels=(*plan.kernels, plan.kernels[0])))
    with pytest.raises(verify.SpecError, match="never made"):
        verify.check_plan(replace(plan, kernels=plan.kernels[:1]))
    tiled = tile(plan, "float32")
    verify.check_tiled(tiled)
    kernel = tiled.kernels[0]
    small = replace(kernel, tile=replace(kernel.tile, rows=8))
    with pytest.raises(verify.SpecError, match="under 16"):
        verify.check_tiled(replace(tiled, kernels=(small, *tiled.kernels[1:])))
    odd = replace(kernel, tile=replace(kernel.tile, out=24))
    with pytest.raises(verify.SpecError, match="out=24"):
        verify.check_tiled(replace(tiled, kernels=(odd, *tiled.kernels[1:])))


def test_source_verifier() -> None:
    verify.check_source("def run(inputs, values):\n    return inputs\n")
    with pytest.raises(verify.SpecError, match="line 1"):
        verify.check_source("def run(:")
    with pytest.raises(verify.SpecError, match="no function run"):
        verify.check_source("x = 1")


def test_fusion_makes_no_kernel_for_index_maps() -> None:
    """Permutations, diagonals and sums live inside the contractions' kernels."""
    kinds = {}
    for name in ("respelled", "conjugated", "monarch_scaled", "residual", "reversed"):
        graph, _ = to_chain(MARKET[name](entries(0)))
        kinds[name] = len(fuse(merge_index_maps(graph), "triton", "bfloat16").kernels)
    want = {"respelled": 1, "conjugated": 2, "monarch_scaled": 2, "residual": 2, "reversed": 1}
    assert kinds == want


def test_plan_counts_bytes_and_flops() -> None:
    graph, _ = to_chain(MARKET["monarch_1024"](entries(0)))
    (kernel,) = tile(fuse(merge_index_maps(graph), "triton", "bfloat16"), "bfloat16").kernels
    assert kernel.kind == "chip"
    assert kernel.row_bytes == 2 * 1024
    assert kernel.fixed_bytes == 2 * 32**3
    assert kernel.row_flops == 2 * 2 * math.isqrt(1024) * 1024
