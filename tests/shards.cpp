// A training step in shards is that of the whole batch, and its bits do not depend on the number of threads.
#include "models/block_recurrent/shards.h"

#include <utility>

#include "models/block_recurrent/precision.h"
#include "models/block_recurrent/training_step.h"
#include "nn/optimizer.h"
#include "tensor/parallel.h"
#include "tests/decoding.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

BlockRecurrentConfig config() {
  BlockRecurrentConfig c;
  c.num_tokens = 31, c.dim = 16, c.depth = 2, c.dim_head = 8, c.heads = 2;
  c.max_seq_len = 32, c.block_width = 16, c.num_state_vectors = 5, c.recurrent_layers = {{2}};
  return c;
}

std::pair<Tensor, Tensor> text(int64_t batch, int64_t length, uint64_t seed = 1) {
  return inputs_and_labels(reshape(random_tokens(batch * (length + 1), seed, 31), {batch, length + 1}));
}

TEST_CASE("shards: losses, gradients and what is carried are those of the whole batch") {
  Generator g{7, 0, 0};
  const BlockRecurrentTransformer model(config(), g, DType::f64);
  const RecurrentTrainer trainer{model};
  const std::vector<NamedTensor> trained = parameters(model);
  for (const NamedTensor& p : trained) parameter(p.tensor);
  Shards shards(trained);
  Carried carried;
  struct Case {
    Shards::Cut cut;
    int64_t length;
  };
  for (const Case& c :
       {Case{{2}, 32}, {{3}, 80}, {{5}, 7}, {{2}, 96}, {{2, true}, 32}, {{3, true}, 80}, {{5, true}, 7}}) {
    const int64_t length = c.length;
    CAPTURE(c.cut.shards);
    CAPTURE(c.cut.in_turn);
    CAPTURE(length);
    const auto [tokens, labels] = text(5, length, uint64_t(length));
    RecurrentTrainer::Drops drops = trainer.draw(tokens, labels, g);
    if (drops.size() == 3) drops[1] = {true, false}, drops[2] = {false, true};
    Gradients grads, whole_grads;
    const auto whole = trainer.run(tokens, labels, carried, drops, whole_grads);
    const auto parts = shards.run(c.cut, trainer, tokens, labels, carried, drops, grads);
    CHECK(max_abs_diff(parts.losses, whole.losses) < 1e-14);
    CHECK(grads.size() == whole_grads.size());
    for (const NamedTensor& p : trained) {
      CAPTURE(p.name);
      REQUIRE(bool(grads.find(p.tensor)) == bool(whole_grads.find(p.tensor)));
      if (grads.find(p.tensor)) CHECK(max_abs_diff(grads[p.tensor], whole_grads[p.tensor]) < 1e-13);
    }
    REQUIRE(parts.carried.memories.size() == whole.carried.memories.size());
    REQUIRE(parts.carried.states.size() == whole.carried.states.size());
    for (size_t i = 0; i < whole.carried.memories.size(); ++i)
      CHECK(max_abs_diff(parts.carried.memories[i], whole.carried.memories[i]) < 1e-13);
    for (size_t i = 0; i < whole.carried.states.size(); ++i)
      CHECK(max_abs_diff(parts.carried.states[i], whole.carried.states[i]) < 1e-13);
    carried = parts.carried;
  }
}

TEST_CASE("shards: in turn, a batch has the activations of one shard at a time") {
  Generator g{11, 0, 0};
  const BlockRecurrentTransformer model(config(), g);
  const std::vector<NamedTensor> trained = parameters(model);
  for (const NamedTensor& p : trained) parameter(p.tensor);
  const auto [tokens, labels] = text(64, 64);
  const auto needed = [&, x = tokens, y = labels](Shards::Cut cut) {
    Gradients grads;
    const int64_t before = memory_stats().current_bytes;
    reset_peak_memory();
    Shards(trained).run(cut, {model}, x, y, {}, {{}, {}}, grads);
    return double(memory_stats().peak_bytes - before);
  };
  CHECK(needed({4, true}) < 0.4 * needed({1, true}));
}

// Losses, norms and weights of some steps.
std::vector<double> train(int n_threads, int64_t num_tokens, int64_t batch, const Shards::Cut& cut) {
  const int before = num_threads();
  set_num_threads(n_threads);
  Generator g{8, 0, 0};
  BlockRecurrentConfig c = config();
  c.num_tokens = num_tokens;
  BlockRecurrentTransformer model(c, g);
  Adam adam(parameters(model), {.learning_rate = 0.01, .clip_grad_norm = 0.5});
  const RecurrentTrainer trainer{model, 0.3, 0.3};
  TrainingStep step(trainer, adam);
  std::vector<double> numbers;
  Carried carried;
  for (int i = 0; i < (cut.in_turn ? 2 : 6); ++i) {
    const auto [tokens, labels] = text(batch, cut.in_turn ? 32 : 64, uint64_t(i));
    CHECK(Shards::cut(trainer, tokens, labels) == cut);
    const TrainingStep::Result r = step(tokens, labels, carried, g);
    carried = r.carried;
    numbers.insert(numbers.end(), {r.loss(), r.norm.item()});
  }
  for (const NamedTensor& t : named_tensors(model))
    for (double v : values(t.tensor)) numbers.push_back(v);
  set_num_threads(before);
  return numbers;
}

