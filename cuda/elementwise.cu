// Elementwise kernels; the maths is in tensor/functors.h, shared with the CPU.
#include <variant>

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
  __device__ void operator()(int64_t i) const { dx[i] = dy[i] * f.slope(x[i], y[i]); }
};
template <Binary how, class T>
struct Combine {
  Strided place_a, place_b;
  const T *a, *b;
  T* y;
  __device__ void operator()(int64_t i) const {
    const T u = a[place_a(i)], v = b[place_b(i)];
    if constexpr (how == Binary::add) y[i] = u + v;
    if constexpr (how == Binary::sub) y[i] = u - v;
    if constexpr (how == Binary::mul) y[i] = u * v;
    if constexpr (how == Binary::div) y[i] = u / v;
  }
};

template <Binary how>
void combine(const Tensor& a, const Tensor& b, const Tensor& y) {
  const Strided place_a(y.shape(), broadcast_strides(a.shape(), y.shape())),
      place_b(y.shape(), broadcast_strides(b.shape(), y.shape()));
  dispatch_float(y.dtype(), [&]<class T>() {
    for_each(y.numel(), Combine<how, T>{place_a, place_b, data<T>(a), data<T>(b), data<T>(y)});
  });
}

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
  switch (how) {
    case Binary::add:
      return combine<Binary::add>(a, b, y);
    case Binary::sub:
      return combine<Binary::sub>(a, b, y);
    case Binary::mul:
      return combine<Binary::mul>(a, b, y);
    case Binary::div:
      return combine<Binary::div>(a, b, y);
  }
}

}  // namespace rondo
