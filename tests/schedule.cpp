// The learning rate along a run.
#include "nn/schedule.h"

#include "tests/testing.h"

namespace rondo::testing {
namespace {

void check_shares(const Schedule& schedule, const std::vector<double>& expected) {
  for (size_t i = 0; i < expected.size(); ++i)
    CHECK_MESSAGE(std::abs(schedule.share(int64_t(i) + 1) - expected[i]) < 1e-15, schedule.shape, ", step ", i + 1);
}

}  // namespace

TEST_CASE("a schedule warms up in a line, then stays, or descends to its final share and stays there") {
  check_shares({}, {1, 1, 1});
  check_shares({.warmup_steps = 4, .final_share = 0.5}, {0.25, 0.5, 0.75, 1, 1, 1});
  check_shares({.warmup_steps = 1}, {1, 1});
  check_shares({.shape = "linear", .decay_steps = 4, .final_share = 0}, {0.75, 0.5, 0.25, 0, 0, 0});
  check_shares({.shape = "linear", .warmup_steps = 2, .decay_steps = 6, .final_share = 0.2},
               {0.5, 1, 0.8, 0.6, 0.4, 0.2, 0.2});
  const double s = std::sqrt(0.5);
  check_shares({.shape = "cosine", .decay_steps = 4, .final_share = 0}, {(1 + s) / 2, 0.5, (1 - s) / 2, 0, 0});
  check_shares({.shape = "cosine", .warmup_steps = 2, .decay_steps = 6, .final_share = 0.1},
               {0.5, 1, 0.1 + 0.9 * (1 + s) / 2, 0.55, 0.1 + 0.9 * (1 - s) / 2, 0.1, 0.1});
  CHECK(Schedule{.shape = "cosine", .decay_steps = 4}.share(int64_t(1) << 60) == 0.1);
}

TEST_CASE("a schedule that is none") {
  const auto error = [](const Schedule& schedule, int64_t step = 1) { return error_of([&] { schedule.share(step); }); };
  CHECK(error({.shape = "cosinus"}) ==
        "schedule.shape must be \"constant\", \"linear\" or \"cosine\", not \"cosinus\"");
  CHECK(error({.warmup_steps = -1}) == "schedule.warmup_steps must be 0 or more, not -1");
  CHECK(error({.decay_steps = -1}) == "schedule.decay_steps must be 0 or more, not -1");
  CHECK(error({.shape = "linear", .warmup_steps = 5, .decay_steps = 5}) ==
        "schedule.decay_steps is 5, but must be more than schedule.warmup_steps, 5");
  CHECK(error({.decay_steps = 10}) ==
        "schedule.decay_steps belongs to a descent: set schedule.shape = \"linear\" or \"cosine\" too");
  CHECK(error({.final_share = 1.5}) == "schedule.final_share must be from 0 to 1, not 1.5");
  CHECK(error({.final_share = NAN}) == "schedule.final_share must be from 0 to 1, not nan");
  CHECK(error({}, 0) == "schedule: step 0; the first is 1");
}

}  // namespace rondo::testing
