// The training loop over a run directory.
#pragma once
#include <string>

#include "apps/config.h"

namespace rondo {

struct TrainingOptions {
  RunConfig config;        // resolved and valid
  std::string out;         // the run directory
  std::string checkpoint;  // where to go on from; empty: from the beginning
};

// Trains to config.train.steps, or until a signal asks to stop; then the run is saved. Throws Error when it cannot go
// on.
void train(const TrainingOptions& options);

}  // namespace rondo
