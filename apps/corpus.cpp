#include "apps/corpus.h"

#include <filesystem>

#include "nn/file.h"
#include "nn/text.h"
#include "tensor/check.h"

namespace rondo {

namespace {

uint64_t hash_of(std::string_view text, uint64_t hash) {
  for (const unsigned char c : text) hash = (hash ^ c) * 1099511628211u;
  return hash;
}

}  // namespace

Fingerprint fingerprint_of(std::string_view text) { return {int64_t(text.size()), hash_of(text, Fingerprint().hash)}; }

std::string read_checked_text(const std::vector<std::string>& files, const Tokenizer& tokenizer, bool binary) {
  std::string all;
  for (const std::string& file : files) {
    const std::string text = read_text({file});
    const size_t zero = binary ? text.npos : text.find('\0');
    check(zero == text.npos, file, ": binary data (a zero byte at offset ", zero,
          "), not text; data.binary = true allows it");
    tokenizer.check_text(text, file);
    all += text;
  }
  return all;
}

Corpus read_corpus(const RunConfig& config, const Tokenizer& tokenizer) {
  const std::string text = read_checked_text(config.data.files, tokenizer, config.data.binary);
  size_t n_train = size_t(double(text.size()) * (1 - config.data.validation_fraction));
  if (!tokenizer.model().empty())  // not through the middle of a character
    while (n_train < text.size() && (text[n_train] & 0xC0) == 0x80) ++n_train;
  const std::string_view all = text;
  Corpus corpus{tokenizer.encode(all.substr(0, n_train)), tokenizer.encode(all.substr(n_train)), fingerprint_of(all)};
  corpus.fingerprint.hash = hash_of(tokenizer.model(), corpus.fingerprint.hash);
  return corpus;
}

Tokenizer tokenizer_of(const RunConfig& config, const std::string& checkpoint) {
  if (config.data.vocabulary.empty()) return Tokenizer(config.model.num_tokens);
  const std::string kept = std::filesystem::path(checkpoint) / "vocabulary.model";
  const std::string& file = checkpoint.empty() ? config.data.vocabulary : kept;
  return {config.model.num_tokens, read_file(file), file};
}

}  // namespace rondo
