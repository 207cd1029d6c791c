// Two factors of a Monarch in one pass, the weights stationary in the registers of a cluster.
//
//     h[k, l] = sum_p w1[k, l, p] x[k, p]        k, l < BLOCKS, p < P
//     y[s, l] = sum_k w2[l, s, k] h[k, l]        s < S
//
// A cluster of BLOCKS / 8 CTAs walks tiles of 16 rows. CTA c owns 8 blocks k of the first factor
// and 8 blocks l of the second and loads them once, as mma fragments, into registers. Per tile
//
//   loaders  (2 warps)      x of the 8 blocks k                       global -> x ring
//   stage 1  (WARPS warps)  h[8 blocks k, every l]: 8 l for each CTA  x ring -> staging => h rings
//   stage 2  (WARPS warps)  y[every s, 8 blocks l]                    h ring -> staging => y rings
//   storers  (2 warps)      y[8 S / BLOCKS values of s, every l]      y ring -> global
//
// => is a bulk copy to every CTA of the cluster. With Y_INTERLEAVED == 0, y is (l, s): a CTA's
// outputs are contiguous and stage 2 sends them from a ring of rows straight to global.
//
// Macros (cluster.py writes them): BLOCKS, P, S; ELEMENT (bf16 or f16); X_INTERLEAVED (x is (p, k),
// else (k, p)), Y_INTERLEAVED (y is (s, l), else (l, s)); W1_BLOCK W1_OUT W1_REDUCE, W2_BLOCK
// W2_OUT W2_REDUCE, strides of the factors in elements; WARPS a stage (1, 2 or 4); X_STAGES,
// H_STAGES, Y_STAGES, rings; RESIDENT, CTAs a multiprocessor that registers must allow;
// STAGE_REGISTERS and HELPER_REGISTERS, a thread of the stages and of the other warps (0: all the
// same); STREAM, x and y pass caches first; REMOTE, the scope of arrivals at other CTAs and of
// waits for their data.
//
// The unit of the exchanges. An accumulator of m16n8k16 holds, for one block, (row, output) pairs;
// the other stage reduces over the blocks. A warp owns OWNED = 8 / WARPS blocks and every output,
// so it packs OWNED values of different blocks, same row and output, into 2 OWNED bytes of a unit
// of 16 bytes: 8 blocks of one (row, output). Units are rows of what ldmatrix reads in the other
// stage. Rows 0-7 of an output are a line of 128 bytes. Written plainly, a warp would hit 8 of 32
// banks: in line `output`, word w of row r lies at (4 r + w) ^ spread(output / 2 % 4), and the
// second factor is loaded with the words of k exchanged in the same way. The lines of y are also
// exchanged by the sender's rank, because its reader runs over the senders first.
//
// Comes after hopper.cuh.

constexpr int CTAS = BLOCKS / 8;
constexpr int ROWS = 16;
constexpr int OWNED = 8 / WARPS;
constexpr int N = BLOCKS * P, M = BLOCKS * S;
constexpr int LOADERS = 2, STORERS = 2;  // warps
constexpr int THREADS = 32 * (2 * WARPS + LOADERS + STORERS);
constexpr int SLOT = 2048;  // bytes of 8 outputs, 16 rows, 8 blocks

constexpr int X_PITCH = X_INTERLEAVED ? 4 * P + 32 : 16 * P + 16;
constexpr int X_PLANE = ROWS * X_PITCH + 32;
constexpr int X_BYTES = X_INTERLEAVED ? 4 * X_PLANE : ROWS * X_PITCH;
constexpr int H_BYTES = CTAS * SLOT;
constexpr int Y_TILES = Y_INTERLEAVED ? S / BLOCKS : 0;  // tiles of 8 outputs for each CTA
constexpr int Y_PITCH = 16 * S + 16;
constexpr int Y_BYTES = Y_INTERLEAVED ? CTAS * Y_TILES * SLOT : ROWS * Y_PITCH;

constexpr int X_RING = 0;
constexpr int H_RING = X_RING + X_STAGES * X_BYTES;
constexpr int H_STAGING = H_RING + H_STAGES * H_BYTES;
constexpr int Y_RING = H_STAGING + H_STAGES * H_BYTES;
constexpr int Y_STAGING = Y_RING + Y_STAGES * Y_BYTES;
constexpr int X_FULL = Y_STAGING + (Y_INTERLEAVED ? Y_STAGES * Y_BYTES : 0);
constexpr int X_EMPTY = X_FULL + 8 * X_STAGES;
constexpr int H_FULL = X_EMPTY + 8 * X_STAGES;
constexpr int H_EMPTY = H_FULL + 8 * H_STAGES;
constexpr int Y_FULL = H_EMPTY + 8 * H_STAGES;
constexpr int Y_EMPTY = Y_FULL + 8 * Y_STAGES;
constexpr int SHARED = Y_EMPTY + 8 * Y_STAGES + 128;  // 128: room to align
static_assert(SHARED == SHARED_BYTES, "cluster.py and cluster.cu count shared memory differently");
static_assert(X_BYTES % 128 == 0 && Y_BYTES % 128 == 0, "rings keep the alignment of lines");

