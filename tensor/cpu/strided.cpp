// Copies of strided views: permutations and broadcasts.
#include "tensor/cpu/strided.h"

#include "tensor/cpu/vector.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

using namespace cpu;

template <class U>
void copy_runs(const Walk<1>& walk, const U* x, U* y) {
  const auto copy = [&](int64_t at, int64_t n, Run<U> from) {
    if (from.step == 1)
      std::copy(from.p, from.p + n, y + at);
    else if (from.step == 0)
      std::fill(y + at, y + at + n, *from.p);
    else
      for (int64_t i = 0; i < n; ++i) y[at + i] = from.p[i * from.step];
  };
  walk.for_runs(copy, x);
}

constexpr int64_t kSide = 16;

// to[i * down + j] = from[i + j * stride] for a square, in registers.
template <class U>
void copy_whole_square(const U* from, int64_t stride, U* to, int64_t down) {
  using R = Register<U>;
  for (int64_t i = 0; i < kSide; i += R::length)
    for (int64_t j = 0; j < kSide; j += R::length) {
      typename R::type rows[R::length];
      for (int64_t k = 0; k < R::length; ++k)
        rows[k] = *reinterpret_cast<const typename R::unaligned*>(from + i + (j + k) * stride);
      transpose_square<U>(rows);
      for (int64_t k = 0; k < R::length; ++k)
        *reinterpret_cast<typename R::unaligned*>(to + (i + k) * down + j) = rows[k];
    }
}

// The same for i < n_down, j < n, by way of a square in the cache where it is no whole one. Both sides are touched a
// whole line at a time: lines whose addresses differ by a power of two push each other out.
template <class U>
void copy_square(const U* from, int64_t stride, U* to, int64_t down, int64_t n_down, int64_t n) {
  if constexpr (sizeof(U) >= 4)
    if (n_down == kSide && n == kSide) return copy_whole_square(from, stride, to, down);
  U square[kSide][kSide];
  for (int64_t j = 0; j < n; ++j) std::copy(from + j * stride, from + j * stride + n_down, square[j]);
  for (int64_t i = 0; i < n_down; ++i)
    for (int64_t j = 0; j < n; ++j) to[i * down + j] = square[j][i];
}

// Where x runs along dimension k of y, one row of y alone would read a cache line for every element: go by squares.
template <class U>
void copy_squares(const Walk<1>& walk, int k, const U* x, U* y) {
  const int64_t n = walk.width(), stride = walk.inner()[0], n_down = walk.sizes[k];
  int64_t down = 1, n_above = 1;  // the distance of neighbours along k in y, and the number of planes
  for (int i = walk.rank - 1; i > k; --i) down *= walk.sizes[i];
  for (int i = 0; i < walk.rank - 1; ++i) n_above *= i == k ? 1 : walk.sizes[i];
  const int64_t bands = (n_down + kSide - 1) / kSide, rows_below = down / n;
  parallel_chunks(n_above * bands, rows_per_tile(kSide * n), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t plane = unit / bands, first = unit % bands * kSide;
      const int64_t row = (plane / rows_below * n_down + first) * rows_below + plane % rows_below;
      const U* from = x + walk.row(row).at[0];
      for (int64_t j = 0; j < n; j += kSide)
        copy_square(from + j * stride, stride, y + row * n + j, down, std::min(kSide, n_down - first),
                    std::min(kSide, n - j));
    }
  });
}

// What only moves needs no dtype, just its width.
template <class U>
void copy_strided(const Walk<1>& walk, const Tensor& x, const Tensor& y) {
  const U* xs = static_cast<const U*>(x.bytes());
  U* ys = static_cast<U*>(y.bytes());
  if (walk.inner()[0] > 1)
    for (int k = 0; k < walk.rank - 1; ++k)
      if (walk.strides[k][0] == 1) return copy_squares(walk, k, xs, ys);
  copy_runs(walk, xs, ys);
}

}  // namespace

void copy_strided(Cpu, const Tensor& x, const Shape& strides, const Tensor& y) {
  if (y.numel() == 0) return;
  const Walk<1> walk(y.shape(), {strides});
  switch (size_of(y.dtype())) {
    case 1:
      return copy_strided<uint8_t>(walk, x, y);
    case 2:
      return copy_strided<uint16_t>(walk, x, y);
    case 4:
      return copy_strided<uint32_t>(walk, x, y);
    default:
      return copy_strided<uint64_t>(walk, x, y);
  }
}

}  // namespace rondo
