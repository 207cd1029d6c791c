"""torch's own functions on operators: ``torch.matmul(A, x)``, ``W @ A``, ``torch.linalg.inv(A)``.

torch hands a call that has an operator among its arguments to ``__torch_function__``, which looks
it up in the table below. What has no structured meaning raises and names ``A.to_dense()``: no
function makes an operator dense behind the user's back.
Source: https://docs.pytorch.org/docs/stable/notes/extending.html
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from structmat.operator import LinearOperator

__all__ = ["TABLE", "call"]

TABLE: dict[Callable[..., Any], Callable[..., Any]] = {}
"""What each function of torch is for operators."""

Function = Callable[..., Any]


def implements(*functions: Function) -> Callable[[Function], Function]:
    """Register the decorated function as what these functions of torch are for operators."""

    def register(fn: Function) -> Function:
        TABLE.update(dict.fromkeys(functions, fn))
        return fn

    return register


def call(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of a function of torch with an operator among its arguments.

    Args:
        func: the function.
        args: its arguments.
        kwargs: its keyword arguments.

    Raises:
        TypeError: the function has no structured meaning.
    """
    ours = TABLE.get(func)
    out = NotImplemented if ours is None else ours(*args, **kwargs)
    if out is not NotImplemented:
        return out
    found = [a for a in (*args, *kwargs.values()) if isinstance(a, LinearOperator)]
    label = found[0]._label() if found else "the operator"
    name = getattr(func, "__qualname__", None) or getattr(func, "__name__", str(func))
    raise TypeError(
        f"{name} has no structured form for {label} and these arguments; "
        "A.to_dense() makes the operator a tensor, A(x) and A @ x apply it"
    )


@implements(torch.matmul, torch.linalg.matmul, operator.matmul)
def _matmul(a: Any, b: Any) -> Any:
    # by the methods' names: torch.compile would bring a @ b back here
    return a.__matmul__(b) if isinstance(a, LinearOperator) else b.__rmatmul__(a)


@implements(Tensor.matmul, Tensor.__matmul__)
def _at(a: Any, b: Any) -> Any:
    if torch.compiler.is_dynamo_compiling():  # torch 2.13 exchanges the operands of A @ x
        raise TypeError(
            "torch.compile cannot tell A @ x from x @ A for an operator A; inside it write A(x), "
            "A.T(x), torch.matmul(A, x), and sm.Product(A, B) for A @ B"
        )
    return _matmul(a, b)


@implements(torch.mm, Tensor.mm)
def _mm(a: Any, b: Any) -> Any:
    return _matmul(a, b) if getattr(a, "ndim", 2) == getattr(b, "ndim", 2) == 2 else NotImplemented


@implements(torch.mv, Tensor.mv)
def _mv(a: Any, x: Any) -> Any:
    return a.__matmul__(x) if isinstance(x, Tensor) and x.ndim == 1 else NotImplemented


@implements(torch.nn.functional.linear)
def _linear(x: Any, weight: Any, bias: Any = None) -> Any:
    if not isinstance(weight, LinearOperator) or not isinstance(x, Tensor):
        return NotImplemented
    return weight(x) if bias is None else weight(x) + bias


@implements(torch.mul, torch.multiply, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, operator.mul)
def _mul(a: Any, b: Any) -> Any:
    op, alpha = (a, b) if isinstance(a, LinearOperator) else (b, a)
    return op.__mul__(alpha)


@implements(Tensor.__rtruediv__, Tensor.__rdiv__)
def _rdiv(b: Any, a: Any) -> Any:
    return _div(a, b)


@implements(torch.div, torch.true_divide, Tensor.div, Tensor.__truediv__, operator.truediv)
def _div(a: Any, b: Any) -> Any:
    return a.__truediv__(b) if isinstance(a, LinearOperator) else NotImplemented