// Exchange of the 32 words of a line, for outputs 2 q and 2 q + 1 of a tile of 8. Lanes of one
// store differ in q and, as far as a phase of the store reaches, in the low bits of the row.
INLINE constexpr int spread(int q) {
  return OWNED == 2 ? q : OWNED == 4 ? (q & 1) << 4 | (q & 2) : q << 3;
}
INLINE constexpr int words_exchanged(int q) { return OWNED == 2 ? q : OWNED == 4 ? (q & 2) : 0; }
INLINE constexpr int rows_exchanged(int q) {
  return OWNED == 2 ? 0 : OWNED == 4 ? (q & 1) << 2 : q << 1;
}

// The 8 blocks of this CTA: values of block OWNED * warp + j, outputs 8 tile.., reduced 16 step...
template <int TILES, int STEPS>
struct Fragments {
  u32 r[OWNED][TILES][STEPS][2];
};

// EXCHANGED: the reduced digit comes in units, whose words the sender exchanged.
template <int BLOCK, int OUT, int REDUCE, bool EXCHANGED, int TILES, int STEPS>
INLINE void load_weights(Fragments<TILES, STEPS>& f, const u16* w, int first, int local, int lane) {
#pragma unroll
  for (int j = 0; j < OWNED; j++) {
    const int q = EXCHANGED ? words_exchanged(((local + j) & 7) / 2) : 0;
    const u16* block = w + (long long)(first + local + j) * BLOCK;
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
      for (int step = 0; step < STEPS; step++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int out = tile * 8, reduced = step * 16 + half * 8;
          u32 v;
          if constexpr (REDUCE == 1) {
            const u16* at = block + (out + lane / 4) * OUT + reduced + 2 * ((lane % 4) ^ q);
            v = *(const u32*)at;
          } else if constexpr (OUT == 1) {
            // pairs of outputs are contiguous: load the transposed fragment and transpose it
            const int row = reduced + ((lane / 4) ^ (2 * q));
            u32 t = *(const u32*)(block + row * REDUCE + out + 2 * (lane % 4));
            v = transposed(t);
          } else {
            const u16* at =
                block + (out + lane / 4) * OUT + (reduced + 2 * ((lane % 4) ^ q)) * REDUCE;
            v = (u32)at[0] | (u32)at[REDUCE] << 16;
          }
          f.r[j][tile][step][half] = v;
        }
  }
}

// acc[j][tile] = sum over steps of A[j] @ f[j][tile]; `load(step, a)` makes the A of every j.
template <int TILES, int STEPS, class Load>
INLINE void multiply(float (&acc)[OWNED][TILES][4], const Fragments<TILES, STEPS>& f,
                     const Load& load) {
#pragma unroll
  for (int j = 0; j < OWNED; j++)
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
      acc[j][tile][0] = acc[j][tile][1] = acc[j][tile][2] = acc[j][tile][3] = 0.f;
#pragma unroll
  for (int step = 0; step < STEPS; step++) {
    u32 a[OWNED][4];
    load(step, a);
#pragma unroll
    for (int j = 0; j < OWNED; j++)
#pragma unroll
      for (int tile = 0; tile < TILES; tile++) mma(acc[j][tile], a[j], f.r[j][tile][step]);
  }
}

// Store results as units: `at` is the staging buffer, `crossed` exchanges rows further, by output
// parity. Tile t of 8 outputs is slot t: 8 pairs of lines, one for rows 0-7, one for rows 8-15.
template <int TILES>
INLINE void store_units(u32 at, const float (&acc)[OWNED][TILES][4], int warp, int lane,
                        int crossed_even, int crossed_odd) {
  const int q = lane % 4;
  const int word = ((lane / 4) * 4 + warp * (OWNED / 2)) ^ spread(q);
  const u32 even = at + q * 512 + 4 * (word ^ crossed_even << 2);
  const u32 odd = at + q * 512 + 256 + 4 * (word ^ crossed_odd << 2);
#pragma unroll
  for (int tile = 0; tile < TILES; tile++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const u32 to = (i & 1 ? odd : even) + tile * SLOT + (i / 2) * 128;
      u32 v[OWNED / 2];
#pragma unroll
      for (int j = 0; j < OWNED / 2; j++) v[j] = pack(acc[2 * j][tile][i], acc[2 * j + 1][tile][i]);
      store_words(to, v);
    }
}

