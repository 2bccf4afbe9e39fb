// The text of a run: read, checked, split, and in tokens.
#pragma once
#include <string>
#include <vector>

#include "apps/config.h"
#include "apps/tokenizer.h"

namespace rondo {

// Tells whether a resumed run reads the text it was started on, in the same vocabulary.
struct Fingerprint {
  int64_t bytes = 0;
  uint64_t hash = 0, vocabulary = 0;  // FNV-1a; of no vocabulary: 0
  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};
Fingerprint fingerprint_of(std::string_view text);

struct Corpus {
  Text train, validation;
  Fingerprint fingerprint;
};

// The bytes of all files. Throws where a file is missing, empty, binary (unless allowed) or has a byte that is no
// token.
std::string read_checked_text(const std::vector<std::string>& files, const Tokenizer& tokenizer, bool binary);

// The last part of the bytes validates, whatever the tokenizer.
Corpus read_corpus(const RunConfig& config, const Tokenizer& tokenizer);

// The tokenizer of a run: as a checkpoint keeps it, or, where there is none yet, as data.vocabulary names it. Throws
// where the checkpoint's is not the one it was saved with.
Tokenizer tokenizer_of(const RunConfig& config, const std::string& checkpoint);

}  // namespace rondo
