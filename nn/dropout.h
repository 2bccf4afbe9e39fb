// Dropout (Srivastava et al. 2014), scaled while training so that nothing is to be done afterwards.
#pragma once
#include "../autograd/ops.h"
#include "../tensor/parallel.h"
#include "../tensor/random.h"

namespace rondo {

// Each element of x (f32 or f64) is 0 with probability p, 0 <= p < 1, or else x / (1 - p). The mask is drawn on the
// CPU, so a seed gives the same on every device; a step that is captured as a graph cannot draw one.
inline Tensor dropout(const Tensor& x, double p, Generator& g) {
  check(bool(x), "dropout: x is missing");
  check(x.dtype() == DType::f32 || x.dtype() == DType::f64, "dropout: x is ", x.dtype(),
        ", but the op computes in f32 or f64");
  check(p >= 0 && p < 1, "dropout: p is ", p, ", but must be at least 0 and below 1");
  Tensor mask(x.shape(), x.dtype());
  fill_uniform(mask, 0, 1, g);
  dispatch_float(x.dtype(), [&]<class T>() {
    T* const m = mask.data<T>();
    parallel_chunks(mask.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) m[i] = m[i] < T(p) ? T(0) : T(1 / (1 - p));
    });
  });
  return x * to(mask, x.device());
}

}  // namespace rondo
