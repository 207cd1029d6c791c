"""check_operator: an operator against its dense matrix, on everything the base class promises.

The oracle is ``A.to_dense()``, which every class writes independently of how it acts. Inputs have
small integer entries, so that an operator with small integer entries is checked without rounding.
"""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from structmat.operator import LinearOperator, from_spec
from structmat.testing.trees import exact_bound

__all__ = ["check_operator"]


def check_operator(
    A: LinearOperator,
    *,
    exact: bool = False,
    backends: Sequence[str] = (),
    seed: int = 0,
) -> None:
    """Check an operator against its dense matrix; says what differs, or returns silently.

    Checks A(x), A @ X, x @ A, inputs and tensors of any strides, transpose, adjoint and conjugate,
    broadcasting over batches, dtype promotion, cost, structure and pytree, pickle and spec round
    trips, ``to``, ``simplify``, ``torch.vmap``, gradients of every tensor, and the errors for wrong
    inputs.

    Args:
        A: the operator.
        exact: compare with ``==``; right for entries that are small integers in float64.
            By default the tolerance is 1000 units in the last place of the largest entry, or, for
            an expression, of the largest number that may be met on the way.
        backends: also compile for these and check values and gradients, such as ``("torch",)``.
        seed: of the inputs.

    Raises:
        AssertionError: something differs; the message names the operator and the check.
        TypeError: A is not an operator.
        ImportError: backends are given and ``structmat.lowering`` cannot be imported.

    Example:
        >>> import torch, structmat as sm
        >>> from structmat.testing import check_operator
        >>> check_operator(sm.Diagonal(torch.ones(3)) @ sm.reversal(3))
    """
    if not isinstance(A, LinearOperator):
        raise TypeError(f"check_operator needs an operator, got {type(A).__name__}")
    kit = _Kit(A, exact, seed)
    for check in CHECKS:
        try:
            check(kit)
        except AssertionError as e:
            raise AssertionError(f"{A._label()}: {check.__name__}: {e}") from None
    for backend in backends:
        _compiled(kit, backend)


