// Adam, SGD and clipping: PyTorch's numbers, a plain loop, the same bits for any number of threads.
#include "nn/optimizer.h"

#include <limits>

#include "autograd/ops.h"
#include "nn/safetensors.h"
#include "tensor/parallel.h"
#include "tests/mallocs.h"
#include "tests/temporary.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

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

// The learning rate is exact in f32 too.
OptimizerConfig small_config(double weight_decay, double clip) {
  return {.learning_rate = 0.0078125,
          .beta1 = 0.8,
          .beta2 = 0.95,
          .eps = 1e-6,
          .weight_decay = weight_decay,
          .clip_grad_norm = clip};
}

void check_close(const Tensor& t, const std::vector<double>& expected, double tolerance) {
  const std::vector<double> found = values(t);
  REQUIRE(found.size() == expected.size());
  size_t worst = 0;
  for (size_t i = 0; i < found.size(); ++i)
    if (!(std::abs(found[i] - expected[i]) <= std::abs(found[worst] - expected[worst]))) worst = i;
  if (!found.empty() && !(std::abs(found[worst] - expected[worst]) <= tolerance))
    FAIL_CHECK("element ", worst, " is off by ", found[worst] - expected[worst], ": ", found[worst], ", not ",
               expected[worst]);
}

std::map<std::string, Tensor> state_of(Adam& adam) {
  std::map<std::string, Tensor> all;
  for (const NamedTensor& t : named_tensors(adam)) all[t.name] = t.tensor;
  return all;
}

// Sizes around the borders of chunks, none and one among them.
std::vector<NamedTensor> many_parameters(DType dtype) {
  std::vector<NamedTensor> all;
  for (const int64_t n : {0, 1, 33, 1000, 16384, 16385, 50000})
    all.push_back({"p" + std::to_string(n), randn({n}, dtype, uint64_t(n)), true});
  all.push_back({"matrix", randn({100, 37}, dtype, 5), true});
  return all;
}
Gradients many_gradients(const std::vector<NamedTensor>& parameters, int step) {
  Gradients grads;
  for (size_t i = 0; i < parameters.size(); ++i)
    if ((i + size_t(step)) % 3)
      grads.add(parameters[i].tensor,
                randn(parameters[i].tensor.shape(), parameters[i].tensor.dtype(), i * 100 + uint64_t(step)));
  return grads;
}

}  // namespace

TEST_CASE("adam: PyTorch's numbers, a parameter without gradient left alone") {
  const Small p(DType::f64);
  Adam adam(p.named(), small_config(0, 0));
  for (int step = 0; step < 4; ++step) adam.step(p.gradients(step));
  // torch.optim.Adam 2.15, four steps
  check_close(p.weight,
              {1.0121738865407075, -1.9997844652352488, 2.9921559914725346, 0.48709447694667185, 0.26371071943419599,
               -0.10386837552762118},
              1e-14);
  check_close(p.bias, {0.093939143210148721, -0.20509190960360255}, 1e-14);
  const auto state = state_of(adam);
  CHECK(state.at("steps").to_vector<int64_t>() == std::vector<int64_t>{4, 2});
  check_close(state.at("v.bias"), {0.028125000000000025, 0.1048437500000001}, 1e-15);
}

TEST_CASE("adamw: PyTorch's numbers with clipping and decay") {
  const std::vector<double> norms = {2.1213203435596424, 2.1213203435596424, 2.179449471770337, 2.1213203435596424};
  for (const DType dtype : {DType::f64, DType::f32}) {
    const Small p(dtype);
    Adam adam(p.named(), small_config(0.1, 0.5));
    const double tolerance = dtype == DType::f64 ? 1e-14 : 1e-6;
    for (int step = 0; step < 4; ++step)
      CHECK(std::abs(adam.step(p.gradients(step)).item() - norms[size_t(step)]) < tolerance);
    // torch.nn.utils.clip_grad_norm_ and torch.optim.AdamW 2.15; weight decays, bias does not
    check_close(p.weight,
                {1.0089552276673046, -1.9935094063398409, 2.9829396027706352, 0.4853849727151956, 0.26286915174168135,
                 -0.10339449715167115},
                tolerance);
    check_close(p.bias, {0.093939181114034653, -0.20517927464325941}, tolerance);
  }
}

