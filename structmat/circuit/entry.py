"""The name ``sm.circuit``: the function, and the package of the same name.

``structmat.circuit`` must be callable on an operator, and ``structmat.circuit.Circuit`` must be
found in it. A function that looks its attributes up in the package is both.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

from structmat.circuit.core import Circuit
from structmat.circuit.fourier import Algorithm
from structmat.circuit.words import circuit as _circuit
from structmat.operator import LinearOperator

__all__ = ["circuit"]


class _Entry:
    """:func:`structmat.circuit.words.circuit`, with the names of the package as attributes."""

    def __init__(self) -> None:
        functools.update_wrapper(self, _circuit)

    def __call__(self, A: LinearOperator, *, fft: Algorithm = "split-radix") -> Circuit:
        """See :func:`structmat.circuit.words.circuit`."""
        return _circuit(A, fft=fft)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        package = importlib.import_module("structmat.circuit")
        if hasattr(package, name):
            return getattr(package, name)
        try:
            return importlib.import_module(f"structmat.circuit.{name}")
        except ModuleNotFoundError:
            raise AttributeError(f"module 'structmat.circuit' has no attribute {name!r}") from None

    def __repr__(self) -> str:
        return "<function structmat.circuit>"


circuit = _Entry()
