// Adam and clipping: PyTorch's numbers, a plain loop, the same bits for any number of threads.
#include "tests/optimizer.h"

#include <limits>

#include "autograd/ops.h"
#include "nn/safetensors.h"
#include "tensor/parallel.h"
#include "tests/mallocs.h"
#include "tests/temporary.h"

namespace rondo::testing {
namespace {

// The learning rate is exact in f32 too.
OptimizerConfig small_config(double weight_decay, double clip) {
  return {.learning_rate = 0.0078125,
          .beta1 = 0.8,
          .beta2 = 0.95,
          .eps = 1e-6,
          .weight_decay = weight_decay,
          .clip_grad_norm = clip};
}

std::map<std::string, Tensor> state_of(Adam& adam) {
  std::map<std::string, Tensor> all;
  for (const NamedTensor& t : named_tensors(adam)) all[t.name] = t.tensor;
  return all;
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
      const double norm = norm_of(parameters, grads), factor = std::min(1.0, c.clip_grad_norm / (norm + 1e-6));
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
  Adam adam(many_parameters(DType::f32), {.clip_grad_norm = 1});
  check_warm_step(adam);
}

TEST_CASE("adam: a weight whose gradient is always 0 stays, with the smallest eps too") {
  for (const Device device : devices())
    for (const DType dtype : {DType::f32, DType::f64}) {
      const Tensor w = to(randn({5}, dtype), device), before = clone(w);
      Adam adam({{"w", parameter(w), true}}, {.eps = kSmallestEps});
      for (int step = 0; step < 3; ++step) {
        Tape tape;
        adam.step(tape.backward(sum(w * zeros({5}, dtype, device))));
      }
      CHECK(same_bits(to(w, Device::cpu), to(before, Device::cpu)));
    }
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
  CHECK(error({{"a", t, true}}, {.learning_rate = 1e300}) ==
        "Adam: learning_rate is 1e+300, but must be at most 1e+30");
  CHECK(error({{"a", t, true}}, {.clip_grad_norm = INFINITY}) == "(no error)");
  CHECK(error({{"a", t, true}}, {.beta1 = 1}) == "Adam: beta1 is 1, but must be in [0, 1)");
  CHECK(error({{"a", t, true}}, {.beta2 = -0.5}) == "Adam: beta2 is -0.5, but must be in [0, 1)");
  for (const auto& [eps, shown] : {std::pair{double(NAN), "nan"}, {0.0, "0"}, {1e-50, "1e-50"}})
    CHECK(error({{"a", t, true}}, {.eps = eps}) ==
          "Adam: eps is " + std::string(shown) + ", but must be at least 1e-30");
  CHECK(error({{"a", t, true}}, {.weight_decay = -1}) == "Adam: weight_decay is -1, but must be at least 0");
  CHECK(error({{"a", t, true}}, {.clip_grad_norm = -1}) == "Adam: clip_grad_norm is -1, but must be at least 0");
  Adam adam({{"a", t, true}}, {});
  CHECK(error_of([&] { adam.set_learning_rate(NAN); }) == "Adam: learning_rate is nan, but must be at least 0");
}

}  // namespace rondo::testing