TEST_CASE("adam: a plain loop agrees, whatever the sizes") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const std::vector<NamedTensor> parameters = many_parameters(dtype);
    const OptimizerConfig c{.learning_rate = 0.0625, .weight_decay = 0.25, .decay_all = true, .clip_grad_norm = 3};
    std::vector<std::vector<double>> w, m, v;
    for (const NamedTensor& p : parameters) w.push_back(values(p.tensor));
    m = v = w;
    for (auto* moments : {&m, &v})
      for (auto& x : *moments) std::fill(x.begin(), x.end(), 0.0);
    std::vector<int> steps(parameters.size(), 0);
    Adam adam(parameters, c);
    for (int step = 0; step < 3; ++step) {
      const Gradients grads = many_gradients(parameters, step);
      double squares = 0;
      for (const NamedTensor& p : parameters)
        if (const Tensor g = grads.find(p.tensor))
          for (const double x : values(g)) squares += x * x;
      const double norm = std::sqrt(squares), factor = std::min(1.0, c.clip_grad_norm / (norm + 1e-6));
      CHECK(adam.step(grads).item() == doctest::Approx(norm).epsilon(1e-7));
      for (size_t i = 0; i < parameters.size(); ++i) {
        if (!grads.find(parameters[i].tensor)) continue;
        const std::vector<double> g = values(grads[parameters[i].tensor]);
        const int t = ++steps[i];
        for (size_t k = 0; k < g.size(); ++k) {
          m[i][k] = c.beta1 * m[i][k] + (1 - c.beta1) * factor * g[k];
          v[i][k] = c.beta2 * v[i][k] + (1 - c.beta2) * factor * g[k] * factor * g[k];
          w[i][k] *= 1 - c.learning_rate * c.weight_decay;
          w[i][k] -= c.learning_rate * m[i][k] / (1 - std::pow(c.beta1, t)) /
                     (std::sqrt(v[i][k] / (1 - std::pow(c.beta2, t))) + c.eps);
        }
      }
    }
    // A step moves a weight by at most about the rate: a few roundings of the weight (|w| < 5) and of the step.
    for (size_t i = 0; i < parameters.size(); ++i)
      check_close(parameters[i].tensor, w[i], dtype == DType::f32 ? 2e-6 : 1e-14);
  }
}

TEST_CASE("adam: the same bits for any number of threads") {
  const int before = num_threads();
  std::vector<std::vector<NamedTensor>> results;
  std::vector<double> norms;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    results.push_back(many_parameters(DType::f32));
    Adam adam(results.back(), {.weight_decay = 0.1, .clip_grad_norm = 0.5});
    double norm = 0;
    for (int step = 0; step < 3; ++step) norm = adam.step(many_gradients(results.back(), step)).item();
    norms.push_back(norm);
  }
  set_num_threads(before);
  for (size_t run = 1; run < results.size(); ++run) {
    CHECK(norms[run] == norms[0]);
    for (size_t i = 0; i < results[0].size(); ++i) CHECK(same_bits(results[run][i].tensor, results[0][i].tensor));
  }
}

TEST_CASE("adam: what decays") {
  const auto moved = [](const std::string& name, const Shape& shape, bool all, std::vector<std::string> tables = {}) {
    const NamedTensor p{name, full(shape, 1), true};
    OptimizerConfig config{.learning_rate = 0.5, .weight_decay = 0.5, .decay_all = all};
    if (!tables.empty()) config.no_decay = tables;
    Adam adam({p}, config);
    Gradients grads;
    grads.add(p.tensor, zeros(shape));
    adam.step(grads);
    return values(p.tensor)[0];
  };
  CHECK(moved("to_logits.1.weight", {2, 2}, false) == 0.75);
  for (const char* name : {"token_emb.weight", "layers.1.0.state_container.init_state", "x.state_pos_ids"}) {
    CHECK(moved(name, {2, 2}, false) == 1);
    CHECK(moved(name, {2, 2}, true) == 0.75);
  }
  CHECK(moved("wte.weight", {2, 2}, false, {"other", "wte"}) == 1);
  CHECK(moved("wte.weight", {2, 2}, true, {"other", "wte"}) == 0.75);
  CHECK(moved("token_emb.weight", {2, 2}, false, {"wte"}) == 0.75);
  CHECK(moved("norm.gamma", {2}, false) == 1);
  CHECK(moved("norm.gamma", {2}, true) == 0.75);
}

