// Training in several processes from outside: the program on the emulation, a process a rank.
#include <algorithm>
#include <sstream>

#include "apps/checkpoint.h"
#include "apps/run.h"
#include "nn/safetensors.h"
#include "tests/port.h"
#include "tests/program.h"

namespace rondo::testing {
namespace {

struct Together {
  std::vector<std::unique_ptr<Process>> processes = {};
  int port = free_port();

  void start(int rank, int size, const Arguments& arguments, Setting setting = {}) {
    setting.program = RONDO_EMULATED_PROGRAM;
    for (const std::string& v : {"RANK=" + std::to_string(rank), "WORLD_SIZE=" + std::to_string(size),
                                 "MASTER_PORT=" + std::to_string(port), std::string("RONDO_PATIENCE=30")})
      setting.environment.push_back(v);
    processes.push_back(std::make_unique<Process>(arguments, setting));
  }
  std::vector<Outcome> wait() const {
    std::vector<Outcome> all;
    for (const auto& p : processes) all.push_back(p->wait());
    return all;
  }
};
std::vector<Outcome> run_together(int size, const Arguments& arguments) {
  Together t;
  for (int r = size; r-- > 0;) t.start(r, size, arguments);  // those that come before rank 0 wait for it
  std::vector<Outcome> all = t.wait();
  std::reverse(all.begin(), all.end());
  return all;
}
// The same in one process, on the same device.
Outcome run_alone(const Arguments& arguments) {
  Setting setting;
  setting.program = RONDO_EMULATED_PROGRAM;
  return run_program(arguments, setting);
}

// What the last step of a training asks of a GPU (EMULATION_LIST), a line each; or what the program says.
std::vector<std::string> listed(const std::string& file) {
  Setting setting;
  setting.program = RONDO_EMULATED_PROGRAM;
  setting.environment = {"EMULATION_LIST=" + file};
  const Outcome o = run_program(
      {"bench", "train", "--size", "readme", "--batch", "1", "--dtype", "bf16", "--device", "cuda", "--steps", "1"},
      setting);
  if (o.code != 0) return {std::to_string(o.code) + " " + o.err};
  std::vector<std::string> lines;
  std::istringstream in(read_file(file));
  for (std::string line; std::getline(in, line);) line == "graph" ? lines.clear() : lines.push_back(line);
  return lines;
}

const Arguments kOnCuda = {"--device", "cuda", "--set", "train.batch_size=4", "--set", "data.validation_fraction=0"};
// Memories and states are carried from step to step, and dropped now and then.
const Arguments kDocument =
    kOnCuda + Arguments{"--set", "train.order=\"document\"",     "--set", "train.segments=2",
                        "--set", "train.jump_every=4",           "--set", "train.state_dropout=0.3",
                        "--set", "train.xl_memories_dropout=0.3"};

// The largest difference between numbers of two checkpoints' files, as a share of the largest number of each tensor.
double distance(const std::string& a, const std::string& b, const std::string& file) {
  const SafetensorsFile x = read_safetensors(a + "/" + file), y = read_safetensors(b + "/" + file);
  REQUIRE(x.tensors.size() == y.tensors.size());
  double most = 0;
  for (const auto& [name, t] : x.tensors) {
    const std::vector<double> u = values(t), v = values(y.tensors.at(name));
    REQUIRE(u.size() == v.size());
    double largest = 1e-6, difference = 0;
    for (size_t i = 0; i < u.size(); ++i)
      largest = std::max(largest, std::abs(u[i])), difference = std::max(difference, std::abs(u[i] - v[i]));
    most = std::max(most, difference / largest);
  }
  return most;
}

}  // namespace

TEST_CASE("cuda ranks: two train what one trains, and only rank 0 speaks") {
  const Workplace work;
  const Arguments more = kDocument + Arguments{"--set", "train.checkpoint_every=2"};
  REQUIRE(run_alone(work.train("one", 6, more)).code == 0);
  const std::vector<Outcome> two = run_together(2, work.train("two", 6, more));
  CHECK(two[0].code == 0);
  CHECK(two[0].err == "");
  CHECK(two[0].out.find("; 2 ranks\n") != std::string::npos);
  CHECK(two[0].out.find("done: step 6 of 6") != std::string::npos);
  CHECK(two[1].code == 0);
  CHECK(two[1].out + two[1].err == "");
  for (const char* step : {"00000002", "00000006"})
    for (const char* file : {"model.safetensors", "optimizer.safetensors", "carried.safetensors"})
      CHECK_MESSAGE(distance(work.checkpoint("one", step), work.checkpoint("two", step), file) < 2e-3, step, " ", file);
  // Nothing depends on which process came first.
  REQUIRE(run_together(2, work.train("again", 6, more))[0].code == 0);
  CHECK(metrics_of(work / "again") == metrics_of(work / "two"));
  CHECK(distance(work.checkpoint("two", "00000006"), work.checkpoint("again", "00000006"), "model.safetensors") == 0);
}

TEST_CASE("cuda ranks: a run goes on with another number of them, row by row") {
  const Workplace work;
  REQUIRE(run_alone(work.train("whole", 6, kDocument)).code == 0);
  const Arguments row_by_row = {"--set", "runtime.micro_batch_size=1"};
  REQUIRE(run_together(2, work.train("parts", 2, kDocument + row_by_row))[0].code == 0);
  REQUIRE(run_together(4, work.resume("parts", 4))[0].code == 0);
  REQUIRE(run_alone(work.resume("parts", 6)).code == 0);
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "carried.safetensors"})
    CHECK_MESSAGE(distance(work.checkpoint("whole", "00000006"), work.checkpoint("parts", "00000006"), file) < 2e-3,
                  file);
  CHECK(run_together(2, work.resume("parts", 6))[0].out.starts_with("nothing to do: "));
}

