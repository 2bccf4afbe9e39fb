// CUDA on the host, for tests. Every thread of a block is a fiber of one OS thread; it runs until a barrier or a
// warp-wide instruction, then another goes on: the lowest, the highest or a random one that can
// (EMULATION_ORDER=forward|reverse|random:SEED). What it reports: barriers not all threads reach, lanes missing from a
// warp instruction, shared memory larger than launched, host pointers as arguments; in a captured graph, copies from or
// to the host, and memory that is gone when it is done again; kernels launched early that do not wait for the one
// before. Fresh memory is NaN. EMULATION_LIST=FILE: kernels and products are written to FILE, a line each, and not
// done, so that what a step of any model asks of a GPU is known in a moment. Built with -fsanitize=address: accesses
// out of bounds; =thread: accesses no barrier orders.
#pragma once
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <typeinfo>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorIllegalState = 401,
  cudaErrorStreamCaptureUnsupported = 900
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
using cudaStream_t = struct CUstream_st*;
cudaError_t cudaMalloc(void** p, size_t bytes);
cudaError_t cudaFree(void* p);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t = nullptr);
cudaError_t cudaMemsetAsync(void* p, int byte, size_t bytes, cudaStream_t = nullptr);
template <class T>
cudaError_t cudaMalloc(T** p, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(p), bytes);
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind);
}
inline cudaError_t cudaMemset(void* p, int byte, size_t bytes) { return cudaMemsetAsync(p, byte, bytes); }
cudaError_t cudaStreamSynchronize(cudaStream_t);
// A second stream beside the first (null). What it is asked for is done as late as it may be: when the first waits.
using cudaEvent_t = struct CUevent_st*;
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned flags);
inline cudaError_t cudaDeviceSynchronize() { return cudaStreamSynchronize(nullptr); }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }

namespace emulation {
struct Graph;
}
using cudaGraph_t = emulation::Graph*;
using cudaGraphExec_t = emulation::Graph*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode);
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);

namespace emulation {
inline int lane;  // of the thread that runs

struct Where {  // std::source_location, which clang 14 lacks
  const char* file;
  int line;
  static constexpr Where current(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};
struct Error : std::runtime_error {
  using runtime_error::runtime_error;
};

// `early`: each thread must call wait_for_previous_grid.
void run(dim3 grid, dim3 block, size_t shared, bool early, Where where, const std::function<void()>& thread);
void check_pointer(const void* p, Where where);  // throws unless p is null or inside a cudaMalloc
void* shared_memory(size_t bytes, Where where);  // this block's; throws when the launch gave less
void wait_for_previous_grid();
void sync_block(Where where);
void sync_warp(unsigned mask, Where where);
uint64_t shuffle(unsigned mask, uint64_t bits, int from, Where where);
unsigned ballot(unsigned mask, bool vote, Where where);
void mma_16x8x16(float* d, const uint32_t* a, const uint32_t* b, Where where);
void load_matrices(uint32_t* r, const uint32_t (&row)[4], bool transposed, Where where);
struct Copy {
  void* to;
  const void* from;
  bool valid;
  int bytes, group = 0;
};
void copy_async(Copy copy);
void copy_commit();
bool copy_next(int pending, Copy& copy);  // the next one that copy_wait must carry out
void limit_memory(size_t bytes);          // of all cudaMalloc together
// Does the work, or writes it down where a graph is being captured. What it touches of device memory, the bytes of its
// arguments point into; that must still be there when the graph does it.
void submit(Where where, std::span<const void* const> arguments, std::function<void()> work);
// The same for a second stream. Throws unless it has waited for all that the first was asked for.
void submit_beside(CUstream_st* stream, std::span<const void* const> arguments, std::function<void()> work);
bool listing();  // EMULATION_LIST
void list(const std::string& line);
void list_kernel(Where where, const std::type_info& arguments, dim3 grid, dim3 block);
int64_t submitted();  // by the host so far: launches, copies, fills, products, whole graphs
// In builds for the address sanitizer nobody may touch device memory but work, and that only what its arguments point
// into: the sanitizer reports all else.
bool keeps_others_out();
bool may_touch(const void* p);
}  // namespace emulation

namespace rondo::cuda {

struct Launch {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
  bool early;
  emulation::Where where;
  Launch(dim3 grid, dim3 block, size_t shared = 0, cudaStream_t stream = nullptr, bool early = false,
         emulation::Where where = emulation::Where::current())
      : grid(grid), block(block), shared(shared), stream(stream), early(early), where(where) {}
};
template <class... P, class... A>
void launch(Launch l, void (*kernel)(P...), const A&... args) {
  auto check = [&](const auto& x) {
    if constexpr (std::is_pointer_v<std::decay_t<decltype(x)>>) emulation::check_pointer(x, l.where);
  };
  (check(args), ...);
  // Whatever in the arguments may be a pointer; between the members of a copy lies nothing that was one.
  std::array<const void*, ((sizeof(P) / sizeof(void*)) + ... + 0)> words = {};
  auto* next = words.data();
  const auto look = [&](auto x) {
#if __has_builtin(__builtin_clear_padding)
    __builtin_clear_padding(&x);
#endif
    const size_t n = sizeof x / sizeof(void*);
    std::memcpy(static_cast<void*>(next), &x, n * sizeof(void*));
    next += n;
  };
  (look(P(args)), ...);
  const std::tuple<P...> given{P(args)...};
  emulation::submit(l.where, words, [=] {
    if (emulation::listing()) return emulation::list_kernel(l.where, typeid(given), l.grid, l.block);
    emulation::run(l.grid, l.block, l.shared, l.early, l.where, [&] { std::apply(kernel, given); });
  });
}
template <class T>
T& shared(emulation::Where w = emulation::Where::current()) {
  static_assert(std::is_trivially_default_constructible_v<T>);
  return *static_cast<T*>(emulation::shared_memory(sizeof(T), w));
}

}  // namespace rondo::cuda

inline void __syncthreads(emulation::Where w = emulation::Where::current()) { emulation::sync_block(w); }
inline void __syncwarp(unsigned mask = ~0u, emulation::Where w = emulation::Where::current()) {
  emulation::sync_warp(mask, w);
}
inline void __threadfence() {}
template <class T>
T __shfl_sync(unsigned mask, T x, int lane, int width = 32, emulation::Where w = emulation::Where::current()) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof x);
  bits = emulation::shuffle(mask, bits, (emulation::lane & ~(width - 1)) | (lane & (width - 1)), w);
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T x, int bits, int width = 32, emulation::Where w = emulation::Where::current()) {
  int to = emulation::lane ^ bits;
  return __shfl_sync(mask, x, (to & -width) > (emulation::lane & -width) ? emulation::lane : to, 32, w);
}
template <class T>
T __shfl_down_sync(unsigned mask, T x, int by, int width = 32, emulation::Where w = emulation::Where::current()) {
  int to = emulation::lane + by;
  return __shfl_sync(mask, x, (to & -width) != (emulation::lane & -width) ? emulation::lane : to, 32, w);
}
template <class T>
T __shfl_up_sync(unsigned mask, T x, int by, int width = 32, emulation::Where w = emulation::Where::current()) {
  int to = emulation::lane - by;
  return __shfl_sync(mask, x, (to & -width) != (emulation::lane & -width) ? emulation::lane : to, 32, w);
}
inline unsigned __ballot_sync(unsigned mask, bool vote, emulation::Where w = emulation::Where::current()) {
  return emulation::ballot(mask, vote, w);
}
inline bool __any_sync(unsigned mask, bool vote, emulation::Where w = emulation::Where::current()) {
  return emulation::ballot(mask, vote, w) != 0;
}
inline bool __all_sync(unsigned mask, bool vote, emulation::Where w = emulation::Where::current()) {
  return emulation::ballot(mask, vote, w) == mask;
}

