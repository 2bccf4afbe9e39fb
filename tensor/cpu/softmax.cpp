// Softmax over rows: the maximum is taken off before the exponentials.
#include <cmath>

#include "tensor/cpu/lanes.h"
#include "tensor/cpu/rows.h"
#include "tensor/cpu/softmax.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

using namespace cpu;

// Calls f(in, n, out) for every row of x and y.
template <class T, class F>
void for_rows(const Tensor& x, const Tensor& y, const F& f) {
  const int64_t n = row_width(x);
  const T* xs = x.data<T>();
  T* ys = y.data<T>();
  parallel_chunks(row_count(x), rows_per_tile(n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(xs + i * n, n, ys + i * n);
  });
}

// Calls f(dy, y, n, dx) for every row.
template <class T, class F>
void for_rows(const Tensor& dy, const Tensor& y, const Tensor& dx, const F& f) {
  const int64_t n = row_width(y);
  const T *dys = dy.data<T>(), *ys = y.data<T>();
  T* dxs = dx.data<T>();
  parallel_chunks(row_count(y), rows_per_tile(n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(dys + i * n, ys + i * n, n, dxs + i * n);
  });
}

// A row minus its maximum that fills N short lanes, the last ones perhaps in part, and so is never out of registers:
// what was just stored in part takes long to load.
template <int N, class T>
struct Held {
  static constexpr int64_t S = kShort<T>;
  const int64_t last;
  LanesOf<T, S> lanes[N];

  Held(const T* row, int64_t n) : last(n - (N - 1) * S) {
    const T top = lane_max(n, row);
    for (int64_t i = 0; i < N; ++i)
      lanes[i] = (i < N - 1 ? LanesOf<T, S>(lanes_at<S>(row + i * S)) : some_lanes(row + i * S, last)) - top;
  }
  LanesOf<T, S> exp(int64_t i) const {
    const LanesOf<T, S> e = exp_lanes(lanes[i]);
    return i == N - 1 ? only_some(e, last) : e;
  }
  // Stores f(i) where lanes[i] come from.
  template <class F>
  void put(T* out, const F& f) const {
    for (int64_t i = 0; i < N - 1; ++i) put_lanes<S>(out + i * S, f(i));
    put_some_lanes(out + (N - 1) * S, f(N - 1), last);
  }
};

template <int N, class T>
void softmax_held(const T* row, int64_t n, T* out) {
  Held<N, T> held(row, n);
  LanesOf<T, kShort<T>> sums = LanesOf<T, kShort<T>>::Zero();
  for (int64_t i = 0; i < N; ++i) sums += held.lanes[i] = held.exp(i);
  const T factor = T(1) / sums.sum();
  held.put(out, [&](int64_t i) { return held.lanes[i] * factor; });
}

template <int N, class T>
void log_softmax_held(const T* row, int64_t n, T* out) {
  const Held<N, T> held(row, n);
  LanesOf<T, kShort<T>> sums = LanesOf<T, kShort<T>>::Zero();
  for (int64_t i = 0; i < N; ++i) sums += held.exp(i);
  const T log_sum = std::log(sums.sum());
  held.put(out, [&](int64_t i) { return held.lanes[i] - log_sum; });
}

}  // namespace

void softmax_forward(Cpu, const Tensor& x, const Tensor& y) {
  dispatch_float(x.dtype(), [&]<class T>() {
    for_rows<T>(x, y, [](const T* row, int64_t n, T* out) {
      if (n <= kShort<T>) return softmax_held<1>(row, n, out);
      if (n <= 2 * kShort<T>) return softmax_held<2>(row, n, out);
      const T top = lane_max(n, row);
      const auto value = [=](const auto& v) { return exp_lanes(v - top); };
      lane_map(n, out, value, row);
      const T factor = T(1) / lane_sum<T>(n, kSelf, out);
      const auto normalize = [=](const auto& v) { return v * factor; };
      lane_map(n, out, normalize, out);
    });
  });
}

// dx = y * (dy - <dy, y>)
void softmax_backward(Cpu, const Tensor& dy, const Tensor& y, const Tensor& dx) {
  dispatch_float(y.dtype(), [&]<class T>() {
    for_rows<T>(dy, y, dx, [](const T* drow, const T* row, int64_t n, T* out) {
      const T dot = lane_sum<T>(n, kProduct, drow, row);
      const auto into_dx = [=](const auto& d, const auto& v) { return v * (d - dot); };
      lane_map(n, out, into_dx, drow, row);
    });
  });
}

void log_softmax_forward(Cpu, const Tensor& x, const Tensor& y) {
  dispatch_float(x.dtype(), [&]<class T>() {
    for_rows<T>(x, y, [](const T* row, int64_t n, T* out) {
      if (n <= kShort<T>) return log_softmax_held<1>(row, n, out);
      if (n <= 2 * kShort<T>) return log_softmax_held<2>(row, n, out);
      const LogSumExp<T> lse = log_sum_exp(row, n);
      // In this order: the two largest numbers go first, and the small one keeps its digits.
      const auto value = [=](const auto& v) { return (v - lse.top) - lse.log_sum; };
      lane_map(n, out, value, row);
    });
  });
}

// dx = dy - exp(y) * sum(dy)
void log_softmax_backward(Cpu, const Tensor& dy, const Tensor& y, const Tensor& dx) {
  dispatch_float(y.dtype(), [&]<class T>() {
    for_rows<T>(dy, y, dx, [](const T* drow, const T* row, int64_t n, T* out) {
      const T total = lane_sum<T>(n, kSelf, drow);
      const auto into_dx = [=](const auto& d, const auto& v) -> plain_t<decltype(v)> {
        return d - exp_lanes(v) * total;
      };
      lane_map(n, out, into_dx, drow, row);
    });
  });
}

}  // namespace rondo
