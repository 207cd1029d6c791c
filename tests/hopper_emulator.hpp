// kernels/hopper.cuh on a CPU: one cluster at a time, every thread a fiber, schedules drawn at
// random.
//
// What is asynchronous on the device happens here at a random later time: a copy reads and writes
// either when it is issued or when it completes, whichever the seed says, so that a buffer reused
// too early gives a wrong result for some seed. Some warps stand still for long, while the others
// run as far as they may. Shared memory starts as NaN. A schedule in which nothing can move is
// reported as a deadlock, and so is a warp that parts at a collective instruction.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define INLINE inline
#define __device__
#define __forceinline__ inline
#define __global__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __shared__
#define threadIdx (emulator::self->thread_index)
#define blockIdx (emulator::self->block_index)
#define gridDim (emulator::grid)
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

struct uint4 {
  u32 x, y, z, w;
};
inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }

namespace emulator {

constexpr u32 SHARED_OF_CTA = 1 << 20, SHARED_START = 1024;

struct Index {
  u32 x;
};
struct Barrier {
  int count = 0, pending = 0, bytes = 0;
  u32 phase = 0;
  void settle() {
    if (pending < 0) throw std::runtime_error("more arrivals than a barrier counts");
    if (pending == 0 && bytes == 0) {
      phase++;
      pending = count;
    }
  }
};
struct Group {  // threads that wait for each other
  int here = 0;
  u32 round = 0;
};
struct Warp {
  Group group;
  const char* what = nullptr;
  u32 box[2][32][8];
};
struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  Index thread_index, block_index;
  int cta, warp, lane;
  u32 round = 0;
  bool done = false;
  std::function<bool()> ready;
  std::vector<std::function<void()>> words;  // cp.async not yet waited for
  std::vector<std::shared_ptr<int>> groups;  // bulk stores: how many of a group are left
  std::shared_ptr<int> open = std::make_shared<int>(0);
};

inline Fiber* self;
inline ucontext_t scheduler;
inline Index grid;
inline std::mt19937 random;
inline std::vector<std::unique_ptr<Fiber>> fibers;
inline std::vector<std::vector<uint8_t>> shared;
inline std::map<u32, Barrier> barriers;
inline std::map<std::pair<int, int>, Group> named;
inline std::vector<Warp> warps;
inline Group everyone;
struct Flight {
  u32 due;  // a round of the scheduler
  std::function<void()> land;
};
inline std::vector<Flight> flying;
inline u32 now;
inline std::function<void()> body;
inline std::string failure;

inline void until(std::function<bool()> ready) {
  if (ready()) return;
  self->ready = std::move(ready);
  swapcontext(&self->context, &scheduler);
}
inline void meet(Group& g, int members) {
  const u32 round = g.round;
  if (++g.here == members) {
    g.here = 0;
    g.round++;
  } else {
    until([&g, round] { return g.round != round; });
  }
}
inline uint8_t* at(u32 address, u32 bytes) {
  const u32 cta = address / SHARED_OF_CTA, offset = address % SHARED_OF_CTA - SHARED_START;
  if (cta >= shared.size() || offset + bytes > shared[cta].size() || address % std::min(bytes, 16u))
    throw std::runtime_error("shared memory: out of bounds or not aligned");
  return shared[cta].data() + offset;
}
inline Barrier& barrier(u32 address) {
  auto found = barriers.find(address);
  if (found == barriers.end()) throw std::runtime_error("no barrier there");
  return found->second;
}
constexpr u32 LONG = 300;  // rounds: some tiles of a small kernel

