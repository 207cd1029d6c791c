"""What an operator shows of itself: formula, tree, picture, and what notebooks ask for.

The work is done in :mod:`structmat.visual`, imported when something is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from structmat.operator import LinearOperator

__all__ = ["Views"]


class Views:
    """The methods of :class:`structmat.LinearOperator` that show it."""

    def latex(self) -> str:
        r"""The expression as a formula of LaTeX, without dollar signs.

        Example:
            >>> import torch, structmat as sm
            >>> (2 * sm.Dense(torch.ones(3, 4)) @ sm.Identity(4)).latex()
            '2 \\, W_{3 \\times 4} \\, I_{4}'
        """
        from structmat.visual.latex import latex

        return latex(cast("LinearOperator", self))

    def tree(self, ascii: bool = False) -> str:
        """The expression as a tree of text: shape, parameters and flops of every node.

        Args:
            ascii: draw the lines with ASCII characters.

        Example:
            >>> import torch, structmat as sm
            >>> print((sm.Dense(torch.ones(2, 3)) @ sm.reversal(3)).tree())
            operator                               shape  params  flops
            Product                                  2×3       6     10
            ├─ Dense                                 2×3       6     10
            └─ Permutation(affine(2*i + 2 mod 3))    3×3       0      0
        """
        from structmat.visual.tree import tree

        return tree(cast("LinearOperator", self), ascii)

    def spy(self, ax: Any = None, factors: bool = True) -> Figure:
        """Draw where the entries are, coloured by structure; needs matplotlib.

        Args:
            ax: axes of matplotlib for one picture of the whole; by default a new figure.
            factors: one panel for each factor of a product, a Monarch matrix, a butterfly, ...

        Returns:
            The figure: it has ``savefig``, and notebooks show it.

        Raises:
            ImportError: matplotlib is not installed.
            TypeError: sizes are symbols.
        """
        from structmat.visual import spy

        return spy(cast("LinearOperator", self), ax, factors)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def _repr_html_(self) -> str:
        from structmat.visual.html import html

        return html(cast("LinearOperator", self))
