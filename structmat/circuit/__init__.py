"""Arithmetic circuits: every operator as a circuit, every circuit as an operator."""

from __future__ import annotations

from structmat.circuit.core import Circuit
from structmat.circuit.entry import circuit
from structmat.circuit.graph import Graph
from structmat.circuit.network import Benes, benes
from structmat.circuit.rings import Boolean, MaxPlus, Modular, Rational, Ring
from structmat.circuit.universal import Kaleidoscope, kaleidoscope

__all__ = [
    "Benes",
    "Boolean",
    "Circuit",
    "Graph",
    "Kaleidoscope",
    "MaxPlus",
    "Modular",
    "Rational",
    "Ring",
    "benes",
    "circuit",
    "kaleidoscope",
]
