// Data parallel with one rank, which must change no bit. What several make together is in cuda/ranks.cpp.
#include "nn/gradient_mean.h"

#include "models/block_recurrent/training_step.h"
#include "tests/cuda/alone.h"
#include "tests/decoding.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

std::vector<double> steps_of(Communicator* ranks) {
  BlockRecurrentTransformer model = make_tiny();
  model.to(Device::cuda);
  Adam adam(parameters(model), {.learning_rate = 0.01, .clip_grad_norm = 0.5});
  TrainingStep step({model, 0.5, 0.5}, adam, true, ranks);
  Generator g{1, 2, 0};
  std::vector<double> numbers;
  Carried carried;
  for (uint64_t i = 0; i < 10; ++i) {
    const auto [tokens, labels] = inputs_and_labels(reshape(random_tokens(2 * 9, i), {2, 9}));
    const TrainingStep::Result result = step(tokens, labels, carried, g);
    carried = result.carried;
    numbers.push_back(result.loss());
    numbers.push_back(result.norm.item());
  }
  for (const NamedTensor& t : named_tensors(model))
    for (const double v : values(to(t.tensor, Device::cpu))) numbers.push_back(v);
  numbers.push_back(double(step.captured()));
  return numbers;
}

}  // namespace

TEST_CASE("cuda gradient mean: a training step's bits are those without, captured too") {
  const auto ranks = alone();
  if (!ranks) return;
  const std::vector<double> numbers = steps_of(ranks.get());
  CHECK(numbers.back() > 0);
  CHECK(numbers == steps_of(nullptr));
}

TEST_CASE("cuda gradient mean: buckets, and gradients that are not whole before the end") {
  const auto ranks = alone();
  if (!ranks) return;
  for (const size_t bucket : {size_t{1}, size_t{100}, GradientMean::kBucketBytes}) {
    std::vector<NamedTensor> all;
    Gradients grads;
    for (int i = 0; i < 9; ++i) {
      all.push_back({"p", parameter(to(randn({3, 4}), Device::cuda)), true});
      if (i != 4) grads.add(all.back().tensor, full({3, 4}, i, DType::f64, Device::cuda));
    }
    const Tensor also = full({2}, 7, DType::f64, Device::cuda);
    GradientMean mean(*ranks, grads, bucket);
    for (int i : {8, 7, 4, 2}) mean.ready(all[size_t(i)].tensor);
    mean.finish(all, also);
    for (int i = 0; i < 9; ++i) {
      const Tensor g = grads.find(all[size_t(i)].tensor);
      CHECK(bool(g) == (i != 4));
      if (g) CHECK(values(to(g, Device::cpu)) == std::vector<double>(12, i));
    }
    CHECK(values(to(also, Device::cpu)) == std::vector<double>(2, 7));
  }
}

TEST_CASE("cuda gradient mean: what somebody else holds stays as it is") {
  const auto ranks = alone();
  if (!ranks) return;
  const Tensor p = parameter(zeros({4}, DType::f32, Device::cuda)), held = zeros({4}, DType::f32, Device::cuda);
  Gradients grads;
  grads.add(p, held);
  GradientMean mean(*ranks, grads);
  mean.ready(p);
  mean.finish({{"p", p, true}}, zeros({1}, DType::f32, Device::cuda));
  CHECK(grads[p].bytes() != held.bytes());
}

TEST_CASE("cuda training step: its graphs may outlive the ranks' work") {
  const auto ranks = alone();
  if (!ranks) return;
  BlockRecurrentTransformer model = make_tiny();
  model.to(Device::cuda);
  Adam adam(parameters(model), {});
  TrainingStep step({model}, adam, true, ranks.get());
  Generator g;
  const Tensor tokens = reshape(random_tokens(2 * 8, 1), {2, 8});
  for (int i = 0; i < 2; ++i) step(tokens, tokens, {}, g);
  CHECK(step.captured() == 1);
  ranks->finish();  // NCCL would wait here for the graphs, if it left the group
}

TEST_CASE("cuda training step: several ranks need a GPU") {
  const BlockRecurrentTransformer model = make_tiny();
  Adam adam(parameters(model), {});
  const auto ranks = alone();
  if (!ranks) return;
  CHECK(error_of([&] { TrainingStep({model}, adam, true, ranks.get()); }) ==
        "training step: several ranks need the device cuda, not cpu");
}

}  // namespace rondo::testing
