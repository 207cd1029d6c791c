"""The hypothesis strategy of random expression trees.

hypothesis is imported when a strategy is asked for: it is a development dependency.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from structmat.operator import LinearOperator
from structmat.testing.trees import SIZES, Grower, exact_bound

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["operators"]

EXACT = 2.0**40
"""Trees whose partial results could pass this are not drawn: gradients stay below 2**53."""


def operators(
    shape: tuple[int, int] | None = None,
    *,
    max_side: int = 16,
    max_depth: int = 3,
    batch: bool = True,
    complex_: bool = True,
    transforms: bool = False,
) -> SearchStrategy[LinearOperator]:
    """Random expression trees: all leaves, all combinators, with small integer entries.

    Draws structure and a seed, never raw floats, so that failures shrink structurally.

    Args:
        shape: (m, n) of the tree; by default drawn from {0, 1, 2, 3, 4, 6, 7, 8, 12, 16, 30, 64}.
        max_side: the largest side drawn, for the tree and inside products.
        max_depth: how deep combinators nest.
        batch: whether leaves may have batch dimensions.
        complex_: whether leaves may be complex128 beside float64.
        transforms: whether leaves may be applied by Fourier transforms; expressions are then equal
            to their matrices up to rounding.

    Returns:
        A hypothesis strategy; entries are in {-1, 0, 1} (and i times that), in float64 or
        complex128, so that equal expressions have exactly equal matrices.

    Raises:
        ImportError: hypothesis is not installed.

    Example:
        >>> from hypothesis import given, settings
        >>> from structmat.testing import check_operator, operators
        >>> @settings(max_examples=2, database=None, derandomize=True)
        ... @given(operators(max_side=4, max_depth=1))
        ... def test(A):
        ...     check_operator(A, exact=True)
        >>> test()
    """
    if find_spec("hypothesis") is None:
        raise ImportError(
            "structmat.testing.operators draws with hypothesis, which is not installed: "
            "pip install hypothesis, or use structmat.testing.random_operator(seed)"
        )
    from hypothesis import assume
    from hypothesis import strategies as st

    @st.composite
    def trees(draw: Any) -> LinearOperator:
        def choose(options: Any) -> Any:
            return draw(st.sampled_from(options))

        sizes = [s for s in SIZES if s <= max_side]
        m, n = shape or (choose(sizes), choose(sizes))
        batches: list[tuple[int, ...]] = [(), *([(2,), (3, 2)] if batch else [])]
        grower = Grower(
            choose,
            seed=draw(st.integers(0, 2**16)),
            max_side=max_side,
            batch=choose(batches),
            complex_=complex_ and choose((False, True)),
            transforms=transforms,
        )
        out = grower.tree(m, n, draw(st.integers(0, max_depth)))
        assume(exact_bound(out) < EXACT)
        return out

    return trees()
