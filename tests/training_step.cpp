// A whole training step, captured on a GPU: the same bits as uncaptured, whatever changes from step to step.
#include "models/block_recurrent/training_step.h"

#include "models/block_recurrent/precision.h"
#include "nn/optimizer.h"
#include "tests/decoding.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

// Some steps on a small model, and what came of them.
struct Steps {
  Device device = Device::cuda;
  bool graphs = true;
  double drop_memories = 0, drop_states = 0;
  std::vector<int64_t> lengths = {};  // tokens of each step; segments have 4
  bool carries = false;               // memories and states from step to step
  bool narrow = false;                // products of bf16, with copies of weights
  int64_t rows = 2, micro_batch_size = 0;
  bool ignores = false;  // some labels, in every other step

  int64_t captured = 0;
  std::vector<double> numbers = {};  // losses and norms of all steps, then weights

  Steps& run() {
    BlockRecurrentTransformer model = make_tiny();
    model.to(device);
    if (narrow) compute_in(model, DType::bf16);
    Adam adam(parameters(model), {.learning_rate = 0.01, .clip_grad_norm = 0.5});
    TrainingStep step({model, drop_memories, drop_states}, adam, graphs, nullptr, micro_batch_size);
    Generator g{1, 2, 0};
    Carried carried;
    for (size_t i = 0; i < lengths.size(); ++i) {
      const auto [tokens, labels] =
          inputs_and_labels(reshape(random_tokens(rows * lengths[i], 3 + i), {rows, lengths[i]}));
      if (ignores && i % 2 == 1) labels.data<int64_t>()[0] = model.config.ignore_index;
      adam.set_learning_rate(0.01 / double(1 + i));
      const TrainingStep::Result result = step(tokens, labels, carries ? carried : Carried(), g);
      carried = result.carried;
      numbers.push_back(result.loss());
      numbers.push_back(result.norm.item());
    }
    for (const NamedTensor& t : named_tensors(adam))
      for (double v : values(to(t.tensor, Device::cpu))) numbers.push_back(v);
    for (const NamedTensor& t : named_tensors(model))
      for (double v : values(to(t.tensor, Device::cpu))) numbers.push_back(v);
    captured = step.captured();
    numbers.push_back(double(g.position));
    return *this;
  }
};

// How many variants were captured, where the numbers are those of steps that were not.
int64_t captured_with_the_same_bits(Steps steps) {
  Steps plain = steps;
  plain.graphs = false;
  plain.run();
  REQUIRE(plain.captured == 0);
  CHECK(steps.run().numbers == plain.numbers);
  return steps.captured;
}

std::vector<int64_t> times(int n, int64_t length) { return std::vector<int64_t>(size_t(n), length); }

}  // namespace

TEST_CASE("training step: the trainer's losses and the optimizer's norms") {
  for (const Device device : devices())
    for (const DType dtype : {DType::f32, DType::bf16}) {
      BlockRecurrentTransformer model = make_tiny(), twin = make_tiny();
      for (BlockRecurrentTransformer* m : {&model, &twin}) m->to(device), compute_in(*m, dtype);
      Adam adam(parameters(model), {.clip_grad_norm = 0.5}), other(parameters(twin), {.clip_grad_norm = 0.5});
      const RecurrentTrainer trainer{model, 0.5, 0.5};
      TrainingStep step({twin, 0.5, 0.5}, other);
      Generator g{1, 2, 0}, h = g;
      for (int i = 0; i < 12; ++i) {
        const auto [tokens, labels] = inputs_and_labels(reshape(random_tokens(2 * 11, uint64_t(i)), {2, 11}));
        Gradients grads;
        const double loss = trainer(tokens, labels, {}, g, grads).loss();
        const TrainingStep::Result result = step(tokens, labels, {}, h);
        CHECK(result.loss() == loss);
        CHECK(result.norm.item() == adam.step(grads).item());
        CHECK(g == h);
      }
      CHECK((step.captured() > 0) == (device == Device::cuda));
    }
}

TEST_CASE("cuda training step: captured, with a learning rate that changes and carried memories") {
  CHECK(captured_with_the_same_bits({.lengths = times(5, 11)}) == 1);
  CHECK(captured_with_the_same_bits({.lengths = times(5, 9), .carries = true}) == 1);  // the first has nothing carried
}

TEST_CASE("cuda training step: copies of weights are those of each step, also of variants that use others") {
  CHECK(captured_with_the_same_bits({.lengths = times(5, 11), .narrow = true}) == 1);
  CHECK(captured_with_the_same_bits({.drop_memories = 0.5,
                                     .drop_states = 0.5,
                                     .lengths = {9, 4, 9, 9, 4, 9, 4, 9, 9},
                                     .carries = true,
                                     .narrow = true}) >= 2);
}

