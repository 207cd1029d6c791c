// Hopper's instructions by name: barriers, bulk copies, tensor-core fragments, for 16-bit elements.
//
// Header-free, because NVRTC has no host headers. Macros of the kernel that comes after: ELEMENT
// (bf16 or f16); REMOTE (cta or cluster), the scope of arrivals at barriers of other CTAs and of
// waits for what other CTAs send; STREAM (0 or 1), loads and stores that pass the caches first.
// Semantics: PTX ISA, chapters "Asynchronous barriers", "Data movement", "Matrix instructions".

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define INLINE __device__ __forceinline__

// Barriers ----------------------------------------------------------------------------------------

INLINE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
INLINE u32 remote(u32 address, u32 cta) {
  u32 out;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(out) : "r"(address), "r"(cta));
  return out;
}
INLINE void init(u32 bar, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory");
}
INLINE void arrive(u32 bar) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
INLINE void arrive_expecting(u32 bar, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(bar),
               "r"(bytes)
               : "memory");
}
// What these arrivals guard is overwritten by copies of other CTAs. It was read into registers,
// and the results computed from it were stored before a barrier: the reads have returned, so the
// release need not make anything visible. Scope `cta` saves a full memory barrier an arrival.
INLINE void arrive_remote(u32 bar) {
  asm volatile("mbarrier.arrive.release." TEXT(REMOTE) ".shared::cluster.b64 _, [%0];" ::"r"(bar)
               : "memory");
}
INLINE void wait(u32 bar, u32 parity) {
  asm volatile(
      "{\n .reg .pred p;\n"
      "again: mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%0], %1;\n"
      " @p bra done;\n bra again;\n"
      "done:\n}" ::"r"(bar),
      "r"(parity)
      : "memory");
}
INLINE void wait_remote(u32 bar, u32 parity) {
  asm volatile(
      "{\n .reg .pred p;\n"
      "again: mbarrier.try_wait.parity.acquire." TEXT(REMOTE) ".shared::cta.b64 p, [%0], %1;\n"
      " @p bra done;\n bra again;\n"
      "done:\n}" ::"r"(bar),
      "r"(parity)
      : "memory");
}
INLINE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
}
// Among THREADS threads of the CTA that name the same barrier, 1 to 15.
template <int THREADS>
INLINE void group_sync(int name) {
  asm volatile("bar.sync %0, %1;" ::"r"(name), "n"(THREADS) : "memory");
}
INLINE void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
INLINE u32 cluster_rank() {
  u32 rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// setmaxnreg: the whole warpgroup, and the kernel compiled with a register cap.
template <int N>
INLINE void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
INLINE void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
INLINE void before_bulk_reads() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Copies ------------------------------------------------------------------------------------------

INLINE void bulk_load(u32 to, const u16* from, u32 bytes, u32 bar) {
#if STREAM
  u64 policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1], %2, [%3], %4;" ::"r"(to),
      "l"(from), "r"(bytes), "r"(bar), "l"(policy)
      : "memory");
#else
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(bar)
      : "memory");
#endif
}
INLINE void bulk_store(u16* to, u32 from, u32 bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from),
               "r"(bytes)
               : "memory");
}
INLINE void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// All but the last PENDING groups of this thread's stores have read shared memory.
template <int PENDING>
INLINE void wait_stores_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}
INLINE void wait_stores_done() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
INLINE void bulk_send(u32 to, u32 from, u32 bytes, u32 bar) {
  asm volatile(
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes"
      " [%0], [%1], %2, [%3];" ::"r"(to),
      "r"(from), "r"(bytes), "r"(bar)
      : "memory");
}
INLINE void copy_word(u32 to, const u16* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
INLINE void arrive_when_copied(u32 bar) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(bar) : "memory");
}

// Fragments ---------------------------------------------------------------------------------------

INLINE void ldmatrix(u32* r, u32 at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
}
INLINE void stmatrix(u32 at, u32 a, u32 b, u32 c, u32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(at), "r"(a),
               "r"(b), "r"(c), "r"(d)
               : "memory");
}
INLINE uint4 load_unit(u32 at) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(at)
               : "memory");
  return v;
}
INLINE void load_pair(u32& a, u32& b, u32 at) {
  asm volatile("ld.shared.v2.b32 {%0,%1}, [%2];" : "=r"(a), "=r"(b) : "r"(at) : "memory");
}
INLINE void store_words(u32 at, const u32 (&v)[1]) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(at), "r"(v[0]) : "memory");
}
INLINE void store_words(u32 at, const u32 (&v)[2]) {
  asm volatile("st.shared.v2.b32 [%0], {%1,%2};" ::"r"(at), "r"(v[0]), "r"(v[1]) : "memory");
}
INLINE void store_words(u32 at, const u32 (&v)[4]) {
  asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(at), "r"(v[0]), "r"(v[1]), "r"(v[2]),
               "r"(v[3])
               : "memory");
}
// The 8 x 8 matrix whose row t / 4, columns 2 (t % 4) and the next, thread t holds.
INLINE u32 transposed(u32 t) {
  u32 v;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(v) : "r"(t));
  return v;
}
INLINE void mma(float* d, const u32* a, const u32* b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32." TEXT(ELEMENT) "." TEXT(ELEMENT) ".f32"
      " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
INLINE void store_unit(u16* to, uint4 v) {
#if STREAM
  asm volatile("st.global.cs.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
#else
  asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
#endif
}
INLINE u32 pack(float low, float high) {
  u32 v;
  asm("cvt.rn." TEXT(ELEMENT) "x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
  return v;
}
