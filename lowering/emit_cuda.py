"""emit (CUDA C++): what the texts of kernels for NVRTC share.

An index that is linear in the bits of a number is written as shifts and masks, one term for each
run of bits that stay neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CudaKernel", "linear", "xored"]


@dataclass(frozen=True)
class CudaKernel:
    """A kernel as text, and how it is launched.

    Attributes:
        name: of the function.
        text: its definition.
        reads: values of the graph, then values tensors: the parameters before the result.
        threads: of a block.
        shared: bytes of dynamic shared memory.
        rows: rows of a tile; blocks walk over tiles.
        cluster: blocks of a cluster.
        alone: the text is a whole source; others share one, after the prelude.
    """

    name: str
    text: str
    reads: tuple[str, ...]
    threads: int
    shared: int
    rows: int
    cluster: int = 1
    alone: bool = False

    def launch(self, part: str) -> str:
        """The first arguments of a launch: the source's name, the kernel's, its configuration."""
        sizes = f"{self.threads}, {self.shared}, {self.cluster}, {self.rows}"
        return f'"{part}", "{self.name}", {sizes}, T'


def linear(name: str, strides: Sequence[int]) -> str:
    """Sum over bits i of ``name`` of bit i * strides[i], as text.

    Example:
        >>> from structmat.lowering.emit_cuda import linear
        >>> linear("id", [1, 2, 4, 64, 0, 1])
        '((id & 7) + (id >> 3 & 1) * 64 + (id >> 5 & 1))'
    """
    terms = []
    i = 0
    while i < len(strides):
        if strides[i] == 0:
            i += 1
            continue
        j = i + 1
        while j < len(strides) and strides[j] == 2 * strides[j - 1]:
            j += 1
        digit = f"{name} >> {i} & {(1 << (j - i)) - 1}" if i else f"{name} & {(1 << (j - i)) - 1}"
        terms.append(f"({digit})" + (f" * {strides[i]}" if strides[i] != 1 else ""))
        i = j
    return "0" if not terms else terms[0] if len(terms) == 1 else f"({' + '.join(terms)})"


def xored(name: str, columns: Sequence[int]) -> str:
    """Exclusive or over bits i of ``name`` of bit i * columns[i]: a linear map over GF(2)."""
    plain = [c & ~31 for c in columns]
    low = [c & 31 for c in columns]
    text = linear(name, plain)
    for b in range(5):
        bits = [i for i, c in enumerate(low) if c >> b & 1]
        if bits:
            flips = " ^ ".join(f"{name} >> {i}" if i else name for i in bits)
            text += f" ^ (({flips}) & 1) << {b}" if b else f" ^ (({flips}) & 1)"
    return f"({text})"
