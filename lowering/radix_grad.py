"""Gradients of radix chains: find them in a graph, and cut them so that sums stay in registers.

The gradient of y = S_k ... S_1 x runs the stages forward to have their inputs, the transposed
stages backward from g, and for every stage sums g[j] x[k] over the batch. A thread meets the same
entries of the values for every row, so that these sums can stay in its registers, if there are not
too many: the stages are cut into groups from the last to the first, one kernel a group. Each
recomputes the inputs it needs from x on chip, and only the gradient of the group's input crosses
memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from structmat.lowering.ir import Contract, Graph, Input, Outer
from structmat.lowering.radix import LONGEST, Chain, longest, stages
from structmat.lowering.schedule import Schedule, schedule

__all__ = ["GradientChain", "Group", "gradient_chain", "groups", "plan_of", "served"]

SUMS = 160
"""Most words of registers that hold sums; 255 is all that a thread has."""


LONGEST_GRADIENT = 12
"""log2 of the longest vector: 256 threads of 16 entries, each with all the registers there are."""


@dataclass(frozen=True)
class GradientChain:
    """A gradient graph that is one radix chain, forward and backward.

    Attributes:
        graph: the gradient graph, with the chain's last contraction, which it need not hold.
        chain: the stages, in forward order.
        x: the input.
        g: the gradient of y.
        backward: for each stage the node that takes the gradient through it.
        outers: for each stage the node of the gradient of its values, or None.
    """

    graph: Graph
    chain: Chain
    x: int
    g: int
    backward: tuple[int, ...]
    outers: tuple[int | None, ...]


@dataclass(frozen=True)
class Group:
    """Stages ``low`` to ``high`` - 1, whose sums one kernel holds."""

    low: int
    high: int


def gradient_chain(graph: Graph, limit: int = LONGEST) -> GradientChain | None:
    """The chain that a merged gradient graph is, or None if it is something else."""
    inputs = {nd.which: v for v, nd in enumerate(graph.nodes) if isinstance(nd, Input)}
    if set(inputs) != {0, 1}:
        return None
    forward, backward = (_line(graph, inputs[which]) for which in (0, 1))
    if not backward or len(forward) != len(backward) - 1 or graph.outputs[0] != backward[-1]:
        return None
    last = graph.nodes[backward[0]]
    assert isinstance(last, Contract)
    top = replace(
        last, size=last.spec.n, x=[inputs[0], *forward][-1], spec=last.spec.transposed().canonical()
    )
    whole = Graph((*graph.nodes, replace(top, size=top.spec.m)), graph.outputs, graph.shapes)
    nodes = (*forward, len(graph.nodes))
    outers: list[int | None] = [None] * len(nodes)
    for i, v in enumerate(nodes):
        there, back = whole.nodes[v], graph.nodes[backward[len(nodes) - 1 - i]]
        assert isinstance(there, Contract)
        assert isinstance(back, Contract)
        if back.w != there.w or back.spec.canonical() != there.spec.transposed().canonical():
            return None
        arrives = inputs[1] if i == len(nodes) - 1 else backward[len(nodes) - 2 - i]
        for o, nd in enumerate(graph.nodes):
            if isinstance(nd, Outer) and nd.w == there.w:
                same = nd.spec.canonical() == there.spec.canonical()
                if (nd.x, nd.g) != (there.x, arrives) or not same or outers[i] is not None:
                    return None
                outers[i] = o
    counted = {*inputs.values(), *forward, *backward, *(o for o in outers if o is not None)}
    chain = stages(whole, nodes)
    if chain is None or len(counted) != len(graph.nodes) or chain.length > limit:
        return None
    if len(chain.stages) != len(nodes) or len({s.w for s in chain.stages}) != len(nodes):
        return None
    everything = set(range(chain.length))
    if any({b for b, st in s.parallel if st} | set(s.bits) != everything for s in chain.stages):
        return None  # threads would share sums
    return GradientChain(
        whole, chain, inputs[0], inputs[1], tuple(reversed(backward)), tuple(outers)
    )


def _line(graph: Graph, v: int) -> list[int]:
    """Contractions in a row from v, each read by the next and by outer products alone."""
    uses, found = graph.uses(), list[int]()
    while True:
        users = [u for u in uses[v] if not isinstance(graph.nodes[u], Outer)]
        if len(users) != 1 or not isinstance(graph.nodes[users[0]], Contract):
            return found
        v = users[0]
        found.append(v)


def served(graph: Graph, dtype: str, shared: int) -> GradientChain | None:
    """The chain of a gradient graph that kernels serve, or None."""
    found = gradient_chain(graph, longest(dtype, shared))
    if found is None:
        return None
    return found if 2 <= found.chain.length <= LONGEST_GRADIENT else None


def plan_of(gradient: GradientChain, itemsize: int) -> Schedule:
    """The passes, with 16 entries of one row a thread, of which a lane moves 2 or more at once."""
    return schedule(gradient.chain, itemsize, min(4, gradient.chain.length), 0, narrowest=1)


def groups(gradient: GradientChain, itemsize: int) -> list[Group]:
    """The groups, the last stages first."""
    plan = plan_of(gradient, itemsize)
    words = 2 if itemsize == 8 else 1
    entries = 1 << len(plan.passes[0].registers)
    found: list[Group] = []
    high, spent = len(gradient.chain.stages), 0
    for i in reversed(range(high)):
        need = entries * gradient.chain.stages[i].radix * words
        if spent and spent + need > SUMS:
            found.append(Group(i + 1, high))
            high, spent = i + 1, 0
        spent += need
    return [*found, Group(0, high)]
