// Sums over a row in a fixed set of lanes: vectorised without -ffast-math, and with the same bits wherever the row lies
// in memory (Eigen's own reductions begin at the next aligned element, so their order of adding depends on the
// address).
#pragma once
#include <Eigen/Core>
#include <cstdint>

namespace rondo::cpu {

// As many numbers as fill a few vector registers, so that the latency of adding is hidden.
template <class T>
inline constexpr int64_t kLanes = 128 / int64_t(sizeof(T));
template <class T>
using Lanes = Eigen::Array<T, int(kLanes<T>), 1>;

// The n values f(p[0]...), f(p[1]...), ... added up. f is generic: it gets Lanes, and numbers for what is left.
template <class T, class F, class... P>
T lane_sum(int64_t n, const F& f, const P*... p) {
  Lanes<T> sums = Lanes<T>::Zero();
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) sums += f(Eigen::Map<const Lanes<T>>(p + i)...);
  T rest = 0;
  for (; i < n; ++i) rest += f(p[i]...);
  return sums.sum() + rest;
}

}  // namespace rondo::cpu
