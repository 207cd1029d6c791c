"""Primitives as circuits: each by its fast algorithm.

A compiler may call a library for a Fourier transform; a circuit has to say what it consists of. One
function here for each kind of :class:`structmat.primitives.Primitive`: nodes (ins, columns) in,
nodes (outs, columns) out, for as many columns as there are copies of the primitive. The spectrum of
a convolution is a weight, computed by torch, so gradients reach the values that it came from.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor

from structmat.circuit.arithmetic import Arithmetic, Complexes, Pair, Pairs
from structmat.circuit.fourier import fourier, half_fourier, inverse_half_fourier, roots
from structmat.circuit.graph import ZERO, Graph
from structmat.circuit.levels import Integers
from structmat.circuit.trigonometric import cosine, sine
from structmat.primitives.base import Primitive
from structmat.primitives.circular import Circular
from structmat.primitives.differences import Differences
from structmat.primitives.displacement import Displacement, reversed_shift
from structmat.primitives.powers import Powers
from structmat.primitives.real_fourier import RealFourier
from structmat.primitives.solve import Solve
from structmat.primitives.sparse import Bsr, Csr, CsrTurned
from structmat.primitives.trigonometric import Cosine, Fourier, Hadamards, Sine, Trigonometric

__all__ = ["expanded"]


@singledispatch
def expanded(op: Primitive, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    """The nodes of op(w) x.

    Raises:
        TypeError: the primitive has no circuit here.
    """
    raise TypeError(
        f"circuit: no expansion of {op}; register one with "
        "structmat.circuit.expansions.expanded.register"
    )


def _column(w: Tensor, axis: int = -1) -> Tensor:
    """Weights along axis 0 of nodes (k, columns)."""
    return w.unsqueeze(axis)


@expanded.register
def _(op: Fourier, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    y: Integers = fourier(Complexes(g), x, fft, 1 if op.inverse else -1)
    return y


@expanded.register
def _(op: RealFourier, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    n = op.n
    if n == 0:
        return x
    if op.back:
        inner = Graph(n, g.dtype)
        straight = expanded(op.transposed(), inner, inner.inputs()[:, None], None, fft)
        return g.inline(inner.finish(straight).T, x)
    half = half_fourier(Pairs(g), x, fft)
    parts = np.stack([half.re, half.im], 1).reshape(-1, x.shape[1])
    last = n if n % 2 == 0 else n + 1
    middle = g.combine([(parts[2:last], op.weight)])
    return np.concatenate([parts[:1], middle, parts[last : n + 1]])


@expanded.register
def _(op: Hadamards, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    n, columns = x.shape
    step = 1
    while step < n:
        pairs = x.reshape(n // (2 * step), 2, step, columns)
        low, high = pairs[:, 0], pairs[:, 1]
        new = [g.combine([(low, 1), (high, sign)]) for sign in (1, -1)]
        x = np.stack(new, 1).reshape(n, columns)
        step *= 2
    return x


@expanded.register
def _(op: Trigonometric, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    transform = {Cosine: cosine, Sine: sine}[type(op)]
    x = _ends(g, x, op.input, 1.0)
    return _ends(g, transform(g, x, op.kind), op.output, op.scale)


def _ends(g: Graph, x: Integers, ends: tuple[float, float], scale: float) -> Integers:
    if x.shape[0] == 0 or (ends == (1.0, 1.0) and scale == 1.0):
        return x
    weights = np.full((x.shape[0], 1), scale)
    weights[0] *= ends[0]
    weights[-1] *= ends[1]
    y = x.copy()
    own = weights[:, 0] != 1
    y[own] = g.combine([(x[own], weights[own])])
    return y


@expanded.register
def _(op: Csr, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    assert w is not None
    pattern, turned = op.pattern, isinstance(op, CsrTurned)
    rows, columns = pattern.rows.array(), pattern.indices.array()
    if turned:
        rows, columns = columns, rows
        order = np.argsort(rows, kind="stable")
        rows, columns = rows[order], columns[order]
        w = w.index_select(-1, torch.from_numpy(order).to(w.device))
    return _rows(g, x, op.outs, rows, columns, w)


def _rows(g: Graph, x: Integers, m: int, rows: Integers, columns: Integers, w: Tensor) -> Integers:
    """y[rows[e]] += w[e] x[columns[e]], rows sorted."""
    copies = x.shape[1]
    counts = np.tile(np.bincount(rows, minlength=m), copies)
    tails = x[columns].T.reshape(-1)
    weights = w[..., None, :].expand(*w.shape[:-1], copies, w.shape[-1]).flatten(-2)
    return g.sums(tails, counts, weights).reshape(copies, m).T


@expanded.register
def _(op: Bsr, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    assert w is not None
    p, q = op.block
    rows, columns = op.pattern.rows.array(), op.pattern.indices.array()
    if op.turned:
        rows, columns, p, q, w = columns, rows, q, p, w.mT
    # the entries of all blocks by row: (block row, row in block, block, column in block)
    order = np.argsort(rows, kind="stable")
    i, j = np.arange(p), np.arange(q)
    at = rows[order][:, None, None] * p + i[:, None]
    entry = (order[:, None, None] * p + i[:, None]) * q + j
    column = np.broadcast_to(columns[order][:, None, None] * q + j, entry.shape).reshape(-1)
    row = np.broadcast_to(at, entry.shape).reshape(-1)
    sort = np.argsort(row, kind="stable")
    taken = torch.from_numpy(entry.reshape(-1)[sort]).to(w.device)
    return _rows(g, x, op.outs, row[sort], column[sort], w.flatten(-3).index_select(-1, taken))


@expanded.register
def _(op: Differences, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    assert w is not None
    entries = 1 / (w[..., : op.m, None] - w[..., None, op.m :])
    if op.turned:
        entries = entries.mT
    tails = np.broadcast_to(x.T[:, None, :], (x.shape[1], op.outs, op.ins))
    return g.gates(tails, entries[..., None, :, :]).T


@expanded.register
def _(op: Solve, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    """Substitution, or the inverse: as many operations as its factors, and the depth of one gate.

    Factors with pivots would be a circuit of another shape for each matrix of a batch.
    """
    assert w is not None
    n, copies = x.shape
    if op.how == "lu":
        entries = torch.linalg.inv(w[..., :n, :])
        entries = entries.mT if op.turned else entries
        tails = np.broadcast_to(x.T[:, None, :], (copies, n, n))
        return g.gates(tails, entries[..., None, :, :]).T
    a = w.mT if op.turned else w
    lower = (op.how == "lower") != op.turned
    y = np.full_like(x, ZERO)
    for step in range(n):
        i = step if lower else n - 1 - step
        known = np.arange(i) if lower else np.arange(i + 1, n)
        row = torch.cat([a.new_ones(*a.shape[:-2], 1), -a[..., i, known]], -1)
        total = g.gates(np.concatenate([x[i : i + 1], y[known]]).T, row[..., None, :])
        y[i] = g.gates(total[:, None], (1 / a[..., i, i])[..., None, None])
    return y


@expanded.register
def _(op: Powers, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    """Horner's rule for each node; the transpose is the transposed circuit."""
    assert w is not None
    if op.turned:
        inner = Graph(op.outs, g.dtype)
        straight = expanded(op.transposed(), inner, inner.inputs()[:, None], w, fft)
        return g.inline(inner.finish(straight).T, x)
    m, columns = op.outs, x.shape[1]
    if op.ins == 0:
        return np.full((m, columns), ZERO, dtype=np.int64)
    y = np.broadcast_to(x[-1:], (m, columns))
    for j in range(op.ins - 2, -1, -1):
        y = g.combine(
            [(g.combine([(y, _column(w))]), 1), (np.broadcast_to(x[j : j + 1], y.shape), 1)]
        )
    return y


