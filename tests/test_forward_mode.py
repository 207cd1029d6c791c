"""Forward mode, torch.func.jvp, through the functions of linear algebra and compiled functions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from test_condition import dense_cond
from test_spectra import LEAVES
from torch import Tensor
from torch.autograd import forward_ad

import structmat as sm


def direction(t: Tensor, seed: int) -> Tensor:
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(t.shape, generator=gen, dtype=t.dtype)


def regular(name: str, A: sm.LinearOperator) -> sm.LinearOperator:
    """The same structure with numbers that no derivative depends on by chance."""
    near = name.startswith(("cauchy", "vandermonde", "inverse", "elementwise_inverse"))
    tensors = [(t if near else 0) + direction(t, i) / 10 for i, t in enumerate(A.parameters())]
    return rebuilt(A, tensors if near else [10 * t for t in tensors])


def rebuilt(A: sm.LinearOperator, tensors: Sequence[Tensor]) -> sm.LinearOperator:
    memo = {id(old): new for old, new in zip(A.parameters(), tensors, strict=True)}
    return A._map(lambda t: memo[id(t)], None)


def along(f: Callable[[sm.LinearOperator], Tensor], A: sm.LinearOperator) -> Tensor:
    """The derivative of f along a fixed direction of all tensors."""
    at = tuple(A.parameters())
    changes = tuple(direction(t, 50 + i) for i, t in enumerate(at))
    out: Tensor = torch.func.jvp(lambda *t: f(rebuilt(A, t)), at, changes)[1]
    return out


def ones(A: Any) -> Tensor:
    return torch.ones(A.shape[-1], dtype=torch.float64)


def dense_solve(d: Tensor) -> Tensor:
    out: Tensor = torch.linalg.solve(d, ones(d).to(d.dtype)[:, None])[..., 0]
    return out


Pair = tuple[Callable[[sm.LinearOperator], Tensor], Callable[[Tensor], Tensor]]
ALWAYS: dict[str, Pair] = {
    "trace": (sm.trace, lambda d: d.diagonal(dim1=-2, dim2=-1).sum(-1)),
    "diagonal": (sm.diagonal, lambda d: d.diagonal(dim1=-2, dim2=-1)),
    "fro": (sm.norm, torch.linalg.matrix_norm),
    "1": (lambda A: sm.norm(A, 1), lambda d: torch.linalg.matrix_norm(d, 1)),
    "inf": (lambda A: sm.norm(A, math.inf), lambda d: torch.linalg.matrix_norm(d, math.inf)),
    "2": (lambda A: sm.norm(A, 2), lambda d: torch.linalg.matrix_norm(d, 2)),
    "expm": (
        lambda A: sm.expm_multiply(A, ones(A), 0.1),
        lambda d: torch.linalg.matrix_exp(0.1 * d) @ ones(d).to(d.dtype),
    ),
    "eigvals": (
        lambda A: (sm.eigvals(A) ** 3).sum(-1),
        lambda d: (d @ d @ d).diagonal(dim1=-2, dim2=-1).sum(-1),
    ),
}
REGULAR: dict[str, Pair] = {
    "slogdet": (lambda A: sm.slogdet(A).logabsdet, lambda d: torch.linalg.slogdet(d).logabsdet),
    "det": (sm.det, torch.linalg.det),
    "solve": (lambda A: sm.solve(A, ones(A)).x, dense_solve),
    "inv": (lambda A: sm.inv(A) @ ones(A), dense_solve),
    "cond 1": (lambda A: sm.cond(A, 1), lambda d: dense_cond(d, 1)),
}
USED = {
    k: A
    for k, A in LEAVES.items()
    # what is declared holds for A, not along an arbitrary direction
    if A.shape[0] == A.shape[1] > 0
    and next(A.parameters(), None) is not None
    and not k.startswith("declared")
}


@pytest.mark.parametrize("name", USED)
def test_forward_mode(name: str) -> None:
    A = regular(name, USED[name])
    dense = A.to_dense()
    pairs = dict(ALWAYS)
    if float(torch.linalg.cond(dense).max()) < 1e6:
        pairs.update(REGULAR)
    for function, (ours, theirs) in pairs.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sm.linalg.IllConditionedWarning)
            got = along(ours, A)
        want = along(lambda a, g=theirs: g(a.to_dense()), A)  # type: ignore[misc]
        size = 1 + float(want.abs().max())
        assert (got - want).abs().max() <= 1e-7 * size, function


@pytest.mark.parametrize("name", ["monarch", "skew", "shifted_kron", "sparse_triangular", "cauchy"])
def test_forward_mode_of_compiled_functions(name: str) -> None:
    A = regular(name, USED[name])
    x, v = (
        direction(torch.empty(3, A.shape[1]).double(), 1),
        direction(torch.empty(3, 1), 2).double(),
    )
    want = along(lambda a: a(x), A)
    assert torch.allclose(along(lambda a: sm.compile(a)(x), A), want)
    assert torch.allclose(along(lambda a: sm.compile(a) @ x.mT, A), want.mT)
    f = sm.compile(A)
    change = v.expand_as(x)
    assert torch.allclose(torch.func.jvp(f, (x,), (change,))[1], A(change))
    assert torch.allclose(torch.func.jacfwd(f)(x[0]), A.to_dense())
    hessian = torch.func.hessian(lambda x: f(x).abs().square().sum())(x[0])
    assert torch.allclose(hessian, 2 * (A.H.to_dense() @ A.to_dense()).real)
    with forward_ad.dual_level():
        y = forward_ad.unpack_dual(f(forward_ad.make_dual(x, change)))
        assert torch.allclose(y.tangent, A(change))
    # a level without a direction of ours runs the program
    with forward_ad.dual_level():
        assert forward_ad.unpack_dual(f(x)).tangent is None
