// Checkpoints: everything a run needs to go on bit for bit, in a directory that is there whole or not at all.
#pragma once
#include <string>

#include "apps/batches.h"
#include "apps/config.h"
#include "apps/corpus.h"
#include "models/block_recurrent/model.h"
#include "nn/optimizer.h"

namespace rondo {

// What a run has beside its weights and the optimizer's moments.
struct RunState {
  int64_t step = 0;
  BatchState batches;
  Generator dropout;
  Carried carried;  // in document order, from step to step
  Fingerprint text;
};

// Writes RUN/checkpoints/step-XXXXXXXX, points `latest` at it and removes old ones. Returns the new directory. On an
// error the last whole checkpoint is what it was.
std::string save_checkpoint(const std::string& run, const RunConfig& config, const RunState& state,
                            const BlockRecurrentTransformer& model, Adam& optimizer, const Tokenizer& tokenizer);

// The directory of a run's last whole checkpoint; empty where there is none yet.
std::string latest_checkpoint(const std::string& run);

struct CheckpointInfo {
  RunConfig config;
  RunState state;  // without `carried`
};
// Reads run.json.
CheckpointInfo read_checkpoint_info(const std::string& checkpoint);
// Reads the tensors into a model and an optimizer of the same configuration, and what was carried into `state`.
void load_checkpoint(const std::string& checkpoint, const RunConfig& config, BlockRecurrentTransformer& model,
                     Adam& optimizer, RunState& state);

}  // namespace rondo