TEST_CASE("cuda training step: dropped memories and states") {
  CHECK(captured_with_the_same_bits({.drop_memories = 0.5, .drop_states = 0.5, .lengths = times(12, 9)}) == 4);
  CHECK(captured_with_the_same_bits(
            {.drop_memories = 0.5, .drop_states = 0.5, .lengths = times(16, 5), .carries = true}) >= 3);
}

TEST_CASE("cuda training step: lengths that change, more of them than are captured") {
  CHECK(captured_with_the_same_bits({.lengths = {9, 4, 9, 6, 4, 9, 6, 9}}) == 3);
  std::vector<int64_t> lengths;
  for (int time = 0; time < 2; ++time)
    for (int64_t n = 0; n < int64_t(TrainingStep::kMostVariants) + 1; ++n) lengths.push_back(2 + n);
  CHECK(Steps{.lengths = lengths}.run().captured == TrainingStep::kMostVariants);
}

TEST_CASE("training step: in micro batches, as the whole batch") {
  for (const Device device : devices()) {
    const Steps asked{.device = device, .drop_states = 0.3, .lengths = times(5, 11), .carries = true, .rows = 5};
    Steps whole = asked;
    whole.run();
    for (const int64_t size : {1, 2, 3, 4, 9}) {
      Steps parts = asked;
      parts.micro_batch_size = size;
      parts.run();
      CAPTURE(size);
      CHECK((parts.numbers == whole.numbers) == (size >= 5));
      for (size_t i = 0; i < 10; ++i) CHECK(parts.numbers[i] == doctest::Approx(whole.numbers[i]).epsilon(1e-3));
      CHECK(parts.numbers.back() == whole.numbers.back());
      CHECK((parts.captured > 0) == (device == Device::cuda));
    }
  }
}

TEST_CASE("cuda training step: micro batches, captured") {
  CHECK(captured_with_the_same_bits({.lengths = times(5, 11), .carries = true, .rows = 3, .micro_batch_size = 2}) == 1);
}

TEST_CASE("training step: whole where a label is ignored, since means of parts are then not the mean") {
  for (const Device device : devices()) {
    Steps whole{.device = device, .lengths = times(6, 11), .rows = 3, .ignores = true}, parts = whole;
    parts.micro_batch_size = 1;
    whole.run(), parts.run();
    for (size_t i = 0; i < 12; ++i) CHECK(parts.numbers[i] == doctest::Approx(whole.numbers[i]).epsilon(1e-3));
  }
}

TEST_CASE("cuda training step: steps that cannot be captured leave room for others") {
  std::vector<int64_t> lengths = times(2 * int(TrainingStep::kMostVariants) + 2, 11);
  lengths.insert(lengths.end(), 3, 9);
  CHECK(captured_with_the_same_bits({.lengths = lengths, .rows = 3, .micro_batch_size = 1, .ignores = true}) == 2);
}

TEST_CASE("training step: micro batches need memory for one of them") {
  for (const Device device : devices()) {
    const auto peak = [&](int64_t size) {
      reset_peak_memory(device);
      const int64_t before = memory_stats(device).current_bytes;
      Steps{.device = device, .graphs = false, .lengths = {41}, .rows = 16, .micro_batch_size = size}.run();
      return double(memory_stats(device).peak_bytes - before);
    };
    CHECK(peak(1) < 0.4 * peak(16));
  }
  BlockRecurrentTransformer model = make_tiny();
  Adam adam(parameters(model), {});
  CHECK(error_of([&] { TrainingStep({model}, adam, true, nullptr, -1); }) ==
        "training step: micro_batch_size is -1, but must be at least 0");
}

TEST_CASE("cuda training step: tokens that are none, captured or not") {
  BlockRecurrentTransformer model = make_tiny();
  model.to(Device::cuda);
  Adam adam(parameters(model), {});
  TrainingStep step({model}, adam);
  Generator g, before;
  const Tensor good = reshape(random_tokens(8, 1), {2, 4}), bad = full({2, 4}, 1000, DType::i64);
  for (int i = 0; i < 3; ++i) {
    CHECK(error_of([&] { step(bad, good, {}, g); }).starts_with("embedding: tokens hold 1000 at index 0"));
    CHECK(error_of([&] { step(good, bad, {}, g); }).starts_with("cross_entropy: labels hold 1000 at index 0"));
    CHECK(g == before);
    step(good, good, {}, g);
    before = g;
  }
  CHECK(step.captured() == 1);
  CHECK(error_of([&] { step(good, narrow(good, 1, 0, 3), {}, g); }) ==
        "trainer: tokens have shape (2, 4) and labels (2, 3), but both must be [batch, tokens]");
}

}  // namespace rondo::testing
