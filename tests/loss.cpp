// Cross entropy, against log_softmax at the labels, differences and closed forms.
#include "nn/loss.h"
#include "tests/runs.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

// Labels spread over the classes; every third is -100 when some are to be ignored.
Tensor labels_for(const Shape& logits, bool some_ignored = false) {
  Shape shape = logits;
  shape.pop_back();
  Tensor labels(shape, DType::i64);
  Generator g{5, 1, 0};
  for (int64_t i = 0; i < labels.numel(); ++i)
    labels.data<int64_t>()[i] = some_ignored && i % 3 == 1 ? -100 : g.below(logits.back());
  return labels;
}

Op loss_with(const Tensor& labels, int64_t ignore_index = -100) {
  return [=](const std::vector<Tensor>& in) { return cross_entropy(in[0], to(labels, in[0].device()), ignore_index); };
}

// -mean over the counted rows of log_softmax at the label, made of other ops.
Op composed_loss(const Tensor& labels) {
  return [=](const std::vector<Tensor>& in) {
    Tensor one_hot = zeros_like(in[0]);
    double count = 0;
    for (int64_t i = 0; i < labels.numel(); ++i)
      if (const int64_t label = labels.data<int64_t>()[i]; label != -100)
        one_hot.data<double>()[i * in[0].dim(-1) + label] = 1, ++count;
    return scale(sum(log_softmax(in[0]) * one_hot), -1 / count);
  };
}

}  // namespace

TEST_CASE("cross_entropy: gradients") {
  for (uint64_t seed : {1, 2, 3})
    for (const Shape& shape : {Shape{5, 7}, Shape{3, 1}, Shape{2, 3, 33}, Shape{6}, Shape{2, 300}})
      for (bool some_ignored : {false, true})
        gradcheck(loss_with(labels_for(shape, some_ignored)), {randn(shape, DType::f64, seed)});
  gradcheck(loss_with(labels_for({1, 1000})), {randn({1, 1000}, DType::f64, 4)});
}

TEST_CASE("cross_entropy: the same as log_softmax at the labels") {
  for (const Shape& shape : {Shape{3, 1}, Shape{5, 33}, Shape{2, 4, 1000}, Shape{700, 48}, Shape{2, 20000}})
    for (bool some_ignored : {false, true}) {
      const Tensor x = scale(randn(shape, DType::f64, 5), 3), labels = labels_for(shape, some_ignored);
      const std::vector<Tensor> found = run(loss_with(labels), {x}), expected = run(composed_loss(labels), {x});
      CHECK(max_abs_diff(found[0], expected[0]) < 1e-13);
      CHECK(max_abs_diff(found[1], expected[1]) < 1e-13);
    }
}

TEST_CASE("cross_entropy: f32") {
  // Each row's loss of about 10 is good to some 1e-6; their mean is better.
  for (const Shape& shape : {Shape{5, 33}, Shape{300, 256}})
    check_f32_against_f64(loss_with(labels_for(shape, true)), {randn(shape)}, 1e-6);
}

TEST_CASE("cross_entropy: what is ignored has no gradient and no share") {
  const Shape shape{9, 12};
  Tensor x = randn(shape), labels = labels_for(shape, true);
  const std::vector<Tensor> before = run(loss_with(labels), {x});
  for (int64_t i = 0; i < 9; ++i)
    for (int64_t j = 0; j < 12; ++j)
      if (i % 3 == 1) {
        CHECK(before[1].data<double>()[i * 12 + j] == 0);
        x.data<double>()[i * 12 + j] = -3e5 * double(j);
      }
  const std::vector<Tensor> after = run(loss_with(labels), {x});
  CHECK(same_bits(before[0], after[0]));
  CHECK(same_bits(before[1], after[1]));
}

TEST_CASE("cross_entropy: another ignore_index, also one that is a class") {
  const Tensor x = randn({3, 4});
  const Tensor marked = tensor<int64_t>({2, -100, 1}, {3});
  for (int64_t ignore : {0, 3, 99, -1}) {
    const Tensor labels = tensor<int64_t>({2, ignore, 1}, {3});
    const std::vector<Tensor> found = run(loss_with(labels, ignore), {x}), expected = run(loss_with(marked), {x});
    CHECK(same_bits(found[0], expected[0]));
    CHECK(same_bits(found[1], expected[1]));
  }
}

TEST_CASE("cross_entropy: nothing but ignored labels") {
  const Tensor labels = full({2, 3}, -100, DType::i64);
  const std::vector<Tensor> results = run(loss_with(labels), {randn({2, 3, 5})});
  CHECK(std::isnan(results[0].item()));
  CHECK(max_abs_diff(results[1], zeros({2, 3, 5})) == 0);
  const std::vector<Tensor> empty = run(loss_with(Tensor({0}, DType::i64)), {Tensor({0, 5}, DType::f64)});
  CHECK(std::isnan(empty[0].item()));
  CHECK(empty[1].shape() == Shape{0, 5});
}

