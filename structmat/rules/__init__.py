"""The simplifier: an equal expression that needs no more flops and no more storage.

The families are imported in the order in which their rules are tried.
"""

from structmat.rules import (  # isort: skip
    identities as identities,
    transposes as transposes,
    scalars as scalars,
    permutations as permutations,
    diagonals as diagonals,
    blocks as blocks,
    monarch as monarch,
    chains as chains,
    low_rank as low_rank,
    dense as dense,
    sums as sums,
    products as products,
    block_matrices as block_matrices,
    kronecker_sums as kronecker_sums,
    slices as slices,
    elementwise as elementwise,
    toeplitz as toeplitz,
    convolutions as convolutions,
    displacement as displacement,
    transforms as transforms,
    inverses as inverses,
    sparse as sparse,
    association as association,
    distribution as distribution,
)
from structmat.rules.engine import fire, simplify
from structmat.rules.table import Rule, Step, rule, rules

__all__ = ["Rule", "Step", "fire", "rule", "rules", "simplify"]
