// Walking over a result whose operands are strided views of their buffers: broadcast, permuted, or both.
#pragma once
#include <algorithm>
#include <array>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tensor/broadcast.h"
#include "tensor/cpu/rows.h"

namespace rondo::cpu {

// A run of an operand: p[0], p[step], ...
template <class T>
struct Run {
  const T* p;
  int64_t step;
};

inline constexpr int64_t kInRun = 1024;
// Short rows of an operand as runs of many, kInRun elements at most: where they lie, or written out if they are
// repeated.
template <class T>
class ManyRows {
 public:
  struct Of {
    const T* p;
    int64_t stride, step, width;  // from row to row, and within one: 0 or 1
  };
  ManyRows(const Of& of) : of_(of) {}

  const T* operator()(int64_t first, int64_t n) {
    const auto [p, stride, step, width] = of_;
    if (step == 1 && stride == width) return p + first * width;
    if (stride == 0 && n <= n_written_) return written_;
    const T* from = p + first * stride;
    T* to = written_;
    for (int64_t i = 0; i < n; ++i, from += stride, to += width)
      step == 0 ? repeat(*from, width, to) : void(std::copy_n(from, width, to));
    n_written_ = n;
    return written_;
  }

 private:
  // By whole vectors: into what is written next, or never read.
  static void repeat(T number, int64_t n, T* to) {
    for (int64_t j = 0; j < n; j += kOnce)
      for (int64_t k = 0; k < kOnce; ++k) to[j + k] = number;
  }
  static constexpr int64_t kOnce = 64 / sizeof(T);
  Of of_;
  int64_t n_written_ = 0;
  T written_[kInRun + kOnce];
};

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

  // Up to this width rows are faster as runs of many. A number a row takes longer to write out than a row.
  int64_t short_row() const {
    int64_t widest = rank == 2 ? 128 : 0;
    for (const int64_t step : inner())
      if (step != 1) widest = std::min<int64_t>(widest, step == 0 ? 48 : 0);
    return widest;
  }

  // Calls f(y_at, n, run...) for runs that cover the result: n elements from y_at on, made of those of each operand's
  // run. Operand k begins at the k-th p. A run is a piece of a row, of at most kTile elements, or many short rows.
  template <class F, class... T>
  void for_runs(const F& f, const T*... p) const {
    static_assert(sizeof...(T) == N);
    int64_t n_rows = 1;
    for (int i = 0; i < rank - 1; ++i) n_rows *= sizes[i];
    const int64_t n = width(), pieces = (n + kTile - 1) / kTile;
    const bool short_rows = n <= short_row();
    const int64_t at_once = short_rows ? kInRun / n : 1;
    const auto runs = [&]<size_t... K>(std::index_sequence<K...>, int64_t begin, int64_t end) {
      std::tuple<ManyRows<T>...> rows(typename ManyRows<T>::Of{p, strides[0][K], inner()[K], n}...);
      Row row = this->row(begin / pieces);
      int64_t y_at = begin / pieces * n, first = begin % pieces * kTile;
      for (int64_t i = begin; i < end; i += at_once) {
        const int64_t many = std::min(at_once, end - i), length = short_rows ? many * n : std::min(kTile, n - first);
        f(y_at + first, length,
          (short_rows ? Run<T>{std::get<K>(rows)(i, many), 1}
                      : Run<T>{p + row.at[K] + first * inner()[K], inner()[K]})...);
        first += kTile;
        if (first < n) continue;
        advance(row), first = 0, y_at += many * n;
      }
    };
    parallel_chunks(n_rows * pieces, rows_per_tile(n),
                    [&](int64_t begin, int64_t end) { runs(std::index_sequence_for<T...>(), begin, end); });
  }
};

// f(step), where the compiler knows an operand's step along a row: 0 where it is repeated, else 1.
template <class F>
void with_step(int64_t step, F&& f) {
  if (step == 0) return f(std::integral_constant<int64_t, 0>());
  f(std::integral_constant<int64_t, 1>());
}

}  // namespace rondo::cpu
