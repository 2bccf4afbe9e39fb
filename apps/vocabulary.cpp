// rondo vocabulary: word pieces learned from a text, for models that read and write pieces in place of bytes.
#include <cstdio>
#include <filesystem>

#include "apps/commands.h"
#include "apps/corpus.h"
#include "apps/usage.h"
#include "nn/file.h"

namespace rondo {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string out;
  int64_t size = 2048;
  bool binary = false;
};

void run(const Options& options) {
  if (options.files.empty()) throw UsageError("nothing to learn from: give --data FILE");
  check_replaceable(options.out, "vocabulary", "--out", [&] { SentencePiece(read_file(options.out), options.out); });
  FileWriter(options.out);  // said now where it cannot be written, not at the end
  std::string text;
  for (const std::string& file : options.files) {
    text += read_checked_text({file}, Tokenizer(256), options.binary);
    if (!options.binary) check_utf8(text, file);
  }
  const std::string model = learn_pieces(text, options.size);
  const Text encoded = Tokenizer(options.size, model, options.out).encode(text);
  write_file(options.out, model);
  std::printf(
      "%s: %lld pieces, %.2f bytes of this text each; train with --set 'data.vocabulary=%s' --set "
      "model.num_tokens=%lld\n",
      options.out.c_str(), static_cast<long long>(options.size), double(encoded.bytes()) / double(encoded.size()),
      options.out.c_str(), static_cast<long long>(options.size));
}

}  // namespace

void add_vocabulary(CLI::App& program) {
  Command command(program, "vocabulary",
                  "Learn word pieces from text files (SentencePiece), to train on in place of bytes");
  Options& options = command.run<Options>(run);
  command.texts("--data", options.files, "Text, plain or gzip");
  command.required("--out", options.out, "The vocabulary's file, NAME.model");
  command.number("--size", options.size, "Pieces, the 256 bytes among them (default: 2048)", 260, 1000000);
  command.flag("--binary", options.binary, "Take data with zero bytes");
  command.threads();
}

}  // namespace rondo