// A ring's place of tile number i: stage, and parity of its use.
template <int STAGES>
struct Place {
  int stage;
  u32 parity;
  INLINE explicit Place(int i) : stage(i % STAGES), parity(i / STAGES & 1) {}
};

// Roles -------------------------------------------------------------------------------------------

// Where a CTA is and which tiles are its cluster's. Every role makes its own: what is computed
// before the roles part and lives across setmaxnreg goes to local memory.
struct Walk {
  u32 base;  // of the rings
  u32 rank;  // in the cluster
  long long rows;
  u32 first, step, tiles;  // tiles first, first + step, ... below tiles
  INLINE Walk(u32 base, long long rows)
      : base(base),
        rank(cluster_rank()),
        rows(rows),
        first(blockIdx.x / CTAS),
        step(gridDim.x / CTAS),
        tiles((u32)((rows + ROWS - 1) / ROWS)) {}
};

INLINE void load_tiles(const Walk c, const u16* x, int warp, int lane) {
  int i = 0;
  for (u32 tile = c.first; tile < c.tiles; tile += c.step, i++) {
    const Place<X_STAGES> at(i);
    const u32 full = c.base + X_FULL + 8 * at.stage, to = c.base + X_RING + at.stage * X_BYTES;
    const long long row0 = (long long)tile * ROWS, left = c.rows - row0;
    const int live = left < ROWS ? (int)left : ROWS;
    wait(c.base + X_EMPTY + 8 * at.stage, at.parity ^ 1);
#if X_INTERLEAVED
    // 16 bytes of each p: lanes take words, so that a plane holds the pairs of k of one word
    const u16* from = x + row0 * N + (lane / 4) * BLOCKS + c.rank * 8 + lane % 4 * 2;
    const u32 place = to + (lane % 4) * X_PLANE + (lane / 4) * 4;
    for (int row = warp; row < live; row += LOADERS) {
#pragma unroll
      for (int p = 0; p < P; p += 8)
        copy_word(place + row * X_PITCH + p * 4, from + (long long)row * N + p * BLOCKS);
    }
    arrive_when_copied(full);
#else
    if (warp == 0) {
      if (lane == 0) arrive_expecting(full, live * 16 * P);
      __syncwarp();
      if (lane < live)
        bulk_load(to + lane * X_PITCH, x + (row0 + lane) * N + c.rank * 8 * P, 16 * P, full);
    }
#endif
  }
}

INLINE void first_stage(const Walk c, const u16* w1, int warp, int lane) {
  Fragments<CTAS, P / 16> f;
  load_weights<W1_BLOCK, W1_OUT, W1_REDUCE, false>(f, w1, c.rank * 8, warp * OWNED, lane);
#if X_INTERLEAVED
  const u32 mine = warp * (OWNED / 2) * X_PLANE + (lane / 4) * X_PITCH + (lane % 4) * 8;
#else
  const u32 mine = (lane % 16) * X_PITCH + (lane / 16) * 16 + warp * OWNED * P * 2;
#endif
  int i = 0;
  for (u32 tile = c.first; tile < c.tiles; tile += c.step, i++) {
    const Place<X_STAGES> in(i);
    const Place<H_STAGES> out(i);
    wait(c.base + X_FULL + 8 * in.stage, in.parity);
    float acc[OWNED][CTAS][4];
    const u32 x = c.base + X_RING + in.stage * X_BYTES + mine;
    multiply(acc, f, [&](int step, u32(&a)[OWNED][4]) {
#if X_INTERLEAVED
#pragma unroll
      for (int j = 0; j < OWNED; j += 2)
#pragma unroll
        for (int part = 0; part < 4; part++) {  // (row, p), (row + 8, p), then p + 8
          u32 u, v;
          load_pair(u, v, x + j / 2 * X_PLANE + part % 2 * 8 * X_PITCH + part / 2 * 32 + step * 64);
          a[j][part] = __byte_perm(u, v, 0x5410);
          a[j + 1][part] = __byte_perm(u, v, 0x7632);
        }
#else
#pragma unroll
      for (int j = 0; j < OWNED; j++) ldmatrix(a[j], x + j * P * 2 + step * 32);
#endif
    });
    // empty: every CTA has read the previous tile of this stage, which our staging was copied to
    wait_remote(c.base + H_EMPTY + 8 * out.stage, out.parity ^ 1);
    const u32 staging = c.base + H_STAGING + out.stage * H_BYTES;
    store_units(staging, acc, warp, lane, 0, 0);
    before_bulk_reads();
    group_sync<32 * WARPS>(1);
    if (warp == 0) {
      if (lane == 0) arrive(c.base + X_EMPTY + 8 * in.stage);
      if (lane < CTAS) {
        const u32 to = (lane + c.rank) % CTAS;  // every CTA starts at another receiver
        bulk_send(remote(c.base + H_RING + out.stage * H_BYTES + c.rank * SLOT, to),
                  staging + to * SLOT, SLOT, remote(c.base + H_FULL + 8 * out.stage, to));
      }
    }
  }
}

