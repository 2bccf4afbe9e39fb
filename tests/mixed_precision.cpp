// bf16 activations beside f32 parameters, on every device: each op against itself in f32, the model against the model
// in f32.
#include <optional>

#include "autograd/rounded.h"
#include "models/block_recurrent/precision.h"
#include "models/block_recurrent/trainer.h"
#include "nn/feed_forward.h"
#include "nn/optimizer.h"
#include "tests/decoding.h"
#include "tests/runs.h"

namespace rondo::testing {
namespace {

constexpr auto kBf16 = DType::bf16;

// An op in mixed precision (its inputs in the given dtypes) and in f32 on the same numbers: results and gradients agree
// up to a few roundings to bf16, of 2^-9 each, times the largest number of each; and a gradient has its input's dtype.
void check_mixed(const Op& mixed_op, const std::vector<Tensor>& mixed, const Op& op, const std::vector<Tensor>& f32) {
  const auto results = [&](const Op& f, std::vector<Tensor> inputs) {
    for (Tensor& t : inputs)
      if (t) parameter(t = clone(t));
    Tape tape;
    std::vector<Tensor> r = {f(inputs)};
    // Weights that bf16 holds too, so that the loss is the same.
    const Tensor w = to(to(randn(r[0].shape(), DType::f32, 99), kBf16), DType::f32);
    const Gradients grads = tape.backward(sum(cast(r[0], DType::f32) * to(w, r[0].device())));
    for (const Tensor& t : inputs) {
      if (!t) continue;
      r.push_back(grads[t]);
      CHECK(grads[t].dtype() == t.dtype());
    }
    return r;
  };
  const std::vector<Tensor> expected = results(op, f32);
  for (const Device device : devices()) check_close(results(mixed_op, on(device, mixed)), expected, 0.02, device);
}

// The inputs rounded to bf16, and the same numbers as f32.
struct Inputs {
  std::vector<Tensor> mixed, f32;
  // activation: whether it is bf16 in the mixed case.
  void add(const Shape& shape, bool activation) {
    const Tensor t = to(to(randn(shape, DType::f32, mixed.size() + 1), kBf16), DType::f32);
    mixed.push_back(activation ? to(t, kBf16) : t), f32.push_back(t);
  }
  void leave_out() { mixed.push_back({}), f32.push_back({}); }
};

Inputs inputs(std::initializer_list<std::pair<Shape, bool>> list) {
  Inputs in;
  for (const auto& [shape, activation] : list) in.add(shape, activation);
  return in;
}

void check_mixed(const Op& op, const Inputs& in) { check_mixed(op, in.mixed, op, in.f32); }

}  // namespace

TEST_CASE("mixed precision: linear") {
  const Op plain = [](auto& in) { return linear(in[0], in[1]); };
  const Op with_bias = [](auto& in) { return linear(in[0], in[1], in[2]); };
  const Op with_residual = [](auto& in) { return linear(in[0], in[1], {}, in[2]); };
  for (const int64_t rows : {1, 3, 50})
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{7, 33}, {40, 64}, {1, 1}}) {
      const Shape x = {rows, k}, w = {n, k}, y = {rows, n};
      check_mixed(plain, inputs({{x, true}, {w, false}}));
      check_mixed(with_bias, inputs({{x, true}, {w, false}, {{n}, false}}));
      check_mixed(with_residual, inputs({{x, true}, {w, false}, {y, false}}));
    }
  const Tensor x({2, 3}, kBf16), w({4, 3}), y({2, 4});
  CHECK(linear(x, w).dtype() == kBf16);
  CHECK(linear(x, w, Tensor({4})).dtype() == DType::f32);
  CHECK(linear(x, w, {}, y).dtype() == DType::f32);
  CHECK(error_of([&] { linear(x, to(w, DType::f64)); }) == "linear: weight is f64, but x is bf16, which asks for f32");
  CHECK(error_of([&] { linear(x, w, Tensor({4}, kBf16)); }) ==
        "linear: bias is bf16, but x is bf16, which asks for f32");
  CHECK(error_of([&] { linear(x, w, {}, to(y, kBf16)); }) ==
        "linear: residual is bf16, but x is bf16, which asks for f32");
}

