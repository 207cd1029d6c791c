"""Operators by their sizes: ``sm.sized.Monarch(n, nblocks=k)`` in place of tensors.

Sizes are integers, or symbols from :func:`structmat.dim` and expressions in them. With integers
the result is a concrete operator with random entries; with symbols it composes, checks shapes and
tells its cost like any other, and ``A.bind(n=4096)`` makes it concrete. Leaves that take sizes
anyway (``sm.Identity(n)``, ``sm.DFT(n)``, ...) accept symbols directly. ``batch=b`` makes a batch
of operators. ``parse`` reads the same spelling from text, without executing it.
"""

from structmat.sized.bind import bind, free_symbols
from structmat.sized.families import (
    BlockDiagonal,
    Butterfly,
    Dense,
    Diagonal,
    Identity,
    KroneckerSparse,
    LowRank,
    Monarch,
    MonarchChain,
    Permutation,
    Selection,
    Zero,
    bit_reversal,
    cyclic_shift,
    reversal,
    stride_permutation,
)
from structmat.sized.few_numbers import BlockSparse, Cauchy, Companion, Sparse, Vandermonde
from structmat.sized.form import FAMILIES, Family, Form, Sized, SizedTensor, family
from structmat.sized.parse import ParseError, known_names, parse
from structmat.sized.table import cost_table
from structmat.sized.transforms import (
    DCT,
    DFT,
    DST,
    IDFT,
    IRDFT,
    RDFT,
    Circulant,
    Convolution,
    Haar,
    Hadamard,
    Hankel,
    LowDisplacementRank,
    StateSpace,
    Toeplitz,
    Wavelet,
)

__all__ = [
    "DCT",
    "DFT",
    "DST",
    "FAMILIES",
    "IDFT",
    "IRDFT",
    "RDFT",
    "BlockDiagonal",
    "BlockSparse",
    "Butterfly",
    "Cauchy",
    "Circulant",
    "Companion",
    "Convolution",
    "Dense",
    "Diagonal",
    "Family",
    "Form",
    "Haar",
    "Hadamard",
    "Hankel",
    "Identity",
    "KroneckerSparse",
    "LowDisplacementRank",
    "LowRank",
    "Monarch",
    "MonarchChain",
    "ParseError",
    "Permutation",
    "Selection",
    "Sized",
    "SizedTensor",
    "Sparse",
    "StateSpace",
    "Toeplitz",
    "Vandermonde",
    "Wavelet",
    "Zero",
    "bind",
    "bit_reversal",
    "cost_table",
    "cyclic_shift",
    "family",
    "free_symbols",
    "known_names",
    "parse",
    "reversal",
    "stride_permutation",
]
