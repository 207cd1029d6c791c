"""State-space systems against SciPy's filters and against their own recurrence."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch
from torch import Tensor

import structmat as sm
from structmat.testing import check_operator

WIDE = torch.float64
KINDS = ["dense", "diagonal", "low rank"]
kinds = pytest.mark.parametrize("kind", KINDS)


def system(
    kind: str,
    n: int,
    length: int,
    dtype: torch.dtype = WIDE,
    batch: tuple[int, ...] = (),
    rank: int = 1,
    direct: bool = True,
) -> sm.StateSpace:
    """A stable system; only some of its tensors have the batch dimensions."""
    generator = torch.Generator().manual_seed(n + length)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=dtype, generator=generator)

    state: Tensor | tuple[Tensor, ...] = numbers(*batch, n) / 3
    if kind == "dense":
        state = numbers(*batch, n, n) * 0.3 / max(n, 1) ** 0.5
    if kind == "low rank":
        state = (numbers(*batch, n) / 3, numbers(n, rank) / 4, numbers(*batch, n, rank) / 4)
    d = numbers() if direct else None
    out = sm.StateSpace(state, numbers(n), numbers(*batch, n), d, length, kind == "diagonal")
    assert out.kind == kind
    return out


@kinds
@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.complex64,
        pytest.param(torch.float32, marks=pytest.mark.slow),
        pytest.param(torch.complex128, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("length", [0, 1, 2, 13])
def test_state_space(length: int, dtype: torch.dtype, kind: str) -> None:
    compiled = length in (0, 13) and dtype in (torch.float64, torch.complex64)
    check_operator(system(kind, 3, length, dtype), backends=("torch",) if compiled else ())
    if dtype in (torch.float64, torch.complex128):
        check_operator(system(kind, 2, length, dtype, (2,), rank=2, direct=False)._transpose())
    if dtype == WIDE:
        for n, rank in ((0, 1), (1, 0)):
            check_operator(system(kind, n, length, rank=rank))


@kinds
def test_it_is_the_filter_of_scipy(kind: str) -> None:
    op = system(kind, 4, 50)
    a, b, c = (t.numpy() for t in (op.state_matrix(), op.B, op.C))
    d = op.tensors["D"].item()
    u = np.random.default_rng(0).standard_normal(50)
    _, want, _ = scipy.signal.dlsim((a, b[:, None], c[None], [[d]], 1.0), u)
    np.testing.assert_allclose(op(torch.from_numpy(u)), want[:, 0], atol=1e-12)
    numerator, denominator = scipy.signal.ss2tf(a, b[:, None], c[None], [[d]])
    want = scipy.signal.lfilter(numerator[0], denominator, u)
    np.testing.assert_allclose(op(torch.from_numpy(u)), want, atol=1e-9)
    impulse = scipy.signal.lfilter(numerator[0], denominator, np.eye(50)[0])
    np.testing.assert_allclose(op.kernel(), impulse, atol=1e-9)
    lower = scipy.linalg.toeplitz(impulse, np.zeros(50))
    np.testing.assert_allclose(op.to_dense(), lower, atol=1e-9)


@kinds
@pytest.mark.parametrize("chunk", [1, 4, 7, 30])
def test_recurrence_passes_its_state(kind: str, chunk: int) -> None:
    op = system(kind, 3, 23, batch=(2,))
    u = torch.randn(5, 1, 23, dtype=WIDE)
    y, state = op.recurrence(u, chunk=chunk)
    assert (y.shape, state.shape) == ((5, 2, 23), (5, 2, 3))
    torch.testing.assert_close(y, op(u))
    early, between = op.recurrence(u[..., :9], chunk=chunk)
    late, last = op.recurrence(u[..., 9:], between, chunk)
    torch.testing.assert_close(torch.cat([early, late], -1), y)
    torch.testing.assert_close(last, state)
    none, same = op.recurrence(u[..., :0], state, chunk)
    assert none.shape == (5, 2, 0)
    assert torch.equal(same, state)


@kinds
def test_long_kernels_keep_their_accuracy(kind: str) -> None:
    """Slowly decaying oscillations, 2000 samples, against the step by step response."""
    n, length = 16, 2000
    rate = torch.complex(torch.full((n,), -0.5).to(WIDE), 3 * torch.arange(n).to(WIDE))
    turn = torch.exp(0.01 * rate)
    p = torch.full((n, 1), 0.02, dtype=torch.complex128)
    dense = torch.diag(turn) - p @ p.mH
    state = {"dense": dense, "diagonal": turn, "low rank": (turn, p, p)}[kind]
    ones = torch.ones(n, dtype=torch.complex128)
    op = sm.StateSpace(state, ones, ones, None, length)
    want = op.recurrence(torch.eye(length, dtype=torch.complex128)[0])[0]
    assert (op.kernel() - want).abs().max() < 1e-12 * want.abs().max()
    single = op.to(torch.complex64)
    assert isinstance(single, sm.StateSpace)
    assert (single.kernel() - want).abs().max() < 1e-5 * want.abs().max()


@kinds
def test_gradients_and_tracing(kind: str) -> None:
    op = system(kind, 2, 6)
    u = torch.randn(6, dtype=WIDE)
    names = [k for k in op.tensors if k != "D"]

    def apply(*tensors: Tensor) -> Tensor:
        return op._replace({**op.tensors, **dict(zip(names, tensors, strict=True))}, (), op.static)(
            u
        )

    inputs = [op.tensors[k].clone().requires_grad_() for k in names]
    assert torch.autograd.gradcheck(apply, inputs)
    assert torch.autograd.gradgradcheck(apply, inputs)
    stacked = torch.stack([op.C, 2 * op.C])
    each = torch.vmap(lambda c: op._replace({**op.tensors, "C": c}, (), op.static)(u))(stacked)
    assert each.shape == (2, 6)


@kinds
def test_algebra(kind: str) -> None:
    op = system(kind, 3, 8)
    assert isinstance((3 * op).simplify(), sm.StateSpace)
    assert isinstance((torch.tensor(3.0) * op).simplify(), sm.StateSpace)
    assert isinstance(op.T.T.simplify(), sm.StateSpace)
    assert isinstance((op - op).simplify(), sm.Zero)
    both = (system(kind, 3, 40) - 2 * system(kind, 2, 40, direct=False)).simplify()
    assert (both._label() == "StateSpace(40x40, 5 states, diagonal)") == (kind == "diagonal")
    check_operator(sm.kron(sm.Dense(torch.randn(2, 3, dtype=WIDE)), op.T), backends=("torch",))
    assert op.cost().flops == sm.Convolution(op.kernel(), 8).cost().flops


def test_what_does_not_fit_says_so() -> None:
    one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)
    with pytest.raises(ValueError, match=r"C has shape \(3,\), needs \(\.\.\., 2\) beside B"):
        sm.StateSpace(two, two, three, None, 4)
    with pytest.raises(ValueError, match=r"A has shape \(3, 3\), needs \(\.\.\., 2\)"):
        sm.StateSpace(torch.eye(3), two, two, None, 4)
    with pytest.raises(ValueError, match=r"Q has shape \(2, 1\), needs \(\.\.\., 2, 2\)"):
        sm.StateSpace((two, torch.eye(2), torch.ones(2, 1)), two, two, None, 4)
    with pytest.raises(ValueError, match="length must be a non-negative integer, got -1"):
        sm.StateSpace(one, one, one, None, -1)
    with pytest.raises(ValueError, match=r"batch dimensions \(2,\), \(3,\), \(\) do not broadcast"):
        sm.StateSpace(torch.ones(2, 1), torch.ones(3, 1), one, None, 4)
    meta = torch.ones(1, device="meta")
    assert sm.StateSpace(meta, meta, meta, 0.5, 4).tensors["D"].device.type == "meta"
    op = sm.StateSpace(one, one, one, None, 4)
    with pytest.raises(ValueError, match="chunk must be a positive integer, got 0"):
        op.recurrence(torch.ones(4), chunk=0)
    turned = op._transpose()
    assert isinstance(turned, sm.StateSpace)
    with pytest.raises(ValueError, match="is anticausal"):
        turned.recurrence(torch.ones(4))
