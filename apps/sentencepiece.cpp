#include "apps/sentencepiece.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cstdlib>

#include "nn/utf8.h"
#include "tensor/check.h"

namespace rondo {
namespace {

namespace sp = sentencepiece;

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581 stands for a space in pieces

// The library's messages begin with the place in its source: "Internal: src/x.cc(590) [condition] What is wrong."
std::string reason_of(const sp::util::Status& status) {
  std::string why = status.ToString();
  for (const char* before : {"] ", "Internal: "})
    if (const size_t at = why.rfind(before); at != why.npos) why.erase(0, at + std::string_view(before).size());
  while (!why.empty() && (why.back() == ' ' || why.back() == '.')) why.pop_back();
  return why.empty() ? "libsentencepiece does not say why" : why;
}

// The number behind `words`; 0 where they are not there.
int64_t number_behind(const std::string& text, const std::string& words) {
  const size_t at = text.find(words);
  return at == text.npos ? 0 : std::atoll(text.c_str() + at + words.size());
}

// Lines of a text, cut where they are very long: the trainer would leave those out.
class Sentences : public sp::SentenceIterator {
 public:
  explicit Sentences(std::string_view text) : rest_(text) { Next(); }
  bool done() const override { return done_; }
  const std::string& value() const override { return sentence_; }
  sp::util::Status status() const override { return {}; }
  void Next() override {
    done_ = rest_.empty();
    size_t n = std::min(rest_.find('\n'), rest_.size());
    if (n > kLongest) {
      n = rest_.substr(0, kLongest).rfind(' ');
      if (n == rest_.npos || n == 0) n = utf8_cut(rest_, kLongest);
    }
    sentence_ = rest_.substr(0, n);
    rest_.remove_prefix(std::min(rest_.size(), rest_.substr(n).starts_with('\n') ? n + 1 : n));
  }
  static constexpr size_t kLongest = 4000;

 private:
  std::string_view rest_;
  std::string sentence_;
  bool done_ = false;
};

}  // namespace

bool have_sentencepiece() { return true; }

struct SentencePiece::Library {
  sp::SentencePieceProcessor processor;
};

SentencePiece::SentencePiece(const std::string& model, const std::string& name) {
  auto library = std::make_unique<Library>();
  const sp::util::Status status = library->processor.LoadFromSerializedProto(model);
  check(status.ok(), name, ": not a vocabulary of SentencePiece: ", reason_of(status));
  library_ = std::move(library);
}

SentencePiece::~SentencePiece() = default;

int64_t SentencePiece::size() const { return library_->processor.GetPieceSize(); }

SentencePiece::Pieces SentencePiece::encode(std::string_view text) const {
  const sp::SentencePieceProcessor& p = library_->processor;
  sp::ImmutableSentencePieceText encoded;
  const sp::util::Status status = p.Encode({text.data(), text.size()}, encoded.mutable_proto());
  check(status.ok(), "cannot read the text in pieces: ", reason_of(status));
  const auto pieces = encoded.pieces();
  Pieces all;
  for (size_t i = 0; i < pieces.size(); ++i) {  // a piece has what lies between it and the next as well
    const size_t begin = i == 0 ? 0 : pieces[i].begin(),
                 end = i + 1 < pieces.size() ? pieces[i + 1].begin() : text.size();
    all.ids.push_back(int32_t(pieces[i].id()));
    all.lengths.push_back(int32_t(end - begin));
  }
  // A character told in bytes lies with its last one; of as many bytes as pieces, each has its own.
  for (size_t i = 0, n; i < pieces.size(); i += n) {
    int32_t bytes = 0;
    for (n = 0; i + n < pieces.size() && p.IsByte(all.ids[i + n]); ++n) bytes += all.lengths[i + n];
    if (size_t(bytes) == n) std::fill_n(all.lengths.begin() + int64_t(i), n, 1);
    n = std::max<size_t>(n, 1);
  }
  return all;
}

std::string SentencePiece::text_of(int64_t id) const {
  const sp::SentencePieceProcessor& p = library_->processor;
  const int piece = int(id);
  if (id < 0 || id >= size() || p.IsUnknown(piece) || p.IsControl(piece) || p.IsUnused(piece)) return "";
  std::string text = p.IdToPiece(piece);
  if (p.IsByte(piece))  // <0x0A>
    return text.size() == 6 ? std::string(1, char(std::strtol(text.c_str() + 3, nullptr, 16))) : "";
  for (size_t at = 0; (at = text.find(kSpace, at)) != text.npos; ++at) text.replace(at, kSpace.size(), " ");
  return text;
}

std::string learn_pieces(std::string_view text, int64_t size) {
  check(text.size() <= INT32_MAX, "a text of ", text.size(), " bytes is too much to learn pieces from; ", INT32_MAX,
        " are the most");
  Sentences sentences(text);
  std::string model;
  // The number of threads decides how sums are rounded, and so must not be the machine's.
  const sp::util::Status status = sp::SentencePieceTrainer::Train({{"vocab_size", std::to_string(size)},
                                                                   {"model_type", "unigram"},
                                                                   {"byte_fallback", "true"},
                                                                   {"normalization_rule_name", "identity"},
                                                                   {"add_dummy_prefix", "false"},
                                                                   {"bos_id", "-1"},
                                                                   {"eos_id", "-1"},
                                                                   {"remove_extra_whitespaces", "false"},
                                                                   {"num_threads", "4"},
                                                                   {"minloglevel", "2"}},
                                                                  &sentences, &model);
  if (status.ok()) return model;
  const std::string why = reason_of(status);
  const int64_t most = number_behind(why, "Please set it to a value <= "), least = number_behind(why, " vs ");
  check(most == 0, "this text has no more than ", most, " pieces, but ", size, " are asked for");
  check(least == 0, "this text needs ", least, " pieces at least, for its characters, but ", size, " are asked for");
  fail("cannot learn ", size, " pieces from this text: ", why);
}

}  // namespace rondo
