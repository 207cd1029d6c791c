"""The self-test of ``structmat doctor``: small expressions, forward and backward, against dense."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import structmat as sm

__all__ = ["CUDA_EXPRESSIONS", "EXPRESSIONS", "TOLERANCE", "Result", "run"]

EXPRESSIONS = (
    "Monarch(64, nblocks=8) @ Diagonal(64)",
    "kron(Dense(6), Dense(8)) @ Permutation(48) + LowRank(48, rank=3)",
    "Butterfly(32) @ bit_reversal(32)",
)
"""Two block factors; tables, joins and a sum; many short contractions."""

CUDA_EXPRESSIONS = (
    "Hadamard(64)",
    "Hadamard(32) @ bit_reversal(32)",
    "kron(Hadamard(8), Hadamard(16))",
)
"""What CUDA C++ alone serves, forward and backward; ``"auto"`` joins it with Triton."""

TOLERANCE = 1e-5
"""Relative, Frobenius, in float32: some hundred roundings of 6e-8."""

ROWS = 5


@dataclass(frozen=True)
class Result:
    """One expression on one backend.

    Attributes:
        backend: of the compiler.
        device: where it ran.
        expression: as text.
        seconds: for compilation, a forward and a backward pass.
        error: the largest relative error of y and of the gradients for x and each tensor; None
            where it did not run.
        message: what was raised, in a line.
    """

    backend: str
    device: str
    expression: str
    seconds: float
    error: float | None
    message: str

    @property
    def ok(self) -> bool:
        """Whether it ran and is right."""
        return self.error is not None and self.error <= TOLERANCE


def run(backend: str, device: str) -> Iterator[Result]:
    """Compile each expression, run it forward and backward, and compare with the dense matrix."""
    for text in CUDA_EXPRESSIONS if backend == "cuda" else EXPRESSIONS:
        start = time.perf_counter()
        error, message = None, ""
        try:
            error = _error(text, backend, device)
        except Exception as found:  # whatever is broken on this machine is the finding
            message = f"{type(found).__name__}: {found}".splitlines()[0]
        yield Result(backend, device, text, time.perf_counter() - start, error, message)


def _error(text: str, backend: str, device: str) -> float:
    """The largest relative error of the result and of each gradient."""
    operator = sm.sized.parse(text, dtype=torch.float32).to(device)
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(ROWS, n, generator=generator).to(device) for n in operator.shape[::-1])
    tensors = [x, *operator.parameters()]
    for t in tensors:
        t.requires_grad_()
    y = sm.compile(operator, backend=backend)(x)
    got = [y, *torch.autograd.grad(y, tensors, g)]
    wide = x.double() @ operator.to(torch.float64).to_dense().mT
    want = [wide, *torch.autograd.grad(wide, tensors, g.double())]
    return max(_distance(a, b) for a, b in zip(got, want, strict=True))


def _distance(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())
