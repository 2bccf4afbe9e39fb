// What a norm makes of a row's numbers, however the row is summed.
#pragma once
#include <cmath>

#include "cuda/device.cuh"

namespace rondo::cuda {

template <class T>
struct Norm {  // (x - mean) * rstd * gamma
  T mean, rstd;
  __device__ T operator()(T x, T gamma) const { return (x - mean) * rstd * gamma; }
};
// Of a row of n numbers, the first of which is `origin`; sum(f) is the sum of f(x) over them. The mean, where the norm
// is centred, is counted from the origin: then a constant row has exactly its constant as mean.
template <class T, class F>
__device__ Norm<T> norm_of(bool centred, T origin, T n, T eps, const F& sum) {
  const T m = centred ? origin + sum([&](T x) { return x - origin; }) / n : T(0);
  return {m, T(1) / std::sqrt(sum([&](T x) { return (x - m) * (x - m); }) / n + eps)};
}

}  // namespace rondo::cuda
