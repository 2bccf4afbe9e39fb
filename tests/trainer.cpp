// Training over segments: gradients add up over tapes, dropouts, labels.
#include "models/block_recurrent/training_step.h"

#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "models/block_recurrent/precision.h"
#include "nn/optimizer.h"
#include "tensor/parallel.h"
#include "tests/decoding.h"
#include "tests/mallocs.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

BlockRecurrentConfig small() {
  BlockRecurrentConfig c;
  c.num_tokens = 11, c.dim = 12, c.depth = 2, c.dim_head = 4, c.heads = 2;
  c.max_seq_len = 8, c.block_width = 4, c.num_state_vectors = 3, c.recurrent_layers = {{1}};
  return c;
}

struct Fixture {
  Generator g{3, 0, 0};
  BlockRecurrentTransformer model{small(), g, DType::f64};
  Tensor tokens, labels;
  Fixture() {
    std::vector<int64_t> t;
    for (int i = 0; i < 2 * 25; ++i) t.push_back(g.below(11));
    std::tie(tokens, labels) = inputs_and_labels(tensor(t, {2, 25}));
  }
};

TEST_CASE("trainer: labels are the tokens that follow") {
  const auto [inputs, labels] = inputs_and_labels(tensor<int64_t>({1, 2, 3, 4, 5, 6}, {2, 3}));
  CHECK(inputs.to_vector<int64_t>() == std::vector<int64_t>{1, 2, 4, 5});
  CHECK(labels.to_vector<int64_t>() == std::vector<int64_t>{2, 3, 5, 6});
  CHECK(error_of([] {
          inputs_and_labels(zeros({2, 1}, DType::i64));
        }) == "inputs_and_labels: tokens have shape (2, 1), but must be [batch, 2 or more]");
}

TEST_CASE("trainer: the loss is the mean over segments; gradients are those of that mean") {
  Fixture f;
  const RecurrentTrainer trainer{f.model};
  Gradients grads, by_hand;
  const RecurrentTrainer::Result r = trainer(f.tokens, f.labels, {}, f.g, grads);
  Carried carried;
  double loss = 0;
  for (int64_t s = 0; s < 3; ++s) {
    Tape tape;
    const auto out = f.model(narrow(f.tokens, 1, s * 8, 8), carried);
    const Tensor l = cross_entropy(out.logits, narrow(f.labels, 1, s * 8, 8));
    loss += l.item() / 3;
    carried = detach(out.carried);
    tape.backward(l, 1.0 / 3, by_hand);
  }
  CHECK(r.loss() == doctest::Approx(loss).epsilon(1e-14));
  for (const NamedTensor& p : parameters(f.model))
    CHECK_MESSAGE(max_abs_diff(grads[p.tensor], by_hand[p.tensor]) < 1e-15, p.name);
  CHECK(max_abs_diff(r.carried.states[0], carried.states[0]) == 0);
}

TEST_CASE("trainer: dropped memories and states") {
  Fixture f;
  Gradients grads;
  const double kept = RecurrentTrainer{f.model}(f.tokens, f.labels, {}, f.g, grads).loss();
  const double no_memory = RecurrentTrainer{f.model, 1, 0}(f.tokens, f.labels, {}, f.g, grads).loss();
  const double no_state = RecurrentTrainer{f.model, 0, 1}(f.tokens, f.labels, {}, f.g, grads).loss();
  CHECK(std::abs(kept - no_memory) > 1e-6);
  CHECK(std::abs(kept - no_state) > 1e-9);
  CHECK(std::abs(no_memory - no_state) > 1e-9);
}

TEST_CASE("trainer: with W = N the state's write gets no gradient, and the optimizer leaves it alone") {
  BlockRecurrentConfig c = small();
  c.block_width = 8;
  Generator g{3, 0, 0};
  const BlockRecurrentTransformer model(c, g, DType::f64);
  Fixture f;
  Gradients grads;
  RecurrentTrainer{model}(f.tokens, f.labels, {}, g, grads);
  const StateContainer& s = *model.layers[0].attention.state_container;
  CHECK(!grads.find(s.learned_ema_beta));
  CHECK(grads.find(s.init_state));
  const Tensor before = clone(s.learned_ema_beta);
  Adam adam(parameters(model), {});
  adam.step(grads);
  CHECK(same_bits(before, s.learned_ema_beta));
}