#if Y_INTERLEAVED
constexpr u32 UNITS = ROWS * CTAS * 8 * Y_TILES;                                  // of a tile
constexpr u32 AT_ONCE = UNITS / (32 * STORERS) < 4 ? UNITS / (32 * STORERS) : 4;  // a lane
static_assert(UNITS % (32 * STORERS * AT_ONCE) == 0, "storers share the units of a tile evenly");

// Neighbouring units have neighbouring l, 8 of each sender, then s, then rows.
struct Unit {
  u32 row, column, place, exchanged;
  INLINE explicit Unit(u32 id) {
    const u32 from = id % CTAS, s = id / CTAS % (8 * Y_TILES), q = s / 2 % 4;
    row = id / (8 * Y_TILES * CTAS);
    column = s * BLOCKS + from * 8;
    exchanged = words_exchanged(q);
    const u32 lies = row % 8 ^ rows_exchanged(q) ^ ((from ^ s % 2 * CTAS) & 7);
    place = from * Y_TILES * SLOT + s * 256 + row / 8 * 128 + lies * 16;
  }
};

// Word w of a unit lies at w ^ exchanged: put it back.
INLINE uint4 restored(uint4 v, u32 exchanged) {
  if (OWNED == 2 && exchanged & 1) v = make_uint4(v.y, v.x, v.w, v.z);
  if (OWNED <= 4 && exchanged & 2) v = make_uint4(v.z, v.w, v.x, v.y);
  return v;
}

INLINE void store_tiles(const Walk c, u16* y, int warp, int lane) {
  int i = 0;
  for (u32 tile = c.first; tile < c.tiles; tile += c.step, i++) {
    const Place<Y_STAGES> in(i);
    const u32 ring = c.base + Y_RING + in.stage * Y_BYTES, full = c.base + Y_FULL + 8 * in.stage;
    if (warp == 0 && lane == 0) arrive_expecting(full, Y_BYTES);
    __syncwarp();
    wait_remote(full, in.parity);
    const long long row0 = (long long)tile * ROWS;
    u16* mine = y + row0 * M + c.rank * 8 * Y_TILES * BLOCKS;
    const long long live = c.rows - row0;
#pragma unroll 1
    for (u32 id = warp * 32 * AT_ONCE + lane; id < UNITS; id += 32 * AT_ONCE * STORERS) {
      uint4 v[AT_ONCE];
#pragma unroll
      for (u32 e = 0; e < AT_ONCE; e++) v[e] = load_unit(ring + Unit(id + 32 * e).place);
#pragma unroll
      for (u32 e = 0; e < AT_ONCE; e++) {
        const Unit unit(id + 32 * e);
        if (unit.row < live)
          store_unit(mine + unit.row * M + unit.column, restored(v[e], unit.exchanged));
      }
    }
    __syncwarp();
    if (lane < CTAS) arrive_remote(remote(c.base + Y_EMPTY + 8 * in.stage, lane));
  }
}
#endif

