#include "apps/evaluate.h"

#include "tests/decoding.h"

namespace rondo::testing {

TEST_CASE("evaluate: a text in pieces is the whole text") {
  const BlockRecurrentTransformer model = make({1, 3}, DType::f64);
  const Tensor tokens = random_tokens(6 * model.config.max_seq_len + 4, 7);
  std::string text;
  for (const int64_t t : tokens.to_vector<int64_t>()) text += char(t);
  const Tokenizer bytes(256);
  const Evaluation whole = evaluate(model, bytes.encode(text), {});
  const size_t cut = size_t(2 * model.config.max_seq_len);  // the byte that both pieces have, as label and as token
  const Evaluation first = evaluate(model, bytes.encode(text.substr(0, cut + 1)), {});
  const Evaluation rest = evaluate(model, bytes.encode(text.substr(cut)), {.carried = first.carried});
  CHECK(first.tokens + rest.tokens == whole.tokens);
  CHECK(std::abs(first.nats + rest.nats - whole.nats) < 1e-9);
  CHECK(std::abs(first.nats + evaluate(model, bytes.encode(text.substr(cut)), {}).nats - whole.nats) > 1e-6);
  CHECK(first.carried.memories.size() == model.layers.size());
  CHECK(rest.carried.memories.empty());  // its last segment was not whole
}

TEST_CASE("evaluate: tokens that stand for no byte have no bits per byte") {
  const BlockRecurrentTransformer model = make({1, 3}, DType::f64);
  Text text{zeros({3}, DType::i32), {1, 0, 2}};
  CHECK(tokens_for(text, 1) == 2);  // a byte at least
  CHECK(evaluate(model, text, {.max_tokens = 2}).bytes == 2);
  CHECK(error_of([&] { evaluate(model, text, {.max_tokens = 1}); }) ==
        "the tokens to predict stand for no byte of the text; give more text");
}

}  // namespace rondo::testing
