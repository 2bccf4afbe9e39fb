// The work of `rondo bench` done by LibTorch, with the same command line and the same JSON line, and a check that both
// compute the same.
#include <CLI/CLI.hpp>
#include <memory>

#include "apps/bench.h"
#include "apps/commands.h"
#include "apps/config.h"
#include "bench/libtorch/check.h"
#include "bench/libtorch/decode.h"
#include "bench/libtorch/train.h"
#include "models/block_recurrent/trainer.h"
#include "tensor/allocator.h"

namespace libtorch {
namespace {

using Json = nlohmann::ordered_json;
using rondo::Clock;

struct Options {
  std::string what, size = "readme", dtype = "f32";
  int64_t threads = 0, steps = 5, context = 128, tokens = 32;
  bool cached = false;
};

// Rondo's own fresh weights: both sides start from the same numbers, and end with the same loss.
Model fresh_model(const rondo::BlockRecurrentConfig& config, rondo::Generator& g) {
  Model model(config);
  model->load(named_tensors(rondo::BlockRecurrentTransformer(config, g)));
  rondo::release_cached_memory();
  return model;
}

Json time_training(const Options& options) {
  const rondo::RunConfig config = rondo::named_size(options.size);
  rondo::Generator g;
  Model model = fresh_model(config.model, g);
  torch::optim::Adam adam(model->parameters(), torch::optim::AdamOptions(1e-4));
  const int64_t length = config.train.segments * config.model.max_seq_len;
  const auto [inputs, next] =
      rondo::inputs_and_labels(rondo::random_tokens({config.train.batch_size, length + 1}, config.model.num_tokens, g));
  const Tensor tokens = from_rondo(inputs), labels = from_rondo(next);
  std::vector<double> seconds;
  double loss = 0;
  for (int64_t i = 0; i <= options.steps; ++i) {  // the first step warms up
    const auto start = Clock::now();
    loss = accumulate_gradients(model, tokens, labels, options.dtype == "bf16");
    torch::nn::utils::clip_grad_norm_(model->parameters(), 0.5);
    adam.step();
    adam.zero_grad();
    if (i > 0) seconds.push_back(rondo::seconds_since(start));
  }
  return rondo::training_speed(seconds, double(config.train.batch_size * length), loss);
}

Json time_decoding(const Options& options) {
  const rondo::RunConfig config = rondo::named_size(options.size);
  rondo::Generator g;
  Model model = fresh_model(config.model, g);
  Tensor tokens = from_rondo(rondo::random_tokens({1, options.context}, config.model.num_tokens, g));
  SegmentDecoder(model).next(tokens);  // warms up
  const auto begin = Clock::now();
  SegmentDecoder(model).next(tokens);
  const double prefill = rondo::seconds_since(begin);
  std::unique_ptr<Decoder> decoder;
  if (options.cached)
    decoder = std::make_unique<CachedDecoder>(model, 1);
  else
    decoder = std::make_unique<SegmentDecoder>(model);
  double total = 0, best = INFINITY;
  for (int64_t i = 0; i <= options.tokens; ++i) {  // the first token takes the prompt in
    const auto start = Clock::now();
    tokens = decoder->next(tokens).unsqueeze(1);
    const double seconds = rondo::seconds_since(start);
    if (i > 0) total += seconds, best = std::min(best, seconds);
  }
  return {{"tokens_per_s", double(options.tokens) / total},
          {"best_tokens_per_s", 1 / best},
          {"context", options.context},
          {"prefill_tokens_per_s", double(options.context) / prefill},
          {"cached", options.cached}};
}

void run(const Options& options) {
  if (options.threads > 0) torch::set_num_threads(int(options.threads));
  Json json = options.what == "train" ? time_training(options) : time_decoding(options);
  json["peak_mb"] = rondo::peak_mb();
  json["what"] = options.what;
  json["size"] = options.size;
  json["dtype"] = options.dtype;
  json["threads"] = torch::get_num_threads();
  json["libtorch"] = TORCH_VERSION;
  json["attention"] = kAttention;
  std::printf("%s\n", json.dump().c_str());
}

void add_bench(CLI::App& program, const char* what, const char* help) {
  rondo::Command command(program, what, help);
  Options& options = command.run<Options>(run);
  options.what = what;
  command.text("--size", options.size, "readme, small or tiny (default: readme)", {"readme", "small", "tiny"});
  command.number("--threads", options.threads, "Threads; 0: what the machine gives", 0, 1024);
  if (options.what == "train") {
    command.text("--dtype", options.dtype, "f32 or bf16 (autocast)", {"f32", "bf16"});
    command.number("--steps", options.steps, "Steps to time", 1);
  } else {
    command.number("--context", options.context, "Tokens before the first timed one", 1);
    command.number("--tokens", options.tokens, "Tokens to time", 1);
    command.flag("--cached", options.cached, "Keep keys and values; else each token takes its whole segment again");
  }
}

void add_check(CLI::App& program) {
  rondo::Command command(program, "check", "Compare with what Rondo computes");
  std::string& golden_case = command.run<std::string>(check_against_rondo);
  command.required("CASE_DIR", golden_case, "A case of tests/goldens");
}

}  // namespace
}  // namespace libtorch

int main(int argc, char** argv) {
  CLI::App app("The work of `rondo bench` done by LibTorch.", "rondo_libtorch");
  app.require_subcommand(1);
  libtorch::add_bench(app, "train", "Tokens per second of training, as one JSON line");
  libtorch::add_bench(app, "decode", "Tokens per second of greedy decoding, as one JSON line");
  libtorch::add_check(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Error& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const std::exception& e) {
    const std::string text = e.what();  // LibTorch puts its stack below the first line
    std::fprintf(stderr, "rondo_libtorch: %s\n", text.substr(0, text.find('\n')).c_str());
    return 1;
  }
  return 0;
}
