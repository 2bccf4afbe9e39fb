// Filling, copying, and the two updates in place that the tape and the optimizers need.
#include <atomic>
#include <cmath>
#include <cstring>

#include "tensor/cpu/lanes.h"
#include "tensor/cpu/rows.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

using namespace cpu;

template <class T>
int64_t first_non_finite(const T* x, int64_t begin, int64_t end) {
  if constexpr (!std::is_same_v<T, bf16>)
    if ((flat(x + begin, end - begin) * T(0)).sum() == T(0)) return -1;  // infinity * 0 is NaN
  for (int64_t i = begin; i < end; ++i)
    if (!std::isfinite(converted<double>(x[i]))) return i;
  return -1;
}

// f(row, where in it, how many) for pieces of rows, which may be few and long (an outermost axis) or many and short.
template <class F>
void each_piece(int64_t n_rows, int64_t width, const F& f) {
  const int64_t pieces = (width + kTile - 1) / kTile;
  parallel_chunks(n_rows * pieces, rows_per_tile(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i % pieces * kTile;
      f(i / pieces, at, std::min(kTile, width - at));
    }
  });
}

}  // namespace

// Dtypes are told apart within a chunk: what is around it is the same code for all of them.
void fill(Cpu, double value, const Tensor& y) {
  parallel_chunks(y.numel(), kTile, [&](int64_t begin, int64_t end) {
    dispatch_any(y.dtype(), [&]<class T>() { std::fill(y.data<T>() + begin, y.data<T>() + end, converted<T>(value)); });
  });
}

void copy(Cpu, const Tensor& x, const Tensor& y) {
  parallel_chunks(x.numel(), kTile, [&](int64_t begin, int64_t end) {
    dispatch_any(x.dtype(), [&]<class From>() {
      dispatch_any(y.dtype(), [&]<class To>() {
        const From* xs = x.data<From>();
        To* ys = y.data<To>();
        for (int64_t i = begin; i < end; ++i) ys[i] = converted<To>(xs[i]);
      });
    });
  });
}

void add_into(Cpu, const Tensor& x, const Tensor& y) { add_rows(Cpu{}, x, {0, 0}, y, {0, 0}, 1, y.numel()); }

void scale_into(Cpu, double factor, const Tensor& y) {
  dispatch_float(y.dtype(), [&]<class T>() {
    T* ys = y.data<T>();
    parallel_chunks(y.numel(), kTile, [&](int64_t begin, int64_t end) { flat(ys + begin, end - begin) *= T(factor); });
  });
}

int64_t first_non_finite(Cpu, const Tensor& x) {
  if (!is_float(x.dtype())) return -1;
  std::atomic<int64_t> first = x.numel();
  dispatch_any(x.dtype(), [&]<class T>() {
    if constexpr (is_float(dtype_of<T>)) {
      const T* xs = x.data<T>();
      parallel_chunks(x.numel(), kTile, [&](int64_t begin, int64_t end) {
        const int64_t here = first_non_finite(xs, begin, end);
        int64_t seen = first;
        while (here >= 0 && here < seen && !first.compare_exchange_weak(seen, here)) {
        }
      });
    }
  });
  return first == x.numel() ? -1 : first.load();
}

void copy_rows(Cpu, const Tensor& x, Rows from, const Tensor& y, Rows to, int64_t n_rows, int64_t width) {
  if (n_rows * width == 0) return;
  const size_t size = size_of(x.dtype());
  const char* xs = static_cast<const char*>(x.bytes()) + size_t(from.offset) * size;
  char* ys = static_cast<char*>(y.bytes()) + size_t(to.offset) * size;
  each_piece(n_rows, width, [&](int64_t row, int64_t at, int64_t n) {
    std::memcpy(ys + size_t(row * to.stride + at) * size, xs + size_t(row * from.stride + at) * size, size_t(n) * size);
  });
}

void add_rows(Cpu, const Tensor& x, Rows from, const Tensor& y, Rows to, int64_t n_rows, int64_t width) {
  if (n_rows * width == 0) return;
  dispatch_activation(y.dtype(), [&]<class T>() {
    const T* xs = x.data<T>() + from.offset;
    T* ys = y.data<T>() + to.offset;
    each_piece(n_rows, width, [&](int64_t row, int64_t at, int64_t n) {
      T* sum = ys + row * to.stride + at;
      lane_map(n, sum, kSum, xs + row * from.stride + at, sum);
    });
  });
}

}  // namespace rondo
