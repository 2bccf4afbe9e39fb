// Walking over a result whose operands are strided views of their buffers: broadcast, permuted, or both.
#pragma once
#include <array>
#include <type_traits>

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

  // A row of the result, which runs along the innermost dimension, and where the operands begin in it.
  struct Row {
    std::array<int64_t, N> at = {};
    int64_t index[Shape::kMaxRank] = {};
  };
  Row row(int64_t number) const {
    Row to;
    for (int i = rank - 2; i >= 0; number /= sizes[i--]) {
      to.index[i] = number % sizes[i];
      for (size_t k = 0; k < N; ++k) to.at[k] += to.index[i] * strides[i][k];
    }
    return to;
  }
  // To the next row, without a division: rows may be short.
  void advance(Row& row) const {
    for (int i = rank - 2; i >= 0; --i) {
      const bool over = ++row.index[i] == sizes[i];
      for (size_t k = 0; k < N; ++k) row.at[k] += (over ? 1 - sizes[i] : 1) * strides[i][k];
      if (!over) return;
      row.index[i] = 0;
    }
  }

  // Calls f(at, y_at, n) for pieces of rows, of at most kTile elements, that cover the result: n elements from y_at on,
  // the operands from at[0], at[1], ... on with strides inner().
  template <class F>
  void for_pieces(const F& f) const {
    int64_t n_rows = 1;
    for (int i = 0; i < rank - 1; ++i) n_rows *= sizes[i];
    const int64_t n = width(), pieces = (n + kTile - 1) / kTile;
    parallel_chunks(n_rows * pieces, rows_per_tile(n), [&](int64_t begin, int64_t end) {
      Row row = this->row(begin / pieces);
      int64_t y_at = begin / pieces * n, first = begin % pieces * kTile;
      for (int64_t i = begin; i < end; ++i) {
        std::array<int64_t, N> at = row.at;
        for (size_t k = 0; k < N; ++k) at[k] += first * inner()[k];
        f(at, y_at + first, std::min(kTile, n - first));
        first += kTile;
        if (first < n) continue;
        advance(row), first = 0, y_at += n;
      }
    });
  }
};

// f(step), where the compiler knows an operand's step along a row: 0 where it is repeated, else 1.
template <class F>
void with_step(int64_t step, F&& f) {
  if (step == 0) return f(std::integral_constant<int64_t, 0>());
  f(std::integral_constant<int64_t, 1>());
}

}  // namespace rondo::cpu
