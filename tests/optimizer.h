// What tests of optimizers share: parameters and gradients for them.
#pragma once
#include "nn/optimizer.h"
#include "tests/mallocs.h"
#include "tests/testing.h"

namespace rondo::testing {

// Two small parameters; `bias` has a gradient at steps 0 and 2 alone.
struct Small {
  Tensor weight, bias;
  Small(DType dtype)
      : weight(to(tensor<double>({1, -2, 3, 0.5, 0.25, -0.125}, {2, 3}), dtype)),
        bias(to(tensor<double>({0.1, -0.2}, {2}), dtype)) {}
  std::vector<NamedTensor> named() const { return {{"weight", weight, true}, {"bias", bias, true}}; }

  static Tensor gradient(int step, int which, const Tensor& like) {
    std::vector<double> g;
    for (int k = 0; k < int(like.numel()); ++k) g.push_back(((7 * step + 5 * which + 3 * k) % 11 - 5) / 4.0);
    return to(tensor(g, like.shape()), like.dtype());
  }
  Gradients gradients(int step) const {
    Gradients grads;
    grads.add(weight, gradient(step, 0, weight));
    if (step % 2 == 0) grads.add(bias, gradient(step, 1, bias));
    return grads;
  }
};

inline void check_close(const Tensor& t, const std::vector<double>& expected, double tolerance) {
  const std::vector<double> found = values(t);
  REQUIRE(found.size() == expected.size());
  size_t worst = 0;
  for (size_t i = 0; i < found.size(); ++i)
    if (!(std::abs(found[i] - expected[i]) <= std::abs(found[worst] - expected[worst]))) worst = i;
  if (!found.empty() && !(std::abs(found[worst] - expected[worst]) <= tolerance))
    FAIL_CHECK("element ", worst, " is off by ", found[worst] - expected[worst], ": ", found[worst], ", not ",
               expected[worst]);
}

// Sizes around the borders of chunks, none and one among them.
inline std::vector<NamedTensor> many_parameters(DType dtype) {
  std::vector<NamedTensor> all;
  for (const int64_t n : {0, 1, 33, 1000, 16384, 16385, 50000})
    all.push_back({"p" + std::to_string(n), randn({n}, dtype, uint64_t(n)), true});
  all.push_back({"matrix", randn({100, 37}, dtype, 5), true});
  return all;
}
inline Gradients many_gradients(const std::vector<NamedTensor>& parameters, int step) {
  Gradients grads;
  for (size_t i = 0; i < parameters.size(); ++i)
    if ((i + size_t(step)) % 3)
      grads.add(parameters[i].tensor,
                randn(parameters[i].tensor.shape(), parameters[i].tensor.dtype(), i * 100 + uint64_t(step)));
  return grads;
}

// A step like the one before it asks for no memory.
template <class Optimizer>
void check_warm_step(Optimizer& optimizer) {
  const Gradients grads = many_gradients(optimizer.parameters(), 0);
  optimizer.step(grads);
  const int64_t before = mallocs();
  optimizer.step(grads);
  CHECK(mallocs() - before == 0);
}

// The length of all gradients as one vector.
inline double norm_of(const std::vector<NamedTensor>& parameters, const Gradients& grads) {
  double squares = 0;
  for (const NamedTensor& p : parameters)
    if (const Tensor g = grads.find(p.tensor))
      for (const double x : values(g)) squares += x * x;
  return std::sqrt(squares);
}

}  // namespace rondo::testing
