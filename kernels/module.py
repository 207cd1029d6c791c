"""Text of generated GPU modules: imports, launches, and the check that a module makes of itself."""

from __future__ import annotations

__all__ = ["CUDA", "MODULE", "TRITON"]

TRITON = '''\
if __name__ == "__main__" and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # no GPU: check the arithmetic in Triton's interpreter

import triton
import triton.language as tl


SMS = {sms}  # multiprocessors of the device this was made for


def _loop(rows, tile, blocks, most):
    """Tiles of rows a program walks with the same values: as many as keep the device full."""
    loop = 1
    while loop < most and triton.cdiv(rows, tile * 2 * loop) * blocks >= 0.9 * SMS:
        loop *= 2
    return loop


'''

CUDA = '''\
import functools
import pathlib

from cuda.bindings import driver
from cuda.core import Device, LaunchConfig, ObjectCode, Program, ProgramOptions, Stream, launch


CUDA = {{}}  # by the name of a kernel, or of the first of several
{sources}


@functools.cache
def _library(part, arch):
    """The kernels of a source, compiled by NVRTC; the machine code is kept beside this file."""
    here = globals().get("__file__")
    kept = pathlib.Path(here).with_suffix(f".{{part}}.{{arch}}.cubin") if here else None
    if kept and kept.exists():
        return ObjectCode.from_cubin(kept.read_bytes())
    made = Program(CUDA[part], "c++", ProgramOptions(arch=arch, std="c++17")).compile("cubin")
    if kept and os.access(kept.parent, os.W_OK):
        part = kept.with_suffix(f".{{os.getpid()}}")
        part.write_bytes(made.code)
        part.replace(kept)
    return made


@functools.cache
def _kernel(part, name, device, threads, shared, cluster):
    """A kernel on a device, and how many blocks (or clusters of blocks) fill the device."""
    Device(device).set_current()  # threads of autograd have no context yet
    major, minor = torch.cuda.get_device_capability(device)
    kernel = _library(part, f"sm_{{major}}{{minor}}" + "a" * (major >= 9)).get_kernel(name)
    attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    (error,) = driver.cuKernelSetAttribute(attribute, shared, int(kernel.handle), device)
    if error:
        raise RuntimeError(f"{{name}}: {{shared}} bytes of shared memory refused: {{error}}")
    if cluster > 1:
        config = _config(1, threads, shared, cluster)
        stream = _stream(torch.cuda.current_stream().cuda_stream)
        return kernel, kernel.occupancy.max_active_clusters(config, stream=stream)
    blocks = kernel.occupancy.max_active_blocks_per_multiprocessor(threads, shared)
    return kernel, blocks * torch.cuda.get_device_properties(device).multi_processor_count


@functools.cache
def _stream(handle):
    """torch's stream, as cuda.core takes it."""
    return Stream.from_handle(handle)


@functools.cache
def _config(blocks, threads, shared, cluster):
    together = {{"cluster": cluster}} if cluster > 1 else {{}}
    return LaunchConfig(grid=blocks, block=threads, shmem_size=shared, **together)


def _blocks(part, name, threads, shared, cluster, tile, rows, tensor):
    """How many blocks (or clusters) a launch has."""
    with torch.cuda.device(tensor.device):
        most = _kernel(part, name, tensor.device.index, threads, shared, cluster)[1]
    return max(1, min(most, -(-rows // tile)))


def _launch(part, name, threads, shared, cluster, tile, rows, *tensors):
    """Blocks walk over tiles of rows; as many as the device holds, or as there are tiles.

    Kernels read vectors of 16 bytes: a tensor that begins elsewhere is copied.
    """
    tensors = [t if t.data_ptr() % 16 == 0 else t.clone() for t in tensors]
    with torch.cuda.device(tensors[0].device):
        kernel, most = _kernel(part, name, tensors[0].device.index, threads, shared, cluster)
        Device(tensors[0].device.index).set_current()
        config = _config(max(1, min(most, -(-rows // tile))), threads, shared, cluster)
        stream = _stream(torch.cuda.current_stream().cuda_stream)
        launch(stream, config, kernel, *(t.data_ptr() for t in tensors), rows)


'''

MODULE = '''\
"""{title}"""

import os

import torch

{engines}{kernels}


def run(inputs, values, tables=()):
    """inputs: rows (T, n); values: tensors of the factors, contiguous; returns rows (T, m)."""
{body}
    return [{results}]


SIZES = {sizes}  # length of a row of each input
SHAPES = {shapes}  # shape of each values tensor
TABLES = {tables}
DTYPE = torch.{dtype}


{functions}def reference(inputs, values):
    """The same in plain torch and float64."""
{reference}


if __name__ == "__main__":
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = 256 if device == "cuda" else 33
    if device == "cpu" and DTYPE == torch.bfloat16:
        DTYPE = torch.float16  # the interpreter has no bfloat16 products
    inputs = [torch.randn(rows, n, device=device).to(DTYPE) for n in SIZES]
    values = [torch.randn(s, device=device).to(DTYPE) for s in SHAPES]
    tables = [torch.tensor(t, dtype=torch.int32, device=device) for t in TABLES]
    for got, want in zip(run(inputs, values, tables), reference(inputs, values)):
        error = (got.double() - want).norm() / want.norm().clamp_min(1e-30)
        print(f"relative error {{error:.2e}} on {{device}}, {{DTYPE}}, {{tuple(got.shape)}}")
        assert error < (2e-2 if DTYPE != torch.float64 else 1e-12)
'''
