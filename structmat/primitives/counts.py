"""Operation counts of fast Fourier transforms.

Radix 2 on n = 2^L complex numbers: n L sums, and one product for each twiddle factor other than 1
and -i, which are n L / 2 - 3 n / 2 + 2. A complex product is 4 real products and 2 sums. Real input
needs half the real operations. For other n the formulas are evaluated with L = log2 n and rounded
up: what a mixed-radix transform costs, nearly, for smooth n.

Split radix needs 4 n L - 6 n + 8 real operations instead of 5 n L - 9 n + 12, and libraries lie
between (Johnson and Frigo, A modified split-radix FFT, 2007).
"""

from __future__ import annotations

import math

__all__ = ["fft_operations"]


def fft_operations(n: int, complex_: bool) -> tuple[int, int]:
    """(products, sums) of one transform of length n, in complex or in real numbers.

    Args:
        n: length.
        complex_: complex input, counted in complex operations; otherwise real input and real
            operations.

    Example:
        >>> from structmat.primitives.counts import fft_operations
        >>> fft_operations(8, True), fft_operations(8, False)
        ((2, 24), (4, 26))
    """
    if n <= 1:
        return 0, 0
    stages = math.log2(n)
    mults = max(math.ceil(n * stages / 2 - 3 * n / 2 + 2), 0)
    adds = math.ceil(n * stages)
    return (mults, adds) if complex_ else (2 * mults, mults + adds)
