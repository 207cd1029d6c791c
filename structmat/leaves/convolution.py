"""Convolution of a signal of n samples, or of an h x w image, with a kernel.

    full      y[i] = sum_j k[i - j] x[j],  0 <= i < n + size - 1
    same      the n middle entries of full, from (size - 1) // 2 on (``scipy.signal.convolve``)
    causal    the first n entries of full
    circular  y[i] = sum_j k[(i - j) mod n] x[j], a longer kernel wraps around

On two axes each index is a pair. Every mode is one circular convolution of a fast length on each
axis: the kernel is shifted by the first entry kept, and the length leaves room for what would wrap.
Cost: two (two-dimensional) Fourier transforms and one product by the spectrum.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from structmat.builder import Builder
from structmat.leaves.toeplitz import fast_length
from structmat.operator import LinearOperator, as_tensor
from structmat.primitives import Circular

__all__ = ["Convolution"]

MODES = ("causal", "circular", "full", "same")


class Convolution(LinearOperator):
    """Convolution with a kernel, as a matrix; images are flattened row by row.

    Args:
        kernel: (..., size) for signals, (..., kh, kw) for images.
        n: number of samples, or (h, w); the number of axes follows n.
        mode: ``"causal"``, ``"circular"``, ``"full"`` or ``"same"``.

    Raises:
        TypeError: integer kernel.
        ValueError: a size is not a non-negative integer, an unknown mode, an empty kernel.

    Cost: two Fourier transforms of length >= n + size - 1 per vector (n for a circular one whose n
    has small prime factors). Source: ``scipy.signal.convolve``.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Convolution(torch.tensor([1.0, 2.0]), 3)
        >>> A.to_dense()
        tensor([[1., 0., 0.],
                [2., 1., 0.],
                [0., 2., 1.]])
        >>> sm.Convolution(torch.ones(3, 3), (5, 4), mode="full").shape
        (42, 20)
    """

    fields = ("kernel",)
    kernel: Tensor
    n: tuple[int, ...]
    mode: str
    transposed: bool

    def __init__(self, kernel: Any, n: int | tuple[int, int], mode: str = "causal") -> None:
        sizes = (n,) if isinstance(n, int) else tuple(n)
        whole = all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in sizes)
        if not whole or len(sizes) not in (1, 2):
            raise ValueError(
                f"Convolution: n = {n!r} must be a non-negative integer or a pair (h, w) of them"
            )
        if mode not in MODES:
            raise ValueError(f"Convolution: mode {mode!r} is none of {', '.join(MODES)}")
        static = {"n": sizes, "mode": mode, "transposed": False}
        self._init({"kernel": as_tensor(kernel, "Convolution: kernel", len(sizes))}, static=static)
        self._check()

    def _check(self) -> None:
        if 0 in self._support:
            raise ValueError(
                f"Convolution: the kernel of shape {tuple(self.kernel.shape)} is empty; "
                "a zero convolution is Zero(m, n)"
            )

    @property
    def event_dims(self) -> dict[str, int]:  # type: ignore[override]
        """The kernel has as many axes as the signal."""
        return {"kernel": len(self.n)}

    @property
    def _support(self) -> tuple[int, ...]:
        return tuple(self.kernel.shape[-len(self.n) :])

    def _outputs(self) -> tuple[int, ...]:
        if self.mode == "full":
            return tuple(n + s - 1 if n else 0 for n, s in zip(self.n, self._support, strict=True))
        return self.n

    def _shape(self) -> tuple[int, int]:
        m, n = math.prod(self._outputs()), math.prod(self.n)
        return (n, m) if self.transposed else (m, n)

    def _lower(self, g: Builder, x: Any) -> Any:
        m, n = self.shape
        if m == 0 or n == 0:
            return g.zeros(x, m)
        w, lengths = self.kernel, []
        for axis, size in enumerate(self.n):
            at = axis - len(self.n)
            w = (_wrapped if self.mode == "circular" else self._shifted)(w, at, size)
            lengths.append(w.shape[at])
        op = Circular(tuple(lengths), self.n, self._outputs())
        return g.apply(x, op.transposed() if self.transposed else op, w)

    def _shifted(self, w: Tensor, axis: int, n: int) -> Tensor:
        """The kernel on a circle that holds inputs, outputs and kernel, first output at 0."""
        size = w.shape[axis]
        first = (size - 1) // 2 if self.mode == "same" else 0
        outs = n + size - 1 if self.mode == "full" else n
        if self.mode == "causal" and size > n:
            w, size = w.narrow(axis, 0, n), n
        length = fast_length(max(outs + first, n - 1 - first + size))
        return _padded(w, axis, length).roll(-first, axis)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        kernel, outs = self.kernel.to(dtype), self._outputs()
        axes = len(self.n)
        at: list[Tensor] = []
        there = torch.ones((), dtype=torch.bool, device=device)
        for axis, (m, n, s) in enumerate(zip(outs, self.n, self._support, strict=True)):
            i = torch.arange(m, device=device)[:, None]
            lag = i + ((s - 1) // 2 if self.mode == "same" else 0) - torch.arange(n, device=device)
            if self.mode == "circular" and n:
                kernel, s = _folded(kernel, axis - axes, n), n
                lag = lag % n
            shape = [1] * (2 * axes)
            shape[axis], shape[axes + axis] = m, n
            lag = lag.reshape(shape)
            at.append(lag.clamp(0, s - 1))
            there = there & (lag >= 0) & (lag < s)
        where: tuple[Any, ...] = (..., *at)
        dense = kernel[where] * there
        dense = dense.reshape(*dense.shape[: -2 * axes], math.prod(outs), math.prod(self.n))
        return dense.mT if self.transposed else dense

    def _transpose(self) -> LinearOperator:
        static = {**self.static, "transposed": not self.transposed}
        return self._replace(self.tensors, (), static)

    def _label(self) -> str:
        size = "x".join(map(str, self._support))
        n = "x".join(map(str, self.n))
        name = f"Convolution({size} on {n}, {self.mode})"
        return f"{name}.T" if self.transposed else name


def _padded(w: Tensor, axis: int, length: int) -> Tensor:
    pad = [0, 0] * w.ndim
    pad[2 * (-axis) - 1] = length - w.shape[axis]
    return F.pad(w, pad)


def _wrapped(w: Tensor, axis: int, n: int) -> Tensor:
    """The kernel modulo n, repeated where n is no fast length."""
    size = w.shape[axis]
    rounds = -(-size // n)
    w = _padded(w, axis, rounds * n).unflatten(axis, (rounds, n)).sum(axis - 1)
    if n == fast_length(n):
        return w
    length = fast_length(2 * n - 1)
    tail = w.narrow(axis, 1, n - 1)
    shape = list(w.shape)
    shape[axis] = length - (2 * n - 1)
    return torch.cat([w, w.new_zeros(shape), tail], axis)


def _folded(kernel: Tensor, axis: int, n: int) -> Tensor:
    """The kernel with what lies n, 2 n, ... further added to its first n entries."""
    kernel = kernel.movedim(axis, -1)
    kernel = F.pad(kernel, (0, -kernel.shape[-1] % n))
    folded: Tensor = kernel.unflatten(-1, (-1, n)).sum(-2)
    return folded.movedim(-1, axis)
