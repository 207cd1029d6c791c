"""Template ``cluster``: both factors of a Monarch in one pass over x, on Hopper's clusters of CTAs.

    h[t, k, l] = sum over p of  right[k, l, p] x[t, k, p]
    y[t, l, s] = sum over k of  left[l, s, k] h[t, k, l]

A cluster of ``blocks / 8`` CTAs holds both factors in registers, walks tiles of 16 rows, and
passes h from CTA to CTA through distributed shared memory: device memory sees x and y once. x and y
may each lie block by block, (k, p) and (l, s), or interleaved, (p, k) and (s, l): a Monarch reads
blocks and writes interleaved, its transpose reads interleaved and writes blocks. Values may have
any strides, since they are loaded once.

The kernel is ``cluster.cu`` after ``hopper.cuh``, CUDA C++ without headers for NVRTC, with the
constants of a :class:`Config` in front.

Limits: ``blocks`` is 16, 32 or 64 (2, 4 or 8 CTAs; 16 CTAs are not portable), P and S are multiples
of 16, S of ``blocks`` where y is interleaved. A thread's share of the values must fit its registers
(P and S at most 64 at 64 blocks, 160 and 96 at 32, 352 and 128 at 16), and tiles shared memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Config", "Contraction", "reference", "served"]

ROWS = 16
"""Rows of a tile: the rows of an mma."""

SLOT = 2048
"""Bytes that one CTA sends another of a tile: 16 rows, 8 outputs, 8 blocks."""

SHARED_OF_SM = 233472
"""Bytes of shared memory of a multiprocessor (sm_90); a CTA takes 1024 more than it asks for."""

ELEMENTS = {"bfloat16": "bf16", "float16": "f16"}


@dataclass(frozen=True)
class Config:
    """Everything that the kernel is compiled for, and how to launch it.

    Launch ``name(x, w1, w2, y, rows)`` with ``clusters(rows, fit)`` clusters of ``cluster`` CTAs of
    ``threads`` threads and ``shared`` bytes of dynamic shared memory. x, y are contiguous rows at
    addresses divisible by 16, w1 and w2 at addresses divisible by 4; rows is at least 1.

    Attributes:
        element: ``bf16`` or ``f16``, as PTX writes it.
        blocks: k and l.
        reduced: P, what the first factor reduces.
        out: S, what the second factor makes.
        x_interleaved: x is (p, k), not (k, p).
        y_interleaved: y is (s, l), not (l, s).
        right: strides of the first factor's block k, output l and reduced p, in elements.
        left: strides of the second factor's block l, output s and reduced k.
        warps: warps of each of the two stages: 2 or 4.
        stages: depth of the rings of x, of h, of y.
        resident: CTAs a multiprocessor that registers must allow.
        registers: of a thread of the stages, and of the warps that load and store.
        stream: x and y are not kept in caches.
        scope: of arrivals at other CTAs' barriers, ``cta`` or ``cluster``; see ``hopper.cuh``.
        name: of the kernel.

    Example:
        >>> from structmat.kernels.cluster import Config
        >>> c = Config("bf16", 64, 64, 64, False, True, (4096, 64, 1), (4096, 64, 1))
        >>> c.cluster, c.threads, c.clusters(rows=100, fit=16)
        (8, 384, 7)
    """

    element: str
    blocks: int
    reduced: int
    out: int
    x_interleaved: bool
    y_interleaved: bool
    right: tuple[int, int, int]
    left: tuple[int, int, int]
    warps: int = 4
    stages: tuple[int, int, int] = (3, 2, 2)
    resident: int = 1
    registers: tuple[int, int] = (216, 72)
    stream: bool = False
    scope: str = "cta"
    name: str = "cluster"

    @property
    def cluster(self) -> int:
        """CTAs of a cluster."""
        return self.blocks // 8

    @property
    def threads(self) -> int:
        """Threads of a CTA: the two stages, two warps that load, two that store."""
        return 32 * (2 * self.warps + 4)

    @property
    def shared(self) -> int:
        """Bytes of dynamic shared memory of a CTA."""
        if self.x_interleaved:
            x = 4 * (ROWS * (4 * self.reduced + 32) + 32)
        else:
            x = ROWS * (16 * self.reduced + 16)
        h = 2 * self.cluster * SLOT
        if self.y_interleaved:
            y = 2 * self.cluster * (self.out // self.blocks) * SLOT
        else:
            y = ROWS * (16 * self.out + 16)
        rings = sum(n * size for n, size in zip(self.stages, (x, h, y), strict=True))
        return rings + 16 * sum(self.stages) + 128

    @property
    def values(self) -> int:
        """Registers of a thread that hold values and sums, in the larger of the two stages."""
        owned = 8 // self.warps
        first = self.cluster * (self.reduced // 8 + 4)
        second = self.out // 8 * (self.blocks // 8 + 4)
        return owned * max(first, second)

    def clusters(self, rows: int, fit: int) -> int:
        """Clusters to launch: no more than tiles, no more than run at the same time.

        Args:
            rows: of x.
            fit: clusters that are resident together, as the driver tells
                (``cuOccupancyMaxActiveClusters``). Correct for any; more would queue.
        """
        return max(1, min(-(-rows // ROWS), fit))

    @property
    def constants(self) -> dict[str, int | str]:
        """The macros that ``cluster.cu`` is written in."""
        return {
            "NAME": self.name,
            "ELEMENT": self.element,
            "BLOCKS": self.blocks,
            "P": self.reduced,
            "S": self.out,
            "X_INTERLEAVED": int(self.x_interleaved),
            "Y_INTERLEAVED": int(self.y_interleaved),
            **_strides("W1", self.right),
            **_strides("W2", self.left),
            "WARPS": self.warps,
            "X_STAGES": self.stages[0],
            "H_STAGES": self.stages[1],
            "Y_STAGES": self.stages[2],
            "RESIDENT": self.resident,
            "STAGE_REGISTERS": self.registers[0],
            "HELPER_REGISTERS": self.registers[1],
            "STREAM": int(self.stream),
            "REMOTE": self.scope,
            "SHARED_BYTES": self.shared,
        }

    def source(self) -> str:
        """CUDA C++ for NVRTC (``sm_90a``, C++17), on its own or beside other kernels."""
        defines = "".join(f"#define {name} {value}\n" for name, value in self.constants.items())
        undefines = "".join(f"#undef {name}\n" for name in self.constants)
        here = Path(__file__)
        text = "\n".join(here.with_name(name).read_text() for name in ("hopper.cuh", "cluster.cu"))
        return f"{defines}\nnamespace of_{self.name} {{\n\n{text}\n}}  // namespace\n\n{undefines}"


def _strides(name: str, strides: tuple[int, int, int]) -> dict[str, int]:
    return {
        f"{name}_{what}": n for what, n in zip(("BLOCK", "OUT", "REDUCE"), strides, strict=True)
    }


class Contraction(Protocol):
    """What is read of a contraction: sizes of digits, and those of x, w and y, slowest first."""

    @property
    def sizes(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def x(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def w(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def y(self) -> tuple[int, ...]: ...  # noqa: D102


@dataclass(frozen=True)
class _Blocks:
    """A contraction with one parallel, one reduced and one out digit."""

    parallel: int
    reduced: int
    out: int

    @classmethod
    def of(cls, spec: Contraction) -> _Blocks | None:
        if len(spec.x) != 2 or len(spec.y) != 2:
            return None
        parallel = [d for d in spec.x if d in spec.y]
        if len(parallel) != 1 or not set(spec.w) <= {*spec.x, *spec.y}:
            return None
        (reduced,) = (d for d in spec.x if d not in parallel)
        (out,) = (d for d in spec.y if d not in parallel)
        return cls(parallel[0], reduced, out)

    def strides(self, spec: Contraction) -> tuple[int, int, int]:
        """Of the block, the output and the reduced digit in the values; 0 where shared."""
        stride, found = 1, {}
        for d in reversed(spec.w):
            found[d] = stride
            stride *= spec.sizes[d]
        return tuple(found.get(d, 0) for d in (self.parallel, self.out, self.reduced))  # type: ignore[return-value]


def served(first: Contraction, second: Contraction, dtype: str) -> tuple[Config | None, str]:
    """Whether two contractions, the second reading the first's result, run as this kernel.

    Args:
        first: reads x.
        second: reads what ``first`` makes, spelled by digits of its own.
        dtype: of x, values and y, as torch names it.

    Returns:
        The configuration and "", or None and the reason.

    Example:
        >>> from structmat.lowering.ir import Einsum
        >>> right = Einsum((32, 32, 32), x=(0, 2), w=(0, 1, 2), y=(0, 1))
        >>> left = Einsum((32, 32, 32), x=(2, 0), w=(0, 1, 2), y=(1, 0))
        >>> config, _ = served(right, left, "bfloat16")
        >>> config.blocks, config.x_interleaved, config.y_interleaved
        (32, False, True)
        >>> served(right, right, "bfloat16")
        (None, 'the second factor does not reduce over the blocks of the first')
    """
    if dtype not in ELEMENTS:
        return None, f"{dtype}: tensor cores multiply 16-bit elements here"
    one, two = _Blocks.of(first), _Blocks.of(second)
    if one is None or two is None:
        return None, "a factor is not one block-diagonal with interleaving: x[k p] w[..] -> [k q]"
    middle = tuple(first.sizes[d] for d in first.y), tuple(second.sizes[d] for d in second.x)
    if middle[0] != middle[1]:
        return None, f"the middle is {middle[0]} for the first factor, {middle[1]} for the second"
    if first.y.index(one.parallel) != second.x.index(two.reduced):
        return None, "the second factor does not reduce over the blocks of the first"
    blocks, reduced, out = (
        second.sizes[two.parallel],
        first.sizes[one.reduced],
        second.sizes[two.out],
    )
    if first.sizes[one.parallel] != blocks:
        return None, f"{first.sizes[one.parallel]} blocks meet {blocks}: they must be as many"
    if blocks not in (16, 32, 64):
        return None, f"{blocks} blocks: a cluster serves 16, 32 or 64"
    if reduced % 16 or out % 16:
        return None, f"blocks reduce {reduced} and make {out}: both must be multiples of 16"
    interleaved = second.y[0] == two.out
    if interleaved and out % blocks:
        return None, f"{out} interleaved outputs of {blocks} blocks: CTAs cannot share them evenly"
    reason = f"blocks of {reduced} and {out}: too many values for a thread's registers"
    for warps, resident, registers, most in _SHAPES:
        for x_stages in (3, 2):  # a fourth gains nothing (docs/performance/monarch.md)
            config = Config(
                ELEMENTS[dtype],
                blocks,
                reduced,
                out,
                first.x[0] == one.reduced,
                interleaved,
                one.strides(first),
                two.strides(second),
                warps,
                (x_stages, 2, 2),
                resident,
                registers if interleaved else _NO_STORERS.get(registers, registers),
            )
            if config.values > most:
                break
            if config.shared <= SHARED_OF_SM // resident - 1024:
                return config, ""
            reason = f"blocks of {reduced} and {out}: tiles do not fit shared memory"
    return None, reason


_SHAPES = ((2, 2, (168, 88), 128), (4, 1, (0, 0), 136), (4, 1, (216, 72), 192))
"""Warps a stage, CTAs a multiprocessor, registers a thread, most of them for values and sums.

