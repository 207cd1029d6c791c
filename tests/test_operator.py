"""The base class: application, algebra, dtypes, structure, sharing, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

import structmat as sm
from structmat.operator import from_spec
from structmat.testing import check_operator

G = torch.Generator().manual_seed(0)


def ints(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randint(-1, 2, shape, generator=G).to(dtype)


def some() -> sm.LinearOperator:
    return sm.Diagonal(ints(4)) @ sm.Dense(ints(4, 3)) + 2 * sm.LowRank(ints(4, 1), ints(1, 3))


def test_matmul_is_the_matrix_product_and_call_acts_on_the_last_dimension() -> None:
    op = some()
    w = op.to_dense()
    x = ints(5, 3)
    assert torch.equal(op(x), x @ w.mT)
    assert torch.equal(op @ x.mT, w @ x.mT)
    assert torch.equal(op @ x[0], w @ x[0])
    assert torch.equal(x.new_ones(4) @ op, x.new_ones(4) @ w)


def test_left_products_with_tensors_and_arrays() -> None:
    op = some()
    w, rows = op.to_dense(), ints(2, 4)
    array: Any = rows.numpy()
    assert torch.equal(rows @ op, rows @ w)
    assert torch.equal(array @ op, rows @ w)
    assert torch.equal(op.T @ array[0], rows[0] @ w)
    assert torch.equal(op([1.0, 0.0, 0.0]).double(), w[:, 0])


def test_batches_pair_with_leading_dimensions() -> None:
    op = sm.Dense(ints(2, 4, 3))
    x = ints(5, 2, 3)
    assert op(x).shape == (5, 2, 4)
    assert torch.equal(op(x), torch.einsum("bmn,abn->abm", op.to_dense(), x))
    with pytest.raises(ValueError, match="do not broadcast with the operator's batch"):
        op(ints(5, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.complex64])
def test_operators_without_numbers_take_the_dtype_of_x(dtype: torch.dtype) -> None:
    op = sm.reversal(3) @ sm.Identity(3) + sm.Zero(3)
    assert op.strong_dtype is None
    assert op(torch.ones(3, dtype=dtype)).dtype == dtype
    assert op.dtype == torch.get_default_dtype()


def test_promotion() -> None:
    real, wide = sm.Dense(ints(2, 2).float()), sm.Diagonal(ints(2))
    assert (wide @ real).dtype == torch.float64
    assert (1j * real).dtype == torch.complex64
    assert (2.0 * real).dtype == torch.float32
    assert real(torch.ones(2, dtype=torch.complex64)).dtype == torch.complex64
    assert real(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.float32
    assert sm.Identity(2, dtype=torch.float64)(torch.ones(2)).dtype == torch.float64


def test_adjoint_and_conjugate() -> None:
    w = torch.complex(ints(2, 3), ints(2, 3))
    op = 1j * sm.Dense(w)
    assert torch.equal(op.H.to_dense(), (1j * w).mH)
    assert torch.equal(op.conj().to_dense(), (1j * w).conj())
    real = sm.Dense(ints(2, 3))
    assert real.conj() is real


def test_conjugate_and_adjoint_keep_shared_tensors_shared() -> None:
    op = sm.Dense(torch.complex(ints(3, 3), ints(3, 3))) ** 2
    assert op.cost().params == 9
    assert op.conj().cost().params == 9
    assert op.H.cost().params == 9


def test_algebra() -> None:
    a, b = sm.Dense(ints(3, 3)), sm.reversal(3)
    w, p = a.to_dense(), b.to_dense().double()
    for op, want in [
        (a + b, w + p),
        (a - b, w - p),
        (-a, -w),
        (a * 2, 2 * w),
        (torch.tensor(2.0) * a, 2 * w),
        (np.float64(2) * a, 2 * w),
        (a / 2, w / 2),
        (a**0, torch.eye(3).double()),
        (a**1, w),
        (a**3, w @ w @ w),
        (a.T, w.T),
        (a.mT, w.T),
        (a @ b @ a, w @ p @ w),
    ]:
        assert isinstance(op, sm.LinearOperator)
        assert torch.equal(op.to_dense(), want)
        check_operator(op, exact=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda a: a + 1,
        lambda a: a - 1,
        lambda a: a * a,
        lambda a: a * "x",
        lambda a: a / None,
        lambda a: True * a,
    ],
)
def test_what_is_not_defined_raises_type_errors(call: Any) -> None:
    with pytest.raises(TypeError):
        call(some())


def test_associativity_flattens() -> None:
    a = sm.Dense(ints(2, 2))
    assert len((a @ (a @ a) @ a).children) == 4
    assert len((a + (a + a)).children) == 3
    assert len(sm.kron(a, sm.kron(a, a)).children) == 3
    assert len(sm.direct_sum(sm.direct_sum(a, a), a).children) == 3
    assert a.T.T is a


# errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "hint"),
    [
        (lambda a: a(torch.ones(4)), ValueError, r"dimension -1 of x to be 3.*A @ x acts on col"),
        (lambda a: a @ torch.ones(4), ValueError, "to be 3, got x of shape"),
        (lambda a: a @ torch.ones(4, 3), ValueError, r"A\(x\) acts on the last dimension"),
        (lambda a: a(torch.tensor(1.0)), ValueError, "to be 3"),
        (lambda a: a(torch.ones(3, dtype=torch.int64)), TypeError, r"x\.to\(torch\.float64\)"),
        (lambda a: a @ torch.ones(3, 1, dtype=torch.bool), TypeError, "floating point"),
        (lambda a: torch.ones(3) @ a, ValueError, "to be 4"),
        (lambda a: a @ a, ValueError, "3 columns on the left, 4 rows on the right"),
        (lambda a: a + a.T, ValueError, "cannot add"),
        (lambda a: a**2, ValueError, "square"),
        (lambda a: (a @ a.T) ** 0.5, ValueError, "integer power"),
        (lambda a: a.to(torch.int32), TypeError, "floating point"),
    ],
)
def test_errors_name_the_operator_the_shapes_and_the_way_out(
    call: Any, kind: type[Exception], hint: str
) -> None:
    with pytest.raises(kind, match=hint):
        call(some())


def test_immutable() -> None:
    op = some()
    for name in ("tensors", "children", "static", "anything"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(op, name, {})


# structure -------------------------------------------------------------------------------------


def test_structure_is_the_expression_without_its_numbers() -> None:
    assert some().structure == some().structure
    assert len({some().structure, some().structure}) == 1
    a = sm.Dense(ints(2, 2))
    others = [a, a.T, a.to(torch.float32), 2 * a, 3 * a, a @ a, a + a, sm.Dense(ints(1, 2, 2))]
    assert len({op.structure for op in others}) == len(others)
    assert sm.stride_permutation(6, 2).structure != sm.stride_permutation(6, 3).structure


def test_parameters_are_the_tensors_given_each_once() -> None:
    w, d = ints(3, 3), ints(3)
    leaf = sm.Dense(w)
    op = leaf @ sm.Diagonal(d) @ leaf + sm.Dense(w)
    found = list(op.parameters())
    assert [id(t) for t in found] == [id(w), id(d)]
    assert list(op.named_tensors()) == ["0.0.weight", "0.1.d", "0.2.weight", "1.weight"]
    assert op.cost().params == 12
    assert len(list(op.to(torch.float32).parameters())) == 2


def test_gradients_reach_the_tensors_given() -> None:
    w = ints(3, 3).requires_grad_()
    (sm.Dense(w).T @ sm.Dense(w))(ints(3)).sum().backward()
    assert w.grad is not None


def test_pytree() -> None:
    op = some()
    doubled = pytree.tree_map(lambda t: 2 * t, op)
    assert isinstance(doubled, sm.Sum)
    assert doubled.structure == op.structure
    paths = [pytree.keystr(k) for k, _ in pytree.tree_flatten_with_path(op)[0]]
    assert len(paths) == len(set(paths)) == 4


def test_functional_transforms() -> None:
    op, x = some(), ints(3)

    def loss(a: sm.LinearOperator) -> Tensor:
        return a(x).square().sum()

    grads = torch.func.grad(lambda ts: loss(pytree.tree_unflatten(ts, pytree.tree_structure(op))))(
        pytree.tree_leaves(op)
    )
    assert [g.shape for g in grads] == [t.shape for t in pytree.tree_leaves(op)]
    jac = torch.func.jacrev(op)(x)
    assert torch.equal(jac, op.to_dense())
    columns = ints(3, 5)
    assert torch.equal(torch.vmap(op, in_dims=1)(columns), op(columns.mT))


def test_gradcheck() -> None:
    leaves = [ints(4).requires_grad_(), ints(2, 2, 2).requires_grad_(), ints(2, 2, 2, 2)]

    def apply(d: Tensor, b: Tensor, t: Tensor, x: Tensor) -> Tensor:
        op = sm.Diagonal(d) @ sm.BlockDiagonal(b) @ sm.Butterfly(t)
        return op(x)

    args = (*leaves, ints(3, 4).requires_grad_())
    assert torch.autograd.gradcheck(apply, args)
    assert torch.autograd.gradgradcheck(apply, args)


def test_numpy() -> None:
    op = some()
    assert np.asarray(op).dtype == np.float64
    assert np.asarray(op, dtype=np.float32).dtype == np.float32
    assert np.array_equal(np.asarray(op), op.to_dense().numpy())


def test_repr_shows_expression_shape_and_cost() -> None:
    text = repr(some())
    assert "Diagonal(4) @ Dense(4x3) + 2 * LowRank(4x3, rank=1)" in text
    assert "4x3 float64, 23 params" in text
    assert "batch 2x5 of 1x1" in repr(sm.Dense(ints(2, 5, 1, 1)))


def test_spec_rejects_what_does_not_fit() -> None:
    op = some()
    spec, tensors = op.spec(), op.named_tensors()
    with pytest.raises(ValueError, match="newer structmat"):
        from_spec({**spec, "kind": "Unheard"}, tensors)
    with pytest.raises(ValueError, match="missing"):
        from_spec(spec, {})
    with pytest.raises(ValueError, match="its structure says"):
        from_spec(spec, {**tensors, "0.0.d": ints(5)})


# cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "mults", "adds"),
    [
        (sm.Dense(ints(3, 5)), 15, 12),
        (sm.LowRank(ints(3, 2), ints(2, 5)), 16, 11),
        (sm.BlockDiagonal(ints(4, 3, 2)), 24, 12),
        (sm.Butterfly(ints(3, 4, 2, 2)), 48, 24),
        (sm.Monarch(ints(4, 4, 4), ints(4, 4, 4)), 128, 96),
        (sm.KroneckerSparse(ints(2, 3, 4, 5)), 120, 90),
        (sm.Diagonal(ints(7)), 7, 0),
        (sm.reversal(7), 0, 0),
        (-sm.Identity(7), 0, 0),
        (3 * sm.Identity(7), 7, 0),
        (sm.Identity(7) + sm.reversal(7), 0, 7),
        (sm.kron(sm.Dense(ints(2, 3)), sm.Dense(ints(4, 5))), 70, 52),
        (sm.direct_sum(sm.Dense(ints(2, 3)), sm.Dense(ints(4, 5))), 26, 20),
        (sm.Dense(ints(3, 5)).T, 15, 10),
    ],
)
def test_operation_counts(op: sm.LinearOperator, mults: int, adds: int) -> None:
    assert op.operations() == (mults, adds)
    b = sm.dim("b")
    assert op.cost(batch=b).flops == (mults + adds) * b
    assert op.to(torch.complex128).cost(batch=2).flops in (2 * (6 * mults + 2 * adds), 0)


def test_cost_of_a_batch_of_operators() -> None:
    one, many = sm.Dense(ints(3, 5)), sm.Dense(ints(10, 3, 5))
    assert many.cost().flops == 10 * one.cost().flops
    assert many.cost().params == 150


# tracing ---------------------------------------------------------------------------------------


def test_index_tables_do_not_outlive_a_fake_mode() -> None:
    op = sm.Permutation([2, 0, 1, 3])
    with FakeTensorMode():
        assert op(torch.ones(4)).shape == (4,)
    assert torch.equal(op(torch.arange(4.0)), torch.tensor([2.0, 0.0, 1.0, 3.0]))
    with FakeTensorMode():
        assert op(torch.ones(4)).shape == (4,)


# classes of one's own --------------------------------------------------------------------------


def _named(name: str, module: str) -> Any:
    return type(name, (sm.Dense,), {"__module__": module})


def test_a_class_may_be_defined_again() -> None:
    first, second = (_named("Redefined", "notebook") for _ in range(2))
    for cls in (first, second):
        op = cls(ints(2, 2))
        assert len(pytree.tree_leaves(op)) == 1
        assert isinstance(pytree.tree_map(lambda t: 2 * t, op), cls)
    read = from_spec(second(ints(2, 2)).spec(), {"weight": ints(2, 2)})
    assert type(read) is second


def test_a_class_with_the_name_of_ours_does_not_take_its_place_in_files() -> None:
    stranger = _named("Diagonal", "elsewhere")(ints(2, 2))
    assert len(pytree.tree_leaves(stranger)) == 1
    assert type(from_spec(sm.Diagonal(ints(2)).spec(), {"d": ints(2)})) is sm.Diagonal