TEST_CASE("cuda ranks: a world of one trains alone, on the CPU too") {
  const Workplace work;
  for (const char* device : {"cpu", "cuda"}) {
    Together one;
    one.start(0, 1, work.train(device, 2, {"--device", device}));
    CHECK(one.wait()[0].code == 0);
    CHECK(load_model(work / device).step == 2);
  }
}

TEST_CASE("cuda ranks: one that is asked to stop stops all of them, at the same step") {
  const Workplace work;
  Together t;
  for (int r : {0, 1}) t.start(r, 2, work.train("run", 1000000, kOnCuda));
  REQUIRE(wait_for_steps(work / "run", 2));
  t.processes[1]->send(SIGTERM);
  const std::vector<Outcome> two = t.wait();
  CHECK(two[0].code == 0);
  CHECK(two[1].code == 0);
  CHECK(two[0].out.find("stopped after step " + std::to_string(load_model(work / "run").step) + " ") !=
        std::string::npos);
}

TEST_CASE("cuda ranks: when one is killed the others end, and the last checkpoint is whole") {
  for (const int killed : {0, 1}) {
    const Workplace work;
    Together t;
    for (int r : {0, 1, 2})
      t.start(r, 3,
              work.train("run", 1000000,
                         kOnCuda + Arguments{"--set", "train.batch_size=3", "--set", "train.checkpoint_every=1"}));
    REQUIRE(wait_for_steps(work / "run", 2));
    t.processes[size_t(killed)]->send(SIGKILL);
    const std::vector<Outcome> all = t.wait();
    for (int r : {0, 1, 2}) {
      if (r == killed) continue;
      CHECK(all[size_t(r)].code == 1);
      CHECK(all[size_t(r)].err ==
            "rondo: rank " + std::to_string(killed) +
                " is gone; training ends here, and goes on from the last checkpoint with --resume\n");
    }
    CHECK(load_model(work / "run").step >= 1);
  }
}

TEST_CASE("cuda ranks: the one that fails says why, at all of them") {
  const Workplace work;
  Together t;
  const Arguments arguments = work.train("run", 5, kOnCuda + Arguments{"--set", "train.checkpoint_every=1"});
  t.start(0, 2, arguments, {.file_limit = 20000});
  t.start(1, 2, arguments);
  const std::vector<Outcome> two = t.wait();
  CHECK(two[0].code == 1);
  CHECK(two[1].code == 1);
  const std::string why = two[0].err.substr(0, two[0].err.find('\n'));
  CHECK(why.starts_with("rondo: cannot write "));
  CHECK(two[1].err == "rondo: rank 0: " + why.substr(7) +
                          "; training ends here, and goes on from the last checkpoint with --resume\n");
}

TEST_CASE("cuda ranks: what they cannot train together") {
  const Workplace work;
  const auto error = [&](int size, const Arguments& more) {
    const std::vector<Outcome> all = run_together(size, work.train("run", 5, more));
    for (const Outcome& o : all) CHECK(o.code == 1);
    return all[0].err;
  };
  CHECK(error(3, kOnCuda) == "rondo: train.batch_size = 4 cannot be shared by 3 processes; make it a multiple of 3\n");
  CHECK(error(2, {}) ==
        "rondo: the environment asks for 2 processes that train together, which need a GPU each; use the device cuda, "
        "or unset WORLD_SIZE\n");
  CHECK(!std::filesystem::exists(work / "run"));

  write_file(work / "other.txt", sample_text(20000, 6));
  Together t;
  t.start(0, 2, work.train("run", 5, kOnCuda));
  Arguments other = work.train("run", 5, kOnCuda);
  std::replace(other.begin(), other.end(), work.text, work / "other.txt");
  t.start(1, 2, other);
  const std::vector<Outcome> two = t.wait();
  CHECK(two[0].code == 1);
  CHECK(two[0].err.starts_with("rondo: rank 1 is to work on something else than rank 0: step 0 on 20000 bytes ("));
  CHECK(two[1].err.starts_with("rondo: rank 0: rank 1 is to work on something else than rank 0: "));
  CHECK(!std::filesystem::exists(work / "run"));
}

TEST_CASE("cuda runs: what a step asks of a GPU is listed, and copies of weights are one kernel of it") {
  const Temporary folder;
  const std::vector<std::string> lines = listed(folder / "list");
  const auto having = [&](const char* start) {
    return std::count_if(lines.begin(), lines.end(), [&](const std::string& line) { return line.starts_with(start); });
  };
  CHECK(having("kernel rounded.cu:") == 1);
  CHECK(having("kernel optimizer.cu:") > 0);
  CHECK(having("product ") > 100);
  CHECK(having("kernel ") + having("product ") == int64_t(lines.size()));
  CHECK(listed(folder / "none/list") ==
        std::vector<std::string>{"1 rondo: EMULATION_LIST: " + (folder / "none/list") + " cannot be written\n"});
}

}  // namespace rondo::testing
