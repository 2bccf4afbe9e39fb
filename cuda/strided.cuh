// Where element i of a contiguous result lies in operands that are strided views: broadcast, permuted, or both.
#pragma once
#include "cuda/launch.cuh"
#include "tensor/broadcast.h"

namespace rondo::cuda {

// Dimensions of one element are left out, and neighbours that can be walked as one are one: most views have two left,
// which cost one division.
struct Strided {
  int rank = 0;
  int64_t sizes[Shape::kMaxRank] = {}, strides[Shape::kMaxRank] = {}, inner = 0;  // the last stride

  Strided(const Shape& shape, const Shape& of) {
    for (int i = 0; i < shape.rank(); ++i) {
      if (shape[i] == 1) continue;
      if (rank == 0 || strides[rank - 1] != shape[i] * of[i]) sizes[rank++] = 1;
      sizes[rank - 1] *= shape[i];
      strides[rank - 1] = inner = of[i];
    }
  }
  // Whether n elements of the result, from any multiple of n on, lie side by side in the operand ...
  bool has_runs(int64_t n) const {
    return inner == 1 && sizes[rank - 1] % n == 0 &&
           std::all_of(strides, strides + rank - 1, [=](int64_t s) { return s % n == 0; });
  }
  // ... or are one and the same.
  bool repeats(int64_t n) const { return rank > 0 && inner == 0 && sizes[rank - 1] % n == 0; }
  // The same view of runs of n elements.
  Strided of_runs(int64_t n) const {
    Strided runs = *this;
    runs.sizes[rank - 1] /= n;
    for (int i = 0; i < rank - 1; ++i) runs.strides[i] /= n;
    return runs;
  }
  __device__ int64_t operator()(int64_t i) const {
    int64_t at = 0;
#pragma unroll
    for (int k = Shape::kMaxRank - 1; k > 0; --k)
      if (k < rank) {
        const int64_t rest = i / sizes[k];
        at += (i - rest * sizes[k]) * strides[k];
        i = rest;
      }
    return at + i * strides[0];
  }
};

}  // namespace rondo::cuda
