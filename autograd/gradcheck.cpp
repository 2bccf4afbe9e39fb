#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops.h"
#include "tensor/random.h"

namespace rondo {

GradientError gradient_error(const std::function<Tensor(const std::vector<Tensor>&)>& op,
                             const std::vector<Tensor>& inputs, double h) {
  std::vector<Tensor> at;
  for (const Tensor& t : inputs) {
    check(t.dtype() == DType::f64 && t.device() == Device::cpu, "gradient_error: input ", at.size(), " is ", t.dtype(),
          " on ", t.device(), ", but differences need f64 on the CPU");
    at.push_back(parameter(clone(detach(t))));
  }
  Gradients grads;
  Tensor w;
  {
    Tape tape;
    const Tensor y = op(at);
    w = empty_like(y);
    Generator g;
    fill_normal(w, 0, 1, g);
    tape.backward(sum(y * w), 1, grads);
  }
  const NoTape no_tape;
  GradientError worst;
  for (size_t k = 0; k < at.size(); ++k) {
    const Tensor rule = grads.find(at[k]);
    for (int64_t i = 0; i < at[k].numel(); ++i) {
      double& x = at[k].data<double>()[i];
      const double middle = x;
      // The error is of order h^4, far below the rounding of the loss over h.
      const auto value = [&](double dx) {
        x = middle + dx;
        return sum(op(at) * w).item();
      };
      const double difference = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h);
      x = middle;
      const double by_rule = rule ? rule.data<double>()[i] : 0,
                   error = std::abs(by_rule - difference) / std::max(1.0, std::abs(difference));
      if (!(error <= worst.error) && !std::isnan(worst.error)) worst = {error, k, i, by_rule, difference};
    }
  }
  return worst;
}

}  // namespace rondo
