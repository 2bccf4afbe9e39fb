// Sums and means against plain loops.
#include <algorithm>

#include "tests/runs.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

struct Case {
  Shape from, to;
};
const Case kCases[] = {{{3, 5}, {}},
                       {{3, 5}, {5}},
                       {{3, 5}, {3, 1}},
                       {{3, 5}, {1, 5}},
                       {{3, 5}, {1, 1}},
                       {{3, 5}, {3, 5}},
                       {{1, 5}, {5}},
                       {{4, 33, 7}, {33, 1}},
                       {{4, 33, 7}, {4, 1, 7}},
                       {{4, 33, 7}, {1, 1, 7}},
                       {{2, 3, 4, 5}, {3, 1, 5}},
                       {{2, 3, 2, 3, 2, 3}, {1, 3, 1, 3, 1, 3}},
                       {{2, 3, 2, 3, 2, 3}, {2, 1, 2, 1, 2, 1}},
                       {{0, 4}, {4}},
                       {{0, 4}, {}},
                       {{4, 0}, {1, 0}},
                       {{4, 0}, {4, 1}},
                       {{}, {}}};
// Wide, long, and deep enough for several tiles and several rounds of partial sums.
const Case kLarge[] = {{{40000}, {}},       {{700, 70}, {70}},          {{700, 70}, {700, 1}},
                       {{9, 5000}, {5000}}, {{3, 20000, 2}, {3, 1, 2}}, {{20003, 2}, {2}},
                       {{5110, 10}, {10}},  {{5100, 10}, {10}},         {{1100, 64}, {64}},
                       {{1023, 3}, {3}},    {{600, 3, 30}, {3, 1}},     {{2, 300, 1100}, {2, 1, 1100}}};

Op to_shape(const Shape& shape) {
  return [shape](const std::vector<Tensor>& in) { return sum_to(in[0], shape); };
}

// In double, one element after the other.
Tensor naive(const Tensor& x, const Shape& shape) {
  const std::vector<double> in = values(x);
  const Tensor y = zeros(shape, DType::f64);
  for (int64_t i = 0; i < x.numel(); ++i) {
    int64_t index = 0, stride = 1, place = i;
    for (int k = 1; k <= x.rank(); place /= x.dim(-k), ++k) {
      if (k > shape.rank()) continue;
      index += (shape[-k] == 1 ? 0 : place % x.dim(-k)) * stride;
      stride *= shape[-k];
    }
    y.data<double>()[index] += in[size_t(i)];
  }
  return y;
}

}  // namespace

TEST_CASE("sum_to: a loop over the elements") {
  for (const Case& c : kCases) {
    const Tensor x = randn(c.from), y = sum_to(x, c.to);
    CHECK(y.shape() == c.to);
    CHECK(max_abs_diff(y, naive(x, c.to)) <= 1e-13);
  }
  for (const Case& c : kLarge) {
    const Tensor x = randn(c.from), x32 = to(x, DType::f32);
    CHECK(max_abs_diff(sum_to(x, c.to), naive(x, c.to)) <= 1e-11);
    // Sums of a few hundred to 40,000 numbers around 1, of both signs.
    CHECK(max_abs_diff(sum_to(x32, c.to), naive(x32, c.to)) <= 2e-4);
    check_same_bits_on_threads(to_shape(c.to), {x32});
  }
}

TEST_CASE("sum: a million f32 numbers keep their digits") {
  constexpr int64_t n = 1000000;
  for (double value : {0.1, 1.0 / 3, 1e-3, 1e30}) {
    const Tensor x = full({n}, value), columns = x.view({n / 4, 4}), wide = x.view({1000, 1000});
    const double exact = values(x)[0] * n;
    CHECK(std::abs(sum(x).item() / exact - 1) < 1e-6);
    for (double v : values(sum(columns, 0))) CHECK(std::abs(v / (exact / 4) - 1) < 1e-6);
    for (double v : values(sum(wide, 0))) CHECK(std::abs(v / (exact / 1000) - 1) < 1e-6);
    for (double v : values(sum(wide, 1))) CHECK(std::abs(v / (exact / 1000) - 1) < 1e-6);
  }
  Tensor x({n});
  Generator g{3, 4, 0};
  fill_uniform(x, 0, 1, g);
  double exact = 0;
  for (double v : values(x)) exact += v;
  CHECK(std::abs(sum(x).item() / exact - 1) < 1e-6);
  CHECK(std::abs(mean(x).item() * n / exact - 1) < 1e-6);
}

