// The two gates: geglu of the feed-forward layers and the fixed gate of the recurrent states. A thread has kN numbers
// side by side in a row.
#include "cuda/pack.cuh"

namespace rondo {
namespace {

using namespace cuda;

template <class E, int kN>
struct Geglu {
  int64_t width;
  const E* x;
  E* y;
  __device__ void operator()(int64_t run) const {
    const int64_t i = run * kN;
    const E* from = x + i + i / width * width;
    computed_t<E> a[kN], gate[kN];
    load_numbers(from, a);
    load_numbers(from + width, gate);
#pragma unroll
    for (int e = 0; e < kN; ++e) a[e] *= Gelu().value(gate[e]);
    store_numbers(a, y + i);
  }
};
template <class E, int kN>
struct GegluBackward {
  int64_t width;
  const E *dy, *x;
  E* dx;
  __device__ void operator()(int64_t run) const {
    using T = computed_t<E>;
    const int64_t i = run * kN, at = i + i / width * width;
    T d[kN], a[kN], gate[kN];
    load_numbers(dy + i, d);
    load_numbers(x + at, a);
    load_numbers(x + at + width, gate);
#pragma unroll
    for (int e = 0; e < kN; ++e) {
      const T g = gate[e], cdf = normal_cdf(g);
      gate[e] = d[e] * a[e] * Gelu::slope_at(g, cdf);
      a[e] = d[e] * (g * cdf);
    }
    store_numbers(a, dx + at);
    store_numbers(gate, dx + at + width);
  }
};

template <class T, int kN>
struct StateGate {
  int64_t d;
  const T *c, *z, *beta;
  T* y;
  __device__ void operator()(int64_t run) const {
    const int64_t i = run * kN;
    T old[kN], now[kN], b[kN];
    load_numbers(c + i, old);
    load_numbers(z + i, now);
    load_numbers(beta + i % d, b);
#pragma unroll
    for (int e = 0; e < kN; ++e) {
      const T g = Sigmoid().value(b[e]);
      now[e] = g * now[e] + (T(1) - g) * old[e];
    }
    store_numbers(now, y + i);
  }
};
// dc = (1 - g) dy, dz = g dy; each row's part of dbeta is g (1 - g) dy (z - c).
template <class T, int kN>
struct StateGateBackward {
  int64_t d;
  const T *dy, *c, *z, *beta;
  T *dc, *dz, *parts;
  __device__ void operator()(int64_t run) const {
    const int64_t i = run * kN;
    T v[kN], old[kN], now[kN], b[kN];
    load_numbers(dy + i, v);
    load_numbers(c + i, old);
    load_numbers(z + i, now);
    load_numbers(beta + i % d, b);
#pragma unroll
    for (int e = 0; e < kN; ++e) {
      const T g = Sigmoid().value(b[e]), rest = T(1) - g;
      b[e] = v[e] * (now[e] - old[e]) * g * rest;
      old[e] = v[e] * rest, now[e] = v[e] * g;
    }
    store_numbers(old, dc + i);
    store_numbers(now, dz + i);
    store_numbers(b, parts + i);
  }
};

}  // namespace

void geglu_forward(Cuda, const Tensor& x, const Tensor& y) {
  const int64_t width = row_width(y);
  dispatch_activation(x.dtype(), [&]<class E>() {
    dispatch_run<E>(width, [&]<int kN>() { for_each(y.numel() / kN, Geglu<E, kN>{width, data<E>(x), data<E>(y)}); });
  });
}

void geglu_backward(Cuda, const Tensor& dy, const Tensor& x, const Tensor& dx) {
  const int64_t width = row_width(dy);
  dispatch_activation(x.dtype(), [&]<class E>() {
    dispatch_run<E>(width, [&]<int kN>() {
      for_each(dy.numel() / kN, GegluBackward<E, kN>{width, data<E>(dy), data<E>(x), data<E>(dx)});
    });
  });
}

void state_gate_forward(Cuda, const Tensor& c, const Tensor& z, const Tensor& beta, const Tensor& y) {
  dispatch_float(c.dtype(), [&]<class T>() {
    dispatch_run<T>(beta.numel(), [&]<int kN>() {
      for_each(c.numel() / kN, StateGate<T, kN>{beta.numel(), data<T>(c), data<T>(z), data<T>(beta), data<T>(y)});
    });
  });
}

void state_gate_backward(Cuda, const Tensor& dy, const Tensor& c, const Tensor& z, const Tensor& beta, const Tensor& dc,
                         const Tensor& dz, const Into& dbeta) {
  const Tensor parts = empty_like(c);
  dispatch_float(c.dtype(), [&]<class T>() {
    dispatch_run<T>(beta.numel(), [&]<int kN>() {
      for_each(c.numel() / kN, StateGateBackward<T, kN>{beta.numel(), data<T>(dy), data<T>(c), data<T>(z),
                                                        data<T>(beta), data<T>(dc), data<T>(dz), data<T>(parts)});
    });
  });
  sum_to(Cuda{}, parts, dbeta);
}

}  // namespace rondo
