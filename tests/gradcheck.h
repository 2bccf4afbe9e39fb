// Compares an op's backward rule with differences (autograd/gradcheck.h), and every device with the CPU.
#pragma once
#include <functional>

#include "autograd/gradcheck.h"
#include "autograd/ops.h"
#include "tests/testing.h"

namespace rondo::testing {

using Op = std::function<Tensor(const std::vector<Tensor>&)>;

// The result of an op, then the gradients of <result, w> by the float inputs, with random w. Integer inputs have none.
inline std::vector<Tensor> run(const Op& op, std::vector<Tensor> inputs) {
  for (Tensor& t : inputs)
    if (is_float(t.dtype())) t = parameter(clone(t));
  Tape tape;
  std::vector<Tensor> results{op(inputs)};
  const Tensor& y = results[0];
  const Gradients grads = tape.backward(sum(y * to(randn(y.shape(), y.dtype(), 99), y.device())));
  for (const Tensor& t : inputs)
    if (is_float(t.dtype())) results.push_back(grads.find(t) ? grads[t] : zeros_like(t));
  return results;
}

// That each tensor agrees up to `tolerance` times its largest number.
inline void check_close(const std::vector<Tensor>& found, const std::vector<Tensor>& expected, double tolerance,
                        Device device) {
  for (size_t i = 0; i < expected.size(); ++i) {
    double largest = 1;
    for (double v : values(expected[i])) largest = std::max(largest, std::abs(v));
    CHECK_MESSAGE(max_abs_diff(found[i], expected[i]) <= tolerance * largest, "result ", i, " on ", device);
  }
}

// The rule against differences at every element, and every device against the CPU. `tolerance` is times
// max(1, |gradient|); `h` is the step of the differences.
inline void gradcheck(const Op& op, const std::vector<Tensor>& inputs, double tolerance = 1e-7, double h = 1e-5) {
  const std::vector<Tensor> results = run(op, inputs);
  // Sums of a thousand terms, in another order.
  for (const Device device : devices()) check_close(run(op, on(device, inputs)), results, 1e-12, device);
  const GradientError worst = gradient_error(op, inputs, h);
  CHECK_MESSAGE(worst.error <= tolerance, "input ", worst.input, ", element ", worst.element, ": the rule says ",
                worst.rule, ", differences say ", worst.difference);
}

}  // namespace rondo::testing
