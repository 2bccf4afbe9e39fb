#include "apps/corpus.h"

#include "nn/text.h"
#include "tensor/check.h"

namespace rondo {

Fingerprint fingerprint_of(std::string_view text) {
  uint64_t hash = 14695981039346656037u;
  for (const unsigned char c : text) hash = (hash ^ c) * 1099511628211u;
  return {int64_t(text.size()), hash};
}

void check_vocabulary(std::string_view text, int64_t num_tokens, const std::string& name) {
  for (size_t i = 0; i < text.size(); ++i) {
    const int byte = static_cast<unsigned char>(text[i]);
    check(byte < num_tokens, name, ": byte ", byte, " at offset ", i, " is not in the model's vocabulary of ",
          num_tokens, " tokens (model.num_tokens)");
  }
}

std::string read_checked_text(const std::vector<std::string>& files, int64_t num_tokens, bool binary) {
  std::string all;
  for (const std::string& file : files) {
    const std::string text = read_text({file});
    const size_t zero = binary ? text.npos : text.find('\0');
    check(zero == text.npos, file, ": binary data (a zero byte at offset ", zero,
          "), not text; data.binary = true allows it");
    check_vocabulary(text, num_tokens, file);
    all += text;
  }
  return all;
}

Corpus read_corpus(const RunConfig& config) {
  Corpus corpus;
  corpus.text = read_checked_text(config.data.files, config.model.num_tokens, config.data.binary);
  corpus.n_train = int64_t(double(corpus.text.size()) * (1 - config.data.validation_fraction));
  return corpus;
}

}  // namespace rondo
