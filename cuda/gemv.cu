// Products of a few rows with the weights: of rows as they are, of their norms, of what goes through GEGLU.
#include "cuda/gemv.cuh"

#include "cuda/norm.cuh"

namespace rondo {
namespace {

using namespace cuda;

template <class T>
struct AsItIs {
  int k;
  const T* x;
  static constexpr int kBlocks = 2;
  template <class F>
  __device__ void operator()(int row, Range r, int thread, int threads, const F& put) const {
    const T* from = x + int64_t(row) * k;
#pragma unroll 8
    for (int i = r.first + thread; i < r.end; i += threads) put(i, from[i]);
  }
};

// Every warp finds the row's mean for itself: that is cheaper than to wait for another.
template <class T>
struct LayerNormed {
  int k;
  const T *x, *gamma;
  T eps;
  static constexpr int kBlocks = 3;
  template <class F>
  __device__ void operator()(int row, Range r, int thread, int threads, const F& put) const {
    const T* from = x + int64_t(row) * k;
    const auto sum = [&](const auto& f) {
      constexpr int kN = kPerLoad<T>;
      const int lane = int(threadIdx.x % 32), wide = k % kN == 0 ? k : 0;
      T s = 0;
#pragma unroll 4
      for (int i = lane * kN; i < wide; i += 32 * kN) {
        T v[kN];
        load_numbers(from + i, v);
#pragma unroll
        for (int e = 0; e < kN; ++e) s += f(v[e]);
      }
#pragma unroll 1
      for (int i = wide + lane; i < k; i += 32) s += f(from[i]);
      return warp_reduce(s, Sum{});
    };
    const Norm<T> norm = norm_of(true, from[0], T(k), eps, sum);
#pragma unroll 2
    for (int i = r.first + thread; i < r.end; i += threads) put(i, norm(from[i], gamma[i]));
  }
};

template <class T>
struct Gated {  // rows of 2k numbers: geglu's
  int k;
  const T* x;
  static constexpr int kBlocks = 2;
  template <class F>
  __device__ void operator()(int row, Range r, int thread, int threads, const F& put) const {
    const T *a = x + int64_t(row) * 2 * k, *gate = a + k;
    constexpr int kAtOnce = 24 / int(sizeof(T));  // on their way before the first is used
    for (int first = r.first + thread; first < r.end; first += kAtOnce * threads) {
      T numbers[kAtOnce], gates[kAtOnce];
#pragma unroll
      for (int e = 0; e < kAtOnce; ++e) {
        const int i = min(first + e * threads, r.end - 1);
        numbers[e] = a[i], gates[e] = gate[i];
      }
#pragma unroll
      for (int e = 0; e < kAtOnce; ++e)
        if (const int i = first + e * threads; i < r.end) put(i, Gelu().value(gates[e]) * numbers[e]);
    }
  }
};

}  // namespace

void gemv(Cuda, const Tensor& x, const Tensor& weight, const Tensor& scale, bool accumulate, const Tensor& y) {
  const int64_t k = weight.dim(1), n = weight.dim(0), m = n ? y.numel() / n : 0;
  const Product p{weight, scale, accumulate ? y : Tensor(), y};
  dispatch_float(x.dtype(), [&]<class T>() { gemv<T>(m, k, AsItIs<T>{int(k), data<T>(x)}, {&p, 1}, false); });
}

void norm_gemv(Cuda, const Tensor& x, const Tensor& gamma, double eps, std::span<const Product> products) {
  const int64_t k = gamma.numel();
  dispatch_float(x.dtype(), [&]<class T>() {
    gemv<T>(row_count(x), k, LayerNormed<T>{int(k), data<T>(x), data<T>(gamma), T(eps)}, products);
  });
}

void geglu_gemv(Cuda, const Tensor& x, const Product& product) {
  const int64_t k = product.weight.dim(1);
  dispatch_float(x.dtype(), [&]<class T>() { gemv<T>(row_count(x), k, Gated<T>{int(k), data<T>(x)}, {&product, 1}); });
}

}  // namespace rondo
