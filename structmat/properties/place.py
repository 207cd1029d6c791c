"""Where the numbers of a tensor are, which tells equal tensors without reading them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from torch import Tensor

__all__ = ["place", "stored"]


def place(t: Tensor) -> Hashable:
    """A name of the numbers of a tensor: equal names, equal numbers, while both tensors live.

    Args:
        t: a tensor; only its storage, strides and flags are looked at.

    Example:
        >>> import torch
        >>> w = torch.ones(2, 3)
        >>> place(w.mT.mT) == place(w), place(w.clone()) == place(w)
        (True, False)
    """
    where: Any = id(t)
    if stored(t):
        where = (t.untyped_storage()._cdata, t.storage_offset(), tuple(t.stride()))
    return where, tuple(t.shape), t.dtype, t.is_conj(), t.is_neg()


def stored(t: Tensor) -> bool:
    """Whether the tensor has a storage, so that its views can be recognised.

    Args:
        t: a tensor; inside ``torch.vmap`` it has none.
    """
    try:
        t.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return False
    return True
