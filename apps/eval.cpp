// rondo eval: bits per byte over a contiguous text, states and memories carried or dropped.
#include <cmath>
#include <cstdio>
#include <numbers>

#include "apps/commands.h"
#include "apps/evaluate.h"
#include "apps/json_line.h"
#include "apps/run.h"
#include "apps/session.h"

namespace rondo {
namespace {

struct Options {
  std::string path;
  std::vector<std::string> files;
  Device device = Device::cpu;
  int64_t bytes = 0;
  bool no_state = false, no_memory = false, binary = false, json = false, logprobs = false;
};

void print_json(const Options& options, const LoadedModel& loaded, const Evaluation& e) {
  const nlohmann::ordered_json j{{"bits_per_byte", e.bits_per_byte()},
                                 {"bits_per_token", e.nats / double(e.tokens) / std::numbers::ln2},
                                 {"bytes", e.bytes},
                                 {"tokens", e.tokens},
                                 {"segments", e.segments},
                                 {"states", !options.no_state},
                                 {"memories", !options.no_memory},
                                 {"checkpoint", loaded.checkpoint},
                                 {"step", loaded.step},
                                 {"seconds", e.seconds},
                                 {"tokens_per_s", double(e.tokens) / e.seconds}};
  std::fputs(json_line(j).c_str(), stdout);
}

void run(const Options& options) {
  const LoadedModel loaded = load_model(options.path, options.device);
  const Text text = evaluation_text(loaded, options.files, options.binary);
  EvaluateOptions how{tokens_for(text, options.bytes), !options.no_state, !options.no_memory};
  bool open = true;
  if (options.logprobs)
    how.each = [&](int64_t token, double log_probability) {
      return open = write_out(token_line(loaded.tokenizer, token, log_probability));
    };
  const Evaluation e = evaluate(loaded.model, text, how);
  if (!open) return;  // nobody reads on
  check(std::isfinite(e.nats), loaded.checkpoint, ": the loss of this model is not finite");
  if (options.json || options.logprobs) return print_json(options, loaded, e);
  std::printf("%.4f bits per byte over %lld bytes (step %lld; states %s, memories %s)\n", e.bits_per_byte(),
              static_cast<long long>(e.bytes), static_cast<long long>(loaded.step),
              options.no_state ? "dropped" : "carried", options.no_memory ? "dropped" : "carried");
}

}  // namespace

void add_eval(CLI::App& program) {
  Command command(program, "eval", "Bits per byte over a contiguous text, segment by segment");
  Options& options = command.run<Options>(run);
  command.model(options.path);
  command.texts("--data", options.files, "Text, plain or gzip (default: what the run kept to validate on)");
  command.number("--bytes", options.bytes,
                 "Predict the first N bytes only, or the pieces within them, one at least; 0: all");
  command.flag("--no-state", options.no_state, "Drop the recurrent states after every segment");
  command.flag("--no-memory", options.no_memory, "Drop the last block's keys and values after every segment");
  command.flag("--binary", options.binary, "Take data with zero bytes");
  command.flag("--json", options.json, "Print one JSON object");
  command.flag("--logprobs", options.logprobs, "Print a JSON line for each token first: its log probability");
  command.device(options.device);
  command.threads();
}

}  // namespace rondo
