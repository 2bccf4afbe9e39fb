// Where tokens stand, as kernels get it (tensor/key_value_cache.h).
#pragma once
#include "cuda/launch.cuh"

namespace rondo::cuda {

inline const CachePlace* places_of(const Tensor& t) { return reinterpret_cast<const CachePlace*>(data<int64_t>(t)); }

}  // namespace rondo::cuda
