#include "apps/training.h"

#include <cmath>
#include <filesystem>
#include <numbers>
#include <optional>
#include <sstream>

#include "apps/checkpoint.h"
#include "apps/clock.h"
#include "apps/evaluate.h"
#include "apps/interrupt.h"
#include "apps/journal.h"
#include "apps/progress.h"
#include "apps/streams.h"
#include "apps/team.h"
#include "models/block_recurrent/precision.h"
#include "models/block_recurrent/training_step.h"
#include "nn/file.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

namespace fs = std::filesystem;

BlockRecurrentTransformer fresh_model(const RunConfig& config) {
  Generator g{uint64_t(config.train.seed), stream::init, 0};
  BlockRecurrentTransformer model(config.model, g);
  const Device device = device_of(config.runtime.device);
  model.to(device);
  if (config.train.dtype != "bf16") return model;
  const std::string why = why_no_bf16(device);
  if (why.empty())
    compute_in(model, DType::bf16);
  else
    Progress(0, 0).line("train.dtype is bf16, but " + why + ": computing in f32 instead");
  return model;
}

OptimizerConfig optimizer_config(const RunConfig& config) {
  OptimizerConfig optimizer = config.optimizer;
  optimizer.clip_grad_norm = config.train.clip_grad_norm;
  return optimizer;
}

RecurrentTrainer trainer_of(const RunConfig& config, const BlockRecurrentTransformer& model) {
  const TrainConfig& c = config.train;
  return {model, c.xl_memories_dropout, c.state_dropout, {c.check_finite}};
}

class Training {
 public:
  Training(const TrainingOptions& options, const Tokenizer& tokenizer, Corpus corpus, Team& team);
  void run();

 private:
  void restore(const std::string& checkpoint);
  void say_start() const;
  std::optional<Journal> begin();  // rank 0's
  StepRecord step();
  void validate(Journal& journal);
  void save(std::optional<Journal>& journal);
  bool due(int64_t every) const { return state_.step == config_.train.steps || (every && state_.step % every == 0); }

  const RunConfig config_;
  const std::string out_;
  std::optional<DirectoryLock> lock_;  // of `out`
  Team& team_;
  const Tokenizer& tokenizer_;
  const Corpus corpus_;
  Batches batches_;
  BlockRecurrentTransformer model_;
  Adam optimizer_;
  TrainingStep training_step_;
  RunState state_;
  const double bytes_per_token_;
  std::string saved_;        // the last whole checkpoint
  int64_t saved_step_ = -1;  // and its step
};

Training::Training(const TrainingOptions& options, const Tokenizer& tokenizer, Corpus corpus, Team& team)
    : config_(options.config),
      out_(options.out),
      team_(team),
      tokenizer_(tokenizer),
      corpus_(std::move(corpus)),
      batches_(corpus_.train, config_),
      model_(fresh_model(config_)),
      optimizer_(parameters(model_), optimizer_config(config_)),
      training_step_(trainer_of(config_, model_), optimizer_, config_.runtime.graphs, team.ranks(),
                     config_.runtime.micro_batch_size),
      bytes_per_token_(double(corpus_.train.bytes()) / double(corpus_.train.size())),
      saved_(options.checkpoint) {
  state_.dropout = {uint64_t(config_.train.seed), stream::dropout, 0};
  state_.text = corpus_.fingerprint;
  if (!saved_.empty()) restore(saved_);
}

void Training::restore(const std::string& checkpoint) {
  RunState state = read_checkpoint_info(checkpoint).state;
  check(state.text == state_.text, "the text is not the one this run was started on: it had ", state.text.bytes,
        " bytes, this one has ", state_.text.bytes, state.text.bytes == state_.text.bytes ? " others; " : "; ",
        "resume with the same --data");
  load_checkpoint(checkpoint, config_, model_, optimizer_, state);
  state.carried = team_.share(state.carried);
  batches_.go_on_from(state.batches, checkpoint);
  state_ = std::move(state);
  saved_step_ = state_.step;
}

void Training::say_start() const {
  int64_t n = 0;
  for (const NamedTensor& p : optimizer_.parameters()) n += p.tensor.numel();
  std::ostringstream text;
  text << n << " parameters, " << num_threads() << (num_threads() == 1 ? " thread, " : " threads, ")
       << corpus_.train.bytes() << " bytes to train on, " << corpus_.validation.bytes() << " to validate on";
  if (!corpus_.train.in_bytes()) text << " (" << bytes_per_token_ << " bytes a token)";
  if (team_.size() > 1) text << "; " << team_.size() << " ranks";
  if (state_.step > 0) text << "; going on after step " << state_.step;
  const Schedule& schedule = config_.schedule;
  if (schedule.shape != "constant" && state_.step >= schedule.decay_steps)
    text << "; the learning rate stays at " << schedule.final_share * config_.optimizer.learning_rate
         << ", its descent ended at step " << schedule.decay_steps;
  Progress(0, 0).line(text.str());
}

