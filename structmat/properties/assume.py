"""What the user knows and the structure does not show: declared properties.

A declared property is a tag on one operator, not on its tensors and not a node of the tree: the
operator is applied, compiled and simplified as before. Tags stay with the operator through
``to``, ``conj``, pytrees, ``spec`` and files; the transpose, products, Kronecker products and so on
get their properties from it by the rules of this package. Simplification keeps the tags of what it
replaces by an equal operator, and drops those of parts that dissolve in others.

The design follows the tags of lineax (https://docs.kidger.site/lineax/api/tags/).
"""

from __future__ import annotations

from typing import Literal, TypeVar

from structmat.operator import LinearOperator
from structmat.properties.band import is_diagonal, is_triangular
from structmat.properties.definite import is_psd
from structmat.properties.logic import need_operator
from structmat.properties.symmetry import is_hermitian, is_real, is_symmetric
from structmat.properties.unitary import is_unitary

__all__ = ["assume"]

Op = TypeVar("Op", bound=LinearOperator)


def assume(
    op: Op,
    *,
    symmetric: bool = False,
    hermitian: bool = False,
    psd: bool = False,
    unitary: bool = False,
    diagonal: bool = False,
    real: bool = False,
    triangular: Literal["lower", "upper"] | None = None,
) -> Op:
    """The same operator with properties that the user vouches for.

    Nothing is checked against the numbers: a wrong declaration gives wrong results, for example of
    :func:`structmat.solve`, which trusts it.

    Args:
        op: the operator; for a batch the properties are those of every matrix.
        symmetric: A = A^T.
        hermitian: A = A^H.
        psd: Hermitian without negative eigenvalues.
        unitary: A^H A = A A^H = I.
        diagonal: nothing off the diagonal.
        real: no imaginary parts.
        triangular: ``"lower"`` or ``"upper"``.

    Returns:
        A copy of the operator that shares its tensors and children.

    Raises:
        ValueError: the structure contradicts a declaration, or an unknown side.

    Example:
        >>> import torch, structmat as sm
        >>> A = sm.Dense(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> B = sm.assume(A, psd=True)
        >>> sm.is_psd(A), sm.is_psd(B), sm.is_symmetric(B), sm.is_psd(sm.kron(B, B))
        (None, True, True, True)
    """
    need_operator("assume", op)
    if triangular not in ("lower", "upper", None):
        raise ValueError(f"assume: triangular {triangular!r} is none of 'lower', 'upper', None")
    asked = {
        "symmetric": (symmetric, is_symmetric),
        "hermitian": (hermitian, is_hermitian),
        "psd": (psd, is_psd),
        "unitary": (unitary, is_unitary),
        "diagonal": (diagonal, is_diagonal),
        "real": (real, is_real),
        "lower": (triangular == "lower", lambda a: is_triangular(a, "lower")),
        "upper": (triangular == "upper", lambda a: is_triangular(a, "upper")),
    }
    names = {name for name, (wanted, _) in asked.items() if wanted}
    for name in sorted(names):
        if asked[name][1](op) is False:
            raise ValueError(
                f"assume: {op._label()} of shape {op.shape} cannot be {name}; leave {name} out"
            )
    if "psd" in names:
        names.add("hermitian")
    if names >= {"lower", "upper"}:
        names.add("diagonal")
    return op._assuming(frozenset(names))
