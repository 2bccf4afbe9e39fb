// What a decoder keeps: forks, files, tokens taken back, and that it does not grow.
#include "models/block_recurrent/decoder.h"
#include "nn/file.h"
#include "nn/safetensors.h"
#include "tensor/allocator.h"
#include "tests/decoding.h"
#include "tests/temporary.h"

namespace rondo::testing {
namespace {

Tensor one(const Tensor& tokens, int64_t i) { return narrow(tokens, 0, i, 1); }

}  // namespace

TEST_CASE("decoder: forks go on as their origin does, each on its own") {
  const BlockRecurrentTransformer model = make({2}, DType::f64);
  const Tensor a = random_tokens(30, 5), b = concat({narrow(a, 0, 0, 11), random_tokens(19, 6)}, 0);
  const Tensor ya = full_forward(model, a), yb = full_forward(model, b);
  Decoder origin(model, 2);
  origin.prefill(1, narrow(a, 0, 0, 11));
  Decoder forks = origin.fork(1, 10);
  CHECK(forks.batch() == 10);
  CHECK(same_bits(forks.logits(3), origin.logits(1)));
  for (int64_t i = 11; i < 30; ++i) {
    std::vector<int64_t> next(10, a.data<int64_t>()[i]);
    next[7] = b.data<int64_t>()[i];
    const Tensor logits = forks.step(tensor(next, {10}));
    CHECK(max_abs_diff(row(logits, 0), row(ya, i)) < 1e-12);
    CHECK(max_abs_diff(row(logits, 7), row(yb, i)) < 1e-12);
    CHECK(max_abs_diff(origin.prefill(1, one(a, i)), row(ya, i)) < 1e-12);
  }
}

// A copy would share the caches that both write to.
static_assert(!std::is_copy_constructible_v<Decoder> && !std::is_copy_assignable_v<Decoder>);
static_assert(std::is_move_constructible_v<Decoder> && std::is_move_assignable_v<Decoder>);

TEST_CASE("decoder: tokens taken back leave no trace") {
  const BlockRecurrentTransformer model = make({1, 2}, DType::f64);
  const Tensor tokens = random_tokens(24, 8), wrong = random_tokens(4, 9), expected = full_forward(model, tokens);
  Decoder decoder(model, 2);
  for (int64_t i = 0; i < 24; ++i) {
    const int64_t n = decoder.room(1);
    const Tensor fed = concat({one(tokens, i), narrow(wrong, 0, 0, n - 1)}, 0);
    CHECK(max_abs_diff(row(decoder.extend(1, fed), 0), row(expected, i)) < 1e-12);
    CHECK(decoder.position(1) == i + n);
    decoder.rewind(1, n - 1);
    CHECK(decoder.position(1) == i + 1);
    CHECK(decoder.recent(1).back() == tokens.data<int64_t>()[i]);
    CHECK(max_abs_diff(decoder.logits(1), row(expected, i)) < 1e-12);
  }
  CHECK(error_of([&] { decoder.rewind(1, 1); }) == "Decoder: row 1 can take back 0 to 0 tokens, not 1");
  CHECK(error_of([&] { decoder.extend(1, random_tokens(5, 1)); }) ==
        "Decoder: the tokens that extend row 1 have shape (5) and are i64, but must be [1 to 4] of i64: its block has "
        "room for that many");
  CHECK(error_of([&] { decoder.extend_rows({1}, random_tokens(1, 1)); }) ==
        "Decoder: 1 counts of tokens were given, but the batch is " + std::to_string(decoder.batch()));
  std::vector<int64_t> counts(size_t(decoder.batch()), 0);
  CHECK(error_of([&] { decoder.extend_rows(counts, random_tokens(1, 1)); }) ==
        "Decoder: the tokens that extend the rows have shape (1) and are i64, but must be (0) of i64, at least one");
  counts[1] = 5;
  CHECK(error_of([&] { decoder.extend_rows(counts, random_tokens(5, 1)); }) ==
        "Decoder: row 1 cannot be extended by 5 tokens: its block has room for 0 to 4");
  CHECK(error_of([&] { decoder.logits(0); }) == "Decoder: row 0 was fed nothing yet, so nothing follows");
}

TEST_CASE("decoder: a file brings back the same bits, wherever the rows stand") {
  const Temporary directory;
  const std::string path = directory / "state.safetensors";
  for (const std::vector<int64_t>& recurrent : {std::vector<int64_t>{}, {1, 3}}) {
    const BlockRecurrentTransformer model = make(recurrent, DType::f32);
    const Tensor tokens = random_tokens(30, 5);
    for (int64_t n : {1, 4, 7, 8, 17}) {
      Decoder decoder(model, 3);
      decoder.prefill(0, narrow(tokens, 0, 0, n));
      decoder.prefill(2, narrow(tokens, 0, 2, n + 1));
      decoder.save(path);
      Decoder again = Decoder::load(model, path);
      CHECK(again.batch() == 3);
      CHECK(again.position(2) == n + 1);
      CHECK(again.position(1) == 0);
      CHECK(same_bits(again.logits(0), decoder.logits(0)));
      for (int64_t i = 0; i < 10; ++i) {
        const Tensor next = narrow(tokens, 0, n + i, 3);
        CHECK(same_bits(again.step(next), decoder.step(next)));
      }
      CHECK(std::vector<int64_t>(again.recent(0).begin(), again.recent(0).end()) ==
            std::vector<int64_t>(decoder.recent(0).begin(), decoder.recent(0).end()));
    }
  }
  CHECK(directory.names() == std::vector<std::string>{"state.safetensors"});
}

TEST_CASE("decoder: what was begun in one pass is saved, forked and taken up like any other") {
  const Temporary directory;
  BlockRecurrentTransformer model = make({1, 3}, DType::f32, 40);
  model.config.max_seq_len = 80;
  const Tensor tokens = random_tokens(150, 5);
  for (const int64_t n : {35, 40, 79, 80, 120}) {
    Decoder decoder(model, 2);
    decoder.prefill(1, narrow(tokens, 0, 0, n));
    decoder.save(directory / "state");
    Decoder again = Decoder::load(model, directory / "state"), fork = decoder.fork(1, 2);
    for (int64_t i = 0; i < 20; ++i) {
      const Tensor next = narrow(tokens, 0, n + i, 2), expected = decoder.step(next);
      CHECK(same_bits(again.step(next), expected));
      CHECK(same_bits(row(fork.step(next), 1), row(expected, 1)));
    }
  }
}

TEST_CASE("decoder: as many recent tokens as ever after some were taken back") {
  const BlockRecurrentTransformer model = make({2}, DType::f32, 8);
  Decoder decoder(model, 1);
  decoder.prefill(0, random_tokens(5000, 1));
  for (uint64_t i = 0; i < 1200; ++i) {  // past what is cut off at once
    const int64_t n = decoder.room(0);
    const Tensor next = random_tokens(n, i);
    decoder.extend(0, next);
    decoder.rewind(0, n - 1);
    REQUIRE(decoder.recent(0).size() >= Decoder::kRecent);
    REQUIRE(decoder.recent(0).back() == next.data<int64_t>()[0]);
  }
}

TEST_CASE("decoder: neither memory nor file grows with the sequence") {
  const Temporary directory;
  const BlockRecurrentTransformer model = make({2}, DType::f32);
  Decoder decoder(model, 1);
  decoder.prefill(0, random_tokens(4096, 1));
  decoder.save(directory / "a");
  const MemoryStats before = memory_stats();
  for (int64_t i = 0; i < 10; ++i) {
    decoder.prefill(0, random_tokens(4097, 2));
    for (int64_t j = 0; j < 7; ++j) decoder.step(random_tokens(1, uint64_t(j)));
  }
  CHECK(decoder.recent(0).size() <= 2 * Decoder::kRecent);
  decoder.prefill(0, random_tokens(4096, 1));
  CHECK(memory_stats().current_bytes <= before.current_bytes);
  decoder.save(directory / "b");
  CHECK(read_file(directory / "b").size() <= read_file(directory / "a").size() + 8 * Decoder::kRecent);
}

TEST_CASE("decoder: a state that is of another model, or broken") {
  const Temporary directory;
  const std::string path = directory / "state";
  const BlockRecurrentTransformer model = make({2}, DType::f32);
  Decoder decoder(model, 1);
  decoder.prefill(0, random_tokens(6, 1));
  decoder.save(path);
  const auto load = [&](const BlockRecurrentTransformer& with) { return error_of([&] { Decoder::load(with, path); }); };
  const std::string advice = "; give the model that it was saved with, or begin without it";
  CHECK(load(model) == "(no error)");
  CHECK(load(make({2}, DType::f32, 8)) ==
        path + ": this decoding state is of a model with block_width 4, but the model has block_width 8" + advice);
  CHECK(load(make({1, 2}, DType::f32)) ==
        path +
            ": this decoding state is of a model with recurrent_layers [2], but the model has recurrent_layers [1, 2]" +
            advice);
  const BlockRecurrentTransformer other = make({2}, DType::f32);
  other.head.weight.data<float>()[3] += 1;
  const std::string error = load(other);
  CHECK(error.starts_with(path + ": this decoding state is of a model with weights "));
  CHECK(error.find(", but the model has weights ") != std::string::npos);
  CHECK(error.ends_with(advice));

  const SafetensorsFile whole = read_safetensors(path);
  const auto with = [&](auto&& change) {
    SafetensorsFile file = whole;
    change(file);
    std::vector<NamedTensor> tensors;
    for (const auto& [name, t] : file.tensors) tensors.push_back({name, t, false});
    write_safetensors(path, tensors, file.metadata);
    return load(model);
  };
  CHECK(with([](auto& f) { f.metadata.clear(); }) ==
        path + ": not a decoding state (its metadata has no \"decoding_state\")");
  CHECK(with([](auto& f) { f.metadata["decoding_state"] = "2"; }) ==
        path + ": decoding_state 2 is not known to this program, which reads 1");
  CHECK(with([](auto& f) { f.metadata.erase("dim"); }) ==
        path + ": this decoding state is of a model with dim unknown, but the model has dim 12" + advice);
  CHECK(with([](auto& f) { f.tensors.clear(); }) == path + ": rows.0.position is missing");
  CHECK(with([](auto& f) { f.tensors.erase("rows.0.logits"); }) == path + ": rows.0.logits is missing");
  CHECK(with([](auto& f) { f.tensors["rows.0.position"] = zeros({1}); }) ==
        path + ": rows.0.position is f32 (1), but the model asks for i64 (1)");
  CHECK(with([](auto& f) { f.tensors["rows.0.recent"] = zeros({}, DType::i64); }) ==
        path + ": rows.0.recent is i64 (), but its first dimension is at most 2048");
  CHECK(with([](auto& f) { f.tensors.erase("rows.0.block.1"); }) == path + ": rows.0.block.1 is missing");
  CHECK(with([](auto& f) {
          f.tensors["rows.0.state.1"] = zeros({5, 13});
        }) == path + ": rows.0.state.1 is f32 (5, 13), but the model asks for f32 (5, 12)");
  CHECK(with([](auto& f) {
          f.tensors["rows.0.block.0"] = zeros({5, 8});
        }) == path + ": rows.0.block.0 is f32 (5, 8), but its first dimension is at most 4");
  CHECK(with([](auto& f) { f.tensors["rows.0.position"] = tensor<int64_t>({5}, {1}); }) ==
        path + ": rows.0.position is 5, but 6 tokens are kept");
  CHECK(with([](auto& f) { f.tensors["rows.0.position"] = tensor<int64_t>({7}, {1}); }) ==
        path + ": rows.0.position is 7, but a block of 4 holds 2 tokens of it");
  CHECK(with([](auto& f) { f.tensors["rows.0.position"] = tensor<int64_t>({INT64_MAX - 1}, {1}); }) ==
        path + ": rows.0.position is 9223372036854775806, more than any text has");
  for (const char* name : {"logits", "block.0", "memory.1", "state.1"}) {
    const std::string part = std::string("rows.0.") + name;
    CHECK(with([&](auto& f) { f.tensors.at(part).template data<float>()[1] = NAN; }) ==
          path + ": " + part + " holds a NaN or an infinity: the file is damaged");
    whole.tensors.at(part).data<float>()[1] = 0;
  }
  CHECK(with([](auto& f) { f.metadata["batch"] = "2"; }) ==
        path + ": it has rows for a batch of 1, but its metadata say 2");
  CHECK(with([](auto& f) { f.metadata.erase("batch"); }) ==
        path + ": it has rows for a batch of 1, but its metadata say nothing of a batch");
  CHECK(with([](auto& f) { f.tensors["rows.0.recent"] = tensor<int64_t>({20}, {1}); }) ==
        path + ": rows.0.recent has token 20, but the model has 20 tokens");
}

}  // namespace rondo::testing
