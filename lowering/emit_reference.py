"""emit (reference): the function that a generated GPU module checks itself against."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

from structmat.index import IndexMap
from structmat.lowering.ir import (
    Add,
    Apply,
    Concat,
    Contract,
    Graph,
    Input,
    Outer,
    Permute,
    Scalar,
    Slice,
    Zeros,
)

__all__ = ["functions", "inner_text", "reference", "tuple_text"]


def reference(graph: Graph, tables: dict[str, IndexMap]) -> list[str]:
    """The graph in plain torch, float64, one line a node."""
    lines = ["    T = inputs[0].shape[0]"]
    names = {t: n for n, t in tables.items()}
    for v, nd in enumerate(graph.nodes):
        match nd:
            case Input(which=which):
                text = f"inputs[{which}].double()"
            case Contract(x=x, w=w, spec=s):
                e = len(s.sizes)
                text = (
                    f"torch.einsum(v{x}.reshape(T, {inner_text(s.shape(s.x))}), {[e, *s.x]}, "
                    f"values[{w}].double().reshape({tuple_text(s.shape(s.w))}), {list(s.w)}, "
                    f"{[e, *s.y]}).reshape(T, {nd.size})"
                )
            case Outer(x=x, g=g, spec=s):
                e = len(s.sizes)
                text = (
                    f"torch.einsum(v{x}.reshape(T, {inner_text(s.shape(s.x))}), {[e, *s.x]}, "
                    f"v{g}.reshape(T, {inner_text(s.shape(s.y))}), {[e, *s.y]}, {list(s.w)})"
                )
            case Apply(x=x, w=None, op=op, batch=batch, pre=pre, post=post):
                sides = f"-1, {batch}, {pre}, {op.ins}, {post}"
                text = f"{op.text(f'v{x}.reshape({sides})')}.reshape(T, {nd.size})"
            case Permute(x=x, index=index):
                if index in names:
                    text = f"v{x}[:, torch.tensor(TABLES[{names[index][1:]}])]"
                elif hasattr(index, "shape"):
                    order = tuple_text([0, *(o + 1 for o in index.order)])  # type: ignore[attr-defined]
                    text = (
                        f"v{x}.reshape(T, {inner_text(index.shape)})"
                        f".permute({order}).reshape(T, {nd.size})"
                    )
                elif hasattr(index, "a"):
                    at = f"(torch.arange({nd.size}, device=v{x}.device) * {index.a} + {index.b})"  # type: ignore[attr-defined]
                    text = f"v{x}[:, {at} % {nd.size}]"
                else:
                    text = f"v{x}[:, {index.array().tolist()}]"
            case Scalar(x=x, alpha=alpha):
                text = f"v{x} * {alpha!r}"
            case Add(xs=xs):
                text = " + ".join(f"v{a}" for a in xs)
            case Slice(x=x):
                text = (
                    f"v{x}.reshape(T, {nd.pre}, {nd.full}, {nd.post})"
                    f"[:, :, {nd.start}:{nd.stop}].reshape(T, {nd.size})"
                )
            case Concat(xs=xs):
                parts = ", ".join(
                    f"v{a}.reshape(T, {nd.pre}, {c}, {nd.post})"
                    for a, c in zip(xs, nd.sizes, strict=True)
                )
                text = f"torch.cat([{parts}], 2).reshape(T, {nd.size})"
            case Zeros():
                text = f"inputs[0].double().new_zeros(T, {nd.size})"
            case _:
                raise TypeError(type(nd).__name__)
        lines.append(f"    v{v} = {text}")
    lines.append(f"    return [{', '.join(f'v{o}' for o in graph.outputs)}]")
    return lines


def functions(graph: Graph) -> str:
    """Sources of the functions that the reference calls, with their imports."""
    found: dict[str, Callable[..., object]] = {}
    for nd in graph.nodes:
        if isinstance(nd, Apply):
            found.update((f.__name__, f) for f in nd.op.functions())
    if not found:
        return ""
    imports = (
        "import math\nfrom collections.abc import Callable, Sequence\n\nfrom torch import Tensor\n"
    )
    return "\n\n".join([imports, *map(inspect.getsource, found.values())]) + "\n\n"


def tuple_text(sizes: Sequence[int]) -> str:
    """A tuple as source."""
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def inner_text(sizes: Sequence[int]) -> str:
    """Sizes as arguments; 1 where there are none."""
    return ", ".join(map(str, sizes)) or "1"
