// Decoding token by token against the full forward pass: every position of five segments, rows at different places.
#include "models/block_recurrent/decoder.h"

#include <cstdlib>
#include <filesystem>

#include "apps/parity.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"
#include "tests/decoding.h"

namespace rondo::testing {

TEST_CASE("decoder: every token equals the full forward pass") {
  for (const std::vector<int64_t>& recurrent : {std::vector<int64_t>{}, {2}, {1, 3}, {2, 3}})
    for (int64_t width : {1, 4, 8}) {
      const BlockRecurrentTransformer model = make(recurrent, DType::f64, width);
      const Tensor tokens = random_tokens(40, 3), expected = full_forward(model, tokens);
      Decoder decoder(model, 1);
      for (int64_t i = 0; i < 40; ++i) {
        const Tensor logits = decoder.step(narrow(tokens, 0, i, 1));
        CHECK_MESSAGE(max_abs_diff(row(logits, 0), row(expected, i)) < 1e-12, "width ", width, ", token ", i);
      }
    }
}

TEST_CASE("decoder: a prompt of any length, in any pieces") {
  const BlockRecurrentTransformer model = make({2}, DType::f64);
  const Tensor tokens = random_tokens(40, 4), expected = full_forward(model, tokens);
  for (int64_t n = 1; n <= 40; ++n) {
    Decoder decoder(model, 1);
    CHECK(max_abs_diff(decoder.prefill(0, narrow(tokens, 0, 0, n)), row(expected, n - 1)) < 1e-12);
    if (n < 40) CHECK(max_abs_diff(decoder.prefill(0, narrow(tokens, 0, n, 40 - n)), row(expected, 39)) < 1e-12);
  }
}

TEST_CASE("decoder: a prompt that ends inside a wide block") {
  for (const std::vector<int64_t>& recurrent : {std::vector<int64_t>{}, {1, 3}}) {
    BlockRecurrentTransformer model = make(recurrent, DType::f64, 40);
    model.config.max_seq_len = 80;
    const Tensor tokens = random_tokens(240, 4), expected = full_forward(model, tokens);
    for (const int64_t n : {31, 32, 33, 39, 40, 41, 79, 115, 200, 232}) {
      Decoder decoder(model, 2);
      CHECK(max_abs_diff(decoder.prefill(1, narrow(tokens, 0, 0, n)), row(expected, n - 1)) < 1e-12);
      CHECK(decoder.position(1) == n);
      for (int64_t i = n; i < n + 7; ++i)
        CHECK(max_abs_diff(row(decoder.extend(1, narrow(tokens, 0, i, 1)), 0), row(expected, i)) < 1e-12);
      CHECK(max_abs_diff(decoder.prefill(1, narrow(tokens, 0, n + 7, 240 - n - 7)), row(expected, 239)) < 1e-12);
    }
  }
}

TEST_CASE("decoder: rows of a batch at different places") {
  const BlockRecurrentTransformer model = make({1, 2}, DType::f64);
  const Tensor a = random_tokens(30, 5), b = random_tokens(30, 6), c = random_tokens(30, 7);
  const Tensor ya = full_forward(model, a), yb = full_forward(model, b), yc = full_forward(model, c);
  Decoder decoder(model, 3);
  decoder.prefill(0, narrow(a, 0, 0, 3));
  decoder.prefill(2, narrow(c, 0, 0, 9));
  for (int64_t i = 0; i < 20; ++i) {
    const Tensor logits = decoder.step(concat({narrow(a, 0, 3 + i, 1), narrow(b, 0, i, 1), narrow(c, 0, 9 + i, 1)}, 0));
    CHECK(max_abs_diff(row(logits, 0), row(ya, 3 + i)) < 1e-12);
    CHECK(max_abs_diff(row(logits, 1), row(yb, i)) < 1e-12);
    CHECK(max_abs_diff(row(logits, 2), row(yc, 9 + i)) < 1e-12);
  }
}

// Five segments of three sequences, each begun by a prompt of another length, in f32 with the weights of a golden case.
static void check_golden(const std::string& directory) {
  const GoldenCase c = read_golden_case(directory);
  Generator g;
  const BlockRecurrentTransformer model(c.model, g);
  load_tensors(c.weights, named_tensors(model), true, directory);
  const double bound = 10 * c.f32_errors.at("logits");
  const int64_t n = 5 * c.model.max_seq_len, W = c.model.block_width;
  const int64_t prompts[] = {1, W + W / 2 + 1, 2 * W};
  std::vector<Tensor> tokens, expected;
  Decoder decoder(model, 3);
  for (int64_t r = 0; r < 3; ++r) {
    tokens.push_back(random_tokens(n, uint64_t(r + 1), c.model.num_tokens));
    expected.push_back(full_forward(model, tokens.back()));
    const Tensor logits = decoder.prefill(r, narrow(tokens.back(), 0, 0, prompts[r]));
    CHECK_MESSAGE(max_abs_diff(logits, row(expected.back(), prompts[r] - 1)) <= bound, c.path, " prompt ", r);
  }
  for (int64_t i = 0; i + prompts[2] < n; ++i) {
    std::vector<int64_t> next;
    for (size_t r = 0; r < 3; ++r) next.push_back(tokens[r].data<int64_t>()[prompts[r] + i]);
    const Tensor logits = decoder.step(tensor(next, {3}));
    for (int64_t r = 0; r < 3; ++r)
      CHECK_MESSAGE(max_abs_diff(row(logits, r), row(expected[size_t(r)], prompts[r] + i)) <= bound, c.path, " row ", r,
                    " token ", prompts[r] + i);
  }
  // What the reference itself computed.
  const Tensor theirs = c.expected.at("tokens");
  for (int64_t b = 0; b < theirs.dim(0); ++b) {
    Decoder one(model, 1);
    for (int64_t s = 0; s < c.segments; ++s)
      for (int64_t i = 0; i < c.model.max_seq_len; ++i) {
        const Tensor next =
            tensor<int64_t>({theirs.data<int64_t>()[b * theirs.dim(1) + s * c.model.max_seq_len + i]}, {1});
        const Tensor logits = c.expected.at("logits." + std::to_string(s));
        const Tensor right = narrow(narrow(logits, 0, b, 1), 1, i, 1);
        CHECK_MESSAGE(max_abs_diff(reshape(one.step(next), right.shape()), right) <= bound, c.path, " row ", b,
                      " segment ", s, " token ", i);
      }
  }
}

// GOLDENS=DIR takes the cases of another folder; those that are no cases of this reference are named and left out.
TEST_CASE("decoder: every golden configuration, within its bounds") {
  const char* other = std::getenv("GOLDENS");
  int cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(other ? other : RONDO_GOLDENS)) {
    if (!entry.is_directory()) continue;
    const std::string why = error_of([&] { read_golden_case(entry.path()); });
    if (other && why != "(no error)") {
      MESSAGE("left out: ", why);
      continue;
    }
    check_golden(entry.path()), ++cases;
  }
  CHECK(cases >= (other ? 1 : 8));
}

