"""emit (radix): the text of a radix kernel.

Every index is linear in the bits of some number: of the thread, of an unrolled register, of a loop
that packs values. Everything with an unrolled argument folds away.
"""

from __future__ import annotations

from itertools import pairwise

from structmat.kernels import radix as template
from structmat.lowering.emit_cuda import CudaKernel, linear, xored
from structmat.lowering.ir import Graph
from structmat.lowering.plan import H100, Device, Kernel
from structmat.lowering.radix import ITEMSIZE, Stage, stages
from structmat.lowering.schedule import Pass, Schedule, layout, schedule

__all__ = ["Radix", "radix_kernel"]


def radix_kernel(
    graph: Graph, k: Kernel, name: str, dtype: str, device: Device = H100
) -> CudaKernel:
    """The text of a radix kernel of a plan."""
    chain = stages(graph, k.roots)
    assert chain is not None
    size, (held, entries, threads) = (
        ITEMSIZE[dtype],
        map(_log2, (k.tile.group, k.tile.out, k.tile.warps * 32)),
    )
    plan = schedule(chain, size, entries, held, threads)
    return Radix(graph, k, name, plan, size, device.shared).kernel()


def _log2(n: int) -> int:
    return n.bit_length() - 1


class Radix:
    """A schedule on a device, and its text."""

    def __init__(
        self, graph: Graph, k: Kernel, name: str, plan: Schedule, size: int, limit: int
    ) -> None:
        self.limit = limit
        self.graph, self.k, self.name, self.plan, self.size = graph, k, name, plan, size
        self.acc = 8 if size == 8 else 4
        chain = plan.chain
        self.length, self.n = chain.length, 1 << chain.length
        first = plan.passes[0]
        self.entries = len(first.registers) - plan.held
        bits, banks = chain.length + plan.rows, 5 if self.acc == 4 else 4
        self.layouts = [layout(a, b, bits, plan.held, banks) for a, b in pairwise(plan.passes)]
        self.place = {b: i for i, b in enumerate(reversed(chain.out))}
        for r in range(plan.rows):
            self.place[self.length + r] = self.length + r
        crossings = len(plan.passes) > 1
        self.tile_bytes = (self.acc << bits) if crossings else 0
        self.packed: dict[Stage, int] = {}  # stages whose values are packed: offset in numbers
        self.arrange()

    def arrange(self) -> None:
        """Shared memory: the crossing, packed values, a waiting tile where registers are full."""
        plan, bits = self.plan, self.length + self.plan.rows
        self.staged = self._registers(True) * plan.threads > 65536
        fits = self.tile_bytes + (self.size << bits) <= self.limit
        self.staged = self.staged and fits and self.size << plan.load >= 4
        fixed = self.tile_bytes + (self.size << bits if self.staged else 0)
        for limit in (self.limit // 2, self.limit):
            self.packed, self.spent = self._pack((limit - fixed - 1024) // self.acc)
            if len(self.packed) == len(self.used()):
                break
        self.values_at = self.tile_bytes // self.acc
        self.shared = fixed + self.spent * self.acc
        self.resident = self._resident()

    def _registers(self, waiting: bool) -> int:
        """Registers that a thread needs, roughly; ``waiting``: the next tile is among them."""
        here = 1 << self.entries + self.plan.held
        values = max((s.radix**2 for s in self.plan.chain.stages if s.w is not None), default=0)
        need = (here + values) * self.acc // 4 + (64 if values else 40)
        need += here * self.size // 4 if waiting else 0
        return min(-(-need // 8) * 8, 255)

    def _resident(self) -> int:
        """Blocks of a multiprocessor, by shared memory and by registers."""
        threads = self.plan.threads
        by_registers = 65536 // (threads * self._registers(not self.staged))
        by_memory = self.limit // (self.shared + 1024)
        return max(1, min(by_registers, by_memory, 2048 // threads, 8))

    # values ------------------------------------------------------------------------------------

    def used(self) -> list[Stage]:
        """Stages whose values the kernel reads."""
        return [s for s in self.plan.chain.stages if s.w is not None]

    def _owner(self, s: Stage) -> Pass:
        return next(p for p in self.plan.passes if s in p.stages)

    def _sets(self, s: Stage) -> tuple[list[int], list[int], list[int], list[int]]:
        """Register bits a stage mixes, looks at, leaves alone; thread bits that it looks at.

        Bits of a pass are named by their places in ``registers`` and ``threads``.
        """
        p = self._owner(s)
        at = dict(s.parallel)
        own = p.registers[: self.entries]
        mixed = [i for i, b in enumerate(own) if b in s.bits]
        looks = [i for i, b in enumerate(own) if at.get(b)]
        free = [i for i, b in enumerate(own) if b not in s.bits and not at.get(b)]
        lanes = [i for i, b in enumerate(p.threads) if at.get(b)]
        return mixed, looks, free, lanes

    def _count(self, s: Stage) -> int:
        _, looks, _, lanes = self._sets(s)
        return s.radix**2 << (len(looks) + len(lanes))

    def _pack(self, room: int) -> tuple[dict[Stage, int], int]:
        """Which stages' values are packed into ``room`` numbers, each at a multiple of 4."""
        at: dict[Stage, int] = {}
        spent = 0
        for s in self.used():
            count = -(-self._count(s) // 4) * 4
            if spent + count <= room:
                at[s] = spent
                spent += count
        return at, spent

    def _strides(self, s: Stage) -> tuple[list[int], list[int], list[int], list[int]]:
        """Strides of the values' offset: by column, by row, by looked-at register, by lane."""
        p = self._owner(s)
        mixed, looks, _, lanes = self._sets(s)
        at = dict(s.parallel)
        ins, outs = dict(zip(s.bits, s.ins, strict=True)), dict(zip(s.bits, s.outs, strict=True))
        return (
            [ins[p.registers[i]] for i in mixed],
            [outs[p.registers[i]] for i in mixed],
            [at[p.registers[i]] for i in looks],
            [at[p.threads[i]] for i in lanes],
        )

    # text --------------------------------------------------------------------------------------

    def kernel(self) -> CudaKernel:
        """The kernel."""
        plan, first, last = self.plan, self.plan.passes[0], self.plan.passes[-1]
        e = self.entries
        held_bits = range(e, e + plan.held)
        own = sorted(first.registers[:e])  # the order of memory, where the only pass has y's
        position = [1 << b for b in (*own, *first.registers[e:])]
        placed = [1 << self.place[b] for b in last.registers]
        row = [max(0, s >> self.length) for s in position]
        row_t = [(1 << b) >> self.length for b in first.threads]
        load, store = 1 << plan.load, 1 << plan.store
        words = self.size << plan.store
        moves = {
            "row_in": f"{linear('id', row_t)} + {linear('h', [row[i] for i in held_bits])}",
            "n": self.n,
            "held_in": linear("h", [position[i] for i in held_bits]),
            "chunk_in": linear("j", position[plan.load : e]),
            "threads": plan.threads,
        }
        loads = template.STAGED if self.staged else template.DIRECT
        text = template.KERNEL.substitute(
            loads=loads.substitute(moves),
            entry=linear("e", [1 << first.registers.index(b) for b in own]),
            doc="; ".join(str(self.graph.nodes[r]) for r in self.k.roots),
            threads=plan.threads,
            resident=self.resident,
            name=self.name,
            params=self._params(),
            entries=1 << e,
            held=1 << plan.held,
            tile=1 << plan.rows,
            load=load,
            store=store,
            load_words=(self.size << plan.load) // 4,
            store_words=words // 4,
            n=self.n,
            values=self._values() + self._waiting(),
            places=self._places(),
            packing=self._packing(),
            row_out=f"{linear('id', [(1 << b) >> self.length for b in last.threads])} + "
            + linear("h", [(1 << b) >> self.length for b in last.registers[e:]]),
            held_out=linear("h", [placed[i] for i in held_bits]),
            chunk_out=linear("j", placed[plan.store : e]),
            body=self._body(),
            writes=self._writes(),
        )
        text = "\n".join(line for line in text.splitlines() if line.strip())
        reads = (*(f"v{r}" for r in self.k.reads), *(f"w{w}" for w in self.k.weights))
        return CudaKernel(self.name, text, reads, plan.threads, self.shared, 1 << plan.rows)

    def _params(self) -> str:
        values = [f"const T* __restrict__ p{w}" for w in self.k.weights]
        return ", ".join(["const T* __restrict__ x", *values, "T* __restrict__ y"])

    def _values(self) -> str:
        return "\n".join(
            f"  ACC* const w{i} = lay + {self.values_at + at};"
            for i, at in enumerate(self.packed.values())
        )

    def _waiting(self) -> str:
        if not self.staged:
            return ""
        at = self.tile_bytes + self.spent * self.acc
        return f"\n  u32* const stage = (u32*)(shared + {at}) + threadIdx.x * LW;"

    def _places(self) -> str:
        """Where the thread is in each pass: in memory, in shared memory, among the values."""
        first, last = self.plan.passes[0], self.plan.passes[-1]
        out = linear("id", [1 << self.place[b] for b in last.threads])
        lines = [f"  const u32 in = {linear('id', [1 << b for b in first.threads])}, out = {out};"]
        if len(self.plan.passes) > 1:
            for i, (a, b) in enumerate(pairwise(self.plan.passes)):
                to, fro = ([self.layouts[i].columns[t] for t in p.threads] for p in (a, b))
                lines.append(f"  const u32 to{i} = {xored('id', to)}, at{i} = {xored('id', fro)};")
        for s in self.used():
            _, _, _, lanes = self._sets(s)
            name = f"k{self._number(s)}"
            by = [1 << i for i in range(len(lanes))] if s in self.packed else self._strides(s)[3]
            strides = [0] * len(self._owner(s).threads)
            for i, stride in zip(lanes, by, strict=True):
                strides[i] = stride
            lines.append(f"  const u32 {name} = {linear('id', strides)};")
        return "\n".join(lines)

    def _number(self, s: Stage) -> int:
        return self.plan.chain.stages.index(s)

    def _packing(self) -> str:
        """Loops that copy values, and a barrier."""
        out = []
        for i, s in enumerate(self.packed):
            columns, rows, looks, lanes = self._strides(s)
            square = [*columns, *rows]
            inner = square[:2]  # a vector of four, then threads, then the rest
            strides = [*inner, *lanes, *square[2:], *looks]
            out.append(
                template.PACK.substitute(
                    count=1 << len(strides),
                    threads=self.plan.threads,
                    number=i,
                    source=f"p{s.w}",
                    offset=linear("i", strides),
                )
            )
        return "".join(out) + ("  __syncthreads();" if out else "")

    def _body(self) -> str:
        plan = self.plan
        parts = []
        for i, p in enumerate(plan.passes):
            if i:
                parts.append(self._exchange(i))
            parts += [self._stage(s, p) for s in p.stages]
        return "".join(parts).rstrip("\n")

    def _exchange(self, i: int, back: bool = False) -> str:
        """From pass i - 1 to pass i, or back."""
        here, e = self.layouts[i - 1], self.entries
        fill: dict[str, object] = {}
        sides = [("put", "to", i - 1), ("get", "at", i)]
        for (name, place, number), role in zip(
            sides, ("get", "put") if back else ("put", "get"), strict=True
        ):
            p = self.plan.passes[number]
            own = p.registers[:e]
            wide = here.vector if getattr(here, name) else ()
            rest = [j for j, b in enumerate(own) if b not in wide]
            steps = [1 << own.index(b) for b in wide]
            entries = [
                sum(s for k, s in enumerate(steps) if q >> k & 1) for q in range(1 << len(wide))
            ]
            held = [here.columns[b] for b in p.registers[e:]]
            fill |= {
                role: 1 << len(wide),
                f"{role}_place": f"{place}{i - 1}",
                f"{role}_entry": linear("c", [1 << j for j in rest]),
                f"{role}_list": ", ".join(f"v[h][e + {t}]" for t in entries),
                f"{role}_at": xored("c", [here.columns[own[j]] for j in rest]),
                f"{role}_h": xored("h", held) if held else "0",
                f"{role}_bits": ", ".join(map(str, own)),
            }
        return template.EXCHANGE.substitute(fill, sync=self._sync())

    def _sync(self) -> str:
        team = self.plan.team
        if team <= 32:
            return "__syncwarp();"
        if team >= self.plan.threads:
            return "__syncthreads();"
        return f'asm volatile("bar.sync %0, {team};" ::"r"(1 + id / {team}) : "memory");'

    def _stage(self, s: Stage, p: Pass) -> str:
        doc = str(self.graph.nodes[s.node])
        if s.w is None and not s.bits:
            return template.SCALE.substitute(doc=doc, alpha=repr(s.alpha))
        mixed, looks, free, _ = self._sets(s)
        if s.w is None:
            bit = mixed[0]
            rest = [1 << i for i in range(self.entries) if i != bit]
            return template.SIGNS.substitute(doc=doc, index=linear("g", rest), bit=1 << bit)
        radix = s.radix
        spread = [1 << i for i in mixed]
        index = [linear("g", [1 << i for i in looks]), linear("f", [1 << i for i in free])]
        return template.PRODUCT.substitute(
            doc=doc,
            groups=1 << len(looks),
            free=1 << len(free),
            size=radix * radix,
            radix=radix,
            load=self._load(s),
            index=" + ".join(index),
            spread_k=linear("k", spread),
            spread_j=linear("j", spread),
        )

    def _load(self, s: Stage) -> str:
        """Entry i of the small matrix of group g."""
        radix, lanes = s.radix, self._sets(s)[3]
        columns, rows, look_strides, _ = self._strides(s)
        if s not in self.packed:
            entry = linear("i", [*columns, *rows])
            return f"value(p{s.w}[k{self._number(s)} + {linear('g', look_strides)} + {entry}])"
        many, number = 1 << len(lanes), list(self.packed).index(s)
        if radix == 1:
            return f"w{number}[g * {many} + k{self._number(s)}]"
        quads = radix * radix // 4
        return f"w{number}[((g * {quads} + i / 4) * {many} + k{self._number(s)}) * 4 + i % 4]"

    def _writes(self) -> str:
        store = 1 << self.plan.store
        at = f"v[h][j * {store}"
        if store == 1:
            one = "words[0] = pack({0}], 0)" if self.size == 2 else "write(words, 0, {0}])"
            return f"        {one.format(at)};"
        return "\n".join(
            f"        write(words, {i}, {at} + {i}], {at} + {i + 1}]);" for i in range(0, store, 2)
        )
