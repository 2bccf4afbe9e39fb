// rondo train: defaults < TOML file < flags; a new run, or one that goes on.
#include <filesystem>

#include "apps/checkpoint.h"
#include "apps/commands.h"
#include "apps/config_keys.h"
#include "apps/training.h"
#include "apps/usage.h"
#include "nn/file.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string config, out, device, dtype;
  std::vector<std::string> files, settings;
  int64_t steps = -1, threads = -1;
  bool resume = false;
};

void apply_flags(const Options& options, RunConfig& config) {
  if (!options.config.empty()) apply_toml(config, read_file(options.config), options.config);
  for (const std::string& setting : options.settings) apply_setting(config, setting);
  if (!options.files.empty()) config.data.files = options.files;
  if (options.steps >= 0) config.train.steps = options.steps;
  if (options.threads >= 0) config.runtime.threads = options.threads;
  if (!options.dtype.empty()) config.train.dtype = options.dtype;
  if (!options.device.empty()) config.runtime.device = options.device;
  check(!config.data.files.empty(), "nothing to train on: give --data FILE");
  for (std::string& file : config.data.files)
    file = fs::absolute(file).lexically_normal();  // a run can be used anywhere
  if (std::string& file = config.data.vocabulary; !file.empty()) file = fs::absolute(file).lexically_normal();
  config.validate();
}

// Everything must be as it was, but for more steps, where the same text lies, what it runs on, and what changes no
// number: when checkpoints are saved, and whether each op's result is looked at.
void check_same(RunConfig now, RunConfig before, const std::string& out) {
  check(now.train.steps >= before.train.steps, "train.steps = ", now.train.steps, " is less than the ",
        before.train.steps, " of the run in ", out);
  now.train.steps = before.train.steps;
  now.train.checkpoint_every = before.train.checkpoint_every;
  now.train.keep_checkpoints = before.train.keep_checkpoints;
  now.train.check_finite = before.train.check_finite;
  now.runtime = before.runtime;
  now.data.files = before.data.files;
  const std::vector<ConfigKey> a = config_keys(now), b = config_keys(before);
  for (size_t i = 0; i < a.size(); ++i) {
    const std::string value = value_text(a[i].place), old = value_text(b[i].place);
    check(value == old, a[i].section, ".", a[i].name, " = ", value, " differs from the run in ", out, ", which has ",
          old, "; leave it out, or start a new run in another --out");
  }
}

TrainingOptions new_run(const Options& options) {
  std::error_code ignored;
  const bool taken = fs::exists(options.out) && (!fs::is_directory(options.out) || !fs::is_empty(options.out, ignored));
  if (taken)
    throw UsageError(options.out + ": there is something already; continue it with --resume, or choose another --out");
  return {{}, options.out, ""};
}

TrainingOptions resumed_run(const Options& options) {
  const std::string file = fs::path(options.out) / "config.toml";
  if (!fs::exists(file))
    throw UsageError(options.out + ": no run to resume (no config.toml); start it without --resume");
  TrainingOptions training{{}, options.out, latest_checkpoint(options.out)};
  if (training.checkpoint.empty())
    apply_toml(training.config, read_file(file), file);
  else
    training.config = read_checkpoint_info(training.checkpoint).config;
  return training;
}

void run(const Options& options) {
  TrainingOptions training = options.resume ? resumed_run(options) : new_run(options);
  const RunConfig before = training.config;
  as_usage([&] {
    apply_flags(options, training.config);
    if (options.resume) {
      int64_t& end = training.config.schedule.decay_steps;
      if (end == 0) end = before.schedule.decay_steps;
      check_same(training.config, before, options.out);
    }
  });
  training.config.schedule = schedule_of(training.config);
  if (training.config.runtime.threads > 0) set_num_threads(int(training.config.runtime.threads));
  allow_tf32(training.config.runtime.tf32);
  train(training);
}

}  // namespace

void add_train(CLI::App& program) {
  Command command(program, "train", "Train a model on text files");
  Options& options = command.run<Options>(run);
  command.text("CONFIG.toml", options.config,
               "Configuration ([model] [data] [train] [optimizer] [schedule] [runtime])");
  command.texts("--data", options.files, "Text, plain or gzip; several files are read one after the other");
  command.required("--out", options.out, "The run's directory");
  command.flag("--resume", options.resume, "Go on from the run's last checkpoint, bit for bit");
  command.number("--steps", options.steps, "Steps in all");
  command.text("--dtype", options.dtype, "f32 or bf16: what is computed in (default: f32)", {"f32", "bf16"});
  command.text("--device", options.device, "cpu or cuda (default: cpu)", {"cpu", "cuda"});
  command.number("--threads", options.threads, "Threads; 0: what the machine gives", 0, 1024);
  command.repeated("--set", options.settings, "section.key=value, over the configuration file; may be repeated");
}

}  // namespace rondo
