"""Inverses cancel, are pushed to the factors, and take a closed form where there is one.

A A^-1 = I where both are made of the very same tensors; (A B)^-1 = B^-1 A^-1; and the inverse of a
diagonal, block-diagonal, Monarch, butterfly or circulant matrix is one of its kind. Rules see no
numbers: where A is singular, what stands for its inverse is infinite, as in the formula.
"""

from __future__ import annotations

import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, kron
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.butterfly import Butterfly, MonarchChain
from structmat.leaves.dense import LowRank
from structmat.leaves.diagonal import Diagonal, Identity
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import cyclic_shift
from structmat.leaves.toeplitz import Circulant
from structmat.linalg.inverse import Inverse, inverse_of, unitary_inverse
from structmat.linalg.low_rank import split_low_rank
from structmat.linalg.toeplitz import circulant_inverse
from structmat.operator import LinearOperator
from structmat.rules import examples as ex
from structmat.rules.arithmetic import matmul, same, strong
from structmat.rules.table import rule


def _regular(g: torch.Generator, *shape: int) -> Tensor:
    """Entries whose square blocks are safely regular: 4 on the diagonal."""
    t = ex.ints(g, *shape)
    return t + 4 * torch.eye(shape[-1], dtype=t.dtype)


def _signs(g: torch.Generator, n: int) -> Tensor:
    return (2 * torch.randint(0, 2, (n,), generator=g) - 1).to(torch.float64)


def _dense(g: torch.Generator, n: int) -> LinearOperator:
    out: LinearOperator = ex.dense(g, n, n)._replace({"weight": _regular(g, n, n)}, (), {})
    return out


def _cancels(g: torch.Generator) -> LinearOperator:
    a, p = _dense(g, 3), cyclic_shift(3)
    return a @ p @ inverse_of(a @ p) @ a


def _inverted(op: LinearOperator) -> bool:
    """Whether there is an inverse in the expression, so that looking closer may pay."""
    return isinstance(op, Inverse) or any(map(_inverted, op.children))


def _inverts(b: LinearOperator, a: LinearOperator) -> bool:
    """Whether b is the inverse of a, spelled as ``inv`` does or as one node."""
    if a.shape[0] != a.shape[1] or b.shape != a.shape:
        return False
    return (isinstance(b, Inverse) and same(b.children[0], a)) or same(b, inverse_of(a))


@rule(Product, early=True, exact=False, example=_cancels)
def inverses_cancel(op: Product) -> LinearOperator | None:
    """A A^-1 = A^-1 A = I, also of factors that meet when others have gone."""
    if not _inverted(op):
        return None
    kept: list[LinearOperator] = []
    for c in op.children:
        if kept and (_inverts(c, kept[-1]) or _inverts(kept[-1], c)):
            kept.pop()
        else:
            kept.append(c)
    if len(kept) == len(op.children):
        return None
    if strong(*kept) != op.strong_dtype:
        kept.append(Identity(op.shape[1], op.strong_dtype))
    return kept[0] if len(kept) == 1 else Product(*kept) if kept else Identity(op.shape[0])


@rule(Inverse, early=True, exact=False, example=lambda g: Inverse(Inverse(_dense(g, 3))))
def inverse_of_inverse(op: Inverse) -> LinearOperator | None:
    """(A^-1)^-1 = A."""
    inner = op.children[0]
    return inner.children[0] if isinstance(inner, Inverse) else None


def _pushed(op: Inverse, kind: type[LinearOperator]) -> LinearOperator | None:
    inner = op.children[0]
    if not isinstance(inner, kind) or any(c.shape[0] != c.shape[1] for c in inner.children):
        return None
    if isinstance(inner, Scaled):
        if not inner.tensors and inner.alpha == 0:
            return None
        return Scaled(1 / inner.alpha, inverse_of(inner.children[0]))
    return inverse_of(inner)


@rule(Inverse, exact=False, example=lambda g: Inverse(_dense(g, 3) @ _dense(g, 3)))
def inverse_of_product(op: Inverse) -> LinearOperator | None:
    """(A B)^-1 = B^-1 A^-1, of square factors."""
    return _pushed(op, Product)


@rule(Inverse, exact=False, example=lambda g: Inverse(2 * _dense(g, 3)))
def inverse_of_scaled(op: Inverse) -> LinearOperator | None:
    """(alpha A)^-1 = A^-1 / alpha."""
    return _pushed(op, Scaled)


@rule(
    Inverse,
    source="Van Loan, The ubiquitous Kronecker product (2000), section 1",
    exact=False,
    example=lambda g: Inverse(kron(_dense(g, 2), _dense(g, 3))),
)
def inverse_of_kronecker(op: Inverse) -> LinearOperator | None:
    """(A (x) B)^-1 = A^-1 (x) B^-1, of square factors."""
    return _pushed(op, Kronecker)


@rule(Inverse, exact=False, example=lambda g: Inverse(DirectSum(_dense(g, 2), _dense(g, 3))))
def inverse_of_direct_sum(op: Inverse) -> LinearOperator | None:
    """diag(A, B)^-1 = diag(A^-1, B^-1), of square blocks."""
    return _pushed(op, DirectSum)


