// Norms of rows and heads, against plain loops, differences and closed forms.
#include <utility>

#include "tests/runs.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

const Op kLayerNorm = [](const std::vector<Tensor>& in) { return layer_norm(in[0], in[1]); };
const Op kRmsNorm = [](const std::vector<Tensor>& in) { return rms_norm(in[0], in[1]); };
const Op kL2Normalize = [](const std::vector<Tensor>& in) { return l2_normalize(in[0], in[1]); };

std::vector<Tensor> rows_and_gamma(const Shape& shape, uint64_t seed, DType dtype = DType::f64) {
  return {randn(shape, dtype, seed), randn({shape.back()}, dtype, seed + 100)};
}

// layer_norm (centred) or rms_norm, one number after the other.
Tensor naive_norm(const Tensor& x, const Tensor& gamma, double eps, bool centred) {
  Tensor y = empty_like(x);
  const int64_t n = x.dim(-1);
  for (int64_t i = 0; i < x.numel(); i += n) {
    const double* row = x.data<double>() + i;
    double mean = 0, var = 0;
    for (int64_t j = 0; j < n && centred; ++j) mean += row[j] / double(n);
    for (int64_t j = 0; j < n; ++j) var += (row[j] - mean) * (row[j] - mean) / double(n);
    for (int64_t j = 0; j < n; ++j)
      y.data<double>()[i + j] = (row[j] - mean) / std::sqrt(var + eps) * gamma.data<double>()[j];
  }
  return y;
}

// The same from other ops, divided by `divisor`.
Op composed_norm(bool centred, double eps, double divisor = 1) {
  return [=](const std::vector<Tensor>& in) {
    const Shape column = in[0].shape().with(-1, 1);
    const Tensor c = centred ? in[0] - reshape(mean(in[0], -1), column) : in[0];
    const Tensor var = reshape(mean(c * c, -1), column) + full({1}, eps, DType::f64);
    return scale(c * exp(scale(log(var), -0.5)) * in[1], 1 / divisor);
  };
}

}  // namespace

TEST_CASE("norms: gradients") {
  for (uint64_t seed : {1, 2, 3})
    for (const Shape& shape : {Shape{3, 7}, Shape{2, 33}, Shape{2, 1, 16}, Shape{5}, Shape{2, 2, 50}}) {
      gradcheck(kLayerNorm, rows_and_gamma(shape, seed));
      gradcheck(kRmsNorm, rows_and_gamma(shape, seed));
    }
  gradcheck(kLayerNorm, rows_and_gamma({1, 1000}, 4));
  gradcheck(kRmsNorm, rows_and_gamma({1, 1000}, 4));
  gradcheck(kLayerNorm, rows_and_gamma({4, 1}, 5));
  gradcheck(kRmsNorm, {tensor<double>({0.5, -2, 3}, {3, 1}), tensor<double>({1.5}, {1})});
  gradcheck([](const std::vector<Tensor>& in) { return layer_norm(in[0], in[1], 0.3); }, rows_and_gamma({3, 5}, 6));
  gradcheck([](const std::vector<Tensor>& in) { return rms_norm(in[0], in[1], 0.3); }, rows_and_gamma({3, 5}, 6));
}

TEST_CASE("norms: gradients of what is used twice are added up") {
  for (const Op& norm : {kLayerNorm, kRmsNorm, kL2Normalize})
    for (const Shape& shape : {Shape{3, 8}, Shape{40, 64}, Shape{2, 5, 3}})
      gradcheck(
          [&](const std::vector<Tensor>& in) {
            const Tensor once = norm(in);
            return norm({once, in[1]}) + once;
          },
          rows_and_gamma(shape, 7));
}

TEST_CASE("l2_normalize: gradients") {
  for (uint64_t seed : {1, 2, 3})
    for (int64_t d : {2, 7, 16, 33, 64})
      gradcheck(kL2Normalize, {randn({2, 3, 2 * d}, DType::f64, seed), randn({d}, DType::f64, seed + 100)});
  gradcheck(kL2Normalize, rows_and_gamma({1, 1000}, 4));
  gradcheck(kL2Normalize, {tensor<double>({0.5, -2, 3}, {1, 3}), tensor<double>({1.5}, {1})});
}

