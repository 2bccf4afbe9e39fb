// The learned scales of one multi-query attention, and the attention itself in its two forms.
#pragma once
#include <string>

#include "../autograd/ops.h"
#include "init.h"

namespace rondo {

struct Attention {
  Tensor q_scale, k_scale;  // [dim_head] each, or {}: queries and keys are not normalised
  double factor = 0;        // multiplies q k^T; 0 means 1/sqrt(dim_head)

  // `qk_norm_scale` replaces 1/sqrt(dim_head) where queries and keys are normalised; 0 keeps it, as the reference does.
  struct Options {
    bool qk_rmsnorm = false;
    double qk_norm_scale = 0;
  };
  Attention() = default;
  Attention(int64_t dim_head, Options how, DType dtype = DType::f32) : factor(how.qk_rmsnorm ? how.qk_norm_scale : 0) {
    if (!how.qk_rmsnorm) return;
    q_scale = constant_init({dim_head}, 1, dtype);
    k_scale = constant_init({dim_head}, 1, dtype);
  }

  // Sliding window over memory ++ kv, positions by `table` (see rondo::window_attention).
  Tensor window(const Tensor& q, const Tensor& kv, const Tensor& memory, int64_t width, const Tensor& table) const {
    return window_attention(q, kv, memory, width, {q_scale, k_scale, table, factor});
  }
  // Every key of a group for `width` queries (see rondo::group_attention).
  Tensor groups(const Tensor& q, const Tensor& kv, int64_t width) const {
    return group_attention(q, kv, width, {q_scale, k_scale, {}, factor});
  }

  template <class F>
  void each(F&& f) {
    if (!q_scale) return;
    f("q_scale", q_scale, true);
    f("k_scale", k_scale, true);
  }
};

}  // namespace rondo
