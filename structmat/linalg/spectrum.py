"""Eigenvalues by structure.

    Z_f(c)        FFT(c_k phi^k) with phi^n = f      P              roots of unity, cycle by cycle
    A (x) B       all products                       diag(A, B)     those of A and of B
    A + k I       shifted                            A^k            powers
    U V           those of V U, and zeros            F_n            sqrt(n) {1, -1, -i, i}, with
                                                                    multiplicities known
    a symmetric orthogonal transform: 1 and -1, as often as its trace says

(McClellan and Parks 1972 for F_n.) Everything else is LAPACK on the dense matrix, and says so, or
with ``k`` a Lanczos or Arnoldi iteration of ARPACK for the extreme ones.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from structmat.compose import DirectSum, Kronecker, Product, Scaled, Sum, Transpose
from structmat.leaves.block import BlockDiagonal, KroneckerSparse
from structmat.leaves.convolution import Convolution
from structmat.leaves.dense import Dense, LowRank
from structmat.leaves.diagonal import Diagonal, Identity, Zero
from structmat.leaves.fourier import DFT
from structmat.leaves.hadamard import Hadamard
from structmat.leaves.monarch import Monarch
from structmat.leaves.permutation import Permutation
from structmat.leaves.toeplitz import Circulant, join
from structmat.leaves.trigonometric import Trigonometric
from structmat.linalg.answer import Answer, like, name, need_square, not_an_operator, spread
from structmat.linalg.diagonal import diagonal_of
from structmat.linalg.entries import flat, folded, scalar
from structmat.linalg.structure import diagonal_known, shifted
from structmat.linalg.trace import trace_of
from structmat.operator import LinearOperator
from structmat.properties import is_hermitian, is_triangular, unitary_scale

__all__ = ["circulant_spectrum", "convolution_spectrum", "eigvals", "eigvals_of", "eigvalsh"]


@overload
def eigvals(
    A: LinearOperator, k: int | None = ..., *, which: str = ..., return_method: Literal[False] = ...
) -> Tensor: ...
@overload
def eigvals(
    A: LinearOperator, k: int | None = ..., *, which: str = ..., return_method: Literal[True]
) -> Answer[Tensor]: ...
def eigvals(
    A: LinearOperator, k: int | None = None, *, which: str = "LM", return_method: bool = False
) -> Tensor | Answer[Tensor]:
    """The eigenvalues, complex, in no particular order.

    Args:
        A: square operator.
        k: how many, by an Arnoldi iteration of ``scipy.sparse.linalg.eigs`` that only multiplies by
            A (not differentiable); all of them by default.
        which: which k, as SciPy names them: ``"LM"``, ``"SM"``, ``"LR"``, ``"SR"``, ``"LI"``,
            ``"SI"``.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Complex tensor of shape batch_shape + (n,), or (k,).

    Raises:
        TypeError: A is no operator.
        ValueError: A is not square; k with a batch of operators, or out of range.

    Example:
        >>> import torch, structmat as sm
        >>> sm.eigvals(sm.LowRank(torch.ones(3, 1), torch.ones(1, 3))).real
        tensor([3., 0., 0.])
    """
    _check("eigvals", A)
    if k is not None:
        found = _extreme(A, k, which, hermitian=False)
    else:
        found = _all_or_dense(A, like(A), False)
        found = Answer(spread(_complex(found.value), A, 1), found.method)
    return found if return_method else found.value


@overload
def eigvalsh(
    A: LinearOperator, k: int | None = ..., *, which: str = ..., return_method: Literal[False] = ...
) -> Tensor: ...
@overload
def eigvalsh(
    A: LinearOperator, k: int | None = ..., *, which: str = ..., return_method: Literal[True]
) -> Answer[Tensor]: ...
def eigvalsh(
    A: LinearOperator, k: int | None = None, *, which: str = "LM", return_method: bool = False
) -> Tensor | Answer[Tensor]:
    """The eigenvalues of a Hermitian operator, real, ascending.

    Args:
        A: square operator that is Hermitian; that it is, is not checked.
        k: how many, by a Lanczos iteration of ``scipy.sparse.linalg.eigsh`` that only multiplies by
            A (not differentiable); all of them by default.
        which: which k, as SciPy names them: ``"LM"``, ``"SM"``, ``"LA"``, ``"SA"``, ``"BE"``.
        return_method: return an :class:`structmat.linalg.Answer` that names the method.

    Returns:
        Real tensor of shape batch_shape + (n,), or (k,).

    Raises:
        TypeError: A is no operator.
        ValueError: A is not square; k with a batch of operators, or out of range.

    Example:
        >>> import torch, structmat as sm
        >>> C = sm.Circulant(torch.tensor([2.0, -1.0, 0.0, -1.0]))
        >>> sm.eigvalsh(C)
        tensor([0., 2., 2., 4.])
    """
    _check("eigvalsh", A)
    if k is not None:
        found = _extreme(A, k, which, hermitian=True)
    else:
        found = _all_or_dense(A, like(A), True)
        values = found.value.real if found.value.is_complex() else found.value
        found = Answer(spread(values.sort(-1).values, A, 1), found.method)
    return found if return_method else found.value


def _check(function: str, A: LinearOperator) -> None:
    if not isinstance(A, LinearOperator):
        not_an_operator(function, A)
    need_square(function, A)


def _all_or_dense(op: LinearOperator, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    if is_triangular(op):
        return _of(diagonal_of(op, 0, to).value, "triangular: its diagonal")
    hermitian = hermitian or is_hermitian(op) is True
    found = eigvals_of(op, to, hermitian)
    if found is None:
        simpler = op.simplify()
        found = eigvals_of(simpler, to, hermitian) if simpler is not op else None
        if found is not None:
            found = Answer(found.value, name("simplified", [found.method]))
    return found or _dense(op._dense(to.dtype, to.device), hermitian)


def _dense(matrix: Tensor, hermitian: bool) -> Answer[Tensor]:
    if hermitian:
        return Answer(torch.linalg.eigvalsh(matrix), "dense Hermitian eigenvalues")
    return Answer(torch.linalg.eigvals(matrix), "dense eigenvalues")


def _complex(values: Tensor) -> Tensor:
    return values if values.is_complex() else values.to(values.dtype.to_complex())


@singledispatch
def eigvals_of(op: LinearOperator, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    """The rule behind :func:`eigvals`: None where the structure does not give them.

    ``hermitian`` says that the operator is known to be Hermitian.
    """
    return None


def _of(values: Tensor, method: str) -> Answer[Tensor]:
    return Answer(_complex(values), method)


# leaves -----------------------------------------------------------------------------------------


@eigvals_of.register
def _(op: Identity, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    return _of(to.new_ones(op.n), "identity")


@eigvals_of.register
def _(op: Zero, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    return _of(to.new_zeros(op.n), "zero")


@eigvals_of.register
def _(op: Diagonal, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    return _of(op.d.to(to), "diagonal")


@eigvals_of.register
def _(op: Dense, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    return _dense(op.weight.to(to), hermitian)


@eigvals_of.register
def _(op: LowRank, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    n = op.shape[0]
    if op.rank >= n:
        return None
    found = torch.linalg.eigvals(op.right.to(to) @ op.left.to(to))
    return Answer(join(found, found.new_zeros(n - op.rank)), "dense eigenvalues of V U, and zeros")


@eigvals_of.register
def _(op: Permutation, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = op.index.size
    edges = coo_array((np.ones(n, dtype=np.int8), (np.arange(n), op.index.array())), shape=(n, n))
    labels = connected_components(edges, directed=False)[1] if n else np.zeros(0, dtype=np.int64)
    sizes = np.bincount(labels) if n else np.zeros(0, dtype=np.int64)
    turns = [np.arange(size) / size for size in sizes]
    angle = torch.from_numpy(2 * np.pi * np.concatenate([np.zeros(0), *turns])).to(to.device)
    return _of(
        torch.polar(torch.ones_like(angle), angle).to(_complex(to)), "cycles of a permutation"
    )


def circulant_spectrum(op: Circulant, to: Tensor) -> tuple[Tensor, str]:
    """Eigenvalues of an f-circulant matrix, and the name of the method."""
    n, c = op.shape[0], op.c.to(to)
    if op.f == 0 or n == 0:
        return c[..., :1].expand(*c.shape[:-1], n), "triangular"
    if op.f != 1:
        k = torch.arange(n, dtype=torch.float64, device=to.device)
        turn = complex(op.f) ** (1 / n)
        c = c * torch.polar(abs(turn) ** k, math.atan2(turn.imag, turn.real) * k).to(_complex(to))
    return torch.fft.fft(c), "spectrum by FFT"


@eigvals_of.register
def _(op: Circulant, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    return _of(*circulant_spectrum(op, to))


def convolution_spectrum(op: Convolution, to: Tensor) -> tuple[Tensor, str] | None:
    """Eigenvalues of a circular or a triangular convolution."""
    n = math.prod(op.n)
    axes = tuple(range(-len(op.n), 0))
    if n and op.mode == "circular":
        return torch.fft.fftn(folded(op, to), dim=axes).flatten(-len(op.n)), "spectrum by FFT"
    if op.mode == "causal" or n == 0 or math.prod(op._support) == 1:
        first = op.kernel.to(to).flatten(-len(op.n))[..., 0]
        return first[..., None].expand(*first.shape, n), "triangular"
    return None


@eigvals_of.register
def _(op: Convolution, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    found = convolution_spectrum(op, to)
    return None if found is None else _of(*found)


@eigvals_of.register
def _(op: DFT, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    n = op.n
    counts = ((n + 4) // 4, (n + 2) // 4, (n + 1) // 4, (n - 1) // 4) if n else (0, 0, 0, 0)
    back = 1 if op.inverse else -1
    units = [
        u for u, k in zip((1, -1, back * 1j, -back * 1j), counts, strict=True) for _ in range(k)
    ]
    size = op.factor() * math.sqrt(n)
    return Answer(to.new_tensor([size * u for u in units]), "eigenvalues of the Fourier matrix")


@eigvals_of.register(Hadamard)
@eigvals_of.register(Trigonometric)
def _(op: Hadamard | Trigonometric, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    scale = unitary_scale(op)
    if scale is None or op._transpose() is not op:
        return None
    if op.n == 0:
        return _of(to.new_zeros(0), "empty")
    plus = round((op.n + float(trace_of(op, to.abs().double()).value.real) / scale) / 2)
    at = torch.arange(op.n, device=to.device)
    values = torch.where(at < plus, to.new_tensor(scale), to.new_tensor(-scale))
    return _of(values, "symmetric orthogonal: signs by the trace")


@eigvals_of.register
def _(op: BlockDiagonal, to: Tensor, hermitian: bool) -> Answer[Tensor]:
    if op.blocks.numel() == 0:
        return _of(to.new_zeros(*op.batch_shape, op.shape[0]), "empty")
    found = _dense(op.blocks.to(to), hermitian)
    return _of(found.value.flatten(-2), name("blocks", [found.method]))


@eigvals_of.register
def _(op: KroneckerSparse, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    return eigvals_of(BlockDiagonal(op.values.movedim(-1, -3).flatten(-4, -3)), to, hermitian)


# combinators ------------------------------------------------------------------------------------


@eigvals_of.register
def _(op: Transpose, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    return eigvals_of(op.children[0], to, hermitian)


@eigvals_of.register
def _(op: Scaled, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    real = not (op.alpha.is_complex() if op.tensors else isinstance(op.alpha, complex))
    found = eigvals_of(op.children[0], to, hermitian and real)
    return found and _of(found.value * scalar(op, to, 1), found.method)


def _square(op: LinearOperator) -> bool:
    return all(m == n for m, n in (c.shape for c in op.children))


@eigvals_of.register
def _(op: Kronecker, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    if not _square(op):
        return None
    parts = [_all_or_dense(c, to, False) for c in op.children]
    out = _complex(parts[0].value)
    for p in parts[1:]:
        out = (out[..., :, None] * p.value[..., None, :]).flatten(-2)
    return Answer(out, name("products of the factors' eigenvalues", (p.method for p in parts)))


@eigvals_of.register
def _(op: DirectSum, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    if not _square(op):
        return None
    parts = [_all_or_dense(c, to, hermitian) for c in op.children]
    values = join(*(_complex(p.value) for p in parts))
    return Answer(values, name("eigenvalues of the blocks", (p.method for p in parts)))


@eigvals_of.register
def _(op: Sum, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    if diagonal_known(op):
        return _of(diagonal_of(op, 0, to).value, "diagonal")
    rest, shifts = shifted(op)
    if rest is None or not shifts:
        return None
    found = eigvals_of(rest, to, False)
    if found is None:
        return None
    by = diagonal_of(Sum(*shifts), 0, to).value[..., :1]
    return _of(found.value + by, name("shifted", [found.method]))


@eigvals_of.register(Product)
@eigvals_of.register(Monarch)
def _(op: Product | Monarch, to: Tensor, hermitian: bool) -> Answer[Tensor] | None:
    if diagonal_known(op):
        return _of(diagonal_of(op, 0, to).value, "diagonal")
    n, first = op.shape[0], op.children[0] if op.children else op
    if len(op.children) > 1 and all(c is first for c in op.children) and n == first.shape[1]:
        found = eigvals_of(first, to, False)
        return found and _of(found.value ** len(op.children), name("powers", [found.method]))
    factors = flat([op])
    inner = [c.shape[1] for c in factors]
    at = min(range(len(inner)), key=lambda i: inner[i])
    if inner[at] >= n:
        return None
    turned = Product(*factors[at + 1 :], *factors[: at + 1])  # eig(A B) = eig(B A), and zeros
    small = _all_or_dense(turned, to, False)
    values = join(_complex(small.value), small.value.new_zeros(n - inner[at]))
    return _of(values, name("turned to the least inner dimension, and zeros", [small.method]))


# iterations -------------------------------------------------------------------------------------


def scipy_operator(op: LinearOperator) -> Any:
    """The operator for SciPy's iterations, on the CPU in its wide dtype."""
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

    to = like(op)
    adjoint = op.H

    def act(which: LinearOperator, x: Any) -> Any:
        rows = torch.from_numpy(np.ascontiguousarray(x.T)).to(to)
        return which._rows(rows.reshape(-1, which.shape[1])).detach().cpu().numpy().T

    m, n = op.shape
    return ScipyOperator(
        (m, n),
        matvec=lambda x: act(op, x.reshape(n, 1)),
        rmatvec=lambda x: act(adjoint, x.reshape(m, 1)),
        matmat=lambda x: act(op, x),
        rmatmat=lambda x: act(adjoint, x),
        dtype=torch.empty(0, dtype=to.dtype).numpy().dtype,
    )


