"""Convolutions: sums and products of one kind, and circular ones beside circulants.

A convolution is a polynomial in the shift, with the kernel for coefficients: kernels add, and the
product of two convolutions has the full convolution of the kernels for its kernel. Circular
convolutions of a signal are circulants whose first column may be short. Source: Golub and Van Loan,
Matrix computations, section 4.8.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from structmat.compose import Product, Sum
from structmat.leaves.convolution import Convolution
from structmat.leaves.toeplitz import Circulant
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import add
from structmat.rules.table import rule

SOURCE = "Golub and Van Loan, Matrix computations, section 4.8"


def _support(a: Convolution) -> list[int]:
    return list(a.kernel.shape[-len(a.n) :])


def _to(kernel: Tensor, sizes: list[int]) -> Tensor:
    """The kernel with zeros behind it on each axis."""
    axes = len(sizes)
    pads = [s - k for s, k in zip(sizes, kernel.shape[-axes:], strict=True)]
    return F.pad(kernel, [n for pad in reversed(pads) for n in (0, pad)]) if any(pads) else kernel


@rule(
    Convolution,
    Convolution,
    inside=Sum,
    example=lambda g: Convolution(ex.ints(g, 2), 4) + Convolution(ex.ints(g, 3), 4),
)
def convolution_plus_convolution(a: Convolution, b: Convolution) -> LinearOperator | None:
    """Convolutions of one kind add: their kernels do, the shorter with zeros behind it."""
    if a.static != b.static or (a.mode == "same" and _support(a) != _support(b)):
        return None
    sizes = list(map(max, _support(a), _support(b)))
    kernel = add(_to(a.kernel, sizes), _to(b.kernel, sizes))
    return a._replace({"kernel": kernel}, (), a.static)


@rule(
    Convolution,
    Convolution,
    inside=Product,
    source=SOURCE,
    exact=False,
    example=lambda g: Convolution(ex.ints(g, 2), 6) @ Convolution(ex.ints(g, 3), 6),
)
def convolution_times_convolution(a: Convolution, b: Convolution) -> LinearOperator | None:
    """The product of causal, circular or full convolutions of a signal convolves their kernels."""
    if len(a.n) != 1 or a.mode != b.mode or a.mode == "same" or a.transposed != b.transposed:
        return None
    t = b.kernel.shape[-1]
    kernel = Convolution(a.kernel, t, mode="full")(b.kernel)
    if a.mode == "causal":  # what lies behind the signal is never met
        kernel = kernel[..., : max(a.n[0], 1)]
    inner = a if a.transposed else b
    return inner._replace({"kernel": kernel}, (), inner.static)


def _circles(a: Convolution, b: Circulant) -> bool:
    return a.mode == "circular" and len(a.n) == 1 and b.f == 1


@rule(
    Convolution,
    Circulant,
    inside=Product,
    source=SOURCE,
    exact=False,
    example=lambda g: Convolution(ex.ints(g, 2), 4, "circular") @ Circulant(ex.ints(g, 4)),
)
def circular_times_circulant(a: Convolution, b: Circulant) -> LinearOperator | None:
    """A circular convolution times Circulant(c) is the circulant of the convolved c."""
    return Circulant(a(b.c)) if _circles(a, b) else None


@rule(
    Circulant,
    Convolution,
    inside=Product,
    source=SOURCE,
    exact=False,
    example=lambda g: Circulant(ex.ints(g, 4)) @ Convolution(ex.ints(g, 2), 4, "circular"),
)
def circulant_times_circular(a: Circulant, b: Convolution) -> LinearOperator | None:
    """Circulant(c) times a circular convolution, which commute."""
    return circular_times_circulant(b, a)


@rule(
    Convolution,
    Circulant,
    inside=Sum,
    source=SOURCE,
    example=lambda g: Convolution(ex.ints(g, 2), 4, "circular") + Circulant(ex.ints(g, 4)),
)
def circular_plus_circulant(a: Convolution, b: Circulant) -> LinearOperator | None:
    """A circular convolution with a kernel no longer than the signal adds to a circulant."""
    n = b.c.shape[-1]
    if not _circles(a, b) or a.transposed or a.kernel.shape[-1] > n:
        return None
    return Circulant(add(_to(a.kernel, [n]), b.c))
