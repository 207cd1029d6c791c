"""Bridges to other file formats and libraries.

- :mod:`structmat.interop.safetensors`: ``save`` and ``load`` of operators and tensors in one
  ``.safetensors`` file.
- :mod:`structmat.interop.sparse`: operators to and from sparse matrices of SciPy and torch:
  ``to_scipy_sparse``, ``from_scipy_sparse``, ``to_torch_sparse``, ``from_torch_sparse``.
- :mod:`structmat.interop.scipy_operators`: ``aslinearoperator``, ``from_scipy``.
- :mod:`structmat.interop.weights`: Monarch, butterfly and Kronecker-sparse weights of other
  libraries: ``from_blockdiag_butterfly``, ``from_torch_butterfly``, ``from_lazylinop``,
  ``from_faust``.
- :mod:`structmat.interop.cola`, :mod:`structmat.interop.linear_operators`: operators of CoLA and of
  linear_operator: ``from_cola``, ``to_cola``, ``from_linear_operator``, ``to_linear_operator``.

Nothing optional is imported here: a bridge imports its library when one of its functions is called,
and :func:`require` turns a missing library into one line that says what to install.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structmat.interop.cola import from_cola, to_cola
    from structmat.interop.linear_operators import from_linear_operator, to_linear_operator
    from structmat.interop.scipy_operators import aslinearoperator, from_scipy
    from structmat.interop.sparse import (
        from_scipy_sparse,
        from_torch_sparse,
        to_scipy_sparse,
        to_torch_sparse,
    )
    from structmat.interop.weights import (
        from_blockdiag_butterfly,
        from_faust,
        from_lazylinop,
        from_torch_butterfly,
    )

__all__ = [
    "MissingExtra",
    "aslinearoperator",
    "from_blockdiag_butterfly",
    "from_cola",
    "from_faust",
    "from_lazylinop",
    "from_linear_operator",
    "from_scipy",
    "from_scipy_sparse",
    "from_torch_butterfly",
    "from_torch_sparse",
    "require",
    "to_cola",
    "to_linear_operator",
    "to_scipy_sparse",
    "to_torch_sparse",
]

_HOMES = {
    "aslinearoperator": "scipy_operators",
    "from_blockdiag_butterfly": "weights",
    "from_cola": "cola",
    "from_faust": "weights",
    "from_lazylinop": "weights",
    "from_linear_operator": "linear_operators",
    "from_scipy": "scipy_operators",
    "from_scipy_sparse": "sparse",
    "from_torch_butterfly": "weights",
    "from_torch_sparse": "sparse",
    "to_cola": "cola",
    "to_linear_operator": "linear_operators",
    "to_scipy_sparse": "sparse",
    "to_torch_sparse": "sparse",
}
"""In which module of this package each function lives."""


def __getattr__(name: str) -> Any:
    """The functions of the bridges, imported when first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def refuse_matrices(who: str, value: Any, library: str) -> None:
    """Raise where a bridge from ``library`` is given a matrix, or an operator of ours.

    Nothing becomes a dense operator because it came to the wrong door.

    Args:
        who: the function, for the message.
        value: what it was given.
        library: whose operators it reads.

    Raises:
        TypeError: a tensor, an array, a sparse matrix, or an operator of structmat.
    """
    import numpy as np
    import torch
    from scipy.sparse import issparse

    from structmat.operator import LinearOperator

    name = type(value).__name__
    if isinstance(value, LinearOperator):
        raise TypeError(
            f"{who}: {value._label()} is an operator of structmat already, it reads those of "
            f"{library}"
        )
    if isinstance(value, torch.Tensor) and value.layout != torch.strided:
        way = "sm.interop.from_torch_sparse(W)"
    elif isinstance(value, torch.Tensor | np.ndarray):
        way = "sm.Dense(W)"
    elif issparse(value):
        way = "sm.interop.from_scipy_sparse(W)"
    else:
        return
    raise TypeError(f"{who}: {name} is a matrix, no operator of {library}; {way} makes it one")


class MissingExtra(ImportError):
    """An optional library is not installed; the message names the pip command that installs it."""


def require(module: str, extra: str = "cli") -> ModuleType:
    """Import an optional module.

    Args:
        module: Dotted name of the module.
        extra: Extra of the ``structmat`` distribution that brings it.

    Returns:
        The imported module.

    Raises:
        MissingExtra: The module is not installed.

    Example:
        >>> require("json").dumps([1, 2])
        '[1, 2]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise  # the library is there and lacks something of its own: show that error as it is
        raise MissingExtra(
            f"{top} is not installed; run: pip install 'structmat[{extra}]'", name=error.name
        ) from error
