// The gated GELU against its composed twin.
#include "tests/runs.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

const Op kGeglu = [](const std::vector<Tensor>& in) { return geglu(in[0]); };
const Op kComposed = [](const std::vector<Tensor>& in) {
  const int64_t width = in[0].dim(-1) / 2;
  return narrow(in[0], -1, 0, width) * gelu(narrow(in[0], -1, width, width));
};
const Shape kShapes[] = {{2}, {3, 2}, {3, 66}, {2, 3, 16}, {5, 2730}, {0, 4}, {3, 0}};

}  // namespace

TEST_CASE("geglu: the composed twin, forward and backward") {
  for (DType dtype : {DType::f64, DType::f32})
    for (const Shape& shape : kShapes) {
      CAPTURE(shape.numel());
      const std::vector<Tensor> found = run(kGeglu, {randn(shape, dtype)}),
                                expected = run(kComposed, {randn(shape, dtype)});
      const double tolerance = dtype == DType::f64 ? 1e-14 : 2e-6;  // products of three numbers up to 4
      CHECK(max_abs_diff(found[0], expected[0]) <= tolerance);
      CHECK(max_abs_diff(found[1], expected[1]) <= tolerance);
    }
}

TEST_CASE("geglu: gradients") {
  for (const Shape& shape : {Shape{2}, Shape{3, 2}, Shape{3, 10}, Shape{2, 3, 66}, Shape{0, 4}, Shape{3, 0}})
    gradcheck(kGeglu, {randn(shape)});
  check_f32_against_f64(kGeglu, {randn({30, 402})}, 1e-6);
}

TEST_CASE_TEMPLATE("geglu: gates at the extremes", T, float, double) {
  const Tensor x = parameter(tensor<T>({3, 3, 3, -1000, 0, 1000}, {1, 6}));
  Tape tape;
  const Tensor y = geglu(x);
  CHECK(same_bits(y, tensor<T>({T(-0.0), 0, 3000}, {1, 3})));
  CHECK(values(tape.backward(sum(y))[x]) == std::vector<double>{0, 0, 1000, 0, 1.5, 3});
}

TEST_CASE("geglu: the same bits on any number of threads") {
  check_same_bits_on_threads(kGeglu, {randn({100, 1366}, DType::f32)});
  check_same_bits_on_threads(kGeglu, {randn({3, 80002}, DType::f32)});
}

TEST_CASE("geglu: errors") {
  CHECK(error_of([] { geglu(Tensor({2, 3})); }) == "geglu: x has shape (2, 3), but the op asks for two equal halves");
  CHECK(error_of([] { geglu(Tensor(Shape{})); }) == "geglu: x has shape (), but the op asks for two equal halves");
  CHECK(error_of([] {
          geglu(Tensor({2, 4}, DType::i32));
        }) == "geglu: x is i32, but the op computes in f32, f64 or bf16");
}
