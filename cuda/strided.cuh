// Where element i of a contiguous result lies in operands that are strided views: broadcast, permuted, or both.
#pragma once
#include "cuda/launch.cuh"
#include "tensor/broadcast.h"

namespace rondo::cuda {

struct Strided {
  int rank = 0;
  int64_t sizes[Shape::kMaxRank] = {}, strides[Shape::kMaxRank] = {};

  Strided(const Shape& shape, const Shape& of) : rank(shape.rank()) {
    for (int i = 0; i < rank; ++i) sizes[i] = shape[i], strides[i] = of[i];
  }
  __device__ int64_t operator()(int64_t i) const {
    int64_t at = 0;
    for (int k = rank - 1; k >= 0; --k) {
      at += i % sizes[k] * strides[k];
      i /= sizes[k];
    }
    return at;
  }
};

}  // namespace rondo::cuda
