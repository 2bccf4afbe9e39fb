// The fixed work of `rondo bench`, for what does the same with another library.
#pragma once
#include "tensor/random.h"
#include "tensor/tensor.h"

namespace rondo {

inline Tensor random_tokens(const Shape& shape, int64_t num_tokens, Generator& g) {
  Tensor tokens(shape, DType::i64);
  for (int64_t i = 0; i < tokens.numel(); ++i) tokens.data<int64_t>()[i] = g.below(num_tokens);
  return tokens;
}

}  // namespace rondo