class _Kit:
    """The operator, its dense matrix, and how to compare."""

    def __init__(self, op: LinearOperator, exact: bool, seed: int) -> None:
        self.op = op
        self.exact = exact
        self.g = torch.Generator().manual_seed(seed)
        self.dense = op.to_dense().detach()
        self.largest = 1.0 if exact or not op.children else max(1.0, 2 * exact_bound(op))

    def input(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Entries in {-2, ..., 2}, complex for a complex operator."""
        dtype = dtype or self.op.dtype
        x = torch.randint(-2, 3, shape, generator=self.g).to(dtype)
        if dtype.is_complex:
            x = x + 1j * torch.randint(-2, 3, shape, generator=self.g).to(dtype)
        return x.to(self.op.device)

    def same(self, got: Tensor, want: Tensor, what: str) -> None:
        """Shapes, dtypes and entries agree."""
        assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)} != {tuple(want.shape)}"
        assert got.dtype == want.dtype, f"{what}: dtype {got.dtype} != {want.dtype}"
        if not want.numel():
            return
        gap = (got - want).abs().max().item()
        scale = max(want.abs().max().item(), self.largest)
        eps = max(torch.finfo(want.dtype).eps, torch.finfo(self.op.dtype).eps)
        allowed = 0.0 if self.exact else 1000 * eps * scale
        assert gap <= allowed, f"{what}: largest difference {gap:.3g}, allowed {allowed:.3g}"

    def leads(self) -> list[tuple[int, ...]]:
        """Leading dimensions of x that broadcast with the batch of the operator."""
        batch = self.op.batch_shape
        return [(), batch, (2, *batch), (0, *(1 for _ in batch))] if batch else [(), (3,), (2, 0)]


def shape_and_dtype(kit: _Kit) -> None:
    """The dense matrix has the shape, batch shape and dtype that the operator announces."""
    op, w = kit.op, kit.dense
    assert w.shape == (*op.batch_shape, *op.shape), f"to_dense has shape {tuple(w.shape)}"
    assert w.dtype == op.dtype, f"to_dense has dtype {w.dtype}, the operator {op.dtype}"
    assert op.strong_dtype in (None, op.dtype), "strong_dtype is neither None nor dtype"


def acts_on_last_dimension(kit: _Kit) -> None:
    """A(x) is W x for every leading shape."""
    for lead in kit.leads():
        x = kit.input(*lead, kit.op.shape[1])
        want = (kit.dense @ x.unsqueeze(-1)).squeeze(-1)
        kit.same(kit.op(x), want, f"A(x), x {tuple(x.shape)}")


def multiplies_columns(kit: _Kit) -> None:
    """A @ X is W X, for vectors, matrices, and the unit vectors."""
    m, n = kit.op.shape
    x = kit.input(n)
    kit.same(kit.op @ x, kit.dense @ x, "A @ x, x a vector")
    for lead in kit.leads():
        x = kit.input(*lead, n, 2)
        kit.same(kit.op @ x, kit.dense @ x, f"A @ X, X {tuple(x.shape)}")
    eye = torch.eye(n, dtype=kit.op.dtype, device=kit.op.device)
    kit.same(kit.op @ eye, kit.dense, "A @ I")
    left = kit.input(m)
    kit.same(left @ kit.op, left @ kit.dense, "x @ A, x a vector")
    left = kit.input(3, m)
    kit.same(left @ kit.op, left @ kit.dense, "X @ A")


def takes_any_strides(kit: _Kit) -> None:
    """Inputs and tensors with gaps, transposed, repeated by stride 0, or conjugated lazily."""
    op, w = kit.op, kit.dense
    n = op.shape[1]
    batch = (1,) * len(op.batch_shape)
    gaps = kit.input(*batch, 3, 2 * n)[..., ::2]
    turned = kit.input(*batch, n, 3).mT
    repeated = kit.input(*batch, 1, n).expand(*batch, 3, n)
    lazy = kit.input(*batch, 3, n).conj()
    for x, how in ((gaps, "gaps"), (turned, "turned"), (repeated, "repeated"), (lazy, "conj")):
        columns = x.mT
        kit.same(op @ columns, w @ columns, f"A @ X, {how}")
        if not op.batch_shape:
            kit.same(op(x), x @ w.mT, f"A(x), {how}")
    strided = op._map(_with_gaps, None)
    x = kit.input(n)
    kit.same(strided(x), w @ x, "A(x), tensors with gaps")


def _with_gaps(t: Tensor) -> Tensor:
    """The same numbers, every second number of a larger memory."""
    return torch.stack([t.detach(), torch.zeros_like(t)], -1)[..., 0]


def transposes(kit: _Kit) -> None:
    """A.T, A.H and A.conj() are what they are for the dense matrix."""
    op, w = kit.op, kit.dense
    kit.same(op.T.to_dense(), w.mT, "A.T")
    kit.same(op.H.to_dense(), w.mH, "A.H")
    kit.same(op.conj().to_dense(), w.conj(), "A.conj()")
    kit.same(op._transpose().to_dense(), w.mT, "the leaf's own transpose")
    assert op.T.T is op or op.T.T.structure == op.structure, "A.T.T is not A"
    y = kit.input(2, *(1 for _ in op.batch_shape), op.shape[0])
    kit.same(op.T(y), (w.mT @ y.unsqueeze(-1)).squeeze(-1), "A.T(y)")
    kit.same(op.H(y), (w.mH @ y.unsqueeze(-1)).squeeze(-1), "A.H(y)")


def promotes(kit: _Kit) -> None:
    """The result has the dtype that torch promotion gives; no numbers, the dtype of x."""
    strong = kit.op.strong_dtype
    for dtype in (torch.float32, torch.float64, torch.complex64, torch.complex128):
        x = kit.input(kit.op.shape[1], dtype=dtype)
        want = dtype if strong is None else torch.promote_types(strong, dtype)
        got = kit.op(x)
        assert got.dtype == want, f"x is {dtype}: A(x) is {got.dtype}, expected {want}"
        if want == torch.complex128:
            kit.same(got, kit.dense.to(want) @ x.to(want), "A(x) for complex x")


def costs(kit: _Kit) -> None:
    """Cost is linear in the batch, params counts each tensor once, symbols agree with numbers."""
    from structmat.cost import dim

    one, four, b = kit.op.cost(), kit.op.cost(batch=4), dim("b")
    distinct = {id(t): t.numel() for t in kit.op._all_tensors()}
    assert one.params == sum(distinct.values()), f"cost says {one.params} params"
    assert four.flops == 4 * one.flops, f"flops {one.flops} for 1, {four.flops} for 4"
    assert min(one.flops, one.bytes) >= 0, f"negative cost {one}"
    symbolic = kit.op.cost(batch=b)
    for name in ("flops", "bytes"):
        value = getattr(symbolic, name)
        value = value.subs(b, 4) if hasattr(value, "subs") else value
        assert value == getattr(four, name), f"symbolic {name} is {value} at 4"


def round_trips(kit: _Kit) -> None:
    """Pytree, spec (as JSON), pickle and deepcopy give the operator back."""
    op = kit.op
    leaves, spec = pytree.tree_flatten(op)
    assert [id(t) for t in leaves] == [id(t) for t in op._all_tensors()], "pytree leaves"
    again = {
        "pytree": pytree.tree_unflatten(leaves, spec),
        "spec": from_spec(json.loads(json.dumps(op.spec())), op.named_tensors()),
        "deepcopy": copy.deepcopy(_detached(op)),
    }
    if _importable(op):
        again["pickle"] = pickle.loads(pickle.dumps(_detached(op)))
    assert hash(op.structure) == hash(again["pytree"].structure), "structure does not hash"
    for how, other in again.items():
        assert other.structure == op.structure, f"{how}: the structure changed"
        kit.same(other.to_dense().detach(), kit.dense, how)


def _importable(op: LinearOperator) -> bool:
    """Whether every class of the tree can be pickled: not one defined inside a function."""
    cls = type(op)
    found = getattr(sys.modules.get(cls.__module__), cls.__qualname__, None)
    return found is cls and all(map(_importable, op.children))


def converts(kit: _Kit) -> None:
    """``to`` casts every tensor and keeps shared tensors shared."""
    op = kit.op
    wide = op.to(torch.complex128)
    assert wide.dtype == torch.complex128, f".to(complex128) is {wide.dtype}"
    kit.same(wide.to_dense().detach(), kit.dense.to(torch.complex128), ".to(complex128)")
    assert len(list(wide.parameters())) == len(list(op.parameters())), ".to un-shares tensors"
    narrow = torch.complex64 if op.dtype.is_complex else torch.float32
    assert op.to(narrow).dtype == narrow, f".to({narrow}) is {op.to(narrow).dtype}"


def simplifies(kit: _Kit) -> None:
    """``simplify`` keeps matrix, shape and dtype, costs no more, and has no more to do after."""
    from structmat.rules import simplify
    from structmat.rules.measure import sizes

    op = kit.op
    new, steps = simplify(op, trace=True)
    how = f"simplify, {' '.join(s.rule.name for s in steps)}"
    assert new.shape == op.shape, f"{how}: shape {new.shape}"
    assert new.batch_shape == op.batch_shape, f"{how}: batch {new.batch_shape}"
    assert new.strong_dtype == op.strong_dtype, f"{how}: dtype {new.strong_dtype}"
    assert sum(new.operations()) <= sum(op.operations()), f"{how}: more flops"
    dense = new.to_dense().detach().to(kit.dense.device)  # without tensors it has no device
    kit.same(dense, kit.dense, how)
    assert sum(sizes(new).values()) <= sum(sizes(op).values()), f"{how}: more bytes"
    _, more = simplify(new, trace=True)
    assert not more, f"{how}, and then again {more[0]}"


def maps(kit: _Kit) -> None:
    """``torch.vmap`` over vectors is the batched application."""
    if kit.op.batch_shape:
        return
    x = kit.input(3, kit.op.shape[1])
    kit.same(torch.vmap(kit.op)(x), kit.op(x), "torch.vmap(A)")


def differentiates(kit: _Kit) -> None:
    """Gradients reach x and every tensor, and equal those of the dense matrix."""
    _gradients(kit, lambda op, x: op(x), "A(x)")
    _gradients(kit, lambda op, x: op.simplify()(x), "A.simplify()(x)")


def _gradients(kit: _Kit, apply: Callable[[LinearOperator, Tensor], Tensor], what: str) -> None:
    op = _detached(kit.op, requires_grad=True)
    tensors = list(op.parameters())
    x = kit.input(op.shape[1]).requires_grad_()
    v = kit.input(*op.batch_shape, op.shape[0])
    results = []
    for y in (apply(op, x), (op.to_dense() @ x.unsqueeze(-1)).squeeze(-1)):
        loss = (y * v).sum().real if y.is_complex() else (y * v).sum()
        found = torch.autograd.grad(loss, [x, *tensors], allow_unused=True) if y.grad_fn else ()
        results.append(
            [
                torch.zeros_like(t) if g is None else g
                for t, g in zip([x, *tensors], found or [None] * (1 + len(tensors)), strict=True)
            ]
        )
    names = ["x", *op.named_tensors()]
    for got, want, name in zip(*results, [*names, *names], strict=False):
        kit.same(got, want, f"gradient of {what} in {name}")


def refuses(kit: _Kit) -> None:
    """Wrong sizes and integers raise; the operator cannot be changed."""
    op, n = kit.op, kit.op.shape[1]
    _raises(ValueError, lambda: op(kit.input(n + 1)), "A(x) with x too long")
    _raises(ValueError, lambda: op @ kit.input(n + 1, 2), "A @ X with X too tall")
    whole = torch.zeros(n, dtype=torch.int64, device=op.device)
    _raises(TypeError, lambda: op(whole), "A(x) with integers")
    _raises(TypeError, lambda: op.to(torch.int64), "A.to(int64)")
    _raises(AttributeError, lambda: setattr(op, "tensors", {}), "assignment")


def _raises(kind: type[Exception], call: Callable[[], object], what: str) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{what} did not raise {kind.__name__}")


def _detached(op: LinearOperator, requires_grad: bool = False) -> LinearOperator:
    """The operator on copies of its tensors; what was shared stays shared."""
    memo: dict[int, Tensor] = {}

    def fresh(t: Tensor) -> Tensor:
        if id(t) not in memo:
            memo[id(t)] = t.detach().resolve_conj().clone().requires_grad_(requires_grad)
        return memo[id(t)]

    return op._map(fresh, None)


def _compiled(kit: _Kit, backend: str) -> None:
    if find_spec("structmat.lowering") is None:
        raise ImportError(f"check_operator: backend {backend!r} needs structmat.lowering")
    compile_ = import_module("structmat.lowering").compile
    label = kit.op._label()
    try:
        f = compile_(kit.op, backend=backend)
        for lead in kit.leads():
            x = kit.input(*lead, kit.op.shape[1])
            want = (kit.dense @ x.unsqueeze(-1)).squeeze(-1)
            kit.same(f(x), want, f"f(x), x {tuple(x.shape)}")
        _gradients(kit, lambda op, x: compile_(op, backend=backend)(x), "f(x)")
    except AssertionError as e:
        raise AssertionError(f"{label}: compiled for {backend}: {e}") from None


CHECKS: tuple[Callable[[_Kit], None], ...] = (
    shape_and_dtype,
    acts_on_last_dimension,
    multiplies_columns,
    takes_any_strides,
    transposes,
    promotes,
    costs,
    round_trips,
    converts,
    simplifies,
    maps,
    differentiates,
    refuses,
)