inline void later(std::function<void()> land) {
  flying.push_back({now + (random() % 4 ? random() % 8 : random() % LONG), std::move(land)});
}
// A copy and what completes it: the data moves now or then.
inline void fly(std::function<void()> move, std::function<void()> complete) {
  if (random() % 2) {
    move();
    later(std::move(complete));
  } else {
    later([move, complete] {
      move();
      complete();
    });
  }
}
// Every lane's words, once all have called.
template <int WORDS>
const u32 (*collect(const char* what, const u32 (&mine)[WORDS]))[8] {
  Warp& w = warps[self->warp];
  const u32 side = self->round++ & 1;
  if (w.group.here && std::strcmp(w.what, what)) throw std::runtime_error("a warp parts");
  w.what = what;
  std::memcpy(w.box[side][self->lane], mine, sizeof mine);
  meet(w.group, 32);
  return w.box[side];
}
inline float wide(u16 v) {
  if (TEXT(ELEMENT)[0] == 'b') {
    const u32 bits = (u32)v << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
  }
  _Float16 h;
  std::memcpy(&h, &v, 2);
  return (float)h;
}
inline u16 narrow(float f) {
  u16 out;
  if (TEXT(ELEMENT)[0] == 'b') {
    u32 bits;
    std::memcpy(&bits, &f, 4);
    if (std::isnan(f)) return 0x7fff;
    return (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
  const _Float16 h = (_Float16)f;
  std::memcpy(&out, &h, 2);
  return out;
}
inline void enter() {
  try {
    body();
  } catch (const std::exception& e) {
    failure = e.what();
  }
  self->done = true;
  swapcontext(&self->context, &scheduler);
}

// Run one cluster. An empty string, or what went wrong.
inline std::string run(u32 cluster, u32 clusters, u32 ctas, u32 threads, u32 bytes,
                       std::function<void()> kernel) {
  body = std::move(kernel);
  grid = {clusters * ctas};
  fibers.clear(), barriers.clear(), named.clear(), flying.clear(), failure.clear();
  everyone = {};
  shared.assign(ctas, std::vector<uint8_t>(bytes, 0xff));
  warps.assign(ctas * threads / 32, {});
  for (u32 i = 0; i < ctas * threads; i++) {
    auto f = std::make_unique<Fiber>();
    f->thread_index = {i % threads};
    f->block_index = {cluster * ctas + i / threads};
    f->cta = i / threads, f->warp = i / 32, f->lane = i % 32;
    const size_t size = 1 << 16;
    f->stack.reset(new char[size]);
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack.get();
    f->context.uc_stack.ss_size = size;
    f->context.uc_link = &scheduler;
    makecontext(&f->context, enter, 0);
    fibers.push_back(std::move(f));
  }
  std::vector<u32> order(warps.size());
  for (u32 i = 0; i < order.size(); i++) order[i] = i;
  std::vector<bool> stands(warps.size());
  u32 still = 0;
  for (now = 0; failure.empty(); now++) {
    bool left = false;
    still++;
    if (now % LONG == 0) {
      const u32 share = random() % 4;  // of 4 warps, in every second period
      for (size_t w = 0; w < stands.size(); w++) stands[w] = now / LONG % 2 && random() % 4 < share;
    }
    std::shuffle(order.begin(), order.end(), random);
    for (u32 w : order)
      for (u32 lane = 0; lane < 32; lane++) {
        Fiber& f = *fibers[w * 32 + lane];
        left |= !f.done;
        if (f.done || stands[w] || (f.ready && !f.ready())) continue;
        f.ready = nullptr;
        self = &f;
        swapcontext(&scheduler, &f.context);
        still = 0;
        if (!failure.empty()) return failure;
      }
    if (!left) break;
    try {
      for (size_t i = 0; i < flying.size();) {
        if (flying[i].due > now) {
          i++;
          continue;
        }
        auto land = std::move(flying[i].land);
        flying[i] = std::move(flying.back());
        flying.pop_back();
        land();
      }
    } catch (const std::exception& e) {
      return e.what();
    }
    if (still > 4 * LONG) return "deadlock";
  }
  if (failure.empty() && !flying.empty()) return "copies in flight after the end";
  return failure;
}

}  // namespace emulator

inline u32 __shfl_sync(u32, u32 v, int lane) { return emulator::collect<1>("shfl", {v})[lane][0]; }
inline void __syncwarp() { emulator::collect<1>("syncwarp", {0}); }
inline u32 __byte_perm(u32 a, u32 b, u32 selector) {
  const u64 both = (u64)b << 32 | a;
  u32 out = 0;
  for (int i = 0; i < 4; i++) out |= (u32)(both >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
  return out;
}

inline u32 shared_address(const void*) {
  return emulator::self->cta * emulator::SHARED_OF_CTA + emulator::SHARED_START;
}
inline u32 remote(u32 address, u32 cta) {
  return address % emulator::SHARED_OF_CTA + cta * emulator::SHARED_OF_CTA;
}
inline void init(u32 bar, u32 count) {
  emulator::at(bar, 8);
  emulator::barriers[bar] = {(int)count, (int)count};
}
inline void arrive_remote(u32 bar) {
  emulator::Barrier& b = emulator::barrier(bar);
  b.pending--;
  b.settle();
}
inline void arrive(u32 bar) { arrive_remote(bar); }
inline void complete(u32 bar, u32 bytes) {
  emulator::Barrier& b = emulator::barrier(bar);
  b.bytes -= bytes;
  b.settle();
}
inline void arrive_expecting(u32 bar, u32 bytes) {
  emulator::Barrier& b = emulator::barrier(bar);
  b.bytes += bytes;
  b.pending--;
  b.settle();
}
inline void wait_remote(u32 bar, u32 parity) {
  emulator::until([bar, parity] { return (emulator::barrier(bar).phase & 1) != parity; });
}
inline void wait(u32 bar, u32 parity) { wait_remote(bar, parity); }
inline void publish_barriers() {}
inline void cluster_sync() { emulator::meet(emulator::everyone, (int)emulator::fibers.size()); }
template <int THREADS>
void group_sync(int name) {
  emulator::meet(emulator::named[{emulator::self->cta, name}], THREADS);
}
inline u32 cluster_rank() { return emulator::self->cta; }
template <int N>
void more_registers() {}
template <int N>
void fewer_registers() {}
inline void before_bulk_reads() {}

inline void bulk_load(u32 to, const u16* from, u32 bytes, u32 bar) {
  if ((uintptr_t)from % 16 || bytes % 16) throw std::runtime_error("bulk copy not aligned");
  emulator::fly([=] { std::memcpy(emulator::at(to, bytes), from, bytes); },
                [=] { complete(bar, bytes); });
}
inline void bulk_send(u32 to, u32 from, u32 bytes, u32 bar) {
  emulator::fly([=] { std::memcpy(emulator::at(to, bytes), emulator::at(from, bytes), bytes); },
                [=] { complete(bar, bytes); });
}
inline void bulk_store(u16* to, u32 from, u32 bytes) {
  if ((uintptr_t)to % 16 || bytes % 16) throw std::runtime_error("bulk copy not aligned");
  std::shared_ptr<int> left = emulator::self->open;
  ++*left;
  emulator::fly([=] { std::memcpy(to, emulator::at(from, bytes), bytes); }, [left] { --*left; });
}
inline void commit_stores() {
  emulator::self->groups.push_back(emulator::self->open);
  emulator::self->open = std::make_shared<int>(0);
}
template <int PENDING>
void wait_stores_read() {
  auto& groups = emulator::self->groups;
  emulator::until([&groups] {
    for (size_t i = 0; i + PENDING < groups.size(); i++)
      if (*groups[i]) return false;
    return true;
  });
}
inline void wait_stores_done() { wait_stores_read<0>(); }
inline void copy_word(u32 to, const u16* from) {
  auto move = [=] { std::memcpy(emulator::at(to, 4), from, 4); };
  if (emulator::random() % 2) {
    move();
  } else {
    emulator::self->words.push_back(move);
  }
}
inline void arrive_when_copied(u32 bar) {
  auto words = std::move(emulator::self->words);
  emulator::self->words.clear();
  emulator::later([words, bar] {
    for (auto& move : words) move();
    arrive_remote(bar);
  });
}

inline void ldmatrix(u32* r, u32 at) {
  const auto* from = emulator::collect<1>("ldmatrix", {at});
  const int lane = emulator::self->lane;
  for (int m = 0; m < 4; m++)
    std::memcpy(r + m, emulator::at(from[8 * m + lane / 4][0], 16) + lane % 4 * 4, 4);
}
inline void stmatrix(u32 at, u32 a, u32 b, u32 c, u32 d) {
  const auto* all = emulator::collect<5>("stmatrix", {at, a, b, c, d});
  const int lane = emulator::self->lane;
  for (int m = 0; m < 4; m++)
    std::memcpy(emulator::at(all[8 * m + lane / 4][0], 16) + lane % 4 * 4, &all[lane][1 + m], 4);
}
inline uint4 load_unit(u32 at) {
  uint4 v;
  std::memcpy(&v, emulator::at(at, 16), 16);
  return v;
}
inline void load_pair(u32& a, u32& b, u32 at) {
  std::memcpy(&a, emulator::at(at, 8), 4);
  std::memcpy(&b, emulator::at(at, 8) + 4, 4);
}
template <int WORDS>
void store_words(u32 at, const u32 (&v)[WORDS]) {
  std::memcpy(emulator::at(at, 4 * WORDS), v, 4 * WORDS);
}
inline u32 transposed(u32 t) {
  const auto* all = emulator::collect<1>("movmatrix", {t});
  const int lane = emulator::self->lane, row = lane / 4, column = lane % 4 * 2;
  u32 v = 0;
  for (int i = 0; i < 2; i++)
    v |= (all[(column + i) * 4 + row / 2][0] >> 16 * (row % 2) & 0xffff) << 16 * i;
  return v;
}
inline void mma(float* d, const u32* a, const u32* b) {
  const auto* all = emulator::collect<6>("mma", {a[0], a[1], a[2], a[3], b[0], b[1]});
  const int lane = emulator::self->lane;
  for (int i = 0; i < 4; i++) {
    const int row = lane / 4, column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 16; k++) {
      const u32 u = all[row * 4 + k / 2 % 4][i / 2 + k / 8 * 2] >> 16 * (k % 2);
      const u32 v = all[column * 4 + k / 2 % 4][4 + k / 8] >> 16 * (k % 2);
      d[i] += emulator::wide((u16)u) * emulator::wide((u16)v);
    }
  }
}
inline void store_unit(u16* to, uint4 v) {
  if ((uintptr_t)to % 16) throw std::runtime_error("store not aligned");
  std::memcpy(to, &v, 16);
}
inline u32 pack(float low, float high) {
  return (u32)emulator::narrow(high) << 16 | emulator::narrow(low);
}
inline void __syncthreads();  // the kernel's file says how many threads there are