TEST_CASE("mixed precision: layer_norm") {
  for (const Shape& shape : {Shape{3, 5}, Shape{2, 3, 64}, Shape{40, 1000}, Shape{1, 1}, Shape{0, 4}}) {
    const Inputs in = inputs({{shape, false}, {{shape.back()}, false}});
    check_mixed([](auto& t) { return layer_norm(t[0], t[1], 1e-5, kBf16); }, in.f32,
                [](auto& t) { return layer_norm(t[0], t[1]); }, in.f32);
  }
  const Tensor x = randn({4, 33}, DType::f32), gamma = randn({33}, DType::f32, 2);
  CHECK(same_bits(layer_norm(x, gamma, 1e-5, kBf16), to(layer_norm(x, gamma), kBf16)));
  CHECK(error_of([&] { layer_norm(to(x, DType::f64), to(gamma, DType::f64), 1e-5, kBf16); }) ==
        "layer_norm: x is f64, but the result is to be bf16; it can be that of x, or bf16 where x is f32");
}

TEST_CASE("mixed precision: geglu, cast, sum_to") {
  for (const Shape& shape : {Shape{2}, Shape{3, 66}, Shape{5, 2730}, Shape{0, 4}, Shape{3, 0}})
    check_mixed([](auto& in) { return geglu(in[0]); }, inputs({{shape, true}}));
  check_mixed([](auto& in) { return cast(in[0], DType::f32); }, inputs({{{3, 7}, true}}));
  check_mixed([](auto& in) { return broadcast_to(in[0], {4, 3, 7}); }, inputs({{{1, 3, 7}, true}}));
  // Two uses: their gradients are added up.
  check_mixed([](auto& in) { return concat({in[0], geglu(in[0])}, -1); }, inputs({{{6, 20}, true}}));
  CHECK(error_of([] { cast(Tensor({2}, DType::i64), kBf16); }) ==
        "cast: from i64 to bf16, but gradients are for f32, f64 and bf16 only; to(x, dtype) converts without one");
  CHECK(error_of([] { cast(Tensor({2}), DType::i32); }) ==
        "cast: from f32 to i32, but gradients are for f32, f64 and bf16 only; to(x, dtype) converts without one");
}

TEST_CASE("mixed precision: zeros behind the inner width of a feed-forward layer change nothing") {
  const auto results = [](Device device, DType dtype, bool narrow, int64_t more) {
    Generator g{1, 2, 0};
    FeedForward f(24, 4, g, dtype);  // F = 64
    move_to(f, device);
    if (narrow) f.norm.result = kBf16;
    const Tensor x = parameter(to(randn({5, 24}, dtype), device));
    Tape tape;
    Tensor y = x;
    for (int times = 0; times < 2; ++times) {
      const Tensor h = f.norm(y);
      y = more ? f.padded(h, y, more) : f.out(geglu(f.in(h)), y);
    }
    const Gradients grads = tape.backward(sum(y * to(randn(y.shape(), dtype, 9), device)));
    std::vector<Tensor> all = {y, grads[x]};
    for (const NamedTensor& p : parameters(f)) {
      all.push_back(grads[p.tensor]);
      CHECK(all.back().shape() == p.tensor.shape());
    }
    return all;
  };
  for (const Device device : devices())
    for (const int64_t more : {1, 11, 16}) {
      check_close(results(device, DType::f64, false, more), results(device, DType::f64, false, 0), 1e-14, device);
      check_close(results(device, DType::f32, true, more), results(device, DType::f32, true, 0), 1e-6, device);
    }
}

