#include "apps/tokenizer.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "nn/utf8.h"
#include "tensor/check.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

constexpr size_t kPart = size_t{1} << 16;  // bytes that are encoded at a time

// Where the next part of a text ends: after a line, else before a space, else after a character.
size_t part_of(std::string_view text) {
  if (text.size() <= kPart) return text.size();
  const std::string_view part = text.substr(0, kPart);
  if (const size_t line = part.rfind('\n'); line != part.npos) return line + 1;
  if (const size_t space = part.rfind(' '); space != part.npos && space > 0) return space;
  return utf8_cut(text, kPart);
}

template <class T>
void copy_ring(const Tensor& tokens, int64_t begin, int64_t n, int64_t* out) {
  const T* from = tokens.data<T>();
  const int64_t size = tokens.numel();
  for (int64_t at = begin; n > 0; at = 0) {
    const int64_t some = std::min(n, size - at);
    out = std::copy_n(from + at, some, out);
    n -= some;
  }
}

}  // namespace

int64_t Text::bytes(int64_t begin, int64_t n) const {
  if (in_bytes()) return n;
  return std::accumulate(lengths.begin() + begin, lengths.begin() + begin + n, int64_t{0});
}

int64_t Text::within(int64_t begin, int64_t bytes) const {
  if (in_bytes()) return std::min(bytes, size() - begin);
  int64_t n = 0;
  while (begin + n < size() && lengths[size_t(begin + n)] <= bytes) bytes -= lengths[size_t(begin + n++)];
  return n;
}

Tensor Text::row(int64_t begin, int64_t n) const {
  check(begin >= 0 && begin < std::max<int64_t>(size(), 1) && n >= 0 && (size() > 0 || n == 0), "a row of ", n,
        " tokens from ", begin, " on, of a text of ", size());
  Tensor row({1, n}, DType::i64);
  if (in_bytes())
    copy_ring<uint8_t>(tokens, begin, n, row.data<int64_t>());
  else
    copy_ring<int32_t>(tokens, begin, n, row.data<int64_t>());
  return row;
}

Tokenizer::Tokenizer(int64_t num_tokens, std::string model, const std::string& name)
    : num_tokens_(num_tokens), model_(std::move(model)), pieces_(std::make_shared<SentencePiece>(model_, name)) {
  check(pieces_->size() <= num_tokens, name, ": a vocabulary of ", pieces_->size(), " pieces, but model.num_tokens is ",
        num_tokens, "; make that ", pieces_->size(), " or more");
}

void check_utf8(std::string_view text, const std::string& name) {
  const int64_t at = first_not_utf8(text);
  check(at < 0, name, ": no UTF-8 at offset ", at, ", which pieces are made of; give a text in UTF-8");
}

void Tokenizer::check_text(std::string_view text, const std::string& name) const {
  if (pieces_) check_utf8(text, name);
  for (size_t i = 0; !pieces_ && num_tokens_ < 256 && i < text.size(); ++i)
    check(uint8_t(text[i]) < num_tokens_, name, ": byte ", int(uint8_t(text[i])), " at offset ", i,
          " is not in the model's vocabulary of ", num_tokens_, " tokens (model.num_tokens)");
}

Text Tokenizer::encode(std::string_view text) const {
  if (!pieces_) {
    Tensor tokens({int64_t(text.size())}, DType::u8);
    if (!text.empty()) std::memcpy(tokens.data<uint8_t>(), text.data(), text.size());
    return {tokens, {}};
  }
  std::vector<std::string_view> parts;
  for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(parts.back().size()))
    parts.push_back(rest.substr(0, part_of(rest)));
  std::vector<SentencePiece::Pieces> encoded(parts.size());
  parallel_for(int64_t(parts.size()), [&](int64_t i) { encoded[size_t(i)] = pieces_->encode(parts[size_t(i)]); });
  Text all;
  int32_t dropped = 0;  // bytes of parts that have no piece: their neighbour's
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::vector<int32_t>& lengths = encoded[i].lengths;
    all.lengths.insert(all.lengths.end(), lengths.begin(), lengths.end());
    if (lengths.empty()) dropped += int32_t(parts[i].size());
    if (!all.lengths.empty()) all.lengths.back() += std::exchange(dropped, 0);
  }
  all.tokens = Tensor({int64_t(all.lengths.size())}, DType::i32);
  int32_t* out = all.tokens.data<int32_t>();
  for (const SentencePiece::Pieces& part : encoded) out = std::copy(part.ids.begin(), part.ids.end(), out);
  return all;
}

std::string Tokenizer::text_of(int64_t token) const {
  if (pieces_) return pieces_->text_of(token);
  return token < 256 ? std::string(1, char(token)) : "";
}

}  // namespace rondo
