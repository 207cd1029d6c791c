"""Transposes written out: the same matrix without :class:`structmat.Transpose` nodes."""

from __future__ import annotations

from structmat.compose.basic import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.compose.blocks import Block
from structmat.compose.elementwise import Elementwise
from structmat.compose.kronecker_sum import KroneckerSum
from structmat.operator import LinearOperator

__all__ = ["straight", "turned"]


def turned(op: LinearOperator) -> LinearOperator:
    """The transpose, pushed to the leaves."""
    match op:
        case Transpose():
            return straight(op.children[0])
        case Product():
            return Product(*(turned(c) for c in reversed(op.children)))
        case Sum() | DirectSum() | Kronecker() | KroneckerSum() | Elementwise():
            return type(op)(*map(turned, op.children))
        case Block():
            return Block([list(map(turned, column)) for column in zip(*op.rows(), strict=True)])
        case Scaled():
            return Scaled(op.alpha, turned(op.children[0]))
    return op._transpose()


def straight(op: LinearOperator) -> LinearOperator:
    """The operator with its transposes pushed to the leaves."""
    if isinstance(op, Transpose):
        return turned(op.children[0])
    new = [straight(c) for c in op.children]
    if all(a is b for a, b in zip(new, op.children, strict=True)):
        return op
    return op._replace(op.tensors, new, op.static)
