// Work along a row in lanes of a fixed width: vectorised without -ffast-math, with the same bits wherever the row lies
// in memory. (Eigen's own loops begin at the next aligned element: how they round depends on the address.)
#pragma once
#include <Eigen/Core>
#include <algorithm>
#include <cstdint>

#include "tensor/functors.h"

namespace rondo::cpu {

// As many numbers as fill a few vector registers, so that the latency of adding is hidden.
template <class T>
inline constexpr int64_t kLanes = 128 / int64_t(sizeof(T));
template <class T>
using Lanes = Eigen::Array<T, int(kLanes<T>), 1>;
template <class T>
using LanesAt = Eigen::Map<const Lanes<T>>;

// The first n < kLanes numbers at p, the rest zeros.
template <class T>
Lanes<T> some_lanes(const T* p, int64_t n) {
  Lanes<T> lanes = Lanes<T>::Zero();
  std::copy(p, p + n, lanes.data());
  return lanes;
}

// f(p[0]...) + ... + f(p[n-1]...), where f takes and gives Lanes, or an expression of its arguments.
template <class T, class F, class... P>
T lane_sum(int64_t n, const F& f, const P*... p) {
  Lanes<T> sums = Lanes<T>::Zero();
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) sums += f(LanesAt<T>(p + i)...);
  if (i < n) {
    const Lanes<T> last = f(some_lanes(p + i, n - i)...);
    for (int64_t j = 0; j < n - i; ++j) sums[j] += last[j];
  }
  return sums.sum();
}

// y[i] = f(p[i]...); y may be one of the p.
template <class T, class F, class... P>
void lane_map(int64_t n, T* y, const F& f, const P*... p) {
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) Eigen::Map<Lanes<T>>(y + i) = f(LanesAt<T>(p + i)...);
  if (i < n) {
    const Lanes<T> last = f(some_lanes(p + i, n - i)...);
    std::copy(last.data(), last.data() + (n - i), y + i);
  }
}

inline constexpr auto kSelf = [](const auto& x) { return x; };
inline constexpr auto kSum = [](const auto&... x) { return (x + ...); };
inline constexpr auto kProduct = [](const auto&... x) { return (x * ...); };

// exp of an expression, worked out: the result can be part of a further one.
template <class T, class X>
Lanes<T> exp_lanes(const X& x) {
  const Lanes<T> at = x;
  return exponential(at);
}

}  // namespace rondo::cpu
