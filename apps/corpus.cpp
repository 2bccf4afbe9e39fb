#include "apps/corpus.h"

#include <filesystem>

#include "apps/checkpoint.h"
#include "nn/file.h"
#include "nn/text.h"
#include "tensor/check.h"

namespace rondo {
namespace {

uint64_t hash_of(std::string_view text) {
  uint64_t hash = 14695981039346656037u;
  for (const unsigned char c : text) hash = (hash ^ c) * 1099511628211u;
  return hash;
}

uint64_t hash_of(const Tokenizer& tokenizer) { return tokenizer.in_bytes() ? 0 : hash_of(tokenizer.model()); }

}  // namespace

Fingerprint fingerprint_of(std::string_view text) { return {int64_t(text.size()), hash_of(text)}; }

std::string read_checked_text(const std::vector<std::string>& files, const Tokenizer& tokenizer, bool binary) {
  std::string all;
  for (const std::string& file : files) {
    const std::string text = read_text({file});
    const size_t zero = binary ? text.npos : text.find('\0');
    check(zero == text.npos, file, ": binary data (a zero byte at offset ", zero,
          "), not text; data.binary = true, or --binary, allows it");
    if (!binary || tokenizer.in_bytes()) tokenizer.check_text(text, file);
    all += text;
  }
  return all;
}

Corpus read_corpus(const RunConfig& config, const Tokenizer& tokenizer) {
  const std::string text = read_checked_text(config.data.files, tokenizer, config.data.binary);
  size_t n_train = size_t(double(text.size()) * (1 - config.data.validation_fraction));
  if (!tokenizer.in_bytes())  // not through the middle of a character
    while (n_train < text.size() && (text[n_train] & 0xC0) == 0x80) ++n_train;
  const std::string_view all = text;
  Corpus corpus{tokenizer.encode(all.substr(0, n_train)), tokenizer.encode(all.substr(n_train)), fingerprint_of(all)};
  corpus.fingerprint.vocabulary = hash_of(tokenizer);
  check(n_train == all.size() || corpus.validation.size() > 1, "the text to validate on has ", corpus.validation.size(),
        tokenizer.in_bytes() ? " byte" : " tokens",
        ", but predicting needs at least 2; give more text, or set data.validation_fraction = 0");
  return corpus;
}

Tokenizer tokenizer_of(const RunConfig& config, const std::string& checkpoint) {
  if (config.data.vocabulary.empty()) return Tokenizer(config.model.num_tokens);
  if (checkpoint.empty()) return {config.model.num_tokens, read_file(config.data.vocabulary), config.data.vocabulary};
  const std::string file = std::filesystem::path(checkpoint) / "vocabulary.model", model = read_file(file);
  check(hash_of(model) == read_checkpoint_info(checkpoint).state.text.vocabulary, file,
        ": not the vocabulary that this checkpoint was saved with");
  return {config.model.num_tokens, model, file};
}

}  // namespace rondo
