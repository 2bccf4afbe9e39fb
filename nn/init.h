// Fresh parameters (marked as such: tapes keep their gradients), drawn as PyTorch draws them (so that learning curves
// can be compared). Each draws from g, in the order of the calls.
#pragma once
#include "../tensor/random.h"

namespace rondo {

// torch.nn.Linear's default for weight and bias: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
Tensor linear_init(const Shape& shape, int64_t fan_in, Generator& g, DType dtype = DType::f32);
// N(mean, std): torch.nn.Embedding's default is N(0, 1).
Tensor normal_init(const Shape& shape, double mean, double std, Generator& g, DType dtype = DType::f32);
// Every element `value`: scales start at one.
Tensor constant_init(const Shape& shape, double value, DType dtype = DType::f32);

}  // namespace rondo
