"""torch modules that hold operators."""

from structmat.nn.linear import StructuredLinear

__all__ = ["StructuredLinear"]
