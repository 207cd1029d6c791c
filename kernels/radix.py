"""Template ``radix``: short contractions in registers, vectors in shared memory between them.

Threads share a tile of rows. In each pass a thread holds ``E`` entries of ``HELD`` rows: all
combinations of some bits of the position. It runs the stages that mix only those bits, puts the
entries into shared memory, waits for the threads of the same rows, and picks up entries by other
bits. The address there is a linear map of the bits of the position that lets the lanes of a warp
meet every bank once, and lets one side read or write vectors. The next tile is loaded while this
one is computed, into registers, or where these are full into shared memory.

The gap it closes: one launch a stage reads and writes the vector at every stage, log2(n) times;
here it crosses HBM once. Values that fit are packed once for all tiles of a block, in the order in
which threads read them.
"""

from __future__ import annotations

from string import Template

import torch
from torch import Tensor

__all__ = [
    "DIRECT",
    "EXCHANGE",
    "KERNEL",
    "PACK",
    "PRODUCT",
    "SCALE",
    "SIGNS",
    "STAGED",
    "reference",
]

KERNEL = Template("""\
// $doc
extern "C" __global__ void __launch_bounds__($threads, $resident)
$name($params, i64 rows) {
  constexpr int E = $entries, HELD = $held, TILE = $tile;
  constexpr int LOAD = $load, STORE = $store, LW = $load_words, SW = $store_words;
  extern __shared__ __align__(16) unsigned char shared[];
  ACC* const lay = (ACC*)shared;
$values
  const u32 id = threadIdx.x;
$places
$packing
  const i64 tiles = (rows + TILE - 1) / TILE;
  u32 raw[HELD][E / LOAD][LW ? LW : 1];
$loads
  i64 tile = blockIdx.x;
  if (tile < tiles) load(tile);
  for (; tile < tiles; tile += gridDim.x) {
    ACC v[HELD][E];
    take();
#pragma unroll
    for (int h = 0; h < HELD; ++h)
#pragma unroll
      for (int e = 0; e < E; ++e) v[h][$entry] = read(raw[h][e / LOAD], e % LOAD);
    if (tile + gridDim.x < tiles) load(tile + gridDim.x);
$body
#pragma unroll
    for (int h = 0; h < HELD; ++h) {
      if (tile * TILE + $row_out >= rows) continue;
      T* const to = y + tile * (i64)TILE * $n + out + $held_out;
#pragma unroll
      for (int j = 0; j < E / STORE; ++j) {
        u32 words[SW ? SW : 1];
$writes
        put<SW>(to + $chunk_out, words);
      }
    }
  }
}
""")

PACK = Template("""\
  for (u32 i = id; i < $count; i += $threads) w$number[i] = value($source[$offset]);
""")
"""Values in the order of the threads that read them."""

SIGNS = Template("""\
    // $doc
#pragma unroll
    for (int g = 0; g < E / 2; ++g) {
      const int a = $index;
#pragma unroll
      for (int h = 0; h < HELD; ++h) {
        const ACC lo = v[h][a], hi = v[h][a + $bit];
        v[h][a] = lo + hi;
        v[h][a + $bit] = lo - hi;
      }
    }
""")
"""[[1, 1], [1, -1]] on one bit."""

SCALE = Template("""\
    // $doc
#pragma unroll
    for (int h = 0; h < HELD; ++h)
#pragma unroll
      for (int e = 0; e < E; ++e) v[h][e] *= (ACC)$alpha;
""")

PRODUCT = Template("""\
    // $doc
#pragma unroll
    for (int g = 0; g < $groups; ++g) {
      ACC m[$size];
#pragma unroll
      for (int i = 0; i < $size; ++i) m[i] = $load;
#pragma unroll
      for (int f = 0; f < $free; ++f) {
        const int a = $index;
#pragma unroll
        for (int h = 0; h < HELD; ++h) {
          ACC part[$radix];
#pragma unroll
          for (int k = 0; k < $radix; ++k) part[k] = v[h][a + $spread_k];
#pragma unroll
          for (int j = 0; j < $radix; ++j) {
            ACC sum = m[j * $radix] * part[0];
#pragma unroll
            for (int k = 1; k < $radix; ++k) sum += m[j * $radix + k] * part[k];
            v[h][a + $spread_j] = sum;
          }
        }
      }
    }
""")
"""A small matrix for every group of entries."""

EXCHANGE = Template("""\
    // the vector crosses shared memory: registers hold bits $put_bits, then $get_bits
    $sync
#pragma unroll
    for (int h = 0; h < HELD; ++h)
#pragma unroll
      for (int c = 0; c < E / $put; ++c) {
        const int e = $put_entry;
        put$put(lay + ($put_place ^ $put_h ^ $put_at), $put_list);
      }
    $sync
#pragma unroll
    for (int h = 0; h < HELD; ++h)
#pragma unroll
      for (int c = 0; c < E / $get; ++c) {
        const int e = $get_entry;
        get$get(lay + ($get_place ^ $get_h ^ $get_at), $get_list);
      }
""")

STAGED = Template("""\
  auto load = [&](i64 tile) {
#pragma unroll
    for (int h = 0; h < HELD; ++h) {
      const bool live = tile * TILE + $row_in < rows;
      const T* const from = x + tile * (i64)TILE * $n + in + $held_in;
#pragma unroll
      for (int j = 0; j < E / LOAD; ++j)
        fetch_async<LW>(stage + (h * (E / LOAD) + j) * $threads * LW,
                        live ? from + $chunk_in : x, live);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  auto take = [&]() {
    asm volatile("cp.async.wait_group 0;" ::: "memory");
#pragma unroll
    for (int h = 0; h < HELD; ++h)
#pragma unroll
      for (int j = 0; j < E / LOAD; ++j)
        fetch<LW>(raw[h][j], stage + (h * (E / LOAD) + j) * $threads * LW);
  };
""")
"""The next tile waits in shared memory, each thread's part where only that thread looks."""

DIRECT = Template("""\
  auto load = [&](i64 tile) {
#pragma unroll
    for (int h = 0; h < HELD; ++h) {
      const bool live = tile * TILE + $row_in < rows;
      const T* const from = x + tile * (i64)TILE * $n + in + $held_in;
#pragma unroll
      for (int j = 0; j < E / LOAD; ++j) {
#pragma unroll
        for (int i = 0; i < (LW ? LW : 1); ++i) raw[h][j][i] = 0;
        if (live) fetch<LW>(raw[h][j], from + $chunk_in);
      }
    }
  };
  auto take = []() {};
""")
"""The next tile waits in registers."""


def reference(x: Tensor, twiddle: Tensor) -> Tensor:
    """What the kernel makes of a butterfly of increasing stride, stage by stage.

    Args:
        x: (t, n).
        twiddle: (log2 n, n / 2, 2, 2).

    Returns:
        (t, n), accumulated in float32 (float64 for float64) and rounded once at the end.
    """
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    n, y = x.shape[1], x.to(wide)
    for stage, w in enumerate(twiddle.to(wide)):
        stride = 1 << stage
        pairs = y.reshape(-1, n // (2 * stride), 2, stride)
        w = w.reshape(n // (2 * stride), stride, 2, 2)
        y = torch.einsum("asjk,taks->tajs", w, pairs).reshape(-1, n)
    return y.to(x.dtype)
