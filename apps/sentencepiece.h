// Vocabularies of word pieces: SentencePiece (Kudo and Richardson 2018), through libsentencepiece, which
// sentencepiece.cpp alone knows. A build without it has no_sentencepiece.cpp, where all of this throws one clear line.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace rondo {

bool have_sentencepiece();

class SentencePiece {
 public:
  // The contents of a .model file; `name` stands for it in messages.
  SentencePiece(const std::string& model, const std::string& name);
  ~SentencePiece();

  int64_t size() const;
  // The text's pieces, and how many of its bytes each stands for: together all of them.
  struct Pieces {
    std::vector<int32_t> ids, lengths;
  };
  Pieces encode(std::string_view text) const;
  // The bytes of a piece; none where it stands for no text.
  std::string text_of(int64_t id) const;

 private:
  struct Library;
  std::unique_ptr<const Library> library_;
};

// The contents of a .model file of `size` pieces, learned from a text (the unigram model). It loses nothing: spaces and
// lines are kept as they are, and what is in no piece is told in bytes.
std::string learn_pieces(std::string_view text, int64_t size);

}  // namespace rondo