@rule(Inverse, exact=False, example=lambda g: Inverse(cyclic_shift(5, 2)))
def inverse_of_unitary(op: Inverse) -> LinearOperator | None:
    """P^-1 = P^T, and transforms undo each other."""
    return unitary_inverse(op.children[0])


@rule(Inverse, exact=False, example=lambda g: Inverse(Diagonal(_signs(g, 4))))
def inverse_of_diagonal(op: Inverse) -> LinearOperator | None:
    """diag(d)^-1 = diag(1 / d)."""
    inner = op.children[0]
    return Diagonal(1 / inner.d) if isinstance(inner, Diagonal) else None


def _factor_inverse(values: Tensor) -> Tensor | None:
    """Values of the inverse Kronecker-sparse factor; None unless its blocks are square."""
    if values.shape[-3] != values.shape[-2] or values.dtype in (torch.float16, torch.bfloat16):
        return None
    out: Tensor = torch.linalg.inv_ex(values.movedim(-1, -3)).inverse.movedim(-3, -1)
    return out


@rule(Inverse, exact=False, example=lambda g: Inverse(BlockDiagonal(_regular(g, 2, 3, 3))))
def inverse_of_blocks(op: Inverse) -> LinearOperator | None:
    """The inverse of a block-diagonal matrix of square blocks is block-diagonal."""
    match op.children[0]:
        case BlockDiagonal(blocks=blocks):
            values = _factor_inverse(blocks[..., None])
            out: LinearOperator | None = None if values is None else BlockDiagonal(values[..., 0])
            return out
        case KroneckerSparse(values=values):
            inverse = _factor_inverse(values)
            return None if inverse is None else KroneckerSparse(inverse)
    return None


def _monarch(g: torch.Generator) -> LinearOperator:
    return Inverse(Monarch(_regular(g, 2, 3, 3), _regular(g, 3, 2, 2)))


@rule(Inverse, exact=False, example=_monarch)
def inverse_of_chain(op: Inverse) -> LinearOperator | None:
    """The inverse of a Monarch matrix or chain of square blocks is the reversed chain."""
    inner = op.children[0]
    if not isinstance(inner, Monarch | MonarchChain):
        return None
    parts = [_factor_inverse(f.values) for f in reversed(inner.factors())]
    made = [p for p in parts if p is not None]
    return MonarchChain(made) if len(made) == len(parts) else None


def _butterfly(g: torch.Generator) -> LinearOperator:
    return Inverse(Butterfly(_regular(g, 2, 2, 2, 2)))


@rule(Inverse, exact=False, example=_butterfly)
def inverse_of_butterfly(op: Inverse) -> LinearOperator | None:
    """The inverse of a butterfly is a butterfly of inverse blocks, strides reversed."""
    inner = op.children[0]
    if not isinstance(inner, Butterfly) or inner.twiddle.dtype in (torch.float16, torch.bfloat16):
        return None
    twiddle = torch.linalg.inv_ex(inner.twiddle).inverse
    return inner._replace(
        {"twiddle": twiddle}, (), {"increasing_stride": not inner.increasing_stride}
    )


def _circulant(g: torch.Generator) -> LinearOperator:
    c = ex.ints(g, 6)
    return Inverse(Circulant(torch.cat([c[:1] + 9, c[1:]])))


@rule(
    Inverse,
    exact=False,
    source="Davis, Circulant matrices (1979), theorem 3.2.4",
    example=_circulant,
)
def inverse_of_circulant(op: Inverse) -> LinearOperator | None:
    """The inverse of an f-circulant matrix is f-circulant."""
    inner = op.children[0]
    return circulant_inverse(inner) if isinstance(inner, Circulant) else None


def _updated(g: torch.Generator) -> LinearOperator:
    return Inverse(Sum(Diagonal(_signs(g, 6) + 9), ex.low_rank(g, 6, 6, 1)))


@rule(
    Inverse,
    exact=False,
    source="Hager, Updating the inverse of a matrix (1989)",
    example=_updated,
)
def inverse_of_low_rank_update(op: Inverse) -> LinearOperator | None:
    """(D + U V)^-1 = D^-1 - D^-1 U (I + V D^-1 U)^-1 V D^-1, D diagonal or alpha I."""
    inner = op.children[0]
    found = split_low_rank(inner) if isinstance(inner, Sum) else None
    if found is None or inner.batch_shape:
        return None
    base, u, v = found
    if u.shape[-1] == 0:
        return Inverse(base)
    core = base.children[0] if isinstance(base, Scaled) else base
    if not isinstance(core, Diagonal | Identity) or 2 * u.shape[-1] > inner.shape[0]:
        return None
    d = base(torch.ones_like(u[:, 0]))
    thin = u / d[:, None]
    small = torch.eye(u.shape[-1], dtype=u.dtype, device=u.device) + matmul(v, thin)
    right = torch.linalg.solve_ex(small, v / d).result
    return Sum(inverse_of(base), LowRank(-thin, right))