TEST_CASE("shards: the same bits for any number of threads") {
  const std::vector<double> at_once = train(1, 31, 13, {3}), in_turn = train(1, 500, 170, {2, true});
  for (int n : {2, 3, 5}) {
    CAPTURE(n);
    CHECK(train(n, 31, 13, {3}) == at_once);
  }
  CHECK(train(2, 500, 170, {2, true}) == in_turn);
}

TEST_CASE("shards: of 128 rows for a small model, of many for a large batch, where all labels count") {
  Generator g{9, 0, 0};
  BlockRecurrentConfig c = config();
  const BlockRecurrentTransformer small(c, g);
  c.num_tokens = 3000;
  const BlockRecurrentTransformer wide(c, g);
  const auto worthwhile = [&](const BlockRecurrentTransformer& model, int64_t batch, int64_t length) {
    const auto [tokens, labels] = text(batch, length);
    return Shards::cut({model}, tokens, labels);
  };
  struct Case {
    int64_t batch, length;
    Shards::Cut cut;
  };
  for (const Case& k : {Case{1, 640, {1}},
                        {7, 640, {1}},
                        {8, 640, {2}},
                        {8, 31, {1}},
                        {10, 31, {2}},
                        {11, 20, {1}},
                        {63, 4, {1}},
                        {64, 4, {2}},
                        {74, 32, {18}},
                        {75, 32, {1}},  // 75 * 32 rows of 84 numbers are large
                        {967, 32, {1}},
                        {968, 32, {2, true}},  // of 484 * 32 rows of 84 numbers
                        {1452, 32, {3, true}}}) {
    const int64_t batch = k.batch, length = k.length;
    CAPTURE(batch);
    CAPTURE(length);
    CHECK(worthwhile(small, batch, length) == k.cut);
  }
  CHECK(worthwhile(wide, 8, 32) == Shards::Cut{});
  CHECK(worthwhile(wide, 127, 32) == Shards::Cut{});
  CHECK(worthwhile(wide, 128, 32) == Shards::Cut{2, true});  // of 2048 rows

  BlockRecurrentTransformer mixed = wide;
  compute_in(mixed, DType::bf16);
  CHECK(worthwhile(mixed, 128, 32) == Shards::Cut{});
  CHECK(worthwhile(mixed, 256, 32) == Shards::Cut{2, true});

  const auto [tokens, labels] = text(8, 32);
  CHECK(Shards::cut({small}, tokens, labels) == Shards::Cut{2});
  CHECK(Shards::cut({.model = small, .tape_options = {.check_finite = true}}, tokens, labels) == Shards::Cut{});
  const std::pair<int64_t, Shards::Cut> asked[] = {{1, {8, true}}, {3, {3, true}}, {7, {2, true}}, {8, {2}}, {0, {2}}};
  for (const auto& [size, cut] : asked) CHECK(Shards::cut({small}, tokens, labels, size) == cut);
  labels.data<int64_t>()[200] = small.config.ignore_index;
  CHECK(Shards::cut({small}, tokens, labels, 1) == Shards::Cut{});
  CHECK(Shards::cut({small}, tokens, labels) == Shards::Cut{});
}

TEST_CASE("shards: errors speak of the whole batch, and the next step is as if nothing had been") {
  Generator g{10, 0, 0};
  BlockRecurrentTransformer model(config(), g);
  Adam adam(parameters(model), {});
  TrainingStep step({model}, adam);
  const std::pair<Tensor, Tensor> batch = text(8, 32);
  const Tensor tokens = batch.first, labels = batch.second;
  const std::vector<double> before = values(model.head.weight);
  const int64_t good = std::exchange(tokens.data<int64_t>()[7 * 32 + 3], 31);
  CHECK(error_of([&] { step(tokens, labels, {}, g); }) ==
        "embedding: tokens hold 31 at index 227, but weight (31, 16) has V = 31 rows");
  CHECK(values(model.head.weight) == before);
  tokens.data<int64_t>()[7 * 32 + 3] = good;
  CHECK(error_of([&] {
          step(tokens, labels, {{}, {zeros({7, 5, 16})}}, g);
        }) == "model: a state has shape (7, 5, 16), but the model and its tokens ask for (8, 5, 16)");
  CHECK(error_of([&] {
          step(tokens, labels, {{}, {zeros({8, 6, 16})}}, g);
        }) == "model: a state has shape (8, 6, 16), but the model and its tokens ask for (8, 5, 16)");
  CHECK(values(model.head.weight) == before);
  CHECK(error_of([&] {
          Gradients grads;
          Shards(parameters(model)).run({9}, {model}, tokens, labels, {}, {{}}, grads);
        }) == "shards: a batch of 8 rows cannot be cut into 9");
  const double loss = step(tokens, labels, {}, g).loss();
  CHECK(loss > 0);
  CHECK(values(model.head.weight) != before);
}

}  // namespace
}  // namespace rondo::testing
