// rondo generate: continues a prompt, text as it is made; or a file of prompts, a JSON line each.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>

#include "apps/json_line.h"
#include "apps/line_reader.h"
#include "apps/session.h"
#include "apps/usage.h"
#include "nn/file.h"

namespace rondo {
namespace {

using Json = nlohmann::ordered_json;

struct Options : SessionOptions {
  std::optional<std::string> prompt;
  std::string prompt_file, prompts;
  int64_t batch = 0;  // 0: not given
  bool json = false;
};

void check_consistent(const Options& o) {
  const auto one_of = [](bool a, bool b, const char* message) {
    if (a && b) throw UsageError(message);
  };
  one_of(o.prompt.has_value(), !o.prompt_file.empty(),
         "--prompt and --prompt-file both say what to continue; give one of them");
  one_of(!o.prompts.empty(), o.prompt || !o.prompt_file.empty(),
         "--prompts is a file of prompts; leave --prompt and --prompt-file out");
  one_of(!o.prompts.empty(), !o.save_state.empty(),
         "--prompts makes many texts, but --save-state keeps one; leave one of them out");
  one_of(o.prompts.empty(), o.batch > 0,
         "--batch says how many prompts of --prompts go together; give it with --prompts");
  if (o.prompt && o.prompt->empty()) throw UsageError("the prompt is empty; give it at least one byte");
}

// Once nothing can be wrong with the input any more.
void tell_seed(uint64_t seed) { std::cerr << "seed " << seed << std::endl; }

std::string file_or_stdin(const std::string& name) {
  if (name != "-") return read_file(name);
  std::string all;
  for (char bytes[65536];;) {
    const ssize_t n = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    check(n >= 0, "cannot read stdin: ", std::strerror(errno));
    if (n == 0) return all;
    all.append(bytes, size_t(n));
  }
}

std::string prompt_of(const Options& o) {
  if (o.prompt && *o.prompt != "-") return *o.prompt;
  if (!o.prompt && o.prompt_file.empty()) return o.state.empty() ? "\n" : "";
  const std::string name = o.prompt ? "-" : o.prompt_file, text = file_or_stdin(name);
  check(!text.empty(), name == "-" ? "the prompt" : name, " is empty; give it at least one byte");
  return text;
}

Json summary(const Session::Written& w, const std::string& text, uint64_t seed) {
  return {{"text", text},         {"tokens", w.tokens}, {"logprob", w.log_probability},
          {"stopped", w.stopped}, {"seed", seed},       {"tokens_per_s", double(w.tokens) / std::max(w.seconds, 1e-9)}};
}

void run_one(const Options& o, const LoadedModel& loaded, uint64_t seed) {
  if (!o.prompt && o.prompt_file.empty() && o.state.empty() && drops_lines(loaded))
    throw UsageError("the default prompt is a line's end, which this run's vocabulary drops; give --prompt");
  Session session(loaded, o, seed);
  session.feed(0, prompt_of(o), "the prompt");
  check(session.began(0), o.state, ": nothing was fed to this decoding state yet; give --prompt");
  tell_seed(seed);
  std::string all;
  bool open = true;
  const Interrupt interrupt;  // until the state is saved
  const Session::Written w =
      session.write(interrupt, [&](int64_t, const std::string& text, const Continuation::Drawn* drawn) {
        if (!o.json) return open = write_out(text);
        all += text;
        if (drawn) open = write_out(token_line(loaded.tokenizer, drawn->token, drawn->log_probability));
        return open;
      })[0];
  session.save();
  if (open && o.json) {
    Json last = summary(w, all, seed);
    if (o.speculate > 0)
      last["guessed"] = session.speculation().drafted, last["accepted"] = session.speculation().accepted;
    write_out(json_line(last));
  } else if (open && isatty(STDOUT_FILENO)) {
    write_out("\n");
  }
  tell_speed(o, w, session.speculation());
}

// A line a prompt, in the file's order. Some of them at a time are read and written together.
constexpr int64_t kBatch = 16;
void run_all(const Options& o, const LoadedModel& loaded, uint64_t seed) {
  LineReader lines(o.prompts);
  Session::Written total;
  Continuation::Speculation guessed;
  bool open = true, more = true;
  const int64_t batch = o.batch > 0 ? o.batch : kBatch;
  for (uint64_t number = 0; open && more;) {
    std::vector<std::string> prompts, places, texts;
    while (int64_t(prompts.size()) < batch) {
      std::optional<std::string> line = lines.next();
      if (!(more = line.has_value())) break;
      prompts.push_back(std::move(*line)), places.push_back(lines.place());
    }
    if (prompts.empty()) break;
    Session session(loaded, o, seed, int64_t(prompts.size()), number);
    for (size_t i = 0; i < prompts.size(); ++i) {
      session.feed(int64_t(i), prompts[i], places[i]);
      check(session.began(int64_t(i)), places[i], ": the prompt is empty; give it at least one byte");
    }
    if (number == 0) tell_seed(seed);
    number += prompts.size();
    texts.resize(prompts.size());
    const Interrupt interrupt;
    const auto written = session.write(interrupt, [&](int64_t i, const std::string& text, const Continuation::Drawn*) {
      texts[size_t(i)] += text;
      return true;
    });
    double seconds = 0;
    for (size_t i = 0; i < prompts.size() && open; ++i) {
      Json line{{"prompt", prompts[i]}};
      line.update(summary(written[i], texts[i], seed));
      open = write_out(json_line(line));
      total.tokens += written[i].tokens, seconds = std::max(seconds, written[i].seconds);
    }
    total.seconds += seconds;
    more = more && !interrupt.requested();
    guessed.drafted += session.speculation().drafted, guessed.accepted += session.speculation().accepted;
  }
  check(total.seconds > 0, o.prompts, ": no prompts; write one a line");
  tell_speed(o, total, guessed);
}

void run(Options& options) {
  check_consistent(options);
  const LoadedModel loaded = open_model(options);
  const uint64_t seed = seed_of(options);
  if (options.prompts.empty())
    run_one(options, loaded, seed);
  else
    run_all(options, loaded, seed);
}

}  // namespace

void add_generate(CLI::App& program) {
  Command command(program, "generate", "Continue a prompt; the new text goes to stdout as it is made");
  Options& options = command.run<Options>(run);
  add_session_options(command, options);
  command.text("--prompt", options.prompt, "Text to continue; - reads it from stdin (default: a line's end)");
  command.text("--prompt-file", options.prompt_file, "A file to continue; - is stdin");
  command.text("--prompts", options.prompts, "A file with a prompt in each line; a JSON line for each comes out");
  command.number("--batch", options.batch, "So many prompts of --prompts are written together (default: 16)", 1,
                 kFewRows);
  command.flag("--json", options.json, "A JSON line for each token, then one for the text");
}

}  // namespace rondo
