"""Gaussian elimination of a Cauchy-like matrix by its generators.

    diag(s) C - C diag(t) = G H,    C[i, j] = G_i H_j / (s_i - t_j),    G (n x r), H (r x n)

needs the generators alone: with l = C[:, 0] / C_00 and u = C[0, :] the Schur complement has the
generators G - l G_0 and H - H_0 u / C_00. Rows may be exchanged, so elimination is with partial
pivoting and needs no regular minors, other than Levinson's recursion. The pivots are numbers of C,
so that their product is the determinant. Cost: about 4 r n^2 operations, in n steps of a fixed
number of calls on preallocated numbers; memory 2 r n, and n^2 where a system is solved.

Source: Gohberg, Kailath and Olshevsky, Fast Gaussian elimination with partial pivoting for matrices
with displacement structure (1995).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from structmat.linalg.implicit import plain

__all__ = ["Pivots", "gko", "gko_pivots"]


class Pivots(NamedTuple):
    """What elimination divides by.

    Attributes:
        value: (..., n), the pivots.
        exchanged: (..., n), whether a step exchanged two rows.
        size: (..., n), the modulus of what was added up to each pivot: eps times that is rounding.
    """

    value: Tensor
    exchanged: Tensor
    size: Tensor


def gko(G: Tensor, H: Tensor, s: Tensor, t: Tensor, b: Tensor) -> Tensor:
    """Solve C x = b where diag(s) C - C diag(t) = G H, by elimination with partial pivoting.

    Args:
        G: (..., n, r).
        H: (..., r, n).
        s: nodes (..., n) of the rows.
        t: nodes (..., n) of the columns, none of them equal to one of s.
        b: columns (..., n, k).
    """
    n, r = G.shape[-2:]
    upper = b.new_zeros(n, n)
    rows, _, _, upper = _eliminate(G, H, s, t, b, upper)
    right = rows[..., 1 + r : -1, :].mT
    out: Tensor = torch.linalg.solve_triangular(upper, right, upper=True)
    return out


def gko_pivots(G: Tensor, H: Tensor, s: Tensor, t: Tensor) -> Pivots:
    """The pivots of the same elimination, without a right-hand side; see :func:`gko`."""
    r = G.shape[-1]
    rows, H, places, _ = _eliminate(G, H, s, t, G[..., :0], None)
    # the generators of a row are left alone after its step
    G = rows[..., 1 : 1 + r, :]
    size = (G.abs() * H.abs()).sum(-2) / (rows[..., 0, :] - t).abs()
    return Pivots(rows[..., -1, :], places > 0, size)


def _eliminate(
    G: Tensor, H: Tensor, s: Tensor, t: Tensor, b: Tensor, upper: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(rows, H, places, upper) after n steps.

    Column m of ``rows`` is, for the row of C that was pivot in step m: its node, its generators,
    its right-hand sides, the pivot. Column m of H are the generators of column m in step m,
    places[m] says how far behind m the pivot was found.
    """
    n, r = G.shape[-2:]
    lead = torch.broadcast_shapes(*(v.shape[:-2] for v in (G, H, b)), s.shape[:-1], t.shape[:-1])
    parts = [v.expand(*lead, *v.shape[-2:]) for v in (s[..., None, :], G.mT, b.mT)]
    rows = torch.cat([*parts, parts[0]], -2)
    H, t = H.expand(*lead, r, n), t.expand(*lead, n)[..., None, :]
    if not lead and rows.device.type == "cpu" and plain(G, H, s, t, b):
        return _eliminate_one(rows, H.clone(), t[0], upper)
    # under vmap each of them must have the batch of all before it is written to
    zero = torch.zeros_like(rows[..., :1, :1] + H[..., :1, :1] + t[..., :1])
    rows, H = rows + zero, H + zero
    if upper is not None:
        upper = upper + zero
    nothing = torch.zeros_like(t[..., :1], dtype=torch.int64)
    width = rows.shape[-2]
    places = []
    for m in range(n):
        live, nodes = rows[..., m:], t[..., m:]
        here = H[..., m : m + 1]
        column = here.mT @ live[..., 1 : 1 + r, :] / (live[..., :1, :] - nodes[..., :1])
        live[..., -1:, :] = column
        place = column.abs().argmax(-1, keepdim=True)
        both = torch.cat([nothing, place], -1).expand(*lead, width, 2)
        live.copy_(live.scatter(-1, both.flip(-1), live.gather(-1, both)))  # vmap has no scatter_
        pivot = live[..., :1]
        row = pivot[..., 1 : 1 + r, :].mT @ H[..., m:] / (pivot[..., :1, :] - nodes)
        if upper is not None:
            upper[..., m : m + 1, m:] = row
        behind = live[..., 1:]
        quotient = behind[..., -1:, :] / pivot[..., -1:, :]
        behind[..., 1:-1, :] -= quotient * pivot[..., 1:-1, :]
        H[..., m + 1 :] -= here * (row[..., 1:] / row[..., :1])
        places.append(place)
    return rows, H, torch.cat(places, -1).squeeze(-2), rows if upper is None else upper


def _eliminate_one(
    rows: Tensor, H: Tensor, t: Tensor, upper: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same for one matrix on a CPU, in NumPy, whose calls cost a fifth of those of torch."""
    r, n = H.shape
    places = torch.zeros(n, dtype=torch.int64)
    x, h, nodes = (v.detach().resolve_conj().numpy() for v in (rows, H, t))
    u = None if upper is None else upper.numpy()
    with np.errstate(all="ignore"):  # as torch: what is singular gives no numbers
        for m in range(n):
            live = x[:, m:]
            column = h[:, m] @ live[1 : 1 + r] / (live[0] - nodes[m])
            live[-1] = column
            place = int(np.abs(column).argmax())
            if place:
                live[:, [0, place]] = live[:, [place, 0]]
                places[m] = place
            pivot = live[:, 0]
            row = pivot[1 : 1 + r] @ h[:, m:] / (pivot[0] - nodes[m:])
            if u is not None:
                u[m, m:] = row
            live[1:-1, 1:] -= pivot[1:-1, None] * (live[-1, 1:] / pivot[-1])
            h[:, m + 1 :] -= h[:, m : m + 1] * (row[1:] / row[0])
    return rows, H, places, rows if upper is None else upper
