// Tensors seen as Eigen arrays, and the cutting of rows into tiles. Included only by the CPU kernels.
#pragma once
#include <Eigen/Core>

#include "tensor/parallel.h"
#include "tensor/tensor.h"

namespace rondo::cpu {

template <class T>
using Array = Eigen::Array<T, Eigen::Dynamic, 1>;
template <class T>
using ArrayMap = Eigen::Map<Array<T>>;

// n elements from p on.
template <class T>
ArrayMap<T> flat(T* p, int64_t n) {
  return {p, n};
}
template <class T>
Eigen::Map<const Array<T>> flat(const T* p, int64_t n) {
  return {p, n};
}

// Elements per tile of elementwise work, and about as many elements' worth of rows: small enough for the cache, large
// enough that waking a thread pays.
inline constexpr int64_t kTile = 16384;
inline int64_t rows_per_tile(int64_t n_cols) { return n_cols >= kTile ? 1 : kTile / (n_cols > 0 ? n_cols : 1); }

inline int64_t row_width(const Tensor& t) { return t.rank() ? t.dim(-1) : 1; }
inline int64_t row_count(const Tensor& t) { return row_width(t) ? t.numel() / row_width(t) : 0; }

}  // namespace rondo::cpu
