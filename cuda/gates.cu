// The two gates: geglu of the feed-forward layers and the fixed gate of the recurrent states.
#include "cuda/launch.cuh"

namespace rondo {
namespace {

using namespace cuda;

// E is what activations are kept in, T what is computed in.
template <class E, class T = computed_t<E>>
struct Geglu {
  int64_t width;
  const E* x;
  E* y;
  __device__ void operator()(int64_t i) const {
    const E* a = x + i / width * 2 * width + i % width;
    y[i] = E(T(a[0]) * Gelu().value(T(a[width])));
  }
};
template <class E, class T = computed_t<E>>
struct GegluBackward {
  int64_t width;
  const E *dy, *x;
  E* dx;
  __device__ void operator()(int64_t i) const {
    const int64_t at = i / width * 2 * width + i % width;
    const T d = T(dy[i]), a = T(x[at]), gate = T(x[at + width]), cdf = normal_cdf(gate);
    dx[at] = E(d * (gate * cdf));
    dx[at + width] = E(d * a * Gelu::slope_at(gate, cdf));
  }
};

template <class T>
struct StateGate {
  int64_t d;
  const T *c, *z, *beta;
  T* y;
  __device__ void operator()(int64_t i) const {
    const T g = Sigmoid().value(beta[i % d]);
    y[i] = g * z[i] + (T(1) - g) * c[i];
  }
};
// dc = (1 - g) dy, dz = g dy; each row's part of dbeta is g (1 - g) dy (z - c).
template <class T>
struct StateGateBackward {
  int64_t d;
  const T *dy, *c, *z, *beta;
  T *dc, *dz, *parts;
  __device__ void operator()(int64_t i) const {
    const T g = Sigmoid().value(beta[i % d]);
    dc[i] = dy[i] * (T(1) - g);
    dz[i] = dy[i] * g;
    parts[i] = dy[i] * (z[i] - c[i]) * g * (T(1) - g);
  }
};

}  // namespace

void geglu_forward(Cuda, const Tensor& x, const Tensor& y) {
  dispatch_activation(x.dtype(), [&]<class T>() {
    for_each(y.numel(), Geglu<T>{row_width(y), data<T>(x), data<T>(y)});
  });
}

void geglu_backward(Cuda, const Tensor& dy, const Tensor& x, const Tensor& dx) {
  dispatch_activation(x.dtype(), [&]<class T>() {
    for_each(dy.numel(), GegluBackward<T>{row_width(dy), data<T>(dy), data<T>(x), data<T>(dx)});
  });
}

void state_gate_forward(Cuda, const Tensor& c, const Tensor& z, const Tensor& beta, const Tensor& y) {
  dispatch_float(c.dtype(), [&]<class T>() {
    for_each(c.numel(), StateGate<T>{beta.numel(), data<T>(c), data<T>(z), data<T>(beta), data<T>(y)});
  });
}

void state_gate_backward(Cuda, const Tensor& dy, const Tensor& c, const Tensor& z, const Tensor& beta, const Tensor& dc,
                         const Tensor& dz, const Tensor& dbeta) {
  const Tensor parts = empty_like(c);
  dispatch_float(c.dtype(), [&]<class T>() {
    for_each(c.numel(), StateGateBackward<T>{beta.numel(), data<T>(dy), data<T>(c), data<T>(z), data<T>(beta),
                                             data<T>(dc), data<T>(dz), data<T>(parts)});
  });
  sum_to(Cuda{}, parts, dbeta);
}

}  // namespace rondo
