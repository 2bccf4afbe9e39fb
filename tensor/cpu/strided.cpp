// Copies of strided views: permutations and broadcasts.
#include "tensor/cpu/strided.h"

#include "tensor/kernels.h"

namespace rondo {
namespace {

using namespace cpu;

template <class U>
void copy_pieces(const Walk<1>& walk, const U* x, U* y) {
  const int64_t stride = walk.inner()[0];
  walk.for_pieces([&](std::array<int64_t, 1> at, int64_t y_at, int64_t n) {
    const U* from = x + at[0];
    U* to = y + y_at;
    if (stride == 1)
      std::copy(from, from + n, to);
    else if (stride == 0)
      std::fill(to, to + n, *from);
    else
      for (int64_t i = 0; i < n; ++i) to[i] = from[i * stride];
  });
}

// Where x runs along dimension k of y, one row of y alone would read a cache line for every element: go by squares.
template <class U>
void copy_squares(const Walk<1>& walk, int k, const U* x, U* y) {
  constexpr int64_t kSide = 32;
  const int64_t n = walk.width(), stride = walk.inner()[0], n_down = walk.sizes[k];
  int64_t down = 1, n_above = 1;  // the distance of neighbours along k in y, and the number of planes
  for (int i = walk.rank - 1; i > k; --i) down *= walk.sizes[i];
  for (int i = 0; i < walk.rank - 1; ++i) n_above *= i == k ? 1 : walk.sizes[i];
  const int64_t bands = (n_down + kSide - 1) / kSide, rows_below = down / n;
  parallel_for(n_above * bands, [&](int64_t unit) {
    const int64_t plane = unit / bands, first = unit % bands * kSide, rows = std::min(kSide, n_down - first);
    const int64_t row = (plane / rows_below * n_down + first) * rows_below + plane % rows_below;
    const U* from = x + walk.begin_of(row)[0];
    U* to = y + row * n;
    for (int64_t j = 0; j < n; j += kSide)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t m = j; m < std::min(j + kSide, n); ++m) to[i * down + m] = from[i + m * stride];
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
  copy_pieces(walk, xs, ys);
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
