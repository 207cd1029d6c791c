"""Writes the tables of counts into circuits.md, between the marks of the page."""

from pathlib import Path

import structmat as sm
from structmat.circuit.fourier import algorithms

SIZES = [2**k for k in range(2, 11)]


def measures() -> str:
    """Every measure of a few circuits of 16 inputs."""
    shown = {
        "Dense(16)": sm.sized.Dense(16),
        "Monarch(16, nblocks=4)": sm.sized.Monarch(16, nblocks=4),
        "Butterfly(16)": sm.sized.Butterfly(16),
        "Hadamard(16)": sm.Hadamard(16),
        "Haar(16)": sm.Haar(16),
        "DFT(16)": sm.DFT(16),
        "DCT(16)": sm.DCT(16),
    }
    names = ("size", "wires", "depth", "width", "adds", "mults")
    lines = [f"| operator | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    for name, op in shown.items():
        c = sm.circuit(op)
        lines.append(f"| `{name}` | {' | '.join(str(getattr(c, k)) for k in names)} |")
    return "\n".join(lines) + "\n"


def flops(n: int, fft: str) -> int:
    """Real additions and multiplications of the transform of n complex numbers."""
    c = sm.circuit(sm.DFT(n), fft=fft).as_real()
    return c.adds + c.mults


def transforms() -> str:
    """Counted flops of Fourier transforms beside the closed forms."""
    closed = {"$4nL - 6n + 8$": (4, -6, 8), "$5nL - 10n + 16$": (5, -10, 16)}
    heads = [*(f"`{name}`" for name in algorithms), *closed]
    lines = [f"| n | {' | '.join(heads)} |", "|--:|" + "--:|" * len(heads)]
    for n in SIZES:
        k = n.bit_length() - 1
        found = [flops(n, name) for name in algorithms]
        found += [a * n * k + b * n + c for a, b, c in closed.values()]
        lines.append(f"| {n} | {' | '.join(map(str, found))} |")
    return "\n".join(lines) + "\n"


TABLES = {"measures": measures, "transforms": transforms}


def main() -> None:
    """Replace what stands between the marks."""
    page = Path(__file__).with_name("circuits.md")
    text = page.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n\n{table()}\n{end}{after}"
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
