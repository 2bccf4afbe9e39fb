// Choosing one element of each line.
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

}  // namespace

void argmax(Cpu, const Tensor& x, const Lines& lines, const Tensor& index) {
  int64_t* to = index.data<int64_t>();
  dispatch_float(x.dtype(), [&]<class T>() {
    const T* xs = x.data<T>();
    for_each_line(lines, [&](int64_t line, int64_t first) {
      int64_t best = 0;
      for (int64_t j = 1; j < lines.n; ++j)
        if (beats(xs[first + j * lines.inner], xs[first + best * lines.inner])) best = j;
      to[line] = best;
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
