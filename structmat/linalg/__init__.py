"""Linear algebra by structure: what ``torch.linalg`` computes, without the dense matrix.

Solutions of linear systems and inverses, which name their method in a :class:`Solution`.
Determinants, traces, diagonals, eigenvalues, singular values, norms, exponentials. Each function
returns a tensor, with the batch dimensions of the operator in front; with ``return_method=True`` it
returns an :class:`Answer` (value, method, error) that names how the value was found, exact or dense
or iterative. An estimate from random vectors is made only when asked for by name, and always comes
as an Answer with its standard error. Numbers of 16 bits are computed and returned in 32 bits.

Each function is a rule by class (``functools.singledispatch``) that a class of your own can join:
:func:`trace_of`, :func:`diagonal_of`, :func:`slogdet_of`, :func:`eigvals_of`, :func:`svdvals_of`,
:func:`frobenius_of`, :func:`column_sums_of`, :func:`expm_of`, :func:`cond_of`, and
:func:`entries_of`, from which most of the others follow.
"""

from structmat.linalg import (  # isort: skip
    blocks as blocks,
    determinant_leaves as determinant_leaves,
    direct as direct,
    elementwise as elementwise,
    entries_leaves as entries_leaves,
    inverses as inverses,
    kronecker_sums as kronecker_sums,
    low_rank as low_rank,
    displacement as displacement,
    inferred as inferred,
    products as products,
    sparse_entries as sparse_entries,
    spectrum_leaves as spectrum_leaves,
    state_spaces as state_spaces,
    factorised as factorised,
    inverse_properties as inverse_properties,
    inverse_forms as inverse_forms,
    partitioned as partitioned,
    spectral as spectral,
    toeplitz as toeplitz,
    toeplitz_plans as toeplitz_plans,
    displacement_determinant as displacement_determinant,
    sparse_determinant as sparse_determinant,
)
from structmat.linalg.action import expm_multiply
from structmat.linalg.answer import Answer, DenseWarning
from structmat.linalg.column_sums import column_sums_of
from structmat.linalg.condition import cond, cond_of
from structmat.linalg.determinant import SignLog, det, logdet, slogdet, slogdet_of
from structmat.linalg.diagonal import diagonal, diagonal_of
from structmat.linalg.entries import Entries, entries_of
from structmat.linalg.expm import expm, expm_of
from structmat.linalg.frobenius import frobenius_of
from structmat.linalg.inverse import Inverse, inv
from structmat.linalg.norm import norm, spectral_of
from structmat.linalg.pinv import pinv
from structmat.linalg.result import IllConditionedWarning, SingularError, Solution
from structmat.linalg.singular import svdvals, svdvals_of
from structmat.linalg.solve import solve
from structmat.linalg.spectrum import eigvals, eigvals_of, eigvalsh
from structmat.linalg.trace import trace, trace_of

__all__ = [
    "Answer",
    "DenseWarning",
    "Entries",
    "IllConditionedWarning",
    "Inverse",
    "SignLog",
    "SingularError",
    "Solution",
    "column_sums_of",
    "cond",
    "cond_of",
    "det",
    "diagonal",
    "diagonal_of",
    "eigvals",
    "eigvals_of",
    "eigvalsh",
    "entries_of",
    "expm",
    "expm_multiply",
    "expm_of",
    "frobenius_of",
    "inv",
    "logdet",
    "norm",
    "pinv",
    "slogdet",
    "slogdet_of",
    "solve",
    "spectral_of",
    "svdvals",
    "svdvals_of",
    "trace",
    "trace_of",
]
