// Numbers side by side in memory, moved 16 bytes at a time; and loops over runs of them.
#pragma once
#include <bit>
#include <type_traits>

#include "cuda/launch.cuh"

namespace rondo::cuda {

template <class E>
inline constexpr int kPerLoad = 16 / int(sizeof(E));
template <class E, int n>
struct Numbers {
  E at[n];
};

// How many of n numbers of E go with one load: 16 bytes, or 8 where that is all, or one number.
template <class E, int n>
inline constexpr int kPerMove = n % kPerLoad<E> == 0 ? kPerLoad<E>
                                : n * sizeof(E) == 8 ? n
                                                     : 1;
template <size_t bytes>
using Word = std::conditional_t<bytes == 16, uint4, uint2>;

// x = the n numbers at p, as what is computed in; p is aligned to what a load takes.
template <int n, class E>
__device__ void load_numbers(const E* p, computed_t<E> (&x)[n]) {
  constexpr int per = kPerMove<E, n>;
  if constexpr (per > 1) {
#pragma unroll
    for (int i = 0; i < n; i += per) {
      const auto word = reinterpret_cast<const Word<per * sizeof(E)>*>(p)[i / per];
      if constexpr (std::is_same_v<E, bf16>) {
        const auto pairs = std::bit_cast<Numbers<uint32_t, per / 2>>(word);
#pragma unroll
        for (int j = 0; j < per; j += 2)
          x[i + j] = std::bit_cast<float>(pairs.at[j / 2] << 16),
                x[i + j + 1] = std::bit_cast<float>(pairs.at[j / 2] & 0xffff0000u);
      } else {
        const auto some = std::bit_cast<Numbers<E, per>>(word);
#pragma unroll
        for (int j = 0; j < per; ++j) x[i + j] = some.at[j];
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < n; ++i) x[i] = computed_t<E>(p[i]);
  }
}
template <int n, class E>
__device__ void store_numbers(const computed_t<E> (&x)[n], E* p) {
  constexpr int per = kPerMove<E, n>;
  if constexpr (per > 1) {
    using To = Word<per * sizeof(E)>;
#pragma unroll
    for (int i = 0; i < n; i += per) {
      To& to = reinterpret_cast<To*>(p)[i / per];
      if constexpr (std::is_same_v<E, bf16>) {
        Numbers<uint32_t, per / 2> pairs;
#pragma unroll
        for (int j = 0; j < per; j += 2) pairs.at[j / 2] = pack_bf16(x[i + j], x[i + j + 1]);
        to = std::bit_cast<To>(pairs);
      } else {
        Numbers<E, per> some;
#pragma unroll
        for (int j = 0; j < per; ++j) some.at[j] = x[i + j];
        to = std::bit_cast<To>(some);
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < n; ++i) p[i] = E(x[i]);
  }
}

template <int n>
using Count = std::integral_constant<int, n>;

// f(i, Count<kN>) for the runs of kN numbers that begin at i = 0, kN, ..., and f(i, Count<1>) for each that is left.
template <int kN, class F>
__global__ void for_each_run_kernel(int64_t n, F f) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x, first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t runs = n / kN;
#pragma unroll 1
  for (int64_t i = first; i < runs; i += step) f(i * kN, Count<kN>());
#pragma unroll 1
  for (int64_t i = runs * kN + first; i < n; i += step) f(i, Count<1>());
}
template <int kN, class F>
void for_each_run(int64_t n, const F& f) {
  if (n > 0) launch({blocks_for((n + kN - 1) / kN), kThreads, 0, stream()}, for_each_run_kernel<kN, F>, n, f);
}

// Calls f.operator()<n>() with how many numbers at a time rows of `width` are moved by: 16 bytes, or one.
template <class E, class F>
void dispatch_run(int64_t width, F&& f) {
  if (width % kPerLoad<E> == 0) return f.template operator()<kPerLoad<E>>();
  f.template operator()<1>();
}

}  // namespace rondo::cuda
