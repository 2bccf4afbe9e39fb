// A run directory: config.toml, metrics.jsonl, loss.svg, events.out.tfevents.*, checkpoints/step-00001000/
// {model.safetensors, optimizer.safetensors, run.json}, and checkpoints/latest, which names the last whole checkpoint.
#pragma once
#include <string>

#include "apps/config.h"
#include "apps/tokenizer.h"
#include "models/block_recurrent/model.h"

namespace rondo {

struct LoadedModel {
  RunConfig config;
  std::string checkpoint;  // the directory it came from
  int64_t step = 0;
  BlockRecurrentTransformer model;
  Tokenizer tokenizer;
};
// `path` is a run directory (its latest checkpoint) or a checkpoint directory, made on whatever device. Throws Error
// with one clear line.
LoadedModel load_model(const std::string& path, Device device = Device::cpu);
// The text to measure a model on: the files given, or what its run kept to validate on.
Text evaluation_text(const LoadedModel& loaded, const std::vector<std::string>& files, bool binary);

}  // namespace rondo
