// torch.nn.Embedding.
#pragma once
#include <string>

#include "../autograd/ops.h"
#include "init.h"

namespace rondo {

struct Embedding {
  Tensor weight;  // [num_tokens, dim]

  Embedding() = default;
  Embedding(int64_t num_tokens, int64_t dim, Generator& g, DType dtype = DType::f32)
      : weight(normal_init({num_tokens, dim}, 0, 1, g, dtype)) {}

  // tokens [...] i64 -> [..., dim]
  Tensor operator()(const Tensor& tokens) const { return embedding(weight, tokens); }

  template <class F>
  void each(F&& f) {
    f("weight", weight, true);
  }
};

}  // namespace rondo
