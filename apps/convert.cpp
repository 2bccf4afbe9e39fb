// rondo convert: a checkpoint's weights in fewer bits, and what that costs in bits per byte.
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "apps/commands.h"
#include "apps/evaluate.h"
#include "apps/run.h"
#include "apps/usage.h"
#include "models/block_recurrent/precision.h"
#include "nn/file.h"
#include "nn/safetensors.h"

namespace rondo {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string path, out, dtype;
  std::vector<std::string> files;
  int64_t bytes = 0;
  bool binary = false;
};

double megabytes(const BlockRecurrentTransformer& model) {
  size_t bytes = 0;
  for (const NamedTensor& t : named_tensors(model)) bytes += t.tensor.n_bytes();
  return double(bytes) / 1e6;
}

// A checkpoint is complete once run.json is there.
void write_checkpoint(const LoadedModel& loaded, const std::string& out, const std::string& dtype) {
  write_safetensors(fs::path(out) / "model.safetensors", named_tensors(loaded.model), {{"weights", dtype}});
  if (!loaded.tokenizer.in_bytes()) write_file(fs::path(out) / "vocabulary.model", loaded.tokenizer.model());
  write_file(fs::path(out) / "run.json", read_file(fs::path(loaded.checkpoint) / "run.json"));
}

void run(const Options& options) {
  if (fs::exists(options.out) && !(fs::is_directory(options.out) && fs::is_empty(options.out)))
    throw UsageError(options.out + ": there is something already; choose another --out");
  LoadedModel loaded = load_model(options.path);
  const DType before = weights_dtype(loaded.model);
  check(before == DType::f32, loaded.checkpoint, ": its weights are ", weights_name(before),
        " already; convert the f32 checkpoint that they were made from");
  const Text text = evaluation_text(loaded, options.files, options.binary);
  std::error_code error;
  fs::create_directories(options.out, error);
  check(!error, "cannot create ", options.out, ": ", error.message());
  const int64_t most = tokens_for(text, options.bytes);
  const Evaluation full = evaluate(loaded.model, text, {.max_tokens = most});
  check(std::isfinite(full.nats), loaded.checkpoint, ": the loss of this model is not finite");
  const double size = megabytes(loaded.model);
  convert_weights(loaded.model, weights_dtype(options.dtype));
  const Evaluation converted = evaluate(loaded.model, text, {.max_tokens = most});
  write_checkpoint(loaded, options.out, options.dtype);
  std::printf("%s: %.4f bits per byte, f32 %.4f, difference %+.4f, over %lld bytes; %.2f MB instead of %.2f MB\n",
              options.dtype.c_str(), converted.bits_per_byte(), full.bits_per_byte(),
              converted.bits_per_byte() - full.bits_per_byte(), static_cast<long long>(full.bytes),
              megabytes(loaded.model), size);
}

}  // namespace

void add_convert(CLI::App& program) {
  Command command(program, "convert", "Weights in fewer bits, for eval, generate and chat; tells what it costs");
  Options& options = command.run<Options>(run);
  command.model(options.path);
  command.required("--out", options.out, "Directory of the new checkpoint");
  command.required("--dtype", options.dtype, "bf16 or int8", {"bf16", "int8"});
  command.texts("--data", options.files, "Text to measure on (default: what the run kept to validate on)");
  command.number("--bytes", options.bytes, "Measure on the first N bytes only; 0: all");
  command.flag("--binary", options.binary, "Take data with zero bytes");
  command.threads();
}

}  // namespace rondo
