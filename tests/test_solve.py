"""Linear systems: every structure against torch.linalg on the dense matrix, and what goes wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import structmat as sm
from structmat.testing import check_operator

Make = Callable[..., Tensor]
W = torch.float64


def regular(make: Make, *shape: int) -> Tensor:
    """Square blocks that are safely regular: small off the diagonal."""
    n = shape[-1]
    return make(*shape) / (2 * n) + torch.eye(n, dtype=make(1).dtype)


def away(make: Make, n: int) -> Tensor:
    """n entries that are safely not zero."""
    t = make(n)
    return t + 3 * torch.where(t.real < 0, -1.0, 1.0).to(t.dtype)


def heavy(make: Make, n: int) -> Tensor:
    """A first column whose first entry outweighs the others."""
    t = make(n) / n
    return torch.cat([t[:1] + 3, t[1:]])


def hollow(make: Make, n: int) -> Tensor:
    """A first column that begins with zero."""
    t = make(n) / n
    return torch.cat([t[:1] * 0, t[1:2] + 2, t[2:]])


def nodes(make: Make, n: int) -> Tensor:
    """Nodes that lie apart."""
    t = make(n)
    return torch.arange(n).to(t.dtype) - 2 + t / 8


def eye(make: Make) -> Tensor:
    """A corner that outweighs its border."""
    return 4 * torch.eye(2, dtype=make(1).dtype)


def grid(make: Make, n: int) -> sm.LinearOperator:
    """A sparse matrix that is heavy on its diagonal."""
    i = torch.arange(n)
    values = torch.cat([away(make, n), make(n) / 2, make(n) / 2])
    return sm.Sparse(
        (values, (i.repeat(3), torch.cat([i, (i + 1) % n, (i + 4) % n]))), shape=(n, n)
    )


def thin(make: Make, n: int, r: int) -> sm.LinearOperator:
    return sm.LowRank(make(n, r) / n, make(r, n))


SYSTEMS: dict[str, tuple[Callable[[Make], sm.LinearOperator], str]] = {
    "identity": (lambda r: sm.Identity(5), "identity"),
    "diagonal": (lambda r: sm.Diagonal(away(r, 7)), "diagonal"),
    "permutation": (lambda r: sm.cyclic_shift(7, 3), "permutation"),
    "dense": (lambda r: sm.Dense(regular(r, 6, 6)), "dense lu"),
    "blocks": (lambda r: sm.BlockDiagonal(regular(r, 3, 4, 4)), "block lu"),
    "factor": (
        lambda r: sm.KroneckerSparse(regular(r, 2, 3, 4, 4).movedim(1, -1)),
        "block lu",
    ),
    "monarch": (lambda r: sm.Monarch(regular(r, 4, 3, 3), regular(r, 3, 4, 4)), "monarch"),
    "monarch transposed": (
        lambda r: sm.Monarch(regular(r, 4, 3, 3), regular(r, 3, 4, 4)).T,
        "monarch",
    ),
    "butterfly": (lambda r: sm.Butterfly(regular(r, 3, 4, 2, 2)), "butterfly"),
    "butterfly decreasing": (lambda r: sm.Butterfly(regular(r, 3, 4, 2, 2), False), "butterfly"),
    "dft": (lambda r: sm.DFT(6, dtype=(r(1) + 0j).dtype), "inverse transform"),
    "dct": (lambda r: sm.DCT(6, dtype=r(1).dtype), "inverse transform"),
    "dct 1": (lambda r: sm.DCT(6, 1, "forward", dtype=r(1).dtype), "inverse transform"),
    "dst": (lambda r: sm.DST(6, 3, "ortho", dtype=r(1).dtype), "inverse transform"),
    "rdft": (lambda r: sm.RDFT(7, dtype=r(1).dtype), "inverse transform"),
    "hadamard": (lambda r: sm.Hadamard(8, order="sequency", dtype=r(1).dtype), "inverse transform"),
    "wavelet": (lambda r: sm.Wavelet(8, "db2", dtype=r(1).dtype), "inverse transform"),
    "circulant": (lambda r: sm.Circulant(heavy(r, 6)), "circulant"),
    "circulant prime": (lambda r: sm.Circulant(heavy(r, 13)), "circulant"),
    "circulant skew": (lambda r: sm.Circulant(heavy(r, 6), -1), "circulant"),
    "circulant of f": (lambda r: sm.Circulant(heavy(r, 5), 2.5), "circulant"),
    "triangular toeplitz": (lambda r: sm.Circulant(heavy(r, 6), 0), "triangular toeplitz"),
    "triangular toeplitz transposed": (
        lambda r: sm.Circulant(heavy(r, 6), 0).T,
        "triangular toeplitz",
    ),
    "toeplitz": (lambda r: sm.Toeplitz(heavy(r, 7), heavy(r, 7)), "levinson"),
    "toeplitz hermitian": (lambda r: sm.Toeplitz(heavy(r, 7)), "levinson"),
    "toeplitz without regular minors": (
        lambda r: sm.Toeplitz(hollow(r, 4), hollow(r, 4)),
        "gko",
    ),
    "hankel": (lambda r: sm.Hankel(heavy(r, 6).flip(-1), heavy(r, 6)), "levinson"),
    "causal": (lambda r: sm.Convolution(heavy(r, 3), 7), "triangular toeplitz"),
    "causal transposed": (lambda r: sm.Convolution(heavy(r, 9), 7).T, "triangular toeplitz"),
    "same": (lambda r: sm.Convolution(heavy(r, 3).roll(1), 7, "same"), "levinson"),
    "circular": (lambda r: sm.Convolution(heavy(r, 9), 7, "circular").T, "circulant"),
    "circular image": (
        lambda r: sm.Convolution(heavy(r, 6).reshape(3, 2), (4, 5), "circular"),
        "circulant",
    ),
    "displacement": (
        lambda r: sm.LowDisplacementRank.from_product(
            sm.Toeplitz(heavy(r, 6)), sm.Toeplitz(heavy(r, 6), heavy(r, 6))
        ),
        "gko",
    ),
    "cauchy": (lambda r: sm.Cauchy(nodes(r, 5), nodes(r, 5) + 0.5), "gko"),
    "vandermonde": (lambda r: sm.Vandermonde(nodes(r, 5)), "bjorck-pereyra"),
    "vandermonde transposed": (lambda r: sm.Vandermonde(nodes(r, 5)).T, "bjorck-pereyra"),
    "companion": (lambda r: sm.Companion(away(r, 6)), "companion"),
    "companion transposed": (lambda r: sm.Companion(away(r, 6)).T, "companion"),
    "scaled": (lambda r: 2 * sm.Diagonal(away(r, 4)), "diagonal"),
    "scaled by a tensor": (
        lambda r: sm.Scaled(away(r, 1)[0], sm.Circulant(heavy(r, 4))),
        "circulant",
    ),
    "transpose": (lambda r: sm.Dense(regular(r, 4, 4)).T, "dense lu"),
    "inverse": (lambda r: sm.Inverse(sm.Dense(regular(r, 4, 4))), "inverse of an inverse"),
    "product": (
        lambda r: sm.Diagonal(away(r, 6)) @ sm.Circulant(heavy(r, 6)) @ sm.reversal(6),
        "product (diagonal; circulant; permutation)",
    ),
    "kronecker": (
        lambda r: sm.kron(sm.Diagonal(away(r, 2)), sm.Dense(regular(r, 3, 3)), sm.reversal(2)),
        "kronecker (diagonal; dense lu; permutation)",
    ),
    "direct sum": (
        lambda r: sm.direct_sum(sm.Diagonal(away(r, 2)), sm.Dense(regular(r, 3, 3))),
        "direct sum (diagonal; dense lu)",
    ),
    "triangular": (
        lambda r: sm.assume(sm.Dense(regular(r, 5, 5).tril()), triangular="lower"),
        "triangular",
    ),
    "triangular transposed": (
        lambda r: sm.assume(sm.Dense(regular(r, 5, 5).tril()), triangular="lower").T,
        "triangular",
    ),
    "unitary": (
        lambda r: sm.assume(sm.Dense(torch.linalg.qr(r(5, 5)).Q), unitary=True),
        "adjoint",
    ),
    "state space": (
        lambda r: sm.StateSpace(r(3) / 2, r(3), r(3), away(r, 1)[0], length=8),
        "triangular toeplitz",
    ),
    "sparse": (lambda r: grid(r, 12), "sparse lu"),
    "block sparse": (
        lambda r: sm.BlockSparse(regular(r, 3, 2, 2), torch.eye(3, dtype=torch.bool)),
        "sparse lu",
    ),
    "kronecker sum": (
        lambda r: sm.kron_sum(sm.Dense(regular(r, 3, 3)), sm.Diagonal(2 + r(4) / 4)),
        "eigenvectors of the factors",
    ),
    "kronecker and shift": (
        lambda r: 4 * sm.Identity(12) + sm.kron(sm.Dense(r(3, 3) / 3), sm.Dense(r(4, 4) / 4)),
        "eigenvectors of the factors",
    ),
    "hermitian kronecker and shift": (
        lambda r: sm.kron(sm.Toeplitz(heavy(r, 3)), sm.Diagonal(2 + r(2) / 2)) + sm.Identity(6),
        "eigenvectors of the factors",
    ),
    "block triangular": (
        lambda r: sm.block(
            [[sm.Diagonal(away(r, 3)), sm.Dense(r(3, 4))], [0, sm.Circulant(heavy(r, 4))]]
        ),
        "block substitution (diagonal; circulant)",
    ),
    "bordered": (
        lambda r: sm.block([[sm.Diagonal(away(r, 6)), r(6, 2) / 4], [r(2, 6) / 4, eye(r)]]),
        "block elimination (diagonal)",
    ),
    "bordered on top": (
        lambda r: sm.block([[eye(r), r(2, 6) / 4], [r(6, 2) / 4, sm.Diagonal(away(r, 6))]]),
        "block elimination (diagonal)",
    ),
    "woodbury": (lambda r: sm.Diagonal(away(r, 8)) + thin(r, 8, 2), "woodbury (diagonal)"),
    "woodbury identity": (
        lambda r: 3 * sm.Identity(8) + thin(r, 8, 1) - 2 * thin(r, 8, 1),
        "woodbury (identity)",
    ),
    "woodbury kronecker": (
        lambda r: sm.kron(sm.Dense(regular(r, 3, 3)), sm.Diagonal(away(r, 3))) + thin(r, 9, 1),
        "woodbury (kronecker (dense lu; diagonal))",
    ),
}  # fmt: skip

KINDS = {"real64": torch.float64, "complex128": torch.complex128, "real32": torch.float32}


def maker(kind: str, seed: int = 0, batch: tuple[int, ...] = ()) -> Make:
    g = torch.Generator().manual_seed(seed)
    dtype = KINDS[kind]

    def make(*shape: int) -> Tensor:
        return 2 * torch.rand(*batch, *shape, generator=g, dtype=dtype) - 1

    return make


def close(got: Tensor, a: Tensor, b: Tensor) -> None:
    """x against the dense solution, with a tolerance that knows the condition of the matrix."""
    want = torch.linalg.solve(a, b.to(a.dtype))
    assert got.shape == want.shape
    eps = torch.finfo(got.dtype).eps
    size = want.abs().max().item() if want.numel() else 0.0
    cond = torch.linalg.cond(a).max().item() if a.numel() else 1.0
    torch.testing.assert_close(got, want.to(got.dtype), rtol=0, atol=100 * eps * cond * size)


UNREAD = ("triangular", "triangular transposed", "unitary")
"""Numerical differences leave what was declared."""

every_system = pytest.mark.parametrize("name", SYSTEMS)


@every_system
@pytest.mark.parametrize("kind", KINDS)
def test_solve(name: str, kind: str) -> None:
    make, method = SYSTEMS[name]
    op = make(maker(kind))
    n = op.shape[0]
    dense = op.to_dense()
    draw = maker(kind, 1)
    for shape in [(n,), (n, 3), (n, 0), (2, n, 2), (2, 1, n, 1)]:
        b = draw(*shape)
        solution = sm.solve(op, b)
        assert solution.method == method
        assert solution.iterations == 0
        want = torch.promote_types(op.dtype if op.strong_dtype else b.dtype, b.dtype)
        assert solution.x.dtype == want
        assert float(solution.residual) < 1e4 * torch.finfo(want).eps
        square = b if len(shape) > 1 else b[:, None]
        x = solution.x if len(shape) > 1 else solution.x[:, None]
        wide = dense.to(want)
        close(x, wide.expand(*shape[:-2], n, n), square)


@every_system
def test_inverse(name: str) -> None:
    """inv(A) is an operator like any other, and cancels with A."""
    op = SYSTEMS[name][0](maker("real64"))
    inverse = sm.inv(op)
    check_operator(sm.Inverse(op))
    eye = torch.eye(op.shape[0], dtype=op.dtype)
    torch.testing.assert_close(inverse.to_dense() @ op.to_dense(), eye, rtol=0, atol=1e-11)
    for product in (op @ inverse, inverse @ op):
        assert isinstance(product.simplify(), sm.Identity), product.simplify()
    assert sm.inv(inverse).simplify().structure == op.simplify().structure


@pytest.mark.parametrize("name", [n for n in SYSTEMS if n not in UNREAD])
def test_gradients(name: str) -> None:
    op = SYSTEMS[name][0](maker("real64"))
    tensors = [t.clone().requires_grad_() for t in op.parameters()]
    b = maker("real64", 1)(op.shape[0], 2).requires_grad_()

    def apply(b: Tensor, *tensors: Tensor) -> Tensor:
        table = dict(zip(map(id, op.parameters()), tensors, strict=True))
        new = op._map(lambda t: table[id(t)], None)
        x = sm.solve(new, b, check=False).x
        return torch.view_as_real(x) if x.is_complex() else x

    assert torch.autograd.gradcheck(apply, (b, *tensors), fast_mode=True)
    assert torch.autograd.gradgradcheck(apply, (b, *tensors), fast_mode=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SYSTEMS if n not in UNREAD])
@pytest.mark.parametrize("kind", ["complex128", "real64"])
def test_complex_gradients(name: str, kind: str) -> None:
    op = SYSTEMS[name][0](maker(kind))
    tensors = [t.detach().clone().requires_grad_() for t in op.parameters()]
    places = {id(t): i for i, t in enumerate(op.parameters())}
    b = maker("complex128", 1)(op.shape[0], 2).requires_grad_()

    def apply(b: Tensor, *tensors: Tensor) -> Tensor:
        new = op._map(lambda t: tensors[places[id(t)]], None)._assuming(op.assumed)
        return torch.view_as_real(sm.solve(new, b, check=False).x.to(torch.complex128))

    assert torch.autograd.gradcheck(apply, (b, *tensors))


MANY = [n for n in SYSTEMS if n not in ("toeplitz without regular minors",)]


def batched(name: str, batch: tuple[int, ...]) -> tuple[sm.LinearOperator, list[sm.LinearOperator]]:
    """A batch of operators of one structure, and its members."""
    members = [SYSTEMS[name][0](maker("real64", seed)) for seed in range(math.prod(batch))]
    tables = [list(m.parameters()) for m in members]
    stacked = {
        id(t): torch.stack([table[i] for table in tables]).reshape(*batch, *t.shape)
        for i, t in enumerate(tables[0])
    }
    return members[0]._map(lambda t: stacked[id(t)], None), members


@pytest.mark.parametrize("name", MANY)
def test_batches(name: str) -> None:
    """A batch of operators, b with and without it, and more dimensions in front."""
    op, members = batched(name, (3,))
    if not op.batch_shape:
        return
    n = op.shape[0]
    draw = maker("real64", 7)
    for shape in [(n, 2), (3, n, 2), (2, 3, n, 1), (2, 1, n, 2)]:
        b = draw(*shape)
        x = sm.solve(op, b).x
        wide = b.expand(*torch.broadcast_shapes((3,), shape[:-2]), *shape[-2:])
        assert x.shape == wide.shape
        for i, member in enumerate(members):
            close(
                x[..., i, :, :],
                member.to_dense().expand(*wide.shape[:-3], n, n),
                wide[..., i, :, :],
            )
    x = sm.Inverse(op) @ draw(n, 2)
    assert x.shape == (3, n, 2)
    assert sm.solve(op, draw(n)).x.shape == (3, n)


@every_system
def test_vmap(name: str) -> None:
    """Under torch.vmap no number is looked at: elimination serves where Levinson did."""
    op = SYSTEMS[name][0](maker("real64"))
    b = maker("real64", 1)(3, op.shape[0])
    inverse = sm.Inverse(op)
    x = torch.vmap(inverse)(b)
    close(x.mT, op.to_dense().to(x.dtype), b.mT)


@every_system
def test_devices(name: str) -> None:
    """No step makes a tensor on another device: meta tensors would refuse it."""
    op = SYSTEMS[name][0](maker("real64"))
    if not list(op.parameters()):
        return
    away_ = op._map(lambda t: t.to("meta").requires_grad_(), None)._assuming(op.assumed)
    b = torch.ones(op.shape[0], 2, dtype=W, device="meta")
    x = sm.solve(away_, b).x
    assert (x.device.type, x.shape) == ("meta", (op.shape[0], 2))
    torch.autograd.grad(x.abs().sum(), list(away_.parameters()))


@pytest.mark.parametrize("name", ["dense", "toeplitz", "cauchy", "sparse", "triangular"])
def test_vmap_over_operators_and_forward_mode(name: str) -> None:
    op = SYSTEMS[name][0](maker("real64"))
    r = maker("real64", 3)
    b = r(op.shape[0], 2)
    table = {id(t): i for i, t in enumerate(op.parameters())}

    def apply(b: Tensor, *tensors: Tensor) -> Tensor:
        new = op._map(lambda t: tensors[table[id(t)]], None)._assuming(op.assumed)
        return sm.solve(new, b).x

    tensors = list(op.parameters())
    many = [torch.stack([t, t * 1.5]) for t in tensors]
    x = torch.vmap(apply, in_dims=(None, *(0 for _ in many)))(b, *many)
    for i in range(2):
        torch.testing.assert_close(x[i], apply(b, *(t[i] for t in many)))
    change = [r(*t.shape) * (t != 0) for t in tensors]
    forward: Any = torch.func.jvp(lambda *t: apply(b, *t), tuple(tensors), tuple(change))
    pulled: Any = torch.func.vjp(lambda *t: apply(b, *t), *tensors)
    g = r(*b.shape)
    backward = sum((v * c).sum() for v, c in zip(pulled[1](g), change, strict=True))
    torch.testing.assert_close((forward[1] * g).sum(), torch.as_tensor(backward))


INVERSES: dict[str, Callable[[Make], sm.LinearOperator]] = {
    "in a kronecker product": lambda r: sm.kron(
        sm.Dense(r(2, 3)), sm.Inverse(sm.Dense(regular(r, 3, 3))), sm.Diagonal(r(2))
    ),
    "of a toeplitz matrix, lifted": lambda r: sm.kron(
        sm.Identity(2), sm.Inverse(sm.Toeplitz(heavy(r, 4))), sm.Identity(3)
    ),
    "in a direct sum": lambda r: sm.direct_sum(
        sm.Inverse(sm.Dense(regular(r, 3, 3))), sm.Dense(r(2, 4))
    ),
    "of a sum": lambda r: sm.inv(sm.Dense(regular(r, 4, 4)) + sm.Circulant(heavy(r, 4))),
    "in a product": lambda r: (
        sm.Dense(r(3, 5)) @ sm.inv(sm.Dense(regular(r, 5, 5))).T @ sm.reversal(5)
    ),
    "of a batch": lambda r: sm.inv(sm.Dense(regular(r, 2, 4, 4))) @ sm.Diagonal(r(4)),
    "of a batch of toeplitz matrices": lambda r: sm.inv(
        sm.Toeplitz(torch.stack([heavy(r, 4), heavy(r, 4)]))
    ),
    "resolvent": lambda r: (
        sm.LowRank(r(3, 4), r(4, 6))
        @ sm.inv(4 * sm.Identity(6) - sm.Dense(r(6, 6) / 3)) ** 2
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INVERSES)
@pytest.mark.parametrize("kind", ["real64", "complex128"])
def test_inverses_inside_expressions(name: str, kind: str) -> None:
    check_operator(INVERSES[name](maker(kind)))


def test_properties_of_inverses() -> None:
    r = maker("real64")
    m = sm.Dense(regular(r, 4, 4))
    psd = sm.Inverse(sm.assume(m, psd=True))
    assert (sm.is_psd(psd), sm.is_symmetric(psd), sm.is_real(psd)) == (True, True, True)
    assert sm.is_symmetric(sm.Inverse(m)) is None
    assert sm.is_triangular(sm.Inverse(sm.Circulant(heavy(r, 4), 0)), "lower") is True
    assert sm.is_diagonal(sm.Inverse(sm.Diagonal(away(r, 4)))) is True
    assert sm.is_unitary(sm.Inverse(sm.assume(m, unitary=True))) is True
    assert sm.is_unitary(sm.Inverse(sm.DFT(8))) is False
    assert sm.displacement_rank(sm.Inverse(sm.Toeplitz(heavy(r, 9), heavy(r, 9)))) == 2
    assert sm.rank_bound(sm.Inverse(m)) == 4


class Grown:
    """Random expressions of regular operators, with the method that solves each leaf."""

    def __init__(self, seed: int) -> None:
        self.choice = random.Random(seed).choice
        self.make = maker("real64", seed)

    def tree(self, n: int, depth: int) -> sm.LinearOperator:
        """A regular n x n operator."""
        if depth and self.choice((True, True, False)):
            return self.node(n, depth - 1)
        r = self.make
        leaves: list[Callable[[], sm.LinearOperator]] = [
            lambda: sm.Dense(regular(r, n, n)),
            lambda: sm.Diagonal(away(r, n)),
            lambda: sm.Permutation(torch.arange(n).roll(1).flip(0)),
            lambda: sm.Circulant(heavy(r, n), self.choice((1, -1, 0))),
            lambda: sm.Toeplitz(heavy(r, n), heavy(r, n)),
            lambda: sm.DCT(n, norm="ortho", dtype=W),
            lambda: sm.Identity(n),
        ]
        return self.choice(leaves)()

    def node(self, n: int, depth: int) -> sm.LinearOperator:
        """A composition."""
        k = self.choice([d for d in range(1, n + 1) if n % d == 0])
        made: list[Callable[[], sm.LinearOperator]] = [
            lambda: self.tree(n, depth) @ self.tree(n, depth),
            lambda: sm.kron(self.tree(k, depth), self.tree(n // k, depth)),
            lambda: (
                sm.direct_sum(self.tree(k, depth), self.tree(n - k, depth))
                if k < n
                else self.tree(n, depth)
            ),
            lambda: self.tree(n, depth).T,
            lambda: self.choice((2.0, -0.5)) * self.tree(n, depth),
            lambda: sm.Inverse(self.tree(n, depth)),
            lambda: 4 * sm.Diagonal(away(self.make, n)) + thin(self.make, n, 1),
        ]
        return self.choice(made)()


def test_random_trees() -> None:
    """Products, Kronecker products, direct sums, ... of regular leaves; and their inverses."""
    for seed in range(120):
        grown = Grown(seed)
        op = grown.tree(grown.choice((1, 2, 4, 6, 12)), 3)
        n, dense = op.shape[0], op.to_dense().to(W)
        b = maker("real64", seed + 1)(n, 2)
        solution = sm.solve(op, b)
        close(solution.x, dense, b)
        close(sm.inv(op) @ b, dense, b)
        close(sm.inv(op).simplify() @ b, dense, b)


def test_closed_forms() -> None:
    r = maker("real64")
    inverse = {name: sm.inv(make(r)).simplify() for name, (make, _) in SYSTEMS.items()}
    kinds = {
        "diagonal": sm.Diagonal,
        "permutation": sm.Permutation,
        "blocks": sm.BlockDiagonal,
        "factor": sm.KroneckerSparse,
        "butterfly": sm.Butterfly,
        "circulant of f": sm.Circulant,
        "triangular toeplitz": sm.Circulant,
        "dft": sm.DFT,
        "kronecker": sm.Kronecker,
        "woodbury": sm.Sum,
        "dense": sm.Inverse,
        "toeplitz": sm.Inverse,
    }
    for name, kind in kinds.items():
        assert isinstance(inverse[name], kind), inverse[name]
    for name in ("diagonal", "monarch", "circulant", "woodbury", "kronecker"):
        op = inverse[name]
        if not isinstance(op, sm.Kronecker):
            x = r(3, op.shape[1])
            torch.testing.assert_close(sm.compile(op, backend="torch")(x), op(x))
    a = SYSTEMS["dense"][0](r)
    with pytest.raises(
        NotImplementedError, match=r"Dense\(6x6\)\^-1 acts by a function of its own.*sm.solve"
    ):
        sm.compile(sm.inv(a))(r(6))


def test_powers() -> None:
    a = SYSTEMS["dense"][0](maker("real64"))
    want = torch.linalg.matrix_power(a.to_dense(), -3)
    torch.testing.assert_close((a**-3).to_dense(), want)
    assert isinstance((a**2 @ a**-2).simplify(), sm.Identity)


# methods ---------------------------------------------------------------------------------------


def test_many_columns_of_a_toeplitz_matrix() -> None:
    """Gohberg and Semencul where the inverse pays, with its way out where x_0 is zero."""
    r = maker("real64")
    op = sm.Toeplitz(heavy(r, 300), heavy(r, 300))
    b = r(300, 40)
    solution = sm.solve(op, b)
    assert solution.method == "gohberg-semencul"
    close(solution.x, op.to_dense(), b)
    for method in ("levinson", "gko", "gohberg-semencul", "dense", "gmres"):
        assert sm.solve(op, b[:, :2], method=method).method.startswith(method)
    hollow_ = sm.Toeplitz(torch.tensor([0.0, 1.0], dtype=W), torch.tensor([0.0, 1.0], dtype=W))
    assert sm.solve(hollow_, b[:2], method="gohberg-semencul").method == "gko"


def test_iterative() -> None:
    r = maker("real64")
    m = r(12, 12)
    psd = sm.assume(sm.Dense(m @ m.mT + torch.eye(12, dtype=W)), psd=True)
    b = r(12, 3)
    for method in ("cg", "minres", "gmres", "lsmr", "cgls"):
        solution = sm.solve(psd, b, method=method)
        assert (solution.method, solution.iterations > 0) == (method, True)
        close(solution.x, 1e4 * psd.to_dense() / 1e4, b) if method in ("cg", "gmres") else None
        assert float(solution.residual) < 1e-10
    many = sm.assume(sm.Dense(psd.to_dense() * torch.tensor([1.0, 2.0])[:, None, None]), psd=True)
    for method in ("cg", "gmres"):
        x = sm.solve(many, b, method=method).x
        torch.testing.assert_close(x, torch.linalg.solve(many.to_dense(), b), rtol=1e-8, atol=1e-8)
    with pytest.raises(ValueError, match="lsmr runs in SciPy, for one operator on the CPU"):
        sm.solve(many, b, method="lsmr")
    with pytest.warns(sm.linalg.IllConditionedWarning, match="cg reached a relative residual"):
        sm.solve(psd, b, method="cg", maxiter=2)
    assert sm.solve(psd, 0 * b, method="cg").iterations == 0
    both = sm.solve(psd, torch.complex(b, r(12, 3)), method="minres")
    assert both.residual < 1e-10
    with pytest.raises(ValueError, match=r"method 'minres' does not serve.*cg, gmres"):
        sm.solve(psd.to(torch.complex128), b, method="minres")


@pytest.mark.parametrize("method", ["cg", "minres", "gmres", "cgls", "levinson", "gko"])
def test_gradients_by_the_adjoint(method: str) -> None:
    r = maker("real64")
    c, b = heavy(r, 5).requires_grad_(), r(5, 2).requires_grad_()

    def apply(c: Tensor, b: Tensor) -> Tensor:
        op = sm.assume(sm.Toeplitz(c), psd=True)
        return sm.solve(op, b, method=method).x

    assert torch.autograd.gradcheck(apply, (c, b), atol=1e-4, fast_mode=True)
    if method in ("cg", "levinson"):
        assert torch.autograd.gradgradcheck(apply, (c, b), atol=1e-4, fast_mode=True)


# least squares ---------------------------------------------------------------------------------

RECTANGULAR: dict[str, tuple[Callable[[Make], sm.LinearOperator], str]] = {
    "tall": (lambda r: sm.Dense(r(7, 4)), "dense svd"),
    "wide": (lambda r: sm.Dense(r(4, 7)), "dense svd"),
    "deficient": (lambda r: sm.Dense(r(6, 2) @ r(2, 4)), "dense svd"),
    "low rank": (lambda r: sm.LowRank(r(7, 2), r(2, 5)), "pseudoinverse"),
    "blocks": (lambda r: sm.BlockDiagonal(r(3, 4, 2)), "pseudoinverse"),
    "factor": (lambda r: sm.KroneckerSparse(r(2, 3, 2, 3)), "pseudoinverse"),
    "kronecker": (lambda r: sm.kron(sm.Dense(r(3, 2)), sm.Diagonal(r(2))), "pseudoinverse"),
    "direct sum": (lambda r: sm.direct_sum(sm.Dense(r(3, 2)), sm.Zero(1)), "pseudoinverse"),
    "transposed": (lambda r: 2 * sm.LowRank(r(7, 2), r(2, 5)).T, "pseudoinverse"),
    "unitary outside": (
        lambda r: sm.DCT(6, norm="ortho") @ sm.Dense(r(6, 4)) @ sm.cyclic_shift(4),
        "pseudoinverse",
    ),
    "toeplitz": (lambda r: sm.Toeplitz(r(7), r(4)), "dense svd"),
}


@pytest.mark.parametrize("name", RECTANGULAR)
@pytest.mark.parametrize("kind", KINDS)
def test_least_squares(name: str, kind: str) -> None:
    make, method = RECTANGULAR[name]
    op = make(maker(kind))
    b = maker(kind, 1)(op.shape[0], 2)
    want = torch.linalg.pinv(op.to_dense()) @ b
    tol = 1e5 * torch.finfo(b.dtype).eps
    solution = sm.solve(op, b)
    assert solution.method == method
    torch.testing.assert_close(solution.x, want, rtol=tol, atol=tol)
    torch.testing.assert_close(sm.pinv(op) @ b, want, rtol=tol, atol=tol)
    for iterative in ("lsmr", "cgls") if kind != "real32" else ():
        x = sm.solve(op, b, method=iterative).x
        torch.testing.assert_close(x, want, rtol=1e-6, atol=1e-6)


def test_pseudoinverse_of_square_operators() -> None:
    r = maker("real64")
    d = sm.Diagonal(torch.tensor([2.0, 0.0, 4.0], dtype=W))
    assert sm.pinv(d).to_dense().diagonal().tolist() == [0.5, 0, 0.25]
    c = sm.Circulant(torch.tensor([1.0, 1, 1, 1], dtype=W))
    torch.testing.assert_close(sm.pinv(c).to_dense(), torch.linalg.pinv(c.to_dense()))
    for op in (
        sm.reversal(4),
        sm.Hadamard(4),
        sm.Zero(3),
        0 * sm.Identity(3),
        sm.Inverse(sm.Dense(r(3, 3))),
    ):
        dense = op.to_dense()
        torch.testing.assert_close(sm.pinv(op).to_dense(), torch.linalg.pinv(dense))


@pytest.mark.parametrize("method", ["dense", "lsmr", "cgls"])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
def test_gradients_of_least_squares(shape: tuple[int, int], method: str) -> None:
    r = maker("real64")
    w, b = r(*shape).requires_grad_(), r(shape[0], 2).requires_grad_()

    def apply(w: Tensor, b: Tensor) -> Tensor:
        return sm.solve(sm.Dense(w), b, method=method).x

    assert torch.autograd.gradcheck(apply, (w, b), atol=1e-4, fast_mode=True)


# what goes wrong -------------------------------------------------------------------------------


def test_cholesky_and_its_way_out() -> None:
    r = maker("real64")
    m, b = r(5, 5), r(5, 2)
    psd = sm.assume(sm.Dense(m @ m.mT + torch.eye(5, dtype=W)), psd=True)
    solution = sm.solve(psd, b)
    assert solution.method == "cholesky"
    close(solution.x, psd.to_dense(), b)
    wrong = sm.assume(sm.Dense(regular(r, 5, 5) * torch.tensor([1, -1, 1, 1, 1])), psd=True)
    assert sm.solve(wrong, b).method == "dense lu"
    product = sm.Toeplitz(heavy(r, 5)) @ sm.Toeplitz(heavy(r, 5)).T + sm.Identity(5)
    assert sm.solve(product, b).method in ("dense cholesky", "dense lu")
    assert sm.solve(sm.LinearOperator.__add__(sm.Diagonal(away(r, 5)), psd), b).residual < 1e-12


def test_fallbacks_are_named_also_inside() -> None:
    r = maker("real64")
    b = r(6, 2)
    t = SYSTEMS["toeplitz without regular minors"][0](r)
    k = sm.Hankel(torch.tensor([0.0, 1, 0], dtype=W), torch.tensor([0.0, 0, 1], dtype=W))
    cases = {
        "gko": 2 * sm.Toeplitz(hollow(r, 6), hollow(r, 6)),
        "direct sum (gko; diagonal)": sm.direct_sum(t, sm.Diagonal(away(r, 2))),
        "kronecker (diagonal; gko)": sm.kron(sm.Diagonal(away(r, 2)), k),
        "product (gko; circulant)": sm.Toeplitz(hollow(r, 6)) @ sm.Circulant(heavy(r, 6)),
        "block substitution (gko; diagonal)": sm.block(
            [[t, 0], [r(2, 4), sm.Diagonal(away(r, 2))]]
        ),
        "dense lu": sm.Diagonal(torch.tensor([0.0, 1, 1, 1, 1, 1], dtype=W)) + thin(r, 6, 2),
    }
    for name, op in cases.items():
        solution = sm.solve(op, b)
        assert solution.method == name
        close(solution.x, op.to_dense(), b)
        close(sm.Inverse(op) @ b, op.to_dense(), b) if name != "dense lu" else None


def test_large_orthogonal_matrices_are_well_conditioned() -> None:
    n = 1 << 17
    assert sm.solve(sm.DCT(n, norm="ortho"), torch.ones(n)).residual < 1e-4


def test_vandermonde_nodes_in_an_unfortunate_order() -> None:
    """The Fourier matrix has condition one, and its nodes in order lose every digit."""
    k = torch.arange(64, dtype=W)
    op = sm.Vandermonde(torch.polar(torch.ones_like(k), k * (math.pi / 32)))
    b = maker("complex128")(64, 2)
    for one in (op, op.T):
        solution = sm.solve(one, b)
        assert solution.method == "bjorck-pereyra"
        close(solution.x, one.to_dense(), b)


def test_the_last_resort_is_lu() -> None:
    k = torch.arange(60, dtype=W)
    op = sm.Toeplitz(torch.sinc(k / 2) / 2)  # prolate: half of the eigenvalues are almost zero
    with pytest.warns(sm.linalg.IllConditionedWarning):
        solution = sm.solve(op, op @ torch.ones(60, dtype=W))
    assert solution.method == "dense lu"
    assert solution.residual < 1e-10


def test_singular_systems_raise() -> None:
    n = 4
    b = torch.ones(n, dtype=W)
    ones = torch.ones(n, dtype=W)
    cases: list[tuple[sm.LinearOperator, str]] = [
        (sm.Diagonal(torch.tensor([1.0, 0, 1, 1], dtype=W)), r"Diagonal\(4\) is singular.*pinv"),
        (sm.Dense(torch.ones(n, n, dtype=W)), r"Dense\(4x4\) is singular, by dense lu"),
        (sm.Zero(n), "all its entries are zero"),
        (0 * sm.Identity(n), "the factor in front is zero"),
        (sm.LowRank(ones[:, None], ones[None]), "its rank is at most 1 of 4"),
        (sm.Dense(ones[:, None]) @ sm.Dense(ones[None]), "its rank is at most 1 of 4"),
        (sm.BlockDiagonal(torch.ones(2, 2, 2, dtype=W)), "is singular"),
        (sm.Circulant(ones), "singular|ill-conditioned"),
        (sm.Toeplitz(ones, ones), "singular"),
        (sm.kron(sm.Diagonal(ones[:2] * 0), sm.Identity(2)), "singular"),
    ]
    for op, message in cases:
        with pytest.raises(sm.linalg.SingularError, match=message):
            sm.solve(op, b)
        with pytest.raises(torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            sm.solve(op, b)


def test_ill_conditioned_systems_warn() -> None:
    n = 14
    i = torch.arange(1, n + 1, dtype=W)
    hilbert = sm.Dense(1 / (i[:, None] + i - 1))
    b = hilbert @ torch.ones(n, dtype=W)
    with pytest.warns(sm.linalg.IllConditionedWarning, match=r"ill-conditioned, about .*float64"):
        solution = sm.solve(hilbert, b)
    assert float(solution.residual) < 1e-10  # the residual alone would not tell
    sm.solve(hilbert, b, check=False)
    with pytest.warns(sm.linalg.IllConditionedWarning):
        sm.solve(sm.Diagonal(torch.tensor([1.0, 1e-30])), torch.ones(2))


def test_errors() -> None:
    a = sm.Dense(torch.eye(3))
    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: sm.inv(sm.Dense(torch.ones(2, 3))), ValueError, r"2x3, not square; sm.pinv"),
        (lambda: sm.inv(torch.eye(2)), TypeError, r"Tensor is not an operator; wrap it: sm.Dense"),  # type: ignore[arg-type]
        (lambda: sm.Inverse(sm.Zero(2, 3)), ValueError, "Inverse: .* not square"),
        (lambda: sm.inv(0 * a), sm.linalg.SingularError, "is zero"),
        (lambda: sm.solve(torch.eye(2), torch.ones(2)), TypeError, "not an operator"),  # type: ignore[arg-type]
        (lambda: sm.pinv(torch.eye(2)), TypeError, "not an operator"),  # type: ignore[arg-type]
        (lambda: sm.solve(a, torch.ones(4)), ValueError, r"has 3 rows, b has shape \(4,\)"),
        (lambda: sm.solve(a, torch.ones(2, 4)), ValueError, r"for rows \(..., n\) pass b.mT"),
        (lambda: sm.solve(a, torch.ones(3, dtype=torch.int64)), TypeError, r"b.to\(torch.float64"),
        (
            lambda: sm.solve(a, torch.ones(3, device="meta")),
            ValueError,
            r"is on cpu, b on meta; move one: A.to\(b.device\)",
        ),
        (
            lambda: sm.solve(sm.Diagonal(torch.tensor([1.0, math.inf, math.nan])), torch.ones(3)),
            ValueError,
            r"Diagonal\(3\) holds NaN or infinity",
        ),
        (
            lambda: sm.solve(a, torch.tensor([1.0, math.nan, 0])),
            ValueError,
            "holds NaN or infinity",
        ),
        (lambda: sm.solve(a, torch.tensor(1.0)), ValueError, "at least 1 dim"),
        (lambda: sm.solve(a, torch.ones(3), method="cholesky"), ValueError, "these do: dense lu, "),
        (
            lambda: sm.solve(sm.Dense(torch.ones(2, 3, 3)), torch.ones(4, 3, 1)),
            ValueError,
            r"batch \(2,\) of Dense\(3x3\) does not broadcast",
        ),
        (
            lambda: sm.solve(sm.Dense(torch.ones(2, 3)), torch.ones(2), method="cg"),
            ValueError,
            "these do: pseudoinverse, dense, lsmr, cgls",
        ),
        (
            lambda: sm.pinv(sm.Toeplitz(torch.ones(3000), torch.ones(3001))),
            ValueError,
            "more than 2048 a side to become dense; sm.solve",
        ),
        (lambda: torch.vmap(lambda x: sm.solve(a, x, method="gmres").x)(torch.ones(2, 3)),
         RuntimeError, "gmres looks at numbers"),
    ]  # fmt: skip
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()


def test_what_is_too_large_to_become_dense_is_iterated() -> None:
    n = 2200
    g = torch.Generator().manual_seed(0)
    v = torch.randn(n, generator=g, dtype=W)
    op = sm.Diagonal(v.abs() + 4) + sm.Circulant(heavy(lambda k: v[:k], n))
    solution = sm.solve(op, v)
    assert solution.method == "gmres"
    assert float(solution.residual) < 1e-10


def test_empty_systems() -> None:
    for op in (sm.Dense(torch.ones(0, 0)), sm.Identity(0), sm.Toeplitz(torch.ones(0)), sm.DFT(0)):
        assert sm.solve(op, torch.ones(0)).x.shape == (0,)
        assert sm.solve(op, torch.ones(0, 2)).x.shape == (0, 2)


def test_half_precision_is_solved_in_single() -> None:
    r = maker("real32")
    op = sm.Dense(regular(r, 5, 5).to(torch.bfloat16))
    x = sm.solve(op, torch.ones(5, dtype=torch.bfloat16)).x
    assert x.dtype == torch.bfloat16
    assert sm.inv(op)(torch.ones(5, dtype=torch.bfloat16)).dtype == torch.bfloat16