TEST_CASE("norms: the same as one number after the other") {
  for (const Shape& shape : {Shape{4, 1}, Shape{3, 33}, Shape{2, 1000}, Shape{700, 48}, Shape{3, 20000}}) {
    const std::vector<Tensor> in = rows_and_gamma(shape, 7);
    CHECK(max_abs_diff(layer_norm(in[0], in[1], 1e-5), naive_norm(in[0], in[1], 1e-5, true)) < 1e-12);
    CHECK(max_abs_diff(rms_norm(in[0], in[1], 1e-6), naive_norm(in[0], in[1], 1e-6, false)) < 1e-12);
    // A norm of one head is the norm by the mean of squares over sqrt(D).
    const Tensor unit = scale(naive_norm(in[0], in[1], 0, false), 1 / std::sqrt(double(shape.back())));
    CHECK(max_abs_diff(l2_normalize(in[0], in[1]), unit) < 1e-12);
  }
}

TEST_CASE("norms: results and gradients as of other ops") {
  for (const Shape& shape : {Shape{1500, 48}, Shape{3, 20000}}) {  // several tiles of rows; rows longer than a tile
    const std::vector<Tensor> in = rows_and_gamma(shape, 8);
    const std::pair<Op, Op> pairs[] = {{kLayerNorm, composed_norm(true, 1e-5)},
                                       {kRmsNorm, composed_norm(false, 1e-6)},
                                       {kL2Normalize, composed_norm(false, 0, std::sqrt(double(shape.back())))}};
    for (const auto& [op, composed] : pairs) {
      const std::vector<Tensor> found = run(op, in), expected = run(composed, in);
      for (size_t i = 0; i < 3; ++i) CHECK(max_abs_diff(found[i], expected[i]) < 1e-11);
    }
  }
}

TEST_CASE("l2_normalize: each head for itself") {
  const Tensor x = randn({3, 4 * 18}), scale = randn({18}, DType::f64, 2);
  CHECK(same_bits(l2_normalize(x, scale), l2_normalize(x.view({12, 18}), scale).view({3, 72})));
}

TEST_CASE("norms: f32") {
  // Sums of n products in lanes: some 20 roundings of 6e-8 each, in the norm and again in its gradient.
  const auto check_shape = [](const Shape& shape) {
    check_f32_against_f64(kLayerNorm, rows_and_gamma(shape, 8), 2e-6);
    check_f32_against_f64(kRmsNorm, rows_and_gamma(shape, 8), 2e-6);
    check_f32_against_f64(kL2Normalize, rows_and_gamma(shape, 8), 2e-6);
  };
  for (const int64_t n : {3, 5, 6, 7, 8, 9, 10, 12, 15, 23, 29, 31, 32, 33, 38, 41}) check_shape({5, n});
  check_shape({70, 1000}), check_shape({512, 64});
}

TEST_CASE("norms: constant rows") {
  const Tensor x = full({3, 515}, 12345.678), gamma = randn({515}, DType::f32);
  const std::vector<Tensor> results = run(kLayerNorm, {x, gamma});
  CHECK(same_bits(scale(results[0], 0), results[0]));  // zeros, although 12345.678 has 1e-3 of rounding
  const Tensor w = randn({3, 515}, DType::f32, 99), g = w * gamma;
  // With x - mean = 0 and var = 0, dx = (g - mean(g)) / sqrt(eps).
  const Tensor centred = scale(g - broadcast_to(reshape(mean(g, 1), {3, 1}), {3, 515}), 1 / std::sqrt(1e-5));
  CHECK(max_abs_diff(results[1], centred) < 1e-3);
  CHECK(max_abs_diff(results[2], zeros({515})) == 0);
  const std::vector<Tensor> zero = run(kRmsNorm, {zeros({3, 515}), gamma});
  CHECK(max_abs_diff(zero[0], zeros({3, 515})) == 0);
  CHECK(max_abs_diff(zero[1], scale(g, 1e3)) < 1e-3);
}

TEST_CASE("layer_norm: large means") {
  const std::vector<Tensor> in = rows_and_gamma({4, 300}, 9);
  const Tensor shifted = in[0] + full({1}, 1e6, DType::f64);
  CHECK(max_abs_diff(layer_norm(shifted, in[1]), layer_norm(in[0], in[1])) < 1e-8);
}