TEST_CASE("decoder: widths that fit no register") {
  BlockRecurrentConfig c;
  c.num_tokens = 20, c.dim = 24, c.depth = 2, c.dim_head = 38, c.heads = 5;
  c.max_seq_len = 70, c.block_width = 35, c.num_state_vectors = 33, c.recurrent_layers = {{2}};
  c.all_layers_qk_rmsnorm = true, c.qk_norm_scale = 2;
  Generator g{7, 0, 0};
  const BlockRecurrentTransformer model(c, g, DType::f64);
  const Tensor tokens = random_tokens(150, 3), expected = full_forward(model, tokens);
  Decoder decoder(model, 1);
  decoder.prefill(0, narrow(tokens, 0, 0, 20));
  for (int64_t i = 20; i < 150; ++i)
    CHECK(max_abs_diff(row(decoder.step(narrow(tokens, 0, i, 1)), 0), row(expected, i)) < 1e-12);
}

TEST_CASE("attention_decode: equal to group_attention, with the same bits on any number of threads") {
  constexpr int64_t kKeys = 1000, kWidth = 40, kHeads = 7;
  const Tensor kv = randn({kKeys, 2 * kWidth}, DType::f64, 2);
  const Tensor q_scale = randn({kWidth}, DType::f64, 3), k_scale = randn({kWidth}, DType::f64, 4);
  std::vector<CachePlace> places;
  for (int64_t i = 0; i < kKeys; ++i) places.push_back({1, 0, i + 1});
  const KeyValueCache cache = key_value_cache(Cpu{}, 2, kKeys, kWidth, DType::f64);
  cache_keys(Cpu{}, tensor_of(places), kv, k_scale, {}, cache, {});
  // Windows of several parts of the keys and of less than one; scores near each other, and so far apart that what some
  // parts add is nothing.
  const std::vector<CachePlace> queries = {{1, 0, kKeys}, {1, 479, 481}, {1, 300, 970}, {1, 999, kKeys}, {1, 7, 480}};
  const int64_t n = int64_t(queries.size());
  const Tensor q = randn({n, kHeads * kWidth});
  for (const double factor : {0.5, 100.0}) {
    std::vector<Tensor> seen;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t first = queries[size_t(i)].first, keys = queries[size_t(i)].last - first;
      seen.push_back(group_attention(reshape(narrow(q, 0, i, 1), {1, 1, kHeads * kWidth}),
                                     reshape(narrow(kv, 0, first, keys), {1, 1, keys, 2 * kWidth}), 1,
                                     {q_scale, k_scale, {}, factor}));
    }
    const int before = num_threads();
    Tensor first;
    for (int threads : {1, 2, 3}) {
      set_num_threads(threads);
      const Tensor y = zeros({n, kHeads * kWidth + 3}, DType::f64);
      attention_decode(Cpu{}, tensor_of(queries), kHeads, {q, q_scale, {}, factor, cache}, y, 3);
      for (int64_t i = 0; i < n; ++i) {
        const Tensor one = narrow(narrow(y, 0, i, 1), 1, 3, kHeads * kWidth);
        CHECK(max_abs_diff(one, reshape(seen[size_t(i)], one.shape())) < 1e-12);
      }
      CHECK(max_abs_diff(narrow(y, 1, 0, 3), zeros({n, 3})) == 0);
      if (!first) first = y;
      CHECK(same_bits(y, first));
    }
    set_num_threads(before);
  }
}

