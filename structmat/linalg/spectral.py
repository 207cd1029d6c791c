"""Sums that share eigenvectors: Kronecker sums, and alpha I + A for a Kronecker product A.

With A_i = V_i diag(s_i) V_i^-1 for every factor, (V_1 (x) V_2 ...)^-1 diagonalises

    A_1 (+) A_2          eigenvalues s_1[i] + s_2[j]
    alpha I + A_1 (x) A_2              alpha + s_1[i] s_2[j]

and the system is a division between two changes of basis, each a Kronecker product: cost n sum n_i
a column, and n_i^3 for the eigenvectors of each factor. Hermitian factors have orthonormal ones; of
other factors they may be almost dependent, so that the result is refined, and given up for LU where
the residual stays large. Source: Horn and Johnson, Topics in matrix analysis, sections 4.2 and 4.4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from structmat.compose import Kronecker, KroneckerSum, Scaled, Sum, Transpose
from structmat.leaves.diagonal import Diagonal, Identity
from structmat.linalg.implicit import implicitly, need_finite, plain
from structmat.linalg.plan import Plan, cast, dense_fallback, structured
from structmat.linalg.result import SingularError
from structmat.operator import LinearOperator
from structmat.properties import is_hermitian

__all__ = ["shifted_plan", "split_shift"]


def _along(b: Tensor, matrices: Sequence[Tensor | None], sizes: Sequence[int]) -> Tensor:
    """(M_1 (x) M_2 (x) ...) b for columns b; None stands for an identity."""
    n, k = b.shape[-2:]
    pre = 1
    for m, size in zip(matrices, sizes, strict=True):
        post = n // (pre * size)
        if m is not None:
            lead = b.shape[:-2]
            x = m[..., None, :, :] @ b.reshape(*lead, pre, size, post * k)
            b = x.reshape(*x.shape[:-3], n, k)
        pre *= size
    return b


def _eigen(op: LinearOperator, dtype: torch.dtype) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(eigenvalues, V, V^-1); None for an identity V."""
    if isinstance(op, Diagonal):
        return op.d.to(dtype), None, None
    need_finite("solve", op)
    dense = op._dense(dtype, op.device)
    if is_hermitian(op):
        values, vectors = torch.linalg.eigh(dense)
        return values, vectors, vectors.mH
    values, vectors = torch.linalg.eig(dense)
    return values, vectors, torch.linalg.inv(vectors)


def _spectral(op: LinearOperator, b: Tensor) -> Tensor:
    """Divide by the eigenvalues between the changes of basis."""
    alpha: Tensor | complex = 0
    core = op
    if isinstance(op, Sum):
        split = split_shift(op)
        assert split is not None
        alpha, core = split
    found = [_eigen(child, b.dtype) for child in core.children]
    values = found[0][0]
    for other, _, _ in found[1:]:
        a, c = values[..., :, None], other[..., None, :]
        values = (a * c if isinstance(core, Kronecker) else a + c).flatten(-2)
    values = values + (alpha[..., None] if isinstance(alpha, Tensor) else alpha)
    kind = torch.promote_types(values.dtype, b.dtype)
    vectors = [None if v is None else v.to(kind) for _, v, _ in found]
    inverses = [None if w is None else w.to(kind) for _, _, w in found]
    sizes = [c.shape[0] for c in core.children]
    y = _along(b.to(kind), inverses, sizes) / values.to(kind)[..., None]
    x = _along(y, vectors, sizes)
    return x if b.is_complex() or not x.is_complex() else x.real


def split_shift(op: Sum) -> tuple[Tensor | complex, LinearOperator] | None:
    """(alpha, A) where op is alpha I + A with one term A; None elsewhere."""
    alpha: Tensor | complex = 0
    rest: list[LinearOperator] = []
    for child in op.children:
        factor: Tensor | complex = 1
        c = child
        while isinstance(c, Transpose | Scaled):
            factor = factor * c.alpha if isinstance(c, Scaled) else factor
            c = c.children[0]
        if isinstance(c, Identity):
            alpha = alpha + factor
            continue
        while isinstance(child, Transpose):
            child = child.children[0]._transpose()
        rest.append(child)
    return (alpha, rest[0]) if len(rest) == 1 and len(op.children) > 1 else None


def _checked(op: LinearOperator, b: Tensor) -> Tensor:
    x = _spectral(op, b)
    x = x + _spectral(op, b - op @ x)
    if plain(op, b):
        gap, size = (op @ x - b).abs().amax(), b.abs().amax()
        if not bool(gap <= torch.finfo(b.dtype).eps ** 0.5 * size):
            raise SingularError(f"{op._label()}: the eigenvectors of its factors do not serve")
    return x


def shifted_plan(op: LinearOperator, core: LinearOperator) -> Plan | None:
    """By the eigenvectors of the factors of ``core``; None where a factor is as large as all."""
    sizes = [c.shape[0] for c in core.children]
    n = op.shape[0]
    if n == 0 or len(sizes) < 2 or max(sizes) == n:
        return None
    if any(c.shape[0] != c.shape[1] for c in core.children):
        return None

    def run(b: Tensor) -> Tensor:
        return implicitly(cast(op, b), b, _checked) if b.numel() else b

    count = 4 * n * sum(sizes)
    largest = max(
        (s for s, c in zip(sizes, core.children, strict=True) if not isinstance(c, Diagonal)),
        default=0,
    )
    return Plan(
        "eigenvectors of the factors",
        run,
        (count + n, count),
        sum(10 * s**3 for s in sizes),
        densified=largest,
        fallback=dense_fallback(op),
    )


@structured.register
def _(op: KroneckerSum) -> Plan | None:
    if len(op.children) == 1:
        return structured(op.children[0])
    return shifted_plan(op, op)
