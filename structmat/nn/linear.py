"""A linear layer whose weight is an operator: y = A x + b."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from structmat.operator import LinearOperator

__all__ = ["StructuredLinear"]


class _Node(nn.Module):
    """The tensors of one operator of a tree; its children are modules "0", "1", ..."""


class StructuredLinear(nn.Module):
    """y = A x + b on the last dimension, with the tensors of A as parameters.

    ``state_dict`` names each tensor by its path in the expression, ``tree.0.left`` for the left
    factor of the first child. Tensors that are ``nn.Parameter`` are registered as they are, others
    become parameters that share their memory; a tensor that occurs twice is one parameter.

    Args:
        operator: A, of shape (out_features, in_features), without batch dimensions.
        bias: add a bias, zero at first.

    Raises:
        TypeError: operator is not an operator.
        ValueError: a batch of operators, or a tensor that was computed from others with gradients.

    Example:
        >>> import torch, structmat as sm
        >>> layer = sm.nn.StructuredLinear(sm.Monarch(torch.ones(2, 2, 2), torch.ones(2, 2, 2)))
        >>> layer(torch.ones(3, 4)).shape, sorted(layer.state_dict())
        (torch.Size([3, 4]), ['bias', 'tree.left', 'tree.right'])
    """

    bias: Tensor | None

    def __init__(self, operator: LinearOperator, bias: bool = True) -> None:
        super().__init__()
        if not isinstance(operator, LinearOperator):
            raise TypeError(
                f"StructuredLinear needs an operator, got {type(operator).__name__}; "
                "wrap a matrix: sm.Dense(W)"
            )
        operator._require_numbers()
        if not isinstance(bias, bool):
            raise TypeError(
                f"StructuredLinear: bias is {type(bias).__name__}, needs True or False; numbers go "
                "in afterwards, layer.bias.data.copy_(b)"
            )
        if operator.batch_shape:
            raise ValueError(
                f"StructuredLinear: {operator._label()} is a batch of shape {operator.batch_shape};"
                " a layer holds one operator, use sm.direct_sum or torch.vmap for several"
            )
        self.out_features, self.in_features = operator.shape
        self._shell = operator._map(lambda t: t.detach().to("meta"), None)
        self.tree = _nodes(operator, {})
        self.register_parameter("bias", None)
        if bias:
            zero = torch.zeros(self.out_features, dtype=operator.dtype, device=operator.device)
            self.bias = nn.Parameter(zero)

    @property
    def operator(self) -> LinearOperator:
        """The operator on the parameters as they are now."""
        return _filled(self._shell, self.tree)

    def forward(self, x: Tensor) -> Tensor:
        """A x + b.

        Args:
            x: (..., in_features).

        Returns:
            (..., out_features).
        """
        y = self.operator(x)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Shape, structure and cost, for ``print``."""
        op = self.operator
        cost = op.cost()
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, operator={op._label()}, "
            f"params={cost.params}, flops={cost.flops}"
        )


def _nodes(op: LinearOperator, known: dict[int, nn.Parameter]) -> _Node:
    node = _Node()
    for name, t in op.tensors.items():
        if id(t) not in known:
            if not t.is_leaf:
                raise ValueError(
                    f"StructuredLinear: {op._label()} has a tensor {name!r} that was computed from "
                    "others with gradients; detach it, or build the operator of the parameters"
                )
            known[id(t)] = t if isinstance(t, nn.Parameter) else nn.Parameter(t)
        node.register_parameter(name, known[id(t)])
    for i, child in enumerate(op.children):
        node.add_module(str(i), _nodes(child, known))
    return node


def _filled(shell: LinearOperator, node: nn.Module) -> LinearOperator:
    """The operator of this shell on the parameters of a tree of modules."""
    tensors = {name: getattr(node, name) for name in shell.tensors}
    children = [_filled(c, getattr(node, str(i))) for i, c in enumerate(shell.children)]
    return shell._replace(tensors, children, shell.static)._assuming(shell.assumed)
