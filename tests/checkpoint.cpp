// Runs that are stopped and resumed: everything equals an uninterrupted run, to the bit.
#include "apps/checkpoint.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <numbers>
#include <sstream>

#include "tests/program.h"

namespace rondo::testing {
namespace {

// Both runs wrote the same last checkpoint and metrics.
void check_same_runs(const Workplace& work, const std::string& a, const std::string& b, const std::string& step) {
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "carried.safetensors", "run.json"}) {
    const std::string left = work.checkpoint(a, step) + "/" + file, right = work.checkpoint(b, step) + "/" + file;
    REQUIRE_MESSAGE(std::filesystem::exists(left) == std::filesystem::exists(right), file);
    if (std::filesystem::exists(left)) CHECK_MESSAGE(read_file(left) == read_file(right), file);
  }
  CHECK(metrics_of(work / a) == metrics_of(work / b));
  for (const char* file : {"/config.toml", "/loss.svg"})
    CHECK_MESSAGE(read_file(work / (a + file)) == read_file(work / (b + file)), file);
}

std::string generated(const Workplace& work, const std::string& run) {
  const Outcome o = run_program({"generate", work / run, "--prompt", "the ", "--length", "100", "--seed", "3"});
  CHECK(o.code == 0);
  return o.out;
}

const Arguments kDropout{"--set", "train.xl_memories_dropout=0.3", "--set", "train.state_dropout=0.3",
                         "--set", "train.validate_every=4"};
const Arguments kDocument{"--set", "train.order=document", "--set", "train.jump_every=3"};
const Arguments kCosine{"--set", "schedule.shape=cosine",  "--set", "schedule.warmup_steps=2",
                        "--set", "schedule.final_share=0", "--set", "optimizer.learning_rate=0.004"};

// What metrics.jsonl has as the learning rate of each step.
std::vector<double> learning_rates(const std::string& run) {
  std::istringstream lines(metrics_of(run));
  std::vector<double> rates;
  for (std::string line; std::getline(lines, line);)
    if (const size_t at = line.find("\"learning_rate\":"); at != line.npos)
      rates.push_back(std::stod(line.substr(at + 16)));
  return rates;
}

}  // namespace

TEST_CASE("a run stopped at any step and resumed equals an uninterrupted one") {
  for (const Arguments& order : {Arguments{}, kDocument}) {
    const Workplace work;
    const Arguments options = kDropout + order + kCosine + Arguments{"--set", "schedule.decay_steps=7"};
    REQUIRE(run_program(work.train("whole", 8, options)).code == 0);
    for (int stop : {0, 1, 3, 4, 5}) {
      const std::string run = "stopped" + std::to_string(stop);
      REQUIRE(run_program(work.train(run, stop, options)).code == 0);
      const Outcome resumed = run_program(work.resume(run, 8));
      REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
      check_same_runs(work, run, "whole", "00000008");
    }
    CHECK(generated(work, "stopped3") == generated(work, "whole"));
  }
}

TEST_CASE("a descent of the learning rate ends with the run, and stays where it ended when the run goes on") {
  const Workplace work;
  REQUIRE(run_program(work.train("run", 6, kCosine)).code == 0);
  std::vector<double> expected{0.002, 0.004};
  for (const double way : {0.25, 0.5, 0.75, 1.0})
    expected.push_back(0.004 * (1 + std::cos(std::numbers::pi * way)) / 2);
  CHECK(learning_rates(work / "run") == expected);
  write_file(work / "c.toml", "[schedule]\ndecay_steps = 0\n");
  const Outcome resumed = run_program(work.resume("run", 8, Arguments{work / "c.toml"} + kCosine));
  REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
  CHECK(resumed.out.find("; the learning rate stays at 0, its descent ended at step 6\n") != std::string::npos);
  expected.resize(8, 0);
  CHECK(learning_rates(work / "run") == expected);
  int events = 0;
  for (const auto& file : std::filesystem::directory_iterator(work / "run"))
    events += file.path().filename().string().starts_with("events.out.tfevents.");
  CHECK(events == 2);  // one for each time it ran
  CHECK(complaint(work.resume("run", 9, {"--set", "schedule.decay_steps=9"})) ==
        "2 rondo: schedule.decay_steps = 9 differs from the run in " + (work / "run") +
            ", which has 6; leave it out, or start a new run in another --out\n");
}

TEST_CASE("a run of no steps has a schedule all the same") {
  const Workplace work;
  REQUIRE(run_program(work.train("run", 0, kCosine)).code == 0);
  REQUIRE(run_program(work.resume("run", 6)).code == 0);
  CHECK(learning_rates(work / "run").size() == 6);
  CHECK(learning_rates(work / "run")[5] == 0);
}