INLINE void second_stage(const Walk c, const u16* w2, u16* y, int warp, int lane) {
  Fragments<S / 8, BLOCKS / 16> f;
  load_weights<W2_BLOCK, W2_OUT, W2_REDUCE, true>(f, w2, c.rank * 8, warp * OWNED, lane);
  const u32 mine = lane / 16 * SLOT + lane / 8 % 2 * 128 + lane % 8 * 16;
  int i = 0;
  for (u32 tile = c.first; tile < c.tiles; tile += c.step, i++) {
    const Place<H_STAGES> in(i);
    const Place<Y_STAGES> out(i);
    if (warp == 0 && lane == 0) arrive_expecting(c.base + H_FULL + 8 * in.stage, H_BYTES);
    __syncwarp();
    wait_remote(c.base + H_FULL + 8 * in.stage, in.parity);
    float acc[OWNED][S / 8][4];
    const u32 h = c.base + H_RING + in.stage * H_BYTES + mine;
    multiply(acc, f, [&](int step, u32(&a)[OWNED][4]) {
#pragma unroll
      for (int j = 0; j < OWNED; j++) {
        const int l = warp * OWNED + j;
        ldmatrix(a[j], (h + step * 2 * SLOT + l * 256) ^ rows_exchanged(l / 2) * 16);
      }
    });
#if Y_INTERLEAVED
    wait_remote(c.base + Y_EMPTY + 8 * out.stage, out.parity ^ 1);
    const u32 staging = c.base + Y_STAGING + out.stage * Y_BYTES;
    store_units(staging, acc, warp, lane, c.rank & 7, (c.rank ^ CTAS) & 7);
    before_bulk_reads();
    group_sync<32 * WARPS>(2);
    if (warp == 0 && lane < CTAS) {
      const u32 to = (lane + c.rank) % CTAS;
      arrive_remote(remote(c.base + H_EMPTY + 8 * in.stage, lane));
      bulk_send(remote(c.base + Y_RING + out.stage * Y_BYTES + c.rank * Y_TILES * SLOT, to),
                staging + to * Y_TILES * SLOT, Y_TILES * SLOT,
                remote(c.base + Y_FULL + 8 * out.stage, to));
    }
#else
    const u32 rows = c.base + Y_RING + out.stage * Y_BYTES;
    const u32 corner = rows + (lane % 16) * Y_PITCH + warp * OWNED * S * 2 + lane / 16 * 16;
#pragma unroll
    for (int j = 0; j < OWNED; j++)
#pragma unroll
      for (int t = 0; t < S / 8; t += 2)
        stmatrix(corner + j * S * 2 + t * 16, pack(acc[j][t][0], acc[j][t][1]),
                 pack(acc[j][t][2], acc[j][t][3]), pack(acc[j][t + 1][0], acc[j][t + 1][1]),
                 pack(acc[j][t + 1][2], acc[j][t + 1][3]));
    before_bulk_reads();
    // the rows that the next tile overwrites have left
    if (warp == 0) wait_stores_read<Y_STAGES - 2>();
    group_sync<32 * WARPS>(2);
    if (warp == 0) {
      const long long row0 = (long long)tile * ROWS;
      if (lane < CTAS) arrive_remote(remote(c.base + H_EMPTY + 8 * in.stage, lane));
      if (lane < ROWS && row0 + lane < c.rows)
        bulk_store(y + (row0 + lane) * M + c.rank * 8 * S, rows + lane * Y_PITCH, 16 * S);
      commit_stores();
    }
#endif
  }
#if !Y_INTERLEAVED
  if (warp == 0) wait_stores_done();
#endif
}

extern "C" __global__ void __cluster_dims__(CTAS, 1, 1) __launch_bounds__(THREADS, RESIDENT)
    NAME(const u16* __restrict__ x, const u16* __restrict__ w1, const u16* __restrict__ w2,
         u16* __restrict__ y, long long rows) {
  extern __shared__ u32 memory[];
  const u32 base = (shared_address(memory) + 127) & ~127u;
  const int role = __shfl_sync(~0u, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < X_STAGES; s++) {
      init(base + X_FULL + 8 * s, X_INTERLEAVED ? 32 * LOADERS : 1);
      init(base + X_EMPTY + 8 * s, 1);
    }
    for (int s = 0; s < H_STAGES; s++) {
      init(base + H_FULL + 8 * s, 1);
      init(base + H_EMPTY + 8 * s, CTAS);
    }
    for (int s = 0; s < Y_STAGES; s++) {
      init(base + Y_FULL + 8 * s, 1);
      init(base + Y_EMPTY + 8 * s, CTAS * STORERS);
    }
    publish_barriers();
  }
  cluster_sync();  // no CTA arrives at a barrier that is not there yet
  if (role < 2 * WARPS) {
#if STAGE_REGISTERS
    more_registers<STAGE_REGISTERS>();
#endif
    if (role < WARPS)
      first_stage(Walk(base, rows), w1, threadIdx.x / 32 % WARPS, lane);
    else
      second_stage(Walk(base, rows), w2, y, threadIdx.x / 32 % WARPS, lane);
  } else {
#if STAGE_REGISTERS
    fewer_registers<HELPER_REGISTERS>();
#endif
    if (role < 2 * WARPS + LOADERS)
      load_tiles(Walk(base, rows), x, threadIdx.x / 32 % LOADERS, lane);
#if Y_INTERLEAVED
    else
      store_tiles(Walk(base, rows), y, threadIdx.x / 32 % STORERS, lane);
#endif
  }
  __syncthreads();
  cluster_sync();  // no CTA leaves before the last copy into it or arrival at it
}
