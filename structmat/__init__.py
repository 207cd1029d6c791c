"""structmat: a structured-matrix algebra for PyTorch, with a compiler.

Write a matrix as an expression of fast factors, simplify it, know its cost, project dense weights
onto a structure with a certificate, and compile it to fused kernels with a backward pass.
"""

from structmat import interop, linalg, nn, sized, testing
from structmat._version import __version__
from structmat.circuit import circuit
from structmat.compose import (
    Block,
    DirectSum,
    Elementwise,
    Kronecker,
    KroneckerSum,
    Product,
    Scaled,
    Selection,
    Sum,
    Transpose,
    block,
    direct_sum,
    elementwise,
    hstack,
    kron,
    kron_sum,
    vstack,
)
from structmat.cost import Cost, dim
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.cauchy import Cauchy
from structmat.leaves.companion import Companion
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.displacement import LowDisplacementRank
from structmat.leaves.fourier import DFT, IDFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import (
    Permutation,
    bit_reversal,
    cyclic_shift,
    reversal,
    stride_permutation,
)
from structmat.leaves.real_fourier import IRDFT, RDFT
from structmat.leaves.sparse import BlockSparse, Sparse
from structmat.leaves.statespace import StateSpace
from structmat.leaves.toeplitz import Circulant, Hankel, Toeplitz
from structmat.leaves.trigonometric import DCT, DST
from structmat.leaves.vandermonde import Vandermonde
from structmat.leaves.wavelet import Haar, Wavelet
from structmat.linalg import (
    Inverse,
    Solution,
    cond,
    det,
    diagonal,
    eigvals,
    eigvalsh,
    expm,
    expm_multiply,
    inv,
    logdet,
    norm,
    pinv,
    slogdet,
    solve,
    svdvals,
    trace,
)
from structmat.lowering import Compiled, compile
from structmat.operator import LinearOperator
from structmat.projection import Certificate, Projection, project
from structmat.properties import (
    assume,
    bandwidth,
    displacement_rank,
    is_diagonal,
    is_hermitian,
    is_psd,
    is_real,
    is_symmetric,
    is_triangular,
    is_unitary,
    rank_bound,
)
from structmat.rules import Rule, Step, rules, simplify
from structmat.rules.saturate import saturate

__all__ = [
    "DCT",
    "DFT",
    "DST",
    "IDFT",
    "IRDFT",
    "RDFT",
    "Block",
    "BlockDiagonal",
    "BlockSparse",
    "Butterfly",
    "Cauchy",
    "Certificate",
    "Circulant",
    "Companion",
    "Compiled",
    "Convolution",
    "Cost",
    "Dense",
    "Diagonal",
    "DirectSum",
    "Elementwise",
    "Haar",
    "Hadamard",
    "Hankel",
    "Identity",
    "Inverse",
    "Kronecker",
    "KroneckerSparse",
    "KroneckerSum",
    "LinearOperator",
    "LowDisplacementRank",
    "LowRank",
    "Monarch",
    "MonarchChain",
    "Permutation",
    "Product",
    "Projection",
    "Rule",
    "Scaled",
    "Selection",
    "Solution",
    "Sparse",
    "StateSpace",
    "Step",
    "Sum",
    "Toeplitz",
    "Transpose",
    "Vandermonde",
    "Wavelet",
    "Zero",
    "__version__",
    "assume",
    "bandwidth",
    "bit_reversal",
    "block",
    "circuit",
    "compile",
    "cond",
    "cyclic_shift",
    "det",
    "diagonal",
    "dim",
    "direct_sum",
    "displacement_rank",
    "eigvals",
    "eigvalsh",
    "elementwise",
    "expm",
    "expm_multiply",
    "hstack",
    "interop",
    "inv",
    "is_diagonal",
    "is_hermitian",
    "is_psd",
    "is_real",
    "is_symmetric",
    "is_triangular",
    "is_unitary",
    "kron",
    "kron_sum",
    "linalg",
    "logdet",
    "nn",
    "norm",
    "pinv",
    "project",
    "rank_bound",
    "reversal",
    "rules",
    "saturate",
    "simplify",
    "sized",
    "slogdet",
    "solve",
    "stride_permutation",
    "svdvals",
    "testing",
    "trace",
    "vstack",
]
