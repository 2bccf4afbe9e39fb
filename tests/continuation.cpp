// Text drawn token by token: from files, with drafts, after more was fed.
#include "models/block_recurrent/continuation.h"

#include "models/block_recurrent/precision.h"
#include "tensor/parallel.h"
#include "tests/decoding.h"
#include "tests/mallocs.h"
#include "tests/temporary.h"

namespace rondo::testing {
namespace {

constexpr Generator kSeed{9, 3, 0};

std::vector<int64_t> drawn(Continuation& text, int n) {
  std::vector<int64_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(text.next().token);
  return tokens;
}

// A prompt that repeats itself, so that looking up finds something.
Tensor refrain() {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < 37; ++i) tokens.push_back(i * i % 7);
  return tensor(tokens, {37});
}

}  // namespace

TEST_CASE("continuation: a draft changes no token and no probability") {
  const BlockRecurrentTransformer model = make({2}, DType::f32, 8);
  for (const SamplingOptions& how : {SamplingOptions{.temperature = 0},
                                     {.temperature = 0.7},
                                     {.top_k = 5},
                                     {.temperature = 0.9, .repetition_penalty = 1.2}}) {
    std::vector<int64_t> expected;
    std::vector<double> probabilities;
    for (int64_t draft : {0, 1, 4, 15}) {
      Decoder decoder(model, 1);
      Continuation text(decoder, 0, how, kSeed, draft);
      text.feed(refrain());
      std::vector<int64_t> tokens;
      std::vector<double> p;
      for (int i = 0; i < 300; ++i) {
        const auto [token, log_probability] = text.next();
        tokens.push_back(token), p.push_back(log_probability);
      }
      if (draft == 0) expected = tokens, probabilities = p;
      CHECK(tokens == expected);
      CHECK(p == probabilities);  // to the bit
      CHECK((text.speculation().drafted > 0) == (draft > 0));
      CHECK(text.speculation().accepted <= text.speculation().drafted);
      if (draft > 0 && how.temperature == 0 && how.repetition_penalty == 1) CHECK(text.speculation().accepted > 0);
      text.settle();
      CHECK(decoder.position(0) == 337);
      CHECK(decoder.recent(0).back() == tokens.back());
    }
  }
}

TEST_CASE("continuation: goes on from a file as if it had never stopped, and after more text") {
  const Temporary directory;
  const BlockRecurrentTransformer model = make({1, 2}, DType::f32);
  const auto both = [&](bool stop) {
    Decoder decoder(model, 1);
    Continuation text(decoder, 0, {}, kSeed, 3);
    text.feed(refrain());
    std::vector<int64_t> all = drawn(text, 11);
    if (stop) {
      text.settle();
      decoder.save(directory / "state");
      Decoder later = Decoder::load(model, directory / "state");
      Continuation rest(later, 0, {}, kSeed);
      for (const int64_t t : drawn(rest, 9)) all.push_back(t);
      return all;
    }
    for (const int64_t t : drawn(text, 9)) all.push_back(t);
    return all;
  };
  CHECK(both(true) == both(false));

  const auto fed_later = [&](int64_t draft) {
    Decoder decoder(model, 1);
    Continuation text(decoder, 0, {}, kSeed, draft);
    text.feed(refrain());
    drawn(text, 5);
    text.feed(refrain());
    return drawn(text, 12);
  };
  CHECK(fed_later(0) == fed_later(8));
}

