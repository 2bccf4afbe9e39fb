// The one reduction that softmax and the loss share.
#pragma once
#include <cmath>

#include "tensor/cpu/lanes.h"

namespace rondo::cpu {

template <class T>
struct LogSumExp {
  T top, log_sum;  // the maximum of a row, and log sum exp(x - top): apart, because their sum would round
};

template <class T>
LogSumExp<T> log_sum_exp(const T* x, int64_t n) {
  const T top = lane_max(n, x);
  const auto value = [=](const auto& v) { return exp_lanes(v - top); };
  return {top, std::log(lane_sum<T>(n, value, x))};
}

}  // namespace rondo::cpu
