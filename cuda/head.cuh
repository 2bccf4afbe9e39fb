// A head (D numbers: a query or a key) on its way into attention, and its gradient on the way back. A few threads share
// one: each has numbers of the head's first half and, as rotation pairs them, those half a head further on.
#pragma once
#include <cmath>

#include "cuda/block.cuh"
#include "cuda/pack.cuh"

namespace rondo::cuda {

inline constexpr double kMinHeadNorm = 1e-12;

// kThreads neighbours have a head together, kNumbers numbers of each half at a time.
template <int kNumbers, int kThreads>
struct Lanes {
  static constexpr int kN = kNumbers, kCount = kThreads;

  // f(i) for the thread's runs in a half, of which each begins at number i.
  template <class F>
  __device__ static void over(int half, const F& f) {
#pragma unroll 1  // once, as a rule
    for (int i = int(threadIdx.x) % kThreads * kN; i < half; i += kThreads * kN) f(i);
  }
  template <class T>
  __device__ static T sum(T x) {
    return warp_reduce(x, Sum{}, kThreads);
  }
};
using WarpLanes = Lanes<1, 32>;  // for any D
template <class E>
using PackLanes = Lanes<kPerLoad<E>, 32 / kPerLoad<E>>;  // for heads whose halves are whole loads

// Calls f.operator()<L>() with the lanes for heads of d numbers of E. Those of bf16 are flash attention's, which takes
// no others.
template <class E, class F>
void dispatch_lanes(int64_t d, F&& f) {
  const bool whole = d % (2 * kPerLoad<E>) == 0;
  if constexpr (std::is_same_v<E, bf16>) {
    check(whole, "CUDA: heads of ", d, " numbers in bf16 are not divided among lanes");
    f.template operator()<PackLanes<E>>();
  } else {
    if constexpr (sizeof(E) == 4)
      if (whole) return f.template operator()<PackLanes<E>>();
    f.template operator()<WarpLanes>();
  }
}

// Runs of both halves.
template <class T, int kN>
struct Pairs {
  T low[kN], high[kN];
};

// The two runs of a head that begin at number i, from memory and back. An odd D has no last pair.
template <class L, class E>
__device__ Pairs<computed_t<E>, L::kN> load_pairs(const E* x, int d, int i) {
  Pairs<computed_t<E>, L::kN> p = {};
  const int half = (d + 1) / 2;
  load_numbers(x + i, p.low);
  if (L::kN > 1 || half + i < d) load_numbers(x + half + i, p.high);
  return p;
}
template <class L, class T, class E>
__device__ void store_pairs(const Pairs<T, L::kN>& p, int d, int i, E* y) {
  const int half = (d + 1) / 2;
  store_numbers(p.low, y + i);
  if (L::kN > 1 || half + i < d) store_numbers(p.high, y + half + i);
}
// Turned by the angles (scale * cos, then scale * sin, of the pairs), or back by the same. Multiply-adds are named as
// such, here and in Head, since a compiler makes them in one kernel and not in the next, and a key's bits shall be one.
template <class L, class T>
__device__ void turn(const T* angles, int d, int i, T direction, Pairs<T, L::kN>& p) {
  if (!angles) return;
  T c[L::kN], s[L::kN];
  load_numbers(angles + i, c);
  load_numbers(angles + d / 2 + i, s);
#pragma unroll
  for (int e = 0; e < L::kN; ++e) {
    const T a = p.low[e], b = p.high[e], sine = s[e] * direction;
    p.low[e] = std::fma(a, c[e], -b * sine);
    p.high[e] = std::fma(b, c[e], a * sine);
  }
}

// <a, b> over d numbers, by all lanes together.
template <class L, class E>
__device__ computed_t<E> head_dot(const E* a, const E* b, int d) {
  computed_t<E> sum = 0;
  L::over((d + 1) / 2, [&](int i) {
    const auto p = load_pairs<L>(a, d, i), q = load_pairs<L>(b, d, i);
#pragma unroll
    for (int e = 0; e < L::kN; ++e) sum += p.low[e] * q.low[e] + p.high[e] * q.high[e];
  });
  return L::sum(sum);
}

// x / max(|x|, 1e-12) * scale where there is a scale, then turned where there are angles. E is the type of x, T what is
// computed in. Made by all its lanes together.
template <class E, class L>
struct Head {
  using T = computed_t<E>;
  using Run = Pairs<T, L::kN>;
  const E* x;
  const T *scale, *angles;
  int d;
  T norm = 1, factor = 1;  // |x| and 1 / max(|x|, 1e-12)

