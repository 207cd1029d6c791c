"""Vandermonde products for complex nodes of nearly one modulus: a nonuniform Fourier transform.

Let |x_i| = rho exp(t_i) with |t_i| (n - 1) <= 1/2: nodes on the unit circle, beside it, or on any
other. With z_i = x_i / rho and N >= 2 n points exp(2 pi i g / N) around the circle,

    sum_j v_j x_i^j = z_i^c sum_g phi(N p_i / (2 pi) - g) F_g,    F = DFT_N^-1 (v_j rho^j / h_j),

where i p_i = log z_i, c = n / 2, phi is a window that vanishes but at the W points beside the node,
and h_j its Fourier transform at the frequency j - c. The window of Kaiser and Bessel,

    phi(s) = sinh(b r) / (pi r),    r^2 = (W / 2)^2 - s^2,    h_j = I_0(W / 2 (b^2 - f_j^2)^(1/2)),

with b = pi (2 - n / N) and f_j = 2 pi (j - c) / N is analytic, so it serves complex p_i beside the
real ones. W = 16 has errors of some 10^-13, W = 10 of 10^-7, relative to sum_j |v_j| rho^j: that is
|V| |v| but for a factor of exp(1/2), so errors are bounded entry by entry as those of the dense
product. Angles are counted from the nearest multiple of pi / 2 and from the next grid point, so
that p_i keeps the digits that the node has.

Cost: a Fourier transform of length 2 n and W m products a column, instead of m n. Whether nodes
have nearly one modulus is a question about numbers: it is asked where they are plain numbers on a
CPU (:mod:`structmat.primitives.plain`), and what torch traces or maps over keeps to tiles.
Source: Dutt and Rokhlin, Fast Fourier transforms for nonequispaced data (1993); the window of
Potts, Steidl and Tasche, Fast Fourier transforms for nonequispaced data: a tutorial (2001).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["circle_powers", "circle_weights", "many_on_circle", "one_modulus", "unit_roots"]


def many_on_circle(m: int, n: int, cols: int) -> bool:
    """Whether the transform is faster than tiles, as measured on a CPU."""
    least = 256 if cols >= 32 else 512 if cols >= 16 else 1024 if cols >= 4 else 1536
    return m * n >= least * (m + n)


def one_modulus(z: Tensor, n: int) -> Tensor | None:
    """log rho (b, 1) for nodes z (b, m), in double precision; None where moduli differ."""
    logs = z.to(torch.complex128).abs().log()
    least, most = torch.aminmax(logs, dim=1, keepdim=True)
    near = (most - least) * (n - 1) <= 1.0
    return (least + most) / 2 if bool((near & most.isfinite()).all()) else None


def unit_roots(g: Tensor, size: int) -> Tensor:
    """exp(2 pi i g / size) for whole numbers g and a multiple of 4, by an angle below pi / 4."""
    quarters = torch.round(g * (4 / size))
    angle = (g - quarters * (size // 4)) * (2 * math.pi / size)
    near = torch.polar(torch.ones_like(angle), angle)
    turn = torch.tensor([1, 1j, -1, -1j], dtype=near.dtype, device=g.device)
    return near * turn[quarters.long() % 4]


def circle_weights(
    z: Tensor, middle: Tensor, size: int, taps: int, bend: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For nodes z (b, m): phi (b, m, W), its points g; the first point, and log z / root there."""
    wide = z.to(torch.complex128)
    quarters = torch.round(wide.angle() * (2 / math.pi))
    back = torch.tensor([1, -1j, -1, 1j], dtype=wide.dtype, device=z.device)
    angle = (wide * back[quarters.long() % 4]).angle()
    # 2 pi / size in 26 bits and the rest (with the rest of 2 pi): small multiples are exact
    step = 2 * math.pi / size
    unit = 2.0 ** (math.frexp(step)[1] - 26)
    coarse = round(step / unit) * unit
    fine = ((2 * math.pi - coarse * size) + 2.4492935982947064e-16) / size
    point = torch.floor(angle / step)
    angle = (angle - point * coarse) - point * fine
    rest = torch.complex(wide.abs().log() - middle, angle)
    point = point + quarters * (size // 4)

    beside = torch.arange(1 - taps // 2, taps // 2 + 1, dtype=torch.float64, device=z.device)
    away = rest[..., None] * (-1j / step) - beside
    r = torch.sqrt((taps / 2) ** 2 - away * away)
    flat = r.abs() < 1e-8
    r = torch.where(flat, 1.0, r)
    window = torch.where(flat, bend, torch.sinh(bend * r) / r) / math.pi
    return window, (point[..., None] + beside).long() % size, point, rest


def circle_powers(x: Tensor, z: Tensor, n: int, turned: bool, middle: Tensor) -> Tensor:
    """sum_j z_i^j x_j, x (b, n, c); turned, x (b, m, c) -> (b, n, c); ``middle`` is log rho."""
    import scipy.fft
    import scipy.sparse

    b, m = z.shape
    taps = 16 if x.dtype == torch.complex128 else 10
    size = 4 * scipy.fft.next_fast_len((n + 1) // 2)
    bend = math.pi * (2 - n / size)
    half = n // 2
    window, column, point, rest = circle_weights(z, middle, size, taps, bend)
    j = torch.arange(n, dtype=torch.float64)
    frequency = (j - half) * (2 * math.pi / size)
    flat = torch.special.i0(taps / 2 * torch.sqrt(bend**2 - frequency**2))
    scaled = (torch.exp(middle * j) / flat)[..., None].to(x.dtype)
    turn = unit_roots(torch.remainder(point * half, size), size) * torch.exp(rest * half)
    turn = turn[..., None].to(x.dtype)
    window = window.to(x.dtype)
    starts = torch.arange(0, m * taps + 1, taps).numpy()

    def spread(i: int) -> scipy.sparse.csr_array:
        entries = window[i].reshape(-1).numpy(), column[i].reshape(-1).numpy(), starts
        return scipy.sparse.csr_array(entries, shape=(m, size))

    if turned:
        turned_x = (x * turn).numpy()
        grid = torch.stack([torch.from_numpy(spread(i).T @ turned_x[i]) for i in range(b)])
        sums = torch.fft.ifft(grid, dim=1, norm="forward")
        y: Tensor = torch.cat([sums[:, size - half :], sums[:, : n - half]], 1) * scaled
        return y
    x = x * scaled
    grid = torch.cat([x[:, half:], x.new_zeros(b, size - n, x.shape[2]), x[:, :half]], 1)
    values = torch.fft.ifft(grid, dim=1, norm="forward").numpy()
    return torch.stack([torch.from_numpy(spread(i) @ values[i]) for i in range(b)]) * turn
