// Work along a row in lanes of a fixed width: vectorised without -ffast-math, with the same bits wherever the row lies
// in memory. (Eigen's own loops begin at the next aligned element: how they round depends on the address.)
#pragma once
#include <Eigen/Core>
#include <algorithm>
#include <cstdint>

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
template <int64_t N, class T>
Eigen::Map<LanesOf<T, N>> lanes_at(T* p) {
  return Eigen::Map<LanesOf<T, N>>(p);
}

// The first n < kShort numbers at p, the rest zeros.
template <class T>
LanesOf<T, kShort<T>> some_lanes(const T* p, int64_t n) {
  LanesOf<T, kShort<T>> lanes = LanesOf<T, kShort<T>>::Zero();
  for (int64_t j = 0; j < n; ++j) lanes[j] = p[j];
  return lanes;
}

// f(p[0]...) + ... + f(p[n-1]...), where f takes lanes and gives lanes or an expression of its arguments.
template <class T, class F, class... P>
T lane_sum(int64_t n, const F& f, const P*... p) {
  LanesOf<T, kLanes<T>> sums = LanesOf<T, kLanes<T>>::Zero();
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) sums += f(lanes_at<kLanes<T>>(p + i)...);
  for (; i + kShort<T> <= n; i += kShort<T>) sums.template head<kShort<T>>() += f(lanes_at<kShort<T>>(p + i)...);
  if (i < n) {
    const LanesOf<T, kShort<T>> last = f(some_lanes(p + i, n - i)...);
    for (int64_t j = 0; j < n - i; ++j) sums[j] += last[j];
  }
  return sums.sum();
}

// y[i] = f(p[i]...); y may be one of the p.
template <class T, class F, class... P>
void lane_map(int64_t n, T* y, const F& f, const P*... p) {
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) lanes_at<kLanes<T>>(y + i) = f(lanes_at<kLanes<T>>(p + i)...);
  for (; i + kShort<T> <= n; i += kShort<T>) lanes_at<kShort<T>>(y + i) = f(lanes_at<kShort<T>>(p + i)...);
  if (i < n) {
    const LanesOf<T, kShort<T>> last = f(some_lanes(p + i, n - i)...);
    for (int64_t j = 0; j < n - i; ++j) y[i + j] = last[j];
  }
}

inline constexpr auto kSelf = [](const auto& x) { return x; };
inline constexpr auto kSum = [](const auto&... x) { return (x + ...); };
inline constexpr auto kProduct = [](const auto&... x) { return (x * ...); };

// exp of an expression, worked out: the result can be part of a further one.
template <class X>
plain_t<X> exp_lanes(const X& x) {
  const plain_t<X> at = x;
  return exponential(at);
}

}  // namespace rondo::cpu
