// The learning rate along a run: up in a straight line (warmup), then constant, or down in a line or half a cosine.
#pragma once
#include <cstdint>
#include <string>

namespace rondo {

// Before each step:  adam.set_learning_rate(highest * schedule.share(step)).
struct Schedule {
  std::string shape = "constant";  // or "linear", "cosine" (Loshchilov & Hutter 2017, one descent)
  int64_t warmup_steps = 0;        // step s of so many takes the share s / warmup_steps
  int64_t decay_steps = 0;         // a descent needs its end: this step, and all after it, take final_share
  double final_share = 0.1;        // from 0 to 1

  // What step 1, 2, ... takes of the highest rate. Throws where validate() does.
  double share(int64_t step) const;
  // Throws Error with one line: an unknown shape, a descent that would end before it begins.
  void validate() const;
};

}  // namespace rondo
