"""The products of benchmarks/algebra.py in other libraries, each built from our operator.

A function that takes an operator returns what applies the same matrix in its library; one that
takes a name returns the :class:`Peer`. Libraries are imported where they are used: what is not
installed is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Apply = Callable[[Any], Any]
N = 4096
ROWS, COLUMNS = "rows", "columns"


@dataclass(frozen=True)
class Peer:
    """The same product in another library.

    Attributes:
        package: what pip calls it.
        layout: rows or columns.
        make: from our operator to a function of the input; NumPy unless ``torch``.
        torch: whether it takes tensors.
        note: which function it is.
    """

    package: str
    layout: str
    make: Callable[[Any], Apply]
    torch: bool = False
    note: str = ""


def scipy_rows(name: str, **options: Any) -> Peer:
    def make(op: Any) -> Apply:
        import scipy.fft

        transform = getattr(scipy.fft, name)
        return lambda x: transform(x, axis=-1, **options)

    return Peer("scipy", ROWS, make, note=f"scipy.fft.{name}")


def scipy_columns(name: str, **options: Any) -> Peer:
    def make(op: Any) -> Apply:
        import scipy.fft

        transform = getattr(scipy.fft, name)
        return lambda x: transform(x, axis=0, **options)

    return Peer("scipy", COLUMNS, make, note=f"scipy.fft.{name}")


def scipy_toeplitz(op: Any) -> Apply:
    from scipy.linalg import matmul_toeplitz

    c, r = op.c.numpy(), op.row.numpy()
    return lambda x: matmul_toeplitz((c, r), x)


def scipy_hankel(op: Any) -> Apply:
    from scipy.linalg import matmul_toeplitz

    h = op._antidiagonals().numpy()
    n = op.shape[1]
    c, r = h[n - 1 :], h[:n][::-1].copy()
    return lambda x: matmul_toeplitz((c, r), x[::-1])


def numpy_hadamard(op: Any) -> Apply:
    """By hand; lazylinop's fwht takes seconds at this size."""
    from scipy.linalg import hadamard

    h = hadamard(64).astype(np.float32)
    return lambda x: (h @ (h @ x.reshape(64, -1)).reshape(64, 64, -1)).reshape(N, -1)


def scipy_causal(op: Any) -> Apply:
    from scipy.signal import oaconvolve

    k = op.kernel.numpy()[None]
    return lambda x: oaconvolve(x, k, axes=-1)[:, : x.shape[-1]]


def scipy_lfilter(op: Any) -> Apply:
    from scipy.signal import lfilter

    k = op.kernel.numpy()
    return lambda x: lfilter(k, [1.0], x, axis=-1)


def pylops_convolve(op: Any) -> Apply:
    from pylops.signalprocessing import Convolve1D

    k = op.kernel.numpy()
    operator = Convolve1D((N, 64), k, offset=0, axis=0, method="fft", dtype="float32")
    return lambda x: operator.matvec(x.reshape(-1)).reshape(N, -1)


def scipy_csr(op: Any) -> Apply:
    from scipy.sparse import csr_array

    dense = op.to_dense().numpy()
    sparse = csr_array(dense)
    return lambda x: sparse @ x


def torch_csr(op: Any) -> Apply:
    sparse = op.to_dense().to_sparse_csr()
    return lambda x: sparse @ x


def scipy_bsr(op: Any) -> Apply:
    from scipy.sparse import bsr_array

    sparse = bsr_array(op.to_dense().numpy(), blocksize=(32, 32))
    return lambda x: sparse @ x


def numpy_low_rank(op: Any) -> Apply:
    u, v = op.left.numpy(), op.right.numpy()
    return lambda x: u @ (v @ x)


def numpy_diagonal(op: Any) -> Apply:
    d = op.d.numpy()[:, None]
    return lambda x: d * x


def numpy_permutation(op: Any) -> Apply:
    index = op.index.array()
    return lambda x: x[index]


def cola_blocks(op: Any) -> Apply:
    import cola

    operator = cola.ops.BlockDiag(*map(cola.ops.Dense, op.blocks))
    return lambda x: operator @ x


def linear_operator_blocks(op: Any) -> Apply:
    from linear_operator.operators import BlockDiagLinearOperator, DenseLinearOperator

    operator = BlockDiagLinearOperator(DenseLinearOperator(op.blocks))
    return lambda x: operator @ x


def numpy_blocks(op: Any) -> Apply:
    blocks = op.blocks.numpy()
    k, _, p = blocks.shape
    return lambda x: (blocks @ x.reshape(k, p, -1)).reshape(-1, x.shape[-1])


def cola_kronecker(op: Any) -> Apply:
    import cola

    operator = cola.ops.Kronecker(*(cola.ops.Dense(c.weight) for c in op.children))
    return lambda x: operator @ x


def linear_operator_kronecker(op: Any) -> Apply:
    from linear_operator.operators import DenseLinearOperator, KroneckerProductLinearOperator

    operator = KroneckerProductLinearOperator(*(DenseLinearOperator(c.weight) for c in op.children))
    return lambda x: operator @ x


def lazylinop_kronecker(op: Any) -> Apply:
    from lazylinop import aslazylinop
    from lazylinop.basicops import kron

    operator = kron(*(aslazylinop(c.weight.numpy()) for c in op.children))
    return lambda x: operator @ x


def lazylinop_signal(name: str, *args: Any, **options: Any) -> Peer:
    def make(op: Any) -> Apply:
        import lazylinop.signal

        operator = getattr(lazylinop.signal, name)(N, *args, **options)
        return lambda x: operator @ x

    return Peer("lazylinop", COLUMNS, make, note=f"lazylinop.signal.{name}")


def lazylinop_butterfly(op: Any) -> Apply:
    from lazylinop.butterfly import ksm

    operator = ksm([f.values.contiguous() for f in op.factors()])
    return lambda x: operator @ x


def linear_operator_toeplitz(op: Any) -> Apply:
    from linear_operator.operators import ToeplitzLinearOperator

    operator = ToeplitzLinearOperator(op.c)
    return lambda x: operator @ x


def pylops_fft(op: Any) -> Apply:
    from pylops.signalprocessing import FFT

    operator = FFT((N, 64), axis=0, nfft=N, norm="none", dtype="complex64", engine="scipy")
    return lambda x: operator.matvec(x.reshape(-1)).reshape(N, -1)
