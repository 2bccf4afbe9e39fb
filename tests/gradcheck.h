// Compares an op's backward rule with central differences, in f64, and every device with the CPU. The loss is
// <op(inputs), w> with random w: a plain sum would hide errors (the true gradient of sum(softmax(x)) is zero).
#pragma once
#include <functional>

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

// Checks every element of every input. `tolerance` is times max(1, |gradient|); `h` is the step of the differences.
inline void gradcheck(const Op& op, std::vector<Tensor> inputs, double tolerance = 1e-7, double h = 1e-5) {
  const std::vector<Tensor> results = run(op, inputs);
  // Sums of a thousand terms, in another order.
  for (const Device device : devices()) check_close(run(op, on(device, inputs)), results, 1e-12, device);

  for (Tensor& t : inputs) t = clone(t);
  const Tensor w = randn(results[0].shape(), DType::f64, 99);
  for (size_t k = 0; k < inputs.size(); ++k)
    for (int64_t i = 0; i < inputs[k].numel(); ++i) {
      double& x = inputs[k].data<double>()[i];
      const double at = x;
      // Four points: the error is of order h^4, far below the rounding of the loss over h.
      const auto value = [&](double dx) {
        x = at + dx;
        return sum(op(inputs) * w).item();
      };
      const double numeric = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
      x = at;
      const double rule = results[k + 1].data<double>()[i];
      if (std::abs(rule - numeric) > tolerance * std::max(1.0, std::abs(numeric)))
        FAIL_CHECK("input ", k, ", element ", i, ": the rule says ", rule, ", differences say ", numeric);
    }
}

}  // namespace rondo::testing