@implements(torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, operator.add)
def _add(a: Any, b: Any, *, alpha: Any = 1) -> Any:
    if not isinstance(a, LinearOperator) or not isinstance(b, LinearOperator):
        return NotImplemented
    return a.__add__(b if alpha == 1 else b.__mul__(alpha))


@implements(Tensor.__rsub__)
def _rsub(b: Any, a: Any) -> Any:
    return _sub(a, b)


@implements(torch.sub, torch.subtract, Tensor.sub, Tensor.__sub__, operator.sub)
def _sub(a: Any, b: Any, *, alpha: Any = 1) -> Any:
    if not isinstance(a, LinearOperator) or not isinstance(b, LinearOperator):
        return NotImplemented
    return a.__sub__(b if alpha == 1 else b.__mul__(alpha))


@implements(torch.neg, torch.negative, Tensor.neg, Tensor.__neg__, operator.neg)
def _neg(a: LinearOperator) -> LinearOperator:
    return a.__neg__()


@implements(torch.conj, Tensor.conj)
def _conj(a: LinearOperator) -> LinearOperator:
    return a.conj()


@implements(torch.t, Tensor.t)
def _t(a: LinearOperator) -> LinearOperator:
    return a.T


@implements(torch.adjoint, Tensor.adjoint)
def _adjoint(a: LinearOperator) -> LinearOperator:
    return a.H


@implements(torch.transpose, torch.swapaxes, torch.swapdims, Tensor.transpose)
def _transpose(a: LinearOperator, i: int, j: int) -> Any:
    last = len(a.batch_shape)
    axes = {k if k >= 0 else last + 2 + k for k in (i, j)}
    return a.T if axes == {last, last + 1} else NotImplemented


@implements(torch.kron, Tensor.kron)
def _kron(a: Any, b: Any) -> Any:
    from structmat.compose import Kronecker

    both = isinstance(a, LinearOperator) and isinstance(b, LinearOperator)
    return Kronecker(a, b) if both else NotImplemented


@implements(torch.block_diag)
def _block_diag(*parts: Any) -> Any:
    from structmat.compose import DirectSum

    ours = all(isinstance(p, LinearOperator) for p in parts)
    return DirectSum(*parts) if ours else NotImplemented


@implements(torch.matrix_power, torch.linalg.matrix_power, Tensor.matrix_power, Tensor.__pow__)
def _matrix_power(a: Any, k: Any) -> Any:
    return a.__pow__(k) if isinstance(a, LinearOperator) else NotImplemented


def _by_name(name: str) -> Function:
    """The function of this name at the top of the package, where there is one."""

    def named(op: Any, *args: Any, **kwargs: Any) -> Any:
        import structmat

        fn = getattr(structmat, name, None)
        if fn is None or not isinstance(op, LinearOperator):
            return NotImplemented
        return fn(op, *args, **kwargs)

    return named


for _name, _functions in {
    "trace": (torch.trace, Tensor.trace),
    "inv": (torch.inverse, torch.linalg.inv, Tensor.inverse),
    "pinv": (torch.pinverse, torch.linalg.pinv),
    "slogdet": (torch.slogdet, torch.linalg.slogdet, Tensor.slogdet),
    "logdet": (torch.logdet, Tensor.logdet),
    "eigvals": (torch.linalg.eigvals,),
    "svdvals": (torch.linalg.svdvals,),
    "norm": (torch.linalg.matrix_norm,),
    "cond": (torch.linalg.cond,),
}.items():
    implements(*_functions)(_by_name(_name))


@implements(torch.diagonal, torch.linalg.diagonal, Tensor.diagonal)
def _diagonal(op: Any, *args: Any, **kwargs: Any) -> Any:
    return _by_name("diagonal")(op) if not args and not kwargs else NotImplemented


@implements(torch.linalg.solve)
def _solve(op: Any, b: Any) -> Any:
    out = _by_name("solve")(op, b)
    return getattr(out, "x", out)  # our solutions also name their method
