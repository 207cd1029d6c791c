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
from structmat.compose.blocks import Block, block, hstack, vstack
from structmat.compose.elementwise import Elementwise, elementwise
from structmat.compose.kronecker_sum import KroneckerSum, kron_sum
from structmat.compose.selection import Selection

__all__ = [
    "Block", "DirectSum", "Elementwise", "Kronecker", "KroneckerSum", "Product", "Scaled",
    "Selection", "Sum", "Transpose", "block", "direct_sum", "elementwise", "hstack", "kron",
    "kron_sum", "vstack",
]  # fmt: skip
