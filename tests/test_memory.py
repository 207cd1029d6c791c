"""Applying a long product takes memory for a few vectors, whatever its factors are."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak that Linux keeps")

CODE = """
import resource, torch, structmat as sm
torch.set_num_threads(1)
n, batch = 1 << 16, {batch}
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
kinds = [
    lambda: sm.Diagonal(torch.randn(n)),
    lambda: sm.Hadamard(n, normalized=True),
    lambda: sm.Circulant(torch.randn(n) / n),
    lambda: sm.bit_reversal(n),
    lambda: sm.BlockDiagonal(torch.randn(n // 16, 16, 16) / 4),
    lambda: sm.kron(sm.Dense(torch.randn(256, 256) / 16), sm.DCT(256, norm="ortho")),
    lambda: sm.LowRank(torch.randn(n, 4) / 256, torch.randn(4, n) / 256),
]
product = sm.Product(*(kinds[i % len(kinds)]() for i in range(50)))
small = sm.Product(*(k() for k in kinds))
x = torch.randn(n, batch)
with torch.no_grad():
    small @ x[:, :1]  # libraries load, plans are made
    before = peak()
    {call}
print((peak() - before) / (4 * n * batch))
"""


def growth(call: str, batch: int) -> float:
    """How far the peak grows, in vectors of n x batch numbers."""
    code = CODE.format(call=call, batch=batch)
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["product @ x", "product.T @ x", "product(x.mT)"])
def test_product_of_fifty_factors(call: str) -> None:
    assert growth(call, 16) < 16
