"""Template ``radix_grad``: the gradient of a radix chain, its sums in registers.

For every tile of rows a thread runs the stages forward as ``radix`` does, keeps the inputs of the
kernel's own stages in its part of shared memory, and takes g backward through the transposed
stages. Threads meet the same entries of the values in every row: the sums of g[j] x[k] stay in
registers over all tiles, and are added up over the teams of a block, in order, when it ends. Each
block writes its part; the caller adds the parts in a fixed order, so that gradients are
reproducible.

The gap it closes: a launch for each stage forward, backward and for its values moves the vector
about five times a stage.
"""

from __future__ import annotations

from string import Template

import torch
from torch import Tensor

__all__ = ["BACK", "KEEP", "KERNEL", "TOTAL", "reference"]

KERNEL = Template("""\
// $doc
extern "C" __global__ void __launch_bounds__($threads, 1)
$name($params, i64 rows) {
  constexpr int E = $entries, HELD = 1, TILE = $tile, LOAD = $load, LW = LOAD * sizeof(T) / 4;
  constexpr int GO = $go, GW = GO * sizeof(T) / 4, SUMS = $sums;
  extern __shared__ __align__(16) unsigned char shared[];
  ACC* const lay = (ACC*)shared;
  ACC* const kept = (ACC*)(shared + $kept_at) + threadIdx.x * 4;
$values
  const u32 id = threadIdx.x;
$places
$packing
  u32* const stage_x = (u32*)(shared + $stage_at) + id * LW;
  u32* const stage_g = (u32*)(shared + $stage_at) + $stage_words + id * GW;
  const i64 tiles = (rows + TILE - 1) / TILE;
  ACC sums[SUMS];
#pragma unroll
  for (int i = 0; i < SUMS; ++i) sums[i] = 0;
  auto load = [&](i64 tile) {
    const bool live_x = tile * TILE + $row_x < rows, live_g = $live_g;
    const T* const from_x = x + tile * (i64)TILE * $n + in;
    const T* const from_g = $from_g;
#pragma unroll
    for (int j = 0; j < E / LOAD; ++j)
      fetch_async<LW>(stage_x + j * $threads * LW, live_x ? from_x + $chunk_x : x, live_x);
#pragma unroll
    for (int j = 0; j < E / GO; ++j)
      fetch_async<GW>(stage_g + j * $threads * GW, live_g ? from_g + $chunk_g : g, live_g);
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  i64 tile = blockIdx.x;
  if (tile < tiles) load(tile);
  for (; tile < tiles; tile += gridDim.x) {
    ACC v[HELD][E], d[HELD][E];
    asm volatile("cp.async.wait_group 0;" ::: "memory");
#pragma unroll
    for (int j = 0; j < E / LOAD; ++j) {
      u32 words[LW];
      fetch<LW>(words, stage_x + j * $threads * LW);
#pragma unroll
      for (int i = 0; i < LOAD; ++i) {
        const int e = j * LOAD + i;
        v[0][$entry_x] = read(words, i);
      }
    }
#pragma unroll
    for (int j = 0; j < E / GO; ++j) {
      u32 words[GW];
      fetch<GW>(words, stage_g + j * $threads * GW);
#pragma unroll
      for (int i = 0; i < GO; ++i) d[0][j * GO + i] = read(words, i);
    }
    if (tile + gridDim.x < tiles) load(tile + gridDim.x);
$body
    if ($live_out) {
      T* const to = $to;
#pragma unroll
      for (int j = 0; j < E / $out; ++j) {
        u32 words[$out * sizeof(T) / 4];
#pragma unroll
        for (int i = 0; i < $out; i += 2) {
          const int e = j * $out + i;
          write(words, i, d[0][$entry_out], d[0][$entry_next]);
        }
        put<$out * sizeof(T) / 4>(to + $chunk_to, words);
      }
    }
  }
  __syncthreads();
  for (u32 team = 0; team < $threads / $team; ++team) {
    if (id / $team == team)
#pragma unroll
      for (int i = 0; i < SUMS; ++i) {
        ACC* const at = lay + i * $team + id % $team;
        *at = team ? *at + sums[i] : sums[i];
      }
    __syncthreads();
  }
$totals
}
""")

KEEP = Template("""\
    // the input of stage $stage is kept
#pragma unroll
    for (int e = 0; e < E; ++e) kept[(($slot * E + e) / 4 * $threads) * 4 + e % 4] = v[0][e];
""")

BACK = Template("""\
    // back through $doc
    {
#pragma unroll
      for (int g = 0; g < $groups; ++g) {
        const int a = $index;
        ACC m[$size], u[$radix], part[$radix];
#pragma unroll
        for (int i = 0; i < $size; ++i) m[i] = $load;
#pragma unroll
        for (int k = 0; k < $radix; ++k) {
          const int e = a + $spread_k;
          u[k] = $kept;
          part[k] = d[0][e];
        }
#pragma unroll
        for (int k = 0; k < $radix; ++k) {
          ACC sum = 0;
#pragma unroll
          for (int j = 0; j < $radix; ++j) {
            sums[$first + (g * $radix + j) * $radix + k] += part[j] * u[k];
            sum += m[j * $radix + k] * part[j];
          }
          d[0][a + $spread_k] = sum;
        }
      }
    }
""")

TOTAL = Template("""\
  for (u32 i = id; i < $count; i += $threads)
    parts[blockIdx.x * (i64)$all + $at + $offset] = lay[$first + i];
""")


def reference(x: Tensor, g: Tensor, twiddle: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of a butterfly of increasing stride, stage by stage.

    Args:
        x: (t, n).
        g: (t, n), the gradient of y.
        twiddle: (log2 n, n / 2, 2, 2).

    Returns:
        The gradients for x and for twiddle, in float64.
    """
    n, inputs = x.shape[1], [x.double()]
    stages = twiddle.double()

    def pairs(y: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        s = 1 << stage
        shape = n // (2 * s), s
        return y.reshape(-1, shape[0], 2, shape[1]), stages[stage].reshape(*shape, 2, 2)

    for stage in range(len(stages) - 1):
        y, w = pairs(inputs[-1], stage)
        inputs.append(torch.einsum("asjk,taks->tajs", w, y).reshape(-1, n))
    d, grads = g.double(), torch.empty_like(stages)
    for stage in reversed(range(len(stages))):
        (u, w), (p, _) = pairs(inputs[stage], stage), pairs(d, stage)
        grads[stage] = torch.einsum("tajs,taks->asjk", p, u).reshape(n // 2, 2, 2)
        d = torch.einsum("asjk,tajs->taks", w, p).reshape(-1, n)
    return d, grads
