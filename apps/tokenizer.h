// How a text becomes tokens and tokens become text: a byte is a token, or a piece of a SentencePiece vocabulary is.
#pragma once
#include "apps/sentencepiece.h"
#include "tensor/tensor.h"

namespace rondo {

// A text as tokens.
struct Text {
  Tensor tokens;                 // [n]: u8 where a byte is a token, else i32
  std::vector<int32_t> lengths;  // of pieces: how many bytes each stands for

  int64_t size() const { return tokens.numel(); }
  bool in_bytes() const { return tokens.dtype() == DType::u8; }
  // What the tokens [begin, begin + n) stand for.
  int64_t bytes(int64_t begin, int64_t n) const;
  int64_t bytes() const { return bytes(0, size()); }
  // How many tokens from `begin` on stand for `bytes` bytes or fewer.
  int64_t within(int64_t begin, int64_t bytes) const;
  // The tokens [begin, begin + n) as a row [1, n] i64. The text is a ring: at its end it goes on with its beginning.
  Tensor row(int64_t begin, int64_t n) const;
};

void check_utf8(std::string_view text, const std::string& name);

class Tokenizer {
 public:
  // For a model of so many tokens: bytes.
  explicit Tokenizer(int64_t num_tokens) : num_tokens_(num_tokens) {}
  // The contents of a SentencePiece .model file, which `name` stands for in messages. Throws where it is none, or has
  // more pieces than the model tokens.
  Tokenizer(int64_t num_tokens, std::string model, const std::string& name);

  // Throws where a byte is no token of the model, or, for pieces, where the text is no UTF-8; `name` is the text's.
  void check_text(std::string_view text, const std::string& name) const;
  // Each thread encodes a part at a time; parts end after lines, else words, which do not depend on the number of
  // threads.
  Text encode(std::string_view text) const;
  // The bytes of a token; none where it stands for no text.
  std::string text_of(int64_t token) const;
  bool in_bytes() const { return !pieces_; }
  // The contents of the .model file; empty where a byte is a token.
  const std::string& model() const { return model_; }

 private:
  int64_t num_tokens_;
  std::string model_;
  std::shared_ptr<const SentencePiece> pieces_;  // null: bytes
};

}  // namespace rondo
