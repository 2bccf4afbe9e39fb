// The fixed gate of the recurrent states against its composed twin.
#include "tests/runs.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

const Op kGate = [](const std::vector<Tensor>& in) { return state_gate(in[0], in[1], in[2]); };
const Op kComposed = [](const std::vector<Tensor>& in) {
  const Tensor g = sigmoid(in[2]);
  return g * in[1] + (full(g.shape(), 1, g.dtype()) - g) * in[0];
};
const Shape kShapes[] = {{1}, {5}, {3, 1}, {7, 33}, {2, 40, 16}, {100, 3}, {1, 1000}, {0, 4}, {3, 0}};

std::vector<Tensor> inputs(const Shape& shape, DType dtype = DType::f64) {
  return {randn(shape, dtype, 1), randn(shape, dtype, 2), randn({shape.back()}, dtype, 3)};
}

}  // namespace

TEST_CASE("state_gate: the composed twin, forward and backward") {
  for (const Shape& shape : kShapes) {
    const std::vector<Tensor> found = run(kGate, inputs(shape)), expected = run(kComposed, inputs(shape));
    for (size_t i = 0; i < found.size(); ++i) CHECK(max_abs_diff(found[i], expected[i]) <= 1e-13);
  }
}

TEST_CASE("state_gate: gradients") {
  for (const Shape& shape : {Shape{1}, Shape{5}, Shape{3, 1}, Shape{7, 33}, Shape{2, 40, 3}, Shape{0, 4}, Shape{3, 0}})
    gradcheck(kGate, inputs(shape));
  for (const Shape& shape : {Shape{3, 1}, Shape{70, 33}, Shape{2, 40, 4}})  // beta is used twice
    gradcheck([](const std::vector<Tensor>& in) { return kGate({kGate(in), in[1], in[2]}); }, inputs(shape));
  check_f32_against_f64(kGate, inputs({200, 33}), 1e-6);
}

TEST_CASE("state_gate: a gate fully open or shut passes one side") {
  const Tensor c = randn({4, 3}), z = randn({4, 3}, DType::f64, 2);
  CHECK(same_bits(state_gate(c, z, full({3}, 1000, DType::f64)), z));
  CHECK(same_bits(state_gate(c, z, full({3}, -1000, DType::f64)), c));
}

TEST_CASE("state_gate: the same bits on any number of threads") {
  check_same_bits_on_threads(kGate, inputs({600, 130}, DType::f32));
}

TEST_CASE("state_gate: errors") {
  const Tensor c({2, 3}), beta({3});
  CHECK(error_of([&] {
          state_gate(c, Tensor({3, 2}), beta);
        }) == "state_gate: z has shape (3, 2), but c has shape (2, 3)");
  CHECK(error_of([&] { state_gate(c, c, Tensor({2})); }) ==
        "state_gate: beta has shape (2), but c has shape (2, 3), and beta is one number for each of its columns");
  CHECK(error_of([&] { state_gate(c, Tensor({2, 3}, DType::f64), beta); }) == "state_gate: z is f64, but c is f32");
  CHECK(error_of([&] { state_gate(c, c, Tensor({3}, DType::f64)); }) == "state_gate: beta is f64, but c is f32");
  CHECK(error_of([&] {
          state_gate(Tensor({2, 3}, DType::u8), c, beta);
        }) == "state_gate: c is u8, but the op computes in f32 or f64");
}
