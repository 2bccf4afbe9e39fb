// 2. The tape: while one is alive, ops on parameters are written down, and backward() plays them in reverse.
#include <rondo/rondo.h>

#include <cmath>
#include <iostream>

using namespace rondo;

int main() {
  // Parameters are tensors marked once.
  const Tensor w = parameter(tensor<double>({0.5, -1.5}, {2}));
  const Tensor x = tensor<double>({2, 3}, {2});

  Tape tape;                          // from here on, ops are recorded
  const Tensor y = tanh(sum(w * x));  // tanh(w . x)
  std::cout << "recorded ops: " << tape.size() << "\n" << tape.to_dot();

  const Gradients grads = tape.backward(y);
  std::cout << "y = " << y << ", dy/dw = " << grads[w] << "\n";

  // By hand: dy/dw = (1 - y^2) x.
  const double slope = 1 - y.item() * y.item();
  const double error =
      std::abs(grads[w].to_vector<double>()[0] - slope * 2) + std::abs(grads[w].to_vector<double>()[1] - slope * 3);

  // An op of your own is a function that computes a result and records its rule: given the gradient of the result, the
  // gradients of the inputs. What the rule captures is what is kept for the backward pass. The result is computed
  // from detached inputs, or else t * t would be recorded too.
  const auto square = [](const Tensor& t) {
    const Tensor c = detach(t);
    return record("square", {t}, c * c, [c](const Tensor& dy) -> Grads { return {2.0 * (c * dy)}; });
  };
  Tape another;
  const Gradients again = another.backward(sum(square(w)));
  std::cout << "d sum(w^2) / dw = " << again[w] << "\n";

  return error < 1e-15 ? 0 : 1;
}
