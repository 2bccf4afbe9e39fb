// metrics.jsonl: one line a step, one a validation. Equal runs write equal files, but for `tokens_per_s` and `seconds`.
#pragma once
#include <cstdint>
#include <string>

#include "apps/evaluate.h"
#include "nn/file.h"

namespace rondo {

struct StepRecord {
  int64_t step = 0;
  double loss = 0, bits_per_byte = 0;  // loss in nats per token
  double learning_rate = 0, grad_norm = 0;
  double tokens_per_s = 0, flops_per_s = 0;
  double seconds = 0;  // since this process began to train
};

class Metrics {
 public:
  // Appends to the file. What it says of steps after `step` is dropped first, and so are validations that are made only
  // at the end of a run (not every `validate_every` steps): a resumed run writes what an uninterrupted one would have.
  Metrics(const std::string& path, int64_t step, int64_t validate_every);

  void add(const StepRecord& record);
  void add(int64_t step, const Evaluation& validation);
  void sync() { file_.sync(); }

 private:
  FileAppender file_;
};

}  // namespace rondo