TEST_CASE("a picture that cannot be written stops no run") {
  const Workplace work;
  REQUIRE(run_program(work.train("run", 2)).code == 0);
  std::filesystem::remove(work / "run/loss.svg");
  std::filesystem::create_directory(work / "run/loss.svg");
  const Outcome o = run_program(work.resume("run", 4));
  CHECK(o.code == 0);
  CHECK(o.out.find("cannot write " + (work / "run/loss.svg") + ": Is a directory\ndone: step 4 of 4") !=
        std::string::npos);
}

TEST_CASE("a run has the same bits with one thread and with two, stopped or not") {
  const Workplace work;
  const Arguments one{"--threads", "1"}, two{"--threads", "2"}, options = kDropout + kDocument;
  REQUIRE(run_program(work.train("one", 6, options + one)).code == 0);
  REQUIRE(run_program(work.train("mixed", 3, options + two)).code == 0);
  REQUIRE(run_program(work.resume("mixed", 6, one)).code == 0);
  check_same_runs(work, "one", "mixed", "00000006");
  const auto text = [&](const char* threads) {
    return run_program({"generate", work / "one", "--length", "60", "--seed", "1", "--threads", threads}).out;
  };
  CHECK(text("1") == text("2"));
}

TEST_CASE("SIGINT and SIGTERM save the run and say how to resume it") {
  const Workplace work;
  REQUIRE(run_program(work.train("whole", 300, {"--threads", "1"})).code == 0);
  for (int signal : {SIGINT, SIGTERM}) {
    const std::string run = "stopped" + std::to_string(signal), out = work / run;
    const Process process(work.train(run, 300, {"--threads", "1"}));
    REQUIRE(wait_for_steps(out, 3));
    process.send(signal);
    const Outcome stopped = process.wait();
    CHECK(stopped.code == 0);
    const std::string saved = latest_checkpoint(out), step = std::to_string(std::stoi(saved.substr(saved.size() - 8)));
    const std::string expected = "stopped after step " + step + " of 300, saved in " + saved +
                                 "\ngo on with: rondo train --out " + out + " --resume\n";
    CHECK(stopped.out.substr(stopped.out.size() - std::min(stopped.out.size(), expected.size())) == expected);
    REQUIRE(run_program({"train", "--out", out, "--resume"}).code == 0);
    check_same_runs(work, run, "whole", "00000300");
  }
}

TEST_CASE("a run that is killed goes on from its last whole checkpoint") {
  const Workplace work;
  const Arguments often{"--set", "train.checkpoint_every=1", "--threads", "1"};
  REQUIRE(run_program(work.train("whole", 60, often)).code == 0);
  Arguments start = work.train("killed", 60, often);
  for (int steps : {3, 8, 20}) {
    const Process process(start);
    REQUIRE(wait_for_steps(work / "killed", steps));
    process.send(SIGKILL);
    CHECK(process.wait().code == 1000 + SIGKILL);
    start = work.resume("killed", 60);
  }
  std::filesystem::create_directory(work / "killed/checkpoints/.step-00000001.part");  // killed while it saved
  write_file(work / "killed/checkpoints/.step-00000001.part/model.safetensors", "torn");
  REQUIRE(run_program(work.resume("killed", 60)).code == 0);
  CHECK(!std::filesystem::exists(work / "killed/checkpoints/.step-00000001.part"));
  check_same_runs(work, "killed", "whole", "00000060");
}

TEST_CASE("one process at a time trains in a run") {
  const Workplace work;
  const std::string busy = work / "run", line = "1 rondo: " + busy;
  const Process first(work.train("run", 20000, {"--threads", "1"}));
  REQUIRE(wait_for_steps(busy, 3));
  CHECK(complaint({"train", "--out", busy, "--resume"}) ==
        line + ": another process is at work there; wait until it has ended\n");
  first.send(SIGINT);
  REQUIRE(first.wait().code == 0);
  // One that has read where to go on, and waits for its text while another goes on from there.
  REQUIRE(run_program(work.train("other", 2)).code == 0);
  const std::string pipe = work / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  const Process late(work.resume("other", 4, {"--data", pipe}));
  std::ofstream text(pipe);  // opens when the other side does
  REQUIRE(run_program(work.resume("other", 3)).code == 0);
  text << read_file(work.text) << std::flush;
  text.close();
  const Outcome o = late.wait();
  CHECK(std::to_string(o.code) + " " + o.err ==
        "1 rondo: " + (work / "other") + ": another process has trained there meanwhile; start this one again\n");
  CHECK(latest_checkpoint(work / "other") == work.checkpoint("other", "00000003"));
}

