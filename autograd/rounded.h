// The form of a weight that a device multiplies with. Private to autograd.
#pragma once
#include "autograd/ops.h"

namespace rondo {

// The weight, padded; and rounded to bf16 where a GPU multiplies an x of bf16. (A CPU rounds what it reads.) The weight
// itself where nothing is to be done.
Tensor weight_for_product(const Tensor& x, const Tensor& weight, const Padding& padding);

}  // namespace rondo