TEST_CASE("sum and mean: along each axis") {
  for (const Shape& shape : {Shape{3, 5}, Shape{4, 33, 7}, Shape{2, 1, 3}, Shape{1}}) {
    const Tensor x = randn(shape);
    CHECK(max_abs_diff(sum(x), naive(x, {})) <= 1e-12);
    CHECK(max_abs_diff(mean(x), scale(naive(x, {}), 1.0 / double(x.numel()))) <= 1e-15);
    for (int axis = 0; axis < shape.rank(); ++axis) {
      Shape left;
      for (int i = 0; i < shape.rank(); ++i)
        if (i != axis) left.push_back(shape[i]);
      const Tensor expected = naive(x, shape.with(axis, 1)).view(left);
      CHECK(max_abs_diff(sum(x, axis), expected) <= 1e-13);
      CHECK(max_abs_diff(sum(x, axis - shape.rank()), expected) <= 1e-13);
      CHECK(max_abs_diff(mean(x, axis), scale(expected, 1.0 / double(shape[axis]))) <= 1e-14);
    }
  }
}

TEST_CASE("sum: of f32 rows of every width, and nothing of their neighbours") {
  for (int64_t n = 1; n <= 300; n += n < 41 ? 1 : 37) {
    Tensor x = full({3, n}, INFINITY);
    for (int64_t i = 0; i < n; ++i) x.data<float>()[n + i] = float(i + 1);
    CHECK(values(sum(x, 1)) == std::vector<double>{INFINITY, double(n * (n + 1) / 2), INFINITY});
    CHECK(sum(narrow(x, 0, 1, 1)).item() == double(n * (n + 1) / 2));
  }
}

TEST_CASE("sum and mean: gradients") {
  for (const Case& c : kCases) gradcheck(to_shape(c.to), {randn(c.from)});
  for (const Shape& shape : {Shape{}, Shape{33}, Shape{3, 5}, Shape{2, 3, 4}, Shape{2, 0}}) {
    gradcheck([](const std::vector<Tensor>& in) { return sum(in[0]); }, {randn(shape)});
    if (shape.numel() > 0) gradcheck([](const std::vector<Tensor>& in) { return mean(in[0]); }, {randn(shape)});
    for (int axis = 0; axis < shape.rank(); ++axis) {
      gradcheck([&](const std::vector<Tensor>& in) { return sum(in[0], axis); }, {randn(shape)});
      gradcheck([&](const std::vector<Tensor>& in) { return sum(in[0], axis - shape.rank()); }, {randn(shape)});
      if (shape[axis] > 0) gradcheck([&](const std::vector<Tensor>& in) { return mean(in[0], axis); }, {randn(shape)});
    }
  }
}

TEST_CASE("sum and mean: of nothing") {
  CHECK(sum(Tensor({0, 3})).item() == 0);
  CHECK(values(sum(Tensor({0, 3}), 0)) == std::vector<double>{0, 0, 0});
  CHECK(sum(Tensor({0, 3}), 1).shape() == Shape{0});
  CHECK(std::isnan(mean(Tensor({0})).item()));
}

TEST_CASE("sum and mean: NaN and infinity come through") {
  CHECK(std::isnan(sum(tensor<float>({1, NAN, 2}, {3})).item()));
  CHECK(sum(tensor<float>({1, INFINITY, 2}, {3})).item() == INFINITY);
}

TEST_CASE("reduce: errors") {
  const Tensor x({2, 3}), ints({2, 3}, DType::i64);
  CHECK(error_of([&] { sum(x, 2); }) == "sum: axis is 2, but x has shape (2, 3)");
  CHECK(error_of([&] { sum(x, -3); }) == "sum: axis is -3, but x has shape (2, 3)");
  CHECK(error_of([&] { mean(x, 2); }) == "mean: axis is 2, but x has shape (2, 3)");
  CHECK(error_of([&] { sum(ints); }) == "sum: x is i64, but the op computes in f32 or f64");
  CHECK(error_of([&] { mean(ints, 0); }) == "mean: x is i64, but the op computes in f32 or f64");
  CHECK(error_of([&] { mean({}); }) == "mean: x is missing");
  CHECK(error_of([&] { sum_to(x, {2}); }) ==
        "sum_to: x has shape (2, 3), but shape is (2), which does not broadcast to it");
  CHECK(error_of([&] {
          sum_to(x, {1, 2, 3});
        }) == "sum_to: x has shape (2, 3), but shape is (1, 2, 3), which does not broadcast to it");
  CHECK(error_of([&] { sum_to(ints, {3}); }) == "sum_to: x is i64, but the op computes in f32 or f64");
}