def check_k(function: str, op: LinearOperator, k: int) -> None:
    """Raise ValueError unless k values of one operator can be asked for."""
    if op.batch_shape:
        raise ValueError(
            f"{function}: k = {k} needs one operator, {op._label()} is a batch {op.batch_shape}; "
            "leave k out, or take the operators one by one"
        )
    if not 1 <= k <= min(op.shape):
        raise ValueError(f"{function}: k = {k} is not between 1 and {min(op.shape)}")


def start_vector(n: int, dtype: Any) -> Any:
    """A fixed start of the iterations, so that their results repeat."""
    return np.random.default_rng(0).standard_normal(n).astype(dtype)


def _extreme(op: LinearOperator, k: int, which: str, hermitian: bool) -> Answer[Tensor]:
    from scipy.sparse.linalg import eigs, eigsh

    function, n = ("eigvalsh" if hermitian else "eigvals"), op.shape[0]
    check_k(function, op, k)
    options = ("LM", "SM", "LA", "SA", "BE") if hermitian else ("LM", "SM", "LR", "SR", "LI", "SI")
    if which not in options:
        raise ValueError(f"{function}: which = {which!r} is none of {', '.join(options)}")
    to = like(op)
    if k >= n - 1:
        raise ValueError(
            f"{function}: k = {k} of n = {n} is too many for an iteration; leave k out for all"
        )
    work = scipy_operator(op)
    start = start_vector(n, work.dtype)
    solve = eigsh if hermitian else eigs
    values = solve(work, k, which=which, v0=start, return_eigenvectors=False)
    kind = "Lanczos" if hermitian else "Arnoldi"
    found = torch.from_numpy(np.sort(values) if hermitian else values).to(to.device)
    return Answer(found, f"{kind} iteration (ARPACK), {k} values, {which}")
