// rondo generate: continues a prompt, text as it is made.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <iterator>
#include <memory>
#include <random>

#include "apps/commands.h"
#include "apps/corpus.h"
#include "apps/run.h"
#include "apps/streams.h"
#include "apps/text_stream.h"
#include "apps/usage.h"
#include "models/block_recurrent/sampling.h"
#include "nn/text.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

struct Options {
  std::string path, prompt = "\n";
  int64_t length = 256;
  SamplingOptions how;
  int64_t seed = -1;
  std::vector<std::string> stops;
  int64_t threads = 0;
};

// False once the reader has gone away.
bool write_out(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EPIPE) return false;
    check(n >= 0, "cannot write to stdout: ", std::strerror(errno));
    text.remove_prefix(size_t(n));
  }
  return true;
}

std::string prompt_of(const Options& options, int64_t num_tokens) {
  std::string prompt = options.prompt;
  if (prompt == "-") prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  if (prompt.empty()) throw UsageError("the prompt is empty; give it at least one byte");
  check_vocabulary(prompt, num_tokens, "the prompt");
  return prompt;
}

void run(const Options& options) {
  as_usage([&] { options.how.validate(); });
  if (options.threads > 0) set_num_threads(int(options.threads));
  const LoadedModel loaded = load_model(options.path);
  const std::string prompt = prompt_of(options, loaded.config.model.num_tokens);
  const uint64_t seed = options.seed >= 0 ? uint64_t(options.seed) : std::random_device()();
  std::cerr << "seed " << seed << std::endl;

  Generator g{seed, stream::sampling, 0};
  Utf8Stream utf8;
  StopStream text(options.stops);
  bool open = true;
  const auto put = [&](const std::string& bytes) {
    std::string whole;
    for (const char c : bytes) whole += utf8.push(static_cast<unsigned char>(c));
    open = open && write_out(whole);
  };
  generate(loaded.model, tokens_of(prompt), options.length, options.how, g, [&](int64_t, int64_t token) {
    put(text.push(token < 256 ? char(token) : '\xFF'));  // 0xFF is in no text: what is no byte shows as U+FFFD
    return open && !text.stopped();
  });
  put(text.finish());
  if (open) open = write_out(utf8.finish());
  if (open && isatty(STDOUT_FILENO)) write_out("\n");
}

}  // namespace

void add_generate(CLI::App& program) {
  const auto options = std::make_shared<Options>();
  Command command(program, "generate", "Continue a prompt; the new text goes to stdout as it is made");
  command.required("RUN_OR_CHECKPOINT", options->path, "A run (its latest checkpoint) or a checkpoint");
  command.text("--prompt", options->prompt, "Text to continue; - reads it from stdin (default: a line's end)");
  command.number("--length", options->length, "Bytes to make");
  command.number("--temperature", options->how.temperature, "0: always the likeliest");
  command.number("--top-k", options->how.top_k, "Keep the K likeliest; 0: all");
  command.number("--top-p", options->how.top_p, "Keep the fewest that have probability P together");
  command.number("--min-p", options->how.min_p, "Drop what is less likely than P times the likeliest");
  command.number("--seed", options->seed, "Seed of the draws (default: a random one, told on stderr)");
  command.repeated("--stop", options->stops, "End before this text; may be given several times");
  command.number("--threads", options->threads, "Threads; 0: what the machine gives", 0, 1024);
  command.run([options] { run(*options); });
}

}  // namespace rondo