TEST_CASE("mixed precision: weights that are rounded once give the same bits") {
  const auto results = [](Device device, bool once, int64_t more) {
    Generator g{1, 2, 0};
    FeedForward f(24, 4, g);
    move_to(f, device);
    f.norm.result = kBf16;
    Gradients grads;
    std::vector<Tensor> all;
    WeightCopies copies;
    std::optional<WeightCopies::Use> use;
    if (once) use.emplace(copies);
    for (const uint64_t segment : {1, 2, 3}) {
      const Tensor x = to(randn({40, 24}, DType::f32, segment), device);
      Tape tape;
      const Tensor h = f.norm(x), y = more ? f.padded(h, x, more) : f.out(geglu(f.in(h)), x);
      tape.backward(sum(y * to(randn(y.shape(), DType::f32, 9), device)), 1, grads);
      all.push_back(y);
    }
    for (const NamedTensor& p : parameters(f)) all.push_back(grads[p.tensor]);
    return on(Device::cpu, all);
  };
  for (const Device device : devices())
    for (const int64_t more : {0, 16}) {
      const std::vector<Tensor> each = results(device, false, more), once = results(device, true, more);
      for (size_t i = 0; i < each.size(); ++i) CHECK(same_bits(each[i], once[i]));
    }
  // Kept from step to step, they are those of the weights as they are then, whichever were used in between.
  for (const Device device : devices()) {
    Generator g{1, 2, 0};
    FeedForward f(24, 4, g);
    move_to(f, device);
    f.norm.result = kBf16;
    WeightCopies copies;
    uint64_t seed = 10;
    for (const int64_t more : {0, 16, 0, 0, 16}) {
      const Tensor x = to(randn({40, 24}, DType::f32, 3), device), h = f.norm(x);
      const auto result = [&] { return more ? f.padded(h, x, more) : f.out(geglu(f.in(h)), x); };
      const Tensor expected = result();
      {
        WeightCopies others;
        const WeightCopies::Use use(copies), inner(others);
        CHECK(WeightCopies::in_use());
        CHECK(same_bits(to(result(), Device::cpu), to(expected, Device::cpu)));
        CHECK(same_bits(to(result(), Device::cpu), to(expected, Device::cpu)));
      }
      for (const NamedTensor& p : parameters(f))
        assign(to(randn(p.tensor.shape(), DType::f32, seed++), device), p.tensor);
    }
  }
  const Tensor w = parameter(Tensor({2, 2}));
  Adam adam({{"w", w, true}}, {});
  CHECK(!WeightCopies::in_use());
  WeightCopies copies;
  const WeightCopies::Use use(copies);
  CHECK(error_of([&] { adam.step(Gradients()); }) == "Adam: WeightCopies are in use, which the step would make wrong");
}

TEST_CASE("mixed precision: padded_linear's arguments") {
  const Tensor x({2, 5}), w({4, 3});
  CHECK(padded_linear(x, w, {.rows = 1, .groups = 2, .columns = 2}).shape() == Shape{2, 6});
  CHECK(
      error_of([&] { padded_linear(x, w, {.groups = 3, .columns = 2}); }) ==
      "padded_linear: weight has shape (4, 3), which cannot be cut into 3 equal groups of rows and padded by 0 rows a "
      "group and 2 columns");
  CHECK(error_of([&] { padded_linear(x, w, {.columns = 1}); }) ==
        "padded_linear: x has shape (2, 5), but weight of shape (4, 3) and 1 more columns ask for rows of width 4");
  CHECK(error_of([&] {
          padded_linear(x, w, {.columns = 2}, Tensor({2, 3}));
        }) == "padded_linear: residual has shape (2, 3), but the result has (2, 4)");
  CHECK(error_of([&] { padded_linear(x, {}, {.columns = 2}); }) == "padded_linear: weight is missing");
  CHECK(error_of([&] { padded_linear(x, to(w, kBf16), {.columns = 2}); }) ==
        "padded_linear: weight is bf16, but x is f32");
}

TEST_CASE("mixed precision: only bf16 on a GPU asks for them") {
  Generator g;
  const FeedForward readme(512, 4, g), even(24, 4, g);  // F = 1365, 64
  for (const Device device : devices()) {
    const bool gpu = device == Device::cuda;
    CHECK(readme.padding(Tensor({2, 512}, kBf16, device)) == (gpu ? 11 : 0));
    CHECK(readme.padding(Tensor({2, 512}, DType::f32, device)) == 0);
    CHECK(even.padding(Tensor({2, 24}, kBf16, device)) == 0);
  }
}

