"""What holds for every test and doctest: GPU tests skip visibly, kernels need Triton to import."""

from importlib.util import find_spec

import pytest

# The modules of kernels/ import triton at their top; without it there is nothing to collect there.
collect_ignore_glob = [] if find_spec("triton") else ["structmat/kernels/*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu:
        return
    import torch

    if torch.cuda.is_available():
        return
    for item in gpu:
        item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))
