// Dropout: what stays, what goes, and the gradient through the mask.
#include "nn/dropout.h"

#include "tests/gradcheck.h"

namespace rondo::testing {
namespace {

TEST_CASE("dropout: zeros at the rate p, the rest scaled") {
  const Tensor x = full({20000}, 3, DType::f64);
  for (const double p : {0.0, 0.1, 0.75}) {
    Generator g{7, 0, 0};
    int64_t dropped = 0;
    for (const double v : values(dropout(x, p, g))) {
      dropped += v == 0;
      CHECK((v == 0 || v == doctest::Approx(3 / (1 - p)).epsilon(1e-15)));
    }
    CHECK(double(dropped) / 20000 == doctest::Approx(p).epsilon(0.05));
    CHECK(g.position == 40000);
  }
}

TEST_CASE("dropout: the gradient, and the same mask on every device") {
  const auto op = [](const std::vector<Tensor>& in) {
    Generator g{3, 0, 0};
    return dropout(in[0], 0.4, g);
  };
  gradcheck(op, {randn({3, 5}, DType::f64, 1)});
}

TEST_CASE("dropout: errors") {
  Generator g;
  for (const double p : {-0.1, 1.0, double(NAN)})
    CHECK(error_of([&] { dropout(zeros({2}), p, g); }).ends_with("but must be at least 0 and below 1"));
  CHECK(error_of([&] { dropout({}, 0.5, g); }) == "dropout: x is missing");
  CHECK(error_of([&] { dropout(zeros({2}, DType::i64), 0.5, g); }) ==
        "dropout: x is i64, but the op computes in f32 or f64");
  CHECK(g.position == 0);
}

}  // namespace
}  // namespace rondo::testing
