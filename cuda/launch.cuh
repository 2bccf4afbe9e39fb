// What the host side of every kernel file needs: a tensor's pointer, sizes of grids, the stream.
#pragma once
#include <algorithm>

#include "cuda/context.h"
#include "cuda/device.cuh"
#include "tensor/kernels.h"

namespace rondo::cuda {

template <class T>
T* data(const Tensor& t) {
  check(t.device() == Device::cuda && t.dtype() == dtype_of<T>, "a kernel of CUDA for ", dtype_of<T>,
        " was given a tensor of ", t.dtype(), " ", t.shape(), " on ", t.device());
  return static_cast<T*>(t.bytes());
}
template <class T>
T* data_or_null(const Tensor& t) {
  return t ? data<T>(t) : nullptr;
}

inline int64_t row_width(const Tensor& t) { return t.rank() ? t.dim(-1) : 1; }
inline int64_t row_count(const Tensor& t) { return row_width(t) ? t.numel() / row_width(t) : 0; }

inline constexpr unsigned kThreads = 256;  // of a block, unless there is a reason

// Blocks enough for n items, `per_block` each, but no more than most_blocks.
inline unsigned blocks_for(int64_t n, int64_t per_block = kThreads) {
  return unsigned(std::clamp<int64_t>((n + per_block - 1) / per_block, 1, most_blocks));
}

// f(i) for i in 0..n-1. As a rule once a thread: unrolled, the loop would begin with a division.
template <class F>
__global__ void for_each_kernel(int64_t n, F f) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
#pragma unroll 1
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}
// F is a struct with a device operator()(int64_t): a kernel file says what is done to one element, this does it to all.
template <class F>
void for_each(int64_t n, const F& f) {
  if (n > 0) launch({blocks_for(n), kThreads, 0, stream()}, for_each_kernel<F>, n, f);
}

// Calls f(U()) with a U of 1, 2, 4, 8 or 16 bytes: the most that divide `bytes`.
template <class F>
void dispatch_width(size_t bytes, F&& f) {
  bytes |= 16;
  if (bytes % 2 != 0) return f(uint8_t());
  if (bytes % 4 != 0) return f(uint16_t());
  if (bytes % 8 != 0) return f(uint32_t());
  if (bytes % 16 != 0) return f(uint64_t());
  f(uint4());
}

}  // namespace rondo::cuda
