// The program's defaults, the sizes that are measured, what values are legal, and the configuration as TOML.
#include "apps/config.h"

#include "apps/config_keys.h"
#include "nn/utf8.h"

namespace rondo {
namespace {

struct Range {
  const char* key;
  double value, low, high;
  const char* words;
};

std::vector<Range> ranges(const RunConfig& c) {
  constexpr double most = 9e15, large = 1e30, below_one = 0.999999999;
  const TrainConfig& t = c.train;
  const OptimizerConfig& o = c.optimizer;
  return {
      {"data.validation_fraction", c.data.validation_fraction, 0, 0.999, "at least 0 and below 1"},
      {"train.steps", double(t.steps), 0, most, "0 or more"},
      {"train.batch_size", double(t.batch_size), 1, 1e6, "from 1 to 1000000"},
      {"train.segments", double(t.segments), 1, 1e6, "from 1 to 1000000"},
      {"train.jump_every", double(t.jump_every), 0, most, "0 (never) or more"},
      {"train.seed", double(t.seed), 0, most, "0 or more"},
      {"train.clip_grad_norm", t.clip_grad_norm, 0, large, "0 (no clipping) or more"},
      {"train.xl_memories_dropout", t.xl_memories_dropout, 0, 1, "from 0 to 1"},
      {"train.state_dropout", t.state_dropout, 0, 1, "from 0 to 1"},
      {"train.checkpoint_every", double(t.checkpoint_every), 0, most, "0 (at the end) or more"},
      {"train.keep_checkpoints", double(t.keep_checkpoints), 0, most, "0 (all) or more"},
      {"train.validate_every", double(t.validate_every), 0, most, "0 (at the end) or more"},
      {"train.validation_segments", double(t.validation_segments), 0, 1e9, "from 0 (all) to 1000000000"},
      {"optimizer.learning_rate", o.learning_rate, 0, large, "0 or more"},
      {"optimizer.beta1", o.beta1, 0, below_one, "at least 0 and below 1"},
      {"optimizer.beta2", o.beta2, 0, below_one, "at least 0 and below 1"},
      {"optimizer.eps", o.eps, kSmallestEps, large, "1e-30 or more"},
      {"optimizer.weight_decay", o.weight_decay, 0, large, "0 or more"},
      {"runtime.threads", double(c.runtime.threads), 0, 1024, "from 0 (what the machine gives) to 1024"},
      {"runtime.micro_batch_size", double(c.runtime.micro_batch_size), 0, 1e6, "from 0 (as is fastest) to 1000000"},
  };
}

void check_path(const char* key, const std::string& path) {
  check(first_not_utf8(path) < 0, key, ": the path ", in_quotes(path),
        " is not UTF-8, as a run's configuration must be; rename it, or make a link to it");
}

}  // namespace

RunConfig::RunConfig() {
  model.dim_head = 32;
  model.heads = 4;
  model.max_seq_len = 256;
  model.block_width = 128;
  model.recurrent_layers = std::vector<int64_t>{3};
}

RunConfig named_size(const std::string& size) {
  struct Size {
    const char* name;
    int64_t dim, depth, dim_head, heads, max_seq_len, block_width, recurrent_layer, batch_size;
  };
  constexpr Size sizes[] = {{"readme", 512, 6, 64, 8, 1024, 512, 4, 1},
                            {"small", 128, 4, 32, 4, 256, 128, 3, 8},
                            {"tiny", 64, 2, 16, 4, 64, 32, 2, 4}};
  for (const Size& s : sizes) {
    if (size != s.name) continue;
    RunConfig config;
    BlockRecurrentConfig& m = config.model;
    m.dim = s.dim, m.depth = s.depth, m.dim_head = s.dim_head, m.heads = s.heads;
    m.max_seq_len = s.max_seq_len, m.block_width = s.block_width, m.num_state_vectors = s.block_width;
    m.recurrent_layers = std::vector<int64_t>{s.recurrent_layer};
    config.train.batch_size = s.batch_size;
    return config;
  }
  fail("no size is called ", size, "; there are readme, small and tiny");
}

std::string to_toml(const RunConfig& config) {
  RunConfig resolved = config;
  resolved.model.num_state_vectors = config.model.n_state_vectors();
  resolved.model.recurrent_layers = config.model.recurrent();
  std::string text, section;
  for (const ConfigKey& key : config_keys(resolved)) {
    if (key.section != section) text += (section.empty() ? "[" : "\n[") + key.section + "]\n";
    section = key.section;
    text += key.name + " = " + value_text(key.place) + "\n";
  }
  return text;
}

Schedule schedule_of(const RunConfig& config) {
  Schedule schedule = config.schedule;
  if (schedule.shape != "constant" && schedule.decay_steps == 0) schedule.decay_steps = config.train.steps;
  return schedule;
}

void RunConfig::validate() const {
  model.validate();
  for (const std::string& path : data.files) check_path("data.files", path);
  check_path("data.vocabulary", data.vocabulary);
  for (const Range& r : ranges(*this))
    check(r.value >= r.low && r.value <= r.high, r.key, " must be ", r.words, ", not ", r.value);
  check(train.order == "random" || train.order == "document", "train.order must be \"random\" or \"document\", not \"",
        train.order, "\"");
  check(train.dtype == "f32" || train.dtype == "bf16", "train.dtype must be \"f32\" or \"bf16\", not \"", train.dtype,
        "\"");
  check(optimizer_name == "adam" || optimizer_name == "adamw", "optimizer.name must be \"adam\" or \"adamw\", not \"",
        optimizer_name, "\"");
  check(optimizer_name == "adamw" || optimizer.weight_decay == 0,
        "optimizer.weight_decay belongs to AdamW: set optimizer.name = \"adamw\" too");
  Schedule whole = schedule_of(*this);
  if (schedule.shape != "constant" && schedule.decay_steps == 0) {  // it ends with the run, which may have no steps yet
    check(train.steps == 0 || train.steps > schedule.warmup_steps, "train.steps = ", train.steps,
          " leaves nothing to descend over after schedule.warmup_steps = ", schedule.warmup_steps);
    whole.decay_steps = schedule.warmup_steps + 1;
  }
  whole.validate();
  check(runtime.device == "cpu" || runtime.device == "cuda", "runtime.device must be \"cpu\" or \"cuda\", not \"",
        runtime.device, "\"");
}

}  // namespace rondo
