"""The input-output matrix of a linear time-invariant system.

    x_(t+1) = A x_t + B u_t,    y_t = C x_t + D u_t,    x_0 = 0,    0 <= t < length

maps u to y by the lower triangular Toeplitz matrix with first column (D, C B, C A B, C A^2 B, ...),
for one input and one output. A is

    dense      (..., N, N)
    diagonal   (..., N)
    (lambda, P, Q), diagonal plus low rank: diag(lambda) - P Q^H, with P, Q of shape (..., N, r).

The product is a causal convolution, two Fourier transforms of length >= 2 length - 1. The first
column is made from A, B, C each time the operator is used:

    dense      (C A^(p i)) (A^j B) for i, j < p, p^2 >= length, both by repeated doubling:
               O(N^3 log length + N^2 length^(1/2) + N length)
    diagonal   a transposed Vandermonde product, in tiles: O(N length)
    low rank   the generating function, O(N^3 log length + N (r + 1)^2 length):
               sum_(k < T) C A^k B z^k = C (I - z^T A^T) (I - z A)^-1 B    at T points z,
               with Woodbury's identity for the inverse of diagonal plus low rank; its sums are
               Cauchy products, in tiles. It is computed in double precision, on a circle of radius
               2^(-1/T): no z A with spectral radius(A) <= 1 has the eigenvalue 1, and going back to
               coefficients enlarges errors by 2 at most. An eigenvalue of A, or an entry of lambda,
               on the circle of radius 2^(1/T) may meet a pole: use dense A for unstable systems.

The same outputs come step by step, with a state, from :meth:`StateSpace.recurrence`.
Source: Kailath, Linear systems (1980), chapter 2; Gu, Goel and Re, Efficiently modeling long
sequences with structured state spaces (2022), for the generating function.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from structmat.builder import Builder, counts
from structmat.leaves.diagonal import _size
from structmat.leaves.toeplitz import constant_diagonals, fast_length, join
from structmat.operator import LinearOperator, as_tensor
from structmat.primitives import Circular, Differences, Powers
from structmat.primitives.power_tiles import powers_block

__all__ = ["StateSpace"]

EVENT = {"B": 1, "C": 1, "D": 0, "P": 2, "Q": 2}


class StateSpace(LinearOperator):
    """The causal length x length matrix of x+ = A x + B u, y = C x + D u.

    Args:
        A: (..., N, N); or (..., N), a diagonal; or a tuple (lambda, P, Q) for diag(lambda) - P Q^H,
            lambda of shape (..., N), P and Q of shape (..., N, r).
        B: (..., N).
        C: (..., N).
        D: number or tensor of the batch shape; None for 0.
        length: number of samples.
        diagonal: whether A holds diagonals. By default it does unless its last two dimensions are
            (N, N), so that N diagonal systems of N states need ``diagonal=True``.

    Raises:
        TypeError: integer tensors.
        ValueError: shapes do not fit, or length is not a non-negative integer.

    Cost: two Fourier transforms of length >= 2 length - 1 per vector, and the first column once.
    Source: Kailath, Linear systems (1980), chapter 2.

    Example:
        >>> import torch, structmat as sm
        >>> one = torch.ones(1)
        >>> sm.StateSpace(0.5 * one, one, one, None, 3).to_dense()
        tensor([[0.0000, 0.0000, 0.0000],
                [1.0000, 0.0000, 0.0000],
                [0.5000, 1.0000, 0.0000]])
    """

    A: Tensor
    B: Tensor
    C: Tensor
    kind: str
    length: int
    transposed: bool

    def __init__(
        self, A: Any, B: Any, C: Any, D: Any, length: int, diagonal: bool | None = None
    ) -> None:
        tensors = {}
        if isinstance(A, tuple | list) and len(A) == 3 and any(isinstance(a, Tensor) for a in A):
            kind = "low rank"
            for name, value, ndim in zip("APQ", A, (1, 2, 2), strict=True):
                tensors[name] = as_tensor(value, f"StateSpace: {name} of A", ndim)
        else:
            tensors["A"] = as_tensor(A, "StateSpace: A", 1)
        tensors["B"] = as_tensor(B, "StateSpace: B", 1)
        tensors["C"] = as_tensor(C, "StateSpace: C", 1)
        if len(tensors) == 3:
            states = tensors["B"].shape[-1]
            square = tuple(tensors["A"].shape[-2:]) == (states, states)
            kind = "diagonal" if (not square if diagonal is None else diagonal) else "dense"
        if D is not None:
            B = tensors["B"]
            if not isinstance(D, Tensor):
                D = as_tensor(D, "StateSpace: D", allow_integer=True).to(B)
            tensors["D"] = as_tensor(D, "StateSpace: D")
        size = _size(length, "StateSpace: length")
        self._init(tensors, static={"kind": kind, "length": size, "transposed": False})
        self._check()

    def _check(self) -> None:
        n = self.B.shape[-1]
        tail = {k: tuple(t.shape[-self.event_dims[k] :]) for k, t in self.tensors.items()}
        want: dict[str, tuple[int, ...]] = {"C": (n,), "A": (n, n)[: self.event_dims["A"]]}
        if self.kind == "low rank":
            rank = self.tensors["P"].shape[-1]
            want.update(P=(n, rank), Q=(n, rank))
        wrong = [k for k, shape in want.items() if tail[k] != shape]
        if wrong:
            raise ValueError(
                f"StateSpace: {wrong[0]} has shape {tuple(self.tensors[wrong[0]].shape)}, needs "
                f"(..., {', '.join(map(str, want[wrong[0]]))}) beside B of shape "
                f"{tuple(self.B.shape)}; A is (..., N, N), (..., N) or (lambda, P, Q)"
            )
        _ = self.batch_shape  # raises where batch dimensions do not broadcast

    @property
    def event_dims(self) -> dict[str, int]:  # type: ignore[override]
        """A is a matrix or a diagonal."""
        return {**EVENT, "A": 2 if self.kind == "dense" else 1}

    @property
    def states(self) -> int:
        """N."""
        return self.B.shape[-1]

    def state_matrix(self) -> Tensor:
        """A as a dense (..., N, N) tensor."""
        if self.kind == "dense":
            return self.A
        diagonal = torch.diag_embed(self.A)
        if self.kind == "diagonal":
            return diagonal
        P, Q = self.tensors["P"], self.tensors["Q"]
        dtype = torch.promote_types(torch.promote_types(P.dtype, Q.dtype), self.A.dtype)
        return diagonal.to(dtype) - P.to(dtype) @ Q.to(dtype).mH

    def _shape(self) -> tuple[int, int]:
        return self.length, self.length

    def kernel(self) -> Tensor:
        """The first column, (D, C B, C A B, ...), of shape (..., length)."""
        dtype, count = self.dtype, max(self.length - 1, 0)
        B, C = self.B.to(dtype), self.C.to(dtype)
        if self.kind == "diagonal":
            one = Powers(self.states, count, turned=True)
            taps = one((B * C).unsqueeze(-1), self.A.to(dtype)).squeeze(-1)
        elif self.kind == "dense":
            taps = dense_taps(self.A.to(dtype), B, C, count)
        else:
            P, Q = self.tensors["P"], self.tensors["Q"]
            taps = low_rank_taps(self.state_matrix(), self.A, P, Q, B, C, count)
            taps = taps.to(dtype) if dtype.is_complex else taps.real.to(dtype)
        if "D" in self.tensors:
            first = self.tensors["D"].to(dtype)[..., None]
        else:
            first = B.new_zeros(*B.shape[:-1], 1)
        return join(first, taps)[..., : self.length]

    def _lower(self, g: Builder, x: Any) -> Any:
        n = self.length
        if n == 0:
            return g.zeros(x, 0)
        period = fast_length(2 * n - 1)
        op = Circular((period,), (n,), (n,), self.transposed)
        if counts(g):  # what counts needs no numbers
            return g.apply(x, op, self.B)
        return g.apply(x, op, F.pad(self.kernel(), (0, period - n)))

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """From the response to an impulse, one step at a time."""
        A, state, C = self.state_matrix().to(dtype), self.B.to(dtype), self.C.to(dtype)
        D = self.tensors.get("D", torch.zeros((), dtype=dtype, device=device)).to(dtype)
        response = [D[..., None]]
        for _ in range(self.length - 1):
            response.append((C * state).sum(-1, keepdim=True))
            state = (A @ state.unsqueeze(-1)).squeeze(-1)
        column = join(*response)[..., : self.length]
        dense = constant_diagonals(column, torch.zeros_like(column))
        return dense.mT if self.transposed else dense

    def _transpose(self) -> LinearOperator:
        return self._replace(self.tensors, (), {**self.static, "transposed": not self.transposed})

    def _label(self) -> str:
        name = f"StateSpace({self.length}x{self.length}, {self.states} states, {self.kind})"
        return f"{name}.T" if self.transposed else name

    # step by step ------------------------------------------------------------------------------

    def recurrence(
        self, u: Any, state: Tensor | None = None, chunk: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Run the system, with a state that goes in and comes out.

        Args:
            u: inputs (..., steps), any number of steps; the rest broadcasts with the batch.
            state: x_0 of shape (..., N); zeros by default.
            chunk: how many steps are taken at once: inside a chunk the outputs are a convolution,
                and the state passes from chunk to chunk. The last steps, fewer than a chunk, are
                taken one by one.

        Returns:
            The outputs (..., steps) and the state after them (..., N). From a zero state and for
            ``steps == length`` the outputs are ``A(u)``.

        Raises:
            ValueError: the operator is transposed: anticausal; or chunk is not a positive integer.

        Example:
            >>> import torch, structmat as sm
            >>> one = torch.ones(1)
            >>> y, state = sm.StateSpace(0.5 * one, one, one, None, 3).recurrence(torch.ones(3))
            >>> y, state
            (tensor([0.0000, 1.0000, 1.5000]), tensor([1.7500]))
        """
        if self.transposed:
            raise ValueError(f"{self._label()} is anticausal: run the system that it transposes")
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
            raise ValueError(f"{self._label()}: chunk must be a positive integer, got {chunk!r}")
        u = as_tensor(u, "StateSpace: u", 1)
        dtype = torch.promote_types(u.dtype, self.dtype)
        lead = torch.broadcast_shapes(u.shape[:-1], self.batch_shape)
        u = u.to(dtype).expand(*lead, u.shape[-1])
        if state is None:
            state = u.new_zeros(*lead, self.states)
        state = state.to(dtype).expand(*lead, self.states)
        whole = u.shape[-1] // chunk * chunk if chunk > 1 else 0
        first, state = self._chunks(u[..., :whole], state, chunk) if whole else (u[..., :0], state)
        rest, state = self._steps(u[..., whole:], state)
        return torch.cat([first, rest], -1), state

    def _steps(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        own = {k: t.to(u.dtype) for k, t in self.tensors.items()}
        outputs = []
        for value in u.unbind(-1):
            y = (own["C"] * state).sum(-1)
            outputs.append(y + own["D"] * value if "D" in own else y)
            if self.kind == "dense":
                moved = (own["A"] @ state.unsqueeze(-1)).squeeze(-1)
            else:
                moved = own["A"] * state
            if self.kind == "low rank":
                moved = moved - (own["P"] @ (own["Q"].mH @ state.unsqueeze(-1))).squeeze(-1)
            state = moved + own["B"] * value[..., None]
        return torch.stack(outputs, -1) if outputs else u, state

    def _chunks(self, u: Tensor, state: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """y = K u + (C A^t)_t x, and x becomes A^chunk x + (A^(chunk-1-i) B)_i u."""
        dtype = u.dtype
        B, C = self.B.to(dtype), self.C.to(dtype)
        pieces = u.unflatten(-1, (-1, chunk)).movedim(-2, 0)
        inside = self._replace(self.tensors, (), {**self.static, "length": chunk})(pieces)
        if self.kind == "diagonal":
            powers = powers_block(self.A.to(dtype), chunk + 1)
            see, put = powers[..., :-1] * C[..., None], powers[..., :-1].flip(-1) * B[..., None]
            move = torch.diag_embed(powers[..., -1])
        else:
            A = self.state_matrix().to(dtype)
            see, put = krylov(A.mT, C, chunk), krylov(A, B, chunk).flip(-1)
            move = torch.linalg.matrix_power(A, chunk)
        outputs = []
        for piece, y in zip(pieces, inside, strict=True):
            outputs.append(y + (see.mT @ state.unsqueeze(-1)).squeeze(-1))
            state = (move @ state.unsqueeze(-1) + put @ piece.unsqueeze(-1)).squeeze(-1)
        return torch.cat(outputs, -1), state


def krylov(A: Tensor, v: Tensor, count: int) -> Tensor:
    """(v, A v, ..., A^(count-1) v) by doubling, (..., N, count)."""
    lead = torch.broadcast_shapes(A.shape[:-2], v.shape[:-1])
    columns = v.expand(*lead, v.shape[-1]).unsqueeze(-1)
    A = A.expand(*lead, *A.shape[-2:])
    while columns.shape[-1] < count:
        columns = torch.cat([columns, A @ columns], -1)
        A = A @ A if columns.shape[-1] < count else A
    return columns[..., :count]


def dense_taps(A: Tensor, B: Tensor, C: Tensor, count: int) -> Tensor:
    """C A^k B for k < count: (C A^(p i)) (A^j B), p a power of two near the root of count."""
    p = 1 << math.ceil(math.log2(max(count, 1)) / 2)
    step = A
    for _ in range(p.bit_length() - 1):
        step = step @ step
    rows = krylov(step.mT, C, -(-count // p)).mT
    taps: Tensor = rows @ krylov(A, B, p)
    return taps.flatten(-2)[..., :count]


def low_rank_taps(
    A: Tensor, diagonal: Tensor, P: Tensor, Q: Tensor, B: Tensor, C: Tensor, count: int
) -> Tensor:
    """C A^k B for k < count and A = diag(diagonal) - P Q^H, complex128, by Woodbury's identity."""
    n, rank = P.shape[-2:]
    wide = torch.complex128
    if n == 0 or count == 0:
        lead = torch.broadcast_shapes(B.shape[:-1], C.shape[:-1], A.shape[:-2])
        return torch.zeros(*lead, count, dtype=wide, device=B.device)
    diagonal, P, Q, B, C = (t.to(wide) for t in (diagonal, P, Q, B, C))
    radius = 0.5 ** (1 / count)
    power = torch.linalg.matrix_power(A.to(wide), count)
    C = C - 0.5 * (C.unsqueeze(-2) @ power).squeeze(-2)
    k = torch.arange(count, dtype=torch.float64, device=B.device)
    s = torch.polar(torch.full_like(k, 1 / radius), k * (2 * math.pi / count))
    left = _side(C.unsqueeze(-2), Q.mH, -2)
    right = _side(B.unsqueeze(-1), P, -1)
    pairs = left.mT.unsqueeze(-1) * right.unsqueeze(-2)
    sums = Differences(count, n)(pairs.flatten(-2), join(s, diagonal))
    sums = sums.unflatten(-1, (rank + 1, rank + 1))
    values = sums[..., 0, 0]
    if rank:
        inner = torch.eye(rank, dtype=wide, device=B.device) + sums[..., 1:, 1:]
        solved = torch.linalg.solve(inner, sums[..., 1:, :1])
        values = values - (sums[..., :1, 1:] @ solved).squeeze(-1).squeeze(-1)
    taps: Tensor = torch.fft.ifft(values * s) * radius**-k
    return taps


def _side(a: Tensor, b: Tensor, dim: int) -> Tensor:
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return torch.cat([t.expand(*lead, *t.shape[-2:]) for t in (a, b)], dim)