TEST_CASE("adam: squares of large gradients do not overflow") {
  const NamedTensor p{"w", zeros({4}), true};
  Adam adam({p}, {.clip_grad_norm = 1});
  Gradients grads;
  grads.add(p.tensor, full({4}, 1e30));
  CHECK(adam.step(grads).item() == doctest::Approx(2e30));
  CHECK(values(p.tensor)[0] == doctest::Approx(-1e-3));  // one step of Adam is one learning rate
}

TEST_CASE("adam: a norm that is not finite is returned, and nothing is changed") {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    for (const double clip : {0.0, 1.0}) {
      const NamedTensor p{"w", full({3}, 2), true};
      Adam adam({p}, {.weight_decay = 0.5, .decay_all = true, .clip_grad_norm = clip});
      Gradients grads;
      grads.add(p.tensor, tensor<float>({1, bad, 1}, {3}));
      CHECK(!std::isfinite(adam.step(grads).item()));
      CHECK(values(p.tensor) == std::vector<double>{2, 2, 2});
      for (const NamedTensor& t : named_tensors(adam))
        CHECK(values(t.tensor) == std::vector<double>(size_t(t.tensor.numel()), 0.0));
    }
}

TEST_CASE("adam: its state, saved and loaded, goes on bit for bit") {
  const Temporary place;
  const Small a(DType::f32), b(DType::f32);
  Adam first(a.named(), small_config(0.1, 0.5)), second(b.named(), small_config(0.1, 0.5));
  for (int step = 0; step < 3; ++step) first.step(a.gradients(step));
  write_safetensors(place / "model", a.named());
  write_safetensors(place / "optimizer", named_tensors(first));
  load_tensors(read_safetensors(place / "model"), b.named(), true, "model");
  load_tensors(read_safetensors(place / "optimizer"), named_tensors(second), true, "optimizer");
  first.step(a.gradients(4));
  second.step(b.gradients(4));
  CHECK(same_bits(a.weight, b.weight));
  CHECK(same_bits(a.bias, b.bias));
  const auto x = state_of(first), y = state_of(second);
  for (const auto& [name, t] : x) CHECK(same_bits(t, y.at(name)));
}

TEST_CASE("adam: the learning rate can be set") {
  const NamedTensor p{"w", zeros({1}), true};
  Adam adam({p}, {.learning_rate = 1});
  Gradients grads;
  grads.add(p.tensor, full({1}, 3));
  adam.set_learning_rate(0.25);
  adam.step(grads);
  CHECK(adam.learning_rate() == 0.25);
  CHECK(values(p.tensor)[0] == doctest::Approx(-0.25));
  adam.step({});
  CHECK(values(p.tensor)[0] == doctest::Approx(-0.25));
}

TEST_CASE("adam: marks its parameters, and does not step under a tape") {
  const NamedTensor p{"w", full({2}, 3), true};
  CHECK(!p.tensor.is_parameter());
  Adam adam({p}, {.learning_rate = 0.5});
  CHECK(p.tensor.is_parameter());
  Tape tape;
  const Tensor loss = sum(p.tensor * p.tensor);
  CHECK(error_of([&] { adam.step({}); }) ==
        "Adam: a tape with recorded ops is alive; play it (backward) before the step");
  {
    Tape inner;
    CHECK(error_of([&] { adam.step({}); }) ==
          "Adam: a tape with recorded ops is alive; play it (backward) before the step");
  }
  const Gradients grads = tape.backward(loss);
  CHECK(adam.step(grads).item() == doctest::Approx(6 * std::sqrt(2.0)));
  CHECK(values(p.tensor)[0] == doctest::Approx(2.5));
}

TEST_CASE("adam: a warm step allocates nothing") {
  if (!mallocs_are_counted()) return skip("sanitizers have a malloc of their own");
  const std::vector<NamedTensor> parameters = many_parameters(DType::f32);
  Adam adam(parameters, {.clip_grad_norm = 1});
  const Gradients grads = many_gradients(parameters, 0);
  adam.step(grads);
  const int64_t before = mallocs();
  adam.step(grads);
  CHECK(mallocs() - before == 0);
}