TEST_CASE("decoder: errors") {
  const BlockRecurrentTransformer model = make({2}, DType::f32);
  CHECK(error_of([&] { Decoder(model, 0); }) == "Decoder: the batch must be at least 1, not 0");
  Decoder decoder(model, 2);
  CHECK(error_of([&] { decoder.step(random_tokens(3, 1)); }) ==
        "Decoder: a step's tokens have shape (3) and are i64, but must be (2) of i64");
  CHECK(error_of([&] { decoder.prefill(2, random_tokens(3, 1)); }) == "Decoder: there is no row 2, the batch is 2");
  CHECK(error_of([&] { decoder.prefill(0, zeros({0}, DType::i64)); }) ==
        "Decoder: the tokens of a row have shape (0) and are i64, but must be [1 or more] of i64");
  // A token that is none is found before anything is fed, wherever it stands.
  Decoder other(model, 2);
  for (const int64_t n : {1, 4, 9}) {
    const Tensor wrong = random_tokens(n, 3);
    wrong.data<int64_t>()[n - 1] = model.config.num_tokens;
    const std::string said =
        "Decoder: the tokens hold 20 at index " + std::to_string(n - 1) + ", but the model has 20 tokens";
    CHECK(error_of([&] { decoder.prefill(0, wrong); }) == said);
    CHECK(decoder.position(0) == 0);
    decoder.prefill(1, random_tokens(n, 4)), other.prefill(1, random_tokens(n, 4));
    decoder.prefill(0, random_tokens(n, 5)), other.prefill(0, random_tokens(n, 5));
    decoder.extend(1, random_tokens(decoder.room(1), 6)), other.extend(1, random_tokens(other.room(1), 6));
    CHECK(error_of([&] { decoder.extend(1, tensor<int64_t>({-1}, {1})); }) ==  // its block is full, and stays as it is
          "Decoder: the tokens hold -1 at index 0, but the model has 20 tokens");
    decoder.rewind(1, 1), other.rewind(1, 1);
    const Tensor next = random_tokens(2, 7);
    CHECK(same_bits(decoder.step(next), other.step(next)));
    decoder = Decoder(model, 2), other = Decoder(model, 2);
  }
  CHECK(error_of([&] { decoder.prefill(0, random_tokens(9, 1)), decoder.rewind(0, 1); }) ==
        "Decoder: row 0 can take back 0 to 0 tokens, not 1");
  Tape tape;
  CHECK(error_of([&] { Decoder(model, 1); }) == "Decoder: a tape is alive, but decoding is inference only");
}

}  // namespace rondo::testing
