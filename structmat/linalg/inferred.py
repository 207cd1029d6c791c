"""Properties of inverses: A^-1 is symmetric, Hermitian, semidefinite, triangular, diagonal, real or
a multiple of a unitary matrix where A is. Displacement ranks stay, with the shifts exchanged.
"""

from __future__ import annotations

from collections.abc import Hashable

from structmat.linalg.inverse import Inverse
from structmat.properties.band import Band, band, bandwidth
from structmat.properties.canonical import Canon, node_form
from structmat.properties.definite import psd, surely_psd
from structmat.properties.displacement import displacement, displacement_rank
from structmat.properties.unitary import scale, unitary_scale

__all__: list[str] = []


@node_form.register(Inverse)
def _(op: Inverse, canon: Canon, t: bool, c: bool) -> Hashable:
    return "Inverse", canon.form(op.children[0], t, c)


@band.register(Inverse)
def _(op: Inverse) -> Band:
    n = op.shape[0]
    lower, upper = bandwidth(op.children[0])
    return (0 if lower == 0 else n - 1), (0 if upper == 0 else n - 1)


@psd.register(Inverse)
def _(op: Inverse) -> bool | None:
    return surely_psd(op.children[0])


@scale.register(Inverse)
def _(op: Inverse) -> float | None:
    s = unitary_scale(op.children[0])
    return 1 / s if s else None


@displacement.register(Inverse)
def _(op: Inverse, f: int, g: int) -> int | None:
    return displacement_rank(op.children[0], (g, f))
