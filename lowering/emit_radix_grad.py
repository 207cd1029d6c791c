"""emit (radix_grad): the text of a kernel for one group of stages of a chain's gradient."""

from __future__ import annotations

from dataclasses import dataclass

from structmat.kernels import radix_grad as template
from structmat.lowering.emit_cuda import CudaKernel, linear
from structmat.lowering.emit_radix import Radix
from structmat.lowering.ir import Outer
from structmat.lowering.plan import Device, Kernel
from structmat.lowering.radix import ITEMSIZE, Stage
from structmat.lowering.radix_grad import GradientChain, Group, plan_of

__all__ = ["GradientKernel", "gradient_kernel"]


@dataclass(frozen=True)
class GradientKernel:
    """A kernel, and what surrounds its launch.

    Attributes:
        kernel: reads end before the gradient of the input and the parts.
        parts: numbers that each block writes.
        slices: for each gradient of values its node, where it begins in the parts, its shape.
        whole_tiles: the gradient of the input is read by the next kernel alone: it lies as threads
            hold it, in whole tiles.
    """

    kernel: CudaKernel
    parts: int
    slices: tuple[tuple[int, int, tuple[int, ...]], ...]
    whole_tiles: bool


def gradient_kernel(
    gradient: GradientChain, group: Group, k: Kernel, name: str, dtype: str, device: Device
) -> GradientKernel:
    """The text of a kernel of a plan."""
    size = ITEMSIZE[dtype]
    return _RadixGrad(gradient, group, k, name, size, device.shared).made()


