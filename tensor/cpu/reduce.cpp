// Sums. Few numbers are added in a row before their sum joins other sums of its size: rounding errors grow with the
// depth of this tree, not with the number of elements.
#include "tensor/cpu/reduce.h"

#include <algorithm>

#include "tensor/cpu/lanes.h"
#include "tensor/cpu/rows.h"
#include "tensor/cpu/scratch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace cpu {
namespace {

constexpr int64_t kColumns = 512;  // of one unit of work
constexpr int64_t kNarrow = 64;    // rows worth taking several of for one

// The sum of n neighbours, by halves down to a few lanes.
template <class T>
T sum_run(const T* x, int64_t n) {
  if (n <= 8 * kLanes<T>) return lane_sum<T>(n, kSelf, x);
  const int64_t half = n / 2 / kLanes<T> * kLanes<T>;
  return sum_run(x, half) + sum_run(x + half, n - half);
}

// y [width] = the sum of n_rows rows that lie `stride` apart, by halves down to 8 rows.
template <class T>
void sum_columns(const T* x, int64_t n_rows, int64_t stride, int64_t width, T* y) {
  if (n_rows <= 8) {
    auto total = flat(y, width);
    const auto row = [&](int64_t i) { return flat(x + i * stride, width); };
    int64_t i = n_rows % 2;
    if (i)
      total = row(0);
    else
      total = row(0) + row(1), i = 2;
    for (; i < n_rows; i += 2) total += row(i) + row(i + 1);
    return;
  }
  Scratch scratch;
  T* rest = scratch.get<T>(width);
  const int64_t half = n_rows / 2;
  sum_columns(x, half, stride, width, y);
  sum_columns(x + half * stride, n_rows - half, stride, width, rest);
  flat(y, width) += flat(rest, width);
}

// y [width] = the sum of many narrow rows: about kColumns numbers of neighbouring ones are first taken for one.
template <class T>
void sum_narrow(const T* x, int64_t n, int64_t width, T* y) {
  const int64_t together = kColumns / width, wide = together * width, n_wide = n / together, left = n % together;
  Scratch scratch;
  T* const sums = scratch.get<T>(wide);
  sum_middle(x, 1, n_wide, wide, sums);
  sum_columns(sums, together, width, width, y);
  if (left == 0) return;
  sum_columns(x + n_wide * wide, left, width, width, sums);
  flat(y, width) += flat(sums, width);
}

}  // namespace

template <class T>
void sum_middle(const T* x, int64_t outer, int64_t n, int64_t inner, T* y) {
  if (n == 0 || outer * inner == 0) return std::fill(y, y + outer * inner, T(0));
  if (outer == 1 && inner > 1 && inner <= kNarrow && n >= 2 * kColumns) return sum_narrow(x, n, inner, y);
  // A unit is a block of the middle by a block of columns; the sums of the blocks are added in the same way.
  const int64_t columns = std::min(inner, kColumns), rows = kTile / columns;
  const int64_t blocks = (n + rows - 1) / rows, bands = (inner + columns - 1) / columns;
  Scratch scratch;
  T* sums = blocks == 1 ? y : scratch.get<T>(outer * blocks * inner);
  parallel_chunks(outer * blocks * bands, rows_per_tile(std::min(rows, n) * columns), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t block = unit / bands, column = unit % bands * columns;  // block counts over all of outer
      const int64_t first = block % blocks * rows, n_rows = std::min(rows, n - first);
      const T* from = x + (block / blocks * n + first) * inner + column;
      T* to = sums + block * inner + column;
      if (inner == 1)
        *to = sum_run(from, n_rows);
      else
        sum_columns(from, n_rows, inner, std::min(columns, inner - column), to);
    }
  });
  if (blocks > 1) sum_middle(sums, outer, blocks, inner, y);
}

template void sum_middle(const float*, int64_t, int64_t, int64_t, float*);
template void sum_middle(const double*, int64_t, int64_t, int64_t, double*);

namespace {

// A shape as runs of neighbouring dimensions that are kept or summed, in turn; those of size 1 belong to any run.
struct Runs {
  int n = 0;
  int64_t sizes[Shape::kMaxRank] = {};
  bool summed[Shape::kMaxRank] = {};

  Runs(const Shape& from, const Shape& to) {
    const int more = from.rank() - to.rank();
    for (int i = 0; i < from.rank(); ++i) {
      if (from[i] == 1) continue;
      const bool sums = i < more || to[i - more] == 1;
      if (n == 0 || summed[n - 1] != sums) sizes[n] = 1, summed[n++] = sums;
      sizes[n - 1] *= from[i];
    }
  }

  int64_t product(int begin, int end) const {
    int64_t p = 1;
    for (int i = begin; i < end; ++i) p *= sizes[i];
    return p;
  }
};

template <class T>
void sum_runs(Runs runs, const T* x, T* y) {
  Scratch scratch;
  int left = int(std::count(runs.summed, runs.summed + runs.n, true));
  if (left == 0) std::copy(x, x + runs.product(0, runs.n), y);
  for (int i = 0; left > 0; ++i) {
    if (!runs.summed[i]) continue;
    const int64_t outer = runs.product(0, i), inner = runs.product(i + 1, runs.n);
    T* to = --left == 0 ? y : scratch.get<T>(outer * inner);
    sum_middle(x, outer, runs.sizes[i], inner, to);
    x = to;
    runs.sizes[i] = 1;
  }
}

}  // namespace
}  // namespace cpu

void sum_to(Cpu, const Tensor& x, const Into& y) {
  const Tensor& sums = y.tensor;
  if (y.adds) {
    const Tensor apart = empty_like(sums);
    sum_to(Cpu{}, x, apart);
    return add_into(Cpu{}, apart, sums);
  }
  if (x.dtype() == DType::bf16) {  // rare, so by way of f32
    const Tensor wide(sums.shape(), DType::f32);
    sum_to(Cpu{}, to(detach(x), DType::f32), wide);
    return copy(Cpu{}, wide, sums);
  }
  dispatch_float(x.dtype(),
                 [&]<class T>() { cpu::sum_runs(cpu::Runs(x.shape(), sums.shape()), x.data<T>(), sums.data<T>()); });
}

}  // namespace rondo