@expanded.register
def _(op: Circular, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    assert w is not None
    lengths, columns = op.lengths, x.shape[1]
    if 0 in (op.ins, op.outs, x.size):
        return np.full((op.outs, columns), ZERO, dtype=np.int64)
    axes = list(range(-len(lengths), 0))
    if op.flip:
        w = w.flip(axes).roll([1] * len(axes), axes)
    wide = w.to(
        torch.complex128 if w.dtype in (torch.float64, torch.complex128) else torch.complex64
    )
    spectrum = torch.fft.fftn(wide, dim=axes) / math.prod(lengths)
    padded = np.full((*lengths, columns), ZERO, dtype=np.int64)
    padded[tuple(slice(k) for k in op.input)] = x.reshape(*op.input, columns)
    kept = tuple(slice(k) for k in op.output)
    if g.dtype.is_complex:
        plain = Complexes(g)
        y: Any = _along(plain, padded, range(len(lengths)), fft, -1)
        y = plain.combine([(y, _column(spectrum))])
        y = _along(plain, y, range(len(lengths)), fft, 1)
        out: Integers = y[kept].reshape(op.outs, columns)
        return out
    # real: the last axis takes half of its frequencies, the others all
    ar, n = Pairs(g), lengths[-1]
    front = np.moveaxis(padded, len(lengths) - 1, 0)
    half = _moved(half_fourier(ar, front, fft), 0, len(lengths) - 1)
    half = _along(ar, half, range(len(lengths) - 1), fft, -1)
    half = ar.combine([(half, _column(spectrum[..., : n // 2 + 1]))])
    half = _along(ar, half, range(len(lengths) - 1), fft, 1)
    back = inverse_half_fourier(ar, _moved(half, len(lengths) - 1, 0), n, fft)
    return np.moveaxis(back, 0, len(lengths) - 1)[kept].reshape(op.outs, columns)


def _moved(x: Any, source: int, to: int) -> Any:
    if isinstance(x, Pair):
        return Pair(np.moveaxis(x.re, source, to), np.moveaxis(x.im, source, to))
    return np.moveaxis(x, source, to)


def _along(ar: Arithmetic, x: Any, axes: range, fft: str, sign: int) -> Any:
    for axis in axes:
        x = _moved(fourier(ar, _moved(x, axis, 0), fft, sign), 0, axis)
    return x


@expanded.register
def _(op: Displacement, g: Graph, x: Integers, w: Tensor | None, fft: str) -> Integers:
    assert w is not None
    n, r, f = op.n, op.r, op.f
    if 0 in (n, r, x.size):
        return np.full(x.shape, ZERO, dtype=np.int64)
    wide = w.to(
        torch.complex128 if w.dtype in (torch.float64, torch.complex128) else torch.complex64
    )
    first, last = wide[..., 1, :, :], wide[..., 0, :, :]
    if op.turned:
        first, last, f = reversed_shift(last, f), reversed_shift(first, -f), -f
    ar: Any = Complexes(g) if g.dtype.is_complex else Pairs(g)
    value = x if g.dtype.is_complex else ar.of_real(x)
    turns = roots(2 * n, np.arange(n))  # into the eigenbasis of the matrix with -1

    def to(v: Any, f: int) -> Any:
        if f == -1:
            v = ar.combine([(v, turns.reshape(n, *[1] * (len(v.shape) - 1)))])
        return fourier(ar, v, fft, -1)

    def back(v: Any, f: int) -> Any:
        v = fourier(ar, v, fft, 1)
        return (
            v if f == 1 else ar.combine([(v, turns.conj().reshape(n, *[1] * (len(v.shape) - 1)))])
        )

    def spectrum(v: Tensor, f: int) -> Tensor:
        """(..., r, n) as (..., n, r, 1)."""
        half = torch.from_numpy(turns).to(v)
        y: Tensor = torch.fft.fft(v if f == 1 else v * half, dim=-1)
        return y.mT[..., None] / n

    inner = to(value, -f)
    many = ar.stack([inner] * r, 1)
    z = back(ar.combine([(many, spectrum(first, -f))]), -f)
    z = ar.combine([(to(z, f), spectrum(last, f))])
    total = ar.combine([(z[:, k], 1) for k in range(r)])
    y = back(total, f)
    last_nodes: Integers = y if g.dtype.is_complex else y.re
    return last_nodes
