"""Draws the pictures of circuits.md into images/."""

from pathlib import Path

import matplotlib as mpl

import structmat as sm

mpl.rcParams["svg.hashsalt"] = "structmat"  # the same file every time
mpl.rcParams["svg.fonttype"] = "none"  # text stays text
PICTURES = {
    "circuit_hadamard": sm.circuit(sm.Hadamard(16)),
    "circuit_dft": sm.circuit(sm.DFT(16)),
    "circuit_haar": sm.circuit(sm.Haar(8)),
}

if __name__ == "__main__":
    images = Path(__file__).with_name("images")
    for name, c in PICTURES.items():
        c.plot().savefig(images / f"{name}.svg", metadata={"Date": None})
    PICTURES["circuit_dft"].spy().savefig(images / "circuit_layers.png")
