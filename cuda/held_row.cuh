// Rows that fit into the registers of a warp, which so reads them once: kRuns runs of kHeld numbers a thread. f32 is
// computed in.
#pragma once
#include "cuda/block.cuh"
#include "cuda/pack.cuh"

namespace rondo::cuda {

// The rows of a warp, numbered over the whole grid.
__device__ inline int64_t first_row() { return (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32; }
__device__ inline int64_t row_step() { return int64_t(gridDim.x) * (blockDim.x / 32); }
inline unsigned held_blocks(int64_t n_rows, int64_t most = 1 << 20) {
  return unsigned(std::min<int64_t>(blocks_for(n_rows, kThreads / 32), most));
}

// 16 bytes of f32, 8 of bf16: what a warp moves at once lies without gaps in either.
inline constexpr int kHeld = 4;

// f(r, i) for the thread's runs of a row of n numbers; run r begins at number i.
template <int kRuns, class F>
__device__ void over_runs(int n, const F& f) {
#pragma unroll
  for (int r = 0; r < kRuns; ++r)
    if (const int i = (r * 32 + int(threadIdx.x % 32)) * kHeld; i < n) f(r, i);
}
// The sum over the row of f(r, e), of number e in run r.
template <int kRuns, class F>
__device__ float held_sum(int n, const F& f) {
  float sum = 0;
  over_runs<kRuns>(n, [&](int r, int) {
#pragma unroll
    for (int e = 0; e < kHeld; ++e) sum += f(r, e);
  });
  return warp_reduce(sum, Sum{});
}

// Calls f.operator()<kRuns>() where rows of n numbers of E can be held; says whether they can.
template <class E, class F>
bool dispatch_held(int64_t n, F&& f) {
  if constexpr (std::is_same_v<computed_t<E>, float>) {
    if (n % kHeld != 0 || n > 1024) return false;
    if (n <= 256)
      f.template operator()<2>();
    else if (n <= 512)
      f.template operator()<4>();
    else
      f.template operator()<8>();
    return true;
  }
  return false;
}

}  // namespace rondo::cuda
