"""Composition: expressions of operators, lazy; nothing is multiplied out until asked."""

from structmat.compose.basic import (
    DirectSum,
    Kronecker,
    Product,
    Scaled,
    Sum,
    Transpose,
    direct_sum,
    kron,
)

__all__ = ["DirectSum", "Kronecker", "Product", "Scaled", "Sum", "Transpose", "direct_sum", "kron"]
