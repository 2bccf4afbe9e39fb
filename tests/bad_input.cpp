// Whatever is wrong with the input: one line that says what, an exit code, and nothing lost.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "nn/safetensors.h"
#include "tests/program.h"

namespace rondo::testing {
namespace {

namespace fs = std::filesystem;

struct TrainedWorkplace : Workplace {
  std::string run = *this / "run", weights = checkpoint("run", "00000001") + "/model.safetensors";
  TrainedWorkplace() { REQUIRE(run_program(train("run", 1)).code == 0); }
};

}  // namespace

TEST_CASE("data that is missing, empty, too short or binary") {
  const Workplace work;
  const auto train_on = [&](const std::string& name, const std::string& contents, const Arguments& more = {}) {
    write_file(work / name, contents);
    return complaint(Arguments{"train", "--data", work / name, "--out", work / "run"} + tiny_model() + more);
  };
  CHECK(complaint({"train", "--data", work / "none.txt", "--out", work / "run"}) ==
        "1 rondo: cannot read " + (work / "none.txt") + ": No such file or directory\n");
  CHECK(complaint({"train", "--out", work / "run"}) == "2 rondo: nothing to train on: give --data FILE\n");
  CHECK(train_on("empty.txt", "") == "1 rondo: " + (work / "empty.txt") + ": the file is empty\n");
  CHECK(train_on("short.txt", sample_text(60)) ==
        "1 rondo: the text to train on has 57 bytes, but a step reads 65 in a row (train.segments 2 x "
        "model.max_seq_len 32 + 1)\n");
  CHECK(train_on("tight.txt", sample_text(70), {"--set", "data.validation_fraction=0.01"}) ==
        "1 rondo: the text to validate on has 1 byte, but predicting needs at least 2; give more text, or set "
        "data.validation_fraction = 0\n");
  CHECK(train_on("binary", sample_text(50) + std::string(1, '\0') + sample_text(500)) ==
        "1 rondo: " + (work / "binary") +
            ": binary data (a zero byte at offset 50), not text; data.binary = true, or --binary, allows it\n");
  CHECK(train_on("words.txt", sample_text(300) + "\xE2\x80\x94", {"--set", "model.num_tokens=128"}) ==
        "1 rondo: " + (work / "words.txt") +
            ": byte 226 at offset 300 is not in the model's vocabulary of 128 tokens (model.num_tokens)\n");
  CHECK(train_on("torn.gz", std::string("\x1f\x8b\x08\0\0\0\0\0\0\3", 10)) ==
        "1 rondo: " + (work / "torn.gz") + ": the gzip data ends too early\n");
  CHECK(train_on("caf\xe9.txt", sample_text(500)) ==
        "2 rondo: data.files: the path \"" + (work / "caf\xe9.txt") +
            "\" is not UTF-8, as a run's configuration must be; rename it, or make a link to it\n");
  CHECK(train_on("text.txt", sample_text(500), {"--set", "data.vocabulary=" + (work / "\xff.model")}) ==
        "2 rondo: data.vocabulary: the path \"" + (work / "\xff.model") +
            "\" is not UTF-8, as a run's configuration must be; rename it, or make a link to it\n");
  CHECK(!fs::exists(work / "run"));  // nothing was begun
}

TEST_CASE("evaluating bad data, prompting with bad text") {
  const TrainedWorkplace work;
  write_file(work / "one", "a");
  write_file(work / "binary", std::string("ab\0c", 4));
  CHECK(complaint({"eval", work.run, "--data", work / "none"}) ==
        "1 rondo: cannot read " + (work / "none") + ": No such file or directory\n");
  CHECK(complaint({"eval", work.run, "--data", work / "one"}) ==
        "1 rondo: the text to evaluate has 1 byte, but predicting needs at least 2\n");
  CHECK(complaint({"eval", work.run, "--data", work / "binary"}) ==
        "1 rondo: " + (work / "binary") +
            ": binary data (a zero byte at offset 2), not text; data.binary = true, or --binary, allows it\n");
  CHECK(complaint({"generate", work.run, "--prompt", ""}) ==
        "2 rondo: the prompt is empty; give it at least one byte\n");
  CHECK(complaint({"generate", work.run, "--top-p", "0"}) == "2 rondo: top-p must be above 0 and at most 1, not 0\n");
  write_file(work.text, sample_text(100));
  CHECK(complaint({"eval", work.run}) == "1 rondo: the text of this run has changed since; give --data FILE\n");

  REQUIRE(run_program(work.train("small", 0, {"--set", "model.num_tokens=123", "--set", "data.validation_fraction=0"}))
              .code == 0);
  CHECK(complaint({"generate", work / "small", "--prompt", "wiz{"}) ==
        "1 rondo: the prompt: byte 123 at offset 3 is not in the model's vocabulary of 123 tokens "
        "(model.num_tokens)\n");
  CHECK(complaint({"eval", work / "small"}) == "2 rondo: this run kept nothing to validate on: give --data FILE\n");
}

TEST_CASE("configurations that are wrong") {
  const Workplace work;
  const auto with = [&](const std::string& toml, const Arguments& more = {}) {
    write_file(work / "c.toml", toml);
    return complaint(Arguments{"train", work / "c.toml", "--data", work.text, "--out", work / "run"} + more);
  };
  const std::string file = work / "c.toml";
  CHECK(with("[train]\nbatch_sise = 3\n") ==
        "2 rondo: " + file + ":2: unknown key train.batch_sise; did you mean train.batch_size?\n");
  CHECK(with("[train]\nlearning_rate = 3\n") ==
        "2 rondo: " + file + ":2: unknown key train.learning_rate; did you mean optimizer.learning_rate?\n");
  CHECK(with("[trian]\nsteps = 3\n") ==
        "2 rondo: " + file +
            ":1: unknown section [trian]; the sections are [model], [data], [train], [optimizer], "
            "[schedule] and [runtime]\n");
  CHECK(with("steps = 3\n") ==
        "2 rondo: " + file +
            ":1: the key steps stands in no section; the sections are [model], [data], [train], [optimizer], "
            "[schedule] and [runtime]\n");
  CHECK(with("[train]\nsteps = \"many\"\n") ==
        "2 rondo: " + file + ":2: train.steps must be an integer, not a string\n");
  CHECK(with("[model]\nrecurrent_layers = [1, 2.5]\n") ==
        "2 rondo: " + file + ":2: model.recurrent_layers must be a list of integers, not this list\n");
  CHECK(with("[train\n").starts_with("2 rondo: " + file + ":1: "));
  CHECK(with("", {"--set", "train.steps"}) == "2 rondo: --set train.steps: write it as section.key=value\n");
  CHECK(with("", {"--set", "train.order=alphabetic"}) ==
        "2 rondo: train.order must be \"random\" or \"document\", not \"alphabetic\"\n");
  CHECK(with("", {"--set", "train.steps=1.5"}) ==
        "2 rondo: --set train.steps=1.5: train.steps must be an integer, not a number with a fraction\n");
  CHECK(with("[schedule]\nshape = \"cosine\"\nwarmup_steps = 20\n", {"--steps", "20"}) ==
        "2 rondo: train.steps = 20 leaves nothing to descend over after schedule.warmup_steps = 20\n");
  CHECK(with("[schedule]\nshape = \"cosine\"\nwarmup_steps = 20\ndecay_steps = 9\n") ==
        "2 rondo: schedule.decay_steps is 9, but must be more than schedule.warmup_steps, 20\n");
  for (const auto& [unknown, nearest] : {std::pair{"schedule.warmup", "schedule.warmup_steps"},
                                         {"schedule.decay", "schedule.decay_steps"},
                                         {"optimizer.decay", "optimizer.decay_all"},
                                         {"train.batch", "train.batch_size"},
                                         {"model.step", "train.steps"}})
    CHECK(with("", {"--set", std::string(unknown) + "=3"}) == "2 rondo: --set " + std::string(unknown) +
                                                                  "=3: unknown key " + unknown + "; did you mean " +
                                                                  nearest + "?\n");
  CHECK(with("[model]\nmax_seq_len = 100\n") ==
        "2 rondo: max_seq_len = 100, but it must be a multiple of block_width = 128\n");
  CHECK(with("[train]\nbatch_size = 0\n") == "2 rondo: train.batch_size must be from 1 to 1000000, not 0\n");
  CHECK(with("", {"--set", "optimizer.eps=0"}) == "2 rondo: optimizer.eps must be 1e-30 or more, not 0\n");
  CHECK(with("", {"--set", "model.ff_mult=2305843009213693953"}) ==
        "2 rondo: ff_mult = 2305843009213693953, but it must be at most 16777216\n");
  CHECK(with("", {"--set", "train.validation_segments=4611686018427387904"}) ==
        "2 rondo: train.validation_segments must be from 0 (all) to 1000000000, not 4.61169e+18\n");
  CHECK(with("[runtime]\nmicro_batch_size = -1\n") ==
        "2 rondo: runtime.micro_batch_size must be from 0 (as is fastest) to 1000000, not -1\n");
  CHECK(with("", {"--set", "runtime.device=gpu"}) ==
        "2 rondo: runtime.device must be \"cpu\" or \"cuda\", not \"gpu\"\n");
  CHECK(complaint({"train", work / "none.toml", "--data", work.text, "--out", work / "run"}) ==
        "2 rondo: cannot read " + (work / "none.toml") + ": No such file or directory\n");
  CHECK(!fs::exists(work / "run"));
}

TEST_CASE("a device that is not there") {
  const std::string why = why_unusable(Device::cuda);
  if (why.empty()) return skip("there is a GPU");
  const TrainedWorkplace work;
  const std::string line = "1 rondo: the device cuda cannot be used: " + why + "; use the device cpu\n";
  const std::string before = read_file(work.weights);
  for (const Arguments& command : {Arguments{"train", "--data", work.text, "--out", work / "new"},
                                   {"train", "--resume", "--out", work.run, "--steps", "70"},
                                   {"eval", work.run},
                                   {"generate", work.run, "--prompt", "a"},
                                   {"chat", work.run},
                                   {"bench", "train", "--size", "tiny"},
                                   {"verify", RONDO_GOLDENS "/tiny"}})
    CHECK_MESSAGE(complaint(command + Arguments{"--device", "cuda"}) == line, command[0]);
  CHECK(!fs::exists(work / "new"));
  CHECK(read_file(work.weights) == before);
  CHECK(complaint({"eval", work.run, "--device", "tpu"}).starts_with("2 rondo: --device: "));
}

TEST_CASE("checkpoints that are unreadable, truncated, foreign or of another shape") {
  const TrainedWorkplace work;
  const std::string whole = read_file(work.weights);
  const auto with = [&](const std::string& contents) {
    write_file(work.weights, contents);
    return complaint({"generate", work.run, "--seed", "1"});
  };
  CHECK(with(whole.substr(0, whole.size() - 10)).starts_with("1 rondo: " + work.weights + ": "));
  CHECK(with("hello") == "1 rondo: " + work.weights + ": the file has 5 bytes, but the length of the header takes 8\n");
  CHECK(with("#!/bin/sh\necho hello\n") ==
        "1 rondo: " + work.weights +
            ": the header has 8299974037164990755 bytes, but 100000000 is the most; is this a safetensors file?\n");

  const auto with_tensors = [&](auto&& change) {
    write_file(work.weights, whole);
    SafetensorsFile file = read_safetensors(work.weights);
    change(file.tensors);
    std::vector<NamedTensor> tensors;
    for (const auto& [name, t] : file.tensors) tensors.push_back({name, t, true});
    write_safetensors(work.weights, tensors);
    return complaint({"eval", work.run});
  };
  CHECK(with_tensors([](auto& t) { t.erase("layers.0.0.to_q.weight"); }) ==
        "1 rondo: " + work.weights + ": 1 tensor is missing: \"layers.0.0.to_q.weight\"\n");
  CHECK(with_tensors([](auto& t) { t["surplus"] = zeros({2}); }) ==
        "1 rondo: " + work.weights + ": 1 tensor is unexpected: \"surplus\"\n");
  CHECK(with_tensors([](auto& t) {
          t["token_emb.weight"] = zeros({256, 17});
        }) ==
        "1 rondo: " + work.weights + ": tensor \"token_emb.weight\" has shape (256, 17), but (256, 16) is wanted\n");

  fs::remove(work.weights);
  CHECK(complaint({"eval", work.run}) == "1 rondo: cannot read " + work.weights + ": No such file or directory\n");
  write_file(work.checkpoint("run", "00000001") + "/run.json", "{");
  CHECK(complaint({"eval", work.run})
            .starts_with("1 rondo: " + work.checkpoint("run", "00000001") +
                         "/run.json: not the state of a run: parse error at line 1, "));
  fs::remove_all(work.checkpoint("run", "00000001"));
  CHECK(complaint({"eval", work.run}) ==
        "1 rondo: " + work.run + "/checkpoints/latest names no checkpoint that is there\n");
  fs::remove_all(work.run + "/checkpoints");
  CHECK(complaint({"eval", work.run}) ==
        "1 rondo: " + work.run +
            ": neither a run with a checkpoint (checkpoints/latest) nor a checkpoint (run.json)\n");
  CHECK(complaint({"eval", work / "none"}) == "1 rondo: " + (work / "none") + ": no such run or checkpoint\n");
}

TEST_CASE("runs that must not be written over, or cannot be resumed so") {
  const TrainedWorkplace work;
  const std::string before = read_file(work.weights);
  CHECK(complaint(work.train("run", 5)) ==
        "2 rondo: " + work.run + ": there is something already; continue it with --resume, or choose another --out\n");
  CHECK(complaint(work.train("none", 5, {"--resume"})) ==
        "2 rondo: " + (work / "none") + ": no run to resume (no config.toml); start it without --resume\n");
  CHECK(complaint(work.resume("run", 5, {"--set", "train.batch_size=4"})) ==
        "2 rondo: train.batch_size = 4 differs from the run in " + work.run +
            ", which has 2; leave it out, or start a new run in another --out\n");
  CHECK(complaint(work.resume("run", 0)) ==
        "2 rondo: train.steps = 0 is less than the 1 of the run in " + work.run + "\n");
  write_file(work / "other.txt", sample_text(20000, 6));
  CHECK(complaint(work.resume("run", 5, {"--data", work / "other.txt"})) ==
        "1 rondo: the text is not the one this run was started on: it had 20000 bytes, this one has 20000 others; "
        "resume with the same --data\n");
  write_file(work / "same.txt", sample_text(20000));
  CHECK(read_file(work.weights) == before);
  const std::string info = work.checkpoint("run", "00000001") + "/run.json";
  nlohmann::json state = nlohmann::json::parse(read_file(info));
  state["rows"] = {5, 19000};
  const std::string whole = read_file(info);
  write_file(info, state.dump());
  CHECK(complaint(work.resume("run", 2)) == "1 rondo: " + work.checkpoint("run", "00000001") +
                                                ": a row that goes on at 19000 is outside the text of 19000\n");
  state["rows"] = {5, -1};
  write_file(info, state.dump());
  const std::string to_most = " to 9223372036854775807\n";
  CHECK(complaint(work.resume("run", 2)) ==
        "1 rondo: " + info + ": a row is -1, but must be a whole number from 0" + to_most);
  const auto with = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json changed = nlohmann::json::parse(whole);
    changed[key] = value;
    write_file(info, changed.dump());
    return complaint({"eval", work.run});
  };
  const std::string steps = ", but must be a whole number from 0 to 9000000000000000\n";
  CHECK(with("step", 2.7) == "1 rondo: " + info + ": step is 2.7" + steps);
  CHECK(with("step", -1) == "1 rondo: " + info + ": step is -1" + steps);
  CHECK(with("step", 1e300) == "1 rondo: " + info + ": step is 1e+300" + steps);
  CHECK(with("step", UINT64_MAX) == "1 rondo: " + info + ": step is 18446744073709551615" + steps);
  CHECK(with("rows", {0, 1.5}) == "1 rondo: " + info + ": a row is 1.5, but must be a whole number from 0" + to_most);
  CHECK(with("text_hash", -1) ==
        "1 rondo: " + info + ": text_hash is -1, but must be a whole number from 0 to 18446744073709551615\n");
  CHECK(with("dropout_generator", {{"seed", 0}, {"stream", 2}, {"position", -1}}) ==
        "1 rondo: " + info + ": position is -1, but must be a whole number from 0 to 18446744073709551615\n");
  write_file(info, whole);
  CHECK(run_program(work.resume("run", 2, {"--data", work / "same.txt"})).code == 0);
}

