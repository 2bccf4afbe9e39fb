// Decoding token by token against the full forward pass: every position of five segments, rows at different places.
#include "models/block_recurrent/decoder.h"

#include "tests/testing.h"

namespace rondo::testing {
namespace {

BlockRecurrentTransformer make(const std::vector<int64_t>& recurrent, DType dtype, int64_t width = 4) {
  BlockRecurrentConfig c;
  c.num_tokens = 20, c.dim = 12, c.depth = 3, c.dim_head = 4, c.heads = 3;
  c.max_seq_len = 8, c.block_width = width, c.num_state_vectors = 5, c.recurrent_layers = recurrent;
  Generator g{7, 0, 0};
  return BlockRecurrentTransformer(c, g, dtype);
}

Tensor random_tokens(int64_t n, uint64_t seed) {
  Generator g{seed, 5, 0};
  std::vector<int64_t> t;
  for (int64_t i = 0; i < n; ++i) t.push_back(g.below(20));
  return tensor(t, {n});
}

// Logits [n, V] of the tokens, segment by segment.
Tensor full_forward(const BlockRecurrentTransformer& model, const Tensor& tokens) {
  std::vector<Tensor> all;
  Carried carried;
  const int64_t n = tokens.numel(), N = model.config.max_seq_len;
  for (int64_t start = 0; start < n; start += N) {
    const auto r =
        model(reshape(narrow(tokens, 0, start, std::min(N, n - start)), {1, std::min(N, n - start)}), carried);
    carried = r.carried;
    all.push_back(reshape(r.logits, {r.logits.dim(1), r.logits.dim(2)}));
  }
  return concat(all, 0);
}

Tensor row(const Tensor& logits, int64_t i) { return reshape(narrow(logits, 0, i, 1), {logits.dim(1)}); }

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

TEST_CASE("decoder: errors") {
  const BlockRecurrentTransformer model = make({2}, DType::f32);
  CHECK(error_of([&] { Decoder(model, 0); }) == "Decoder: the batch must be at least 1, not 0");
  Decoder decoder(model, 2);
  CHECK(error_of([&] { decoder.step(random_tokens(3, 1)); }) ==
        "Decoder: a step's tokens have shape (3) and are i64, but must be (2) of i64");
  CHECK(error_of([&] { decoder.prefill(2, random_tokens(3, 1)); }) == "Decoder: there is no row 2, the batch is 2");
  CHECK(error_of([&] { decoder.prefill(0, zeros({0}, DType::i64)); }) ==
        "Decoder: the tokens of a row have shape (0) and are i64, but must be [1 or more] of i64");
  Tape tape;
  CHECK(error_of([&] { Decoder(model, 1); }) == "Decoder: a tape is alive, but decoding is inference only");
}

}  // namespace
}  // namespace rondo::testing
