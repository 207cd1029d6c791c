"""The operator test kit: check any operator against its dense matrix, and draw random ones.

:func:`check_operator` holds an operator (ours or yours) to everything the base class promises.
:func:`operators` is a hypothesis strategy of random expression trees with entries in {-1, 0, 1},
so that equality is exact; :func:`random_operator` draws the same trees without hypothesis.
"""

from structmat.testing.check import check_operator
from structmat.testing.strategies import operators
from structmat.testing.trees import SIZES, Grower, exact_bound, random_operator

__all__ = ["SIZES", "Grower", "check_operator", "exact_bound", "operators", "random_operator"]