// Atomic for the race detector's eyes; the fibers themselves never interrupt one another.
template <class T>
T atomicAdd(T* p, std::type_identity_t<T> x) {
  T old;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  T sum = old + x;
  __atomic_store(p, &sum, __ATOMIC_RELAXED);
  return old;
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> x) {
  T old;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  if (T m = old < x ? x : old; m != old) __atomic_store(p, &m, __ATOMIC_RELAXED);
  return old;
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> x) {
  T old;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  if (x < old) __atomic_store(p, &x, __ATOMIC_RELAXED);
  return old;
}
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(unsigned(x)) + 1 : 0; }

// What ptx.cuh has, here in C++.
namespace rondo::cuda {

inline void wait_for_previous_grid() { emulation::wait_for_previous_grid(); }

inline uint32_t pack_bf16(float low, float high) {
  auto round = [](float x) {
    uint32_t u = std::bit_cast<uint32_t>(x);
    return x != x ? 0x7fffu : (u + 0x7fff + (u >> 16 & 1)) >> 16;
  };
  return round(low) | round(high) << 16;
}
inline float exp2_approximate(float x) {
  const float y = std::exp2(x);
  return y < std::numeric_limits<float>::min() ? 0 : y;
}
inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                        emulation::Where w = emulation::Where::current()) {
  emulation::mma_16x8x16(d, a, b, w);
}
inline void load_matrices(uint32_t (&r)[4], const void* row, emulation::Where w = emulation::Where::current()) {
  auto [x, y, z, v] = *static_cast<const uint4*>(row);  // here, so that the sanitizers see whose read it is
  emulation::load_matrices(r, {x, y, z, v}, false, w);
}
inline void load_matrices_transposed(uint32_t (&r)[4], const void* row,
                                     emulation::Where w = emulation::Where::current()) {
  auto [x, y, z, v] = *static_cast<const uint4*>(row);
  emulation::load_matrices(r, {x, y, z, v}, true, w);
}
// NaN until the wait: the copy may write at any moment from here on.
inline void copy_async(void* to, const void* from, bool valid = true) {
  *static_cast<uint4*>(to) = uint4{~0u, ~0u, ~0u, ~0u};
  emulation::copy_async({to, from, valid, 16});
}
inline void copy_async_8(void* to, const void* from, bool valid = true) {
  *static_cast<uint2*>(to) = uint2{~0u, ~0u};
  emulation::copy_async({to, from, valid, 8});
}
inline void copy_commit() { emulation::copy_commit(); }
template <int Pending>
void copy_wait() {
  const auto carry_out = []<class Bytes>(const emulation::Copy& c, Bytes zeros) {
    *static_cast<Bytes*>(c.to) = c.valid ? *static_cast<const Bytes*>(c.from) : zeros;
  };
  for (emulation::Copy c; emulation::copy_next(Pending, c);)
    c.bytes == 16 ? carry_out(c, uint4{}) : carry_out(c, uint2{});
}

}  // namespace rondo::cuda
