// Whether an op's backward rule is right: it is compared with differences of the op itself.
#pragma once
#include <functional>
#include <vector>

#include "../tensor/tensor.h"

namespace rondo {

// Where a rule and the differences are furthest apart.
struct GradientError {
  double error = 0;  // |rule - difference| / max(1, |difference|)
  size_t input = 0;
  int64_t element = 0;
  double rule = 0, difference = 0;
};

// For every element of every input (f64, on the CPU): d <op(inputs), w> / d element by the op's rule, and by four
// points at distances of h and 2h. w is random: a plain sum would hide errors (the gradient of sum(softmax(x)) is zero
// whatever the rule says). A good rule of a smooth op is within 1e-7; an error that is NaN is the largest there is.
GradientError gradient_error(const std::function<Tensor(const std::vector<Tensor>&)>& op,
                             const std::vector<Tensor>& inputs, double h = 1e-5);

}  // namespace rondo
