// Elementwise kernels; the maths is in tensor/functors.h, shared with the CPU.
#include <variant>

#include "cuda/pack.cuh"
#include "cuda/strided.cuh"

namespace rondo {
namespace {

using namespace cuda;

template <class F, class T>
struct Map {
  F f;
  const T* x;
  T* y;
  __device__ void operator()(int64_t i) const { y[i] = f.value(x[i]); }
};
template <class F, class T>
struct MapBackward {
  F f;
  const T *dy, *x, *y;
  T* dx;
  __device__ void operator()(int64_t i) const { dx[i] = chained(f, dy[i], x[i], y[i]); }
};
// Which function it is, is an argument of the kernel: choosing takes less time than reading, and a kernel for each
// would be much code.
template <class T>
__device__ T combined(Binary how, T u, T v) {
  switch (how) {
    case Binary::add:
      return u + v;
    case Binary::sub:
      return u - v;
    case Binary::mul:
      return u * v;
    case Binary::div:
      return u / v;
    case Binary::larger:
      return larger(u, v);
    case Binary::smaller:
      return smaller(u, v);
    case Binary::above:
      return above(u, v);
    case Binary::passed:
      break;
  }
  return passed(u, v);
}
// An operand that is repeated to the shape of y, kN numbers at a time: they lie side by side, or are one and the same.
template <class T, int kN>
struct Repeated {
  Strided place;
  const T* x;
  __device__ void load(int64_t i, T (&v)[kN]) const {
    const T* from = x + place(i);
    if (kN > 1 && place.inner == 1) return load_numbers(from, v);
    for (T& e : v) e = *from;
  }
};
template <class T, int kN>
struct Combine {
  Binary how;
  Repeated<T, kN> a, b;
  T* y;
  __device__ void operator()(int64_t run) const {
    T u[kN], v[kN];
    a.load(run * kN, u);
    b.load(run * kN, v);
#pragma unroll
    for (int e = 0; e < kN; ++e) u[e] = combined(how, u[e], v[e]);
    store_numbers(u, y + run * kN);
  }
};
template <class T>
struct CombineAlike {  // operands of the shape of y
  Binary how;
  const T *a, *b;
  T* y;
  template <int n>
  __device__ void operator()(int64_t i, Count<n>) const {
    T u[n], v[n];
    load_numbers(a + i, u);
    load_numbers(b + i, v);
#pragma unroll
    for (int e = 0; e < n; ++e) u[e] = combined(how, u[e], v[e]);
    store_numbers(u, y + i);
  }
};

}  // namespace

void unary(Cuda, const Unary& how, const Tensor& x, const Tensor& y) {
  dispatch_float(x.dtype(), [&]<class T>() {
    std::visit([&]<class F>(const F& f) { for_each(x.numel(), Map<F, T>{f, data<T>(x), data<T>(y)}); }, how);
  });
}

void unary_backward(Cuda, const Unary& how, const Tensor& dy, const Tensor& x, const Tensor& y, const Tensor& dx) {
  dispatch_float(dy.dtype(), [&]<class T>() {
    std::visit(
        [&]<class F>(const F& f) {
          for_each(dy.numel(), MapBackward<F, T>{f, data<T>(dy), data<T>(x), data<T>(y), data<T>(dx)});
        },
        how);
  });
}

void binary(Cuda, Binary how, const Tensor& a, const Tensor& b, const Tensor& y) {
  const Strided place_a(y.shape(), broadcast_strides(a.shape(), y.shape())),
      place_b(y.shape(), broadcast_strides(b.shape(), y.shape()));
  dispatch_float(y.dtype(), [&]<class T>() {
    if (a.shape() == y.shape() && b.shape() == y.shape())
      return for_each_run<kPerLoad<T>>(y.numel(), CombineAlike<T>{how, data<T>(a), data<T>(b), data<T>(y)});
    const auto run = [&]<int kN>(Count<kN>) {
      for_each(y.numel() / kN, Combine<T, kN>{how, {place_a, data<T>(a)}, {place_b, data<T>(b)}, data<T>(y)});
    };
    constexpr int kRun = kPerLoad<T>;
    const auto in_runs = [](const Strided& place) { return place.has_runs(kRun) || place.repeats(kRun); };
    in_runs(place_a) && in_runs(place_b) ? run(Count<kRun>()) : run(Count<1>());
  });
}

}  // namespace rondo
