// Choosing one element of each line.
#include <algorithm>

#include "tensor/cpu/rows.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

using namespace cpu;

// f(line, place of its first element) for all lines.
template <class F>
void for_each_line(const Lines& lines, F&& f) {
  parallel_chunks(lines.outer * lines.inner, rows_per_tile(lines.n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i, i / lines.inner * lines.n * lines.inner + i % lines.inner);
  });
}

template <class T>
bool is_largest(T x, T top) {
  return (x == top) | (x != x);
}

// top [width] = the largest of n rows that lie `stride` apart.
template <class T>
void largest(const T* x, int64_t n, int64_t stride, int64_t width, T* top) {
  std::copy(x, x + width, top);
  for (int64_t j = 1; j < n; ++j)
    for (int64_t i = 0; i < width; ++i) top[i] = larger(top[i], x[j * stride + i]);
}

constexpr int64_t kColumns = 256;  // side by side

// Of `width` columns of n rows that lie `stride` apart.
template <class T>
void largest_of_columns(const T* x, int64_t n, int64_t stride, int64_t width, int64_t* index) {
  T top[kColumns];
  largest(x, n, stride, width, top);
  for (int64_t j = n - 1; j >= 0; --j)
    for (int64_t i = 0; i < width; ++i) index[i] = is_largest(x[j * stride + i], top[i]) ? j : index[i];
}

template <class T>
int64_t largest_of_row(const T* x, int64_t n) {
  constexpr int64_t kAtOnce = 64;
  const int64_t whole = n / kAtOnce * kAtOnce;
  T tops[kAtOnce], top = x[0];
  if (whole) {
    largest(x, whole / kAtOnce, kAtOnce, kAtOnce, tops);
    for (const T t : tops) top = larger(top, t);
  }
  for (int64_t j = whole; j < n; ++j) top = larger(top, x[j]);

  int64_t j = 0;
  for (; j < whole; j += kAtOnce) {
    int found = 0;
    for (int64_t i = j; i < j + kAtOnce; ++i) found += is_largest(x[i], top);
    if (found > 0) break;
  }
  while (!is_largest(x[j], top)) ++j;
  return j;
}

}  // namespace

// The largest elements first, then where they are: both loops are vectorised, one that remembers places would not be.
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
