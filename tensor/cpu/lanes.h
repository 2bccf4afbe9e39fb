// Work along a row in lanes of a fixed width: vectorised without -ffast-math, with the same bits wherever the row lies
// in memory. (Eigen's own loops begin at the next aligned element: how they round depends on the address.)
#pragma once
#include <Eigen/Core>
#include <algorithm>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "tensor/cpu/round.h"
#include "tensor/dtype.h"
#include "tensor/functors.h"

namespace rondo::cpu {

// As many numbers as fill a few vector registers, so that the latency of adding is hidden; and as fill one, for what is
// left at the end of a row.
template <class T>
inline constexpr int64_t kLanes = 128 / int64_t(sizeof(T));
template <class T>
inline constexpr int64_t kShort = 32 / int64_t(sizeof(T));
template <class T, int64_t N>
using LanesOf = Eigen::Array<T, int(N), 1>;
template <int64_t N, class T>
Eigen::Map<const LanesOf<T, N>> lanes_at(const T* p) {
  return Eigen::Map<const LanesOf<T, N>>(p);
}
template <int64_t N>
LanesOf<float, N> lanes_at(const bf16* p) {
  LanesOf<float, N> lanes;
  for (int64_t j = 0; j < N; ++j) lanes[j] = float(p[j]);
  return lanes;
}
// y[0], ..., y[N-1] = the lanes, rounded where y is bf16.
template <int64_t N, class T, class X>
void put_lanes(T* y, const X& x) {
  Eigen::Map<LanesOf<T, N>>{y} = x;
}
template <int64_t N, class X>
void put_lanes(bf16* y, const X& x) {
  const LanesOf<float, N> lanes = x;
  round_row(N, lanes.data(), y);
}

// The first n < kShort numbers at p, the rest zeros.
template <class E, class T = computed_t<E>>
LanesOf<T, kShort<T>> some_lanes(const E* p, int64_t n) {
  LanesOf<T, kShort<T>> lanes = LanesOf<T, kShort<T>>::Zero();
  for (int64_t j = 0; j < n; ++j) lanes[j] = T(p[j]);
  return lanes;
}
// y[0], ..., y[n-1] = the first lanes.
template <class E, class X>
void put_some_lanes(E* y, const X& x, int64_t n) {
  const LanesOf<computed_t<E>, kShort<computed_t<E>>> lanes = x;
  for (int64_t j = 0; j < n; ++j) y[j] = E(lanes[j]);
}
// The first n lanes as they are, the rest zeros, whatever they were.
template <class T, int N>
Eigen::Array<T, N, 1> only_some(Eigen::Array<T, N, 1> lanes, int64_t n) {
  for (int64_t j = n; j < N; ++j) lanes[j] = T(0);
  return lanes;
}
#if defined(__AVX2__)
// In f32 by masks: a register that is read soon after its numbers were stored one by one waits for them.
inline __m256i first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline LanesOf<float, 8> some_lanes(const float* p, int64_t n) {
  LanesOf<float, 8> lanes;
  _mm256_storeu_ps(lanes.data(), _mm256_maskload_ps(p, first_lanes(n)));
  return lanes;
}
template <class X>
void put_some_lanes(float* y, const X& x, int64_t n) {
  const LanesOf<float, 8> lanes = x;
  _mm256_maskstore_ps(y, first_lanes(n), _mm256_loadu_ps(lanes.data()));
}
inline LanesOf<float, 8> only_some(LanesOf<float, 8> lanes, int64_t n) {
  const __m256 first = _mm256_castsi256_ps(first_lanes(n));
  _mm256_storeu_ps(lanes.data(), _mm256_and_ps(_mm256_loadu_ps(lanes.data()), first));
  return lanes;
}
#endif

inline constexpr auto kSelf = [](const auto& x) { return x; };
inline constexpr auto kSum = [](const auto&... x) { return (x + ...); };
inline constexpr auto kProduct = [](const auto&... x) { return (x * ...); };

// Folds lanes down to N of them: join(first half, second half), again and again.
template <int64_t N, class X, class F>
auto fold_lanes(const X& lanes, const F& join) {
  constexpr int64_t half = X::SizeAtCompileTime / 2;
  if constexpr (half < N)
    return lanes;
  else
    return fold_lanes<N>(LanesOf<scalar_t<X>, half>(join(lanes.template head<half>(), lanes.template tail<half>())),
                         join);
}

// f(p[0]...) + ... + f(p[n-1]...), where f takes lanes and gives lanes or an expression of its arguments.
template <class T, class F, class... P>
T lane_sum(int64_t n, const F& f, const P*... p) {
  LanesOf<T, kShort<T>> sums = LanesOf<T, kShort<T>>::Zero();
  int64_t i = 0;
  if (n >= kLanes<T>) {
    LanesOf<T, kLanes<T>> wide = f(lanes_at<kLanes<T>>(p)...);
    for (i = kLanes<T>; i + kLanes<T> <= n; i += kLanes<T>) wide += f(lanes_at<kLanes<T>>(p + i)...);
    sums = fold_lanes<kShort<T>>(wide, kSum);
  }
  for (; i + kShort<T> <= n; i += kShort<T>) sums += f(lanes_at<kShort<T>>(p + i)...);
  if (i < n) {
    const LanesOf<T, kShort<T>> last = f(some_lanes(p + i, n - i)...);
    sums += only_some(last, n - i);
  }
  return sums.sum();
}

// The largest of n >= N numbers, by N at a time; the last ones are looked at twice.
template <int64_t N, class T>
T largest(int64_t n, const T* p) {
  LanesOf<T, N> tops = lanes_at<N>(p);
  for (int64_t i = N; i + N <= n; i += N) tops = tops.max(lanes_at<N>(p + i));
  tops = tops.max(lanes_at<N>(p + n - N));
  return fold_lanes<1>(tops, [](const auto& a, const auto& b) { return a.max(b); })[0];
}
// The largest of n > 0 numbers; any where one is NaN.
template <class T>
T lane_max(int64_t n, const T* p) {
  if (n >= kLanes<T>) return largest<kLanes<T>>(n, p);
  if (n >= kShort<T>) return largest<kShort<T>>(n, p);
  T top = p[0];
  for (int64_t i = 1; i < n; ++i) top = at_least(top, p[i]);
  return top;
}

// y[i] = f(p[i]...); y may be one of the p.
template <class E, class F, class... P>
void lane_map(int64_t n, E* y, const F& f, const P*... p) {
  using T = computed_t<E>;
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) put_lanes<kLanes<T>>(y + i, f(lanes_at<kLanes<T>>(p + i)...));
  for (; i + kShort<T> <= n; i += kShort<T>) put_lanes<kShort<T>>(y + i, f(lanes_at<kShort<T>>(p + i)...));
  if (i < n) put_some_lanes(y + i, f(some_lanes(p + i, n - i)...), n - i);
}

// exp of an expression, worked out: the result can be part of a further one.
template <class X>
[[gnu::always_inline]] inline plain_t<X> exp_lanes(const X& x) {
  const plain_t<X> at = x;
  return exponential(at);
}

}  // namespace rondo::cpu
