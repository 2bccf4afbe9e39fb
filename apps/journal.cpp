#include "apps/journal.h"

#include <sstream>

#include "nn/file.h"

namespace rondo {

Journal::Journal(const std::string& run, int64_t step, const TrainConfig& config)
    : run_(run),
      metrics_(run + "/metrics.jsonl", step, config.validate_every),
      events_(run, step),
      curve_(read_file(run + "/metrics.jsonl")),
      progress_(step, config.steps) {}

void Journal::add(const StepRecord& record) {
  metrics_.add(record), events_.add(record), curve_.add(record), progress_.step(record);
}

void Journal::add(int64_t step, const Evaluation& validation) {
  metrics_.add(step, validation), events_.add(step, validation), curve_.add(step, validation);
  std::ostringstream text;
  text.precision(5);
  text << "step " << step << ": validation " << validation.bits_per_byte() << " bits/byte over " << validation.bytes
       << " bytes";
  progress_.line(text.str());
}

void Journal::draw() try {
  if (const std::string svg = curve_.svg(); !svg.empty()) write_file(run_ + "/loss.svg", svg);
} catch (const Error& e) {
  progress_.line(e.what());
}

}  // namespace rondo
