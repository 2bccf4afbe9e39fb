// That gradient_error finds what is wrong with a rule.
#include "autograd/gradcheck.h"

#include <cmath>

#include "autograd/ops.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

// x^2 with a rule that says `slope` times x, and adds `off` to the gradient of element 1.
GradientError of_square(double slope, double off = 0) {
  const auto square = [=](const std::vector<Tensor>& in) {
    const Tensor x = detach(in[0]);
    return record("square", {in[0]}, x * x, [=](const Tensor& dy) -> Grads {
      const Tensor dx = slope * (x * dy);
      dx.data<double>()[1] += off;
      return {dx};
    });
  };
  return gradient_error(square, {tensor<double>({1, -2, 0.5}, {3})});
}

TEST_CASE("gradient_error: what is right, wrong everywhere, or wrong in one place") {
  CHECK(of_square(2).error < 1e-9);
  CHECK(of_square(2.001).error > 1e-4);
  const GradientError one = of_square(2, 1e-3);
  CHECK(one.error > 1e-5);
  CHECK(one.input == 0);
  CHECK(one.element == 1);
  CHECK(one.rule - one.difference == doctest::Approx(1e-3));
  CHECK(std::isnan(of_square(2, NAN).error));
}

TEST_CASE("gradient_error: several inputs, and one that the result does not depend on") {
  const auto product = [](const std::vector<Tensor>& in) { return in[0] * in[1] + detach(in[2]); };
  const Tensor a = randn({2, 3}, DType::f64, 1), b = randn({3}, DType::f64, 2), c = randn({}, DType::f64, 3);
  const GradientError error = gradient_error(product, {a, b, c});
  CHECK(error.input == 2);  // its gradient is lost
  CHECK(error.rule == 0);
  CHECK(error.error > 1e-3);
  CHECK(same_bits(a, randn({2, 3}, DType::f64, 1)));  // what was given is as it was
  CHECK(Tape::current() == nullptr);
}

TEST_CASE("gradient_error: errors") {
  const auto same = [](const std::vector<Tensor>& in) { return in[0]; };
  CHECK(error_of([&] { gradient_error(same, {zeros({2})}); }) ==
        "gradient_error: input 0 is f32 on cpu, but differences need f64 on the CPU");
}

}  // namespace
}  // namespace rondo::testing
