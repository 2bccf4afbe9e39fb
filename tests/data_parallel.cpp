// Gradients made in parts of a batch are those of the whole batch.
#include "nn/data_parallel.h"

#include "autograd/ops.h"
#include "nn/layers.h"
#include "tensor/parallel.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

struct Model {
  Linear in, out;
  Embedding unused, of_even;  // of_even: of parts that begin at an even row, other than the first
  explicit Model(Generator& g, DType dtype = DType::f64)
      : in(3, 8, true, g, dtype), out(8, 4, true, g, dtype), unused(2, 2, g, dtype), of_even(1, 4, g, dtype) {}
  Tensor operator()(const Tensor& x) const { return out(tanh(in(x))); }
  template <class F>
  void each(F&& f) {
    each_in("in.", in, f), each_in("out.", out, f), each_in("unused.", unused, f), each_in("of_even.", of_even, f);
  }
};

constexpr int64_t kBatch = 11;

struct Task {
  Generator g{.seed = 4};
  Model model;
  std::vector<NamedTensor> trained;
  Tensor x, labels;
  explicit Task(DType dtype = DType::f64)
      : model(g, dtype), trained(parameters(model)), x(randn({kBatch, 3}, dtype)), labels({kBatch}, DType::i64) {
    for (int64_t i = 0; i < kBatch; ++i) labels.data<int64_t>()[i] = g.below(4);
  }
  Tensor loss(int64_t first, int64_t rows) const {
    return cross_entropy(model(narrow(x, 0, first, rows)), narrow(labels, 0, first, rows));
  }
  std::function<Tensor(int64_t, int64_t)> losses() const {
    return [this](int64_t first, int64_t rows) { return loss(first, rows); };
  }
};

TEST_CASE("DataParallel: the loss and gradients of the whole batch") {
  const Task task;
  Gradients whole;
  double expected = 0;
  {
    Tape tape;
    const Tensor loss = task.loss(0, kBatch);
    tape.backward(loss, 1, whole);
    expected = loss.item();
  }
  DataParallel parallel(task.trained);
  for (const int64_t n : {1, 2, 3, 5, 11, 2}) {
    CAPTURE(n);
    Gradients grads;
    CHECK(parallel.backward(kBatch, n, task.losses(), grads) == doctest::Approx(expected).epsilon(1e-14));
    CHECK(grads.size() == whole.size());
    for (const NamedTensor& p : task.trained) {
      CAPTURE(p.name);
      REQUIRE(bool(grads.find(p.tensor)) == bool(whole.find(p.tensor)));
      if (whole.find(p.tensor)) CHECK(max_abs_diff(grads[p.tensor], whole[p.tensor]) < 1e-14);
    }
    // A second batch is added to the first.
    parallel.backward(kBatch, n, task.losses(), grads);
    CHECK(max_abs_diff(grads[task.model.in.weight], 2 * whole[task.model.in.weight]) < 1e-14);
  }
}

TEST_CASE("DataParallel: the bits do not depend on the number of threads") {
  const Task task(DType::f32);
  const int before = num_threads();
  std::vector<Gradients> grads(3);
  std::vector<double> losses;
  for (int threads = 1; threads <= 3; ++threads) {
    set_num_threads(threads);
    DataParallel parallel(task.trained);
    losses.push_back(parallel.backward(kBatch, 4, task.losses(), grads[size_t(threads - 1)]));
  }
  set_num_threads(before);
  for (int i = 1; i < 3; ++i) {
    CHECK(losses[size_t(i)] == losses[0]);
    for (const NamedTensor& p : task.trained)
      if (grads[0].find(p.tensor)) CHECK(same_bits(grads[size_t(i)][p.tensor], grads[0][p.tensor]));
  }
}

TEST_CASE("DataParallel: a parameter that some parts use") {
  const Task task;
  const auto loss = [&](int64_t first, int64_t rows) {
    const Tensor mean = task.loss(first, rows);
    return first > 0 && first % 2 == 0 ? mean + sum(task.model.of_even.weight) : mean;
  };
  Gradients grads;
  DataParallel(task.trained).backward(kBatch, 4, loss, grads);  // from rows 0, 2, 5, 8 on
  CHECK(max_abs_diff(grads[task.model.of_even.weight], full({1, 4}, 6.0 / kBatch, DType::f64)) < 1e-15);
  CHECK(!grads.find(task.model.unused.weight));
}

