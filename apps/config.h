// The configuration of a run: defaults < TOML file < flags. Unknown keys are errors; the resolved whole is written into
// the run's config.toml, which reads back to the same values.
#pragma once
#include <string>
#include <vector>

#include "models/block_recurrent/config.h"
#include "nn/optimizer.h"
#include "nn/schedule.h"

namespace rondo {

struct DataConfig {
  std::vector<std::string> files;     // plain or gzip, one after the other
  std::string vocabulary;             // a SentencePiece .model file, whose pieces are the tokens; empty: bytes are
  double validation_fraction = 0.05;  // the last part of the text; 0 is legal
  bool binary = false;                // take data with zero bytes, which no text has
};

struct TrainConfig {
  int64_t steps = 1000;
  int64_t batch_size = 8;
  int64_t segments = 2;
  std::string order = "random";  // "random": every row of a batch starts anywhere; "document": rows walk on
  int64_t jump_every = 0;        // steps; rows in document order jump to new places (0: never)
  int64_t seed = 0;
  std::string dtype = "f32";    // what is computed in: "f32", or "bf16" (mixed precision)
  double clip_grad_norm = 0.5;  // lives here in the file, in OptimizerConfig in the library
  double xl_memories_dropout = 0, state_dropout = 0;
  int64_t checkpoint_every = 500;    // steps; 0: only at the end
  int64_t keep_checkpoints = 3;      // the last ones; 0: all
  int64_t validate_every = 500;      // steps; 0: only at the end
  int64_t validation_segments = 64;  // of the validation part, from its beginning; 0: all
  bool check_finite = false;         // report the op that first makes a NaN or infinity (slow)
};

struct RuntimeConfig {
  int64_t threads = 0;  // 0: what the machine gives
  std::string device = "cpu";
  bool graphs = true;            // on a GPU, steps that come again are captured and done by one call
  int64_t micro_batch_size = 0;  // so many rows of a batch (a rank's part) at a time, to save memory; 0: as is fastest
  bool tf32 = false;             // f32 products on a GPU round what they multiply to 11 bits
};

struct RunConfig {
  BlockRecurrentConfig model;
  DataConfig data;
  TrainConfig train;
  OptimizerConfig optimizer;  // [optimizer] name ("adam" | "adamw"), learning_rate, beta1, beta2, eps, weight_decay
  std::string optimizer_name = "adam";
  Schedule schedule;  // of optimizer.learning_rate; with decay_steps = 0 a descent ends with the run (schedule_of)
  RuntimeConfig runtime;

  RunConfig();            // the program's defaults: the `small` model
  void validate() const;  // throws Error with one clear line
};

// The schedule with its end. A run keeps that end when it is resumed for more steps.
Schedule schedule_of(const RunConfig& config);

// Applies a TOML text on top; `name` stands for the file in messages.
void apply_toml(RunConfig& config, const std::string& text, const std::string& name);
// Applies "section.key=value": the value as TOML, else as a bare string.
void apply_setting(RunConfig& config, const std::string& setting);
// Every key with its value.
std::string to_toml(const RunConfig& config);
// "readme", "small" or "tiny" with the batch and segments it is measured with.
RunConfig named_size(const std::string& size);

}  // namespace rondo
