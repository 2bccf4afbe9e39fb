// rondo bench: tokens per second of training, of decoding and over a long stream. The first two on fixed work that the
// PyTorch reference can be timed on too: Adam at 1e-4, clipping at 0.5, no dropout, the same random tokens at every
// step.
#include "apps/bench.h"

#include <cmath>
#include <cstdio>
#include <cstring>

#include "apps/commands.h"
#include "apps/config.h"
#include "apps/evaluate.h"
#include "apps/json_line.h"
#include "apps/usage.h"
#include "models/block_recurrent/precision.h"
#include "models/block_recurrent/sampling.h"
#include "models/block_recurrent/training_step.h"
#include "tensor/allocator.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string what, size = "readme", dtype = "f32";
  Device device = Device::cpu;
  bool tf32 = false;
  int64_t steps = 5, context = 128, tokens = 32, batch = 0, depth = 0;
};

RunConfig chosen(const Options& options) {
  RunConfig config = named_size(options.size);
  if (options.batch > 0) config.train.batch_size = options.batch;
  if (options.depth > 0) config.model.depth = options.depth;
  return config;
}

Json bench_train(const Options& options) {
  const RunConfig config = chosen(options);
  Generator g;
  BlockRecurrentTransformer model(config.model, g);
  model.to(options.device);
  if (options.dtype == "bf16") {
    const std::string why = why_no_bf16(options.device);
    check(why.empty(), why, "; use --dtype f32");
    compute_in(model, DType::bf16);
  }
  Adam adam(parameters(model), {.learning_rate = 1e-4, .clip_grad_norm = 0.5});
  const int64_t length = config.train.segments * config.model.max_seq_len;
  const auto [tokens, labels] =
      inputs_and_labels(random_tokens({config.train.batch_size, length + 1}, config.model.num_tokens, g));
  TrainingStep train({model}, adam);
  std::vector<double> seconds;
  double loss = 0;
  const int64_t warm = options.device == Device::cpu ? 1 : 2;  // a GPU's second step is captured
  for (int64_t i = -warm; i < options.steps; ++i) {
    const auto start = Clock::now();
    loss = train(tokens, labels, {}, g).loss();
    if (i >= 0) seconds.push_back(seconds_since(start));
  }
  Json speed = training_speed(seconds, double(config.train.batch_size * length), loss);
  speed["gflop_per_s"] = double(speed["tokens_per_s"]) * config.model.training_flops_per_token() / 1e9;
  return speed;
}

// One stream of tokens: trained on, a step a segment, states and memories carried; then evaluated.
Json bench_stream(const Options& options) {
  const RunConfig config = named_size(options.size);
  Generator g;
  BlockRecurrentTransformer model(config.model, g);
  model.to(options.device);
  Adam adam(parameters(model), {.learning_rate = 1e-4, .clip_grad_norm = 0.5});
  const RecurrentTrainer trainer{.model = model};
  const int64_t length = config.model.max_seq_len, steps = (options.tokens + length - 1) / length;
  Gradients grads;
  Carried carried;
  double seconds = 0;
  for (int64_t i = -1; i < steps; ++i) {  // the first step warms up
    const auto [tokens, labels] = inputs_and_labels(random_tokens({1, length + 1}, config.model.num_tokens, g));
    const auto start = Clock::now();
    carried = trainer(tokens, labels, carried, g, grads).carried;
    adam.step(grads);
    grads.clear();
    if (i >= 0) seconds += seconds_since(start);
  }
  constexpr int64_t kSegments = 64;  // of text at a time
  double eval_seconds = 0;
  carried = {};
  for (int64_t done = 0; done < steps; done += kSegments) {
    std::string text(size_t(std::min(kSegments, steps - done) * length + 1), ' ');
    for (char& c : text) c = char(g.below(256));
    Evaluation evaluation = evaluate(model, Tokenizer(256).encode(text), {.carried = carried});
    eval_seconds += evaluation.seconds, carried = std::move(evaluation.carried);
  }
  return {{"tokens_per_s", double(steps * length) / seconds},
          {"eval_tokens_per_s", double(steps * length) / eval_seconds},
          {"tokens", steps * length}};
}

// Bytes of weights that a token reads: those of the products, without what only writes states.
double bytes_per_token(const BlockRecurrentTransformer& model) {
  size_t bytes = model.head.weight.n_bytes();
  for (const auto& layer : model.layers) {
    const AttentionBlock& a = layer.attention;
    for (const Linear* l : {&a.to_q, &a.to_kv, &a.to_out, &layer.feed_forward.in, &layer.feed_forward.out})
      bytes += l->weight.n_bytes();
    if (a.state_container) bytes += a.state_container->q_to_state.weight.n_bytes();
  }
  return double(bytes);
}

