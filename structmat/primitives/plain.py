"""What may be looked at: numbers that torch does not trace, differentiate or map over."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["plain_numbers"]


def plain_numbers(x: Tensor) -> bool:
    """Whether x is plain numbers on a CPU, which NumPy may read and a branch may depend on."""
    from torch.utils._python_dispatch import is_in_torch_dispatch_mode

    return (
        x.device.type == "cpu"
        and x.numel() > 0
        and not (x.requires_grad and torch.is_grad_enabled())
        and not torch.compiler.is_compiling()
        and not is_in_torch_dispatch_mode()
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad.unpack_dual(x).tangent is None
    )
