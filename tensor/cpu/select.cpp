// Comparing, choosing between two tensors, and choosing one element of each line.
#include <algorithm>
#include <type_traits>

#include "tensor/cpu/rows.h"
#include "tensor/cpu/strided.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

using namespace cpu;

// f(how), which the compiler then knows.
template <class F>
void with_relation(Relation how, F&& f) {
  switch (how) {
    case Relation::equal:
      return f(std::integral_constant<Relation, Relation::equal>());
    case Relation::not_equal:
      return f(std::integral_constant<Relation, Relation::not_equal>());
    case Relation::less:
      return f(std::integral_constant<Relation, Relation::less>());
    case Relation::less_equal:
      return f(std::integral_constant<Relation, Relation::less_equal>());
  }
}

template <class How, class T>
void compare_run(How how, Run<T> a, Run<T> b, uint8_t* __restrict mask, int64_t n) {
  with_step(a.step, [&](auto of_a) {
    with_step(b.step, [&](auto of_b) {
      for (int64_t i = 0; i < n; ++i) mask[i] = holds(how, computed_t<T>(a.p[i * of_a]), computed_t<T>(b.p[i * of_b]));
    });
  });
}

template <class U>
void where_run(Run<uint8_t> mask, Run<U> a, Run<U> b, U* __restrict y, int64_t n) {
  with_step(mask.step, [&](auto of_mask) {
    with_step(a.step, [&](auto of_a) {
      with_step(b.step, [&](auto of_b) {
        for (int64_t i = 0; i < n; ++i) {
          const U u = a.p[i * of_a], v = b.p[i * of_b];  // both, or a choice becomes a jump
          y[i] = mask.p[i * of_mask] ? u : v;
        }
      });
    });
  });
}

// f(line, place of its first element) for all lines.
template <class F>
void for_each_line(const Lines& lines, F&& f) {
  parallel_chunks(lines.count(), rows_per_tile(lines.n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i, lines.first(i));
  });
}

constexpr int64_t kColumns = 256;  // side by side

// Of `width` columns of n rows that lie `stride` apart.
template <class T>
void largest_of_columns(const T* x, int64_t n, int64_t stride, int64_t width, int64_t* index) {
  T tops[kColumns];
  std::copy(x, x + width, tops);
  std::fill(index, index + width, 0);
  for (int64_t j = 1; j < n; ++j)
    for (int64_t i = 0; i < width; ++i) {
      const T v = x[j * stride + i];
      const bool better = beats(v, tops[i]);
      tops[i] = better ? v : tops[i], index[i] = better ? j : index[i];
    }
}

// The largest number first, then where it is: one loop for both would not be vectorised.
template <class T>
int64_t largest_of_row(const T* x, int64_t n) {
  constexpr int64_t kAtOnce = 64;
  const T top = flat(x, n).template maxCoeff<Eigen::PropagateNaN>();
  const auto is_top = [&](T v) { return (v == top) | (v != v); };
  int64_t j = 0;
  for (; j + kAtOnce <= n; j += kAtOnce) {
    int found = 0;  // counted, not or-ed, which would not be vectorised either
    for (int64_t i = j; i < j + kAtOnce; ++i) found += is_top(x[i]);
    if (found > 0) break;
  }
  while (!is_top(x[j])) ++j;
  return j;
}

}  // namespace

void compare(Cpu, Relation how, const Tensor& a, const Tensor& b, const Tensor& mask) {
  if (mask.numel() == 0) return;
  const Shape& shape = mask.shape();
  const Walk<2> walk(shape, {broadcast_strides(a.shape(), shape), broadcast_strides(b.shape(), shape)});
  uint8_t* const to = mask.data<uint8_t>();
  dispatch_any(a.dtype(), [&]<class T>() {
    const auto run = [&](int64_t at, int64_t n, Run<T> of_a, Run<T> of_b) {
      with_relation(how, [&](auto relation) { compare_run(relation, of_a, of_b, to + at, n); });
    };
    walk.for_runs(run, a.data<T>(), b.data<T>());
  });
}

void where(Cpu, const Tensor& mask, const Tensor& a, const Tensor& b, const Tensor& y) {
  if (y.numel() == 0) return;
  const auto strides = [&](const Tensor& t) { return broadcast_strides(t.shape(), y.shape()); };
  const Walk<3> walk(y.shape(), {strides(mask), strides(a), strides(b)});
  dispatch_any(y.dtype(), [&]<class T>() {
    T* const ys = y.data<T>();
    const auto run = [&](int64_t at, int64_t n, Run<uint8_t> chosen, Run<T> of_a, Run<T> of_b) {
      where_run(chosen, of_a, of_b, ys + at, n);
    };
    walk.for_runs(run, mask.data<uint8_t>(), a.data<T>(), b.data<T>());
  });
}

void argmax(Cpu, const Tensor& x, const Lines& lines, const Tensor& index) {
  const int64_t bands = (lines.inner + kColumns - 1) / kColumns, width = std::min(lines.inner, kColumns);
  int64_t* to = index.data<int64_t>();
  dispatch_float(x.dtype(), [&]<class T>() {
    const T* xs = x.data<T>();
    parallel_chunks(lines.outer * bands, rows_per_tile(lines.n * width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t outer = i / bands, column = i % bands * kColumns, n = std::min(kColumns, lines.inner - column);
        const T* from = xs + outer * lines.n * lines.inner + column;
        if (lines.inner == 1)
          to[outer] = largest_of_row(from, lines.n);
        else
          largest_of_columns(from, lines.n, lines.inner, n, to + outer * lines.inner + column);
      }
    });
  });
}

void pick_forward(Cpu, const Tensor& x, const Lines& lines, const Tensor& index, const Tensor& y) {
  const int64_t* chosen = index.data<int64_t>();
  dispatch_float(x.dtype(), [&]<class T>() {
    const T* xs = x.data<T>();
    T* ys = y.data<T>();
    for_each_line(lines, [&](int64_t line, int64_t first) { ys[line] = xs[first + chosen[line] * lines.inner]; });
  });
}

void pick_backward(Cpu, const Tensor& dy, const Lines& lines, const Tensor& index, const Tensor& dx) {
  fill(Cpu{}, 0, dx);
  const int64_t* chosen = index.data<int64_t>();
  dispatch_float(dy.dtype(), [&]<class T>() {
    const T* dys = dy.data<T>();
    T* dxs = dx.data<T>();
    for_each_line(lines, [&](int64_t line, int64_t first) { dxs[first + chosen[line] * lines.inner] = dys[line]; });
  });
}

}  // namespace rondo
