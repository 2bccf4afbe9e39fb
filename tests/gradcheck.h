// Compares an op's backward rule with central differences, in f64. The loss is <op(inputs), w> with random w: a plain
// sum would hide errors (the true gradient of sum(softmax(x)) is zero).
#pragma once
#include <functional>

#include "autograd/ops.h"
#include "tests/testing.h"

namespace rondo::testing {

using Op = std::function<Tensor(const std::vector<Tensor>&)>;

// Checks every element of every input. `tolerance` is times max(1, |gradient|); `h` is the step of the differences.
inline void gradcheck(const Op& op, std::vector<Tensor> inputs, double tolerance = 1e-7, double h = 1e-5) {
  for (Tensor& t : inputs) t = parameter(clone(t));
  const Tensor w = randn(op(inputs).shape(), DType::f64, 99);
  const auto loss = [&] { return sum(op(inputs) * w); };
  Tape tape;
  const Gradients grads = tape.backward(loss());
  for (size_t k = 0; k < inputs.size(); ++k) {
    const Tensor found = grads.find(inputs[k]);
    for (int64_t i = 0; i < inputs[k].numel(); ++i) {
      double& x = inputs[k].data<double>()[i];
      const double at = x;
      // Four points: the error is of order h^4, far below the rounding of the loss over h.
      const auto value = [&](double dx) {
        x = at + dx;
        Tape unused;  // the differences run on a tape of their own, which is never played
        return loss().item();
      };
      const double numeric = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
      x = at;
      const double rule = found ? found.data<double>()[i] : 0;
      if (std::abs(rule - numeric) > tolerance * std::max(1.0, std::abs(numeric)))
        FAIL_CHECK("input ", k, ", element ", i, ": the rule says ", rule, ", differences say ", numeric);
    }
  }
}

}  // namespace rondo::testing
