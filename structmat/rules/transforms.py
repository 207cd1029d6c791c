"""Fast transforms cancel, and diagonalise what they commute with.

F F^-1 = I, F F = n J with J the reversal of all entries but the first, H H = n I, cosine and sine
transforms of types 2 and 3 undo each other, wavelet transforms are orthogonal; and
F Circulant(c) = diag(F c) F (Davis, Circulant matrices, 1979, theorem 3.2.2).

The spectrum F c of a real c is complex: it takes twice the bytes, and no form of it that this
library has takes fewer. So F Circulant(c) F^-1 with real c stays as it is written, though its
diagonal needs a fraction of the operations, unless ``materialize=True`` lets the storage grow.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from structmat.compose import Product, Scaled
from structmat.index import AffineMap
from structmat.leaves.diagonal import Diagonal, Identity
from structmat.leaves.fourier import DFT, IDFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.permutation import Permutation
from structmat.leaves.real_fourier import IRDFT, RDFT
from structmat.leaves.toeplitz import Circulant
from structmat.leaves.trigonometric import DCT, Trigonometric
from structmat.leaves.wavelet import Haar, Wavelet
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import strong
from structmat.rules.measure import Weigher
from structmat.rules.table import rule

WIDE = torch.float64
CIRCULANT = "Davis, Circulant matrices (1979), theorem 3.2.2"


def _times(alpha: float, op: LinearOperator) -> LinearOperator:
    return op if abs(alpha - 1) < 1e-12 else Scaled(alpha, op)


@rule(
    DFT,
    DFT,
    inside=Product,
    exact=False,
    example=lambda g: IDFT(6, dtype=torch.complex128) @ DFT(6, dtype=torch.complex128),
)
def dft_times_dft(a: DFT, b: DFT) -> LinearOperator | None:
    """F F^-1 = I; F F is n times the reversal of the entries after the first."""
    n, dtype = a.n, strong(a, b)
    alpha = a.factor() * b.factor() * n
    if a.inverse != b.inverse:
        return _times(alpha, Identity(n, dtype))
    return _times(alpha, Permutation(AffineMap(n, -1, 0), dtype))


@rule(
    RDFT,
    RDFT,
    inside=Product,
    exact=False,
    example=lambda g: IRDFT(6, dtype=WIDE) @ RDFT(6, dtype=WIDE),
)
def real_transforms_cancel(a: RDFT, b: RDFT) -> LinearOperator | None:
    """R R^-1 = R^-1 R = I for the Fourier transform of real numbers, up to the normalisations."""
    if a.inverse == b.inverse or a.transposed != b.transposed:
        return None
    return _times(a.factor() * b.factor() * a.n, Identity(a.n, strong(a, b)))


@rule(
    Hadamard,
    Hadamard,
    inside=Product,
    example=lambda g: Hadamard(4) @ Hadamard(4),
)
def hadamard_times_hadamard(a: Hadamard, b: Hadamard) -> LinearOperator | None:
    """H H = n I."""
    if a.order != b.order:
        return None
    return _times(a.factor() * b.factor() * a.n, Identity(a.n, strong(a, b)))


@rule(
    Trigonometric,
    Trigonometric,
    inside=Product,
    exact=False,
    source="Strang, The discrete cosine transform (1999)",
    example=lambda g: DCT(5, type=3, dtype=torch.float64) @ DCT(5, dtype=torch.float64),
)
def cosines_cancel(a: Trigonometric, b: Trigonometric) -> LinearOperator | None:
    """Cosine and sine transforms of types 2 and 3, 1 and 1, 4 and 4 undo each other."""
    ortho = a.norm == "ortho"
    inverse = {1: 1, 2: 3, 3: 2, 4: 4}
    fits = type(a) is type(b) and b.type == inverse[a.type] and a.transposed == b.transposed
    if not fits or ortho != (b.norm == "ortho"):
        return None
    alpha = 1.0 if ortho else a.factor() * b.factor() * a.length / 2
    return _times(alpha, Identity(a.n, strong(a, b)))


@rule(
    Wavelet,
    Wavelet,
    inside=Product,
    exact=False,
    source="Mallat (1989)",
    example=lambda g: Product(Haar(8, dtype=WIDE)._transpose(), Haar(8, dtype=WIDE)),
)
def wavelets_cancel(a: Wavelet, b: Wavelet) -> LinearOperator | None:
    """W^T W = W W^T = I."""
    same = (a.n, a.taps, a.levels) == (b.n, b.taps, b.levels)
    if not same or a.transposed == b.transposed:
        return None
    return Identity(a.n, strong(a, b))


def _spectrum(c: Tensor, f: DFT) -> Tensor:
    """The eigenvalues of Circulant(c) in the order in which ``f`` sees them."""
    c = c.to(torch.promote_types(c.dtype, f.dtype))  # there is no FFT of 16 bits
    out: Tensor = torch.fft.ifft(c, norm="forward") if f.inverse else torch.fft.fft(c)
    return out


@rule(
    DFT,
    Circulant,
    inside=Product,
    source=CIRCULANT,
    exact=False,
    example=lambda g: DFT(8, dtype=torch.complex128) @ Circulant(ex.ints(g, 8) * (1 + 0j)),
)
def dft_times_circulant(f: DFT, a: Circulant) -> LinearOperator | None:
    """F Circulant(c) = diag(F c) F.

    Where c is real the spectrum is larger: see :func:`spectrum_stored`.
    """
    return Product(Diagonal(_spectrum(a.c, f)), f) if a.f == 1 else None


@rule(
    Circulant,
    DFT,
    inside=Product,
    source=CIRCULANT,
    exact=False,
    example=lambda g: Circulant(ex.ints(g, 8) * (1 + 0j)) @ DFT(8, dtype=torch.complex128),
)
def circulant_times_dft(a: Circulant, f: DFT) -> LinearOperator | None:
    """Circulant(c) F^-1 = F^-1 diag(F c), and with F for F^-1 the spectrum is reversed."""
    if a.f != 1:
        return None
    other = f._replace({}, (), {**f.static, "inverse": not f.inverse})
    return Product(f, Diagonal(_spectrum(a.c, other)))


@rule(
    DFT,
    Diagonal,
    DFT,
    inside=Product,
    source=CIRCULANT,
    exact=False,
    example=lambda g: (
        IDFT(8, dtype=torch.complex128)
        @ Diagonal(ex.ints(g, 8) * (1 + 0j))
        @ DFT(8, dtype=torch.complex128)
    ),
)
def circulant_recognised(a: DFT, d: Diagonal, b: DFT) -> LinearOperator | None:
    """F^-1 diag(s) F = Circulant(F^-1 s)."""
    if a.inverse == b.inverse:
        return None
    alpha = a.factor() * b.factor()
    return Circulant(_spectrum(d.d, a) * alpha)


@rule(
    Product,
    late=True,
    source=CIRCULANT,
    exact=False,
    example=lambda g: DFT(8, dtype=torch.complex128) @ Circulant(ex.ints(g, 8) * (1 + 0j)),
)
def spectrum_stored(op: Product, weigher: Weigher | None = None) -> LinearOperator | None:
    """F Circulant(c) = diag(F c) F, also where F c takes more bytes than c and the batch pays."""
    weigher = weigher or Weigher()
    measure = weigher.measure
    for i, (a, b) in enumerate(pairwise(op.children)):
        match a, b:
            case DFT(), Circulant():
                new, freed = dft_times_circulant(a, b), weigher.freed(b)
            case Circulant(), DFT():
                new, freed = circulant_times_dft(a, b), weigher.freed(a)
            case _:
                continue
        if new is not None and weigher.pays(
            measure(new).flops, measure(new).stored, measure(a).flops + measure(b).flops, freed
        ):
            whole = *op.children[:i], *new.children, *op.children[i + 2 :]
            return Product(*whole)
    return None
