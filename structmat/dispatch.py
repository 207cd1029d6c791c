"""The bodies of our operators of ``torch.library``, as they run without a mode of torch.

Where a mode is active (a counter of flops, a tracer, a checker of schemas), its handler calls an
operator with most of the dispatcher switched off. Library kernels of C++ do not mind. A body in
Python does: ``conj()`` is lazy, and nobody would conjugate any more; ``torch.func`` would find its
own wrappers in kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

__all__ = ["at_top_level"]

P = ParamSpec("P")
R = TypeVar("R")

_CONJUGATE = torch._C.DispatchKey.Conjugate

with torch._C._AutoDispatchBelowAutograd():
    _TOP = (
        torch._C._dispatch_tls_local_include_set(),
        torch._C._dispatch_tls_local_exclude_set(),
    )
"""What is switched on and off where torch calls an operator's body and no mode is active."""


def at_top_level(body: Callable[P, R]) -> Callable[P, R]:
    """``body``, with the whole dispatcher behind autograd, also inside the handler of a mode."""

    @wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if not torch._C._dispatch_tls_is_dispatch_key_excluded(_CONJUGATE):
            return body(*args, **kwargs)
        with torch._C._ForceDispatchKeyGuard(*_TOP):
            return body(*args, **kwargs)

    return run