TEST_CASE("sgd: a plain loop agrees, whatever the sizes") {
  const SGDConfig configs[] = {{.learning_rate = 0.0625},
                               {.learning_rate = 0.0625, .momentum = 0.75},
                               {.learning_rate = 0.0625, .momentum = 0.75, .nesterov = true, .weight_decay = 0.25},
                               {.learning_rate = 0.0625, .weight_decay = 0.25, .clip_grad_norm = 3}};
  for (const SGDConfig& c : configs)
    for (const DType dtype : {DType::f32, DType::f64}) {
      const std::vector<NamedTensor> parameters = many_parameters(dtype);
      std::vector<std::vector<double>> w;
      for (const NamedTensor& p : parameters) w.push_back(values(p.tensor));
      std::vector<std::vector<double>> v = w;
      for (auto& x : v) std::fill(x.begin(), x.end(), 0.0);
      SGD sgd(parameters, c);
      for (int step = 0; step < 3; ++step) {
        const Gradients grads = many_gradients(parameters, step);
        double squares = 0;
        for (const NamedTensor& p : parameters)
          if (const Tensor g = grads.find(p.tensor))
            for (const double x : values(g)) squares += x * x;
        const double norm = std::sqrt(squares);
        const double factor = c.clip_grad_norm > 0 ? std::min(1.0, c.clip_grad_norm / (norm + 1e-6)) : 1;
        CHECK(sgd.step(grads).item() == doctest::Approx(norm).epsilon(1e-7));
        for (size_t i = 0; i < parameters.size(); ++i) {
          if (!grads.find(parameters[i].tensor)) continue;
          const std::vector<double> g = values(grads[parameters[i].tensor]);
          for (size_t k = 0; k < g.size(); ++k) {
            const double all = factor * g[k] + c.weight_decay * w[i][k];
            v[i][k] = c.momentum * v[i][k] + all;
            w[i][k] -= c.learning_rate * (c.nesterov ? all + c.momentum * v[i][k] : v[i][k]);
          }
        }
      }
      for (size_t i = 0; i < parameters.size(); ++i)
        check_close(parameters[i].tensor, w[i], dtype == DType::f32 ? 2e-6 : 1e-14);
      CHECK(named_tensors(sgd).size() == (c.momentum > 0 ? parameters.size() : 0));
    }
}

TEST_CASE("sgd: PyTorch's numbers") {
  const Small p(DType::f64);
  SGD sgd(p.named(), {.learning_rate = 0.0078125, .momentum = 0.8, .nesterov = true, .weight_decay = 0.1});
  for (int step = 0; step < 4; ++step) sgd.step(p.gradients(step));
  // torch.optim.SGD 2.15, four steps
  check_close(p.weight,
              {1.0049129897884777, -1.9934391331690828, 2.966990943011621, 0.47822066017900133, 0.27918664336053745,
               -0.09116017178722777},
              1e-14);
  check_close(p.bias, {0.08912207275390625, -0.19604181396484377}, 1e-14);
}

TEST_CASE("sgd: its state goes on bit for bit; the same bits for any number of threads; nothing allocated") {
  const SGDConfig c{.learning_rate = 0.5, .momentum = 0.75, .clip_grad_norm = 1};
  const std::vector<NamedTensor> a = many_parameters(DType::f32), b = many_parameters(DType::f32);
  SGD first(a, c), second(b, c);
  const int before = num_threads();
  set_num_threads(1);
  first.step(many_gradients(a, 0));
  set_num_threads(3);
  second.step(many_gradients(b, 0));
  set_num_threads(before);
  const std::vector<NamedTensor> from = named_tensors(first), to = named_tensors(second);
  for (size_t i = 0; i < from.size(); ++i) {
    CHECK(from[i].name == "v." + a[i].name);
    CHECK(same_bits(from[i].tensor, to[i].tensor));
    CHECK(same_bits(a[i].tensor, b[i].tensor));
  }
  SGD third(b, c);  // without what was kept, it goes elsewhere; with it, it does not
  for (size_t i = 0; i < from.size(); ++i) assign(from[i].tensor, named_tensors(third)[i].tensor);
  first.step(many_gradients(a, 1));
  third.step(many_gradients(b, 1));
  for (size_t i = 0; i < a.size(); ++i) CHECK(same_bits(a[i].tensor, b[i].tensor));
  if (!mallocs_are_counted()) return skip("sanitizers have a malloc of their own");
  const Gradients grads = many_gradients(a, 1);
  const int64_t counted = mallocs();
  first.step(grads);
  CHECK(mallocs() - counted == 0);
}