Registers move between warpgroups (setmaxnreg), and sum up to what the CTA was launched with.
"""

_NO_STORERS = {(216, 72): (224, 56)}
"""Where nothing but x is loaded by the other warps, they need fewer."""


def reference(
    x: Tensor,
    right: Tensor,
    left: Tensor,
    x_interleaved: bool = False,
    y_interleaved: bool = True,
) -> Tensor:
    """What the kernel computes, h rounded to x's dtype as it is on the way.

    Args:
        x: (t, k p), spelled (p, k) where ``x_interleaved``.
        right: (k, l, p).
        left: (l, s, k).
        x_interleaved: whether the block is x's fast digit.
        y_interleaved: whether the block is y's fast digit.

    Returns:
        (t, l s), spelled (s, l) where ``y_interleaved``.
    """
    (k, l, p), s = right.shape, left.shape[1]
    t = x.shape[0]
    xs = x.reshape(t, p, k).mT if x_interleaved else x.reshape(t, k, p)
    h = torch.einsum("klp,tkp->tkl", right.float(), xs.float()).to(x.dtype)
    spelled = "lsk,tkl->tsl" if y_interleaved else "lsk,tkl->tls"
    return torch.einsum(spelled, left.float(), h.float()).to(x.dtype).reshape(t, s * l)
