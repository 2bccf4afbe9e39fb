// generate from outside: prompts, options and states that are wrong or contradict each other.
#include "apps/run.h"
#include "models/block_recurrent/decoder.h"
#include "tests/trained.h"

namespace rondo::testing {

TEST_CASE("generating from what is wrong or contradicts itself") {
  const TrainedWorkplace work;
  CHECK(work.complaint_of({"--prompt", "a", "--prompt-file", "b"}) ==
        "2 rondo: --prompt and --prompt-file both say what to continue; give one of them\n");
  CHECK(work.complaint_of({"--prompt", "a", "--prompts", "b"}) ==
        "2 rondo: --prompts is a file of prompts; leave --prompt and --prompt-file out\n");
  CHECK(work.complaint_of({"--prompts", "a", "--save-state", "b"}) ==
        "2 rondo: --prompts makes many texts, but --save-state keeps one; leave one of them out\n");
  CHECK(work.complaint_of({"--top-k", "3", "--filter-thres", "0.9"}) ==
        "2 rondo: --top-k and --filter-thres both say how many tokens to keep; give one of them\n");
  CHECK(work.complaint_of({"--filter-thres", "1"}) == "2 rondo: filter_thres must be at least 0 and below 1, not 1\n");
  CHECK(work.complaint_of({"--repetition-penalty", "0"}) ==
        "2 rondo: repetition-penalty must be from 0.001 to 1000 (1: none), not 0\n");
  CHECK(work.complaint_of({"--speculate", "16"}) ==
        "2 rondo: --speculate: 16 is not 0 to 15 (see rondo generate --help)\n");
  CHECK(complaint({"generate", work / "none"}) == "1 rondo: " + (work / "none") + ": no such run or checkpoint\n");
  CHECK(work.complaint_of({"--prompt-file", work / "none"}) ==
        "1 rondo: cannot read " + (work / "none") + ": No such file or directory\n");
  write_file(work / "empty", "");
  CHECK(work.complaint_of({"--prompt-file", work / "empty"}) ==
        "1 rondo: " + (work / "empty") + " is empty; give it at least one byte\n");
  CHECK(work.complaint_of({"--prompts", work / "empty"}) ==
        "1 rondo: " + (work / "empty") + ": no prompts; write one a line\n");
  write_file(work / "gap", "one\n\nthree\n");
  CHECK(work.complaint_of({"--prompts", work / "gap", "--length", "1"}) ==
        "1 rondo: " + (work / "gap") + ":2: the prompt is empty; give it at least one byte\n");
  CHECK(work.complaint_of({"--prompts", work / "gap", "--length", "1", "--batch", "1"}) ==
        "1 seed 4\nrondo: " + (work / "gap") + ":2: the prompt is empty; give it at least one byte\n");
  CHECK(work.complaint_of({"--prompts", work / "none"}) ==
        "1 rondo: cannot read " + (work / "none") + ": No such file or directory\n");
  CHECK(work.complaint_of({"--prompts", work / ""}) == "1 rondo: cannot read " + (work / "") + ": Is a directory\n");
  CHECK(work.complaint_of({"--prompts", work / "gap", "--batch", "33"}) ==
        "2 rondo: --batch: 33 is not 1 to 32 (see rondo generate --help)\n");
  CHECK(work.complaint_of({"--batch", "4"}) ==
        "2 rondo: --batch says how many prompts of --prompts go together; give it with --prompts\n");
  CHECK(work.complaint_of({"--save-every", "4"}) ==
        "2 rondo: --save-every says how often to save; give --save-state, which says where\n");
  CHECK(work.complaint_of({"--state", work / "none"}) ==
        "1 rondo: cannot read " + (work / "none") + ": No such file or directory\n");
  CHECK(work.complaint_of({"--state", work.checkpoint("run", "00000060") + "/model.safetensors"}) ==
        "1 rondo: " + work.checkpoint("run", "00000060") +
            "/model.safetensors: not a decoding state (its metadata has no \"decoding_state\")\n");
  // What is there stays, unless it is a decoding state.
  const std::string weights = work.checkpoint("run", "00000060") + "/model.safetensors", model = read_file(weights);
  for (const std::string& file : {work.text, weights}) {
    const std::string before = read_file(file);
    CHECK(work.complaint_of({"--save-state", file}) ==
          "2 rondo: " + file + ": there is something already that is no decoding state; choose another --save-state\n");
    CHECK(read_file(file) == before);
  }
  write_file(work / "state", "");
  REQUIRE(work.generate({"--save-state", work / "state", "--length", "3"}).code == 0);
  REQUIRE(work.generate({"--save-state", work / "state", "--length", "3"}).code == 0);
  const int directory = open(work.directory.operator/("").c_str(), O_RDONLY);
  CHECK(complaint({"generate", work.run, "--prompt", "-"}, {.stdin_from = directory}) ==
        "1 rondo: cannot read stdin: Is a directory\n");
  close(directory);
  write_file(work / "cut", read_file(work / "state").substr(0, 1000));
  CHECK(work.complaint_of({"--state", work / "cut"}).starts_with("1 rondo: " + (work / "cut") + ": "));
  const LoadedModel loaded = load_model(work.run);
  Decoder(loaded.model, 2).save(work / "two");
  CHECK(work.complaint_of({"--state", work / "two"}) ==
        "1 rondo: " + (work / "two") + ": this decoding state has 2 rows, but one sequence goes on here\n");
  Decoder(loaded.model, 1).save(work / "new");
  CHECK(work.complaint_of({"--state", work / "new"}) ==
        "1 rondo: " + (work / "new") + ": nothing was fed to this decoding state yet; give --prompt\n");
  REQUIRE(run_program(work.train("other", 0, {"--set", "model.dim=24"})).code == 0);
  CHECK(complaint({"generate", work / "other", "--seed", "4", "--state", work / "state"}) ==
        "1 rondo: " + (work / "state") +
            ": this decoding state is of a model with dim 16, but the model has dim 24; give the model that it was "
            "saved with, or begin without it\n");
  CHECK(work.complaint_of({"--save-state", work / "none/state", "--length", "1"})
            .starts_with("1 rondo: cannot write " + (work / "none/state") + ": "));
}

}  // namespace rondo::testing
