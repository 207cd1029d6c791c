"""About how long the methods of a Toeplitz matrix take, where several serve.

Operations alone do not tell: Levinson's recursion has n steps one after the other, each a few calls
of a library, and an operation of LAPACK takes a tenth of the time of one in such a step. On a CPU
the constants are fits to times of one thread (docs/performance/algebra.md); what matters is where
the methods cross. On other devices they are counts of calls, at 8 us a call, and nothing there was
measured, so that what is dense is not chosen by them.

All functions return seconds for a batch of ``many`` n x n matrices with k columns each.
"""

from __future__ import annotations

import math

__all__ = [
    "dense_time",
    "elimination_time",
    "ends_time",
    "fourier_time",
    "levinson_time",
    "recursion_time",
    "scipy_time",
]

LAUNCH = 8e-6


def scipy_time(n: int, k: int, many: int) -> float:
    """SciPy's recursion, anew for every column and every matrix."""
    return many * k * (18e-6 + 1.4e-9 * n * n)


def recursion_time(n: int, k: int, many: int, cpu: bool) -> float:
    """:func:`structmat.linalg.levinson.recursion`."""
    if not cpu:
        return n * (14 + (8 if k else 0)) * LAUNCH
    return 0.3e-3 + n * (16e-6 if k else 9e-6) + many * n * n * (2 + k) * 1e-9


def levinson_time(n: int, k: int, many: int, cpu: bool) -> float:
    """The faster of the two."""
    grown = recursion_time(n, k, many, cpu)
    return min(grown, scipy_time(n, k, many)) if cpu else grown


def ends_time(n: int, many: int, cpu: bool) -> float:
    """The first and the last column of the inverse."""
    grown = recursion_time(n, 0, many, cpu)
    return min(grown, scipy_time(n, 2, many)) if cpu else grown


def elimination_time(n: int, k: int, many: int, cpu: bool) -> float:
    """:func:`structmat.linalg.gko.gko`, in complex numbers."""
    if not cpu:
        return n * 45 * LAUNCH
    alone = many == 1
    return 0.3e-3 + n * (20e-6 if alone else 110e-6) + many * n * n * (60 + 10 * k) * 1e-9


def fourier_time(n: int, k: int, many: int, cpu: bool) -> float:
    """One product with a Toeplitz matrix."""
    if not cpu:
        return 8 * LAUNCH
    return 0.15e-3 + many * k * 2 * n * math.log2(max(2 * n, 2)) * 1.5e-9


def dense_time(n: int, k: int, many: int) -> float:
    """LU of the dense matrix, on a CPU."""
    return 0.1e-3 + many * (1e-6 + n * n * (5 + k) * 1e-9 + 0.025e-9 * n**3)
