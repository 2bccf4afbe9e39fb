// torch.nn.Linear.
#pragma once
#include <string>

#include "../autograd/ops.h"
#include "init.h"

namespace rondo {

struct Linear {
  Tensor weight;        // [out, in]
  Tensor bias;          // [out], or {}
  Tensor weight_scale;  // [out] where the weight is i8, else {}

  Linear() = default;
  Linear(int64_t in, int64_t out, bool with_bias, Generator& g, DType dtype = DType::f32)
      : weight(linear_init({out, in}, in, g, dtype)), bias(with_bias ? linear_init({out}, in, g, dtype) : Tensor()) {}

  // x [..., in] -> [..., out], plus the residual where one is given.
  Tensor operator()(const Tensor& x, const Tensor& residual = {}) const {
    return linear(x, weight, bias, residual, weight_scale);
  }

  template <class F>
  void each(F&& f) {
    f("weight", weight, true);
    if (bias) f("bias", bias, true);
    if (weight_scale) f("weight_scale", weight_scale, false);
  }
};

}  // namespace rondo
