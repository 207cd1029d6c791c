"""Linear maps that a library computes faster than any chain of contractions: FFTs, sparse products.

A :class:`Primitive` is one more word for leaves, ``builder.apply``: one class, its adjoint and the
gradient of its values carry it through every layer, as ``contract`` is carried.
"""

from structmat.primitives.base import Primitive
from structmat.primitives.circular import Circular
from structmat.primitives.differences import Differences
from structmat.primitives.displacement import Displacement
from structmat.primitives.powers import Powers
from structmat.primitives.real_fourier import RealFourier
from structmat.primitives.solve import Solve
from structmat.primitives.sparse import Bsr, Csr
from structmat.primitives.trigonometric import Cosine, Fourier, Hadamards, Sine

__all__ = [
    "Bsr",
    "Circular",
    "Cosine",
    "Csr",
    "Differences",
    "Displacement",
    "Fourier",
    "Hadamards",
    "Powers",
    "Primitive",
    "RealFourier",
    "Sine",
    "Solve",
]