TEST_CASE("DataParallel: gradients that share a buffer") {
  const Task task;
  const Tensor a = parameter(randn({5})), b = parameter(randn({5}, DType::f64, 2));
  const std::vector<NamedTensor> trained = {{"a", a, true}, {"b", b, true}};
  Gradients grads;
  DataParallel(trained).backward(
      4, 4, [&](int64_t, int64_t) { return sum(a + b); }, grads);
  CHECK(max_abs_diff(grads[a], full({5}, 1, DType::f64)) < 1e-15);
  CHECK(max_abs_diff(grads[b], full({5}, 1, DType::f64)) < 1e-15);
}

TEST_CASE("DataParallel: what a part throws reaches the caller, and the next batch goes on") {
  const Task task;
  DataParallel parallel(task.trained);
  Gradients grads;
  const Tensor& bias = task.model.out.bias;
  grads.add(bias, full(bias.shape(), 5, DType::f64));
  const auto loss = [&](int64_t first, int64_t rows) {
    check(first == 0, "no rows from ", first, " on");
    return task.loss(first, rows);
  };
  CHECK(error_of([&] { parallel.backward(kBatch, 2, loss, grads); }) == "no rows from 5 on");
  CHECK(grads.size() == 1);
  CHECK(max_abs_diff(grads[bias], full(bias.shape(), 5, DType::f64)) == 0);
  CHECK(parallel.backward(kBatch, 2, task.losses(), grads) > 0);
}

TEST_CASE("DataParallel: of the parameters it was given, and no others") {
  const Task task;
  Gradients grads;
  DataParallel({{"in.weight", task.model.in.weight, true}}).backward(kBatch, 3, task.losses(), grads);
  CHECK(grads.size() == 1);
  CHECK(bool(grads.find(task.model.in.weight)));
}

TEST_CASE("DataParallel: rows in which as many labels are ignored weigh the same") {
  const Task task;
  const Tensor labels = tensor<int64_t>({1, -100, 2, -100, -100, 0, 3, -100}, {4, 2});
  const auto loss = [&](int64_t first, int64_t rows) {
    const Tensor x = reshape(narrow(task.x, 0, 2 * first, 2 * rows), {rows, 2, 3});
    return cross_entropy(task.model(x), narrow(labels, 0, first, rows));
  };
  Gradients whole, grads;
  const double expected = DataParallel(task.trained).backward(4, 1, loss, whole);
  CHECK(DataParallel(task.trained).backward(4, 3, loss, grads) == doctest::Approx(expected).epsilon(1e-14));
  CHECK(max_abs_diff(grads[task.model.in.weight], whole[task.model.in.weight]) < 1e-14);
}

TEST_CASE("DataParallel: errors") {
  const Task task;
  DataParallel parallel(task.trained);
  Gradients grads;
  const auto cut = [&](int64_t batch, int64_t n) {
    return error_of([&] { parallel.backward(batch, n, task.losses(), grads); });
  };
  CHECK(cut(kBatch, 0) == "DataParallel: a batch of 11 rows cannot be cut into parts, 0 of them");
  CHECK(cut(kBatch, 12) == "DataParallel: a batch of 11 rows cannot be cut into parts, 12 of them");
  CHECK(cut(INT64_MAX, 2) == "DataParallel: a batch of 9223372036854775807 rows cannot be cut into parts, 2 of them");
  CHECK(cut(0, 1) == "DataParallel: a batch of 0 rows cannot be cut into parts, 1 of them");
  const auto logits = [&](int64_t first, int64_t rows) { return task.model(narrow(task.x, 0, first, rows)); };
  CHECK(error_of([&] { parallel.backward(kBatch, 1, logits, grads); }) ==
        "backward: the loss must be one number, but has shape (11, 4)");
  const NamedTensor a = {"a", task.model.in.weight, true}, b = {"b", task.model.in.weight, true};
  CHECK(
      error_of([&] {
        DataParallel({a, b});
      }) ==
      "DataParallel: parameters a and b are the same tensor; a layer's each() visits a tensor that is used twice once");
  CHECK(error_of([&] { DataParallel({{"c", {}, true}}); }) == "DataParallel: parameter c is empty");
}

}  // namespace
}  // namespace rondo::testing
