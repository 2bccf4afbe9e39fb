// SGD: PyTorch's numbers, a plain loop, the same bits for any number of threads.
#include "autograd/ops.h"
#include "tensor/parallel.h"
#include "tests/mallocs.h"
#include "tests/optimizer.h"

namespace rondo::testing {

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
        const double norm = norm_of(parameters, grads);
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

TEST_CASE("sgd: its state goes on bit for bit; the same bits for any number of threads") {
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
}

TEST_CASE("sgd: a warm step allocates nothing") {
  if (!mallocs_are_counted()) return skip("sanitizers have a malloc of their own");
  SGD sgd(many_parameters(DType::f32), {.momentum = 0.5, .clip_grad_norm = 1});
  check_warm_step(sgd);
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
  const NamedTensor fresh{"fresh", full({2}, 3), true};
  CHECK(error_of([&] { SGD({fresh}, {.momentum = 2}); }) == "SGD: momentum is 2, but must be in [0, 1)");
  CHECK(!fresh.tensor.is_parameter());  // what was refused has left no trace
  CHECK(error_of([&] { sgd.set_learning_rate(-2); }) == "SGD: learning_rate is -2, but must be at least 0");
  Tape tape;
  const Tensor loss = sum(p.tensor * p.tensor);
  CHECK(error_of([&] { sgd.step({}); }) ==
        "SGD: a tape with recorded ops is alive; play it (backward) before the step");
}

}  // namespace rondo::testing
