"""emit (Triton): the kernels of a tiled plan that Triton compiles, as text."""

from __future__ import annotations

import math

from structmat.index import IndexMap, refine, split_digits
from structmat.kernels import chip as chip_template
from structmat.kernels import dot as dot_template
from structmat.kernels import fma as fma_template
from structmat.kernels import grad as grad_template
from structmat.lowering.emit_reference import tuple_text
from structmat.lowering.expr import Expressions, decode, offset, term, total
from structmat.lowering.ir import Contract, Einsum, Graph, Outer
from structmat.lowering.plan import Kernel, Plan, grouped_digit

__all__ = ["TritonKernels"]


class TritonKernels:
    """Texts of kernels, and the tables that they read.

    Args:
        plan: after ``tile``.
        dtype: torch's name of the dtype of inputs and values, such as ``"bfloat16"``.
    """

    def __init__(self, plan: Plan, dtype: str) -> None:
        self.plan = plan
        self.graph: Graph = plan.graph
        self.dtype = dtype
        self.accumulate = "tl.float64" if dtype == "float64" else "tl.float32"
        self.tables: dict[str, IndexMap] = {}

    # kernels -----------------------------------------------------------------------------------

    def kernel(self, number: int, k: Kernel) -> tuple[str, list[str], str]:
        """Source of a kernel, its parameters, and the number of programs as an expression."""
        ex = Expressions(self.graph, self.plan.stored, self.tables, self.accumulate)
        make = {
            "dot": self._dot,
            "fma": self._fma,
            "chip": self._chip,
            "pointwise": self._pointwise,
        }
        text, programs = make[k.kind](k, ex, f"k{number}")
        ex.use(f"v{k.out}")
        inner = "\n".join(line for line in text.splitlines() if line.strip())
        params = ", ".join(ex.used)
        return inner.replace("{PARAMS}", params), ex.used, programs

    def _common(self, k: Kernel, name: str) -> dict[str, object]:
        what = "\n    ".join(str(self.graph.nodes[r]) for r in k.roots) or str(
            self.graph.nodes[k.out]
        )
        path = "".join(f"\n    then {self.graph.nodes[p]}" for p in k.push)
        return {
            "name": name,
            "params": "{PARAMS}",
            "doc": f"v{k.out} = {what}{path}",
            "rows": k.tile.rows,
            "out_ptr": f"x{k.out}",
            "m": self.graph.nodes[k.out].size,
            "element": f"x{k.out}.dtype.element_ty",
            "precision": ', input_precision="ieee"' if self.dtype == "float32" else "",
            "accumulate": (
                'tl.fma(tl.dot(xt, wt, input_precision="ieee"), 1.0, acc)'
                if self.dtype == "float32"
                else "tl.dot(xt, wt, acc)"
            ),
        }

    def _bases(self, k: Kernel, ex: Expressions, indent: str) -> str:
        """Pointers to the first row, in 64 bits."""
        stored = [int(u[1:]) for u in ex.used if u.startswith("v")]
        stored += [k.out] if k.out not in stored else []
        return "\n".join(
            f"{indent}x{v} = v{v} + row0.to(tl.int64) * {self.graph.nodes[v].size}" for v in stored
        )

    def _pushed(self, k: Kernel, ex: Expressions, indent: str) -> str:
        last = k.roots[-1]
        steps = ex.push(k.push, last, "i", "acc", "t", "ok")
        return "\n".join(f"{indent}{name} = {text}" for name, text in steps)

    def _loaded(self, k: Kernel, root: int, ex: Expressions, index: str, mask: str) -> str:
        """The operand of a contraction at ``index``, in the dtype of a tensor-core product."""
        node = self.graph.nodes[root]
        assert isinstance(node, Contract)
        if node.x in self.plan.stored:
            return ex.load(node.x, index, "t", mask)
        inside = frozenset({root, *k.push})
        element = f"w{node.w}.dtype.element_ty"
        return f"({ex.pull(node.x, index, 't', mask, inside)}).to({element})"

    def _dot(self, k: Kernel, ex: Expressions, name: str) -> tuple[str, str]:
        spec = self.graph.nodes[k.roots[0]].spec  # type: ignore[attr-defined]
        w = self.graph.nodes[k.roots[0]].w  # type: ignore[attr-defined]
        tl = k.tile
        group = grouped_digit(spec, self.dtype) if tl.group > 1 else None
        rest = [d for d in spec.parallel if d != group]
        n_out = math.prod(spec.shape(spec.out))
        n_red = math.prod(spec.shape(spec.reduced))
        steps_o = -(-n_out // tl.out)
        groups = 1 if group is None else -(-spec.sizes[group] // tl.group)
        others = math.prod(spec.shape(rest))
        blocks = steps_o * groups * others

        q = decode("block", others, steps_o * groups, blocks)
        lines = []
        at = {"x": "0", "w": "0", "y": "0"}
        if others > 1:
            lines.append(f"    q = {q}")
            for side, digits in (("x", spec.x), ("w", spec.w), ("y", spec.y)):
                at[side] = offset("q", spec, rest, digits)
        masks = []
        three = group is not None
        if group is not None:
            g = decode("block", groups, steps_o, blocks)
            size = spec.sizes[group]
            start = "" if groups == 1 else f"{term(g, tl.group)} + "
            lines.append(f"    g = ({start}tl.arange(0, {tl.group}))[:, None, None]")
            for side, digits in (("x", spec.x), ("w", spec.w), ("y", spec.y)):
                stride = spec.stride(group, digits)
                if stride is not None:
                    at[side] = total([at[side], term("g", stride)])
                elif side == "w":  # shared values: the same for each block of the group
                    at[side] = total([at[side], "g * 0"])
            if size % tl.group:
                masks.append(f"(g < {size})")
        axes = {"x": "[None, None, :]", "w": "[None, :, None]", "o": "[None, None, :]"}
        if not three:
            axes = {"x": "[None, :]", "w": "[:, None]", "o": "[None, :]"}
        lines.append(f"    ro = o{axes['o']}")
        wide_r = n_red % tl.reduce != 0
        wide_o = n_out % tl.out != 0

        rx, rw = f"r{axes['x']}", f"r{axes['w']}"
        x_index = total([at["x"], offset(rx, spec, spec.reduced, spec.x)])
        x_mask = " & ".join(["live", *masks, *([f"({rx} < {n_red})"] if wide_r else [])])
        w_index = total(
            [
                at["w"],
                offset(rw, spec, spec.reduced, spec.w),
                offset("ro", spec, spec.out, spec.w),
            ]
        )
        w_masks = [*masks]
        if wide_r:
            w_masks.append(f"({rw} < {n_red})")
        if wide_o:
            w_masks.append(f"(ro < {n_out})")
        ex.use(f"w{w}")
        w_tail = f", mask={' & '.join(w_masks)}, other=0.0" if w_masks else ""
        y_index = total([at["y"], offset("ro", spec, spec.out, spec.y)])
        y_mask = " & ".join(["live", *masks, *([f"(ro < {n_out})"] if wide_o else [])])

        hoist = n_red <= tl.reduce
        indent = "        " if hoist else "    "
        fill = self._common(k, name)
        fill.update(
            load_x=self._loaded(k, k.roots[0], ex, x_index, x_mask),
            load_w=f"tl.load(w{w} + {w_index}{w_tail})",
            push=self._pushed(k, ex, indent),
        )
        fill.update(
            blocks=blocks,
            axis_t="[None, :, None]" if three else "[:, None]",
            reduce=tl.reduce,
            out=tl.out,
            start_o="" if steps_o == 1 else f"block % {steps_o} * {tl.out} + ",
            group="\n".join(lines),
            bases=self._bases(k, ex, indent),
            acc_shape=f"({tl.group}, {tl.rows}, {tl.out})" if three else f"({tl.rows}, {tl.out})",
            total_reduced=n_red,
            index=y_index,
            mask=y_mask,
        )
        template = dot_template.HOISTED if hoist else dot_template.STEPPED
        return template.format(**fill), self._programs(k, blocks, hoist)

    def _programs(self, k: Kernel, blocks: int, loops: bool) -> str:
        """The grid, and the keyword of a loop over tiles of rows where the kernel has one."""
        times = "" if blocks == 1 else f" * {blocks}"
        if not loops:
            return f"triton.cdiv(T, {k.tile.rows}){times}"
        tiles = f"_loop(T, {k.tile.rows}, {blocks}, {k.tile.loop})"
        return f"triton.cdiv(T, {k.tile.rows} * (loop := {tiles})){times}"

    def _fma(self, k: Kernel, ex: Expressions, name: str) -> tuple[str, str]:
        spec = self.graph.nodes[k.roots[0]].spec  # type: ignore[attr-defined]
        w = self.graph.nodes[k.roots[0]].w  # type: ignore[attr-defined]
        n_red = math.prod(spec.shape(spec.reduced))
        blocks = -(-spec.m // k.tile.out)
        ex.use(f"w{w}")
        rx = offset("r", spec, spec.reduced, spec.x)
        rw = offset("r", spec, spec.reduced, spec.w)
        pulled = ex.pull(
            self.graph.nodes[k.roots[0]].args[0],
            total(["bx", rx]),
            "t",
            "live",
            frozenset({k.roots[0], *k.push}),
        )
        fill = self._common(k, name)
        fill.update(
            load_x=pulled,
            load_w=f"tl.load(w{w} + {total(['bw', rw])}, mask=y < {spec.m}, other=0.0){ex.cast}",
            push=self._pushed(k, ex, "    "),
        )
        fill.update(
            blocks=blocks,
            out=k.tile.out,
            m_root=spec.m,
            bases=self._bases(k, ex, "    "),
            base_x=offset("y", spec, spec.y, spec.x) + " + y * 0",
            base_w=offset("y", spec, spec.y, spec.w) + " + y * 0",
            accumulate=self.accumulate,
            total_reduced=n_red,
        )
        return fma_template.FMA.format(**fill), self._programs(k, blocks, False)

    def _pointwise(self, k: Kernel, ex: Expressions, name: str) -> tuple[str, str]:
        blocks = -(-self.graph.nodes[k.out].size // k.tile.out)
        fill = self._common(k, name)
        fill["pulled"] = ex.pull(k.out, "i", "t", "ok", frozenset({k.out}))
        fill.update(blocks=blocks, out=k.tile.out, bases=self._bases(k, ex, "    "))
        return fma_template.POINTWISE.format(**fill), self._programs(k, blocks, False)

    def _chip(self, k: Kernel, ex: Expressions, name: str) -> tuple[str, str]:
        setup, body = [], []
        before: Einsum | None = None
        for j, root in enumerate(k.roots):
            node = self.graph.nodes[root]
            assert isinstance(node, Contract)
            spec = node.spec
            p, r, o = (math.prod(spec.shape(ds)) for ds in (spec.parallel, spec.reduced, spec.out))
            setup.append(f"    p{j} = tl.arange(0, {p})[:, None, None]")
            setup.append(f"    r{j} = tl.arange(0, {r})[None, :, None]")
            setup.append(f"    o{j} = tl.arange(0, {o})[None, None, :]")
            where = total(
                [
                    offset(f"p{j}", spec, spec.parallel, spec.w),
                    offset(f"r{j}", spec, spec.reduced, spec.w),
                    offset(f"o{j}", spec, spec.out, spec.w),
                ]
            )
            setup.append(f"    w{j}t = tl.load({ex.use(f'w{node.w}')} + {where})")
            if before is None:
                setup.append(f"    c = tl.arange(0, {r})[None, None, :]")
                index = total(
                    [
                        offset("p0", spec, spec.parallel, spec.x),
                        offset("c", spec, spec.reduced, spec.x),
                    ]
                )
                body.append(f"        h = {self._loaded(k, root, ex, index, 'live')}")
            else:
                body.append(self._exchange(before, spec, k.tile.rows, f"w{node.w}"))
            body.append(chip_template.PRODUCT.format(number=j))
            before = spec
        assert before is not None
        last = len(k.roots) - 1
        fill = self._common(k, name)
        fill["push"] = self._pushed(k, ex, "        ")
        fill.update(
            setup="\n".join(setup),
            bases=self._bases(k, ex, "        "),
            body="\n".join(body),
            index=total(
                [
                    offset(f"p{last}", before, before.parallel, before.y),
                    offset(f"o{last}", before, before.out, before.y),
                ]
            ),
        )
        return chip_template.CHIP.format(**fill), self._programs(k, 1, True)

    def _exchange(self, a: Einsum, b: Einsum, rows: int, w: str) -> str:
        """Re-spell [a.parallel, rows, a.out] as [b.parallel, rows, b.reduced]."""
        fine = refine(a.shape(a.y), b.shape(b.x))
        assert fine is not None
        of_a = dict(zip(a.y, split_digits(a.shape(a.y), fine), strict=True))
        of_b = dict(zip(b.x, split_digits(b.shape(b.x), fine), strict=True))
        have: list[int] = [j for d in a.parallel for j in of_a[d]] + [-1]
        have += [j for d in a.out for j in of_a[d]]
        want = [j for d in b.parallel for j in of_b[d]] + [-1]
        want += [j for d in b.reduced for j in of_b[d]]
        sizes = [rows if j < 0 else fine[j] for j in have]
        p, r = math.prod(b.shape(b.parallel)), math.prod(b.shape(b.reduced))
        return chip_template.EXCHANGE.format(
            element=f"{w}.dtype.element_ty",
            fine=tuple_text(sizes),
            order=tuple_text([have.index(j) for j in want]),
            shape=tuple_text([p, rows, r]),
        )

    def grad(self, k: Kernel, name: str) -> tuple[str, str]:
        """A weight gradient: the kernel, and the statements that run and sum its shares."""
        node = self.graph.nodes[k.out]
        assert isinstance(node, Outer)
        spec, tl = node.spec, k.tile
        group = grouped_digit(spec, self.dtype)
        assert group is not None
        rest = [d for d in spec.parallel if d != group]
        n_out, n_red = (math.prod(spec.shape(ds)) for ds in (spec.out, spec.reduced))
        steps_o = -(-n_out // tl.out)
        size = spec.sizes[group]
        groups = -(-size // tl.group)
        others = math.prod(spec.shape(rest))
        blocks = steps_o * groups * others
        start = (
            "" if groups == 1 else f"{term(decode('block', groups, steps_o, blocks), tl.group)} + "
        )
        lines = [f"    g = ({start}tl.arange(0, {tl.group}))[:, None, None]"]
        if others > 1:
            lines.append(f"    q = {decode('block', others, steps_o * groups, blocks)}")
        at = {}
        for side, digits in (("x", spec.x), ("y", spec.y), ("w", spec.w)):
            parts = [offset("q", spec, rest, digits)] if others > 1 else []
            stride = spec.stride(group, digits)
            assert stride is not None
            at[side] = total([*parts, term("g", stride)])
        in_group = [f"(g < {size})"] if size % tl.group else []
        in_red = [f"(r < {n_red})"] if n_red != tl.reduce else []
        in_out = [f"(o < {n_out})"] if n_out % tl.out else []
        n, m = self.graph.nodes[node.x].size, self.graph.nodes[node.g].size
        x_index = total([f"t * {n}", at["x"], offset("r", spec, spec.reduced, spec.x)])
        y_index = total([f"t * {m}", at["y"], offset("o", spec, spec.out, spec.y)])
        numel = math.prod(spec.shape(spec.w))
        place = total(
            [
                at["w"],
                offset("oc", spec, spec.out, spec.w),
                offset("r", spec, spec.reduced, spec.w),
            ]
        )
        x_mask = " & ".join(["live", *in_group, *in_red])
        y_mask = " & ".join(["live", *in_group, *in_out])
        masks = [*in_group, *in_red, *(t.replace("(o", "(oc") for t in in_out)]
        names = list(dict.fromkeys([f"v{node.x}", f"v{node.g}"]))
        text = grad_template.GRAD.format(
            name=name,
            params=", ".join(names),
            doc=f"v{k.out} = {node}",
            blocks=blocks,
            rows=tl.rows,
            reduce=tl.reduce,
            out=tl.out,
            width=tl.group,
            start_o="" if steps_o == 1 else f"block % {steps_o} * {tl.out} + ",
            group="\n".join(lines),
            bases="\n".join(
                f"        x{u[1:]} = {u} + row0.to(tl.int64) * {self.graph.nodes[int(u[1:])].size}"
                for u in names
            ),
            load_x=f"x{node.x} + {x_index}, mask={x_mask}, other=0.0",
            load_g=f"x{node.g} + {y_index}, mask={y_mask}, other=0.0",
            precision=', input_precision="ieee"' if self.dtype == "float32" else "",
            numel=numel,
            index=place,
            mask=" & ".join(masks) or "(g >= 0)",
        )
        shape = tuple_text(spec.shape(spec.w))
        call = (
            f"    shares = max(1, min(triton.cdiv(T, {tl.rows}), 2 * SMS // {blocks}))\n"
            f"    steps = triton.cdiv(triton.cdiv(T, {tl.rows}), shares)\n"
            f"    part = v{node.x}.new_zeros(shares, {numel}, dtype=torch.float32)\n"
            f"    if T:\n"
            f"        {name}[(shares * {blocks},)]({', '.join(names)}, part, T, steps, "
            f"num_warps={tl.warps}, num_stages={tl.stages})\n"
            f"    v{k.out} = part.sum(0).to(v{node.x}.dtype).reshape{shape}"
        )
        clean = "\n".join(line for line in text.splitlines() if line.strip())
        return clean, call
