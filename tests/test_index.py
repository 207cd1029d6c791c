"""Index maps, exhaustively over small sizes: every digit shape, every order, every affine map."""

from __future__ import annotations

import pickle
from functools import lru_cache
from itertools import permutations
from math import gcd, prod

import numpy as np
import pytest

from structmat.index import (
    AffineMap,
    ArrayMap,
    DigitMap,
    IndexMap,
    identity_map,
    recognise,
    refine,
    split_digits,
)

SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 18, 24]


def digit_shapes(n: int) -> list[tuple[int, ...]]:
    """Every way to write n as an ordered product of digits of at least 2."""
    if n == 1:
        return [()]
    return [(d, *rest) for d in range(2, n + 1) if n % d == 0 for rest in digit_shapes(n // d)]


@lru_cache
def digit_maps(n: int) -> tuple[DigitMap, ...]:
    """Every digit permutation of n positions, each once."""
    found = {
        DigitMap(shape or (1,), order or (0,))
        for shape in digit_shapes(n)
        for order in permutations(range(len(shape)))
    }
    return tuple(sorted(found, key=lambda m: (m.shape, m.order)))


def matrix(index: IndexMap) -> np.ndarray:
    return np.eye(index.size, dtype=np.int64)[index.array()]


@pytest.mark.parametrize("n", SIZES)
def test_digit_map_is_reshape_and_permute(n: int) -> None:
    for shape in digit_shapes(n):
        for order in permutations(range(len(shape))):
            if not shape:
                continue
            want = np.arange(n).reshape(shape).transpose(order).reshape(-1)
            assert (DigitMap(shape, order).array() == want).all()


@pytest.mark.parametrize("n", SIZES)
def test_equal_digit_permutations_are_equal_and_hash_alike(n: int) -> None:
    by_table: dict[bytes, IndexMap] = {}
    for m in digit_maps(n):
        assert by_table.setdefault(m.array().tobytes(), m) == m
        same = DigitMap((1, *m.shape, 1), (len(m.shape) + 1, *(o + 1 for o in m.order), 0))
        assert same == m
        assert hash(same) == hash(m)


@pytest.mark.parametrize("n", SIZES)
def test_inverse(n: int) -> None:
    for m in digit_maps(n):
        assert (matrix(m.inverse()) == matrix(m).T).all()
        assert m.then(m.inverse()).is_identity
        assert m.inverse().then(m).is_identity
        assert m.inverse().inverse() == m


@pytest.mark.parametrize("n", SIZES)
def test_composition_of_every_pair(n: int) -> None:
    maps = digit_maps(n)
    tables = [m.array() for m in maps]
    for inner, table in zip(maps, tables, strict=True):
        for outer, other in zip(maps, tables, strict=True):
            both = inner.then(outer)
            assert (both.array() == table[other]).all()
            middle = [inner.shape[o] for o in inner.order]
            if refine(middle, outer.shape) is not None:
                assert isinstance(both, DigitMap)


def test_composition_is_the_matrix_product() -> None:
    inner, outer = DigitMap((2, 3, 4), (2, 0, 1)), DigitMap((4, 6), (1, 0))
    assert (matrix(inner.then(outer)) == matrix(outer) @ matrix(inner)).all()


@pytest.mark.parametrize("n", SIZES)
def test_recognise_finds_every_digit_map(n: int) -> None:
    for m in digit_maps(n):
        found = recognise(m.array())
        assert found == m, f"{m} was read as {found}"
        assert found.is_identity == (m.array() == np.arange(n)).all()


@pytest.mark.parametrize("n", [2, 6, 12])
@pytest.mark.parametrize(("pre", "post"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_lift_is_kronecker_with_identities(n: int, pre: int, post: int) -> None:
    others = [AffineMap(n, 1, 1), ArrayMap.of(np.random.default_rng(0).permutation(n))]
    for m in [*digit_maps(n), *others]:
        want = np.kron(np.kron(np.eye(pre), matrix(m)), np.eye(post))
        assert (matrix(m.lift(pre, post)) == want).all()


@pytest.mark.parametrize("n", range(1, 15))
def test_affine_maps_are_closed(n: int) -> None:
    maps = [AffineMap(n, a, b) for a in range(n) if gcd(a, n) == 1 for b in range(n)]
    for p in maps:
        assert (matrix(p.inverse()) == matrix(p).T).all()
        assert p.then(p.inverse()).is_identity
        assert recognise(p.array()) == p or p.is_identity
        for q in maps[:: max(len(maps) // 12, 1)]:
            both = p.then(q)
            assert isinstance(both, AffineMap | DigitMap)
            assert (both.array() == p.array()[q.array()]).all()


def test_tables() -> None:
    rng = np.random.default_rng(1)
    p, q = (ArrayMap.of(rng.permutation(11)) for _ in range(2))
    assert (p.then(q).array() == p.array()[q.array()]).all()
    assert p.then(p.inverse()).is_identity
    assert not p.is_identity
    assert ArrayMap.of(p.array().copy()) == p
    assert hash(ArrayMap.of(p.array().copy())) == hash(p)
    assert p != q
    assert pickle.loads(pickle.dumps(p)) == p
    with pytest.raises(ValueError, match="read-only"):
        p.array()[0] = 0


def test_mixed_families_compose() -> None:
    digits, affine = DigitMap((2, 3), (1, 0)), AffineMap(6, 5, 2)
    for p, q in ((digits, affine), (affine, digits)):
        assert (p.then(q).array() == p.array()[q.array()]).all()


@pytest.mark.parametrize("n", [0, 1])
def test_degenerate_sizes(n: int) -> None:
    for m in (identity_map(n), AffineMap(n, 1, 3), DigitMap((n,), (0,)), recognise(np.arange(n))):
        assert m.size == n
        assert m.is_identity
        assert m.array().shape == (n,)
        assert m.inverse().size == n
        assert m.lift(2, 3).size == 6 * n


def test_refine_is_the_coarsest_common_radix() -> None:
    assert refine((6, 4), (3, 8)) == (3, 2, 4)
    assert refine((2, 3), (3, 2)) is None
    for n in SIZES:
        for a in digit_shapes(n):
            for b in digit_shapes(n):
                fine = refine(a, b)
                if fine is not None:
                    for shape in (a, b):
                        groups = split_digits(shape, fine)
                        assert [prod(fine[j] for j in g) for g in groups] == list(shape)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DigitMap((2, 3), (0, 0)), "does not permute the digits"),
        (lambda: AffineMap(6, 2, 0), r"gcd\(2, 6\) != 1"),
        (lambda: recognise(np.array([0, 0, 1])), "repeat or are missing"),
        (lambda: recognise(np.array([0, 3])), "not a permutation"),
        (lambda: identity_map(2).then(identity_map(3)), "sizes 2 and 3"),
    ],
)
def test_errors(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
