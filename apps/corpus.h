// The text of a run: read, checked against the model's vocabulary, and split.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apps/config.h"

namespace rondo {

// Tells whether a resumed run reads the text it was started on.
struct Fingerprint {
  int64_t bytes = 0;
  uint64_t hash = 0;  // FNV-1a
  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};
Fingerprint fingerprint_of(std::string_view text);

struct Corpus {
  std::string text;
  int64_t n_train = 0;  // bytes; the rest validates
  std::string_view train() const { return std::string_view(text).substr(0, size_t(n_train)); }
  std::string_view validation() const { return std::string_view(text).substr(size_t(n_train)); }
};

// The bytes of all files. Throws where a file is missing, empty, binary (unless allowed) or has a byte that is no
// token.
std::string read_checked_text(const std::vector<std::string>& files, int64_t num_tokens, bool binary);
// Throws where a byte is no token of the model; `name` is the text's.
void check_vocabulary(std::string_view text, int64_t num_tokens, const std::string& name);

Corpus read_corpus(const RunConfig& config);

}  // namespace rondo