TEST_CASE_TEMPLATE("l2_normalize: tiny norms", T, float, double) {
  const DType t = dtype_of<T>;
  const Tensor w = randn({2, 8}, t, 99), scale_ = randn({8}, t, 3);
  const Tensor direction = randn({2, 8}, t, 4);
  for (double size : {0.0, 1e-30, 1e-14}) {  // below 1e-12: x / 1e-12
    const Tensor x = scale(direction, size);
    const std::vector<Tensor> results = run(kL2Normalize, {x, scale_});
    CHECK(max_abs_diff(results[0], scale(x, 1e12) * scale_) < 1e-6);
    CHECK(max_abs_diff(scale(results[1], 1e-12), w * scale_) < 1e-6);
    CHECK(max_abs_diff(results[2], sum_to(w * scale(x, 1e12), {8})) < 1e-6);
  }
  for (double size : {1e-10, 1e10}) {  // above: only the direction counts
    const std::vector<Tensor> results = run(kL2Normalize, {scale(direction, size), scale_});
    const std::vector<Tensor> expected = run(kL2Normalize, {direction, scale_});
    CHECK(max_abs_diff(results[0], expected[0]) < 1e-6);
    CHECK(max_abs_diff(scale(results[1], size), expected[1]) < 1e-5);
    CHECK(max_abs_diff(results[2], expected[2]) < 1e-5);
  }
}

TEST_CASE("norms: NaN is not lost") {
  Tensor x = randn({2, 40}), gamma = randn({40});
  x.data<double>()[45] = NAN;
  for (const Op& op : {kLayerNorm, kRmsNorm, kL2Normalize}) {
    const std::vector<double> y = values(op({x, gamma}));
    for (int i = 0; i < 80; ++i) CHECK(std::isnan(y[i]) == (i >= 40));
  }
}

TEST_CASE("norms: empty tensors") {
  for (const Op& op : {kLayerNorm, kRmsNorm, kL2Normalize}) {
    const std::vector<Tensor> results = run(op, {Tensor({0, 5}, DType::f64), randn({5})});
    CHECK(results[0].shape() == Shape{0, 5});
    CHECK(results[1].shape() == Shape{0, 5});
    CHECK(max_abs_diff(results[2], zeros({5})) == 0);
  }
  for (const Op& op : {kLayerNorm, kRmsNorm})
    CHECK(run(op, {Tensor({4, 0}, DType::f64), Tensor({0}, DType::f64)})[1].shape() == Shape{4, 0});
}

TEST_CASE("norms: the same bits on any number of threads") {
  for (const Shape& shape : {Shape{501, 1000}, Shape{3000, 33}}) {
    check_same_bits_on_threads(kLayerNorm, rows_and_gamma(shape, 11, DType::f32));
    check_same_bits_on_threads(kRmsNorm, rows_and_gamma(shape, 11, DType::f32));
    check_same_bits_on_threads(kL2Normalize, rows_and_gamma(shape, 11, DType::f32));
  }
}

TEST_CASE("norms: errors") {
  const Tensor x = randn({2, 6}, DType::f32), gamma = randn({5}, DType::f32);
  CHECK(error_of([&] { layer_norm(x, gamma); }) ==
        "layer_norm: gamma has shape (5), but the rows of x (2, 6) have width 6");
  CHECK(error_of([&] { rms_norm(x, gamma); }) ==
        "rms_norm: gamma has shape (5), but the rows of x (2, 6) have width 6");
  CHECK(error_of([&] { layer_norm(x, randn({6})); }) == "layer_norm: gamma is f64, but x is f32");
  CHECK(error_of([&] { rms_norm(Tensor({2}, DType::i64), gamma); }) ==
        "rms_norm: x is i64, but the op computes in f32 or f64");
  CHECK(error_of([&] { layer_norm(zeros({}), gamma); }) == "layer_norm: x has shape (), but a norm asks for rows");
  CHECK(error_of([&] { layer_norm({}, gamma); }) == "layer_norm: x is missing");
  CHECK(error_of([&] { l2_normalize(x, {}); }) == "l2_normalize: scale is missing");
  CHECK(error_of([&] { l2_normalize(x, gamma); }) ==
        "l2_normalize: x has shape (2, 6), but scale (5) asks for rows of heads of width 5");
  CHECK(error_of([&] {
          l2_normalize(x, zeros({2, 3}));
        }) == "l2_normalize: scale has shape (2, 3), but a head asks for (D), D >= 1");
  CHECK(error_of([&] { l2_normalize(x, randn({3})); }) == "l2_normalize: scale is f64, but x is f32");
}