TEST_CASE_TEMPLATE("cross_entropy: huge logits", T, float, double) {
  const T huge = T(1e4);
  const Tensor x = tensor<T>({huge, 0, -huge, huge, 0, -huge}, {2, 3});
  const double w = values(randn({}, dtype_of<T>, 99))[0];
  const std::vector<Tensor> right = run(loss_with(tensor<int64_t>({0, 0}, {2})), {x});
  CHECK(right[0].item() == 0);
  CHECK(max_abs_diff(right[1], zeros({2, 3})) == 0);
  const std::vector<Tensor> wrong = run(loss_with(tensor<int64_t>({1, 2}, {2})), {x});
  CHECK(wrong[0].item() == 1.5e4);
  const Tensor expected = tensor<double>({w / 2, -w / 2, 0, w / 2, 0, -w / 2}, {2, 3});
  CHECK(max_abs_diff(wrong[1], expected) < 1e-7);
  const std::vector<Tensor> one_class =
      run(loss_with(tensor<int64_t>({0, 0}, {2})), {tensor<T>({huge, -huge}, {2, 1})});
  CHECK(one_class[0].item() == 0);
  CHECK(max_abs_diff(one_class[1], zeros({2, 1})) == 0);
}

TEST_CASE("cross_entropy: NaN is not lost") {
  Tensor x = randn({2, 40});
  x.data<double>()[45] = NAN;
  CHECK(std::isnan(cross_entropy(x, tensor<int64_t>({1, 2}, {2})).item()));
  CHECK(!std::isnan(cross_entropy(x, tensor<int64_t>({1, -100}, {2})).item()));
}

TEST_CASE("cross_entropy: the same bits on any number of threads") {
  for (const Shape& shape : {Shape{501, 1000}, Shape{3000, 33}})
    check_same_bits_on_threads(loss_with(labels_for(shape, true)), {randn(shape, DType::f32)});
}

TEST_CASE("cross_entropy: errors") {
  const Tensor x = randn({3, 5}, DType::f32);
  for (Device device : devices()) {  // labels that come from the CPU are looked at, wherever the op computes
    const auto with = [&](std::vector<int64_t> labels) {
      const int64_t n = int64_t(labels.size());
      return error_of([&] { cross_entropy(to(x, device), tensor<int64_t>(labels, {n})); });
    };
    CHECK(with({0, 4, -100}) == "(no error)");
    CHECK(with({0, 4, 5}) ==
          "cross_entropy: labels hold 5 at index 2, but logits (3, 5) have V = 5 classes (-100 is ignored)");
    CHECK(with({-1, 9, 0}) ==
          "cross_entropy: labels hold -1 at index 0, but logits (3, 5) have V = 5 classes (-100 is ignored)");
  }
  CHECK(error_of([&] {
          cross_entropy(x, tensor<int64_t>({0, 1}, {2}));
        }) == "cross_entropy: labels have shape (2), but logits (3, 5) ask for (3)");
  CHECK(error_of([&] { cross_entropy(x, Tensor({3}, DType::i32)); }) ==
        "cross_entropy: labels is i32, but indices are i64; to(tensor, DType::i64) makes them so");
  CHECK(error_of([&] { cross_entropy(x, {}); }) == "cross_entropy: labels is missing");
  CHECK(error_of([&] {
          cross_entropy(Tensor({3, 5}, DType::u8), Tensor({3}, DType::i64));
        }) == "cross_entropy: logits is u8, but the op computes in f32 or f64");
  CHECK(error_of([&] { cross_entropy(zeros({}), zeros({}, DType::i64)); }) ==
        "cross_entropy: logits have shape (), but the op asks for rows");
}

TEST_CASE("losses made of ops: a loop over the elements, and gradients") {
  struct Loss {
    const char* name;
    std::function<Tensor(const Tensor&, const Tensor&)> op;
    std::function<double(double, double)> number;
  };
  const auto bend = [](double d, double delta) {
    return std::abs(d) <= delta ? d * d / 2 : delta * (std::abs(d) - delta / 2);
  };
  const Loss losses[] = {
      {"mean_squared_error", mean_squared_error, [](double x, double t) { return (x - t) * (x - t); }},
      {"huber", [](auto& x, auto& t) { return huber(x, t); }, [&](double x, double t) { return bend(x - t, 1); }},
      {"huber 0.25", [](auto& x, auto& t) { return huber(x, t, 0.25); },
       [&](double x, double t) { return bend(x - t, 0.25); }},
      {"binary_cross_entropy", binary_cross_entropy, [](double x, double t) {
         return -t * std::log(1 / (1 + std::exp(-x))) - (1 - t) * std::log(1 / (1 + std::exp(x)));
       }}};
  for (const Loss& loss : losses)
    for (const Shape& shape : {Shape{}, Shape{33}, Shape{4, 7}, Shape{2, 1, 3}}) {
      CAPTURE(loss.name);
      const Tensor x = randn(shape, DType::f64, 3), t = sigmoid(randn(shape, DType::f64, 4));
      double sum = 0;
      for (int64_t i = 0; i < x.numel(); ++i) sum += loss.number(x.data<double>()[i], t.data<double>()[i]);
      CHECK(loss.op(x, t).shape() == Shape{});
      CHECK(loss.op(x, t).item() == doctest::Approx(sum / double(x.numel())).epsilon(1e-12));
      gradcheck([&](const std::vector<Tensor>& in) { return loss.op(in[0], in[1]); }, {x, t});
    }
}