TEST_CASE("sgd: the rate can be set; a norm that is not finite changes nothing; errors") {
  const NamedTensor p{"w", full({2}, 3), true};
  SGD sgd({p}, {.learning_rate = 0.5, .momentum = 0.5});
  Gradients grads;
  grads.add(p.tensor, tensor<float>({NAN, 1}, {2}));
  CHECK(std::isnan(sgd.step(grads).item()));
  CHECK(values(p.tensor) == std::vector<double>{3, 3});
  CHECK(values(named_tensors(sgd)[0].tensor) == std::vector<double>{0, 0});
  grads.clear();
  grads.add(p.tensor, full({2}, 1));
  sgd.set_learning_rate(0.25);
  sgd.step(grads);
  CHECK(sgd.learning_rate() == 0.25);
  CHECK(values(p.tensor) == std::vector<double>{2.75, 2.75});
  const auto error = [&](SGDConfig config) { return error_of([&] { SGD({p}, config); }); };
  CHECK(error({.learning_rate = -1}) == "SGD: learning_rate is -1, but must be at least 0");
  CHECK(error({.momentum = 1}) == "SGD: momentum is 1, but must be in [0, 1)");
  CHECK(error({.weight_decay = NAN}) == "SGD: weight_decay is nan, but must be at least 0");
  CHECK(error({.clip_grad_norm = -1}) == "SGD: clip_grad_norm is -1, but must be at least 0");
  CHECK(error({.nesterov = true}) == "SGD: nesterov asks for a momentum above 0");
  CHECK(error_of([] { SGD({}); }) == "SGD: there are no parameters");
  CHECK(error_of([&] { sgd.set_learning_rate(-2); }) == "SGD: learning_rate is -2, but must be at least 0");
  Tape tape;
  const Tensor loss = sum(p.tensor * p.tensor);
  CHECK(error_of([&] { sgd.step({}); }) ==
        "SGD: a tape with recorded ops is alive; play it (backward) before the step");
}

TEST_CASE("adam: what cannot be optimized") {
  const Tensor t = zeros({2});
  const auto error = [](std::vector<NamedTensor> parameters, OptimizerConfig config = {}) {
    return error_of([&] { Adam(std::move(parameters), config); });
  };
  CHECK(error({}) == "Adam: there are no parameters");
  CHECK(error({{"a", {}, true}}) == "Adam: parameter a is empty");
  CHECK(error({{"a", t, true}, {"beta", zeros({2}), false}}) ==
        "Adam: beta is a tensor that is not trained; parameters(model) has those that are");
  CHECK(error({{"a", zeros({2}, DType::i64), true}}) == "Adam: parameter a is i64, but f32 or f64 is needed");
  CHECK(error({{"a", t, true}, {"b", zeros({2}, DType::f64), true}}) == "Adam: parameter b is f64, but a is f32");
  CHECK(error({{"a", t, true}, {"b", t, true}}) ==
        "Adam: parameters a and b are the same tensor; a layer's each() visits a tensor that is used twice once");
  CHECK(error({{"a", t, true}, {"a", zeros({2}), true}}) == "Adam: two parameters have the name a");
  CHECK(error({{"a", t, true}}, {.learning_rate = -1}) == "Adam: learning_rate is -1, but must be at least 0");
  CHECK(error({{"a", t, true}}, {.beta1 = 1}) == "Adam: beta1 is 1, but must be in [0, 1)");
  CHECK(error({{"a", t, true}}, {.beta2 = -0.5}) == "Adam: beta2 is -0.5, but must be in [0, 1)");
  CHECK(error({{"a", t, true}}, {.eps = NAN}) == "Adam: eps is nan, but must be at least 0");
  CHECK(error({{"a", t, true}}, {.weight_decay = -1}) == "Adam: weight_decay is -1, but must be at least 0");
  CHECK(error({{"a", t, true}}, {.clip_grad_norm = -1}) == "Adam: clip_grad_norm is -1, but must be at least 0");
  Adam adam({{"a", t, true}}, {});
  CHECK(error_of([&] { adam.set_learning_rate(NAN); }) == "Adam: learning_rate is nan, but must be at least 0");
}

}  // namespace rondo::testing