TEST_CASE("mixed precision: window attention") {
  struct Case {
    int64_t batch, n, heads, d, window, memory;
    bool norm, positions;
  };
  for (const Case& c : {Case{1, 5, 1, 2, 3, 0, false, false},
                        {2, 13, 3, 4, 4, 4, true, true},
                        {1, 70, 2, 16, 32, 20, true, true},
                        {1, 130, 8, 64, 64, 64, false, true}}) {
    Inputs in = inputs({{{c.batch, c.n, c.heads * c.d}, true}, {{c.batch, c.n, 2 * c.d}, true}});
    c.memory ? in.add({c.batch, c.memory, 2 * c.d}, true) : in.leave_out();
    for (int i = 0; i < 2; ++i) c.norm ? in.add({c.d}, false) : in.leave_out();
    check_mixed(
        [&](auto& t) {
          const Tensor table = c.positions ? rotary_table(c.window, c.d, DType::f32, t[0].device()) : Tensor();
          return window_attention(t[0], t[1], t[2], c.window, {t[3], t[4], table});
        },
        in);
  }
  const Tensor q({1, 3, 4}, kBf16), kv({1, 3, 4}, kBf16);
  CHECK(error_of([&] { window_attention(q, to(kv, DType::f32), {}, 2); }) ==
        "window_attention: kv is f32, but q is bf16");
  CHECK(error_of([&] {
          window_attention(q, kv, {}, 2, {Tensor({2}, kBf16), Tensor({2}, kBf16), {}});
        }) == "window_attention: q_scale is bf16, but q is bf16, which asks for f32");
  CHECK(error_of([&] {
          window_attention(q, kv, Tensor({1, 1, 4}), 2);
        }) == "window_attention: memory is f32, but q is bf16");
}

TEST_CASE("mixed precision: group attention") {
  for (const auto& [n, width, keys] : {std::tuple<int64_t, int64_t, int64_t>{5, 5, 1}, {7, 3, 33}, {130, 64, 100}}) {
    const int64_t groups = (n + width - 1) / width;
    check_mixed(
        [&, w = width](auto& t) {
          return group_attention(t[0], t[1], w, {t[2], t[3], {}});
        },
        inputs({{{2, n, 3 * 16}, true}, {{2, groups, keys, 32}, true}, {{16}, false}, {{16}, false}}));
  }
}

TEST_CASE("mixed precision: the model's loss and gradients are those of f32, rounded on the way") {
  const Tensor tokens = reshape(random_tokens(2 * 65, 3), {2, 65});
  // The loss, then the gradient of each parameter.
  const auto trained = [&](DType dtype, Device device) {
    BlockRecurrentTransformer model = make({2}, DType::f32, 32);
    model.to(device);
    compute_in(model, dtype);
    CHECK(computes_in(model) == dtype);
    const auto [inputs, labels] = inputs_and_labels(tokens);
    Gradients grads;
    Generator g;
    const auto result = RecurrentTrainer{.model = model}(inputs, labels, {}, g, grads);
    CHECK(result.carried.memories[0].dtype() == dtype);
    CHECK(result.carried.states[0].dtype() == DType::f32);
    std::vector<NamedTensor> all = parameters(model);
    for (NamedTensor& p : all) p.tensor = grads.find(p.tensor);
    return std::pair{result.loss(), all};
  };
  const auto reference = trained(DType::f32, Device::cpu);
  const double loss = reference.first;
  const std::vector<NamedTensor>& exact = reference.second;
  for (const Device device : devices()) {
    const auto [near, mixed] = trained(kBf16, device);
    CHECK(near != loss);
    CHECK(std::abs(near - loss) < 0.01);
    for (size_t k = 0; k < exact.size(); ++k) {
      const Tensor a = exact[k].tensor, b = mixed[k].tensor;
      REQUIRE(bool(a) == bool(b));
      if (!a) continue;
      CHECK(b.dtype() == DType::f32);
      double length = 0, distance = 0;
      const std::vector<double> x = values(a), y = values(b);
      for (size_t i = 0; i < x.size(); ++i) length += x[i] * x[i], distance += (x[i] - y[i]) * (x[i] - y[i]);
      CHECK_MESSAGE(distance <= 0.05 * 0.05 * length, exact[k].name, " on ", device, ": ",
                    std::sqrt(distance / length));
    }
  }
}

}  // namespace rondo::testing