Json bench_decode(const Options& options) {
  const RunConfig config = named_size(options.size);
  Generator g;
  BlockRecurrentTransformer model(config.model, g);
  convert_weights(model, weights_dtype(options.dtype));
  model.to(options.device);
  const Tensor prompt = random_tokens({1, options.context}, config.model.num_tokens, g);
  SamplingOptions greedy;
  greedy.temperature = 0;
  generate(model, prompt, 1, greedy, g);  // warms up
  double total = 0, best = INFINITY, prefill = 0;
  int64_t made = 0;
  Clock::time_point last = Clock::now();
  generate(model, prompt, options.tokens + 1, greedy, g, [&](int64_t, int64_t) {
    const double seconds = seconds_since(last);
    if (made++ == 0)
      prefill = seconds;  // the first token takes the prompt in
    else
      total += seconds, best = std::min(best, seconds);
    last = Clock::now();
    return true;
  });
  return {{"tokens_per_s", double(options.tokens) / total},
          {"best_tokens_per_s", 1 / best},
          {"context", options.context},
          {"prefill_tokens_per_s", double(options.context) / prefill},
          {"weights_mb_per_token", bytes_per_token(model) / 1e6}};
}

// Bytes per second, read and written, of copying more than caches hold: the best of some goes, by all threads.
double copy_bandwidth(Device device) {
  constexpr int64_t kBytes = int64_t{128} << 20, kGrain = int64_t{1} << 20;
  const Shape shape{kBytes / int64_t(sizeof(float))};
  const Tensor from = zeros(shape, DType::f32, device), to = zeros(shape, DType::f32, device);
  const Tensor last = zeros({}, DType::f32, device);
  double best = INFINITY;
  for (int i = 0; i < 10; ++i) {
    const auto start = Clock::now();
    if (device == Device::cpu)
      parallel_chunks(kBytes, kGrain, [&](int64_t begin, int64_t end) {
        std::memcpy(static_cast<char*>(to.bytes()) + begin, static_cast<char*>(from.bytes()) + begin,
                    size_t(end - begin));
      });
    else
      assign(from, to), last.item();  // a device works in order: what is read now waits for the copy
    best = std::min(best, seconds_since(start));
  }
  return 2 * double(kBytes) / best;
}

// What part of that bandwidth reading the weights takes.
void add_share_of_copy(Json& decoded, Device device) {
  const double copy = copy_bandwidth(device) / 1e9;
  decoded["copy_gb_per_s"] = copy;
  decoded["share_of_copy"] = double(decoded["tokens_per_s"]) * double(decoded["weights_mb_per_token"]) / 1e3 / copy;
}

void run(const Options& options) {
  if (options.what == "stream" && options.dtype != "f32") throw UsageError("bench stream computes in f32");
  if (options.what != "train" && (options.batch > 0 || options.depth > 0))
    throw UsageError("--batch and --depth are for bench train");
  if (options.what == "train" && options.dtype == "int8")
    throw UsageError("--dtype int8 is for bench decode; bench train computes in f32 or bf16");
  check_usable(options.device);
  allow_tf32(options.tf32);
  Json json = options.what == "train"    ? bench_train(options)
              : options.what == "stream" ? bench_stream(options)
                                         : bench_decode(options);
  json["peak_mb"] = peak_mb();
  if (options.device != Device::cpu) json["device_peak_mb"] = memory_stats(options.device).peak_bytes >> 20;
  if (options.what == "decode") add_share_of_copy(json, options.device);  // after the peak, which it would raise
  json["what"] = options.what;
  json["size"] = options.size;
  json["dtype"] = options.dtype;
  json["tf32"] = options.tf32;
  json["device"] = options.device == Device::cpu ? "cpu" : "cuda";
  json["threads"] = num_threads();
  std::fputs(json_line(json).c_str(), stdout);
}

}  // namespace

void add_bench(CLI::App& program) {
  constexpr int64_t kMost = 1'000'000'000;
  Command command(program, "bench", "Tokens per second of training, decoding or reading a stream, as one JSON line");
  Options& options = command.run<Options>(run);
  command.required("WHAT", options.what, "train, decode or stream (trains on one and evaluates one)",
                   {"train", "decode", "stream"});
  command.text("--size", options.size, "readme, small or tiny (default: readme)", {"readme", "small", "tiny"});
  command.text("--dtype", options.dtype,
               "What products are made in; for decode what weights are kept in, int8 too (default: f32)",
               {"f32", "bf16", "int8"});
  command.flag("--tf32", options.tf32, "On a GPU, f32 products round what they multiply to 11 bits");
  command.device(options.device);
  command.threads();
  command.number("--steps", options.steps, "Steps of training to time", 1, kMost);
  command.number("--batch", options.batch, "Rows of a batch of training; 0: the size's", 0, kMost);
  command.number("--depth", options.depth, "Layers of the trained model; 0: the size's", 0, kMost);
  command.number("--context", options.context, "Tokens before the first timed one", 1, kMost);
  command.number("--tokens", options.tokens, "Tokens to decode, or of the stream", 1, kMost);
}

}  // namespace rondo
