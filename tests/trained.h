// A small trained run, and what `rondo generate` makes of it.
#pragma once
#include "tests/program.h"

namespace rondo::testing {

struct TrainedWorkplace : Workplace {
  std::string run = *this / "run";
  TrainedWorkplace() { REQUIRE(run_program(train("run", 60, {"--set", "optimizer.learning_rate=0.01"})).code == 0); }
  Outcome generate(const Arguments& more, const Setting& setting = {}) const {
    return run_program(Arguments{"generate", run, "--seed", "4"} + more, setting);
  }
  std::string complaint_of(const Arguments& more, const Setting& setting = {}) const {
    return complaint(Arguments{"generate", run, "--seed", "4"} + more, setting);
  }
};

}  // namespace rondo::testing
