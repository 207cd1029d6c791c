"""Products, sums, multiples, transposes, Kronecker products and direct sums of operators."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from structmat.builder import Builder, Lift
from structmat.operator import LinearOperator
from structmat.sizes import complex_of, differ, has_symbols, same_size

__all__ = ["DirectSum", "Kronecker", "Product", "Scaled", "Sum", "Transpose", "direct_sum", "kron"]


def _operands(name: str, ops: tuple[Any, ...], flatten: type | None = None) -> list[LinearOperator]:
    if not ops:
        raise ValueError(f"{name} needs at least one operator")
    out: list[LinearOperator] = []
    for op in ops:
        if not isinstance(op, LinearOperator):
            raise TypeError(f"{name}: {type(op).__name__} is not an operator; wrap it: sm.Dense(W)")
        # what is assumed about a nested sum is not true of its terms: it stays one term
        flat = flatten is not None and isinstance(op, flatten) and not op.assumed
        out.extend(op.children if flat else [op])
    first, placed = ops[0], None
    for op in ops:
        device = op._placed()
        if placed is None:
            first, placed = op, device
        elif device is not None and device != placed:
            raise ValueError(
                f"{name}: {first._label()} on {placed} and {op._label()} on {device} cannot act "
                "together; move one: A.to(device)"
            )
    return out


def _wrap(op: LinearOperator, loose: tuple[type, ...]) -> str:
    return f"({op._label()})" if isinstance(op, loose) else op._label()


class Product(LinearOperator):
    """A @ B @ ...: the rightmost factor acts first.

    Args:
        *ops: factors whose inner dimensions fit; nested products are flattened.

    Raises:
        TypeError: a factor is not an operator.
        ValueError: inner dimensions differ.

    Example:
        >>> import structmat as sm
        >>> (sm.Identity(3) @ sm.reversal(3)).shape
        (3, 3)
    """

    def __init__(self, *ops: LinearOperator) -> None:
        self._init(children=_operands("Product", ops, Product))
        self._check()

    def _check(self) -> None:
        for a, b in zip(self.children, self.children[1:], strict=False):
            if not same_size(a.shape[1], b.shape[0]):
                raise ValueError(
                    f"cannot multiply {a._label()} by {b._label()}: "
                    f"{a.shape[1]} columns on the left, {b.shape[0]} rows on the right"
                    + differ(a.shape[1], b.shape[0])
                )

    def _shape(self) -> tuple[int, int]:
        return self.children[0].shape[0], self.children[-1].shape[1]

    def _lower(self, g: Builder, x: Any) -> Any:
        for c in reversed(self.children):
            x = c._lower(g, x)
        return x

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        out = self.children[0]._dense(dtype, device)
        for c in self.children[1:]:
            out = out @ c._dense(dtype, device)
        return out

    def _transpose(self) -> LinearOperator:
        return Product(*(c.T for c in reversed(self.children)))

    def _label(self) -> str:
        first, *rest = self.children
        loose = (Sum, Scaled)  # @ and * bind alike, from the left
        return " @ ".join([_wrap(first, (Sum,)), *(_wrap(c, loose) for c in rest)])


class Sum(LinearOperator):
    """A + B + ...

    Args:
        *ops: terms of one shape; nested sums are flattened.

    Raises:
        TypeError: a term is not an operator.
        ValueError: shapes differ.

    Example:
        >>> import torch, structmat as sm
        >>> (sm.Identity(2) + sm.Diagonal(torch.ones(2)))(torch.ones(2))
        tensor([2., 2.])
    """

    def __init__(self, *ops: LinearOperator) -> None:
        self._init(children=_operands("Sum", ops, Sum))
        self._check()

    def _check(self) -> None:
        for c in self.children[1:]:
            (m, n), (p, q) = self.children[0].shape, c.shape
            if not (same_size(m, p) and same_size(n, q)):
                raise ValueError(
                    f"cannot add {self.children[0]._label()} of shape {self.children[0].shape} "
                    f"and {c._label()} of shape {c.shape}"
                    + (differ(n, q) if same_size(m, p) else differ(m, p))
                )

    def _shape(self) -> tuple[int, int]:
        return self.children[0].shape

    def _lower(self, g: Builder, x: Any) -> Any:
        return g.add([c._lower(g, x) for c in self.children])

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        out = self.children[0]._dense(dtype, device)
        for c in self.children[1:]:
            out = out + c._dense(dtype, device)
        return out

    def _transpose(self) -> LinearOperator:
        return Sum(*(c.T for c in self.children))

    def _label(self) -> str:
        return " + ".join(c._label() for c in self.children)


class Scaled(LinearOperator):
    """alpha A, for a number or a tensor alpha.

    Args:
        alpha: number, or tensor of shape batch_shape (0-dimensional for one operator) that keeps
            its identity and receives a gradient.
        op: A.

    Raises:
        TypeError: alpha is an integer tensor, or op is not an operator.

    Example:
        >>> import structmat as sm
        >>> (3 * sm.Identity(2)).to_dense()
        tensor([[3., 0.],
                [0., 3.]])
    """

    event_dims: ClassVar[dict[str, int]] = {"alpha": 0}
    alpha: Any

    def __init__(self, alpha: Any, op: LinearOperator) -> None:
        (child,) = _operands("Scaled", (op,))
        if isinstance(alpha, Tensor):
            if not (alpha.is_floating_point() or alpha.is_complex()):
                raise TypeError(f"Scaled: alpha is a tensor of {alpha.dtype}; convert it first")
            self._init({"alpha": alpha}, [child])
            return
        alpha = alpha.item() if hasattr(alpha, "item") else alpha
        self._init({}, [child], {"alpha": alpha})

    @property
    def strong_dtype(self) -> torch.dtype | None:
        """As for every operator; a complex number makes a real operator complex."""
        found = self._parts_dtype()
        if isinstance(self.alpha, complex) and (found is None or not found.is_complex):
            return complex_of(found or torch.get_default_dtype())
        return found

    def _shape(self) -> tuple[int, int]:
        return self.children[0].shape

    def _lower(self, g: Builder, x: Any) -> Any:
        return g.scalar(self.children[0]._lower(g, x), self.alpha)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        out = self.children[0]._dense(dtype, device)
        if isinstance(self.alpha, Tensor):
            alpha = self.alpha.to(dtype)
            return out * (alpha[..., None, None] if alpha.ndim else alpha)
        return torch.mul(out, self.alpha)

    def _transpose(self) -> LinearOperator:
        return Scaled(self.alpha, self.children[0].T)

    def _label(self) -> str:
        alpha = "alpha" if isinstance(self.alpha, Tensor) else f"{self.alpha:g}"
        if isinstance(self.alpha, complex):
            alpha = f"({self.alpha})"
        return f"{alpha} * {_wrap(self.children[0], (Sum, Product))}"


class Transpose(LinearOperator):
    """A^T, as ``A.T`` writes it; ``simplify`` pushes it to the leaves.

    Args:
        op: A.

    Example:
        >>> import structmat as sm
        >>> sm.cyclic_shift(3, 1).T.simplify()._label()
        'Permutation(affine(1*i + 1 mod 3))'
    """

    def __init__(self, op: LinearOperator) -> None:
        self._init(children=_operands("Transpose", (op,)))

    def _shape(self) -> tuple[int, int]:
        m, n = self.children[0].shape
        return n, m

    def _lower(self, g: Builder, x: Any) -> Any:
        return self.children[0]._transpose()._lower(g, x)

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self.children[0]._dense(dtype, device).mT

    def _transpose(self) -> LinearOperator:
        return self.children[0]

    def _label(self) -> str:
        return f"{_wrap(self.children[0], (Sum, Product, Scaled, Kronecker))}.T"


class Kronecker(LinearOperator):
    """A (x) B (x) ..., with ``(A (x) B)[(i, j), (k, l)] = A[i, k] B[j, l]``.

    Args:
        *ops: factors; nested Kronecker products are flattened.

    Raises:
        TypeError: a factor is not an operator.

    Cost: each factor acts under I (x) . (x) I, in the order that needs the fewest operations.

    Example:
        >>> import torch, structmat as sm
        >>> sm.kron(sm.Identity(2), sm.Dense(torch.ones(1, 2))).to_dense()
        tensor([[1., 1., 0., 0.],
                [0., 0., 1., 1.]])
    """

    def __init__(self, *ops: LinearOperator) -> None:
        self._init(children=_operands("Kronecker", ops, Kronecker))

    def _shape(self) -> tuple[int, int]:
        m = n = 1
        for c in self.children:
            m, n = m * c.shape[0], n * c.shape[1]
        return m, n

    def _lower(self, g: Builder, x: Any) -> Any:
        sizes = [c.shape[1] for c in self.children]
        for i in self.order():
            pre = post = 1
            for s in sizes[:i]:
                pre *= s
            for s in sizes[i + 1 :]:
                post *= s
            lifted = g if pre == post == 1 else Lift(g, pre, post)
            x = self.children[i]._lower(lifted, x)
            sizes[i] = self.children[i].shape[0]
        return x

    def order(self, flops: Sequence[int] | None = None, least: int = 0) -> list[int]:
        """The cheapest order of application.

        Args:
            flops: of each factor alone; counted by default.
            least: sides smaller than this count as this.

        Of two neighbours in the order, a (p x q) before b (r x s) costs f_a s + f_b p and b before
        a costs f_b q + f_a r, so a goes first if f_a (s - r) < f_b (q - p). Sorting by (q - p) / f
        settles every pair, which makes it optimal: a nested product is never cheaper than flat.
        """
        if any(has_symbols(*c.shape) for c in self.children):
            return list(range(len(self.children)))  # which is cheapest may depend on the symbols
        shrinks = [max(c.shape[1], least) - max(c.shape[0], least) for c in self.children]
        if not any(shrinks):
            return list(range(len(shrinks)))
        if flops is None:
            flops = [sum(c.operations()) for c in self.children]
        gain = [s / f if f else s * inf if s else 0.0 for s, f in zip(shrinks, flops, strict=True)]
        return sorted(range(len(gain)), key=lambda i: -gain[i])

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        out = self.children[0]._dense(dtype, device)
        for c in self.children[1:]:
            right = c._dense(dtype, device)
            both = out[..., :, None, :, None] * right[..., None, :, None, :]
            out = both.flatten(-2).flatten(-3, -2)
        return out

    def _transpose(self) -> LinearOperator:
        return Kronecker(*(c.T for c in self.children))

    def _label(self) -> str:
        return f"kron({', '.join(c._label() for c in self.children)})"


class DirectSum(LinearOperator):
    """diag(A, B, ...) of any operators.

    Args:
        *ops: diagonal blocks of any shapes; nested direct sums are flattened.

    Raises:
        TypeError: a block is not an operator.

    Example:
        >>> import structmat as sm
        >>> sm.direct_sum(sm.Identity(1), sm.reversal(2)).to_dense()
        tensor([[1., 0., 0.],
                [0., 0., 1.],
                [0., 1., 0.]])
    """

    def __init__(self, *ops: LinearOperator) -> None:
        self._init(children=_operands("DirectSum", ops, DirectSum))

    def _shape(self) -> tuple[int, int]:
        return sum(c.shape[0] for c in self.children), sum(c.shape[1] for c in self.children)

    def _lower(self, g: Builder, x: Any) -> Any:
        parts, start, n = [], 0, self.shape[1]
        for c in self.children:
            stop = start + c.shape[1]
            parts.append(c._lower(g, g.slice(x, n, start, stop)))
            start = stop
        return g.concat(parts, [c.shape[0] for c in self.children])

    def _dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        blocks = [c._dense(dtype, device) for c in self.children]
        lead = torch.broadcast_shapes(*(b.shape[:-2] for b in blocks))
        out = self._zeros(*lead, *self.shape, dtype=dtype, device=device)
        i = j = 0
        for b in blocks:
            out[..., i : i + b.shape[-2], j : j + b.shape[-1]] = b
            i, j = i + b.shape[-2], j + b.shape[-1]
        return out

    def _transpose(self) -> LinearOperator:
        return DirectSum(*(c.T for c in self.children))

    def _label(self) -> str:
        return f"direct_sum({', '.join(c._label() for c in self.children)})"


def kron(*ops: LinearOperator) -> Kronecker:
    """The Kronecker product of operators; see :class:`Kronecker`.

    Args:
        *ops: factors, slowest digit first.

    Example:
        >>> import structmat as sm
        >>> sm.kron(sm.Identity(2), sm.Identity(3)).shape
        (6, 6)
    """
    return Kronecker(*ops)


def direct_sum(*ops: LinearOperator) -> DirectSum:
    """The block-diagonal matrix of operators; see :class:`DirectSum`.

    Args:
        *ops: diagonal blocks.

    Example:
        >>> import structmat as sm
        >>> sm.direct_sum(sm.Identity(2), sm.Zero(1, 3)).shape
        (3, 5)
    """
    return DirectSum(*ops)
