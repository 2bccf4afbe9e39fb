// Sums and maxima over a warp and over a block, in a fixed order.
#pragma once
#include <limits>

#include "cuda/device.cuh"

namespace rondo::cuda {

struct Sum {
  template <class T>
  __device__ static T start() {
    return T(0);
  }
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {  // NaN where one is NaN
  template <class T>
  __device__ static T start() {
    return -std::numeric_limits<T>::infinity();
  }
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};

// Over runs of `lanes` threads (a power of two), a warp as a rule.
template <class T, class F>
__device__ T warp_reduce(T x, F f, int lanes = 32) {
  for (int i = lanes / 2; i > 0; i /= 2) x = f(x, __shfl_xor_sync(0xffffffffu, x, i));
  return x;
}

// All threads get the result. May be called again at once with the same scratch.
template <class T, class F>
__device__ T block_reduce(T x, T (&scratch)[32], F f) {
  x = warp_reduce(x, f);
  __syncthreads();  // whoever still reads the scratch of the last call
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  return warp_reduce(threadIdx.x % 32 < blockDim.x / 32 ? scratch[threadIdx.x % 32] : F::template start<T>(), f);
}

}  // namespace rondo::cuda
