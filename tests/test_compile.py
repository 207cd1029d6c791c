"""sm.compile as its user meets it: training, explanations, errors, what is made how often.

Values, gradients, caches and PyTorch's contracts are in test_runtime.py.
"""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import torch
from market import MARKET, entries

import structmat as sm
from structmat.lowering import PASSES, pipeline, program
from structmat.testing import check_operator, random_operator

D = torch.float64


def real(seed: int, *shape: int) -> torch.Tensor:
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=gen, dtype=D)


def small() -> tuple[torch.Tensor, torch.Tensor, sm.Compiled]:
    left, right = real(0, 6, 2, 4).requires_grad_(), real(1, 4, 6, 5).requires_grad_()
    return left, right, sm.compile(sm.Monarch(left, right))


def test_random_trees() -> None:
    for seed in range(1000, 1030):
        check_operator(random_operator(seed), exact=True, backends=("torch",))


def test_parameters_updated_in_place_are_seen() -> None:
    left, _, f = small()
    x = real(11, 3, 20)
    with torch.no_grad():
        before = f(x)
        left.mul_(2)
        torch.testing.assert_close(f(x), 2 * before)
        left.data.mul_(2)
        f._cached.clear()  # changes behind autograd's back need a fresh start
        torch.testing.assert_close(f(x), 4 * before)


def test_training_step_learns() -> None:
    torch.manual_seed(0)
    left, right, f = small()
    optimiser = torch.optim.SGD([left, right], lr=0.05)
    x, y = real(12, 64, 20), real(13, 64, 12)
    losses = []
    for _ in range(20):
        loss = (f(x) - y).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    torch.testing.assert_close(f(x), f.operator(x))


def test_explain_and_stages() -> None:
    p = sm.stride_permutation(16, 4)
    b = sm.BlockDiagonal(torch.randn(4, 4, 4))
    f = sm.compile(p @ sm.BlockDiagonal(torch.randn(4, 4, 4)) @ p.T @ b)
    f(torch.randn(3, 16))
    text = f.explain(batch=64)
    for word in ("expression", "rule ", "->", "simplified", "Monarch", "chain", "contract", "plan"):
        assert word in text, text
    assert "MB" in text
    assert "Mflop at batch 64" in text
    assert "backend     torch on cpu" in text
    assert "library calls" in text
    assert list(f.stages) == [s.name for s in PASSES]
    assert all(f.stages.values())
    assert "def run" in f.source
    assert f.plan.kernels


def test_errors_name_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    _, _, f = small()
    op = f.operator
    with pytest.raises(RuntimeError, match="move it to a GPU"):
        sm.compile(op, backend="triton")(real(0, 20))
    with pytest.raises(RuntimeError, match="backend='torch' for complex"):
        sm.compile(op.to(torch.complex128), backend="triton")(real(0, 20))
    with pytest.raises(RuntimeError, match="move it to a GPU"):
        sm.compile(op, backend="cuda")(real(0, 20))
    with pytest.raises(ValueError, match="auto, torch, triton, cuda"):
        sm.compile(op, backend="cudnn")
    with pytest.raises(TypeError, match="not an operator"):
        sm.compile(torch.eye(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dimension -1"):
        f(real(0, 3, 19))
    with pytest.raises(TypeError, match="convert first"):
        f(torch.ones(20, dtype=torch.int64))
    with pytest.raises(KeyError, match=r"sm\.compile"):
        torch.ops.structmat.apply(real(0, 1, 20), [], "nowhere")


def test_gradients_are_lowered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*args: object) -> pipeline.Lowered:
        calls.append(args)
        return pipeline.lower(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(program, "lower", counted)
    left, right = real(20, 3, 5, 7).requires_grad_(), real(21, 7, 3, 2).requires_grad_()
    f = sm.compile(sm.Monarch(left, right))
    for _ in range(3):
        f(real(22, 4, 14)).sum().backward()
    assert len(calls) == 2


def test_operators_pickle() -> None:
    for name, make in MARKET.items():
        op = make(entries(0))
        again = pickle.loads(pickle.dumps(op))
        assert again.structure == op.structure, name
        assert torch.equal(again.to_dense(), op.to_dense())


def test_a_cpu_compile_needs_no_triton() -> None:
    code = (
        "import sys, torch, structmat as sm\n"
        "sm.compile(sm.Monarch(torch.ones(2,2,2), torch.ones(2,2,2)))(torch.ones(4))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import sys\nsys.modules['triton'] = None\n" + code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("batch", [(2,), (3,), (2, 3)], ids=str)
def test_columns_of_batched_operators(batch: tuple[int, ...]) -> None:
    """f @ x is A @ x, also where the number of columns happens to be the size of the batch."""
    op = sm.Dense(entries(0)(*batch, 3, 4))
    f = sm.compile(op)
    shapes = [(4,), *((4, c) for c in (0, 1, 2, 3, 5)), (*batch, 4, 2), (5, *batch, 4, 2)]
    for shape in shapes:
        x = entries(1)(*shape)
        want = op @ x
        assert (f @ x).shape == want.shape, shape
        assert torch.equal(f @ x, want), shape
