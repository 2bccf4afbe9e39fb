// What a run tells: metrics.jsonl, TensorBoard's file, loss.svg and the terminal.
#pragma once
#include <string>

#include "apps/config.h"
#include "apps/curve.h"
#include "apps/events.h"
#include "apps/metrics.h"
#include "apps/progress.h"

namespace rondo {

class Journal {
 public:
  // In the directory of a run that goes on after `step`.
  Journal(const std::string& run, int64_t step, const TrainConfig& config);

  void add(const StepRecord& record);
  void add(int64_t step, const Evaluation& validation);
  void line(const std::string& text) { progress_.line(text); }
  // The numbers so far are durable on return.
  void sync() { metrics_.sync(), events_.sync(); }
  // loss.svg. Where it cannot be written, that is said, and no reason to stop.
  void draw();

 private:
  std::string run_;
  Metrics metrics_;
  EventFile events_;
  LossCurve curve_;
  Progress progress_;
};

}  // namespace rondo
