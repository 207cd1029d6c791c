"""What a structure says about its matrix: symmetric, definite, unitary, triangular, rank, ...

Each question is a free function whose answer comes from structure alone (classes, static
arguments, dtypes, which tensors are the same), never from numbers, so that it holds for every
matrix of a batch and may be asked while torch traces. Yes-or-no questions answer True, False, or
None for what the structure leaves open; bounds are bounds.

The rules by class (``symmetric_leaf``, ``hermitian_leaf``, ``real_leaf``, ``psd``, ``scale``,
``band``, ``rank``, ``displacement``) are single-dispatch functions: a class of your own says what
it knows by ``band.register(MyLeaf, lambda op: (0, 0))``; what it does not say is unknown.
"""

from structmat.properties import compositions as compositions  # isort: skip
from structmat.properties import sparse as sparse  # isort: skip
from structmat.properties.assume import assume
from structmat.properties.band import band, bandwidth, is_diagonal, is_triangular
from structmat.properties.definite import is_psd, psd
from structmat.properties.displacement import displacement, displacement_rank
from structmat.properties.leaves import hermitian_leaf, real_leaf, symmetric_leaf
from structmat.properties.rank import rank, rank_bound
from structmat.properties.symmetry import is_hermitian, is_real, is_symmetric
from structmat.properties.unitary import is_unitary, scale, unitary_scale

__all__ = [
    "assume",
    "band",
    "bandwidth",
    "displacement",
    "displacement_rank",
    "hermitian_leaf",
    "is_diagonal",
    "is_hermitian",
    "is_psd",
    "is_real",
    "is_symmetric",
    "is_triangular",
    "is_unitary",
    "psd",
    "rank",
    "rank_bound",
    "real_leaf",
    "scale",
    "symmetric_leaf",
    "unitary_scale",
]