TEST_CASE("losses made of ops: where they bend, and far away") {
  const auto slope = [](const Tensor& x, const std::function<Tensor(const Tensor&)>& loss) {
    const Tensor p = parameter(clone(x));
    Tape tape;
    return values(tape.backward(loss(p))[p]);
  };
  const Tensor x = tensor<float>({-1e30f, -1, 0, 1, 1e30f}, {5}), none = zeros({5}), all = full({5}, 1);
  CHECK(slope(x, [&](const Tensor& p) { return 5 * huber(p, none); }) == std::vector<double>{-1, -1, 0, 1, 1});
  const auto to_0 = slope(x, [&](const Tensor& p) { return 5 * binary_cross_entropy(p, none); });
  const auto to_1 = slope(x, [&](const Tensor& p) { return 5 * binary_cross_entropy(p, all); });
  for (size_t i = 0; i < 5; ++i) {
    const double p = 1 / (1 + std::exp(-values(x)[i]));
    CHECK(to_0[i] == doctest::Approx(p).epsilon(1e-6));
    CHECK(to_1[i] == doctest::Approx(p - 1).epsilon(1e-6));
  }
  CHECK(binary_cross_entropy(x, all).item() == doctest::Approx(2e29).epsilon(1e-6));
  for (const double logit : {12.0, 15.0, 20.0, 60.0})  // of a right answer, the sooner it is sure
    for (const double sign : {1.0, -1.0}) {
      const Tensor logits = full({3}, sign * logit), right = full({3}, sign > 0 ? 1 : 0);
      CHECK(binary_cross_entropy(logits, right).item() == doctest::Approx(std::log1p(std::exp(-logit))).epsilon(1e-5));
      const std::vector<double> g = slope(logits, [&](const Tensor& p) { return 3 * binary_cross_entropy(p, right); });
      CHECK(g[1] == doctest::Approx(-sign / (1 + std::exp(logit))).epsilon(1e-5));
    }
}

TEST_CASE("losses made of ops: errors") {
  const Tensor x = randn({3, 1}), t = randn({3});
  CHECK(error_of([&] { mean_squared_error(x, t); }) ==
        "mean_squared_error: the shapes of prediction and target are (3, 1) and (3), but must be the same");
  CHECK(error_of([&] { huber(x, t); }) ==
        "huber: the shapes of prediction and target are (3, 1) and (3), but must be the same");
  CHECK(error_of([&] { huber(t, t, 0); }) == "huber: delta is 0, but must be above 0");
  CHECK(error_of([&] { binary_cross_entropy(x, t); }) ==
        "binary_cross_entropy: the shapes of logits and target are (3, 1) and (3), but must be the same");
  CHECK(error_of([&] { binary_cross_entropy({}, t); }) == "binary_cross_entropy: logits is missing");
  CHECK(error_of([&] { mean_squared_error(t, {}); }) == "mean_squared_error: target is missing");
  CHECK(error_of([&] { mean_squared_error(t, to(t, DType::f32)); }) ==
        "mean_squared_error: prediction is f64 and target f32, but both must be f32, or both f64; "
        "to(tensor, DType::f32) makes them so");
  CHECK(error_of([&] { binary_cross_entropy(t, greater(t, 0)); }) ==
        "binary_cross_entropy: logits is f64 and target u8, but both must be f32, or both f64; "
        "to(tensor, DType::f32) makes them so");
  for (const double wrong : {-1.0, 1.5, double(NAN)}) {
    const Tensor target = tensor<double>({0, 1, wrong}, {3});
    CHECK(error_of([&] { binary_cross_entropy(t, target); }).starts_with("binary_cross_entropy: target holds "));
  }
  CHECK(error_of([&] {
          binary_cross_entropy(t, tensor<double>({0, 1, -1}, {3}));
        }) == "binary_cross_entropy: target holds -1 at index 2, but must be from 0 to 1");
}