TEST_CASE("continuation: rows that go on together draw what each draws alone, to the bit") {
  for (DType weights : {DType::f32, DType::bf16, DType::i8}) {
    BlockRecurrentTransformer model = make({2}, DType::f32, 8);
    convert_weights(model, weights);
    const auto begin = [](Continuation& text, int64_t row) { text.feed(narrow(refrain(), 0, 0, 3 + 9 * row)); };
    const auto noise = [](int64_t row) { return Generator{9, uint64_t(row), 0}; };
    Decoder decoder(model, 4);
    std::vector<Continuation> texts;
    std::vector<Continuation*> all;
    for (int64_t row = 0; row < 4; ++row)
      begin(texts.emplace_back(decoder, row, SamplingOptions{.temperature = 0.7}, noise(row), row == 1 ? 0 : 15), row);
    for (int64_t row : {2, 0, 3, 1}) all.push_back(&texts[size_t(row)]);
    std::vector<std::vector<Continuation::Drawn>> together(4);
    for (int i = 0; i < 60; ++i) {
      if (i == 40) all.pop_back();  // row 1 ends here
      Continuation::feed_drawn(all);
      for (Continuation* text : all) together[size_t(text - texts.data())].push_back(text->next());
    }
    for (int64_t row = 0; row < 4; ++row) {
      Decoder one(model, 1);
      Continuation text(one, 0, {.temperature = 0.7}, noise(row));
      begin(text, row);
      CHECK(together[size_t(row)].size() == (row == 1 ? 40 : 60));
      for (const Continuation::Drawn& drawn : together[size_t(row)]) {
        const auto [token, log_probability] = text.next();
        CHECK(drawn.token == token);
        CHECK(drawn.log_probability == log_probability);
      }
    }
  }
}

TEST_CASE("continuation: a warm token asks malloc for nothing") {
  if (!mallocs_are_counted()) return skip("this build has a malloc of its own");
  BlockRecurrentTransformer model = make({2}, DType::f32, 64);
  model.config.max_seq_len = 64;
  const int before = num_threads();
  for (const DType weights : {DType::f32, DType::bf16, DType::i8}) {
    BlockRecurrentTransformer converted = model;
    convert_weights(converted, weights);
    for (const int threads : {1, 2})
      for (const SamplingOptions& how : {SamplingOptions{.temperature = 0},
                                         {.temperature = 0.7, .top_k = 9, .top_p = 0.9, .repetition_penalty = 1.1}}) {
        set_num_threads(threads);
        Decoder decoder(converted, 1);
        Continuation text(decoder, 0, how, kSeed);
        text.feed(refrain());
        while (decoder.room(0) > 20 || decoder.position(0) < 2100) text.next();  // `recent` has its full size
        const int64_t calls = mallocs();
        for (int i = 0; i < 10; ++i) text.next();
        CHECK(mallocs() == calls);
      }
  }
  set_num_threads(before);
}

TEST_CASE("look_up: what followed the longest earlier place that ends the same") {
  using Tokens = std::vector<int64_t>;
  CHECK(look_up(Tokens{}, 4) == Tokens{});
  CHECK(look_up(Tokens{1, 2}, 4) == Tokens{});
  CHECK(look_up(Tokens{1, 2, 3, 4, 5, 1, 2, 3}, 2) == Tokens{4, 5});
  CHECK(look_up(Tokens{1, 2, 3, 4, 5, 2, 3}, 2) == Tokens{});  // two are not enough
  CHECK(look_up(Tokens{9, 1, 2, 3, 4, 0, 1, 2, 3, 5, 9, 1, 2, 3}, 3) == Tokens{4, 0, 1});
  CHECK(look_up(Tokens{1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3}, 1) == Tokens{5});  // the later of equals
  CHECK(look_up(Tokens{7, 7, 7, 7}, 5) == Tokens{7});
}

TEST_CASE("continuation: errors") {
  const BlockRecurrentTransformer model = make({2}, DType::f32);
  Decoder decoder(model, 1), other(model, 1);
  Continuation a(decoder, 0, {}, kSeed), b(other, 0, {}, kSeed);
  for (Continuation* text : {&a, &b}) text->feed(refrain()), text->next();
  CHECK(error_of([&] {
          Continuation::feed_drawn(std::vector{&a, &b});
        }) == "feed_drawn: the texts must be different rows of one decoder");
  CHECK(error_of([&] { Continuation(decoder, 0, {}, kSeed, 16); }) == "a draft has 0 (none) to 15 tokens, not 16");
  CHECK(error_of([&] {
          Decoder empty(model, 1);
          Continuation(empty, 0, {}, kSeed).next();
        }) == "Decoder: row 0 was fed nothing yet, so nothing follows");
  model.head.weight.data<float>()[0] = NAN;
  CHECK(error_of([&] { a.next(); }) == "the model's logits are not finite: its weights are broken");
}

}  // namespace rondo::testing
