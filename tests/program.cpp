// The program from outside: training, evaluating and generating on a small text.
#include "tests/program.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "models/block_recurrent/model.h"
#include "nn/safetensors.h"
#include "tensor/device.h"

namespace rondo::testing {
namespace {

nlohmann::json evaluated(const Arguments& arguments) {
  const Outcome o = run_program(Arguments{"eval", "--json"} + arguments);
  REQUIRE_MESSAGE(o.code == 0, o.err);
  return nlohmann::json::parse(o.out);
}

double last_validation(const std::string& run) {
  std::ifstream file(run + "/metrics.jsonl");
  double value = NAN;
  for (std::string line; std::getline(file, line);) {
    const auto j = nlohmann::json::parse(line);
    if (j.contains("validation_bits_per_byte")) value = j["validation_bits_per_byte"];
  }
  return value;
}

}  // namespace

TEST_CASE("--version tells what the program is made of") {
  const Outcome o = run_program({"--version"});
  CHECK(o.code == 0);
  CHECK(o.out.starts_with("rondo "));
  for (const char* line : {"\ncompiler: ", "\nEigen: ", "\nGEMM: ", "\nCUDA: ", "\nSentencePiece: ", "\nthreads: "})
    CHECK_MESSAGE(o.out.find(line) != std::string::npos, line);
  CHECK(o.out.find("\nGEMM: own kernel, " + describe_cpu()) != std::string::npos);
}

TEST_CASE("the program is linked to no library of CUDA: it starts where there is none, and as fast") {
  const Temporary folder;
  const std::string list = folder / "ldd";
  REQUIRE(std::system(("ldd '" RONDO_PROGRAM "' > '" + list + "'").c_str()) == 0);
  const std::string libraries = read_file(list);
  CHECK(libraries.find("libc.so") != std::string::npos);
  for (const char* name : {"cuda", "cublas", "nccl", "nvidia"})
    CHECK_MESSAGE(libraries.find(name) == std::string::npos, libraries);
}

TEST_CASE("every command has a help") {
  CHECK(run_program({"--help"}).code == 0);
  for (const char* command :
       {"train", "eval", "generate", "chat", "convert", "vocabulary", "verify", "info", "graph", "bench"}) {
    const Outcome o = run_program({command, "--help"});
    CHECK_MESSAGE((o.code == 0 && o.err.empty() && !o.out.empty()), command);
  }
}

TEST_CASE("training learns, evaluating agrees with its validation, states and memories matter") {
  const Workplace work;
  const Outcome trained = run_program(work.train("run", 150, {"--set", "optimizer.learning_rate=0.01"}));
  REQUIRE_MESSAGE(trained.code == 0, trained.err);
  CHECK(trained.out.find(" bytes to train on, 1000 to validate on\n") != std::string::npos);
  const auto whole = evaluated({work / "run"});
  CHECK(whole["bits_per_byte"] == last_validation(work / "run"));
  CHECK(whole["tokens"] == 999);
  CHECK(whole["bits_per_byte"] < 4.0);  // 8 without learning
  CHECK(whole["step"] == 150);

  CHECK(evaluated({work / "run", "--bytes", "64"})["segments"] == 2);
  CHECK(evaluated({work / "run", "--no-state"})["bits_per_byte"] != whole["bits_per_byte"]);
  CHECK(evaluated({work / "run", "--no-memory"})["bits_per_byte"] != whole["bits_per_byte"]);
  // The same text as a file, and the checkpoint in place of the run.
  write_file(work / "rest.txt", sample_text(20000).substr(19000));
  CHECK(evaluated({work.checkpoint("run", "00000150"), "--data", work / "rest.txt"})["bits_per_byte"] ==
        whole["bits_per_byte"]);
}

TEST_CASE("a run's configuration reads back to the same run") {
  const Workplace work;
  REQUIRE(
      run_program(work.train("first", 2, {"--set", "model.ema_beta_init=[-2, 0.1]", "--set", "train.seed=7"})).code ==
      0);
  const Outcome second = run_program({"train", work / "first/config.toml", "--out", work / "second"});
  REQUIRE_MESSAGE(second.code == 0, second.err);
  CHECK(read_file(work / "first/config.toml") == read_file(work / "second/config.toml"));
  CHECK(metrics_of(work / "first") == metrics_of(work / "second"));
}

TEST_CASE("generating is repeatable, streams whole characters, and ends at a stop text") {
  const Workplace work;
  REQUIRE(run_program(work.train("run", 60, {"--set", "optimizer.learning_rate=0.01"})).code == 0);
  const auto generate = [&](const Arguments& more, const Setting& setting = {}) {
    return run_program(Arguments{"generate", work / "run"} + more, setting);
  };
  const Outcome first = generate({"--seed", "4", "--prompt", "the light", "--length", "200"});
  CHECK(first.code == 0);
  CHECK(first.err == "seed 4\n");
  CHECK(first.out.size() >= 200);
  CHECK(generate({"--seed", "4", "--prompt", "-", "--length", "200"}, {.input = "the light"}).out == first.out);
  CHECK(generate({"--seed", "5", "--prompt", "the light", "--length", "200"}).out != first.out);
  CHECK(generate({"--seed", "4", "--prompt", "the light", "--length", "200", "--stop", first.out.substr(20, 30)}).out ==
        first.out.substr(0, 20));
  CHECK(generate({"--seed", "4", "--prompt", "the light", "--length", "200", "--stop", "[]"}).out == first.out);
  CHECK(generate({"--length", "0", "--seed", "1"}).out.empty());
  CHECK(generate({"--length", "50", "--temperature", "0", "--seed", "1"}).out ==
        generate({"--length", "50", "--top-k", "1", "--seed", "2"}).out);

  const Outcome closed = generate({"--seed", "1", "--length", "5000"}, {.closed_pipe = true});
  CHECK(closed.code == 0);
  CHECK(closed.err == "seed 1\n");
  const Outcome random = generate({"--length", "30"});
  const std::string seed = random.err.substr(5, random.err.size() - 6);
  CHECK(generate({"--length", "30", "--seed", seed}).out == random.out);
}

TEST_CASE("a finished run has nothing to do") {
  const Workplace work;
  REQUIRE(run_program(work.train("run", 2)).code == 0);
  const std::string metrics = read_file(work / "run/metrics.jsonl");
  const Outcome o = run_program({"train", "--out", work / "run", "--resume"});
  CHECK(o.code == 0);
  CHECK(o.out == "nothing to do: " + work.checkpoint("run", "00000002") +
                     " is at the last step; a larger --steps goes on from there\n");
  CHECK(read_file(work / "run/metrics.jsonl") == metrics);
}

TEST_CASE("the model of a run has the reference's names") {
  const Workplace work;
  REQUIRE(run_program(work.train("run", 1)).code == 0);
  const auto tensors = read_safetensors(work.checkpoint("run", "00000001") + "/model.safetensors").tensors;
  for (const char* name :
       {"token_emb.weight", "layers.1.0.state_container.learned_ema_beta", "layers.0.1.0.beta", "to_logits.1.weight"})
    CHECK_MESSAGE(tensors.contains(name), name);
}

}  // namespace rondo::testing
