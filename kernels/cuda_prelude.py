"""What every generated CUDA C++ source begins with: types and conversions, without any header.

NVRTC has no host headers, and the toolkit's own may not be installed where kernels are compiled,
so that 16-bit numbers are converted by PTX. Memory is read and written in words of 4 bytes:
``fetch<W>`` and ``put<W>`` move W of them in one instruction, ``fetch<0>`` and ``put<0>`` one
entry of 2 bytes.
"""

from __future__ import annotations

__all__ = ["PRELUDE", "TYPES", "VECTORS"]

PRELUDE = """\
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
#define DEVICE __device__ __forceinline__

// ACC numbers from words: entry i of a vector of entries
DEVICE float half_to_float(u16 h) {
  float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h)); return f; }

template <int W> DEVICE void fetch(u32* r, const void* p);
template <> DEVICE void fetch<0>(u32* r, const void* p) { r[0] = *(const u16*)p; }
template <> DEVICE void fetch<1>(u32* r, const void* p) { r[0] = *(const u32*)p; }
template <> DEVICE void fetch<2>(u32* r, const void* p) {
  const uint2 q = *(const uint2*)p; r[0] = q.x; r[1] = q.y; }
template <> DEVICE void fetch<4>(u32* r, const void* p) {
  const uint4 q = *(const uint4*)p; r[0] = q.x; r[1] = q.y; r[2] = q.z; r[3] = q.w; }

template <int W> DEVICE void put(void* p, const u32* r);
template <> DEVICE void put<0>(void* p, const u32* r) { *(u16*)p = (u16)r[0]; }
template <> DEVICE void put<1>(void* p, const u32* r) { *(u32*)p = r[0]; }
template <> DEVICE void put<2>(void* p, const u32* r) { *(uint2*)p = make_uint2(r[0], r[1]); }
template <> DEVICE void put<4>(void* p, const u32* r) {
  *(uint4*)p = make_uint4(r[0], r[1], r[2], r[3]); }

// W words from global to shared memory, zeros where not live, done at cp.async.wait_group
template <int W> DEVICE void fetch_async(void* to, const void* from, bool live) {
  const u32 at = (u32)__cvta_generic_to_shared(to);
  const int size = live ? 4 * W : 0;
  if (W == 4)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 ::"r"(at), "l"(from), "r"(size) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                 ::"r"(at), "l"(from), "n"(4 * W), "r"(size) : "memory");
}
"""

VECTORS = """\
// 1, 2 or 4 numbers between registers and shared memory, in one instruction where they fit 16 bytes
DEVICE void put1(ACC* p, ACC a) { *p = a; }
DEVICE void get1(const ACC* p, ACC& a) { a = *p; }
struct __align__(2 * sizeof(ACC)) Two { ACC a, b; };
DEVICE void put2(ACC* p, ACC a, ACC b) { *(Two*)p = Two{a, b}; }
DEVICE void get2(const ACC* p, ACC& a, ACC& b) { const Two q = *(const Two*)p; a = q.a; b = q.b; }
DEVICE void put4(float* p, float a, float b, float c, float d) {
  *(float4*)p = make_float4(a, b, c, d); }
DEVICE void get4(const float* p, float& a, float& b, float& c, float& d) {
  const float4 q = *(const float4*)p; a = q.x; b = q.y; c = q.z; d = q.w; }
"""

TYPES = {
    "bfloat16": """\
typedef u16 T;
typedef float ACC;
DEVICE ACC read(const u32* r, int i) {
  return __uint_as_float(i & 1 ? r[i / 2] & 0xffff0000u : r[i / 2] << 16); }
DEVICE ACC value(T h) { return __uint_as_float((u32)h << 16); }
DEVICE u32 pack(ACC lo, ACC hi) {
  u32 d; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo)); return d; }
DEVICE void write(u32* r, int i, ACC lo, ACC hi) { r[i / 2] = pack(lo, hi); }
""",
    "float16": """\
typedef u16 T;
typedef float ACC;
DEVICE ACC read(const u32* r, int i) {
  return half_to_float((u16)(i & 1 ? r[i / 2] >> 16 : r[i / 2])); }
DEVICE ACC value(T h) { return half_to_float(h); }
DEVICE u32 pack(ACC lo, ACC hi) {
  u32 d; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo)); return d; }
DEVICE void write(u32* r, int i, ACC lo, ACC hi) { r[i / 2] = pack(lo, hi); }
""",
    "float32": """\
typedef float T;
typedef float ACC;
DEVICE ACC read(const u32* r, int i) { return __uint_as_float(r[i]); }
DEVICE ACC value(T f) { return f; }
DEVICE void write(u32* r, int i, ACC lo, ACC hi) {
  r[i] = __float_as_uint(lo); r[i + 1] = __float_as_uint(hi); }
DEVICE void write(u32* r, int i, ACC a) { r[i] = __float_as_uint(a); }
""",
    "float64": """\
typedef double T;
typedef double ACC;
DEVICE ACC read(const u32* r, int i) { return __hiloint2double((int)r[2 * i + 1], (int)r[2 * i]); }
DEVICE ACC value(T f) { return f; }
DEVICE void write(u32* r, int i, ACC a) {
  r[2 * i] = (u32)__double2loint(a); r[2 * i + 1] = (u32)__double2hiint(a); }
DEVICE void write(u32* r, int i, ACC lo, ACC hi) { write(r, i, lo); write(r, i + 1, hi); }
""",
}
"""Types by torch's name: T in memory, ACC in registers."""