TEST_CASE("what changes no number may be another when a run goes on") {
  const Workplace work;
  REQUIRE(run_program(work.train("whole", 5)).code == 0);
  REQUIRE(run_program(work.train("run", 2)).code == 0);
  const Outcome o = run_program(work.resume(
      "run", 5,
      {"--set", "train.check_finite=true", "--set", "train.checkpoint_every=1", "--set", "train.keep_checkpoints=2"}));
  REQUIRE_MESSAGE(o.code == 0, o.err);
  for (const char* file : {"/model.safetensors", "/optimizer.safetensors"})
    CHECK(read_file(work.checkpoint("run", "00000005") + file) ==
          read_file(work.checkpoint("whole", "00000005") + file));
  CHECK(std::filesystem::exists(work.checkpoint("run", "00000004")));
  CHECK(!std::filesystem::exists(work.checkpoint("run", "00000003")));
}

TEST_CASE("a run that carries states does not go on without them") {
  const Workplace work;
  REQUIRE(run_program(work.train("run", 2, kDocument)).code == 0);
  const std::string carried = work.checkpoint("run", "00000002") + "/carried.safetensors";
  std::filesystem::remove(carried);
  CHECK(complaint(work.resume("run", 4)) == "1 rondo: cannot read " + carried + ": No such file or directory\n");
}

TEST_CASE("a run that was killed before its first checkpoint starts again") {
  const Workplace work;
  REQUIRE(run_program(work.train("run", 4)).code == 0);
  REQUIRE(run_program(work.train("whole", 4)).code == 0);
  std::filesystem::remove_all(work / "run/checkpoints");
  REQUIRE(run_program(work.resume("run", 4)).code == 0);
  check_same_runs(work, "run", "whole", "00000004");
}

TEST_CASE("the last checkpoints are kept") {
  const Workplace work;
  REQUIRE(run_program(work.train("run", 9, {"--set", "train.checkpoint_every=2", "--set", "train.keep_checkpoints=2"}))
              .code == 0);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(work / "run/checkpoints"))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"latest", "step-00000008", "step-00000009"});
  CHECK(read_file(work / "run/checkpoints/latest") == "step-00000009\n");
}

TEST_CASE("what somebody else keeps among the checkpoints stays") {
  const Workplace work;
  const auto train_on = [&](int steps) {
    return complaint(work.resume("run", steps, {"--set", "train.checkpoint_every=1"}));
  };
  REQUIRE(run_program(work.train("run", 2, {"--set", "train.keep_checkpoints=1"})).code == 0);
  const std::string checkpoints = work / "run/checkpoints/", converted = work.checkpoint("run", "00000004");
  std::filesystem::copy(work.checkpoint("run", "00000002"), checkpoints + "step-00000002-best");
  std::filesystem::copy(work.checkpoint("run", "00000002"), checkpoints + "step-2");
  write_file(checkpoints + "step-00000001", "notes");
  REQUIRE(run_program({"convert", work / "run", "--dtype", "int8", "--out", converted}).code == 0);
  CHECK(train_on(5) == "1 rondo: " + converted +
                           ": there is something already that is no checkpoint of a run; move it away (the last "
                           "checkpoint is " +
                           work.checkpoint("run", "00000003") + ")\n");
  std::filesystem::rename(converted, work / "int8");
  CHECK(train_on(5) == "0 ");
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoints))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"latest", "step-00000001", "step-00000002-best", "step-00000005", "step-2"});
}

TEST_CASE("a full disk while saving loses nothing") {
  const Workplace work;
  REQUIRE(run_program(work.train("whole", 6)).code == 0);
  REQUIRE(run_program(work.train("run", 3)).code == 0);
  const std::string before = read_file(work.checkpoint("run", "00000003") + "/model.safetensors");
  const int64_t limit = int64_t(before.size()) + 1000;  // the model fits, the optimizer does not
  CHECK(complaint(work.resume("run", 6), {.file_limit = limit}) ==
        "1 rondo: cannot write " + (work / "run/checkpoints/.step-00000006.part/optimizer.safetensors") +
            ": File too large (the last checkpoint is " + work.checkpoint("run", "00000003") + ")\n");
  CHECK(read_file(work / "run/checkpoints/latest") == "step-00000003\n");
  CHECK(read_file(work.checkpoint("run", "00000003") + "/model.safetensors") == before);
  CHECK(!std::filesystem::exists(work / "run/checkpoints/.step-00000006.part"));
  REQUIRE(run_program(work.resume("run", 6)).code == 0);
  check_same_runs(work, "run", "whole", "00000006");
}

}  // namespace rondo::testing
