#include "apps/run.h"

#include <filesystem>

#include "apps/checkpoint.h"
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

LoadedModel load_model(const std::string& path) {
  const std::string checkpoint = find_checkpoint(path), weights = fs::path(checkpoint) / "model.safetensors";
  const CheckpointInfo info = read_checkpoint_info(checkpoint);
  Generator g;  // what it draws is overwritten
  LoadedModel loaded{info.config, checkpoint, info.state.step, BlockRecurrentTransformer(info.config.model, g)};
  load_tensors(read_safetensors(weights), named_tensors(loaded.model), true, weights);
  return loaded;
}

}  // namespace rondo
