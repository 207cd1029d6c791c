"""What is known of A is known of its inverse.

Symmetric, Hermitian, real, positive definite, triangular and (scaled) unitary matrices have
inverses of their kind, and Z_f A^-1 - A^-1 Z_g = -A^-1 (Z_g A - A Z_f) A^-1 has the displacement
rank of A for the shifts exchanged. An inverse is of full rank.
Source: Horn and Johnson, Matrix analysis, section 0.7; Pan (2001), section 1.5.
"""

from __future__ import annotations

from structmat.linalg.inverse import Inverse
from structmat.properties import (
    band,
    bandwidth,
    displacement,
    displacement_rank,
    hermitian_leaf,
    is_hermitian,
    is_psd,
    is_real,
    is_symmetric,
    psd,
    real_leaf,
    scale,
    symmetric_leaf,
    unitary_scale,
)

__all__: list[str] = []


@symmetric_leaf.register
def _(op: Inverse) -> bool | None:
    return is_symmetric(op.children[0])


@hermitian_leaf.register
def _(op: Inverse) -> bool | None:
    return is_hermitian(op.children[0])


@real_leaf.register
def _(op: Inverse) -> bool | None:
    return is_real(op.children[0])


@psd.register
def _(op: Inverse) -> bool | None:
    return is_psd(op.children[0])


@scale.register
def _(op: Inverse) -> float | None:
    s = unitary_scale(op.children[0])
    return 1 / s if s else None


@band.register
def _(op: Inverse) -> tuple[int, int]:
    last = op.shape[0] - 1
    lower, upper = bandwidth(op.children[0])
    below, above = (0 if side <= 0 else last for side in (lower, upper))
    return below, above


@displacement.register
def _(op: Inverse, f: int, g: int) -> int | None:
    return displacement_rank(op.children[0], (g, f))
