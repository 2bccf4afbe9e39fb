// What happens when a device's memory is full: on the emulation, whose memory can be made small.
#include "apps/checkpoint.h"
#include "apps/training.h"
#include "nn/file.h"
#include "tensor/allocator.h"
#include "tests/cuda/limit.h"
#include "tests/temporary.h"
#include "tests/testing.h"

namespace rondo::testing {
TEST_CASE("out of memory: how much was asked for, is in use and free") {
  const int64_t before = memory_stats(Device::cuda).current_bytes;
  REQUIRE(before == 0);
  const Limit limit(1000);
  const Tensor held({100}, DType::f32, Device::cuda);
  CHECK(error_of([] { Tensor({200}, DType::f32, Device::cuda); }) ==
        "out of memory on cuda: 800 bytes were asked for; 400 are in use, 600 are free");
  CHECK(error_of([] { Tensor({150}, DType::f32, Device::cuda); }) == "(no error)");
}

TEST_CASE("out of memory: a run ends with one line, and goes on from its last checkpoint") {
  const Temporary folder;
  std::string text;
  for (int i = 0; i < 200; ++i) text += "the fox runs away; ";
  write_file(folder / "text.txt", text);
  RunConfig config = named_size("tiny");
  config.train.batch_size = 1, config.train.segments = 1, config.train.validate_every = 100;
  config.data.files = {folder / "text.txt"}, config.data.validation_fraction = 0;
  config.runtime.device = "cuda";
  const auto run = [&](const std::string& name, int64_t steps) {
    config.train.steps = steps;
    train({config, folder / name, latest_checkpoint(folder / name)});
  };
  run("run", 1);
  const std::string checkpoint = latest_checkpoint(folder / "run"), weights = checkpoint + "/model.safetensors";
  const std::string before = read_file(weights);
  {
    const Limit limit(4 * before.size());  // weights and moments fit in, a step does not
    const std::string error = error_of([&] { run("run", 2); });
    CHECK_MESSAGE(error.starts_with("out of memory on cuda: "), error);
    CHECK(error.find('\n') == error.npos);
  }
  CHECK(memory_stats(Device::cuda).current_bytes == 0);
  CHECK(latest_checkpoint(folder / "run") == checkpoint);
  CHECK(read_file(weights) == before);
  run("run", 2);
  run("whole", 2);
  CHECK(read_file(latest_checkpoint(folder / "run") + "/model.safetensors") ==
        read_file(latest_checkpoint(folder / "whole") + "/model.safetensors"));
}

}  // namespace rondo::testing
