"""The gradient of a chain is a chain: reverse mode on the graph.

Every node is linear in x, so the gradient for x applies the adjoint nodes in reverse order, and
the gradient for the values of a contraction is an :class:`structmat.lowering.ir.Outer` of what it
read and what comes back (:class:`structmat.lowering.ir.Correlate` for a primitive; the solution of
a system has it in what it made and what it sends back). Forward values
that these read are computed again inside the gradient graph (one stage of arithmetic instead of
one stage of memory); unread ones are pruned.

torch's convention for complex numbers holds: gradients multiply by the conjugate.
"""

from __future__ import annotations

from structmat.lowering.ir import (
    Add,
    Apply,
    Concat,
    Contract,
    Correlate,
    Graph,
    Input,
    Node,
    Outer,
    Permute,
    Scalar,
    Slice,
    Zeros,
)

__all__ = ["adjoint"]


def adjoint(graph: Graph) -> Graph:
    """The gradient graph.

    Args:
        graph: a chain with one input and one output.

    Returns:
        A graph with inputs x (0) and g (1), the gradient of the output. Outputs: the gradient for
        x, then the gradient for each values tensor in order.
    """
    nodes: list[Node] = list(graph.nodes)

    def put(node: Node) -> int:
        nodes.append(node)
        return len(nodes) - 1

    (out,) = graph.outputs
    pending: dict[int, list[int]] = {out: [put(Input(graph.nodes[out].size, 1))]}
    weight: dict[int, int] = {}
    gx: int | None = None

    for i in reversed(range(len(graph.nodes))):
        parts = pending.pop(i, [])
        if not parts:
            continue
        node = graph.nodes[i]
        g = parts[0] if len(parts) == 1 else put(Add(node.size, tuple(parts)))

        def send(to: int, value: Node | int) -> None:
            value = value if isinstance(value, int) else put(value)
            pending.setdefault(to, []).append(value)

        match node:
            case Input():
                gx = g
            case Contract(x=x, w=w, spec=spec, conj=conj):
                n = graph.nodes[x].size
                send(x, Contract(n, g, w, spec.transposed(), not conj))
                weight[w] = put(Outer(0, x, g, w, spec))
            case Apply(x=x, w=number, op=op, batch=b, pre=p, post=q, conj=conj):
                n = graph.nodes[x].size
                back = put(Apply(n, g, number, op.transposed(), b, p, q, not conj))
                send(x, back)
                if number is not None:
                    read = (i, back) if op.implicit else (x, g)
                    weight[number] = put(Correlate(0, *read, number, op, b, p, q))
            case Permute(x=x, index=index):
                send(x, Permute(node.size, g, index.inverse()))
            case Scalar(x=x, alpha=alpha):
                send(x, Scalar(node.size, g, alpha.conjugate()))
            case Add(xs=xs):
                for v in xs:
                    send(v, g)
            case Slice(x=x):
                pieces, sizes = [], []
                for length, here in (
                    (node.start, False),
                    (node.stop - node.start, True),
                    (node.full - node.stop, False),
                ):
                    if length:
                        size = node.pre * length * node.post
                        pieces.append(g if here else put(Zeros(size)))
                        sizes.append(length)
                total = graph.nodes[x].size
                send(x, Concat(total, tuple(pieces), node.pre, tuple(sizes), node.post))
            case Concat(xs=xs):
                at = 0
                full = sum(node.sizes)
                for v, s in zip(xs, node.sizes, strict=True):
                    size = graph.nodes[v].size
                    send(v, Slice(size, g, node.pre, full, node.post, at, at + s))
                    at += s
            case Zeros():
                pass
    if gx is None:
        gx = put(Zeros(graph.nodes[0].size))
    outputs = [gx]
    for j, _ in enumerate(graph.shapes):
        # A tensor whose contraction was dropped (an empty factor) has gradient zero: -1.
        outputs.append(weight.get(j, -1))
    kept = tuple(o for o in outputs if o >= 0)
    return Graph(tuple(nodes), kept, graph.shapes).pruned()


def weights_with_gradient(grad: Graph) -> list[int]:
    """The values numbers of the outputs after the first, in order."""
    return [grad.nodes[o].w for o in grad.outputs[1:]]  # type: ignore[attr-defined]
