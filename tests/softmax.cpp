// Softmax and its logarithm, against exp over its sum, differences and closed forms.
#include <algorithm>
#include <utility>

#include "tests/runs.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

const Op kSoftmax = [](const std::vector<Tensor>& in) { return softmax(in[0]); };
const Op kLogSoftmax = [](const std::vector<Tensor>& in) { return log_softmax(in[0]); };

}  // namespace

TEST_CASE("softmax: gradients") {
  for (uint64_t seed : {1, 2, 3})
    for (const Shape& shape : {Shape{3, 7}, Shape{2, 33}, Shape{2, 3, 16}, Shape{5}, Shape{4, 1}}) {
      gradcheck(kSoftmax, {randn(shape, DType::f64, seed)});
      gradcheck(kLogSoftmax, {randn(shape, DType::f64, seed)});
    }
  gradcheck(kSoftmax, {randn({1, 1000}, DType::f64, 4)});
  gradcheck(kLogSoftmax, {randn({1, 1000}, DType::f64, 4)});
}

TEST_CASE("softmax: the same as exp over its sum") {
  for (const Shape& shape : {Shape{4, 1}, Shape{3, 33}, Shape{2, 1000}, Shape{700, 48}, Shape{2, 20000}}) {
    const Tensor x = randn(shape, DType::f64, 5);
    const Op quotient = [](const std::vector<Tensor>& in) {
      const Tensor e = exp(in[0]);
      return e / reshape(sum(e, -1), in[0].shape().with(-1, 1));
    };
    const Op logarithm = [&](const std::vector<Tensor>& in) { return log(quotient(in)); };
    for (const auto& [op, composed] : {std::pair<Op, Op>{kSoftmax, quotient}, {kLogSoftmax, logarithm}}) {
      const std::vector<Tensor> found = run(op, {x}), expected = run(composed, {x});
      CHECK(max_abs_diff(found[0], expected[0]) < 1e-13);
      CHECK(max_abs_diff(found[1], expected[1]) < 1e-12);
    }
  }
}

TEST_CASE("softmax: f32") {
  // exp is good to 1e-7 of itself, so sums and quotients are to a few of these; logarithms of 1e-5 are as large as 12.
  const auto check_shape = [](const Shape& shape) {
    check_f32_against_f64(kSoftmax, {randn(shape)}, 1e-6);
    check_f32_against_f64(kLogSoftmax, {randn(shape)}, 2e-6);
  };
  for (int64_t n = 1; n <= 41; ++n) check_shape({3, n});
  check_shape({70, 1000});
}

TEST_CASE_TEMPLATE("softmax: huge logits and equal logits", T, float, double) {
  const T huge = T(1e4), inf = T(INFINITY);
  const Tensor x = tensor<T>({huge, 0, -huge, -huge, -huge, -huge, huge, huge, 0, 3, -inf, 3}, {4, 3});
  const T third = T(1) / 3, half = T(0.5), l2 = std::log(T(2)), l3 = std::log(T(3));
  const Tensor expected = tensor<T>({1, 0, 0, third, third, third, half, half, 0, half, 0, half}, {4, 3});
  CHECK(max_abs_diff(softmax(x), expected) < 1e-7);
  const std::vector<double> y = values(softmax(x));
  CHECK((y[1] == 0 && y[2] == 0 && y[8] == 0 && y[10] == 0));  // no denormal numbers
  const Tensor logs = tensor<T>({0, -huge, -2 * huge, -l3, -l3, -l3, -l2, -l2, -huge - l2, -l2, -inf, -l2}, {4, 3});
  CHECK(max_abs_diff(log_softmax(x), logs) <= (sizeof(T) == 4 ? 1e-6 : 1e-11));
  // Where one logit has all the weight, the gradient is zero.
  const std::vector<Tensor> results = run(kSoftmax, {tensor<T>({huge, 0, -huge}, {1, 3})});
  CHECK(max_abs_diff(results[1], zeros({1, 3})) == 0);
  const std::vector<Tensor> log_results = run(kLogSoftmax, {tensor<T>({huge, 0, -huge}, {1, 3})});
  const std::vector<double> w = values(randn({1, 3}, dtype_of<T>, 99)), dx = values(log_results[1]);
  CHECK(std::abs(dx[0] + w[1] + w[2]) < 1e-6);
  CHECK((dx[1] == w[1] && dx[2] == w[2]));
}