StepRecord Training::step() {
  const auto start = Clock::now();
  const auto [tokens, continues] = batches_.next(state_.step);
  const auto [inputs, labels] = inputs_and_labels(team_.share(tokens));
  if (!continues) state_.carried = {};
  const double learning_rate = config_.optimizer.learning_rate * config_.schedule.share(state_.step + 1);
  if (learning_rate != optimizer_.learning_rate()) optimizer_.set_learning_rate(learning_rate);
  TrainingStep::Result result = training_step_(inputs, labels, state_.carried, state_.dropout);
  const double loss = result.loss(), norm = result.norm.item();
  const std::string kept = saved_.empty() ? "no checkpoint yet" : "the last checkpoint is " + saved_;
  check(std::isfinite(loss) && std::isfinite(norm), "training diverged: the ",
        std::isfinite(loss) ? "gradient's norm" : "loss", " is not finite at step ", state_.step + 1, " (", kept,
        "); try a lower optimizer.learning_rate, or train.check_finite = true to find the op");
  if (config_.train.order == "document") state_.carried = std::move(result.carried);
  ++state_.step;
  const double rate = double(team_.size() * inputs.numel()) / seconds_since(start);
  return {.step = state_.step,
          .loss = loss,
          .bits_per_byte = loss / bytes_per_token_ / std::numbers::ln2,
          .learning_rate = learning_rate,
          .grad_norm = norm,
          .tokens_per_s = rate,
          .flops_per_s = rate * config_.model.training_flops_per_token()};
}

void Training::validate(Journal& journal) {
  if (corpus_.validation.size() == 0) return;
  const Evaluation e = evaluate(model_, corpus_.validation,
                                {.max_tokens = config_.train.validation_segments * config_.model.max_seq_len});
  check(std::isfinite(e.nats), "training diverged: the validation loss is not finite at step ", state_.step);
  journal.add(state_.step, e);
}

void Training::save(std::optional<Journal>& journal) {
  RunState whole = state_;
  whole.carried = team_.gather(state_.carried);
  whole.batches = batches_.state();
  if (!journal) {  // rank 0 writes it
    saved_step_ = state_.step;
    return;
  }
  journal->sync();
  try {
    saved_ = save_checkpoint(out_, config_, whole, model_, optimizer_, tokenizer_);
    saved_step_ = state_.step;
  } catch (const Error& e) {
    fail(e.what(), saved_.empty() ? " (no checkpoint yet)" : " (the last checkpoint is " + saved_ + ")");
  }
  journal->draw();
}

std::optional<Journal> Training::begin() {
  if (!team_.first()) return std::nullopt;
  std::error_code error;
  fs::create_directories(out_, error);
  check(!error, "cannot create ", out_, ": ", error.message());
  lock_.emplace(out_);
  check(latest_checkpoint(out_) == saved_, out_, ": another process has trained there meanwhile; start this one again");
  write_file(fs::path(out_) / "config.toml", to_toml(config_));
  say_start();
  return std::optional<Journal>(std::in_place, out_, state_.step, config_.train);
}

void Training::run() {
  if (saved_step_ >= config_.train.steps) {
    if (team_.first())
      Progress(0, 0).line("nothing to do: " + saved_ + " is at the last step; a larger --steps goes on from there");
    return;
  }
  std::optional<Journal> journal = begin();
  const Interrupt interrupt;
  const auto start = Clock::now();
  while (state_.step < config_.train.steps && !team_.any(interrupt.requested())) {
    StepRecord record = step();
    record.seconds = seconds_since(start);
    if (journal) journal->add(record);
    if (journal && due(config_.train.validate_every)) validate(*journal);
    if (due(config_.train.checkpoint_every)) save(journal);
  }
  if (saved_step_ != state_.step) save(journal);
  if (!journal) return;
  const bool stopped = state_.step < config_.train.steps;
  journal->line((stopped ? "stopped after step " : "done: step ") + std::to_string(state_.step) + " of " +
                std::to_string(config_.train.steps) + ", saved in " + saved_);
  if (stopped) journal->line("go on with: rondo train --out " + out_ + " --resume");
}

}  // namespace

void train(const TrainingOptions& options) {
  const Tokenizer tokenizer = tokenizer_of(options.config, options.checkpoint);
  Corpus corpus = read_corpus(options.config, tokenizer);
  Team team(options.config, corpus.fingerprint,
            options.checkpoint.empty() ? 0 : read_checkpoint_info(options.checkpoint).state.step);
  try {
    Training(options, tokenizer, std::move(corpus), team).run();
  } catch (const std::exception& e) {
    team.give_up(e.what());
    throw;
  }
  team.finish();
}

}  // namespace rondo
