"""Matrices constant along diagonals or antidiagonals, applied by circular convolution.

    Toeplitz(c, r)      T[i, j] = c[i - j] (i >= j), r[j - i] (i < j)
    Hankel(c, r)        H[i, j] = h[i + j],  h = c followed by r without its first entry
    Circulant(c, f)     C[i, j] = c[i - j] (i >= j), f c[n + i - j] (i < j)

SciPy's conventions: r[0] is ignored, r defaults to conj(c) in a Toeplitz and to zeros in a Hankel
matrix. ``Circulant(c, f)`` is Z_f(c) = sum_k c[k] Z_f^k for the f-circulant shift Z_f; f = -1 is a
skew-circulant, f = 0 a lower triangular Toeplitz matrix.

Each is embedded in a circulant matrix whose length has small prime factors (Golub and Van Loan,
Matrix computations, section 4.8): cost two Fourier transforms of length >= m + n - 1 (of length n
for a circulant whose n has small prime factors) and one product by the spectrum.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder
from structmat.index import AffineMap
from structmat.operator import LinearOperator, as_tensor
from structmat.primitives import Circular
from structmat.sizes import complex_of

__all__ = ["Circulant", "Hankel", "Toeplitz", "fast_length", "join"]


def fast_length(n: int) -> int:
    """The least length >= n whose Fourier transform is fast: no prime factor above 5."""
    if torch.compiler.is_dynamo_compiling():
        return _fast_length(n)
    from scipy.fft import next_fast_len

    return int(next_fast_len(n, real=True)) if n > 0 else 1


def _fast_length(n: int) -> int:
    """The same in Python, which dynamo can trace."""
    best = 1 << max(n - 1, 0).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            best = min(best, odd << (-(-n // odd) - 1).bit_length())
            odd *= 3
        fives *= 5
    return best


def join(*parts: Tensor) -> Tensor:
    """Concatenation along the last dimension; leading dimensions broadcast, dtypes promote."""
    lead = torch.broadcast_shapes(*(p.shape[:-1] for p in parts))
    dtype = parts[0].dtype
    for p in parts[1:]:
        dtype = torch.promote_types(dtype, p.dtype)
    return torch.cat([p.to(dtype).expand(*lead, p.shape[-1]) for p in parts], -1)


def convolve(g: Builder, x: Any, c: Tensor, r: Tensor) -> Any:
    """The product with Toeplitz(c, r): an embedding in a circulant of a fast length."""
    m, n = c.shape[-1], r.shape[-1]
    if m == 0 or n == 0:
        return g.zeros(x, m)
    length = fast_length(m + n - 1)
    gap = c.new_zeros(length - (m + n - 1))
    w = join(c, gap, r[..., 1:].flip(-1))
    return g.apply(x, Circular((length,), (n,), (m,)), w)


def constant_diagonals(c: Tensor, r: Tensor) -> Tensor:
    """The dense Toeplitz matrix, read off its diagonals."""
    m, n = c.shape[-1], r.shape[-1]
    diagonals = join(r[..., 1:].flip(-1), c)
    i, j = torch.arange(m, device=c.device), torch.arange(n, device=c.device)
    return diagonals[..., i[:, None] - j + max(n - 1, 0)]


class Toeplitz(LinearOperator):
    """T[i, j] = c[i - j] on and below the diagonal, r[j - i] above it.

    Args:
        c: first column, (..., m).
        r: first row, (..., n); r[0] is ignored. By default conj(c): T is Hermitian, up to its
            diagonal if c[0] is not real.

    Raises:
        TypeError: integer c or r.
        ValueError: c or r has no dimension.

    Cost: two transforms of length >= m + n - 1 per vector. Source: ``scipy.linalg.toeplitz``.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Toeplitz(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0, 4.0])).to_dense()
        tensor([[1., 3., 4.],
                [2., 1., 3.]])
    """

    fields = ("c", "r")
    event_dims: ClassVar[dict[str, int]] = {"c": 1, "r": 1}
    c: Tensor

    def __init__(self, c: Any, r: Any = None) -> None:
        tensors = {"c": as_tensor(c, "Toeplitz: first column c", 1)}
        if r is not None:
            tensors["r"] = as_tensor(r, "Toeplitz: first row r", 1)
        self._init(tensors)

    @property
    def row(self) -> Tensor:
        """The first row; its first entry is not used."""
        return self.tensors["r"] if "r" in self.tensors else self.c.conj()

    def _shape(self) -> tuple[int, int]:
        return self.c.shape[-1], self.row.shape[-1]

    def _lower(self, g: Builder, x: Any) -> Any:
        return convolve(g, x, self.c, self.row)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return constant_diagonals(self.c.to(dtype), self.row.to(dtype))

    def _transpose(self) -> LinearOperator:
        if "r" not in self.tensors and not self.c.is_complex():
            return self
        if 0 in self.shape:
            return Toeplitz(self.row, self.c)
        return Toeplitz(join(self.c[..., :1], self.row[..., 1:]), self.c)


class Hankel(LinearOperator):
    """H[i, j] = h[i + j], with h = (c, r[1:]).

    Args:
        c: first column, (..., m).
        r: last row, (..., n); r[0] is ignored, c[-1] stands there. By default zeros, n = m.

    Raises:
        TypeError: integer c or r.
        ValueError: c or r has no dimension.

    Cost: as a Toeplitz matrix; H is one with its columns reversed. Source: ``scipy.linalg.hankel``.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Hankel(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0, 4.0])).to_dense()
        tensor([[1., 2., 3.],
                [2., 3., 4.]])
    """

    fields = ("c", "r")
    event_dims: ClassVar[dict[str, int]] = {"c": 1, "r": 1}
    c: Tensor

    def __init__(self, c: Any, r: Any = None) -> None:
        tensors = {"c": as_tensor(c, "Hankel: first column c", 1)}
        if r is not None:
            tensors["r"] = as_tensor(r, "Hankel: last row r", 1)
        self._init(tensors)

    @property
    def row(self) -> Tensor:
        """The last row; its first entry is not used."""
        return self.tensors["r"] if "r" in self.tensors else torch.zeros_like(self.c)

    def _shape(self) -> tuple[int, int]:
        return self.c.shape[-1], self.row.shape[-1]

    def _antidiagonals(self) -> Tensor:
        return join(self.c, self.row[..., 1:])

    def _lower(self, g: Builder, x: Any) -> Any:
        m, n = self.shape
        if m == 0 or n == 0:
            return g.zeros(x, m)
        h = self._antidiagonals()
        turned = g.permute(x, AffineMap(n, -1, -1))
        return convolve(g, turned, h[..., n - 1 :], h[..., :n].flip(-1))

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        m, n = self.shape
        if m == 0 or n == 0:
            return torch.zeros(*self.batch_shape, m, n, dtype=dtype, device=device)
        i, j = torch.arange(m, device=device), torch.arange(n, device=device)
        return self._antidiagonals().to(dtype)[..., i[:, None] + j]

    def _transpose(self) -> LinearOperator:
        m, n = self.shape
        if m == n:
            return self
        if m == 0 or n == 0:
            return Hankel(self.row, self.c)
        h = self._antidiagonals()
        return Hankel(h[..., :n], h[..., n - 1 :])


class Circulant(LinearOperator):
    """C[i, j] = c[i - j] on and below the diagonal, f c[n + i - j] above it.

    Args:
        c: first column, (..., n).
        f: what entries are multiplied by when they wrap around; 1 for a circulant, -1 for a
            skew-circulant, 0 for a lower triangular Toeplitz matrix.

    Raises:
        TypeError: integer c, or f is not a number.
        ValueError: c has no dimension.

    Cost: two transforms of length n per vector (of length >= 2n - 1 where n has a large prime
    factor or f is not 1). Source: ``scipy.linalg.circulant``; Pan, Structured matrices and
    polynomials (2001), section 2.6, for f.

    Example:
        >>> import torch, structmat as sm
        >>> sm.Circulant(torch.tensor([1.0, 2.0, 3.0])).to_dense()
        tensor([[1., 3., 2.],
                [2., 1., 3.],
                [3., 2., 1.]])
    """

    fields = ("c",)
    event_dims: ClassVar[dict[str, int]] = {"c": 1}
    c: Tensor
    f: complex

    def __init__(self, c: Any, f: complex = 1) -> None:
        if isinstance(f, bool) or not isinstance(f, int | float | complex):
            raise TypeError(f"Circulant: f is {type(f).__name__}, needs a number such as 1 or -1")
        self._init({"c": as_tensor(c, "Circulant: first column c", 1)}, static={"f": f})

    @property
    def strong_dtype(self) -> torch.dtype | None:
        """As for every operator; a complex f makes a real operator complex."""
        return complex_of(self.c.dtype) if isinstance(self.f, complex) else self.c.dtype

    def _shape(self) -> tuple[int, int]:
        return self.c.shape[-1], self.c.shape[-1]

    @property
    def row(self) -> Tensor:
        """The first row."""
        c = self.c.to(self.strong_dtype)
        return join(c[..., :1], c[..., 1:].flip(-1) * self.f)

    def _lower(self, g: Builder, x: Any) -> Any:
        n = self.c.shape[-1]
        if self.f == 1 and n == fast_length(n):
            return g.apply(x, Circular((n,), (n,), (n,)), self.c)
        return convolve(g, x, self.c, self.row)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        n = self.c.shape[-1]
        if n == 0:
            return torch.zeros(*self.batch_shape, 0, 0, dtype=dtype, device=device)
        i = torch.arange(n, device=device)
        lag = i[:, None] - i
        dense = self.c.to(dtype)[..., lag % n]
        return torch.where(lag < 0, dense * self.f, dense)

    def _transpose(self) -> LinearOperator:
        if self.f == 0:
            return Toeplitz(join(self.c[..., :1], torch.zeros_like(self.c[..., 1:])), self.c)
        return Circulant(self.row, self.f if self.f in (1, -1) else 1 / self.f)

    def _label(self) -> str:
        n = self.c.shape[-1]
        return f"Circulant({n})" if self.f == 1 else f"Circulant({n}, f={self.f:g})"
