#include "apps/inspect.h"

#include <filesystem>

#include "apps/run.h"
#include "nn/file.h"

namespace rondo {

BlockRecurrentTransformer model_at(const std::string& path) {
  if (!path.ends_with(".toml") && !std::filesystem::is_regular_file(path)) return load_model(path).model;
  RunConfig config;
  apply_toml(config, read_file(path), path);
  config.validate();
  Generator g;
  return BlockRecurrentTransformer(config.model, g);
}

}  // namespace rondo