TEST_CASE("trainer: a model learns a repeated text") {
  Fixture f;
  std::vector<int64_t> text;
  for (int i = 0; i < 50; ++i) text.push_back(i % 25 % 7);
  const auto [tokens, labels] = inputs_and_labels(tensor(text, {2, 25}));
  Adam adam(parameters(f.model), {.learning_rate = 1e-2, .clip_grad_norm = 0.5});
  const RecurrentTrainer trainer{f.model};
  Gradients grads;
  double loss = 0;
  for (int step = 0; step < 60; ++step) {
    grads.clear();
    loss = trainer(tokens, labels, {}, f.g, grads).loss();
    adam.step(grads);
  }
  CHECK(loss < 0.1);
}

int64_t page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt + usage.ru_majflt;
}

// The kernel may take pages back at any time, so it is the quietest of some steps that counts.
TEST_CASE("trainer: a warm training step asks for no memory, neither malloc nor the kernel") {
  if (!mallocs_are_counted()) return skip("sanitizers have a malloc of their own");
  BlockRecurrentConfig c;
  c.num_tokens = 256, c.dim = 64, c.depth = 2, c.dim_head = 16, c.heads = 4;
  c.max_seq_len = 64, c.block_width = 32, c.recurrent_layers = {{2}};
  Generator g;
  BlockRecurrentTransformer model(c, g);
  const auto text = [&](int64_t rows, int64_t length) {
    return inputs_and_labels(reshape(random_tokens(rows * (length + 1), 1, 256), {rows, length + 1}));
  };
  const std::pair<Tensor, Tensor> few = text(4, 128), many = text(120, 64);  // in shards at once, and in turn
  Adam adam(parameters(model), {.learning_rate = 1e-3, .clip_grad_norm = 0.5});
  TrainingStep train({model}, adam);
  const int threads_before = num_threads();
  for (int round = 0; round < 5; ++round) {
    const bool in_turn = round == 4;
    const int threads = in_turn ? 2 : 1 + round % 2;
    const DType dtype = round < 2 || in_turn ? DType::f32 : DType::bf16;
    const auto& [tokens, labels] = in_turn ? many : few;
    const auto step = [&, &x = tokens, &y = labels] { train(x, y, {}, g); };
    CAPTURE(in_turn);
    CAPTURE(threads);
    CAPTURE(dtype);
    compute_in(model, dtype);
    set_num_threads(threads);
    CHECK(Shards::cut({model}, tokens, labels).in_turn == in_turn);
    for (int i = 0; i < 3; ++i) step();
    int64_t fewest_mallocs = 1 << 30, fewest_faults = 1 << 30;
    for (int i = 0; i < 5; ++i) {
      const int64_t calls = mallocs(), faults = page_faults();
      step();
      fewest_mallocs = std::min(fewest_mallocs, mallocs() - calls);
      fewest_faults = std::min(fewest_faults, page_faults() - faults);
    }
    CHECK(fewest_mallocs == 0);
    CHECK(fewest_faults == 0);
  }
  set_num_threads(threads_before);
}

TEST_CASE("trainer: errors") {
  Fixture f;
  Gradients grads;
  const RecurrentTrainer trainer{f.model};
  CHECK(error_of([&] { trainer(f.tokens, narrow(f.labels, 1, 0, 3), {}, f.g, grads); }) ==
        "trainer: tokens have shape (2, 24) and labels (2, 3), but both must be [batch, tokens]");
  const RecurrentTrainer memories{f.model, NAN}, states{f.model, 0, 7};
  CHECK(error_of([&] { memories(f.tokens, f.labels, {}, f.g, grads); }) ==
        "trainer: a dropout is nan, but must be from 0 to 1");
  CHECK(error_of([&] { states(f.tokens, f.labels, {}, f.g, grads); }) ==
        "trainer: a dropout is 7, but must be from 0 to 1");
}

}  // namespace
}  // namespace rondo::testing
