// The numbers of metrics.jsonl as they come, for TensorBoard (`tensorboard --logdir RUNS`).
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/metrics.h"

namespace rondo {

class EventFile {
 public:
  // A new file "events.out.tfevents.*" in the directory. Its first event tells TensorBoard that what earlier files
  // there say of steps after `step` did not happen.
  EventFile(const std::string& directory, int64_t step);

  void add(const StepRecord& record);
  void add(int64_t step, const Evaluation& validation);
  void sync() { file_.sync(); }

 private:
  using Scalars = std::vector<std::pair<const char*, double>>;
  void add(int64_t step, const Scalars& scalars);
  void write(int64_t step, std::string_view what);  // `what`: an Event's fields beside its time and step
  FileAppender file_;
};

}  // namespace rondo
