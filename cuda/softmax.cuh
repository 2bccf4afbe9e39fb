// The reduction that softmax and the loss share.
#pragma once
#include <cmath>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"

namespace rondo::cuda {

template <class T>
struct RowShared {
  T scratch[32];
};

template <class T>
struct SumOfExponentials {
  T top, sum;  // the maximum of a row, and sum exp(x - top)
};

// Of a row of n numbers, by a whole block.
template <class T>
__device__ SumOfExponentials<T> sum_of_exponentials(const T* x, int64_t n, T (&scratch)[32]) {
  T top = Max::start<T>(), sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) top = Max{}(top, x[i]);
  top = block_reduce(top, scratch, Max{});
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += std::exp(x[i] - top);
  return {top, block_reduce(sum, scratch, Sum{})};
}

}  // namespace rondo::cuda
