#include "apps/run.h"

#include <filesystem>

#include "apps/checkpoint.h"
#include "apps/usage.h"
#include "models/block_recurrent/precision.h"
#include "nn/safetensors.h"

namespace rondo {
namespace {

namespace fs = std::filesystem;

std::string find_checkpoint(const std::string& path) {
  check(fs::exists(path), path, ": no such run or checkpoint");
  if (fs::exists(fs::path(path) / "run.json")) return path;
  const std::string latest = latest_checkpoint(path);
  check(!latest.empty(), path, ": neither a run with a checkpoint (checkpoints/latest) nor a checkpoint (run.json)");
  return latest;
}

}  // namespace

LoadedModel load_model(const std::string& path, Device device) {
  check_usable(device);
  const std::string checkpoint = find_checkpoint(path), weights = fs::path(checkpoint) / "model.safetensors";
  const CheckpointInfo info = read_checkpoint_info(checkpoint);
  Generator g;  // what it draws is overwritten
  LoadedModel loaded{info.config, checkpoint, info.state.step, BlockRecurrentTransformer(info.config.model, g),
                     tokenizer_of(info.config, checkpoint)};
  const SafetensorsFile file = read_safetensors(weights);
  if (const auto dtype = file.metadata.find("weights"); dtype != file.metadata.end()) {  // as `rondo convert` writes it
    try {
      convert_weights(loaded.model, weights_dtype(dtype->second));
    } catch (const Error& e) {
      fail(weights, ": ", e.what());
    }
  }
  load_tensors(file, named_tensors(loaded.model), true, weights);
  loaded.model.to(device);
  return loaded;
}

Text evaluation_text(const LoadedModel& loaded, const std::vector<std::string>& files, bool binary) {
  const RunConfig& config = loaded.config;
  const Tokenizer& tokenizer = loaded.tokenizer;
  if (!files.empty()) return tokenizer.encode(read_checked_text(files, tokenizer, binary || config.data.binary));
  if (config.data.files.empty() || config.data.validation_fraction == 0)
    throw UsageError("this run kept nothing to validate on: give --data FILE");
  Corpus corpus = read_corpus(config, tokenizer);
  check(corpus.fingerprint == read_checkpoint_info(loaded.checkpoint).state.text,
        "the text of this run has changed since; give --data FILE");
  return std::move(corpus.validation);
}

}  // namespace rondo