TEST_CASE_TEMPLATE("softmax: one huge logit, at every place of rows of every width", T, float, double) {
  for (int64_t n : {1, 2, 3, 7, 8, 9, 15, 31, 32, 33, 40, 63, 95, 130}) {
    Tensor x = zeros({n, n}, dtype_of<T>), one_hot = zeros_like(x), logs = full({n, n}, -1e4, dtype_of<T>);
    for (int64_t i = 0; i < n; ++i) {
      x.data<T>()[i * n + i] = T(1e4), one_hot.data<T>()[i * n + i] = 1, logs.data<T>()[i * n + i] = 0;
    }
    CHECK(same_bits(softmax(x), one_hot));
    CHECK(max_abs_diff(log_softmax(x), logs) == 0);
    // From the other end of what there is: all that is left is what lies highest.
    CHECK(max_abs_diff(softmax(scale(x, -1)), n == 1 ? one_hot : (1 - one_hot) / double(n - 1)) < 1e-7);
  }
}

TEST_CASE("softmax: long rows of equal logits") {
  for (int64_t n : {1, 31, 32, 33, 1000, 20000})
    CHECK(max_abs_diff(softmax(full({2, n}, -777)), full({2, n}, 1.0 / double(n))) < 1e-7 / double(n));
}

TEST_CASE_TEMPLATE("softmax: NaN is not lost, wherever it is", T, float, double) {
  for (const int64_t n : {1, 2, 5, 8, 13, 32, 40, 71})
    for (int64_t place = 0; place < n; ++place) {
      Tensor x = randn({3, n}, dtype_of<T>);
      x.data<T>()[n + place] = T(NAN);
      for (const Op& op : {kSoftmax, kLogSoftmax}) {
        const std::vector<double> y = values(op({x}));
        const auto nans = [&](int64_t row) {
          return std::count_if(&y[size_t(row * n)], &y[size_t(row * n)] + n, [](double v) { return std::isnan(v); });
        };
        CHECK((nans(0) == 0 && nans(1) == n && nans(2) == 0));
      }
    }
}

TEST_CASE("softmax: empty tensors") {
  for (const Op& op : {kSoftmax, kLogSoftmax})
    for (const Shape& shape : {Shape{0, 5}, Shape{5, 0}, Shape{0}}) {
      const std::vector<Tensor> results = run(op, {Tensor(shape, DType::f64)});
      CHECK(results[0].shape() == shape);
      CHECK(results[1].shape() == shape);
    }
}

TEST_CASE("softmax: the same bits on any number of threads") {
  for (const Shape& shape : {Shape{501, 1000}, Shape{3000, 33}}) {
    check_same_bits_on_threads(kSoftmax, {randn(shape, DType::f32)});
    check_same_bits_on_threads(kLogSoftmax, {randn(shape, DType::f32)});
  }
}

TEST_CASE("softmax: errors") {
  CHECK(error_of([&] { softmax(zeros({})); }) == "softmax: x has shape (), but the op asks for rows");
  CHECK(error_of([&] { log_softmax(zeros({})); }) == "log_softmax: x has shape (), but the op asks for rows");
  CHECK(error_of([&] { softmax(Tensor({3}, DType::i64)); }) == "softmax: x is i64, but the op computes in f32 or f64");
  CHECK(error_of([&] { log_softmax(Tensor({3}, DType::bf16)); }) ==
        "log_softmax: x is bf16, but the op computes in f32 or f64; cast(x, DType::f32) makes it f32");
}
