#include "nn/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tensor/check.h"

namespace rondo {

void Schedule::validate() const {
  check(shape == "constant" || shape == "linear" || shape == "cosine",
        "schedule.shape must be \"constant\", \"linear\" or \"cosine\", not \"", shape, "\"");
  check(warmup_steps >= 0, "schedule.warmup_steps must be 0 or more, not ", warmup_steps);
  check(decay_steps >= 0, "schedule.decay_steps must be 0 or more, not ", decay_steps);
  check(shape != "constant" || decay_steps == 0,
        "schedule.decay_steps belongs to a descent: set schedule.shape = \"linear\" or \"cosine\" too");
  check(shape == "constant" || decay_steps > warmup_steps, "schedule.decay_steps is ", decay_steps,
        ", but must be more than schedule.warmup_steps, ", warmup_steps);
  check(final_share >= 0 && final_share <= 1, "schedule.final_share must be from 0 to 1, not ", final_share);
}

double Schedule::share(int64_t step) const {
  validate();
  check(step >= 1, "schedule: step ", step, "; the first is 1");
  if (step < warmup_steps) return double(step) / double(warmup_steps);
  if (shape == "constant") return 1;
  const double way = std::min(1.0, double(step - warmup_steps) / double(decay_steps - warmup_steps));
  const double left = shape == "linear" ? 1 - way : (1 + std::cos(std::numbers::pi * way)) / 2;
  return final_share + (1 - final_share) * left;
}

}  // namespace rondo
