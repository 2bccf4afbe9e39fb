// LayerNorm as the reference has it (a learned gamma; beta is a buffer of zeros, saved and never trained), and RMSNorm.
#pragma once
#include <optional>
#include <string>

#include "../autograd/ops.h"
#include "init.h"

namespace rondo {

struct LayerNorm {
  Tensor gamma;                 // [dim]
  Tensor beta;                  // [dim] of zeros, never added: weights with another beta ask for add(norm(x), beta)
  std::optional<DType> result;  // bf16 where what follows is to be computed in that
  static constexpr double eps = 1e-5;

  LayerNorm() = default;
  explicit LayerNorm(int64_t dim, DType dtype = DType::f32)
      : gamma(constant_init({dim}, 1, dtype)), beta(zeros({dim}, dtype)) {}

  Tensor operator()(const Tensor& x) const { return layer_norm(x, gamma, eps, result); }

  template <class F>
  void each(F&& f) {
    f("gamma", gamma, true);
    f("beta", beta, false);
  }
};

struct RMSNorm {
  Tensor gamma;  // [dim]

  RMSNorm() = default;
  explicit RMSNorm(int64_t dim, DType dtype = DType::f32) : gamma(constant_init({dim}, 1, dtype)) {}

  Tensor operator()(const Tensor& x) const { return rms_norm(x, gamma); }

  template <class F>
  void each(F&& f) {
    f("gamma", gamma, true);
  }
};

}  // namespace rondo
