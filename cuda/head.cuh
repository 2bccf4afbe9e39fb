// A head (D numbers: a query or a key) on its way into attention, and its gradient on the way back; a whole warp each.
#pragma once
#include <cmath>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"

namespace rondo::cuda {

inline constexpr double kMinHeadNorm = 1e-12;

// f(i, warp) by a whole warp, for i in 0..n-1. The warps, numbered from 0, are as many as warps_for(n) says.
template <class F>
__global__ void for_each_warp_kernel(int64_t n, F f) {
  const int64_t warps = int64_t(gridDim.x) * (blockDim.x / 32);
  const int64_t warp = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  for (int64_t i = warp; i < n; i += warps) f(i, warp);
}
inline constexpr int64_t kWarps = kThreads / 32, kMostWarps = 8192;
inline int64_t warps_for(int64_t n) { return std::min({n, kMostWarps, most_blocks * kWarps}); }
template <class F>
void for_each_warp(int64_t n, const F& f) {
  if (n > 0) launch({blocks_for(warps_for(n), kWarps), kThreads, 0, stream()}, for_each_warp_kernel<F>, n, f);
}
__device__ inline int lane_of_warp() { return int(threadIdx.x % 32); }

// f(0) + ... + f(d - 1), by a whole warp.
template <class T, class F>
__device__ T warp_sum(int64_t d, const F& f) {
  T sum = 0;
  for (int64_t i = lane_of_warp(); i < d; i += 32) sum += f(i);
  return warp_reduce(sum, Sum{});
}

// x / max(|x|, 1e-12) * scale where there is a scale, then turned by the angles where there are any (scale * cos, then
// scale * sin, of the pairs i and i + D/2). E is the type of x, T what is computed in.
template <class E>
struct Head {
  using T = computed_t<E>;
  const E* x;
  const T *scale, *angles;
  int64_t d;
  T norm = 1, factor = 1;  // |x| and 1 / max(|x|, 1e-12)

  __device__ Head(const E* x, const T* scale, const T* angles, int64_t d) : x(x), scale(scale), angles(angles), d(d) {
    if (!scale) return;
    norm = std::sqrt(warp_sum<T>(d, [=](int64_t i) { return T(x[i]) * T(x[i]); }));
    factor = T(1) / Max{}(norm, T(kMinHeadNorm));
  }
  __device__ T straight(int64_t i) const { return scale ? T(x[i]) * factor * scale[i] : T(x[i]); }
  __device__ T operator[](int64_t i) const {
    if (!angles) return straight(i);
    const int64_t half = d / 2, pair = i % half;
    const T c = angles[pair], s = angles[half + pair];
    return i < half ? straight(i) * c - straight(i + half) * s : straight(i) * c + straight(i - half) * s;
  }
};

// The gradient of a head, turned back.
template <class T>
__device__ T turned_back(const T* dy, const T* angles, int64_t d, int64_t i) {
  if (!angles) return dy[i];
  const int64_t half = d / 2, pair = i % half;
  const T c = angles[pair], s = angles[half + pair];
  return i < half ? dy[i] * c + dy[i + half] * s : dy[i] * c - dy[i - half] * s;
}

// From dy(i), turned back: with n = x / |x| and g = dy * scale, dx = (g - n <n, g>) / |x|; dscale (+)= dy * n. Below
// the smallest norm, where x is divided by a constant, the term with <n, g> is absent.
template <class E, class F, class T = computed_t<E>>
__device__ void head_backward(const Head<E>& h, const F& dy, E* dx, T* dscale, bool accumulate) {
  T along = 0;
  if (h.scale && h.norm >= T(kMinHeadNorm))
    along = h.factor * warp_sum<T>(h.d, [&](int64_t i) { return dy(i) * h.scale[i] * T(h.x[i]); });
  for (int64_t i = lane_of_warp(); i < h.d; i += 32) {
    const T g = dy(i), n = T(h.x[i]) * h.factor;
    dx[i] = E(h.scale ? h.factor * (g * h.scale[i] - n * along) : g);
    if (h.scale) dscale[i] = (accumulate ? dscale[i] : T(0)) + g * n;
  }
}

}  // namespace rondo::cuda
