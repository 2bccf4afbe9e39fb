#include "apps/sentencepiece.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>

#include "tensor/check.h"

namespace rondo {
namespace {

namespace sp = sentencepiece;

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581 stands for a space in pieces

// The library's messages begin with the place in its source: "Internal: src/x.cc(590) [condition] What is wrong."
void check_done(const sp::util::Status& status, const std::string& what) {
  if (status.ok()) return;
  std::string why = status.ToString();
  if (const size_t condition = why.rfind("] "); condition != why.npos) why.erase(0, condition + 2);
  while (!why.empty() && (why.back() == ' ' || why.back() == '.')) why.pop_back();
  fail(what, ": ", why.empty() ? "libsentencepiece failed" : why);
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
      if (n == rest_.npos || n == 0) n = kLongest;
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
  check_done(library->processor.LoadFromSerializedProto(model), name + ": not a vocabulary of SentencePiece");
  library_ = std::move(library);
}

SentencePiece::~SentencePiece() = default;

int64_t SentencePiece::size() const { return library_->processor.GetPieceSize(); }

SentencePiece::Pieces SentencePiece::encode(std::string_view text) const {
  const sp::ImmutableSentencePieceText encoded = library_->processor.EncodeAsImmutableProto({text.data(), text.size()});
  const auto pieces = encoded.pieces();
  Pieces all;
  for (size_t i = 0; i < pieces.size(); ++i) {  // a piece has what lies between it and the next as well
    const size_t begin = i == 0 ? 0 : pieces[i].begin(),
                 end = i + 1 < pieces.size() ? pieces[i + 1].begin() : text.size();
    all.ids.push_back(int32_t(pieces[i].id()));
    all.lengths.push_back(int32_t(end - begin));
  }
  return all;
}

std::string SentencePiece::text_of(int64_t id) const {
  const sp::SentencePieceProcessor& p = library_->processor;
  const int piece = int(id);
  if (id < 0 || id >= size() || p.IsUnknown(piece) || p.IsControl(piece) || p.IsUnused(piece)) return "";
  std::string text = p.IdToPiece(piece);
  if (p.IsByte(piece)) return std::string(1, char(std::stoi(text.substr(1, 4), nullptr, 16)));  // <0x0A>
  for (size_t at = 0; (at = text.find(kSpace, at)) != text.npos; ++at) text.replace(at, kSpace.size(), " ");
  return text;
}

std::string learn_pieces(std::string_view text, int64_t size) {
  Sentences sentences(text);
  std::string model;
  // The number of threads decides how sums are rounded, and so must not be the machine's.
  check_done(sp::SentencePieceTrainer::Train({{"vocab_size", std::to_string(size)},
                                              {"model_type", "unigram"},
                                              {"byte_fallback", "true"},
                                              {"normalization_rule_name", "identity"},
                                              {"add_dummy_prefix", "false"},
                                              {"bos_id", "-1"},
                                              {"eos_id", "-1"},
                                              {"remove_extra_whitespaces", "false"},
                                              {"num_threads", "4"},
                                              {"minloglevel", "2"}},
                                             &sentences, &model),
             "cannot learn " + std::to_string(size) + " pieces from this text");
  return model;
}

}  // namespace rondo