TEST_CASE("training that diverges says so and keeps the last checkpoint") {
  const TrainedWorkplace work;
  CHECK(complaint(work.train("wild", 50, {"--set", "optimizer.learning_rate=1e30"})) ==
        "1 rondo: training diverged: the loss is not finite at step 2 (no checkpoint yet); try a lower "
        "optimizer.learning_rate, or train.check_finite = true to find the op\n");
  CHECK(!fs::exists(work / "wild/checkpoints/latest"));
}

TEST_CASE("output that cannot be written") {
  const TrainedWorkplace work;
  const auto to_full = [&](const std::string& command) {
    const std::string line = std::string(RONDO_PROGRAM) + " " + command + " >/dev/full 2>" + (work / "err");
    const int status = std::system(line.c_str());
    return std::to_string(WEXITSTATUS(status)) + " " + read_file(work / "err");
  };
  CHECK(to_full("eval " + work.run) == "1 rondo: cannot write to stdout: No space left on device\n");
  CHECK(to_full("generate --seed 1 " + work.run) ==
        "1 seed 1\nrondo: cannot write to stdout: No space left on device\n");
  CHECK(to_full("train --resume --steps 3 --out " + work.run) ==
        "1 rondo: cannot write to stdout: No space left on device\n");
  CHECK(fs::exists(work.checkpoint("run", "00000003")));  // all the same
  const Outcome unread = run_program(work.train("unread", 25), {.closed_pipe = true});
  CHECK(std::to_string(unread.code) + unread.err == "0");
  const std::string closed =
      std::string(RONDO_PROGRAM) + " train --resume --steps 9 --out " + work.run + " >&- 2>&- <&-";
  CHECK(std::system(closed.c_str()) == 0);
  std::istringstream metrics(read_file(work.run + "/metrics.jsonl"));
  for (std::string line; std::getline(metrics, line);) CHECK(nlohmann::json::accept(line));
  CHECK(complaint(work.train("new", 5), {.file_limit = 300}) ==
        "1 rondo: cannot write " + (work / "new/config.toml") + ": File too large\n");
}