class _RadixGrad(Radix):
    def __init__(
        self, gradient: GradientChain, group: Group, k: Kernel, name: str, size: int, limit: int
    ) -> None:
        self.gradient, self.group = gradient, group
        plan = plan_of(gradient, size)
        self.own = gradient.chain.stages[group.low : group.high]
        super().__init__(gradient.graph, k, name, plan, size, limit)
        self.first: dict[Stage, int] = {}  # where a stage's sums begin
        at = 0
        for s in self.own:
            self.first[s] = at
            at += s.radix << self.entries
        self.sums = at

    def arrange(self) -> None:
        """Shared memory: the crossing, two waiting tiles, kept inputs, packed values."""
        bits = self.length + self.plan.rows
        self.staged = True
        self.stage_at = self.tile_bytes
        self.stage_bytes = 2 * (self.size << bits)
        self.kept_at = self.stage_at + self.stage_bytes
        kept = (len(self.own) - 1) * (self.acc << bits)
        fixed = self.kept_at + kept
        self.packed, self.spent = self._pack((self.limit - fixed - 1024) // self.acc)
        self.values_at = fixed // self.acc
        sums = sum(s.radix << self.entries for s in self.own) * self.plan.team * self.acc
        self.shared = max(fixed + self.spent * self.acc, sums)
        self.resident = 1

    def used(self) -> list[Stage]:
        """Stages up to the kernel's last."""
        return list(self.gradient.chain.stages[: self.group.high])

    def made(self) -> GradientKernel:
        """The kernel."""
        plan, chain = self.plan, self.gradient.chain
        e, first = self.entries, self.plan.passes[0]
        begins = (
            len(plan.passes) - 1
            if self.group.high == len(chain.stages)
            else self._pass_of(self.group.high)
        )
        ends = 0 if self.group.low == 0 else self._pass_of(self.group.low)
        own = sorted(first.registers)
        low = [1 << first.registers.index(b) for b in own]
        bits = self.length + plan.rows
        vector = 16 // self.size if 1 << e >= 16 // self.size else 1 << e
        private = {
            "chunk": f"(j * {plan.threads} + id) * {vector}",
            "base": f"tile * (i64){1 << bits}",
        }
        last = plan.passes[-1]
        natural_g = self.group.high == len(chain.stages)
        natural_x = self.group.low == 0
        rows_of = {
            p: linear("id", [(1 << b) >> self.length for b in p.threads]) for p in (first, last)
        }
        go = 1 << plan.store if natural_g else vector
        out = 1 << plan.load if natural_x else vector
        places = [1 << self.place[b] for b in last.registers]
        entry_out = linear("e", low) if natural_x else "e"
        text = template.KERNEL.substitute(
            doc=f"gradient of stages {self.group.low} to {self.group.high - 1} of "
            + "; ".join(str(self.graph.nodes[s.node]) for s in chain.stages),
            threads=plan.threads,
            name=self.name,
            params=self._parameters(),
            entries=1 << e,
            tile=1 << plan.rows,
            load=1 << plan.load,
            go=go,
            sums=self.sums,
            kept_at=self.kept_at,
            values=self._values(),
            places=self._places(),
            packing=self._packing(),
            stage_at=self.stage_at,
            stage_words=self.stage_bytes // 8,
            row_x=rows_of[first],
            n=self.n,
            chunk_x=linear("j", [1 << b for b in own][plan.load :]),
            entry_x=linear("e", low),
            live_g=f"tile * TILE + {rows_of[last]} < rows" if natural_g else "true",
            from_g=f"g + tile * (i64)TILE * {self.n} + out"
            if natural_g
            else f"g + {private['base']}",
            chunk_g=linear("j", places[plan.store :]) if natural_g else private["chunk"],
            body=self._gradient_body(begins, ends),
            live_out=f"tile * TILE + {rows_of[first]} < rows" if natural_x else "true",
            to=f"y + tile * (i64)TILE * {self.n} + in" if natural_x else f"y + {private['base']}",
            out=out,
            entry_out=entry_out,
            entry_next=entry_out.replace("e", "(e + 1)"),
            chunk_to=linear("j", [1 << b for b in own][plan.load :])
            if natural_x
            else private["chunk"],
            team=plan.team,
            totals=self._totals(),
        )
        text = "\n".join(line for line in text.splitlines() if line.strip())
        reads = (*(f"v{r}" for r in self.k.reads), *(f"w{w}" for w in self.k.weights))
        kernel = CudaKernel(self.name, text, reads, plan.threads, self.shared, 1 << plan.rows)
        slices = []
        for s in self.own:
            node = self.gradient.outers[chain.stages.index(s)]
            if node is not None:
                outer = self.graph.nodes[node]
                assert isinstance(outer, Outer)
                at = self.first[s] * plan.team
                slices.append((node, at, outer.spec.shape(outer.spec.w)))
        return GradientKernel(kernel, self.sums * plan.team, tuple(slices), not natural_x)

    def _pass_of(self, stage: int) -> int:
        s = self.gradient.chain.stages[stage]
        return self.plan.passes.index(self._owner(s))

    def _parameters(self) -> str:
        values = [f"const T* __restrict__ p{w}" for w in self.k.weights]
        both = ["const T* __restrict__ x", "const T* __restrict__ g"]
        return ", ".join([*both, *values, "T* __restrict__ y", "ACC* __restrict__ parts"])

    def _gradient_body(self, begins: int, ends: int) -> str:
        """Forward to the input of the last own stage, then backward to the first pass needed."""
        chain, passes = self.gradient.chain, self.plan.passes
        top = chain.stages[self.group.high - 1]
        parts: list[str] = []
        for i, p in enumerate(passes[: self._pass_of(self.group.high - 1) + 1]):
            if i:
                parts.append(self._exchange(i))
            for s in p.stages:
                if s in self.own and s != top:
                    slot = self.own.index(s)
                    parts.append(
                        template.KEEP.substitute(
                            stage=chain.stages.index(s), slot=slot, threads=self.plan.threads
                        )
                    )
                if s == top:
                    break
                if chain.stages.index(s) < self.group.high:
                    parts.append(self._stage(s, p))
        for i in range(begins, ends - 1, -1):
            parts += [self._back(s) for s in reversed(passes[i].stages) if s in self.own]
            if i > ends:
                parts.append(self._exchange(i, back=True).replace("v[h]", "d[h]"))
        return "".join(parts).rstrip("\n")

    def _back(self, s: Stage) -> str:
        mixed, looks, _, _ = self._sets(s)
        top = self.gradient.chain.stages[self.group.high - 1]
        slot, threads = self.own.index(s), self.plan.threads
        kept = f"kept[(({slot} * E + e) / 4 * {threads}) * 4 + e % 4]"
        return template.BACK.substitute(
            doc=str(self.graph.nodes[s.node]),
            groups=1 << len(looks),
            index=linear("g", [1 << i for i in looks]),
            size=s.radix**2,
            radix=s.radix,
            load=self._load(s),
            spread_k=linear("k", [1 << i for i in mixed]),
            kept="v[0][e]" if s == top else kept,
            first=self.first[s],
        )

    def _totals(self) -> str:
        out = []
        team = self.plan.team.bit_length() - 1
        for s in self.own:
            columns, rows, looks, _ = self._strides(s)
            at = dict(s.parallel)
            lanes = [at[b] for b in self._owner(s).threads[:team]]
            count = self.plan.team * (s.radix << self.entries)
            out.append(
                template.TOTAL.substitute(
                    count=count,
                    threads=self.plan.threads,
                    all=self.sums * self.plan.team,
                    at=self.first[s] * self.plan.team,
                    first=self.first[s] * self.plan.team,
                    offset=linear("i", [*lanes, *columns, *rows, *looks]),
                )
            )
        return "".join(out)
