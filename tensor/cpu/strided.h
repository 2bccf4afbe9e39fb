// Walking over a result whose operands are strided views of their buffers: broadcast, permuted, or both.
#pragma once
#include <array>

#include "tensor/broadcast.h"
#include "tensor/cpu/rows.h"

namespace rondo::cpu {

// The dimensions of a contiguous result and the strides of its N operands, with as few dimensions as possible: those of
// size 1 are left out, neighbours that every operand walks in one go are one. At least one dimension remains.
template <int N>
struct Walk {
  int rank = 0;
  int64_t sizes[Shape::kMaxRank] = {};
  std::array<int64_t, N> strides[Shape::kMaxRank] = {};

  Walk(const Shape& shape, const std::array<Shape, N>& of) {
    for (int i = 0; i < shape.rank(); ++i) {
      if (shape[i] == 1) continue;
      std::array<int64_t, N> here;
      for (size_t k = 0; k < N; ++k) here[k] = of[k][i];
      bool joins = rank > 0;
      for (size_t k = 0; joins && k < N; ++k) joins = strides[rank - 1][k] == here[k] * shape[i];
      if (!joins) sizes[rank++] = 1;
      sizes[rank - 1] *= shape[i];
      strides[rank - 1] = here;
    }
    if (rank > 0) return;
    sizes[rank++] = 1;
    strides[0].fill(1);
  }

  int64_t width() const { return sizes[rank - 1]; }
  const std::array<int64_t, N>& inner() const { return strides[rank - 1]; }

  // Where the operands begin in a row of the result; rows run along the innermost dimension.
  std::array<int64_t, N> begin_of(int64_t row) const {
    std::array<int64_t, N> at = {};
    for (int i = rank - 2; i >= 0; --i, row /= sizes[i + 1]) {
      const int64_t index = row % sizes[i];
      for (size_t k = 0; k < N; ++k) at[k] += index * strides[i][k];
    }
    return at;
  }

  // Calls f(at, y_at, n) for pieces of rows, of at most kTile elements, that cover the result: n elements from y_at on,
  // the operands from at[0], at[1], ... on with strides inner().
  template <class F>
  void for_pieces(const F& f) const {
    int64_t n_rows = 1;
    for (int i = 0; i < rank - 1; ++i) n_rows *= sizes[i];
    const int64_t n = width(), pieces = (n + kTile - 1) / kTile;
    parallel_chunks(n_rows * pieces, rows_per_tile(n), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / pieces, first = i % pieces * kTile;
        std::array<int64_t, N> at = begin_of(row);
        for (size_t k = 0; k < N; ++k) at[k] += first * inner()[k];
        f(at, row * n + first, std::min(kTile, n - first));
      }
    });
  }
};

}  // namespace rondo::cpu