TEST_CASE("usage") {
  const Workplace work;
  CHECK(complaint({}) ==
        "2 rondo: no command is given; there are train, eval, generate, chat, convert, vocabulary, verify, bench, info "
        "and graph "
        "(see rondo "
        "--help)\n");
  CHECK(complaint({"trian"}) ==
        "2 rondo: no command is called trian; there are train, eval, generate, chat, convert, vocabulary, verify, "
        "bench, info and "
        "graph "
        "(see rondo "
        "--help)\n");
  CHECK(complaint({"train"}) == "2 rondo: --out is required (see rondo train --help)\n");
  CHECK(complaint({"train", "--out", work / "run", "--stpes", "3"}) ==
        "2 rondo: The following argument was not expected: --stpes (see rondo train --help)\n");
  CHECK(complaint({"bench", "stream", "--size", "tiny", "--tokens", "9223372036854775807"}) ==
        "2 rondo: --tokens: 9223372036854775807 is not 1 to 1000000000 (see rondo bench --help)\n");
  CHECK(complaint({"generate", "x", "--length", "-3"}) ==
        "2 rondo: --length: -3 is not 0 or more (see rondo generate --help)\n");
  CHECK(complaint({"generate", work / "none", "--seed", "many"}) ==
        "2 rondo: --seed: many is not a whole number; give 0 or more (see rondo generate --help)\n");
}

}  // namespace rondo::testing
