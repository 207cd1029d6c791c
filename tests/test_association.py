"""Chains are cut where they are cheapest: the plan against every plan, and what it may not do."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import structmat as sm
from structmat.rules.association import atoms_of, partition
from structmat.rules.measure import Measurer, Weigher, flops

G = torch.Generator().manual_seed(0)


def ints(*shape: int) -> Tensor:
    return torch.randint(-1, 2, shape, generator=G).to(torch.float64)


def shuffle(n: int) -> sm.Permutation:
    return sm.Permutation(torch.randperm(n, generator=G))


def stored(op: sm.LinearOperator) -> int:
    return sum(t.numel() * t.element_size() for t in op.parameters())


def chain(seed: int, k: int) -> sm.Product:
    """k factors of one side: patterns, permutations, low rank, Monarch, sums."""
    rng = random.Random(seed)
    n = rng.choice((6, 8, 12))

    def pattern() -> sm.LinearOperator:
        a = rng.choice([a for a in range(1, n + 1) if n % a == 0])
        d = rng.choice([d for d in range(1, n // a + 1) if n // a % d == 0])
        return sm.KroneckerSparse(ints(a, n // (a * d), n // (a * d), d)).simplify()

    makers: list[Callable[[], sm.LinearOperator]] = [
        pattern,
        pattern,
        lambda: shuffle(n),
        lambda: sm.LowRank(ints(n, 2), ints(2, n)),
        lambda: sm.Monarch(ints(2, n // 2, 2), ints(2, 2, n // 2)),
        lambda: sm.Diagonal(ints(n)) + shuffle(n),
        lambda: sm.Diagonal(ints(n)),
    ]
    return sm.Product(*(rng.choice(makers)() for _ in range(k)))


def smallest_pattern(support: Tensor) -> int:
    """The number of entries of the smallest Kronecker-sparse pattern around a support."""
    m, n = support.shape
    sizes = []
    for a, d in itertools.product(range(1, m + 1), repeat=2):
        if m % (a * d) == 0 == n % (a * d):
            pattern = torch.ones(a, m // (a * d), n // (a * d), d)
            if not (support.bool() & (sm.KroneckerSparse(pattern).to_dense() == 0)).any():
                sizes.append(pattern.numel())
    return min(sizes)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("materialize", [False, True])
def test_the_plan_is_the_cheapest_of_all_partitions(seed: int, materialize: bool) -> None:
    op = chain(seed, 5)
    weigher = Weigher(batch=7, materialize=materialize)
    atoms = atoms_of(op, Measurer())[:7]
    k = len(atoms)

    def price(cuts: list[tuple[int, int]]) -> int | None:
        total = 0
        for i, j in cuts:
            part = atoms[i:j]
            lazy = sum(a.flops for a in part), sum(size for a in part for _, size in a.stored)
            if j == i + 1:
                total += weigher.price(*lazy)
                continue
            # the pattern follows from the support of the product itself
            support = torch.eye(part[0].sides[0])
            for a in part:
                made = torch.ones(a.sides) if isinstance(a.part, sm.LinearOperator) else None
                if isinstance(a.part, Tensor):
                    made = sm.KroneckerSparse(torch.ones_like(a.part)).to_dense().float()
                if isinstance(a.part, sm.Diagonal):
                    made = torch.eye(a.sides[0])
                assert made is not None
                support = ((support @ made) != 0).float()
            numbers = smallest_pattern(support)
            dense = 2 * numbers - part[0].sides[0], 8 * numbers
            if all(a.dtype is None for a in part) or not weigher.pays(*dense, *lazy):
                return None
            total += weigher.price(*dense)
        return total

    plans = []
    for n in range(k):
        for inner in itertools.combinations(range(1, k), n):
            cost = price(list(itertools.pairwise([0, *inner, k])))
            if cost is not None:
                plans.append(cost)
    found = price(partition(atoms, weigher))
    assert found is not None
    assert found == min(plans)


@pytest.mark.parametrize("seed", range(40))
def test_chains_keep_their_matrix_and_get_no_dearer(seed: int) -> None:
    op = chain(seed, random.Random(seed).choice((2, 3, 4, 6)))
    for batch, materialize in ((1, False), (1, True), (100, True)):
        new, steps = sm.simplify(op, trace=True, batch=batch, materialize=materialize)
        assert torch.equal(new.to_dense(), op.to_dense()), "\n".join(map(str, steps))
        assert flops(new) <= flops(op)
        if materialize:
            assert batch * flops(new) + stored(new) <= batch * flops(op) + stored(op)
        else:
            assert stored(new) <= stored(op)
        assert not sm.simplify(new, trace=True, batch=batch, materialize=materialize)[1]


W, V = sm.Dense(ints(12, 12)), sm.Dense(ints(12, 12))
B4, B3 = sm.BlockDiagonal(ints(4, 3, 3)), sm.BlockDiagonal(ints(3, 4, 4))
Q = shuffle(12)


def test_a_permutation_does_not_keep_dense_matrices_apart() -> None:
    new, steps = sm.simplify(W @ Q @ V, trace=True)
    assert new._label() == "Dense(12x12)"
    assert [s.rule.name for s in steps] == ["association"]
    assert torch.equal(new.to_dense(), (W @ Q @ V).to_dense())


def test_three_factors_merge_where_no_two_do() -> None:
    """Blocks with a permutation between them, four times: together they are one dense matrix."""
    fresh = [sm.BlockDiagonal(ints(k, 12 // k, 12 // k)) for k in (3, 4, 3, 4)]
    long = sm.Product(*itertools.chain(*((b, Q) for b in fresh)))
    for n in (4, 6):
        assert isinstance(sm.Product(*long.children[:n]).simplify(), sm.Product)
    assert long.simplify()._label() == f"Dense(12x12) @ {Q._label()}"


def test_materialize_trades_bytes_for_flops() -> None:
    op = B3 @ Q @ B4 @ Q @ B3 @ Q.T @ B3
    kept = op.simplify()
    assert kept.simplify(batch=64)._label() == kept._label()
    made = op.simplify(batch=64, materialize=True)
    assert made._label() == "Dense(12x12)"
    assert flops(made) < flops(kept)
    assert stored(made) > stored(kept)
    few = sm.Toeplitz(ints(12), ints(12))
    assert few.simplify() is few
    assert few.simplify(batch=100, materialize=True)._label() == "Dense(12x12)"


def test_a_tensor_that_stays_stored_is_not_freed() -> None:
    """W Q V is not stored beside W and V."""
    apart = sm.direct_sum(W @ Q @ V, W, V @ sm.reversal(12))
    assert sm.Product in {type(c) for c in apart.simplify().children}
    alone = sm.direct_sum(W @ Q @ V, V.T @ sm.reversal(12)).simplify()
    assert stored(alone) <= 2 * stored(W)
    power = sm.Monarch(ints(3, 3, 3), ints(3, 3, 3)) ** 3
    assert power.simplify()._label() == power._label()
    same = W @ Q @ V
    assert [c._label() for c in sm.direct_sum(same, Q, same).simplify().children] == [
        "Dense(12x12)",
        Q._label(),
        "Dense(12x12)",
    ]


def test_untouched_factors_stay_the_same_objects() -> None:
    M = sm.Monarch(ints(8, 8, 8), ints(8, 8, 8))
    H = sm.Butterfly(ints(6, 32, 2, 2))
    X, Y = sm.Dense(ints(8, 8)), sm.Dense(ints(8, 8))
    op = M @ H @ sm.kron(sm.Identity(8), X @ shuffle(8) @ Y)
    new, steps = sm.simplify(op, trace=True)
    assert [s.rule.name for s in steps] == ["association"]
    assert new.children[:2] == (M, H)


def test_thin_right_sides_come_first() -> None:
    """A (B C) with C thin, and a chain through a small side stays low-rank."""
    A, B, C = sm.Dense(ints(30, 20)), sm.Dense(ints(20, 20)), sm.Dense(ints(20, 2))
    assert (A @ B @ C).simplify()._label() == "Dense(30x2)"
    thin = (A @ shuffle(20) @ C @ sm.Dense(ints(2, 25))).simplify()
    assert thin._label() == "LowRank(30x25, rank=2)"


def test_batches_and_dtypes_weigh() -> None:
    many = sm.Dense(ints(5, 12, 12))
    assert (many @ Q @ W).simplify().batch_shape == (5,)
    assert (many @ Q @ W).simplify()._label() == "Dense(12x12)"
    phases = sm.Diagonal(ints(12).to(torch.complex128))
    assert stored((phases @ Q @ W).simplify()) <= stored(phases) + stored(W)
    small = sm.Diagonal(ints(100, 12)) @ Q @ W
    assert "Dense" in small.simplify()._label()
    assert stored(small.simplify()) <= stored(small)


@pytest.mark.parametrize(("batch", "error"), [(0, ValueError), (-3, ValueError), (2.0, TypeError)])
def test_batch_is_a_number_of_vectors(batch: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="simplify: batch is"):
        W.simplify(batch=batch)


def test_gradients_reach_the_factors() -> None:
    w, v = ints(12, 12).requires_grad_(), ints(3, 4, 4).requires_grad_()
    op = sm.Dense(w) @ Q @ sm.BlockDiagonal(v) @ Q @ sm.Dense(w)
    new = op.simplify()
    assert prod(new.shape) == 144
    x = ints(12)
    for a, b in zip(
        torch.autograd.grad(op(x).sum(), [w, v]),
        torch.autograd.grad(new(x).sum(), [w, v]),
        strict=True,
    ):
        assert torch.equal(a, b)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for t in torch.utils._pytree.tree_leaves(out):
            if isinstance(t, Tensor):
                self.numel = max(self.numel, t.numel())
        return out


@pytest.mark.parametrize("side", ["rows", "columns"])
@pytest.mark.parametrize("kind", ["monarch", "displacement"])
def test_a_slice_is_multiplied_out_without_a_matrix_of_the_whole(side: str, kind: str) -> None:
    n = 1024
    whole: sm.LinearOperator = (
        sm.Monarch(ints(32, 32, 32), ints(32, 32, 32))
        if kind == "monarch"
        else sm.LowDisplacementRank(ints(n, 2), ints(2, n))
    )
    op = whole[[5, 900, 77]] if side == "rows" else whole[:, [5, 900, 77]]
    with Largest() as seen:
        simple = op.simplify()
    assert seen.numel <= n * n // 8  # the spectra of both generators beside the three vectors
    torch.testing.assert_close(simple.to_dense(), op.to_dense())


def test_what_is_shared_with_another_term_is_not_freed() -> None:
    """A part used three times: doubling two of its places would store its numbers again."""
    whole = torch.float64
    part = sm.direct_sum(
        sm.Dense(torch.ones(0, 1, dtype=whole)), sm.Dense(torch.ones(1, 1, dtype=whole))
    )
    op = part - (part + part)
    new = sm.simplify(op)
    assert torch.equal(new.to_dense(), op.to_dense())
    assert new.cost().params <= op.cost().params


@pytest.mark.parametrize("materialize", [False, True])
def test_a_singular_inverse_stays_and_says_so_where_it_acts(materialize: bool) -> None:
    singular = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    regular = torch.tensor([[2.0, 1.0], [1.0, 1.0]])
    for a, b in ((singular, regular), (regular, singular), (singular, singular)):
        A = sm.inv(sm.Dense(a) @ sm.Dense(b)).simplify(materialize=materialize)
        with pytest.raises(RuntimeError, match="singular"):
            A(torch.ones(2))