  __device__ Head(const E* x, const T* scale, const T* angles, int64_t d)
      : x(x), scale(scale), angles(angles), d(int(d)) {
    if (!scale) return;
    T sum = 0;
    L::over(half(), [&](int i) {
      const Run r = load_pairs<L>(x, this->d, i);
#pragma unroll
      for (int e = 0; e < L::kN; ++e) sum = std::fma(r.high[e], r.high[e], std::fma(r.low[e], r.low[e], sum));
    });
    norm = std::sqrt(L::sum(sum));
    factor = T(1) / Max{}(norm, T(kMinHeadNorm));
  }
  __device__ int half() const { return (d + 1) / 2; }
  __device__ Run at(int i) const {
    Run r = load_pairs<L>(x, d, i);
    if (scale) {
      const Run s = load_pairs<L>(scale, d, i);
#pragma unroll
      for (int e = 0; e < L::kN; ++e) r.low[e] *= factor * s.low[e], r.high[e] *= factor * s.high[e];
    }
    turn<L>(angles, d, i, T(1), r);
    return r;
  }
};

// From dy(i), the gradient's runs turned back: with n = x / |x| and g = dy * scale, dx = (g - n <n, g>) / |x|, and the
// head's part of dscale, dy * n, is added to `sums`. Below the smallest norm, where x is divided by a constant, the
// term with <n, g> is absent.
template <class E, class L, class F, class T = computed_t<E>>
__device__ void head_backward(const Head<E, L>& h, const F& dy, bool there, E* dx, T* sums) {
  using Run = Pairs<T, L::kN>;
  T along = 0;
  if (h.scale) {
    L::over(h.half(), [&](int i) {
      const Run g = dy(i), s = load_pairs<L>(h.scale, h.d, i), x = load_pairs<L>(h.x, h.d, i);
#pragma unroll
      for (int e = 0; e < L::kN; ++e) along += g.low[e] * s.low[e] * x.low[e] + g.high[e] * s.high[e] * x.high[e];
    });
    along = L::sum(along) * h.factor;
    if (h.norm < T(kMinHeadNorm)) along = 0;
  }
  if (!there) return;
  L::over(h.half(), [&](int i) {
    Run g = dy(i);
    if (h.scale) {
      const Run s = load_pairs<L>(h.scale, h.d, i), x = load_pairs<L>(h.x, h.d, i);
      Run part = load_pairs<L>(sums, h.d, i);
#pragma unroll
      for (int e = 0; e < L::kN; ++e) {
        const T low = x.low[e] * h.factor, high = x.high[e] * h.factor;
        part.low[e] += g.low[e] * low, part.high[e] += g.high[e] * high;
        g.low[e] = h.factor * (g.low[e] * s.low[e] - low * along);
        g.high[e] = h.factor * (g.high[e] * s.high[e] - high * along);
      }
      store_pairs<L>(part, h.d, i, sums);
    }
    store_pairs<L>(g, h.d, i, dx);
  });
}

// f(L, i, there) by the lanes of head i, for i in 0..n-1. All lanes of a warp come along, some for no head.
template <class L, class F>
__global__ void for_each_head_kernel(int64_t n, F f) {
  wait_for_previous_grid();
  constexpr int kHeads = 32 / L::kCount;  // of a warp
  const int64_t warp = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32,
                step = int64_t(gridDim.x) * blockDim.x / 32;
  for (int64_t first = warp * kHeads; first < n; first += step * kHeads) {
    const int64_t i = first + int(threadIdx.x) % 32 / L::kCount;
    f(L(), min(i, n - 1), i < n);
  }
}
template <class E, class F>
void for_each_head(int64_t n, int64_t d, const F& f) {
  if (n == 0) return;
  dispatch_lanes<E>(d, [&]<class L>() {
    launch({blocks_for(n, kThreads / L::kCount), kThreads, 0, stream()}, for_each_head_kernel<L, F>, n, f);
  });
}

// What heads add to a gradient of D numbers: each group of lanes has sums of its own in shared memory, [kGroups, D],
// and the block leaves what they add up to.
template <int kGroups, class T>
__device__ void add_up_groups(const T* sums, int d, T* part) {
  __syncthreads();
  for (int i = int(threadIdx.x); i < d; i += int(blockDim.x)) {
    T sum = 0;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) sum += sums[g * d + i];
    part[i] = sum;
  }
}

// The same with such sums: f(L, i, there, sums) adds to those of its lanes, a row of parts [blocks, D] is the block's.
// Without parts nothing is summed.
template <class T>
struct FirstOfSums {
  alignas(16) T first;  // [kThreads / lanes, D] in all
};
template <class L, class T, class F>
__global__ void sum_heads_kernel(int64_t n, int d, F f, T* parts) {
  constexpr int kHeads = 32 / L::kCount, kGroups = int(kThreads) / L::kCount;
  T* const all = &shared<FirstOfSums<T>>().first;
  T* const sums = all + int(threadIdx.x) / L::kCount * d;
  if (parts)
    for (int i = int(threadIdx.x); i < kGroups * d; i += int(blockDim.x)) all[i] = 0;
  __syncthreads();
  const int64_t warp = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32,
                step = int64_t(gridDim.x) * blockDim.x / 32;
  for (int64_t first = warp * kHeads; first < n; first += step * kHeads) {
    const int64_t i = first + int(threadIdx.x) % 32 / L::kCount;
    f(L(), min(i, n - 1), i < n, sums);
  }
  if (parts) add_up_groups<kGroups>(all, d, parts + int64_t(blockIdx.x) * d);
}
// dscale [D]: the sums over all heads, if it is there.
template <class E, class F>
void for_each_head_summed(int64_t n, int64_t d, const F& f, const Into& dscale) {
  using T = computed_t<E>;
  constexpr unsigned kMostBlocks = 512;
  if (n == 0) return;
  dispatch_lanes<E>(d, [&]<class L>() {
    const int64_t per_block = kThreads / L::kCount;
    const unsigned blocks = dscale ? std::min(blocks_for(n, per_block), kMostBlocks) : blocks_for(n, per_block);
    const Tensor parts = dscale ? Tensor({blocks, d}, dtype_of<T>, Device::cuda) : Tensor();
    const size_t bytes = std::max(sizeof(FirstOfSums<T>), dscale ? size_t(per_block * d) * sizeof(T) : 0);
    launch({blocks, kThreads, bytes, stream()}, sum_heads_kernel<L, T, F>, n, int(d), f, data_or_null<T>(parts));
    if (dscale) sum_to(Cuda{}, parts, dscale);
  });
}

}  // namespace rondo::cuda
