// The model: its config, what flows between segments, which layers see what. Numbers are held in tests/verify.cpp.
#include "models/block_recurrent/model.h"

#include <set>

#include "tests/testing.h"

namespace rondo::testing {
namespace {

BlockRecurrentConfig small() {
  BlockRecurrentConfig c;
  c.num_tokens = 20, c.dim = 12, c.depth = 2, c.dim_head = 4, c.heads = 3;
  c.max_seq_len = 16, c.block_width = 4, c.num_state_vectors = 5, c.recurrent_layers = {{2}};
  return c;
}

Tensor random_tokens(int64_t batch, int64_t n, int64_t vocabulary, uint64_t seed = 1) {
  Generator g{seed, 5, 0};
  std::vector<int64_t> t;
  for (int64_t i = 0; i < batch * n; ++i) t.push_back(g.below(vocabulary));
  return tensor(t, {batch, n});
}

BlockRecurrentTransformer make(const BlockRecurrentConfig& c, DType dtype = DType::f64) {
  Generator g{7, 0, 0};
  return BlockRecurrentTransformer(c, g, dtype);
}

TEST_CASE("config: each rule, in whole words") {
  const auto error = [](auto&& change) {
    BlockRecurrentConfig c = small();
    change(c);
    return error_of([&] { c.validate(); });
  };
  CHECK(error([](auto&) {}) == "(no error)");
  CHECK(error([](auto& c) { c.max_seq_len = 18; }) == "max_seq_len = 18, but it must be a multiple of block_width = 4");
  CHECK(error([](auto& c) { c.dim_head = 5; }) == "dim_head = 5, but it must be even (rotary embedding turns pairs)");
  CHECK(error([](auto& c) { c.depth = 0; }) == "depth = 0, but it must be at least 1");
  for (int64_t BlockRecurrentConfig::*size :
       {&BlockRecurrentConfig::num_tokens, &BlockRecurrentConfig::dim, &BlockRecurrentConfig::dim_head,
        &BlockRecurrentConfig::heads, &BlockRecurrentConfig::ff_mult, &BlockRecurrentConfig::max_seq_len})
    CHECK(error([=](auto& c) {
            c.*size = INT64_MAX / 3;
          }).ends_with(" = 3074457345618258602, but it must be at most 16777216"));
  CHECK(error([](auto& c) { c.recurrent_layers = {{3}}; }) ==
        "recurrent_layers names layer 3, but the layers are 1 to 2");
  CHECK(error([](auto& c) { c.recurrent_layers = {{1, 1}}; }) == "recurrent_layers names a layer twice");
  CHECK(error([](auto& c) { c.recurrent_layers = {{2, 1}}; }) == "recurrent_layers must be in rising order");
  CHECK(error([](auto& c) { c.depth = 1, c.recurrent_layers.reset(); }) ==
        "recurrent_layers names layer 0, but the layers are 1 to 1; with depth 1, name it: recurrent_layers = [1], or "
        "[] for none");
  CHECK(error([](auto& c) { c.ignore_index = 3; }) ==
        "ignore_index = 3, but that is a token of the vocabulary 0 to 19");
  CHECK(error([](auto& c) { c.init = "new"; }) == "init = \"new\", but it must be \"0.3.2\" or \"0.4\"");
  CHECK(error([](auto& c) { c.qk_norm_scale = -1; }) ==
        "qk_norm_scale = -1, but it must be positive, 1e6 at most, or 0 for 1/sqrt(dim_head)");
  CHECK(error([](auto& c) { c.qk_norm_scale = INFINITY; }) ==
        "qk_norm_scale = inf, but it must be positive, 1e6 at most, or 0 for 1/sqrt(dim_head)");
  CHECK(error([](auto& c) {
          c.ema_beta_init = {NAN, 0};
        }) == "ema_beta_init has the mean nan, but it must be from -1e6 to 1e6");
  CHECK(error([](auto& c) {
          c.ema_beta_init = {0, INFINITY};
        }) == "ema_beta_init has the standard deviation inf, but it must be from 0 to 1e6");
  CHECK(error([](auto& c) {
          c.ema_beta_init = {0, -1};
        }) == "ema_beta_init has the standard deviation -1, but it must be from 0 to 1e6");
  BlockRecurrentConfig c = small();
  c.num_state_vectors.reset(), c.recurrent_layers.reset(), c.depth = 6;
  CHECK(c.n_state_vectors() == 4);
  CHECK(c.recurrent() == std::vector<int64_t>{3});
}

TEST_CASE("model: names are unique, and beta alone is no parameter") {
  const BlockRecurrentTransformer model = make(small());
  std::set<std::string> names;
  for (const NamedTensor& t : named_tensors(model)) {
    CHECK(names.insert(t.name).second);
    CHECK(t.is_parameter ==
          (t.name.size() < 4 || t.name.substr(t.name.size() - 4) != "beta" || t.name.ends_with("ema_beta")));
    CHECK(t.tensor.is_parameter() == t.is_parameter);
  }
  CHECK(names.count("layers.1.0.state_container.state_out_to_gate.bias") == 1);
  CHECK(names.count("layers.0.0.state_container.init_state") == 0);
}

TEST_CASE("model: a segment at once equals block by block, with memories and states carried") {
  for (const std::vector<int64_t>& recurrent : {std::vector<int64_t>{}, {1}, {2}, {1, 2}}) {
    BlockRecurrentConfig c = small();
    c.recurrent_layers = recurrent;
    const BlockRecurrentTransformer model = make(c);
    const Tensor tokens = random_tokens(2, 32, 20);
    Carried whole, blocks;
    for (int64_t s = 0; s < 2; ++s) {
      const auto r = model(narrow(tokens, 1, s * 16, 16), whole);
      whole = r.carried;
      for (int64_t b = 0; b < 4; ++b) {
        const auto one = model(narrow(tokens, 1, s * 16 + b * 4, 4), blocks, true);
        blocks = one.carried;
        CHECK(max_abs_diff(one.logits, narrow(r.logits, 1, b * 4, 4)) < 1e-12);
      }
    }
    for (size_t i = 0; i < whole.states.size(); ++i) CHECK(max_abs_diff(whole.states[i], blocks.states[i]) < 1e-12);
    for (size_t i = 0; i < whole.memories.size(); ++i)
      CHECK(max_abs_diff(whole.memories[i], blocks.memories[i]) < 1e-12);
  }
}

TEST_CASE("model: no token sees a later one") {
  const BlockRecurrentTransformer model = make(small());
  const Tensor tokens = random_tokens(1, 16, 20);
  const Tensor before = model(tokens).logits;
  for (int64_t at : {0, 3, 4, 9, 15}) {
    const Tensor changed = clone(tokens);
    changed.data<int64_t>()[at] = (changed.data<int64_t>()[at] + 1) % 20;
    const Tensor after = model(changed).logits;
    if (at > 0) CHECK(same_bits(narrow(before, 1, 0, at), narrow(after, 1, 0, at)));
    CHECK(max_abs_diff(narrow(before, 1, at, 1), narrow(after, 1, at, 1)) > 1e-6);
  }
}

// docs/tour.md tells what this proves: beyond depth blocks, only the state remembers.
TEST_CASE("model: what a token changes far behind it reaches through states alone") {
  const BlockRecurrentConfig c = small();
  const BlockRecurrentTransformer model = make(c);
  const int64_t W = c.block_width, blocks = 6;
  const Tensor tokens = random_tokens(1, W * blocks, 20), changed = clone(tokens);
  changed.data<int64_t>()[1] = (changed.data<int64_t>()[1] + 1) % 20;
  const auto last_logits = [&](const Tensor& t, bool carry_states) {
    std::vector<Tensor> all;
    Carried carried;
    for (int64_t b = 0; b < blocks; ++b) {
      if (!carry_states) carried.states.clear();
      const auto r = model(narrow(t, 1, b * W, W), carried, true);
      all.push_back(narrow(r.logits, 1, W - 1, 1)), carried = r.carried;
    }
    return all;
  };
  const auto a = last_logits(tokens, false), b = last_logits(changed, false);
  const auto x = last_logits(tokens, true), y = last_logits(changed, true);
  for (int64_t block = 0; block < blocks; ++block) {
    CAPTURE(block);
    if (block >= c.depth) CHECK(same_bits(a[size_t(block)], b[size_t(block)]));
    CHECK(max_abs_diff(x[size_t(block)], y[size_t(block)]) > 0);
  }
}

TEST_CASE("model: a partial segment returns what to carry only when asked") {
  const BlockRecurrentTransformer model = make(small());
  const Tensor tokens = random_tokens(2, 10, 20);
  CHECK(model(tokens).carried.memories.empty());
  const auto r = model(tokens, {}, true);
  CHECK(r.carried.memories[0].shape() == Shape{2, 2, 8});
  CHECK(r.carried.states[0].shape() == Shape{2, 5, 12});
  CHECK(max_abs_diff(from_xl_memory(to_xl_memory(r.carried.memories[1])), r.carried.memories[1]) == 0);
  CHECK(to_xl_memory(r.carried.memories[1]).shape() == Shape{2, 2, 2, 4});
}

TEST_CASE("model: errors") {
  const BlockRecurrentTransformer model = make(small());
  CHECK(error_of([&] { model(random_tokens(1, 17, 20)); }) ==
        "model: tokens have shape (1, 17), but must be [batch, 1 to max_seq_len = 16]");
  CHECK(error_of([&] { model(zeros({3}, DType::i64)); }) ==
        "model: tokens have shape (3), but must be [batch, 1 to max_seq_len = 16]");
  CHECK(error_of([&] {
          model(random_tokens(1, 4, 20), {{Tensor()}, {}});
        }) == "model: 1 memories were given, but there are 2 layers");
  CHECK(error_of([&] {
          model(random_tokens(1, 4, 20), {{}, {Tensor(), Tensor()}});
        }) == "model: 2 states were given, but there are 1 recurrent layers");
  CHECK(error_of([&] {
          model(random_tokens(1, 4, 20), {{}, {zeros({2, 5, 12}, DType::f64)}});
        }) == "model: a state has shape (2, 5, 12), but the model and its tokens ask for (1, 5, 12)");
}

}  // namespace
}  // namespace rondo::testing
